//! Where a tenant's task computes: on its own thread as long as that is short, else away from the tasks that must not wait.

use halcyon_core::env::Env;

use super::limits::{AWAY_AFTER_LONG, SHORT_MAX};

/// How long work of one kind has taken.
#[derive(Debug)]
pub(super) struct Pace {
    /// Runs to make away.
    away: u32,
}

impl Pace {
    /// For work that is short but for rare cases.
    pub(super) const fn short() -> Self {
        Self { away: 0 }
    }

    /// For work that may be long until it has shown that it is not.
    pub(super) const fn long() -> Self {
        Self { away: AWAY_AFTER_LONG }
    }

    pub(super) async fn run<T: Send>(&mut self, env: &Env, work: impl FnOnce() -> T + Send) -> T {
        let began = env.clock.monotonic();
        let done = if self.away == 0 {
            work()
        } else {
            env.run_blocking(work).await
        };
        let took = env.clock.monotonic().saturating_sub(began);
        self.away = if took > SHORT_MAX {
            AWAY_AFTER_LONG
        } else {
            self.away.saturating_sub(1)
        };
        done
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
        time::Duration,
    };

    use super::*;

    /// Time that passes when work says so.
    struct Hands(AtomicU64);

    impl halcyon_core::env::WallClock for Hands {
        fn wall(&self) -> halcyon_core::clock::WallTime {
            halcyon_core::clock::WallTime::from_unix(self.monotonic())
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::SeqCst))
        }
    }

    #[tokio::test]
    async fn what_was_long_is_done_away_until_it_has_been_short_for_a_while() {
        let directory = tempfile::tempdir().unwrap();
        let hands = Arc::new(Hands(1_000.into()));
        let env = Env {
            clock: hands.clone(),
            ..crate::env::system(directory.path()).unwrap()
        };
        let mut pace = Pace::short();
        let mut away_after = async |millis: u64| {
            let work = || hands.0.fetch_add(millis, Ordering::SeqCst);
            pace.run(&env, work).await;
            pace.away
        };
        assert_eq!(away_after(2).await, 0);
        assert_eq!(away_after(3).await, AWAY_AFTER_LONG);
        assert_eq!(away_after(1).await, AWAY_AFTER_LONG - 1);
        assert_eq!(away_after(50).await, AWAY_AFTER_LONG);
        for left in (0..AWAY_AFTER_LONG).rev() {
            assert_eq!(away_after(0).await, left);
        }
        assert_eq!(away_after(0).await, 0);
    }
}
