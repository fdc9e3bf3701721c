//! Who should hold a tenant, and the safe way from who does to who should.
//!
//! Nodes of a region are ranked per tenant by a hash of both (rendezvous hashing), so a node that comes or goes moves
//! only the tenants that it wins or held.
//!
//! Invariants of [`step`]:
//! - a replica that serves goes on serving until every wanted replica serves;
//! - a leaving replica does not come back before it is gone: it may have erased its data already. Only where no replica
//!   serves any more does it serve again, as the best copy there is;
//! - the last replicas stay where no node is wanted at all.
//!
//! These rules are part of the state machine: every release that applies the same log must agree on them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use halcyon_core::id::{NodeId, TenantId};
use xxhash_rust::xxh3::xxh3_64;

use super::state::{Node, NodeState, ReplicaState, Tenant};

/// The nodes that should hold `tenant`: in each of its regions the best ranked that may.
pub fn desired(tenant: &Tenant, nodes: &BTreeMap<NodeId, Arc<Node>>) -> BTreeSet<NodeId> {
    let mut ranked: Vec<(u64, NodeId)> = nodes
        .values()
        .filter(|node| node.state == NodeState::Active && tenant.regions.contains(&node.region))
        .map(|node| (rank(tenant.id, node.id), node.id))
        .collect();
    ranked.sort_unstable_by(|a, b| b.cmp(a));
    let mut taken = BTreeMap::new();
    let mut wanted = BTreeSet::new();
    for (_, id) in ranked {
        let in_region = taken.entry(&nodes[&id].region).or_insert(0);
        if *in_region < tenant.nodes_per_region {
            *in_region += 1;
            wanted.insert(id);
        }
    }
    wanted
}

/// The next replicas of `tenant`, or `None` where nothing is to change now.
pub fn step(tenant: &Tenant, nodes: &BTreeMap<NodeId, Arc<Node>>) -> Option<BTreeMap<NodeId, ReplicaState>> {
    let wanted = desired(tenant, nodes);
    let mut replicas = tenant.replicas.clone();
    replicas.retain(|node, _| nodes.contains_key(node));
    if replicas.is_empty() {
        // New, or all copies lost: there is nothing that could be moved.
        replicas.extend(wanted.iter().map(|node| (*node, ReplicaState::Active)));
    } else {
        revive(&mut replicas, tenant, nodes);
        for node in &wanted {
            replicas.entry(*node).or_insert(ReplicaState::Joining);
        }
        dismiss(&mut replicas, &wanted);
    }
    (replicas != tenant.replicas).then_some(replicas)
}

fn rank(tenant: TenantId, node: NodeId) -> u64 {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&tenant.to_bytes());
    key[16..].copy_from_slice(&node.0.to_be_bytes());
    xxh3_64(&key)
}

/// Where no replica serves, the best copies left do: leaving ones, which were full, before joining ones.
fn revive(replicas: &mut BTreeMap<NodeId, ReplicaState>, tenant: &Tenant, nodes: &BTreeMap<NodeId, Arc<Node>>) {
    if replicas.values().any(|state| *state == ReplicaState::Active) {
        return;
    }
    let leaving_left = replicas.values().any(|state| *state == ReplicaState::Leaving);
    let best = if leaving_left {
        ReplicaState::Leaving
    } else {
        ReplicaState::Joining
    };
    for (node, state) in replicas.iter_mut() {
        if *state == best && tenant.regions.contains(&nodes[node].region) {
            *state = ReplicaState::Active;
        }
    }
}

/// Sends away who is not wanted: joining ones at once, serving ones when all who are wanted serve.
fn dismiss(replicas: &mut BTreeMap<NodeId, ReplicaState>, wanted: &BTreeSet<NodeId>) {
    let filled = !wanted.is_empty()
        && wanted
            .iter()
            .all(|node| replicas.get(node) == Some(&ReplicaState::Active));
    for (node, state) in replicas.iter_mut() {
        let unneeded = match *state {
            ReplicaState::Joining => !wanted.is_empty(),
            ReplicaState::Active => filled,
            ReplicaState::Leaving => false,
        };
        if unneeded && !wanted.contains(node) {
            *state = ReplicaState::Leaving;
        }
    }
}

#[cfg(test)]
mod tests {
    use halcyon_core::id::{RegionName, TenantName};
    use proptest::prelude::*;

    use super::*;

    fn fleet(regions: &[&str]) -> BTreeMap<NodeId, Arc<Node>> {
        let node = |(at, region): (usize, &&str)| Node {
            id: NodeId(at as u64 + 1),
            region: RegionName::new(region).unwrap(),
            client_address: String::new(),
            peer_address: String::new(),
            state: NodeState::Active,
        };
        regions
            .iter()
            .enumerate()
            .map(node)
            .map(|node| (node.id, Arc::new(node)))
            .collect()
    }

