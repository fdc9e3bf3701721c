//! Carries change sets to the other replicas of their tenants, and brings back what this node lacks.
//!
//! [`engine`] decides; everything else carries out. [`Replication`] is what the rest of the node sees: `rpc` hands it
//! the calls of peers, `tenant` asks it whom it may serve and what is held elsewhere.
//!
//! What crosses a node's crash is all in storage: vectors, `seen`, resume tokens, what was prepared for a collection.
//! What is known of peers is learnt again from them.
//!
//! The exact protocol is written down in `node/docs/replication.md`.

mod alarm;
mod answers;
mod anti_entropy;
mod collection;
mod control;
mod driver;
pub mod engine;
#[cfg(test)]
pub(crate) mod fixtures;
mod gossip;
mod limits;
mod link;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod model;
mod outbox;
mod pull;
mod seldom;
mod serve;
mod shared;
mod tasks;
#[cfg(test)]
mod tests;
mod waiters;
mod wire;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::Stream;
use halcyon_core::{
    codec::DecodeError,
    env::Env,
    id::{NodeId, Tag, TenantId},
    version_vector::VersionVector,
};
use halcyon_proto::v1;
use thiserror::Error;
use tokio::sync::watch;

use self::shared::Shared;
pub use self::{
    alarm::{Alarm, AlarmKind},
    control::{Concerns, ControlPlane, NotReported},
    engine::Standing,
    outbox::OutboxMetrics,
    shared::ReplicationMetrics,
};
use crate::{
    peers::Pool,
    storage::{Storage, types::StorageError},
    tenant::feed::Feed,
};

/// Why a peer's call was refused.
#[derive(Debug, Error)]
pub enum PeerCallError {
    /// It cannot be understood.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// The caller is no replica of the tenant, or this node is none.
    #[error("node {0} may not have data of tenant {1}")]
    NotReplicated(NodeId, TenantId),
    /// Too many catch-ups are served at once.
    #[error("too many catch-ups at once")]
    Busy,
    /// See there.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// How far a replica is behind this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// Change sets that this node holds and the other is not known to hold.
    pub change_sets: u64,
    /// Whether the other has said what it holds since this node started.
    pub is_known: bool,
    /// Whether the other answered when it was last asked.
    pub is_reachable: bool,
}

/// Replication of one node. Clones share it.
#[derive(Clone)]
pub struct Replication {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
}

impl std::fmt::Debug for Replication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Replication").field(&self.shared.me).finish()
    }
}

impl Replication {
    /// Starts it. `feed` is the sink that `storage` was opened with.
    pub fn start(
        env: &Env,
        me: NodeId,
        storage: Storage,
        control: Arc<dyn ControlPlane>,
        pool: Pool,
        feed: &Feed,
    ) -> Result<Self, StorageError> {
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared::new(env.clone(), me, storage, control, pool, stopped));
        let sink: Arc<dyn crate::storage::types::CommitSink> = Arc::clone(&shared) as _;
        feed.attach(&sink);
        shared.read_all()?;
        driver::spawn(&shared);
        Ok(Self { shared, stop })
    }

    /// Stops sending, pulling and answering. Storage is closed by whoever opened it.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// A peer's gossip stream: what it sends is made durable here, passed on, and acknowledged.
    pub fn gossip<S, E>(
        &self,
        from: NodeId,
        inbound: S,
    ) -> impl Stream<Item = Result<v1::GossipResponse, E>> + use<S, E>
    where
        S: Stream<Item = Result<v1::GossipRequest, E>> + Send + 'static,
        E: Send + 'static,
    {
        gossip::answer_stream(Arc::clone(&self.shared), from, inbound)
    }

    /// One message of a gossip stream.
    pub async fn on_gossip(&self, from: NodeId, request: v1::GossipRequest) -> v1::GossipResponse {
        gossip::on_gossip(&self.shared, from, request).await
    }

    /// Which buckets of tenants differ from a peer's.
    pub fn on_digest(&self, from: NodeId, request: &v1::DigestRequest) -> Result<v1::DigestResponse, PeerCallError> {
        answers::on_digest(&self.shared, from, request)
    }

    /// The vectors of the tenants in some buckets.
    pub fn on_vectors(&self, from: NodeId, request: &v1::VectorsRequest) -> Result<v1::VectorsResponse, PeerCallError> {
        answers::on_vectors(&self.shared, from, request)
    }

    /// What this replica is.
    pub fn on_describe(&self, request: &v1::DescribeRequest) -> Result<v1::DescribeResponse, PeerCallError> {
        answers::on_describe(&self.shared, request)
    }

    /// Serves what a peer lacks of one tenant.
    pub fn catch_up(
        &self,
        from: NodeId,
        request: &v1::CatchUpRequest,
    ) -> Result<impl Stream<Item = Result<v1::CatchUpResponse, StorageError>> + use<>, PeerCallError> {
        serve::serve(&self.shared, from, request)
    }

    /// Whether this replica may forget some tombstones.
    pub async fn on_prepare_collection(
        &self,
        from: NodeId,
        request: &v1::PrepareCollectionRequest,
    ) -> Result<v1::PrepareCollectionResponse, PeerCallError> {
        answers::on_prepare_collection(&self.shared, from, request).await
    }

    /// Whether clients may read the tenant here: the replica is active and whole.
    pub fn serves(&self, tenant: TenantId) -> bool {
        self.shared.engine(|engine| {
            let me = engine.around().me;
            engine.tenant(tenant).is_some_and(|state| state.serves(me))
        })
    }

    /// Of every origin, how far another replica is known to have it durable.
    pub fn held(&self, tenant: TenantId) -> VersionVector {
        self.shared.engine(|engine| engine.held(tenant))
    }

    /// What a client has seen, without what no replica holds any more. As long as that is not known, all of it.
    pub fn attainable(&self, tenant: TenantId, seen: VersionVector) -> VersionVector {
        let now = self.shared.now();
        let attainable = self.shared.engine(|engine| engine.attainable(tenant, seen, now));
        self.shared.wake.notify_one();
        attainable
    }

    /// Waits until a replica of another region has a commit durable. False when the deadline passes first.
    pub async fn wait_region(&self, tenant: TenantId, tag: Tag, deadline: Duration) -> bool {
        self.shared.wait_region(tenant, tag, deadline).await
    }

    /// How far the other replicas of a tenant are behind this one.
    pub fn lag(&self, tenant: TenantId) -> BTreeMap<NodeId, Lag> {
        self.shared.lag(tenant)
    }

    /// How the replicas here are.
    pub fn standing(&self) -> Standing {
        self.shared.engine(|engine| engine.standing())
    }

    /// What people should know, the oldest first.
    pub fn alarms(&self) -> Vec<Alarm> {
        self.shared.alarms()
    }

    /// Tenants that hold changes which this release does not understand, and how many.
    pub fn opaque(&self) -> Vec<(TenantId, u64)> {
        self.shared.opaque()
    }

    /// Figures.
    pub fn metrics(&self) -> ReplicationMetrics {
        self.shared.metrics()
    }
}
