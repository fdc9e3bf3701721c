//! The bounds of the tenant room, each with its reason.

use std::time::Duration;

use halcyon_core::limits::BATCH_BYTES_MAX;

/// Commits that wait for one watcher. A watcher that is further behind reads what it missed from storage instead.
pub const WATCH_QUEUE_SETS_MAX: usize = 4_096;

/// Bytes that wait for one watcher.
pub const WATCH_QUEUE_BYTES_MAX: usize = 4 << 20;

/// Bytes of facts in one message of what a watcher missed.
pub const MISSED_BYTES_MAX: usize = 512 << 10;

/// How often a watcher hears that the connection lives, and what is held elsewhere.
pub const HEARTBEAT: Duration = Duration::from_secs(2);

/// Tenants whose rates are remembered. One that is forgotten starts with a full bucket.
pub const RATES_MAX: usize = 100_000;

const _: () = assert!(MISSED_BYTES_MAX <= BATCH_BYTES_MAX);
