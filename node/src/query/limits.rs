//! What queries keep to, each with its reason. What an operator sets is in `metadata::settings` (`query_…`).

use std::time::Duration;

use crate::limits::MESSAGE_BYTES_MAX;

/// Queries that run at once on a node. Each has a thread for as long as it runs; more would only take turns.
pub const RUNNING_MAX: usize = 8;

/// Queries that wait for their turn. Who comes later does better to ask another node.
pub const WAITING_MAX: usize = 256;

/// The longest that one waits for its turn.
pub const TURN_WAIT_MAX: Duration = Duration::from_secs(2);

/// The longest wait for what the client has seen; then the answer says that it is stale. Gossip takes a round trip.
pub const VECTOR_WAIT_MAX: Duration = Duration::from_secs(1);

/// Bytes of answers that wait for their readers, on one node.
pub const ANSWERS_BYTES_MAX: usize = 256 << 20;

/// How long a reader may take nothing of an answer before the rest is let go. Its bytes are others' too.
pub const READER_PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of rows in one message. Large enough that a message costs nothing beside its rows.
pub const MESSAGE_ROWS_BYTES: usize = 32 << 10;

/// Bytes of one row: a row is not torn apart, and its message must be one that clients take.
pub const ROW_BYTES_MAX: usize = 3 << 20;

const _: () = assert!(ROW_BYTES_MAX + MESSAGE_ROWS_BYTES < MESSAGE_BYTES_MAX);

/// Rows in one message.
pub const MESSAGE_ROWS_MAX: usize = 512;

/// Steps of the engine in one query. The time limit comes first, but for a query that makes much of little.
pub const STEPS_MAX: u64 = 2_000_000_000;

/// Bytes of names and values that one query keeps, to read none twice.
pub const CACHE_BYTES: usize = 32 << 20;

/// Rows that are counted between two looks at the clock: counting one takes less than answering with it.
pub const COUNT_LOOK_EVERY: u64 = 4_096;

/// Rows of the index between two looks at the clock.
pub const LOOK_EVERY: u32 = 1_024;

/// Rows that are counted for an estimate before statistics are asked.
pub const ESTIMATE_ROWS: u64 = 256;

/// Rows that are counted for a predicate's statistics; what is behind them is guessed.
pub const COUNTED_ROWS_MAX: u64 = 400_000;

/// Steps of a predicate's histogram.
pub const BOUNDS_MAX: usize = 64;

/// Tenants whose statistics are kept.
pub const TENANTS_KEPT_MAX: usize = 1_024;

/// Predicates of one tenant whose statistics are kept: 8 KB each at the most.
pub const PREDICATES_KEPT_MAX: usize = 1_024;

/// Entities of a type that are counted; beyond, nobody knows how many there are.
pub const ENTITIES_COUNTED_MAX: u64 = 1_000_000;
