//! Where things are: round trips between nodes, who can be reached, and what to tell a client that asks for a tenant.
//!
//! Every node probes every other. A probe's answer carries the round trips that the other has measured, so each node
//! knows the whole matrix, at most one interval late.

mod distance;
mod probes;

pub use distance::{Candidate, Track, order};
pub(crate) use probes::micros;
pub use probes::{PeerHealth, Routing};
