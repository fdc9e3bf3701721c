//! A client's files: in a directory, or in memory.
//!
//! A directory may serve several processes: each file is locked by the one that has it open.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use halcyon_core::env::{Access, BoxFuture, Disk, File};
use tokio::runtime::{Handle, RuntimeFlavor};

/// A directory.
#[derive(Debug)]
pub(super) struct DirectoryDisk {
    path: PathBuf,
}

impl DirectoryDisk {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        fs::create_dir_all(path).map_err(named)?;
        Ok(Self { path: path.to_owned() })
    }

    /// The path of a plain name.
    fn path_of(&self, name: &str) -> io::Result<PathBuf> {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\\', '\0']) {
            let text = format!("{name:?} is not a plain file name");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(self.path.join(name))
    }

    /// Makes what changed in the directory itself durable.
    fn sync_directory(&self) -> io::Result<()> {
        if cfg!(unix) {
            fs::File::open(&self.path)?.sync_all()
        } else {
            Ok(())
        }
    }
}

impl Disk for DirectoryDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let path = self.path_of(name)?;
        let is_new = !path.try_exists()?;
        let mut options = fs::OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let file = owner_only(&mut options).open(&path)?;
        file.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => {
                let text = format!("{} is in use by another process", path.display());
                io::Error::new(io::ErrorKind::ResourceBusy, text)
            }
            fs::TryLockError::Error(error) => error,
        })?;
        if is_new {
            self.sync_directory()?;
        }
        Ok(Arc::new(DiskFile { file }))
    }

    fn write_small(&self, name: &str, bytes: &[u8], access: Access) -> io::Result<()> {
        let path = self.path_of(name)?;
        let temporary = self.path_of(&format!("{name}.tmp"))?;
        let mut options = fs::OpenOptions::new();
        options.create(true).truncate(true).write(true);
        let options = match access {
            Access::Normal => &mut options,
            Access::Secret => owner_only(&mut options),
        };
        let file = options.open(&temporary)?;
        io::Write::write_all(&mut &file, bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        self.sync_directory()
    }

    fn read_small(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path_of(name)?) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let entries: io::Result<Vec<_>> = fs::read_dir(&self.path)?.collect();
        let mut names: Vec<_> = entries?
            .into_iter()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path_of(name)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.sync_directory()
    }

    fn run<'a>(&'a self, work: Box<dyn FnOnce() + Send + 'a>) -> BoxFuture<'a, ()> {
        run_here(work)
    }
}

/// Stays on the thread where the runtime has others to go on with: a hop to another thread costs more than the work.
fn run_here<'a>(work: Box<dyn FnOnce() + Send + 'a>) -> BoxFuture<'a, ()> {
    Box::pin(async move {
        match Handle::current().runtime_flavor() {
            RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
            _ => work(),
        }
    })
}

#[cfg(unix)]
fn owner_only(options: &mut fs::OpenOptions) -> &mut fs::OpenOptions {
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600)
}

#[cfg(not(unix))]
fn owner_only(options: &mut fs::OpenOptions) -> &mut fs::OpenOptions {
    options
}

#[derive(Debug)]
struct DiskFile {
    file: fs::File,
}

#[cfg(unix)]
impl File for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, buffer, offset)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.file, bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Files in memory: gone with the process.
#[derive(Debug, Default)]
pub(super) struct MemoryDisk {
    files: Mutex<BTreeMap<String, Arc<MemoryFile>>>,
}

impl MemoryDisk {
    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Arc<MemoryFile>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for MemoryDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.files().entry(name.to_owned()).or_default().clone())
    }

    fn write_small(&self, name: &str, bytes: &[u8], _access: Access) -> io::Result<()> {
        let file = MemoryFile {
            bytes: Mutex::new(bytes.to_vec()),
        };
        self.files().insert(name.to_owned(), Arc::new(file));
        Ok(())
    }

    fn read_small(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.files().get(name).map(|file| file.bytes().clone()))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files().keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files().remove(name);
        Ok(())
    }

    fn run<'a>(&'a self, work: Box<dyn FnOnce() + Send + 'a>) -> BoxFuture<'a, ()> {
        run_here(work)
    }
}

#[derive(Debug, Default)]
struct MemoryFile {
    bytes: Mutex<Vec<u8>>,
}

impl MemoryFile {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl File for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes();
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start.saturating_add(buffer.len());
        let found = bytes.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(found);
        Ok(())
    }

    fn write(&self, offset: u64, written: &[u8]) -> io::Result<()> {
        let mut bytes = self.bytes();
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start.saturating_add(written.len());
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[start..end].copy_from_slice(written);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes().resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_its_bytes_and_cannot_be_read_past_its_end() {
        let directory = tempfile::tempdir().unwrap();
        check(&DirectoryDisk::open(directory.path()).unwrap());
        check(&MemoryDisk::default());
    }

    #[track_caller]
    fn check(disk: &dyn Disk) {
        let file = disk.open("a").unwrap();
        file.write(3, b"xyz").unwrap();
        file.sync().unwrap();
        let mut buffer = [9; 6];
        file.read(0, &mut buffer).unwrap();
        assert_eq!(&buffer, b"\0\0\0xyz");
        assert!(file.read(1, &mut buffer).is_err(), "past the end");
        disk.write_small("b", b"old and longer", Access::Secret).unwrap();
        disk.write_small("b", b"new", Access::Secret).unwrap();
        assert_eq!(disk.read_small("b").unwrap().unwrap(), b"new");
        assert_eq!(disk.list().unwrap(), ["a", "b"]);
        disk.remove("b").unwrap();
        disk.remove("b").unwrap();
        assert_eq!(disk.read_small("b").unwrap(), None);
    }

    #[test]
    fn a_second_process_is_told_that_a_file_is_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let first = DirectoryDisk::open(directory.path()).unwrap();
        let second = DirectoryDisk::open(directory.path()).unwrap();
        let file = first.open("outbox").unwrap();
        assert!(second.open("outbox").unwrap_err().to_string().contains("in use"));
        drop(file);
        second.open("outbox").unwrap();
    }

    #[test]
    fn a_name_cannot_leave_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let disk = DirectoryDisk::open(directory.path()).unwrap();
        for name in ["../x", "/etc/passwd", "", ".", "..", "a/b"] {
            assert!(disk.open(name).is_err() && disk.read_small(name).is_err(), "{name:?}");
        }
    }
}
