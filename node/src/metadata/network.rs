//! Raft's calls to other nodes, over the pool's connections. Bodies are postcard.

use std::{future::Future, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, future::BoxFuture, stream};
use halcyon_core::id::NodeId;
use halcyon_proto::v1::RaftMessage;
use openraft::{
    AnyError, OptionalSend, RaftNetworkFactory,
    errors::{ReplicationClosed, StreamingError, Unreachable},
    network::{RPCOption, stream_append_sequential, v2::RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
        VoteRequest, VoteResponse,
    },
};
use prost::bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tonic::{Code, Response, Status};

use super::{
    append_stream::{self, Answers, AppendRequest, Unanswered},
    limits::{APPEND_DEADLINE, SNAPSHOT_CHUNK_BYTES, TRANSFER_BYTES_PER_SECOND_MIN},
    log_store::{decode, encode},
    types::{RpcError, Snapshot, SnapshotBytes, TypeConfig, Vote},
};
use crate::peers::{PeerClient, Pool};

/// Makes [`Peer`]s.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) pool: Pool,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _node: &openraft::EmptyNode) -> Peer {
        Peer {
            pool: self.pool.clone(),
            target: NodeId(target),
            streams: true,
        }
    }
}

/// One node that Raft calls. The connection is the pool's, so it outlives this and follows a change of address.
#[derive(Debug)]
pub(super) struct Peer {
    pool: Pool,
    target: NodeId,
    /// Whether it takes appends as a stream. A release before that did not.
    streams: bool,
}

impl Peer {
    /// One unary call within `deadline`.
    async fn call<Q, A, F>(
        &self,
        request: &Q,
        deadline: Duration,
        call: impl FnOnce(PeerClient, RaftMessage) -> F,
    ) -> Result<A, RpcError>
    where
        Q: Serialize,
        A: DeserializeOwned,
        F: Future<Output = Result<Response<RaftMessage>, Status>>,
    {
        let client = self.pool.client(self.target).map_err(|error| unreachable(&error))?;
        let body = encode(request).map_err(|error| unreachable(&error))?;
        // Large bodies get the time that a slow path needs; else they would be cut off and sent again for ever.
        let transfer = transfer_time(body.len());
        let message = RaftMessage { body: body.into() };
        let answer = tokio::time::timeout(deadline + transfer, call(client, message))
            .await
            .map_err(|error| unreachable(&error))?
            .map_err(|error| unreachable(&error))?;
        decode(&answer.into_inner().body).map_err(|error| unreachable(&error))
    }

    async fn send_snapshot(&self, vote: Vote, snapshot: Snapshot) -> Result<SnapshotResponse<TypeConfig>, String> {
        let mut client = self.pool.client(self.target).map_err(|error| error.to_string())?;
        let head = encode(&(vote, &snapshot.meta)).map_err(|error| error.to_string())?;
        let bytes = Bytes::from(snapshot.snapshot.0);
        let body = (0..bytes.len()).step_by(SNAPSHOT_CHUNK_BYTES).map(move |from| {
            let to = (from + SNAPSHOT_CHUNK_BYTES).min(bytes.len());
            bytes.slice(from..to)
        });
        // HTTP/2 flow control asks for the next chunk, so only a window's worth is ever under way.
        let chunks = std::iter::once(Bytes::from(head))
            .chain(body)
            .map(|body| RaftMessage { body });
        let answer = client
            .raft_snapshot(stream::iter(chunks))
            .await
            .map_err(|error| error.to_string())?;
        decode(&answer.into_inner().body).map_err(|error| error.to_string())
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotBytes;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        let call = |mut client: PeerClient, message| async move { client.raft_append(message).await };
        // openraft gives entries no more time than a heartbeat. On a path where that is not enough, the same entries
        // would be sent and given up for ever.
        let deadline = if request.entries.is_empty() {
            option.hard_ttl()
        } else {
            option.hard_ttl().max(APPEND_DEADLINE)
        };
        let answer = self.call(&request, deadline, call).await;
        // It may be away because it is being upgraded.
        self.streams |= answer.is_err();
        answer
    }

    /// The next entries do not wait for the answer to the last, nor for that to the notice of a commit.
    fn stream_append<S>(&mut self, mut requests: S, option: RPCOption) -> BoxFuture<'_, Result<Answers<'_>, RpcError>>
    where
        S: Stream<Item = AppendRequest> + OptionalSend + Unpin + 'static,
    {
        if !self.streams {
            return stream_append_sequential(self, requests, option);
        }
        let deadline = option.hard_ttl().max(APPEND_DEADLINE);
        Box::pin(async move {
            // After an error openraft waits before it hands out the next request, and nowhere else: who opens streams to a
            // follower that is down without asking for one would do so without a pause.
            let Some(first) = requests.next().await else {
                return Ok(stream::empty().boxed());
            };
            let requests = stream::iter([first]).chain(requests);
            let mut client = self.pool.client(self.target).map_err(|error| unreachable(&error))?;
            let unanswered = Arc::new(Unanswered::default());
            let messages = append_stream::messages(requests, Arc::clone(&unanswered));
            let opened = tokio::time::timeout(deadline, client.raft_stream(messages)).await;
            match opened.map_err(|error| unreachable(&error))? {
                Ok(answers) => Ok(append_stream::answers(answers.into_inner(), unanswered, deadline)),
                Err(status) => {
                    self.streams = status.code() != Code::Unimplemented;
                    Err(unreachable(&status))
                }
            }
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let call = |mut client: PeerClient, message| async move { client.raft_vote(message).await };
        self.call(&request, option.hard_ttl(), call).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let call = |mut client: PeerClient, message| async move { client.raft_pre_vote(message).await };
        self.call(&request, option.hard_ttl(), call).await
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let call = |mut client: PeerClient, message| async move { client.raft_transfer_leader(message).await };
        self.call(&request, option.hard_ttl(), call).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let transfer = Duration::from_secs(snapshot.snapshot.0.len() as u64 / TRANSFER_BYTES_PER_SECOND_MIN);
        let deadline = option.hard_ttl() + transfer;
        let sending = tokio::time::timeout(deadline, self.send_snapshot(vote, snapshot));
        let sent = tokio::select! {
            biased;
            closed = cancel => return Err(StreamingError::Closed(closed)),
            sent = sending => sent,
        };
        let failed = |text: String| StreamingError::Unreachable(Unreachable::new(&AnyError::error(text)));
        match sent {
            Ok(sent) => sent.map_err(failed),
            Err(_) => Err(failed(format!("no answer to the snapshot within {deadline:?}"))),
        }
    }
}

/// What the slowest path takes for a body.
pub(super) fn transfer_time(bytes: usize) -> Duration {
    Duration::from_secs(bytes as u64) / u32::try_from(TRANSFER_BYTES_PER_SECOND_MIN).unwrap_or(1)
}

/// openraft backs off from a peer that is unreachable, and tries again.
pub(super) fn unreachable(error: &(impl std::error::Error + 'static)) -> RpcError {
    RpcError::Unreachable(Unreachable::new(error))
}
