//! What the rules of a live query derive, kept up to date: delete and derive again, group by group.
//!
//! For each group of rules, after those that it needs:
//!
//! 1. **Doubt.** Triggers lead from what changed (triples, tuples of the groups before) to heads. A tuple that is held,
//!    and rests on something that went (or that came inside a `not`), is doubted; doubt spreads through the calls of the
//!    group itself, over the state before.
//! 2. **Delete** what is doubted.
//! 3. **Derive again.** Each definition is evaluated for the heads that were found, and for nothing else, over the new
//!    state. Every tuple that comes leads on through the calls of the group, until nothing new comes.
//!
//! A tuple that still has a derivation comes back in step 3, by the tuples that were never doubted; one whose only
//! derivations rest on each other does not, which is why counting would be wrong here. The cost follows what changed and
//! what was doubted, not the size of the relations.
//!
//! Source: Gupta, Mumick and Subrahmanian, "Maintaining Views Incrementally" (1993), `DRed`. Left out: aggregates in
//! heads ([`Refused::Rule`]).

use std::sync::Arc;

use super::{
    Budget, Delta, EvalError, Ground, Keyed, Lost, Query, Refused, Shape, Triples,
    solve::{Past, Solver, Tuple},
    trigger::Triggers,
};
use crate::collections::{BTreeMap, BTreeSet};
use crate::limits::needs_all_forms;
use crate::query::{
    eval::{Relation, derive},
    logic::{Column, Definition, Rule, RuleId},
    plan::plan,
    triples::Term,
};

/// What became of the tuples of all rules. No tuple both came and went.
#[derive(Debug, Default)]
pub(super) struct Derivation {
    pub(super) added: Vec<(RuleId, Tuple)>,
    pub(super) removed: Vec<(RuleId, Tuple)>,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Derived {
    relations: Vec<Relation>,
    groups: Vec<Vec<RuleId>>,
    definitions: Vec<Defined>,
}

/// One definition of a rule.
#[derive(Debug)]
struct Defined {
    rule: RuleId,
    triggers: Triggers,
    /// The body for given heads.
    probe: Keyed,
}

/// A group while it follows a change.
#[derive(Default)]
struct Round {
    /// Heads to look at.
    heads: BTreeSet<(RuleId, Tuple)>,
    /// Tuples that were held and may be no more.
    doubted: BTreeSet<(RuleId, Tuple)>,
    /// Those of them that have yet to spread.
    spreading: Vec<(RuleId, Tuple)>,
}

impl Derived {
    pub(super) fn open<T: Triples + ?Sized>(query: &Query, store: &T, budget: Budget) -> Result<Self, Refused> {
        let mut definitions = Vec::new();
        for (rule, at) in query.rules.iter().zip(0..) {
            needs_all_forms();
            for definition in &rule.definitions {
                definitions.push(Defined::of(query, (RuleId(at), rule), definition)?);
            }
        }
        let mut derived = Self {
            relations: Vec::new(),
            groups: query.strata.clone(),
            definitions,
        };
        if !query.rules.is_empty() {
            needs_all_forms();
            derived.relations = derive(&plan(Arc::new(query.clone()), store), store, budget)?;
        }
        Ok(derived)
    }

    pub(super) fn ground(&self, budget: Budget) -> Ground<'_> {
        Ground {
            budget,
            relations: &self.relations,
        }
    }

    /// Tuples of all rules.
    pub(super) fn held(&self) -> usize {
        self.relations.iter().map(Relation::count).sum()
    }

    /// The triggers of all definitions.
    pub(super) fn triggers(&self) -> impl Iterator<Item = &Triggers> {
        self.definitions.iter().map(|defined| &defined.triggers)
    }

