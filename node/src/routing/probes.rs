//! The task that probes the peers, and what it has learned.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use halcyon_core::{
    clock::{NTP64, WallTime},
    env::Env,
    id::NodeId,
};
use halcyon_proto::{
    error::{ErrorCode, Refusal},
    v1,
    version::AGENT,
};
use tokio::{sync::watch, time::timeout};
use tonic::Status;

use super::distance::{Candidate, Track, order, typical_lead};
use crate::{
    limits::{ALARM_CHARS_MAX, ALARMS_TOLD_MAX, PROBE_TIMEOUT},
    metadata::{View, state},
    peers::Pool,
};

/// What is known of one peer.
#[derive(Debug, Clone, Default)]
pub struct PeerHealth {
    /// Our probes of it.
    pub track: Track,
    /// Its program and release.
    pub agent: String,
    /// Alarms that are on there, as many as were told.
    pub alarms: Vec<v1::Alarm>,
    /// Round trips that it measured itself.
    pub reports: BTreeMap<NodeId, Duration>,
    /// When it last answered, by the monotonic clock.
    pub heard: Option<Duration>,
    /// How many milliseconds our wall clock is ahead of its own.
    pub lead_ms: Option<i64>,
}

/// Distances and health of all peers. Clones share them.
#[derive(Clone)]
pub struct Routing {
    inner: Arc<Inner>,
}

struct Inner {
    env: Env,
    me: NodeId,
    pool: Pool,
    view: View,
    /// Alarms that are on here, for the answers to probes.
    alarms: Mutex<Vec<v1::Alarm>>,
    peers: Mutex<BTreeMap<NodeId, PeerHealth>>,
    /// A peer that refuses us because we were removed.
    refused_by: watch::Sender<Option<NodeId>>,
}

impl fmt::Debug for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Routing").field(&*self.inner.peers()).finish()
    }
}

