//! openraft's types, filled in with ours.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    command::{Command, Outcome},
    log_store::encode,
    runtime::Runtime,
    state_store::StateStore,
};

openraft::declare_raft_types!(
    /// The control plane's Raft group. Nodes are bare numbers here; addresses are in the state, so that a change of
    /// address is an ordinary command and not a change of membership.
    pub TypeConfig:
        D = Command,
        R = Outcome,
        NodeId = u64,
        Node = openraft::EmptyNode,
        AsyncRuntime = Runtime
);

pub(super) type Raft = openraft::Raft<TypeConfig, StateStore>;
pub(super) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(super) type Vote = openraft::alias::VoteOf<TypeConfig>;
pub(super) type Entry = openraft::alias::EntryOf<TypeConfig>;
pub(super) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
pub(super) type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotBytes>;
pub(super) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub(super) type RpcError = openraft::errors::RPCError<TypeConfig>;

/// A whole state, encoded.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SnapshotBytes(pub Vec<u8>);

impl fmt::Debug for SnapshotBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What the simulator's oracles hear of an entry: its index, who led when it was proposed (a term and a node), and a hash
/// of its content.
pub(super) fn told(entry: &Entry) -> String {
    let (index, leader) = (entry.log_id.index, entry.log_id.leader_id);
    let content = encode(&entry.payload).unwrap_or_default();
    let hash = crc32fast::hash(&content);
    format!("{index} {} {} {hash:08x}", leader.term, leader.node_id)
}
