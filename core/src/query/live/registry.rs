//! Which live queries a changed triple may touch: an index of their triggers.
//!
//! A pattern stands under its subject, or else under what it says of the predicate (the predicate itself, its type, its
//! field, or nothing), and there under its object: a value, a range of values, or any. So a change to an age is shown to
//! the queries whose `age = …` and `age > …` hold its value, and to no other. Where a query asks its subject for a field
//! with a constant beside (`city = "Oslo" and age > 30`), the pattern stands under that, too: of a change to an age those
//! queries hear whose city the subject has now. Those whose city it had before hear of the city. What the store has not
//! met stands under its name; a text that it has not met under the narrowest range that such a text may lie in. Too many
//! are asked now and then, never too few.

use std::{collections::HashMap, sync::Arc};

use super::{
    Coverage, Live,
    ranges::Ranges,
    trigger::{Trigger, Triggers},
};
use crate::collections::{BTreeMap, BTreeSet};
use crate::{
    graph::Triple,
    id::Predicate,
    query::{
        logic::{Comparison, Filter, Kind, Operand, PredicateTerm, Term as Place, TextTest, Var},
        triples::{EntityNumber, PredicateNumber, Term, Triples},
    },
    value::Value,
};

/// Values of one trigger that stand one by one. More are one range.
const PINS_MAX: usize = 64;

/// A live query, as its owner numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LiveId(pub u64);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Subject(EntityNumber),
    Predicate(Predicates, Option<Beside>, Objects),
}

/// A field that the subject must have.
type Beside = (PredicateNumber, Term);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Predicates {
    Is(PredicateNumber),
    /// One that the store had not met.
    Named(Predicate),
    OfType(Arc<str>),
    OfField(Arc<str>),
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Objects {
    Any,
    Is(Term),
    /// By [`Term::order_key`].
    Between(u128, u128),
}

/// Where a live query stands in the index.
#[derive(Debug, Default)]
pub(super) struct Slots(BTreeSet<Slot>);

impl Slots {
    pub(super) fn of<'a, T: Triples + ?Sized>(triggers: impl Iterator<Item = &'a Triggers>, store: &T) -> Self {
        let all = triggers.flat_map(|triggers| &triggers.all);
        Self(all.flat_map(|trigger| slots(trigger, store)).collect())
    }
}

/// The queries that look at some predicates: those that ask for nothing beside, and the others.
#[derive(Debug, Default)]
struct Under {
    plain: ByObject,
    beside: BTreeMap<PredicateNumber, HashMap<Term, ByObject>>,
}

/// The same by the objects that they look for.
#[derive(Debug, Default)]
struct ByObject {
    any: BTreeSet<LiveId>,
    is: HashMap<Term, BTreeSet<LiveId>>,
    between: Option<Box<Ranges>>,
}

/// The index.
#[derive(Debug, Default)]
pub struct Registry {
    by_subject: HashMap<EntityNumber, BTreeSet<LiveId>>,
    by_predicate: HashMap<PredicateNumber, Under>,
    by_name: HashMap<Predicate, Under>,
    by_type: HashMap<Arc<str>, Under>,
    by_field: HashMap<Arc<str>, Under>,
    by_any: Under,
    held: BTreeMap<LiveId, Box<[Slot]>>,
}

impl Registry {
    /// Adds a live query.
    pub fn insert<T: Triples + ?Sized>(&mut self, id: LiveId, live: &Live, store: &T) {
        self.put(id, live.slots(store));
    }

    /// Adds a coverage.
    pub fn insert_coverage<T: Triples + ?Sized>(&mut self, id: LiveId, coverage: &Coverage, store: &T) {
        self.put(id, coverage.slots(store));
    }

    fn put(&mut self, id: LiveId, Slots(slots): Slots) {
        self.remove(id);
        for slot in &slots {
            match slot.clone() {
                Slot::Subject(subject) => {
                    self.by_subject.entry(subject).or_default().insert(id);
                }
                Slot::Predicate(predicates, beside, objects) => {
                    let under = match predicates {
                        Predicates::Is(number) => self.by_predicate.entry(number).or_default(),
                        Predicates::Named(name) => self.by_name.entry(name).or_default(),
                        Predicates::OfType(name) => self.by_type.entry(name).or_default(),
                        Predicates::OfField(name) => self.by_field.entry(name).or_default(),
                        Predicates::Any => &mut self.by_any,
                    };
                    under.insert(beside, objects, id);
                }
            }
        }
        self.held.insert(id, slots.into_iter().collect());
    }

