//! How often a session may do something: a token bucket, one second deep. Pure; `now` is an argument.

use std::time::Duration;

/// What is used up of one second's rate.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bucket {
    used: Duration,
    at: Duration,
}

impl Bucket {
    /// Takes `count` at once. Otherwise says how long to wait.
    pub(super) fn take(&mut self, count: u32, per_second: u32, now: Duration) -> Result<(), Duration> {
        self.used = self.used.saturating_sub(now.saturating_sub(self.at));
        self.at = now;
        let used = self.used + Duration::from_secs(1) * count / per_second;
        match used.checked_sub(Duration::from_secs(1)) {
            Some(late) if late > Duration::ZERO => Err(late),
            _ => {
                self.used = used;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_rate_goes_at_once_and_more_has_to_wait() {
        let mut bucket = Bucket::default();
        let mut take = |count, at| bucket.take(count, 10, Duration::from_millis(at));
        assert_eq!(take(10, 0), Ok(()));
        assert_eq!(take(1, 0), Err(Duration::from_millis(100)));
        assert_eq!(take(1, 100), Ok(()));
        assert_eq!(take(1, 110), Err(Duration::from_millis(90)));
        assert_eq!(take(10, 5_000), Ok(()));
    }
}
