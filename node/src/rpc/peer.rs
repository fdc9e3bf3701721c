//! The Peer service: what other nodes say. Each call but Hello and Join needs a certificate.

use std::pin::Pin;

use axum::{Router, middleware::from_fn_with_state};
use futures::{Stream, StreamExt};
use halcyon_proto::v1::{self, peer_server};
use prost::bytes::Bytes;
use tonic::{Request, Response, Status, Streaming, service::Routes};

use super::{
    Rooms,
    auth::Standing,
    edge::{self, Edge},
    status::{refuse, room_status},
};
use crate::limits::MESSAGE_BYTES_MAX;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the peers' port serves.
pub fn peer_router(rooms: &Rooms) -> Router {
    let peer = peer_server::PeerServer::new(PeerService { rooms: rooms.clone() })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let edge = Edge::new(rooms.env.clone(), rooms.metrics.clone(), rooms.wire);
    Routes::new(peer)
        .into_axum_router()
        .layer(from_fn_with_state(edge, edge::guard))
}

#[derive(Debug)]
struct PeerService {
    rooms: Rooms,
}

impl PeerService {
    fn certified<T>(&self, request: &Request<T>) -> Result<(), Status> {
        self.rooms.authorize_peer(request.extensions(), Standing::Certified)?;
        Ok(())
    }

    fn member<T>(&self, request: &Request<T>) -> Result<halcyon_core::id::NodeId, Status> {
        Ok(self.rooms.authorize_peer(request.extensions(), Standing::Member)?)
    }
}

fn raft(body: Bytes) -> Response<v1::RaftMessage> {
    Response::new(v1::RaftMessage { body })
}

