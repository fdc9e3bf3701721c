//! What every service needs: the rooms of the node, and who it is.

use halcyon_core::{
    env::Env,
    id::{NodeId, RegionName},
};
use halcyon_proto::{
    error::{ErrorCode, Refusal},
    v1,
    version::{AGENT, negotiate},
};

use tokio::sync::watch;

use super::{alarms::Alarms, removal::Removal};
use crate::{
    live::Live,
    metadata::{
        Metadata, View,
        state::{ReplicaState, Tenant},
    },
    metrics::Metrics,
    peers::Pool,
    replication::Replication,
    rooms::Lobby,
    routing::Routing,
    session::Sessions,
    storage::Storage,
    tenant::Tenants,
};

/// The rooms of one node. Clones share them.
#[derive(Clone, Debug)]
pub struct Rooms {
    /// The world.
    pub env: Env,
    /// This node.
    pub me: NodeId,
    /// Where it is.
    pub region: RegionName,
    /// Its cluster.
    pub cluster: String,
    /// The wire versions that it speaks.
    pub wire: v1::WireVersions,
    /// Only this machine reaches the clients' port.
    pub loopback: bool,
    /// What the control plane holds.
    pub view: View,
    /// The control plane.
    pub metadata: Metadata,
    /// Triples.
    pub storage: Storage,
    /// Clients' reads and writes.
    pub tenants: Tenants,
    /// Other replicas.
    pub replication: Replication,
    /// Clients' streams.
    pub sessions: Sessions,
    /// What they follow.
    pub live: Live,
    /// Distances.
    pub routing: Routing,
    /// Connections to peers.
    pub pool: Pool,
    /// Who is here, and what they say.
    pub lobby: Lobby,
    /// Counters.
    pub metrics: Metrics,
    /// What people should know of this node.
    pub alarms: Alarms,
    /// Whether it was removed from the cluster.
    pub removal: Removal,
    /// Becomes true when the node stops serving clients.
    pub stopping: watch::Receiver<bool>,
    /// Becomes true when the last client's call has ended, and peers are left alone.
    pub closing: watch::Receiver<bool>,
}

impl Rooms {
    /// Completes when the node serves no clients any more: their streams that would go on for ever end with it.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let (stopping, removal) = (self.stopping.clone(), self.removal.clone());
        async move {
            tokio::select! {
                biased;
                () = until_true(stopping) => {}
                () = removal.told() => {}
            }
        }
    }

    /// Completes when the node lets go of its peers.
    pub(super) fn closed(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        until_true(self.closing.clone())
    }

    /// Whether this node is a replica that serves.
    pub(super) fn serves(&self, tenant: &Tenant) -> bool {
        tenant.replicas.get(&self.me) == Some(&ReplicaState::Active)
    }

    /// This node may not serve the tenant; these may.
    pub(super) fn wrong_region(&self, tenant: &Tenant) -> Refusal {
        let replicas = self.routing.locate(tenant);
        let text = format!(
            "tenant {} is not served by node {} in {}; go to one of the replicas in this answer",
            tenant.name, self.me, self.region
        );
        Refusal::wrong_region(text, replicas)
    }

    /// Replicas to pass a call on to, the nearest first.
    pub(super) fn forward_to(&self, tenant: &Tenant) -> Vec<NodeId> {
        let replicas = self.routing.locate(tenant).into_iter();
        replicas
            .filter(|r| r.serving && r.node != self.me.0)
            .map(|r| NodeId(r.node))
            .collect()
    }

    /// Agrees on a wire version, with clients and peers alike.
    pub(super) fn hello(&self, request: &v1::HelloRequest) -> Result<v1::HelloResponse, Refusal> {
        let theirs = request.versions.unwrap_or_default();
        let version =
            negotiate(self.wire, theirs).map_err(|error| Refusal::new(ErrorCode::WireVersion, error.to_string()))?;
        Ok(v1::HelloResponse {
            version,
            agent: AGENT.to_owned(),
            node: self.me.0,
            region: self.region.to_string(),
            wall: self.env.clock.wall().0.0,
            drift_max_ms: u64::try_from(self.view.settings().drift_max.as_millis()).ok(),
        })
    }
}

async fn until_true(mut signal: watch::Receiver<bool>) {
    // A sender that is gone has stopped as well.
    let _ = signal.wait_for(|signal| *signal).await;
}
