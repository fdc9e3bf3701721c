//! A bare tonic server to measure beside a node: it tells everybody on its streams what one call brings, and nothing else.

use std::{net::SocketAddr, pin::Pin};

use futures::{Stream, StreamExt};
use halcyon_proto::v1::{self, connect_response::Event, sessions_server};
use serde_json::json;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use crate::cli::{failure::Failure, output};

/// Messages that may wait for a stream.
const WAITING_MAX: usize = 1_024;

/// Takes the place of a node's sessions.
#[derive(Debug)]
struct Bare {
    all: broadcast::Sender<v1::ConnectResponse>,
}

type Messages = Pin<Box<dyn Stream<Item = Result<v1::ConnectResponse, Status>> + Send>>;

#[tonic::async_trait]
impl sessions_server::Sessions for Bare {
    type ConnectStream = Messages;

    async fn connect(&self, _request: Request<v1::ConnectRequest>) -> Result<Response<Messages>, Status> {
        let messages = BroadcastStream::new(self.all.subscribe());
        let messages = messages.map(|message| message.map_err(|error| Status::resource_exhausted(error.to_string())));
        Ok(Response::new(messages.boxed()))
    }

    /// Tells everybody a commit with the vector of the call.
    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<v1::SubscribeResponse>, Status> {
        let request = request.into_inner();
        let delta = v1::SubscriptionDelta {
            subscription: 1,
            delta: request.vector,
            ..v1::SubscriptionDelta::default()
        };
        let commit = v1::Commit {
            deltas: vec![delta],
            ..v1::Commit::default()
        };
        let message = v1::ConnectResponse {
            number: 1,
            event: Some(Event::Commit(commit)),
        };
        self.all
            .send(message)
            .map_err(|_| Status::failed_precondition("nobody listens"))?;
        Ok(Response::new(v1::SubscribeResponse::default()))
    }

    async fn unsubscribe(
        &self,
        _request: Request<v1::UnsubscribeRequest>,
    ) -> Result<Response<v1::UnsubscribeResponse>, Status> {
        Ok(Response::new(v1::UnsubscribeResponse {}))
    }
}

/// Serves until it is ended.
pub(super) async fn serve() -> Result<(), Failure> {
    let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).map_err(Failure::failed)?;
    let incoming = incoming.with_nodelay(Some(true));
    let address = incoming.local_addr().map_err(Failure::failed)?;
    output::json(&json!({ "address": address.to_string() }));
    output::flush();
    let (all, _) = broadcast::channel(WAITING_MAX);
    let service = sessions_server::SessionsServer::new(Bare { all });
    let serving = Server::builder().add_service(service).serve_with_incoming(incoming);
    serving.await.map_err(Failure::failed)
}
