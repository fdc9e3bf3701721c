//! The rules of pushing: what a client sends next, and what an answer means. No I/O, no clock, no chance.
//!
//! Sets are pushed in the order of the outbox, many in one push and one push at a time: a set may build on the one
//! before, and nothing orders two calls that are under way together. What is written meanwhile makes the next push.
//!
//! Invariants:
//! - no set is pushed before an earlier one that still waits;
//! - the bytes of a set that may have been taken never change: after a lost answer the same bytes are pushed again;
//! - a set leaves `waiting` only when a node took it or refused it for good.

mod ahead;
mod answer;
#[cfg(test)]
mod model;

mod stamps;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Duration};

use halcyon_core::collections::BTreeSet;
use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, DRIFT_MAX_DEFAULT, Timestamp, WallTime},
    codec::DecodeError,
    id::{NodeId, OriginId, Tag},
    limits::{CHANGE_SET_BYTES_MAX, CHANGES_MAX},
    version_vector::VersionVector,
};
use halcyon_proto::error::Refusal;
use prost::bytes::Bytes;

pub use self::ahead::NodeClock;
pub use self::answer::{Answer, Next, Outcome};
pub use self::stamps::Floor;
use self::stamps::Stamps;
use crate::{
    limits::{
        BACKOFF_MAX, BACKOFF_MIN, KEPT_BYTES_MAX, KEPT_SETS_MAX, OUTBOX_BYTES_MAX, OUTBOX_SETS_MAX, PUSH_BYTES_MAX,
        PUSH_SETS_MAX, UNHEARD_OF_MAX,
    },
    types::Acknowledged,
};

/// A set's place in the outbox. Later sets have larger ones, whatever their incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place(pub(crate) u64);

impl Place {
    /// From the number that a disk kept.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// For a disk, and for who asks what became of the set.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// A set as the outbox holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Where.
    pub place: Place,
    /// Inside `bytes` as well.
    pub timestamp: Timestamp,
    /// The encoded set.
    pub bytes: Bytes,
}

/// The wall clock as the device has it, and chance, at the moment of an event.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Not corrected.
    pub wall: WallTime,
    /// Spreads the waits of many clients.
    pub jitter: u64,
}

/// The sets of one push.
#[derive(Debug, Clone)]
pub struct Push {
    /// In the order of the outbox.
    pub sets: Vec<Bytes>,
    /// What the client has seen.
    pub vector: VersionVector,
}

/// A set that no node has acknowledged, as far as we have heard.
#[derive(Debug, Clone)]
struct Waiting {
    place: Place,
    timestamp: Timestamp,
    bytes: Bytes,
    /// It was pushed and no definite answer came: it may have been taken.
    uncertain: bool,
    /// It was acknowledged before, by a node that is lost.
    settled: bool,
    /// A node keeps it, and no second region had it when that was heard.
    held: bool,
}

/// An acknowledged set, until a second replica holds it.
#[derive(Debug, Clone)]
struct Kept {
    place: Place,
    timestamp: Timestamp,
    tag: Tag,
    bytes: Bytes,
    /// How often another replica said that it does not hold it, and knew of none that does.
    unheard_of: u32,
    /// It was pushed again, and a node answered that it has it: vectors that cover it do hold it.
    is_found: bool,
}

/// The state of pushing.
#[derive(Debug)]
pub(crate) struct Session {
    stamps: Stamps,
    next_place: Place,
    next_number: u64,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// The first this many of `waiting` are in the push under way.
    under_way: usize,
    /// The first this many of `waiting` are pushed one by one: among them is one that makes a whole call fail.
    one_by_one: usize,
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    /// Who took a set of the last push that nobody had before: an incarnation that takes sets has lost none of its own.
    takes: Option<OriginId>,
    seen: VersionVector,
    /// How far ahead of a node's clock a timestamp may be, as the last node that was asked said.
    drift_max: Duration,
    failures: u32,
    blocked: Option<Refusal>,
}

impl Session {
    /// A session of a new incarnation, with what an earlier one left in the outbox, up to the place `last`.
    pub(crate) fn open(client: ClientId, floor: Floor, last: Place, left: Vec<Stored>) -> Self {
        let mut session = Self {
            stamps: Stamps::new(client, floor),
            next_place: Place(last.0 + 1),
            next_number: 1,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            under_way: 0,
            one_by_one: 0,
            kept: VecDeque::new(),
            kept_bytes: 0,
            takes: None,
            seen: VersionVector::EMPTY,
            drift_max: DRIFT_MAX_DEFAULT,
            failures: 0,
            blocked: None,
        };
        for stored in left {
            session.next_place = session.next_place.max(Place(stored.place.0 + 1));
            let may_be_pushed = *stored.timestamp.get_time() <= floor.pushed;
            session.push_back(stored, may_be_pushed);
        }
        session
    }

