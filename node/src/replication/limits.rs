//! The bounds of replication, each with its reason.

use std::time::Duration;

use halcyon_core::limits::{BATCH_BYTES_MAX, CHANGE_SET_BYTES_MAX, MESSAGE_BYTES_MAX};

/// Sets that may wait for one peer: about a second of the largest rate of single changes. Their bytes are bounded by the
/// setting `gossip_queue_bytes_max`: a peer that is further behind does better with one catch-up than with a queue of
/// what it will have overwritten by then.
pub(super) const GOSSIP_QUEUE_SETS_MAX: usize = 65_536;

/// Bytes of sets in one gossip message. The frame around it fits in what is left of a message.
pub(super) const GOSSIP_MESSAGE_BYTES_MAX: usize = BATCH_BYTES_MAX;

/// Sets in one gossip message: one group commit at the receiver.
pub(super) const GOSSIP_MESSAGE_SETS_MAX: usize = 4_096;

/// Gossip messages of one stream that are with storage at once. The next is decoded while the last is made durable.
pub(super) const GOSSIP_PIPELINE: usize = 4;

/// Origins of tenants that one peer is known to lack. Beyond it a digest finds what is left.
pub(super) const DIRTY_MAX: usize = 65_536;

/// Nodes of one region that a set may be passed on to.
pub(super) const PASS_ON_MAX: usize = 64;

/// Bytes of gossip kept per node while the gap before it is filled, so that a live stream joins without another gap.
pub(super) const PARKED_BYTES_MAX: usize = 32 << 20;

/// Catch-ups pulled at once. More would only share the same disk.
pub(super) const PULLS_MAX: usize = 4;

/// Tasks of all kinds at once. They are small calls but for catch-ups.
pub(super) const TASKS_MAX: usize = 64;

/// Tenants weighed against each other for a free catch-up slot.
pub(super) const CANDIDATES_MAX: usize = 256;

/// Catch-ups served at once. Each holds a snapshot of a shard and two batches.
pub(super) const SERVED_MAX: usize = 16;

/// Batches of a served catch-up that wait for the network: one is read while one is sent.
pub(super) const SERVED_BATCHES_MAX: usize = 2;

/// Decoded batches of a pulled catch-up that wait for the disk: one is decoded while one is committed.
pub(super) const PULLED_BATCHES_MAX: usize = 2;

/// Bytes of facts in one batch of a catch-up. Larger ones save commits; the message still has room for its frame.
pub(super) const CATCH_UP_BATCH_BYTES: usize = BATCH_BYTES_MAX;

/// Peers with which digests are exchanged at once: one that is silent holds up itself and no other. More would ask for
/// the same few locks at the same time.
pub(super) const MEETINGS_MAX: usize = 8;

/// Digest buckets. Of 10,000 tenants about 40 share one, which is one small page of vectors.
pub(super) const BUCKETS: usize = 256;

/// Bytes in one page of vectors.
pub(super) const VECTORS_PAGE_BYTES_MAX: usize = 1 << 20;

/// How long a small call to a peer may take. Round trips around the world stay under half a second.
pub(super) const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// How long a catch-up waits for its next message. A batch is two megabytes: a link slower than that is a fault.
pub(super) const MESSAGE_DEADLINE: Duration = Duration::from_secs(20);

/// How long a gossip stream that carries sets may stay without any acknowledgement.
pub(super) const ACK_DEADLINE: Duration = Duration::from_secs(10);

/// The first wait after a failure.
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(50);

/// The longest wait after failures: what a healed partition waits at the most.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// How long what the other replicas said of themselves counts as fresh.
pub(super) const DESCRIBED_FRESH: Duration = Duration::from_secs(1);

/// How long replicas that differ wait for the word of one that cannot be compared just now, because it has taken in more
/// or less than they: nobody should read "no majority agrees" of a majority that had not been counted.
pub(super) const JUDGE_PATIENCE: Duration = Duration::from_secs(10);

/// Origins of which clients have seen more than a replica holds. Clients name them; of more, some are asked for later.
pub(super) const SOUGHT_MAX: usize = 256;

/// How often a leaving replica asks whether the others hold all it has.
pub(super) const LEAVE_POLL: Duration = Duration::from_millis(250);

/// The same while one of them does not answer: it may be gone until somebody removes it, and a node that is drained asks
/// for each of its tenants.
pub(super) const LEAVE_POLL_SILENT: Duration = Duration::from_secs(5);

/// How often a report to the control plane is repeated while the view does not show it.
pub(super) const REPORT_AGAIN: Duration = Duration::from_secs(2);

/// What a removed node sent before it was removed may be under way this long.
pub(super) const CLOSE_WAIT: Duration = if cfg!(test) {
    Duration::from_millis(500)
} else {
    Duration::from_secs(10)
};

/// Facts in one collection: one small message, and one commit.
pub(super) const COLLECT_CELLS_MAX: usize = 4_096;

/// Bytes of the cells of one collection.
pub(super) const COLLECT_BYTES_MAX: usize = 1 << 20;

/// How many of this node's tenants are looked at for tombstones in one round.
pub(super) const COLLECT_TENANTS_MAX: usize = 256;

/// How soon a change of an interval counts for a wait that is under way.
pub(super) const SETTING_HEEDED_WITHIN: Duration = Duration::from_secs(1);

/// How long changes of the control plane are gathered before they are looked at.
pub(super) const VIEW_GATHER: Duration = Duration::from_millis(10);

/// How long a difference that a digest found is left to gossip under way before it is pulled.
pub(super) const SETTLE: Duration = Duration::from_millis(20);

/// Tenants of which one digest may settle what the peer holds. The next digest settles more.
pub(super) const DOUBTS_MAX: usize = 1_024;

/// Late acknowledgements that wait on one gossip stream. What does not fit is told by the next digest.
pub(super) const LATE_ACKS_MAX: usize = 256;

/// Origins acknowledged to each peer after one catch-up.
pub(super) const LATE_ACK_ORIGINS_MAX: usize = 1_024;

/// A warning that would come with each message is told this often: a failed disk refuses thousands a second.
pub(super) const WARN_INTERVAL: Duration = Duration::from_secs(10);

/// Calls that wait for another region at once.
pub(super) const REGION_WAITERS_MAX: usize = 65_536;

/// Alarms that are remembered.
pub(super) const ALARMS_MAX: usize = 1_000;

const _: () = assert!(CHANGE_SET_BYTES_MAX <= GOSSIP_MESSAGE_BYTES_MAX);
const _: () = assert!(2 * GOSSIP_MESSAGE_BYTES_MAX <= MESSAGE_BYTES_MAX);
const _: () = assert!(CATCH_UP_BATCH_BYTES <= BATCH_BYTES_MAX);
const _: () = assert!(PARKED_BYTES_MAX >= GOSSIP_MESSAGE_BYTES_MAX);
