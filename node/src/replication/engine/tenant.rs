//! One tenant, as this replica knows it, and what it should do next.
//!
//! The rules are level-triggered: [`TenantState::step`] looks at what is, never at how it came to be, so a lost event or
//! a restart changes nothing but the time it takes. One task runs for a tenant at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use halcyon_core::{
    fingerprint::Fingerprint,
    id::{NodeId, OriginId, RegionName, Tag, TenantId},
    version_vector::VersionVector,
};

use super::{lost::Sought, plan::GossipPlan};
use crate::{
    metadata::state::{ReplicaState, Tenant},
    replication::limits::{BACKOFF_MAX, BACKOFF_MIN, CLOSE_WAIT, DESCRIBED_FRESH, REPORT_AGAIN},
    storage::types::Summary,
};

/// What another replica is known to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// What it holds durably.
    pub vector: VersionVector,
    /// All it has seen.
    pub seen: VersionVector,
    /// Its collection epoch.
    pub collection_epoch: u64,
    /// Over its live facts, where it said so.
    pub fingerprint: Option<Fingerprint>,
}

impl Known {
    /// No half of a delta is in.
    pub fn is_exact(&self) -> bool {
        self.vector.covers(&self.seen)
    }
}

/// What a report to the control plane says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// A joining replica is full.
    Ready {
        /// Of which placement.
        placement_epoch: u64,
    },
    /// A leaving replica has erased its data.
    Gone {
        /// Of which placement.
        placement_epoch: u64,
    },
    /// A deleted tenant's data is erased.
    Erased,
}

/// One thing to do for a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Open it in storage.
    Open {
        /// At this collection epoch.
        collection_epoch: u64,
    },
    /// Take writes, or take none.
    SetAdmitting(bool),
    /// Pull what is lacking from this peer.
    Pull(NodeId),
    /// Ask these what they are.
    Describe(Vec<NodeId>),
    /// Erase it.
    Erase {
        /// Only if this covers all that is held here.
        if_covered_by: Option<VersionVector>,
    },
    /// Forget what was prepared for this epoch.
    Collect {
        /// The raised one.
        collection_epoch: u64,
    },
    /// Tell the control plane.
    Report(Report),
    /// Close origins that nobody writes to any more: pull all from each of these, then raise the vector.
    Close(Vec<NodeId>),
}

/// What a tenant should do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until an event comes.
    Rest,
    /// Look again then.
    Wait(Duration),
    /// This.
    Do(Action),
}

/// How long a peer is left alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backoff {
    failures: u32,
    until: Duration,
}

impl Backoff {
    /// One more failure.
    pub fn fail(&mut self, now: Duration) {
        self.failures = self.failures.saturating_add(1);
        let wait = BACKOFF_MIN.saturating_mul(1 << self.failures.min(16)).min(BACKOFF_MAX);
        self.until = now + wait;
    }

    /// Until when.
    pub fn until(&self) -> Duration {
        self.until
    }
}

/// What the cluster looks like from here.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// This node.
    pub me: NodeId,
    /// Where the nodes are.
    pub regions: BTreeMap<NodeId, RegionName>,
    /// Nodes that were removed for good.
    pub removed: BTreeSet<NodeId>,
    /// Peers that do not answer now.
    pub unreachable: BTreeSet<NodeId>,
}

impl Surroundings {
    /// Whether this replica may say that nothing more comes from an origin which it lacks something of.
    pub fn may_close(&self, origin: OriginId) -> bool {
        origin.node == self.me || self.removed.contains(&origin.node)
    }
}

/// All that is known of one tenant.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
pub struct TenantState {
    /// What the control plane says of it.
    pub placement: Option<Arc<Tenant>>,
    /// It is deleted, and this node still has to say that it erased it.
    pub deleted: bool,
    /// What is held here.
    pub own: Option<Summary>,
    /// What the others hold.
    pub known: BTreeMap<NodeId, Known>,
    /// When a peer last said what it is.
    pub heard: BTreeMap<NodeId, Duration>,
    /// What peers said that there is to be pulled from them, without proof that they hold it.
    pub offers: BTreeMap<NodeId, VersionVector>,
    /// The offer that the catch-up under way goes for.
    pub asked: VersionVector,
    /// What a peer was when all of it was pulled.
    pub pulled: BTreeMap<NodeId, (VersionVector, VersionVector)>,
    /// Peers that failed.
    pub backoff: BTreeMap<NodeId, Backoff>,
    /// A task is under way.
    pub running: bool,
    /// When the others were last asked.
    pub described: Option<Duration>,
    /// When the control plane was last told.
    pub reported: Option<Duration>,
    /// A local task failed: look again after this.
    pub failed: Backoff,
    /// What is here is of an old collection epoch, or damaged: hand over, erase, fill from nothing.
    pub refill: bool,
    /// It was erased for a refill and is not whole again.
    pub filling: bool,
    /// Another replica has the same vector and other facts.
    pub suspect: bool,
    /// Until when the judgement on that waits for those that could not be compared yet.
    pub judged_by: Option<Duration>,
    /// What clients have seen, by origin, and this replica lacks.
    pub sought: BTreeMap<OriginId, Sought>,
    /// Since when origins that nobody writes to any more wait to be closed.
    pub closing_since: Option<Duration>,
    /// Where its sets go.
    pub plan: Arc<GossipPlan>,
    /// What it adds to digests.
    pub hash: u64,
    /// The summary is older than what was committed.
    pub changed: bool,
}

