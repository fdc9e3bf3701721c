//! Entities: where each stands in the order, and the objects of those that show.
//!
//! With a limit, and an order that an index may give, only a stretch of the order is held ([`Ahead`]): at first what
//! shows; once too few are left, what shows and some behind it. What goes is made up for from there, and only when that
//! is used up is the query asked for more. So neither memory nor the cost of a change depends on how many entities there
//! are.

use std::sync::Arc;

use super::{
    EvalError, Ground, Keyed, Query, Triples,
    window::{AnswerDelta, Change, Item, KEY_PART_BYTES, Key, Window},
};
use crate::collections::{BTreeMap, BTreeSet};
use crate::{
    query::{
        answer::{Datum, Object},
        eval::entities_over,
        logic::{Body, OrderBy, OrderKey, PredicateTerm, Shape, Step},
        plan::plan,
        triples::{EntityNumber, Objects, PredicateNumber, Scan, Term},
    },
    value::Value,
};

/// Entities that are read behind those that show, at the least, once some must be read: so many may go before the query
/// is asked again.
const SPARE_MIN: usize = 64;

/// And at the most, however many show.
const SPARE_MAX: usize = 4_096;

/// Bytes of an entity's place, beside the parts of its key.
const PLACE_BYTES: usize = 96;

/// Entries of a scan at a time.
const SCAN_BATCH: usize = 256;

#[derive(Debug)]
pub(super) struct Entities {
    order: Vec<OrderKey>,
    /// Which entities are found, without what they hold.
    members: Keyed,
    /// What they hold.
    objects: Keyed,
    places: BTreeMap<Term, Key>,
    pub(super) window: Window,
    ahead: Option<Box<Ahead>>,
}

/// Reads a stretch of the order.
#[derive(Debug)]
struct Ahead {
    /// The query without fields: entities in their order.
    query: Query,
    limit: usize,
    /// How many are read behind those that show once these are too few; none when the query is opened. Twice as many are
    /// too many.
    spare: usize,
}

impl Ahead {
    fn of(query: &Query, members: &Query) -> Option<Self> {
        let limit = query.select.limit? as usize;
        let first = query.select.order.first()?;
        let is_indexed = match &first.by {
            OrderBy::Path(steps) => match &steps[..] {
                [step] => !step.reverse && matches!(step.predicate, PredicateTerm::Is(_)),
                _ => false,
            },
            OrderBy::Id | OrderBy::Column(_) => false,
        };
        let mut ordered = members.clone();
        ordered.select.order.clone_from(&query.select.order);
        ordered.select.after.clone_from(&query.select.after);
        is_indexed.then(|| Self {
            query: ordered,
            limit,
            spare: if cfg!(test) {
                1
            } else {
                limit.clamp(SPARE_MIN, SPARE_MAX)
            },
        })
    }

    const fn full(&self) -> usize {
        self.limit + self.spare
    }

    /// The next entities behind a place, and whether these are all.
    fn read<T: Triples + ?Sized>(
        &self,
        after: Option<&Key>,
        count: usize,
        store: &T,
        ground: Ground<'_>,
    ) -> Result<(Vec<Term>, bool), EvalError> {
        let mut query = self.query.clone();
        query.select.limit = Some(u32::try_from(count).unwrap_or(u32::MAX));
        if let Some(after) = after {
            query.select.after = Some(after.cursor());
        }
        let plan = plan(Arc::new(query), store);
        let found = entities_over(&plan, store, ground)?;
        let is_all = found.len() < count;
        Ok((found, is_all))
    }
}

impl Entities {
    pub(super) fn open<T: Triples + ?Sized>(query: &Query, store: &T, ground: Ground<'_>) -> Result<Self, EvalError> {
        let Shape::Entities { entity, .. } = query.select.shape else {
            unreachable!("the caller looked at the shape");
        };
        let mut objects = query.clone();
        objects.select.order = Vec::new();
        objects.select.after = None;
        objects.select.limit = None;
        let mut members = objects.clone();
        let fields = Vec::new();
        members.select.shape = Shape::Entities { entity, fields };
        // They are asked for members alone.
        objects.select.body = Body::default();
        let mut entities = Self {
            order: query.select.order.clone(),
            ahead: Ahead::of(query, &members).map(Box::new),
            members: Keyed::new(members, entity),
            objects: Keyed::new(objects, entity),
            places: BTreeMap::new(),
            window: Window::of(query),
        };
        let (found, is_all) = match &entities.ahead {
            // What stands behind those that show is read once something goes: most who ask do not stay for long. One at
            // the least, because the bound is a place.
            Some(ahead) => ahead.read(None, ahead.limit.max(1), store, ground)?,
            None => (entities.members.find(None, store, ground)?.terms, true),
        };
        entities.members.narrow();
        let come = entities.place(found, store);
        let (_, entered) = entities.window.shift(Vec::new(), come);
        entities.window.bind(is_all);
        let objects = entities.build(entered.iter(), store, ground)?;
        entities
            .window
            .fill(entered.into_iter().zip(objects.into_iter().map(Item::Object)));
        Ok(entities)
    }

