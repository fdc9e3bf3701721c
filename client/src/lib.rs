//! The library apps use to read, write and watch a Halcyon tenant.
//!
//! [`Client`] goes to the nearest node that holds the tenant, moves when that one fails or becomes slow, and keeps every
//! change set in its outbox until a node has acknowledged it. [`AdminClient`] is for operators.
//!
//! [`engine`] is the client without sockets, files and tasks. Built without the feature `native` the crate is that
//! alone, for other hosts: a browser, say.

#[cfg(feature = "native")]
mod admin;
#[cfg(feature = "native")]
mod client;
pub mod engine;
#[cfg(feature = "native")]
pub mod env;
#[cfg(feature = "native")]
mod error;
#[cfg_attr(
    not(feature = "native"),
    expect(dead_code, reason = "the bounds of sockets, files and tasks")
)]
mod limits;
#[cfg(feature = "native")]
mod live;
#[cfg(feature = "native")]
mod navigate;
#[cfg(feature = "native")]
mod nodes;
#[cfg(feature = "native")]
mod outbox;
#[cfg(feature = "native")]
mod pages;
#[cfg(feature = "native")]
mod push;
#[cfg(feature = "native")]
mod query;
#[cfg(feature = "native")]
mod read;
pub mod rooms;
#[cfg(feature = "native")]
mod routing;
mod session;
#[cfg(feature = "native")]
mod shared;
#[cfg(feature = "native")]
mod transport;
mod types;
#[cfg(feature = "native")]
mod watch;
#[cfg(feature = "native")]
mod writer;

#[cfg(feature = "native")]
pub use admin::AdminClient;
#[cfg(feature = "native")]
pub use client::{Client, Pending};
#[cfg(feature = "native")]
pub use error::{AdminError, ConnectError, FlushError, OutboxError, ReadError, Refused, Unacknowledged, WriteError};
pub use halcyon_proto::{
    convert::{Location, Replica, ScanQuery, Triple},
    error::{ErrorCode, Refusal},
    v1,
};
pub use limits::{KEPT_BYTES_MAX, KEPT_SETS_MAX, PUSH_DEADLINE};
#[cfg(feature = "native")]
pub use live::LiveQuery;
#[cfg(feature = "native")]
pub use pages::{Pages, ScanPlace};
#[cfg(feature = "native")]
pub use query::{Explanation, QueryAnswer, QueryRows};
pub use types::{Acknowledged, ClientOptions, ClientStatus, Outbox, Outcome, ScanPage, WatchEvent};
