//! The rules of distance, without I/O: smoothing of round trips, and the order of replicas.

use std::{collections::VecDeque, time::Duration};

use halcyon_core::id::NodeId;

use crate::limits::{PROBES_LOST_MAX, ROUND_TRIPS_KEPT};

/// What probes of one peer have told. Reachable until proven otherwise, so that a start does not begin with an alarm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Track {
    smoothed: Option<Duration>,
    recent: VecDeque<Duration>,
    lost: u32,
}

impl Track {
    /// A probe came back. Smoothed like TCP's (RFC 6298): an eighth of the new, seven of the old.
    pub fn on_answer(&mut self, round_trip: Duration) {
        self.lost = 0;
        self.smoothed = Some(match self.smoothed {
            Some(old) => (old * 7 + round_trip) / 8,
            None => round_trip,
        });
        if self.recent.len() == ROUND_TRIPS_KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back(round_trip);
    }

    /// A probe was lost, or answered too late.
    pub fn on_lost(&mut self) {
        self.lost = self.lost.saturating_add(1);
    }

    /// The smoothed round trip; `None` before the first answer.
    pub fn round_trip(&self) -> Option<Duration> {
        self.smoothed
    }

    /// The smallest of the recent round trips: the path without queues.
    pub fn round_trip_min(&self) -> Option<Duration> {
        self.recent.iter().min().copied()
    }

    /// Whether it answers.
    pub fn is_reachable(&self) -> bool {
        self.lost < PROBES_LOST_MAX
    }
}

/// A replica that a client could go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// It serves reads and takes writes.
    pub serving: bool,
    /// It answers probes.
    pub reachable: bool,
    /// From the node that answers; zero for itself, `None` where it is not known.
    pub round_trip: Option<Duration>,
    /// It is in the tenant's home region.
    pub home: bool,
}

/// The best first: those that serve and answer, the nearest of them first, at equal distance the home region, then
/// by number, so that all nodes give one answer.
pub fn order(candidates: &mut [Candidate]) {
    candidates.sort_by_key(|candidate| {
        (
            !candidate.serving,
            !candidate.reachable,
            candidate.round_trip.is_none(),
            candidate.round_trip,
            !candidate.home,
            candidate.node,
        )
    });
}

/// The lead of a clock over most of the others: the middle one of its leads over each; of two in the middle the smaller,
/// so that one wrong clock of three accuses itself and no other.
pub(super) fn typical_lead(mut leads_ms: Vec<i64>) -> Option<i64> {
    leads_ms.sort_unstable();
    let last = leads_ms.len().checked_sub(1)?;
    let (low, high) = (leads_ms[last / 2], leads_ms[last.div_ceil(2)]);
    Some(if high.abs() < low.abs() { high } else { low })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn round_trips_are_smoothed_and_the_smallest_is_kept() {
        let mut track = Track::default();
        assert_eq!(track.round_trip(), None);
        track.on_answer(MS(80));
        assert_eq!(track.round_trip(), Some(MS(80)));
        track.on_answer(MS(160));
        assert_eq!(
            (track.round_trip(), track.round_trip_min()),
            (Some(MS(90)), Some(MS(80)))
        );
        for _ in 0..ROUND_TRIPS_KEPT {
            track.on_answer(MS(160));
        }
        assert_eq!(track.round_trip_min(), Some(MS(160)), "old round trips are forgotten");
    }

    #[test]
    fn some_lost_probes_in_a_row_make_a_peer_unreachable_and_one_answer_brings_it_back() {
        let mut track = Track::default();
        for _ in 0..PROBES_LOST_MAX {
            assert!(track.is_reachable());
            track.on_lost();
        }
        assert!(!track.is_reachable());
        track.on_answer(MS(1));
        assert!(track.is_reachable());
    }

    #[test]
    fn one_wrong_clock_of_three_accuses_itself() {
        for (leads, typical) in [
            (vec![], None),
            (vec![40_000], Some(40_000)),
            (vec![-3, 40_000], Some(-3)),
            (vec![-40_000, 3], Some(3)),
            (vec![40_001, 39_998], Some(39_998)),
            (vec![5, -90_000, 7], Some(5)),
        ] {
            assert_eq!(typical_lead(leads.clone()), typical, "{leads:?}");
        }
    }

    #[test]
    fn replicas_come_in_the_order_in_which_a_client_should_try_them() {
        //     serving reachable  ms       home
        let near = (true, true, Some(1), false);
        let far = (true, true, Some(90), true);
        let far_too = (true, true, Some(90), false);
        let unknown = (true, true, None, true);
        let dead = (true, false, Some(1), true);
        let joining = (false, true, Some(0), true);
        check(&[joining, dead, unknown, far_too, far, near], &[6, 5, 4, 3, 2, 1]);
        check(&[near, near, far, far], &[1, 2, 3, 4]);
    }

    /// Candidates have the numbers 1, 2, 3, … in the order given.
    #[track_caller]
    fn check(candidates: &[(bool, bool, Option<u64>, bool)], expected: &[u64]) {
        let mut candidates: Vec<Candidate> = (1..)
            .zip(candidates)
            .map(|(node, &(serving, reachable, ms, home))| Candidate {
                node: NodeId(node),
                serving,
                reachable,
                round_trip: ms.map(MS),
                home,
            })
            .collect();
        order(&mut candidates);
        let nodes: Vec<u64> = candidates.iter().map(|candidate| candidate.node.0).collect();
        assert_eq!(nodes, expected);
    }
}
