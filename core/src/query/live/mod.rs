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
//! 4. **Order, limit and cursor**: an index of keys of the order in memory; the window is its first `limit` keys behind
//!    the cursor. A change costs the depth of the index and the length of the window, whatever lies behind it. Of
//!    entities in an order by a field of their own, only a stretch is held, and read on where it runs out.
//! 5. **Objects** are held for the window alone; an include's trigger leads to the root, whose object is built again.
//! 6. **Rules**, recursive ones too, are relations that are followed by themselves ([`derived`]); a tuple that came or
//!    went is to the query what a changed triple is.
//!
//! Left out, and refused by [`Live::open`]: rules with aggregates, what only predicates' places bind (it has a text that
//! no triple holds as a value), a body without variables, and what outgrows its budget.
//!
//! # Sources
//!
//! Gupta, Mumick and Subrahmanian, "Maintaining Views Incrementally" (1993): counting, and `DRed`. Budiu et al., "DBSP"
//! (2023): operators as functions of deltas. Rocicorp's Zero: windows that are refilled from an order.
//!
//! # What always holds
//!
//! A store's terms, and the numbers of its predicates, stay what they are for as long as a query of it is followed.
//!
//! After each [`Live::apply`] that is `Ok`, [`Live::answer`] equals a fresh evaluation, and so does a consumer's
//! [`Mirror`] that took in each [`AnswerDelta`]. After an error the state is lost: open the query again.

mod coverage;
mod derived;
mod encoded;
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

use self::{
    coverage::TUPLE_BYTES,
    derived::{Derivation, Derived},
    entities::Entities,
    registry::Slots,
    solve::{Past, Solver},
    table::Table,
    trigger::Triggers,
};
use super::{
    answer::Answer,
    eval::{Budget, EvalError, Ground, Keyed},
    logic::{Filter, Query, Shape, Var},
    triples::{Term, Triples},
};
use crate::{graph::Delta, limits::needs_all_forms, value::Value};

pub use coverage::{Coverage, CoverageChange};
pub use registry::{LiveId, Registry};
pub use window::{AnswerDelta, Change, Item, Key, Mirror};

/// Why a query cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// It calls a rule with an aggregate.
    #[error("the rule {0} has an aggregate; it cannot be followed, aggregate in the query or ask once")]
    Rule(Arc<str>),
    /// Nothing but predicates' places bind what it rests on.
    #[error(
        "the query, or the head of a rule, rests on a variable that only stands in a predicate's place; it cannot be \
         followed, give the subject a variable too or ask once"
    )]
    PredicateVariable,
    /// Its body binds nothing.
    #[error("the query has no variable; it cannot be followed, give what it looks for a variable")]
    NoVariable,
    /// It holds too much.
    #[error("following the query takes more than {0} bindings; make it more selective")]
    TooLarge(usize),
    /// Its answer rests on too many entities.
    #[error(
        "the query's answer rests on more than {0} entities; make it more selective, or run it once instead (a table with \
         aggregates or a `limit` can be followed all the same, but for `collect`)"
    )]
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
    derived: Derived,
    budget: Budget,
    followed: Followed,
}

/// The same, over what rules derive.
#[derive(Debug)]
struct Followed {
    triggers: Triggers,
    state: State,
}

#[derive(Debug)]
enum State {
    Table(Table),
    Entities(Entities),
}

/// Bytes of a live query beside what it holds: its plans and triggers.
const LIVE_BYTES: usize = 8_192;

impl Live {
    /// Answers a query and keeps what following it takes.
    pub fn open<T: Triples + ?Sized>(query: &Query, store: &T, budget: Budget) -> Result<Self, Refused> {
        let derived = Derived::open(query, store, budget)?;
        let followed = Followed::open(query, store, derived.ground(budget))?;
        let live = Self {
            derived,
            budget,
            followed,
        };
        if live.held() > budget.tuples {
            return Err(Refused::TooLarge(budget.tuples));
        }
        Ok(live)
    }

