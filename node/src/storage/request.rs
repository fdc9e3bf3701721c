//! What is asked of a shard's writer, and what it answers.

use std::sync::Arc;

use halcyon_core::{
    id::{NodeId, TenantId},
    version_vector::VersionVector,
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::types::{Admit, AdmitError, Admitted, CellKey, DeltaBatch, GossipOutcome, GossipSet, StorageError};

/// A request, with its part of the memory that all requests together may take.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) request: Request,
    pub(super) bytes: usize,
    #[expect(dead_code, reason = "held for as long as the request is")]
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// What is asked.
#[derive(Debug)]
pub(super) enum Request {
    Admit(Admit, oneshot::Sender<Result<Admitted, AdmitError>>),
    Gossip {
        from: NodeId,
        sets: Vec<GossipSet>,
        reply: oneshot::Sender<Result<Vec<GossipOutcome>, StorageError>>,
    },
    Act {
        tenant: TenantId,
        act: Act,
        reply: oneshot::Sender<Result<bool, StorageError>>,
    },
    Close(oneshot::Sender<()>),
}

/// What is asked about a tenant as a whole. The answer says whether it was done.
#[derive(Debug)]
pub(super) enum Act {
    Open {
        collection_epoch: u64,
    },
    SetAdmitting(bool),
    Erase {
        if_covered_by: Option<VersionVector>,
    },
    Raise(VersionVector),
    Prepare {
        epoch: u64,
        cells: Vec<CellKey>,
        barrier: VersionVector,
    },
    Collect {
        epoch: u64,
    },
    Delta(Arc<DeltaBatch>),
}

/// What is answered once the group is durable.
#[derive(Debug)]
pub(super) enum Answer {
    Admit(Result<Admitted, AdmitError>),
    Gossip(Vec<GossipOutcome>),
    Act(Result<bool, StorageError>),
}

impl Request {
    /// Answers. Nobody may be waiting any more.
    pub(super) fn answer(self, answer: Answer) {
        match (self, answer) {
            (Self::Admit(_, reply), Answer::Admit(result)) => drop(reply.send(result)),
            (Self::Gossip { reply, .. }, Answer::Gossip(outcomes)) => drop(reply.send(Ok(outcomes))),
            (Self::Act { reply, .. }, Answer::Act(result)) => drop(reply.send(result)),
            (request, answer) => unreachable!("{request:?} was answered with {answer:?}"),
        }
    }

    /// Answers that nothing was done.
    pub(super) fn fail(self, error: StorageError) {
        match self {
            Self::Admit(_, reply) => drop(reply.send(Err(error.into()))),
            Self::Gossip { reply, .. } => drop(reply.send(Err(error))),
            Self::Act { reply, .. } => drop(reply.send(Err(error))),
            Self::Close(reply) => drop(reply.send(())),
        }
    }
}
