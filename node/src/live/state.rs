//! The live queries of one tenant: its triples in memory, the plans over them, and the sessions that follow these.
//!
//! A state of the tenant is taken in as a whole ([`State::take_commits`], [`State::take_whole`]): the triples change, an
//! index of triggers and one of covered entities lead to the plans that may care, each says what it needs now, and every
//! session that follows any of them hears of all in one event. What a plan tells is encoded once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use halcyon_core::{
    change::Change,
    clock::{ClientId, Timestamp},
    fact::Fact,
    graph::{Delta, EntityNumber, Graph, Triple},
    mutant::{self, Mutant},
    query::live::{LiveId, Registry},
    version_vector::VersionVector,
};
use halcyon_proto::error::Refusal;
use prost::bytes::Bytes;

use super::{
    delta::{Drafts, size},
    kept::{KeepError, Moved},
    limits::{BYTES_PER_TRIPLE, TEXTS_LOOKED_AT_FROM, WARM_MAX},
    plan::{Follows, Plan, Subscriber},
    sending::{Sending, Telling, commit},
};
use crate::{
    session::{Session, SessionId, Wake},
    storage::types::Commit,
};

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) graph: Graph,
    pub(super) vector: VersionVector,
    /// The same, encoded.
    pub(super) encoded: Bytes,
    /// Counts states.
    pub(super) version: u64,
    pub(super) registry: Registry,
    pub(super) plans: BTreeMap<u64, Box<Plan>>,
    pub(super) by_key: BTreeMap<u128, u64>,
    pub(super) last_plan: u64,
    /// Which plans cover an entity.
    pub(super) covering: HashMap<EntityNumber, BTreeSet<u64>>,
    pub(super) members: BTreeMap<SessionId, Member>,
    pub(super) by_client: BTreeMap<ClientId, BTreeSet<SessionId>>,
    /// Subscriptions that have seen more than this node.
    pub(super) ahead: BTreeSet<Follows>,
    /// What a delta from storage did so far, until it is whole.
    pub(super) coming: Coming,
    pub(super) kept_bytes: usize,
    /// The time, as of the last tick or call.
    pub(super) now: Duration,
}

/// See [`State::take_facts`].
#[derive(Debug, Default)]
pub(super) struct Coming {
    deltas: Vec<Delta>,
    writes: Vec<Write>,
    bytes: usize,
}

/// A session that follows something.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) session: Session,
    /// Plans by the session's numbers.
    pub(super) subscriptions: BTreeMap<u32, u64>,
    /// The last state that it heard of.
    pub(super) told: u64,
}

/// A change with its set's timestamp and number.
#[derive(Debug)]
pub(super) struct Write {
    at: Timestamp,
    number: u64,
    change: Change,
}

/// What a call is answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscribed {
    /// Buckets of which the client is to say what it holds.
    pub differing: BTreeSet<u8>,
}

/// How much there is of what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveFigures {
    /// Different queries.
    pub plans: usize,
    /// Subscriptions of them.
    pub subscribers: usize,
    /// Triples in memory.
    pub triples: usize,
    /// About how many bytes all of it takes.
    pub bytes: usize,
}

/// What each session is to hear of one state: for each subscription the parts of its delta.
type Told = BTreeMap<SessionId, Vec<Telling>>;

/// The writes of one state, and what was encoded of them last: most plans that care, care for the same.
struct News<'a> {
    /// With the entity, where the write still holds.
    writes: Vec<(&'a Write, Option<EntityNumber>)>,
    last: (Vec<usize>, Vec<Bytes>),
}

impl<'a> News<'a> {
    fn of(writes: &'a [Write], graph: &Graph) -> Self {
        let entity = |write: &Write| {
            let entity = graph.dictionary().entity_number(write.change.subject()?)?;
            graph.holds(&write.at, &write.change).then_some(entity)
        };
        Self {
            writes: writes.iter().map(|write| (write, entity(write))).collect(),
            last: (Vec::new(), Vec::new()),
        }
    }

    fn drafts(&self, places: &[usize]) -> Drafts {
        let mut drafts = Drafts::default();
        for at in places {
            let (write, _) = self.writes[*at];
            drafts.change(write.at, write.number, write.change.clone());
        }
        drafts
    }

    fn parts(&mut self, places: Vec<usize>) -> Vec<Bytes> {
        if places != self.last.0 {
            self.last = (places, Vec::new());
            self.last.1 = self.drafts(&self.last.0).finish();
        }
        self.last.1.clone()
    }
}

impl State {
    pub(super) const fn vector(&self) -> &VersionVector {
        &self.vector
    }

    pub(super) fn is_idle(&self) -> bool {
        self.plans.is_empty() && self.members.is_empty()
    }