    /// Stamps changes as the next set. It counts once it is durable and handed to [`Self::enqueue`].
    pub(crate) fn stamp(&mut self, changes: Vec<Change>, moment: Moment) -> Result<(Stored, u64), DecodeError> {
        let over = |field, size, max| DecodeError::OverLimit { field, size, max };
        if changes.len() > CHANGES_MAX {
            return Err(over("changes of a change set", changes.len(), CHANGES_MAX));
        }
        let set = ChangeSet {
            timestamp: self.stamps.next(moment.wall),
            number: self.next_number,
            changes,
        };
        let bytes: Bytes = set.encode().into();
        if bytes.len() > CHANGE_SET_BYTES_MAX {
            return Err(over("bytes of a change set", bytes.len(), CHANGE_SET_BYTES_MAX));
        }
        // A node decodes it before it takes it: what would be refused there is refused here.
        ChangeSet::decode(&bytes)?;
        let place = self.next_place;
        self.next_place = Place(place.0 + 1);
        self.next_number += 1;
        let timestamp = set.timestamp;
        Ok((
            Stored {
                place,
                timestamp,
                bytes,
            },
            set.number,
        ))
    }

    /// Puts a durable set at the end of the queue. Nothing was stamped again since its own stamp.
    pub(crate) fn enqueue(&mut self, stored: Stored) {
        self.push_back(stored, false);
    }

