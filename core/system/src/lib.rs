//! The world as the operating system gives it, for node and client alike: TCP without delay, the system's clock and
//! randomness, and a file under redb.
//!
//! What a directory promises differs (a node locks all of it, a client each file), so each brings its own disk.

mod redb_file;

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use halcyon_core::{
    clock::WallTime,
    env::{BoxFuture, BoxStream, Disk, Entropy, Env, Listener, Network, Silent, WallClock},
};
use rand::RngExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

pub use self::redb_file::RedbFile;

/// Connections that the system has opened and that the node has not taken yet. The system resets those that come on top:
/// after an outage clients come back in a crowd, and the usual 128 are soon passed. (The system may allow less:
/// `net.core.somaxconn`.)
pub const LISTEN_BACKLOG: u32 = 4_096;

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

    fn listen(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = bind(&address).await.map_err(|e| at(&address, &e))?;
            let bound = listener.local_addr()?.to_string();
            Ok(Box::new(TcpPort { listener, bound }) as Box<dyn Listener>)
        })
    }
}

/// The first of the name's addresses that can be had.
async fn bind(address: &str) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    for address in lookup_host(address).await? {
        match open_port(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[expect(clippy::disallowed_methods, reason = "the door to the network")]
fn open_port(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // On Unix: a node that starts again at once gets its port back while connections of the last run still linger. On
    // Windows the same option would let two programs share the port.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LISTEN_BACKLOG)
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
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

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

    /// More than the 128 that a listener gets unless it asks; the listener takes nobody before all of them have come.
    #[tokio::test]
    async fn a_crowd_that_comes_at_once_is_let_in() {
        const CROWD: usize = 512;
        let mut listener = Tcp.listen("127.0.0.1:0".into()).await.unwrap();
        let mut clients = Vec::new();
        for _ in 0..CROWD {
            let client = timeout(Duration::from_secs(1), Tcp.connect(listener.address())).await;
            let mut client = client.expect("no packet was dropped").unwrap();
            client.write_all(b"ping").await.unwrap();
            clients.push(client);
        }
        for _ in 0..CROWD {
            let accepted = timeout(Duration::from_secs(5), listener.accept()).await;
            let (mut stream, _) = accepted.expect("all are in the line").unwrap();
            let mut buffer = [0; 4];
            stream.read_exact(&mut buffer).await.unwrap();
            assert_eq!(&buffer, b"ping");
        }
    }

    #[test]
    fn the_clock_goes_on_and_chance_does_not_repeat() {
        let clock = SystemClock::new();
        assert!(clock.monotonic() <= clock.monotonic());
        assert!(WallTime::from_unix(Duration::from_secs(1_600_000_000)) < clock.wall());
        assert_ne!(SystemEntropy.next(), SystemEntropy.next());
    }
}
