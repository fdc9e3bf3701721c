//! The outbox on disk: change sets that wait for their acknowledgement, the floor of the clock, and what queries cover.
//!
//! Many writes share one fsync: a single task commits whatever has arrived. A set that is let go leaves the file with
//! the next commit; if a crash comes first it is pushed again, and answered as taken before.

mod tables;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use halcyon_core::{change::ChangeSet, clock::NTP64, env::Env};
use halcyon_system::RedbFile;
use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
    WriteTransaction,
};

use self::tables::{COVERAGE, FACTS, NUMBERS, QUERIES, SETS, WRITTEN};
use crate::{
    engine::{Record, Table},
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
    /// Go with the next commit.
    staged: Mutex<Vec<Record>>,
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
    /// What queries covered.
    pub(crate) rows: Vec<Record>,
}

/// A table of rows.
type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// The tables of rows.
const ROWS: [(Table, Rows); 4] = [
    (Table::Facts, FACTS),
    (Table::Coverage, COVERAGE),
    (Table::Queries, QUERIES),
    (Table::Written, WRITTEN),
];

impl OutboxFile {
    /// Opens the file of this name, made where it does not exist.
    pub(crate) async fn open(env: &Env, name: &str) -> Result<(Arc<Self>, Left), OutboxError> {
        env.run_blocking(|| {
            let file = env.disk.open(name).map_err(disk)?;
            let mut builder = Builder::new();
            builder.set_cache_size(CACHE_BYTES);
            let database = builder.create_with_backend(RedbFile(file)).map_err(disk)?;
            let left = read_left(&database)?;
            let outbox = Self {
                database,
                forgotten: Mutex::default(),
                staged: Mutex::default(),
            };
            Ok((Arc::new(outbox), left))
        })
        .await
    }

    /// Makes sets durable, new ones and those with a new timestamp.
    pub(crate) async fn commit(&self, env: &Env, sets: &[Stored], floor: Floor) -> Result<(), OutboxError> {
        env.run_blocking(|| self.commit_here(sets, floor)).await
    }

    /// Takes rows for the next commit, which is whole or not at all.
    pub(crate) fn stage(&self, rows: Vec<Record>) {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner).extend(rows);
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

    /// Deletes what was let go, and commits what is staged.
    pub(crate) async fn tidy(&self, env: &Env, floor: Floor) -> Result<(), OutboxError> {
        env.run_blocking(|| self.commit_here(&[], floor)).await
    }

    /// Makes durable how far was pushed, and nothing else: what a later commit says of the rest stays.
    pub(crate) async fn keep_pushed(&self, env: &Env, pushed: NTP64) -> Result<(), OutboxError> {
        env.run_blocking(|| {
            let write = self.database.begin_write().map_err(disk)?;
            raise_pushed(&mut write.open_table(NUMBERS).map_err(disk)?, pushed)?;
            write.commit().map_err(disk)
        })
        .await
    }

    fn commit_here(&self, sets: &[Stored], floor: Floor) -> Result<(), OutboxError> {
        if sets.is_empty() && self.is_tidy() {
            return Ok(());
        }
        self.write(sets, floor)
    }

    fn is_tidy(&self) -> bool {
        let forgotten = self.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
        let staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        forgotten.is_empty() && staged.is_empty()
    }

    fn write(&self, sets: &[Stored], floor: Floor) -> Result<(), OutboxError> {
        let forgotten = std::mem::take(&mut *self.forgotten.lock().unwrap_or_else(PoisonError::into_inner));
        let staged = std::mem::take(&mut *self.staged.lock().unwrap_or_else(PoisonError::into_inner));
        let write = self.database.begin_write().map_err(disk)?;
        write_rows(&write, staged)?;
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
            raise_pushed(&mut numbers, floor.pushed)?;
            if let Some(last) = sets.iter().map(|set| set.place.0).max() {
                let before = numbers.get("place").map_err(disk)?.map_or(0, |guard| guard.value());
                numbers.insert("place", last.max(before)).map_err(disk)?;
            }
        }
        write.commit().map_err(disk)
    }
}

/// Another write, with a later floor, may have overtaken this one.
fn raise_pushed(numbers: &mut redb::Table<'_, &'static str, u64>, pushed: NTP64) -> Result<(), OutboxError> {
    let before = numbers.get("pushed").map_err(disk)?.map_or(0, |guard| guard.value());
    numbers.insert("pushed", pushed.0.max(before)).map_err(disk)?;
    Ok(())
}

fn write_rows(write: &WriteTransaction, rows: Vec<Record>) -> Result<(), OutboxError> {
    let mut of_table: BTreeMap<Table, Vec<Record>> = BTreeMap::new();
    for row in rows {
        of_table.entry(row.table).or_default().push(row);
    }
    for (name, definition) in ROWS {
        let Some(rows) = of_table.remove(&name) else { continue };
        let mut table = write.open_table(definition).map_err(disk)?;
        for row in rows {
            match row.value {
                Some(value) => table.insert(&*row.key, &*value).map_err(disk)?,
                None => table.remove(&*row.key).map_err(disk)?,
            };
        }
    }
    Ok(())
}

fn read_rows(read: &ReadTransaction) -> Result<Vec<Record>, OutboxError> {
    let mut rows = Vec::new();
    for (table, definition) in ROWS {
        for entry in read.open_table(definition).map_err(disk)?.iter().map_err(disk)? {
            let (key, value) = entry.map_err(disk)?;
            rows.push(Record {
                table,
                key: key.value().to_vec(),
                value: Some(value.value().to_vec()),
            });
        }
    }
    Ok(rows)
}

fn read_left(database: &Database) -> Result<Left, OutboxError> {
    // Opening a table makes it where it is missing.
    let write = database.begin_write().map_err(disk)?;
    {
        let sets = write.open_table(SETS).map_err(disk)?;
        let mut numbers = write.open_table(NUMBERS).map_err(disk)?;
        if sets.is_empty().map_err(disk)? {
            // Nothing is left of what was pushed.
            numbers.insert("pushed", 0).map_err(disk)?;
        }
    }
    for (_, definition) in ROWS {
        write.open_table(definition).map_err(disk)?;
    }
    write.commit().map_err(disk)?;
    let read = database.begin_read().map_err(disk)?;
    let numbers = read.open_table(NUMBERS).map_err(disk)?;
    let number = |name: &str, absent| {
        let found = numbers.get(name).map_err(disk)?;
        Ok::<_, OutboxError>(found.map_or(absent, |guard| guard.value()))
    };
    Ok(Left {
        sets: read_sets(&read)?,
        floor: Floor {
            stamped: NTP64(number("stamped", 0)?),
            accepted: NTP64(number("accepted", 0)?),
            // An earlier release did not say how far it had pushed: all that it left.
            pushed: NTP64(number("pushed", u64::MAX)?),
        },
        place: Place(number("place", 0)?),
        rows: read_rows(&read)?,
    })
}

fn read_sets(read: &ReadTransaction) -> Result<Vec<Stored>, OutboxError> {
    let mut sets = Vec::new();
    for entry in read.open_table(SETS).map_err(disk)?.iter().map_err(disk)? {
        let (place, bytes) = entry.map_err(disk)?;
        let set = ChangeSet::decode(bytes.value())?;
        sets.push(Stored {
            place: Place(place.value()),
            timestamp: set.timestamp,
            bytes: bytes.value().to_vec().into(),
        });
    }
    Ok(sets)
}

fn disk(error: impl fmt::Display) -> OutboxError {
    OutboxError::Disk(error.to_string())
}
