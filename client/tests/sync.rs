//! The client against pretended nodes: what it pushes, reads and watches while they fail.

#![expect(clippy::unwrap_used, reason = "a test stops where something is not as it must be")]

mod fake;

use std::{path::Path, time::Duration};

use fake::{Node, assert_once, cluster, cluster_without_replication, env_ahead};
use futures::StreamExt;
use halcyon_client::{
    Client, ClientOptions, ConnectError, ErrorCode, Outbox, ReadError, Refused, ScanQuery, Unacknowledged, WatchEvent,
    WriteError, env,
};
use halcyon_core::{
    change::Change,
    env::Env,
    id::{EntityId, NodeId, Predicate},
    value::Value,
    version_vector::VersionVector,
};

/// Everything in these tests happens within this, or is broken.
const PATIENCE: Duration = Duration::from_mins(1);

fn options(nodes: &[Node]) -> ClientOptions {
    ClientOptions {
        addresses: nodes.iter().map(|node| node.address.clone()).collect(),
        tenant: "app".into(),
        key: "key".into(),
        ..ClientOptions::default()
    }
}

fn memory() -> Env {
    env::system(None).unwrap()
}

fn disk(path: &Path) -> Env {
    env::system(Some(path)).unwrap()
}

async fn connect(nodes: &[Node]) -> Client {
    Client::connect(memory(), options(nodes)).await.unwrap()
}

fn titled(entity: &str, number: usize) -> Vec<Change> {
    vec![Change::Set {
        subject: EntityId::new(entity).unwrap(),
        predicate: Predicate::new("note/title").unwrap(),
        value: Value::string(&number.to_string()),
    }]
}

async fn write_many(client: &Client, count: usize) {
    for number in 1..=count {
        client.write(titled("n", number)).await.unwrap();
    }
}

async fn flush(client: &Client) {
    tokio::time::timeout(PATIENCE, client.flush())
        .await
        .expect("in time")
        .unwrap();
}

/// So far away that no busy moment of this machine makes it the nearest.
const FAR: Duration = Duration::from_secs(1);

fn in_order(count: u64) -> Vec<u64> {
    (1..=count).collect()
}

#[tokio::test]
async fn sets_are_taken_in_order_and_acknowledged() {
    let nodes = cluster(1);
    let client = connect(&nodes).await;
    let mut pending = Vec::new();
    for number in 1..=3_000 {
        pending.push(client.write(titled("n", number)).await.unwrap());
    }
    for (number, pending) in (1..).zip(pending) {
        assert_eq!(pending.number(), number);
        let acknowledged = pending.acknowledged().await.unwrap();
        assert_eq!((acknowledged.tag.seq.0, acknowledged.again), (number, false));
    }
    assert_eq!(nodes[0].numbers(), in_order(3_000));
    assert_eq!(client.status().outbox, 0);
    client.close().await;
}

#[tokio::test]
async fn a_set_whose_answer_was_lost_is_taken_once() {
    let nodes = cluster(2);
    let client = connect(&nodes).await;
    for node in &nodes {
        node.set(|faults| faults.lost_answers = 3);
    }
    let first = client.write(titled("n", 1)).await.unwrap();
    write_many(&client, 50).await;
    assert!(first.acknowledged().await.unwrap().again);
    flush(&client).await;
    assert_eq!(nodes[0].numbers(), in_order(51));
    assert_once(&nodes);
}

#[tokio::test]
async fn a_busy_node_is_given_time_and_keeps_the_order() {
    let nodes = cluster(1);
    let client = connect(&nodes).await;
    nodes[0].set(|faults| faults.busy = 5);
    write_many(&client, 100).await;
    flush(&client).await;
    assert_eq!(nodes[0].numbers(), in_order(100));
}

#[tokio::test]
async fn a_clock_that_is_a_year_ahead_is_corrected_and_nothing_is_lost() {
    let nodes = cluster(1);
    let year = Duration::from_hours(365 * 24);
    let client = Client::connect(env_ahead(year), options(&nodes)).await.unwrap();
    write_many(&client, 20).await;
    flush(&client).await;
    write_many(&client, 20).await;
    flush(&client).await;
    assert_eq!(nodes[0].numbers(), in_order(40));
    let stamps: Vec<_> = nodes[0].held().log.iter().map(|(_, set)| set.timestamp).collect();
    assert!(stamps.is_sorted(), "later writes have later timestamps");
}

