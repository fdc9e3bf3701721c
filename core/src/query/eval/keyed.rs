//! Answers for some values of one variable, or of several, asked for again and again: what live queries derive anew
//! after a change.
//!
//! The plan starts from those values, and is kept. It may run against any state of a store, but it is good only for counts
//! like those it was made for. So it is made anew once its runs have taken as many steps as some hundred plannings take:
//! planning stays a small part of all, and a plan that has become bad does not stay for long. A body about nothing but its
//! key needs no plan ([`Star`]).

use std::sync::Arc;

use super::{Budget, EvalError, batch::BATCH, context::Context, relation::Relation, select::SelectRun, star::Star};
use crate::collections::BTreeSet;
use crate::query::{
    answer::{Datum, Object},
    logic::{Query, Shape, Var},
    plan::{Column, Plan, plan, plan_from},
    triples::{EntityNumber, Term, Triples},
};

/// Steps of its runs for which a plan is kept. Planning costs some hundred.
const KEEP_STEPS: u64 = 50_000;

/// What evaluations for a live query may cost, and what its rules derive.
#[derive(Debug, Clone, Copy)]
pub(in crate::query) struct Ground<'r> {
    /// What one may cost.
    pub(in crate::query) budget: Budget,
    /// By rule.
    pub(in crate::query) relations: &'r [Relation],
}

/// A query whose answer is asked for by values of one variable. Neither order nor limit count: rows come as they are
/// found.
#[derive(Debug)]
pub(in crate::query) struct Keyed {
    /// None once it is never needed again.
    query: Option<Arc<Query>>,
    keys: Box<[Column]>,
    star: Option<Box<Star>>,
    plan: Option<Box<Plan>>,
    /// Steps that its runs took.
    spent: u64,
}

/// Rows of terms, one behind the other.
#[derive(Debug, Default)]
pub(in crate::query) struct Found {
    /// Terms of a row: the columns of a table, or the entity.
    pub(in crate::query) width: usize,
    /// All of them.
    pub(in crate::query) terms: Vec<Term>,
}

/// Rows of data, one behind the other.
#[derive(Debug, Default)]
pub(in crate::query) struct Data {
    /// The term in one column of each row.
    pub(in crate::query) keys: Vec<Term>,
    /// All of them.
    pub(in crate::query) data: Vec<Datum>,
}

impl Found {
    /// Row by row.
    pub(in crate::query) fn rows(&self) -> impl Iterator<Item = &[Term]> {
        self.terms.chunks_exact(self.width.max(1))
    }
}

impl Keyed {
    /// Plans nothing yet.
    pub(in crate::query) fn new(query: Query, key: Var) -> Self {
        Self::of_tuples(query, &[key])
    }

    /// The same for tuples of values of several variables, one behind the other wherever values are given.
    pub(in crate::query) fn of_tuples(query: Query, keys: &[Var]) -> Self {
        let keys: Box<[Column]> = keys.iter().map(|key| Column(key.0)).collect();
        Self {
            star: Star::of(&query, &keys).map(Box::new),
            query: Some(Arc::new(query)),
            keys,
            plan: None,
            spent: 0,
        }
    }

    /// All rows, or objects, will not be asked for any more, only rows for given values: lets go of what that needs.
    pub(in crate::query) fn narrow(&mut self) {
        if self.star.is_some() {
            self.query = None;
        }
    }

    /// Whether it needs a plan for given values.
    pub(in crate::query) const fn is_planned(&self) -> bool {
        self.star.is_none()
    }