#[tonic::async_trait]
impl peer_server::Peer for PeerService {
    async fn hello(&self, request: Request<v1::HelloRequest>) -> Result<Response<v1::HelloResponse>, Status> {
        Ok(Response::new(self.rooms.hello(request.get_ref())?))
    }

    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        Ok(Response::new(self.rooms.on_join(request.into_inner()).await?))
    }

    async fn raft_append(&self, request: Request<v1::RaftMessage>) -> Result<Response<v1::RaftMessage>, Status> {
        self.certified(&request)?;
        let body = request.into_inner().body;
        self.rooms.metadata.on_append(body).await.map(raft).map_err(refuse)
    }

    type RaftStreamStream = Answers<v1::RaftMessage>;

    async fn raft_stream(
        &self,
        request: Request<Streaming<v1::RaftMessage>>,
    ) -> Result<Response<Self::RaftStreamStream>, Status> {
        self.certified(&request)?;
        let rooms = self.rooms.clone();
        // As with gossip: whoever was removed meanwhile is heard no more.
        let (_, extensions, bodies) = request.into_parts();
        let bodies = bodies.map(move |message| {
            rooms.authorize_peer(&extensions, Standing::Certified)?;
            Ok(message?.body)
        });
        let bodies = bodies.take_until(Box::pin(self.rooms.closed()));
        let answers = self.rooms.metadata.on_append_stream(bodies);
        let answers = answers.map(|body| body.map(|body| v1::RaftMessage { body }).map_err(refuse));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn raft_vote(&self, request: Request<v1::RaftMessage>) -> Result<Response<v1::RaftMessage>, Status> {
        self.certified(&request)?;
        let body = request.into_inner().body;
        self.rooms.metadata.on_vote(body).await.map(raft).map_err(refuse)
    }

    async fn raft_pre_vote(&self, request: Request<v1::RaftMessage>) -> Result<Response<v1::RaftMessage>, Status> {
        self.certified(&request)?;
        let body = request.into_inner().body;
        self.rooms.metadata.on_pre_vote(body).await.map(raft).map_err(refuse)
    }

    async fn raft_transfer_leader(
        &self,
        request: Request<v1::RaftMessage>,
    ) -> Result<Response<v1::RaftMessage>, Status> {
        self.certified(&request)?;
        let body = request.into_inner().body;
        self.rooms
            .metadata
            .on_transfer_leader(body)
            .await
            .map(raft)
            .map_err(refuse)
    }

    async fn raft_snapshot(
        &self,
        request: Request<Streaming<v1::RaftMessage>>,
    ) -> Result<Response<v1::RaftMessage>, Status> {
        self.certified(&request)?;
        let chunks = request.into_inner().map(|chunk| chunk.map(|chunk| chunk.body));
        self.rooms.metadata.on_snapshot(chunks).await.map(raft).map_err(refuse)
    }

    async fn propose(&self, request: Request<v1::ProposeRequest>) -> Result<Response<v1::ProposeResponse>, Status> {
        // A node proposes before it knows of its own membership: it announces its addresses at every start.
        self.certified(&request)?;
        let command = request.into_inner().command;
        let reply = self.rooms.metadata.on_propose(command).await.map_err(refuse)?;
        Ok(Response::new(v1::ProposeResponse { reply }))
    }

    async fn read_index(
        &self,
        request: Request<v1::ReadIndexRequest>,
    ) -> Result<Response<v1::ReadIndexResponse>, Status> {
        self.certified(&request)?;
        let index = self.rooms.metadata.on_read_index().await.map_err(refuse)?;
        Ok(Response::new(v1::ReadIndexResponse { index }))
    }

    async fn probe(&self, request: Request<v1::ProbeRequest>) -> Result<Response<v1::ProbeResponse>, Status> {
        self.certified(&request)?;
        Ok(Response::new(self.rooms.routing.on_probe()))
    }

    type GossipStream = Answers<v1::GossipResponse>;

    async fn gossip(
        &self,
        request: Request<Streaming<v1::GossipRequest>>,
    ) -> Result<Response<Self::GossipStream>, Status> {
        let from = self.member(&request)?;
        let rooms = self.rooms.clone();
        // A stream outlives a membership: each message is checked anew.
        let (_, extensions, sets) = request.into_parts();
        let sets = sets.map(move |sets| {
            rooms.authorize_peer(&extensions, Standing::Member)?;
            sets
        });
        let sets = sets.take_until(Box::pin(self.rooms.closed()));
        Ok(Response::new(Box::pin(self.rooms.replication.gossip(from, sets))))
    }

    async fn digest(&self, request: Request<v1::DigestRequest>) -> Result<Response<v1::DigestResponse>, Status> {
        let from = self.member(&request)?;
        let answer = self.rooms.replication.on_digest(from, request.get_ref());
        answer.map(Response::new).map_err(refuse)
    }

    async fn vectors(&self, request: Request<v1::VectorsRequest>) -> Result<Response<v1::VectorsResponse>, Status> {
        let from = self.member(&request)?;
        let answer = self.rooms.replication.on_vectors(from, request.get_ref());
        answer.map(Response::new).map_err(refuse)
    }

    type CatchUpStream = Answers<v1::CatchUpResponse>;

    async fn catch_up(&self, request: Request<v1::CatchUpRequest>) -> Result<Response<Self::CatchUpStream>, Status> {
        let from = self.member(&request)?;
        let parts = self
            .rooms
            .replication
            .catch_up(from, request.get_ref())
            .map_err(refuse)?;
        Ok(Response::new(Box::pin(parts.map(|part| part.map_err(refuse)))))
    }

    async fn describe(&self, request: Request<v1::DescribeRequest>) -> Result<Response<v1::DescribeResponse>, Status> {
        self.member(&request)?;
        let answer = self.rooms.replication.on_describe(request.get_ref());
        answer.map(Response::new).map_err(refuse)
    }

    async fn prepare_collection(
        &self,
        request: Request<v1::PrepareCollectionRequest>,
    ) -> Result<Response<v1::PrepareCollectionResponse>, Status> {
        let from = self.member(&request)?;
        let answer = self.rooms.replication.on_prepare_collection(from, request.get_ref());
        answer.await.map(Response::new).map_err(refuse)
    }

    type RoomsStream = Answers<v1::RoomsResponse>;

    async fn rooms(
        &self,
        request: Request<Streaming<v1::RoomsRequest>>,
    ) -> Result<Response<Self::RoomsStream>, Status> {
        let from = self.member(&request)?;
        let rooms = self.rooms.clone();
        let (_, extensions, told) = request.into_parts();
        let told = told.map(move |told| {
            rooms.authorize_peer(&extensions, Standing::Member)?;
            told
        });
        let told = told.take_until(Box::pin(self.rooms.closed()));
        let answers = self.rooms.lobby.answer(from, told);
        Ok(Response::new(Box::pin(
            answers.map(|answer| answer.map_err(room_status)),
        )))
    }

    async fn forward_push(&self, request: Request<v1::PushRequest>) -> Result<Response<v1::PushResponse>, Status> {
        self.member(&request)?;
        let message = request.into_inner();
        let tenant = self.rooms.tenant(&message.tenant).await?;
        Ok(Response::new(self.rooms.push_here(&tenant, message).await?))
    }

    async fn forward_get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        self.member(&request)?;
        let message = request.into_inner();
        let tenant = self.rooms.tenant(&message.tenant).await?;
        Ok(Response::new(self.rooms.get_here(&tenant, &message).await?))
    }

    async fn forward_scan(&self, request: Request<v1::ScanRequest>) -> Result<Response<v1::ScanResponse>, Status> {
        self.member(&request)?;
        let message = request.into_inner();
        let tenant = self.rooms.tenant(&message.tenant).await?;
        Ok(Response::new(self.rooms.scan_here(&tenant, message).await?))
    }

    async fn forward_held(&self, request: Request<v1::HeldRequest>) -> Result<Response<v1::HeldResponse>, Status> {
        self.member(&request)?;
        let tenant = self.rooms.tenant(&request.get_ref().tenant).await?;
        Ok(Response::new(self.rooms.held_here(&tenant)?))
    }
}
