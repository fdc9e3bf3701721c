//! The client: writes, reads and its life.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::{Stream, StreamExt, stream::FuturesUnordered};
use halcyon_core::collections::BTreeSet;
use halcyon_core::{
    change::Change,
    clock::ClientId,
    env::Env,
    id::{EntityId, Predicate},
    query::answer::Answer,
    value::Value,
    version_vector::VersionVector,
};
use halcyon_proto::{
    convert::{self, ConvertError, Location, ScanQuery, Triple},
    error::{ErrorCode, Refusal},
    v1,
};
use prost::bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    engine::{Engine, Field, FollowError, Notice, Start, field},
    error::{ConnectError, FlushError, ReadError, Refused, Unacknowledged, WriteError},
    limits::{CLOSE_WAIT, READ_DEADLINE, ROOM_WAIT, WRITES_WAITING_MAX},
    live::{self, LiveQuery},
    navigate::Navigator,
    outbox::{Left, OutboxFile},
    pages::Pages,
    push,
    query::{self, Explanation, QueryRows},
    read,
    rooms::RoomDoor,
    routing::Router,
    shared::{Shared, Ticket},
    transport::{Transport, check_address},
    types::{Acknowledged, ClientOptions, ClientStatus, Outbox, Outcome, ScanPage, WatchEvent},
    watch::Watching,
    writer::{self, WriteRequest},
};

/// A client of one tenant. Cheap to clone; it stops when the last clone is dropped, or by [`Self::close`].
///
/// ```no_run
/// use halcyon_client::{Client, ClientOptions, Outbox, env};
/// use halcyon_core::{change::Change, id::{EntityId, Predicate}, value::Value};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect(
///     env::system(Some("app-data".as_ref()))?,
///     ClientOptions {
///         addresses: vec!["eu.example.com:7700".into(), "us.example.com:7700".into()],
///         tenant: "notes".into(),
///         key: std::env::var("HALCYON_KEY")?,
///         outbox: Outbox::Disk("outbox".into()),
///         ..ClientOptions::default()
///     },
/// )
/// .await?;
///
/// let note = EntityId::new("note-1")?;
/// let title = Predicate::new("note/title")?;
/// let pending = client
///     .write(vec![
///         Change::Create { subject: note.clone() },
///         Change::Set { subject: note.clone(), predicate: title, value: Value::string("Buy milk") },
///     ])
///     .await?;
/// let acknowledged = pending.acknowledged().await?;
/// println!("durable at {}", acknowledged.tag.origin);
///
/// for (predicate, value) in client.get(&note).await? {
///     println!("{predicate} = {}", value.to_json());
/// }
/// client.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    life: Arc<Life>,
}

/// Ends the tasks with the last clone.
#[derive(Debug)]
struct Life {
    shared: Arc<Shared>,
    /// To the task that commits to the outbox on disk.
    writes: Option<mpsc::Sender<WriteRequest>>,
    tasks: std::sync::Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.shared.closed.send_replace(true);
        self.shared.drop_waiters();
    }
}

/// A change set on its way. Dropping it changes nothing for the set.
#[derive(Debug)]
pub struct Pending {
    number: u64,
    ticket: Ticket,
    /// What each change is about.
    fields: Vec<Option<Field>>,
}

impl Pending {
    /// Its number within this client's incarnation, from 1.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Waits until a node has made it durable, or has refused it for good.
    pub async fn acknowledged(self) -> Result<Acknowledged, Refused> {
        self.ticket.end.await.unwrap_or(Err(Refused::Closed))
    }

    /// What became of it, once a node has said so. An error means that no node has, and none will before something is
    /// mended.
    pub async fn outcome(self) -> Result<Outcome, Refused> {
        let Self { ticket, fields, .. } = self;
        match ticket.end.await.unwrap_or(Err(Refused::Closed)) {
            Ok(Acknowledged {
                tag,
                superseded,
                overwritten,
                ..
            }) => {
                let lost = superseded.iter().chain(&overwritten);
                // A set may write a field more than once.
                let lost: BTreeSet<Field> = lost.filter_map(|at| fields.get(*at as usize)?.clone()).collect();
                let lost = lost.into_iter().collect();
                if superseded.is_empty() && overwritten.is_empty() {
                    Ok(Outcome::Acknowledged { tag })
                } else {
                    Ok(Outcome::Superseded { tag, fields: lost })
                }
            }
            Err(Refused::Refused(refusal)) => Ok(Outcome::Refused(refusal)),
            Err(other) => Err(other),
        }
    }

