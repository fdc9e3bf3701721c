//! What the rest of the node says to storage, and what storage answers.

use std::sync::Arc;

use halcyon_core::{
    change::ChangeSet,
    clock::{DriftError, Timestamp, WallTime},
    codec::DecodeError,
    fact::Fact,
    fingerprint::Fingerprint,
    id::{EntityId, NodeId, Predicate, Seq, Tag, TenantId},
    value::Value,
    version_vector::VersionVector,
};
use prost::bytes::Bytes;
use thiserror::Error;

/// A disk failed, or what it holds is damaged. The tenant's state is as before.
#[derive(Debug, Clone, Error)]
pub enum StorageError {
    /// The disk said no.
    #[error("disk: {0}")]
    Disk(Arc<str>),
    /// A record on disk cannot be read.
    #[error("damaged record in {table}: {error}")]
    Damaged {
        /// Where.
        table: &'static str,
        /// How.
        error: DecodeError,
    },
    /// The writer has stopped: the node is shutting down, or a disk failed before.
    #[error("storage is closed")]
    Closed,
    /// The writer stopped while it was at it.
    #[error("storage stopped before it could say; it may be done")]
    Unanswered,
    /// This node holds nothing of the tenant.
    #[error("tenant {0} is not held here")]
    NotHeld(TenantId),
    /// A scan's cursor comes from another replica, or from before this one was filled anew.
    #[error("this cursor belongs to another replica of the tenant; start the scan again")]
    BadCursor,
}

/// A client's change set, checked by `tenant::admit`.
#[derive(Debug, Clone)]
pub struct Admit {
    /// The tenant.
    pub tenant: TenantId,
    /// The set, as decoded.
    pub set: ChangeSet,
    /// The same set, as the client encoded it.
    pub encoded: Bytes,
    /// What the client has seen. An entity is only called unknown by a node that covers it.
    pub client_vector: Arc<VersionVector>,
    /// Now, for the moment a tombstone was received.
    pub now: WallTime,
    /// Its timestamp is too far ahead of this node's clock: it is answered if it was taken before, and refused if not.
    pub ahead: Option<DriftError>,
}

/// A set that is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Where it is.
    pub tag: Tag,
    /// Places of changes that lost to a tombstone or to an unknown entity.
    pub superseded: Vec<u32>,
    /// Places of changes to fields that a later write has given another value. They are kept and passed on.
    pub overwritten: Vec<u32>,
    /// It had been taken before.
    pub again: bool,
}

/// Why a set was not taken. It left no trace.
#[derive(Debug, Clone, Error)]
pub enum AdmitError {
    /// The replica is joining or leaving.
    #[error("this replica of the tenant takes no writes now")]
    NotServing,
    /// The number was taken with other content.
    #[error("change set {0} of this client was taken before with other content")]
    NumberReused(u64),
    /// The client's numbers have too many holes.
    #[error("the numbers of this client have too many holes; open a new client incarnation")]
    NumbersFull,
    /// The entity is unknown, and the client has seen more than this node.
    #[error("this node lags behind what the client has seen")]
    Behind,
    /// See there.
    #[error(transparent)]
    Ahead(DriftError),
    /// The queue is full.
    #[error("too many change sets are waiting")]
    Busy,
    /// See there.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A change set that another node committed first.
#[derive(Debug, Clone)]
pub struct GossipSet {
    /// The tenant.
    pub tenant: TenantId,
    /// Where its origin put it.
    pub tag: Tag,
    /// The sender's.
    pub collection_epoch: u64,
    /// The encoded set, without what its origin answered as superseded.
    pub encoded: Bytes,
    /// Hash of the set as the client sent it.
    pub content_hash: u64,
}

/// What became of a gossiped set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GossipOutcome {
    /// It is durable, and the vector moved.
    Taken,
    /// It was held already.
    Held,
    /// There is a hole before it; nothing was taken. The vector's seq for its origin.
    Gap(Seq),
    /// This node may not take it: the tenant is not held, or the epochs differ.
    NotHere,
    /// It cannot be decoded, or taking it failed; the vector stays.
    Failed,
}

/// What an interrupted catch-up left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeToken {
    /// The first peer's vector at its snapshot.
    pub vector: VersionVector,
    /// All that the first peer had seen, its vector included.
    pub seen: VersionVector,
    /// The last commit whose facts arrived whole.
    pub progress: Tag,
}