    /// Takes one away.
    pub fn remove(&mut self, id: LiveId) {
        for slot in self.held.remove(&id).unwrap_or_default() {
            match slot {
                Slot::Subject(subject) => remove(&mut self.by_subject, &subject, |ids| {
                    ids.remove(&id);
                    ids.is_empty()
                }),
                Slot::Predicate(predicates, beside, objects) => {
                    let remove_from = |under: &mut Under| under.remove(beside, objects, id);
                    match predicates {
                        Predicates::Is(number) => remove(&mut self.by_predicate, &number, remove_from),
                        Predicates::Named(name) => remove(&mut self.by_name, &name, remove_from),
                        Predicates::OfType(name) => remove(&mut self.by_type, &name, remove_from),
                        Predicates::OfField(name) => remove(&mut self.by_field, &name, remove_from),
                        Predicates::Any => {
                            self.by_any.remove(beside, objects, id);
                        }
                    }
                }
            }
        }
    }

    /// Shows those that a triple's coming or going may touch; one may be shown several times.
    pub fn touched<T: Triples + ?Sized>(&self, triple: &Triple, store: &T, mut show: impl FnMut(LiveId)) {
        if let Some(ids) = self.by_subject.get(&triple.subject) {
            for id in ids {
                show(*id);
            }
        }
        if let Some(under) = self.by_predicate.get(&triple.predicate) {
            under.show(triple, store, &mut show);
        }
        self.by_any.show(triple, store, &mut show);
        if self.by_name.is_empty() && self.by_type.is_empty() && self.by_field.is_empty() {
            return;
        }
        let predicate = store.predicate(triple.predicate);
        let unders = [
            self.by_name.get(&predicate),
            self.by_type.get(predicate.entity_type()),
            self.by_field.get(predicate.field()),
        ];
        for under in unders.into_iter().flatten() {
            under.show(triple, store, &mut show);
        }
    }
}

impl Under {
    fn insert(&mut self, beside: Option<Beside>, objects: Objects, id: LiveId) {
        let by_object = match beside {
            Some((predicate, value)) => self.beside.entry(predicate).or_default().entry(value).or_default(),
            None => &mut self.plain,
        };
        by_object.insert(objects, id);
    }

    /// Whether it is empty then.
    fn remove(&mut self, beside: Option<Beside>, objects: Objects, id: LiveId) -> bool {
        match beside {
            Some((predicate, value)) => {
                if let Some(by_value) = self.beside.get_mut(&predicate) {
                    remove(by_value, &value, |by_object| by_object.remove(objects, id));
                    if by_value.is_empty() {
                        self.beside.remove(&predicate);
                    }
                }
            }
            None => {
                self.plain.remove(objects, id);
            }
        }
        self.beside.is_empty() && self.plain.is_empty()
    }

    fn show<T: Triples + ?Sized>(&self, triple: &Triple, store: &T, show: &mut impl FnMut(LiveId)) {
        self.plain.show(triple.object, show);
        let mut values = Vec::new();
        for (predicate, by_value) in &self.beside {
            values.clear();
            store.values(triple.subject, *predicate, &mut values);
            for by_object in values.iter().filter_map(|value| by_value.get(value)) {
                by_object.show(triple.object, show);
            }
        }
    }
}

impl ByObject {
    fn insert(&mut self, objects: Objects, id: LiveId) {
        match objects {
            Objects::Any => {
                self.any.insert(id);
            }
            Objects::Is(term) => {
                self.is.entry(term).or_default().insert(id);
            }
            Objects::Between(first, last) => self.between.get_or_insert_default().insert((first, last), id),
        }
    }

    /// Whether it is empty then.
    fn remove(&mut self, objects: Objects, id: LiveId) -> bool {
        match objects {
            Objects::Any => {
                self.any.remove(&id);
            }
            Objects::Is(term) => remove(&mut self.is, &term, |ids| {
                ids.remove(&id);
                ids.is_empty()
            }),
            Objects::Between(first, last) => {
                if let Some(between) = &mut self.between {
                    between.remove((first, last), id);
                    if between.is_empty() {
                        self.between = None;
                    }
                }
            }
        }
        self.is_empty()
    }

    fn is_empty(&self) -> bool {
        self.any.is_empty() && self.is.is_empty() && self.between.is_none()
    }

    fn show(&self, object: Term, show: &mut impl FnMut(LiveId)) {
        for id in &self.any {
            show(*id);
        }
        if let Some(ids) = self.is.get(&object) {
            for id in ids {
                show(*id);
            }
        }
        if let Some(between) = &self.between {
            between.show(object.order_key(), show);
        }
    }
}

/// Takes something out of what stands under a key, and the key when nothing stands there any more.
fn remove<K: std::hash::Hash + Eq, V>(map: &mut HashMap<K, V>, key: &K, take_out: impl FnOnce(&mut V) -> bool) {
    if map.get_mut(key).is_some_and(take_out) {
        map.remove(key);
    }
}

