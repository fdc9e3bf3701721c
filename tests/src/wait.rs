//! Waiting: always for something, never longer than a deadline. The only place in this crate that reads a clock.

use std::{
    sync::OnceLock,
    time::{Duration, Instant, SystemTime},
};

use halcyon_core::clock::WallTime;
use tokio::runtime::{Builder, Runtime};

/// How long between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// For what a healthy cluster does in a second. Wide, because continuous integration has two slow cores.
pub const SOON: Duration = Duration::from_mins(1);

/// For what moves much data.
pub const LONG: Duration = Duration::from_mins(4);

/// Measures a stretch of time.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "tests on real processes live in real time")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The time of day, for timestamps.
#[expect(clippy::disallowed_methods, reason = "a client outside has a real clock")]
pub fn wall() -> WallTime {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    WallTime::from_unix(now.expect("the system's clock is past 1970"))
}

/// Lets time pass. Only for looking again, or for a load that goes on; never in the hope that something is done.
#[expect(
    clippy::disallowed_methods,
    reason = "these tests have threads of their own, and no tasks to hold up"
)]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Looks until there is something, and gives up loudly at the deadline.
#[track_caller]
pub fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let watch = Stopwatch::start();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(watch.elapsed() < within, "{what}: not within {within:?}");
        pause(LOOK_EVERY);
    }
}

/// The runtime for everything that talks over sockets.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let built = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        built.expect("a runtime needs only threads and an epoll descriptor")
    })
}
