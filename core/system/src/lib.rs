//! The world as the operating system gives it, for node and client alike: TCP without delay, the system's clock and
//! randomness, and a file under redb.
//!
//! What a directory promises differs (a node locks all of it, a client each file), so each brings its own disk.

mod redb_file;

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use halcyon_core::{
    clock::WallTime,
    env::{BoxFuture, BoxStream, Disk, Entropy, Env, Listener, Network, Silent, WallClock},
};
use rand::RngExt;
use tokio::net::{TcpListener, TcpStream};

pub use self::redb_file::RedbFile;

/// The real world around `disk`.
pub fn around(disk: Arc<dyn Disk>) -> Env {
    Env {
        network: Arc::new(Tcp),
        disk,
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
        probe: Arc::new(Silent),
    }
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
        let mut listener = Tcp.listen("127.0.0.1:0".into()).await.unwrap();
        let address = listener.address();
        let (ours, theirs) = tokio::join!(Tcp.connect(address), listener.accept());
        let (mut ours, (mut theirs, _)) = (ours.unwrap(), theirs.unwrap());
        pass_on(&mut ours, &mut theirs).await;
        pass_on(&mut theirs, &mut ours).await;
    }

    async fn pass_on(from: &mut BoxStream, to: &mut BoxStream) {
        from.write_all(b"ping").await.unwrap();
        let mut buffer = [0; 4];
        to.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"ping");
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_named_in_the_error() {
        let listener = Tcp.listen("127.0.0.1:0".into()).await.unwrap();
        let error = Tcp.listen(listener.address()).await.err().unwrap();
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
