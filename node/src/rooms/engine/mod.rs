//! The rules of rooms: what a node's sessions and peers do goes in, what each of them has to be told comes out.
//!
//! Pure: no I/O, no clock, no chance. A node speaks for its own clients alone; peers learn of them directly, from it, and
//! only in rooms that they have clients in themselves. Nothing is ever queued for a receiver: it has a place in the
//! room's log (see [`super::room`]), and takes what is behind it when it is ready.
//!
//! What always holds:
//! - a room is here while a session of this node is in it, and until what that did last was told;
//! - users of a peer are here only while that peer was heard of a short time ago;
//! - a receiver that has missed anything starts anew, from all that the room holds.

mod local;
mod peers;
mod tick;

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
    time::Duration,
};

use halcyon_core::{
    clock::{ClientId, Clock, NTP64},
    id::{NodeId, TenantId},
};

use super::{
    rate::Bucket,
    room::{Reader, Room, Waiting},
    types::{ConnectionId, RoomKey, RoomName, SessionId, User},
};

pub use self::{
    local::{Haste, Saying, Setting},
    peers::Stale,
};

/// Whom to wake: there is something to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wake {
    /// A session's stream.
    Session(SessionId),
    /// The stream to a peer.
    Peer(NodeId),
}

/// What a receiver that found nothing to take waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Armed {
    /// For nothing: it is not waiting.
    #[default]
    No,
    /// For what should go at once; it has just been told of presences.
    Urgent,
    /// For anything.
    Any,
}

impl Armed {
    /// Whether this should wake it. It is awake then.
    fn fire(&mut self, waiting: Waiting) -> bool {
        let fires = match self {
            Self::No => false,
            Self::Urgent => waiting >= Waiting::Urgent,
            Self::Any => waiting >= Waiting::Presence,
        };
        if fires {
            *self = Self::No;
        }
        fires
    }
}

/// Figures of a node's rooms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Rooms with clients of this node.
    pub rooms: u64,
    /// Connections of this node.
    pub connections: u64,
    /// Connections that are known of other nodes.
    pub remote: u64,
    /// Presences that clients set.
    pub presences: u64,
    /// Messages that clients sent.
    pub messages: u64,
    /// Presences that were told to clients.
    pub presences_told: u64,
    /// Messages that were told to clients.
    pub messages_told: u64,
    /// Messages that receivers were too slow for.
    pub messages_missed: u64,
    /// Peers that died while their clients were known.
    pub peers_lost: u64,
    /// What peers brought over a limit.
    pub over_limit: u64,
}

/// See above.
#[derive(Debug)]
pub struct Engine {
    me: NodeId,
    region: Arc<str>,
    start: u32,
    connections: u64,
    clock: Clock,
    rooms: BTreeMap<RoomKey, Room>,
    sessions: BTreeMap<SessionId, Session>,
    /// Who holds the tenants that rooms are of.
    placed: BTreeMap<TenantId, BTreeSet<NodeId>>,
    peers: BTreeMap<NodeId, Peer>,
    wakes: Vec<Wake>,
    figures: Figures,
}

#[derive(Debug)]
struct Session {
    tenant: TenantId,
    rooms: BTreeMap<RoomName, Membership>,
    /// The room that is looked at last when it takes.
    turn: Option<RoomName>,
    /// Since when it has no stream.
    detached: Option<Duration>,
    /// It has been without one for so long that others do not see it any more.
    away: bool,
    armed: Armed,
    sends: Bucket,
    presences: Bucket,
}

/// A session in a room, kept while it is away.
#[derive(Debug)]
struct Membership {
    connection: ConnectionId,
    user: User,
}

#[derive(Debug, Default)]
struct Peer {
    /// There is a stream to it, and which one: raised with each.
    linked: bool,
    link: u64,
    /// Nothing has gone through that stream yet.
    fresh: bool,
    /// Rooms that it has to be told of as entered or left.
    announce: BTreeSet<RoomKey>,
    /// Rooms that may have something for it.
    ready: BTreeSet<RoomKey>,
    armed: Armed,
    /// The stream from it: raised with each.
    stream: u64,
    streaming: bool,
    heard: Duration,
    /// Rooms that it has clients in.
    interests: BTreeSet<RoomKey>,
    /// Rooms whose users are from a stream before: to be replaced soon, or gone.
    unconfirmed: BTreeMap<RoomKey, Duration>,
}

impl Session {
    fn new(tenant: TenantId) -> Self {
        Self {
            tenant,
            rooms: BTreeMap::new(),
            turn: None,
            detached: None,
            away: false,
            armed: Armed::No,
            sends: Bucket::default(),
            presences: Bucket::default(),
        }
    }
}

impl Engine {
    /// An engine of a node that knows nobody. `start` and `clock` are drawn at random.
    pub fn new(me: NodeId, region: &str, start: u32, clock: ClientId) -> Self {
        Self {
            me,
            region: region.into(),
            start,
            connections: 0,
            clock: Clock::new(clock, NTP64(0)),
            rooms: BTreeMap::new(),
            sessions: BTreeMap::new(),
            placed: BTreeMap::new(),
            peers: BTreeMap::new(),
            wakes: Vec::new(),
            figures: Figures::default(),
        }
    }

    /// Whom to wake since the last call.
    pub fn wakes(&mut self) -> Vec<Wake> {
        mem::take(&mut self.wakes)
    }

    /// Figures.
    pub fn figures(&self) -> Figures {
        let mut figures = self.figures;
        for room in self.rooms.values() {
            let here = room.sessions.len() as u64;
            figures.rooms += u64::from(!room.closing);
            figures.connections += here;
            figures.remote += (room.len() as u64).saturating_sub(here);
        }
        figures
    }

    /// Something happened in a room: wakes those who wait for that.
    fn stir(&mut self, key: &RoomKey, waiting: Waiting, but: Option<SessionId>) {
        let Some(room) = self.rooms.get(key) else { return };
        for &session in room.sessions.keys().filter(|session| Some(**session) != but) {
            if let Some(state) = self.sessions.get_mut(&session)
                && state.armed.fire(waiting)
            {
                self.wakes.push(Wake::Session(session));
            }
        }
    }

    /// Something happened that peers in the room must hear of.
    fn stir_peers(&mut self, key: &RoomKey, waiting: Waiting) {
        let Some(room) = self.rooms.get(key) else { return };
        for &node in room.peers.keys() {
            let Some(peer) = self.peers.get_mut(&node) else {
                continue;
            };
            if !peer.ready.contains(key) {
                peer.ready.insert(key.clone());
            }
            if peer.armed.fire(waiting) {
                self.wakes.push(Wake::Peer(node));
            }
        }
    }

    fn wake_peer(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node)
            && peer.armed.fire(Waiting::Urgent)
        {
            self.wakes.push(Wake::Peer(node));
        }
    }

    fn as_peer(&self, peer: NodeId) -> Reader {
        Reader::Peer { me: self.me, peer }
    }
}