    /// The same, for `patience` at the most; then it tells how far the set has come. It goes on being pushed, and may
    /// be waited for again.
    pub async fn acknowledged_within(&mut self, patience: Duration) -> Result<Acknowledged, Unacknowledged> {
        match tokio::time::timeout(patience, &mut self.ticket.end).await {
            Ok(end) => Ok(end.unwrap_or(Err(Refused::Closed))?),
            Err(_) if self.is_held_by_one() => Err(Unacknowledged::NotYetReplicated { waited: patience }),
            Err(_) => Err(Unacknowledged::Unanswered { waited: patience }),
        }
    }

    /// Whether a node keeps it, and no second region had it when that was heard last. Only where the tenant asks for
    /// `region` acknowledgement.
    pub fn is_held_by_one(&self) -> bool {
        self.ticket.held.load(Ordering::Relaxed)
    }
}

impl Client {
    /// Opens a client: finds the nearest replica, and pushes what an earlier run left in the outbox.
    pub async fn connect(env: Env, options: ClientOptions) -> Result<Self, ConnectError> {
        let navigator = navigator(&env, &options)?;
        if !options.offline {
            let location = navigator.find().await?;
            navigator.measure_at_start().await;
            if options.pinned && !options.forward {
                navigator.check_pinned(&location)?;
            }
            if navigator.route().is_none() {
                return Err(unreachable(&location));
            }
        }
        let (outbox, left) = match &options.outbox {
            Outbox::Memory => (None, Left::default()),
            Outbox::Disk(name) => {
                let (outbox, left) = OutboxFile::open(&env, name).await?;
                (Some(outbox), left)
            }
        };
        let client = ClientId::from_random(env.random_u128());
        let engine = Engine::open(Start {
            tenant: options.tenant.clone(),
            client,
            floor: left.floor,
            place: left.place,
            sets: left.sets,
            rows: left.rows,
            saves: outbox.is_some(),
        });
        let shared = Arc::new(Shared::new(env, navigator, outbox.clone(), engine, &options));
        Ok(Self::start(shared, outbox, options.offline))
    }

    fn start(shared: Arc<Shared>, outbox: Option<Arc<OutboxFile>>, look_now: bool) -> Self {
        if look_now {
            shared.navigator.look.notify_one();
        }
        let mut tasks = vec![
            tokio::spawn(push::run(shared.clone())),
            tokio::spawn(push::keep_near(shared.clone())),
            tokio::spawn(live::run(shared.clone())),
            tokio::spawn(live::save(shared.clone())),
        ];
        let writes = outbox.map(|outbox| {
            let (writes, requests) = mpsc::channel(WRITES_WAITING_MAX);
            tasks.push(tokio::spawn(writer::run(shared.clone(), outbox, requests)));
            writes
        });
        let tasks = std::sync::Mutex::new(tasks);
        Self {
            life: Arc::new(Life { shared, writes, tasks }),
        }
    }

    /// Stamps the changes as one set and puts it into the outbox, durably if that is on disk. Sets are pushed in the
    /// order of the writes, many at a time. Waits only for the disk, or for room in a full outbox.
    pub async fn write(&self, changes: Vec<Change>) -> Result<Pending, WriteError> {
        let shared = &self.life.shared;
        self.wait_for_room().await?;
        let fields = changes.iter().map(field).collect();
        let Some(writes) = &self.life.writes else {
            let (number, ticket) = shared.write_in_memory(changes)?;
            return Ok(Pending { number, ticket, fields });
        };
        let (reply, answer) = oneshot::channel();
        let request = WriteRequest { changes, reply };
        writes.send(request).await.map_err(|_| WriteError::Closed)?;
        let (number, ticket) = answer.await.map_err(|_| WriteError::Closed)??;
        Ok(Pending { number, ticket, fields })
    }

    /// Follows a query, in text or (if it begins with a brace) in JSON. It is answered at once from what is here, pending
    /// writes included, and goes on by itself: through lost connections, to other nodes and, with an outbox on disk,
    /// after a restart. Those who follow the same text share one subscription.
    pub fn live(&self, query: &str) -> Result<LiveQuery, FollowError> {
        let shared = &self.life.shared;
        let (follower, notify) = shared.state().follow(query)?;
        shared.follow.notify_one();
        shared.save.notify_one();
        Ok(LiveQuery::new(shared.clone(), follower, notify))
    }

    /// What a node said when it refused the session of this client's live queries last: what they are offline for. `None`
    /// while a node keeps it, and where none was reached.
    pub fn refusal(&self) -> Option<Refusal> {
        self.life.shared.refused.borrow().clone()
    }

