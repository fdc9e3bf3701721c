//! Other nodes: who they are, how they prove it, and how to reach them.
//!
//! Everything between nodes is mutual TLS 1.3 under the cluster's own CA. Who a caller is says its certificate and
//! nothing else.

pub(crate) mod answers;
pub mod authority;
mod identity;
mod pool;
pub mod secret;
pub mod tls;
pub mod token;

pub use identity::{Identity, IdentityError};
pub use pool::{PeerClient, Pool, UnknownPeer};
pub(crate) use pool::{endpoint, limited, versions_in};
