//! The live queries of one tenant: its triples in memory, the plans over them, and the sessions that follow these.
//!
//! A state of the tenant is taken in as a whole ([`State::take_commits`], [`State::take_whole`]): the triples change, an
//! index of triggers and one of covered entities lead to the plans that may care, each says what it needs now, and every
//! session that follows any of them hears of all in one event. What a plan tells is encoded once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use halcyon_core::{
    change::Change,
    clock::{ClientId, Timestamp},
    coverage::ENTITIES_MAX,
    fact::Fact,
    graph::{Delta, EntityNumber, Graph},
    query::live::{Coverage, CoverageChange, LiveId, Lost, Registry},
    version_vector::VersionVector,
};
use halcyon_proto::{error::Refusal, v1};
use prost::bytes::Bytes;

use super::{
    Ask, SubscribeError,
    delta::Drafts,
    limits::{BUDGET, BYTES_PER_TRIPLE, PLAN_IDLE, PLANS_PER_TENANT_MAX, RESUME_WAIT, SUBSCRIPTIONS_PER_SESSION_MAX},
    plan::{Follows, Plan, Subscriber},
    query::key_of,
};
use crate::{
    session::{Event, Session, SessionId},
    storage::types::Commit,
};

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct State {
    graph: Graph,
    vector: VersionVector,
    /// The same, encoded.
    encoded: Bytes,
    /// Counts states.
    version: u64,
    registry: Registry,
    plans: BTreeMap<u64, Plan>,
    by_key: BTreeMap<u128, u64>,
    last_plan: u64,
    /// Which plans cover an entity.
    covering: HashMap<EntityNumber, BTreeSet<u64>>,
    members: BTreeMap<SessionId, Member>,
    by_client: BTreeMap<ClientId, BTreeSet<SessionId>>,
    /// Subscriptions that have seen more than this node.
    ahead: BTreeSet<Follows>,
    /// What a delta from storage did so far, until it is whole.
    coming: (Vec<Delta>, Vec<Write>),
    coverage_bytes: usize,
}

/// A session that follows something.
#[derive(Debug)]
struct Member {
    session: Session,
    /// Plans by the session's numbers.
    subscriptions: BTreeMap<u32, u64>,
    /// The last state that it heard of.
    told: u64,
}

/// A change with its set's timestamp and number.
#[derive(Debug)]
struct Write {
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
type Told = BTreeMap<SessionId, Vec<(u32, Flags, Vec<Bytes>)>>;

#[derive(Debug, Clone, Copy)]
struct Flags {
    more: bool,
    stale: bool,
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
        self.graph.len() * BYTES_PER_TRIPLE + self.coverage_bytes
    }

    // What happens to the tenant.

    /// Takes in a part of a delta; nothing shows before it is whole.
    pub(super) fn take_facts(&mut self, facts: Vec<Fact>) {
        for fact in facts {
            let delta = self.graph.apply_fact(&fact);
            if self.plans.is_empty() {
                continue;
            }
            self.coming.0.push(delta);
            let Some((at, change)) = fact.body.into_change() else {
                continue;
            };
            if self
                .entity(&change)
                .is_some_and(|entity| self.covering.contains_key(&entity))
            {
                self.coming.1.push(Write { at, number: 0, change });
            }
        }
    }

    /// The delta is whole: this is the state now.
    pub(super) fn take_whole(&mut self, vector: &VersionVector) {
        let (deltas, writes) = std::mem::take(&mut self.coming);
        self.advance(&Delta::joined(deltas), &writes, vector, &BTreeSet::new());
    }

    /// Takes in commits as one state.
    pub(super) fn take_commits(&mut self, commits: &[Arc<Commit>], vector: &VersionVector) {
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
        self.advance(&Delta::joined(deltas), &writes, vector, &writers);
    }

    fn entity(&self, change: &Change) -> Option<EntityNumber> {
        self.graph.dictionary().entity_number(change.subject()?)
    }

