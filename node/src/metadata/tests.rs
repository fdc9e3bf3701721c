//! The control plane across nodes, in one process.

use std::{cell::Cell, collections::BTreeSet, time::Duration};

use futures::StreamExt;
use halcyon_core::id::{NodeId, RegionName, TenantId, TenantName};

use super::{
    Metadata, Options, WriteError,
    command::{Command, Refusal, Reply},
    limits::LEARNER_HEARD,
    state::{AccessKey, ReplicaState},
    testing::{Cluster, eventually, options},
};

fn tenant_id(number: u128) -> TenantId {
    TenantId::from_bytes(number.to_be_bytes()).unwrap()
}

pub(super) fn create(number: u128, regions: &[&str]) -> Command {
    let regions: BTreeSet<_> = regions.iter().map(|region| RegionName::new(region).unwrap()).collect();
    Command::CreateTenant {
        id: tenant_id(number),
        name: TenantName::new(&format!("app{number}")).unwrap(),
        home: regions.first().unwrap().clone(),
        regions,
        nodes_per_region: 1,
        key: None,
    }
}

pub(super) async fn voters_are(cluster: &Cluster, at: u64, expected: &[u64]) {
    let expected: BTreeSet<_> = expected.iter().map(|id| NodeId(*id)).collect();
    let metadata = cluster.at(at);
    eventually("the voters", move || metadata.roles().voters == expected).await;
}

pub(super) async fn leader_among(cluster: &Cluster, nodes: &[u64]) -> NodeId {
    let nodes: Vec<(NodeId, Metadata)> = nodes.iter().map(|id| (NodeId(*id), cluster.at(*id))).collect();
    let leader = || {
        let named: BTreeSet<_> = nodes.iter().map(|(_, node)| node.roles().leader).collect();
        let one = named.first().copied().flatten().filter(|_| named.len() == 1);
        one.filter(|leader| nodes.iter().any(|(id, _)| id == leader))
    };
    let found = Cell::new(None);
    eventually("a leader that all name", || {
        found.set(leader());
        found.get().is_some()
    })
    .await;
    found.get().unwrap()
}

