//! The client's timestamps: a clock that nodes correct, and the rule for stamping again.

use std::time::Duration;

use halcyon_core::{
    change::ChangeSet,
    clock::{ClientId, Clock, NTP64, Timestamp, WallTime, check_drift, timestamp},
    codec::DecodeError,
};
use prost::bytes::Bytes;

/// How far apart the clocks of two nodes may be, at most.
///
/// A set that may have been taken keeps its bytes, and waits until the refusing node's clock has come near. One that
/// is further ahead than this and `drift_max` was taken by no node: it is stamped again, or a client whose clock is a year
/// ahead would wait for a year.
pub(super) const NODES_APART_MAX: Duration = Duration::from_mins(10);

/// How much later than what is pushed [`Floor::pushed`] says: so often at most it costs a write of its own.
const PUSHED_AHEAD: Duration = Duration::from_secs(10);

/// How far ahead of our clock another's timestamp may be and still move it. A node has admitted it; this only keeps a
/// clock that stands in the past from being useless.
const OBSERVED_AHEAD_MAX: Duration = Duration::from_hours(1);

/// Makes timestamps by the device's clock, corrected.
#[derive(Debug)]
pub(super) struct Stamps {
    clock: Clock,
    client: ClientId,
    /// What nodes say the device's clock lacks.
    correction: Correction,
    /// The largest timestamp of ours that a node took, or of others that we saw: new ones come after it.
    accepted: NTP64,
    /// See [`Floor::pushed`].
    pushed: NTP64,
}

#[derive(Debug, Clone, Copy)]
struct Correction {
    ahead: u64,
    behind: u64,
}

/// What the clock of a later incarnation starts from. Kept on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Floor {
    /// The largest time that was stamped.
    pub stamped: NTP64,
    /// The largest time that a node took, or that was seen. A correction never goes below it.
    pub accepted: NTP64,
    /// No set with a later timestamp was ever pushed. What an earlier run left behind it can have been taken by nobody.
    pub pushed: NTP64,
}

impl Stamps {
    pub(super) const fn new(client: ClientId, floor: Floor) -> Self {
        Self {
            clock: Clock::new(client, floor.stamped),
            client,
            correction: Correction { ahead: 0, behind: 0 },
            accepted: floor.accepted,
            pushed: floor.pushed,
        }
    }

    pub(super) fn next(&mut self, wall: WallTime) -> Timestamp {
        let wall = self.corrected(wall);
        self.clock.stamp(wall)
    }

    pub(super) const fn floor(&self) -> Floor {
        Floor {
            stamped: self.clock.latest(),
            accepted: self.accepted,
            pushed: self.pushed,
        }
    }

    pub(super) fn observe(&mut self, theirs: &Timestamp, wall: WallTime) {
        let corrected = self.corrected(wall);
        let is_late = check_drift(theirs, corrected, OBSERVED_AHEAD_MAX).is_err();
        if is_late && self.correction.behind > 0 {
            // The device's clock was ahead, and has been set right: corrected, it stands in the past, and every stamp
            // of ours would lose. If it is ahead after all, a node says so again.
            self.correction = Correction { ahead: 0, behind: 0 };
        }
        let wall = self.corrected(wall);
        if self.clock.observe(theirs, wall, OBSERVED_AHEAD_MAX).is_ok() {
            self.accepted = self.accepted.max(*theirs.get_time());
        }
    }

    /// A node took a set with this timestamp.
    pub(super) fn accept(&mut self, ours: &Timestamp) {
        self.accepted = self.accepted.max(*ours.get_time());
    }

    /// A set with this timestamp is about to be sent. Whether the floor said less.
    pub(super) fn on_send(&mut self, latest: NTP64) -> bool {
        let is_beyond = latest > self.pushed;
        if is_beyond {
            // Some more, or every push would cost a write.
            let more = NTP64::from(PUSHED_AHEAD).0;
            self.pushed = NTP64(latest.0.saturating_add(more));
        }
        is_beyond
    }

    pub(super) const fn accepted(&self) -> NTP64 {
        self.accepted
    }

    /// Sets the clock by a node's. `floor`: sets that keep their timestamps.
    pub(super) fn correct(&mut self, ours: WallTime, node: WallTime, floor: NTP64) {
        self.correction = Correction {
            ahead: node.0.0.saturating_sub(ours.0.0),
            behind: ours.0.0.saturating_sub(node.0.0),
        };
        self.clock = Clock::new(self.client, self.accepted.max(floor));
    }

    /// The same set under a new timestamp.
    pub(super) fn restamp(&mut self, bytes: &[u8], wall: WallTime) -> Result<(Timestamp, Bytes), DecodeError> {
        let mut set = ChangeSet::decode(bytes)?;
        // It keeps its incarnation, which may be an earlier one.
        set.timestamp = timestamp(*self.next(wall).get_time(), set.client());
        Ok((set.timestamp, set.encode().into()))
    }

    fn corrected(&self, wall: WallTime) -> WallTime {
        let Correction { ahead, behind } = self.correction;
        WallTime(NTP64(wall.0.0.saturating_add(ahead).saturating_sub(behind)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: u64) -> WallTime {
        WallTime::from_unix(Duration::from_hours(hours))
    }

    #[test]
    fn a_correction_goes_when_the_clock_that_needed_it_is_set_right() {
        let mut stamps = Stamps::new(ClientId::from_random(7), Floor::default());
        stamps.correct(at(124), at(100), NTP64(0));
        assert_eq!(stamps.corrected(at(125)), at(101));
        // A day back. What others write now seems to come from tomorrow.
        let theirs = timestamp(at(102).0, ClientId::from_random(9));
        stamps.observe(&theirs, at(102));
        assert!(theirs < stamps.next(at(102)));
        assert_eq!(stamps.corrected(at(103)), at(103));
    }
}