impl TenantState {
    /// This node's part in it.
    pub fn role(&self, me: NodeId) -> Option<ReplicaState> {
        self.placement.as_ref()?.replicas.get(&me).copied()
    }

    /// Whether a node is a replica, in any state.
    pub fn is_placed_on(&self, node: NodeId) -> bool {
        let placement = self.placement.as_ref();
        placement.is_some_and(|tenant| tenant.replicas.contains_key(&node))
    }

    /// The other replicas in one of `states`.
    pub fn others(&self, me: NodeId, states: &[ReplicaState]) -> Vec<NodeId> {
        let replicas = self.placement.iter().flat_map(|tenant| &tenant.replicas);
        replicas
            .filter(|&(&node, state)| node != me && states.contains(state))
            .map(|(&node, _)| node)
            .collect()
    }

    /// The other replicas, where this node is one.
    pub fn sharers(&self, me: NodeId) -> Vec<NodeId> {
        let all = [ReplicaState::Joining, ReplicaState::Active, ReplicaState::Leaving];
        match self.role(me) {
            Some(_) => self.others(me, &all),
            None => Vec::new(),
        }
    }

    /// Whether clients may read here.
    pub fn serves(&self, me: NodeId) -> bool {
        self.role(me) == Some(ReplicaState::Active) && self.own.is_some() && !self.is_filling(me) && !self.deleted
    }

    /// What it should do now.
    pub fn step(&mut self, around: &Surroundings, now: Duration) -> Step {
        if self.running {
            return Step::Rest;
        }
        if now < self.failed.until() {
            return Step::Wait(self.failed.until());
        }
        if self.deleted {
            return self.step_deleted(now);
        }
        let Some(tenant) = self.placement.clone() else {
            return Step::Rest;
        };
        self.forget(&around.removed);
        match self.role(around.me) {
            Some(ReplicaState::Joining | ReplicaState::Active) => self.step_staying(&tenant, around, now),
            Some(ReplicaState::Leaving) => self.step_leaving(&tenant, around, now),
            None if self.own.is_some() => self.step_leaving(&tenant, around, now),
            None => Step::Rest,
        }
    }

    /// Who was removed while it was asked is asked for nothing more, whatever it still answers.
    fn forget(&mut self, removed: &BTreeSet<NodeId>) {
        for node in removed {
            self.offers.remove(node);
            self.known.remove(node);
            self.pulled.remove(node);
        }
    }

    /// Whether the peer holds something, or says that it may, that is lacking here and may be taken from it.
    pub fn lacks(&self, peer: NodeId) -> bool {
        let Some(own) = &self.own else { return false };
        let is_offered = self.offers.get(&peer).is_some_and(|offer| !own.vector.covers(offer));
        let Some(known) = self.known.get(&peer) else {
            return is_offered;
        };
        if known.collection_epoch > own.collection_epoch {
            return false;
        }
        if is_offered || !own.vector.covers(&known.vector) {
            return true;
        }
        let pulled = self.pulled.get(&peer);
        let is_pulled = pulled.is_some_and(|(vector, seen)| *vector == known.vector && *seen == known.seen);
        !own.seen.covers(&known.seen) && !is_pulled
    }

    /// A commit of ours that the peer is known to lack.
    pub fn lacked_by(&self, peer: NodeId) -> Option<Tag> {
        let (own, known) = (self.own.as_ref()?, self.known.get(&peer)?);
        own.vector
            .iter()
            .chain(own.seen.iter())
            .find(|&tag| !known.vector.covers_tag(tag))
    }

    fn step_staying(&mut self, tenant: &Tenant, around: &Surroundings, now: Duration) -> Step {
        let collection_epoch = tenant.collection_epoch;
        let active = self.others(around.me, &[ReplicaState::Active]);
        let Some(own) = &self.own else {
            return Step::Do(Action::Open { collection_epoch });
        };
        if own.collection_epoch < collection_epoch && !self.refill {
            return Step::Do(Action::Collect { collection_epoch });
        }
        if self.refill && !active.is_empty() {
            return self.step_refill(collection_epoch, &active, now);
        }
        let is_active = self.role(around.me) == Some(ReplicaState::Active);
        let filling = self.is_filling(around.me);
        if is_active && !filling && !own.admitting {
            return Step::Do(Action::SetAdmitting(true));
        }
        if self.suspect && self.described.is_none_or(|at| now >= at + DESCRIBED_FRESH) {
            return Step::Do(Action::Describe(active));
        }
        if let Some(step) = self.step_pull(around, now) {
            return step;
        }
        if !is_active || filling {
            return self.step_filling(tenant, around, now);
        }
        match self.step_closing(around, now) {
            Step::Rest => self.step_seeking(around.me, now),
            step => step,
        }
    }