    /// Takes in what a change set did to the triples; `store` shows them already.
    pub(super) fn apply<T: Triples + ?Sized>(
        &mut self,
        delta: &Delta,
        store: &T,
        budget: Budget,
    ) -> Result<Derivation, Lost> {
        let mut done = Derivation::default();
        for group in self.groups.clone() {
            needs_all_forms();
            let mut round = Round::default();
            self.look(&group, (delta, &done), &mut round, (store, budget))?;
            self.spread(&group, (delta, &done), &mut round, (store, budget))?;
            for (rule, tuple) in &round.doubted {
                self.relations[rule.0 as usize].remove(tuple);
            }
            let Round { mut heads, doubted, .. } = round;
            heads.extend(doubted.iter().cloned());
            let came = self.derive(&group, heads, (store, budget))?;
            let goes = |(rule, tuple): &&(RuleId, Tuple)| !self.relations[rule.0 as usize].contains(tuple);
            done.removed.extend(doubted.iter().filter(goes).cloned());
            done.added
                .extend(came.into_iter().filter(|tuple| !doubted.contains(tuple)));
        }
        if self.held() > budget.tuples {
            return Err(Lost::TooLarge(budget.tuples));
        }
        Ok(done)
    }

    /// Solves over the union of before and after.
    fn over_both<'a, T: Triples + ?Sized>(
        &'a self,
        (delta, before): (&'a Delta, &'a Derivation),
        (store, budget): (&'a T, Budget),
    ) -> Solver<'a, T> {
        let past = Past {
            triples: &delta.removed,
            tuples: &before.removed,
        };
        Solver::new(store, self.ground(budget), past)
    }

    /// Finds the heads that a change may touch, over the union of before and after.
    fn look<T: Triples + ?Sized>(
        &self,
        group: &[RuleId],
        (delta, before): (&Delta, &Derivation),
        round: &mut Round,
        (store, budget): (&T, Budget),
    ) -> Result<(), Lost> {
        let mut solver = self.over_both((delta, before), (store, budget));
        let came = delta.added.iter().map(|triple| (triple, true));
        let triples: Vec<_> = came.chain(delta.removed.iter().map(|triple| (triple, false))).collect();
        let came = before.added.iter().map(|tuple| (tuple, true));
        let tuples: Vec<_> = came.chain(before.removed.iter().map(|tuple| (tuple, false))).collect();
        for defined in self.definitions.iter().filter(|defined| group.contains(&defined.rule)) {
            let triggers = &defined.triggers;
            for trigger in &triggers.all {
                for (triple, came) in &triples {
                    solver.triple(triggers, trigger, triple)?;
                    self.note(defined.rule, solver.take_found(), trigger.is_negated || !came, round);
                }
            }
            for called in &triggers.calls {
                for ((rule, tuple), came) in tuples.iter().filter(|((rule, _), _)| *rule == called.rule) {
                    debug_assert!(!group.contains(rule), "a group comes after those it needs");
                    solver.tuple(triggers, called, tuple)?;
                    self.note(defined.rule, solver.take_found(), called.is_negated || !came, round);
                }
            }
        }
        Ok(())
    }

    /// What is held is in doubt only where something went that it may rest on.
    fn note(&self, rule: RuleId, heads: BTreeSet<Tuple>, is_doubt: bool, round: &mut Round) {
        for head in heads {
            if !self.relations[rule.0 as usize].contains(&head) {
                round.heads.insert((rule, head));
            } else if is_doubt && round.doubted.insert((rule, head.clone())) {
                round.spreading.push((rule, head));
            }
        }
    }

    /// Doubts what rests on what is doubted.
    fn spread<T: Triples + ?Sized>(
        &self,
        group: &[RuleId],
        (delta, before): (&Delta, &Derivation),
        round: &mut Round,
        (store, budget): (&T, Budget),
    ) -> Result<(), Lost> {
        let mut solver = self.over_both((delta, before), (store, budget));
        while let Some((of, tuple)) = round.spreading.pop() {
            for (rule, heads) in self.lead(group, (of, &tuple), &mut solver)? {
                let held = |head: &Tuple| self.relations[rule.0 as usize].contains(head);
                let heads = heads.into_iter().filter(held).collect();
                self.note(rule, heads, true, round);
            }
        }
        Ok(())
    }

    /// The heads of a group that a tuple of it leads to.
    fn lead<'a, T: Triples + ?Sized>(
        &'a self,
        group: &[RuleId],
        (of, tuple): (RuleId, &[Term]),
        solver: &mut Solver<'a, T>,
    ) -> Result<BTreeMap<RuleId, BTreeSet<Tuple>>, Lost> {
        let mut found: BTreeMap<RuleId, BTreeSet<Tuple>> = BTreeMap::new();
        for defined in self.definitions.iter().filter(|defined| group.contains(&defined.rule)) {
            let triggers = &defined.triggers;
            for called in triggers.calls.iter().filter(|called| called.rule == of) {
                solver.tuple(triggers, called, tuple)?;
                found.entry(defined.rule).or_default().extend(solver.take_found());
            }
        }
        Ok(found)
    }

    /// Evaluates definitions for heads, and for those that what comes leads to: all that came.
    fn derive<T: Triples + ?Sized>(
        &mut self,
        group: &[RuleId],
        mut heads: BTreeSet<(RuleId, Tuple)>,
        (store, budget): (&T, Budget),
    ) -> Result<Vec<(RuleId, Tuple)>, Lost> {
        let mut all = Vec::new();
        while !heads.is_empty() {
            let came = self.derive_once(&heads, store, budget)?;
            heads.clear();
            let past = Past {
                triples: &[],
                tuples: &[],
            };
            let mut solver = Solver::new(store, self.ground(budget), past);
            for (of, tuple) in &came {
                for (rule, found) in self.lead(group, (*of, tuple), &mut solver)? {
                    let relation = &self.relations[rule.0 as usize];
                    let new = found.into_iter().filter(|head| !relation.contains(head));
                    heads.extend(new.map(|head| (rule, head)));
                    if self.held() + heads.len() > budget.tuples {
                        return Err(Lost::TooFar(budget.fuel));
                    }
                }
            }
            all.extend(came);
        }
        Ok(all)
    }

    fn derive_once<T: Triples + ?Sized>(
        &mut self,
        heads: &BTreeSet<(RuleId, Tuple)>,
        store: &T,
        budget: Budget,
    ) -> Result<Vec<(RuleId, Tuple)>, EvalError> {
        let mut came = Vec::new();
        for defined in &mut self.definitions {
            let of_rule = heads.iter().filter(|(rule, _)| *rule == defined.rule);
            let terms: Vec<Term> = of_rule.flat_map(|(_, tuple)| tuple.iter().copied()).collect();
            if terms.is_empty() {
                continue;
            }
            let ground = Ground {
                budget,
                relations: &self.relations,
            };
            let found = defined.probe.find(Some(&terms), store, ground)?;
            let relation = &mut self.relations[defined.rule.0 as usize];
            for tuple in found.rows().filter(|tuple| !tuple.iter().any(|term| term.is_null())) {
                if relation.insert(tuple) {
                    came.push((defined.rule, tuple.to_vec()));
                }
            }
        }
        Ok(came)
    }
}

impl Defined {
    fn of(query: &Query, (at, rule): (RuleId, &Rule), definition: &Definition) -> Result<Self, Refused> {
        let triggers = Triggers::of_definition(rule, definition)?;
        let mut body = query.clone();
        body.variables.clone_from(&definition.variables);
        body.select.body.clone_from(&definition.body);
        let columns = definition.head.iter().map(|value| Column {
            name: Arc::from(""),
            value: *value,
        });
        body.select.shape = Shape::Table(columns.collect());
        body.select.order = Vec::new();
        body.select.after = None;
        body.select.limit = None;
        Ok(Self {
            rule: at,
            probe: Keyed::of_tuples(body, &triggers.goal),
            triggers,
        })
    }
}
