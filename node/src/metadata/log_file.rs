//! The file of the Raft log, and whether all is still in it that was ever durable.
//!
//! redb writes a commit and what points to it with one sync. Where the last commit does not fit its checksums, it takes
//! the one before: right after a power cut that tore it, and wrong where the disk has changed it since, for a vote would
//! be forgotten, or an entry that counts as durable. A node must tell the two apart (Alagappan et al., Protocol-Aware
//! Recovery for Consensus-Based Storage, FAST 2018). So each commit carries its number, and a second file holds the
//! number of the last that was durable. That is written after the sync and not synced itself, so that it costs next to
//! nothing: a power cut may take it back, and nothing takes it ahead. What is not noticed is a last commit that rots where
//! a power cut took its number too, within some seconds.
//!
//! Older pages are read through once at the open, as redb looks at no checksum later.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use halcyon_core::{
    env::{Env, File},
    mutant::{self, Mutant},
};
use redb::{
    Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, ReadableTable, StorageError,
    WriteTransaction,
};
use thiserror::Error;

use super::{
    limits::LOG_CACHE_BYTES,
    tables::{COMMITS, LOG, MARKS},
};
use crate::env::RedbFile;

/// The file's name in the data directory.
pub(super) const LOG_FILE: &str = "control.redb";

/// The name of the file with the number of the last durable commit: 8 bytes, little-endian, and their CRC-32.
pub(super) const COUNT_FILE: &str = "control.count";

/// See the module.
#[derive(Debug)]
pub(super) struct LogFile {
    database: Database,
    count: Arc<dyn File>,
}

/// What is on the disk is not what was written.
#[derive(Debug, Error)]
enum Damaged {
    #[error(
        "the disk has changed the file `{LOG_FILE}` ({0}); this node may have forgotten how it voted: remove it from the \
         cluster, and join again from an empty directory"
    )]
    Page(String),
    #[error(
        "the last {0} of the commits to the file `{LOG_FILE}` are gone although they were durable: the disk has changed \
         it, or it was replaced by an older copy; this node may have forgotten how it voted: remove it from the cluster, \
         and join again from an empty directory"
    )]
    Commits(u64),
}

impl LogFile {
    /// Made empty where there is none.
    pub(super) fn open(env: &Env) -> io::Result<Self> {
        let file = env.disk.open(LOG_FILE)?;
        let count = env.disk.open(COUNT_FILE)?;
        // redb panics at some of what it cannot have written itself.
        let opened = catch_unwind(AssertUnwindSafe(|| open_checked(file)));
        let database = opened.unwrap_or_else(|_| Err(Damaged::Page("redb gave up".to_owned()).into()))?;
        let file = Self { database, count };
        let lost = read_count(&*file.count)?.saturating_sub(file.commits()?);
        if lost > 0 && !mutant::active(Mutant::LostCommitNotNoticed) {
            return Err(Damaged::Commits(lost).into());
        }
        file.commit(Durability::Immediate, |write| {
            write.open_table(LOG).map_err(io::Error::other)?;
            Ok(())
        })?;
        Ok(file)
    }

    /// What is on the disk now.
    pub(super) fn read(&self) -> io::Result<ReadTransaction> {
        self.database.begin_read().map_err(io::Error::other)
    }

    /// One commit, as durable as `durability` says.
    pub(super) fn commit(
        &self,
        durability: Durability,
        work: impl FnOnce(&WriteTransaction) -> io::Result<()>,
    ) -> io::Result<()> {
        let is_durable = matches!(durability, Durability::Immediate);
        let mut write = self.database.begin_write().map_err(io::Error::other)?;
        write.set_durability(durability).map_err(io::Error::other)?;
        work(&write)?;
        let number = {
            let mut marks = write.open_table(MARKS).map_err(io::Error::other)?;
            let number = commits_in(&marks)? + 1;
            marks
                .insert(COMMITS, number.to_le_bytes().as_slice())
                .map_err(io::Error::other)?;
            number
        };
        write.commit().map_err(io::Error::other)?;
        if is_durable {
            // The commit is there whether or not its number can be written: a later one takes its place.
            if let Err(error) = self.count.write(0, &sealed(number)) {
                tracing::warn!(%error, "`{COUNT_FILE}` cannot be written: lost commits to `{LOG_FILE}` may go unnoticed");
            }
        }
        Ok(())
    }

    fn commits(&self) -> io::Result<u64> {
        match self.read()?.open_table(MARKS) {
            Ok(marks) => commits_in(&marks),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(0),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// Quick repair stays off: it costs a second fsync for each commit, and after a crash redb looks through a file of a few
/// megabytes instead.
fn open_checked(file: Arc<dyn File>) -> io::Result<Database> {
    let opened = Database::builder()
        .set_cache_size(LOG_CACHE_BYTES)
        .create_with_backend(RedbFile(file));
    let mut database = opened.map_err(told)?;
    // Whether it had to mend something is told by the number of commits: a torn one is no damage.
    database.check_integrity().map_err(told)?;
    Ok(database)
}

fn told(error: DatabaseError) -> io::Error {
    match error {
        DatabaseError::Storage(StorageError::Corrupted(what)) => Damaged::Page(what).into(),
        // What does not look like a file of redb, or like one of its first releases.
        DatabaseError::UpgradeRequired(_) => Damaged::Page(error.to_string()).into(),
        DatabaseError::Storage(StorageError::Io(ref io)) if io.kind() == io::ErrorKind::InvalidData => {
            Damaged::Page(error.to_string()).into()
        }
        error => io::Error::other(error),
    }
}

/// A number that a power cut has torn, or that rots, says nothing.
fn read_count(file: &dyn File) -> io::Result<u64> {
    let mut bytes = [0; 12];
    if file.len()? < bytes.len() as u64 {
        return Ok(0);
    }
    file.read(0, &mut bytes)?;
    let number = bytes.first_chunk().map_or(0, |number| u64::from_le_bytes(*number));
    Ok(if sealed(number) == bytes { number } else { 0 })
}

fn sealed(number: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..8]);
    bytes[8..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Of a file that an older release wrote: none.
fn commits_in(marks: &impl ReadableTable<&'static str, &'static [u8]>) -> io::Result<u64> {
    let Some(row) = marks.get(COMMITS).map_err(io::Error::other)? else {
        return Ok(0);
    };
    let bytes = row.value().try_into();
    let bytes = bytes.map_err(|_| Damaged::Page(format!("`{COMMITS}` of {} bytes", row.value().len())))?;
    Ok(u64::from_le_bytes(bytes))
}

impl From<Damaged> for io::Error {
    fn from(damaged: Damaged) -> Self {
        Self::new(io::ErrorKind::InvalidData, damaged)
    }
}
