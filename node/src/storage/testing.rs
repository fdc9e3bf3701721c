//! A disk in memory that loses what was not synced, and a world around it; for tests.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use halcyon_core::{
    clock::WallTime,
    env::{Access, BoxFuture, BoxStream, Disk, Entropy, Env, File, Listener, Network, Silent, WallClock},
};

use super::types::{CommitSink, StorageEvent};

/// Random numbers from a seed (splitmix64).
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Debug, Default)]
struct Bytes {
    durable: Vec<u8>,
    current: Vec<u8>,
    /// Writes since the last sync.
    pending: Vec<(usize, Vec<u8>)>,
}

/// A file of [`SimDisk`].
#[derive(Debug)]
pub(super) struct SimFile {
    bytes: Mutex<Bytes>,
    disk: Arc<Faults>,
}

/// When writes start to fail.
#[derive(Debug)]
pub(super) struct Faults {
    /// Operations that still work.
    pub(super) left: AtomicU64,
    pub(super) failed: AtomicBool,
}

impl Faults {
    fn spend(&self) -> io::Result<()> {
        let spent = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if spent.is_err() {
            self.failed.store(true, Ordering::SeqCst);
            return Err(io::Error::other("the power is gone"));
        }
        Ok(())
    }
}

/// A disk in memory.
#[derive(Debug)]
pub(super) struct SimDisk {
    files: Mutex<BTreeMap<String, Arc<SimFile>>>,
    small: Mutex<BTreeMap<String, Vec<u8>>>,
    pub(super) faults: Arc<Faults>,
}

impl SimDisk {
    pub(super) fn new() -> Arc<Self> {
        Self::with(BTreeMap::new(), BTreeMap::new())
    }

    fn with(files: BTreeMap<String, Vec<u8>>, small: BTreeMap<String, Vec<u8>>) -> Arc<Self> {
        let faults = Arc::new(Faults {
            left: AtomicU64::new(u64::MAX),
            failed: AtomicBool::new(false),
        });
        let file = |durable: Vec<u8>| {
            let current = durable.clone();
            let bytes = Bytes {
                durable,
                current,
                pending: Vec::new(),
            };
            Arc::new(SimFile {
                bytes: Mutex::new(bytes),
                disk: Arc::clone(&faults),
            })
        };
        let files = files.into_iter().map(|(name, bytes)| (name, file(bytes))).collect();
        Arc::new(Self {
            files: Mutex::new(files),
            small: Mutex::new(small),
            faults: Arc::clone(&faults),
        })
    }

    /// What a power cut leaves: all that was synced, and of the rest any part, torn at sectors of 512 bytes.
    pub(super) fn after_crash(&self, random: &mut Random) -> Arc<Self> {
        let mut files = BTreeMap::new();
        for (name, file) in lock(&self.files).iter() {
            let bytes = lock(&file.bytes);
            let mut left = bytes.durable.clone();
            let luck = random.below(4) * 33;
            for (offset, write) in &bytes.pending {
                for (place, sector) in write.chunks(512).enumerate() {
                    if random.chance(luck) {
                        put(&mut left, offset + 512 * place, sector);
                    }
                }
            }
            files.insert(name.clone(), left);
        }
        Self::with(files, lock(&self.small).clone())
    }

    /// The files that hold some bytes.
    pub(super) fn files_with(&self, needle: &[u8]) -> Vec<String> {
        let holds = |bytes: &[u8]| {
            let mut starts = (0..bytes.len()).filter(|&at| Some(&bytes[at]) == needle.first());
            needle.is_empty() || starts.any(|at| bytes[at..].starts_with(needle))
        };
        let files = lock(&self.files);
        let found = files.iter().filter(|(_, file)| {
            let bytes = lock(&file.bytes);
            holds(&bytes.current) || holds(&bytes.durable)
        });
        found.map(|(name, _)| name.clone()).collect()
    }

    /// Damages a byte of a file for good.
    pub(super) fn damage(&self, name: &str, at: usize) {
        let files = lock(&self.files);
        let mut bytes = lock(&files[name].bytes);
        bytes.durable[at] ^= 0x55;
        bytes.current[at] ^= 0x55;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn put(bytes: &mut Vec<u8>, offset: usize, write: &[u8]) {
    if bytes.len() < offset + write.len() {
        bytes.resize(offset + write.len(), 0);
    }
    bytes[offset..offset + write.len()].copy_from_slice(write);
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.bytes).current.len() as u64)
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = lock(&self.bytes);
        let offset = usize::try_from(offset).unwrap();
        let found = bytes.current.get(offset..offset + buffer.len());
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, offset: u64, write: &[u8]) -> io::Result<()> {
        self.disk.spend()?;
        let mut bytes = lock(&self.bytes);
        let offset = usize::try_from(offset).unwrap();
        put(&mut bytes.current, offset, write);
        bytes.pending.push((offset, write.to_vec()));
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.spend()?;
        let mut bytes = lock(&self.bytes);
        let len = usize::try_from(len).unwrap();
        bytes.current.resize(len, 0);
        bytes.durable.resize(len, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.spend()?;
        let mut bytes = lock(&self.bytes);
        for (offset, write) in std::mem::take(&mut bytes.pending) {
            put(&mut bytes.durable, offset, &write);
        }
        Ok(())
    }
}

