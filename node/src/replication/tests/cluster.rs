//! Nodes in one process: real sockets, real storage, and a control plane that a test holds in its hand.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, Clock, NTP64},
    env::{BoxFuture, BoxStream, Env},
    id::{EntityId, NodeId, Predicate, TenantId},
    value::Value,
    version_vector::VersionVector,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use prost::bytes::Bytes;
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinSet, time::sleep};

use super::peer::TestPeer;
use crate::{
    metadata::{
        settings::Settings,
        state::{ReplicaState, State, Tenant},
    },
    peers::Pool,
    replication::{Concerns, ControlPlane, NotReported, Replication, engine::Report, fixtures},
    storage::{
        Options, Storage,
        types::{Admitted, Summary},
    },
    tenant::{PushError, Tenants, feed::Feed},
};

/// The control plane of all nodes of a test.
pub(super) struct TestControl {
    state: Mutex<State>,
    /// Nodes that start to leave when nobody joins any more.
    leaving: Mutex<BTreeSet<NodeId>>,
    index: watch::Sender<u64>,
}

impl TestControl {
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.index.send_modify(|index| *index += 1);
        result
    }

    pub(super) fn change_tenant(&self, change: impl FnOnce(&mut Tenant)) {
        self.change(|state| {
            if let Some(tenant) = state.tenants.get_mut(&fixtures::tenant_id()) {
                let mut changed = Tenant::clone(tenant);
                change(&mut changed);
                changed.placement_epoch += 1;
                *tenant = Arc::new(changed);
            }
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ControlPlane for TestControl {
    fn index(&self) -> u64 {
        *self.index.borrow()
    }

    fn beyond(&self, index: u64) -> BoxFuture<'_, ()> {
        let mut changes = self.index.subscribe();
        Box::pin(async move {
            let _ = changes.wait_for(|&now| now > index).await;
        })
    }

    fn concerns(&self, me: NodeId) -> Concerns {
        let state = self.lock();
        let is_mine = |tenant: &&Arc<Tenant>| tenant.replicas.contains_key(&me);
        Concerns {
            placed: state.tenants.values().filter(is_mine).cloned().collect(),
            erasing: state
                .erasing
                .iter()
                .filter(|(_, nodes)| nodes.contains(&me))
                .map(|(&tenant, _)| tenant)
                .collect(),
            regions: state
                .nodes
                .iter()
                .map(|(&id, node)| (id, node.region.clone()))
                .collect(),
            removed: state.removed_nodes.clone(),
        }
    }

    fn tenant(&self, tenant: TenantId) -> Option<Arc<Tenant>> {
        self.lock().tenants.get(&tenant).cloned()
    }

    fn settings(&self) -> Settings {
        Settings::of(&self.lock().settings)
    }

    fn report(&self, me: NodeId, tenant: TenantId, report: Report) -> BoxFuture<'_, Result<(), NotReported>> {
        Box::pin(async move {
            self.take_report(me, tenant, report);
            Ok(())
        })
    }

    fn collected(&self, _tenant: TenantId, collection_epoch: u64) -> BoxFuture<'_, Result<(), NotReported>> {
        Box::pin(async move {
            self.change_tenant(|tenant| tenant.collection_epoch = collection_epoch);
            Ok(())
        })
    }
}

impl TestControl {
    fn take_report(&self, me: NodeId, tenant: TenantId, report: Report) {
        let now = self.tenant(tenant).map(|tenant| tenant.placement_epoch);
        match report {
            Report::Ready { placement_epoch } if Some(placement_epoch) == now => {
                let leaving = std::mem::take(&mut *self.leaving.lock().unwrap());
                self.change_tenant(|tenant| {
                    tenant.replicas.insert(me, ReplicaState::Active);
                    for node in leaving {
                        tenant.replicas.insert(node, ReplicaState::Leaving);
                    }
                });
            }
            Report::Gone { placement_epoch } if Some(placement_epoch) == now => {
                self.change_tenant(|tenant| {
                    tenant.replicas.remove(&me);
                });
            }
            Report::Ready { .. } | Report::Gone { .. } => {}
            Report::Erased => self.change(|state| {
                state.erasing.entry(tenant).or_default().remove(&me);
            }),
        }
    }
}

