//! Halcyon's client for JavaScript: the engine of the crate `halcyon-client`, without I/O, behind a door of bytes.
//!
//! Whoever loads the module brings in what happens (a write, an answer, an event of the session, what a disk holds) and
//! takes out what is to be done (a body to send, records to keep, changes of answers to show). It has no import: no
//! clock, no chance, no network. So the same bytes give the same state in a worker, in Node and in the tests here.
//!
//! [`Client`] is the state; `door` is how JavaScript reaches the one client of a module.

const _: () = assert!(
    !halcyon_core::mutant::POSSIBLE,
    "the module is built without mutants: they are known bugs for halcyon-chaos to find"
);

mod client;
mod disk;
mod door;
mod news;
mod room;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
mod wire;
mod write;

pub use client::Client;
pub use disk::DiskError;
pub use wire::WireError;
pub use write::WriteError;
