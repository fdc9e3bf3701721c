//! Entities: where each stands in the order, and the objects of those that show.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Budget, EvalError, Query, Rows, Triples, Var, probe,
    window::{AnswerDelta, Change, Item, Key, Window},
};
use crate::{
    query::{
        answer::{Datum, Object},
        logic::{OrderBy, OrderKey, PredicateTerm, Shape, Step},
        triples::{Objects, PredicateNumber, Scan, Term},
    },
    value::Value,
};

/// Entries of a scan at a time.
const SCAN_BATCH: usize = 256;

#[derive(Debug)]
pub(super) struct Entities {
    entity: Var,
    order: Vec<OrderKey>,
    /// Which entities are found, without what they hold.
    members: Query,
    /// What they hold.
    objects: Query,
    places: BTreeMap<Value, Key>,
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
        let mut entities = Self {
            entity,
            order: query.select.order.clone(),
            members,
            objects,
            places: BTreeMap::new(),
            window: Window::of(query),
        };
        let found = probe(&entities.members, None, store, budget)?;
        for object in objects_of(found) {
            let id = Value::Ref(object.id);
            let key = entities.key(&id, store);
            entities.places.insert(id, key);
        }
        let come: Vec<Key> = entities.places.values().cloned().collect();
        let (_, entered) = entities.window.shift(Vec::new(), come);
        let ids = entered.iter().map(Key::id).collect();
        let mut objects = entities.build(&ids, store, budget)?;
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
        keys: &[Value],
        store: &T,
        budget: Budget,
    ) -> Result<AnswerDelta, EvalError> {
        let found = probe(&self.members, Some((self.entity, keys)), store, budget)?;
        let found: BTreeSet<Value> = objects_of(found).map(|object| Value::Ref(object.id)).collect();
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        // Those that may have changed where they stand.
        let mut stay = Vec::new();
        for id in keys {
            let before = self.places.remove(id);
            let after = found.contains(id).then(|| self.key(id, store));
            if let Some(after) = &after {
                self.places.insert(id.clone(), after.clone());
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
        let ids = stay.iter().chain(&entered).map(Key::id).collect();
        let objects = self.build(&ids, store, budget)?;
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

    fn build<T: Triples + ?Sized>(
        &self,
        ids: &BTreeSet<Value>,
        store: &T,
        budget: Budget,
    ) -> Result<BTreeMap<Value, Object>, EvalError> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let ids: Vec<Value> = ids.iter().cloned().collect();
        let found = probe(&self.objects, Some((self.entity, &ids)), store, budget)?;
        Ok(objects_of(found)
            .map(|object| (Value::Ref(object.id.clone()), object))
            .collect())
    }

    /// Where an entity stands: a datum for each key of the order, then its id.
    fn key<T: Triples + ?Sized>(&self, id: &Value, store: &T) -> Key {
        let own = || Datum::Value(id.clone());
        let data = self.order.iter().map(|key| match &key.by {
            OrderBy::Id | OrderBy::Column(_) => own(),
            OrderBy::Path(steps) => {
                let values = reached(id, steps, store);
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

pub(super) fn objects_of(rows: Rows) -> impl Iterator<Item = Object> {
    match rows {
        Rows::Entities(objects) => objects,
        Rows::Table { .. } => Vec::new(),
    }
    .into_iter()
}

/// The values that a path leads to.
fn reached<T: Triples + ?Sized>(id: &Value, steps: &[Step], store: &T) -> BTreeSet<Value> {
    let mut here: BTreeSet<Term> = store.term(id).into_iter().collect();
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
