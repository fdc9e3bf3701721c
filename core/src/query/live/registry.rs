//! Which live queries a changed triple may touch: an index of their triggers.
//!
//! A pattern stands under the narrowest of its subject, its predicate and object, or its predicate. One whose names the
//! store has not met stands with those that any change may touch: too many are asked then, never too few. Ranges of
//! values are not told apart yet: a query with `age > 30` is asked for every change of an age.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    Coverage, Live,
    trigger::{Trigger, Triggers},
};
use crate::{
    graph::Triple,
    query::{
        logic::{PredicateTerm, Term as Place},
        triples::{EntityNumber, PredicateNumber, Term, Triples},
    },
};

/// A live query, as its owner numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LiveId(pub u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Slot {
    Subject(EntityNumber),
    Value(PredicateNumber, Term),
    Predicate(PredicateNumber),
    Any,
}

/// Where a live query stands in the index.
#[derive(Debug, Default)]
pub(super) struct Slots(BTreeSet<Slot>);

impl Slots {
    pub(super) fn of<T: Triples + ?Sized>(triggers: &Triggers, store: &T) -> Self {
        Self(triggers.all.iter().map(|trigger| slot(trigger, store)).collect())
    }
}

/// The index.
#[derive(Debug, Default)]
pub struct Registry {
    slots: HashMap<Slot, BTreeSet<LiveId>>,
    held: BTreeMap<LiveId, BTreeSet<Slot>>,
}

impl Registry {
    /// Adds a live query.
    pub fn insert<T: Triples + ?Sized>(&mut self, id: LiveId, live: &Live, store: &T) {
        self.put(id, Slots::of(&live.triggers, store));
    }

    /// Adds a coverage.
    pub fn insert_coverage<T: Triples + ?Sized>(&mut self, id: LiveId, coverage: &Coverage, store: &T) {
        self.put(id, coverage.slots(store));
    }

    fn put(&mut self, id: LiveId, Slots(slots): Slots) {
        self.remove(id);
        for slot in &slots {
            self.slots.entry(*slot).or_default().insert(id);
        }
        self.held.insert(id, slots);
    }

    /// Takes one away.
    pub fn remove(&mut self, id: LiveId) {
        for slot in self.held.remove(&id).unwrap_or_default() {
            if let Some(ids) = self.slots.get_mut(&slot) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.slots.remove(&slot);
                }
            }
        }
    }

    /// Shows those that a triple's coming or going may touch; one may be shown several times.
    pub fn touched(&self, triple: &Triple, mut show: impl FnMut(LiveId)) {
        let slots = [
            Slot::Subject(triple.subject),
            Slot::Value(triple.predicate, triple.object),
            Slot::Predicate(triple.predicate),
            Slot::Any,
        ];
        for ids in slots.iter().filter_map(|slot| self.slots.get(slot)) {
            for id in ids {
                show(*id);
            }
        }
    }
}

fn slot<T: Triples + ?Sized>(trigger: &Trigger, store: &T) -> Slot {
    let pattern = &trigger.pattern;
    let term = |place: &Place| match place {
        Place::Constant(value) => store.term(value),
        Place::Var(_) | Place::Any => None,
    };
    if let Some(subject) = term(&pattern.subject).and_then(Term::as_entity) {
        return Slot::Subject(subject);
    }
    let predicate = match &pattern.predicate {
        PredicateTerm::Is(predicate) => store.predicate_number(predicate),
        _ => None,
    };
    match (predicate, term(&pattern.object)) {
        (Some(predicate), Some(object)) => Slot::Value(predicate, object),
        (Some(predicate), None) => Slot::Predicate(predicate),
        (None, _) => Slot::Any,
    }
}
