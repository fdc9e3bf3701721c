//! What the tasks of replication share: the rules behind a lock that nobody holds across an await, and the queues.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use halcyon_core::{
    env::Env,
    id::{NodeId, Tag, TenantId},
};
use halcyon_proto::v1;
use tokio::{
    sync::{Notify, Semaphore, mpsc, watch},
    time::timeout,
};

use super::{
    Lag, OutboxMetrics,
    alarm::{Alarm, AlarmKind},
    control::ControlPlane,
    engine::{Engine, GossipPlan, Standing},
    limits::{ALARMS_MAX, PARKED_BYTES_MAX, SERVED_MAX},
    outbox::Outbox,
    seldom::Seldom,
    waiters::Waiters,
    wire,
};
use crate::{
    peers::Pool,
    storage::{
        Storage,
        types::{Commit, CommitSink, GossipSet, StorageError, StorageEvent, Via},
    },
};

/// Figures of replication.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicationMetrics {
    /// Sets that peers sent.
    pub gossip_received: u64,
    /// Bytes of these.
    pub gossip_received_bytes: u64,
    /// Of these, sets that moved a vector.
    pub gossip_taken: u64,
    /// Of these, sets that were held already.
    pub gossip_held: u64,
    /// Of these, sets with a hole before them.
    pub gossip_gaps: u64,
    /// Sets passed on to others of the region.
    pub gossip_passed_on: u64,
    /// Catch-ups that brought a whole delta.
    pub catch_ups: u64,
    /// Catch-ups that broke off.
    pub catch_ups_broken: u64,
    /// Catch-ups that went on from a resume token.
    pub catch_ups_resumed: u64,
    /// Facts that catch-ups brought.
    pub facts_pulled: u64,
    /// Facts that this node served to others.
    pub facts_served: u64,
    /// Digests exchanged.
    pub digests: u64,
    /// Digests that found a difference.
    pub digests_differing: u64,
    /// Tombstones and the like that were collected everywhere under this node's lead.
    pub collected: u64,
    /// How the replicas are.
    pub standing: Standing,
    /// Alarms that stand.
    pub alarms: usize,
    /// What waits for each peer.
    pub outboxes: BTreeMap<NodeId, OutboxMetrics>,
}

/// Counts of what happened, since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub gossip_received: AtomicU64,
    pub gossip_received_bytes: AtomicU64,
    pub gossip_taken: AtomicU64,
    pub gossip_held: AtomicU64,
    pub gossip_gaps: AtomicU64,
    pub gossip_passed_on: AtomicU64,
    pub catch_ups: AtomicU64,
    pub catch_ups_broken: AtomicU64,
    pub catch_ups_resumed: AtomicU64,
    pub facts_pulled: AtomicU64,
    pub facts_served: AtomicU64,
    pub digests: AtomicU64,
    pub digests_differing: AtomicU64,
    pub collected: AtomicU64,
}

/// Adds to a count.
pub(super) fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// See the module.
pub(super) struct Shared {
    pub me: NodeId,
    pub env: Env,
    pub storage: Storage,
    pub control: Arc<dyn ControlPlane>,
    pub pool: Pool,
    stopped: watch::Receiver<bool>,
    /// Something happened that the driver has to look at.
    pub wake: Notify,
    /// A digest should be exchanged at once.
    pub hurry: Notify,
    pub served: Arc<Semaphore>,
    pub counters: Counters,
    /// Gossip that storage did not take, as far as the log hears of it.
    pub gossip_refused: Seldom,
    /// The setting, read again when the control plane's view moves.
    queue_bytes_max: AtomicUsize,
    engine: Mutex<Engine>,
    links: RwLock<BTreeMap<NodeId, Arc<Outbox>>>,
    waiters: Waiters,
    parked: Mutex<Parked>,
    late: Mutex<BTreeMap<NodeId, mpsc::Sender<v1::GossipResponse>>>,
    urgent: Mutex<BTreeMap<NodeId, Duration>>,
    alarms: Mutex<Vec<Alarm>>,
}

/// Gossip that waits for the gap before it.
#[derive(Debug, Default)]
struct Parked {
    sets: BTreeMap<TenantId, Vec<(NodeId, GossipSet)>>,
    bytes: usize,
}

