//! The bounds of rooms, each with its reason.

use std::time::Duration;

use halcyon_core::limits::MESSAGE_BYTES_MAX;

/// Rooms that one session may be in. A page shows one document, a desk some dozens.
pub(super) const ROOMS_PER_SESSION_MAX: usize = 64;

/// Connections in one room that this node lets in, with those that it knows elsewhere. Each one's change goes to all
/// others: more than this wants channels, not rooms.
pub(super) const USERS_PER_ROOM_MAX: usize = 1_000;

/// Bytes of a room's id.
pub(super) const ROOM_BYTES_MAX: usize = 128;

/// Bytes of what an app calls its user.
pub(super) const USER_BYTES_MAX: usize = 256;

/// Bytes of one presence: a cursor, a selection, a name and a colour.
pub(super) const PRESENCE_BYTES_MAX: usize = 4 << 10;

/// Fields of a room's status, unset ones included: they are remembered until the room is gone.
pub(super) const STATUS_KEYS_MAX: usize = 256;

/// What peers may bring beside that: four replicas whose clients filled it at the same moment.
pub(super) const STATUS_KEYS_KEPT_MAX: usize = 4 * STATUS_KEYS_MAX;

/// Bytes of a status field's name.
pub(super) const STATUS_KEY_BYTES_MAX: usize = 128;

/// Bytes of a status field's value.
pub(super) const STATUS_BYTES_MAX: usize = 8 << 10;

/// Bytes of a message's payload.
pub(super) const MESSAGE_PAYLOAD_BYTES_MAX: usize = 8 << 10;

/// Bytes of a message's topic.
pub(super) const TOPIC_BYTES_MAX: usize = 128;

/// Connections that one message may name.
pub(super) const RECIPIENTS_MAX: usize = 256;

/// Messages and status changes a second of one session, and as many at once. A person types ten; a game ticks at thirty.
pub(super) const SENDS_PER_SECOND: u32 = 60;

/// Presences a second of one session: a cursor at a 120 Hz screen's rate. What is more tells nobody anything.
pub(super) const PRESENCES_PER_SECOND: u32 = 130;

/// Messages of one room that wait for its slowest receiver. Half a second of what fifty sessions may send.
pub(super) const MESSAGES_KEPT_MAX: usize = 1_024;

/// Bytes of these.
pub(super) const MESSAGES_KEPT_BYTES_MAX: usize = 1 << 20;

/// Departures of one room that wait for its slowest receiver. One that is further behind is told everything anew.
pub(super) const GONE_KEPT_MAX: usize = 1_024;

/// Bytes of one event to a client and of one message to a peer, roughly. What is left goes into the next.
pub(super) const EVENT_BYTES_MAX: usize = 128 << 10;

/// How long a receiver that was just told of presences rests before it is told of further ones. What happens after a
/// longer quiet goes at once; under load only the latest of each connection goes, a hundred times a second.
pub(super) const PRESENCE_REST: Duration = Duration::from_millis(10);

/// How long a connection stays in its rooms when its session has lost its stream. A phone that changes cells is back
/// sooner; a closed laptop's cursor should not stand there until the session ends.
pub(super) const AWAY_AFTER: Duration = Duration::from_secs(8);

/// How long a session without a stream is remembered if nobody says that it is over: longer than any session's grace.
pub(super) const SESSION_KEPT_MAX: Duration = Duration::from_mins(5);

/// How often a stream to a peer says that its node lives.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);

/// A peer that was silent for this long is dead to its rooms: three heartbeats and a lost segment sent again.
pub(super) const PEER_SILENT_MAX: Duration = Duration::from_secs(4);

/// A peer whose stream ended is dead to its rooms unless it is back by then: a connection is made again in three round
/// trips.
pub(super) const PEER_BACK_WITHIN: Duration = Duration::from_secs(2);

/// How often the above are looked at.
pub(super) const TICK: Duration = Duration::from_millis(500);

/// Requests to a peer that may wait for their answers: at a hundred a second, more than the longest round trip.
pub(super) const IN_FLIGHT_MAX: u64 = 64;

/// Bytes of these, roughly: what rooms may put before data on a connection that both use.
pub(super) const IN_FLIGHT_BYTES_MAX: usize = 256 << 10;

/// A peer that has not answered for this long has lost the stream.
pub(super) const ANSWER_DEADLINE: Duration = Duration::from_secs(4);

/// How long opening a stream may take.
pub(super) const OPEN_DEADLINE: Duration = Duration::from_secs(3);

/// The first pause before a stream is opened again. Each one after it is twice as long.
pub(super) const BACKOFF_MIN: Duration = Duration::from_millis(50);

/// The longest of these.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Rooms that one peer may say it has clients in.
pub(super) const PEER_ROOMS_MAX: usize = 100_000;

/// Rooms in one message from a peer.
pub(super) const NEWS_MAX: usize = 4_096;

/// Answers of a peer without a room in common, one a second, after which its stream is closed.
pub(super) const LINK_IDLE_MAX: u32 = 10;

/// How far ahead of this node's clock a status may be that the clock follows. The peer has checked it by its own clock
/// and the cluster's `drift_max`; what is further ahead would only make this node's own clients fail that check.
pub(super) const PEER_DRIFT_MAX: Duration = Duration::from_hours(1);

const _: () = assert!(EVENT_BYTES_MAX + 2 * STATUS_BYTES_MAX < MESSAGE_BYTES_MAX);
const _: () = assert!(HEARTBEAT.as_millis() * 3 < PEER_SILENT_MAX.as_millis());
const _: () = assert!(AWAY_AFTER.as_millis() < SESSION_KEPT_MAX.as_millis());