impl Disk for SimDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let faults = &self.faults;
        let file = || {
            Arc::new(SimFile {
                bytes: Mutex::default(),
                disk: Arc::clone(faults),
            })
        };
        Ok(lock(&self.files).entry(name.to_owned()).or_insert_with(file).clone())
    }

    fn write_small(&self, name: &str, bytes: &[u8], _access: Access) -> io::Result<()> {
        self.faults.spend()?;
        lock(&self.small).insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn read_small(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(lock(&self.small).get(name).cloned())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(lock(&self.files).keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.faults.spend()?;
        lock(&self.files).remove(name);
        Ok(())
    }

    fn run<'a>(&'a self, work: Box<dyn FnOnce() + Send + 'a>) -> BoxFuture<'a, ()> {
        Box::pin(async move { work() })
    }
}

struct NoNetwork;

impl Network for NoNetwork {
    fn connect(&self, _address: String) -> BoxFuture<'static, io::Result<BoxStream>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn listen(&self, _address: String) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

struct Ticks(AtomicU64);

impl WallClock for Ticks {
    fn wall(&self) -> WallTime {
        let millis = 1_700_000_000_000 + self.0.fetch_add(1, Ordering::Relaxed);
        WallTime::from_unix(Duration::from_millis(millis))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

struct Chance(Mutex<Random>);

impl Entropy for Chance {
    fn next(&self) -> u64 {
        lock(&self.0).next()
    }
}

/// A world around a disk.
pub(super) fn env(disk: Arc<dyn Disk>, seed: u64) -> Env {
    Env {
        network: Arc::new(NoNetwork),
        disk,
        clock: Arc::new(Ticks(AtomicU64::new(0))),
        entropy: Arc::new(Chance(Mutex::new(Random(seed)))),
        probe: Arc::new(Silent),
    }
}

/// A sink that keeps what it hears.
#[derive(Debug, Default)]
pub(super) struct Heard(Mutex<Vec<StorageEvent>>);

impl Heard {
    pub(super) fn take(&self) -> Vec<StorageEvent> {
        std::mem::take(&mut lock(&self.0))
    }
}

impl CommitSink for Heard {
    fn on_events(&self, events: Vec<StorageEvent>) {
        lock(&self.0).extend(events);
    }
}

/// A directory as a disk, and the system's clock.
pub(super) fn on_files(dir: &std::path::Path) -> Env {
    let disk = Arc::new(Directory(dir.to_owned()));
    let mut world = env(disk, u64::from(std::process::id()));
    world.clock = Arc::new(System(system_now()));
    world
}

/// Memory of this process.
pub(super) fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"))
        .collect()
}

#[derive(Debug)]
struct Directory(std::path::PathBuf);

#[derive(Debug)]
struct OsFile(std::fs::File);

struct System(std::time::Instant);

#[expect(clippy::disallowed_methods, reason = "a measurement of real time")]
fn system_now() -> std::time::Instant {
    std::time::Instant::now()
}

impl WallClock for System {
    fn wall(&self) -> WallTime {
        WallTime::from_unix(Duration::from_secs(1_700_000_000) + self.0.elapsed())
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

impl File for OsFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.0, buffer, offset)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.0, bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl Disk for Directory {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut options = std::fs::OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.0.join(name))?;
        Ok(Arc::new(OsFile(file)))
    }

    fn write_small(&self, name: &str, bytes: &[u8], _access: Access) -> io::Result<()> {
        std::fs::write(self.0.join(name), bytes)
    }

    fn read_small(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(std::fs::read(self.0.join(name)).ok())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.0.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn run<'a>(&'a self, work: Box<dyn FnOnce() + Send + 'a>) -> BoxFuture<'a, ()> {
        Box::pin(async move { tokio::task::block_in_place(work) })
    }
}

/// Bytes that the files of a directory take on the disk.
pub(super) fn disk_usage(dir: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .map(|entry| 512 * entry.unwrap().metadata().unwrap().blocks())
        .sum()
}

/// Ticks (of 10 ms) of user and system time of this process.
pub(super) fn processor_time() -> String {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    stat.split(' ').skip(13).take(2).collect::<Vec<_>>().join(" ")
}

/// How full the tables are.
#[expect(clippy::print_stdout, reason = "a measurement")]
pub(super) fn stats(db: &redb::Database) {
    use redb::{ReadableDatabase, ReadableTableMetadata};
    let transaction = db.begin_read().unwrap();
    for table in super::tables::Table::ALL {
        let rows = transaction.open_table(table.definition()).unwrap();
        let (len, stats) = (rows.len().unwrap(), rows.stats().unwrap());
        let (stored, metadata, free) = (stats.stored_bytes(), stats.metadata_bytes(), stats.fragmented_bytes());
        println!("{table:?} rows {len} stored {stored} metadata {metadata} free {free}");
    }
}
