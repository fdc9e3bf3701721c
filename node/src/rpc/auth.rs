//! Who may ask: a tenant's key, the admin credential, a member's certificate.
//!
//! Secrets are compared by looking their hash up; what was sent is never logged.

use std::sync::Arc;

use halcyon_core::id::NodeId;
use halcyon_proto::error::{ErrorCode, Refusal};
use http::Extensions;
use tonic::metadata::MetadataMap;

use super::{listener::Caller, rooms::Rooms};
use crate::{
    config::is_loopback,
    metadata::{
        settings::TenantSettings,
        state::{SecretHash, Tenant},
    },
    peers::secret::{Credential, Kind},
};

/// What a call to a node needs of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// A certificate of the cluster, of a node that was not removed or still has a vote to hand over. For Raft and
    /// probes: a member that lags may not know yet who else is one, and only they can tell it.
    Certified,
    /// A member, as far as this node knows.
    Member,
}

impl Rooms {
    /// The tenant of that id or name, if the call carries one of its keys and comes from a page that it allows.
    pub(super) async fn authorize(&self, metadata: &MetadataMap, tenant: &str) -> Result<Arc<Tenant>, Refusal> {
        Ok(self.authorize_key(metadata, tenant).await?.0)
    }

    /// The same, with the key's hash.
    pub(super) async fn authorize_key(
        &self,
        metadata: &MetadataMap,
        tenant: &str,
    ) -> Result<(Arc<Tenant>, SecretHash), Refusal> {
        let credential = bearer(metadata)?;
        let refused = |text: &str| Refusal::new(ErrorCode::Unauthenticated, text);
        if credential.kind() != Kind::AccessKey {
            return Err(refused(
                "this call takes a tenant's access key (hk_…), not an admin credential",
            ));
        }
        let hash = credential.hash();
        let mut tenant = self.tenant(tenant).await?;
        self.check_member(&tenant)?;
        // The key may be new, and this node behind.
        if !tenant.has_key(&hash) && self.refresh().await {
            tenant = self.known_tenant(&tenant.id.to_string())?;
        }
        if !tenant.has_key(&hash) {
            return Err(no_key_of(&tenant));
        }
        let origin = metadata.get("origin").and_then(|origin| origin.to_str().ok());
        match origin {
            Some(origin) if !self.allows_origin(&tenant, origin) => Err(Refusal::new(
                ErrorCode::Forbidden,
                format!(
                    "tenant {} does not allow pages of {origin}; see its setting allowed_origins",
                    tenant.name
                ),
            )),
            _ => Ok((tenant, hash)),
        }
    }

    /// Whether a key that opened a stream is still one of the tenant's, as far as this node knows.
    pub(super) fn check_key(&self, tenant: &Tenant, key: &SecretHash) -> Result<(), Refusal> {
        match self.view.tenant(tenant.id) {
            Some(now) if !now.has_key(key) => Err(no_key_of(&now)),
            // Of a tenant that is gone its events say so themselves.
            _ => Ok(()),
        }
    }

    /// Whether the call carries an admin credential.
    pub(super) fn authorize_admin(&self, metadata: &MetadataMap) -> Result<(), Refusal> {
        let credential = bearer(metadata)?;
        let hash = credential.hash();
        if credential.kind() == Kind::Admin && self.view.read(|state| state.admins.contains(&hash)) {
            return Ok(());
        }
        let text = "the admin credential is not this cluster's; bootstrap left it in the first node's data directory";
        Err(Refusal::new(ErrorCode::Unauthenticated, text))
    }

    /// The node that calls.
    pub(super) fn authorize_peer(&self, extensions: &Extensions, standing: Standing) -> Result<NodeId, Refusal> {
        let refused = |text: String| Refusal::new(ErrorCode::Unauthenticated, text);
        let node = extensions
            .get::<Caller>()
            .and_then(|caller| caller.node)
            .ok_or_else(|| refused("this call takes a node's certificate".to_owned()))?;
        let (member, removed) = self
            .view
            .read(|state| (state.nodes.contains_key(&node), state.removed_nodes.contains(&node)));
        // Until Raft's group has let go of its vote it is needed for just that.
        let has_vote = standing == Standing::Certified && self.metadata.roles().needed.contains(&node);
        match standing {
            // A code of its own: this is how a node that was away when it was removed comes to know.
            _ if removed && !has_vote => Err(Refusal::new(
                ErrorCode::Forbidden,
                format!("node {node} was removed from the cluster; join as a new node"),
            )),
            Standing::Member if !member => Err(refused(format!("node {node} is not known here as a member"))),
            Standing::Member | Standing::Certified => Ok(node),
        }
    }

    /// Whether a page of this origin may call this tenant.
    fn allows_origin(&self, tenant: &Tenant, origin: &str) -> bool {
        self.is_own_page(origin) || TenantSettings::of(&tenant.settings).allowed_origins.allow(origin)
    }

    /// Whether a page of this origin may call some tenant: a browser asks before it says which.
    pub(super) fn allows_origin_somewhere(&self, origin: &str) -> bool {
        let allows = |tenant: &Arc<Tenant>| TenantSettings::of(&tenant.settings).allowed_origins.allow(origin);
        self.is_own_page(origin) || self.view.read(|state| state.tenants.values().any(allows))
    }

    /// A node that only this machine can reach lets this machine's pages in: that is development.
    fn is_own_page(&self, origin: &str) -> bool {
        let host = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        let is_local = |host: &str| is_loopback(host) || is_loopback(&format!("{host}:80"));
        self.loopback && host.is_some_and(is_local)
    }
}

fn no_key_of(tenant: &Tenant) -> Refusal {
    let name = &tenant.name;
    let text =
        format!("the access key is not one of tenant {name}, or was revoked; make one with `halcyon tenant key`");
    Refusal::new(ErrorCode::Unauthenticated, text)
}

fn bearer(metadata: &MetadataMap) -> Result<Credential, Refusal> {
    let refused = |text: &str| Refusal::new(ErrorCode::Unauthenticated, text);
    let header = metadata
        .get("authorization")
        .ok_or_else(|| refused("the call carries no credential: send `authorization: Bearer …`"))?;
    let text = header.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
    let text = text.ok_or_else(|| refused("`authorization` is not `Bearer …`"))?;
    text.parse()
        .map_err(|error: crate::peers::secret::SecretError| refused(&error.to_string()))
}