#[tokio::test]
async fn a_node_that_does_not_hold_the_tenant_names_one_that_does() {
    let nodes = cluster(2);
    nodes[1].set(|faults| faults.delay = FAR);
    let client = connect(&nodes).await;
    assert_eq!(client.status().node, Some(NodeId(1)), "the nearest");
    nodes[0].set(|faults| faults.elsewhere = true);
    nodes[1].set(|faults| faults.delay = Duration::ZERO);
    write_many(&client, 10).await;
    flush(&client).await;
    assert_eq!(client.status().node, Some(NodeId(2)));
    assert!(nodes[1].held().log.iter().all(|(tag, _)| tag.origin.node == NodeId(2)));
}

#[tokio::test]
async fn a_node_that_dies_is_left_for_the_next_nearest() {
    let nodes = cluster(3);
    for (node, delay) in nodes.iter().zip([Duration::ZERO, FAR / 4, FAR]) {
        node.set(|faults| faults.delay = delay);
    }
    let client = connect(&nodes).await;
    write_many(&client, 10).await;
    flush(&client).await;
    nodes[0].set(|faults| faults.down = true);
    write_many(&client, 10).await;
    flush(&client).await;
    // Until both are measured either will do.
    let mut written = 20;
    let moved = async {
        while client.status().node != Some(NodeId(2)) {
            write_many(&client, 1).await;
            flush(&client).await;
            written += 1;
        }
    };
    tokio::time::timeout(PATIENCE, moved)
        .await
        .expect("it goes to the nearer one");
    assert_eq!(nodes[1].numbers(), in_order(written));
    assert_once(&nodes);
}

