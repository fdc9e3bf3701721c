//! The world of a native client: sockets, files, clock, entropy. The one place that touches them.

mod disk;

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use halcyon_core::{
    clock::WallTime,
    env::{BoxFuture, BoxStream, Disk, Entropy, Env, Listener, Network, Silent, WallClock},
};
use rand::RngExt;
use tokio::net::{TcpListener, TcpStream};

use self::disk::{DirectoryDisk, MemoryDisk};

/// The system: files in `dir`, made where it does not exist, or files in memory without one.
pub fn system(dir: Option<&Path>) -> io::Result<Env> {
    let disk: Arc<dyn Disk> = match dir {
        Some(path) => Arc::new(DirectoryDisk::open(path)?),
        None => Arc::new(MemoryDisk::default()),
    };
    Ok(Env {
        network: Arc::new(Tcp),
        disk,
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
        probe: Arc::new(Silent),
    })
}

#[derive(Debug)]
struct Tcp;

impl Network for Tcp {
    #[expect(clippy::disallowed_methods, reason = "the door to the network")]
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<BoxStream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(&address)
                .await
                .map_err(|error| at(&address, &error))?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxStream)
        })
    }

    #[expect(clippy::disallowed_methods, reason = "the door to the network")]
    fn listen(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(&address)
                .await
                .map_err(|error| at(&address, &error))?;
            let bound = listener.local_addr()?.to_string();
            Ok(Box::new(TcpPort { listener, bound }) as Box<dyn Listener>)
        })
    }
}

/// An error that names the address: the system's own text does not.
fn at(address: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{address}: {error}"))
}

#[derive(Debug)]
struct TcpPort {
    listener: TcpListener,
    bound: String,
}

impl Listener for TcpPort {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, String)>> {
        Box::pin(async {
            let (stream, from) = self.listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as BoxStream, from.to_string()))
        })
    }

    fn address(&self) -> String {
        self.bound.clone()
    }
}

#[derive(Debug)]
struct SystemClock {
    start: Instant,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the door to the clock")]
    fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl WallClock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the door to the clock")]
    fn wall(&self) -> WallTime {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        WallTime::from_unix(since_1970.unwrap_or_default())
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// `rand`'s thread generator: a cipher seeded, and seeded again, by the system. Fit for keys.
#[derive(Debug)]
struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::disallowed_methods, reason = "the door to chance")]
    fn next(&self) -> u64 {
        rand::rng().random()
    }
}
