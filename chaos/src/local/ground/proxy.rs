//! Nodes on loopback, with a fault-injecting proxy in front of each link.
//!
//! A node tells its peers the address of a door here; the door passes bytes on as the links say. Whose connection it is
//! Linux tells by the port, so no node has to cooperate. Clients of this command are connected through the same links.
//!
//! A cut holds bytes until it heals, as TCP does that sends again and again. Loss shows as the lateness of what TCP
//! would send again, for a proxy sees no packets.

use std::{
    collections::BTreeMap,
    fs, io,
    net::TcpListener as Port,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use halcyon_core::env::{BoxStream, Entropy};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::{Addresses, wire::Wire};
use crate::local::{clock, limits::LOOK_EVERY, links::Links};

/// Bytes passed on at once.
const PIECE_BYTES: usize = 16 << 10;

/// Pieces on the way in one direction: a megabyte, which is what TCP's window holds.
const PIECES_MAX: usize = 64;

/// Bytes between a client and its own end of a link.
const PIPE_BYTES: usize = 64 << 10;

/// How often whose a connection is is looked up: a node may knock before its process is noted.
const OWNER_LOOKS: usize = 200;

/// See [`OWNER_LOOKS`].
const OWNER_LOOK_EVERY: Duration = Duration::from_millis(10);

/// Below the range that the system takes for outgoing connections: a node that was stopped finds its port free.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// The doors of all nodes.
#[derive(Clone)]
pub(in crate::local) struct Loopback {
    links: Links,
    entropy: Arc<dyn Entropy>,
    nodes: Arc<Mutex<Vec<Addresses>>>,
    owners: Arc<Mutex<BTreeMap<u32, usize>>>,
}

impl std::fmt::Debug for Loopback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Loopback")
    }
}

impl Loopback {
    /// No node yet.
    pub(super) fn new(links: Links, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            links,
            entropy,
            nodes: Arc::default(),
            owners: Arc::default(),
        }
    }

    /// Opens the door of the next node.
    pub(super) async fn add_node(&self) -> io::Result<()> {
        let [client, listen, door] = [free_port()?, free_port()?, free_port()?];
        let [client, listen, door_address] = [client, listen, door].map(|port| format!("127.0.0.1:{port}"));
        let listener = bind(&door_address).await?;
        let to = {
            let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
            nodes.push(Addresses {
                client,
                peer_listen: listen.clone(),
                peer_advertise: door_address,
            });
            nodes.len() - 1
        };
        let proxy = self.clone();
        tokio::spawn(async move {
            while let Ok((knocking, address)) = listener.accept().await {
                let (proxy, listen) = (proxy.clone(), listen.clone());
                tokio::spawn(async move {
                    if let Some(from) = proxy.known_owner_of(address.port(), door).await {
                        proxy.pass(knocking, &listen, (from, to)).await;
                    }
                });
            }
        });
        Ok(())
    }

    /// Where a node listens.
    pub(super) fn addresses(&self, node: usize) -> Addresses {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)[node].clone()
    }

    /// This process is that node.
    pub(super) fn owned_by(&self, process: u32, node: usize) {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        owners.retain(|_, owner| *owner != node);
        owners.insert(process, node);
    }

    /// Opens a connection from beside a node.
    pub(super) async fn connect(&self, from: usize, address: String) -> io::Result<BoxStream> {
        let to = {
            let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
            nodes.iter().position(|node| node.client == address)
        };
        let to = to.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, address.clone()))?;
        // A handshake does not get through a cut.
        while self.links.get(from, to).cut || self.links.get(to, from).cut {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let node = dial(&address).await?;
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let proxy = self.clone();
        tokio::spawn(async move { proxy.join(theirs, node, (from, to)).await });
        Ok(Box::new(ours))
    }

    async fn pass(&self, knocking: TcpStream, listen: &str, sides: (usize, usize)) {
        if let Ok(node) = dial(listen).await {
            let _ = knocking.set_nodelay(true);
            self.join(knocking, node, sides).await;
        }
    }

    async fn join(&self, near: impl AsyncRead + AsyncWrite, node: TcpStream, (from, to): (usize, usize)) {
        let (near_read, near_write) = tokio::io::split(near);
        let (node_read, node_write) = node.into_split();
        tokio::join!(
            self.carry(near_read, node_write, (from, to)),
            self.carry(node_read, near_write, (to, from)),
        );
    }

    /// Carries one direction until it ends; an end of the stream travels like its bytes.
    async fn carry(&self, mut read: impl AsyncRead + Unpin, write: impl AsyncWrite + Unpin, sides: (usize, usize)) {
        let (sent, arriving) = mpsc::channel(PIECES_MAX);
        let sending = async move {
            let (mut wire, mut piece) = (Wire::default(), vec![0; PIECE_BYTES]);
            loop {
                let bytes = read.read(&mut piece).await.unwrap_or(0);
                let link = self.links.get(sides.0, sides.1);
                let arrival = wire.piece(link, bytes, clock::now(), self.entropy.next());
                if sent.send((arrival, piece[..bytes].to_vec())).await.is_err() || bytes == 0 {
                    return;
                }
            }
        };
        tokio::join!(sending, self.deliver(arriving, write, sides));
    }

    async fn deliver(
        &self,
        mut arriving: mpsc::Receiver<(Duration, Vec<u8>)>,
        mut write: impl AsyncWrite + Unpin,
        sides: (usize, usize),
    ) {
        while let Some((arrival, piece)) = arriving.recv().await {
            clock::sleep_until(arrival).await;
            while self.links.get(sides.0, sides.1).cut {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            if piece.is_empty() || write.write_all(&piece).await.is_err() {
                break;
            }
        }
        let _ = write.shutdown().await;
    }

    async fn known_owner_of(&self, port: u16, door: u16) -> Option<usize> {
        for _ in 0..OWNER_LOOKS {
            let owner = self.owner_of(port, door);
            if owner.is_some() {
                return owner;
            }
            tokio::time::sleep(OWNER_LOOK_EVERY).await;
        }
        None
    }

    fn owner_of(&self, port: u16, door: u16) -> Option<usize> {
        let socket = format!("socket:[{}]", inode_of(port, door)?);
        let owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner).clone();
        owners
            .into_iter()
            .find_map(|(process, node)| holds(process, &socket).then_some(node))
    }
}

