//! From changed triples, and tuples of rules, to keys: patterns and calls looked up in the union of the state before and
//! the state after. A variable in a predicate's place is not bound: what it would rule out is looked at in vain.

use super::{
    Delta, Ground, Lost, Triples, Value, Var,
    derived::Derivation,
    entities::{numbers, scan},
    trigger::{Called, Trigger, Triggers},
};
use crate::collections::BTreeSet;
use crate::{
    graph::Triple,
    limits::needs_all_forms,
    query::{
        eval::Relation,
        logic::{Positive, RuleId, Term as Place, TriplePattern},
        triples::{EntityNumber, Objects, PredicateNumber, Term},
    },
};

/// A tuple of a rule.
pub(super) type Tuple = Vec<Term>;

/// What changed before now, and is not in the store or in the relations any more.
#[derive(Clone, Copy)]
pub(super) struct Past<'a> {
    pub(super) triples: &'a [Triple],
    pub(super) tuples: &'a [(RuleId, Tuple)],
}

pub(super) struct Solver<'a, T: ?Sized> {
    store: &'a T,
    relations: &'a [Relation],
    past: Past<'a>,
    fuel: u64,
    fuel_max: u64,
    found_max: usize,
    goal: &'a [Var],
    binding: Vec<Option<Term>>,
    found: BTreeSet<Tuple>,
    /// The same of a single goal, where a changed triple says it by itself.
    told: Vec<Term>,
}

impl<'a, T: Triples + ?Sized> Solver<'a, T> {
    pub(super) fn new(store: &'a T, ground: Ground<'a>, past: Past<'a>) -> Self {
        Self {
            store,
            relations: ground.relations,
            past,
            fuel: 0,
            fuel_max: ground.budget.fuel,
            found_max: ground.budget.tuples,
            goal: &[],
            binding: Vec::new(),
            found: BTreeSet::new(),
            told: Vec::new(),
        }
    }

    /// All keys whose bindings a delta may touch, ascending.
    pub(super) fn candidates(
        self,
        triggers: &'a Triggers,
        delta: &Delta,
        derived: &Derivation,
    ) -> Result<Vec<Term>, Lost> {
        self.look(triggers, (delta, derived), |_, _| true)
    }

    /// All keys for which a delta may touch what their bindings rest on. Where it counts only that an entity has such a
    /// triple, and it had one and has one, nothing is touched: a value that moves within a range costs nothing.
    pub(super) fn candidates_by_presence(
        self,
        triggers: &'a Triggers,
        delta: &Delta,
        derived: &Derivation,
    ) -> Result<Vec<Term>, Lost> {
        let store = self.store;
        let is_on_both_sides = !delta.added.is_empty() && !delta.removed.is_empty();
        let is_asked = is_on_both_sides && triggers.all.iter().any(|trigger| trigger.is_presence);
        // A batch may hold a whole import: each triple looks up its own field in it, and not through all of it.
        let by_field = |side: &[Triple]| {
            let mut sorted = if is_asked { side.to_vec() } else { Vec::new() };
            sorted.sort_unstable_by_key(field_of);
            sorted
        };
        let (added, removed) = (by_field(&delta.added), by_field(&delta.removed));
        self.look(triggers, (delta, derived), |trigger, triple| {
            let has = |side: &[Triple]| {
                let field = field_of(triple);
                let from = side.partition_point(|other| field_of(other) < field);
                let mut same = side[from..].iter().take_while(|other| field_of(other) == field);
                same.any(|other| trigger.takes(other, store))
            };
            !(trigger.is_presence && has(&added) && has(&removed))
        })
    }

