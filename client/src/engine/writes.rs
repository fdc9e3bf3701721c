//! Writes: shown at once, pushed in order, and what becomes of them.

use halcyon_core::collections::BTreeSet;
use halcyon_core::{
    change::{Change, ChangeSet},
    codec::DecodeError,
    id::{EntityId, NodeId, Predicate, Tag},
};
use halcyon_proto::error::Refusal;

use super::{Engine, replica::Pending};
use crate::{
    limits::NOTICES_MAX,
    session::{Answer, Floor, Held, Moment, NodeClock, Outcome, Place, Push, Stored},
    types::Acknowledged,
};

/// A field, or a whole entity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Field {
    /// The entity.
    pub subject: EntityId,
    /// The field; none stands for the entity.
    pub predicate: Option<Predicate>,
}

/// What became of a set, for whoever looks after all of them.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// A node refused it for good; it shows no more.
    Refused {
        /// Where it stood in the outbox.
        place: Place,
        /// What it would have changed.
        changes: Vec<Change>,
        /// Why.
        refusal: Refusal,
    },
    /// A node took it, but some of it had lost already: to a deletion, to an entity long gone, or to a later write.
    Superseded {
        /// Where it stands in the outbox.
        place: Place,
        /// What lost.
        fields: Vec<Field>,
    },
}

impl Engine {
    /// Stamps changes as the next set, and gives it its number. It counts once it is durable and handed to
    /// [`Self::accept`].
    pub fn stamp(&mut self, changes: Vec<Change>, moment: Moment) -> Result<(Stored, u64), DecodeError> {
        self.session.stamp(changes, moment)
    }

    /// Shows a set that is on its way to the disk. [`Self::accept`] must follow.
    pub fn show_early(&mut self, stored: &Stored) {
        self.propose(stored);
        self.advance();
    }

    /// Takes in a durable set: it shows from now on, and will be pushed.
    pub fn accept(&mut self, stored: Stored) {
        if self.replica.pending_at(stored.place).is_none() {
            self.propose(&stored);
        }
        self.session.enqueue(stored);
        self.advance();
    }

    /// Takes note of a node's clock. Answers whether [`Self::before_push`] has anything to do.
    pub fn note_clock(&mut self, node: NodeClock) -> bool {
        self.session.note_clock(node)
    }

    /// Stamps again what was never pushed and the node would refuse. To be called while no push is under way, and no set
    /// between [`Self::stamp`] and [`Self::accept`]; what it returns must be durable before the next push.
    pub fn before_push(&mut self, node: NodeClock, moment: Moment) -> Vec<Stored> {
        let rewritten = self.session.before_push(node, moment);
        for stored in &rewritten {
            self.propose(stored);
        }
        if !rewritten.is_empty() {
            self.advance();
        }
        rewritten
    }

    /// The next push, unless one is under way or nothing waits. It must end in [`Self::on_push_answer`].
    pub fn next_push(&mut self) -> Option<Push> {
        self.session.next_push()
    }

    /// The push under way is about to be sent. Whether the floor must be durable before.
    #[cfg(any(test, feature = "native"))]
    pub fn on_send(&mut self) -> bool {
        self.session.on_send()
    }

    /// What waits may be sent from here on. Whether the floor must be durable before.
    pub fn before_send(&mut self) -> bool {
        self.session.before_send()
    }

    /// The push under way ended like this. If the answer [says that the clock is wrong](Answer::is_drift), no set may be
    /// between [`Self::stamp`] and [`Self::accept`].
    pub fn on_push_answer(&mut self, answer: Answer, moment: Moment) -> Outcome {
        let outcome = self.session.on_answer(answer, moment);
        for stored in &outcome.rewritten {
            self.propose(stored);
        }
        for (place, end) in &outcome.settled {
            match end {
                Ok(acknowledged) => self.on_acknowledged(*place, acknowledged),
                Err(refusal) => self.on_refused(*place, refusal),
            }
        }
        // What had been taken before is where it is now: under the tag that was lost it would stay pending for good.
        // The first answer told what it had lost.
        for (place, acknowledged) in &outcome.anew {
            self.on_taken_anew(*place, acknowledged.tag);
        }
        self.on_forgotten(&outcome.forgotten);
        self.ask_after_earlier_runs();
        self.let_go();
        self.advance();
        outcome
    }

    /// A node told what it holds, and what a second replica is known to hold; the sets that the outbox may let go.
    pub fn on_held(&mut self, node: NodeId, held: &Held, replicas: &BTreeSet<NodeId>) -> Vec<Place> {
        let places = self.session.on_held(node, held, replicas);
        self.on_forgotten(&places);
        places
    }

