//! The sizes that storage keeps to, each with its reason.

use std::time::Duration;

/// Requests that may wait for one shard's writer. A client that waits longer does better to hear `Busy`.
pub(super) const QUEUE_MAX: usize = 4_096;

/// Bytes of change sets and deltas that may wait for all writers together: half a second of work at full speed.
pub(super) const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Payload after which a group commit is closed. Larger groups save no more fsync worth having, and their answers wait.
pub(super) const GROUP_BYTES: usize = 1 << 20;

/// A request of no more bytes that nobody else waits behind is carried out without giving the core away.
pub(super) const BRIEF_BYTES: usize = 4 << 10;

/// Bytes of one log frame: a group, whose last request may be a whole delta batch, and what is around it.
pub(super) const FRAME_BYTES_MAX: usize = 8 << 20;

/// Frames start at multiples of this: no torn write reaches into the frame before.
pub(super) const FRAME_ALIGN: u64 = 4_096;

/// Bytes of one log segment. A fold frees one while the other fills.
pub(super) const SEGMENT_BYTES: u64 = 16 << 20;

/// A segment grows by this many zeros at once, so that a sync seldom has to write the file's own records.
pub(super) const SEGMENT_STEP: u64 = 2 << 20;

/// Bytes of entries in the overlay after which it is folded into the index. More saves index pages and costs memory.
pub(super) const FOLD_BYTES: usize = 16 << 20;

/// Layers after which a fold starts whatever their size: every read looks into each of them.
pub(super) const LAYERS_MAX: usize = 8;

/// A layer with fewer entries is copied for a snapshot; a larger one is frozen, and reads have one layer more.
pub(super) const COPY_ENTRIES_MAX: usize = if cfg!(test) { 40 } else { 4_000 };

/// A shard that has been quiet for this long folds, so that a restart has nothing to replay.
pub(super) const IDLE_FOLD: Duration = Duration::from_secs(5);

/// From an erasure to the rewrite of the files: erasures that come together share one.
pub(super) const ERASE_DELAY: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 2_000 });

/// From a rewrite that failed, most likely for want of space, to the next try.
pub(super) const REWRITE_RETRY: Duration = Duration::from_mins(1);

/// Bytes of rows in one transaction of a rewrite: what redb keeps in memory meanwhile.
pub(super) const REWRITE_BYTES: usize = if cfg!(test) { 2_000 } else { 8 << 20 };

/// Names that a writer keeps in memory, for all its tenants. A name takes some 150 bytes.
pub(super) const NAMES_CACHED_MAX: usize = 40_000;

/// Encoded bytes of a value that an index key holds. A longer one is cut and followed by a hash of the whole.
pub(crate) const KEY_VALUE_BYTES: usize = 64;

/// Triples in a page of a scan. It is read under a lock.
pub(super) const PAGE_MAX: usize = 10_000;

/// Index entries that one page of a scan looks at, so that a filter that drops everything cannot hold the lock.
pub(super) const PAGE_LOOKS_MAX: usize = 100_000;

const _: () = assert!(FRAME_BYTES_MAX as u64 + 2 * FRAME_ALIGN < SEGMENT_BYTES);
const _: () = assert!(GROUP_BYTES + 2 * halcyon_core::limits::BATCH_BYTES_MAX < FRAME_BYTES_MAX);
