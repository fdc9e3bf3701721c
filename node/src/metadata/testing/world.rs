//! A test's `Env`: real sockets on loopback, real files in a directory.

use std::{
    fs, io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use halcyon_core::{
    clock::WallTime,
    env::{Access, BoxFuture, BoxStream, Disk, Entropy, Env, File, Listener, Network, Probe, Silent, WallClock},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Real sockets, with a switch that cuts this node off.
#[derive(Debug, Default)]
pub(crate) struct Loopback {
    cut: Arc<AtomicBool>,
}

/// Directory, clock and chance of one test node.
#[derive(Debug)]
struct Machine {
    directory: PathBuf,
    started: std::time::Instant,
    drawn: AtomicU64,
}

#[derive(Debug)]
struct PlainFile(fs::File);

/// A connection that fails once its node is cut off.
#[derive(Debug)]
struct Severable {
    stream: tokio::net::TcpStream,
    cut: Arc<AtomicBool>,
}

struct PlainListener(tokio::net::TcpListener);

impl Network for Loopback {
    #[expect(clippy::disallowed_methods, reason = "this is a test's Env")]
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<BoxStream>> {
        let cut = self.cut.clone();
        Box::pin(async move {
            if cut.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::HostUnreachable.into());
            }
            let stream = tokio::net::TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(Severable { stream, cut }) as BoxStream)
        })
    }

    #[expect(clippy::disallowed_methods, reason = "this is a test's Env")]
    fn listen(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = tokio::net::TcpListener::bind(address).await?;
            Ok(Box::new(PlainListener(listener)) as Box<dyn Listener>)
        })
    }
}

impl Severable {
    fn check(&self) -> io::Result<()> {
        if self.cut.load(Ordering::Relaxed) {
            Err(io::ErrorKind::ConnectionReset.into())
        } else {
            Ok(())
        }
    }
}

impl AsyncRead for Severable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Severable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Listener for PlainListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, String)>> {
        Box::pin(async move {
            let (stream, from) = self.0.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as BoxStream, from.to_string()))
        })
    }

    fn address(&self) -> String {
        self.0
            .local_addr()
            .map(|address| address.to_string())
            .unwrap_or_default()
    }
}

impl File for PlainFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl Disk for Machine {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.directory.join(name))?;
        Ok(Arc::new(PlainFile(file)))
    }

    fn write_small(&self, name: &str, bytes: &[u8], _access: Access) -> io::Result<()> {
        let new = self.directory.join(format!("{name}.new"));
        fs::write(&new, bytes)?;
        fs::File::open(&new)?.sync_all()?;
        fs::rename(new, self.directory.join(name))
    }

    fn read_small(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.directory.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.directory.join(name))
    }

    fn run<'a>(&'a self, work: Box<dyn FnOnce() + Send + 'a>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            match tokio::runtime::Handle::current().runtime_flavor() {
                tokio::runtime::RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
                _ => work(),
            }
        })
    }
}

impl WallClock for Machine {
    fn wall(&self) -> WallTime {
        WallTime::from_unix(Duration::from_hours(500_000) + self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Entropy for Machine {
    fn next(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&self.drawn.fetch_add(1, Ordering::Relaxed).to_le_bytes())
    }
}

/// A probe with which the first answer to each write is lost.
#[derive(Debug)]
pub(super) struct AnswersLost;

impl Probe for AnswersLost {
    fn event(&self, _kind: &'static str, _detail: &dyn Fn() -> String) {}

    fn rare(&self, path: &'static str) -> bool {
        path == "metadata.answer-lost"
    }
}

/// An `Env` of real sockets and of files in `directory`; the switch cuts its outgoing connections.
#[expect(clippy::disallowed_methods, reason = "this is a test's Env")]
pub(crate) fn env(directory: &Path) -> (Env, Arc<AtomicBool>) {
    let network = Loopback::default();
    let cut = network.cut.clone();
    let seed = xxhash_rust::xxh3::xxh3_64(directory.as_os_str().as_encoded_bytes());
    let machine = Arc::new(Machine {
        directory: directory.to_owned(),
        started: std::time::Instant::now(),
        drawn: AtomicU64::new(seed),
    });
    let env = Env {
        network: Arc::new(network),
        disk: machine.clone(),
        clock: machine.clone(),
        entropy: machine,
        probe: Arc::new(Silent),
    };
    (env, cut)
}
