//! The Admin service: what operators say to any node.

use std::{collections::BTreeSet, pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use halcyon_core::id::{NodeId, RegionName, TenantId, TenantName};
use halcyon_proto::{
    error::{ErrorCode, Refusal},
    header::{CONSISTENCY_HEADER, LINEARIZABLE},
    v1::{self, admin_server},
};
use tonic::{Request, Response, Status, Streaming};

use super::{admin_data, describe::key_description, rooms::Rooms, status::refuse};
use crate::{
    limits::{LIST_LIMIT_MAX, TOKEN_LIFETIME_MAX},
    metadata::{
        WriteError,
        command::{self, Command, Reply},
        state::{AccessKey, Tenant},
    },
    peers::{
        secret::{Credential, Kind, sha256},
        token::{ADDRESSES_MAX, JoinToken},
    },
};

/// When a removal that is not through is asked for again.
const REMOVAL_RETRY: Duration = Duration::from_millis(500);

/// See there.
#[derive(Debug)]
pub(super) struct AdminService {
    rooms: Rooms,
}

impl AdminService {
    pub(super) const fn new(rooms: Rooms) -> Self {
        Self { rooms }
    }

    /// The request, if an admin sent it to a member.
    fn checked<T>(&self, request: Request<T>) -> Result<T, Status> {
        let message = self.known(request)?;
        self.rooms.check_not_removed()?;
        Ok(message)
    }

    /// The request, if an admin sent it.
    fn known<T>(&self, request: Request<T>) -> Result<T, Status> {
        self.rooms.authorize_admin(request.metadata())?;
        Ok(request.into_inner())
    }

    /// The same for a read, once this node knows all that the caller wants to see.
    async fn read<T>(&self, request: Request<T>) -> Result<T, Status> {
        let consistency = request.metadata().get(CONSISTENCY_HEADER).cloned();
        let message = self.checked(request)?;
        match consistency {
            None => {}
            Some(level) if level == LINEARIZABLE => self.rooms.metadata.read_barrier().await.map_err(refuse)?,
            Some(level) => {
                let text = format!("{CONSISTENCY_HEADER} is {level:?}; leave it out or say {LINEARIZABLE:?}");
                return Err(Refusal::new(ErrorCode::Malformed, text).into());
            }
        }
        Ok(message)
    }

    /// The answer that shows a tenant, after a command.
    fn described(&self, tenant: TenantId) -> Result<Response<v1::TenantDescription>, Status> {
        let tenant = self.rooms.known_tenant(&tenant.to_string())?;
        Ok(Response::new(self.rooms.describe_tenant(&tenant)))
    }

    async fn write(&self, command: Command) -> Result<Reply, Status> {
        self.rooms.metadata.write(command).await.map_err(refuse)
    }

    /// Changes the tenant of that id or name. This node may lag behind: where the tenant that it takes for the one meant is
    /// gone, it asks which has the name now.
    async fn write_to(&self, text: &str, to: impl Fn(TenantId) -> Command) -> Result<(TenantId, Reply), Status> {
        let tenant = self.rooms.tenant(text).await?.id;
        match self.rooms.metadata.write(to(tenant)).await {
            Err(WriteError::Rejected(command::Refusal::UnknownTenant(_))) => {
                let tenant = self.rooms.tenant_now(text).await?.id;
                Ok((tenant, self.write(to(tenant)).await?))
            }
            result => Ok((tenant, result.map_err(refuse)?)),
        }
    }

    async fn set_draining(&self, node: NodeId, draining: bool) -> Result<Response<v1::NodeDescription>, Status> {
        self.write(Command::DrainNode { node, draining }).await?;
        let unknown = || Refusal::new(ErrorCode::NotFound, format!("there is no node {node}"));
        let node = self.rooms.view.node(node).ok_or_else(unknown)?;
        Ok(Response::new(self.rooms.describe_node(&node)))
    }

    /// A new key of a tenant: what is shown once, its id, and what is kept.
    fn draw_key(&self, label: String) -> (String, String, AccessKey) {
        let credential = Credential::draw(&self.rooms.env, Kind::AccessKey);
        let id = hex::encode(self.rooms.env.random_bytes(4));
        let key = AccessKey {
            label,
            hash: credential.hash(),
            created_ms: self.rooms.env.clock.wall().unix_millis(),
        };
        (credential.reveal(), id, key)
    }

    fn settings(&self) -> v1::ListSettingsResponse {
        v1::ListSettingsResponse {
            settings: self.rooms.list_settings(),
        }
    }
}

fn malformed(error: &impl ToString) -> Refusal {
    Refusal::new(ErrorCode::Malformed, error.to_string())
}

fn regions(names: &[String]) -> Result<BTreeSet<RegionName>, Refusal> {
    let regions: Result<_, _> = names.iter().map(|name| RegionName::new(name)).collect();
    regions.map_err(|error| malformed(&error))
}

/// `None` where it is empty.
fn region(name: &str) -> Result<Option<RegionName>, Refusal> {
    let some = (!name.is_empty()).then(|| RegionName::new(name));
    some.transpose().map_err(|error| malformed(&error))
}

type Exported = Pin<Box<dyn Stream<Item = Result<v1::ExportResponse, Status>> + Send>>;

#[tonic::async_trait]
impl admin_server::Admin for AdminService {
    async fn create_tenant(
        &self,
        request: Request<v1::CreateTenantRequest>,
    ) -> Result<Response<v1::TenantDescription>, Status> {
        let message = self.checked(request)?;
        let name = TenantName::new(&message.name).map_err(|error| malformed(&error))?;
        let first = region(message.regions.first().map_or("", String::as_str))?;
        let home = region(&message.home)?.or(first);
        let home = home.ok_or_else(|| malformed(&"a tenant needs at least one region: --regions eu-west,us-east"))?;
        let id = TenantId::generate(|count| self.rooms.env.random_bytes(count));
        let (secret, key_id, key) = self.draw_key("first".to_owned());
        let command = Command::CreateTenant {
            id,
            name,
            regions: regions(&message.regions)?,
            home,
            nodes_per_region: message.nodes_per_region.max(1),
            key: Some((key_id, key)),
        };
        self.write(command).await?;
        let mut answer = self.described(id)?;
        answer.get_mut().key = secret;
        Ok(answer)
    }

    async fn list_tenants(
        &self,
        request: Request<v1::ListTenantsRequest>,
    ) -> Result<Response<v1::ListTenantsResponse>, Status> {
        let message = self.read(request).await?;
        let limit = usize::try_from(message.limit).unwrap_or(usize::MAX);
        let limit = if limit == 0 {
            LIST_LIMIT_MAX
        } else {
            limit.min(LIST_LIMIT_MAX)
        };
        let mut tenants: Vec<Arc<Tenant>> = self.rooms.view.read(|state| {
            let after = state
                .names
                .iter()
                .filter(|(name, _)| name.as_str() > message.after.as_str());
            let tenants = after.filter_map(|(_, id)| state.tenants.get(id).cloned());
            tenants.take(limit + 1).collect()
        });
        let more = tenants.len() > limit;
        tenants.truncate(limit);
        let next = tenants.last().filter(|_| more).map(|tenant| tenant.name.to_string());
        Ok(Response::new(v1::ListTenantsResponse {
            tenants: tenants
                .iter()
                .map(|tenant| self.rooms.describe_tenant(tenant))
                .collect(),
            next: next.unwrap_or_default(),
        }))
    }

    async fn show_tenant(
        &self,
        request: Request<v1::TenantRequest>,
    ) -> Result<Response<v1::TenantDescription>, Status> {
        let message = self.read(request).await?;
        let tenant = self.rooms.tenant(&message.tenant).await?;
        Ok(Response::new(self.rooms.describe_tenant(&tenant)))
    }

    async fn place_tenant(
        &self,
        request: Request<v1::PlaceTenantRequest>,
    ) -> Result<Response<v1::TenantDescription>, Status> {
        let message = self.checked(request)?;
        let new_regions = (!message.regions.is_empty()).then(|| regions(&message.regions));
        let (new_regions, home) = (new_regions.transpose()?, region(&message.home)?);
        let command = |tenant| Command::PlaceTenant {
            tenant,
            regions: new_regions.clone(),
            home: home.clone(),
            nodes_per_region: (message.nodes_per_region != 0).then_some(message.nodes_per_region),
        };
        let (tenant, _) = self.write_to(&message.tenant, command).await?;
        self.described(tenant)
    }

    async fn delete_tenant(
        &self,
        request: Request<v1::TenantRequest>,
    ) -> Result<Response<v1::DeleteTenantResponse>, Status> {
        let message = self.checked(request)?;
        // Not the one that this node takes for it: where that is being erased the answer would be a success, and the tenant
        // that has its name since would stay.
        self.rooms.metadata.read_barrier().await.map_err(refuse)?;
        let tenant = self.rooms.known_tenant(&message.tenant)?.id;
        let erasing = match self.write(Command::DeleteTenant(tenant)).await? {
            Reply::Erasing(nodes) => nodes.into_iter().map(|node| node.0).collect(),
            _ => Vec::new(),
        };
        Ok(Response::new(v1::DeleteTenantResponse { erasing }))
    }

    async fn create_key(
        &self,
        request: Request<v1::CreateKeyRequest>,
    ) -> Result<Response<v1::CreateKeyResponse>, Status> {
        let message = self.checked(request)?;
        let (secret, id, key) = self.draw_key(message.label);
        let description = key_description(&id, &key);
        let command = |tenant| {
            let (id, key) = (id.clone(), key.clone());
            Command::CreateKey { tenant, id, key }
        };
        self.write_to(&message.tenant, command).await?;
        Ok(Response::new(v1::CreateKeyResponse {
            key: secret,
            description: Some(description),
        }))
    }

    async fn revoke_key(
        &self,
        request: Request<v1::RevokeKeyRequest>,
    ) -> Result<Response<v1::RevokeKeyResponse>, Status> {
        let message = self.checked(request)?;
        let command = |tenant| {
            let id = message.key_id.clone();
            Command::RevokeKey { tenant, id }
        };
        self.write_to(&message.tenant, command).await?;
        Ok(Response::new(v1::RevokeKeyResponse {}))
    }

    async fn set_tenant_setting(
        &self,
        request: Request<v1::SetTenantSettingRequest>,
    ) -> Result<Response<v1::TenantDescription>, Status> {
        let message = self.checked(request)?;
        let command = |tenant| {
            let (name, value) = (message.name.clone(), message.value.clone());
            Command::SetTenantSetting { tenant, name, value }
        };
        let (tenant, _) = self.write_to(&message.tenant, command).await?;
        self.described(tenant)
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let message = self.checked(request)?;
        let asked = Some(Duration::from_millis(message.lifetime_ms)).filter(|lifetime| !lifetime.is_zero());
        let lifetime = asked.unwrap_or(self.rooms.view.settings().token_lifetime);
        if lifetime > TOKEN_LIFETIME_MAX {
            let longest = humantime::format_duration(TOKEN_LIFETIME_MAX);
            let text = format!("a join token lives for {longest} at the most");
            return Err(Refusal::limit("token_lifetime", text).into());
        }
        let rooms = &self.rooms;
        let fingerprint = rooms.view.read(|state| sha256(&state.ca_certificate));
        let token = JoinToken::draw(&rooms.env, rooms.cluster.clone(), fingerprint, token_addresses(rooms));
        let now_ms = rooms.env.clock.wall().unix_millis();
        let expires_ms = now_ms.saturating_add(u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX));
        let hash = token.hash();
        self.write(Command::AddToken {
            hash,
            expires_ms,
            now_ms,
        })
        .await?;
        let token = token.reveal();
        Ok(Response::new(v1::CreateTokenResponse { token, expires_ms }))
    }

    async fn drain_node(&self, request: Request<v1::NodeRequest>) -> Result<Response<v1::NodeDescription>, Status> {
        let node = NodeId(self.checked(request)?.node);
        self.set_draining(node, true).await
    }

    async fn undrain_node(&self, request: Request<v1::NodeRequest>) -> Result<Response<v1::NodeDescription>, Status> {
        let node = NodeId(self.checked(request)?.node);
        self.set_draining(node, false).await
    }

    async fn remove_node(
        &self,
        request: Request<v1::RemoveNodeRequest>,
    ) -> Result<Response<v1::RemoveNodeResponse>, Status> {
        let message = self.checked(request)?;
        let (node, force) = (NodeId(message.node), message.force);
        self.write(Command::RemoveNode { node, force }).await?;
        // Whoever hears that it is removed stops it, and with two nodes it may have had the only vote (seed 90052).
        if !self.rooms.metadata.until_not_needed(node).await {
            let text = format!(
                "{node} is removed, and the control plane still needs its vote: let it run, and remove it again until it \
                 is let go"
            );
            return Err(Refusal::retry(text, REMOVAL_RETRY).into());
        }
        Ok(Response::new(v1::RemoveNodeResponse {}))
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        let message = self.read(request).await?;
        Ok(Response::new(self.rooms.status(&message).await?))
    }

    async fn list_settings(
        &self,
        request: Request<v1::ListSettingsRequest>,
    ) -> Result<Response<v1::ListSettingsResponse>, Status> {
        self.read(request).await?;
        Ok(Response::new(self.settings()))
    }

    async fn set_setting(
        &self,
        request: Request<v1::SetSettingRequest>,
    ) -> Result<Response<v1::ListSettingsResponse>, Status> {
        let message = self.checked(request)?;
        let (name, value) = (message.name, message.value);
        self.write(Command::SetSetting { name, value }).await?;
        Ok(Response::new(self.settings()))
    }

    async fn verify(&self, request: Request<v1::TenantRequest>) -> Result<Response<v1::VerifyResponse>, Status> {
        let message = self.checked(request)?;
        let tenant = self.rooms.tenant(&message.tenant).await?;
        Ok(Response::new(admin_data::verify(&self.rooms, &tenant).await))
    }

    type ExportStream = Exported;

    async fn export(&self, request: Request<v1::ExportRequest>) -> Result<Response<Exported>, Status> {
        let message = self.known(request)?;
        // One that was removed may hold what nobody else does; who wants that has to say so.
        if !message.from_removed {
            self.rooms.check_not_removed()?;
        }
        let tenant = self.rooms.tenant(&message.tenant).await?;
        Ok(Response::new(Box::pin(admin_data::export(&self.rooms, &tenant)?)))
    }

    async fn import(
        &self,
        request: Request<Streaming<v1::ImportRequest>>,
    ) -> Result<Response<v1::ImportResponse>, Status> {
        let messages = self.checked(request)?;
        Ok(Response::new(admin_data::import(&self.rooms, messages).await?))
    }
}

/// Peer addresses for a token: this node first, then nodes that answer.
fn token_addresses(rooms: &Rooms) -> Vec<String> {
    let mut nodes = rooms.view.nodes();
    nodes.sort_by_key(|node| (node.id != rooms.me, !rooms.routing.is_reachable(node.id), node.id));
    let addresses = nodes.iter().map(|node| node.peer_address.clone());
    addresses.take(ADDRESSES_MAX).collect()
}
