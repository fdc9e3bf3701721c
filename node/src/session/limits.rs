//! The bounds of the session room, each with its reason.

use std::time::Duration;

/// How long a session stays without a stream: a phone's elevator, a laptop's lid, a restart of the page.
pub const GRACE: Duration = Duration::from_mins(1);

/// How often sessions without a stream are looked through. A grace may last that much longer.
pub const SWEEP: Duration = Duration::from_secs(5);

/// How often a session hears that its connection lives, and what is durable. 10,000 idle clients cost 2,000 small
/// messages a second.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// Sessions of a node. Each has some 1 KB, its stream some 12 KB.
pub const SESSIONS_MAX: usize = 16_384;

/// Sessions of one tenant on a node: one must not take all.
pub const SESSIONS_PER_TENANT_MAX: usize = 12_288;

/// Events that wait for a session's stream. One that is further behind resumes by digest.
pub const WAITING_EVENTS_MAX: usize = 4_096;

/// Bytes of events that wait, the coverage of new subscriptions aside.
pub const WAITING_BYTES_MAX: usize = 4 << 20;

/// Bytes of new subscriptions' coverage that wait. A subscription of more is refused for good; one that does not fit beside
/// what waits, until the client has taken that in.
pub const LOAD_BYTES_MAX: usize = 64 << 20;

/// Events that a stream has taken and that are kept, in case the stream breaks before they arrive.
pub const TAKEN_EVENTS_MAX: usize = 1_024;

/// Bytes of these.
pub const TAKEN_BYTES_MAX: usize = 4 << 20;

/// Of these, bytes of new subscriptions' coverage: what may be on its way to a phone. It comes once and is much; a client
/// that lost more of it says by digest what it has.
pub const TAKEN_LOAD_BYTES_MAX: usize = 256 << 10;

/// How long they are kept. A connection that has been silent for less than that may have lost them.
pub const TAKEN_AGE_MAX: Duration = GRACE;

/// What asks to be told of the end of one session: its subscriptions and its rooms.
pub const END_LISTENERS_MAX: usize = 1_024;
