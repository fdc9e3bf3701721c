//! What the control plane holds: nodes, tenants, settings, credentials. Pure data; `apply` decides, Raft carries.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    sync::Arc,
};

use halcyon_core::id::{NodeId, RegionName, TenantId, TenantName};
use serde::{Deserialize, Serialize};

use super::{
    answered::Answered,
    log_store::{decode_first, encode},
};

/// SHA-256 of a secret. Secrets themselves are never kept.
pub type SecretHash = [u8; 32];

/// A node that is or was a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// Where it is.
    pub region: RegionName,
    /// Where clients reach it.
    pub client_address: String,
    /// Where peers reach it.
    pub peer_address: String,
    /// What it may hold.
    pub state: NodeState,
}

/// Whether a node may hold tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// It may.
    Active,
    /// Its tenants move elsewhere.
    Draining,
}

/// What a replica of a tenant may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ReplicaState {
    /// It is being filled. It counts as a replica and serves nobody.
    Joining,
    /// It serves.
    Active,
    /// It admits nothing more, and erases its data when the others hold all of it.
    Leaving,
}

/// One access key of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    /// What it is for, in the operator's words.
    pub label: String,
    /// Of the key.
    pub hash: SecretHash,
    /// Milliseconds since 1970.
    pub created_ms: u64,
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Generated.
    pub id: TenantId,
    /// Unique.
    pub name: TenantName,
    /// Where its data may be.
    pub regions: BTreeSet<RegionName>,
    /// The region that coordinates what must be coordinated.
    pub home: RegionName,
    /// Replicas in each region.
    pub nodes_per_region: u32,
    /// Raised by every change of `replicas`.
    pub placement_epoch: u64,
    /// Raised by every collection of tombstones.
    pub collection_epoch: u64,
    /// Who holds it.
    pub replicas: BTreeMap<NodeId, ReplicaState>,
    /// By key id.
    pub keys: BTreeMap<String, AccessKey>,
    /// Overrides, by name.
    pub settings: BTreeMap<String, String>,
}

impl Tenant {
    /// Whether a key of this hash opens it.
    pub fn has_key(&self, hash: &SecretHash) -> bool {
        self.keys.values().any(|key| key.hash == *hash)
    }
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// A nanoid, drawn at bootstrap.
    pub cluster: String,
    /// DER of the cluster's CA certificate.
    pub ca_certificate: Vec<u8>,
    /// PKCS#8 of its key: any node may sign a joining node's certificate.
    pub ca_key: Vec<u8>,
    /// Members.
    pub nodes: BTreeMap<NodeId, Arc<Node>>,
    /// Numbers of nodes that were removed, never used again.
    pub removed_nodes: BTreeSet<NodeId>,
    /// The next node's number.
    pub next_node: u64,
    /// Tenants.
    pub tenants: BTreeMap<TenantId, Arc<Tenant>>,
    /// Names to ids.
    pub names: BTreeMap<TenantName, TenantId>,
    /// Deleted tenants, with the nodes that still have to erase them.
    pub erasing: BTreeMap<TenantId, BTreeSet<NodeId>>,
    /// Overrides of cluster settings, by name.
    pub settings: BTreeMap<String, String>,
    /// Join tokens, with their expiry in milliseconds since 1970.
    pub tokens: BTreeMap<SecretHash, u64>,
    /// Admin credentials.
    pub admins: BTreeSet<SecretHash>,
    /// The last joins: what was drawn for each, and the number it got.
    pub joins: VecDeque<(u128, NodeId)>,
    /// The last commands' answers. In a snapshot they stand behind the rest.
    #[serde(skip)]
    pub answered: Answered,
}

impl State {
    /// As a snapshot has it.
    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let mut bytes = encode(self)?;
        bytes.extend(encode(&self.answered)?);
        Ok(bytes)
    }

    /// From a snapshot; one of a release that remembered no answers ends before them.
    pub(super) fn decode(bytes: &[u8]) -> io::Result<Self> {
        let (mut state, rest): (Self, &[u8]) = decode_first(bytes)?;
        if !rest.is_empty() {
            (state.answered, _) = decode_first(rest)?;
        }
        Ok(state)
    }
}