    pub(super) fn held(&self) -> usize {
        self.places.len()
    }

    pub(super) fn bytes(&self) -> usize {
        let place = PLACE_BYTES + (self.order.len() + 1) * KEY_PART_BYTES;
        self.places.len() * place + self.window.bytes()
    }

    /// Reads a little of what [`Self::apply`] will read.
    pub(super) fn warm(&self) -> usize {
        self.members.warm() + self.places.len()
    }

    pub(super) fn apply<T: Triples + ?Sized>(
        &mut self,
        keys: &[Term],
        store: &T,
        ground: Ground<'_>,
    ) -> Result<AnswerDelta, EvalError> {
        let found: BTreeSet<Term> = self
            .members
            .find(Some(keys), store, ground)?
            .terms
            .into_iter()
            .collect();
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        // Those that may have changed where they stand.
        let mut stay = Vec::new();
        let mut places = Places::new(&self.order, store);
        for term in keys {
            let before = self.places.remove(term);
            let mut after = found.contains(term).then(|| places.key(*term));
            if self.ahead.is_some() {
                after = after.filter(|key| self.window.has_place(key));
            }
            if before == after {
                // As the index has it.
                after.clone_from(&before);
            }
            if let Some(after) = &after {
                self.places.insert(*term, after.clone());
            }
            if before == after {
                stay.extend(after);
            } else {
                gone.extend(before);
                come.extend(after);
            }
        }
        let (left, entered) = match self.ahead.take() {
            Some(ahead) => {
                self.window.put(&gone, come);
                let read = self.read_on(&ahead, store, ground);
                self.ahead = Some(ahead);
                read?;
                self.window.moved()
            }
            None => self.window.shift(gone, come),
        };
        stay.retain(|key| self.window.item(key).is_some() && left.binary_search(key).is_err());
        stay.sort_unstable();
        let objects = self.build(stay.iter().chain(&entered), store, ground)?;
        Ok(self.tell(left, entered, stay, objects))
    }

    /// Sees to it that what shows is in the index, and not much more.
    fn read_on<T: Triples + ?Sized>(&mut self, ahead: &Ahead, store: &T, ground: Ground<'_>) -> Result<(), EvalError> {
        if let Some((count, bound)) = self.window.lacks(ahead.full()) {
            let (found, is_all) = ahead.read(Some(bound), count, store, ground)?;
            let come = self.place(found, store);
            self.window.put(&[], come);
            self.window.bind(is_all);
        } else if self.places.len() > ahead.full() + ahead.spare {
            for key in self.window.cut(ahead.full()) {
                if let Some(term) = store.term(&key.id()) {
                    self.places.remove(&term);
                }
            }
        }
        Ok(())
    }

    /// Notes where entities stand.
    fn place<T: Triples + ?Sized>(&mut self, found: Vec<Term>, store: &T) -> Vec<Key> {
        let mut places = Places::new(&self.order, store);
        let keys: Vec<Key> = found.iter().map(|term| places.key(*term)).collect();
        self.places.extend(found.into_iter().zip(keys.iter().cloned()));
        keys
    }

    fn tell(&mut self, left: Vec<Key>, entered: Vec<Key>, stay: Vec<Key>, objects: Vec<Arc<Object>>) -> AnswerDelta {
        let mut left: BTreeMap<Value, Key> = left.into_iter().map(|key| (key.id(), key)).collect();
        let mut changes = Vec::new();
        for (key, object) in stay.into_iter().chain(entered).zip(objects) {
            let item = Item::Object(object);
            match left.remove(&key.id()) {
                Some(from) => changes.push(Change::Changed { from, to: key, item }),
                None => match self.window.item(&key) {
                    Some(shown) if *shown == item => {}
                    Some(_) => changes.push(Change::Changed {
                        from: key.clone(),
                        to: key,
                        item,
                    }),
                    None => changes.push(Change::Added(key, item)),
                },
            }
        }
        changes.extend(left.into_values().map(Change::Removed));
        self.window.tell(changes)
    }

