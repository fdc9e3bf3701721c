//! A file of [`halcyon_core::env`] under redb.

use std::{io, sync::Arc};

use halcyon_core::env::File;

/// Lets redb keep its pages in one of `Env`'s files, so that the simulator's faulty disk lies under the real code.
#[derive(Debug)]
pub struct RedbFile(
    /// Opened for redb alone.
    pub Arc<dyn File>,
);

impl redb::StorageBackend for RedbFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}
