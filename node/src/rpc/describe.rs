//! Tenants, nodes and settings as operators see them.

use std::time::Duration;

use halcyon_core::id::NodeId;
use halcyon_proto::{error::Refusal, v1, version::AGENT};

use super::rooms::Rooms;
use crate::{
    limits::LIST_LIMIT_MAX,
    metadata::settings,
    metadata::state::{AccessKey, Node, NodeState, ReplicaState, Tenant},
    routing::micros,
};

/// "joining", "active" or "leaving".
pub(super) const fn replica_state(state: ReplicaState) -> &'static str {
    match state {
        ReplicaState::Joining => "joining",
        ReplicaState::Active => "active",
        ReplicaState::Leaving => "leaving",
    }
}

pub(super) fn key_description(id: &str, key: &AccessKey) -> v1::KeyDescription {
    v1::KeyDescription {
        id: id.to_owned(),
        label: key.label.clone(),
        created_ms: key.created_ms,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Rooms {
    pub(super) fn describe_tenant(&self, tenant: &Tenant) -> v1::TenantDescription {
        let replicas = tenant.replicas.iter().map(|(&node, &state)| v1::TenantReplica {
            node: node.0,
            region: self.region_of(node),
            state: replica_state(state).to_owned(),
        });
        v1::TenantDescription {
            id: tenant.id.to_string(),
            name: tenant.name.to_string(),
            regions: tenant.regions.iter().map(ToString::to_string).collect(),
            home: tenant.home.to_string(),
            nodes_per_region: tenant.nodes_per_region,
            placement_epoch: tenant.placement_epoch,
            collection_epoch: tenant.collection_epoch,
            replicas: replicas.collect(),
            keys: tenant.keys.iter().map(|(id, key)| key_description(id, key)).collect(),
            settings: tenant.settings.clone(),
            key: String::new(),
        }
    }

    pub(super) fn describe_node(&self, node: &Node) -> v1::NodeDescription {
        let roles = self.metadata.roles();
        let role = match node.id {
            id if roles.leader == Some(id) => "leader",
            id if roles.voters.contains(&id) => "voter",
            _ => "learner",
        };
        let state = match node.state {
            NodeState::Active => "active",
            NodeState::Draining => "draining",
        };
        let peer = self.routing.peer(node.id);
        let version = if node.id == self.me {
            AGENT.to_owned()
        } else {
            peer.map(|peer| peer.agent).unwrap_or_default()
        };
        let round_trip = self.routing.round_trip(node.id).filter(|_| node.id != self.me);
        v1::NodeDescription {
            id: node.id.0,
            region: node.region.to_string(),
            client_address: node.client_address.clone(),
            peer_address: node.peer_address.clone(),
            state: state.to_owned(),
            role: role.to_owned(),
            round_trip_us: round_trip.map_or(0, micros),
            reachable: self.routing.is_reachable(node.id),
            silent_ms: self.routing.silent_for(node.id).map(millis),
            version: version.trim_start_matches("halcyon/").to_owned(),
        }
    }

    /// Nodes, lag and alarms, as this node sees them.
    pub(super) async fn status(&self, request: &v1::StatusRequest) -> Result<v1::StatusResponse, Refusal> {
        let held = self.view.tenants_on(self.me);
        let tenants_held = held.len() as u64;
        let roles = self.metadata.roles();
        let shown = match request.tenant.as_str() {
            "" => held,
            text => vec![self.tenant(text).await?],
        };
        Ok(v1::StatusResponse {
            node: self.me.0,
            region: self.region.to_string(),
            cluster: self.cluster.clone(),
            nodes: self.view.nodes().iter().map(|node| self.describe_node(node)).collect(),
            lag: shown
                .iter()
                .take(LIST_LIMIT_MAX)
                .flat_map(|tenant| self.lag(tenant))
                .collect(),
            alarms: self
                .alarms
                .standing()
                .into_iter()
                .chain(self.routing.peer_alarms())
                .collect(),
            metadata_index: self.view.index(),
            quorum: roles.has_quorum,
            tenants_held,
            quorum_age_ms: roles.quorum_age.map(millis),
        })
    }

    /// How far the other replicas are behind this node.
    fn lag(&self, tenant: &Tenant) -> Vec<v1::TenantLag> {
        let known = self.replication.lag(tenant.id);
        let others = tenant.replicas.iter().filter(|&(&node, _)| node != self.me);
        let lag = others.map(|(&node, &state)| v1::TenantLag {
            tenant_id: tenant.id.to_string(),
            tenant_name: tenant.name.to_string(),
            node: node.0,
            region: self.region_of(node),
            change_sets: known.get(&node).map_or(0, |lag| lag.change_sets),
            state: replica_state(state).to_owned(),
            unreachable: !self.routing.is_reachable(node),
            unheard: known.get(&node).is_some_and(|lag| !lag.is_known),
        });
        lag.collect()
    }

    /// All cluster settings with their meaning.
    pub(super) fn list_settings(&self) -> Vec<v1::Setting> {
        let overrides = self.view.read(|state| state.settings.clone());
        let setting = |spec: &settings::Spec| v1::Setting {
            name: spec.name.to_owned(),
            value: overrides.get(spec.name).map_or(spec.default, String::as_str).to_owned(),
            default: spec.default.to_owned(),
            description: spec.description.to_owned(),
        };
        settings::CLUSTER.iter().map(setting).collect()
    }

    /// The region of a member; empty for a node that is gone.
    pub(super) fn region_of(&self, node: NodeId) -> String {
        self.view
            .node(node)
            .map(|node| node.region.to_string())
            .unwrap_or_default()
    }
}
