//! A warning that comes with every message is told now and then, with how many were left out.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use super::limits::WARN_INTERVAL;

/// When a thing was told last, and how often it happened since.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    last: Option<Duration>,
    left_out: u64,
}

impl Seldom {
    /// Whether to tell it now: then how often it was left out since it was told last.
    pub(super) fn on_event(&self, now: Duration) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.last.is_some_and(|last| now < last + WARN_INTERVAL) {
            told.left_out += 1;
            return None;
        }
        told.last = Some(now);
        Some(std::mem::take(&mut told.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_later_ones_with_how_many_were_not() {
        let seldom = Seldom::default();
        let start = Duration::from_secs(7);
        assert_eq!(seldom.on_event(start), Some(0));
        assert_eq!(seldom.on_event(start), None);
        assert_eq!(seldom.on_event(start + WARN_INTERVAL / 2), None);
        assert_eq!(seldom.on_event(start + WARN_INTERVAL), Some(2));
        assert_eq!(seldom.on_event(start + WARN_INTERVAL * 3), Some(0));
    }
}
