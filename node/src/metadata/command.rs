//! What changes the control plane, and what comes back.
//!
//! Applying a command is pure: ids, secrets' hashes and times are drawn by whoever proposes it and travel inside. A
//! command may come twice (an answer was lost, the proposer tried again), with those of others in between: it carries an
//! id then, by which the second copy gets the first one's answer and changes nothing ([`Command::Once`]).
//!
//! The encoding is postcard's, so variants and fields are only ever added at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use halcyon_core::id::{NodeId, RegionName, TenantId, TenantName};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::state::{AccessKey, Node, ReplicaState, SecretHash};

/// A new placement of one tenant, computed by the leader from the tenant at `expected_epoch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The tenant.
    pub tenant: TenantId,
    /// Dropped unless the tenant is still at this epoch.
    pub expected_epoch: u64,
    /// All its replicas.
    pub replicas: BTreeMap<NodeId, ReplicaState>,
}

/// One change of the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The first command of a cluster.
    Bootstrap {
        /// The cluster's id: a nanoid.
        cluster: String,
        /// DER.
        ca_certificate: Vec<u8>,
        /// PKCS#8.
        ca_key: Vec<u8>,
        /// Hash of the first admin credential.
        admin: SecretHash,
        /// The first node.
        node: Node,
    },
    /// Another admin credential.
    AddAdmin(SecretHash),
    /// Takes an admin credential back. The last one stays.
    RevokeAdmin(SecretHash),
    /// A join token.
    AddToken {
        /// Of the token's secret.
        hash: SecretHash,
        /// Milliseconds since 1970.
        expires_ms: u64,
        /// The proposer's time: tokens that expired before it are forgotten.
        now_ms: u64,
    },
    /// A node joins with a token. Answered with its number.
    Join {
        /// Drawn once for each join: the same join asked for again gets the same number.
        request: u128,
        /// Of the token's secret.
        token: SecretHash,
        /// The proposer's time, against the token's expiry.
        now_ms: u64,
        /// Where the node is.
        region: RegionName,
        /// Where clients reach it.
        client_address: String,
        /// Where peers reach it.
        peer_address: String,
    },
    /// A node is reached elsewhere from now on.
    UpdateAddresses {
        /// The node.
        node: NodeId,
        /// For clients.
        client_address: String,
        /// For peers.
        peer_address: String,
    },
    /// Moves a node's tenants elsewhere, or (`false`) lets it hold tenants again.
    DrainNode {
        /// The node.
        node: NodeId,
        /// Whether it drains.
        draining: bool,
    },
    /// Takes a node out for good. Its number never returns.
    RemoveNode {
        /// The node.
        node: NodeId,
        /// Even if it holds the only filled replica of a tenant.
        force: bool,
    },
    /// A new tenant. Its replicas are chosen here and serve at once.
    CreateTenant {
        /// Drawn by the proposer.
        id: TenantId,
        /// Unique.
        name: TenantName,
        /// Where its data may be.
        regions: BTreeSet<RegionName>,
        /// One of `regions`.
        home: RegionName,
        /// Replicas in each region.
        nodes_per_region: u32,
        /// Its first access key, by id.
        key: Option<(String, AccessKey)>,
    },
    /// Changes where a tenant's data may be. What is `None` stays.
    PlaceTenant {
        /// The tenant.
        tenant: TenantId,
        /// Where its data may be.
        regions: Option<BTreeSet<RegionName>>,
        /// One of `regions`.
        home: Option<RegionName>,
        /// Replicas in each region.
        nodes_per_region: Option<u32>,
    },
    /// Ends a tenant. Its name is free at once; its replicas erase it.
    DeleteTenant(TenantId),
    /// A node has erased a deleted tenant.
    Erased {
        /// The tenant.
        tenant: TenantId,
        /// The node.
        node: NodeId,
    },
    /// Another access key.
    CreateKey {
        /// The tenant.
        tenant: TenantId,
        /// The key's id.
        id: String,
        /// The key.
        key: AccessKey,
    },
    /// Takes a key back.
    RevokeKey {
        /// The tenant.
        tenant: TenantId,
        /// The key's id.
        id: String,
    },
    /// Sets a tenant's setting; an empty value takes it back to its default.
    SetTenantSetting {
        /// The tenant.
        tenant: TenantId,
        /// The setting.
        name: String,
        /// Its value.
        value: String,
    },
    /// Sets a cluster setting; an empty value takes it back to its default.
    SetSetting {
        /// The setting.
        name: String,
        /// Its value.
        value: String,
    },
    /// A joining replica is filled.
    ReplicaReady {
        /// The tenant.
        tenant: TenantId,
        /// The replica.
        node: NodeId,
        /// At which it was found to be filled.
        placement_epoch: u64,
    },
    /// A leaving replica has erased its data.
    ReplicaGone {
        /// The tenant.
        tenant: TenantId,
        /// The replica.
        node: NodeId,
        /// At which it was leaving.
        placement_epoch: u64,
    },
    /// Every replica holds the tombstones that this epoch forgets.
    Collected {
        /// The tenant.
        tenant: TenantId,
        /// The new epoch: one more than the present.
        epoch: u64,
    },
    /// New placements, from the leader's reconciler.
    SetReplicas(Vec<Placement>),
    /// A command that is carried out once, however often it is proposed.
    Once {
        /// Drawn by the proposer, for all its tries.
        id: u128,
        /// Any other.
        command: Box<Command>,
    },
}

