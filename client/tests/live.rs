//! Live queries over real connections to pretended nodes: what clients show, online, away, and after a restart.

#![expect(clippy::unwrap_used, reason = "a test stops where something is not as it must be")]

#[expect(dead_code, reason = "the other tests use the rest of it")]
mod fake;

use std::{path::Path, time::Duration};

use fake::{Node, cluster, live::QUERIES};
use halcyon_client::{
    Client, ClientOptions, LiveQuery, Outbox, Outcome,
    engine::{Notice, QueryStatus},
    env,
};
use halcyon_core::{
    change::Change,
    env::Env,
    id::{EntityId, Predicate},
    query::answer::{Answer, Datum},
    value::Value,
};

/// Everything in these tests happens within this, or is broken.
const PATIENCE: Duration = Duration::from_mins(1);

/// The open posts that are not tagged x.
const OPEN: usize = 3;

async fn client(env: Env, nodes: &[Node], outbox: Outbox, offline: bool) -> Client {
    let options = ClientOptions {
        addresses: nodes.iter().map(|node| node.address.clone()).collect(),
        tenant: "app".into(),
        key: "key".into(),
        outbox,
        offline,
        // With one address it stays there, whatever else the tenant is on.
        forward: nodes.len() == 1,
        ..ClientOptions::default()
    };
    Client::connect(env, options).await.unwrap()
}

async fn in_memory(nodes: &[Node]) -> Client {
    client(env::system(None).unwrap(), nodes, Outbox::Memory, false).await
}

async fn on_disk(path: &Path, nodes: &[Node], offline: bool) -> Client {
    let env = env::system(Some(path)).unwrap();
    client(env, nodes, Outbox::Disk("app".into()), offline).await
}

fn post(name: &str) -> EntityId {
    EntityId::new(name).unwrap()
}

fn set(name: &str, field: &str, value: Value) -> Change {
    Change::Set {
        subject: post(name),
        predicate: Predicate::new(field).unwrap(),
        value,
    }
}

fn opened(name: &str) -> Vec<Change> {
    vec![
        Change::Create { subject: post(name) },
        set(name, "post/open", Value::Boolean(true)),
        set(name, "post/title", Value::string(name)),
    ]
}

fn names(answer: Option<Answer>) -> Vec<String> {
    let rows = answer.unwrap().rows.to_json(Datum::to_json);
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| row["title"].as_str().unwrap().to_owned()).collect()
}

/// Waits until a query shows these titles, by what its updates tell, and has this status.
async fn shows(live: &mut LiveQuery, titles: &[&str], status: QueryStatus) {
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let (answer, told) = live.told();
            if answer.is_some() && told == status && names(answer) == titles {
                return;
            }
            live.next().await.unwrap();
        }
    });
    let in_time = waited.await.is_ok();
    assert!(in_time, "{titles:?}, {status:?} is not {:?}", live.told());
}

#[tokio::test]
async fn what_one_writes_shows_at_once_and_the_other_sees_it_through_another_node() {
    let nodes = cluster(2);
    let (ann, bob) = (in_memory(&nodes[..1]).await, in_memory(&nodes[1..]).await);
    let mut anns = ann.live(QUERIES[OPEN]).unwrap();
    let mut bobs = bob.live(QUERIES[OPEN]).unwrap();
    shows(&mut anns, &[], QueryStatus::Synced).await;
    shows(&mut bobs, &[], QueryStatus::Synced).await;
    let pending = ann.write(opened("p1")).await.unwrap();
    assert_eq!(names(anns.answer()), ["p1"], "it shows before a node has heard of it");
    shows(&mut bobs, &["p1"], QueryStatus::Synced).await;
    assert!(matches!(pending.outcome().await.unwrap(), Outcome::Acknowledged { .. }));
    bob.write(vec![Change::Delete { subject: post("p1") }]).await.unwrap();
    bob.write(opened("p2")).await.unwrap();
    shows(&mut anns, &["p2"], QueryStatus::Synced).await;
    shows(&mut bobs, &["p2"], QueryStatus::Synced).await;
    assert_eq!(nodes[0].live().answer(OPEN), anns.answer().unwrap());
}

