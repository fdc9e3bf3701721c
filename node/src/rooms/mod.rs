//! Rooms: who is here, what they do, and what they say. All of it in memory; a room is gone when everybody has left.
//!
//! [`engine`] decides; [`Lobby`] is what the rest of the node sees: `rpc` hands it what clients call and what peers tell.

pub mod engine;
mod events;
mod limits;
mod link;
mod lobby;
mod rate;
mod room;
#[cfg(test)]
mod tests;
mod types;
mod wire;

pub use self::{
    events::RoomEvents,
    link::AnswerError,
    lobby::Lobby,
    types::{
        ConnectionId, Interest, Message, Moment, News, RoomError, RoomKey, RoomName, SessionId, Status, Telling,
        Update, User,
    },
    wire::timestamp,
};
