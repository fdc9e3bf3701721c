//! The rooms' figures at a scrape.
//!
//! Names are Prometheus': base units in the name, `_total` behind what only grows (the encoder writes that one). Labels
//! are nodes, regions and the few tenants that are furthest behind, so a scrape does not grow with tenants.

use std::{collections::BTreeMap, time::Duration};

use halcyon_core::id::NodeId;

use crate::{
    metadata::state::Tenant,
    metrics::{Sample, SampleValue},
    replication::{OutboxMetrics, ReplicationMetrics},
    rpc::Rooms,
};

/// Tenants whose lag has a sample of its own: those that are furthest behind. The rest are in the worst of a region.
const LAGGING_TENANTS_MAX: usize = 16;

/// The rooms' figures.
pub(super) fn samples(rooms: &Rooms) -> Vec<Sample> {
    let mut samples = storage(rooms);
    samples.extend(replication(rooms));
    samples.extend(control_plane(rooms));
    samples.extend(paths(rooms));
    samples.extend(lag(rooms));
    samples.extend(lobby(rooms));
    samples.extend(sessions(rooms));
    samples
}

fn counter(name: &'static str, help: &'static str, value: u64) -> Sample {
    Sample {
        name,
        help,
        labels: Vec::new(),
        value: SampleValue::Counter(value),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; these are small")]
fn gauge(name: &'static str, help: &'static str, value: u64) -> Sample {
    Sample {
        name,
        help,
        labels: Vec::new(),
        value: SampleValue::Gauge(value as f64),
    }
}

fn sessions(rooms: &Rooms) -> Vec<Sample> {
    let figures = rooms.sessions.figures();
    let live = rooms.live.figures();
    vec![
        gauge("live_plans", "Different queries that are followed", live.plans as u64),
        gauge("live_subscribers", "Subscriptions of them", live.subscribers as u64),
        gauge(
            "live_triples",
            "Triples that are in memory for live queries",
            live.triples as u64,
        ),
        gauge(
            "live_bytes",
            "About what live queries take in memory",
            live.bytes as u64,
        ),
        gauge("sessions", "Clients' sessions", figures.open as u64),
        gauge(
            "sessions_connected",
            "Of these, those with a stream",
            figures.connected as u64,
        ),
        gauge(
            "session_bytes",
            "Bytes of events that sessions keep",
            figures.bytes as u64,
        ),
    ]
}

fn lobby(rooms: &Rooms) -> Vec<Sample> {
    let figures = rooms.lobby.figures();
    vec![
        gauge("rooms", "Rooms with clients of this node", figures.rooms),
        gauge("room_connections", "Clients' places in rooms", figures.connections),
        gauge(
            "room_connections_remote",
            "Those of other nodes that are shown here",
            figures.remote,
        ),
        counter("room_presences", "Presences that clients set", figures.presences),
        counter(
            "room_presences_told",
            "Presences that clients were told",
            figures.presences_told,
        ),
        counter("room_messages", "Messages that clients sent to rooms", figures.messages),
        counter(
            "room_messages_told",
            "Messages that clients were told",
            figures.messages_told,
        ),
        counter(
            "room_messages_missed",
            "Messages that receivers were too slow for",
            figures.messages_missed,
        ),
        counter(
            "room_peers_lost",
            "Times that a peer died while its clients were in rooms",
            figures.peers_lost,
        ),
        counter(
            "room_over_limit",
            "What peers brought to rooms over a limit",
            figures.over_limit,
        ),
    ]
}

fn storage(rooms: &Rooms) -> Vec<Sample> {
    let figures = rooms.storage.metrics();
    vec![
        counter("commits", "Requests made durable", figures.commits),
        counter(
            "syncs",
            "Syncs of the log, each shared by a group of requests",
            figures.syncs,
        ),
        counter("log_bytes", "Bytes written to the log", figures.log_bytes),
        counter(
            "folds",
            "Times that the overlay was written to the index",
            figures.folds,
        ),
        gauge("overlay_bytes", "Bytes in the overlay", figures.overlay_bytes),
        gauge("write_queue", "Requests that wait for a writer", figures.queued),
    ]
}

fn replication(rooms: &Rooms) -> Vec<Sample> {
    let figures = rooms.replication.metrics();
    [
        gossip(&figures),
        catch_up(&figures),
        holdings(&figures),
        queues(&figures.outboxes),
    ]
    .concat()
}

fn gossip(figures: &ReplicationMetrics) -> Vec<Sample> {
    vec![
        counter(
            "gossip_received",
            "Change sets that peers sent",
            figures.gossip_received,
        ),
        counter(
            "gossip_taken",
            "Of these, sets that were new and in order",
            figures.gossip_taken,
        ),
        counter(
            "gossip_held",
            "Of these, sets that were held already",
            figures.gossip_held,
        ),
        counter(
            "gossip_gaps",
            "Of these, sets with a hole before them",
            figures.gossip_gaps,
        ),
        counter(
            "gossip_passed_on",
            "Change sets passed on inside the region",
            figures.gossip_passed_on,
        ),
        counter(
            "gossip_received_bytes",
            "Bytes of change sets that peers sent",
            figures.gossip_received_bytes,
        ),
    ]
}

fn catch_up(figures: &ReplicationMetrics) -> Vec<Sample> {
    vec![
        counter("catch_ups", "Catch-ups that brought a whole delta", figures.catch_ups),
        counter("catch_ups_broken", "Catch-ups that broke off", figures.catch_ups_broken),
        counter(
            "catch_ups_resumed",
            "Catch-ups that went on from a token",
            figures.catch_ups_resumed,
        ),
        counter("facts_pulled", "Facts that catch-ups brought", figures.facts_pulled),
        counter(
            "facts_served",
            "Facts served to catch-ups of others",
            figures.facts_served,
        ),
        counter("digests", "Digests exchanged", figures.digests),
        counter(
            "digests_differing",
            "Digests that found a difference",
            figures.digests_differing,
        ),
        gauge(
            "catch_ups_running",
            "Catch-ups under way",
            figures.standing.pulling as u64,
        ),
    ]
}

/// What this node holds, and whether all is well with it.
fn holdings(figures: &ReplicationMetrics) -> Vec<Sample> {
    vec![
        counter(
            "tombstones_collected",
            "Tombstones and the like collected under this node's lead",
            figures.collected,
        ),
        gauge(
            "tenants",
            "Tenants that this node holds",
            figures.standing.tenants as u64,
        ),
        gauge(
            "replicas_not_whole",
            "Replicas that should serve here and are not whole yet",
            figures.standing.unserved as u64,
        ),
        gauge("alarms", "Alarms that are on", figures.alarms as u64),
    ]
}

/// What waits for each peer, and what went to it.
fn queues(outboxes: &BTreeMap<NodeId, OutboxMetrics>) -> Vec<Sample> {
    let each = |sample: &dyn Fn(&OutboxMetrics) -> Sample| -> Vec<Sample> {
        let labelled = |(node, queue)| labelled(sample(queue), "peer", node);
        outboxes.iter().map(labelled).collect()
    };
    let bytes = "Bytes of change sets that wait for a peer";
    let sets = "Change sets that wait for a peer";
    let untold = "Tenants and origins that a peer still has to be told of, to pull them";
    let sent = "Change sets sent to a peer";
    let sent_bytes = "Bytes of change sets sent to a peer";
    let dropped = "Change sets that did not fit a peer's queue and are left to catch-up";
    [
        each(&|queue| gauge("gossip_queue_bytes", bytes, queue.bytes as u64)),
        each(&|queue| gauge("gossip_queue_sets", sets, queue.sets as u64)),
        each(&|queue| gauge("gossip_untold_origins", untold, queue.dirty as u64)),
        each(&|queue| counter("gossip_sent", sent, queue.sent)),
        each(&|queue| counter("gossip_sent_bytes", sent_bytes, queue.sent_bytes)),
        each(&|queue| counter("gossip_dropped", dropped, queue.dropped)),
    ]
    .concat()
}

fn labelled(mut sample: Sample, label: &'static str, value: &impl ToString) -> Sample {
    sample.labels = vec![(label, value.to_string())];
    sample
}

fn seconds(name: &'static str, help: &'static str, value: f64) -> Sample {
    Sample {
        value: SampleValue::Gauge(value),
        ..gauge(name, help, 0)
    }
}

/// The ways to the peers, and this node's clock among theirs.
fn paths(rooms: &Rooms) -> Vec<Sample> {
    let nodes = rooms.view.nodes();
    let peers = || nodes.iter().map(|node| node.id).filter(|&node| node != rooms.me);
    let reachable = "1 while a peer answers probes";
    let round_trip = "Smoothed round trip to a peer";
    let mut samples: Vec<Sample> = peers()
        .map(|node| {
            let is_reachable = u64::from(rooms.routing.is_reachable(node));
            labelled(gauge("peer_reachable", reachable, is_reachable), "peer", &node)
        })
        .collect();
    samples.extend(peers().filter_map(|node| {
        let time = rooms.routing.round_trip(node)?.as_secs_f64();
        Some(labelled(
            seconds("peer_round_trip_seconds", round_trip, time),
            "peer",
            &node,
        ))
    }));
    if let Some(lead_ms) = rooms.routing.clock_lead_ms() {
        let help = "How far this node's wall clock is ahead of most others that answer";
        let lead = Duration::from_millis(lead_ms.unsigned_abs()).as_secs_f64();
        samples.push(seconds(
            "clock_lead_seconds",
            help,
            lead.copysign(if lead_ms < 0 { -1.0 } else { 1.0 }),
        ));
    }
    samples
}

fn control_plane(rooms: &Rooms) -> Vec<Sample> {
    let roles = rooms.metadata.roles();
    let is_leader = roles.leader == Some(rooms.me);
    vec![
        gauge(
            "raft_index",
            "The last command of the control plane applied here",
            roles.index,
        ),
        gauge("raft_term", "The term of the last election heard of", roles.term),
        gauge(
            "raft_leader",
            "1 where this node leads the control plane",
            u64::from(is_leader),
        ),
        gauge(
            "raft_voter",
            "1 where this node votes",
            u64::from(roles.voters.contains(&rooms.me)),
        ),
        gauge(
            "raft_quorum",
            "1 while a leader with a quorum is known",
            u64::from(roles.has_quorum),
        ),
        seconds(
            "raft_quorum_age_seconds",
            "How long ago that was last confirmed; -1 where no leader is known",
            roles.quorum_age.map_or(-1.0, |age| age.as_secs_f64()),
        ),
    ]
}

/// The worst of the tenants for each region, and the few tenants that are furthest behind: a sample for each tenant would
/// drown the scrape.
fn lag(rooms: &Rooms) -> Vec<Sample> {
    let nodes = rooms.view.nodes();
    let regions: BTreeMap<NodeId, String> = nodes.iter().map(|node| (node.id, node.region.to_string())).collect();
    let mut by_region: BTreeMap<&str, u64> = BTreeMap::new();
    let mut by_tenant = Vec::new();
    for tenant in rooms.view.tenants_on(rooms.me) {
        let lags = rooms.replication.lag(tenant.id);
        for (node, lag) in &lags {
            let region = regions.get(node).map_or("", String::as_str);
            let worst = by_region.entry(region).or_insert(0);
            *worst = lag.change_sets.max(*worst);
        }
        let worst = lags.values().map(|lag| lag.change_sets).max().unwrap_or(0);
        if worst > 0 {
            by_tenant.push((worst, tenant));
        }
    }
    by_tenant.sort_by(|(a, one), (b, other)| b.cmp(a).then_with(|| one.name.cmp(&other.name)));
    by_tenant.truncate(LAGGING_TENANTS_MAX);
    let region = "Change sets that a region is not known to hold, of the tenant that is furthest behind";
    let tenant = "Change sets that some replica is not known to hold, of the tenants that are furthest behind";
    let mut samples: Vec<Sample> = by_region
        .into_iter()
        .map(|(name, sets)| labelled(gauge("lag_change_sets", region, sets), "region", &name))
        .collect();
    let of_tenant = |(sets, it): (u64, std::sync::Arc<Tenant>)| {
        labelled(gauge("tenant_lag_change_sets", tenant, sets), "tenant", &it.name)
    };
    samples.extend(by_tenant.into_iter().map(of_tenant));
    samples
}