#[tokio::test]
async fn an_outbox_on_disk_is_pushed_after_a_restart_in_its_order() {
    let nodes = cluster(1);
    let directory = tempfile::tempdir().unwrap();
    let options = ClientOptions {
        outbox: Outbox::Disk("outbox".into()),
        offline: true,
        ..options(&nodes)
    };
    nodes[0].set(|faults| faults.down = true);
    for _ in 0..2 {
        let client = Client::connect(disk(directory.path()), options.clone()).await.unwrap();
        write_many(&client, 30).await;
        client.close().await;
    }
    nodes[0].set(|faults| faults.down = false);
    let client = Client::connect(disk(directory.path()), options.clone()).await.unwrap();
    assert_eq!(client.status().outbox, 60);
    write_many(&client, 5).await;
    flush(&client).await;
    let expected = [in_order(30), in_order(30), in_order(5)].concat();
    assert_eq!(nodes[0].numbers(), expected, "each incarnation counts from 1");
    let clients: Vec<_> = nodes[0].held().log.iter().map(|(_, set)| set.client()).collect();
    assert!(clients[0] == clients[29] && clients[29] != clients[30] && clients[59] != clients[60]);
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writes_to_an_outbox_on_disk_are_all_taken() {
    let nodes = cluster(1);
    let directory = tempfile::tempdir().unwrap();
    let options = ClientOptions {
        outbox: Outbox::Disk("outbox".into()),
        ..options(&nodes)
    };
    let client = Client::connect(disk(directory.path()), options).await.unwrap();
    let writers = (0..16).map(|writer| {
        let client = client.clone();
        tokio::spawn(async move {
            for number in 0..20 {
                let pending = client.write(titled(&format!("w{writer}"), number)).await.unwrap();
                pending.acknowledged().await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(nodes[0].numbers(), in_order(320));
    client.close().await;
}

/// Two nodes, and a client of which the first, which is gone for good, alone had ten sets.
async fn with_what_only_a_lost_node_had() -> (Vec<Node>, Client) {
    let nodes = cluster_without_replication(2);
    nodes[1].set(|faults| faults.delay = FAR);
    let client = connect(&nodes).await;
    write_many(&client, 10).await;
    flush(&client).await;
    nodes[1].set(|faults| faults.delay = Duration::ZERO);
    assert_eq!(client.status().kept, 10);
    assert!(nodes[1].numbers().is_empty());
    nodes[0].remove_from_cluster();
    nodes[0].set(|faults| faults.down = true);
    (nodes, client)
}

#[tokio::test]
async fn an_acknowledged_set_is_pushed_again_when_its_node_is_lost_for_good() {
    let (nodes, client) = with_what_only_a_lost_node_had().await;
    let written = client.write(titled("n", 11)).await.unwrap();
    written.acknowledged().await.unwrap();
    let moved = async {
        while nodes[1].held().log.len() < 11 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let moved = tokio::time::timeout(PATIENCE, moved).await;
    moved.expect("the kept sets are pushed to the node that is left");
}

#[tokio::test]
async fn a_client_that_never_stops_writing_pushes_again_too_what_only_a_lost_node_had() {
    let (nodes, client) = with_what_only_a_lost_node_had().await;
    let moved = async {
        let mut number = 11;
        while !in_order(10).iter().all(|kept| nodes[1].numbers().contains(kept)) {
            client.write(titled("n", number)).await.unwrap();
            number += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let moved = tokio::time::timeout(PATIENCE, moved).await;
    moved.expect("the kept sets are pushed to the node that is left");
}

#[tokio::test]
async fn sets_that_a_second_replica_holds_are_let_go() {
    let nodes = cluster(2);
    nodes[1].set(|faults| faults.delay = FAR);
    let client = connect(&nodes).await;
    write_many(&client, 10).await;
    flush(&client).await;
    nodes[1].set(|faults| faults.delay = Duration::ZERO);
    nodes[0].set(|faults| faults.down = true);
    client.get(&EntityId::new("n").unwrap()).await.unwrap();
    let let_go = async {
        while client.status().kept > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, let_go)
        .await
        .expect("the second node holds them too");
}

#[tokio::test]
async fn a_watch_goes_on_without_gap_or_repeat_while_connections_break() {
    let nodes = cluster(2);
    let client = connect(&nodes).await;
    write_many(&client, 40).await;
    flush(&client).await;
    for node in &nodes {
        node.set(|faults| faults.watch_messages_max = Some(25));
    }
    let mut watch = Box::pin(client.watch(VersionVector::EMPTY));
    let mut seen = Vec::new();
    for round in 0..5 {
        write_many(&client, 20).await;
        flush(&client).await;
        let (down, up) = (round % 2, (round + 1) % 2);
        nodes[down].set(|faults| faults.down = true);
        nodes[up].set(|faults| faults.down = false);
        while seen.len() < 40 + 20 * (round + 1) {
            let event = tokio::time::timeout(PATIENCE, watch.next())
                .await
                .expect("in time")
                .unwrap();
            match event.unwrap() {
                // Everything had not come before the connection broke.
                WatchEvent::Anew => seen.clear(),
                WatchEvent::Missed(set) | WatchEvent::Live { set, .. } => seen.push(set.number),
                WatchEvent::CaughtUp(_) => {}
            }
        }
        nodes[down].set(|faults| faults.down = false);
        if round == 0 {
            for node in &nodes {
                node.set(|faults| faults.watch_messages_max = Some(7));
            }
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, in_order(140));
}

#[tokio::test]
async fn reads_find_what_was_written_also_when_a_node_is_down() {
    let nodes = cluster(2);
    let client = connect(&nodes).await;
    client
        .write(titled("n", 7))
        .await
        .unwrap()
        .acknowledged()
        .await
        .unwrap();
    let subject = EntityId::new("n").unwrap();
    let predicate = Predicate::new("note/title").unwrap();
    for down in [None, Some(0), Some(1)] {
        for (at, node) in nodes.iter().enumerate() {
            node.set(|faults| faults.down = down == Some(at));
        }
        let triples = client.get(&subject).await.unwrap();
        assert_eq!(triples, [(predicate.clone(), Value::string("7"))]);
        let query = ScanQuery {
            predicate: Some(predicate.clone()),
            ..ScanQuery::default()
        };
        let page = client.scan(query).await.unwrap();
        assert_eq!((page.triples.len(), page.cursor.len()), (1, 0));
    }
    assert_eq!(client.locate().await.unwrap().replicas.len(), 2);
}

#[tokio::test]
async fn a_revoked_key_is_told_and_the_sets_stay() {
    let nodes = cluster(1);
    let client = connect(&nodes).await;
    nodes[0].set(|faults| faults.key_revoked = true);
    let end = client.write(titled("n", 1)).await.unwrap().acknowledged().await;
    assert!(matches!(end, Err(Refused::Kept(refusal)) if refusal.code == ErrorCode::Unauthenticated));
    assert_eq!(client.status().outbox, 1);
    assert!(client.flush().await.is_err());
    let read = client.get(&EntityId::new("n").unwrap()).await;
    assert!(matches!(read, Err(ReadError::Refused(_))));
    let mut watch = Box::pin(client.watch(VersionVector::EMPTY));
    assert!(matches!(watch.next().await, Some(Err(ReadError::Refused(_)))));
    assert!(watch.next().await.is_none());
    let again = Client::connect(memory(), options(&nodes)).await;
    assert!(matches!(again, Err(ConnectError::Refused(_))));
}

#[tokio::test]
async fn what_cannot_be_reached_or_is_too_large_is_said_so() {
    let nodes = cluster(1);
    let nobody = ClientOptions {
        addresses: vec!["127.0.0.1:1".into()],
        ..options(&nodes)
    };
    assert!(matches!(
        Client::connect(memory(), nobody).await,
        Err(ConnectError::Unreachable(_))
    ));
    let nonsense = ClientOptions {
        addresses: vec!["nonsense".into()],
        ..options(&nodes)
    };
    assert!(matches!(
        Client::connect(memory(), nonsense).await,
        Err(ConnectError::Address(_))
    ));
    let client = connect(&nodes).await;
    let long = "x".repeat(300 << 10);
    let change = Change::Set {
        subject: EntityId::new("n").unwrap(),
        predicate: Predicate::new("note/title").unwrap(),
        value: Value::string(&long),
    };
    assert!(matches!(client.write(vec![change]).await, Err(WriteError::TooLarge(_))));
    let closed = client.clone();
    client.close().await;
    assert!(matches!(closed.write(titled("n", 1)).await, Err(WriteError::Closed)));
}

#[tokio::test]
async fn a_set_that_only_one_region_has_is_told_and_pushed_again_to_the_same_node() {
    let nodes = cluster_without_replication(2);
    let alone = |is: bool| nodes.iter().for_each(|node| node.set(|faults| faults.alone = is));
    let client = connect(&nodes).await;
    alone(true);
    let mut pending = client.write(titled("n", 1)).await.unwrap();
    let node = client.status().node;
    let told = async {
        while client.status().held_by_one == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told)
        .await
        .expect("the node says that it has it");
    let early = pending.acknowledged_within(Duration::from_millis(5)).await;
    assert!(
        matches!(early, Err(Unacknowledged::NotYetReplicated { .. })),
        "{early:?}"
    );
    let status = client.status();
    assert_eq!((status.node, status.outbox, status.held_by_one), (node, 1, 1));
    let holders: Vec<usize> = nodes.iter().map(|node| node.numbers().len()).collect();
    assert_eq!(
        holders.iter().sum::<usize>(),
        1,
        "it did not go to another node: {holders:?}"
    );
    alone(false);
    let taken = pending.acknowledged_within(PATIENCE).await.unwrap();
    assert!(taken.again);
    assert_eq!((client.status().outbox, client.status().held_by_one), (0, 0));
}

#[tokio::test]
async fn a_set_that_no_node_answers_for_is_told_and_may_be_waited_for_again() {
    let nodes = cluster(1);
    let client = connect(&nodes).await;
    nodes[0].set(|faults| faults.down = true);
    let mut pending = client.write(titled("n", 1)).await.unwrap();
    let early = pending.acknowledged_within(Duration::from_millis(100)).await;
    assert!(matches!(early, Err(Unacknowledged::Unanswered { .. })), "{early:?}");
    nodes[0].set(|faults| faults.down = false);
    pending.acknowledged_within(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_watch_from_a_kept_vector_goes_on_without_gap_or_repeat() {
    let nodes = cluster(1);
    let client = connect(&nodes).await;
    let watched = async |from: VersionVector, count: usize| {
        let mut events = Box::pin(client.watch(from.clone()));
        let (mut held, mut sets) = (from, Vec::new());
        // A part of what was missed moves no vector: only all of it does.
        let mut is_whole = true;
        while sets.len() < count || !is_whole {
            let event = tokio::time::timeout(PATIENCE, events.next()).await.expect("in time");
            match event.unwrap().unwrap() {
                WatchEvent::Anew => unreachable!("no connection breaks here"),
                WatchEvent::Missed(set) => {
                    is_whole = false;
                    sets.push(set.number);
                }
                WatchEvent::CaughtUp(vector) => (held, is_whole) = (vector, true),
                WatchEvent::Live { tag, set } => {
                    held.raise(tag);
                    sets.push(set.number);
                }
            }
        }
        // An earlier run's vector comes back as text.
        (VersionVector::decode(&held.encode()).unwrap(), sets)
    };
    let write = async |count| {
        write_many(&client, count).await;
        flush(&client).await;
    };
    let from = client.held().await.unwrap();
    let (vector, first) = tokio::join!(watched(from, 3), write(3)).0;
    write(4).await;
    let (vector, second) = watched(vector, 4).await;
    let (_, third) = tokio::join!(watched(vector, 2), write(2)).0;
    let mut all = [first, second, third].concat();
    all.sort_unstable();
    assert_eq!(all, in_order(9));
}
