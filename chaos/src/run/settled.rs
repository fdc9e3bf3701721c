//! Whether the cluster is whole again: what must be so within a bound once all faults are gone.

use std::collections::BTreeSet;

use halcyon_core::id::Tag;
use halcyon_node::{metadata::state::ReplicaState, storage::types::Summary};

use super::stage::Stage;
use crate::{
    plan::cluster::{Acknowledgement, Client, Host, Tenant},
    world::machine::Machine,
};

/// Why it is not, if it is not.
pub(super) fn check(stage: &Stage) -> Result<(), String> {
    if !stage.is_idle() {
        return Err("the operator has not done all that was asked".to_owned());
    }
    if stage.is_asking() {
        return Err("an operator waits for an answer".to_owned());
    }
    let lost = stage.lost();
    for host in stage.all_hosts() {
        if !lost.contains(&host) && stage.rooms(host).is_none() && stage.has_token(host) {
            return Err(format!("{host} does not serve"));
        }
    }
    control_plane(stage)?;
    for (tenant, access) in stage.all_access() {
        replicas(stage, tenant, access.id)?;
    }
    for (client, plan) in (1..).map(Client).zip(&stage.plan.clients) {
        if stage.has_finished(client) || !can_be_answered(stage, plan.tenant) {
            continue;
        }
        let access = stage.access(plan.tenant);
        if !access.is_some_and(|access| stage.court().may_rest_on_lost(access.id, stage)) {
            return Err(format!("{client} has not finished"));
        }
    }
    stage.court().unsettled(stage).map_or(Ok(()), Err)
}

/// One leader that all follow, and the same log everywhere.
fn control_plane(stage: &Stage) -> Result<(), String> {
    let roles: Vec<_> = stage
        .running()
        .into_iter()
        .map(|(host, rooms)| (host, rooms.metadata.roles()))
        .collect();
    let leaders: BTreeSet<_> = roles.iter().map(|(_, roles)| roles.leader).collect();
    let indexes: BTreeSet<_> = roles.iter().map(|(_, roles)| roles.index).collect();
    if leaders.len() != 1 || leaders.contains(&None) {
        return Err(format!("the nodes follow {leaders:?}"));
    }
    if indexes.len() != 1 {
        return Err(format!("the control plane's log is applied up to {indexes:?}"));
    }
    Ok(())
}

/// All replicas active, exact (but for what waits for an operator) and equal.
fn replicas(stage: &Stage, tenant: Tenant, id: halcyon_core::id::TenantId) -> Result<(), String> {
    let Some(view) = stage.running().into_values().next().map(|rooms| rooms.view) else {
        return Err("no node runs".to_owned());
    };
    let placed = view.tenant(id).ok_or_else(|| format!("{tenant} is unknown"))?;
    let lost = stage.lost();
    let waits_for_lost = placed.replicas.iter().any(|(node, state)| {
        *state == ReplicaState::Active && stage.host_of(*node).is_some_and(|host| lost.contains(&host))
    });
    // Half of what a host had sent that is gone waits for its removal.
    let waits = |tag: Tag| {
        let node = tag.origin.node;
        view.node(node).is_some() && stage.host_of(node).is_some_and(|host| lost.contains(&host))
    };
    let is_whole = |one: &Summary| one.seen.iter().all(|tag| one.vector.covers_tag(tag) || waits(tag));
    let mut found: Vec<(Host, Summary)> = Vec::new();
    for (node, state) in &placed.replicas {
        let host = stage
            .host_of(*node)
            .ok_or_else(|| format!("{tenant} is placed on node {node}, which nobody runs"))?;
        if lost.contains(&host) {
            continue;
        }
        // It keeps what it has until every active replica holds it; of one that is gone it waits for the removal.
        if *state == ReplicaState::Leaving && waits_for_lost {
            continue;
        }
        // One that joins is ready when it is exact: that half, which it has from the others, it waits for as well.
        let own = stage.rooms(host).and_then(|rooms| rooms.storage.summary(id).ok()?);
        if *state == ReplicaState::Joining && own.is_some_and(|own| !own.is_exact() && is_whole(&own)) {
            continue;
        }
        if *state != ReplicaState::Active {
            return Err(format!("{tenant} is {state:?} on {host}"));
        }
        let rooms = stage
            .rooms(host)
            .ok_or_else(|| format!("{host} does not serve {tenant}"))?;
        match rooms.storage.summary(id) {
            Ok(Some(summary)) => found.push((host, summary)),
            Ok(None) => return Err(format!("{host} holds nothing of {tenant}")),
            Err(error) => return Err(format!("{host} cannot read {tenant}: {error}")),
        }
    }
    let Some((first, one)) = found.first() else {
        return Err(format!("{tenant} has no replica"));
    };
    for (host, other) in &found {
        if !is_whole(other) {
            return Err(format!("{host} is not exact in {tenant}"));
        }
        if other.vector != one.vector {
            return Err(format!(
                "{first} and {host} have different vectors of {tenant}: {:?} and {:?}",
                one.vector, other.vector
            ));
        }
        if other.is_exact() && one.is_exact() && other.fingerprint != one.fingerprint {
            return Err(format!(
                "{first} and {host} have equal vectors and different fingerprints of {tenant}"
            ));
        }
    }
    Ok(())
}

/// Whether sets can be acknowledged at all: by `region`, not where only one region is left that takes them in.
fn can_be_answered(stage: &Stage, tenant: Tenant) -> bool {
    let planned = &stage.plan.tenants[tenant.0 as usize - 1];
    let view = stage.running().into_values().next().map(|rooms| rooms.view);
    let placed = stage.access(tenant).and_then(|access| view?.tenant(access.id));
    let Some(placed) = placed else { return true };
    let lost = stage.lost();
    // One that leaves hears of nothing new. It stays until a lost host is removed that the tenant is placed on.
    let staying = placed
        .replicas
        .iter()
        .filter(|(_, state)| **state != ReplicaState::Leaving);
    let hosts = staying.filter_map(|(node, _)| stage.host_of(*node));
    let alive = hosts.filter(|host| !lost.contains(host));
    let regions: BTreeSet<_> = alive
        .map(|host| stage.place(Machine::Host(host.0)).region.get())
        .collect();
    planned.acknowledgement == Acknowledgement::Local || regions.len() > 1
}
