//! Merge: which of two writes a cell keeps. A join: commutative, associative, idempotent.
//!
//! A cell is a register and a set of elements. The later timestamp wins; ties are decided by content, so that replicas
//! agree even about a faulty client: the larger value, and for an element its removal. Of two equal writes the smaller
//! tag stays, so that the state is a function of what was taken in and not of the order. A register write hides every
//! element with a smaller timestamp, for good. A tombstone beats everything.
//!
//! Last writer wins per field as in Cassandra and in Shapiro et al., "A comprehensive study of CRDTs" (2011).

use std::cmp::Ordering;

use uhlc::Timestamp;

use crate::{id::Tag, value::Value};

/// What a cell shows if it has no elements: the last register write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// When it was written.
    pub timestamp: Timestamp,
    /// What was written; `None` is `unset`.
    pub value: Option<Value>,
    /// The commit that brought it.
    pub tag: Tag,
}

/// One element of a cell's set: that it was put in, or taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element {
    /// When it was written.
    pub timestamp: Timestamp,
    /// In, or out.
    pub present: bool,
    /// The commit that brought it.
    pub tag: Tag,
}

/// What becomes of the fact that is held when another arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It stays. The other was older, smaller, or the same fact with a larger tag.
    Stays,
    /// The other takes its place.
    Replaced,
    /// The other is the same fact with a smaller tag: only the tag changes.
    Retagged,
}

impl Outcome {
    pub(crate) const fn of(held_against_other: Ordering, held: Tag, other: Tag) -> Self {
        match held_against_other {
            Ordering::Less => Self::Replaced,
            Ordering::Equal if smaller(other, held) => Self::Retagged,
            Ordering::Greater | Ordering::Equal => Self::Stays,
        }
    }
}

const fn smaller(a: Tag, b: Tag) -> bool {
    let (x, y) = (a.origin, b.origin);
    if x.node.0 != y.node.0 {
        return x.node.0 < y.node.0;
    }
    if x.incarnation != y.incarnation {
        return x.incarnation < y.incarnation;
    }
    a.seq.0 < b.seq.0
}

impl Register {
    /// What becomes of this register when `other` arrives.
    pub fn meet(&self, other: &Self) -> Outcome {
        let order = self
            .timestamp
            .cmp(&other.timestamp)
            .then_with(|| self.value.cmp(&other.value));
        Outcome::of(order, self.tag, other.tag)
    }

    /// Whether this write hides an element written at `timestamp`. One change set may write both.
    pub fn hides(&self, timestamp: &Timestamp) -> bool {
        *timestamp < self.timestamp
    }
}

impl Element {
    /// What becomes of this element when `other`, a write of the same element, arrives.
    pub fn meet(&self, other: &Self) -> Outcome {
        let order = self
            .timestamp
            .cmp(&other.timestamp)
            .then_with(|| other.present.cmp(&self.present));
        Outcome::of(order, self.tag, other.tag)
    }
}

/// What becomes of a tombstone when another for the same entity arrives: all keep the one with the smaller tag.
pub const fn meet_tombstones(held: Tag, other: Tag) -> Outcome {
    Outcome::of(Ordering::Equal, held, other)
}
