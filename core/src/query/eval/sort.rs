//! The order of an answer, its pages and its limit.
//!
//! Tuples are kept flat and sorted by place. With a limit of `k`, no more than some `2k` are held: O(n log k) for `n`.

use std::cmp::Ordering;

use super::context::{Context, EvalError};
use crate::query::triples::{Term, Triples};

/// Tuples beyond twice the limit before the hindmost are dropped.
const SLACK: usize = 64;

/// Tuples in an order.
#[derive(Debug)]
pub(super) struct Sorter {
    width: usize,
    /// Places of a tuple, and whether the greatest comes first there.
    keys: Vec<(usize, bool)>,
    /// Tuples up to this one are left out.
    after: Option<Vec<Term>>,
    limit: Option<usize>,
    /// What is not before this tuple is beyond the limit.
    worst: Option<Vec<Term>>,
    terms: Vec<Term>,
}

impl Sorter {
    pub(super) fn new(width: usize, keys: Vec<(usize, bool)>, after: Option<Vec<Term>>, limit: Option<usize>) -> Self {
        Self {
            width,
            keys,
            after,
            limit,
            worst: None,
            terms: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.terms.len() / self.width.max(1)
    }

    /// Whether a limit is reached.
    pub(super) fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.len() >= limit)
    }

    pub(super) fn push<T: Triples + ?Sized>(
        &mut self,
        tuple: &[Term],
        cx: &mut Context<'_, T>,
    ) -> Result<(), EvalError> {
        if let Some(after) = &self.after
            && order(&self.keys, tuple, after, cx) != Ordering::Greater
        {
            return Ok(());
        }
        if let Some(worst) = &self.worst
            && order(&self.keys, tuple, worst, cx) != Ordering::Less
        {
            return Ok(());
        }
        self.terms.extend_from_slice(tuple);
        match self.limit {
            Some(limit) if self.len() > 2 * limit + SLACK => self.cut(limit, cx),
            Some(_) => {}
            None => cx.hold(size_of_val(tuple))?,
        }
        Ok(())
    }

    fn cut<T: Triples + ?Sized>(&mut self, limit: usize, cx: &Context<'_, T>) {
        let places = self.places(cx);
        self.worst = limit.checked_sub(1).map(|last| self.tuple(places[last]).to_vec());
        let kept = places.into_iter().take(limit);
        self.terms = kept.flat_map(|place| self.tuple(place).to_vec()).collect();
    }

    fn tuple(&self, place: usize) -> &[Term] {
        &self.terms[place * self.width..][..self.width]
    }

    fn places<T: Triples + ?Sized>(&self, cx: &Context<'_, T>) -> Vec<usize> {
        let mut places: Vec<usize> = (0..self.len()).collect();
        places.sort_by(|a, b| order(&self.keys, self.tuple(*a), self.tuple(*b), cx));
        places
    }

    /// The tuples in their order, as many as the limit allows.
    pub(super) fn finish<T: Triples + ?Sized>(self, cx: &Context<'_, T>) -> Vec<Vec<Term>> {
        let mut places = self.places(cx);
        places.truncate(self.limit.unwrap_or(usize::MAX));
        places.into_iter().map(|place| self.tuple(place).to_vec()).collect()
    }
}

fn order<T: Triples + ?Sized>(keys: &[(usize, bool)], a: &[Term], b: &[Term], cx: &Context<'_, T>) -> Ordering {
    for &(at, descending) in keys {
        if a[at] == b[at] {
            continue;
        }
        let order = cx.compare_data(a[at], b[at]);
        if order.is_ne() {
            return if descending { order.reverse() } else { order };
        }
    }
    Ordering::Equal
}
