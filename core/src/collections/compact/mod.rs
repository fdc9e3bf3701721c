//! Ordered maps and sets in little code: sorted runs of entries, in the order of their keys.
//!
//! A key is found by two binary searches, among runs and in one. A run that is full is cut into two, and one that is
//! empty goes, so an insertion moves at most [`RUN_MAX`] entries and a pointer for each run. The names of methods, and
//! what they do, are those of `std::collections::BTreeMap`; only those are here that somebody uses.

mod entry;
mod iter;
mod map;
mod set;
#[cfg(test)]
mod tests;

pub use self::{
    entry::{Entry, OccupiedEntry, VacantEntry},
    iter::{Iter, Range},
    map::Map,
    set::Set,
};

/// Entries of one run. As many as are moved faster than another run is looked up.
const RUN_MAX: usize = 64;

/// Where an entry is, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Spot {
    run: usize,
    at: usize,
}
