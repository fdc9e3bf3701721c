//! The node's door to the world. The traits are core's ([`halcyon_core::env`]), their system is the client's too
//! ([`halcyon_system`]); the disk is the node's own.
//!
//! The one place in the node that touches a file.

mod disk;

use std::{io, path::Path, sync::Arc};

use halcyon_core::env::Env;
pub(crate) use halcyon_system::RedbFile;

use self::disk::DirectoryDisk;
pub use self::disk::LOCK_FILE;

/// The real world, with `data_dir` as the disk. Makes the directory where it does not exist, for the owner alone, and
/// holds its lock until the `Env` is dropped.
pub fn system(data_dir: &Path) -> io::Result<Env> {
    Ok(halcyon_system::around(Arc::new(DirectoryDisk::open(data_dir)?)))
}

/// A file that the operator named: certificates lie outside the data directory.
pub fn read_given_file(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path)
}
