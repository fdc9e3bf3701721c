//! The rules of replication: events in, tasks out. No I/O, no clock, no chance: `now` and random picks are arguments.
//!
//! What always holds:
//! - a tenant has one task at a time, and all of them together have at most [`TASKS_MAX`], of which [`PULLS_MAX`] are
//!   catch-ups;
//! - nothing is erased before others cover it, unless the tenant is deleted;
//! - what a peer holds is only what that peer said: by an acknowledgement after its fsync, or of itself. What it passes
//!   on, or says that there is to be pulled, is an offer: a reason to ask and no proof.

mod ask;
mod digest;
mod judge;
mod leaving;
mod lost;
mod plan;
mod standing;
mod tenant;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use halcyon_core::{
    id::{NodeId, RegionName, Tag, TenantId},
    version_vector::VersionVector,
};

use self::judge::differs;
pub use self::{
    digest::{Digest, bucket_of},
    plan::{GossipPlan, Target},
    standing::Standing,
    tenant::{Action, Backoff, Known, Report, Step, Surroundings, Task, TenantState},
};
use crate::{
    metadata::state::{ReplicaState, Tenant},
    replication::limits::{CANDIDATES_MAX, PULLS_MAX, SETTLE, TASKS_MAX},
    storage::types::{CollectOutcome, Summary},
};

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// As it should.
    Well,
    /// A local part failed, or the control plane did not answer.
    Failed,
    /// A catch-up brought the whole delta of this snapshot.
    Pulled {
        /// From whom.
        from: NodeId,
        /// The snapshot's.
        vector: VersionVector,
        /// The snapshot's.
        seen: VersionVector,
    },
    /// A catch-up broke off; what came is kept.
    PullFailed(NodeId),
    /// What they said; `None` inside holds nothing of the tenant. Who did not answer is missing.
    Described(Vec<(NodeId, Option<Known>)>),
    /// See there.
    Collected(CollectOutcome),
    /// Whether it was erased.
    Erased(bool),
}

/// Something to tell somebody, besides tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Tell a peer that there is something for it to pull.
    Poke {
        /// Whom.
        to: NodeId,
        /// Of which tenant.
        tenant: TenantId,
        /// A commit it lacks.
        tag: Tag,
        /// Ours.
        collection_epoch: u64,
    },
    /// Tell people.
    Alarm {
        /// About this tenant.
        tenant: TenantId,
        /// What.
        message: String,
    },
}

/// The rules and what they know.
#[derive(Debug, Default)]
pub struct Engine {
    around: Surroundings,
    tenants: BTreeMap<TenantId, TenantState>,
    /// When to look at a tenant again.
    attention: BTreeMap<TenantId, Duration>,
    /// Tenants whose summaries are old.
    changed: BTreeSet<TenantId>,
    /// Over the tenants shared with each peer, kept as they change: an idle node compares numbers and nothing else.
    digests: BTreeMap<NodeId, Digest>,
    running: usize,
    pulling: BTreeSet<TenantId>,
    signals: Vec<Signal>,
    /// Tenants of which a peer may not hold all: they changed since it was last known to.
    doubtful: BTreeMap<NodeId, BTreeSet<TenantId>>,
    /// Tenants whose replica here is active and not whole.
    unserved: BTreeSet<TenantId>,
    /// Tenants that hold changes which nobody here understands, and how many.
    opaque: BTreeMap<TenantId, u64>,
}

impl Engine {
    /// The rules of node `me`.
    pub fn new(me: NodeId) -> Self {
        let around = Surroundings {
            me,
            ..Surroundings::default()
        };
        Self {
            around,
            ..Self::default()
        }
    }

    /// Which nodes there are, and which were removed.
    pub fn on_nodes(&mut self, regions: BTreeMap<NodeId, RegionName>, removed: BTreeSet<NodeId>, now: Duration) {
        if self.around.regions == regions && self.around.removed == removed {
            return;
        }
        self.around.regions = regions;
        self.around.removed = removed;
        for (&tenant, state) in &mut self.tenants {
            replan(&self.around, state);
            self.attention.insert(tenant, now);
        }
    }

