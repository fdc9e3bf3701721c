//! The peer service of a test node: the control plane's calls, and nothing else.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use halcyon_proto::v1::{self, RaftMessage, peer_server};
use prost::bytes::Bytes;
use tokio::{sync::watch, task::JoinHandle};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use crate::metadata::{Metadata, RaftRpcError};

struct Service {
    metadata: Metadata,
    cut: Arc<AtomicBool>,
    is_old: bool,
    stopped: watch::Receiver<bool>,
}

type Answer<T> = Result<Response<T>, Status>;

/// Serves until told to stop; stopping closes the connections.
pub(super) fn serve(
    metadata: Metadata,
    cut: Arc<AtomicBool>,
    is_old: bool,
    listener: tokio::net::TcpListener,
) -> (watch::Sender<bool>, JoinHandle<()>) {
    let (stop, mut stopped) = watch::channel(false);
    let service = peer_server::PeerServer::new(Service {
        metadata,
        cut,
        is_old,
        stopped: stopped.clone(),
    });
    let incoming = stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        let _ = accepted.as_ref().map(|stream| stream.set_nodelay(true));
        Some((accepted, listener))
    });
    let server = tokio::spawn(async move {
        let stopping = async move {
            let _ = stopped.changed().await;
        };
        let serving = Server::builder().add_service(service);
        serving
            .serve_with_incoming_shutdown(Box::pin(incoming), stopping)
            .await
            .unwrap();
    });
    (stop, server)
}

impl Service {
    /// A node that is cut off neither answers nor asks.
    fn reachable(&self) -> Result<(), Status> {
        if self.cut.load(Ordering::Relaxed) {
            Err(Status::unavailable("cut off"))
        } else {
            Ok(())
        }
    }
}

fn answered(body: Result<Bytes, RaftRpcError>) -> Answer<RaftMessage> {
    let body = body.map_err(|error| Status::internal(error.to_string()))?;
    Ok(Response::new(RaftMessage { body }))
}

#[tonic::async_trait]
impl peer_server::Peer for Service {
    type GossipStream = stream::Empty<Result<v1::GossipResponse, Status>>;
    type CatchUpStream = stream::Empty<Result<v1::CatchUpResponse, Status>>;
    type RoomsStream = stream::Empty<Result<v1::RoomsResponse, Status>>;

    async fn raft_append(&self, request: Request<RaftMessage>) -> Answer<RaftMessage> {
        self.reachable()?;
        answered(self.metadata.on_append(request.into_inner().body).await)
    }

    type RaftStreamStream = BoxStream<'static, Result<RaftMessage, Status>>;

    async fn raft_stream(&self, request: Request<Streaming<RaftMessage>>) -> Answer<Self::RaftStreamStream> {
        self.reachable()?;
        if self.is_old {
            return Err(Status::unimplemented("no such call"));
        }
        let cut = Arc::clone(&self.cut);
        let reachable = move |_: &Result<RaftMessage, Status>| std::future::ready(!cut.load(Ordering::Relaxed));
        let mut stopped = self.stopped.clone();
        let stopped = async move { drop(stopped.wait_for(|stopped| *stopped).await) };
        let messages = request.into_inner().take_while(reachable).take_until(Box::pin(stopped));
        let bodies = messages.map(|message| message.map(|message| message.body));
        let answers = self.metadata.on_append_stream(bodies);
        let answers = answers.map(|body| body.map(|body| RaftMessage { body }));
        let answers = answers.map(|answer| answer.map_err(|error| Status::internal(error.to_string())));
        Ok(Response::new(answers.boxed()))
    }

    async fn raft_vote(&self, request: Request<RaftMessage>) -> Answer<RaftMessage> {
        self.reachable()?;
        answered(self.metadata.on_vote(request.into_inner().body).await)
    }

    async fn raft_pre_vote(&self, request: Request<RaftMessage>) -> Answer<RaftMessage> {
        self.reachable()?;
        answered(self.metadata.on_pre_vote(request.into_inner().body).await)
    }

    async fn raft_transfer_leader(&self, request: Request<RaftMessage>) -> Answer<RaftMessage> {
        self.reachable()?;
        answered(self.metadata.on_transfer_leader(request.into_inner().body).await)
    }

    async fn raft_snapshot(&self, request: Request<Streaming<RaftMessage>>) -> Answer<RaftMessage> {
        self.reachable()?;
        let chunks = request.into_inner().map(|chunk| chunk.map(|message| message.body));
        answered(self.metadata.on_snapshot(chunks).await)
    }

    async fn propose(&self, request: Request<v1::ProposeRequest>) -> Answer<v1::ProposeResponse> {
        self.reachable()?;
        let reply = self.metadata.on_propose(request.into_inner().command).await;
        let reply = reply.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(v1::ProposeResponse { reply }))
    }

    async fn read_index(&self, _request: Request<v1::ReadIndexRequest>) -> Answer<v1::ReadIndexResponse> {
        self.reachable()?;
        let index = self.metadata.on_read_index().await;
        let index = index.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(v1::ReadIndexResponse { index }))
    }

    async fn hello(&self, _request: Request<v1::HelloRequest>) -> Answer<v1::HelloResponse> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn join(&self, _request: Request<v1::JoinRequest>) -> Answer<v1::JoinResponse> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn probe(&self, _request: Request<v1::ProbeRequest>) -> Answer<v1::ProbeResponse> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn gossip(&self, _request: Request<Streaming<v1::GossipRequest>>) -> Answer<Self::GossipStream> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn digest(&self, _request: Request<v1::DigestRequest>) -> Answer<v1::DigestResponse> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn vectors(&self, _request: Request<v1::VectorsRequest>) -> Answer<v1::VectorsResponse> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn catch_up(&self, _request: Request<v1::CatchUpRequest>) -> Answer<Self::CatchUpStream> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn rooms(&self, _request: Request<Streaming<v1::RoomsRequest>>) -> Answer<Self::RoomsStream> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn describe(&self, _request: Request<v1::DescribeRequest>) -> Answer<v1::DescribeResponse> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn prepare_collection(
        &self,
        _request: Request<v1::PrepareCollectionRequest>,
    ) -> Answer<v1::PrepareCollectionResponse> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn forward_push(&self, _request: Request<v1::PushRequest>) -> Answer<v1::PushResponse> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn forward_get(&self, _request: Request<v1::GetRequest>) -> Answer<v1::GetResponse> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn forward_scan(&self, _request: Request<v1::ScanRequest>) -> Answer<v1::ScanResponse> {
        Err(Status::unimplemented("not part of this test"))
    }

    async fn forward_held(&self, _request: Request<v1::HeldRequest>) -> Answer<v1::HeldResponse> {
        Err(Status::unimplemented("not part of this test"))
    }
}