/// A batch of a catch-up stream. Batches of one stream come in order.
#[derive(Debug, Clone)]
pub struct DeltaBatch {
    /// The tenant.
    pub tenant: TenantId,
    /// In the order of their tags; a commit's facts are all in one batch.
    pub facts: Vec<Fact>,
    /// The serving peer's vector and `seen` at its snapshot. With the last tag they become the resume token.
    pub vector: VersionVector,
    /// See `vector`.
    pub seen: VersionVector,
    /// The delta is whole with this batch: the vector moves and the token goes.
    pub complete: bool,
    /// Now, for the moment a tombstone was received.
    pub now: WallTime,
}

/// What a replica of a tenant is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The version vector.
    pub vector: VersionVector,
    /// The largest seq of any fact taken in, per origin; covers `vector`.
    pub seen: VersionVector,
    /// Over live facts.
    pub fingerprint: Fingerprint,
    /// Live triples.
    pub triples: u64,
    /// Tombstones, removed elements and unset registers.
    pub tombstones: u64,
    /// Changes that are kept without being understood.
    pub opaque: u64,
    /// How often tombstones were collected.
    pub collection_epoch: u64,
    /// Takes writes.
    pub admitting: bool,
}

impl Summary {
    /// The vector covers all that was seen: no half of a delta is in.
    pub fn is_exact(&self) -> bool {
        self.vector.covers(&self.seen)
    }
}

/// A live triple.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveTriple {
    /// The entity.
    pub subject: EntityId,
    /// The field.
    pub predicate: Predicate,
    /// The value.
    pub value: Value,
    /// When it was written.
    pub timestamp: Timestamp,
}

/// Which triples a scan wants. Every bound narrows it.
#[derive(Debug, Clone, Default)]
pub struct ScanQuery {
    /// Of this entity.
    pub subject: Option<EntityId>,
    /// Of this field.
    pub predicate: Option<Predicate>,
    /// Of entities of this type.
    pub entity_type: Option<String>,
    /// With a predicate: values not below.
    pub from: Option<Value>,
    /// With a predicate: values below.
    pub to: Option<Value>,
    /// Triples in a page, at the most.
    pub limit: usize,
    /// From the page before.
    pub cursor: Bytes,
}

/// A page of a scan.
#[derive(Debug, Clone, Default)]
pub struct ScanPage {
    /// In the order of the index that was used.
    pub triples: Vec<LiveTriple>,
    /// Empty when there is no more.
    pub cursor: Bytes,
}

/// What can be collected: something that says that a fact is gone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum CellKey {
    /// A deleted entity.
    Tombstone(EntityId),
    /// An unset register.
    Register(EntityId, Predicate),
    /// A removed element.
    Element(EntityId, Predicate, Value),
}

/// What became of a collection that the control plane decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectOutcome {
    /// What was prepared is gone, and the epoch is the new one.
    Collected,
    /// Nothing was prepared for this epoch (a restored backup, say): hand over what only this node holds, then refill
    /// from nothing.
    MustRefill,
}

/// How a commit came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// This node is its origin.
    Client,
    /// From this peer.
    Gossip(NodeId),
}

/// A change set that became durable here, whole.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The tenant.
    pub tenant: TenantId,
    /// Where its origin put it.
    pub tag: Tag,
    /// Without what was superseded at its origin.
    pub set: Arc<ChangeSet>,
    /// The same, encoded.
    pub encoded: Bytes,
    /// Hash of the set as the client sent it.
    pub content_hash: u64,
    /// See there.
    pub collection_epoch: u64,
    /// How it came.
    pub via: Via,
}

/// What storage tells the node about, after the fsync and in the order of commits.
#[derive(Debug, Clone)]
pub enum StorageEvent {
    /// A set is in.
    Committed(Arc<Commit>),
    /// A whole delta is in: the vector moved by more than single sets.
    CaughtUp(TenantId),
    /// The tenant is no longer here.
    Erased(TenantId),
    /// Something is wrong with the disk or with what it holds.
    Alarm {
        /// The tenant it concerns, if it is one.
        tenant: Option<TenantId>,
        /// For people.
        message: String,
    },
}

/// Hears of commits. Called on the writer: it must not block.
pub trait CommitSink: Send + Sync {
    /// These became visible, in this order.
    fn on_events(&self, events: Vec<StorageEvent>);
}