    /// What the control plane says of a tenant now.
    pub fn on_placement(&mut self, tenant: TenantId, placement: Option<Arc<Tenant>>, deleted: bool, now: Duration) {
        self.discount(tenant);
        let state = self.tenants.entry(tenant).or_default();
        if let Some(placement) = &placement {
            let is_replica = |node: &NodeId| placement.replicas.contains_key(node);
            let epoch = |tenant: &Arc<Tenant>| tenant.placement_epoch;
            if state.placement.as_ref().map(epoch) != Some(epoch(placement)) {
                state.reported = None;
                state.described = None;
            }
            if is_replica(&self.around.me) {
                state.known.retain(|node, _| is_replica(node));
            }
        }
        state.placement = placement;
        state.deleted = deleted;
        replan(&self.around, state);
        let is_nothing = state.own.is_none() && !deleted && state.role(self.around.me).is_none() && !state.running;
        self.account(tenant);
        self.warn_if_alone(tenant);
        if is_nothing {
            self.forget(tenant);
        } else {
            self.attention.insert(tenant, now);
        }
        self.note(tenant);
    }

    /// What storage holds of a tenant now.
    pub fn on_summary(&mut self, tenant: TenantId, own: Option<Summary>, now: Duration) {
        self.discount(tenant);
        let state = self.tenants.entry(tenant).or_default();
        state.hash = own.as_ref().map_or(0, |own| digest::hash_of(tenant, own));
        let before = std::mem::replace(&mut state.own, own);
        if let (true, Some(own), Some(before)) = (state.changed, &mut state.own, before) {
            own.vector.join(&before.vector);
            own.seen.join(&before.seen);
        }
        if let Some(own) = &state.own {
            state.offers.retain(|_, offer| !own.vector.covers(offer));
        }
        self.account(tenant);
        self.attend(tenant, now);
        self.note(tenant);
    }

    /// The tenant's summary is about to be read. What is committed from here on makes it old again.
    pub fn before_summary(&mut self, tenant: TenantId) {
        self.changed.remove(&tenant);
        if let Some(state) = self.tenants.get_mut(&tenant) {
            state.changed = false;
        }
    }

    /// A set became durable here. Returns where it goes, if this node is its origin.
    pub fn on_committed(&mut self, tenant: TenantId, tag: Tag, is_origin: bool) -> Option<Arc<GossipPlan>> {
        let state = self.tenants.get_mut(&tenant)?;
        if let Some(own) = &mut state.own {
            own.vector.raise(tag);
            own.seen.raise(tag);
        }
        if !state.changed {
            state.changed = true;
            self.changed.insert(tenant);
        }
        is_origin.then(|| Arc::clone(&state.plan))
    }

    /// More than single sets changed in storage.
    pub fn on_changed(&mut self, tenant: TenantId) {
        if let Some(state) = self.tenants.get_mut(&tenant) {
            state.changed = true;
            self.changed.insert(tenant);
        }
    }

    /// A peer has made this durable, and all of the origin before it. Only a replica's word counts: who was one keeps
    /// nothing.
    pub fn on_ack(&mut self, peer: NodeId, tenant: TenantId, tag: Tag) {
        if let Some(state) = self.tenants.get_mut(&tenant).filter(|state| state.is_placed_on(peer)) {
            let known = state.known.entry(peer).or_default();
            known.vector.raise(tag);
            known.seen.raise(tag);
            if let Some(own) = &state.own {
                known.collection_epoch = known.collection_epoch.max(own.collection_epoch);
            }
        }
    }

    /// A digest over this vector, among others, was equal to the peer's: it holds just as much.
    pub fn on_equal(&mut self, peer: NodeId, tenant: TenantId, vector: &VersionVector) {
        for tag in vector.iter() {
            self.on_ack(peer, tenant, tag);
        }
    }