    /// Takes in what one change set did to the triples that show; `store` shows them already.
    pub fn apply<T: Triples + ?Sized>(&mut self, delta: &Delta, store: &T) -> Result<AnswerDelta, Lost> {
        let derived = self.derived.apply(delta, store, self.budget)?;
        self.followed
            .apply((delta, &derived), store, self.derived.ground(self.budget))
    }

    /// The answer as it stands.
    pub fn answer(&self) -> Answer {
        self.mirror().answer()
    }

    /// What a consumer starts from.
    pub fn mirror(&self) -> Mirror {
        self.followed.mirror()
    }

    /// Reads a little of what [`Self::apply`] will read. What many queries keep lies far apart in memory: looked at
    /// together before one after the other is applied, all of it comes in about the time that one's takes. The sum means
    /// nothing; whoever asks keeps the compiler from leaving it out.
    pub fn warm(&self) -> usize {
        self.followed.warm()
    }

    /// Bindings and keys that it holds, and what rules derive.
    pub fn held(&self) -> usize {
        self.followed.held() + self.derived.held()
    }

    /// Rows that its answer has, or a few more: those before its cursor are counted where it has no limit.
    pub fn rows(&self) -> usize {
        match &self.followed.state {
            State::Table(table) => table.rows_held(),
            State::Entities(entities) => entities.window.shown(),
        }
    }

    /// About how many bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        let state = match &self.followed.state {
            State::Table(table) => table.bytes(),
            State::Entities(entities) => entities.bytes(),
        };
        LIVE_BYTES + state + self.derived.held() * TUPLE_BYTES
    }

    /// Where an index of triggers must look it up.
    fn slots<T: Triples + ?Sized>(&self, store: &T) -> Slots {
        Slots::of(
            [&self.followed.triggers].into_iter().chain(self.derived.triggers()),
            store,
        )
    }
}

impl Followed {
    fn open<T: Triples + ?Sized>(query: &Query, store: &T, ground: Ground<'_>) -> Result<Self, Refused> {
        let mut triggers = Triggers::of(query)?;
        triggers.meet(store);
        let state = match &query.select.shape {
            Shape::Table(columns) => {
                needs_all_forms();
                State::Table(Table::open((query, columns, triggers.key()), store, ground)?)
            }
            Shape::Entities { .. } => State::Entities(Entities::open(query, store, ground)?),
        };
        Ok(Self { triggers, state })
    }

    fn apply<T: Triples + ?Sized>(
        &mut self,
        (delta, derived): (&Delta, &Derivation),
        store: &T,
        ground: Ground<'_>,
    ) -> Result<AnswerDelta, Lost> {
        let past = Past {
            triples: &delta.removed,
            tuples: &derived.removed,
        };
        self.triggers.meet(store);
        let keys = Solver::new(store, ground, past).candidates(&self.triggers, delta, derived)?;
        if keys.is_empty() {
            return Ok(AnswerDelta::default());
        }
        let answer = match &mut self.state {
            State::Table(table) => {
                needs_all_forms();
                table.apply(&keys, store, ground)?
            }
            State::Entities(entities) => entities.apply(&keys, store, ground)?,
        };
        if self.held() > ground.budget.tuples {
            return Err(Lost::TooLarge(ground.budget.tuples));
        }
        Ok(answer)
    }

    fn mirror(&self) -> Mirror {
        match &self.state {
            State::Table(table) => table.mirror(),
            State::Entities(entities) => entities.window.mirror(),
        }
    }

    fn warm(&self) -> usize {
        let state = match &self.state {
            State::Table(table) => table.warm(),
            State::Entities(entities) => entities.warm(),
        };
        self.triggers.warm() + state
    }

    fn held(&self) -> usize {
        match &self.state {
            State::Table(table) => table.held(),
            State::Entities(entities) => entities.held(),
        }
    }
}
