//! Replicas in one process over real sockets: what a set goes through between nodes, and what faults do to it.

mod cluster;
mod peer;
mod push;
mod repair;

use std::time::Duration;

use futures::StreamExt;
use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, WallTime, timestamp},
    id::{EntityId, NodeId, Predicate},
    value::Value,
    version_vector::VersionVector,
};
use prost::bytes::Bytes;
use tokio::time::{sleep, timeout};

use self::cluster::{Cluster, PATIENCE, creation};
use super::fixtures;
use crate::{
    metadata::state::{
        ReplicaState::{Active, Joining, Leaving},
        State,
    },
    tenant::{PushError, WatchEvent},
};

/// Changes that write one field.
fn writing(entity: &str, text: &str) -> Vec<Change> {
    vec![Change::Set {
        subject: EntityId::new(entity).unwrap(),
        predicate: Predicate::new("post/title").unwrap(),
        value: Value::String(text.into()),
    }]
}

/// A set of a client that the cluster's own is not.
fn set_of(client: u128, number: u64, seconds: u64, changes: Vec<Change>) -> Bytes {
    let wall = WallTime::from_unix(Duration::from_secs(seconds));
    let timestamp = timestamp(wall.0, ClientId::from_random(client));
    let set = ChangeSet {
        timestamp,
        number,
        changes,
    };
    set.encode().into()
}

/// When the clients of tests write: long ago, so that nothing drifts.
const PAST: u64 = 1_000_000_000;

const THREE: [(u64, crate::metadata::state::ReplicaState); 3] = [(1, Active), (2, Active), (3, Active)];

async fn three() -> Cluster {
    let cluster = Cluster::start(&[1, 2, 3], &THREE).await;
    cluster.serving(&[1, 2, 3]).await;
    cluster
}

