//! The links between nodes, as something a test can cut, hold and slow, although all is on one loopback.
//!
//! Every node tells its peers the address of a door here instead of its own. The door passes bytes on as the links
//! say. Who knocks is found by its port: Linux tells which process owns a socket, so no node has to cooperate.
//!
//! A link has a direction: what `n1` sends to `n3` may be held while answers still come, whoever opened the connection.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::wait::runtime;

/// Bytes passed on at once.
const PIECE_BYTES: usize = 64 << 10;

/// How often whose a connection is is looked up, before it counts as the tester's own.
const OWNER_LOOKS: usize = 20;

/// See [`OWNER_LOOKS`].
const OWNER_LOOK_EVERY: Duration = Duration::from_millis(10);

/// How often a door that finds its port held tries again.
const LISTEN_TRIES: u32 = 200;

/// See [`LISTEN_TRIES`].
const LISTEN_PAUSE: Duration = Duration::from_millis(10);

/// The programs inside the test's own process, as a side of a link.
pub const PROGRAM: usize = usize::MAX;

/// What becomes of bytes on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Link {
    /// They pass.
    #[default]
    Open,
    /// They wait: nobody learns that the other side is away, as behind a router that lost its power.
    Held,
    /// Connections end and none opens.
    Cut,
    /// They pass later.
    Slow(Duration),
}

/// A node's place in the cluster; `None` is a program that is no node of ours.
type Side = Option<usize>;

type Table = BTreeMap<(usize, usize), Link>;

/// All links of a cluster.
#[derive(Debug, Clone)]
pub struct Links {
    table: Arc<watch::Sender<Table>>,
    owners: Arc<Mutex<BTreeMap<u32, usize>>>,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            table: Arc::new(watch::Sender::new(Table::new())),
            owners: Arc::default(),
        }
    }
}

impl Links {
    /// Opens the door of node `to`, which listens on `peer_port`, on a free port, and returns that port.
    pub fn open_door(&self, to: usize, door_port: u16, peer_port: u16) {
        let links = self.clone();
        let listener = runtime().block_on(listen(door_port));
        runtime().spawn(async move {
            while let Ok((knocking, address)) = listener.accept().await {
                let links = links.clone();
                tokio::spawn(async move {
                    let from = links.known_owner_of(address.port(), door_port).await;
                    links.pass(knocking, (from, Some(to)), peer_port).await;
                });
            }
        });
    }

    /// This process is that node.
    pub fn owned_by(&self, pid: u32, node: usize) {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        owners.retain(|_, owner| *owner != node);
        owners.insert(pid, node);
    }

    /// Sets one direction.
    pub fn set(&self, from: usize, to: usize, link: Link) {
        self.table.send_modify(|table| {
            table.insert((from, to), link);
        });
    }

    /// Sets both directions between one node and every one of the others.
    pub fn set_around(&self, node: usize, others: impl Iterator<Item = usize>, link: Link) {
        for other in others.filter(|other| *other != node) {
            self.set(node, other, link);
            self.set(other, node, link);
        }
    }

    /// Opens all.
    pub fn heal(&self) {
        self.table.send_modify(Table::clear);
    }

    async fn pass(&self, knocking: TcpStream, (from, to): (Side, Side), peer_port: u16) {
        let is_cut = self.link(from, to) == Link::Cut || self.link(to, from) == Link::Cut;
        if is_cut {
            return;
        }
        let Ok(node) = dial(peer_port).await else {
            return;
        };
        let _ = (knocking.set_nodelay(true), node.set_nodelay(true));
        let (their_bytes, our_answers) = knocking.into_split();
        let (node_answers, node_bytes) = node.into_split();
        tokio::select! {
            biased;
            () = self.carry(their_bytes, node_bytes, (from, to)) => {}
            () = self.carry(node_answers, our_answers, (to, from)) => {}
        }
    }

    async fn carry(&self, mut read: impl AsyncRead + Unpin, mut write: impl AsyncWrite + Unpin, sides: (Side, Side)) {
        let mut piece = vec![0; PIECE_BYTES];
        let mut table = self.table.subscribe();
        loop {
            let took = tokio::select! {
                biased;
                () = cut(&mut table, sides) => return,
                took = read.read(&mut piece) => took,
            };
            let Some(bytes) = took.ok().filter(|bytes| *bytes > 0) else {
                let _ = write.shutdown().await;
                return;
            };
            let Ok(link) = table
                .wait_for(|table| look_up(table, sides) != Link::Held)
                .await
                .map(|t| look_up(&t, sides))
            else {
                return;
            };
            if let Link::Slow(delay) = link {
                tokio::time::sleep(delay).await;
            }
            if link == Link::Cut || write.write_all(&piece[..bytes]).await.is_err() {
                return;
            }
        }
    }

    fn link(&self, from: Side, to: Side) -> Link {
        look_up(&self.table.borrow(), (from, to))
    }

    /// A node may knock before the tester has noted whose process it is: a connection without an owner is never cut.
    async fn known_owner_of(&self, port: u16, door: u16) -> Side {
        for _ in 0..OWNER_LOOKS {
            let owner = self.owner_of(port, door);
            if owner.is_some() {
                return owner;
            }
            tokio::time::sleep(OWNER_LOOK_EVERY).await;
        }
        None
    }

