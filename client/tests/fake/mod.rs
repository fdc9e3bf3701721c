//! A cluster of pretended nodes: the `Sync` service over loopback, with faults to order.
//!
//! The nodes share what they hold, at once or never, so that a test can say exactly what was taken where.

mod admin;
#[expect(dead_code, reason = "the engine's model uses the rest of it")]
#[path = "../../src/engine/model/node.rs"]
pub(crate) mod live;
mod sessions;

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::Stream;
use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, NTP64, WallTime, check_drift},
    env::{Env, WallClock},
    id::{NodeId, OriginId, Seq, Tag},
    store::MemoryStore,
    version_vector::VersionVector,
};
use halcyon_proto::{
    convert::{self, ScanQuery, Taken, Triple},
    error::{ErrorCode, Refusal},
    v1::{
        self,
        push_result::Result as Answer,
        sync_server::{Sync, SyncServer},
        watch_response::Event,
    },
};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

pub(crate) const TENANT: &str = "V1StGXR8_Z5jdHi6B-myT";
pub(crate) const DRIFT_MAX: Duration = Duration::from_mins(1);

/// What a node does to calls.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fault of its own")]
pub(crate) struct Faults {
    /// It answers nothing.
    pub(crate) down: bool,
    /// So many pushes are taken and not answered.
    pub(crate) lost_answers: u32,
    /// So many sets are answered with `BUSY`.
    pub(crate) busy: u32,
    /// No second region has what it takes, and the tenant asks for one.
    pub(crate) alone: bool,
    /// It greets nobody.
    pub(crate) other_version: bool,
    /// It does not hold the tenant.
    pub(crate) elsewhere: bool,
    /// Every call with credentials is refused.
    pub(crate) key_revoked: bool,
    /// Watches end after so many messages, then after twice as many, and so on.
    pub(crate) watch_messages_max: Option<usize>,
    /// Every call takes this much longer.
    pub(crate) delay: Duration,
}

impl Faults {
    async fn wait(&self) {
        // Even a sleep of nothing takes until the timer's next tick.
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
    }
}

/// What a node holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) log: Vec<(Tag, ChangeSet)>,
    known: BTreeMap<(ClientId, u64), (u64, Tag)>,
    pub(crate) vector: VersionVector,
    pub(crate) store: MemoryStore,
}

/// One pretended node.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) address: String,
    pub(crate) faults: Arc<Mutex<Faults>>,
    /// How often it was greeted.
    pub(crate) greetings: Arc<AtomicU32>,
    held: Arc<Mutex<Held>>,
    cluster: Arc<Mutex<Vec<v1::Replica>>>,
    /// Live queries at this node.
    live: Arc<Mutex<live::Node>>,
    /// Those of all nodes that hear of each other's sets.
    all_live: Arc<Mutex<Vec<Arc<Mutex<live::Node>>>>>,
}