fn slots<T: Triples + ?Sized>(trigger: &Trigger, store: &T) -> Vec<Slot> {
    let pattern = &trigger.pattern;
    if let Some(subjects) = subjects(trigger, store) {
        return subjects.into_iter().map(Slot::Subject).collect();
    }
    let predicates = match &pattern.predicate {
        PredicateTerm::Is(name) => match store.predicate_number(name) {
            Some(number) => Predicates::Is(number),
            None => Predicates::Named(name.clone()),
        },
        PredicateTerm::OfType(name) => Predicates::OfType(Arc::clone(name)),
        PredicateTerm::OfField(name) => Predicates::OfField(Arc::clone(name)),
        PredicateTerm::Var(_) | PredicateTerm::Any => Predicates::Any,
    };
    let objects = match &pattern.object {
        Place::Constant(value) => vec![objects_of(value, store)],
        Place::Var(var) => match pins(&trigger.tests, *var) {
            Some(values) => values.iter().map(|value| objects_of(value, store)).collect(),
            None => range(&trigger.tests, *var).into_iter().collect(),
        },
        Place::Any => vec![Objects::Any],
    };
    let beside = trigger.beside.as_ref().and_then(|(predicate, value)| {
        // What the store does not know yet stands under the pattern alone.
        Some((store.predicate_number(predicate)?, store.term(value)?))
    });
    let slot = |objects| {
        let is_one = matches!(objects, Objects::Is(_));
        Slot::Predicate(predicates.clone(), beside.filter(|_| !is_one), objects)
    };
    objects.into_iter().map(slot).collect()
}

/// The entities that the pattern names, if the store knows all of them.
fn subjects<T: Triples + ?Sized>(trigger: &Trigger, store: &T) -> Option<Vec<EntityNumber>> {
    let values = match &trigger.pattern.subject {
        Place::Constant(value) => std::slice::from_ref(value),
        Place::Var(var) => pins(&trigger.tests, *var)?,
        Place::Any => return None,
    };
    let number = |value: &Value| store.term(value).and_then(Term::as_entity);
    values.iter().map(number).collect()
}

/// The few values that a variable may have.
fn pins(tests: &[Filter], var: Var) -> Option<&[Value]> {
    let pins = tests.iter().find_map(|test| match test {
        Filter::Compare {
            left,
            comparison: Comparison::Equal,
            right: Operand::Constant(value),
        } if *left == var => Some(std::slice::from_ref(value)),
        Filter::In(of, values) if *of == var => Some(&values[..]),
        _ => None,
    });
    pins.filter(|values| values.len() <= PINS_MAX)
}

fn objects_of<T: Triples + ?Sized>(value: &Value, store: &T) -> Objects {
    match (store.term(value), Term::order_key_of(value)) {
        (Some(term), _) => Objects::Is(term),
        (None, Some(key)) => Objects::Between(key, key),
        (None, None) => Objects::Any,
    }
}

/// The range that tests leave to a variable; none if nothing passes.
fn range(tests: &[Filter], var: Var) -> Option<Objects> {
    let (mut first, mut last) = (0, u128::MAX);
    for test in tests.iter().filter(|test| test.tested() == Some(var)) {
        let (from, to) = keys_of(test);
        first = first.max(from);
        last = last.min(to);
    }
    match (first, last) {
        (0, u128::MAX) => Some(Objects::Any),
        _ if first > last => None,
        _ => Some(Objects::Between(first, last.min(Term::NULL.order_key()))),
    }
}

/// Between which numbers all lie that pass a test.
fn keys_of(test: &Filter) -> (u128, u128) {
    let of_kind = |kind: Kind| Term::order_keys_of_code(kind as u8);
    // References have an order of their own in the index.
    let of_value = |value: &Value| Term::order_key_of(value).map_or_else(|| of_kind(Kind::Ref), |key| (key, key));
    match test {
        Filter::Compare {
            comparison,
            right: Operand::Constant(value),
            ..
        } => {
            let (from, to) = of_value(value);
            match comparison {
                Comparison::Equal => (from, to),
                Comparison::NotEqual => (0, u128::MAX),
                Comparison::Less | Comparison::AtMost => (0, to),
                Comparison::Greater | Comparison::AtLeast => (from, u128::MAX),
            }
        }
        Filter::In(_, values) => {
            let ends = values.first().zip(values.last());
            ends.map_or((1, 0), |(least, greatest)| (of_value(least).0, of_value(greatest).1))
        }
        Filter::Text {
            test: TextTest::StartsWith,
            text,
            ..
        } => Term::order_keys_of_prefix(text),
        Filter::Text { .. } => of_kind(Kind::String),
        Filter::Kind(_, kind) => of_kind(*kind),
        Filter::Compare { .. } | Filter::Not(_) => (0, u128::MAX),
    }
}
