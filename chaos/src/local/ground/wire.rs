//! When what is sent now arrives: latency, jitter, loss and bandwidth of one direction, in order.
//!
//! Pure: time and chance come in as arguments. Both the switch (packets) and the proxy (pieces of a stream) ask it.

use std::time::Duration;

use crate::local::links::Link;

/// What a sender of TCP waits before it sends a lost segment again, at the least (Linux).
const RETRANSMIT_AFTER: Duration = Duration::from_millis(200);

/// Bytes in a segment.
const SEGMENT_BYTES: usize = 1_448;

/// One direction of one wire.
#[derive(Debug, Default)]
pub(in crate::local) struct Wire {
    /// When the slow end has sent all that it was given.
    free_at: Duration,
    /// Nothing overtakes: the latest arrival so far.
    last: Duration,
}

impl Wire {
    /// When a packet arrives that is sent now, or `None` where it is lost: by chance, or because the queue before a slow
    /// wire is longer than `queue`.
    pub(super) fn packet(
        &mut self,
        link: Link,
        bytes: usize,
        at: (Duration, u64),
        queue: Duration,
    ) -> Option<Duration> {
        let (now, chance) = at;
        if link.cut || chance % 1_000 < u64::from(link.loss_permille) {
            return None;
        }
        if self.free_at.saturating_sub(now) > queue {
            return None;
        }
        Some(self.arrival(link, bytes, now, chance >> 10))
    }

    /// When a piece of a stream arrives that is sent now. What would be lost is late: TCP sends it again.
    pub(super) fn piece(&mut self, link: Link, bytes: usize, now: Duration, chance: u64) -> Duration {
        let segments = bytes.div_ceil(SEGMENT_BYTES).max(1);
        let kept = (1.0 - f64::from(link.loss_permille) / 1_000.0).powi(i32::try_from(segments).unwrap_or(i32::MAX));
        let arrival = self.arrival(link, bytes, now, chance >> 20);
        #[expect(clippy::cast_precision_loss, reason = "20 bits of chance")]
        let drawn = (chance & 0xF_FFFF) as f64 / f64::from(1 << 20);
        if drawn < kept {
            return arrival;
        }
        self.last = arrival + RETRANSMIT_AFTER.max(link.latency * 2);
        self.last
    }

    fn arrival(&mut self, link: Link, bytes: usize, now: Duration, chance: u64) -> Duration {
        let sending = link.bytes_per_second.map_or(Duration::ZERO, |rate| {
            Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / rate.max(1))
        });
        self.free_at = self.free_at.max(now) + sending;
        let jitter = u64::try_from(link.jitter.as_nanos()).unwrap_or(u64::MAX);
        let late = Duration::from_nanos(chance % jitter.saturating_add(1).max(1));
        self.last = self.last.max(self.free_at + link.latency + late);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::links::Links;

    const QUEUE: Duration = Duration::from_millis(500);

    fn link(change: impl FnOnce(&mut Link)) -> Link {
        let links = Links::default();
        links.change(0, 1, change);
        links.get(0, 1)
    }

    #[test]
    fn a_packet_takes_the_latency_and_never_overtakes() {
        let (mut wire, link) = (Wire::default(), link(|_| {}));
        let mut last = Duration::ZERO;
        for chance in [1 << 40, 7 << 12, 0x7FFF_FFFF << 10, 1 << 11] {
            let arrival = wire.packet(link, 100, (Duration::ZERO, chance + 999), QUEUE).unwrap();
            assert!(arrival >= link.latency && arrival <= link.latency + link.jitter);
            assert!(arrival >= last);
            last = arrival;
        }
    }

    #[test]
    fn a_cut_or_lossy_link_loses_packets_and_a_stream_is_only_late() {
        let (mut wire, cut) = (Wire::default(), link(|link| link.cut = true));
        assert_eq!(wire.packet(cut, 100, (Duration::ZERO, 999), QUEUE), None);
        let lossy = link(|link| link.loss_permille = 500);
        assert_eq!(wire.packet(lossy, 100, (Duration::ZERO, 499), QUEUE), None);
        assert!(wire.packet(lossy, 100, (Duration::ZERO, 500), QUEUE).is_some());
        let late = wire.piece(lossy, 100, Duration::ZERO, 0xF_FFFF);
        assert!(late >= lossy.latency + RETRANSMIT_AFTER, "{late:?}");
    }

    #[test]
    fn a_slow_link_takes_its_time_and_its_queue_ends() {
        let slow = link(|link| link.bytes_per_second = Some(1_000));
        let mut wire = Wire::default();
        let first = wire.packet(slow, 500, (Duration::ZERO, 999), QUEUE).unwrap();
        assert!(first >= Duration::from_millis(546), "{first:?}");
        assert!(wire.packet(slow, 500, (Duration::ZERO, 999), QUEUE).is_some());
        assert_eq!(wire.packet(slow, 500, (Duration::ZERO, 999), QUEUE), None);
    }
}
