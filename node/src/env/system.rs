//! The world as the operating system gives it: TCP without delay, files in one directory, the system's clock and
//! randomness.

use std::{
    fmt, io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use halcyon_core::{
    clock::WallTime,
    env::{BoxFuture, BoxStream, Entropy, Env, Listener, Network, Silent, WallClock},
};
use rand::RngExt;
use tokio::net::{TcpListener, TcpStream};

use super::disk::DirectoryDisk;

/// The real world, with `data_dir` as the disk. Makes the directory where it does not exist, for the owner alone, and
/// holds its lock until the `Env` is dropped.
pub fn system(data_dir: &Path) -> io::Result<Env> {
    Ok(Env {
        network: Arc::new(Tcp),
        disk: Arc::new(DirectoryDisk::open(data_dir)?),
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
        probe: Arc::new(Silent),
    })
}

/// A file that the operator named: certificates lie outside the data directory.
pub fn read_given_file(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path)
}

#[derive(Debug)]
struct Tcp;

impl Network for Tcp {
    #[expect(clippy::disallowed_methods, reason = "the door to the network")]
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<BoxStream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(&address).await.map_err(|e| at(&address, &e))?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as BoxStream)
        })
    }

    #[expect(clippy::disallowed_methods, reason = "the door to the network")]
    fn listen(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(&address).await.map_err(|e| at(&address, &e))?;
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

struct SystemClock {
    start: Instant,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the door to the clock")]
    fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl fmt::Debug for SystemClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemClock")
    }
}

impl WallClock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the door to the clock")]
    fn wall(&self) -> WallTime {
        // A clock that stands before 1970 is as wrong as one that stands at it, and drift checks will say so.
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn bytes_cross_a_connection_both_ways() {
        let directory = tempfile::tempdir().unwrap();
        let env = system(directory.path()).unwrap();
        let mut listener = env.network.listen("127.0.0.1:0".into()).await.unwrap();
        let address = listener.address();
        let (ours, theirs) = tokio::join!(env.network.connect(address), listener.accept());
        let (mut ours, (mut theirs, _)) = (ours.unwrap(), theirs.unwrap());
        for (from, to) in [(&mut ours, &mut theirs)] {
            from.write_all(b"ping").await.unwrap();
            let mut buffer = [0; 4];
            to.read_exact(&mut buffer).await.unwrap();
            assert_eq!(&buffer, b"ping");
        }
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_named_in_the_error() {
        let directory = tempfile::tempdir().unwrap();
        let env = system(directory.path()).unwrap();
        let listener = env.network.listen("127.0.0.1:0".into()).await.unwrap();
        let error = env.network.listen(listener.address()).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&listener.address()), "{error}");
    }

    #[test]
    fn the_clock_goes_on_and_chance_does_not_repeat() {
        let clock = SystemClock::new();
        assert!(clock.monotonic() <= clock.monotonic());
        assert!(WallTime::from_unix(Duration::from_secs(1_600_000_000)) < clock.wall());
        assert_ne!(SystemEntropy.next(), SystemEntropy.next());
    }
}
