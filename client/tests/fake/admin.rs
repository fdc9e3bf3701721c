//! The part of the `Admin` service that moves whole tenants, as a pretended node has it.

use std::{future::Future, pin::Pin};

use futures::{Stream, StreamExt};
use halcyon_proto::v1::{self, admin_server::Admin};
use tonic::{Request, Response, Status, Streaming};

use super::Node;

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send + 'a>>;

/// What no test asks a pretended node.
macro_rules! not_here {
    ($($name:ident: $request:ident => $answer:ident,)*) => {$(
        fn $name<'life, 'answer>(&'life self, _: Request<v1::$request>) -> Answer<'answer, v1::$answer>
        where
            'life: 'answer,
            Self: 'answer,
        {
            Box::pin(async { Err(Status::unimplemented("a pretended node")) })
        }
    )*};
}

impl Admin for Node {
    not_here! {
        create_tenant: CreateTenantRequest => TenantDescription,
        list_tenants: ListTenantsRequest => ListTenantsResponse,
        show_tenant: TenantRequest => TenantDescription,
        place_tenant: PlaceTenantRequest => TenantDescription,
        delete_tenant: TenantRequest => DeleteTenantResponse,
        create_key: CreateKeyRequest => CreateKeyResponse,
        revoke_key: RevokeKeyRequest => RevokeKeyResponse,
        set_tenant_setting: SetTenantSettingRequest => TenantDescription,
        create_token: CreateTokenRequest => CreateTokenResponse,
        drain_node: NodeRequest => NodeDescription,
        undrain_node: NodeRequest => NodeDescription,
        remove_node: RemoveNodeRequest => RemoveNodeResponse,
        status: StatusRequest => StatusResponse,
        list_settings: ListSettingsRequest => ListSettingsResponse,
        set_setting: SetSettingRequest => ListSettingsResponse,
        verify: TenantRequest => VerifyResponse,
    }

    type ExportStream = Pin<Box<dyn Stream<Item = Result<v1::ExportResponse, Status>> + Send>>;

    /// Its fingerprint is the node's number.
    fn export<'life, 'answer>(&'life self, request: Request<v1::ExportRequest>) -> Answer<'answer, Self::ExportStream>
    where
        'life: 'answer,
        Self: 'answer,
    {
        Box::pin(async move {
            self.enter(&request).await?;
            self.check_here()?;
            let end = v1::ExportResponse {
                fingerprint: vec![u8::try_from(self.id.0).unwrap()].into(),
                ..v1::ExportResponse::default()
            };
            let stream: Self::ExportStream = Box::pin(futures::stream::iter([Ok(end)]));
            Ok(Response::new(stream))
        })
    }

    /// Counts messages, and gives the node's number as the fingerprint.
    fn import<'life, 'answer>(
        &'life self,
        request: Request<Streaming<v1::ImportRequest>>,
    ) -> Answer<'answer, v1::ImportResponse>
    where
        'life: 'answer,
        Self: 'answer,
    {
        Box::pin(async move {
            self.enter(&request).await?;
            let mut messages = request.into_inner();
            messages.next().await.transpose()?;
            self.check_here()?;
            let mut facts = 1;
            while messages.next().await.transpose()?.is_some() {
                facts += 1;
            }
            Ok(Response::new(v1::ImportResponse {
                facts,
                fingerprint: vec![u8::try_from(self.id.0).unwrap()].into(),
            }))
        })
    }
}