    /// The rows for some values, each of which is given once; or all rows.
    pub(in crate::query) fn find<T: Triples + ?Sized>(
        &mut self,
        keys: Option<&[Term]>,
        store: &T,
        ground: Ground<'_>,
    ) -> Result<Found, EvalError> {
        if let (Some(star), Some(keys)) = (&mut self.star, keys) {
            let terms = star.rows(keys, store, ground.budget)?;
            let width = star.width();
            return failed_or(Found { width, terms }, store);
        }
        let mut found = Found::default();
        self.run(keys, store, ground, |select, cx, relations| {
            found.width = select.width();
            let (mut seen, mut some) = (None, Vec::new());
            while select.stream(&mut seen, cx, relations, &mut some)? {
                found.terms.append(&mut some);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The same as data, with the term in one column of each row.
    pub(in crate::query) fn data<T: Triples + ?Sized>(
        &mut self,
        keys: Option<&[Term]>,
        column: usize,
        store: &T,
        ground: Ground<'_>,
    ) -> Result<Data, EvalError> {
        let mut found = Data::default();
        if let (Some(star), Some(keys)) = (&mut self.star, keys) {
            let terms = star.rows(keys, store, ground.budget)?;
            let rows = terms.chunks_exact(star.width().max(1));
            found.keys = rows.map(|row| row[column]).collect();
            found.data = terms.iter().map(|term| Datum::Value(store.value(*term))).collect();
            return failed_or(found, store);
        }
        self.run(keys, store, ground, |select, cx, relations| {
            let (width, mut seen, mut some) = (select.width(), None, Vec::new());
            while select.stream(&mut seen, cx, relations, &mut some)? {
                found
                    .keys
                    .extend(some.chunks_exact(width.max(1)).map(|row| row[column]));
                found.data.extend(some.iter().map(|term| cx.datum(*term)));
                some.clear();
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Reads a little of what a look at some keys will read.
    pub(in crate::query) fn warm(&self) -> usize {
        self.star.as_ref().map_or(0, |star| star.warm())
    }

    /// The objects of entities that are known to be found.
    pub(in crate::query) fn objects<T: Triples + ?Sized>(
        &mut self,
        entities: &[EntityNumber],
        store: &T,
        ground: Ground<'_>,
    ) -> Result<Vec<Object>, EvalError> {
        let Shape::Entities { entity, .. } = self.query().select.shape else {
            return Ok(Vec::new());
        };
        let mut objects = Vec::new();
        self.run(Some(&[]), store, ground, |select, cx, relations| {
            objects = select.objects(Column(entity.0), entities, cx, relations)?;
            Ok(())
        })?;
        Ok(objects)
    }

    fn run<'s, T: Triples + ?Sized>(
        &mut self,
        keys: Option<&[Term]>,
        store: &'s T,
        ground: Ground<'_>,
        mut take: impl FnMut(&mut SelectRun<'_>, &mut Context<'s, T>, &[Relation]) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        let whole;
        let plan = if keys.is_some() {
            if self.spent > KEEP_STEPS {
                (self.plan, self.spent) = (None, 0);
            }
            if self.plan.is_none() {
                let seed: BTreeSet<Column> = self.keys.iter().copied().collect();
                self.plan = Some(Box::new(plan_from(Arc::clone(self.query()), &seed, store)));
            }
            self.plan.as_deref().expect("it was made")
        } else {
            whole = plan(Arc::clone(self.query()), store);
            &whole
        };
        let mut cx = Context::new(store, ground.budget, None, plan.steps);
        let relations = ground.relations;
        let mut select = SelectRun::new(&plan.select, &cx);
        match keys {
            None => {
                select.feed_all();
                take(&mut select, &mut cx, relations)?;
            }
            Some([]) => take(&mut select, &mut cx, relations)?,
            Some(keys) => {
                for keys in keys.chunks(BATCH * self.keys.len()) {
                    select.feed_keys(&self.keys, keys);
                    take(&mut select, &mut cx, relations)?;
                }
            }
        }
        self.spent += cx.spent();
        failed_or((), store)
    }

    fn query(&self) -> &Arc<Query> {
        self.query.as_ref().expect("who narrows it asks for no more")
    }
}

/// What a store gave, if it did not fail meanwhile.
fn failed_or<R, T: Triples + ?Sized>(found: R, store: &T) -> Result<R, EvalError> {
    store.failure().map_or(Ok(found), |failure| Err(failure.into()))
}
