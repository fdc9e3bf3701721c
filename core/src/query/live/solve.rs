//! From changed triples to keys: patterns looked up in the union of the state before and the state after.

use super::{
    Delta, Filter, Lost, Triples, Value, Var,
    entities::{numbers, scan, subjects},
    trigger::{Trigger, Triggers, passes, tested},
};
use crate::collections::BTreeSet;
use crate::{
    graph::Triple,
    query::{
        logic::{Positive, Term as Place, TriplePattern},
        triples::{EntityNumber, Objects, PredicateNumber, Term},
    },
};

pub(super) struct Solver<'a, T: ?Sized> {
    store: &'a T,
    /// What showed before and does not now.
    removed: &'a [Triple],
    fuel: u64,
    fuel_max: u64,
    key: Var,
    binding: Vec<Option<Term>>,
    found: BTreeSet<Term>,
}

impl<'a, T: Triples + ?Sized> Solver<'a, T> {
    pub(super) const fn new(store: &'a T, removed: &'a [Triple], fuel_max: u64) -> Self {
        Self {
            store,
            removed,
            fuel: 0,
            fuel_max,
            key: Var(0),
            binding: Vec::new(),
            found: BTreeSet::new(),
        }
    }

    /// All keys that a delta may touch.
    pub(super) fn candidates(mut self, triggers: &Triggers, delta: &Delta) -> Result<BTreeSet<Term>, Lost> {
        self.key = triggers.key;
        for triple in delta.added.iter().chain(&delta.removed) {
            let predicate = self.store.predicate(triple.predicate);
            for trigger in &triggers.all {
                if !trigger.pattern.predicate.takes(&predicate) || !self.passes(trigger, triple) {
                    continue;
                }
                self.binding.clear();
                self.binding.resize(triggers.width, None);
                if self.bind(&trigger.pattern, triple.subject, triple.object).is_some() {
                    let way: Vec<&Positive> = trigger.way.iter().collect();
                    self.go(&way)?;
                }
            }
        }
        Ok(self.found)
    }

    fn passes(&self, trigger: &Trigger, triple: &Triple) -> bool {
        let pattern = &trigger.pattern;
        let is_of = |place: &Place, filter: &Filter| place.var().is_some() && place.var() == tested(filter);
        trigger.tests.iter().all(|filter| {
            let subject = || self.store.value(Term::entity(triple.subject));
            (!is_of(&pattern.object, filter) || passes(filter, &self.store.value(triple.object)))
                && (!is_of(&pattern.subject, filter) || passes(filter, &subject()))
        })
    }

    /// Goes on until the key is bound.
    fn go(&mut self, way: &[&Positive]) -> Result<(), Lost> {
        if let Some(key) = self.binding[self.key.0 as usize] {
            self.found.insert(key);
            return Ok(());
        }
        let Some(at) = (0..way.len()).min_by_key(|at| self.cost(way[*at])) else {
            return Ok(());
        };
        let mut rest = way.to_vec();
        match rest.remove(at) {
            Positive::Triple(pattern) => {
                for (subject, object) in self.matches(pattern)? {
                    if let Some(bound) = self.bind(pattern, subject, object) {
                        self.go(&rest)?;
                        for var in bound {
                            self.binding[var.0 as usize] = None;
                        }
                    }
                }
                Ok(())
            }
            Positive::Or(or) => {
                for branch in &or.branches {
                    let mut way = rest.clone();
                    way.extend(&branch.positives);
                    self.go(&way)?;
                }
                Ok(())
            }
            Positive::Call { .. } => unreachable!("a query without rules calls none"),
        }
    }

    /// What comes first: the less is left open, the sooner.
    fn cost(&self, positive: &Positive) -> u8 {
        let Positive::Triple(pattern) = positive else { return 3 };
        let known = |place: &Place| match place {
            Place::Var(var) => self.binding[var.0 as usize].is_some(),
            Place::Constant(_) => true,
            Place::Any => false,
        };
        match (known(&pattern.subject), known(&pattern.object)) {
            (true, true) => 0,
            (true, false) => 1,
            (false, true) => 2,
            (false, false) => 4,
        }
    }

    /// The term at a place, if it is known; the outer `None` if no triple can have it.
    #[expect(clippy::option_option, reason = "unknown and impossible are different")]
    fn known(&self, place: &Place) -> Option<Option<Term>> {
        match place {
            Place::Any => Some(None),
            Place::Var(var) => Some(self.binding[var.0 as usize]),
            Place::Constant(value) => self.term(value).map(Some),
        }
    }

    fn term(&self, value: &Value) -> Option<Term> {
        self.store.term(value)
    }

    /// Subjects and objects of the triples that match, before or after.
    fn matches(&mut self, pattern: &TriplePattern) -> Result<Vec<(EntityNumber, Term)>, Lost> {
        let (Some(subject), Some(object)) = (self.known(&pattern.subject), self.known(&pattern.object)) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for predicate in numbers(&pattern.predicate, self.store) {
            self.after(predicate, (subject, object), &mut found);
        }
        let before = self.removed.iter().filter(|triple| {
            subject.is_none_or(|subject| subject == Term::entity(triple.subject))
                && object.is_none_or(|object| object == triple.object)
                && pattern.predicate.takes(&self.store.predicate(triple.predicate))
        });
        found.extend(before.map(|triple| (triple.subject, triple.object)));
        self.fuel += 1 + found.len() as u64;
        if self.fuel > self.fuel_max {
            return Err(Lost::TooFar(self.fuel_max));
        }
        Ok(found)
    }

    fn after(
        &self,
        predicate: PredicateNumber,
        known: (Option<Term>, Option<Term>),
        found: &mut Vec<(EntityNumber, Term)>,
    ) {
        match known {
            (Some(subject), object) => {
                let Some(subject) = subject.as_entity() else { return };
                let mut values = Vec::new();
                self.store.values(subject, predicate, &mut values);
                values.retain(|value| object.is_none_or(|object| object == *value));
                found.extend(values.into_iter().map(|value| (subject, value)));
            }
            (None, Some(object)) => {
                let mut terms = Vec::new();
                subjects(object, predicate, self.store, &mut terms);
                let entities = terms.into_iter().filter_map(Term::as_entity);
                found.extend(entities.map(|subject| (subject, object)));
            }
            (None, None) => scan(predicate, Objects::All, self.store, |entry| {
                found.push((entry.subject(), entry.object()));
            }),
        }
    }

    /// Binds what a pattern leaves open; the variables that were, or `None` and nothing bound if it does not match.
    fn bind(&mut self, pattern: &TriplePattern, subject: EntityNumber, object: Term) -> Option<Vec<Var>> {
        let mut bound = Vec::new();
        for (place, term) in [(&pattern.subject, Term::entity(subject)), (&pattern.object, object)] {
            let holds = match place {
                Place::Any => true,
                Place::Constant(value) => self.term(value) == Some(term),
                Place::Var(var) => {
                    let held = &mut self.binding[var.0 as usize];
                    if held.is_none() {
                        bound.push(*var);
                    }
                    *held.get_or_insert(term) == term
                }
            };
            if !holds {
                for var in bound {
                    self.binding[var.0 as usize] = None;
                }
                return None;
            }
        }
        Some(bound)
    }
}