    fn tenant(number: u128, regions: &[&str], replicas: &[(u64, ReplicaState)]) -> Tenant {
        let regions: BTreeSet<_> = regions.iter().map(|region| RegionName::new(region).unwrap()).collect();
        Tenant {
            id: TenantId::from_bytes(number.to_be_bytes()).unwrap(),
            name: TenantName::new("app").unwrap(),
            home: regions.first().unwrap().clone(),
            regions,
            nodes_per_region: 1,
            placement_epoch: 1,
            collection_epoch: 0,
            replicas: replicas.iter().map(|(node, state)| (NodeId(*node), *state)).collect(),
            keys: BTreeMap::new(),
            settings: BTreeMap::new(),
        }
    }

    use ReplicaState::{Active, Joining, Leaving};

    #[track_caller]
    fn check(
        tenant_regions: &[&str],
        fleet_regions: &[&str],
        now: &[(u64, ReplicaState)],
        next: &[(u64, ReplicaState)],
    ) {
        let tenant = tenant(7, tenant_regions, now);
        let expected = next.iter().map(|(node, state)| (NodeId(*node), *state)).collect();
        assert_eq!(
            step(&tenant, &fleet(fleet_regions)).unwrap_or(tenant.replicas),
            expected
        );
    }

    #[test]
    fn a_fresh_tenant_serves_at_once() {
        check(&["a", "b"], &["a", "b", "c"], &[], &[(1, Active), (2, Active)]);
    }

    #[test]
    fn a_new_region_joins_before_the_old_one_leaves() {
        check(&["b"], &["a", "b"], &[(1, Active)], &[(1, Active), (2, Joining)]);
        check(
            &["b"],
            &["a", "b"],
            &[(1, Active), (2, Active)],
            &[(1, Leaving), (2, Active)],
        );
        check(&["b"], &["a", "b"], &[(2, Active)], &[(2, Active)]);
    }

    #[test]
    fn a_removed_node_drops_out_at_once() {
        check(
            &["a", "b"],
            &["a", "b"],
            &[(1, Active), (9, Active)],
            &[(1, Active), (2, Joining)],
        );
        check(&["a"], &["a"], &[(9, Active)], &[(1, Active)]);
    }

    #[test]
    fn the_best_copy_left_serves_when_no_replica_does() {
        check(
            &["a", "b"],
            &["a", "b"],
            &[(1, Leaving), (2, Joining), (9, Active)],
            &[(1, Active), (2, Joining)],
        );
        check(
            &["a", "b"],
            &["a", "b"],
            &[(1, Joining), (2, Joining)],
            &[(1, Active), (2, Active)],
        );
    }

    #[test]
    fn a_leaving_replica_that_is_wanted_again_goes_first() {
        check(
            &["a", "b"],
            &["a", "b"],
            &[(1, Active), (2, Leaving)],
            &[(1, Active), (2, Leaving)],
        );
        check(&["a", "b"], &["a", "b"], &[(1, Active)], &[(1, Active), (2, Joining)]);
    }

    #[test]
    fn the_last_replica_stays_where_no_node_is_wanted() {
        check(&["z"], &["a"], &[(1, Active)], &[(1, Active)]);
    }

    proptest! {
        #[test]
        fn a_node_that_joins_takes_only_what_it_wins(number in 0..1_000_000_u128, count in 1..8_usize) {
            let regions = vec!["a"; count + 1];
            let after = fleet(&regions);
            let mut before = after.clone();
            before.pop_last();
            let tenant = tenant(number, &["a"], &[]);
            let (old, new) = (desired(&tenant, &before), desired(&tenant, &after));
            prop_assert!(old == new || new.contains(after.last_key_value().unwrap().0));
        }

        #[test]
        fn the_steps_end_with_exactly_the_wanted_replicas(
            number in 0..1_000_000_u128,
            start in proptest::collection::btree_map(1..9_u64, 0..3_u8, 0..6),
        ) {
            let start: Vec<_> = start.into_iter().map(|(node, state)| (node, [Joining, Active, Leaving][state as usize])).collect();
            let nodes = fleet(&["a", "a", "b", "b", "c", "c"]);
            let mut tenant = tenant(number, &["a", "b"], &start);
            for _ in 0..50 {
                let served = tenant.replicas.iter().any(|(node, state)| *state == Active && nodes.contains_key(node));
                if let Some(next) = step(&tenant, &nodes) {
                    tenant.replicas = next;
                } else {
                    // The world's part: fill who joins, erase who leaves.
                    tenant.replicas.retain(|_, state| *state != Leaving);
                    for state in tenant.replicas.values_mut() {
                        *state = Active;
                    }
                }
                prop_assert!(!served || tenant.replicas.values().any(|state| *state == Active));
            }
            let expected: BTreeMap<_, _> = desired(&tenant, &nodes).into_iter().map(|node| (node, Active)).collect();
            prop_assert_eq!(tenant.replicas, expected);
        }
    }
}
