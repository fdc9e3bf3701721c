//! What this node does not know yet: a tenant or a key that was made a moment ago by way of another node, and a replica
//! that is being opened. Callers wait a little instead of being told no.

use std::sync::Arc;

use halcyon_core::id::TenantId;
use halcyon_proto::error::{ErrorCode, Refusal};
use tokio::time::{sleep, timeout};

use super::rooms::Rooms;
use crate::{
    limits::{FRESH_TIMEOUT, OPEN_WAIT_FIRST, OPEN_WAIT_MAX},
    metadata::state::Tenant,
};

impl Rooms {
    /// The tenant of that id or name, as far as this node knows.
    pub(super) fn known_tenant(&self, text: &str) -> Result<Arc<Tenant>, Refusal> {
        self.view.tenant_named(text).ok_or_else(|| {
            let text: String = text.chars().take(80).collect();
            let text = format!("there is no tenant {text:?}; see `halcyon tenant list`");
            Refusal::new(ErrorCode::NotFound, text)
        })
    }

    /// The tenant of that id or name, if anybody has made it.
    pub(super) async fn tenant(&self, text: &str) -> Result<Arc<Tenant>, Refusal> {
        match self.known_tenant(text) {
            Ok(tenant) => Ok(tenant),
            Err(_) => self.tenant_now(text).await,
        }
    }

    /// The tenant that has that id or name now: this node may know it by a name that another has taken since.
    pub(super) async fn tenant_now(&self, text: &str) -> Result<Arc<Tenant>, Refusal> {
        if self.refresh().await {
            return self.known_tenant(text);
        }
        let text: String = text.chars().take(80).collect();
        Err(Refusal {
            retry_after: Some(FRESH_TIMEOUT),
            ..Refusal::new(
                ErrorCode::NoQuorum,
                format!("the control plane cannot be asked whether there is a tenant {text:?} now"),
            )
        })
    }

    /// When it returns true, the view shows all that was written before it was called.
    pub(super) async fn refresh(&self) -> bool {
        timeout(FRESH_TIMEOUT, self.metadata.freshen()).await.unwrap_or(false)
    }

    /// Waits for a replica that the control plane has placed here and that is being opened; not for long.
    pub(super) async fn until_open(&self, tenant: TenantId) {
        let opened = async {
            let mut pause = OPEN_WAIT_FIRST;
            while !self.replication.serves(tenant) {
                sleep(pause).await;
                pause *= 2;
            }
        };
        // What follows says what is missing.
        let _ = timeout(OPEN_WAIT_MAX, opened).await;
    }
}
