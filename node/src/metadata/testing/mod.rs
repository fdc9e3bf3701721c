//! A cluster of control planes in one process, over loopback and temporary directories.

mod service;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use halcyon_core::id::{NodeId, RegionName};
use tokio::sync::watch;

use self::world::AnswersLost;
pub(crate) use self::world::env;
use super::{
    Bootstrap, Metadata, Options,
    command::{Command, Reply},
    state::{Node, NodeState},
};
use crate::peers::Pool;

/// Short times, so that failover takes tests seconds; long enough for a busy machine to keep them.
pub(crate) fn options() -> Options {
    Options {
        heartbeat: Duration::from_millis(300),
        election: (Duration::from_millis(1_200), Duration::from_millis(2_400)),
        // Where a busy disk may hold an election up for long.
        deadline: Duration::from_secs(40),
        snapshot_entries: 200,
        kept_entries: 50,
    }
}

/// One running node. Its server ends when it is dropped.
pub(crate) struct Running {
    pub(crate) metadata: Metadata,
    /// No call leaves or enters the node while this is set.
    pub(crate) cut: Arc<AtomicBool>,
    stop: watch::Sender<bool>,
    server: tokio::task::JoinHandle<()>,
}

/// A cluster; what is not in `running` is down.
pub(crate) struct Cluster {
    directory: tempfile::TempDir,
    pub(crate) running: BTreeMap<NodeId, Running>,
    addresses: BTreeMap<NodeId, String>,
    options: Options,
    /// Nodes of a release that takes no appends as a stream, when they start next.
    pub(crate) old: BTreeSet<NodeId>,
    /// Nodes that hear of each write's first answer nothing, when they start next.
    pub(crate) hard_of_hearing: BTreeSet<NodeId>,
}

/// The token that all nodes of test clusters join with.
const TOKEN: [u8; 32] = [7; 32];

impl Cluster {
    /// A cluster with one node for each region.
    pub(crate) async fn new(regions: &[&str], options: Options) -> Self {
        let mut cluster = Self {
            directory: tempfile::tempdir().unwrap(),
            running: BTreeMap::new(),
            addresses: BTreeMap::new(),
            options,
            old: BTreeSet::new(),
            hard_of_hearing: BTreeSet::new(),
        };
        let (first, others) = regions.split_first().unwrap();
        let first_node = NodeId(1);
        cluster.start(first_node).await;
        let node = Node {
            id: first_node,
            region: RegionName::new(first).unwrap(),
            client_address: String::new(),
            peer_address: cluster.addresses[&first_node].clone(),
            state: NodeState::Active,
        };
        let init = Bootstrap {
            cluster: "test".to_owned(),
            ca_certificate: vec![1],
            ca_key: vec![2],
            admin: [0; 32],
            node,
        };
        cluster.at(1).bootstrap(init).await.unwrap();
        let token = Command::AddToken {
            hash: TOKEN,
            expires_ms: 1_000,
            now_ms: 0,
        };
        cluster.at(1).write(token).await.unwrap();
        for region in others {
            cluster.join(region).await;
        }
        cluster
    }

    /// A new node joins in `region`.
    pub(crate) async fn join(&mut self, region: &str) -> NodeId {
        let expected = NodeId(self.addresses.len() as u64 + 1);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let command = Command::Join {
            request: u128::from(expected.0),
            token: TOKEN,
            now_ms: 1,
            region: RegionName::new(region).unwrap(),
            client_address: String::new(),
            peer_address: address.clone(),
        };
        let via = self.running.values().next().unwrap().metadata.clone();
        assert_eq!(via.write(command).await, Ok(Reply::Joined(expected)));
        self.addresses.insert(expected, address);
        self.start(expected).await;
        expected
    }

    /// Starts a node that is down, on its old directory.
    pub(crate) async fn start(&mut self, id: NodeId) {
        let directory = self.directory.path().join(id.to_string());
        fs::create_dir_all(&directory).unwrap();
        let (mut env, cut) = env(&directory);
        if self.hard_of_hearing.contains(&id) {
            env.probe = Arc::new(AnswersLost);
        }
        let address = self
            .addresses
            .get(&id)
            .cloned()
            .unwrap_or_else(|| "127.0.0.1:0".to_owned());
        let listener = listen(&address).await;
        self.addresses.insert(id, listener.local_addr().unwrap().to_string());
        let pool = Pool::plain(&env);
        for (peer, address) in &self.addresses {
            pool.set_address(*peer, address.clone());
        }
        let metadata = Metadata::start(&env, id, pool, self.options.clone()).await.unwrap();
        let (stop, server) = service::serve(metadata.clone(), cut.clone(), self.old.contains(&id), listener);
        let running = Running {
            metadata,
            cut,
            stop,
            server,
        };
        self.running.insert(id, running);
    }

    /// The control plane of node `id`.
    pub(crate) fn at(&self, id: u64) -> Metadata {
        self.running[&NodeId(id)].metadata.clone()
    }

    /// Cuts a node off, both ways, or brings it back.
    pub(crate) fn cut(&self, id: u64, cut: bool) {
        self.running[&NodeId(id)].cut.store(cut, Ordering::Relaxed);
    }

    /// Stops a node.
    pub(crate) async fn stop(&mut self, id: NodeId) {
        let running = self.running.remove(&id).unwrap();
        running.stop.send_replace(true);
        let _ = running.server.await;
        running.metadata.shutdown().await;
    }
}

/// The files of a node that is down.
pub(crate) type Files = Vec<(PathBuf, Vec<u8>)>;

impl Cluster {
    /// A copy of the files of a node that is down.
    pub(crate) fn files(&self, id: NodeId) -> Files {
        let entries = fs::read_dir(self.directory.path().join(id.to_string())).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    /// Puts the files of a node that is down back as they were.
    pub(crate) fn put_back(&self, id: NodeId, files: &Files) {
        let directory = self.directory.path().join(id.to_string());
        fs::remove_dir_all(&directory).unwrap();
        fs::create_dir(&directory).unwrap();
        for (path, bytes) in files {
            fs::write(path, bytes).unwrap();
        }
    }
}

/// Binds, and waits where the last owner of the port has not let go yet.
#[expect(clippy::disallowed_methods, reason = "a test's server")]
async fn listen(address: &str) -> tokio::net::TcpListener {
    for _ in 0..100 {
        if let Ok(listener) = tokio::net::TcpListener::bind(address).await {
            return listener;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{address} stays taken");
}

/// Waits until `done`, at most three minutes: only a machine that is busy elsewhere needs that long.
#[track_caller]
pub(crate) fn eventually(what: &'static str, done: impl Fn() -> bool) -> impl Future<Output = ()> {
    let waiting = async move {
        while !done() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    async move {
        let in_time = tokio::time::timeout(Duration::from_mins(3), waiting).await;
        assert!(in_time.is_ok(), "in vain: {what}");
    }
}