    /// Below this no later incarnation may stamp: for the disk, with every set.
    pub const fn floor(&self) -> Floor {
        self.session.floor()
    }

    /// Whether there is room for one more set.
    pub fn has_room(&self) -> bool {
        self.session.has_room()
    }

    /// Sets without an acknowledgement.
    pub fn waiting(&self) -> usize {
        self.session.waiting()
    }

    /// Acknowledged sets that wait for a second replica.
    pub fn kept(&self) -> usize {
        self.session.kept()
    }

    /// Why nodes refuse this client as a whole.
    pub const fn blocked(&self) -> Option<&Refusal> {
        self.session.blocked()
    }

    /// The outbox lets these sets go.
    pub(crate) fn on_forgotten(&mut self, places: &[Place]) {
        for place in places {
            self.written.forgotten(*place);
        }
    }

    /// Takes the sets out of the overlay that every query in need of them shows as confirmed.
    pub(super) fn let_go(&mut self) {
        let is_shown = |tag: Tag| self.queries.values().all(|query| !query.waits_for(tag));
        let shown = self
            .replica
            .pending()
            .filter(|pending| pending.tag.is_some_and(is_shown));
        let places: Vec<Place> = shown.map(|pending| pending.place).collect();
        for place in places {
            self.replica.withdraw(place);
            self.written.released(place);
        }
    }

    /// From here on pending sets lie over the store.
    pub(super) fn start_showing(&mut self) {
        if !std::mem::replace(&mut self.shows, true) {
            // What was taken before is confirmed or lost: a later run must not show it from the outbox.
            for place in self.session.acknowledged() {
                self.written.taken_unseen(place);
            }
            let waiting: Vec<Stored> = self.session.unacknowledged().collect();
            for stored in &waiting {
                self.propose(stored);
            }
            self.advance();
        }
    }

    pub(super) fn propose(&mut self, stored: &Stored) {
        if !self.shows {
            return;
        }
        // It was decoded when it came in.
        let Ok(set) = ChangeSet::decode(&stored.bytes) else {
            return;
        };
        let place = stored.place;
        // A set with a new timestamp was taken by no node.
        self.replica.propose(Pending { place, set, tag: None });
    }

    fn on_taken_anew(&mut self, place: Place, tag: Tag) {
        let Some(pending) = self.replica.pending_at(place).cloned() else {
            return;
        };
        self.replica.acknowledge(place, tag);
        self.written.taken(place, tag, &pending.set);
    }

    fn on_acknowledged(&mut self, place: Place, acknowledged: &Acknowledged) {
        let Some(pending) = self.replica.pending_at(place) else {
            return;
        };
        let mut pending = pending.clone();
        pending.tag = Some(acknowledged.tag);
        let Acknowledged {
            superseded,
            overwritten,
            ..
        } = acknowledged;
        let lost = superseded.iter().chain(overwritten);
        let lost = lost.filter_map(|at| field(pending.set.changes.get(*at as usize)?));
        // A set may write a field more than once.
        let fields: Vec<Field> = lost.collect::<BTreeSet<Field>>().into_iter().collect();
        if !fields.is_empty() {
            self.notice(Notice::Superseded { place, fields });
        }
        if superseded.is_empty() {
            // What was overwritten shows until the later write is here.
            self.replica.acknowledge(place, acknowledged.tag);
        } else {
            drop_superseded(&mut pending.set, superseded);
            self.replica.propose(pending.clone());
        }
        self.written.taken(place, acknowledged.tag, &pending.set);
    }

    fn on_refused(&mut self, place: Place, refusal: &Refusal) {
        if let Some(pending) = self.replica.withdraw(place) {
            let (changes, refusal) = (pending.set.changes, refusal.clone());
            self.notice(Notice::Refused {
                place,
                changes,
                refusal,
            });
        }
    }

    fn notice(&mut self, notice: Notice) {
        if self.notices.len() >= NOTICES_MAX {
            self.notices.pop_front();
        }
        self.notices.push_back(notice);
    }
}

/// Takes the changes at these places out of a set.
fn drop_superseded(set: &mut ChangeSet, places: &[u32]) {
    let mut at = 0;
    set.changes.retain(|_| {
        at += 1;
        !places.contains(&(at - 1))
    });
}

/// What a change is about.
pub(crate) fn field(change: &Change) -> Option<Field> {
    Some(Field {
        subject: change.subject()?.clone(),
        predicate: change.predicate().cloned(),
    })
}
