//! Hashing terms, and sets of tuples of terms.
//!
//! A multiply and fold of each half, as in wyhash: terms differ in few bits, and the table takes its tags from the top.

use hashbrown::HashTable;

use crate::query::triples::Term;

const FIRST: u64 = 0xa076_1d64_78bd_642f;
const SECOND: u64 = 0xe703_7ed1_a0b4_28db;

/// The hash of a tuple.
pub(super) fn hash(terms: &[Term]) -> u64 {
    let mut state = FIRST;
    for term in terms {
        let (high, low) = term.halves();
        state = fold(state ^ high, low ^ SECOND);
    }
    state
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of a product")]
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128).wrapping_mul((b | 1) as u128);
    (product as u64) ^ (product >> 64) as u64
}

/// Different tuples of one width, in the order they came.
#[derive(Debug, Clone)]
pub(super) struct Tuples {
    width: usize,
    terms: Vec<Term>,
    len: usize,
    places: HashTable<u32>,
}

impl Tuples {
    pub(super) fn new(width: usize) -> Self {
        Self {
            width,
            terms: Vec::new(),
            len: 0,
            places: HashTable::new(),
        }
    }

    /// Puts a tuple in: its place, and whether it is new.
    pub(super) fn insert(&mut self, tuple: &[Term]) -> (usize, bool) {
        debug_assert_eq!(tuple.len(), self.width);
        let (width, terms) = (self.width, &self.terms);
        let of = |place: u32| &terms[place as usize * width..][..width];
        let found = self.places.find(hash(tuple), |place| of(*place) == tuple);
        if let Some(place) = found {
            return (*place as usize, false);
        }
        let place = u32::try_from(self.len).expect("limits::memory bounds the tuples");
        self.places.insert_unique(hash(tuple), place, |place| hash(of(*place)));
        self.terms.extend_from_slice(tuple);
        self.len += 1;
        (self.len - 1, true)
    }

    /// The place of a tuple.
    pub(super) fn find(&self, tuple: &[Term]) -> Option<usize> {
        let found = self
            .places
            .find(hash(tuple), |place| self.get(*place as usize) == tuple);
        found.map(|place| *place as usize)
    }

    pub(super) fn get(&self, place: usize) -> &[Term] {
        &self.terms[place * self.width..][..self.width]
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes that one more tuple takes, about.
    pub(super) const fn tuple_bytes(&self) -> usize {
        self.width * size_of::<Term>() + 8
    }
}
