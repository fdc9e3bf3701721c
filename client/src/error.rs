//! Why an operation of a client failed, one type for each.

use std::time::Duration;

use halcyon_core::codec::DecodeError;
use halcyon_proto::{convert::ConvertError, error::Refusal};
use thiserror::Error;

/// Why a client could not be opened.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// No address was given, or one of them is not `host:port`.
    #[error("{0:?} is not an address; give host:port")]
    Address(String),
    /// The CA certificate cannot be read.
    #[error("the CA certificate cannot be used: {0}")]
    Certificate(String),
    /// None of the nodes answered.
    #[error("no node can be reached: {0}; is the address right and the node up?")]
    Unreachable(String),
    /// A node answered and refused.
    #[error(transparent)]
    Refused(Refusal),
    /// A node answered with something that is not Halcyon's.
    #[error("a node's answer cannot be understood: {0}")]
    Answer(#[from] ConvertError),
    /// The outbox cannot be opened.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

/// Why the outbox failed.
#[derive(Debug, Clone, Error)]
pub enum OutboxError {
    /// The disk said no, or holds something else.
    #[error("the outbox on disk failed: {0}")]
    Disk(String),
    /// A set in it cannot be read.
    #[error("the outbox holds a change set that cannot be read: {0}")]
    Damaged(#[from] DecodeError),
}

/// Why a write was not taken into the outbox.
#[derive(Debug, Clone, Error)]
pub enum WriteError {
    /// More changes, or more bytes, than one change set may have.
    #[error(transparent)]
    TooLarge(#[from] DecodeError),
    /// The outbox is full: nothing was acknowledged for a while.
    #[error("the outbox is full with {sets} change sets that no node has acknowledged; is one reachable?")]
    Full {
        /// Sets that wait.
        sets: usize,
    },
    /// The outbox's disk failed; the set may be pushed after a restart, or not.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The client is closed.
    #[error("the client is closed")]
    Closed,
}

/// Why a change set has no acknowledgement.
#[derive(Debug, Clone, Error)]
pub enum Refused {
    /// A node refused it for good; it has left the outbox.
    #[error(transparent)]
    Refused(Refusal),
    /// Nodes refuse this client as a whole (a revoked key, say). The set stays in the outbox and is tried again.
    #[error("{0} (the change set stays in the outbox)")]
    Kept(Refusal),
    /// The client was closed first; a set in an outbox on disk is pushed when it is opened again.
    #[error("the client was closed before the change set was acknowledged")]
    Closed,
}

/// Why a change set has no acknowledgement yet.
#[derive(Debug, Clone, Error)]
pub enum Unacknowledged {
    /// It will get none, or not before something is mended.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A node keeps it on disk; the tenant asks for a second region, and none has it yet. It spreads by itself.
    #[error("kept by one region, but no second region has it after {waited:?}")]
    NotYetReplicated {
        /// How long was waited.
        waited: Duration,
    },
    /// No node has answered for it. It stays in the outbox.
    #[error("no node has acknowledged it after {waited:?}")]
    Unanswered {
        /// How long was waited.
        waited: Duration,
    },
}

/// Why not everything was acknowledged.
#[derive(Debug, Clone, Error)]
pub enum FlushError {
    /// Nodes refuse this client as a whole; the sets stay in the outbox.
    #[error("{0} (the change sets stay in the outbox)")]
    Kept(Refusal),
    /// The client was closed first.
    #[error("the client was closed before its outbox was empty")]
    Closed,
}

/// Why a read failed.
#[derive(Debug, Clone, Error)]
pub enum ReadError {
    /// A node refused it.
    #[error(transparent)]
    Refused(Refusal),
    /// No node answered in time, also after trying others.
    #[error("no node that holds the tenant answered within {waited:.1?}: {last}")]
    Unreachable {
        /// How long was tried.
        waited: Duration,
        /// What the last attempt met.
        last: String,
    },
    /// A node's answer cannot be understood.
    #[error("a node's answer cannot be understood: {0}")]
    Answer(#[from] ConvertError),
    /// The client is closed.
    #[error("the client is closed")]
    Closed,
}

/// Why an operator's call failed.
#[derive(Debug, Clone, Error)]
pub enum AdminError {
    /// A node refused it.
    #[error(transparent)]
    Refused(Refusal),
    /// None of the nodes could be reached; nothing was asked.
    #[error("no node can be reached: {0}; is the address right and the node up?")]
    Unreachable(String),
    /// The connection was lost, or the answer late, after the call was sent: it may have been carried out.
    #[error("the answer was lost ({0}); look whether it was carried out before you try again")]
    Lost(String),
}
