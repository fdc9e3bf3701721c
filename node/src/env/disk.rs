//! A directory as a node's disk.
//!
//! Invariants:
//! - one process at a time: the lock file is held as long as the disk is;
//! - a file that `open` or `write_small` made is in the directory after a crash, because the directory is synced too;
//! - a small file is replaced as a whole: written beside, synced, renamed.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use halcyon_core::env::{Access, BoxFuture, Disk, File};
use tokio::runtime::{Handle, RuntimeFlavor};

/// Locked by the process that uses the directory.
pub const LOCK_FILE: &str = "LOCK";

/// Ends the name of a small file that is being written. One that a crash left over is never read.
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Owner alone: the directory holds keys.
const DIRECTORY_MODE: u32 = 0o700;

/// Work on this disk that took longer was not brief: it held up the tasks of a whole core.
const BRIEF_MAX: Duration = Duration::from_micros(500);

/// A directory that this process alone uses.
pub(super) struct DirectoryDisk {
    path: PathBuf,
    /// Names that `open` has given out and that are still held.
    opened: Arc<Mutex<BTreeSet<String>>>,
    /// Whether what was to be brief was so the last time.
    is_quick: AtomicBool,
    /// Keeps the lock until it is dropped.
    _lock: fs::File,
}

impl fmt::Debug for DirectoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DirectoryDisk({})", self.path.display())
    }
}

impl DirectoryDisk {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(path)
            .map_err(named)?;
        let mut options = fs::OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let lock = options.open(path.join(LOCK_FILE)).map_err(named)?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => {
                let text = format!(
                    "another process uses {}; stop it, or name another directory",
                    path.display()
                );
                io::Error::new(io::ErrorKind::ResourceBusy, text)
            }
            fs::TryLockError::Error(error) => named(error),
        })?;
        Ok(Self {
            path: path.to_owned(),
            opened: Arc::default(),
            is_quick: AtomicBool::new(false),
            _lock: lock,
        })
    }

    /// The path of a plain name.
    fn path_of(&self, name: &str) -> io::Result<PathBuf> {
        let plain = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
        if plain && name != LOCK_FILE {
            Ok(self.path.join(name))
        } else {
            let text = format!("{name:?} is not a plain file name");
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }

    /// Makes what changed in the directory itself durable.
    fn sync_directory(&self) -> io::Result<()> {
        fs::File::open(&self.path)?.sync_all()
    }
}