    pub(super) fn figures(&self) -> LiveFigures {
        LiveFigures {
            plans: self.plans.len(),
            subscribers: self.members.values().map(|member| member.subscriptions.len()).sum(),
            triples: self.graph.len(),
            bytes: self.bytes(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let triples = self.graph.len() * BYTES_PER_TRIPLE + self.graph.dictionary().text_bytes();
        triples + self.kept_bytes + self.coming.bytes
    }

    /// Whether most of the texts in memory are of values that are gone.
    pub(super) fn is_mostly_gone(&mut self, bytes_max: usize) -> bool {
        let is_full = self.bytes() > bytes_max;
        self.graph.is_mostly_gone(TEXTS_LOOKED_AT_FROM, is_full)
    }

    // What happens to the tenant.

    /// Takes in a part of a delta; nothing shows before it is whole.
    pub(super) fn take_facts(&mut self, facts: Vec<Fact>) {
        for fact in facts {
            let delta = self.graph.apply_fact(&fact);
            if self.plans.is_empty() {
                continue;
            }
            let triples = delta.added.len() + delta.removed.len();
            self.coming.bytes += size_of::<Delta>() + triples * size_of::<Triple>();
            self.coming.deltas.push(delta);
            let Some((at, change)) = fact.body.into_change() else {
                continue;
            };
            if self
                .entity(&change)
                .is_some_and(|entity| self.covering.contains_key(&entity))
            {
                self.coming.bytes += size_of::<Write>() + size(&change);
                self.coming.writes.push(Write { at, number: 0, change });
            }
        }
    }

    /// The delta is whole: this is the state now. The streams to wake.
    pub(super) fn take_whole(&mut self, vector: &VersionVector) -> Vec<Wake> {
        let Coming { deltas, writes, .. } = std::mem::take(&mut self.coming);
        self.advance(&Delta::joined(deltas), &writes, vector, &BTreeSet::new())
    }

    /// Takes in commits as one state: the streams to wake.
    pub(super) fn take_commits(&mut self, commits: &[Arc<Commit>], vector: &VersionVector) -> Vec<Wake> {
        let deltas: Vec<Delta> = commits
            .iter()
            .map(|commit| self.graph.apply_set(commit.tag, &commit.set))
            .collect();
        let mut writes = Vec::new();
        let mut writers = BTreeSet::new();
        for commit in commits {
            for change in &commit.set.changes {
                if self
                    .entity(change)
                    .is_some_and(|entity| self.covering.contains_key(&entity))
                {
                    writes.push(Write {
                        at: commit.set.timestamp,
                        number: commit.set.number,
                        change: change.clone(),
                    });
                }
            }
            writers.extend(self.by_client.get(&commit.set.client()).into_iter().flatten().copied());
        }
        self.advance(&Delta::joined(deltas), &writes, vector, &writers)
    }

    fn entity(&self, change: &Change) -> Option<EntityNumber> {
        self.graph.dictionary().entity_number(change.subject()?)
    }

    /// Moves to the state that the graph shows, and tells all whom it concerns: the streams to wake.
    fn advance(
        &mut self,
        delta: &Delta,
        writes: &[Write],
        vector: &VersionVector,
        writers: &BTreeSet<SessionId>,
    ) -> Vec<Wake> {
        self.vector.clone_from(vector);
        self.encoded = vector.encode().into();
        self.version += 1;
        let mut touched: BTreeMap<u64, (bool, Vec<usize>)> = BTreeMap::new();
        for triple in delta.added.iter().chain(&delta.removed) {
            self.registry.touched(triple, &self.graph, |LiveId(plan)| {
                touched.entry(plan).or_default().0 = true;
            });
        }
        for (at, write) in writes.iter().enumerate() {
            let entity = self.entity(&write.change);
            let plans = entity.and_then(|entity| self.covering.get(&entity));
            for plan in plans.into_iter().flatten() {
                touched.entry(*plan).or_default().1.push(at);
            }
        }
        let mut told = Told::new();
        for writer in writers {
            told.entry(*writer).or_default();
        }
        let asked = touched.iter().filter(|(_, (is_asked, _))| *is_asked);
        let asked = asked.filter_map(|(plan, _)| self.plans.get(plan)).take(WARM_MAX);
        std::hint::black_box(asked.map(|plan| plan.kept.warm()).sum::<usize>());
        let mut lost = Vec::new();
        let mut news = News::of(writes, &self.graph);
        for (plan, (is_asked, places)) in touched {
            match self.follow(plan, is_asked.then_some(delta), &places, &mut news) {
                Ok(parts) => self.tell(plan, parts, &mut told),
                Err(error) => lost.push((plan, error)),
            }
        }
        let mut sending = Sending::default();
        for (session, tellings) in &told {
            self.send(*session, tellings, &mut sending);
        }
        for (plan, error) in lost {
            let Some(of_plan) = self.plans.get(&plan) else { continue };
            let (refusal, covers) = (error.refusal(of_plan.can_be_answered), !of_plan.kept.is_answer());
            self.end_plan(plan, &refusal);
            if covers {
                // What it covered when it was lost is not known.
                self.covering.retain(|_, plans| {
                    plans.remove(&plan);
                    !plans.is_empty()
                });
            }
        }
        self.end_those_caught_up_with();
        sending.wakes
    }

    /// What a plan's subscribers need to hear.
    fn follow(
        &mut self,
        id: u64,
        delta: Option<&Delta>,
        places: &[usize],
        news: &mut News<'_>,
    ) -> Result<Vec<Bytes>, KeepError> {
        let Some(plan) = self.plans.get_mut(&id) else {
            return Ok(Vec::new());
        };
        let before = plan.kept.bytes();
        let moved = plan.kept.apply(delta, &self.graph);
        // Of a query that is lost, too: it takes off what it has when it goes.
        self.kept_bytes = (self.kept_bytes + plan.kept.bytes()).saturating_sub(before);
        let change = match moved? {
            Moved::Coverage(change) => change,
            Moved::Answer(parts) => return Ok(parts),
        };
        let stays = |at: &&usize| {
            news.writes[**at].1.is_some_and(|entity| {
                let comes = change.entered.binary_search(&entity).is_ok();
                let is_deleted = matches!(news.writes[**at].0.change, Change::Delete { .. });
                !comes && (is_deleted || plan.kept.covers(entity))
            })
        };
        let places: Vec<usize> = places.iter().filter(stays).copied().collect();
        if change.entered.is_empty() && change.left.is_empty() {
            return Ok(news.parts(places));
        }
        let mut drafts = news.drafts(&places);
        let dictionary = self.graph.dictionary();
        for entity in &change.entered {
            drafts.enter(&self.graph, *entity);
            self.covering.entry(*entity).or_default().insert(id);
        }
        for entity in &change.left {
            if !mutant::active(Mutant::LeftNotTold) {
                drafts.leave(dictionary.entity(*entity).as_str());
            }
            uncover(&mut self.covering, *entity, id);
        }
        Ok(drafts.finish())
    }

    fn tell(&self, plan: u64, parts: Vec<Bytes>, told: &mut Told) {
        let Some(plan) = self.plans.get(&plan).filter(|_| !parts.is_empty()) else {
            return;
        };
        let parts: Rc<[Bytes]> = parts.into();
        for ((session, number), subscriber) in &plan.subscribers {
            let telling = Telling {
                number: *number,
                more: subscriber.resuming.is_some(),
                stale: subscriber.ahead.is_some(),
                parts: Rc::clone(&parts),
            };
            told.entry(*session)
                .or_insert_with(|| Vec::with_capacity(1))
                .push(telling);
        }
    }

    /// One event for all; what is too much for one goes before it.
    pub(super) fn send(&mut self, session: SessionId, tellings: &[Telling], sending: &mut Sending) {
        let Some(member) = self.members.get_mut(&session) else {
            return;
        };
        member.told = self.version;
        let (vector, of) = (&self.encoded, &member.session);
        for telling in tellings {
            for part in 0..telling.parts.len() - 1 {
                let event = commit(vector, std::slice::from_ref(telling), |_| part);
                if sending.put(of, event).is_err() {
                    return self.drop_session(session);
                }
            }
        }
        let event = sending.alike(vector, tellings);
        if sending.put(of, event).is_err() {
            self.drop_session(session);
        }
    }

    /// Nobody waits for what no replica holds any more: it went with a disk, and the client had seen it.
    pub(super) fn heed_losses(&mut self, attainable: impl Fn(VersionVector) -> VersionVector) {
        for follows in self.ahead.iter().copied().collect::<Vec<_>>() {
            if let Some(ahead) = self.subscriber_mut(follows).and_then(|one| one.ahead.as_mut()) {
                **ahead = attainable(std::mem::take(ahead));
            }
        }
        self.end_those_caught_up_with();
    }

    /// Those who had seen more than this node, and no longer do, subscribe again: now they hear what goes, too.
    fn end_those_caught_up_with(&mut self) {
        let caught_up = self.ahead.iter().copied().filter(|follows| {
            let ahead = self
                .subscriber(*follows)
                .and_then(|subscriber| subscriber.ahead.as_ref());
            ahead.is_none_or(|ahead| self.vector.covers(ahead))
        });
        for follows in caught_up.collect::<Vec<_>>() {
            let text = "the node has caught up with what the client had seen; subscribe again";
            self.end_subscription(follows, &Refusal::retry(text, Duration::ZERO));
        }
    }

    fn subscriber_mut(&mut self, follows: Follows) -> Option<&mut Subscriber> {
        let plan = self.members.get(&follows.0)?.subscriptions.get(&follows.1)?;
        self.plans.get_mut(plan)?.subscribers.get_mut(&follows)
    }

    pub(super) fn subscriber(&self, follows: Follows) -> Option<&Subscriber> {
        let plan = self.members.get(&follows.0)?.subscriptions.get(&follows.1)?;
        self.plans.get(plan)?.subscribers.get(&follows)
    }
}

pub(super) fn uncover(covering: &mut HashMap<EntityNumber, BTreeSet<u64>>, entity: EntityNumber, plan: u64) {
    if let Some(plans) = covering.get_mut(&entity) {
        plans.remove(&plan);
        if plans.is_empty() {
            covering.remove(&entity);
        }
    }
}
