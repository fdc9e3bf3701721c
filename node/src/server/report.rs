//! What a node says about itself: whether it is ready, and its rooms' figures at a scrape.

use std::time::Duration;

use tokio::{sync::watch, time::sleep};

use crate::{
    metrics::{Sample, SampleValue},
    rpc::{Readiness, Rooms},
};

/// How often readiness is looked at again: an operator's script polls once a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Keeps `/readyz` true to what is.
pub(super) async fn run(rooms: Rooms, readiness: Readiness, mut stop: watch::Receiver<bool>) {
    loop {
        rooms.look_for_alarms();
        let reasons = reasons(&rooms);
        let before = readiness.reasons();
        if before != reasons {
            if let Some(reason) = reasons.first() {
                tracing::warn!(reason, "the node is not ready");
            } else {
                tracing::info!("the node is ready");
            }
            readiness.set(reasons);
        }
        tokio::select! {
            biased;
            // The one who stops the node has said why it is not ready.
            _ = stop.wait_for(|stop| *stop) => {
                readiness.set(before);
                return;
            }
            () = sleep(LOOK_INTERVAL) => {}
        }
    }
}

/// Why the node should not be sent work. A lost quorum is no reason: data is read and written without it.
fn reasons(rooms: &Rooms) -> Vec<String> {
    let (member, removed, empty) = rooms.view.read(|state| {
        let removed = state.removed_nodes.contains(&rooms.me);
        (state.nodes.contains_key(&rooms.me), removed, state.nodes.is_empty())
    });
    match (member, removed) {
        (_, true) => vec![format!(
            "node {} was removed from the cluster; join as a new node from an empty directory",
            rooms.me
        )],
        (true, false) => rooms.alarms.against_work(),
        (false, false) if empty => {
            vec!["waiting for the control plane: its leader has not reached this node yet".to_owned()]
        }
        (false, false) => vec!["waiting for the control plane to show this node as a member".to_owned()],
    }
}

/// The rooms' figures.
pub(super) fn samples(rooms: &Rooms) -> Vec<Sample> {
    let mut samples = storage(rooms);
    samples.extend(replication(rooms));
    samples.extend(control_plane(rooms));
    samples.extend(lag(rooms));
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
    let mut samples = vec![
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
        counter(
            "tombstones_collected",
            "Tombstones and the like collected under this node's lead",
            figures.collected,
        ),
        gauge("tenants", "Tenants that this node holds", figures.tenants as u64),
        gauge("alarms", "Alarms that are on", figures.alarms as u64),
    ];
    let peers = || figures.outboxes.iter();
    let labelled = |mut sample: Sample, node: &halcyon_core::id::NodeId| {
        sample.labels = vec![("peer", node.to_string())];
        sample
    };
    let waiting = "Bytes of change sets that wait for a peer";
    samples
        .extend(peers().map(|(node, queue)| labelled(gauge("gossip_queue_bytes", waiting, queue.bytes as u64), node)));
    let sent = "Change sets sent to a peer";
    samples.extend(peers().map(|(node, queue)| labelled(counter("gossip_sent", sent, queue.sent), node)));
    let sent = "Bytes of change sets sent to a peer";
    samples.extend(peers().map(|(node, queue)| labelled(counter("gossip_sent_bytes", sent, queue.sent_bytes), node)));
    let dropped = "Change sets that did not fit a peer's queue and are left to catch-up";
    samples.extend(peers().map(|(node, queue)| labelled(counter("gossip_dropped", dropped, queue.dropped), node)));
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
    ]
}

/// The worst of the tenants, for each region: a sample for each tenant would drown the scrape.
fn lag(rooms: &Rooms) -> Vec<Sample> {
    let mut worst = std::collections::BTreeMap::new();
    for tenant in rooms.view.tenants_on(rooms.me) {
        for (node, lag) in rooms.replication.lag(tenant.id) {
            let region = rooms
                .view
                .node(node)
                .map(|node| node.region.to_string())
                .unwrap_or_default();
            let entry = worst.entry(region).or_insert(0);
            *entry = lag.change_sets.max(*entry);
        }
    }
    let help = "Change sets that a region is not known to hold, of the tenant that is furthest behind";
    let sample = |(region, change_sets)| Sample {
        labels: vec![("region", region)],
        ..gauge("lag_change_sets", help, change_sets)
    };
    worst.into_iter().map(sample).collect()
}
