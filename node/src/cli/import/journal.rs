//! What an interrupted import left behind: how many rows of which file are durable.
//!
//! It lies beside the file as `FILE.halcyon-import`, or, where that directory cannot be written, under
//! `~/.local/state/halcyon`. It only saves work: ids come from the rows, and a row that is sent twice writes the same
//! again, so a lost journal doubles nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// What an import is: another file, tenant or option makes another import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportId {
    /// Of the file's bytes.
    pub file_hash: u64,
    /// Id or name, as it was given.
    pub tenant: String,
    /// Of the options that say what rows mean.
    pub options_hash: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    import: ImportId,
    rows_durable: u64,
}

const VERSION: u32 = 1;

/// Remembers how far an import has come.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// Where it goes if it cannot be written there.
    fallback: Option<PathBuf>,
    import: ImportId,
    rows_durable: u64,
}

impl Journal {
    /// Opens the journal of this import. One that cannot be read, or is of other content, counts for nothing. That of
    /// another import of the same content (into another tenant, say) is left alone.
    pub fn open(file: &Path, import: ImportId) -> Self {
        let name = |own: bool| {
            let mut name = file.as_os_str().to_owned();
            name.push(".halcyon-import");
            if own {
                name.push(format!("-{:016x}", hash_of(&import)));
            }
            PathBuf::from(name)
        };
        let candidates = [name(false), name(true)];
        let is_free = |path: &&PathBuf| read(path).is_none_or(|record| record.import.file_hash != import.file_hash);
        let elsewhere = candidates.iter().filter_map(|path| elsewhere(path));
        let found = candidates.iter().cloned().chain(elsewhere).find_map(|path| {
            let record = read(&path).filter(|record| record.import == import)?;
            Some((path, record.rows_durable))
        });
        let (path, rows_durable) = found.unwrap_or_else(|| {
            let free = candidates.iter().find(is_free);
            (free.unwrap_or(&candidates[1]).clone(), 0)
        });
        Self {
            fallback: elsewhere_unless_there(&path),
            path,
            import,
            rows_durable,
        }
    }

    /// Rows, from the start of the file, that need not be sent again.
    pub const fn rows_durable(&self) -> u64 {
        self.rows_durable
    }

    /// Forgets what was found: start anew.
    pub const fn restart(&mut self) {
        self.rows_durable = 0;
    }

    /// These rows, from the start of the file, are durable now.
    pub fn advance(&mut self, rows_durable: u64) -> io::Result<()> {
        self.rows_durable = rows_durable;
        let written = self.write();
        if written.is_err()
            && let Some(path) = self.fallback.take()
        {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            self.path = path;
            return self.write();
        }
        written
    }

    /// The import is complete.
    pub fn finish(self) {
        let _ = fs::remove_file(&self.path);
    }

    fn write(&self) -> io::Result<()> {
        let record = Record {
            version: VERSION,
            import: self.import.clone(),
            rows_durable: self.rows_durable,
        };
        let temporary = self.path.with_extension("halcyon-import-new");
        fs::write(&temporary, serde_json::to_vec(&record)?)?;
        fs::rename(&temporary, &self.path)
    }
}

fn read(path: &Path) -> Option<Record> {
    let record: Record = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (record.version == VERSION).then_some(record)
}

fn hash_of(import: &ImportId) -> u64 {
    let text = format!("{} {} {}", import.file_hash, import.options_hash, import.tenant);
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}

/// For a journal that cannot lie beside its file. One name for each path, so that two files of one name do not share one.
fn elsewhere(journal: &Path) -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state"));
    elsewhere_in(&state.or_else(home)?, journal)
}

fn elsewhere_in(state: &Path, journal: &Path) -> Option<PathBuf> {
    let directory = Some(journal.parent()?).filter(|directory| !directory.as_os_str().is_empty());
    let directory = fs::canonicalize(directory.unwrap_or(Path::new("."))).ok()?;
    let full = directory.join(journal.file_name()?);
    let hash = xxhash_rust::xxh3::xxh3_64(full.as_os_str().as_encoded_bytes());
    Some(state.join("halcyon").join(format!("{hash:016x}.halcyon-import")))
}

fn elsewhere_unless_there(journal: &Path) -> Option<PathBuf> {
    elsewhere(journal).filter(|path| path != journal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(file_hash: u64) -> ImportId {
        ImportId {
            file_hash,
            tenant: "demo".into(),
            options_hash: 1,
        }
    }

    #[test]
    fn an_import_goes_on_where_it_was_and_another_starts_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.csv");
        let mut journal = Journal::open(&file, id(7));
        assert_eq!(journal.rows_durable(), 0);
        journal.advance(40).unwrap();
        assert_eq!(Journal::open(&file, id(7)).rows_durable(), 40);
        assert_eq!(Journal::open(&file, id(8)).rows_durable(), 0);
        let other = |tenant: &str| ImportId {
            tenant: tenant.into(),
            ..id(7)
        };
        let mut second = Journal::open(&file, other("second"));
        second.advance(3).unwrap();
        assert_eq!(
            Journal::open(&file, id(7)).rows_durable(),
            40,
            "another import overwrote it"
        );
        assert_eq!(Journal::open(&file, other("second")).rows_durable(), 3);
        Journal::open(&file, id(8)).advance(5).unwrap();
        assert_eq!(Journal::open(&file, id(7)).rows_durable(), 0, "the file is another now");
        Journal::open(&file, id(8)).finish();
        Journal::open(&file, id(7)).finish();
        assert_eq!(Journal::open(&file, id(7)).rows_durable(), 0);
    }
}
