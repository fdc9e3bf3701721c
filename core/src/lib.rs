//! What a Halcyon node and its clients must agree on: ids, values, changes, time, merge, version vectors.
//!
//! Nothing here does I/O, reads a clock or draws a random number; the caller passes in what it needs. So the same
//! bytes give the same state on a node, in a browser and in the simulator.

pub mod change;
pub mod clock;
pub mod codec;
pub mod collections;
pub mod coverage;
pub mod env;
pub mod fact;
pub mod fingerprint;
pub mod graph;
pub mod id;
pub mod limits;
pub mod merge;
pub mod mutant;
pub mod numbers;
pub mod query;
pub mod store;
pub mod value;
pub mod version_vector;
