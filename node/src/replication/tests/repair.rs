//! How replicas become equal again after broken streams, full queues, wrong facts and a node that is gone for good.

use std::time::Duration;

use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, NTP64, WallTime, timestamp},
    fact::{Fact, FactBody},
    id::{EntityId, NodeId, OriginId, Predicate, Seq, Tag},
    value::Value,
    version_vector::VersionVector,
};
use tokio::time::sleep;

use super::{
    PAST,
    cluster::{Cluster, creation},
    set_of, three, writing,
};
use crate::{
    metadata::state::ReplicaState::Active,
    replication::fixtures,
    storage::types::{DeltaBatch, GossipOutcome, GossipSet},
};

/// Who goes on is whoever is known by then to have the rest: nearly always the other.
const BREAKS_MAX: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catch_up_that_breaks_off_goes_on_where_it_was_with_the_same_peer_or_another() {
    assert_eq!(who_served_a_broken_catch_up(&[1]).await, [1]);
    for _ in 0..BREAKS_MAX {
        if who_served_a_broken_catch_up(&[1, 2]).await == [1, 2] {
            return;
        }
    }
    panic!("of two peers the one whose stream broke always went on");
}

async fn who_served_a_broken_catch_up(sources: &[u64]) -> Vec<u64> {
    let replicas: Vec<_> = sources.iter().map(|&node| (node, Active)).collect();
    let cluster = Cluster::start(&[1, 2, 3], &replicas).await;
    cluster.serving(sources).await;
    for at in 0..60 {
        let changes = (0..25)
            .flat_map(|entity| creation(&format!("e{at}x{entity}"), 40))
            .collect();
        cluster.push(1, vec![cluster.set(changes)]).await[0].as_ref().unwrap();
    }
    cluster.agree(sources).await;
    // Whoever is asked first: the start of the stream and one batch of several come through.
    cluster.break_catch_up(3, 2);
    cluster.place(3, &[]);
    cluster.serving(&[3]).await;
    cluster.agree(&[&[3], sources].concat()).await;
    let metrics = cluster.nodes[&3].replication.metrics();
    assert_eq!(
        (metrics.catch_ups_broken, metrics.catch_ups_resumed),
        (1, 1),
        "{metrics:?}"
    );
    assert_eq!(cluster.summary(3).unwrap().triples, 60_000);
    // One batch is more than 5,000 facts: none came twice.
    assert!((60_000..65_000).contains(&metrics.facts_pulled), "{metrics:?}");
    let served = |source: &u64| cluster.nodes[source].replication.metrics().facts_served > 0;
    sources.iter().copied().filter(served).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_a_peers_queue_is_caught_up() {
    let cluster = three().await;
    cluster
        .control
        .change(|state| state.settings.insert("gossip_queue_bytes_max".into(), "1048576".into()));
    sleep(Duration::from_millis(100)).await;
    let dropped = || {
        let outboxes = cluster.nodes[&1].replication.metrics().outboxes;
        outboxes.values().map(|outbox| outbox.dropped).sum::<u64>()
    };
    for round in 0..50 {
        let sets = (0..60).map(|at| {
            let entity = format!("e{round}x{at}");
            cluster.set([creation(&entity, 1), writing(&entity, &"x".repeat(50_000))].concat())
        });
        for answer in cluster.push(1, sets.collect()).await {
            answer.unwrap();
        }
        if dropped() > 0 {
            break;
        }
    }
    assert!(dropped() > 0, "the queue never overflowed");
    cluster.agree(&[1, 2, 3]).await;
    let pulled = [2, 3].map(|node| cluster.nodes[&node].replication.metrics().catch_ups);
    assert!(pulled.iter().sum::<u64>() > 0, "{pulled:?}");
}

/// A set of an origin that no node here is.
fn stray(changes: Vec<Change>) -> GossipSet {
    let origin = OriginId {
        node: NodeId(9),
        incarnation: 1,
    };
    let encoded = set_of(9, 1, PAST, changes);
    GossipSet {
        tenant: fixtures::tenant_id(),
        tag: Tag { origin, seq: Seq(1) },
        collection_epoch: 0,
        content_hash: ChangeSet::content_hash(&encoded),
        encoded,
    }
}

/// Gives each node the same tag with another title, as a bad disk would; cut off meanwhile, as one that has it already
/// would fill the next.
async fn differ(cluster: &Cluster, titles: &[(u64, &str)]) {
    for &(node, _) in titles {
        cluster.cut(node, true);
    }
    for &(node, title) in titles {
        let set = stray([creation("s1", 0), writing("s1", title)].concat());
        let taken = cluster.nodes[&node].storage.take_gossip(NodeId(9), vec![set]).await;
        assert_eq!(taken.unwrap(), [GossipOutcome::Taken]);
    }
    for &(node, _) in titles {
        cluster.cut(node, false);
    }
}

/// Whether a node's people are told this.
fn hears(cluster: &Cluster, node: u64, words: &str) -> bool {
    let alarms = cluster.nodes[&node].replication.alarms();
    alarms.iter().any(|alarm| alarm.message.contains(words))
}

fn title(cluster: &Cluster, node: u64) -> Value {
    let subject = EntityId::new("s1").unwrap();
    let triples = cluster.nodes[&node].tenants.get(&cluster.tenant(), &subject).unwrap();
    triples[0].value.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_stands_alone_is_named_hands_over_what_only_it_holds_and_is_filled_again() {
    let cluster = three().await;
    cluster.create(1, 0..50, 2).await;
    cluster.agree(&[1, 2, 3]).await;
    differ(&cluster, &[(1, "right"), (2, "right"), (3, "wrong")]).await;
    // It takes writes until it is told to stop: all that it acknowledges must live on.
    let mut acknowledged = 0;
    let mut at = 1_000;
    while !hears(&cluster, 3, "n3 (this node) stands alone against n1, n2") {
        assert!(at < 5_000, "nobody noticed");
        let answers = cluster.push(3, vec![cluster.set(creation(&format!("e{at}"), 2))]).await;
        acknowledged += answers.iter().filter(|answer| answer.is_ok()).count() as u64;
        at += 1;
        sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..50 {
        let answers = cluster.push(3, vec![cluster.set(creation(&format!("e{at}"), 2))]).await;
        acknowledged += answers.iter().filter(|answer| answer.is_ok()).count() as u64;
        at += 1;
    }
    cluster.agree(&[1, 2, 3]).await;
    cluster.serving(&[1, 2, 3]).await;
    assert_eq!(title(&cluster, 3), Value::String("right".into()));
    for node in 1..=3 {
        let triples = cluster.summary(node).unwrap().triples;
        assert_eq!(triples, 50 * 2 + 1 + 2 * acknowledged, "{node}");
    }
    for node in [1, 2] {
        let own = &cluster.nodes[&node].replication;
        assert!(
            own.alarms().is_empty() || hears(&cluster, node, "n3 stands alone against n"),
            "{:?}",
            own.alarms()
        );
    }
    cluster.create(3, 100..150, 2).await;
    cluster.agree(&[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_replicas_that_differ_nobody_is_emptied_and_people_are_told_so() {
    let cluster = Cluster::start(&[1, 2], &[(1, Active), (2, Active)]).await;
    cluster.serving(&[1, 2]).await;
    differ(&cluster, &[(1, "one"), (2, "other")]).await;
    let both = |cluster: &Cluster| {
        [1, 2]
            .iter()
            .all(|&node| hears(cluster, node, "no majority of them agrees"))
    };
    cluster.until("both alarms", both).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(title(&cluster, 1), Value::String("one".into()));
    assert_eq!(title(&cluster, 2), Value::String("other".into()));
    cluster.serving(&[1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_peer_holds_up_the_digests_of_nobody_else() {
    let cluster = three().await;
    let settings = [("catch_up_interval", "50ms")];
    for (name, value) in settings {
        cluster
            .control
            .change(|state| state.settings.insert(name.into(), value.into()));
    }
    cluster.agree(&[1, 2, 3]).await;
    cluster.silence(3);
    // Every other question is for the silent one, and waits for its whole deadline. One after another, a minute would not
    // be enough for so many answers of the third.
    let digests = |cluster: &Cluster| cluster.nodes[&1].replication.metrics().digests;
    let enough = digests(&cluster) + 15;
    cluster
        .until("the digests of the third", |cluster| digests(cluster) >= enough)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_removed_node_sent_half_becomes_whole_on_all_who_are_left() {
    let mut cluster = three().await;
    cluster.create(1, 0..50, 2).await;
    cluster.agree(&[1, 2, 3]).await;
    let origin = OriginId {
        node: NodeId(9),
        incarnation: 1,
    };
    let fact = Fact {
        tag: Tag { origin, seq: Seq(2) },
        body: FactBody::Register {
            subject: EntityId::new("half").unwrap(),
            predicate: Predicate::new("post/title").unwrap(),
            timestamp: timestamp(NTP64(1 << 60), ClientId::from_random(9)),
            value: Some(Value::Boolean(true)),
        },
    };
    let vector: VersionVector = [Tag { origin, seq: Seq(3) }].into_iter().collect();
    let half = DeltaBatch {
        tenant: fixtures::tenant_id(),
        facts: vec![fact],
        seen: vector.clone(),
        vector,
        complete: false,
        now: WallTime::from_unix(Duration::from_secs(PAST)),
    };
    cluster.nodes[&1].storage.take_delta(half).await.unwrap();
    assert!(!cluster.summary(1).unwrap().is_exact());
    // The half went past the rules, straight into storage: they learn of it when the node starts again.
    cluster.stop_node(1).await;
    cluster.start_node(1).await;
    cluster.control.change(|state| state.removed_nodes.insert(NodeId(9)));
    cluster.agree(&[1, 2, 3]).await;
    for node in 1..=3 {
        assert!(cluster.summary(node).unwrap().vector.get(origin) >= Seq(2), "{node}");
        assert_eq!(cluster.summary(node).unwrap().triples, 101, "{node}");
    }
}
