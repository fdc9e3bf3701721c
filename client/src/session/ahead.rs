//! Sets whose timestamps are ahead of a node's clock: which of them are stamped again, and when.
//!
//! A timestamp may only change while no node can have taken the set. Of a set that was never pushed, or whose every push
//! was answered, that is certain. Where an answer was lost, a node that took it must have had a clock within `drift_max`
//! of the timestamp; no later message tells how far from each other the clocks of two nodes are, or were when a push that
//! nobody waits for any more arrived, or how large the setting was then. So neither `drift_max` nor any one node's clock
//! proves that none took it: such a set keeps its bytes, and waits until the refusing node's clock has come near, unless
//! it is so far ahead that the clocks of two nodes cannot be that far apart ([`NODES_APART_MAX`]).
//!
//! That wait is as long as the device's clock is ahead, and every later write waits behind it. So a set does not get into
//! it: what a node would refuse, by the clock that it showed when it was greeted, is stamped again *before* it is pushed
//! for the first time ([`Session::before_push`]). This needs no bound on anybody's clock, as nobody has seen the set; a
//! greeting that is wrong by now only means that the node refuses the set after all, or that it was stamped again in vain.
//!
//! To stamp again sets the clock back. So meanwhile no set may be on its way from its stamp to the queue: it would keep a
//! timestamp that is given again, and stand behind earlier ones in the queue that come later in time. Whoever calls sees
//! to that.

use std::time::Duration;

use halcyon_core::clock::{NTP64, Timestamp, WallTime};

use super::{Moment, Session, Stored, Waiting, stamps::NODES_APART_MAX};

/// A node's clock, as a client knows it.
#[derive(Debug, Clone, Copy)]
pub struct NodeClock {
    /// What it shows now, at the most.
    pub wall: WallTime,
    /// How far ahead of it a timestamp may be.
    pub drift_max: Duration,
}

impl Session {
    /// Takes note of a node's clock. Answers whether [`Self::before_push`] has anything to do.
    pub(crate) fn note_clock(&mut self, node: NodeClock) -> bool {
        self.drift_max = node.drift_max;
        let would_be_refused = |timestamp: &Timestamp| ahead(timestamp, node.wall) > node.drift_max;
        let first = self.first_to_stamp(node.wall);
        // Behind a set that keeps a timestamp too far ahead, new ones would be as far ahead.
        let before = first.checked_sub(1).map(|last| &self.waiting[last].timestamp);
        let is_needed = |set: &Waiting| !set.uncertain && would_be_refused(&set.timestamp);
        !before.is_some_and(would_be_refused) && self.waiting.iter().skip(first).any(is_needed)
    }

    /// Stamps again what was never pushed and the node would refuse. To be called while no push is under way, and no set
    /// between its stamp and the queue; what it returns must be durable before the next push.
    pub(crate) fn before_push(&mut self, node: NodeClock, moment: Moment) -> Vec<Stored> {
        if !self.note_clock(node) {
            return Vec::new();
        }
        self.stamp_again(node.wall, moment)
    }

    /// Corrects the clock, and stamps again, in order, what no node can have taken.
    pub(super) fn stamp_again(&mut self, node: WallTime, moment: Moment) -> Vec<Stored> {
        let first = self.first_to_stamp(node);
        let floor = first
            .checked_sub(1)
            .map_or(NTP64(0), |last| *self.waiting[last].timestamp.get_time());
        self.stamps.correct(moment.wall, node, floor);
        let mut rewritten = Vec::new();
        for set in self.waiting.iter_mut().skip(first) {
            // It was decoded when it came in.
            let Ok((timestamp, bytes)) = self.stamps.restamp(&set.bytes, moment.wall) else {
                break;
            };
            self.waiting_bytes = self.waiting_bytes + bytes.len() - set.bytes.len();
            (set.timestamp, set.bytes, set.uncertain, set.held) = (timestamp, bytes.clone(), false, false);
            rewritten.push(Stored {
                place: set.place,
                timestamp,
                bytes,
            });
        }
        rewritten
    }

    /// Behind the last set that keeps its timestamp all are stamped again, and none before it: so they stay in order.
    fn first_to_stamp(&self, node: WallTime) -> usize {
        let accepted = self.stamps.accepted();
        let too_far = |set: &Waiting| *set.timestamp.get_time() > accepted && *set.timestamp.get_time() > node.0;
        // The node that took it may be that far ahead of this one, and the timestamp that far ahead of its clock.
        let doubt = NODES_APART_MAX + self.drift_max;
        // What a node has taken since, it will take again; what may have been taken keeps its bytes.
        let keeps =
            |set: &Waiting| !too_far(set) || set.settled || (set.uncertain && ahead(&set.timestamp, node) <= doubt);
        self.waiting.iter().rposition(keeps).map_or(0, |last| last + 1)
    }
}

/// How far a timestamp is ahead of a clock.
fn ahead(timestamp: &Timestamp, wall: WallTime) -> Duration {
    timestamp.get_time().to_duration().saturating_sub(wall.0.to_duration())
}
