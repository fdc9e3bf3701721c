//! The one clock of a run: all processes are on one machine, so one clock orders what is seen from outside.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

/// Time since the command's first look at the clock.
#[expect(clippy::disallowed_methods, reason = "real processes live in real time")]
pub(super) fn now() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// The same moment for tokio's timers.
#[expect(clippy::disallowed_methods, reason = "real processes live in real time")]
pub(super) fn timer(moment: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + moment.saturating_sub(now())
}

/// Waits until a moment of this clock.
pub(super) async fn sleep_until(moment: Duration) {
    tokio::time::sleep_until(timer(moment)).await;
}

/// Lets a thread wait that cannot await: while things are taken down.
#[expect(
    clippy::disallowed_methods,
    reason = "taking down runs outside of tasks, also in a panic"
)]
pub(super) fn pause(time: Duration) {
    std::thread::sleep(time);
}
