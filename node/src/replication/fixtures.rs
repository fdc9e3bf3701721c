//! What tests of replication and of the tenant room share.

use std::collections::{BTreeMap, BTreeSet};

use halcyon_core::id::{NodeId, RegionName, TenantId};

use crate::metadata::state::{ReplicaState, Tenant};

/// The tenant of most tests.
pub(crate) fn tenant_id() -> TenantId {
    "abcdefghijklmnopqrstu".parse().unwrap()
}

/// A region for each node, but nodes 10 and more share the one of their tens.
pub(crate) fn region_of(node: u64) -> RegionName {
    let number = if node < 10 { node } else { node / 10 };
    RegionName::new(&format!("r{number}")).unwrap()
}

/// The regions of some nodes.
pub(crate) fn regions(nodes: &[u64]) -> BTreeMap<NodeId, RegionName> {
    nodes.iter().map(|&node| (NodeId(node), region_of(node))).collect()
}

/// A tenant with these replicas.
pub(crate) fn tenant(replicas: &[(u64, ReplicaState)]) -> Tenant {
    let regions: BTreeSet<RegionName> = replicas.iter().map(|&(node, _)| region_of(node)).collect();
    Tenant {
        id: tenant_id(),
        name: "app".parse().unwrap(),
        home: regions.first().cloned().unwrap_or_else(|| region_of(1)),
        regions,
        nodes_per_region: 1,
        placement_epoch: 1,
        collection_epoch: 0,
        replicas: replicas.iter().map(|&(node, state)| (NodeId(node), state)).collect(),
        keys: BTreeMap::new(),
        settings: BTreeMap::new(),
    }
}