    /// Pulls from whoever has most; the own region first among equals. Waits where all who have something failed.
    fn step_pull(&self, around: &Surroundings, now: Duration) -> Option<Step> {
        let own = self.own.as_ref()?;
        let peers: BTreeSet<NodeId> = self.known.keys().chain(self.offers.keys()).copied().collect();
        let lacking: Vec<NodeId> = peers.into_iter().filter(|&peer| self.lacks(peer)).collect();
        let until = |peer: &NodeId| self.backoff.get(peer).map_or(Duration::ZERO, Backoff::until);
        let best = lacking.iter().filter(|peer| until(peer) <= now).max_by_key(|&peer| {
            let known = self.known.get(peer).map(|known| own.vector.behind(&known.vector));
            let behind = known.max(self.offers.get(peer).map(|offer| own.vector.behind(offer)));
            let is_near = around.regions.get(peer) == around.regions.get(&around.me);
            (
                !around.unreachable.contains(peer),
                behind,
                is_near,
                std::cmp::Reverse(*peer),
            )
        });
        match best {
            Some(&peer) => Some(Step::Do(Action::Pull(peer))),
            None => lacking.iter().map(until).min().map(Step::Wait),
        }
    }

    /// A joining replica, or one that was erased for a refill: it serves when it is exact and covers the active ones
    /// that can be heard, at least one of them.
    fn step_filling(&mut self, tenant: &Tenant, around: &Surroundings, now: Duration) -> Step {
        let full = [ReplicaState::Active, ReplicaState::Leaving];
        let sources = self.others(around.me, &full);
        if !sources.is_empty() {
            if self.described.is_none_or(|at| now >= at + DESCRIBED_FRESH) {
                return Step::Do(Action::Describe(sources));
            }
            let own = self.own.as_ref().expect("checked by the caller");
            let fresh: Vec<_> = sources.iter().filter_map(|node| self.fresh(*node, now)).collect();
            let is_full = own.is_exact() && fresh.iter().all(|known| own.vector.covers(&known.vector));
            if fresh.is_empty() || !is_full {
                return Step::Wait(self.described.unwrap_or(now) + DESCRIBED_FRESH);
            }
        }
        if self.role(around.me) == Some(ReplicaState::Active) {
            self.filling = false;
            return Step::Do(Action::SetAdmitting(true));
        }
        let placement_epoch = tenant.placement_epoch;
        self.report(Report::Ready { placement_epoch }, now)
    }

    /// What a removed node left half-received stays so until the survivors have swapped it. So does what an earlier
    /// incarnation of this node left there and its disk has lost: what this one writes its own vector covers.
    fn step_closing(&mut self, around: &Surroundings, now: Duration) -> Step {
        let own = self.own.as_ref().expect("checked by the caller");
        let is_open = |tag: &Tag| around.may_close(tag.origin) && !own.vector.covers_tag(*tag);
        if !own.seen.iter().any(|tag| is_open(&tag)) {
            self.closing_since = None;
            return Step::Rest;
        }
        let since = *self.closing_since.get_or_insert(now);
        if now < since + CLOSE_WAIT {
            return Step::Wait(since + CLOSE_WAIT);
        }
        let all = [ReplicaState::Joining, ReplicaState::Active, ReplicaState::Leaving];
        Step::Do(Action::Close(self.others(around.me, &all)))
    }

    pub(super) fn report(&mut self, report: Report, now: Duration) -> Step {
        match self.reported {
            Some(at) if now < at + REPORT_AGAIN => Step::Wait(at + REPORT_AGAIN),
            _ => {
                self.reported = Some(now);
                Step::Do(Action::Report(report))
            }
        }
    }

    /// An active replica that is empty although tombstones were collected was emptied by a refill, in this run or in
    /// one before.
    fn is_filling(&self, me: NodeId) -> bool {
        let Some(tenant) = &self.placement else { return false };
        let was_emptied = tenant.collection_epoch > 0
            && self
                .own
                .as_ref()
                .is_some_and(|own| own.seen.is_empty() && !own.admitting);
        (self.filling || was_emptied) && !self.others(me, &[ReplicaState::Active]).is_empty()
    }

    pub(super) fn fresh(&self, node: NodeId, now: Duration) -> Option<&Known> {
        let heard = *self.heard.get(&node)?;
        self.known.get(&node).filter(|_| now <= heard + DESCRIBED_FRESH)
    }
}

/// A tenant's action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The tenant.
    pub tenant: TenantId,
    /// What to do.
    pub action: Action,
}
