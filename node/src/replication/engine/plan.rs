//! Who gets a new change set: each other replica of the own region, and one replica in every other region, which
//! passes it on to the rest there. So one copy crosses the wide area for each region.

use std::collections::{BTreeMap, BTreeSet};

use halcyon_core::id::{NodeId, RegionName};

use crate::{
    metadata::state::{ReplicaState, Tenant},
    replication::limits::PASS_ON_MAX,
};

/// Where the sets of one tenant go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GossipPlan {
    /// Who gets them from this node.
    pub targets: Vec<Target>,
}

/// One receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Who.
    pub to: NodeId,
    /// The nodes of its region that it passes them on to.
    pub pass_on: Vec<u64>,
}

/// Makes the plan of `me`. Joining replicas take part; leaving ones need nothing more.
pub(super) fn plan(
    me: NodeId,
    tenant: &Tenant,
    regions: &BTreeMap<NodeId, RegionName>,
    unreachable: &BTreeSet<NodeId>,
) -> GossipPlan {
    let mut by_region: BTreeMap<&RegionName, Vec<NodeId>> = BTreeMap::new();
    for (&node, &state) in &tenant.replicas {
        if node != me
            && state != ReplicaState::Leaving
            && let Some(region) = regions.get(&node)
        {
            by_region.entry(region).or_default().push(node);
        }
    }
    let home = regions.get(&me);
    let mut targets = Vec::new();
    for (region, nodes) in by_region {
        if Some(region) == home || nodes.len() > PASS_ON_MAX {
            targets.extend(nodes.into_iter().map(|to| Target {
                to,
                pass_on: Vec::new(),
            }));
        } else {
            targets.push(relay(&nodes, unreachable));
        }
    }
    GossipPlan { targets }
}

/// The lowest node that answers, else the lowest. It passes on to the others.
fn relay(nodes: &[NodeId], unreachable: &BTreeSet<NodeId>) -> Target {
    let reachable = nodes.iter().find(|node| !unreachable.contains(node));
    let to = reachable.or(nodes.first()).copied().unwrap_or_default();
    let pass_on = nodes.iter().filter(|&&node| node != to).map(|node| node.0).collect();
    Target { to, pass_on }
}
