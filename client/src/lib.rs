//! The library apps use to read, write and watch a Halcyon tenant.
//!
//! [`Client`] goes to the nearest node that holds the tenant, moves when that one fails or becomes slow, and keeps every
//! change set in its outbox until a node has acknowledged it. [`AdminClient`] is for operators.

mod admin;
mod client;
pub mod env;
mod error;
mod limits;
mod navigate;
mod nodes;
mod outbox;
mod push;
mod query;
mod read;
mod routing;
mod session;
mod shared;
mod transport;
mod types;
mod watch;
mod writer;

pub use admin::AdminClient;
pub use client::{Client, Pending};
pub use error::{AdminError, ConnectError, FlushError, OutboxError, ReadError, Refused, Unacknowledged, WriteError};
pub use halcyon_proto::{
    convert::{Location, Replica, ScanQuery, Triple},
    error::{ErrorCode, Refusal},
    v1,
};
pub use limits::PUSH_DEADLINE;
pub use query::{Explanation, QueryAnswer, QueryRows};
pub use types::{Acknowledged, ClientOptions, ClientStatus, Outbox, ScanPage, WatchEvent};
