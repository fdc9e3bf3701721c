//! The whole cluster in one process, from one seed; and the same chaos on real processes.

pub mod cli;
pub mod lin;
pub mod local;
pub mod model;
pub mod oracles;
pub mod plan;
pub mod run;
pub mod shrink;
pub mod timeline;
pub mod topology;
mod workload;
pub mod world;
