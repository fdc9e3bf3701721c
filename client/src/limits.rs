//! The bounds and deadlines of a client, each with its reason.

use std::time::Duration;

use halcyon_core::limits::{CHANGE_SET_BYTES_MAX, MESSAGE_BYTES_MAX};

/// Sets in one push. What waits while a push is under way makes the next one; a node answers a thousand small sets
/// after one shared fsync.
pub(crate) const PUSH_SETS_MAX: usize = 1_024;

/// Bytes of sets in one push. Half a message, and enough for a set of the largest size.
pub(crate) const PUSH_BYTES_MAX: usize = 2 << 20;

/// Sets that wait for an acknowledgement. Beyond this a write waits for room: weeks of a person's offline work.
pub(crate) const OUTBOX_SETS_MAX: usize = 100_000;

/// Bytes of those sets: they are in memory as well as on disk.
pub(crate) const OUTBOX_BYTES_MAX: usize = 64 << 20;

/// How long a write waits for room in a full outbox before it says so.
pub(crate) const ROOM_WAIT: Duration = Duration::from_secs(30);

/// Acknowledged sets that are kept until a second replica holds them: some seconds of a busy client.
pub const KEPT_SETS_MAX: usize = 4_096;

/// Bytes of those sets.
pub const KEPT_BYTES_MAX: usize = 8 << 20;

/// Writes that wait for the outbox's disk: what one fsync takes in.
pub(crate) const WRITES_WAITING_MAX: usize = 1_024;

/// To open a connection, TLS included: three round trips around the world on a bad day.
pub(crate) const CONNECT_DEADLINE: Duration = Duration::from_secs(3);

/// For calls that a node answers from memory: Hello, Locate, Held.
pub(crate) const QUICK_DEADLINE: Duration = Duration::from_secs(3);

/// For one push. A node's own deadlines, for `region` acknowledgement and for passing a push on, have to be shorter.
pub const PUSH_DEADLINE: Duration = Duration::from_secs(15);

/// For one attempt at a read.
pub(crate) const READ_DEADLINE: Duration = Duration::from_secs(10);

/// For one attempt at a query, until its answer begins, where the client's read deadline is not shorter. Longer than a
/// node gives a query, so that its reason comes first.
pub(crate) const QUERY_DEADLINE: Duration = Duration::from_secs(28);

/// An answer of which nothing came for this long has broken off.
pub(crate) const QUERY_SILENCE_MAX: Duration = Duration::from_secs(28);

/// For a read with all its attempts. A query gets one whole attempt.
pub(crate) const READ_TOTAL: Duration = Duration::from_secs(30);

const _: () = assert!(QUERY_DEADLINE.as_millis() < READ_TOTAL.as_millis());

/// How long a scan waits for the replica where it is, before it begins anew at another: a restart takes a second.
pub(crate) const SCAN_PATIENCE: Duration = Duration::from_secs(3);

/// Hashes of what a scan has given, for beginning anew elsewhere: a hundred megabytes.
pub(crate) const SCAN_REMEMBERED_MAX: usize = 4 << 20;

/// How often one scan may begin anew: replicas are lost one by one, not all the time.
pub(crate) const SCAN_MOVES_MAX: u32 = 8;

/// A watch that hears nothing for this long, not even that nothing happened, connects anew.
pub(crate) const WATCH_SILENCE_MAX: Duration = Duration::from_mins(1);

/// Content hashes by which an interrupted watch tells what it has delivered: a megabyte.
pub(crate) const MISSED_REMEMBERED_MAX: usize = 65_536;

/// Changes of a room that wait for the app. Then the stream waits, and the node tells less often, of more at once.
pub(crate) const ROOM_CHANGES_MAX: usize = 64;

/// The pause before a presence that no node took is sent again: a connection that broke is being made anew meanwhile.
pub(crate) const PRESENCE_PAUSE: Duration = Duration::from_millis(100);

/// An HTTP/2 ping when a connection has been quiet for this long; lost connections show within the two together.
pub(crate) const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// How long that ping may take.
pub(crate) const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A node that has not answered a call for this long, beside what the call's bytes may take, is asked whether it is
/// there at all: another may be. A ping finds that out too, but pinging each second would keep a phone's radio awake.
pub(crate) const ANSWER_PATIENCE: Duration = Duration::from_secs(1);

/// How long the answer to that may take. It waits for nothing but the path, and is asked again after each patience.
pub(crate) const PRESENCE_DEADLINE: Duration = Duration::from_secs(2);

/// The slowest path on which a call's bytes still count as under way.
pub(crate) const PATH_BYTES_PER_SECOND_MIN: u64 = 64 << 10;

/// The first wait after a failure.
pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(20);

/// The longest wait between two attempts.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// The wait between two attempts while nodes refuse the client as a whole: somebody has to mend it first.
pub(crate) const BLOCKED_WAIT: Duration = Duration::from_secs(15);

