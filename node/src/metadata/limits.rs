//! The control plane's bounds and deadlines.

use std::time::Duration;

/// redb's cache for the log. The tail that is read is small; what was purged is never read again.
pub const LOG_CACHE_BYTES: usize = 8 << 20;

/// Bytes of the newest log entries that stay in memory: some ten thousand small commands, so that a follower that is
/// near the leader never makes it read its disk.
pub const LOG_TAIL_BYTES: usize = 4 << 20;

/// Pieces of work that wait for the log's file. Raft hands over one at a time for all that came meanwhile; more than a
/// few only wait while the disk hangs.
pub const LOG_QUEUE_MAX: usize = 64;

/// Pieces of work in one commit of the log: all that can wait.
pub const LOG_BATCH_MAX: usize = LOG_QUEUE_MAX;

/// Bytes of log entries in one call between nodes: over a path of 200 ms a connection that has been idle carries this
/// in about four round trips.
pub const APPEND_BYTES_MAX: usize = 256 << 10;

/// The slowest path over which Raft makes progress. A call with entries gets so much longer than an empty one.
pub const TRANSFER_BYTES_PER_SECOND_MIN: u64 = 64 << 10;

/// A call with entries has at least this long, whatever the heartbeat: a round trip around the world on a bad day, a lost
/// segment on the way, and the other's disk.
pub const APPEND_DEADLINE: Duration = Duration::from_secs(3);

/// One chunk of a snapshot on its way to another node.
pub const SNAPSHOT_CHUNK_BYTES: usize = 256 << 10;

/// A snapshot as received: about 1,000,000 tenants.
pub const SNAPSHOT_BYTES_MAX: usize = 512 << 20;

/// One encoded command: a batch of placements, or a certificate, with room to spare.
pub const COMMAND_BYTES_MAX: usize = 256 << 10;

/// Log entries after which a snapshot is written. A restart applies at most about this many again: a tenth of a second.
pub const SNAPSHOT_EVERY_ENTRIES: u64 = 10_000;

/// Entries kept behind the snapshot, so that a node away for a short while needs no snapshot.
pub const ENTRIES_KEPT: u64 = 5_000;

/// How long a committed place may be newer in memory than on disk when nothing is written.
pub const COMMITTED_FLUSH_INTERVAL: Duration = Duration::from_millis(500);

/// Pause before a write is tried again: an election takes seconds, a dropped connection far less.
pub const WRITE_RETRY_PAUSE: Duration = Duration::from_millis(40);

/// A write asks this often within its deadline, so that a leader that has died does not take all of it.
pub const ATTEMPTS_IN_DEADLINE: u32 = 4;

/// How long an answered write may wait for the local view to show it.
pub const VIEW_WAIT_MAX: Duration = Duration::from_secs(2);

/// Placements in one `SetReplicas` command.
pub const PLACEMENTS_BATCH_MAX: usize = 256;

/// Tenants that one round of the reconciler looks at, under the view's lock: about 2 ms.
pub const SWEEP_TENANTS_PER_ROUND: usize = 1_000;

/// All placements are looked through again this often, even where no node has come, gone or changed. A safety net: each
/// command that changes a tenant takes its next step itself.
pub const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// How long the reconciler waits after a change of the view, so that one round serves many changes.
pub const RECONCILE_LINGER: Duration = Duration::from_millis(20);

/// The reconciler looks again this often even if it hears of nothing: learners catch up without a change of the view.
pub const RECONCILE_INTERVAL: Duration = Duration::from_millis(500);

/// A change of membership that takes longer is left to go on by itself and looked at again in a later round.
pub const MEMBERSHIP_DEADLINE: Duration = Duration::from_secs(10);

/// How long whoever removes a node waits until no quorum needs it.
pub const LET_GO_DEADLINE: Duration = Duration::from_secs(5);

/// Between two looks for that.
pub const LET_GO_LOOK: Duration = Duration::from_millis(50);

/// A learner may become a voter when it lacks at most this many entries.
pub const VOTER_LAG_MAX: u64 = 1_000;

/// A learner may become a voter when the leader heard from it within this time: many heartbeats, so that a lost few do
/// not matter. A vote for a node that is away would bring the group nearer to the loss of its quorum.
pub const LEARNER_HEARD: Duration = if cfg!(test) {
    Duration::from_secs(1)
} else {
    Duration::from_secs(10)
};

/// Voters: any two may fail, and each write waits for three of five.
pub const VOTERS_MAX: usize = 5;

/// Nodes of one cluster.
pub const NODES_MAX: usize = 1_000;

/// Tenants of one cluster: every node holds all of them in memory, at about 1 KB.
pub const TENANTS_MAX: usize = 1_000_000;

/// Regions of one tenant.
pub const REGIONS_MAX: usize = 32;

/// Replicas of one tenant in one region.
pub const NODES_PER_REGION_MAX: u32 = 7;

/// Access keys of one tenant.
pub const KEYS_MAX: usize = 64;

/// Bytes of an operator's label or of a key id.
pub const LABEL_BYTES_MAX: usize = 256;

/// Bytes of an address.
pub const ADDRESS_BYTES_MAX: usize = 256;

/// Bytes of the value of a setting.
pub const SETTING_BYTES_MAX: usize = 4 << 10;

/// Join tokens that have not expired.
pub const TOKENS_MAX: usize = 1_000;

/// Admin credentials.
pub const ADMINS_MAX: usize = 64;

/// Joins that are remembered, so that one asked for again after a lost answer gets the same number.
pub const JOINS_REMEMBERED_MAX: usize = 128;

/// Commands whose answers are remembered, so that one proposed again gets the same. A write is tried again for ten seconds
/// at the most: this is more than a leader carries out in that time. About 20 bytes each in a snapshot.
pub const ANSWERS_REMEMBERED_MAX: usize = 65_536;