impl Shared {
    pub(super) fn new(
        env: Env,
        me: NodeId,
        storage: Storage,
        control: Arc<dyn ControlPlane>,
        pool: Pool,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        let queue_bytes_max = AtomicUsize::new(queue_bytes_max(control.as_ref()));
        Self {
            me,
            env,
            storage,
            control,
            pool,
            stopped,
            wake: Notify::new(),
            hurry: Notify::new(),
            served: Arc::new(Semaphore::new(SERVED_MAX)),
            counters: Counters::default(),
            gossip_refused: Seldom::default(),
            queue_bytes_max,
            engine: Mutex::new(Engine::new(me)),
            links: RwLock::default(),
            waiters: Waiters::default(),
            parked: Mutex::default(),
            late: Mutex::default(),
            urgent: Mutex::default(),
            alarms: Mutex::default(),
        }
    }

    /// Asks the rules, or tells them something.
    pub(super) fn engine<T>(&self, ask: impl FnOnce(&mut Engine) -> T) -> T {
        ask(&mut lock(&self.engine))
    }

    /// Returns when the node stops.
    pub(super) async fn until_stopped(&self) {
        let mut stopped = self.stopped.clone();
        // An error means that nobody is left who could say stop.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }

    pub(super) fn now(&self) -> Duration {
        self.env.clock.monotonic()
    }

    /// Tells the rules of all that storage holds.
    pub(super) fn read_all(&self) -> Result<(), StorageError> {
        for tenant in self.storage.tenants()? {
            self.refresh(tenant)?;
        }
        Ok(())
    }

    /// Tells the rules what storage holds of a tenant.
    pub(super) fn refresh(&self, tenant: TenantId) -> Result<(), StorageError> {
        self.engine(|engine| engine.before_summary(tenant));
        let summary = self.storage.summary(tenant)?;
        let now = self.now();
        self.engine(|engine| engine.on_summary(tenant, summary, now));
        Ok(())
    }

    /// Tells the rules of all tenants that changed.
    pub(super) fn refresh_changed(&self) -> Result<(), StorageError> {
        for tenant in self.engine(|engine| engine.changed()) {
            self.refresh(tenant)?;
        }
        Ok(())
    }

    /// The queue to a peer, if there is a link.
    pub(super) fn outbox(&self, peer: NodeId) -> Option<Arc<Outbox>> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.get(&peer).cloned()
    }

    /// The queue to a peer, and whether it is new: then somebody has to run its link.
    pub(super) fn ensure_outbox(&self, peer: NodeId) -> (Arc<Outbox>, bool) {
        if let Some(outbox) = self.outbox(peer) {
            return (outbox, false);
        }
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = !links.contains_key(&peer);
        (Arc::clone(links.entry(peer).or_default()), is_new)
    }

    /// Sends a commit of ours on its way. On the writer: it must not block.
    fn spread(&self, plan: &GossipPlan, commit: &Commit) {
        if plan.targets.is_empty() {
            return;
        }
        let message = wire::commit_to_gossip(commit);
        for target in &plan.targets {
            if let Some(outbox) = self.outbox(target.to) {
                let pass_on = target.pass_on.clone();
                let message = v1::GossipSet {
                    pass_on,
                    ..message.clone()
                };
                self.queue(&outbox, commit.tenant, commit.tag, message);
            }
        }
    }

    /// Queues a set for a peer.
    pub(super) fn queue(&self, outbox: &Outbox, tenant: TenantId, tag: Tag, message: v1::GossipSet) {
        if self.env.probe.rare("gossip.as-poke") {
            return outbox.poke(tenant, tag, message.collection_epoch);
        }
        let bytes_max = self.queue_bytes_max.load(Ordering::Relaxed);
        outbox.push(tenant, tag, message, bytes_max);
    }

