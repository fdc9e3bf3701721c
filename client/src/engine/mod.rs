//! The client as a state machine: a local store, queries that follow it, and what to tell a node. No I/O, no clock, no
//! chance; whoever drives it has sockets, a disk and the time.
//!
//! ```text
//! write ── stamp ── (durable) ── accept ──┐ pending sets, over
//! push answers ── on_push_answer ─────────┤ what nodes confirmed ──▶ views ──▶ live queries ──▶ updates of followers
//! Connect stream ── on_event ─────────────┘        │
//! Subscribe answers ── on_subscribed               └──▶ rows to save
//! ```
//!
//! - **Confirmed** is what subscriptions were sent: whole entities, counted by the queries that need them ([`replica`]).
//! - **Pending** sets lie over it as they are written. One that a node has taken stays until the coverage of every query
//!   that is followed shows the state it is part of; then it goes in the same step in which that state comes. One that is
//!   refused goes at once; of one that lost to a deletion, what lost goes.
//! - **Queries** are answered at once from what is here, and move by deltas, from whole change set to whole change set.
//!   Once its own coverage has come, a query sees that and what is pending, and nothing else ([`view`]).
//! - **Sessions**: one stream and unary calls beside it. Within its grace a session goes on where it was; else each query
//!   sends a digest of its coverage, and only what differs comes ([`link`]).
//!
//! # What always holds
//!
//! - After every call that changes something, each followed query's answer equals a fresh evaluation of what it sees.
//! - A query whose status is [`QueryStatus::Synced`], with nothing pending, has the node's answer at the vector it shows.
//! - What is not synced says so. While a query comes back by digest, what other queries hear of entities that it holds
//!   too shows in it: only then it may see a part of a change set.

mod answered;
mod digest;
mod followed;
mod linger;
mod link;
#[cfg(test)]
mod model;
mod numbers;
mod queries;
mod replica;
mod saved;
mod view;
mod writes;

use std::{collections::VecDeque, sync::Arc};

use halcyon_core::collections::{BTreeMap, BTreeSet};
use halcyon_core::{clock::ClientId, fingerprint::Fingerprint, query::live::Registry, version_vector::VersionVector};

#[cfg(feature = "native")]
pub(crate) use self::writes::field;
use self::{followed::Followed, linger::Lingering, link::Link, replica::Replica, saved::Written};
pub use self::{
    link::{Call, CallFailure, EventError},
    queries::{FollowError, QueryError, QuerySnapshot, QueryStatus, Update},
    saved::{Record, Table},
    writes::{Field, Notice},
};
pub use crate::session::{
    Answer as PushAnswer, Floor, Held, Moment, Next, NodeClock, Outcome, Place, Push, Settled, Stored, backoff,
};
use crate::{limits::HELD_BYTES_MAX, session::Session};

/// A query that is followed, whoever follows it. Kept on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub u64);

/// One who follows a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FollowerId(pub u64);

/// What an engine starts from.
#[derive(Debug)]
pub struct Start {
    /// The tenant's id or name, for requests.
    pub tenant: String,
    /// This incarnation, drawn at random.
    pub client: ClientId,
    /// From the disk: below it nothing may be stamped.
    pub floor: Floor,
    /// From the disk: the last place given out.
    pub place: Place,
    /// From the disk: sets that were not let go, in order.
    pub sets: Vec<Stored>,
    /// From the disk: all that [`Engine::take_rows`] gave out, and that was not replaced.
    pub rows: Vec<Record>,
    /// Whether there is a disk that takes rows.
    pub saves: bool,
}

/// See the module's page.
#[derive(Debug)]
pub struct Engine {
    tenant: String,
    client: ClientId,
    session: Session,
    replica: Replica,
    queries: BTreeMap<QueryId, Followed>,
    by_text: BTreeMap<Arc<str>, QueryId>,
    by_follower: BTreeMap<FollowerId, QueryId>,
    /// In the order in which they were left.
    lingering: VecDeque<Lingering>,
    registry: Registry,
    next_query: u64,
    next_follower: u64,
    link: Link,
    /// See [`HELD_BYTES_MAX`].
    held_bytes_max: usize,
    /// What all synced queries show.
    shown: VersionVector,
    woken: BTreeSet<FollowerId>,
    notices: VecDeque<Notice>,
    written: Written,
    saves: bool,
    /// Whether pending sets lie over the store. Not before the first query: who only writes pays nothing for it.
    shows: bool,
}

impl Engine {
    /// Starts with what an earlier run left: its answers are there at once.
    pub fn open(start: Start) -> Self {
        let Start {
            tenant,
            client,
            floor,
            place,
            sets,
            rows,
            saves,
        } = start;
        let mut engine = Self {
            tenant,
            client,
            session: Session::open(client, floor, place, sets.clone()),
            replica: Replica::default(),
            queries: BTreeMap::new(),
            by_text: BTreeMap::new(),
            by_follower: BTreeMap::new(),
            lingering: VecDeque::new(),
            registry: Registry::default(),
            next_query: 1,
            next_follower: 1,
            link: Link::default(),
            held_bytes_max: HELD_BYTES_MAX,
            shown: VersionVector::EMPTY,
            woken: BTreeSet::new(),
            notices: VecDeque::new(),
            written: Written::default(),
            saves,
            shows: false,
        };
        engine.restore(rows, &sets);
        engine
    }

    /// What this client has seen: its own sets that were taken, and what its queries showed.
    pub const fn seen(&self) -> &VersionVector {
        self.session.seen()
    }

    /// What all synced queries show.
    pub const fn shown(&self) -> &VersionVector {
        &self.shown
    }

    /// The sum over all confirmed facts that are held here: equal states have equal ones.
    pub fn fingerprint(&self) -> Fingerprint {
        self.replica.graph().fingerprint()
    }

    /// Followers that have updates. Each is named once until its updates are taken.
    pub fn take_woken(&mut self) -> BTreeSet<FollowerId> {
        std::mem::take(&mut self.woken)
    }

    /// What became of writes, for whoever looks after all of them: the last of what was not taken yet.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        self.notices.drain(..).collect()
    }

    /// Whether anybody follows a query: then a stream is wanted.
    pub fn is_followed(&self) -> bool {
        !self.by_follower.is_empty()
    }

    /// Pushing: its rules, for a driver that looks deeper.
    #[cfg(any(test, feature = "native"))]
    pub(crate) const fn session(&self) -> &Session {
        &self.session
    }

    /// The same, to change it. What shows is none of its business.
    #[cfg(feature = "native")]
    pub(crate) const fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}