/// A way from one node to another. It can be cut, and then fails at once.
struct Way {
    is_cut: AtomicBool,
    /// Connections are taken, and nothing on them is answered.
    is_silent: AtomicBool,
    connections: Mutex<JoinSet<()>>,
    /// Who answers at its end; `None` while that node is down.
    target: Mutex<Option<Replication>>,
}

/// One node.
pub(super) struct TestNode {
    pub(super) storage: Storage,
    pub(super) replication: Replication,
    pub(super) tenants: Tenants,
}

/// All of it.
pub(super) struct Cluster {
    pub(super) control: Arc<TestControl>,
    pub(super) nodes: BTreeMap<u64, TestNode>,
    dirs: BTreeMap<u64, TempDir>,
    addresses: BTreeMap<(u64, u64), String>,
    ways: BTreeMap<(u64, u64), Arc<Way>>,
    /// After how many messages the next catch-up of a node breaks off, whomever it asks.
    catch_up_parts: BTreeMap<u64, Arc<AtomicUsize>>,
    client: Mutex<(Clock, u64)>,
}

/// How long a test waits for what must come.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

impl Cluster {
    /// Starts nodes, with the tenant on those that are named in `replicas`.
    pub(super) async fn start(nodes: &[u64], replicas: &[(u64, ReplicaState)]) -> Self {
        let mut cluster = Self {
            control: Arc::new(TestControl {
                state: Mutex::new(state(nodes, replicas)),
                leaving: Mutex::default(),
                index: watch::Sender::new(1),
            }),
            nodes: BTreeMap::new(),
            dirs: nodes.iter().map(|&node| (node, TempDir::new().unwrap())).collect(),
            addresses: BTreeMap::new(),
            ways: BTreeMap::new(),
            catch_up_parts: nodes
                .iter()
                .map(|&node| (node, Arc::new(AtomicUsize::new(usize::MAX))))
                .collect(),
            client: Mutex::new((Clock::new(ClientId::from_random(77), NTP64(0)), 0)),
        };
        for &to in nodes {
            for &from in nodes.iter().filter(|&&from| from != to) {
                cluster.open_way(from, to).await;
            }
        }
        for &node in nodes {
            cluster.start_node(node).await;
        }
        cluster
    }