    fn look(
        mut self,
        triggers: &'a Triggers,
        (delta, derived): (&Delta, &Derivation),
        counts: impl Fn(&Trigger, &Triple) -> bool,
    ) -> Result<Vec<Term>, Lost> {
        for triple in delta.added.iter().chain(&delta.removed) {
            for trigger in triggers.all.iter().filter(|trigger| counts(trigger, triple)) {
                self.triple(triggers, trigger, triple)?;
            }
        }
        for (rule, tuple) in derived.added.iter().chain(&derived.removed) {
            for called in triggers.calls.iter().filter(|called| called.rule == *rule) {
                self.tuple(triggers, called, tuple)?;
            }
        }
        let mut found = self.told;
        found.extend(self.found.into_iter().flatten());
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Where a changed triple leads by one trigger.
    pub(super) fn triple(&mut self, triggers: &'a Triggers, trigger: &Trigger, triple: &Triple) -> Result<(), Lost> {
        if !trigger.takes(triple, self.store) {
            return Ok(());
        }
        let Trigger { pattern, .. } = trigger;
        if let [goal] = *triggers.goal
            && pattern.subject.var() == Some(goal)
            && pattern.object.var() != Some(goal)
        {
            self.told.push(Term::entity(triple.subject));
            return Ok(());
        }
        self.start(triggers);
        if self.bind(&trigger.pattern, triple.subject, triple.object).is_some() {
            let way: Vec<&Positive> = trigger.way.iter().collect();
            self.go(&way)?;
        }
        Ok(())
    }

    /// Where a changed tuple leads by one call.
    pub(super) fn tuple(&mut self, triggers: &'a Triggers, called: &Called, tuple: &[Term]) -> Result<(), Lost> {
        needs_all_forms();
        self.start(triggers);
        if self.bind_tuple(&called.arguments, tuple).is_some() {
            let way: Vec<&Positive> = called.way.iter().collect();
            self.go(&way)?;
        }
        Ok(())
    }

    /// What was found since this was asked last.
    pub(super) fn take_found(&mut self) -> BTreeSet<Tuple> {
        let told = self.told.drain(..).map(|term| vec![term]);
        self.found.extend(told);
        std::mem::take(&mut self.found)
    }

    fn start(&mut self, triggers: &'a Triggers) {
        self.goal = &triggers.goal;
        self.binding.clear();
        self.binding.resize(triggers.width, None);
    }

    /// Goes on until the goal is bound.
    fn go(&mut self, way: &[&Positive]) -> Result<(), Lost> {
        let goal = self.goal.iter().map(|var| self.binding[var.0 as usize]);
        if let Some(tuple) = goal.collect::<Option<Tuple>>() {
            self.found.insert(tuple);
            if self.found.len() > self.found_max {
                return Err(Lost::TooFar(self.fuel_max));
            }
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
            Positive::Call { rule, arguments } => {
                for tuple in self.tuples(*rule, arguments)? {
                    if let Some(bound) = self.bind_tuple(arguments, &tuple) {
                        self.go(&rest)?;
                        for var in bound {
                            self.binding[var.0 as usize] = None;
                        }
                    }
                }
                Ok(())
            }
        }
    }

    /// What comes first: the less is left open, the sooner.
    fn cost(&self, positive: &Positive) -> u8 {
        let known = |place: &Place| match place {
            Place::Var(var) => self.binding[var.0 as usize].is_some(),
            Place::Constant(_) => true,
            Place::Any => false,
        };
        let pattern = match positive {
            Positive::Triple(pattern) => pattern,
            Positive::Or(_) => return 3,
            Positive::Call { arguments, .. } if arguments.iter().all(known) => return 0,
            Positive::Call { arguments, .. } => return if arguments.iter().any(known) { 2 } else { 4 },
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
        let before = self.past.triples.iter().filter(|triple| {
            subject.is_none_or(|subject| subject == Term::entity(triple.subject))
                && object.is_none_or(|object| object == triple.object)
                && pattern.predicate.takes(&self.store.predicate(triple.predicate))
        });
        found.extend(before.map(|triple| (triple.subject, triple.object)));
        self.spend(found.len())?;
        Ok(found)
    }

    /// The tuples of a rule that match, before or after.
    fn tuples(&mut self, rule: RuleId, arguments: &[Place]) -> Result<Vec<Tuple>, Lost> {
        needs_all_forms();
        let (mut columns, mut terms) = (Vec::new(), Vec::new());
        for (column, place) in arguments.iter().enumerate() {
            let Some(known) = self.known(place) else {
                return Ok(Vec::new());
            };
            if let Some(term) = known {
                columns.push(column);
                terms.push(term);
            }
        }
        let relation = &self.relations[rule.0 as usize];
        let mut places = Vec::new();
        if columns.is_empty() {
            let left = self.fuel_max.saturating_sub(self.fuel);
            places.extend(relation.places().take(usize::try_from(left).unwrap_or(usize::MAX)));
        } else {
            relation.find(&columns, &terms, &mut places);
        }
        self.spend(places.len())?;
        let fits = |tuple: &Tuple| columns.iter().zip(&terms).all(|(column, term)| tuple[*column] == *term);
        let past = self.past.tuples.iter().filter(|(of, tuple)| *of == rule && fits(tuple));
        let past = past.map(|(_, tuple)| tuple.clone());
        let now = places.into_iter().map(|place| relation.get(place as usize).to_vec());
        Ok(now.chain(past).collect())
    }

    fn spend(&mut self, found: usize) -> Result<(), Lost> {
        self.fuel += 1 + found as u64;
        if self.fuel > self.fuel_max {
            return Err(Lost::TooFar(self.fuel_max));
        }
        Ok(())
    }

    /// What is more than the fuel that is left is not looked at.
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
            (None, object) => {
                let objects = object.map_or(Objects::All, Objects::Equal);
                let left = self.fuel_max.saturating_sub(self.fuel);
                scan(predicate, objects, self.store, |entry| {
                    found.push((entry.subject(), entry.object()));
                    found.len() as u64 <= left
                });
            }
        }
    }

    /// Binds what a pattern leaves open; the variables that were, or `None` and nothing bound if it does not match.
    fn bind(&mut self, pattern: &TriplePattern, subject: EntityNumber, object: Term) -> Option<Vec<Var>> {
        let mut bound = Vec::new();
        for (place, term) in [(&pattern.subject, Term::entity(subject)), (&pattern.object, object)] {
            if !self.bind_one(place, term, &mut bound) {
                return None;
            }
        }
        Some(bound)
    }

    fn bind_tuple(&mut self, arguments: &[Place], tuple: &[Term]) -> Option<Vec<Var>> {
        let mut bound = Vec::new();
        for (place, term) in arguments.iter().zip(tuple) {
            if !self.bind_one(place, *term, &mut bound) {
                return None;
            }
        }
        Some(bound)
    }

    /// Where it does not match, all that was bound is let go.
    fn bind_one(&mut self, place: &Place, term: Term, bound: &mut Vec<Var>) -> bool {
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
            for var in bound.drain(..) {
                self.binding[var.0 as usize] = None;
            }
        }
        holds
    }
}

/// The entity and the field that a triple is of.
const fn field_of(triple: &Triple) -> (EntityNumber, PredicateNumber) {
    (triple.subject, triple.predicate)
}