    /// Moves to the state that the graph shows, and tells all whom it concerns.
    fn advance(&mut self, delta: &Delta, writes: &[Write], vector: &VersionVector, writers: &BTreeSet<SessionId>) {
        self.vector.clone_from(vector);
        self.encoded = vector.encode().into();
        self.version += 1;
        let mut touched: BTreeMap<u64, (bool, Vec<&Write>)> = BTreeMap::new();
        for triple in delta.added.iter().chain(&delta.removed) {
            self.registry
                .touched(triple, |LiveId(plan)| touched.entry(plan).or_default().0 = true);
        }
        for write in writes {
            let entity = self.entity(&write.change);
            let plans = entity.and_then(|entity| self.covering.get(&entity));
            for plan in plans.into_iter().flatten() {
                touched.entry(*plan).or_default().1.push(write);
            }
        }
        let mut told = Told::new();
        for writer in writers {
            told.entry(*writer).or_default();
        }
        let mut lost = Vec::new();
        for (plan, (is_asked, writes)) in touched {
            match self.follow(plan, is_asked.then_some(delta), &writes) {
                Ok(parts) => self.tell(plan, &parts, &mut told),
                Err(error) => lost.push((plan, error)),
            }
        }
        for (session, deltas) in told {
            self.send(session, deltas);
        }
        for (plan, error) in lost {
            self.end_plan(plan, &Refusal::limit("live_query", error.to_string()));
            // What it covered when it was lost is not known.
            self.covering.retain(|_, plans| {
                plans.remove(&plan);
                !plans.is_empty()
            });
        }
        self.end_those_caught_up_with();
    }

    /// What a plan's subscribers need to hear.
    fn follow(&mut self, id: u64, delta: Option<&Delta>, writes: &[&Write]) -> Result<Vec<Bytes>, Lost> {
        let Some(plan) = self.plans.get_mut(&id) else {
            return Ok(Vec::new());
        };
        let before = plan.coverage.bytes();
        let change = match delta {
            Some(delta) => plan.coverage.apply(delta, &self.graph)?,
            None => CoverageChange::default(),
        };
        self.coverage_bytes = (self.coverage_bytes + plan.coverage.bytes()).saturating_sub(before);
        let mut drafts = Drafts::default();
        let dictionary = self.graph.dictionary();
        for write in writes {
            let Some(entity) = write.change.subject().and_then(|name| dictionary.entity_number(name)) else {
                continue;
            };
            let comes = change.entered.binary_search(&entity).is_ok();
            let stays = plan.coverage.contains(entity) || matches!(write.change, Change::Delete { .. });
            if !comes && stays && self.graph.holds(&write.at, &write.change) {
                drafts.change(write.at, write.number, write.change.clone());
            }
        }
        for entity in &change.entered {
            drafts.enter(&self.graph, *entity);
            self.covering.entry(*entity).or_default().insert(id);
        }
        for entity in &change.left {
            drafts.leave(dictionary.entity(*entity).as_str());
            uncover(&mut self.covering, *entity, id);
        }
        Ok(drafts.finish())
    }

    fn tell(&self, plan: u64, parts: &[Bytes], told: &mut Told) {
        let Some(plan) = self.plans.get(&plan).filter(|_| !parts.is_empty()) else {
            return;
        };
        for ((session, number), subscriber) in &plan.subscribers {
            let flags = Flags {
                more: subscriber.resuming.is_some(),
                stale: subscriber.ahead.is_some(),
            };
            told.entry(*session).or_default().push((*number, flags, parts.to_vec()));
        }
    }

