//! Raft's calls to other nodes, over the pool's connections. Bodies are postcard.

use std::{future::Future, time::Duration};

use futures::stream;
use halcyon_core::id::NodeId;
use halcyon_proto::v1::RaftMessage;
use openraft::{
    AnyError, OptionalSend, RaftNetworkFactory,
    errors::{ReplicationClosed, StreamingError, Unreachable},
    network::{RPCOption, v2::RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
        VoteRequest, VoteResponse,
    },
};
use prost::bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tonic::{Response, Status};

use super::{
    limits::{SNAPSHOT_CHUNK_BYTES, TRANSFER_BYTES_PER_SECOND_MIN},
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
        }
    }
}

/// One node that Raft calls. The connection is the pool's, so it outlives this and follows a change of address.
#[derive(Debug)]
pub(super) struct Peer {
    pool: Pool,
    target: NodeId,
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
        let transfer =
            Duration::from_secs(body.len() as u64) / u32::try_from(TRANSFER_BYTES_PER_SECOND_MIN).unwrap_or(1);
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
        self.call(&request, option.hard_ttl(), call).await
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

/// openraft backs off from a peer that is unreachable, and tries again.
fn unreachable(error: &(impl std::error::Error + 'static)) -> RpcError {
    RpcError::Unreachable(Unreachable::new(error))
}
