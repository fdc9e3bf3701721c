//! What the first operator is asked to do while a run goes on.

use halcyon_core::id::NodeId;

use crate::{
    plan::cluster::{Host, Tenant},
    topology::Region,
};

/// What an operator is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// A host joins.
    Join(Host),
    /// A host's tenants move away.
    Drain(Host),
    /// A node is no member any more.
    Remove(Host, NodeId),
    /// A node that was drained is no member any more, as soon as nothing is left on it.
    Leave(Host, NodeId),
    /// A tenant is placed anew.
    Place {
        /// Which.
        tenant: Tenant,
        /// Where.
        regions: Vec<Region>,
        /// The first of them.
        home: Region,
        /// In each.
        nodes_per_region: u32,
    },
}
