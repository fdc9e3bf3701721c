//! The index: one redb file per shard, written only by folds, each one durable transaction with the log's watermark.

use std::sync::Arc;

use halcyon_core::{env::File, id::TenantId};
use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable};

use super::{
    careful::careful,
    keys,
    layer::{Layer, Overlay},
    sealed::{Damage, SealedFile, is_plain},
    state::TenantState,
    tables::{META, TABLES, TENANTS, Table},
    types::StorageError,
};
use crate::env::RedbFile;

/// The version of everything under a storage directory: tables, rows, log. 2: what is prepared for a collection has its
/// barrier, and unset registers are not collected. 3: the index's pages have seals.
pub(super) const FORMAT: u64 = 3;

/// In `META` when a fold has removed an erased tenant's rows and their bytes may still be in the files.
pub(super) const ERASED: &str = "erased";

/// Rows of the index, in the order of their keys.
pub(super) type BaseRange = redb::Range<'static, &'static [u8], &'static [u8]>;

type Rows = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// What the index held after one fold. Reads of it do not block, and are not blocked by, the next fold.
pub(super) struct Base {
    tables: Option<[Rows; TABLES]>,
}

impl std::fmt::Debug for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Base")
    }
}

/// Why a shard's file cannot be opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// A newer release wrote it.
    #[error("the data directory has storage format {found}; this release knows formats up to {FORMAT}: upgrade it")]
    NewerFormat {
        /// The format found.
        found: u64,
    },
    /// The log has a hole: acknowledged change sets are lost.
    #[error("log of shard {shard} is damaged: {reason}; restore this node from its peers")]
    DamagedLog {
        /// Which shard.
        shard: usize,
        /// What is wrong.
        reason: String,
    },
    /// A page of the index is not what was written.
    #[error("index of shard {shard} is damaged: {reason}")]
    DamagedIndex {
        /// Which shard.
        shard: usize,
        /// What is wrong.
        reason: String,
    },
    /// See there.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What a shard's file says about itself.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) index: Arc<Index>,
    pub(super) base: Base,
    pub(super) log_id: u64,
    pub(super) watermark: u64,
    pub(super) next_tenant: u32,
    pub(super) tenants: Vec<(TenantId, TenantState)>,
    /// Whether files may still hold bytes of a tenant that was erased.
    pub(super) erased: bool,
    /// Whether an earlier release made the file, without seals.
    pub(super) is_plain: bool,
}

/// A shard's file.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) db: Database,
    pub(super) cache_bytes: usize,
    pub(super) damage: Arc<Damage>,
}

/// What a fold writes.
#[derive(Debug, Clone)]
pub(super) struct Fold {
    /// The newest first.
    pub(super) layers: Vec<Arc<Layer>>,
    /// The last log frame in the layers.
    pub(super) watermark: u64,
    pub(super) next_tenant: u32,
}

impl Index {
    /// Opens a shard's file, or makes it; `log_id` is for one that is new.
    pub(super) fn open(file: Arc<dyn File>, cache_bytes: usize, log_id: u64) -> Result<Opened, OpenError> {
        careful(|| Self::open_file(file, cache_bytes, log_id))
    }

