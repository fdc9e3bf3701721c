//! Live queries: the answer's delta from the delta of the triples, exact, at a cost that follows the change.
//!
//! # How
//!
//! Every binding belongs to a value of one variable, the **key**: the entity of an entity query; of a table, the variable
//! that most patterns have as their subject. For one change set:
//!
//! 1. **Candidates.** Each pattern of the query (of the body, of what is nested in `or`, `not` and `optional`, of fields,
//!    of includes, of the steps of an order) is a trigger: a changed triple that matches it binds its variables, and the
//!    positive patterns around it lead from there to keys ([`trigger`], [`solve`]). They are looked up in the union of
//!    the state before and the state after, without filters. Whatever a binding, a `not` or an optional rested on,
//!    before or after, is in that union; so no key whose bindings change is missed, self joins and predicates of many
//!    values included. These are semi-naive delta rules, used to find what to delete and derive again, as `DRed` does.
//! 2. **Derive again.** The evaluator answers the body for the candidates alone, in the new state, by a plan that starts
//!    from them and is kept. What was held for them goes, what it finds comes. So `not` and `optional` are exact.
//! 3. **Groups** count: rows by multiplicity, sums exactly, min, max and collect by ordered multisets ([`group`]).
//! 4. **Order, limit and cursor**: an index of all keys of the order in memory; the window is its first `limit` keys
//!    behind the cursor. A change costs the depth of the index and the length of the window, whatever lies behind it.
//! 5. **Objects** are held for the window alone; an include's trigger leads to the root, whose object is built again.
//!
//! Left out, and refused by [`Live::open`]: derived rules (recursive or not), a variable in a predicate's place, a body
//! without variables, and what outgrows its budget.
//!
//! # Sources
//!
//! Gupta, Mumick and Subrahmanian, "Maintaining Views Incrementally" (1993): counting, and `DRed`. Budiu et al., "DBSP"
//! (2023): operators as functions of deltas. Rocicorp's Zero: windows that are refilled from an order.
//!
//! # What always holds
//!
//! A store's terms stay what they are for as long as a query of it is followed.
//!
//! After each [`Live::apply`] that is `Ok`, [`Live::answer`] equals a fresh evaluation, and so does a consumer's
//! [`Mirror`] that took in each [`AnswerDelta`]. After an error the state is lost: open the query again.

mod coverage;
mod entities;
mod group;
mod ranges;
mod registry;
mod solve;
mod table;
#[cfg(test)]
mod tests;
mod trigger;
mod window;

use std::sync::Arc;

use thiserror::Error;

use self::{entities::Entities, solve::Solver, table::Table, trigger::Triggers};
use super::{
    answer::Answer,
    eval::{Budget, EvalError, Keyed},
    logic::{Filter, Query, Shape, Var},
    triples::{Term, Triples},
};
use crate::{graph::Delta, value::Value};

pub use coverage::{Coverage, CoverageChange};
pub use registry::{LiveId, Registry};
pub use window::{AnswerDelta, Change, Item, Key, Mirror};

/// Why a query cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// It calls a rule.
    #[error("the query uses the rule {0}; rules cannot be followed, write its clauses into the query or ask once")]
    Rule(Arc<str>),
    /// A predicate is a variable.
    #[error("the query has a variable in a predicate's place; it cannot be followed, name the predicate or ask once")]
    PredicateVariable,
    /// Its body binds nothing.
    #[error("the query has no variable; it cannot be followed, give what it looks for a variable")]
    NoVariable,
    /// It holds too much.
    #[error("following the query takes more than {0} bindings; make it more selective")]
    TooLarge(usize),
    /// Its answer rests on too many entities.
    #[error("the query's answer rests on more than {0} entities; make it more selective, or run it once instead")]
    TooManyEntities(usize),
    /// It cannot be answered.
    #[error(transparent)]
    Eval(#[from] EvalError),
}

/// Why a query is no longer followed. Its state is of no use; it may be opened again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Lost {
    /// A change set touched too much.
    #[error("finding what a change touches took more than {0} steps; open the query again")]
    TooFar(u64),
    /// The answer outgrew its budget.
    #[error("following the query takes more than {0} bindings now; make it more selective")]
    TooLarge(usize),
    /// The answer rests on too many entities by now.
    #[error("the query's answer rests on more than {0} entities now; make it more selective, or run it once instead")]
    TooManyEntities(usize),
    /// An evaluation ended.
    #[error(transparent)]
    Eval(#[from] EvalError),
}

/// A query whose answer is kept up to date.
#[derive(Debug)]
pub struct Live {
    triggers: Triggers,
    budget: Budget,
    state: State,
}

#[derive(Debug)]
enum State {
    Table(Table),
    Entities(Entities),
}

impl Live {
    /// Answers a query and keeps what following it takes.
    pub fn open<T: Triples + ?Sized>(query: &Query, store: &T, budget: Budget) -> Result<Self, Refused> {
        let triggers = Triggers::of(query)?;
        let state = match &query.select.shape {
            Shape::Table(columns) => State::Table(Table::open(query, columns, triggers.key, store, budget)?),
            Shape::Entities { .. } => State::Entities(Entities::open(query, store, budget)?),
        };
        let live = Self {
            triggers,
            budget,
            state,
        };
        if live.held() > budget.tuples {
            return Err(Refused::TooLarge(budget.tuples));
        }
        Ok(live)
    }

    /// Takes in what one change set did to the triples that show; `store` shows them already.
    pub fn apply<T: Triples + ?Sized>(&mut self, delta: &Delta, store: &T) -> Result<AnswerDelta, Lost> {
        let keys = Solver::new(store, &delta.removed, self.budget.fuel).candidates(&self.triggers, delta)?;
        if keys.is_empty() {
            return Ok(AnswerDelta::default());
        }
        let keys: Vec<Term> = keys.into_iter().collect();
        let answer = match &mut self.state {
            State::Table(table) => table.apply(&keys, store, self.budget)?,
            State::Entities(entities) => entities.apply(&keys, store, self.budget)?,
        };
        if self.held() > self.budget.tuples {
            return Err(Lost::TooLarge(self.budget.tuples));
        }
        Ok(answer)
    }

    /// The answer as it stands.
    pub fn answer(&self) -> Answer {
        self.mirror().answer()
    }

    /// What a consumer starts from.
    pub fn mirror(&self) -> Mirror {
        match &self.state {
            State::Table(table) => table.window.mirror(),
            State::Entities(entities) => entities.window.mirror(),
        }
    }

    /// Bindings and keys that it holds.
    pub fn held(&self) -> usize {
        match &self.state {
            State::Table(table) => table.held(),
            State::Entities(entities) => entities.held(),
        }
    }
}