    /// The objects that stand at these places.
    fn build<'k, T: Triples + ?Sized>(
        &mut self,
        keys: impl Iterator<Item = &'k Key>,
        store: &T,
        ground: Ground<'_>,
    ) -> Result<Vec<Arc<Object>>, EvalError> {
        let entity = |key: &Key| store.term(&key.id()).and_then(Term::as_entity);
        let entities: Vec<EntityNumber> = keys.map(|key| entity(key).expect("a member is known")).collect();
        if entities.is_empty() {
            return Ok(Vec::new());
        }
        let objects = self.objects.objects(&entities, store, ground)?.into_iter();
        Ok(objects.map(Arc::new).collect())
    }
}

/// Reads from one state of a store where entities stand.
struct Places<'q, 's, T: ?Sized> {
    order: &'q [OrderKey],
    /// By key of the order: the steps of its path, forward or in reverse.
    paths: Vec<Vec<(Vec<PredicateNumber>, bool)>>,
    store: &'s T,
    here: Vec<Term>,
    next: Vec<Term>,
}

impl<'q, 's, T: Triples + ?Sized> Places<'q, 's, T> {
    fn new(order: &'q [OrderKey], store: &'s T) -> Self {
        let step = |step: &Step| (numbers(&step.predicate, store), step.reverse);
        let path = |key: &OrderKey| match &key.by {
            OrderBy::Id | OrderBy::Column(_) => Vec::new(),
            OrderBy::Path(steps) => steps.iter().map(step).collect(),
        };
        Self {
            order,
            paths: order.iter().map(path).collect(),
            store,
            here: Vec::new(),
            next: Vec::new(),
        }
    }

    /// A datum for each key of the order, then the entity's id.
    fn key(&mut self, entity: Term) -> Key {
        let Self {
            order,
            paths,
            store,
            here,
            next,
        } = self;
        let own = || Datum::Value(store.value(entity));
        let data = order.iter().zip(&*paths).map(|(key, path)| match &key.by {
            OrderBy::Id | OrderBy::Column(_) => own(),
            OrderBy::Path(_) => reached(entity, path, key.descending, *store, (&mut *here, &mut *next)).into(),
        });
        Key::new(order, data.chain([own()]))
    }
}

/// The least value that a path leads to, or the greatest.
fn reached<T: Triples + ?Sized>(
    entity: Term,
    path: &[(Vec<PredicateNumber>, bool)],
    greatest: bool,
    store: &T,
    (here, next): (&mut Vec<Term>, &mut Vec<Term>),
) -> Option<Value> {
    here.clear();
    here.push(entity);
    for (predicates, reverse) in path {
        next.clear();
        for predicate in predicates {
            for term in &*here {
                let Some(entity) = term.as_entity() else { continue };
                if *reverse {
                    subjects(*term, *predicate, store, next);
                } else {
                    store.values(entity, *predicate, next);
                }
            }
        }
        next.sort_unstable();
        next.dedup();
        std::mem::swap(here, next);
    }
    let ends = here.iter().copied();
    let end = if greatest {
        ends.max_by(|a, b| store.compare(*a, *b))
    } else {
        ends.min_by(|a, b| store.compare(*a, *b))
    };
    end.map(|term| store.value(term))
}

/// The predicates that a term takes, of those that have triples.
pub(super) fn numbers<T: Triples + ?Sized>(predicate: &PredicateTerm, store: &T) -> Vec<PredicateNumber> {
    match predicate {
        PredicateTerm::Is(one) => store.predicate_number(one).into_iter().collect(),
        wider => {
            let all = store.predicates().into_iter();
            all.filter(|number| wider.takes(&store.predicate(*number))).collect()
        }
    }
}

/// Those that have a value.
pub(super) fn subjects<T: Triples + ?Sized>(object: Term, predicate: PredicateNumber, store: &T, out: &mut Vec<Term>) {
    scan(predicate, Objects::Equal(object), store, |entry| {
        out.push(Term::entity(entry.subject()));
        true
    });
}

/// Shows each entry of a scan, until no more is asked for.
pub(super) fn scan<T: Triples + ?Sized>(
    predicate: PredicateNumber,
    objects: Objects<'_>,
    store: &T,
    mut show: impl FnMut(crate::graph::Entry) -> bool,
) {
    let scan = Scan {
        predicate,
        objects,
        descending: false,
    };
    let (mut entries, mut after) = (Vec::new(), None);
    loop {
        entries.clear();
        let more = store.scan(&scan, after, SCAN_BATCH, &mut entries);
        let goes_on = entries.iter().all(|entry| show(*entry));
        after = entries.last().copied();
        if !more || !goes_on {
            return;
        }
    }
}