    async fn open_way(&mut self, from: u64, to: u64) {
        let env = crate::env::system(TempDir::new().unwrap().path()).unwrap();
        let mut listener = env.network.listen("127.0.0.1:0".to_owned()).await.unwrap();
        let way = Arc::new(Way {
            is_cut: AtomicBool::new(false),
            is_silent: AtomicBool::new(false),
            connections: Mutex::default(),
            target: Mutex::default(),
        });
        self.addresses.insert((from, to), listener.address());
        self.ways.insert((from, to), Arc::clone(&way));
        let catch_up_parts = Arc::clone(&self.catch_up_parts[&from]);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if way.is_silent.load(Ordering::SeqCst) {
                    way.connections.lock().unwrap().spawn(async move {
                        let _held = stream;
                        std::future::pending::<()>().await;
                    });
                    continue;
                }
                let target = way.target.lock().unwrap().clone();
                if let Some(replication) = target
                    && !way.is_cut.load(Ordering::SeqCst)
                {
                    let parts = Arc::clone(&catch_up_parts);
                    let serving = serve(stream, NodeId(from), replication, parts);
                    way.connections.lock().unwrap().spawn(serving);
                }
            }
        });
    }

    /// Starts a node on its files.
    pub(super) async fn start_node(&mut self, node: u64) {
        let id = NodeId(node);
        let env = crate::env::system(self.dirs[&node].path()).unwrap();
        let feed = Feed::default();
        let storage = open_storage(&env, id, &feed).await;
        let pool = Pool::plain(env.clone());
        for (&(_, to), address) in self.addresses.iter().filter(|&(&(from, _), _)| from == node) {
            pool.set_address(NodeId(to), address.clone());
        }
        let control: Arc<dyn ControlPlane> = Arc::clone(&self.control) as _;
        let replication = Replication::start(&env, id, storage.clone(), Arc::clone(&control), pool, &feed).unwrap();
        let tenants = Tenants::new(&env, id, storage.clone(), replication.clone(), control, feed);
        for (_, way) in self.ways.iter().filter(|&(&(_, to), _)| to == node) {
            *way.target.lock().unwrap() = Some(replication.clone());
        }
        self.nodes.insert(
            node,
            TestNode {
                storage,
                replication,
                tenants,
            },
        );
    }

    /// Stops a node; its files stay.
    pub(super) async fn stop_node(&mut self, node: u64) {
        for (_, way) in self.ways.iter().filter(|&(&(from, to), _)| to == node || from == node) {
            way.connections.lock().unwrap().abort_all();
        }
        for (_, way) in self.ways.iter().filter(|&(&(_, to), _)| to == node) {
            *way.target.lock().unwrap() = None;
        }
        if let Some(stopped) = self.nodes.remove(&node) {
            stopped.replication.stop();
            stopped.storage.close().await;
        }
        sleep(Duration::from_millis(200)).await;
    }

    /// A node's files.
    pub(super) fn dir(&self, node: u64) -> &Path {
        self.dirs[&node].path()
    }

    /// Cuts or heals all ways of a node.
    pub(super) fn cut(&self, node: u64, is_cut: bool) {
        for (_, way) in self.ways.iter().filter(|&(&(from, to), _)| from == node || to == node) {
            way.is_cut.store(is_cut, Ordering::SeqCst);
            way.connections.lock().unwrap().abort_all();
        }
    }

    /// A node takes connections from now on and answers nothing.
    pub(super) fn silence(&self, node: u64) {
        for (_, way) in self.ways.iter().filter(|&(&(_, to), _)| to == node) {
            way.is_silent.store(true, Ordering::SeqCst);
            way.connections.lock().unwrap().abort_all();
        }
    }

    /// The next catch-up of a node breaks off after so many messages.
    pub(super) fn break_catch_up(&self, node: u64, parts: usize) {
        self.catch_up_parts[&node].store(parts, Ordering::SeqCst);
    }

    /// The tenant.
    pub(super) fn tenant(&self) -> Arc<Tenant> {
        self.control.tenant(fixtures::tenant_id()).unwrap()
    }

    /// A change set of the test's client.
    pub(super) fn set(&self, changes: Vec<Change>) -> Bytes {
        let mut client = self.client.lock().unwrap();
        client.1 += 1;
        let number = client.1;
        let wall = halcyon_core::clock::WallTime::from_unix(Duration::from_secs(1_000_000_000 + number));
        let timestamp = client.0.stamp(wall);
        let set = ChangeSet {
            timestamp,
            number,
            changes,
        };
        set.encode().into()
    }

    /// Pushes sets at a node.
    pub(super) async fn push(&self, node: u64, sets: Vec<Bytes>) -> Vec<Result<Admitted, PushError>> {
        let tenants = &self.nodes[&node].tenants;
        tenants.push(&self.tenant(), sets, VersionVector::EMPTY).await
    }

    /// Creates entities at a node, `changes` fields each, one set for each.
    pub(super) async fn create(&self, node: u64, entities: std::ops::Range<usize>, fields: usize) {
        for chunk in entities.collect::<Vec<_>>().chunks(64) {
            let sets = chunk
                .iter()
                .map(|&entity| self.set(creation(&format!("e{entity}"), fields)));
            let answers = self.push(node, sets.collect()).await;
            for answer in answers {
                answer.unwrap();
            }
        }
    }

    /// What a node holds of the tenant.
    pub(super) fn summary(&self, node: u64) -> Option<Summary> {
        self.nodes[&node].storage.summary(fixtures::tenant_id()).unwrap()
    }

    /// Waits until something holds.
    pub(super) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..PATIENCE.as_millis() / 5 {
            if holds(self) {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
        let states: Vec<_> = self.nodes.keys().map(|&node| (node, self.summary(node))).collect();
        panic!("{what} did not come: {states:#?} {:?}", self.tenant_state());
    }

    fn tenant_state(&self) -> Option<Arc<Tenant>> {
        self.control.tenant(fixtures::tenant_id())
    }

    /// Waits until these nodes serve.
    pub(super) async fn serving(&self, nodes: &[u64]) {
        self.until("serving", |cluster| {
            nodes.iter().all(|node| {
                let is_admitting = cluster.summary(*node).is_some_and(|own| own.admitting);
                is_admitting && cluster.nodes[node].replication.serves(fixtures::tenant_id())
            })
        })
        .await;
    }

    /// Waits until these nodes agree in vectors and facts.
    pub(super) async fn agree(&self, nodes: &[u64]) {
        self.until("agreement", |cluster| {
            let all: Vec<_> = nodes.iter().filter_map(|&node| cluster.summary(node)).collect();
            let like = |own: &Summary| {
                own.is_exact()
                    && own.vector == all[0].vector
                    && own.fingerprint == all[0].fingerprint
                    && own.collection_epoch == all[0].collection_epoch
            };
            all.len() == nodes.len() && all.iter().all(like)
        })
        .await;
    }

    /// Moves the tenant: `joining` is filled, then `leaving` leave.
    pub(super) fn place(&self, joining: u64, leaving: &[u64]) {
        self.control
            .leaving
            .lock()
            .unwrap()
            .extend(leaving.iter().map(|&node| NodeId(node)));
        self.control.change_tenant(|tenant| {
            tenant.replicas.insert(NodeId(joining), ReplicaState::Joining);
        });
    }
}

