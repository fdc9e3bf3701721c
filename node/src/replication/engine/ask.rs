//! What may be asked of the rules.

use std::{collections::BTreeSet, sync::Arc};

use halcyon_core::{
    id::{NodeId, Tag, TenantId},
    version_vector::VersionVector,
};

use super::{Digest, Engine, Known, Surroundings, TenantState};
use crate::{
    metadata::state::{ReplicaState, Tenant},
    replication::limits::DOUBTS_MAX,
};

impl Engine {
    /// The digest over the tenants that `peer` holds too.
    pub fn digest_for(&self, peer: NodeId) -> Digest {
        self.digests.get(&peer).cloned().unwrap_or_default()
    }

    /// Tenants shared with `peer` of which it is not known to hold all that the digest for it was made of, and what that
    /// is. If their buckets turn out equal, the peer holds just this. Looks only at those that changed since the peer was
    /// last known to hold all.
    pub fn doubts_about(&mut self, peer: NodeId) -> Vec<(TenantId, VersionVector)> {
        let Some(doubtful) = self.doubtful.get_mut(&peer) else {
            return Vec::new();
        };
        let mut doubts = Vec::new();
        doubtful.retain(|tenant| {
            let state = self.tenants.get(tenant).filter(|state| state.is_placed_on(peer));
            let Some((state, own)) = state.and_then(|state| Some((state, state.own.as_ref()?))) else {
                return false;
            };
            let known = state.known.get(&peer);
            let is_doubtful = !known.is_some_and(|known| known.vector.covers(&own.vector));
            if is_doubtful && !state.changed && doubts.len() < DOUBTS_MAX {
                doubts.push((*tenant, own.vector.clone()));
            }
            is_doubtful
        });
        doubts
    }

    /// The tenants that `peer` holds too.
    pub fn shared_with(&self, peer: NodeId) -> impl Iterator<Item = (TenantId, &TenantState)> {
        let both = move |tenant: &Arc<Tenant>| {
            tenant.replicas.contains_key(&peer) && tenant.replicas.contains_key(&self.around.me)
        };
        self.tenants
            .iter()
            .filter(move |(_, state)| state.placement.as_ref().is_some_and(both))
            .map(|(&tenant, state)| (tenant, state))
    }

    /// The peers that hold a tenant of this node, in the order of their numbers. Those that did once may be among them.
    pub fn peers(&self) -> BTreeSet<NodeId> {
        let is_member = |node: &NodeId| self.around.regions.contains_key(node);
        self.digests.keys().copied().filter(is_member).collect()
    }

    /// The tenants whose collections this node leads: it is the lowest active replica of the home region.
    pub fn coordinated(&self) -> Vec<TenantId> {
        let is_home = |node: &NodeId, tenant: &Tenant| self.around.regions.get(node) == Some(&tenant.home);
        let leads = |tenant: &Arc<Tenant>| {
            let mut active = tenant
                .replicas
                .iter()
                .filter(|&(node, &state)| state == ReplicaState::Active && is_home(node, tenant));
            active.next().map(|(&node, _)| node) == Some(self.around.me)
        };
        let of = |(&tenant, state): (&TenantId, &TenantState)| {
            state.placement.as_ref().filter(|it| leads(it)).map(|_| tenant)
        };
        self.tenants.iter().filter_map(of).collect()
    }

    /// One tenant.
    pub fn tenant(&self, tenant: TenantId) -> Option<&TenantState> {
        self.tenants.get(&tenant)
    }

    /// All tenants.
    pub fn tenants(&self) -> impl Iterator<Item = (&TenantId, &TenantState)> {
        self.tenants.iter()
    }

    /// What is around.
    pub const fn around(&self) -> &Surroundings {
        &self.around
    }

    /// Of every origin, how far a replica is known to have it durable that is neither this one nor the origin's own: that
    /// one held it first, and is no second.
    pub fn held(&self, tenant: TenantId) -> VersionVector {
        let mut held = VersionVector::EMPTY;
        for (peer, known) in self.replicas(tenant) {
            known
                .vector
                .iter()
                .filter(|tag| tag.origin.node != peer)
                .for_each(|tag| held.raise(tag));
        }
        held
    }

    /// Whether a replica of another region has it durable.
    pub fn is_in_another_region(&self, tenant: TenantId, tag: Tag) -> bool {
        let home = self.around.regions.get(&self.around.me);
        let is_elsewhere = |peer: NodeId| {
            self.around
                .regions
                .get(&peer)
                .is_some_and(|region| Some(region) != home)
        };
        self.replicas(tenant)
            .any(|(peer, known)| is_elsewhere(peer) && known.vector.covers_tag(tag))
    }

    /// The other replicas, as they are known. Who is none any more may still hand over what it holds, and keeps nothing.
    fn replicas(&self, tenant: TenantId) -> impl Iterator<Item = (NodeId, &Known)> {
        let state = self.tenants.get(&tenant);
        state.into_iter().flat_map(|state| {
            let known = state.known.iter().map(|(peer, known)| (*peer, known));
            known.filter(|(peer, _)| state.is_placed_on(*peer))
        })
    }
}
