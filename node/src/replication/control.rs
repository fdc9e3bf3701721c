//! What replication needs of the control plane, and nothing more. Tests fill it in without Raft.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use halcyon_core::{
    env::BoxFuture,
    id::{NodeId, RegionName, TenantId},
};
use thiserror::Error;

use crate::{
    metadata::{settings::Settings, state::Tenant},
    replication::engine::Report,
};

/// The control plane did not take a report. It is made again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the control plane did not answer: {0}")]
pub struct NotReported(pub String);

/// What concerns one node.
#[derive(Debug, Clone, Default)]
pub struct Concerns {
    /// The tenants that are placed on it, in any state.
    pub placed: Vec<Arc<Tenant>>,
    /// Deleted tenants that it still has to erase.
    pub erasing: Vec<TenantId>,
    /// Where the nodes are.
    pub regions: BTreeMap<NodeId, RegionName>,
    /// Nodes that were removed for good.
    pub removed: BTreeSet<NodeId>,
}

/// The control plane, as replication sees it.
pub trait ControlPlane: Send + Sync {
    /// How far the local view has come.
    fn index(&self) -> u64;

    /// Returns when the view is further than `index`.
    fn beyond(&self, index: u64) -> BoxFuture<'_, ()>;

    /// What concerns this node.
    fn concerns(&self, me: NodeId) -> Concerns;

    /// One tenant, wherever it is placed.
    fn tenant(&self, tenant: TenantId) -> Option<Arc<Tenant>>;

    /// The cluster's settings, as they are now.
    fn settings(&self) -> Settings;

    /// Node `me` tells what became of its replica.
    fn report(&self, me: NodeId, tenant: TenantId, report: Report) -> BoxFuture<'_, Result<(), NotReported>>;

    /// All replicas are ready to forget: raises the collection epoch.
    fn collected(&self, tenant: TenantId, collection_epoch: u64) -> BoxFuture<'_, Result<(), NotReported>>;
}
