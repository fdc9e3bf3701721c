//! The door between Halcyon and the world: network, disk, clock, entropy, probe.
//!
//! Node and client take the world as these traits and nothing else. A process fills them in with sockets, files and
//! the system's clock; the simulator with its own. Timers are tokio's, which the simulator controls as well.

use std::{fmt, future::Future, io, pin::Pin, sync::Arc, time::Duration};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::clock::WallTime;

/// A boxed future, so that the traits can be used behind `dyn`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One end of a byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A byte stream whose kind is not known.
pub type BoxStream = Box<dyn Stream>;

/// Accepts connections.
pub trait Listener: Send {
    /// The next connection, and the address of who opened it.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, String)>>;

    /// The address that was bound, with the port that the system chose where port 0 was asked for.
    fn address(&self) -> String;
}

/// Opens and accepts connections. Addresses are `host:port`.
pub trait Network: Send + Sync {
    /// Connects to `address`.
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<BoxStream>>;

    /// Listens on `address`.
    fn listen(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;
}

/// A file with positioned reads and writes. What `write` took is durable only after `sync`.
pub trait File: Send + Sync + fmt::Debug {
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file holds no byte.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` from `offset`; an error if the file ends before.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Returns when everything written before is durable.
    fn sync(&self) -> io::Result<()>;
}

/// A node's or a client's own directory. Names are plain file names, without a path.
pub trait Disk: Send + Sync {
    /// Opens a file, made empty where it does not exist. Fails when another process has it open.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Replaces a small file as a whole, durably: after a crash it holds the old bytes or the new.
    fn write_small(&self, name: &str, bytes: &[u8], access: Access) -> io::Result<()>;

    /// Reads a small file as a whole; `None` where it does not exist.
    fn read_small(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Removes a file; it is fine if it does not exist.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Runs work that blocks on this disk, away from the tasks that must not wait.
    fn run<'a>(&'a self, work: Box<dyn FnOnce() + Send + 'a>) -> BoxFuture<'a, ()>;

    /// Runs work that takes no longer than a sync of little, which may be too short to be worth a change of threads.
    fn run_brief<'a>(&'a self, work: Box<dyn FnOnce() + Send + 'a>) -> BoxFuture<'a, ()> {
        self.run(work)
    }
}

/// Who may read a small file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whoever the system lets.
    Normal,
    /// The owner alone (mode 0600): keys and credentials.
    Secret,
}

/// Reads the time.
pub trait WallClock: Send + Sync {
    /// Time of day. May jump, both ways.
    fn wall(&self) -> WallTime;

    /// Time since some fixed moment. Never goes back.
    fn monotonic(&self) -> Duration;
}

/// Draws random numbers.
pub trait Entropy: Send + Sync {
    /// 64 random bits, fit for keys and ids.
    fn next(&self) -> u64;
}

/// Hears of what happens inside, for the simulator's trace and oracles. Does nothing in production.
pub trait Probe: Send + Sync {
    /// Something happened. `detail` is called only by a probe that listens.
    fn event(&self, kind: &'static str, detail: &dyn Fn() -> String);

    /// Whether to take a path now that is rarely taken. Never in production; the simulator makes such paths likely
    /// (`FoundationDB`'s BUGGIFY). What follows must be right either way.
    fn rare(&self, _path: &'static str) -> bool {
        false
    }

    /// A path was taken that a good simulation must take now and then.
    fn reached(&self, _path: &'static str) {}
}

/// A probe that hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Probe for Silent {
    fn event(&self, _kind: &'static str, _detail: &dyn Fn() -> String) {}
}

/// All of the world that a node or a client may touch.
#[derive(Clone)]
pub struct Env {
    /// Sockets.
    pub network: Arc<dyn Network>,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn WallClock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// Whoever watches.
    pub probe: Arc<dyn Probe>,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env")
    }
}

impl Env {
    /// Runs blocking work on the disk's own terms and returns its result.
    pub async fn run_blocking<T: Send, F: FnOnce() -> T + Send>(&self, work: F) -> T {
        let mut result = None;
        let slot = &mut result;
        self.disk.run(Box::new(move || *slot = Some(work()))).await;
        result.expect("Disk::run runs the work before it completes")
    }

    /// Runs work that takes no longer than a sync of little; see [`Disk::run_brief`].
    pub async fn run_brief<T: Send, F: FnOnce() -> T + Send>(&self, work: F) -> T {
        let mut result = None;
        let slot = &mut result;
        self.disk.run_brief(Box::new(move || *slot = Some(work()))).await;
        result.expect("Disk::run_brief runs the work before it completes")
    }

    /// 128 random bits.
    pub fn random_u128(&self) -> u128 {
        u128::from(self.entropy.next()) << 64 | u128::from(self.entropy.next())
    }

    /// Random bytes, as `nanoid` wants them.
    pub fn random_bytes(&self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.entropy.next().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}
