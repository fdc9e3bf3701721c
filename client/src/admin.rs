//! The operator's client: every call of the `Admin` service, at whichever of the given nodes answers.
//!
//! A call that only reads is made again at the next node when its answer is lost. One that changes something is not:
//! it may have been carried out. So a node is greeted first, and a node that does not answer is passed over.

use std::{fmt, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use halcyon_core::env::Env;
use halcyon_proto::{
    error::ErrorCode,
    header::{CONSISTENCY_HEADER, LINEARIZABLE},
    v1::{self, admin_client},
};
use tonic::{metadata::MetadataValue, transport::Channel};

use crate::{
    error::{AdminError, ConnectError},
    limits::{ADMIN_DEADLINE, ADMIN_STREAM_DEADLINE},
    nodes::{Nodes, Tried, is_of_one_node},
    transport::{CallError, Transport, check_address, within},
};

/// An operator's client. Cheap to clone.
///
/// ```no_run
/// use halcyon_client::{AdminClient, env, v1};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let credential = std::fs::read_to_string("halcyon-data/admin.credential")?;
/// let admin = AdminClient::connect(env::system(None)?, vec!["127.0.0.1:7700".into()], credential, None).await?;
/// let status = admin.status(v1::StatusRequest::default()).await?;
/// println!("{} nodes", status.nodes.len());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AdminClient {
    nodes: Arc<Nodes>,
    deadline: Duration,
    linearizable: bool,
}

impl fmt::Debug for AdminClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AdminClient({})", self.nodes.addresses.join(", "))
    }
}

/// Whether a call may be made twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reads,
    Changes,
}

impl AdminClient {
    /// A client over `addresses`. At least one of them must answer. Without a CA certificate (PEM or DER) it speaks
    /// without TLS.
    pub async fn connect(
        env: Env,
        addresses: Vec<String>,
        credential: String,
        ca_certificate: Option<Vec<u8>>,
    ) -> Result<Self, ConnectError> {
        let addresses: Result<Vec<_>, _> = addresses.iter().map(|address| check_address(address)).collect();
        let addresses = addresses?;
        if addresses.is_empty() {
            return Err(ConnectError::Address(String::new()));
        }
        let transport = Transport::new(env.clone(), &credential, None, ca_certificate.as_deref())?;
        let client = Self {
            nodes: Arc::new(Nodes::new(env, transport, addresses)),
            deadline: ADMIN_DEADLINE,
            linearizable: false,
        };
        match client.nodes.reach(&mut Tried::new()).await {
            Ok(_) => Ok(client),
            Err(AdminError::Refused(refusal)) => Err(ConnectError::Refused(refusal)),
            Err(AdminError::Unreachable(reason) | AdminError::Lost(reason)) => Err(ConnectError::Unreachable(reason)),
        }
    }

    /// The same client, whose reads show all that was written, by anybody, before they were called. A node that cannot
    /// ask a quorum refuses them; plain reads it answers from what it knows.
    #[must_use]
    pub fn linearizable(mut self) -> Self {
        self.linearizable = true;
        self
    }

    /// Every fact of a tenant, from a consistent snapshot of one node that holds it.
    pub async fn export(
        &self,
        request: v1::ExportRequest,
    ) -> Result<impl Stream<Item = Result<v1::ExportResponse, AdminError>> + Send + use<>, AdminError> {
        let (transport, deadline) = (&self.nodes.transport, self.deadline);
        let stream = self.nodes.at_replica(move |mut client| {
            let request = transport.request(request.clone(), Some(ADMIN_STREAM_DEADLINE));
            async move { within(deadline, client.export(request)).await }
        });
        let stream = stream.await?;
        Ok(stream.map(|item| item.map_err(|status| AdminError::from(CallError::from(status)))))
    }