/// Changes that create an entity.
pub(super) fn creation(entity: &str, fields: usize) -> Vec<Change> {
    let subject = EntityId::new(entity).unwrap();
    let mut changes = vec![Change::Create {
        subject: subject.clone(),
    }];
    changes.extend((0..fields).map(|field| Change::Set {
        subject: subject.clone(),
        predicate: Predicate::new(&format!("post/f{field}")).unwrap(),
        value: Value::String(format!("{entity} {field}").into()),
    }));
    changes
}

async fn open_storage(env: &Env, node: NodeId, feed: &Feed) -> Storage {
    let options = Options {
        node,
        ..Options::default()
    };
    Storage::open(env, options, Arc::new(feed.clone())).await.unwrap()
}

fn state(nodes: &[u64], replicas: &[(u64, ReplicaState)]) -> State {
    let mut state = State::default();
    for (id, region) in fixtures::regions(nodes) {
        let node = crate::metadata::state::Node {
            id,
            region,
            client_address: String::new(),
            peer_address: String::new(),
            state: crate::metadata::state::NodeState::Active,
        };
        state.nodes.insert(id, Arc::new(node));
    }
    state
        .tenants
        .insert(fixtures::tenant_id(), Arc::new(fixtures::tenant(replicas)));
    for (name, value) in [
        ("catch_up_interval", "200ms"),
        ("collection_interval", "200ms"),
        ("region_ack_deadline", "2s"),
    ] {
        state.settings.insert(name.to_owned(), value.to_owned());
    }
    state
}

async fn serve(stream: BoxStream, from: NodeId, replication: Replication, catch_up_parts: Arc<AtomicUsize>) {
    let service = TestPeer::server(from, replication, catch_up_parts);
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    // Cut connections end in errors.
    let _ = connection.await;
}
