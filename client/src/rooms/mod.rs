//! Rooms: who is here, what they do, and what they say.
//!
//! [`RoomView`] and [`InOrder`] are pure and belong to every host; [`Room`] is the native driver.

#[cfg(feature = "native")]
mod driver;
mod order;
mod view;

pub use self::{
    driver::{Room, RoomDoor, RoomError},
    order::{InOrder, Ordered},
    view::{RoomChanges, RoomMessage, RoomUser, RoomView},
};
