//! Fingerprints: two replicas with equal vectors must show equal facts, and this is how they find out.
//!
//! The sum of a 128-bit hash of every live fact: a value that a register shows, or an element that is in. A sum does
//! not depend on order, and a fact that leaves is subtracted. Tombstones, removals and unset registers are left out,
//! because replicas collect those at different moments.

use uhlc::Timestamp;
use xxhash_rust::xxh3::Xxh3;

use crate::{
    clock::timestamp_to_bytes,
    id::{EntityId, Predicate},
};

/// The sum over a set of facts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u128);

/// Which part of a cell a fact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The register's value.
    Register,
    /// An element of the set.
    Element,
}

impl Fingerprint {
    /// The hash of one live fact. `value` is encoded.
    pub fn of(subject: &EntityId, predicate: &Predicate, part: Part, value: &[u8], timestamp: &Timestamp) -> Self {
        let mut hash = Xxh3::new();
        hash.update(&[subject.as_str().len().to_le_bytes()[0], part as u8]);
        hash.update(subject.as_str().as_bytes());
        // As wide on every machine: a browser's `usize` has 4 bytes.
        hash.update(&(predicate.as_str().len() as u64).to_le_bytes());
        hash.update(predicate.as_str().as_bytes());
        hash.update(&timestamp_to_bytes(timestamp));
        hash.update(value);
        Self(hash.digest128())
    }

    /// With a fact more, or a whole set of facts.
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// With a fact less.
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