    /// One event for all; what is too much for one goes before it.
    fn send(&mut self, session: SessionId, deltas: Vec<(u32, Flags, Vec<Bytes>)>) {
        let Some(member) = self.members.get_mut(&session) else {
            return;
        };
        member.told = self.version;
        let mut events = Vec::new();
        let mut last = Vec::with_capacity(deltas.len());
        for (subscription, flags, parts) in deltas {
            let count = parts.len();
            for (at, delta) in parts.into_iter().enumerate() {
                let is_last = at + 1 == count;
                let delta = v1::SubscriptionDelta {
                    subscription,
                    delta,
                    more: flags.more || !is_last,
                    stale: flags.stale,
                };
                if is_last {
                    last.push(delta);
                } else {
                    events.push(vec![delta]);
                }
            }
        }
        events.push(last);
        let vector = &self.encoded;
        let is_gone = events.into_iter().any(|deltas| {
            let vector = vector.clone();
            member
                .session
                .send(Event::Commit(v1::Commit { vector, deltas }))
                .is_err()
        });
        if is_gone {
            self.drop_session(session);
        }
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

    fn subscriber(&self, follows: Follows) -> Option<&Subscriber> {
        let plan = self.members.get(&follows.0)?.subscriptions.get(&follows.1)?;
        self.plans.get(plan)?.subscribers.get(&follows)
    }

    // What sessions ask for.

    /// Follows a query, or goes on with a resume.
    pub(super) fn subscribe(
        &mut self,
        ask: &Ask,
        now: Duration,
        bytes_max: usize,
    ) -> Result<Subscribed, SubscribeError> {
        let follows = (ask.session.id(), ask.number);
        let known = self.members.get(&follows.0);
        let known = known.and_then(|member| member.subscriptions.get(&follows.1)).copied();
        match (&ask.held, known) {
            (Some(_), Some(plan)) => return self.repair(ask, plan).map(|()| Subscribed::default()),
            (Some(_), None) => return Err(SubscribeError::NotResuming(ask.number)),
            (None, Some(_)) => return Err(SubscribeError::NumberInUse(ask.number)),
            (None, None) => {}
        }
        let count = self
            .members
            .get(&follows.0)
            .map_or(0, |member| member.subscriptions.len());
        if count >= SUBSCRIPTIONS_PER_SESSION_MAX {
            return Err(SubscribeError::TooMany(SUBSCRIPTIONS_PER_SESSION_MAX));
        }
        let plan = self.plan(ask, now, bytes_max)?;
        let ahead = (!self.vector.covers(&ask.vector)).then(|| ask.vector.clone());
        let is_stale = ahead.is_some();
        let of_plan = &self.plans[&plan];
        let differing = ask.digest.as_ref().map(|digest| {
            let differing = of_plan.digest(&self.graph).differing(digest);
            differing.into_iter().collect::<BTreeSet<u8>>()
        });
        // A stale answer takes nothing away, so it need not know what the client holds.
        let asks_back = differing.clone().filter(|differing| !differing.is_empty() && !is_stale);
        if asks_back.is_none() {
            let parts = of_plan.load(&self.graph, differing.as_ref());
            self.load(&ask.session, ask.number, parts, is_stale)?;
        }
        self.register(ask, plan, (asks_back.clone(), ahead), now);
        Ok(Subscribed {
            differing: asks_back.unwrap_or_default(),
        })
    }

    fn register(
        &mut self,
        ask: &Ask,
        plan: u64,
        (resuming, ahead): (Option<BTreeSet<u8>>, Option<VersionVector>),
        now: Duration,
    ) {
        let session = &ask.session;
        let follows = (session.id(), ask.number);
        if ahead.is_some() {
            self.ahead.insert(follows);
        }
        let member = self.members.entry(session.id()).or_insert_with(|| Member {
            session: session.clone(),
            subscriptions: BTreeMap::new(),
            told: self.version,
        });
        member.subscriptions.insert(ask.number, plan);
        if let Some(client) = session.client() {
            self.by_client.entry(client).or_default().insert(session.id());
        }
        let subscriber = Subscriber {
            session: session.clone(),
            resuming: resuming.map(|buckets| (buckets, now + RESUME_WAIT)),
            ahead,
        };
        if let Some(plan) = self.plans.get_mut(&plan) {
            plan.subscribers.insert(follows, subscriber);
        }
    }

    /// The plan of a query, which is opened where nobody follows it yet.
    fn plan(&mut self, ask: &Ask, now: Duration, bytes_max: usize) -> Result<u64, SubscribeError> {
        let key = key_of(&ask.query);
        if let Some(plan) = self.by_key.get(&key) {
            return Ok(*plan);
        }
        if self.plans.len() >= PLANS_PER_TENANT_MAX {
            return Err(SubscribeError::TooManyPlans(PLANS_PER_TENANT_MAX));
        }
        let coverage = Coverage::open(&ask.query, &self.graph, BUDGET, ENTITIES_MAX)?;
        let bytes = coverage.bytes();
        if self.bytes() + bytes > bytes_max {
            return Err(SubscribeError::Memory(bytes_max));
        }
        self.coverage_bytes += bytes;
        self.last_plan += 1;
        let id = self.last_plan;
        self.registry.insert_coverage(LiveId(id), &coverage, &self.graph);
        for entity in coverage.entities() {
            self.covering.entry(entity).or_default().insert(id);
        }
        self.by_key.insert(key, id);
        let plan = Plan {
            key,
            coverage,
            subscribers: BTreeMap::new(),
            idle_since: now,
        };
        self.plans.insert(id, plan);
        Ok(id)
    }

    /// The second call of a resume.
    fn repair(&mut self, ask: &Ask, id: u64) -> Result<(), SubscribeError> {
        let follows = (ask.session.id(), ask.number);
        let none = SubscribeError::NotResuming(ask.number);
        let plan = &self.plans[&id];
        let resuming = plan
            .subscribers
            .get(&follows)
            .and_then(|subscriber| subscriber.resuming.as_ref());
        let (buckets, _) = resuming.ok_or(none)?;
        let held = ask.held.clone().unwrap_or_default();
        let parts = plan.repair(&self.graph, buckets, &held);
        self.load(&ask.session, ask.number, parts, false)?;
        let plan = self.plans.get_mut(&id);
        if let Some(subscriber) = plan.and_then(|plan| plan.subscribers.get_mut(&follows)) {
            subscriber.resuming = None;
        }
        Ok(())
    }

    /// Sends coverage, part by part.
    fn load(
        &self,
        session: &Session,
        subscription: u32,
        mut parts: Vec<Bytes>,
        stale: bool,
    ) -> Result<(), SubscribeError> {
        if parts.is_empty() {
            parts.push(Bytes::new());
        }
        let bytes: usize = parts
            .iter()
            .map(|part| part.len() + self.encoded.len() + EVENT_OVERHEAD)
            .sum();
        if !session.has_room_for_load(bytes) {
            return Err(SubscribeError::Busy);
        }
        let count = parts.len();
        for (at, delta) in parts.into_iter().enumerate() {
            let delta = v1::SubscriptionDelta {
                subscription,
                delta,
                more: at + 1 < count,
                stale,
            };
            let commit = v1::Commit {
                vector: self.encoded.clone(),
                deltas: vec![delta],
            };
            session
                .send_load(Event::Commit(commit))
                .map_err(|_| SubscribeError::Gone)?;
        }
        Ok(())
    }

    // What comes to an end.

    /// Follows it no longer. `false` if there is no such subscription.
    pub(super) fn unsubscribe(&mut self, (session, number): Follows, now: Duration) -> bool {
        let Some(member) = self.members.get_mut(&session) else {
            return false;
        };
        let Some(plan) = member.subscriptions.remove(&number) else {
            return false;
        };
        let is_last = member.subscriptions.is_empty();
        self.ahead.remove(&(session, number));
        if let Some(plan) = self.plans.get_mut(&plan) {
            plan.subscribers.remove(&(session, number));
            plan.idle_since = now;
        }
        if is_last {
            let member = self.members.remove(&session);
            if let Some(client) = member.and_then(|member| member.session.client())
                && let Some(sessions) = self.by_client.get_mut(&client)
            {
                sessions.remove(&session);
                if sessions.is_empty() {
                    self.by_client.remove(&client);
                }
            }
        }
        true
    }

    /// Lets go of what is over, late or idle; with `word`, says to all how far the node has come.
    pub(super) fn tidy(&mut self, now: Duration, word: bool) {
        let over = self.members.values().filter(|member| member.session.is_over());
        let over: Vec<SessionId> = over.map(|member| member.session.id()).collect();
        for session in over {
            self.drop_session(session);
        }
        let subscribers = self.plans.values().flat_map(|plan| &plan.subscribers);
        let late = subscribers.filter(|(_, subscriber)| subscriber.resuming.as_ref().is_some_and(|(_, by)| *by < now));
        for follows in late.map(|(follows, _)| *follows).collect::<Vec<_>>() {
            let text = "the second call of the subscription did not come; subscribe again";
            self.end_subscription(follows, &Refusal::retry(text, Duration::ZERO));
        }
        let is_idle = |plan: &Plan| plan.subscribers.is_empty() && now.saturating_sub(plan.idle_since) >= PLAN_IDLE;
        let idle: Vec<u64> = self
            .plans
            .iter()
            .filter(|(_, plan)| is_idle(plan))
            .map(|(id, _)| *id)
            .collect();
        for plan in idle {
            self.drop_plan(plan);
        }
        if word {
            let behind = self.members.iter().filter(|(_, member)| member.told != self.version);
            for session in behind.map(|(id, _)| *id).collect::<Vec<_>>() {
                self.send(session, Vec::new());
            }
        }
    }

    /// Ends all subscriptions for one reason.
    pub(super) fn end_all(&mut self, why: &Refusal) {
        for plan in self.plans.keys().copied().collect::<Vec<_>>() {
            self.end_plan(plan, why);
        }
    }

    fn end_plan(&mut self, plan: u64, why: &Refusal) {
        let Some(of_plan) = self.plans.get(&plan) else { return };
        for follows in of_plan.subscribers.keys().copied().collect::<Vec<_>>() {
            self.end_subscription(follows, why);
        }
        self.drop_plan(plan);
    }

    fn end_subscription(&mut self, follows: Follows, why: &Refusal) {
        let Some(subscriber) = self.subscriber(follows) else {
            return;
        };
        let ended = v1::SubscriptionEnded {
            subscription: follows.1,
            error: Some(why.clone().into()),
        };
        // A session that is over needs no word.
        let _ = subscriber.session.send(Event::Ended(ended));
        self.unsubscribe(follows, Duration::ZERO);
    }

    fn drop_session(&mut self, session: SessionId) {
        let Some(member) = self.members.get(&session) else {
            return;
        };
        for number in member.subscriptions.keys().copied().collect::<Vec<_>>() {
            self.unsubscribe((session, number), Duration::ZERO);
        }
    }

    fn drop_plan(&mut self, id: u64) {
        let Some(plan) = self.plans.remove(&id) else { return };
        self.coverage_bytes = self.coverage_bytes.saturating_sub(plan.coverage.bytes());
        self.by_key.remove(&plan.key);
        self.registry.remove(LiveId(id));
        for entity in plan.coverage.entities() {
            uncover(&mut self.covering, entity, id);
        }
    }
}

fn uncover(covering: &mut HashMap<EntityNumber, BTreeSet<u64>>, entity: EntityNumber, plan: u64) {
    if let Some(plans) = covering.get_mut(&entity) {
        plans.remove(&plan);
        if plans.is_empty() {
            covering.remove(&entity);
        }
    }
}

/// Bytes of an event besides its vector and delta.
const EVENT_OVERHEAD: usize = 32;