impl Disk for DirectoryDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let path = self.path_of(name)?;
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.contains(name) {
            let text = format!("{} is open already", path.display());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        let is_new = !path.try_exists()?;
        let mut options = fs::OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(0o600);
        let file = options.open(&path)?;
        if is_new {
            self.sync_directory()?;
        }
        opened.insert(name.to_owned());
        Ok(Arc::new(DiskFile {
            name: name.to_owned(),
            file,
            opened: self.opened.clone(),
        }))
    }

    fn write_small(&self, name: &str, bytes: &[u8], access: Access) -> io::Result<()> {
        let path = self.path_of(name)?;
        let temporary = self.path_of(&format!("{name}{TEMPORARY_SUFFIX}"))?;
        // A leftover of a crash may have another mode: the new file starts from nothing.
        remove_if_there(&temporary)?;
        let mode = match access {
            Access::Normal => 0o644,
            Access::Secret => 0o600,
        };
        let file = fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all_at(bytes, 0)?;
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
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != LOCK_FILE && !name.ends_with(TEMPORARY_SUFFIX) {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        remove_if_there(&self.path_of(name)?)?;
        self.sync_directory()
    }

    fn run<'a>(&'a self, work: Box<dyn FnOnce() + Send + 'a>) -> BoxFuture<'a, ()> {
        // `block_in_place` stays on the thread; `spawn_blocking` hops to another and back. A hop wakes a core, and what
        // a writer waits for most is an fsync of 0.2 ms. Measured by the ignored test below, on two busy cores with
        // empty work: 12 us against 32 us. A `current_thread` runtime (tests, the simulator) has no second thread to
        // give its tasks to, so the work simply runs.
        Box::pin(async move {
            match Handle::current().runtime_flavor() {
                RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
                _ => work(),
            }
        })
    }

    fn run_brief<'a>(&'a self, work: Box<dyn FnOnce() + Send + 'a>) -> BoxFuture<'a, ()> {
        // `block_in_place` gives the core to another thread, so whoever waits for the work is woken on another core: on
        // a disk that syncs in 0.13 ms that is half as much again. As long as syncs are that quick the work holds the
        // thread instead, as any computation of that length does. A slow one is felt once.
        let timed = move || {
            let start = now();
            work();
            self.is_quick.store(now() - start <= BRIEF_MAX, Ordering::Relaxed);
        };
        if !self.is_quick.load(Ordering::Relaxed) {
            return self.run(Box::new(timed));
        }
        Box::pin(async move { timed() })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "measures this disk, and is part of the world itself"
)]
fn now() -> Instant {
    Instant::now()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[derive(Debug)]
struct DiskFile {
    name: String,
    file: fs::File,
    opened: Arc<Mutex<BTreeSet<String>>>,
}

impl Drop for DiskFile {
    fn drop(&mut self) {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.remove(&self.name);
    }
}

impl File for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn disk() -> (tempfile::TempDir, DirectoryDisk) {
        let directory = tempfile::tempdir().unwrap();
        let disk = DirectoryDisk::open(&directory.path().join("node")).unwrap();
        (directory, disk)
    }

    #[test]
    fn a_second_process_is_told_that_the_directory_is_in_use() {
        let (directory, disk) = disk();
        let path = directory.path().join("node");
        let error = DirectoryDisk::open(&path).unwrap_err();
        assert!(error.to_string().contains("another process uses"), "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        drop(disk);
        DirectoryDisk::open(&path).unwrap();
    }

    #[test]
    fn a_file_is_opened_once_at_a_time_and_keeps_its_bytes() {
        let (_directory, disk) = disk();
        let file = disk.open("a").unwrap();
        assert!(disk.open("a").is_err());
        file.write(3, b"xyz").unwrap();
        file.sync().unwrap();
        drop(file);
        let file = disk.open("a").unwrap();
        let mut buffer = [9; 6];
        file.read(0, &mut buffer).unwrap();
        assert_eq!(&buffer, b"\0\0\0xyz");
        assert_eq!(file.len().unwrap(), 6);
        assert!(file.read(1, &mut buffer).is_err(), "past the end");
    }

    #[test]
    fn a_small_file_is_replaced_whole_and_a_secret_is_its_owners() {
        let (directory, disk) = disk();
        assert_eq!(disk.read_small("key").unwrap(), None);
        disk.write_small("key", b"old and longer", Access::Secret).unwrap();
        disk.write_small("key", b"new", Access::Secret).unwrap();
        assert_eq!(disk.read_small("key").unwrap().unwrap(), b"new");
        let mode = |name: &str| {
            let path = directory.path().join("node").join(name);
            fs::metadata(path).unwrap().permissions().mode() & 0o777
        };
        assert_eq!(mode("key"), 0o600);
        assert_eq!(mode("."), DIRECTORY_MODE);
        assert_eq!(disk.list().unwrap(), ["key"]);
        disk.remove("key").unwrap();
        disk.remove("key").unwrap();
        assert!(disk.list().unwrap().is_empty());
    }

    #[test]
    fn a_name_cannot_leave_the_directory() {
        let (_directory, disk) = disk();
        for name in ["../x", "/etc/passwd", "", ".", "..", "a/b", LOCK_FILE] {
            assert!(disk.open(name).is_err() && disk.read_small(name).is_err(), "{name:?}");
        }
    }

    #[tokio::test]
    async fn blocking_work_runs_on_a_single_threaded_runtime_too() {
        blocking_work_runs().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn blocking_work_runs_on_a_multi_threaded_runtime() {
        blocking_work_runs().await;
    }

    async fn blocking_work_runs() {
        let (_directory, disk) = disk();
        let mut done = false;
        disk.run(Box::new(|| done = true)).await;
        assert!(done);
        // Whatever is slow gives its core away from the next time on.
        let slow = BRIEF_MAX * 4;
        let mut runs = Vec::new();
        for takes in [Duration::ZERO, Duration::ZERO, slow, Duration::ZERO] {
            let was_quick = disk.is_quick.load(Ordering::Relaxed);
            let work = || {
                runs.push(was_quick);
                let start = now();
                while now() - start < takes {
                    std::hint::spin_loop();
                }
            };
            disk.run_brief(Box::new(work)).await;
        }
        assert_eq!(
            (runs[0], runs[3]),
            (false, false),
            "whether each took its thread: {runs:?}"
        );
    }

    /// Prints what a hop costs either way; behind the choice in `run`.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "a measurement"]
    #[expect(
        clippy::disallowed_methods,
        clippy::print_stdout,
        reason = "measures the way not taken"
    )]
    async fn the_cost_of_a_hop() {
        const ROUNDS: u32 = 20_000;
        let task = tokio::spawn(async {
            let start = Instant::now();
            for _ in 0..ROUNDS {
                tokio::task::block_in_place(|| std::hint::black_box(()));
                tokio::task::yield_now().await;
            }
            let in_place = start.elapsed() / ROUNDS;
            let start = Instant::now();
            for _ in 0..ROUNDS {
                tokio::task::spawn_blocking(|| std::hint::black_box(())).await.unwrap();
            }
            println!(
                "block_in_place {in_place:?}, spawn_blocking {:?}",
                start.elapsed() / ROUNDS
            );
        });
        task.await.unwrap();
    }
}