impl Node {
    pub(crate) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap()
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.faults.lock().unwrap());
    }

    /// The client's numbers in the order in which they were taken.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.held().log.iter().map(|(_, set)| set.number).collect()
    }

    /// Takes it out of what `Locate` says.
    pub(crate) fn remove_from_cluster(&self) {
        self.cluster.lock().unwrap().retain(|replica| replica.node != self.id.0);
    }

    fn origin(&self) -> OriginId {
        OriginId {
            node: self.id,
            incarnation: 1,
        }
    }

    async fn enter<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let faults = self.faults.lock().unwrap().clone();
        faults.wait().await;
        if faults.down {
            return Err(Status::unavailable("down"));
        }
        if faults.key_revoked || request.metadata().get("authorization").is_none() {
            return Err(Refusal::new(ErrorCode::Unauthenticated, "the key is revoked").into());
        }
        Ok(())
    }

    fn check_here(&self) -> Result<(), Status> {
        if self.faults.lock().unwrap().elsewhere {
            let others = self
                .cluster
                .lock()
                .unwrap()
                .iter()
                .filter(|replica| replica.node != self.id.0)
                .cloned()
                .collect();
            return Err(Refusal::wrong_region("not here", others).into());
        }
        Ok(())
    }

    fn take(&self, bytes: &[u8], wall: WallTime) -> Result<Taken, Refusal> {
        {
            let mut faults = self.faults.lock().unwrap();
            if faults.busy > 0 {
                faults.busy -= 1;
                return Err(Refusal::busy("too much", Duration::from_millis(5)));
            }
        }
        let set = convert::change_set(bytes).map_err(|error| Refusal::new(ErrorCode::Malformed, error.to_string()))?;
        check_drift(&set.timestamp, wall, DRIFT_MAX)
            .map_err(|error| Refusal::clock_drift(error.to_string(), error.wall))?;
        let mut held = self.held();
        let (key, hash) = ((set.client(), set.number), ChangeSet::content_hash(bytes));
        if let Some(&(known, tag)) = held.known.get(&key) {
            if known != hash {
                return Err(Refusal::new(ErrorCode::NumberReused, "taken with other content"));
            }
            return Ok(Taken {
                tag,
                superseded: Vec::new(),
                overwritten: Vec::new(),
                again: true,
            });
        }
        let origin = self.origin();
        let tag = Tag {
            origin,
            seq: held.vector.get(origin).next(),
        };
        let is_forbidden = |change: &Change| change.predicate().is_some_and(|name| name.as_str() == live::FORBIDDEN);
        if set.changes.iter().any(is_forbidden) {
            return Err(Refusal::new(ErrorCode::Limit, "nobody may write this field"));
        }
        held.known.insert(key, (hash, tag));
        held.vector.raise(tag);
        held.store.apply_set(tag, &set);
        let mut superseded = Vec::new();
        for live in self.all_live.lock().unwrap().iter() {
            superseded = live.lock().unwrap().commit_as(tag, set.clone());
        }
        let is_overwritten = |change: &Change| held.log.iter().any(|(_, other)| overwrites(other, &set, change));
        let overwritten = (0..).zip(&set.changes).filter(|(_, change)| is_overwritten(change));
        let overwritten = overwritten.map(|(place, _)| place).collect();
        held.log.push((tag, set));
        Ok(Taken {
            tag,
            superseded,
            overwritten,
            again: false,
        })
    }
}

/// Whether another set, a later one, gives the field of a change another value.
fn overwrites(other: &ChangeSet, set: &ChangeSet, change: &Change) -> bool {
    let is_set = |of: &Change| matches!(of, Change::Set { .. });
    let same = |of: &Change| (of.subject(), of.predicate()) == (change.subject(), change.predicate());
    let beats = |of: &Change| is_set(of) && same(of) && of.value() != change.value();
    other.timestamp > set.timestamp && is_set(change) && other.changes.iter().any(beats)
}

/// Pretended nodes, numbered from 1, that share what they hold.
pub(crate) fn cluster(count: u64) -> Vec<Node> {
    start(count, true)
}

/// Pretended nodes that hold each their own.
pub(crate) fn cluster_without_replication(count: u64) -> Vec<Node> {
    start(count, false)
}

fn start(count: u64, shares: bool) -> Vec<Node> {
    let (cluster, shared): (Arc<Mutex<Vec<v1::Replica>>>, Arc<Mutex<Held>>) = Default::default();
    let mut nodes = Vec::new();
    let shared_live: Arc<Mutex<Vec<_>>> = Arc::default();
    for id in 1..=count {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap())
            .unwrap()
            .with_nodelay(Some(true));
        let address = incoming.local_addr().unwrap().to_string();
        cluster.lock().unwrap().push(v1::Replica {
            node: id,
            region: format!("region-{id}"),
            address: address.clone(),
            serving: true,
            round_trip_us: 0,
            silent_ms: None,
        });
        let live: Arc<Mutex<live::Node>> = Arc::default();
        let all_live = if shares { shared_live.clone() } else { Arc::default() };
        all_live.lock().unwrap().push(live.clone());
        let node = Node {
            id: NodeId(id),
            address,
            faults: Arc::default(),
            greetings: Arc::default(),
            held: if shares { shared.clone() } else { Arc::default() },
            cluster: cluster.clone(),
            live,
            all_live,
        };
        let service = SyncServer::new(node.clone()).max_decoding_message_size(8 << 20);
        let admin = v1::admin_server::AdminServer::new(node.clone());
        let server = tonic::transport::Server::builder()
            .add_service(service)
            .add_service(v1::sessions_server::SessionsServer::new(node.clone()))
            .add_service(admin);
        tokio::spawn(server.serve_with_incoming(incoming));
        nodes.push(node);
    }
    nodes
}

