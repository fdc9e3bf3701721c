//! Entities: where each stands in the order, and the objects of those that show.

use super::{
    Budget, EvalError, Keyed, Query, Triples,
    window::{AnswerDelta, Change, Item, Key, Window},
};
use crate::collections::{BTreeMap, BTreeSet};
use crate::{
    query::{
        answer::{Datum, Object},
        logic::{Body, OrderBy, OrderKey, PredicateTerm, Shape, Step},
        triples::{EntityNumber, Objects, PredicateNumber, Scan, Term},
    },
    value::Value,
};

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
}

impl Entities {
    pub(super) fn open<T: Triples + ?Sized>(query: &Query, store: &T, budget: Budget) -> Result<Self, EvalError> {
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
            members: Keyed::new(members, entity),
            objects: Keyed::new(objects, entity),
            places: BTreeMap::new(),
            window: Window::of(query),
        };
        let found = entities.members.find(None, store, budget)?;
        for term in found.terms {
            let key = entities.key(term, store);
            entities.places.insert(term, key);
        }
        let come: Vec<Key> = entities.places.values().cloned().collect();
        let (_, entered) = entities.window.shift(Vec::new(), come);
        let mut objects = entities.build(entered.iter(), store, budget)?;
        let changes = entered.into_iter().filter_map(|key| {
            let object = objects.remove(&key.id())?;
            Some(Change::Added(key, Item::Object(object)))
        });
        let changes = changes.collect();
        entities.window.tell(changes);
        Ok(entities)
    }

    pub(super) fn held(&self) -> usize {
        self.places.len()
    }

    pub(super) fn apply<T: Triples + ?Sized>(
        &mut self,
        keys: &[Term],
        store: &T,
        budget: Budget,
    ) -> Result<AnswerDelta, EvalError> {
        let found: BTreeSet<Term> = self
            .members
            .find(Some(keys), store, budget)?
            .terms
            .into_iter()
            .collect();
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        // Those that may have changed where they stand.
        let mut stay = Vec::new();
        for term in keys {
            let before = self.places.remove(term);
            let after = found.contains(term).then(|| self.key(*term, store));
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
        let (left, entered) = self.window.shift(gone, come);
        stay.retain(|key| self.window.item(key).is_some() && left.binary_search(key).is_err());
        stay.sort_unstable();
        let objects = self.build(stay.iter().chain(&entered), store, budget)?;
        Ok(self.tell(left, entered, stay, objects))
    }

    fn tell(
        &mut self,
        left: Vec<Key>,
        entered: Vec<Key>,
        stay: Vec<Key>,
        mut objects: BTreeMap<Value, Object>,
    ) -> AnswerDelta {
        let mut left: BTreeMap<Value, Key> = left.into_iter().map(|key| (key.id(), key)).collect();
        let mut changes = Vec::new();
        for key in stay.into_iter().chain(entered) {
            let id = key.id();
            let item = Item::Object(objects.remove(&id).expect("a member has an object"));
            match left.remove(&id) {
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

    /// The objects that stand at these places, by their ids.
    fn build<'k, T: Triples + ?Sized>(
        &mut self,
        keys: impl Iterator<Item = &'k Key>,
        store: &T,
        budget: Budget,
    ) -> Result<BTreeMap<Value, Object>, EvalError> {
        let entity = |key: &Key| store.term(&key.id()).and_then(Term::as_entity);
        let entities: Vec<EntityNumber> = keys.filter_map(entity).collect();
        if entities.is_empty() {
            return Ok(BTreeMap::new());
        }
        let objects = self.objects.objects(&entities, store, budget)?.into_iter();
        Ok(objects.map(|object| (Value::Ref(object.id.clone()), object)).collect())
    }

    /// Where an entity stands: a datum for each key of the order, then its id.
    fn key<T: Triples + ?Sized>(&self, entity: Term, store: &T) -> Key {
        let own = || Datum::Value(store.value(entity));
        let data = self.order.iter().map(|key| match &key.by {
            OrderBy::Id | OrderBy::Column(_) => own(),
            OrderBy::Path(steps) => {
                let values = reached(entity, steps, store);
                if key.descending {
                    values.into_iter().next_back()
                } else {
                    values.into_iter().next()
                }
                .into()
            }
        });
        Key::new(&self.order, data.chain([own()]))
    }
}

/// The values that a path leads to.
fn reached<T: Triples + ?Sized>(entity: Term, steps: &[Step], store: &T) -> BTreeSet<Value> {
    let mut here = BTreeSet::from([entity]);
    for step in steps {
        let mut next = Vec::new();
        for predicate in numbers(&step.predicate, store) {
            for term in &here {
                if step.reverse {
                    subjects(*term, predicate, store, &mut next);
                } else if let Some(entity) = term.as_entity() {
                    store.values(entity, predicate, &mut next);
                }
            }
        }
        here = next.into_iter().collect();
    }
    here.into_iter().map(|term| store.value(term)).collect()
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
    });
}

/// Shows each entry of a scan.
pub(super) fn scan<T: Triples + ?Sized>(
    predicate: PredicateNumber,
    objects: Objects<'_>,
    store: &T,
    mut show: impl FnMut(crate::graph::Entry),
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
        for entry in &entries {
            show(*entry);
        }
        after = entries.last().copied();
        if !more {
            return;
        }
    }
}
