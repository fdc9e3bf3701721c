//! Halcyon's engine for JavaScript: the store, the queries, the merge and the wire of the Rust crates, without I/O.
//!
//! Whoever loads the module brings in what happens (a write, an answer, a message of a stream, what a disk holds) and
//! takes out what is to be done (a body to send, records to keep, changes of answers to show). It has no import: no
//! clock, no chance, no network. So the same bytes give the same state in a worker, in Node and in the tests here.
//!
//! [`Engine`] is the state; `door` is how JavaScript reaches the one engine of a module.

mod answers;
mod door;
mod engine;
mod outbox;
mod record;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
mod wire;
mod write;

pub use answers::SubscribeError;
pub use engine::Engine;
pub use outbox::Settled;
pub use record::Record;
pub use wire::WireError;
pub use write::WriteError;
