//! The node's door to the world. The traits are core's ([`halcyon_core::env`]); this room fills them in for a process.
//!
//! The one place in the node that reads a clock, draws a random number, opens a socket or touches a file.

mod disk;
mod redb_file;
mod system;

pub use disk::LOCK_FILE;
pub(crate) use redb_file::RedbFile;
pub use system::{read_given_file, system};
