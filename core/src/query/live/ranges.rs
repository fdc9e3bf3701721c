//! Which of many ranges a point lies in.
//!
//! An interval tree (Edelsbrunner, 1980) whose tree is the binary trie over the points and is never built: a range
//! belongs to the longest prefix that its ends share, so it lies over the middle of that prefix's points. A point asks the
//! node of each of its prefixes, of lengths that occur, and there goes through ends in order as far as they hold it. So
//! it pays for what it finds, and a step for each length.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    ops::Bound,
};

use super::registry::LiveId;
use crate::collections::BTreeSet;

/// Points have fewer bits than this ([`crate::graph::Term::order_key`]).
const LEVELS: usize = 68;

/// Ranges of points, both ends included.
#[derive(Debug)]
pub(super) struct Ranges {
    /// By how many of the last bits are open, and the bits before them.
    nodes: HashMap<(u32, u128), Node, BuildHasherDefault<Folded>>,
    /// How many nodes each level has.
    levels: [u32; LEVELS],
}

/// A hash of two multiplications: a point asks for some twenty nodes.
#[derive(Debug, Default)]
struct Folded(u64);

impl Folded {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of a product")]
    fn fold(&mut self, part: u64) {
        let product = u128::from(self.0 ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.fold(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 ^= u64::from(number) << 32;
    }

    #[expect(clippy::cast_possible_truncation, reason = "the two halves, one after the other")]
    fn write_u128(&mut self, number: u128) {
        self.fold(number as u64);
        self.fold((number >> 64) as u64);
    }
}

#[derive(Debug, Default)]
struct Node {
    by_first: BTreeSet<(u128, LiveId)>,
    by_last: BTreeSet<(u128, LiveId)>,
}

impl Default for Ranges {
    fn default() -> Self {
        Self {
            nodes: HashMap::default(),
            levels: [0; LEVELS],
        }
    }
}

impl Ranges {
    pub(super) fn insert(&mut self, (first, last): (u128, u128), id: LiveId) {
        let (level, prefix) = node_of(first, last);
        let node = self.nodes.entry((level, prefix)).or_insert_with(|| {
            self.levels[level as usize] += 1;
            Node::default()
        });
        node.by_first.insert((first, id));
        node.by_last.insert((last, id));
    }

    pub(super) fn remove(&mut self, (first, last): (u128, u128), id: LiveId) {
        let (level, prefix) = node_of(first, last);
        let Some(node) = self.nodes.get_mut(&(level, prefix)) else {
            return;
        };
        node.by_first.remove(&(first, id));
        node.by_last.remove(&(last, id));
        if node.by_first.is_empty() {
            self.nodes.remove(&(level, prefix));
            self.levels[level as usize] -= 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Shows the ranges in which the point lies.
    pub(super) fn show(&self, point: u128, show: &mut impl FnMut(LiveId)) {
        for level in (0_u32..)
            .zip(&self.levels)
            .filter(|(_, nodes)| **nodes > 0)
            .map(|(at, _)| at)
        {
            let Some(node) = self.nodes.get(&(level, point >> level)) else {
                continue;
            };
            let is_behind_middle = level == 0 || point >> (level - 1) & 1 == 1;
            if is_behind_middle {
                let from = (point, LiveId(0));
                let ends = node.by_last.range((Bound::Included(from), Bound::Unbounded));
                ends.for_each(|(_, id)| show(*id));
            } else {
                let to = (point, LiveId(u64::MAX));
                let starts = node.by_first.range((Bound::Unbounded, Bound::Included(to)));
                starts.for_each(|(_, id)| show(*id));
            }
        }
    }
}

/// The level and the prefix of a range: all bits from the first in which its ends differ are open.
const fn node_of(first: u128, last: u128) -> (u32, u128) {
    let level = u128::BITS - (first ^ last).leading_zeros();
    (level, first >> level)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn point() -> impl Strategy<Value = u128> {
        prop_oneof![0..20_u128, (1 << 66)..(1 << 66) + 20_u128, Just((1 << 67) - 1)]
    }

    proptest! {
        #[test]
        fn a_point_finds_the_ranges_that_it_lies_in(
            ranges in proptest::collection::vec((point(), point(), any::<bool>()), 0..40),
            points in proptest::collection::vec(point(), 1..20),
        ) {
            let mut index = Ranges::default();
            let ranges: Vec<(u128, u128, bool)> = ranges.into_iter().map(|(a, b, stays)| (a.min(b), a.max(b), stays)).collect();
            for (id, (first, last, _)) in (0..).zip(&ranges) {
                index.insert((*first, *last), LiveId(id));
            }
            for (id, (first, last, _)) in (0..).zip(&ranges).filter(|(_, (_, _, stays))| !stays) {
                index.remove((*first, *last), LiveId(id));
            }
            for point in points {
                let mut found = BTreeSet::new();
                index.show(point, &mut |id| {
                    found.insert(id);
                });
                let lies_in = |(first, last, stays): &(u128, u128, bool)| *stays && (*first..=*last).contains(&point);
                let all = (0..).zip(&ranges).filter(|(_, range)| lies_in(range));
                let all: BTreeSet<LiveId> = all.map(|(id, _)| LiveId(id)).collect();
                prop_assert_eq!(found, all);
            }
            for (id, (first, last, _)) in (0..).zip(&ranges) {
                index.remove((*first, *last), LiveId(id));
            }
            prop_assert!(index.is_empty());
        }
    }
}
