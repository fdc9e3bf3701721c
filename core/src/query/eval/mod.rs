//! The evaluator: runs plans over any store that answers as [`Triples`] does.
//!
//! - Bindings travel in batches of columns of 16-byte terms; a step asks for a batch when it needs one, so answers stream
//!   and a limit stops the work behind it (after Graefe, "Volcano", 1994, and Boncz et al., "MonetDB/X100", 2005).
//! - What must be held is what the query means: groups, distinct tuples, derived relations, what a sort without an index
//!   looks at (with a limit `k`, `2k` tuples). Fuel, tuples and bytes are limited by a [`Budget`]; a caller's deadline is
//!   asked for between batches.
//! - It takes no time and draws no number: a plan over a state gives the same answer, in the same order, everywhere.

mod batch;
mod context;
mod filter;
mod group;
mod hash;
mod keyed;
mod lookup;
mod object;
mod relation;
mod rules;
mod run;
mod select;
mod sort;
mod star;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use context::{Budget, EvalError, Interrupt};
pub(in crate::query) use keyed::{Data, Ground, Keyed};
pub(in crate::query) use relation::Relation;

use self::{context::Context, hash::Tuples, select::SelectRun};
use super::{
    answer::{Answer, Datum, Row, Rows},
    plan::{Counters, Plan},
    triples::{Term, Triples},
};

/// An answer, and what it took.
#[derive(Debug, Clone)]
pub struct Evaluated {
    /// The answer.
    pub answer: Answer,
    /// What each step gave.
    pub counters: Counters,
}

/// Answers a query, whole and in its order.
pub fn evaluate<T: Triples + ?Sized>(
    plan: &Plan,
    store: &T,
    budget: Budget,
    interrupt: Option<Interrupt<'_>>,
) -> Result<Evaluated, EvalError> {
    let mut cx = Context::new(store, budget, interrupt, plan.steps);
    let relations = rules::derive(plan, &mut cx)?;
    let answer = SelectRun::new(&plan.select, &cx).answer(&[], &mut cx, &relations)?;
    if let Some(failure) = store.failure() {
        return Err(failure.into());
    }
    Ok(Evaluated {
        answer,
        counters: counters(&cx),
    })
}

/// The entities that an entity query finds, in their order, over what its rules derive.
pub(in crate::query) fn entities_over<T: Triples + ?Sized>(
    plan: &Plan,
    store: &T,
    ground: Ground<'_>,
) -> Result<Vec<Term>, EvalError> {
    let mut cx = Context::new(store, ground.budget, None, plan.steps);
    let found = SelectRun::new(&plan.select, &cx).entities(&mut cx, ground.relations)?;
    store.failure().map_or(Ok(found), |failure| Err(failure.into()))
}

/// What the rules of a query derive.
pub(in crate::query) fn derive<T: Triples + ?Sized>(
    plan: &Plan,
    store: &T,
    budget: Budget,
) -> Result<Vec<Relation>, EvalError> {
    let mut cx = Context::new(store, budget, None, plan.steps);
    let relations = rules::derive(plan, &mut cx)?;
    store.failure().map_or(Ok(relations), |failure| Err(failure.into()))
}

fn counters<T: Triples + ?Sized>(cx: &Context<'_, T>) -> Counters {
    Counters {
        steps: cx.counts.clone(),
        fuel: cx.spent(),
        bytes: cx.held_bytes(),
    }
}

/// The tuples of a table, a batch at a time, as they are found. Where the query asks for an order, a page or groups,
/// they come in the order of the answer; else in any, and the first come before the last are looked for.
pub struct Stream<'p, 'a, T: ?Sized> {
    cx: Context<'a, T>,
    relations: Vec<Relation>,
    select: SelectRun<'p>,
    whole: Option<Vec<Row>>,
    seen: Option<Tuples>,
    terms: Vec<Term>,
}

impl<T: ?Sized> std::fmt::Debug for Stream<'_, '_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("select", &self.select)
            .finish_non_exhaustive()
    }
}

impl<'p, 'a, T: Triples + ?Sized> Stream<'p, 'a, T> {
    /// Starts to answer a query for a table; one for entities has no tuples.
    pub fn new(
        plan: &'p Plan,
        store: &'a T,
        budget: Budget,
        interrupt: Option<Interrupt<'a>>,
    ) -> Result<Self, EvalError> {
        let mut cx = Context::new(store, budget, interrupt, plan.steps);
        let relations = rules::derive(plan, &mut cx)?;
        let mut select = SelectRun::new(&plan.select, &cx);
        let whole = if select.start_stream() {
            None
        } else {
            match select.answer(&[], &mut cx, &relations)?.rows {
                Rows::Table { rows, .. } => Some(rows),
                Rows::Entities(_) => Some(Vec::new()),
            }
        };
        if let Some(failure) = store.failure() {
            return Err(failure.into());
        }
        Ok(Self {
            cx,
            relations,
            select,
            whole,
            seen: None,
            terms: Vec::new(),
        })
    }

    /// The next tuples as terms, one behind the other, [`Self::width`] to each; `None` at the end. What is not asked for
    /// by [`Self::datum`] is never read from the dictionary. Not for an answer in an order or in groups: that has no
    /// more than [`Self::next_tuples`].
    pub fn next_terms(&mut self) -> Result<Option<&[Term]>, EvalError> {
        if self.whole.is_some() {
            return Ok(None);
        }
        while self.fill()? {
            if !self.terms.is_empty() {
                return Ok(Some(&self.terms));
            }
        }
        match self.cx.store.failure() {
            Some(failure) => Err(failure.into()),
            None => Ok(None),
        }
    }

    /// Columns of a tuple.
    pub fn width(&self) -> usize {
        self.select.width()
    }

    /// What a term shows.
    pub fn datum(&self, term: Term) -> Datum {
        self.cx.datum(term)
    }

    /// The next tuples; `None` at the end.
    pub fn next_tuples(&mut self) -> Result<Option<Vec<Row>>, EvalError> {
        if let Some(whole) = &mut self.whole {
            let rest = std::mem::take(whole);
            return Ok((!rest.is_empty()).then_some(rest));
        }
        if self.next_terms()?.is_none() {
            return Ok(None);
        }
        let tuples = self.terms.chunks_exact(self.width());
        let data = |tuple: &[Term]| tuple.iter().map(|term| self.datum(*term)).collect();
        let rows = tuples.map(data).collect();
        // What was found, or read from the dictionary, after the store had failed is nothing to show.
        match self.cx.store.failure() {
            Some(failure) => Err(failure.into()),
            None => Ok(Some(rows)),
        }
    }

    fn fill(&mut self) -> Result<bool, EvalError> {
        self.terms.clear();
        let (select, seen) = (&mut self.select, &mut self.seen);
        select.stream(seen, &mut self.cx, &self.relations, &mut self.terms)
    }

    /// What each step has given so far.
    pub fn counters(&self) -> Counters {
        counters(&self.cx)
    }
}

/// Plans and answers in one.
pub fn answer<T: Triples + ?Sized>(query: &Arc<super::logic::Query>, store: &T) -> Result<Answer, EvalError> {
    let plan = super::plan::plan(Arc::clone(query), store);
    Ok(evaluate(&plan, store, Budget::default(), None)?.answer)
}
