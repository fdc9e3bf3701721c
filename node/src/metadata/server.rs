//! Raft's calls from other nodes. Bodies are postcard, the same as `network` writes.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures::{Stream, StreamExt};
use halcyon_core::{env::Env, id::NodeId};
use prost::bytes::Bytes;
use serde::Serialize;
use thiserror::Error;
use tonic::Status;

use super::{
    Metadata,
    append_stream::AppendRequest,
    limits::SNAPSHOT_BYTES_MAX,
    log_store::{decode, encode},
    types::{Snapshot, SnapshotBytes, SnapshotMeta, Vote},
};

/// Why a call of Raft has no answer.
#[derive(Debug, Error)]
pub enum RaftRpcError {
    /// The body is not what it should be.
    #[error("malformed Raft message: {0}")]
    Malformed(String),
    /// Only the leader can answer.
    #[error("this node does not lead the control plane")]
    NotLeader(Option<NodeId>),
    /// The control plane has stopped on this node.
    #[error("the control plane has stopped on this node: {0}")]
    Stopped(String),
}

impl From<io::Error> for RaftRpcError {
    fn from(error: io::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// When the leader called last, in milliseconds of the monotonic clock plus one; 0 for never.
#[derive(Debug, Default)]
pub(super) struct Heard(AtomicU64);

impl Heard {
    fn now(env: &Env) -> u64 {
        u64::try_from(env.clock.monotonic().as_millis()).unwrap_or(u64::MAX - 1)
    }

    fn note(&self, env: &Env) {
        self.0.store(Self::now(env) + 1, Ordering::Relaxed);
    }

    /// How long ago that was.
    pub(super) fn since(&self, env: &Env) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            heard => Some(Duration::from_millis(Self::now(env).saturating_sub(heard - 1))),
        }
    }
}

impl Metadata {
    /// The leader replicates, or says that it is there.
    pub async fn on_append(&self, body: Bytes) -> Result<Bytes, RaftRpcError> {
        let answer = self.inner.raft.append_entries(decode(&body)?).await.map_err(stopped)?;
        self.inner.heard.note(&self.inner.env);
        answered(&answer)
    }

    /// The same as a stream: what comes is with Raft before the one before it is on disk, and is answered in order. It
    /// ends where Raft says no, and with a message that cannot be read: then the leader starts anew.
    pub fn on_append_stream(
        &self,
        bodies: impl Stream<Item = Result<Bytes, Status>> + Send + 'static,
    ) -> impl Stream<Item = Result<Bytes, RaftRpcError>> + Send + 'static {
        let requests = bodies.map(|body| {
            let request = body.map_err(|status| status.to_string()).and_then(|body| {
                let request: io::Result<AppendRequest> = decode(&body);
                request.map_err(|error| error.to_string())
            });
            let ended = |error: &String| tracing::debug!(error, "a stream of the leader ended");
            request.inspect_err(ended).ok()
        });
        let requests = requests.take_while(|request| std::future::ready(request.is_some()));
        let requests = requests.filter_map(std::future::ready);
        let this = self.clone();
        self.inner.raft.stream_append(requests).map(move |answer| {
            let answer = answer.map_err(stopped)?;
            this.inner.heard.note(&this.inner.env);
            answered(&answer)
        })
    }

    /// A candidate asks for a vote.
    pub async fn on_vote(&self, body: Bytes) -> Result<Bytes, RaftRpcError> {
        answered(&self.inner.raft.vote(decode(&body)?).await.map_err(stopped)?)
    }

    /// A node asks whether it would get a vote.
    pub async fn on_pre_vote(&self, body: Bytes) -> Result<Bytes, RaftRpcError> {
        answered(&self.inner.raft.pre_vote(decode(&body)?).await.map_err(stopped)?)
    }

    /// A leader hands over.
    pub async fn on_transfer_leader(&self, body: Bytes) -> Result<Bytes, RaftRpcError> {
        answered(
            &self
                .inner
                .raft
                .handle_transfer_leader(decode(&body)?)
                .await
                .map_err(stopped)?,
        )
    }

    /// The leader sends a whole state: first vote and meta, then its bytes.
    pub async fn on_snapshot(&self, chunks: impl Stream<Item = Result<Bytes, Status>>) -> Result<Bytes, RaftRpcError> {
        let mut chunks = std::pin::pin!(chunks);
        let cut = |status: Status| RaftRpcError::Malformed(status.to_string());
        let head = chunks
            .next()
            .await
            .ok_or_else(|| RaftRpcError::Malformed("empty".to_owned()))?;
        let (vote, meta): (Vote, SnapshotMeta) = decode(&head.map_err(cut)?)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(cut)?;
            if bytes.len() + chunk.len() > SNAPSHOT_BYTES_MAX {
                return Err(RaftRpcError::Malformed("the snapshot is too large".to_owned()));
            }
            bytes.extend_from_slice(&chunk);
        }
        let snapshot = Snapshot {
            meta,
            snapshot: SnapshotBytes(bytes),
        };
        let answer = self
            .inner
            .raft
            .install_full_snapshot(vote, snapshot)
            .await
            .map_err(stopped)?;
        self.inner.heard.note(&self.inner.env);
        answered(&answer)
    }
}

fn stopped(error: impl std::fmt::Display) -> RaftRpcError {
    RaftRpcError::Stopped(error.to_string())
}

fn answered(answer: &impl Serialize) -> Result<Bytes, RaftRpcError> {
    Ok(encode(answer)?.into())
}
