//! Batches: some bindings, column by column.

use crate::query::{plan::Column, triples::Term};

/// Bindings that a step gives at once, about.
pub(super) const BATCH: usize = 1_024;

/// Some bindings. A column that nothing reads any more is empty.
#[derive(Debug, Clone, Default)]
pub(super) struct Batch {
    columns: Vec<Vec<Term>>,
    /// How often each binding counts. Empty: once.
    pub(super) weights: Vec<u64>,
    pub(super) len: usize,
}

impl Batch {
    /// One binding of nothing.
    pub(super) fn unit(width: usize) -> Self {
        Self {
            columns: vec![Vec::new(); width],
            weights: Vec::new(),
            len: 1,
        }
    }

    /// No binding.
    pub(super) fn empty(width: usize) -> Self {
        Self {
            len: 0,
            ..Self::unit(width)
        }
    }

    #[inline]
    pub(super) fn column(&self, column: Column) -> &[Term] {
        &self.columns[column.0 as usize]
    }

    /// Whether the column is there.
    #[inline]
    pub(super) fn has(&self, column: Column) -> bool {
        self.columns
            .get(column.0 as usize)
            .is_some_and(|terms| terms.len() == self.len)
    }

    pub(super) fn set(&mut self, column: Column, terms: Vec<Term>) {
        debug_assert_eq!(terms.len(), self.len);
        self.columns[column.0 as usize] = terms;
    }

    #[inline]
    pub(super) fn get(&self, column: Column, at: usize) -> Term {
        self.columns[column.0 as usize][at]
    }

    #[inline]
    pub(super) fn weight(&self, at: usize) -> u64 {
        self.weights.get(at).copied().unwrap_or(1)
    }

    /// The bindings at these places, with these columns, where they are here.
    pub(super) fn gather(&self, picks: &[u32], keep: &[Column], width: usize) -> Self {
        let mut out = Self::empty(width);
        out.len = picks.len();
        for column in keep.iter().filter(|column| self.has(**column)) {
            let from = self.column(*column);
            out.columns[column.0 as usize] = picks.iter().map(|at| from[*at as usize]).collect();
        }
        if !self.weights.is_empty() {
            out.weights = picks.iter().map(|at| self.weights[*at as usize]).collect();
        }
        out
    }

    /// The same bindings with these columns only.
    pub(super) fn project(mut self, keep: &[Column], width: usize) -> Self {
        let mut out = Self::empty(width);
        out.len = self.len;
        for column in keep {
            let terms = std::mem::take(&mut self.columns[column.0 as usize]);
            if terms.len() == self.len {
                out.columns[column.0 as usize] = terms;
            }
        }
        out.weights = self.weights;
        out
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }
}
