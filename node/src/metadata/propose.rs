//! The way of a write: to the leader, here or on another node, again after an election, within a deadline.

use std::time::Duration;

use halcyon_core::{
    env::BoxFuture,
    id::NodeId,
    mutant::{self, Mutant},
};
use halcyon_proto::v1::{ProposeRequest, ReadIndexRequest};
use openraft::{
    ReadPolicy,
    async_runtime::WatchReceiver,
    errors::{ClientWriteError, RaftError},
};
use prost::bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::time::timeout;

use super::{
    Metadata, RaftRpcError,
    command::{Command, Outcome, Refusal, Reply},
    limits::{ATTEMPTS_IN_DEADLINE, COMMAND_BYTES_MAX, VIEW_WAIT_MAX, WRITE_RETRY_PAUSE},
    log_store::{decode, encode},
};

/// Why a write has no reply.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WriteError {
    /// No leader with a quorum was found within the deadline. The command may still be carried out later.
    #[error("the control plane has no quorum")]
    NoQuorum,
    /// The command was refused and changed nothing.
    #[error(transparent)]
    Rejected(#[from] Refusal),
    /// There is a quorum, but no answer came within the deadline. The command may still be carried out.
    #[error("no answer from the control plane within {0:?}")]
    Deadline(Duration),
    /// The command is larger than a command may be.
    #[error("the command has {0} bytes; at most {COMMAND_BYTES_MAX}")]
    TooLarge(usize),
    /// The node is shutting down, or its disk failed.
    #[error("the control plane has stopped on this node: {0}")]
    Stopped(String),
}

/// What the leader answers to another node's proposal.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// Applied at this index.
    Applied(u64, Outcome),
    /// Try again, there if it is known.
    NotLeader(Option<u64>),
}

/// What came of one attempt.
enum Attempt<T> {
    Done(T),
    /// Nobody to ask, or it is not known what became of it.
    Again(Option<NodeId>),
    Failed(WriteError),
}

impl Metadata {
    /// Has a command carried out by the whole cluster. When it returns, the local view shows it (or lags badly).
    ///
    /// After a lost answer the command is proposed again, under the same id: it is carried out once.
    pub async fn write(&self, command: Command) -> Result<Reply, WriteError> {
        let command = Command::Once {
            id: self.inner.env.random_u128(),
            command: Box::new(command),
        };
        let encoded = encode(&command).map_err(|error| WriteError::Stopped(error.to_string()))?;
        if encoded.len() > COMMAND_BYTES_MAX {
            return Err(WriteError::TooLarge(encoded.len()));
        }
        let encoded = Bytes::from(encoded);
        let mut is_first = true;
        let attempts = self.with_leader(|leader| {
            let (this, command, encoded) = (self.clone(), command.clone(), encoded.clone());
            let may_be_lost = std::mem::replace(&mut is_first, false);
            Box::pin(async move {
                let attempt = if leader == this.inner.me {
                    this.propose_here(command).await
                } else {
                    this.propose_there(leader, encoded).await
                };
                match attempt {
                    Attempt::Done(_) if may_be_lost && this.inner.env.probe.rare("metadata.answer-lost") => {
                        tokio::time::sleep(this.attempt_deadline()).await;
                        Attempt::Again(None)
                    }
                    attempt => attempt,
                }
            })
        });
        let (index, outcome) = self.in_time(attempts).await?;
        // Only comfort for the caller: the write itself is done.
        let _ = timeout(VIEW_WAIT_MAX, self.inner.view.wait_for(index)).await;
        Ok(outcome.0?)
    }

    /// When it returns, the local view shows all that was written before it was called, by anybody.
    pub async fn read_barrier(&self) -> Result<(), WriteError> {
        let work = async {
            let asked = self.with_leader(|leader| {
                let this = self.clone();
                Box::pin(async move {
                    if leader == this.inner.me {
                        this.read_index_here().await
                    } else {
                        this.read_index_there(leader).await
                    }
                })
            });
            let index = asked.await?;
            self.inner.view.wait_for(index).await;
            Ok(())
        };
        self.in_time(work).await
    }

    /// As [`Self::read_barrier`], shared by all who ask at the same time: one question is on its way, and whoever comes
    /// meanwhile waits for the next. Names that nobody has cost the leader one small call in a round trip, however many
    /// are asked for. False where the leader cannot be asked; then the view's answer stands.
    pub async fn freshen(&self) -> bool {
        let clock = &self.inner.env.clock;
        let called = clock.monotonic();
        let mut began = self.inner.fresh.lock().await;
        if began.is_some_and(|began| began > called) {
            return true;
        }
        let start = clock.monotonic();
        let is_fresh = self.read_barrier().await.is_ok();
        if is_fresh {
            *began = Some(start);
        }
        is_fresh
    }

