//! Puts messages of several senders into one order: that of their timestamps. Pure; `now` is an argument.
//!
//! Messages travel straight from their nodes, so that an answer can overtake its question. Each is held back for a while;
//! what arrives later than that comes out of order, and says so.

use std::time::Duration;

use halcyon_core::clock::Timestamp;
use halcyon_core::collections::BTreeMap;

use super::RoomMessage;

/// A message whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordered {
    /// See there.
    pub message: RoomMessage,
    /// One with a later timestamp came out before it.
    pub is_late: bool,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct InOrder {
    patience: Duration,
    held: BTreeMap<(Option<Timestamp>, u64), (Duration, RoomMessage)>,
    count: u64,
    last: Option<Timestamp>,
}

impl InOrder {
    /// Holds each message back for `patience`: more than the difference of the ways that messages take.
    pub const fn new(patience: Duration) -> Self {
        Self {
            patience,
            held: BTreeMap::new(),
            count: 0,
            last: None,
        }
    }

    /// A message has arrived.
    pub fn push(&mut self, message: RoomMessage, now: Duration) {
        self.count += 1;
        let due = now + self.patience;
        self.held.insert((message.timestamp, self.count), (due, message));
    }

    /// Messages whose turn it is. One that is due takes along all before it.
    pub fn ready(&mut self, now: Duration) -> Vec<Ordered> {
        let due = self.held.iter().filter(|(_, (due, _))| *due <= now);
        let Some(last) = due.map(|(key, _)| *key).max() else {
            return Vec::new();
        };
        let later = self.held.split_off(&(last.0, last.1 + 1));
        let ready = std::mem::replace(&mut self.held, later);
        let ordered = ready.into_values().map(|(_, message)| {
            let is_late = message.timestamp < self.last;
            self.last = self.last.max(message.timestamp);
            Ordered { message, is_late }
        });
        ordered.collect()
    }

    /// When the next one is due.
    pub fn next_due(&self) -> Option<Duration> {
        self.held.values().map(|(due, _)| *due).min()
    }
}

#[cfg(test)]
mod tests {
    use halcyon_core::clock::{ClientId, NTP64, timestamp};

    use super::*;

    #[test]
    fn messages_come_out_by_their_timestamps_and_one_that_is_too_late_says_so() {
        let mut order = InOrder::new(Duration::from_millis(100));
        let at = Duration::from_millis;
        let message = |time: u64| RoomMessage {
            topic: String::new(),
            payload: time.to_string(),
            from: String::new(),
            timestamp: Some(timestamp(NTP64(time), ClientId::from_random(1))),
        };
        let out = |order: &mut InOrder, now| -> Vec<(String, bool)> {
            let ready = order.ready(at(now)).into_iter();
            ready
                .map(|ordered| (ordered.message.payload, ordered.is_late))
                .collect()
        };
        order.push(message(20), at(0));
        order.push(message(10), at(50));
        order.push(message(30), at(60));
        assert_eq!(order.next_due(), Some(at(100)));
        assert_eq!(out(&mut order, 99), []);
        assert_eq!(
            out(&mut order, 100),
            [("10".to_owned(), false), ("20".to_owned(), false)]
        );
        order.push(message(15), at(110));
        assert_eq!(
            out(&mut order, 210),
            [("15".to_owned(), true), ("30".to_owned(), false)]
        );
    }
}
