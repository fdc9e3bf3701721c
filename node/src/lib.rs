//! The Halcyon node: a regional sync server in one process.
//!
//! Rooms, and who may ask whom: `rpc -> {tenant, replication, metadata, routing} -> query -> storage`. A tenant does not know who
//! replicates it. Only `env` touches the world; only `storage` and `metadata::store` touch the disk it gives.

pub mod cli;
pub mod config;
pub mod env;
pub mod limits;
pub mod live;
pub mod metadata;
pub mod metrics;
pub mod peers;
pub mod query;
pub mod replication;
pub mod rooms;
pub mod routing;
pub mod rpc;
pub mod server;
pub mod session;
pub mod site;
pub mod storage;
pub mod tenant;