    /// A set or a poke of a peer shows that there is something to be had, and a hole before it here. The peer may only
    /// have passed it on, or hold half of it, so nothing is known by that; it is asked, and so is the origin's node.
    pub fn on_gap(&mut self, from: NodeId, tenant: TenantId, tag: Tag, now: Duration) {
        let me = self.around.me;
        let Some(state) = self.tenants.get_mut(&tenant) else {
            return;
        };
        let origin = tag.origin.node;
        let also = (origin != me && state.is_placed_on(origin)).then_some(origin);
        for peer in [Some(from), also].into_iter().flatten() {
            state.offers.entry(peer).or_default().raise(tag);
        }
        self.attention.insert(tenant, now);
    }

    /// A peer said what it is.
    pub fn on_known(&mut self, peer: NodeId, tenant: TenantId, known: Known, now: Duration) {
        let Some(state) = self.tenants.get_mut(&tenant) else {
            return;
        };
        if let Some(own) = &state.own
            && own.opaque == 0
            && !state.changed
            && differs(own, &known)
            && !state.suspect
        {
            state.suspect = true;
            state.described = None;
        }
        state.known.insert(peer, known);
        state.heard.insert(peer, now);
        // It may hold less than it did: its files may be older ones.
        self.doubtful.entry(peer).or_default().insert(tenant);
        if state.suspect || state.lacks(peer) {
            self.attend(tenant, now + SETTLE);
        }
    }

    /// As [`Self::on_known`], and the peer is told of what it lacks.
    pub fn on_compared(&mut self, peer: NodeId, tenant: TenantId, known: Known, now: Duration) {
        self.on_known(peer, tenant, known, now);
        let Some(state) = self.tenants.get(&tenant) else { return };
        if let (Some(tag), Some(own)) = (state.lacked_by(peer), &state.own) {
            self.signals.push(Signal::Poke {
                to: peer,
                tenant,
                tag,
                collection_epoch: own.collection_epoch,
            });
        }
    }

    /// A peer answers, or does not.
    pub fn on_peer(&mut self, peer: NodeId, is_reachable: bool, now: Duration) {
        let changed = if is_reachable {
            self.around.unreachable.remove(&peer)
        } else {
            self.around.unreachable.insert(peer)
        };
        if !changed {
            return;
        }
        for (&tenant, state) in &mut self.tenants {
            let is_replica = |tenant: &Arc<Tenant>| tenant.replicas.contains_key(&peer);
            if state.placement.as_ref().is_some_and(is_replica) {
                replan(&self.around, state);
                state.backoff.remove(&peer);
                if state.lacks(peer) {
                    self.attention.insert(tenant, now);
                }
            }
        }
    }

    /// A task ended. The tenant's new summary was given before.
    pub fn on_done(&mut self, tenant: TenantId, done: Done, now: Duration) {
        self.running -= 1;
        self.pulling.remove(&tenant);
        let Some(state) = self.tenants.get_mut(&tenant) else {
            return;
        };
        state.running = false;
        match done {
            Done::Well => state.failed = Backoff::default(),
            Done::Failed | Done::Erased(false) => state.failed.fail(now),
            Done::Pulled { from, vector, seen } => {
                let asked = std::mem::take(&mut state.asked);
                if vector.covers(&asked) {
                    state.backoff.remove(&from);
                } else {
                    // It passed on what it does not hold yet, or lost before it came here.
                    state.backoff.entry(from).or_default().fail(now);
                }
                state.pulled.insert(from, (vector.clone(), seen.clone()));
                let known = state.known.entry(from).or_default();
                known.vector.join(&vector);
                known.seen.join(&seen);
                state.described = None;
            }
            Done::PullFailed(from) => {
                state.backoff.entry(from).or_default().fail(now);
                let asked = std::mem::take(&mut state.asked);
                if !asked.is_empty() {
                    state.offers.entry(from).or_default().join(&asked);
                }
            }
            Done::Described(answers) => self.on_described(tenant, answers, now),
            Done::Collected(outcome) => {
                state.refill = outcome == CollectOutcome::MustRefill;
                state.described = None;
                self.warn_if_alone(tenant);
            }
            Done::Erased(true) => {
                state.filling = state.refill && !state.deleted;
                state.refill = false;
                (state.suspect, state.judged_by) = (false, None);
                state.pulled.clear();
            }
        }
        self.attention.insert(tenant, now);
        self.note(tenant);
    }