    fn owner_of(&self, port: u16, door: u16) -> Side {
        let socket = format!("socket:[{}]", inode_of(port, door)?);
        let owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut nodes = owners.into_iter();
        nodes.find_map(|(pid, node)| holds(pid, &socket).then_some(node))
    }
}

fn look_up(table: &Table, (from, to): (Side, Side)) -> Link {
    let key = from.zip(to);
    key.and_then(|key| table.get(&key)).copied().unwrap_or_default()
}

async fn cut(table: &mut watch::Receiver<Table>, sides: (Side, Side)) {
    let _ = table.wait_for(|table| look_up(table, sides) == Link::Cut).await;
}

/// The socket that leads from `port` to `door` on loopback, by the system's table of connections. Both ends count: the
/// system gives one port to connections that lead to different places, and keeps ended ones for a minute.
fn inode_of(port: u16, door: u16) -> Option<String> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let ends = [port, door].map(|port| format!("0100007F:{port:04X}"));
    let leads_there = |line: &&str| line.split_whitespace().skip(1).take(2).eq(&ends);
    let line = table.lines().find(leads_there)?;
    line.split_whitespace().nth(9).map(str::to_owned)
}

fn holds(pid: u32, socket: &str) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    let mut targets = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    targets.any(|target| target.as_os_str() == socket)
}

#[expect(clippy::disallowed_methods, reason = "the door stands outside every node")]
async fn listen(port: u16) -> TcpListener {
    let mut tries = 0..LISTEN_TRIES;
    loop {
        match TcpListener::bind(("127.0.0.1", port)).await {
            Ok(listener) => return listener,
            // A child that was started just now has the sockets of its parent until it runs its own program; one of them
            // may be that with which this port was tried.
            Err(error) if tries.next().is_some() && error.kind() == ErrorKind::AddrInUse => {
                tokio::time::sleep(LISTEN_PAUSE).await;
            }
            Err(error) => panic!("port {port} was free a moment ago: {error}"),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the door stands outside every node")]
async fn dial(port: u16) -> std::io::Result<TcpStream> {
    TcpStream::connect(("127.0.0.1", port)).await
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
    };

    use tokio::net::TcpSocket;

    use super::*;
    use crate::ports::free_port;

    #[test]
    fn a_port_that_is_held_for_a_moment_is_waited_for() {
        let port = free_port();
        let held = TcpListener::bind(("127.0.0.1", port)).unwrap();
        runtime().spawn(async move {
            tokio::time::sleep(4 * LISTEN_PAUSE).await;
            drop(held);
        });
        Links::default().open_door(0, port, free_port());
        TcpStream::connect(("127.0.0.1", port)).unwrap();
    }

    /// A door in front of an echo; we are node 0, the echo is node 1.
    fn knock(links: &Links) -> TcpStream {
        let (echo_port, door_port) = (free_port(), free_port());
        let echo = TcpListener::bind(("127.0.0.1", echo_port)).unwrap();
        runtime().spawn_blocking_echo(echo);
        links.owned_by(std::process::id(), 0);
        links.open_door(1, door_port, echo_port);
        let stream = TcpStream::connect(("127.0.0.1", door_port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        stream
    }

    #[test]
    fn one_port_that_leads_to_two_places_is_two_sockets() {
        let own = free_port();
        let doors = [free_port(), free_port()];
        let _listening = doors.map(|door| TcpListener::bind(("127.0.0.1", door)).unwrap());
        let _connected = doors.map(|door| {
            runtime().block_on(async {
                let socket = TcpSocket::new_v4().unwrap();
                socket.set_reuseaddr(true).unwrap();
                socket.bind(([127, 0, 0, 1], own).into()).unwrap();
                socket.connect(([127, 0, 0, 1], door).into()).await.unwrap()
            })
        });
        let [first, second] = doors.map(|door| inode_of(own, door).unwrap());
        assert_ne!(first, second);
    }

    trait Echo {
        fn spawn_blocking_echo(&self, listener: TcpListener);
    }

    impl Echo for tokio::runtime::Runtime {
        fn spawn_blocking_echo(&self, listener: TcpListener) {
            self.spawn(async move {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let (mut read, mut write) = stream.into_split();
                    tokio::spawn(async move { tokio::io::copy(&mut read, &mut write).await });
                }
            });
        }
    }

    fn answer(stream: &mut TcpStream) -> Option<u8> {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok().map(|()| byte[0])
    }

    #[test]
    fn a_held_link_keeps_bytes_and_gives_them_when_it_heals() {
        let links = Links::default();
        let mut stream = knock(&links);
        stream.write_all(b"a").unwrap();
        assert_eq!(answer(&mut stream), Some(b'a'));
        links.set(1, 0, Link::Held);
        stream.write_all(b"b").unwrap();
        assert_eq!(answer(&mut stream), None);
        links.heal();
        assert_eq!(answer(&mut stream), Some(b'b'));
    }

    #[test]
    fn a_cut_link_ends_its_connections() {
        let links = Links::default();
        let mut stream = knock(&links);
        stream.write_all(b"a").unwrap();
        assert_eq!(answer(&mut stream), Some(b'a'));
        links.set(0, 1, Link::Cut);
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
}