    /// Resolves when nodes refuse that session for what the client is: its key, its tenant, its version. It goes on trying,
    /// because an operator may mend that.
    pub async fn until_refused(&self) -> Refusal {
        let mut refused = self.life.shared.refused.subscribe();
        loop {
            use ErrorCode::{Forbidden, NotFound, Unauthenticated, WireVersion};
            if let Some(refusal) = &*refused.borrow_and_update()
                && matches!(refusal.code, Unauthenticated | Forbidden | NotFound | WireVersion)
            {
                return refusal.clone();
            }
            // The sender lives as long as `self`.
            let _ = refused.changed().await;
        }
    }

    /// Answers a query once, from what is here: what live queries cover, and what is pending.
    pub fn query_local(&self, query: &str) -> Result<Answer, FollowError> {
        self.life.shared.state().engine.query_local(query)
    }

    /// What became of sets that nobody waits for: refused ones that were rolled back, fields that lost to a deletion
    /// or to a later write. Each is told once.
    pub fn take_notices(&self) -> Vec<Notice> {
        self.life.shared.state().engine.take_notices()
    }

    /// Waits until everything written so far is acknowledged or refused for good, what an earlier run left included.
    pub async fn flush(&self) -> Result<(), FlushError> {
        let shared = &self.life.shared;
        let last = shared.state().engine.session().next_place();
        loop {
            let settled = shared.settled.notified();
            tokio::pin!(settled);
            // From here on no notice is missed.
            settled.as_mut().enable();
            {
                let state = shared.state();
                if state.engine.session().is_settled_before(last) {
                    return Ok(());
                }
                if let Some(refusal) = state.engine.blocked() {
                    return Err(FlushError::Kept(refusal.clone()));
                }
            }
            if shared.is_closed() {
                return Err(FlushError::Closed);
            }
            settled.await;
        }
    }

    /// The live triples of an entity, in the order of predicates and values.
    pub async fn get(&self, subject: &EntityId) -> Result<Vec<(Predicate, Value)>, ReadError> {
        let shared = &self.life.shared;
        let message = v1::GetRequest {
            tenant: shared.navigator.tenant.clone(),
            subject: subject.as_str().to_owned(),
            forward: shared.forward,
        };
        let answer = read::call(shared, |mut client| {
            let request = shared.navigator.transport.request(message.clone(), Some(READ_DEADLINE));
            async move { client.get(request).await }
        });
        let triples = triples(answer.await?.triples)?;
        Ok(triples
            .into_iter()
            .map(|triple| (triple.predicate, triple.value))
            .collect())
    }

    /// One page of the live triples that match. A cursor is good at the replica that gave it: [`Self::pages`] stays
    /// there.
    pub async fn scan(&self, query: ScanQuery) -> Result<ScanPage, ReadError> {
        let shared = &self.life.shared;
        let message = query.into_request(shared.navigator.tenant.clone(), shared.forward);
        let answer = read::call(shared, |mut client| {
            let request = shared.navigator.transport.request(message.clone(), Some(READ_DEADLINE));
            async move { client.scan(request).await }
        });
        let answer = answer.await?;
        Ok(ScanPage {
            triples: triples(answer.triples)?,
            cursor: answer.cursor,
        })
    }

    /// All live triples that match, page by page of `query.limit`, all of one replica; `query.cursor` is not looked at.
    pub fn pages(&self, query: ScanQuery) -> Pages {
        let cursor = Bytes::new();
        Pages::new(self.life.shared.clone(), ScanQuery { cursor, ..query })
    }

    /// Asks a query once, in text or, if it begins with a brace, in JSON: halcyon-core's `docs/query.md` has the language.
    /// The rows come as the node finds them, all of one state of it.
    pub async fn query(&self, query: &str) -> Result<QueryRows, ReadError> {
        query::query(&self.life.shared, query).await
    }

    /// How a node answers a query; with `analyze` it answers it too, and counts what each step gives.
    pub async fn explain(&self, query: &str, analyze: bool) -> Result<Explanation, ReadError> {
        query::explain(&self.life.shared, query, analyze).await
    }

    /// All that the tenant took in after `from`, then all that it takes in, without end. The stream connects anew by
    /// itself, also to other nodes, without a gap, and gives no set of changes twice. Only what was missed may come
    /// again where an interruption fell among it and the data changed meanwhile, and everything after
    /// [`WatchEvent::Anew`].
    ///
    /// An error ends the stream: it means that nodes refuse the watch.
    pub fn watch(&self, from: VersionVector) -> impl Stream<Item = Result<WatchEvent, ReadError>> + Send + use<> {
        Watching::new(self.life.shared.clone(), from).into_stream()
    }

