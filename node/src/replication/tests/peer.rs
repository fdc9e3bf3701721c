//! The calls of a peer, as far as replication takes part in them. Who calls is known by where it calls.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{Stream, StreamExt};
use halcyon_core::{id::NodeId, limits::MESSAGE_BYTES_MAX};
use halcyon_proto::v1::{
    self,
    peer_server::{Peer, PeerServer},
};
use tonic::{Request, Response, Status, Streaming};

use crate::replication::{PeerCallError, Replication};

/// See the module.
pub(super) struct TestPeer {
    from: NodeId,
    replication: Replication,
    /// After how many messages the next catch-up breaks off.
    catch_up_parts: Arc<AtomicUsize>,
}

impl TestPeer {
    pub(super) fn server(from: NodeId, replication: Replication, catch_up_parts: Arc<AtomicUsize>) -> PeerServer<Self> {
        let peer = Self {
            from,
            replication,
            catch_up_parts,
        };
        PeerServer::new(peer)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn refused(error: PeerCallError) -> Status {
    Status::failed_precondition(error.to_string())
}

type BoxedStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Peer for TestPeer {
    type GossipStream = BoxedStream<v1::GossipResponse>;
    type CatchUpStream = BoxedStream<v1::CatchUpResponse>;
    type RoomsStream = BoxedStream<v1::RoomsResponse>;

    async fn gossip(
        &self,
        request: Request<Streaming<v1::GossipRequest>>,
    ) -> Result<Response<Self::GossipStream>, Status> {
        let answers = self.replication.gossip(self.from, request.into_inner());
        Ok(Response::new(Box::pin(answers)))
    }

    async fn digest(&self, request: Request<v1::DigestRequest>) -> Result<Response<v1::DigestResponse>, Status> {
        let answer = self.replication.on_digest(self.from, request.get_ref());
        answer.map(Response::new).map_err(refused)
    }

    async fn vectors(&self, request: Request<v1::VectorsRequest>) -> Result<Response<v1::VectorsResponse>, Status> {
        let answer = self.replication.on_vectors(self.from, request.get_ref());
        answer.map(Response::new).map_err(refused)
    }

    async fn catch_up(&self, request: Request<v1::CatchUpRequest>) -> Result<Response<Self::CatchUpStream>, Status> {
        let stream = self
            .replication
            .catch_up(self.from, request.get_ref())
            .map_err(refused)?;
        let stream = stream.map(|part| part.map_err(|error| Status::internal(error.to_string())));
        let parts = self.catch_up_parts.swap(usize::MAX, Ordering::SeqCst);
        if parts == usize::MAX {
            return Ok(Response::new(Box::pin(stream)));
        }
        let broken = futures::stream::iter([Err(Status::unavailable("broken off by the test"))]);
        Ok(Response::new(Box::pin(stream.take(parts).chain(broken))))
    }

    async fn describe(&self, request: Request<v1::DescribeRequest>) -> Result<Response<v1::DescribeResponse>, Status> {
        let answer = self.replication.on_describe(request.get_ref());
        answer.map(Response::new).map_err(refused)
    }

    async fn prepare_collection(
        &self,
        request: Request<v1::PrepareCollectionRequest>,
    ) -> Result<Response<v1::PrepareCollectionResponse>, Status> {
        let answer = self
            .replication
            .on_prepare_collection(self.from, request.get_ref())
            .await;
        answer.map(Response::new).map_err(refused)
    }

    async fn hello(&self, _: Request<v1::HelloRequest>) -> Result<Response<v1::HelloResponse>, Status> {
        Ok(Response::new(v1::HelloResponse {
            version: 1,
            ..v1::HelloResponse::default()
        }))
    }

    async fn join(&self, _: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        Err(elsewhere())
    }

    async fn raft_append(&self, _: Request<v1::RaftMessage>) -> Result<Response<v1::RaftMessage>, Status> {
        Err(elsewhere())
    }

    type RaftStreamStream = Pin<Box<dyn Stream<Item = Result<v1::RaftMessage, Status>> + Send>>;

    async fn raft_stream(
        &self,
        _: Request<Streaming<v1::RaftMessage>>,
    ) -> Result<Response<Self::RaftStreamStream>, Status> {
        Err(elsewhere())
    }

    async fn raft_vote(&self, _: Request<v1::RaftMessage>) -> Result<Response<v1::RaftMessage>, Status> {
        Err(elsewhere())
    }

    async fn raft_pre_vote(&self, _: Request<v1::RaftMessage>) -> Result<Response<v1::RaftMessage>, Status> {
        Err(elsewhere())
    }

    async fn raft_transfer_leader(&self, _: Request<v1::RaftMessage>) -> Result<Response<v1::RaftMessage>, Status> {
        Err(elsewhere())
    }

    async fn raft_snapshot(&self, _: Request<Streaming<v1::RaftMessage>>) -> Result<Response<v1::RaftMessage>, Status> {
        Err(elsewhere())
    }

    async fn propose(&self, _: Request<v1::ProposeRequest>) -> Result<Response<v1::ProposeResponse>, Status> {
        Err(elsewhere())
    }

    async fn read_index(&self, _: Request<v1::ReadIndexRequest>) -> Result<Response<v1::ReadIndexResponse>, Status> {
        Err(elsewhere())
    }

    async fn probe(&self, _: Request<v1::ProbeRequest>) -> Result<Response<v1::ProbeResponse>, Status> {
        Err(elsewhere())
    }

    async fn rooms(&self, _: Request<Streaming<v1::RoomsRequest>>) -> Result<Response<Self::RoomsStream>, Status> {
        Err(elsewhere())
    }

    async fn forward_push(&self, _: Request<v1::PushRequest>) -> Result<Response<v1::PushResponse>, Status> {
        Err(elsewhere())
    }

    async fn forward_get(&self, _: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        Err(elsewhere())
    }

    async fn forward_scan(&self, _: Request<v1::ScanRequest>) -> Result<Response<v1::ScanResponse>, Status> {
        Err(elsewhere())
    }

    async fn forward_held(&self, _: Request<v1::HeldRequest>) -> Result<Response<v1::HeldResponse>, Status> {
        Err(elsewhere())
    }
}

fn elsewhere() -> Status {
    Status::unimplemented("not part of this test")
}