    /// What to do now. Each task must be answered with [`Self::on_done`].
    pub fn next_tasks(&mut self, now: Duration) -> Vec<Task> {
        let due: Vec<TenantId> = self
            .attention
            .iter()
            .filter(|&(_, &at)| at <= now)
            .map(|(&tenant, _)| tenant)
            .collect();
        let mut tasks = Vec::new();
        let mut pulls = Vec::new();
        for tenant in due {
            if self.running >= TASKS_MAX || pulls.len() >= CANDIDATES_MAX {
                break;
            }
            let Some(state) = self.tenants.get_mut(&tenant) else {
                self.attention.remove(&tenant);
                continue;
            };
            match state.step(&self.around, now) {
                Step::Rest => {
                    self.attention.remove(&tenant);
                }
                Step::Wait(until) => {
                    self.attention.insert(tenant, until);
                }
                Step::Do(action @ Action::Pull(_)) => pulls.push((urgency(state, self.around.me), tenant, action)),
                Step::Do(action) => tasks.push(self.start(tenant, action)),
            }
        }
        pulls.sort_by_key(|&(urgency, tenant, _)| (urgency, tenant));
        let free = PULLS_MAX.saturating_sub(self.pulling.len());
        for (_, tenant, action) in pulls.into_iter().take(free) {
            self.pulling.insert(tenant);
            tasks.push(self.start(tenant, action));
        }
        tasks
    }

    /// When [`Self::next_tasks`] is worth calling again without an event.
    pub fn due(&self) -> Option<Duration> {
        self.attention.values().min().copied()
    }

    /// What there is to tell.
    pub fn take_signals(&mut self) -> Vec<Signal> {
        std::mem::take(&mut self.signals)
    }

    /// Tenants whose summaries have to be read before a digest is made.
    pub fn changed(&self) -> Vec<TenantId> {
        self.changed.iter().copied().collect()
    }

    fn attend(&mut self, tenant: TenantId, at: Duration) {
        let due = self.attention.entry(tenant).or_insert(at);
        *due = at.min(*due);
    }

    fn start(&mut self, tenant: TenantId, action: Action) -> Task {
        self.attention.remove(&tenant);
        self.running += 1;
        if let Some(state) = self.tenants.get_mut(&tenant) {
            state.running = true;
            if let Action::Pull(peer) = &action {
                // What is offered from here on may come after the snapshot that the peer makes for this.
                state.asked = state.offers.remove(peer).unwrap_or_default();
            }
        }
        Task { tenant, action }
    }

    /// Adds a tenant to the digests of those who hold it too.
    fn account(&mut self, tenant: TenantId) {
        let Some(state) = self.tenants.get(&tenant) else { return };
        for peer in state.sharers(self.around.me) {
            self.digests.entry(peer).or_default().add(tenant, state.hash);
            self.doubtful.entry(peer).or_default().insert(tenant);
        }
    }

    /// Undoes [`Self::account`], before anything it depends on changes.
    fn discount(&mut self, tenant: TenantId) {
        let Some(state) = self.tenants.get(&tenant) else { return };
        for peer in state.sharers(self.around.me) {
            self.digests.entry(peer).or_default().remove(tenant, state.hash);
        }
    }

    fn forget(&mut self, tenant: TenantId) {
        self.discount(tenant);
        self.tenants.remove(&tenant);
        self.attention.remove(&tenant);
        self.changed.remove(&tenant);
    }
}

fn replan(around: &Surroundings, state: &mut TenantState) {
    let plan = match &state.placement {
        Some(tenant) => plan::plan(around.me, tenant, &around.regions, &around.unreachable),
        None => GossipPlan::default(),
    };
    if plan != *state.plan {
        state.plan = Arc::new(plan);
    }
}

/// Which catch-up goes first: a tenant that serves, then one that wants to, then the rest.
fn urgency(state: &TenantState, me: NodeId) -> u8 {
    match state.role(me) {
        Some(ReplicaState::Active) => 0,
        Some(ReplicaState::Joining) => 1,
        Some(ReplicaState::Leaving) | None => 2,
    }
}