type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Sync for Node {
    type WatchStream = WatchStream;

    async fn hello(&self, _: Request<v1::HelloRequest>) -> Result<Response<v1::HelloResponse>, Status> {
        let faults = self.faults.lock().unwrap().clone();
        faults.wait().await;
        if faults.down {
            return Err(Status::unavailable("down"));
        }
        if faults.other_version {
            return Err(Refusal::new(ErrorCode::WireVersion, "too old").into());
        }
        self.greetings.fetch_add(1, Ordering::Relaxed);
        Ok(Response::new(v1::HelloResponse {
            version: 1,
            node: self.id.0,
            region: format!("region-{}", self.id.0),
            ..v1::HelloResponse::default()
        }))
    }

    async fn locate(&self, request: Request<v1::LocateRequest>) -> Result<Response<v1::LocateResponse>, Status> {
        self.enter(&request).await?;
        Ok(Response::new(v1::LocateResponse {
            tenant_id: TENANT.into(),
            tenant_name: "app".into(),
            replicas: self.cluster.lock().unwrap().clone(),
            home: "region-1".into(),
            metadata_index: 0,
        }))
    }

    async fn push(&self, request: Request<v1::PushRequest>) -> Result<Response<v1::PushResponse>, Status> {
        self.enter(&request).await?;
        self.check_here()?;
        let wall = halcyon_client::env::system(None).unwrap().clock.wall();
        let mut results = Vec::new();
        let mut stopped = false;
        for bytes in &request.get_ref().change_sets {
            // As a node does: behind a set that must come again, none is taken.
            let result = if stopped {
                Err(Refusal::retry("one before it", Duration::ZERO))
            } else {
                self.take(bytes, wall)
            };
            let code = result.as_ref().err().map(|refusal| refusal.code);
            stopped |= matches!(code, Some(ErrorCode::Busy | ErrorCode::ClockDrift));
            let alone = self.faults.lock().unwrap().alone;
            let result = match result {
                Ok(_) if alone => Answer::Refused(Refusal::new(ErrorCode::NotYetReplicated, "one region").into()),
                Ok(taken) => Answer::Taken(taken.into()),
                Err(refusal) => Answer::Refused(refusal.into()),
            };
            results.push(v1::PushResult { result: Some(result) });
        }
        {
            let mut faults = self.faults.lock().unwrap();
            if faults.lost_answers > 0 {
                faults.lost_answers -= 1;
                return Err(Status::unavailable("connection reset"));
            }
        }
        Ok(Response::new(v1::PushResponse {
            results,
            ..v1::PushResponse::default()
        }))
    }

    async fn held(&self, request: Request<v1::HeldRequest>) -> Result<Response<v1::HeldResponse>, Status> {
        self.enter(&request).await?;
        let own = convert::vector_bytes(&self.held().vector);
        Ok(Response::new(v1::HeldResponse {
            own,
            ..v1::HeldResponse::default()
        }))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        self.enter(&request).await?;
        self.check_here()?;
        let subject: halcyon_core::id::EntityId = request.get_ref().subject.parse().unwrap();
        let held = self.held();
        let triples = held.store.triples(&subject).map(|(predicate, value)| {
            let (subject, predicate, value) = (subject.clone(), predicate.clone(), value.clone());
            Triple {
                subject,
                predicate,
                value,
            }
            .into()
        });
        Ok(Response::new(v1::GetResponse {
            triples: triples.collect(),
        }))
    }

    async fn scan(&self, request: Request<v1::ScanRequest>) -> Result<Response<v1::ScanResponse>, Status> {
        self.enter(&request).await?;
        let query =
            ScanQuery::try_from(request.into_inner()).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let held = self.held();
        let mut triples = Vec::new();
        for (subject, _) in held.store.entities() {
            for (predicate, value) in held.store.triples(subject) {
                if query.predicate.as_ref().is_none_or(|wanted| wanted == predicate) {
                    let (subject, predicate, value) = (subject.clone(), predicate.clone(), value.clone());
                    triples.push(
                        Triple {
                            subject,
                            predicate,
                            value,
                        }
                        .into(),
                    );
                }
            }
        }
        Ok(Response::new(v1::ScanResponse {
            triples,
            ..v1::ScanResponse::default()
        }))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<WatchStream>, Status> {
        self.enter(&request).await?;
        self.check_here()?;
        let from = convert::vector(&request.get_ref().vector).unwrap();
        let (messages, stream) = tokio::sync::mpsc::channel(4);
        let node = self.clone();
        tokio::spawn(async move { node.feed(from, messages).await });
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(
            stream,
        ))))
    }
}