impl Routing {
    /// Nothing is known until [`Self::run`] runs.
    pub fn new(env: Env, me: NodeId, pool: Pool, view: View) -> Self {
        let inner = Inner {
            env,
            me,
            pool,
            view,
            alarms: Mutex::default(),
            peers: Mutex::default(),
            refused_by: watch::Sender::new(None),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Probes until the node stops. Also keeps the pool's addresses as the control plane has them.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut view = self.inner.view.clone();
        while self.inner.refused_by.borrow().is_none() {
            self.keep_addresses(&view);
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.probe_all(&view) => {}
            }
            let interval = view.settings().probe_interval;
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                // A node that joins is probed at once.
                () = view.changed() => {}
                () = tokio::time::sleep(interval) => {}
            }
        }
    }

    /// What is known of a peer.
    pub fn peer(&self, node: NodeId) -> Option<PeerHealth> {
        self.inner.peers().get(&node).cloned()
    }

    /// The smoothed round trip to a peer; zero to ourselves.
    pub fn round_trip(&self, node: NodeId) -> Option<Duration> {
        if node == self.inner.me {
            return Some(Duration::ZERO);
        }
        self.inner.peers().get(&node)?.track.round_trip()
    }

    /// Whether a peer answers. One that was never probed is given the benefit of the doubt.
    pub fn is_reachable(&self, node: NodeId) -> bool {
        node == self.inner.me
            || self
                .inner
                .peers()
                .get(&node)
                .is_none_or(|peer| peer.track.is_reachable())
    }

    /// How long ago a peer last answered; `None` for never. Zero for ourselves.
    pub fn silent_for(&self, node: NodeId) -> Option<Duration> {
        if node == self.inner.me {
            return Some(Duration::ZERO);
        }
        let heard = self.inner.peers().get(&node)?.heard?;
        Some(self.inner.env.clock.monotonic().saturating_sub(heard))
    }

    /// The same, for one that was never heard since this node has known it or has started.
    fn silent_ms(&self, node: NodeId) -> u64 {
        let now = self.inner.env.clock.monotonic();
        let silent = self.silent_for(node).unwrap_or(now);
        u64::try_from(silent.as_millis()).unwrap_or(u64::MAX)
    }

    /// How many milliseconds this node's wall clock is ahead of most peers' that answer; below zero, behind them.
    pub fn clock_lead_ms(&self) -> Option<i64> {
        let peers = self.inner.peers();
        let answering = peers.values().filter(|peer| peer.track.is_reachable());
        typical_lead(answering.filter_map(|peer| peer.lead_ms).collect())
    }

    /// Returns when a peer refuses this node because it was removed; says which.
    pub async fn refused_by(&self) -> NodeId {
        let mut refused_by = self.inner.refused_by.subscribe();
        // The sender is held here, so there is always an answer in the end.
        let told = refused_by.wait_for(Option::is_some).await;
        told.ok().and_then(|told| *told).unwrap_or_default()
    }

    /// Alarms that are on here.
    pub fn set_alarms(&self, alarms: Vec<v1::Alarm>) {
        *self.inner.alarms() = alarms;
    }

    /// Alarms that are on at the peers, as they told last.
    pub fn peer_alarms(&self) -> Vec<v1::Alarm> {
        let peers = self.inner.peers();
        peers.values().flat_map(|peer| peer.alarms.iter().cloned()).collect()
    }

    /// Who holds the tenant, the best to go to first.
    pub fn locate(&self, tenant: &state::Tenant) -> Vec<v1::Replica> {
        let view = &self.inner.view;
        let nodes: BTreeMap<NodeId, _> = tenant
            .replicas
            .keys()
            .filter_map(|&id| Some((id, view.node(id)?)))
            .collect();
        let mut candidates: Vec<Candidate> = nodes
            .iter()
            .map(|(&node, description)| Candidate {
                node,
                serving: tenant.replicas.get(&node) == Some(&state::ReplicaState::Active),
                reachable: self.is_reachable(node),
                round_trip: self.round_trip(node),
                home: description.region == tenant.home,
            })
            .collect();
        order(&mut candidates);
        candidates
            .into_iter()
            .map(|candidate| {
                let description = &nodes[&candidate.node];
                v1::Replica {
                    node: candidate.node.0,
                    region: description.region.to_string(),
                    address: description.client_address.clone(),
                    serving: candidate.serving,
                    // This node's way to itself is nobody's round trip.
                    round_trip_us: candidate
                        .round_trip
                        .filter(|_| candidate.node != self.inner.me)
                        .map_or(0, micros),
                    silent_ms: (!candidate.reachable).then(|| self.silent_ms(candidate.node)),
                }
            })
            .collect()
    }

    /// Answers a peer's probe.
    pub fn on_probe(&self) -> v1::ProbeResponse {
        let alarms = self.inner.alarms().clone();
        let peers = self.inner.peers();
        let round_trips = peers.iter().filter_map(|(node, peer)| {
            let us = micros(peer.track.round_trip()?);
            Some(v1::RoundTrip { node: node.0, us })
        });
        v1::ProbeResponse {
            node: self.inner.me.0,
            wall: self.inner.env.clock.wall().0.0,
            agent: AGENT.to_owned(),
            round_trips: round_trips.collect(),
            alarms: u32::try_from(alarms.len()).unwrap_or(u32::MAX),
            alarm_details: alarms.into_iter().take(ALARMS_TOLD_MAX).collect(),
        }
    }

    /// The pool knows where members are, and nobody else.
    fn keep_addresses(&self, view: &View) {
        let members = view.nodes();
        let mut peers = self.inner.peers();
        peers.retain(|node, _| {
            let stays = members.iter().any(|member| member.id == *node);
            if !stays {
                self.inner.pool.forget(*node);
            }
            stays
        });
        for member in members.iter().filter(|member| member.id != self.inner.me) {
            self.inner.pool.set_address(member.id, member.peer_address.clone());
            peers.entry(member.id).or_default();
        }
    }

    async fn probe_all(&self, view: &View) {
        let others = view.nodes().into_iter().map(|node| node.id);
        join_all(
            others
                .filter(|&node| node != self.inner.me)
                .map(|node| self.probe(node)),
        )
        .await;
    }

    async fn probe(&self, node: NodeId) {
        let inner = &self.inner;
        let start = inner.env.clock.monotonic();
        let answer = match inner.pool.client(node) {
            Ok(mut client) => {
                let request = v1::ProbeRequest { node: inner.me.0 };
                let answer = timeout(PROBE_TIMEOUT, client.probe(request)).await.ok();
                if answer.as_ref().is_some_and(says_removed) {
                    inner.refused_by.send_replace(Some(node));
                }
                answer.and_then(Result::ok)
            }
            Err(_) => None,
        };
        let now = inner.env.clock.monotonic();
        let round_trip = now.saturating_sub(start);
        let mut peers = inner.peers();
        let Some(peer) = peers.get_mut(&node) else { return };
        let was_reachable = peer.track.is_reachable();
        match answer {
            Some(answer) => {
                let answer = answer.into_inner();
                peer.track.on_answer(round_trip);
                peer.heard = Some(now);
                peer.lead_ms = Some(inner.lead_ms(WallTime(NTP64(answer.wall)), round_trip));
                peer.agent = answer.agent;
                peer.alarms = told(node, answer.alarm_details);
                let reports = answer.round_trips.into_iter();
                peer.reports = reports
                    .map(|r| (NodeId(r.node), Duration::from_micros(r.us.into())))
                    .collect();
            }
            None => peer.track.on_lost(),
        }
        match (was_reachable, peer.track.is_reachable()) {
            (true, false) => tracing::warn!(%node, "a peer does not answer"),
            (false, true) => tracing::info!(%node, "a peer answers again"),
            _ => {}
        }
    }
}

/// Whether a peer refused us for good.
fn says_removed<T>(answer: &Result<T, Status>) -> bool {
    let refusal = answer.as_ref().err().and_then(Refusal::from_status);
    refusal.is_some_and(|refusal| refusal.code == ErrorCode::Forbidden)
}

/// A peer's alarms, within bounds; it speaks for itself alone.
fn told(peer: NodeId, alarms: Vec<v1::Alarm>) -> Vec<v1::Alarm> {
    let own = |mut alarm: v1::Alarm| {
        alarm.node = peer.0;
        alarm.message = alarm.message.chars().take(ALARM_CHARS_MAX).collect();
        alarm
    };
    alarms.into_iter().take(ALARMS_TOLD_MAX).map(own).collect()
}

/// Whole microseconds, at least one: zero means unknown on the wire.
pub(crate) fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX).max(1)
}

impl Inner {
    /// How far our clock is ahead of one that showed `theirs` half a round trip ago.
    fn lead_ms(&self, theirs: WallTime, round_trip: Duration) -> i64 {
        let millis = |wall: WallTime| i64::try_from(wall.unix_millis()).unwrap_or(i64::MAX);
        let half = i64::try_from(round_trip.as_millis() / 2).unwrap_or(i64::MAX);
        millis(self.env.clock.wall())
            .saturating_sub(millis(theirs))
            .saturating_sub(half)
    }

    fn alarms(&self) -> MutexGuard<'_, Vec<v1::Alarm>> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<NodeId, PeerHealth>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
