//! The links between regions as they should be: every ground makes its wires obey this one table.
//!
//! A link has a direction, from the node (or the clients beside it) at one place to the node at another.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Milliseconds there and back between [`REGIONS`]: IBM Cloud, "Network latency dashboards" of its VPC documentation,
/// average of 28 September to 27 October 2024 (github.com/ibm-cloud-docs/vpc,
/// `_include-segments/network-latency.md`). The simulator's topology has the whole table.
const ROUND_TRIPS_MS: [[u64; 3]; 3] = [[2, 92, 231], [92, 2, 169], [231, 169, 2]];

/// Frankfurt, Washington, Tokyo. Nodes stand in them in turn.
pub(super) const REGIONS: [&str; 3] = ["eu-de", "us-east", "jp-tok"];

/// How much a hop varies, in parts of its latency: what a quiet long-haul link shows.
const JITTER_PART: u32 = 20;

/// The region of a node by its place.
pub(super) fn region_of(node: usize) -> &'static str {
    REGIONS[node % REGIONS.len()]
}

/// One direction between two places.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Link {
    /// One way.
    pub(super) latency: Duration,
    /// Up to this much more, at random.
    pub(super) jitter: Duration,
    /// Packets lost, in a thousand.
    pub(super) loss_permille: u16,
    /// `None`: as fast as the machine.
    pub(super) bytes_per_second: Option<u64>,
    /// Nothing passes, and nobody is told.
    pub(super) cut: bool,
}

impl Link {
    /// The link between two places when nothing is wrong.
    fn healthy(from: usize, to: usize) -> Self {
        let round_trip = ROUND_TRIPS_MS[from % REGIONS.len()][to % REGIONS.len()];
        let latency = Duration::from_millis(round_trip) / 2;
        Self {
            latency,
            jitter: latency / JITTER_PART,
            loss_permille: 0,
            bytes_per_second: None,
            cut: false,
        }
    }
}

/// All links, shared with whoever carries bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Links(Arc<Mutex<BTreeMap<(usize, usize), Link>>>);

impl Links {
    /// One direction.
    pub(super) fn get(&self, from: usize, to: usize) -> Link {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table
            .get(&(from, to))
            .copied()
            .unwrap_or_else(|| Link::healthy(from, to))
    }

    /// Changes one direction.
    pub(super) fn change(&self, from: usize, to: usize, change: impl FnOnce(&mut Link)) {
        let mut link = self.get(from, to);
        change(&mut link);
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.insert((from, to), link);
    }

    /// All links are healthy again.
    pub(super) fn heal(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_a_direction_and_heals() {
        let links = Links::default();
        links.change(0, 1, |link| link.cut = true);
        assert!(links.get(0, 1).cut && !links.get(1, 0).cut);
        assert_eq!(links.get(1, 0).latency, Duration::from_millis(46));
        links.heal();
        assert!(!links.get(0, 1).cut);
    }

    #[test]
    fn the_table_is_symmetric() {
        for (from, row) in ROUND_TRIPS_MS.iter().enumerate() {
            for (to, round_trip) in row.iter().enumerate() {
                assert_eq!(*round_trip, ROUND_TRIPS_MS[to][from]);
            }
        }
    }
}
