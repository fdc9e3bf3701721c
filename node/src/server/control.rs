//! The control plane as replication sees it: Raft's view to read, commands to report with.

use std::sync::Arc;

use halcyon_core::{
    env::BoxFuture,
    id::{NodeId, TenantId},
};

use crate::{
    metadata::{Metadata, View, WriteError, command::Command, settings::Settings, state::Tenant},
    replication::{Concerns, ControlPlane, NotReported, engine::Report},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Control {
    metadata: Metadata,
    view: View,
}

impl Control {
    pub(super) fn new(metadata: Metadata) -> Self {
        let view = metadata.view();
        Self { metadata, view }
    }

    async fn write(&self, command: Command) -> Result<(), NotReported> {
        match self.metadata.write(command).await {
            Ok(_) => Ok(()),
            // Somebody said it before, or it is no longer true: the view shows what holds.
            Err(WriteError::Rejected(refused)) => {
                tracing::debug!(%refused, "a report was passed over");
                Ok(())
            }
            Err(error) => Err(NotReported(error.to_string())),
        }
    }
}

impl ControlPlane for Control {
    fn index(&self) -> u64 {
        self.view.index()
    }

    fn beyond(&self, index: u64) -> BoxFuture<'_, ()> {
        Box::pin(self.view.wait_for(index.saturating_add(1)))
    }

    fn concerns(&self, me: NodeId) -> Concerns {
        let placed = self.view.tenants_on(me);
        let erasing = self.view.erasing_on(me);
        self.view.read(|state| Concerns {
            placed,
            erasing,
            regions: state
                .nodes
                .iter()
                .map(|(&id, node)| (id, node.region.clone()))
                .collect(),
            removed: state.removed_nodes.clone(),
        })
    }

    fn tenant(&self, tenant: TenantId) -> Option<Arc<Tenant>> {
        self.view.tenant(tenant)
    }

    fn settings(&self) -> Settings {
        self.view.settings()
    }

    fn report(&self, me: NodeId, tenant: TenantId, report: Report) -> BoxFuture<'_, Result<(), NotReported>> {
        let node = me;
        let command = match report {
            Report::Ready { placement_epoch } => Command::ReplicaReady {
                tenant,
                node,
                placement_epoch,
            },
            Report::Gone { placement_epoch } => Command::ReplicaGone {
                tenant,
                node,
                placement_epoch,
            },
            Report::Erased => Command::Erased { tenant, node },
        };
        Box::pin(self.write(command))
    }

    fn collected(&self, tenant: TenantId, collection_epoch: u64) -> BoxFuture<'_, Result<(), NotReported>> {
        let epoch = collection_epoch;
        Box::pin(self.write(Command::Collected { tenant, epoch }))
    }
}
