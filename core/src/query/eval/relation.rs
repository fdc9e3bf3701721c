//! Relations that rules derive: sets of tuples with hash indexes, made when a join asks for them. While a query is
//! evaluated they only grow; a live query also takes tuples out, which leaves a gap until there are many.

use std::cell::RefCell;

use hashbrown::HashTable;

use super::hash::{Tuples, hash};
use crate::{collections::BTreeSet, query::triples::Term};

/// Gaps that are left where they are, however small the relation.
const GAPS_MIN: usize = 1_024;

/// The tuples of a rule.
#[derive(Debug)]
pub(in crate::query) struct Relation {
    arity: usize,
    tuples: Tuples,
    /// Places whose tuple was taken out.
    gaps: BTreeSet<u32>,
    indexes: RefCell<Vec<Index>>,
    /// What the last round gained.
    gained: std::ops::Range<usize>,
}

/// The tuples by the terms in some columns: chains through `next`, the newest first.
#[derive(Debug)]
struct Index {
    columns: Vec<usize>,
    heads: HashTable<(u64, u32)>,
    next: Vec<u32>,
}

const END: u32 = u32::MAX;

impl Relation {
    pub(super) fn new(arity: usize) -> Self {
        Self {
            arity,
            tuples: Tuples::new(arity),
            gaps: BTreeSet::new(),
            indexes: RefCell::new(Vec::new()),
            gained: 0..0,
        }
    }

    /// True if it is new.
    pub(in crate::query) fn insert(&mut self, tuple: &[Term]) -> bool {
        let (place, is_new) = self.tuples.insert(tuple);
        is_new || (!self.gaps.is_empty() && self.gaps.remove(&number(place)))
    }

    /// Takes a tuple out, if it is there.
    pub(in crate::query) fn remove(&mut self, tuple: &[Term]) {
        if let Some(place) = self.tuples.find(tuple) {
            self.gaps.insert(number(place));
        }
        if self.gaps.len() > GAPS_MIN.max(self.tuples.len() / 2) {
            let mut dense = Self::new(self.arity);
            for place in self.places() {
                dense.insert(self.get(place as usize));
            }
            *self = dense;
        }
    }

    pub(in crate::query) fn contains(&self, tuple: &[Term]) -> bool {
        self.tuples
            .find(tuple)
            .is_some_and(|place| self.is_there(number(place)))
    }

    /// How many tuples there are.
    pub(in crate::query) fn count(&self) -> usize {
        self.tuples.len() - self.gaps.len()
    }

    /// The places of all tuples.
    pub(in crate::query) fn places(&self) -> impl Iterator<Item = u32> + '_ {
        (0..number(self.len())).filter(|place| self.is_there(*place))
    }

    fn is_there(&self, place: u32) -> bool {
        self.gaps.is_empty() || !self.gaps.contains(&place)
    }

    pub(in crate::query) fn get(&self, place: usize) -> &[Term] {
        self.tuples.get(place)
    }

    pub(super) const fn len(&self) -> usize {
        self.tuples.len()
    }

    pub(super) const fn tuple_bytes(&self) -> usize {
        self.tuples.tuple_bytes()
    }

    pub(super) fn gained(&self) -> std::ops::Range<usize> {
        self.gained.clone()
    }

    /// Ends a round: all that came since its start is what it gained. False if nothing did.
    pub(super) fn end_round(&mut self) -> bool {
        self.gained = self.gained.end..self.len();
        !self.gained.is_empty()
    }

    /// The places of the tuples that hold these terms in these columns, which ascend.
    pub(in crate::query) fn find(&self, columns: &[usize], terms: &[Term], out: &mut Vec<u32>) {
        let mut indexes = self.indexes.borrow_mut();
        let at = indexes.iter().position(|index| index.columns == columns);
        let at = at.unwrap_or_else(|| {
            indexes.push(Index {
                columns: columns.to_vec(),
                heads: HashTable::new(),
                next: Vec::new(),
            });
            indexes.len() - 1
        });
        let index = &mut indexes[at];
        index.catch_up(&self.tuples);
        let key = hash(terms);
        let mut place = index
            .heads
            .find(key, |(held, _)| *held == key)
            .map_or(END, |(_, place)| *place);
        while place != END {
            let tuple = self.get(place as usize);
            if columns.iter().zip(terms).all(|(column, term)| tuple[*column] == *term) && self.is_there(place) {
                out.push(place);
            }
            place = index.next[place as usize];
        }
    }
}

fn number(place: usize) -> u32 {
    u32::try_from(place).expect("the memory limit bounds the tuples")
}

impl Index {
    fn catch_up(&mut self, tuples: &Tuples) {
        let mut terms = Vec::with_capacity(self.columns.len());
        for place in self.next.len()..tuples.len() {
            let tuple = tuples.get(place);
            terms.clear();
            terms.extend(self.columns.iter().map(|column| tuple[*column]));
            let key = hash(&terms);
            let number = number(place);
            if let Some((_, head)) = self.heads.find_mut(key, |(held, _)| *held == key) {
                self.next.push(*head);
                *head = number;
            } else {
                self.next.push(END);
                self.heads.insert_unique(key, (key, number), |(held, _)| *held);
            }
        }
    }
}
