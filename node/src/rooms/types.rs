//! What rooms are made of.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use halcyon_core::{
    clock::{DriftError, Timestamp, WallTime},
    id::{NodeId, TenantId},
};
use thiserror::Error;

pub use crate::session::SessionId;

use super::limits::{
    PRESENCES_PER_SECOND, ROOM_BYTES_MAX, ROOMS_PER_SESSION_MAX, SENDS_PER_SECOND, STATUS_KEYS_MAX, USERS_PER_ROOM_MAX,
};

/// The app's name for a room, or a nanoid.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoomName(Arc<str>);

impl RoomName {
    /// Checks a text.
    pub fn new(text: &str) -> Result<Self, RoomError> {
        let is_good = !text.is_empty() && text.len() <= ROOM_BYTES_MAX && !text.chars().any(char::is_control);
        if is_good {
            Ok(Self(text.into()))
        } else {
            Err(RoomError::Name)
        }
    }

    /// Below every name.
    pub(super) fn first() -> Self {
        Self("".into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A room of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoomKey {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub room: RoomName,
}

/// One session's presence in one room. Names its node, so that a node speaks for its own alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId {
    /// Where the session is.
    pub node: NodeId,
    /// Which start of the node, drawn at random.
    pub start: u32,
    /// Counts.
    pub number: u64,
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}-{}", self.node.0, self.start, self.number)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ConnectionId {
    type Err = RoomError;

    fn from_str(text: &str) -> Result<Self, RoomError> {
        let read = || {
            let (node, rest) = text.split_once('-')?;
            let (start, number) = rest.split_once('-')?;
            Some(Self {
                node: NodeId(node.parse().ok()?),
                start: u32::from_str_radix(start, 16).ok()?,
                number: number.parse().ok()?,
            })
        };
        read().ok_or(RoomError::Connection)
    }
}

/// Who a connection is, and what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// As the app names it.
    pub user: Arc<str>,
    /// JSON.
    pub presence: Arc<str>,
    /// Where its node is.
    pub region: Arc<str>,
    /// When it last did something.
    pub last_seen: WallTime,
}

/// A field of a room's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// JSON; empty for a field that was unset.
    pub value: Arc<str>,
    /// The latest wins; of equal ones the larger value.
    pub timestamp: Timestamp,
}

impl Status {
    /// Whether this replaces `other`.
    pub fn beats(&self, other: &Self) -> bool {
        (self.timestamp, &self.value) > (other.timestamp, &other.value)
    }
}

/// Something that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// About what.
    pub topic: Arc<str>,
    /// JSON.
    pub payload: Arc<str>,
    /// By whom.
    pub from: ConnectionId,
    /// When.
    pub timestamp: Timestamp,
    /// For whom; empty for everybody.
    pub to: Vec<ConnectionId>,
}

/// What a receiver has not been told of one room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// Replaces all that it knew.
    pub whole: bool,
    /// Connections that came.
    pub users: Vec<(ConnectionId, User)>,
    /// What known ones do.
    pub presences: Vec<(ConnectionId, Arc<str>, WallTime)>,
    /// Connections that are gone.
    pub gone: Vec<ConnectionId>,
    /// Fields that changed.
    pub status: Vec<(Arc<str>, Status)>,
    /// What was said.
    pub messages: Vec<Arc<Message>>,
    /// Messages that were dropped before it could be told.
    pub missed: u64,
}

impl Update {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it tells of presences.
    pub fn has_presence(&self) -> bool {
        !self.presences.is_empty()
    }
}

/// Whether a node has clients in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// It has.
    Entered,
    /// It has no more.
    Left,
}

/// What one node tells another of one room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Which.
    pub key: RoomKey,
    /// None: as it was.
    pub interest: Option<Interest>,
    /// Of the teller's own clients.
    pub update: Update,
}

/// One message from a node to another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Telling {
    /// The first of a stream.
    pub whole: bool,
    /// None: the teller lives.
    pub news: Vec<News>,
}

/// When something happens.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Time of day.
    pub wall: WallTime,
    /// Time that never goes back.
    pub now: Duration,
}

/// Why a call of a client was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RoomError {
    /// See [`RoomName`].
    #[error("a room id has 1 to {ROOM_BYTES_MAX} bytes and no control characters")]
    Name,
    /// It reads like none that a node gives.
    #[error("that is not the name of a connection in a room")]
    Connection,
    /// It has no stream here, or has ended.
    #[error("this node has no such session: open one first")]
    NoSession,
    /// It must be entered first.
    #[error("this session is not in that room: enter it first")]
    NotEntered,
    /// The session belongs to another tenant.
    #[error("the session is another tenant's: open one with this tenant's key")]
    OtherTenant,
    /// See [`ROOMS_PER_SESSION_MAX`].
    #[error("the session is in {ROOMS_PER_SESSION_MAX} rooms, and may be in no more; leave one")]
    Rooms,
    /// See [`USERS_PER_ROOM_MAX`].
    #[error(
        "the room is full: {USERS_PER_ROOM_MAX} connections are in it; try again when somebody has left, or use another room"
    )]
    Full,
    /// See [`STATUS_KEYS_MAX`].
    #[error("the room's status has {STATUS_KEYS_MAX} fields, unset ones included, and may have no more")]
    StatusKeys,
    /// Over a limit on bytes or items.
    #[error("{what} {size}; the limit is {max}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How large it is.
        size: usize,
        /// How large it may be.
        max: usize,
    },
    /// Messages and status changes come too fast.
    #[error("a session may send {SENDS_PER_SECOND} messages and status changes a second")]
    Sends {
        /// When one more may be sent.
        retry_after: Duration,
    },
    /// Presences come too fast.
    #[error("a session may change its presence {PRESENCES_PER_SECOND} times a second; send only the latest")]
    Presences {
        /// When one more may be set.
        retry_after: Duration,
    },
    /// The client's clock.
    #[error(transparent)]
    Drift(#[from] DriftError),
}

/// Refuses what is larger than `max`.
pub(super) fn check_size(what: &'static str, size: usize, max: usize) -> Result<(), RoomError> {
    if size > max {
        Err(RoomError::TooLarge { what, size, max })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connections_name_can_be_read_back() {
        let id = ConnectionId {
            node: NodeId(3),
            start: 0xab,
            number: 17,
        };
        assert_eq!(id.to_string(), "3-ab-17");
        assert_eq!("3-ab-17".parse(), Ok(id));
        for bad in ["", "3", "3-ab", "3-xy-1", "-1-2-3", "3-ab-17-9"] {
            assert_eq!(bad.parse::<ConnectionId>(), Err(RoomError::Connection), "{bad}");
        }
    }
}
