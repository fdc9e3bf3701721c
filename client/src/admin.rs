//! The operator's client: every call of the `Admin` service, at whichever of the given nodes answers.
//!
//! A call that only reads is made again at the next node when its answer is lost. One that changes something is not:
//! it may have been carried out. So a node is greeted first, and a node that does not answer is passed over.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt};
use halcyon_core::env::Env;
use halcyon_proto::{
    header::{CONSISTENCY_HEADER, LINEARIZABLE},
    v1::{self, admin_client},
};
use tonic::{metadata::MetadataValue, transport::Channel};

use crate::{
    error::{AdminError, ConnectError},
    limits::{ADMIN_DEADLINE, ADMIN_STREAM_DEADLINE, GREETED_FOR},
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
    inner: Arc<Inner>,
    linearizable: bool,
}

struct Inner {
    env: Env,
    transport: Transport,
    addresses: Vec<String>,
    greeted: Mutex<Greeted>,
}

/// The node in use.
#[derive(Debug, Clone, Copy, Default)]
struct Greeted {
    /// Its place among the addresses.
    at: usize,
    /// When it answered last.
    answered: Option<Duration>,
}

impl fmt::Debug for AdminClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AdminClient({})", self.inner.addresses.join(", "))
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
        let inner = Inner {
            env,
            transport,
            addresses,
            greeted: Mutex::default(),
        };
        let client = Self {
            inner: Arc::new(inner),
            linearizable: false,
        };
        match client.reach(0).await {
            Ok(_) => Ok(client),
            Err(AdminError::Refused(refusal)) => Err(ConnectError::Refused(refusal)),
            Err(error) => Err(ConnectError::Unreachable(error.to_string())),
        }
    }

    /// The same client, whose reads show all that was written, by anybody, before they were called. A node that cannot
    /// ask a quorum refuses them; plain reads it answers from what it knows.
    #[must_use]
    pub fn linearizable(mut self) -> Self {
        self.linearizable = true;
        self
    }

    /// Every fact of a tenant, from a consistent snapshot of one node.
    pub async fn export(
        &self,
        request: v1::ExportRequest,
    ) -> Result<impl Stream<Item = Result<v1::ExportResponse, AdminError>> + Send + use<>, AdminError> {
        let address = self.reach(0).await?;
        let request = self.inner.transport.request(request, Some(ADMIN_STREAM_DEADLINE));
        let mut client = self.inner.transport.admin(&address);
        let stream = within(ADMIN_DEADLINE, client.export(request)).await;
        let stream = stream.map_err(|error| self.failed(error))?;
        Ok(stream.map(|item| item.map_err(|status| AdminError::from(CallError::from(status)))))
    }

    /// Loads what an export wrote.
    pub async fn import(
        &self,
        messages: impl Stream<Item = v1::ImportRequest> + Send + 'static,
    ) -> Result<v1::ImportResponse, AdminError> {
        let address = self.reach(0).await?;
        let request = self.inner.transport.request(messages, Some(ADMIN_STREAM_DEADLINE));
        let mut client = self.inner.transport.admin(&address);
        let answer = within(ADMIN_STREAM_DEADLINE, client.import(request)).await;
        answer.map_err(|error| self.failed(error))
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

    async fn call<Q: Clone, A>(
        &self,
        kind: Kind,
        message: Q,
        call: impl AsyncFn(
            admin_client::AdminClient<Channel>,
            tonic::Request<Q>,
        ) -> Result<tonic::Response<A>, tonic::Status>,
    ) -> Result<A, AdminError> {
        let mut attempt = 0;
        loop {
            let address = self.reach(attempt).await?;
            let mut request = self.inner.transport.request(message.clone(), Some(ADMIN_DEADLINE));
            if self.linearizable {
                request
                    .metadata_mut()
                    .insert(CONSISTENCY_HEADER, MetadataValue::from_static(LINEARIZABLE));
            }
            match within(ADMIN_DEADLINE, call(self.inner.transport.admin(&address), request)).await {
                Ok(answer) => {
                    self.greeted().answered = Some(self.inner.env.clock.monotonic());
                    return Ok(answer);
                }
                Err(error) => {
                    let is_lost = matches!(error, CallError::Lost(_));
                    let error = self.failed(error);
                    attempt += 1;
                    if !is_lost || kind == Kind::Changes || attempt >= self.inner.addresses.len() {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// The address of a node that answers: the one in use, or the next that does. `skip` leaves so many out.
    async fn reach(&self, skip: usize) -> Result<String, AdminError> {
        let Greeted { at, answered } = *self.greeted();
        let now = self.inner.env.clock.monotonic();
        if skip == 0 && answered.is_some_and(|answered| now.saturating_sub(answered) < GREETED_FOR) {
            return Ok(self.inner.addresses[at].clone());
        }
        let count = self.inner.addresses.len();
        let mut failures = Vec::new();
        for step in 0..count {
            let at = (at + skip + step) % count;
            let address = &self.inner.addresses[at];
            match self.inner.transport.hello(address).await {
                Ok(_) => {
                    let answered = Some(self.inner.env.clock.monotonic());
                    *self.greeted() = Greeted { at, answered };
                    return Ok(address.clone());
                }
                Err(CallError::Refused(refusal)) => return Err(AdminError::Refused(refusal)),
                Err(CallError::Lost(reason)) => {
                    self.inner.transport.forget(address);
                    failures.push(format!("{address}: {reason}"));
                }
            }
        }
        Err(AdminError::Unreachable(failures.join("; ")))
    }

    fn failed(&self, error: CallError) -> AdminError {
        if matches!(error, CallError::Lost(_)) {
            self.greeted().answered = None;
        }
        error.into()
    }

    fn greeted(&self) -> MutexGuard<'_, Greeted> {
        self.inner.greeted.lock().unwrap_or_else(PoisonError::into_inner)
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