/// Writes, where the deadline is for what has to fail: whether a leader is found within it is a matter of luck.
pub(super) async fn written(metadata: &Metadata, command: Command) {
    let writing = async {
        while let Err(error) = metadata.write(command.clone()).await {
            assert!(
                matches!(error, WriteError::NoQuorum | WriteError::Deadline(_)),
                "{error}"
            );
        }
    };
    tokio::time::timeout(Duration::from_mins(3), writing)
        .await
        .expect("in three minutes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_is_a_cluster_and_keeps_what_it_was_told() {
    let mut cluster = Cluster::new(&["a"], options()).await;
    let metadata = cluster.at(1);
    assert_eq!(metadata.write(create(1, &["a"])).await, Ok(Reply::Done));
    assert_eq!(
        metadata.write(create(1, &["a"])).await,
        Ok(Reply::Done),
        "the same again"
    );
    let again = create(1, &["b"]);
    assert_eq!(
        metadata.write(again).await,
        Ok(Reply::Done),
        "a retry is known by its id"
    );
    let elsewhere = metadata.write(create(2, &["b"])).await;
    assert_eq!(
        elsewhere,
        Err(Refusal::UnknownRegion(RegionName::new("b").unwrap()).into())
    );
    let tenant = metadata.view().tenant_named("app1").unwrap();
    assert_eq!(tenant.replicas, [(NodeId(1), ReplicaState::Active)].into());
    cluster.stop(NodeId(1)).await;
    cluster.start(NodeId(1)).await;
    let metadata = cluster.at(1);
    assert_eq!(
        metadata.view().tenant_named("app1").as_deref(),
        Some(&*tenant),
        "before any leader is known"
    );
    metadata.read_barrier().await.unwrap();
    assert_eq!(metadata.write(create(2, &["a"])).await, Ok(Reply::Done));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_agree_whoever_is_written_to() {
    let mut cluster = Cluster::new(&["a", "b", "c"], options()).await;
    voters_are(&cluster, 1, &[1, 2, 3]).await;
    for (number, at) in [(1, 1), (2, 2), (3, 3)] {
        assert_eq!(
            cluster.at(at).write(create(number, &["a", "b", "c"])).await,
            Ok(Reply::Done)
        );
    }
    for at in 1..=3 {
        cluster.at(at).read_barrier().await.unwrap();
        assert_eq!(cluster.at(at).view().tenants_on(NodeId(at)).len(), 3);
    }
    for id in 1..=3 {
        cluster.stop(NodeId(id)).await;
    }
    for id in 1..=3 {
        cluster.start(NodeId(id)).await;
        assert_eq!(
            cluster.at(id).view().tenants_on(NodeId(id)).len(),
            3,
            "from the own disk"
        );
    }
    assert_eq!(cluster.at(2).write(create(4, &["b"])).await, Ok(Reply::Done));
}

/// Without its id the second copy would be refused: the key is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_was_lost_gets_it_when_it_asks_again() {
    let options = Options {
        deadline: Duration::from_secs(24),
        ..options()
    };
    let mut cluster = Cluster::new(&["a", "b", "c"], options).await;
    voters_are(&cluster, 1, &[1, 2, 3]).await;
    let (tenant, name) = (tenant_id(1), "key".to_owned());
    let key = AccessKey {
        label: String::new(),
        hash: [1; 32],
        created_ms: 0,
    };
    let give = Command::CreateKey {
        tenant,
        id: name.clone(),
        key,
    };
    let take = Command::RevokeKey { tenant, id: name };
    cluster.at(1).write(create(1, &["a"])).await.unwrap();
    cluster.at(1).write(give).await.unwrap();
    let deaf = NodeId(2);
    cluster.hard_of_hearing.insert(deaf);
    cluster.stop(deaf).await;
    cluster.start(deaf).await;
    assert_eq!(cluster.at(2).write(take.clone()).await, Ok(Reply::Done));
    let anew = cluster.at(3).write(take).await;
    assert!(
        matches!(anew, Err(WriteError::Rejected(Refusal::UnknownKey { .. }))),
        "{anew:?}"
    );
}

/// Two releases side by side: the older one knows appends only one by one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_goes_on_with_followers_that_know_no_stream_and_streams_once_they_do() {
    let mut cluster = Cluster::new(&["a"], options()).await;
    cluster.old = [NodeId(2), NodeId(3)].into();
    cluster.join("b").await;
    cluster.join("c").await;
    voters_are(&cluster, 1, &[1, 2, 3]).await;
    assert_eq!(cluster.at(1).write(create(1, &["a"])).await, Ok(Reply::Done));
    cluster.old.clear();
    for (number, id) in [(2, 2), (3, 3)] {
        cluster.stop(NodeId(id)).await;
        cluster.start(NodeId(id)).await;
        assert_eq!(cluster.at(1).write(create(number, &["a"])).await, Ok(Reply::Done));
    }
    for id in 1..=3 {
        cluster.at(id).read_barrier().await.unwrap();
        assert_eq!(cluster.at(id).view().read(|state| state.tenants.len()), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_leader_is_replaced_and_the_write_finds_the_new_one() {
    let mut cluster = Cluster::new(&["a", "b", "c"], options()).await;
    voters_are(&cluster, 1, &[1, 2, 3]).await;
    let leader = leader_among(&cluster, &[1, 2, 3]).await;
    cluster.stop(leader).await;
    let left = (1..=3).find(|id| NodeId(*id) != leader).unwrap();
    assert_eq!(cluster.at(left).write(create(1, &["a"])).await, Ok(Reply::Done));
    cluster.start(leader).await;
    let returned = cluster.at(leader.0);
    returned.read_barrier().await.unwrap();
    assert!(returned.view().tenant(tenant_id(1)).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_on_older_files_is_brought_up_to_date_by_the_leader_that_knew_it_ahead() {
    let mut cluster = Cluster::new(&["a", "b", "c"], options()).await;
    voters_are(&cluster, 1, &[1, 2, 3]).await;
    let leader = leader_among(&cluster, &[1, 2, 3]).await;
    let follower = (1..=3).map(NodeId).find(|id| *id != leader).unwrap();
    cluster.stop(follower).await;
    let older = cluster.files(follower);
    cluster.start(follower).await;
    for number in 1..=5 {
        let created = cluster.at(leader.0).write(create(number, &["a"])).await;
        assert_eq!(created, Ok(Reply::Done));
    }
    let has_all = |metadata: &Metadata| metadata.view().read(|state| state.tenants.len()) == 5;
    let metadata = cluster.at(follower.0);
    eventually("all tenants", move || has_all(&metadata)).await;

    cluster.stop(follower).await;
    cluster.put_back(follower, &older);
    cluster.start(follower).await;
    let metadata = cluster.at(follower.0);
    eventually("all tenants, again", move || has_all(&metadata)).await;
    assert_eq!(cluster.at(leader.0).write(create(6, &["a"])).await, Ok(Reply::Done));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_voter_is_a_quorum_by_itself() {
    let mut cluster = Cluster::new(&["a", "b"], options()).await;
    voters_are(&cluster, 1, &[1]).await;
    let (node, force) = (NodeId(2), true);
    written(&cluster.at(1), Command::RemoveNode { node, force }).await;
    cluster.stop(node).await;
    let longer_than_recent = options().election.1 * 3;
    tokio::time::sleep(longer_than_recent).await;
    assert!(cluster.at(1).roles().has_quorum, "{:?}", cluster.at(1).roles());
}

/// Of two nodes one votes. It was stopped as soon as its removal was applied, and the other had no quorum for good (seed
/// 90052 of the simulator).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_voter_may_be_removed_and_stopped() {
    let mut cluster = Cluster::new(&["a", "b"], options()).await;
    voters_are(&cluster, 1, &[1]).await;
    let (node, force) = (NodeId(1), false);
    let left = cluster.at(2);
    written(&left, Command::RemoveNode { node, force }).await;
    assert!(left.until_not_needed(node).await);
    cluster.stop(node).await;
    assert_eq!(left.write(create(1, &["b"])).await, Ok(Reply::Done));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_refuses_writes_in_time_and_goes_on_reading() {
    let options = Options {
        deadline: Duration::from_secs(8),
        ..options()
    };
    let mut cluster = Cluster::new(&["a", "b", "c"], options).await;
    voters_are(&cluster, 1, &[1, 2, 3]).await;
    written(&cluster.at(1), create(1, &["a"])).await;
    for id in [2, 3] {
        cluster.stop(NodeId(id)).await;
    }
    let metadata = cluster.at(1);
    let refused = tokio::time::timeout(Duration::from_secs(30), metadata.write(create(2, &["a"]))).await;
    assert_eq!(refused.expect("in time"), Err(WriteError::NoQuorum));
    assert!(!metadata.roles().has_quorum);
    assert!(metadata.view().tenant(tenant_id(1)).is_some());
    cluster.start(NodeId(2)).await;
    written(&cluster.at(1), create(3, &["a"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_learner_is_filled_by_a_snapshot() {
    let mut cluster = Cluster::new(&["a"], options()).await;
    let metadata = cluster.at(1);
    for number in 0..700 {
        metadata.write(create(number, &["a"])).await.unwrap();
    }
    let late = cluster.join("b").await;
    let late = cluster.at(late.0);
    eventually("the snapshot", || late.view().read(|state| state.tenants.len()) == 700).await;
    assert_eq!(late.write(create(900, &["b"])).await, Ok(Reply::Done));
    let same = |metadata: &Metadata| metadata.view().read(Clone::clone);
    metadata.read_barrier().await.unwrap();
    assert_eq!(same(&late), same(&metadata));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voters_spread_as_nodes_come_and_a_removed_one_leaves_for_good() {
    let mut cluster = Cluster::new(&["a", "a", "a"], options()).await;
    voters_are(&cluster, 1, &[1, 2, 3]).await;
    cluster.join("b").await;
    voters_are(&cluster, 1, &[1, 2, 4]).await;
    cluster.join("c").await;
    voters_are(&cluster, 1, &[1, 2, 3, 4, 5]).await;
    let leader = leader_among(&cluster, &[1, 2, 3, 4, 5]).await;
    let via = (1..=5).find(|id| NodeId(*id) != leader).unwrap();
    let remove = Command::RemoveNode {
        node: leader,
        force: false,
    };
    assert_eq!(cluster.at(via).write(remove.clone()).await, Ok(Reply::Done));
    let left = cluster.at(via);
    let gone = move || {
        let roles = left.roles();
        roles.voters.len() == 3 && !roles.voters.contains(&leader) && !roles.learners.contains(&leader)
    };
    eventually("the removed leader is out of the group", gone).await;
    assert_eq!(cluster.at(via).write(remove).await, Ok(Reply::Done));
    assert_eq!(cluster.at(via).view().nodes().len(), 4);
    // Whoever joins asks a member; the removed one may not know a leader any more.
    cluster.stop(leader).await;
    let next = cluster.join("c").await;
    assert_eq!(next, NodeId(6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_that_does_not_answer_gets_no_vote() {
    let mut cluster = Cluster::new(&["a", "b", "c"], options()).await;
    // The fourth comes when three vote: on a busy machine it may answer before the third, and would get its place.
    voters_are(&cluster, 1, &[1, 2, 3]).await;
    cluster.join("d").await;
    let metadata = cluster.at(1);
    let learns = move || metadata.roles().learners.contains(&NodeId(4));
    eventually("the fourth learns", learns).await;
    cluster.stop(NodeId(4)).await;
    tokio::time::sleep(2 * LEARNER_HEARD).await;
    let remove = Command::RemoveNode {
        node: NodeId(3),
        force: false,
    };
    assert_eq!(cluster.at(1).write(remove).await, Ok(Reply::Done));
    let metadata = cluster.at(1);
    let without = move || !metadata.roles().voters.contains(&NodeId(3));
    eventually("the removed node has no vote", without).await;
    assert!(!cluster.at(1).roles().voters.contains(&NodeId(4)));
    cluster.start(NodeId(4)).await;
    voters_are(&cluster, 1, &[1, 2, 4]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_placement_moves_when_nodes_come_and_drain() {
    let mut cluster = Cluster::new(&["a"], options()).await;
    for number in 0..20 {
        cluster.at(1).write(create(number, &["a"])).await.unwrap();
    }
    let second = cluster.join("a").await;
    let metadata = cluster.at(1);
    eventually("some tenants join the new node", || {
        !metadata.view().tenants_on(second).is_empty()
    })
    .await;
    let drain = Command::DrainNode {
        node: NodeId(1),
        draining: true,
    };
    metadata.write(drain).await.unwrap();
    eventually("all tenants join it", || metadata.view().tenants_on(second).len() == 20).await;
    for tenant in metadata.view().tenants_on(second) {
        assert_eq!(tenant.replicas[&NodeId(1)], ReplicaState::Active);
        let ready = Command::ReplicaReady {
            tenant: tenant.id,
            node: second,
            placement_epoch: tenant.placement_epoch,
        };
        metadata.write(ready).await.unwrap();
        let moved = metadata.view().tenant(tenant.id).unwrap();
        assert_eq!(
            moved.replicas,
            [(NodeId(1), ReplicaState::Leaving), (second, ReplicaState::Active)].into()
        );
        let gone = Command::ReplicaGone {
            tenant: tenant.id,
            node: NodeId(1),
            placement_epoch: moved.placement_epoch,
        };
        metadata.write(gone).await.unwrap();
    }
    assert!(metadata.view().tenants_on(NodeId(1)).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_is_replaced_and_comes_back_as_a_follower() {
    let options = Options {
        deadline: Duration::from_secs(12),
        ..options()
    };
    let cluster = Cluster::new(&["a", "b", "c"], options).await;
    voters_are(&cluster, 1, &[1, 2, 3]).await;
    let old = leader_among(&cluster, &[1, 2, 3]).await;
    let others: Vec<u64> = (1..=3).filter(|id| NodeId(*id) != old).collect();
    cluster.cut(old.0, true);
    let new = leader_among(&cluster, &others).await;
    assert_ne!(new, old);
    for (number, at) in others.iter().enumerate() {
        written(&cluster.at(*at), create(number as u128, &["a"])).await;
    }
    let cut_off = cluster.at(old.0);
    assert_eq!(cut_off.write(create(7, &["a"])).await, Err(WriteError::NoQuorum));
    assert!(
        !cut_off.freshen().await,
        "without a quorum the view stands, in bounded time"
    );
    cluster.cut(old.0, false);
    eventually("it follows", || cut_off.view().tenant(tenant_id(1)).is_some()).await;
    written(&cut_off, create(8, &["a"])).await;
    let same = |id: u64| cluster.at(id).view().read(Clone::clone);
    for id in 1..=3 {
        cluster.at(id).read_barrier().await.unwrap();
    }
    assert!(same(1) == same(2) && same(2) == same(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_created_elsewhere_is_found_at_once_and_unknown_names_share_their_questions() {
    let cluster = Cluster::new(&["a", "b", "c"], options()).await;
    voters_are(&cluster, 1, &[1, 2, 3]).await;
    for number in 0..10 {
        cluster.at(1).write(create(number, &["a"])).await.unwrap();
        let other = cluster.at(2 + u64::try_from(number % 2).unwrap());
        assert!(other.freshen().await);
        let found = other.view().tenant_named(&format!("app{number}"));
        assert_eq!(found.map(|tenant| tenant.id), Some(tenant_id(number)));
    }
    let metadata = cluster.at(3);
    let unknown = (0..1_000).map(|_| metadata.freshen());
    let all = tokio::time::timeout(Duration::from_secs(20), futures::future::join_all(unknown));
    assert!(
        all.await
            .expect("one question for all")
            .iter()
            .all(|is_fresh| *is_fresh)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_tenants_are_created_and_spread_when_a_node_comes() {
    const TENANTS: u128 = 10_000;
    let options = Options {
        snapshot_entries: 20_000,
        kept_entries: 5_000,
        ..options()
    };
    let mut cluster = Cluster::new(&["a"], options).await;
    let metadata = cluster.at(1);
    let writing = futures::stream::iter(0..TENANTS).for_each_concurrent(256, |number| {
        let metadata = metadata.clone();
        async move {
            metadata.write(create(number, &["a"])).await.unwrap();
        }
    });
    tokio::time::timeout(Duration::from_mins(2), writing)
        .await
        .expect("in two minutes");
    let second = cluster.join("a").await;
    let joining = || metadata.view().tenants_on(second).len();
    eventually("about half of the tenants join the new node", || joining() > 4_500).await;
    let settled = move || {
        let state = metadata.view().read(Clone::clone);
        state
            .tenants
            .values()
            .all(|tenant| super::placement::step(tenant, &state.nodes).is_none())
    };
    eventually("no placement has a next step", settled).await;
    assert!(cluster.at(1).view().tenants_on(second).len() < 5_500);
}