fn delete(entity: &str) -> Vec<Change> {
    vec![Change::Delete {
        subject: EntityId::new(entity).unwrap(),
    }]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sets_written_anywhere_reach_all_regions() {
    let cluster = three().await;
    for node in 1..=3 {
        let base = usize::try_from(node).unwrap() * 1_000;
        cluster.create(node, base..base + 300, 3).await;
    }
    cluster.agree(&[1, 2, 3]).await;
    assert_eq!(
        cluster
            .summary(1)
            .unwrap()
            .vector
            .iter()
            .map(|tag| tag.seq.0)
            .sum::<u64>(),
        900
    );
    let all = cluster.nodes[&1].replication.held(fixtures::tenant_id());
    assert!(all.len() <= 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_copy_crosses_to_a_region_and_is_passed_on_there() {
    let replicas = [(1, Active), (20, Active), (21, Active), (22, Active)];
    let cluster = Cluster::start(&[1, 20, 21, 22], &replicas).await;
    cluster.serving(&[1, 20, 21, 22]).await;
    let is_reachable = |cluster: &Cluster| {
        let lags = cluster
            .nodes
            .values()
            .map(|node| node.replication.lag(fixtures::tenant_id()));
        lags.flat_map(std::collections::BTreeMap::into_values)
            .all(|lag| lag.is_reachable)
    };
    cluster.until("all calls", is_reachable).await;
    cluster.create(1, 0..100, 1).await;
    cluster.agree(&[1, 20, 21, 22]).await;
    let sent = cluster.nodes[&1].replication.metrics().outboxes;
    assert_eq!(sent[&NodeId(21)].sent + sent[&NodeId(22)].sent, 0, "{sent:?}");
    assert_eq!(cluster.nodes[&20].replication.metrics().gossip_passed_on, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_cut_off_and_wrote_on_agrees_after_healing() {
    let cluster = three().await;
    cluster.create(1, 0..50, 2).await;
    cluster.agree(&[1, 2, 3]).await;
    cluster.cut(3, true);
    cluster.create(1, 100..400, 2).await;
    cluster.create(2, 400..500, 2).await;
    cluster.create(3, 500..600, 2).await;
    cluster.agree(&[1, 2]).await;
    cluster.cut(3, false);
    cluster.agree(&[1, 2, 3]).await;
    assert_eq!(
        cluster
            .summary(3)
            .unwrap()
            .vector
            .iter()
            .map(|tag| tag.seq.0)
            .sum::<u64>(),
        550
    );
    cluster.create(1, 600..700, 2).await;
    cluster.agree(&[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_joining_node_is_filled_while_others_write_and_then_serves() {
    let cluster = Cluster::start(&[1, 2, 3], &[(1, Active), (2, Active)]).await;
    cluster.serving(&[1, 2]).await;
    cluster.create(1, 0..2_000, 5).await;
    assert!(cluster.summary(3).is_none());
    cluster.place(3, &[]);
    cluster.create(1, 2_000..2_500, 5).await;
    cluster.create(2, 3_000..3_500, 5).await;
    cluster.serving(&[1, 2, 3]).await;
    cluster.agree(&[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaving_node_hands_over_before_it_erases() {
    let cluster = Cluster::start(&[1, 2, 3], &[(1, Active), (2, Active)]).await;
    cluster.serving(&[1, 2]).await;
    cluster.create(1, 0..200, 2).await;
    cluster.agree(&[1, 2]).await;
    cluster.cut(2, true);
    cluster.create(2, 200..300, 2).await;
    cluster.control.change_tenant(|tenant| {
        tenant.replicas.insert(NodeId(3), Joining);
        tenant.replicas.insert(NodeId(2), Leaving);
    });
    cluster.serving(&[1, 3]).await;
    sleep(Duration::from_millis(500)).await;
    assert!(cluster.summary(2).is_some(), "it erased what nobody else holds");
    cluster.cut(2, false);
    cluster.until("erasure", |cluster| cluster.summary(2).is_none()).await;
    cluster.agree(&[1, 3]).await;
    assert_eq!(
        cluster
            .summary(1)
            .unwrap()
            .vector
            .iter()
            .map(|tag| tag.seq.0)
            .sum::<u64>(),
        300
    );
    cluster
        .until("the report", |cluster| {
            !cluster.tenant().replicas.contains_key(&NodeId(2))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_placed_out_while_away_hands_over_what_only_it_holds() {
    let cluster = three().await;
    cluster.create(1, 0..50, 2).await;
    cluster.agree(&[1, 2, 3]).await;
    cluster.cut(3, true);
    cluster.create(3, 100..150, 2).await;
    cluster.control.change_tenant(|tenant| {
        tenant.replicas.remove(&NodeId(3));
    });
    sleep(Duration::from_millis(300)).await;
    cluster.cut(3, false);
    cluster.until("erasure", |cluster| cluster.summary(3).is_none()).await;
    cluster.agree(&[1, 2]).await;
    assert_eq!(
        cluster
            .summary(1)
            .unwrap()
            .vector
            .iter()
            .map(|tag| tag.seq.0)
            .sum::<u64>(),
        100
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_tenant_is_erased_everywhere() {
    let cluster = three().await;
    cluster.create(1, 0..100, 2).await;
    cluster.cut(2, true);
    cluster.control.change(|state| {
        state.tenants.remove(&fixtures::tenant_id());
        let nodes = [1, 2, 3].map(NodeId).into_iter().collect();
        state.erasing.insert(fixtures::tenant_id(), nodes);
    });
    cluster
        .until("erasure", |cluster| {
            [1, 2, 3].iter().all(|&node| cluster.summary(node).is_none())
        })
        .await;
    let is_reported = |cluster: &Cluster| {
        cluster
            .control
            .change(|state| state.erasing[&fixtures::tenant_id()].is_empty())
    };
    cluster.until("the reports", is_reported).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tombstones_are_collected_when_all_replicas_hold_them() {
    let cluster = three().await;
    cluster.create(1, 0..20, 2).await;
    cluster.agree(&[1, 2, 3]).await;
    cluster.cut(3, true);
    let deletes = (0..10).map(|at| cluster.set(delete(&format!("e{at}")))).collect();
    for answer in cluster.push(1, deletes).await {
        answer.unwrap();
    }
    cluster
        .control
        .change(|state| state.settings.insert("tombstone_retention".into(), "1s".into()));
    sleep(Duration::from_millis(1_800)).await;
    assert_eq!(cluster.tenant().collection_epoch, 0, "one replica does not hold them");
    cluster.cut(3, false);
    let is_collected = |cluster: &Cluster| {
        [1, 2, 3]
            .iter()
            .all(|&node| cluster.summary(node).unwrap().collection_epoch > 0)
    };
    cluster.until("the collection", is_collected).await;
    cluster.create(2, 50..60, 2).await;
    cluster.agree(&[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_asks_for_another_region_waits_for_it() {
    let cluster = three().await;
    let wait_for = |time: &str| {
        let settings = |state: &mut State| state.settings.insert("region_ack_deadline".into(), time.into());
        cluster.control.change(settings)
    };
    wait_for("10s");
    cluster.control.change_tenant(|tenant| {
        tenant.settings.insert("acknowledgement".into(), "region".into());
    });
    for _ in 0..20 {
        let answers = cluster.push(1, vec![cluster.set(creation("e1", 1))]).await;
        let tag = answers[0].as_ref().unwrap().tag;
        assert!(
            [2, 3]
                .iter()
                .any(|&node| cluster.summary(node).unwrap().vector.covers_tag(tag))
        );
    }
    cluster.cut(1, true);
    wait_for("1s");
    let answers = cluster.push(1, vec![cluster.set(creation("e2", 1))]).await;
    assert!(
        matches!(&answers[0], Err(PushError::NotYetReplicated(_))),
        "{answers:?}"
    );
    cluster.cut(1, false);
    cluster.agree(&[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_hears_of_every_set_once_through_gaps_and_catch_ups() {
    let cluster = three().await;
    cluster.create(1, 0..30, 1).await;
    cluster.agree(&[1, 2, 3]).await;
    let watcher = cluster.nodes[&3].tenants.watch(&cluster.tenant(), VersionVector::EMPTY);
    let (sender, mut events) = tokio::sync::mpsc::channel(10_000);
    tokio::spawn(async move {
        let mut watcher = std::pin::pin!(watcher);
        while let Some(Ok(event)) = watcher.next().await {
            if sender.send(event).await.is_err() {
                break;
            }
        }
    });
    cluster.create(2, 100..130, 1).await;
    cluster.agree(&[1, 2, 3]).await;
    cluster.cut(3, true);
    cluster.create(1, 200..230, 1).await;
    cluster.cut(3, false);
    cluster.agree(&[1, 2, 3]).await;
    cluster.create(1, 300..330, 1).await;
    cluster.agree(&[1, 2, 3]).await;
    let written = |bytes: &Bytes| -> Vec<EntityId> {
        let set = ChangeSet::decode(bytes).unwrap();
        let writes = set.changes.iter().filter(|it| it.value().is_some());
        writes.filter_map(Change::subject).cloned().collect()
    };
    let mut subjects = Vec::new();
    loop {
        // Once all have come, what comes again comes soon.
        let patience = if subjects.len() < 120 {
            PATIENCE
        } else {
            Duration::from_millis(500)
        };
        match timeout(patience, events.recv()).await {
            Ok(Some(WatchEvent::Missed(sets))) => subjects.extend(sets.iter().flat_map(written)),
            Ok(Some(WatchEvent::Live { change_set, .. })) => subjects.extend(written(&change_set)),
            Ok(Some(WatchEvent::Anew | WatchEvent::CaughtUp(_) | WatchEvent::Held { .. })) => {}
            Ok(None) | Err(_) => break,
        }
    }
    let heard = subjects.len();
    subjects.sort();
    subjects.dedup();
    assert_eq!((heard, subjects.len()), (120, 120));
}

/// Copies a node's files, as a backup would.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_restored_from_old_files_agrees_again_and_so_does_what_it_writes_then() {
    let mut cluster = three().await;
    cluster.create(3, 0..100, 2).await;
    cluster.agree(&[1, 2, 3]).await;
    cluster.stop_node(3).await;
    let backup = tempfile::TempDir::new().unwrap();
    copy(cluster.dir(3), backup.path());
    cluster.start_node(3).await;
    cluster.serving(&[3]).await;
    cluster.create(3, 100..200, 2).await;
    let deletes = (0..10).map(|at| cluster.set(delete(&format!("e{at}")))).collect();
    for answer in cluster.push(1, deletes).await {
        answer.unwrap();
    }
    cluster.agree(&[1, 2, 3]).await;
    cluster
        .control
        .change(|state| state.settings.insert("tombstone_retention".into(), "1s".into()));
    cluster
        .until("the collection", |cluster| {
            cluster.summary(1).unwrap().collection_epoch > 0
        })
        .await;
    cluster.agree(&[1, 2, 3]).await;
    cluster.stop_node(3).await;
    copy(backup.path(), cluster.dir(3));
    cluster.start_node(3).await;
    cluster.agree(&[1, 2, 3]).await;
    cluster.serving(&[3]).await;
    cluster.create(3, 300..320, 2).await;
    cluster.agree(&[1, 2, 3]).await;
    assert!(cluster.nodes[&3].replication.alarms().is_empty());
}

/// Figures, for people: `cargo test --release -p halcyon-node figures -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
#[expect(clippy::print_stderr, reason = "a measurement for people")]
async fn figures() {
    let cluster = Cluster::start(&[1, 2, 3], &[(1, Active), (2, Active)]).await;
    cluster.serving(&[1, 2]).await;
    let mut latencies = Vec::new();
    for at in 0..500 {
        let answers = cluster.push(1, vec![cluster.set(creation(&format!("l{at}"), 1))]).await;
        let tag = answers[0].as_ref().unwrap().tag;
        let start = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        while !cluster.summary(2).unwrap().vector.covers_tag(tag) {
            tokio::task::yield_now().await;
        }
        latencies.push(
            std::time::SystemTime::UNIX_EPOCH
                .elapsed()
                .unwrap()
                .saturating_sub(start),
        );
    }
    latencies.sort();
    eprintln!(
        "acknowledged on 1 to readable on 2: p50 {:?} p99 {:?}",
        latencies[250], latencies[495]
    );
    let start = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    for at in 0..25 {
        let sets = (0..20).map(|set| {
            let changes = (0..100)
                .flat_map(|entity| creation(&format!("r{at}x{set}x{entity}"), 10))
                .collect();
            cluster.set(changes)
        });
        for answer in cluster.push(1 + at % 2, sets.collect()).await {
            answer.unwrap();
        }
    }
    cluster.agree(&[1, 2]).await;
    let took = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .saturating_sub(start);
    eprintln!(
        "two live, 500 sets of 1,000: {took:?}, {:.0} rows/s",
        500_000.0 / took.as_secs_f64()
    );
    let start = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    cluster.place(3, &[]);
    cluster
        .until("the join", |cluster| {
            cluster.nodes[&3].replication.serves(fixtures::tenant_id())
        })
        .await;
    let took = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .saturating_sub(start);
    eprintln!(
        "an empty node joins 500,000: {took:?}, {:.0} facts/s",
        500_000.0 / took.as_secs_f64()
    );
}
