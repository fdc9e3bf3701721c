//! What sessions ask for: to follow a query, from nothing or from what they still hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use halcyon_core::{
    collections::compact,
    mutant::{self, Mutant},
    query::live::{LiveId, Refused},
    version_vector::VersionVector,
};
use halcyon_proto::v1;
use prost::bytes::Bytes;

use super::{
    Ask, SubscribeError,
    kept::{Kept, can_be_answered},
    limits::{PLANS_PER_TENANT_MAX, RESUME_WAIT, SUBSCRIPTIONS_PER_SESSION_MAX},
    plan::{Plan, Subscriber},
    query::key_of,
    state::{Member, State, Subscribed},
};
use crate::session::{Event, Session, limits::LOAD_BYTES_MAX};

/// What the live queries of a tenant may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes of memory.
    pub(super) bytes: usize,
    /// Entities of one query; of more its answer is kept.
    pub(super) entities: usize,
}

impl State {
    /// Follows a query, or goes on with a resume.
    pub(super) fn subscribe(&mut self, ask: &Ask, now: Duration, bounds: Bounds) -> Result<Subscribed, SubscribeError> {
        self.now = now;
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
        let plan = self.plan(ask, now, bounds)?;
        let is_behind = !self.vector.covers(&ask.vector) && !mutant::active(Mutant::LagShownAsSynced);
        let ahead = is_behind.then(|| ask.vector.clone());
        let is_stale = ahead.is_some();
        let of_plan = &self.plans[&plan];
        let digests = ask.digest.as_ref().zip(of_plan.digest(&self.graph));
        let differing = digests.map(|(theirs, ours)| {
            let differing = ours.differing(theirs);
            let differing = differing.into_iter().collect::<BTreeSet<u8>>();
            if mutant::active(Mutant::DigestNotCompared) {
                BTreeSet::new()
            } else {
                differing
            }
        });
        // A stale answer takes nothing away, so it need not know what the client holds.
        let asks_back = differing.clone().filter(|differing| !differing.is_empty() && !is_stale);
        if asks_back.is_none() {
            let parts = self.parts(plan, differing.as_ref())?;
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
            resuming: resuming.map(|buckets| Box::new((buckets, now + RESUME_WAIT))),
            ahead: ahead.map(Box::new),
        };
        if let Some(plan) = self.plans.get_mut(&plan) {
            plan.subscribers.insert(follows, subscriber);
        }
    }

    /// The plan of a query, which is opened where nobody follows it yet.
    fn plan(&mut self, ask: &Ask, now: Duration, bounds: Bounds) -> Result<u64, SubscribeError> {
        let key = key_of(&ask.query);
        if let Some(plan) = self.by_key.get(&key) {
            if self.plans[plan].kept.is_answer() && !ask.answers {
                return Err(Refused::TooManyEntities(bounds.entities).into());
            }
            return Ok(*plan);
        }
        if self.plans.len() >= PLANS_PER_TENANT_MAX {
            return Err(SubscribeError::TooManyPlans(PLANS_PER_TENANT_MAX));
        }
        let kept = Kept::open(ask, &self.graph, bounds.entities)?;
        let bytes = kept.bytes();
        if self.bytes() + bytes > bounds.bytes {
            return Err(SubscribeError::Memory(bounds.bytes));
        }
        self.kept_bytes += bytes;
        self.last_plan += 1;
        let id = self.last_plan;
        kept.register(LiveId(id), &mut self.registry, &self.graph);
        for entity in kept.entities() {
            self.covering.entry(entity).or_default().insert(id);
        }
        self.by_key.insert(key, id);
        let plan = Plan {
            key,
            kept,
            can_be_answered: can_be_answered(&ask.query),
            subscribers: compact::Map::new(),
            idle_since: now,
        };
        self.plans.insert(id, Box::new(plan));
        Ok(id)
    }

    /// What is sent for a plan, or of its coverage what is in some buckets.
    fn parts(&mut self, plan: u64, buckets: Option<&BTreeSet<u8>>) -> Result<Vec<Bytes>, SubscribeError> {
        let Some(plan) = self.plans.get_mut(&plan) else {
            return Ok(Vec::new());
        };
        let before = plan.kept.bytes();
        let parts = plan.load(&self.graph, buckets);
        self.kept_bytes = (self.kept_bytes + plan.kept.bytes()).saturating_sub(before);
        Ok(parts?)
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
        let (buckets, _) = &**resuming.ok_or(none)?;
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
        if bytes > LOAD_BYTES_MAX {
            return Err(SubscribeError::TooManyBytes(LOAD_BYTES_MAX));
        }
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
}

/// Bytes of an event besides its vector and delta.
const EVENT_OVERHEAD: usize = 32;
