//! The events of one session: numbered, kept until they have surely arrived, bounded.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{
    Event,
    limits::{
        LOAD_BYTES_MAX, TAKEN_AGE_MAX, TAKEN_BYTES_MAX, TAKEN_EVENTS_MAX, TAKEN_LOAD_BYTES_MAX, WAITING_BYTES_MAX,
        WAITING_EVENTS_MAX,
    },
};

/// The buffer is full: the session is too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// What an event is for the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// Something happened.
    News,
    /// A part of a new subscription's coverage.
    Load,
}

/// Events in the order of their numbers: first those that a stream has taken, then those that wait.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    kept: VecDeque<Kept>,
    /// The number of the last event that is kept no more.
    forgotten: u64,
    /// How many of `kept` a stream has taken.
    taken: usize,
    taken_bytes: usize,
    /// Of these, what is coverage of new subscriptions.
    taken_load_bytes: usize,
    news_bytes: usize,
    load_bytes: usize,
}

/// There may be a thousand of these in a session, and a thousand sessions that were told the same.
#[derive(Debug)]
struct Kept {
    event: Arc<Event>,
    bytes: u32,
    weight: Weight,
    taken_at: Duration,
}

impl Buffer {
    /// The number of the last event that a stream has taken.
    pub(super) fn last_taken(&self) -> u64 {
        self.forgotten + self.taken as u64
    }

    /// Bytes of all that is kept.
    pub(super) const fn bytes(&self) -> usize {
        self.taken_bytes + self.news_bytes + self.load_bytes
    }

    /// Whether so many bytes of coverage fit.
    pub(super) const fn has_room_for_load(&self, bytes: usize) -> bool {
        self.load_bytes + bytes <= LOAD_BYTES_MAX
    }

    pub(super) fn push(&mut self, event: Arc<Event>, weight: Weight) -> Result<(), Full> {
        let bytes = event.encoded_len();
        let waiting = self.kept.len() - self.taken;
        match weight {
            Weight::News => self.news_bytes += bytes,
            Weight::Load => self.load_bytes += bytes,
        }
        self.kept.push_back(Kept {
            event,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            weight,
            taken_at: Duration::ZERO,
        });
        if waiting >= WAITING_EVENTS_MAX || self.news_bytes > WAITING_BYTES_MAX || self.load_bytes > LOAD_BYTES_MAX {
            return Err(Full);
        }
        Ok(())
    }

    /// The next event for a stream.
    pub(super) fn take(&mut self, now: Duration) -> Option<(u64, Arc<Event>)> {
        let kept = self.kept.get_mut(self.taken)?;
        kept.taken_at = now;
        let (event, bytes, weight) = (Arc::clone(&kept.event), kept.bytes as usize, kept.weight);
        *self.waiting_bytes(weight) -= bytes;
        self.taken += 1;
        self.taken_bytes += bytes;
        if weight == Weight::Load {
            self.taken_load_bytes += bytes;
        }
        let number = self.last_taken();
        self.prune(now);
        Some((number, event))
    }

    /// Forgets what has surely arrived, or is too much to keep.
    pub(super) fn prune(&mut self, now: Duration) {
        while self.taken > 0 {
            let is_old = now.saturating_sub(self.kept[0].taken_at) > TAKEN_AGE_MAX;
            // The last one is surely still on its way.
            let is_much =
                self.taken_bytes > TAKEN_BYTES_MAX || (self.taken_load_bytes > TAKEN_LOAD_BYTES_MAX && self.taken > 1);
            if !is_old && !is_much && self.taken <= TAKEN_EVENTS_MAX {
                return;
            }
            self.forget_first();
        }
    }

    /// A new stream goes on behind `after`. False if that cannot be: the events are gone, or never were.
    pub(super) fn rewind(&mut self, after: u64) -> bool {
        if after < self.forgotten || after > self.last_taken() {
            return false;
        }
        while self.forgotten < after {
            self.forget_first();
        }
        for at in 0..self.taken {
            let (bytes, weight) = (self.kept[at].bytes as usize, self.kept[at].weight);
            *self.waiting_bytes(weight) += bytes;
        }
        self.taken = 0;
        self.taken_bytes = 0;
        self.taken_load_bytes = 0;
        true
    }

