//! The whole cluster in one process, from one seed; and the same chaos on real processes.

pub mod lin;
pub mod model;
pub mod plan;
pub mod shrink;
pub mod timeline;
pub mod topology;
