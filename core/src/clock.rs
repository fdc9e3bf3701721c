//! Hybrid logical clock: timestamps that follow cause and effect and stay near wall time.
//!
//! The value is uhlc's: 64 bits of NTP time and a unique id. The device is ours, because it must not read the time:
//! callers pass the wall time in, so a seed replays the same timestamps.
//!
//! After Kulkarni et al., "Logical Physical Clocks" (2014), with the counter in the low bits of the time, as uhlc has
//! it.
//!
//! Invariants:
//! - a new timestamp is greater than every timestamp this clock has made or observed;
//! - a timestamp further ahead of the wall than the allowed drift is refused and changes nothing.

use std::{fmt, num::NonZeroU128, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;
pub use uhlc::{NTP64, Timestamp};

use crate::codec::{DecodeError, Reader};

/// How far ahead of a node's wall clock an admitted timestamp may be, unless a setting says otherwise.
///
/// Wide enough for a phone that has not seen NTP for a while, narrow enough that one broken clock cannot win every
/// conflict until tomorrow.
pub const DRIFT_MAX_DEFAULT: Duration = Duration::from_mins(1);

/// Time of day, as 64-bit NTP time since 1970 UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub NTP64);

impl WallTime {
    /// From the time since 1970 UTC.
    pub fn from_unix(since_1970: Duration) -> Self {
        Self(NTP64::from(since_1970))
    }

    /// Whole milliseconds since 1970 UTC.
    pub fn unix_millis(self) -> u64 {
        u64::try_from(self.0.to_duration().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Who stamps: one incarnation of a client, drawn at random when it opens its store. Also the clock's id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientId(NonZeroU128);

impl ClientId {
    /// From random bits.
    pub fn from_random(bits: u128) -> Self {
        Self(NonZeroU128::new(bits).unwrap_or(NonZeroU128::MIN))
    }

    /// From the id inside a timestamp.
    pub fn of(timestamp: &Timestamp) -> Self {
        Self::from_random(u128::from_be_bytes(timestamp.get_id().to_le_bytes()))
    }

    /// Bytes that sort like the ids.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }

    /// From [`Self::to_bytes`].
    pub fn from_bytes(bytes: [u8; 16]) -> Result<Self, DecodeError> {
        let word = NonZeroU128::new(u128::from_be_bytes(bytes));
        word.map(Self).ok_or(DecodeError::invalid("a client id", "zero"))
    }

    /// uhlc compares ids byte by byte from the first, whatever it calls their order; with the largest byte first, ids of
    /// equal times sort like the numbers, and like [`Self::to_bytes`].
    fn hlc_id(self) -> uhlc::ID {
        uhlc::ID::try_from(&self.0.get().to_be_bytes()).expect("not zero and 16 bytes long")
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Bytes of an encoded timestamp.
pub const TIMESTAMP_BYTES: usize = 24;

/// Makes a timestamp of its two parts.
pub fn timestamp(time: NTP64, client: ClientId) -> Timestamp {
    Timestamp::new(time, client.hlc_id())
}

/// Bytes that sort like the timestamps.
pub fn timestamp_to_bytes(timestamp: &Timestamp) -> [u8; TIMESTAMP_BYTES] {
    let mut bytes = [0; TIMESTAMP_BYTES];
    bytes[..8].copy_from_slice(&timestamp.get_time().0.to_be_bytes());
    bytes[8..].copy_from_slice(&ClientId::of(timestamp).to_bytes());
    bytes
}

/// Reads what [`timestamp_to_bytes`] wrote.
pub fn read_timestamp(reader: &mut Reader<'_>) -> Result<Timestamp, DecodeError> {
    let time = u64::from_be_bytes(reader.array("timestamp")?);
    let client = ClientId::from_bytes(reader.array("timestamp")?)?;
    Ok(timestamp(NTP64(time), client))
}

/// A timestamp that is too far ahead of our wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the timestamp is {ahead:?} ahead of this node's clock, more than {max:?}; set the clock and send it again")]
pub struct DriftError {
    /// How far ahead it is.
    pub ahead: Duration,
    /// How far ahead it may be.
    pub max: Duration,
    /// Our wall clock, for the other side to set its own by.
    pub wall: WallTime,
}

/// Refuses a timestamp that is more than `max` ahead of `wall`.
pub fn check_drift(timestamp: &Timestamp, wall: WallTime, max: Duration) -> Result<(), DriftError> {
    let ahead = timestamp.get_time().to_duration().saturating_sub(wall.0.to_duration());
    if ahead > max {
        Err(DriftError { ahead, max, wall })
    } else {
        Ok(())
    }
}

/// Makes timestamps.
#[derive(Debug, Clone)]
pub struct Clock {
    client: ClientId,
    latest: NTP64,
}

impl Clock {
    /// A clock that never goes below `floor`, the latest time its disk remembers.
    pub const fn new(client: ClientId, floor: NTP64) -> Self {
        Self { client, latest: floor }
    }

    /// A new timestamp, greater than all before it.
    pub fn stamp(&mut self, wall: WallTime) -> Timestamp {
        self.latest = NTP64(wall.0.0.max(self.latest.0.saturating_add(1)));
        timestamp(self.latest, self.client)
    }

    /// Takes in another's timestamp, so that our next one comes after it.
    pub fn observe(&mut self, theirs: &Timestamp, wall: WallTime, drift_max: Duration) -> Result<(), DriftError> {
        check_drift(theirs, wall, drift_max)?;
        self.latest = self.latest.max(*theirs.get_time());
        Ok(())
    }

    /// The largest time made or observed. Kept on disk, it is the next clock's floor.
    pub const fn latest(&self) -> NTP64 {
        self.latest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ME: u128 = 7;

    fn clock() -> Clock {
        Clock::new(ClientId::from_random(ME), NTP64(0))
    }

    fn at(seconds: u64) -> WallTime {
        WallTime::from_unix(Duration::from_secs(seconds))
    }

    #[test]
    fn time_goes_on_when_the_wall_goes_back() {
        let mut clock = clock();
        let first = clock.stamp(at(100));
        let second = clock.stamp(at(50));
        assert!(first < second);
    }

    #[test]
    fn drift_is_refused_and_leaves_no_trace() {
        let mut clock = clock();
        let theirs = timestamp(at(161).0, ClientId::from_random(9));
        let error = clock.observe(&theirs, at(100), DRIFT_MAX_DEFAULT).unwrap_err();
        assert_eq!(error.wall, at(100));
        assert_eq!(clock.latest(), NTP64(0));
        assert!(clock.observe(&theirs, at(101), DRIFT_MAX_DEFAULT).is_ok());
    }

    proptest! {
        #[test]
        fn each_timestamp_is_greater_than_all_before(walls: Vec<u32>, theirs in any::<u32>()) {
            let mut clock = clock();
            let theirs = timestamp(at(u64::from(theirs)).0, ClientId::from_random(9));
            clock.observe(&theirs, at(u64::from(u32::MAX)), DRIFT_MAX_DEFAULT).unwrap();
            let mut latest = theirs;
            for wall in walls {
                let stamp = clock.stamp(at(u64::from(wall)));
                prop_assert!(latest < stamp);
                latest = stamp;
            }
        }

        #[test]
        fn the_encoding_keeps_order(a: (u64, u128), b: (u64, u128)) {
            let x = timestamp(NTP64(a.0), ClientId::from_random(a.1));
            let y = timestamp(NTP64(b.0), ClientId::from_random(b.1));
            check_order(x, y);
            // At equal times the ids decide.
            check_order(x, timestamp(NTP64(a.0), ClientId::from_random(b.1)));
            prop_assert_eq!(read_timestamp(&mut Reader::new(&timestamp_to_bytes(&x))), Ok(x));
        }
    }

    #[track_caller]
    fn check_order(x: Timestamp, y: Timestamp) {
        assert_eq!(timestamp_to_bytes(&x).cmp(&timestamp_to_bytes(&y)), x.cmp(&y));
        assert_eq!(ClientId::of(&x).cmp(&ClientId::of(&y)), x.get_id().cmp(y.get_id()));
    }
}