impl Node {
    async fn feed(&self, from: VersionVector, messages: tokio::sync::mpsc::Sender<Result<v1::WatchResponse, Status>>) {
        let mut at = self.held().log.len();
        let vector = self.held().vector.clone();
        let missed: Vec<_> = self.held().log[..at]
            .iter()
            .filter(|(tag, _)| !from.covers_tag(*tag))
            .cloned()
            .collect();
        let mut events: Vec<_> = missed
            .into_iter()
            .map(|(_, set)| {
                Event::Missed(v1::Missed {
                    change_sets: vec![set.encode().into()],
                })
            })
            .collect();
        events.push(Event::CaughtUp(v1::CaughtUp {
            vector: convert::vector_bytes(&vector),
        }));
        let mut sent = 0;
        loop {
            for event in events.drain(..) {
                let is_cut = {
                    let mut faults = self.faults.lock().unwrap();
                    let is_cut = faults.watch_messages_max.is_some_and(|max| sent >= max);
                    if is_cut {
                        // What was missed starts anew; it must come through one day.
                        faults.watch_messages_max = faults.watch_messages_max.map(|max| 2 * max);
                    }
                    is_cut || faults.down
                };
                if is_cut {
                    let _ = messages.send(Err(Status::unavailable("cut"))).await;
                    return;
                }
                sent += 1;
                if messages
                    .send(Ok(v1::WatchResponse { event: Some(event) }))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
            if self.faults.lock().unwrap().down {
                let _ = messages.send(Err(Status::unavailable("down"))).await;
                return;
            }
            let held = self.held();
            for (tag, set) in &held.log[at..] {
                events.push(Event::Live(v1::Live {
                    origin: convert::origin_bytes(tag.origin),
                    seq: tag.seq.0,
                    change_set: set.encode().into(),
                }));
            }
            at = held.log.len();
        }
    }
}

/// The system's world with a clock that is ahead.
pub(crate) fn env_ahead(ahead: Duration) -> Env {
    struct Ahead(Arc<dyn WallClock>, Duration);
    impl WallClock for Ahead {
        fn wall(&self) -> WallTime {
            WallTime(NTP64(self.0.wall().0.0 + NTP64::from(self.1).0))
        }
        fn monotonic(&self) -> Duration {
            self.0.monotonic()
        }
    }
    let env = halcyon_client::env::system(None).unwrap();
    let clock = Arc::new(Ahead(env.clock.clone(), ahead));
    Env { clock, ..env }
}

/// No number was taken twice.
pub(crate) fn assert_once(nodes: &[Node]) {
    for node in nodes {
        let mut seen = BTreeSet::new();
        for (tag, set) in &node.held().log {
            assert!(
                seen.insert((set.client(), set.number)),
                "{} was taken twice, again at {tag:?}",
                set.number
            );
        }
        assert!(node.held().log.iter().all(|(tag, _)| tag.seq > Seq(0)));
    }
}