#[tokio::test]
async fn a_client_that_was_away_while_others_wrote_and_deleted_ends_equal() {
    for is_long in [false, true] {
        let nodes = cluster(2);
        let (ann, bob) = (in_memory(&nodes[..1]).await, in_memory(&nodes[1..]).await);
        let mut anns = ann.live(QUERIES[OPEN]).unwrap();
        let mut bobs = bob.live(QUERIES[OPEN]).unwrap();
        for name in ["p1", "p2", "p3"] {
            ann.write(opened(name)).await.unwrap();
        }
        shows(&mut bobs, &["p1", "p2", "p3"], QueryStatus::Synced).await;
        nodes[1].set(|faults| faults.down = true);
        shows(&mut bobs, &["p1", "p2", "p3"], QueryStatus::Offline).await;
        ann.write(vec![Change::Delete { subject: post("p1") }]).await.unwrap();
        ann.write(opened("p4")).await.unwrap();
        let title = vec![set("p1", "post/title", Value::string("p1 again"))];
        let lost = bob.write(title).await.unwrap();
        bob.write(opened("p5")).await.unwrap();
        let title = |title| vec![set("p3", "post/title", Value::string(title))];
        let overwritten = bob.write(title("p3 of bob")).await.unwrap();
        shows(&mut bobs, &["p1 again", "p2", "p3 of bob", "p5"], QueryStatus::Offline).await;
        ann.write(title("p3 of ann")).await.unwrap();
        shows(&mut anns, &["p2", "p3 of ann", "p4"], QueryStatus::Synced).await;
        if is_long {
            for session in 0..=u8::MAX {
                nodes[1].live().forget(session);
            }
        }
        nodes[1].set(|faults| faults.down = false);
        shows(&mut bobs, &["p2", "p3 of ann", "p4", "p5"], QueryStatus::Synced).await;
        shows(&mut anns, &["p2", "p3 of ann", "p4", "p5"], QueryStatus::Synced).await;
        for (write, of) in [(lost, "p1"), (overwritten, "p3")] {
            let Outcome::Superseded { fields, .. } = write.outcome().await.unwrap() else {
                panic!("a write to what is deleted, or was written later, is superseded");
            };
            assert_eq!(fields.len(), 1);
            assert_eq!(
                (&fields[0].subject, fields[0].predicate.as_ref().unwrap().field()),
                (&post(of), "title")
            );
        }
    }
}

#[tokio::test]
async fn a_query_moves_with_its_client_when_a_node_dies() {
    let nodes = cluster(2);
    let client = in_memory(&nodes).await;
    let mut live = client.live(QUERIES[OPEN]).unwrap();
    client.write(opened("p1")).await.unwrap();
    shows(&mut live, &["p1"], QueryStatus::Synced).await;
    let used = client.status().node.unwrap();
    let (dead, alive) = if used == nodes[0].id { (0, 1) } else { (1, 0) };
    nodes[dead].set(|faults| faults.down = true);
    let other = in_memory(&nodes[alive..=alive]).await;
    other.write(opened("p2")).await.unwrap();
    shows(&mut live, &["p1", "p2"], QueryStatus::Synced).await;
    assert_eq!(client.status().node, Some(nodes[alive].id));
}

#[tokio::test]
async fn a_restart_without_a_node_shows_the_same_and_keeps_what_was_written() {
    let nodes = cluster(1);
    let dir = tempfile::tempdir().unwrap();
    let client = on_disk(dir.path(), &nodes, false).await;
    let mut live = client.live(QUERIES[OPEN]).unwrap();
    client.write(opened("p1")).await.unwrap();
    client.write(opened("p2")).await.unwrap();
    client.flush().await.unwrap();
    shows(&mut live, &["p1", "p2"], QueryStatus::Synced).await;
    nodes[0].set(|faults| faults.down = true);
    shows(&mut live, &["p1", "p2"], QueryStatus::Offline).await;
    client
        .write(vec![Change::Delete { subject: post("p1") }])
        .await
        .unwrap();
    client.write(opened("p3")).await.unwrap();
    shows(&mut live, &["p2", "p3"], QueryStatus::Offline).await;
    client.close().await;
    drop(live);
    let elsewhere = nodes[0].clone();
    for _ in 0..2 {
        let client = on_disk(dir.path(), &nodes, true).await;
        let live = client.live(QUERIES[OPEN]).unwrap();
        assert_eq!(names(live.answer()), ["p2", "p3"]);
        let once = client.query_local("post where title starts \"p\" { title }").unwrap();
        assert_eq!(names(Some(once)), ["p2", "p3"]);
        client.close().await;
    }
    elsewhere.set(|faults| faults.down = false);
    let client = on_disk(dir.path(), &nodes, true).await;
    let mut live = client.live(QUERIES[OPEN]).unwrap();
    shows(&mut live, &["p2", "p3"], QueryStatus::Synced).await;
    client.flush().await.unwrap();
    shows(&mut live, &["p2", "p3"], QueryStatus::Synced).await;
    assert_eq!(elsewhere.live().answer(OPEN), live.answer().unwrap());
}

#[tokio::test]
async fn a_write_that_a_node_refuses_is_rolled_back_and_told() {
    let nodes = cluster(1);
    let client = in_memory(&nodes).await;
    let mut live = client.live(QUERIES[OPEN]).unwrap();
    client.write(opened("p1")).await.unwrap();
    shows(&mut live, &["p1"], QueryStatus::Synced).await;
    let mut changes = opened("p2");
    changes.push(set("p2", fake::live::FORBIDDEN, Value::Boolean(true)));
    let pending = client.write(changes).await.unwrap();
    assert_eq!(names(live.answer()), ["p1", "p2"]);
    let Outcome::Refused(refusal) = pending.outcome().await.unwrap() else {
        panic!("it is refused");
    };
    assert_eq!(refusal.message, "nobody may write this field");
    shows(&mut live, &["p1"], QueryStatus::Synced).await;
    let notices = client.take_notices();
    assert!(matches!(&notices[..], [Notice::Refused { changes, .. }] if changes.len() == 4));
}
