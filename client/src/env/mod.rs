//! The world of a native client: the system, as the node has it ([`halcyon_system`]), with files of its own.

mod disk;

use std::{io, path::Path, sync::Arc};

use halcyon_core::env::{Disk, Env};

use self::disk::{DirectoryDisk, MemoryDisk};

/// The system: files in `dir`, made where it does not exist, or files in memory without one.
pub fn system(dir: Option<&Path>) -> io::Result<Env> {
    let disk: Arc<dyn Disk> = match dir {
        Some(path) => Arc::new(DirectoryDisk::open(path)?),
        None => Arc::new(MemoryDisk::default()),
    };
    Ok(halcyon_system::around(disk))
}