    fn forget_first(&mut self) {
        if let Some(kept) = self.kept.pop_front() {
            self.taken -= 1;
            self.taken_bytes -= kept.bytes as usize;
            if kept.weight == Weight::Load {
                self.taken_load_bytes -= kept.bytes as usize;
            }
            self.forgotten += 1;
        }
    }

    fn waiting_bytes(&mut self, weight: Weight) -> &mut usize {
        match weight {
            Weight::News => &mut self.news_bytes,
            Weight::Load => &mut self.load_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use halcyon_proto::v1;

    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn event(bytes: usize) -> Arc<Event> {
        Arc::new(Event::Commit(v1::Commit {
            vector: vec![0; bytes].into(),
            deltas: Vec::new(),
        }))
    }

    fn filled(events: usize, taken: usize) -> Buffer {
        let mut buffer = Buffer::default();
        for _ in 0..events {
            buffer.push(event(10), Weight::News).unwrap();
        }
        for number in 1..=taken as u64 {
            assert_eq!(buffer.take(NOW).map(|(number, _)| number), Some(number));
        }
        buffer
    }

    #[test]
    fn a_new_stream_goes_on_behind_what_arrived() {
        //     after   resumed  next
        check(0, true, 1);
        check(3, true, 4);
        check(4, true, 5);
        // More than was ever sent.
        check(5, false, 5);
    }

    #[track_caller]
    fn check(after: u64, resumed: bool, next: u64) {
        let mut buffer = filled(6, 4);
        assert_eq!(buffer.rewind(after), resumed);
        assert_eq!(buffer.take(NOW).map(|(number, _)| number), Some(next));
    }

    #[test]
    fn what_arrived_long_ago_is_not_kept() {
        let mut buffer = filled(3, 3);
        buffer.prune(NOW + TAKEN_AGE_MAX * 2);
        assert_eq!((buffer.bytes(), buffer.last_taken()), (0, 3));
        assert!(!buffer.rewind(2));
        assert!(buffer.rewind(3));
    }

    #[test]
    fn little_coverage_is_kept_once_a_stream_has_it() {
        let mut buffer = filled(2, 2);
        for _ in 0..4 {
            buffer.push(event(TAKEN_LOAD_BYTES_MAX / 2), Weight::Load).unwrap();
            buffer.take(NOW);
        }
        assert!(buffer.bytes() <= TAKEN_LOAD_BYTES_MAX, "{} bytes", buffer.bytes());
        // The last one is, and with it what came behind it.
        buffer.push(event(10), Weight::News).unwrap();
        assert!(buffer.take(NOW).is_some());
        assert!(!buffer.rewind(3) && buffer.rewind(5));
        assert_eq!(buffer.take(NOW).map(|(number, _)| number), Some(6));
        let mut buffer = filled(0, 0);
        buffer.push(event(TAKEN_LOAD_BYTES_MAX * 2), Weight::Load).unwrap();
        assert!(buffer.take(NOW).is_some() && buffer.rewind(0));
    }

    #[test]
    fn the_buffer_is_bounded_in_events_and_in_bytes() {
        let mut buffer = filled(WAITING_EVENTS_MAX, 0);
        assert_eq!(buffer.push(event(10), Weight::News), Err(Full));
        let mut buffer = filled(1, 1);
        assert_eq!(buffer.push(event(WAITING_BYTES_MAX), Weight::News), Err(Full));
        let mut buffer = filled(1, 1);
        assert_eq!(buffer.push(event(WAITING_BYTES_MAX), Weight::Load), Ok(()));
        assert!(!buffer.has_room_for_load(LOAD_BYTES_MAX));
        assert_eq!(buffer.push(event(LOAD_BYTES_MAX), Weight::Load), Err(Full));
    }
}