/// Round trips that are measured to each replica; the median counts.
pub(crate) const SAMPLES: usize = 3;

/// How often replicas are located and measured anew.
pub(crate) const MEASURE_INTERVAL: Duration = Duration::from_secs(30);

/// How often a client with kept sets asks whether a second replica holds them.
pub(crate) const HELD_INTERVAL: Duration = Duration::from_secs(1);

/// The same for one that has no quiet moment. The question comes between two pushes, which wait for the answer.
pub(crate) const HELD_INTERVAL_BUSY: Duration = Duration::from_secs(5);

/// A kept set is pushed again when another replica has said so often that it has not heard of it: the questions come
/// ever more rarely, so this is half a minute after the first.
pub(crate) const UNHEARD_OF_MAX: u32 = 5;

/// How much longer to measure once the first replica has answered: a nearer one would have answered by then.
pub(crate) const MEASURE_PATIENCE: Duration = Duration::from_millis(200);

/// How long closing waits for the tasks: they stop at their next wait.
pub(crate) const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// Connections kept open: the replicas of one tenant and the addresses given.
pub(crate) const CHANNELS_MAX: usize = 32;

/// How far apart the device's two clocks may be on how long ago a node was greeted. A machine that slept, or whose clock was
/// set, is further off, and greets it again: what a node's clock shows is to be known to a fraction of the drift it takes.
pub(crate) const CLOCKS_APART_MAX: Duration = Duration::from_secs(1);

/// Greetings of a node to learn its clock, where the machine sleeps during one.
pub(crate) const GREETINGS_MAX: usize = 3;

/// An operator's node that has not answered for this long is greeted before a call that must not be made twice.
pub(crate) const GREETED_FOR: Duration = Duration::from_secs(1);

/// Nodes that one export or import asks: every replica of a tenant, and every address that was given.
pub(crate) const ADMIN_NODES_MAX: usize = 64;

/// An operator's calls wait for the control plane, and for other nodes.
pub(crate) const ADMIN_DEADLINE: Duration = Duration::from_secs(30);

/// An export or an import as a whole: a tenant of some hundred gigabytes.
pub(crate) const ADMIN_STREAM_DEADLINE: Duration = Duration::from_hours(24);

/// Updates that wait for one follower. One that is further behind is told the whole answer instead.
pub(crate) const UPDATES_MAX: usize = 256;

/// Notices of refused and superseded writes that wait to be taken; older ones go.
pub(crate) const NOTICES_MAX: usize = 1_024;

/// Bytes of texts from which on it is looked at how many of them are of values that are gone.
pub(crate) const TEXTS_LOOKED_AT_FROM: usize = 8 << 20;

/// Changed triples from which on a query is answered anew where they are a quarter of all that is here: a first load.
pub(crate) const REOPEN_FROM: usize = 2_000;

/// Bytes of names and fingerprints that the second call of a subscription says, beside which there is more in its message.
/// Of buckets beyond that all comes again.
pub(crate) const HELD_BYTES_MAX: usize = MESSAGE_BYTES_MAX / 2;

/// Queries that are kept for a moment when nobody follows them any more: some pages back.
pub(crate) const LINGERING_MAX: usize = 8;

/// Entities of all of these. Whoever has more loads them again rather than keep them up to date for nobody.
pub(crate) const LINGERING_ENTITIES_MAX: usize = 20_000;

/// Among more queries than this none lingers: a session has at most 256 subscriptions.
pub(crate) const LINGERS_AMONG_MAX: usize = 128;

/// How often a query that lingers is looked at before it goes.
pub(crate) const LINGER_AGES: u32 = 2;

/// Time between two looks. Long enough to look at a page and come back; a node keeps a plan for half a minute.
#[cfg(feature = "native")]
pub(crate) const LINGER_LOOK: Duration = Duration::from_secs(10);

/// Runs for which the coverage of a query that nobody followed is kept on the disk.
pub(crate) const IDLE_RUNS_MAX: u64 = 8;

/// A session's stream that hears nothing for this long connects anew: three of a node's signs of life.
pub(crate) const SESSION_SILENCE_MAX: Duration = Duration::from_secs(15);

/// For one `Subscribe`: the node answers the query first.
pub(crate) const SUBSCRIBE_DEADLINE: Duration = Duration::from_secs(20);

/// Calls of one session under way beside its stream: a page that opens with many queries asks for all at once.
pub(crate) const SUBSCRIPTION_CALLS_MAX: usize = 32;

/// The least time between two commits of what queries cover. Losing that much costs a few buckets of a digest.
pub(crate) const SAVE_PAUSE: Duration = Duration::from_millis(100);

const _: () = assert!(CHANGE_SET_BYTES_MAX < PUSH_BYTES_MAX);
const _: () = assert!(PUSH_BYTES_MAX < MESSAGE_BYTES_MAX);