    /// A room of the tenant, to be entered. An empty name makes a new one.
    pub fn room(&self, room: &str) -> RoomDoor {
        RoomDoor::new(self.life.shared.clone(), room)
    }

    /// What the node in use holds now: a watch from this vector tells what happens from now on. Neither is passed on to
    /// another node.
    pub async fn held(&self) -> Result<VersionVector, ReadError> {
        let shared = &self.life.shared;
        let message = v1::HeldRequest {
            tenant: shared.navigator.tenant.clone(),
            forward: false,
        };
        let answer = read::call(shared, |mut client| {
            let request = shared.navigator.transport.request(message.clone(), Some(READ_DEADLINE));
            async move { client.held(request).await }
        });
        Ok(convert::vector(&answer.await?.own)?)
    }

    /// Where the tenant is.
    pub async fn locate(&self) -> Result<Location, ReadError> {
        read::locate(&self.life.shared).await
    }

    /// What the client is doing.
    pub fn status(&self) -> ClientStatus {
        let shared = &self.life.shared;
        let route = shared.navigator.current();
        let state = shared.state();
        ClientStatus {
            node: route.as_ref().and_then(|route| route.node),
            region: route.as_ref().and_then(|route| route.region.clone()),
            address: route.map(|route| route.address),
            outbox: state.engine.waiting(),
            held_by_one: state.engine.session().held_by_one(),
            kept: state.engine.kept(),
            vector: state.engine.seen().clone(),
        }
    }

    /// Stops pushing and lets go of the outbox, for all clones. Sets that wait in an outbox on disk are pushed when it
    /// is opened again; those in memory are gone ([`Self::flush`] first).
    pub async fn close(self) {
        let shared = &self.life.shared;
        shared.closed.send_replace(true);
        let tasks = {
            let mut tasks = self
                .life
                .tasks
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        let mut tasks: FuturesUnordered<_> = tasks.into_iter().collect();
        let all = async { while tasks.next().await.is_some() {} };
        if tokio::time::timeout(CLOSE_WAIT, all).await.is_err() {
            // The outbox may be opened again from here on: who still holds it has to let go.
            tasks.iter().for_each(JoinHandle::abort);
            while tasks.next().await.is_some() {}
        }
        shared.drop_waiters();
        let floor = shared.state().engine.floor();
        if let Some(outbox) = &shared.outbox
            && let Err(error) = outbox.tidy(&shared.env, floor).await
        {
            tracing::warn!(%error, "acknowledged sets stay in the outbox and will be pushed again");
        }
    }

    async fn wait_for_room(&self) -> Result<(), WriteError> {
        let shared = &self.life.shared;
        let mut waited = Duration::ZERO;
        loop {
            let settled = shared.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if shared.is_closed() {
                return Err(WriteError::Closed);
            }
            let sets = {
                let state = shared.state();
                if state.engine.has_room() {
                    return Ok(());
                }
                state.engine.waiting()
            };
            if waited >= ROOM_WAIT {
                return Err(WriteError::Full { sets });
            }
            let before = shared.env.clock.monotonic();
            let _ = tokio::time::timeout(ROOM_WAIT.saturating_sub(waited), settled).await;
            waited += shared.env.clock.monotonic().saturating_sub(before);
        }
    }
}

fn navigator(env: &Env, options: &ClientOptions) -> Result<Navigator, ConnectError> {
    let seeds: Result<Vec<_>, _> = options.addresses.iter().map(|address| check_address(address)).collect();
    let seeds = seeds?;
    if seeds.is_empty() {
        return Err(ConnectError::Address(String::new()));
    }
    let certificate = options.ca_certificate.as_deref();
    let transport = Transport::new(env.clone(), &options.key, options.user.as_deref(), certificate)?;
    let router = Router::new(seeds, options.forward || options.pinned);
    Ok(Navigator::new(env.clone(), transport, options.tenant.clone(), router))
}

fn unreachable(location: &Location) -> ConnectError {
    let replicas = location.replicas.iter();
    let replicas: Vec<_> = replicas
        .map(|replica| format!("{} at {}", replica.node, replica.address))
        .collect();
    let reason = format!(
        "tenant {} is held by {}, of which none serves and answers from here",
        location.name,
        replicas.join(", ")
    );
    ConnectError::Unreachable(reason)
}

fn triples(messages: Vec<v1::Triple>) -> Result<Vec<Triple>, ConvertError> {
    messages.into_iter().map(Triple::try_from).collect()
}
