//! The bounds of a node's edges: connections, messages, waits. Each with its reason.
//!
//! What every part of Halcyon agrees on (sizes of values and sets) is in core; a room's own bounds are in that room.

use std::time::Duration;

pub use halcyon_core::limits::MESSAGE_BYTES_MAX;

/// TCP and TLS to a peer, together. Three round trips around the world take 1 s; a peer that needs more is down.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection that has sent nothing for this long is asked whether it lives: a cut cable never says so itself.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// How long the answer to that may take. Together with the interval, a dead peer is noticed in 10 s at the latest;
/// every call has a deadline of its own besides.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that one HTTP/2 stream may have in flight. At 100 ms round trip this carries 160 MB/s: a catch-up across an
/// ocean is bound by the network, not by the window.
pub const STREAM_WINDOW_BYTES: u32 = 16 << 20;

/// Bytes in flight on one connection: one catch-up at full speed leaves room for gossip and Raft beside it.
pub const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// HTTP/2 frame. Large enough that a batch is tens of frames, small enough that a heartbeat gets in between.
pub const FRAME_BYTES_MAX: u32 = 256 << 10;

/// Bytes of all headers of one call. Ours are a path, a key of 50 bytes and a trace id; browsers add some hundred.
pub const HEADER_BYTES_MAX: u32 = 16 << 10;

/// Calls that may wait for one connection to a peer before the next waits itself.
pub const PEER_CALLS_BUFFERED_MAX: usize = 1_024;

/// Bytes of one window from clients. A push is 1 MiB; a browser's upload needs no more.
pub const CLIENT_STREAM_WINDOW_BYTES: u32 = 2 << 20;

/// Bytes in flight on one client's connection.
pub const CLIENT_CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// Calls in flight on one connection. A browser tab has fewer than ten; a bench's shared connection has 256 writers.
pub const CALLS_PER_CONNECTION_MAX: u32 = 1_024;

/// Client calls in flight on a node, streams aside. Each may hold one message, so this bounds memory at
/// `CALLS_MAX * 1 MiB` of pushes in the worst case and far less in every real one.
pub const CALLS_MAX: usize = 4_096;

/// Watch streams on a node. Each holds a bounded queue and a task.
pub const WATCHES_MAX: usize = 16_384;

/// Connections from clients. A file descriptor and some 20 KB each; systemd's unit allows 65,536 descriptors.
pub const CLIENT_CONNECTIONS_MAX: usize = 32_768;

/// Connections from peers: two for each of a hundred nodes, with room for those that are being replaced.
pub const PEER_CONNECTIONS_MAX: usize = 1_024;

/// A TLS handshake, and the first byte of a call after it. Slower than this is an attack or a dead line.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Any unary call from a client: a `region` acknowledgement waits the longest, and its own deadline is shorter.
pub const CLIENT_CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Any unary call between nodes, unless the room that calls sets its own, shorter one.
pub const PEER_CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest that `region_ack_deadline` may be set to. A push that waits for a second region is answered in time for
/// the node that passes it on, and for the client.
pub const REGION_ACK_MAX: Duration = Duration::from_secs(10);

/// A call that one node passes on for a client. Less than the client's own, so that the answer still reaches it.
pub const FORWARD_TIMEOUT: Duration = Duration::from_secs(12);

/// The first call on a connection to a peer.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(3);

/// All peers of a join token, one after the other, each with `CONNECT_TIMEOUT` and a write to the control plane.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(15);

/// A probe that took longer counts as lost.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Alarms that go with the answer to a probe. Where there are more, the first say enough.
pub const ALARMS_TOLD_MAX: usize = 32;

/// Characters of a peer's alarm that are kept.
pub const ALARM_CHARS_MAX: usize = 500;

/// Probes lost in a row until a peer counts as unreachable. One lost segment is not an outage.
pub const PROBES_LOST_MAX: u32 = 3;

/// Round trips of which the smallest counts as recent: the floor of a path that shares its link.
pub const ROUND_TRIPS_KEPT: usize = 16;

/// What a graceful stop waits for calls in flight.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What a graceful stop waits for calls of peers. They are all made again, elsewhere or after the next start, and what
/// a cut-off stream would have brought comes by catch-up.
pub const PEER_DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// What a name that this node does not know may cost the caller: a round trip to the control plane's leader around the
/// world, with an election's luck.
pub const FRESH_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a call waits for a replica that was placed here and is not open yet. Opening is one commit; under a burst
/// of new tenants it waits for others'.
pub const OPEN_WAIT_MAX: Duration = Duration::from_secs(1);

/// The first of the pauses between two looks at that; each is twice the one before.
pub const OPEN_WAIT_FIRST: Duration = Duration::from_millis(5);

/// How long `/readyz` says no before the listeners close, so that a load balancer has seen it.
pub const UNREADY_NOTICE: Duration = Duration::from_millis(200);

/// How long an accept loop rests after an error (no file descriptors left, mostly).
pub const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Change sets in one push. Beyond that a client does better to pipeline.
pub const PUSH_SETS_MAX: usize = 4_096;

/// Triples in one page of a scan, and what a scan without a limit gets.
pub const SCAN_LIMIT_MAX: usize = 10_000;

/// See [`SCAN_LIMIT_MAX`].
pub const SCAN_LIMIT_DEFAULT: usize = 1_000;

/// The longest that `query_time_max` may be set to: what waits for a turn and for the client's vector comes before it.
pub const QUERY_TIME_MAX: Duration = Duration::from_secs(20);

/// The longest pause between two looks at whether a node has what a client has seen.
pub const VECTOR_LOOK_MAX: Duration = Duration::from_millis(20);

/// Tenants in one page of a list.
pub const LIST_LIMIT_MAX: usize = 1_000;

/// How long a join token may live; the setting `token_lifetime` says how long it lives when nobody asks. A month is a
/// provisioning run that is handed a token at its start.
pub const TOKEN_LIFETIME_MAX: Duration = Duration::from_hours(30 * 24);

/// Bytes of a certificate signing request. Ours have 400.
pub const SIGNING_REQUEST_BYTES_MAX: usize = 8 << 10;

/// Bytes of a snapshot of the control plane's state on its way to a node, in one chunk.
pub const SNAPSHOT_CHUNK_BYTES: usize = 1 << 20;

const _: () = assert!(SNAPSHOT_CHUNK_BYTES < MESSAGE_BYTES_MAX);
const _: () = assert!(REGION_ACK_MAX.as_millis() < FORWARD_TIMEOUT.as_millis());
const _: () = assert!(QUERY_TIME_MAX.as_millis() < CLIENT_CALL_TIMEOUT.as_millis());
const _: () = assert!(FORWARD_TIMEOUT.as_millis() < CLIENT_CALL_TIMEOUT.as_millis());
