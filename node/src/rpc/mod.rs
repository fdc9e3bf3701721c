//! The node's edges: what clients, operators and peers say, decoded, handed to one room, and the answer encoded.
//!
//! No rules live here, only who may ask (`auth`), how much (`edge`, `listener`) and how a refusal looks (`status`).

mod admin;
mod admin_data;
mod alarms;
mod auth;
mod describe;
mod edge;
mod fresh;
mod http;
mod join;
pub mod listener;
mod peer;
mod queries;
mod removal;
mod room_calls;
mod rooms;
mod sessions;
mod status;
mod sync;

pub use alarms::Alarms;
pub use edge::Readiness;
pub use http::client_router;
pub use join::{JoinError, Joined, Place, forget_request, join};
pub use peer::peer_router;
pub use removal::Removal;
pub use rooms::Rooms;