    fn open_file(file: Arc<dyn File>, cache_bytes: usize, log_id: u64) -> Result<Opened, OpenError> {
        let mut builder = Database::builder();
        builder.set_cache_size(cache_bytes);
        let is_plain = is_plain(&*file).map_err(disk_error)?;
        let damage = Arc::<Damage>::default();
        let file = if is_plain {
            file
        } else {
            Arc::new(SealedFile::new(file, Arc::clone(&damage)))
        };
        let db = builder.create_with_backend(RedbFile(file)).map_err(disk_error)?;
        let index = Self {
            db,
            cache_bytes,
            damage,
        };
        index.migrate(log_id)?;
        let transaction = index.db.begin_read().map_err(disk_error)?;
        let meta = transaction.open_table(META).map_err(disk_error)?;
        let number = |name: &'static str| -> Result<u64, StorageError> {
            Ok(meta.get(name).map_err(disk_error)?.map_or(0, |value| value.value()))
        };
        let (log_id, watermark) = (number("log")?, number("watermark")?);
        let next_tenant = u32::try_from(number("tenants")?).unwrap_or(u32::MAX).max(1);
        let mut tenants = Vec::new();
        let records = transaction.open_table(TENANTS).map_err(disk_error)?;
        for row in records.iter().map_err(disk_error)? {
            let (key, value) = row.map_err(disk_error)?;
            let damaged = |error| StorageError::Damaged {
                table: "tenants",
                error,
            };
            let id = <[u8; 16]>::try_from(key.value()).unwrap_or([0xff; 16]);
            let id = TenantId::from_bytes(id).map_err(damaged)?;
            tenants.push((id, TenantState::decode(value.value()).map_err(damaged)?));
        }
        Ok(Opened {
            erased: number(ERASED)? > 0,
            is_plain,
            base: index.base()?,
            index: Arc::new(index),
            log_id,
            watermark,
            next_tenant,
            tenants,
        })
    }

    /// Makes what is missing, and takes an older format to this one, step by step.
    fn migrate(&self, log_id: u64) -> Result<(), OpenError> {
        let mut transaction = self.db.begin_write().map_err(disk_error)?;
        transaction.set_quick_repair(true);
        {
            let mut meta = transaction.open_table(META).map_err(disk_error)?;
            let found = meta.get("format").map_err(disk_error)?.map(|value| value.value());
            match found {
                Some(FORMAT) => return Ok(()),
                Some(found) if found > FORMAT => return Err(OpenError::NewerFormat { found }),
                // From 1 to 2: tenants' records and log entries say which they are and are read as they stand, and an
                // unset register of format 1 leaves what is collected when its turn comes. Nothing is rewritten.
                // From 2 to 3: who opens a shard has its index copied into a file with seals.
                Some(_) => {}
                None => {
                    meta.insert("log", log_id).map_err(disk_error)?;
                    meta.insert("tenants", 1).map_err(disk_error)?;
                }
            }
            meta.insert("format", FORMAT).map_err(disk_error)?;
            transaction.open_table(TENANTS).map_err(disk_error)?;
            for table in Table::ALL {
                transaction.open_table(table.definition()).map_err(disk_error)?;
            }
        }
        transaction.commit().map_err(disk_error)?;
        Ok(())
    }

    /// Frees the pages that the last fold replaced, once nobody reads the state before it any more: the next fold
    /// then takes those instead of making the file larger.
    pub(super) fn release(&self) -> Result<(), StorageError> {
        careful(|| {
            let mut transaction = self.db.begin_write().map_err(disk_error)?;
            transaction.set_quick_repair(true);
            transaction.commit().map_err(disk_error)
        })
    }

    /// The state as of the last fold.
    pub(super) fn base(&self) -> Result<Base, StorageError> {
        let transaction = self.db.begin_read().map_err(disk_error)?;
        let mut tables = Vec::with_capacity(TABLES);
        for table in Table::ALL {
            tables.push(transaction.open_table(table.definition()).map_err(disk_error)?);
        }
        let tables = tables.try_into().ok();
        Ok(Base { tables })
    }

    /// Writes layers in the order of keys, durably, and answers with the state after it.
    pub(super) fn fold(&self, fold: &Fold) -> Result<Base, StorageError> {
        careful(|| self.write(fold))
    }

    fn write(&self, fold: &Fold) -> Result<Base, StorageError> {
        let mut transaction = self.db.begin_write().map_err(disk_error)?;
        transaction.set_durability(Durability::Immediate).map_err(disk_error)?;
        transaction.set_quick_repair(true);
        {
            let mut erased = Vec::new();
            for table in Table::ALL {
                let mut rows = transaction.open_table(table.definition()).map_err(disk_error)?;
                let layers = fold.layers.iter().map(Arc::as_ref);
                for (key, row) in Overlay::new(layers, table, &[], None) {
                    match row {
                        Some(value) => drop(rows.insert(key, value).map_err(disk_error)?),
                        None => drop(rows.remove(key).map_err(disk_error)?),
                    }
                    if table == Table::Erased && row.is_some() {
                        erased.push(key.to_vec());
                    }
                }
            }
            remove_erased(&transaction, &erased)?;
            let mut meta = transaction.open_table(META).map_err(disk_error)?;
            if !erased.is_empty() {
                meta.insert(ERASED, 1).map_err(disk_error)?;
            }
            meta.insert("watermark", fold.watermark).map_err(disk_error)?;
            meta.insert("tenants", u64::from(fold.next_tenant))
                .map_err(disk_error)?;
            let mut tenants = transaction.open_table(TENANTS).map_err(disk_error)?;
            for layer in fold.layers.iter().rev() {
                for (id, state) in &layer.tenants {
                    let key = id.to_bytes();
                    match state {
                        Some(state) => drop(
                            tenants
                                .insert(key.as_slice(), state.encode().as_slice())
                                .map_err(disk_error)?,
                        ),
                        None => drop(tenants.remove(key.as_slice()).map_err(disk_error)?),
                    }
                }
            }
        }
        transaction.commit().map_err(disk_error)?;
        self.base()
    }
}

impl Base {
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let Some(tables) = &self.tables else { return Ok(None) };
        careful(|| {
            let row = tables[table as usize].get(key).map_err(disk_error)?;
            Ok(row.map(|row| row.value().to_vec()))
        })
    }

    /// Rows from `from` to before `to`.
    pub(super) fn range(
        &self,
        table: Table,
        from: &[u8],
        to: Option<&[u8]>,
    ) -> Result<Option<BaseRange>, StorageError> {
        let Some(tables) = &self.tables else { return Ok(None) };
        let table = &tables[table as usize];
        careful(|| {
            Ok(Some(match to {
                Some(to) if to <= from => return Ok(None),
                Some(to) => table.range(from..to).map_err(disk_error)?,
                None => table.range(from..).map_err(disk_error)?,
            }))
        })
    }
}

/// Removes every row of erased tenants.
fn remove_erased(transaction: &redb::WriteTransaction, erased: &[Vec<u8>]) -> Result<(), StorageError> {
    for prefix in erased {
        let end = keys::after(prefix).expect("a number's first byte is its length");
        for table in Table::ALL {
            let mut rows = transaction.open_table(table.definition()).map_err(disk_error)?;
            rows.retain_in(prefix.as_slice()..end.as_slice(), |_, _| false)
                .map_err(disk_error)?;
        }
    }
    Ok(())
}

/// Any of redb's errors, as ours.
pub(super) fn disk_error(error: impl Into<redb::Error>) -> StorageError {
    StorageError::Disk(error.into().to_string().into())
}
