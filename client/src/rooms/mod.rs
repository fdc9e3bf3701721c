//! Rooms: who is here, what they do, and what they say.
//!
//! [`RoomView`] and [`InOrder`] are pure and belong to every host; [`Room`] is the native driver.

#[cfg(feature = "native")]
mod driver;
mod order;
mod view;

#[cfg(feature = "native")]
pub use self::driver::{Room, RoomDoor, RoomError};
pub use self::{
    order::{InOrder, Ordered},
    view::{RoomChanges, RoomMessage, RoomUser, RoomView},
};