/// The socket that leads from `port` to `door` on loopback, by the system's table of connections. Both ends must be
/// looked at: the system gives one port to connections that lead to different places.
fn inode_of(port: u16, door: u16) -> Option<String> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let ends = [port, door].map(|port| format!("0100007F:{port:04X}"));
    let leads_there = |line: &&str| {
        line.split_whitespace()
            .skip(1)
            .take(2)
            .eq(ends.iter().map(String::as_str))
    };
    let line = table.lines().find(leads_there)?;
    line.split_whitespace().nth(9).map(str::to_owned)
}

fn holds(process: u32, socket: &str) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{process}/fd")) else {
        return false;
    };
    let mut targets = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.any(|target| target.as_os_str() == socket)
}

/// A port that nobody listens on, and that nobody else in this process is given.
fn free_port() -> io::Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = PORTS.end - PORTS.start;
    // Runs side by side start far apart.
    let start = u16::try_from(std::process::id() * 331 % u32::from(span)).unwrap_or(0);
    for _ in 0..span {
        let port = PORTS.start + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % span;
        if Port::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::other("no port on 127.0.0.1 is free"))
}

#[expect(clippy::disallowed_methods, reason = "the door stands outside every node")]
async fn bind(address: &str) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

#[expect(clippy::disallowed_methods, reason = "the door stands outside every node")]
async fn dial(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_connection_is_told_by_both_its_ends() {
        let doors = [(); 2].map(|()| Port::bind("127.0.0.1:0").unwrap());
        let [door, other] = doors.each_ref().map(|door| door.local_addr().unwrap().port());
        let near = TcpStream::connect(("127.0.0.1", door)).unwrap();
        let port = near.local_addr().unwrap().port();
        let inode = inode_of(port, door).unwrap();
        assert!(holds(std::process::id(), &format!("socket:[{inode}]")));
        assert_eq!(inode_of(port, other), None);
    }
}
