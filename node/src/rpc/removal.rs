//! Whether this node was removed from its cluster. There is no way back: its number is never used again.

use std::sync::Arc;

use halcyon_proto::error::{ErrorCode, Refusal};
use tokio::sync::watch;

use super::rooms::Rooms;
use crate::metadata::state::Tenant;

/// Not removed, until it is said once. Clones share it.
#[derive(Debug, Clone)]
pub struct Removal {
    why: Arc<watch::Sender<Option<String>>>,
}

impl Default for Removal {
    fn default() -> Self {
        let why = Arc::new(watch::Sender::new(None));
        Self { why }
    }
}

impl Removal {
    /// It was removed; `why` says who says so, and what to do.
    pub fn tell(&self, why: String) {
        self.why.send_replace(Some(why));
    }

    /// What was told, if it was.
    pub fn why(&self) -> Option<String> {
        self.why.borrow().clone()
    }

    /// Returns when it is told.
    pub async fn told(&self) {
        // An error is out of the question: the sender is held here.
        let _ = self.why.subscribe().wait_for(Option::is_some).await;
    }
}

impl Rooms {
    /// What a node that was removed knows of the cluster is of before then.
    pub(super) fn check_not_removed(&self) -> Result<(), Refusal> {
        if self.removal.why().is_none() {
            return Ok(());
        }
        let text = format!(
            "node {} was removed from the cluster, and knows nothing of what happened since; ask another node",
            self.me
        );
        Err(Refusal::new(ErrorCode::NodeRemoved, text))
    }

    /// A node that was removed sends clients elsewhere.
    pub(super) fn check_member(&self, tenant: &Tenant) -> Result<(), Refusal> {
        if self.removal.why().is_none() {
            return Ok(());
        }
        let mut replicas = self.routing.locate(tenant);
        replicas.retain(|replica| replica.node != self.me.0);
        let others: Vec<_> = replicas
            .iter()
            .map(|replica| format!("n{} at {}", replica.node, replica.address))
            .collect();
        let text = format!(
            "node {} was removed from the cluster and serves nobody; go to {}",
            self.me,
            if others.is_empty() {
                "another node".to_owned()
            } else {
                others.join(" or ")
            }
        );
        Err(Refusal::wrong_region(text, replicas))
    }
}