    /// A command from another node, which takes this one for the leader. Leaving and refusing are answers, in the
    /// bytes; errors are for bytes that are no command.
    pub async fn on_propose(&self, command: Bytes) -> Result<Bytes, RaftRpcError> {
        if command.len() > COMMAND_BYTES_MAX {
            return Err(RaftRpcError::Malformed("the command is too large".to_owned()));
        }
        let command: Command = decode(&command)?;
        let answer = match self.propose_here(command).await {
            Attempt::Done((index, outcome)) => Answer::Applied(index, outcome),
            Attempt::Again(leader) => Answer::NotLeader(leader.map(|leader| leader.0)),
            Attempt::Failed(error) => return Err(RaftRpcError::Stopped(error.to_string())),
        };
        Ok(encode(&answer)?.into())
    }

    /// The index that a linearizable read must wait for.
    pub async fn on_read_index(&self) -> Result<u64, RaftRpcError> {
        match self.read_index_here().await {
            Attempt::Done(index) => Ok(index),
            Attempt::Again(leader) => Err(RaftRpcError::NotLeader(leader)),
            Attempt::Failed(error) => Err(RaftRpcError::Stopped(error.to_string())),
        }
    }

    /// Asks whoever leads until there is an answer. Boxed: the future of an async closure is not provably `Send`, and
    /// writes are made from spawned tasks.
    async fn with_leader<T>(
        &self,
        mut ask: impl FnMut(NodeId) -> BoxFuture<'static, Attempt<T>>,
    ) -> Result<T, WriteError> {
        let mut hint = None;
        loop {
            let known = self.inner.raft.metrics().borrow_watched().current_leader.map(NodeId);
            let attempt = match hint.take().or(known) {
                Some(leader) => ask(leader).await,
                None => Attempt::Again(None),
            };
            match attempt {
                Attempt::Done(done) => return Ok(done),
                Attempt::Failed(error) => return Err(error),
                Attempt::Again(leader) => hint = leader,
            }
            tokio::time::sleep(WRITE_RETRY_PAUSE).await;
        }
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, WriteError>>) -> Result<T, WriteError> {
        let deadline = self.inner.options.deadline;
        match timeout(deadline, work).await {
            Ok(result) => result,
            Err(_) if self.roles().has_quorum => Err(WriteError::Deadline(deadline)),
            Err(_) => Err(WriteError::NoQuorum),
        }
    }

    /// Of one question to another node.
    fn attempt_deadline(&self) -> Duration {
        self.inner.options.deadline / ATTEMPTS_IN_DEADLINE
    }

    async fn propose_here(&self, command: Command) -> Attempt<(u64, Outcome)> {
        match self.inner.raft.client_write(command).await {
            Ok(written) => Attempt::Done((written.log_id.index(), written.data)),
            Err(RaftError::Fatal(error)) => Attempt::Failed(WriteError::Stopped(error.to_string())),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Attempt::Again(forward.leader_id.map(NodeId))
            }
            // Discarded when another took over; what became of it is not known.
            Err(RaftError::APIError(_)) => Attempt::Again(None),
        }
    }

    async fn propose_there(&self, leader: NodeId, command: Bytes) -> Attempt<(u64, Outcome)> {
        let Ok(mut client) = self.inner.pool.client(leader) else {
            return Attempt::Again(None);
        };
        let asked = timeout(self.attempt_deadline(), client.propose(ProposeRequest { command }));
        let Ok(Ok(answer)) = asked.await else {
            return Attempt::Again(None);
        };
        match decode(&answer.into_inner().reply) {
            Ok(Answer::Applied(index, outcome)) => Attempt::Done((index, outcome)),
            Ok(Answer::NotLeader(leader)) => Attempt::Again(leader.map(NodeId)),
            Err(_) => Attempt::Again(None),
        }
    }

    async fn read_index_here(&self) -> Attempt<u64> {
        let policy = if mutant::active(Mutant::LeaseRead) {
            ReadPolicy::LeaseRead
        } else {
            ReadPolicy::ReadIndex
        };
        match self.inner.raft.get_read_log_id(policy).await {
            Ok((read, _)) => Attempt::Done(read.index()),
            Err(RaftError::Fatal(error)) => Attempt::Failed(WriteError::Stopped(error.to_string())),
            Err(RaftError::APIError(_)) => Attempt::Again(None),
        }
    }

    async fn read_index_there(&self, leader: NodeId) -> Attempt<u64> {
        let Ok(mut client) = self.inner.pool.client(leader) else {
            return Attempt::Again(None);
        };
        match timeout(self.attempt_deadline(), client.read_index(ReadIndexRequest {})).await {
            Ok(Ok(answer)) => Attempt::Done(answer.into_inner().index),
            _ => Attempt::Again(None),
        }
    }
}