    /// Whether there is room for one more set.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < OUTBOX_SETS_MAX && self.waiting_bytes < OUTBOX_BYTES_MAX
    }

    /// The next push, unless one is under way or nothing waits. It must end in [`Self::on_answer`].
    pub(crate) fn next_push(&mut self) -> Option<Push> {
        if self.under_way > 0 {
            return None;
        }
        let sets_max = if self.one_by_one > 0 { 1 } else { PUSH_SETS_MAX };
        let mut bytes = 0;
        let mut sets = Vec::new();
        for waiting in self.waiting.iter().take(sets_max) {
            bytes += waiting.bytes.len();
            if bytes > PUSH_BYTES_MAX && !sets.is_empty() {
                break;
            }
            sets.push(waiting.bytes.clone());
        }
        if sets.is_empty() {
            return None;
        }
        self.under_way = sets.len();
        let vector = self.seen.clone();
        Some(Push { sets, vector })
    }

    /// The push under way is about to be sent. Whether the floor must be durable before: a later run takes for certain
    /// that nobody has what it does not say.
    #[cfg(any(test, feature = "native"))]
    pub(crate) fn on_send(&mut self) -> bool {
        let sent = self.waiting.iter().take(self.under_way);
        let latest = sent.map(|waiting| *waiting.timestamp.get_time()).max();
        latest.is_some_and(|latest| self.stamps.on_send(latest))
    }

    /// The same before it is known how much the next push takes: what waits may be sent from here on.
    pub(crate) fn before_send(&mut self) -> bool {
        let last = self.waiting.back().map(|waiting| *waiting.timestamp.get_time());
        last.is_some_and(|last| self.stamps.on_send(last))
    }

    /// A node told what it holds (`own`) and what a second replica is known to hold. Kept sets that two replicas hold
    /// are let go. Pushed again are those whose node is no longer among `replicas`, or does not hold them itself any more
    /// (its disk was put back), and those of which another replica has not heard for long (their node may be gone, and
    /// nobody has said so): to push a set twice does no harm.
    ///
    /// A vector that covers a set does not prove that it is there: what was lost with a node, or with its disk, is closed
    /// in the end, and counts as covered. So vectors are believed of an incarnation that still takes sets, or where a node
    /// has said of the set itself that it has it.
    pub(crate) fn on_held(&mut self, node: NodeId, held: &Held, replicas: &BTreeSet<NodeId>) -> Vec<Place> {
        // Only an answer to the question itself comes with the replicas, and says what the node holds.
        let is_answer = !replicas.is_empty();
        let runs_anew = |origin: OriginId| {
            let is_later = |tag: Tag| tag.origin.node == origin.node && tag.origin.incarnation > origin.incarnation;
            held.own.iter().chain(held.second.iter()).any(is_later)
        };
        let may_be_closed = |kept: &Kept| {
            let origin = kept.tag.origin;
            !kept.is_found && (!replicas.contains(&origin.node) || runs_anew(origin))
        };
        // What comes beside something else is believed of who says it, and only while it takes sets.
        let takes = self.takes.filter(|origin| origin.node == node && !runs_anew(*origin));
        let is_held = |kept: &Kept| {
            let is_believed = if is_answer {
                !may_be_closed(kept)
            } else {
                Some(kept.tag.origin) == takes
            };
            let is_elsewhere = kept.tag.origin.node != node && held.own.covers_tag(kept.tag);
            is_believed && (is_elsewhere || held.second.covers_tag(kept.tag))
        };
        let (held_now, kept): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.kept).into_iter().partition(is_held);
        let may_push_again = self.under_way == 0 && is_answer;
        let (mut lost, mut rest) = (VecDeque::new(), VecDeque::new());
        for mut kept in kept {
            let origin = kept.tag.origin.node;
            let is_there = origin == node && held.own.covers_tag(kept.tag);
            kept.unheard_of += u32::from(origin != node && may_push_again);
            let is_unheard_of = !is_there && (origin == node || kept.unheard_of >= UNHEARD_OF_MAX);
            if may_push_again && (is_unheard_of || may_be_closed(&kept)) {
                lost.push_back(kept);
            } else {
                rest.push_back(kept);
            }
        }
        self.kept = rest;
        self.kept_bytes = self.kept.iter().map(|kept| kept.bytes.len()).sum();
        for kept in lost.into_iter().rev() {
            self.waiting_bytes += kept.bytes.len();
            self.waiting.push_front(Waiting {
                place: kept.place,
                timestamp: kept.timestamp,
                bytes: kept.bytes,
                uncertain: true,
                settled: true,
                held: false,
            });
        }
        held_now.into_iter().map(|kept| kept.place).collect()
    }

    /// Others' timestamps were seen: ours come after them.
    pub(crate) fn observe(&mut self, theirs: &Timestamp, moment: Moment) {
        self.stamps.observe(theirs, moment.wall);
    }

    /// A watch delivered what this vector covers.
    pub(crate) fn saw(&mut self, vector: &VersionVector) {
        self.seen.join(vector);
    }

    /// One commit was delivered.
    #[cfg(any(test, feature = "native"))]
    pub(crate) fn saw_tag(&mut self, tag: Tag) {
        self.seen.raise(tag);
    }

    /// What the client has seen.
    pub(crate) const fn seen(&self) -> &VersionVector {
        &self.seen
    }

    /// The sets without an acknowledgement, in order.
    pub(crate) fn unacknowledged(&self) -> impl Iterator<Item = Stored> + '_ {
        let waiting = self.waiting.iter().filter(|waiting| !waiting.settled);
        waiting.map(|waiting| Stored {
            place: waiting.place,
            timestamp: waiting.timestamp,
            bytes: waiting.bytes.clone(),
        })
    }

    /// Places of sets that a node has taken and the outbox keeps.
    pub(crate) fn acknowledged(&self) -> impl Iterator<Item = Place> + '_ {
        let again = self.waiting.iter().filter(|waiting| waiting.settled);
        let kept = self.kept.iter().map(|kept| kept.place);
        again.map(|waiting| waiting.place).chain(kept)
    }

    /// Sets without an acknowledgement.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.iter().filter(|waiting| !waiting.settled).count()
    }

    /// Sets that a node keeps and that wait for a second region.
    #[cfg(any(test, feature = "native"))]
    pub(crate) fn held_by_one(&self) -> usize {
        self.waiting
            .iter()
            .filter(|waiting| waiting.held && !waiting.settled)
            .count()
    }

    /// Sets that wait for a second replica.
    pub(crate) fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Whether every set before `place` was taken or refused.
    #[cfg(any(test, feature = "native"))]
    pub(crate) fn is_settled_before(&self, place: Place) -> bool {
        let mut unsettled = self.waiting.iter().filter(|waiting| !waiting.settled);
        unsettled.next().is_none_or(|first| first.place >= place)
    }

    /// The place that the next set will have.
    #[cfg(any(test, feature = "native"))]
    pub(crate) const fn next_place(&self) -> Place {
        self.next_place
    }

    /// Below this no later incarnation may stamp.
    pub(crate) const fn floor(&self) -> Floor {
        self.stamps.floor()
    }

    /// Why nodes refuse this client as a whole.
    pub(crate) const fn blocked(&self) -> Option<&Refusal> {
        self.blocked.as_ref()
    }

    fn push_back(&mut self, stored: Stored, uncertain: bool) {
        self.waiting_bytes += stored.bytes.len();
        self.waiting.push_back(Waiting {
            place: stored.place,
            timestamp: stored.timestamp,
            bytes: stored.bytes,
            uncertain,
            settled: false,
            held: false,
        });
    }

    /// Keeps an acknowledged set. Returns what has to go to make room.
    fn keep(&mut self, kept: Kept) -> Vec<Place> {
        self.kept_bytes += kept.bytes.len();
        self.kept.push_back(kept);
        let mut forgotten = Vec::new();
        while self.kept.len() > KEPT_SETS_MAX || self.kept_bytes > KEPT_BYTES_MAX {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.kept_bytes -= oldest.bytes.len();
            forgotten.push(oldest.place);
        }
        forgotten
    }
}

/// How durable the tenant's change sets are.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// At the answering node.
    pub own: VersionVector,
    /// At a second replica.
    pub second: VersionVector,
}

/// The wait after so many failures in a row: doubled each time, of which the upper half is left to chance.
pub fn backoff(failures: u32, jitter: u64) -> Duration {
    let doubled = BACKOFF_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let most = doubled.min(BACKOFF_MAX);
    let half = u64::try_from(most.as_micros() / 2).unwrap_or(u64::MAX);
    Duration::from_micros(half + jitter % (half + 1))
}

/// What became of one set.
pub type Settled = (Place, Result<Acknowledged, Refusal>);
