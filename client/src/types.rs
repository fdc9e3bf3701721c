//! What a program hands to a client, and what it gets back.

use std::time::Duration;

use halcyon_core::{
    change::ChangeSet,
    id::{NodeId, RegionName, Tag},
    version_vector::VersionVector,
};
use halcyon_proto::{convert::Triple, error::Refusal};
use prost::bytes::Bytes;

use crate::{engine::Field, limits::READ_TOTAL};

/// How a client reaches its tenant and where it keeps what is not acknowledged yet.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Nodes to start from, `host:port` each. Any node of the cluster will do.
    pub addresses: Vec<String>,
    /// The tenant's id or name.
    pub tenant: String,
    /// One of the tenant's access keys.
    pub key: String,
    /// The app's user, as the tenant's rules see it.
    pub user: Option<String>,
    /// Where change sets wait for their acknowledgement.
    pub outbox: Outbox,
    /// The certificate authority of the nodes' client listener, PEM or DER; none speaks without TLS.
    pub ca_certificate: Option<Vec<u8>>,
    /// Only `addresses` can be reached: have them pass calls on to the nodes that hold the tenant.
    pub forward: bool,
    /// Only `addresses` are asked, never a nearer replica: one of them has to hold the tenant.
    pub pinned: bool,
    /// How long a read may take with all its attempts, also at other nodes.
    pub read_deadline: Duration,
    /// Come up even where no node can be reached now: writes wait in the outbox.
    pub offline: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            addresses: vec!["127.0.0.1:7700".to_owned()],
            tenant: String::new(),
            key: String::new(),
            user: None,
            outbox: Outbox::Memory,
            ca_certificate: None,
            forward: false,
            pinned: false,
            read_deadline: READ_TOTAL,
            offline: false,
        }
    }
}

/// Where change sets wait for their acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outbox {
    /// In memory: gone with the process.
    Memory,
    /// In the file of this name on the client's disk: pushed after a restart.
    Disk(String),
}

/// A change set that a node made durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// Where it is.
    pub tag: Tag,
    /// Places, in the set, of changes that lost to a deletion or to an entity long gone.
    pub superseded: Vec<u32>,
    /// Places of changes to fields that had a later write of another value already. They are part of the set all the same.
    pub overwritten: Vec<u32>,
    /// It had been taken before; an earlier answer was lost, and with it what was overwritten then.
    pub again: bool,
}

/// What became of a write.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A node made it durable, whole.
    Acknowledged {
        /// Where it is.
        tag: Tag,
    },
    /// A node made it durable, but some of it had lost already: to a deletion, to an entity long gone, or to a later write
    /// of the same field of one value.
    Superseded {
        /// Where it is.
        tag: Tag,
        /// What lost. What lost to a deletion shows no more; what lost to a later write, once that write is here.
        fields: Vec<Field>,
    },
    /// A node refused it for good, with its reason. It shows no more.
    Refused(Refusal),
}

/// A page of a scan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanPage {
    /// In the order of the index that the node used.
    pub triples: Vec<Triple>,
    /// For the next page; empty when there is no more.
    pub cursor: Bytes,
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// Forget what this watch told: it was away for so long that deletions of that time are no longer known. All that
    /// holds follows.
    Anew,
    /// A part of what was missed: no order, only the changes that still hold, not whole before `CaughtUp`.
    Missed(ChangeSet),
    /// All that was missed is in. The watcher holds this vector now.
    CaughtUp(VersionVector),
    /// One change set, whole.
    Live {
        /// The commit that brought it.
        tag: Tag,
        /// Its changes, without those that were superseded at their origin.
        set: ChangeSet,
    },
}

/// What a client is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientStatus {
    /// The node it speaks to.
    pub node: Option<NodeId>,
    /// That node's region.
    pub region: Option<RegionName>,
    /// That node's address.
    pub address: Option<String>,
    /// Change sets that wait for their acknowledgement.
    pub outbox: usize,
    /// Of these, sets that a node keeps while no second region has them, where the tenant asks for that.
    pub held_by_one: usize,
    /// Acknowledged sets that are kept until a second replica holds them.
    pub kept: usize,
    /// What it has seen: its own acknowledged sets and all that its watches delivered.
    pub vector: VersionVector,
}