    /// The settings may have changed.
    pub(super) fn read_settings(&self) {
        let bytes_max = queue_bytes_max(self.control.as_ref());
        self.queue_bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// A peer has something durable.
    pub(super) fn acked(&self, peer: NodeId, acks: &[(TenantId, Tag)]) {
        self.engine(|engine| {
            for &(tenant, tag) in acks {
                engine.on_ack(peer, tenant, tag);
            }
        });
        if self.waiters.count() == 0 {
            return;
        }
        let tenants: BTreeSet<TenantId> = acks.iter().map(|&(tenant, _)| tenant).collect();
        for tenant in tenants {
            self.known_changed(tenant);
        }
    }

    /// Answers those who wait for a tenant, after what is known of it changed.
    pub(super) fn known_changed(&self, tenant: TenantId) {
        self.waiters.answer(tenant, |tag| {
            self.engine(|engine| engine.is_in_another_region(tenant, tag))
        });
    }

    pub(super) async fn wait_region(&self, tenant: TenantId, tag: Tag, deadline: Duration) -> bool {
        let Some(mut waiting) = self.waiters.wait(tenant, tag) else {
            return false;
        };
        // After the place is taken: what becomes known from here on answers it.
        if self.engine(|engine| engine.is_in_another_region(tenant, tag)) {
            return true;
        }
        timeout(deadline, waiting.answered()).await.is_ok()
    }

    /// Keeps a set until the gap before it is filled. What does not fit comes with a catch-up.
    pub(super) fn park(&self, from: NodeId, set: GossipSet) {
        let mut parked = lock(&self.parked);
        if parked.bytes + set.encoded.len() <= PARKED_BYTES_MAX {
            parked.bytes += set.encoded.len();
            parked.sets.entry(set.tenant).or_default().push((from, set));
        }
    }

    /// What waited for a tenant's gap.
    pub(super) fn unpark(&self, tenant: TenantId) -> Vec<(NodeId, GossipSet)> {
        let mut parked = lock(&self.parked);
        let sets = parked.sets.remove(&tenant).unwrap_or_default();
        parked.bytes -= sets.iter().map(|(_, set)| set.encoded.len()).sum::<usize>();
        sets
    }

    /// A peer's gossip stream came: later acknowledgements for it go this way.
    pub(super) fn set_late(&self, peer: NodeId, sender: mpsc::Sender<v1::GossipResponse>) {
        lock(&self.late).insert(peer, sender);
    }

    /// Tells all peers with a stream what a catch-up made durable here.
    pub(super) fn ack_late(&self, tenant: TenantId, acks: &[v1::GossipAck]) {
        let peers = self.engine(
            |engine| match engine.tenant(tenant).and_then(|state| state.placement.clone()) {
                Some(placement) => placement.replicas.keys().copied().collect(),
                None => BTreeSet::new(),
            },
        );
        let mut late = lock(&self.late);
        late.retain(|_, sender| !sender.is_closed());
        for (peer, sender) in late.iter() {
            if peers.contains(peer) {
                // A full queue loses nothing but time: the next digest says the same.
                let _ = sender.try_send(v1::GossipResponse { acks: acks.to_vec() });
            }
        }
    }

    /// A digest with this peer is due then.
    pub(super) fn hurry_to(&self, peer: NodeId, at: Duration) {
        let mut urgent = lock(&self.urgent);
        let due = urgent.entry(peer).or_insert(at);
        *due = at.min(*due);
        drop(urgent);
        self.hurry.notify_one();
    }

    /// Up to `count` peers whose digest is due, but for those that are `busy`.
    pub(super) fn take_urgent(&self, now: Duration, busy: &BTreeSet<NodeId>, count: usize) -> Vec<NodeId> {
        let mut urgent = lock(&self.urgent);
        let is_due = |peer: &NodeId, at: &mut Duration| *at <= now && !busy.contains(peer);
        urgent
            .extract_if(.., is_due)
            .map(|(peer, _)| peer)
            .take(count)
            .collect()
    }

    /// When the next digest is due with a peer that is not `busy`.
    pub(super) fn next_urgent(&self, busy: &BTreeSet<NodeId>) -> Option<Duration> {
        let urgent = lock(&self.urgent);
        let waiting = urgent.iter().filter(|(peer, _)| !busy.contains(peer));
        waiting.map(|(_, &at)| at).min()
    }

    pub(super) fn raise_alarm(&self, kind: AlarmKind, tenant: Option<TenantId>, message: String) {
        let mut alarms = lock(&self.alarms);
        let is_same = |alarm: &Alarm| (alarm.kind, alarm.tenant) == (kind, tenant);
        if alarms.iter().any(|alarm| is_same(alarm) && alarm.message == message) {
            return;
        }
        tracing::error!(kind = kind.name(), ?tenant, message, "alarm");
        // Of replicas that differ only the last word counts.
        let former = alarms
            .iter_mut()
            .find(|alarm| kind == AlarmKind::Fingerprint && is_same(alarm));
        if let Some(former) = former {
            former.message = message;
            return;
        }
        if alarms.len() >= ALARMS_MAX {
            alarms.remove(0);
        }
        alarms.push(Alarm {
            kind,
            tenant,
            message,
            since: self.env.clock.wall(),
        });
    }

    /// Tenants with changes that this release does not understand, and how many.
    pub(super) fn opaque(&self) -> Vec<(TenantId, u64)> {
        self.engine(|engine| {
            let counts = engine.opaque().iter().map(|(&tenant, &count)| (tenant, count));
            counts.take(ALARMS_MAX).collect()
        })
    }

    pub(super) fn alarms(&self) -> Vec<Alarm> {
        lock(&self.alarms).clone()
    }

    pub(super) fn lag(&self, tenant: TenantId) -> BTreeMap<NodeId, Lag> {
        self.engine(|engine| {
            let mut lags = BTreeMap::new();
            let Some((state, placement)) = engine
                .tenant(tenant)
                .and_then(|state| Some((state, state.placement.as_ref()?)))
            else {
                return lags;
            };
            let empty = halcyon_core::version_vector::VersionVector::EMPTY;
            let own = state.own.as_ref().map_or(&empty, |own| &own.vector);
            for &peer in placement.replicas.keys().filter(|&&peer| peer != self.me) {
                let known = state.known.get(&peer);
                let change_sets = known.map_or(&empty, |known| &known.vector).behind(own);
                let is_reachable = !engine.around().unreachable.contains(&peer);
                lags.insert(
                    peer,
                    Lag {
                        change_sets,
                        is_known: known.is_some(),
                        is_reachable,
                    },
                );
            }
            lags
        })
    }

    pub(super) fn metrics(&self) -> ReplicationMetrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        ReplicationMetrics {
            gossip_received: read(&counters.gossip_received),
            gossip_received_bytes: read(&counters.gossip_received_bytes),
            gossip_taken: read(&counters.gossip_taken),
            gossip_held: read(&counters.gossip_held),
            gossip_gaps: read(&counters.gossip_gaps),
            gossip_passed_on: read(&counters.gossip_passed_on),
            catch_ups: read(&counters.catch_ups),
            catch_ups_broken: read(&counters.catch_ups_broken),
            catch_ups_resumed: read(&counters.catch_ups_resumed),
            facts_pulled: read(&counters.facts_pulled),
            facts_served: read(&counters.facts_served),
            digests: read(&counters.digests),
            digests_differing: read(&counters.digests_differing),
            collected: read(&counters.collected),
            standing: self.engine(|engine| engine.standing()),
            alarms: lock(&self.alarms).len(),
            outboxes: links.iter().map(|(&peer, outbox)| (peer, outbox.metrics())).collect(),
        }
    }
}

impl CommitSink for Shared {
    fn on_events(&self, events: Vec<StorageEvent>) {
        let mut plans = Vec::new();
        let mut alarms = Vec::new();
        self.engine(|engine| {
            for event in events {
                match event {
                    StorageEvent::Committed(commit) => {
                        let is_origin = commit.via == Via::Client;
                        if let Some(plan) = engine.on_committed(commit.tenant, commit.tag, is_origin) {
                            plans.push((plan, commit));
                        }
                    }
                    StorageEvent::CaughtUp(tenant) | StorageEvent::Erased(tenant) => engine.on_changed(tenant),
                    StorageEvent::Alarm { tenant, message } => alarms.push((tenant, message)),
                }
            }
        });
        for (plan, commit) in plans {
            self.spread(&plan, &commit);
        }
        for (tenant, message) in alarms {
            self.raise_alarm(AlarmKind::Disk, tenant, message);
        }
    }
}

fn queue_bytes_max(control: &dyn ControlPlane) -> usize {
    usize::try_from(control.settings().gossip_queue_bytes_max).unwrap_or(usize::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