    /// Loads what an export wrote, at a node that holds the tenant. `messages` begins anew where the first node that
    /// was asked does not: facts merge, so what comes twice changes nothing.
    pub async fn import<S: Stream<Item = v1::ImportRequest> + Send + 'static>(
        &self,
        messages: impl Fn() -> S,
    ) -> Result<v1::ImportResponse, AdminError> {
        let transport = &self.nodes.transport;
        let answer = self.nodes.at_replica(|mut client| {
            let request = transport.request(messages(), Some(ADMIN_STREAM_DEADLINE));
            async move { within(ADMIN_STREAM_DEADLINE, client.import(request)).await }
        });
        answer.await
    }

    /// Creates a tenant.
    pub async fn create_tenant(&self, request: v1::CreateTenantRequest) -> Result<v1::TenantDescription, AdminError> {
        let call = async |mut client: admin_client::AdminClient<Channel>, request| client.create_tenant(request).await;
        self.call(Kind::Changes, request, call).await
    }

    /// One page of the tenants.
    pub async fn list_tenants(&self, request: v1::ListTenantsRequest) -> Result<v1::ListTenantsResponse, AdminError> {
        let call = async |mut client: admin_client::AdminClient<Channel>, request| client.list_tenants(request).await;
        self.call(Kind::Reads, request, call).await
    }

    /// One tenant.
    pub async fn show_tenant(&self, request: v1::TenantRequest) -> Result<v1::TenantDescription, AdminError> {
        let call = async |mut client: admin_client::AdminClient<Channel>, request| client.show_tenant(request).await;
        self.call(Kind::Reads, request, call).await
    }

    /// Changes regions, home or nodes per region of a tenant.
    pub async fn place_tenant(&self, request: v1::PlaceTenantRequest) -> Result<v1::TenantDescription, AdminError> {
        let call = async |mut client: admin_client::AdminClient<Channel>, request| client.place_tenant(request).await;
        self.call(Kind::Changes, request, call).await
    }

    /// Deletes a tenant with all its data.
    pub async fn delete_tenant(&self, request: v1::TenantRequest) -> Result<v1::DeleteTenantResponse, AdminError> {
        let call = async |mut client: admin_client::AdminClient<Channel>, request| client.delete_tenant(request).await;
        self.call(Kind::Changes, request, call).await
    }

    /// Makes an access key for a tenant.
    pub async fn create_key(&self, request: v1::CreateKeyRequest) -> Result<v1::CreateKeyResponse, AdminError> {
        let call = async |mut client: admin_client::AdminClient<Channel>, request| client.create_key(request).await;
        self.call(Kind::Changes, request, call).await
    }

    /// Revokes an access key.
    pub async fn revoke_key(&self, request: v1::RevokeKeyRequest) -> Result<v1::RevokeKeyResponse, AdminError> {
        let call = async |mut client: admin_client::AdminClient<Channel>, request| client.revoke_key(request).await;
        self.call(Kind::Changes, request, call).await
    }

    /// Changes a setting of one tenant.
    pub async fn set_tenant_setting(
        &self,
        request: v1::SetTenantSettingRequest,
    ) -> Result<v1::TenantDescription, AdminError> {
        let call =
            async |mut client: admin_client::AdminClient<Channel>, request| client.set_tenant_setting(request).await;
        self.call(Kind::Changes, request, call).await
    }

    /// Makes a join token.
    pub async fn create_token(&self, request: v1::CreateTokenRequest) -> Result<v1::CreateTokenResponse, AdminError> {
        let call = async |mut client: admin_client::AdminClient<Channel>, request| client.create_token(request).await;
        self.call(Kind::Changes, request, call).await
    }

    /// Moves a node's tenants elsewhere.
    pub async fn drain_node(&self, request: v1::NodeRequest) -> Result<v1::NodeDescription, AdminError> {
        let call = async |mut client: admin_client::AdminClient<Channel>, request| client.drain_node(request).await;
        self.call(Kind::Changes, request, call).await
    }

    /// Lets a node that was drained have tenants again.
    pub async fn undrain_node(&self, request: v1::NodeRequest) -> Result<v1::NodeDescription, AdminError> {
        let call = async |mut client: admin_client::AdminClient<Channel>, request| client.undrain_node(request).await;
        self.call(Kind::Changes, request, call).await
    }

    /// Takes a node out for good.
    pub async fn remove_node(&self, request: v1::RemoveNodeRequest) -> Result<v1::RemoveNodeResponse, AdminError> {
        let call = async |mut client: admin_client::AdminClient<Channel>, request| client.remove_node(request).await;
        self.call(Kind::Changes, request, call).await
    }

    /// Nodes, roles, round trips, lag and alarms, as the answering node sees them.
    pub async fn status(&self, request: v1::StatusRequest) -> Result<v1::StatusResponse, AdminError> {
        let call = async |mut client: admin_client::AdminClient<Channel>, request| client.status(request).await;
        self.call(Kind::Reads, request, call).await
    }

    /// The cluster's settings.
    pub async fn list_settings(
        &self,
        request: v1::ListSettingsRequest,
    ) -> Result<v1::ListSettingsResponse, AdminError> {
        let call = async |mut client: admin_client::AdminClient<Channel>, request| client.list_settings(request).await;
        self.call(Kind::Reads, request, call).await
    }

    /// Changes a setting of the cluster.
    pub async fn set_setting(&self, request: v1::SetSettingRequest) -> Result<v1::ListSettingsResponse, AdminError> {
        let call = async |mut client: admin_client::AdminClient<Channel>, request| client.set_setting(request).await;
        self.call(Kind::Changes, request, call).await
    }

    /// Vectors and fingerprints of all replicas of a tenant.
    pub async fn verify(&self, request: v1::TenantRequest) -> Result<v1::VerifyResponse, AdminError> {
        let call = async |mut client: admin_client::AdminClient<Channel>, request| client.verify(request).await;
        self.call(Kind::Reads, request, call).await
    }

    /// Calls other than an export and an import may take this long, with all their attempts.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    async fn call<Q: Clone, A>(
        &self,
        kind: Kind,
        message: Q,
        call: impl AsyncFn(
            admin_client::AdminClient<Channel>,
            tonic::Request<Q>,
        ) -> Result<tonic::Response<A>, tonic::Status>,
    ) -> Result<A, AdminError> {
        let transport = &self.nodes.transport;
        let mut tried = Tried::new();
        let mut failure = None;
        let attempts = async {
            loop {
                let address = match self.nodes.reach(&mut tried).await {
                    Ok(address) => address,
                    // An earlier attempt came further, but for one at a node that is no member any more.
                    Err(error) => return Err(failure.take().filter(|failure| !is_removal(failure)).unwrap_or(error)),
                };
                let mut request = transport.request(message.clone(), Some(self.deadline));
                if self.linearizable {
                    request
                        .metadata_mut()
                        .insert(CONSISTENCY_HEADER, MetadataValue::from_static(LINEARIZABLE));
                }
                match within(self.deadline, call(transport.admin(&address), request)).await {
                    Ok(answer) => {
                        self.nodes.on_answered();
                        return Ok(answer);
                    }
                    Err(error) => {
                        let is_read_elsewhere = kind == Kind::Reads && is_of_node(&error);
                        let error = self.nodes.on_failed(error);
                        let may_be_asked_again = is_read_elsewhere || is_removal(&error);
                        let may_go_on = may_be_asked_again && self.nodes.has_untried(&tried);
                        if !may_go_on {
                            return Err(error);
                        }
                        failure = Some(error);
                    }
                }
            }
        };
        let late = |_| Err(AdminError::Lost(format!("no answer within {:?}", self.deadline)));
        tokio::time::timeout(self.deadline, attempts).await.unwrap_or_else(late)
    }
}

/// Whether it was not carried out, because the node is no member any more.
fn is_removal(error: &AdminError) -> bool {
    matches!(error, AdminError::Refused(refusal) if refusal.code == ErrorCode::NodeRemoved)
}

/// Whether the node failed, and not what was asked.
const fn is_of_node(error: &CallError) -> bool {
    match error {
        CallError::Lost(_) => true,
        CallError::Refused(refusal) => is_of_one_node(refusal.code),
    }
}

impl From<CallError> for AdminError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(refusal) => Self::Refused(refusal),
            CallError::Lost(reason) => Self::Lost(reason),
        }
    }
}