impl Command {
    /// What it does, whether or not it is carried out once.
    pub fn deed(&self) -> &Self {
        match self {
            Self::Once { command, .. } => command.deed(),
            other => other,
        }
    }
}

impl fmt::Display for Command {
    /// The variant's name alone: a command may hold keys, and openraft writes it to logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.deed() {
            Self::Once { .. } => unreachable!("a deed is none"),
            Self::Bootstrap { .. } => "Bootstrap",
            Self::AddAdmin(_) => "AddAdmin",
            Self::RevokeAdmin(_) => "RevokeAdmin",
            Self::AddToken { .. } => "AddToken",
            Self::Join { .. } => "Join",
            Self::UpdateAddresses { .. } => "UpdateAddresses",
            Self::DrainNode { .. } => "DrainNode",
            Self::RemoveNode { .. } => "RemoveNode",
            Self::CreateTenant { .. } => "CreateTenant",
            Self::PlaceTenant { .. } => "PlaceTenant",
            Self::DeleteTenant(_) => "DeleteTenant",
            Self::Erased { .. } => "Erased",
            Self::CreateKey { .. } => "CreateKey",
            Self::RevokeKey { .. } => "RevokeKey",
            Self::SetTenantSetting { .. } => "SetTenantSetting",
            Self::SetSetting { .. } => "SetSetting",
            Self::ReplicaReady { .. } => "ReplicaReady",
            Self::ReplicaGone { .. } => "ReplicaGone",
            Self::Collected { .. } => "Collected",
            Self::SetReplicas(_) => "SetReplicas",
        };
        f.write_str(name)
    }
}

/// What a command that was carried out answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It is done.
    #[default]
    Done,
    /// The number of the node that joined.
    Joined(NodeId),
    /// Nodes that have a deleted tenant to erase.
    Erasing(BTreeSet<NodeId>),
    /// How many of the placements still fitted.
    Placed(u32),
}

/// Why a command was refused. It changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum Refusal {
    /// Another cluster was bootstrapped here.
    #[error("this node belongs to a cluster already")]
    AlreadyBootstrapped,
    /// No such tenant.
    #[error("there is no tenant {0}")]
    UnknownTenant(TenantId),
    /// The name is another tenant's.
    #[error("the name {0} is taken")]
    NameTaken(TenantName),
    /// The id is another tenant's, or one's that is being erased.
    #[error("the tenant id {0} is taken")]
    TenantIdTaken(TenantId),
    /// No node is in this region.
    #[error("there is no node in region {0}")]
    UnknownRegion(RegionName),
    /// Home is outside the tenant's regions.
    #[error("home {0} is not one of the tenant's regions")]
    HomeOutsideRegions(RegionName),
    /// A tenant without a region.
    #[error("a tenant needs at least one region")]
    NoRegion,
    /// No such node.
    #[error("there is no node {0}")]
    UnknownNode(NodeId),
    /// The node was removed; its number never returns.
    #[error("node {0} was removed; join it anew with an empty data directory")]
    NodeRemoved(NodeId),
    /// Another node is reached there.
    #[error("node {node} is at {address} already; remove it first")]
    AddressTaken {
        /// The other node.
        node: NodeId,
        /// The address.
        address: String,
    },
    /// A cluster without nodes.
    #[error("{0} is the last node")]
    LastNode(NodeId),
    /// Removing the node would lose a tenant's data.
    #[error(
        "node {node} holds the only filled replica of tenant {tenant}; drain it, give a tenant of one region another \
         (halcyon tenant place), or force"
    )]
    OnlyReplica {
        /// The node.
        node: NodeId,
        /// The tenant.
        tenant: TenantId,
    },
    /// No such join token.
    #[error("the join token is not known here")]
    TokenUnknown,
    /// The token's time is over.
    #[error("the join token has expired")]
    TokenExpired,
    /// No such key.
    #[error("tenant {tenant} has no key {key}")]
    UnknownKey {
        /// The tenant.
        tenant: TenantId,
        /// The key's id.
        key: String,
    },
    /// The key id has another key.
    #[error("key {0} exists")]
    KeyExists(String),
    /// A setting's name or value is wrong.
    #[error("setting {name}: {reason}")]
    Setting {
        /// As given.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The placement has changed in the meantime.
    #[error("the placement of tenant {tenant} is at epoch {current}")]
    StalePlacement {
        /// The tenant.
        tenant: TenantId,
        /// Its epoch.
        current: u64,
    },
    /// The replica is not in the state that the command ends.
    #[error("{node} is no such replica of tenant {tenant}")]
    NotSuchReplica {
        /// The tenant.
        tenant: TenantId,
        /// The node.
        node: NodeId,
    },
    /// The collection epoch does not follow the present one.
    #[error("the collection epoch of tenant {tenant} is {current}")]
    CollectionEpoch {
        /// The tenant.
        tenant: TenantId,
        /// Its epoch.
        current: u64,
    },
    /// The last admin credential cannot be taken back.
    #[error("this is the last admin credential")]
    LastAdmin,
    /// Too much or too many.
    #[error("{what}: at most {max}")]
    Limit {
        /// Of what.
        what: String,
        /// The bound.
        max: u64,
    },
}

/// A reply or a refusal: what applying answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome(pub Result<Reply, Refusal>);

impl Default for Outcome {
    fn default() -> Self {
        Self(Ok(Reply::Done))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_ok() { "done" } else { "refused" })
    }
}
