//! Erased means erased: after an erasure the index is copied into a fresh file, because redb's free pages keep what
//! was in them.
//!
//! A shard's index has generations, one file each; a small record names the one that counts. The copy is durable before
//! the record is replaced, and whatever file the record does not name is removed by the next open: a crash at any
//! point leaves one generation that is whole.

use std::{io, sync::Arc, time::Duration};

use halcyon_core::env::{Access, Disk};
use redb::{Durability, ReadableDatabase, ReadableTable};

use super::{
    base::{Base, ERASED, Index, OpenError, disk_error},
    careful::careful,
    limits::REWRITE_BYTES,
    tables::{META, TENANTS, Table},
    types::StorageError,
};

/// Which file a shard's index is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation {
    shard: usize,
    number: u64,
}

/// Bytes of erased tenants are to leave the files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purge {
    /// The last frame of the log that may hold any.
    pub(super) frame: u64,
    /// When, by the monotonic clock.
    pub(super) due: Duration,
}

impl Purge {
    /// What an earlier run of the process did not finish.
    pub(super) const fn at_once(frame: u64) -> Self {
        Self {
            frame,
            due: Duration::ZERO,
        }
    }
}

/// A copy that has taken the place of the index.
#[derive(Debug)]
pub(super) struct Rewritten {
    pub(super) generation: Generation,
    pub(super) index: Arc<Index>,
}

/// Why an index was not rewritten.
#[derive(Debug)]
pub(super) enum RewriteError {
    /// Nothing has changed; it may be tried again.
    Copy(StorageError),
    /// Which generation counts is not known before the next open.
    Switch(StorageError),
}

impl From<StorageError> for RewriteError {
    fn from(error: StorageError) -> Self {
        Self::Copy(error)
    }
}

impl Generation {
    /// The one that counts. Removes the files of all others.
    pub(super) fn current(disk: &dyn Disk, shard: usize) -> io::Result<Self> {
        let mut current = Self { shard, number: 0 };
        if let Some(bytes) = disk.read_small(&current.record())? {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let damaged = |_| io::Error::other(format!("{} says {text:?}", current.record()));
            current.number = text.trim().parse().map_err(damaged)?;
        }
        let first = Self { shard, number: 0 }.file_name();
        for name in disk.list()? {
            if name.starts_with(&first) && name != current.file_name() {
                disk.remove(&name)?;
            }
        }
        Ok(current)
    }

    pub(super) fn file_name(self) -> String {
        match self.number {
            0 => format!("shard-{}.redb", self.shard),
            number => format!("shard-{}.redb-{number}", self.shard),
        }
    }

    const fn next(self) -> Self {
        Self {
            number: self.number + 1,
            ..self
        }
    }

    /// The small file that says what is damaged in the index.
    pub(super) fn damage_record(self) -> String {
        format!("shard-{}.damaged", self.shard)
    }

    fn record(self) -> String {
        format!("shard-{}.current", self.shard)
    }
}

/// Copies the index into the next generation and makes that the one that counts. `show` gets it before the old file
/// goes.
pub(super) fn rewrite(
    disk: &dyn Disk,
    index: &Index,
    generation: Generation,
    show: impl FnOnce(Base),
) -> Result<Rewritten, RewriteError> {
    let next = generation.next();
    let opened = careful(|| open_copy(disk, index, next));
    let (copy, base) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            disk.remove(&next.file_name()).map_err(disk_error)?;
            return Err(error.into());
        }
    };
    let switch = |error| RewriteError::Switch(disk_error(error));
    let record = format!("{}\n", next.number);
    disk.write_small(&next.record(), record.as_bytes(), Access::Normal)
        .map_err(switch)?;
    show(base);
    disk.remove(&generation.file_name()).map_err(switch)?;
    Ok(Rewritten {
        generation: next,
        index: copy,
    })
}

fn open_copy(disk: &dyn Disk, index: &Index, next: Generation) -> Result<(Arc<Index>, Base), StorageError> {
    // A try before this one may have left a part.
    disk.remove(&next.file_name()).map_err(disk_error)?;
    let file = disk.open(&next.file_name()).map_err(disk_error)?;
    let opened = Index::open(file, index.cache_bytes, 0).map_err(|error| match error {
        OpenError::Storage(error) => error,
        other => StorageError::Disk(other.to_string().into()),
    });
    let copy = opened?.index;
    copy_rows(index, &copy)?;
    let base = copy.base()?;
    Ok((copy, base))
}

/// All rows, in the order of keys, in transactions of a bounded size; what makes them an index of this shard comes last.
fn copy_rows(from: &Index, to: &Index) -> Result<(), StorageError> {
    let read = from.db.begin_read().map_err(disk_error)?;
    for table in Table::ALL {
        let rows = read.open_table(table.definition()).map_err(disk_error)?;
        let mut rows = rows.iter().map_err(disk_error)?.peekable();
        while rows.peek().is_some() {
            let mut transaction = to.db.begin_write().map_err(disk_error)?;
            transaction.set_durability(Durability::Immediate).map_err(disk_error)?;
            let mut copied = transaction.open_table(table.definition()).map_err(disk_error)?;
            let mut bytes = 0;
            while bytes < REWRITE_BYTES
                && let Some(row) = rows.next()
            {
                let (key, value) = row.map_err(disk_error)?;
                bytes += key.value().len() + value.value().len();
                copied.insert(key.value(), value.value()).map_err(disk_error)?;
            }
            drop(copied);
            transaction.commit().map_err(disk_error)?;
        }
    }
    let mut transaction = to.db.begin_write().map_err(disk_error)?;
    transaction.set_quick_repair(true);
    {
        let mut copied = transaction.open_table(TENANTS).map_err(disk_error)?;
        for row in read
            .open_table(TENANTS)
            .map_err(disk_error)?
            .iter()
            .map_err(disk_error)?
        {
            let (key, value) = row.map_err(disk_error)?;
            copied.insert(key.value(), value.value()).map_err(disk_error)?;
        }
        let mut copied = transaction.open_table(META).map_err(disk_error)?;
        for row in read.open_table(META).map_err(disk_error)?.iter().map_err(disk_error)? {
            let (name, value) = row.map_err(disk_error)?;
            if name.value() != ERASED {
                copied.insert(name.value(), value.value()).map_err(disk_error)?;
            }
        }
    }
    transaction.commit().map_err(disk_error)
}
