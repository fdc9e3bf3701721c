//! The bounds and deadlines of a run on real processes, each with its reason.

use std::time::Duration;

/// Nodes of a run: fewer have no majority to lose, more than this do not fit on a laptop.
pub(super) const NODES: std::ops::RangeInclusive<usize> = 3..=9;

/// Seconds of load. Below, a fault has no room between warming up and healing; above, the ledger outgrows memory.
pub(super) const SECONDS: std::ops::RangeInclusive<u64> = 10..=3_600;

/// Clients that write in one region.
pub(super) const CLIENTS: std::ops::RangeInclusive<usize> = 1..=16;

/// Between two writes of one client: a busy person, many times over, and light enough for two cores.
pub(super) const WRITE_EVERY: Duration = Duration::from_millis(40);

/// For a node to start and serve. Wide, because continuous integration has two slow cores.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(30);

/// For a node to go on by itself once its disk has room again.
pub(super) const GOES_ON_WITHIN: Duration = Duration::from_secs(10);

/// For a node to end after it was asked to.
pub(super) const STOP_WITHIN: Duration = Duration::from_secs(30);

/// For one command of an operator.
pub(super) const COMMAND_WITHIN: Duration = Duration::from_mins(1);

/// For a placement or a drain to be carried out.
pub(super) const PLACED_WITHIN: Duration = Duration::from_mins(1);

/// After the load: for all written to be acknowledged. A client that lost its node backs off for some seconds.
pub(super) const FLUSH_WITHIN: Duration = Duration::from_mins(1);

/// After that: for all replicas to hold the same. A catch-up starts within seconds and moves little here.
pub(super) const AGREE_WITHIN: Duration = Duration::from_mins(1);

/// After that: for the watchers to have heard the rest.
pub(super) const WATCHED_WITHIN: Duration = Duration::from_secs(30);

/// For one read of a whole tenant from one node.
pub(super) const READ_WITHIN: Duration = Duration::from_mins(1);

/// A region whose own node runs is never longer without an acknowledged write, whatever happens elsewhere. A write there
/// takes milliseconds; the rest is for a machine whose cores are all taken.
pub(super) const STRETCH_MAX: Duration = Duration::from_secs(5);

/// To open one connection.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Between two looks at something that is awaited.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Bytes on a simulated wire at once, in one direction: more is dropped, as by a router's full queue.
pub(super) const WIRE_PACKETS_MAX: usize = 4_096;

/// How long a packet waits for a slow wire before it is dropped: a home router's queue.
pub(super) const WIRE_QUEUE_MAX: Duration = Duration::from_millis(500);

/// The disk of the node whose disk fills up: room for a run's data, and quickly full.
pub(super) const SMALL_DISK_BYTES: u64 = 256 << 20;

/// Violations of one kind that are shown; the file with the evidence has them all.
pub(super) const SHOWN_MAX: usize = 5;
