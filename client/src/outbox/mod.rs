//! The outbox on disk: change sets that wait for their acknowledgement, and the floor of the clock.
//!
//! Many writes share one fsync: a single task commits whatever has arrived. A set that is let go leaves the file with
//! the next commit; if a crash comes first it is pushed again, and answered as taken before.

mod backend;
mod tables;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use halcyon_core::{change::ChangeSet, clock::NTP64, env::Env};
use redb::{Builder, Database, ReadableDatabase, ReadableTable};

use self::{
    backend::FileBackend,
    tables::{NUMBERS, SETS},
};
use crate::{
    error::OutboxError,
    session::{Floor, Place, Stored},
};

/// An outbox is a few pages; redb's own default would be a gigabyte.
const CACHE_BYTES: usize = 4 << 20;

/// Sets let go before they are deleted without waiting for a write.
const FORGOTTEN_MAX: usize = 1_024;

/// The file.
pub(crate) struct OutboxFile {
    database: Database,
    forgotten: Mutex<Vec<Place>>,
}

impl fmt::Debug for OutboxFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OutboxFile")
    }
}

/// What an earlier run left.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// In the order of their places.
    pub(crate) sets: Vec<Stored>,
    /// The floor of the clock.
    pub(crate) floor: Floor,
    /// The last place given out.
    pub(crate) place: Place,
}

impl OutboxFile {
    /// Opens the file of this name, made where it does not exist.
    pub(crate) async fn open(env: &Env, name: &str) -> Result<(Arc<Self>, Left), OutboxError> {
        env.run_blocking(|| {
            let file = env.disk.open(name).map_err(disk)?;
            let mut builder = Builder::new();
            builder.set_cache_size(CACHE_BYTES);
            let database = builder.create_with_backend(FileBackend(file)).map_err(disk)?;
            let left = read_left(&database)?;
            let forgotten = Mutex::default();
            Ok((Arc::new(Self { database, forgotten }), left))
        })
        .await
    }

    /// Makes sets durable, new ones and those with a new timestamp.
    pub(crate) async fn commit(&self, env: &Env, sets: &[Stored], floor: Floor) -> Result<(), OutboxError> {
        env.run_blocking(|| self.commit_here(sets, floor)).await
    }

    /// Lets sets go. They leave the file with the next commit.
    pub(crate) async fn forget(&self, env: &Env, places: Vec<Place>, floor: Floor) -> Result<(), OutboxError> {
        let waiting = {
            let mut forgotten = self.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
            forgotten.extend(places);
            forgotten.len()
        };
        if waiting > FORGOTTEN_MAX {
            self.tidy(env, floor).await?;
        }
        Ok(())
    }

    /// Deletes what was let go.
    pub(crate) async fn tidy(&self, env: &Env, floor: Floor) -> Result<(), OutboxError> {
        env.run_blocking(|| self.commit_here(&[], floor)).await
    }

    fn commit_here(&self, sets: &[Stored], floor: Floor) -> Result<(), OutboxError> {
        let forgotten = std::mem::take(&mut *self.forgotten.lock().unwrap_or_else(PoisonError::into_inner));
        if sets.is_empty() && forgotten.is_empty() {
            return Ok(());
        }
        let write = self.database.begin_write().map_err(disk)?;
        {
            let mut table = write.open_table(SETS).map_err(disk)?;
            for set in sets {
                table.insert(set.place.0, &*set.bytes).map_err(disk)?;
            }
            for place in forgotten {
                table.remove(place.0).map_err(disk)?;
            }
            let mut numbers = write.open_table(NUMBERS).map_err(disk)?;
            numbers.insert("stamped", floor.stamped.0).map_err(disk)?;
            numbers.insert("accepted", floor.accepted.0).map_err(disk)?;
            if let Some(last) = sets.iter().map(|set| set.place.0).max() {
                let before = numbers.get("place").map_err(disk)?.map_or(0, |guard| guard.value());
                numbers.insert("place", last.max(before)).map_err(disk)?;
            }
        }
        write.commit().map_err(disk)
    }
}

fn read_left(database: &Database) -> Result<Left, OutboxError> {
    // Opening a table makes it where it is missing.
    let write = database.begin_write().map_err(disk)?;
    write.open_table(SETS).map_err(disk)?;
    write.open_table(NUMBERS).map_err(disk)?;
    write.commit().map_err(disk)?;
    let read = database.begin_read().map_err(disk)?;
    let numbers = read.open_table(NUMBERS).map_err(disk)?;
    let number = |name: &str| numbers.get(name).map(|found| found.map_or(0, |guard| guard.value()));
    let mut left = Left {
        sets: Vec::new(),
        floor: Floor {
            stamped: NTP64(number("stamped").map_err(disk)?),
            accepted: NTP64(number("accepted").map_err(disk)?),
        },
        place: Place(number("place").map_err(disk)?),
    };
    for entry in read.open_table(SETS).map_err(disk)?.iter().map_err(disk)? {
        let (place, bytes) = entry.map_err(disk)?;
        let set = ChangeSet::decode(bytes.value())?;
        left.sets.push(Stored {
            place: Place(place.value()),
            timestamp: set.timestamp,
            bytes: bytes.value().to_vec().into(),
        });
    }
    Ok(left)
}

fn disk(error: impl fmt::Display) -> OutboxError {
    OutboxError::Disk(error.to_string())
}
