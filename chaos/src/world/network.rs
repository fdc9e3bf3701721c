//! Sockets: turmoil's, with every byte in the trace, bandwidth where a link is slow, and silence once the power is off.
//!
//! turmoil's TCP never retransmits: a segment that is dropped stalls its stream until a deadline or a keep-alive gives
//! up, as a cut wire does. A link that is held delivers everything once it is released, as a short outage does.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use halcyon_core::env::{BoxFuture, BoxStream, Listener, Network};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use turmoil::net::{TcpListener, TcpStream};

use super::{clock::now, disk::SimDisk, machine::Machine, trace};

/// Bytes that a slow link takes at once.
const SLOW_CHUNK_BYTES: usize = 4 << 10;

thread_local! {
    /// Bytes a second, from one host to another, where they are few; and when the link is free again.
    static SLOW: RefCell<BTreeMap<(Machine, Machine), SlowLink>> = const { RefCell::new(BTreeMap::new()) };
}

#[derive(Debug, Clone, Copy)]
struct SlowLink {
    bytes_a_second: u64,
    free_at: u64,
}

/// Limits what flows from one host to another, or (`None`) no longer.
pub fn limit(from: Machine, to: Machine, bytes_a_second: Option<u64>) {
    SLOW.with_borrow_mut(|slow| match bytes_a_second {
        Some(bytes_a_second) => {
            let free_at = now();
            slow.insert(
                (from, to),
                SlowLink {
                    bytes_a_second,
                    free_at,
                },
            );
        }
        None => {
            slow.remove(&(from, to));
        }
    });
}

/// How many of `len` bytes may go now and how long the link is then busy; or how long to wait first.
fn take_turn(from: Machine, to: Machine, len: usize) -> Result<usize, Duration> {
    SLOW.with_borrow_mut(|slow| {
        let Some(link) = slow.get_mut(&(from, to)) else {
            return Ok(len);
        };
        let now = now();
        if now < link.free_at {
            return Err(Duration::from_nanos(link.free_at - now));
        }
        let len = len.min(SLOW_CHUNK_BYTES);
        link.free_at = now + len as u64 * 1_000_000_000 / link.bytes_a_second.max(1);
        Ok(len)
    })
}

/// The sockets of one host.
#[derive(Debug, Clone)]
pub struct SimNetwork {
    host: Machine,
    disk: SimDisk,
}

impl SimNetwork {
    /// For `host`. Its disk tells whether the machine has power.
    pub fn new(host: Machine, disk: SimDisk) -> Self {
        Self { host, disk }
    }

    fn stream(&self, stream: TcpStream, peer: SocketAddr) -> BoxStream {
        Box::new(SimStream {
            stream,
            from: self.host,
            to: host_at(peer.ip()),
            port: peer.port(),
            disk: self.disk.clone(),
            waiting: None,
        })
    }
}

fn host_at(address: IpAddr) -> Machine {
    let name = turmoil::reverse_lookup(address);
    name.and_then(|name| Machine::named(&name)).unwrap_or(Machine::World)
}

impl Network for SimNetwork {
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<BoxStream>> {
        let this = self.clone();
        Box::pin(async move {
            let known = address
                .rsplit_once(':')
                .is_some_and(|(host, _)| Machine::named(host).is_some());
            if !known {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("{address}: no such host"),
                ));
            }
            trace::bytes(this.host, "net.connecting", 0, address.as_bytes());
            let stream = TcpStream::connect(address.as_str()).await.inspect_err(|_| {
                trace::bytes(this.host, "net.refused", 0, address.as_bytes());
            })?;
            let peer = stream.peer_addr()?;
            Ok(this.stream(stream, peer))
        })
    }

    fn listen(&self, address: String) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let this = self.clone();
        Box::pin(async move {
            let listener = TcpListener::bind(address.as_str()).await?;
            let port = listener.local_addr()?.port();
            let bound = format!("{}:{port}", this.host);
            let network = this;
            Ok(Box::new(SimListener {
                listener,
                bound,
                network,
            }) as Box<dyn Listener>)
        })
    }
}

struct SimListener {
    listener: TcpListener,
    bound: String,
    network: SimNetwork,
}

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(BoxStream, String)>> {
        Box::pin(async {
            let (stream, from) = self.listener.accept().await?;
            Ok((self.network.stream(stream, from), from.to_string()))
        })
    }

    fn address(&self) -> String {
        self.bound.clone()
    }
}

struct SimStream {
    stream: TcpStream,
    from: Machine,
    to: Machine,
    port: u16,
    disk: SimDisk,
    /// For a slow link to be free.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl fmt::Debug for SimStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimStream({} to {})", self.from, self.to)
    }
}

impl SimStream {
    /// The other end, for the trace.
    fn place(&self) -> u64 {
        self.to.code() << 16 | u64::from(self.port)
    }
}

impl AsyncRead for SimStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        match &result {
            Ok(()) => trace::bytes(self.from, "net.received", self.place(), &buffer.filled()[before..]),
            Err(_) => trace::mark(self.from, "net.broken", self.place()),
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.disk.is_off() {
            // Nothing leaves a machine without power, whatever its tasks still do.
            return Poll::Ready(Ok(bytes.len()));
        }
        let len = loop {
            if let Some(waiting) = &mut self.waiting {
                ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
            }
            match take_turn(self.from, self.to, bytes.len()) {
                Ok(len) => break len,
                Err(wait) => self.waiting = Some(Box::pin(sleep(wait))),
            }
        };
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[..len]))?;
        trace::bytes(self.from, "net.sent", self.place(), &bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
