//! Live queries between regions: programs with the Rust client, online, away, and after a restart.

#![expect(clippy::unwrap_used, reason = "a test stops where something is not as it must be")]

use std::path::Path;

use halcyon_client::{Client, ClientOptions, LiveQuery, Outbox, Outcome, engine::QueryStatus, env};
use halcyon_core::{
    change::Change,
    id::{EntityId, Predicate},
    query::answer::Datum,
    value::Value,
};
use halcyon_tests::{
    cluster::Cluster,
    wait::{self, runtime},
};

const OPEN: &str = "post where open = true order by title limit 100 { title, author { name } }";

/// What a query shows: a title, and the author's name.
type Row = (String, Option<String>);

#[test]
fn what_one_region_writes_shows_in_another_and_goes_when_it_is_deleted() {
    let cluster = boot();
    let (ann, bob) = (connect(&cluster, 0, None, false), connect(&cluster, 1, None, false));
    let (anns, bobs) = (ann.live(OPEN).unwrap(), bob.live(OPEN).unwrap());
    write(&ann, person("u1", "Ann"));
    let pending = write(&ann, post("p1", "u1"));
    assert_eq!(rows(&anns), [row("p1", Some("Ann"))], "a write shows at once");
    shows(&bobs, &[row("p1", Some("Ann"))], QueryStatus::Synced);
    let outcome = runtime().block_on(pending.outcome()).unwrap();
    assert!(matches!(outcome, Outcome::Acknowledged { .. }), "{outcome:?}");
    write(&bob, vec![set("u1", "user/name", Value::string("Anna"))]);
    shows(&anns, &[row("p1", Some("Anna"))], QueryStatus::Synced);
    write(&bob, vec![Change::Delete { subject: entity("p1") }]);
    shows(&anns, &[], QueryStatus::Synced);
    shows(&bobs, &[], QueryStatus::Synced);
}

#[test]
fn a_client_that_was_away_while_others_wrote_and_deleted_ends_equal_to_them() {
    let mut cluster = boot();
    let ann = connect(&cluster, 0, None, false);
    let dir = cluster.file("bob");
    let bob = connect(&cluster, 1, Some(&dir), false);
    let anns = ann.live(OPEN).unwrap();
    let bobs = bob.live(OPEN).unwrap();
    write(&ann, person("u1", "Ann"));
    for name in ["p1", "p2", "p3"] {
        write(&ann, post(name, "u1"));
    }
    let three = ["p1", "p2", "p3"].map(|name| row(name, Some("Ann")));
    shows(&bobs, &three, QueryStatus::Synced);
    cluster.nodes[1].kill();
    shows(&bobs, &three, QueryStatus::Offline);
    write(&bob, post("p5", "u1"));
    write(&ann, vec![Change::Delete { subject: entity("p1") }]);
    write(&ann, post("p4", "u1"));
    write(&ann, vec![set("p2", "post/open", Value::Boolean(false))]);
    let there = ["p3", "p4"].map(|name| row(name, Some("Ann")));
    shows(&anns, &there, QueryStatus::Synced);
    let here = ["p1", "p2", "p3", "p5"].map(|name| row(name, Some("Ann")));
    shows(&bobs, &here, QueryStatus::Offline);
    // A query that is dropped is needed no longer; one that is followed when the program ends is kept.
    runtime().block_on(bob.close());
    drop(bobs);
    // A restart without a node shows the same.
    let bob = connect(&cluster, 1, Some(&dir), true);
    let bobs = bob.live(OPEN).unwrap();
    assert_eq!(rows(&bobs), here);
    cluster.start(1);
    let both = ["p3", "p4", "p5"].map(|name| row(name, Some("Ann")));
    shows(&bobs, &both, QueryStatus::Synced);
    shows(&anns, &both, QueryStatus::Synced);
    cluster.settle("app");
}

#[test]
fn what_rests_on_more_than_a_client_is_sent_its_node_answers() {
    let mut cluster = boot();
    cluster.run_on(1, &["settings", "set", "live_entities_max", "2"]).ok();
    let (ann, bob) = (connect(&cluster, 0, None, false), connect(&cluster, 1, None, false));
    let bobs = bob.live("find count(?p) where ?p post/title ?t").unwrap();
    let counts = |expected: f64, status: QueryStatus, is_answered_by_node: bool| {
        let said = format!("{expected} {status:?}, of the node: {is_answered_by_node}");
        wait::until(&said, wait::SOON, || {
            let shown = bobs.snapshot().unwrap();
            let row = shown.answer.rows.to_json(Datum::to_json)[0].clone();
            let count = row.as_object().and_then(|row| row.values().next()?.as_f64());
            let now = (count, shown.status, shown.is_answered_by_node);
            (now == (Some(expected), status, is_answered_by_node)).then_some(())
        });
    };
    for name in ["p1", "p2"] {
        write(&ann, post(name, "u1"));
    }
    counts(2.0, QueryStatus::Synced, false);
    for name in ["p3", "p4"] {
        write(&ann, post(name, "u1"));
    }
    counts(4.0, QueryStatus::Synced, true);
    write(&bob, post("p5", "u1"));
    write(&ann, vec![Change::Delete { subject: entity("p1") }]);
    write(&ann, vec![Change::Delete { subject: entity("p2") }]);
    counts(3.0, QueryStatus::Synced, true);
    write(&ann, vec![Change::Delete { subject: entity("p3") }]);
    // By now it rests on little enough. Where it is followed, it is answered as before; a node that opens it sends that.
    counts(2.0, QueryStatus::Synced, true);
    cluster.nodes[1].kill();
    counts(2.0, QueryStatus::Offline, true);
    cluster.start(1);
    counts(2.0, QueryStatus::Synced, false);
    cluster.settle("app");
}

/// The node cannot keep up with what is written while it keeps a query up, and reads the rest as one change: a million
/// triples. Each was looked up in all of them, for hours.
#[test]
fn a_live_query_that_is_left_behind_by_an_import_catches_up() {
    let mut cluster = Cluster::boot(&["eu-west"]);
    cluster.tenant("items", &["eu-west"]);
    let live = ["bench", "live", "--samples", "20", "--entities", "1000,200000"];
    let mut measuring = cluster.start_keyed(0, "items", &live, "measuring");
    measuring.ends_with(0, wait::LONG);
}

fn boot() -> Cluster {
    let regions = ["eu-west", "us-east"];
    let mut cluster = Cluster::boot(&regions);
    cluster.tenant("app", &regions);
    cluster
}

/// A client that speaks to this node alone.
#[track_caller]
fn connect(cluster: &Cluster, at: usize, dir: Option<&Path>, offline: bool) -> Client {
    let outbox = dir.map_or(Outbox::Memory, |_| Outbox::Disk("app".to_owned()));
    let options = ClientOptions {
        addresses: vec![cluster.address(at)],
        tenant: "app".to_owned(),
        key: cluster.key("app").to_owned(),
        forward: true,
        outbox,
        offline,
        ..ClientOptions::default()
    };
    let env = env::system(dir).unwrap();
    runtime().block_on(Client::connect(env, options)).unwrap()
}

fn entity(name: &str) -> EntityId {
    EntityId::new(name).unwrap()
}

fn set(subject: &str, predicate: &str, value: Value) -> Change {
    Change::Set {
        subject: entity(subject),
        predicate: Predicate::new(predicate).unwrap(),
        value,
    }
}

fn person(name: &str, called: &str) -> Vec<Change> {
    let subject = entity(name);
    vec![
        Change::Create { subject },
        set(name, "user/name", Value::string(called)),
    ]
}

fn post(name: &str, author: &str) -> Vec<Change> {
    let subject = entity(name);
    vec![
        Change::Create { subject },
        set(name, "post/title", Value::string(name)),
        set(name, "post/open", Value::Boolean(true)),
        set(name, "post/author", Value::Ref(entity(author))),
    ]
}

#[track_caller]
fn write(client: &Client, changes: Vec<Change>) -> halcyon_client::Pending {
    runtime().block_on(client.write(changes)).unwrap()
}

fn row(title: &str, author: Option<&str>) -> Row {
    (title.to_owned(), author.map(str::to_owned))
}

#[track_caller]
fn rows(live: &LiveQuery) -> Vec<Row> {
    let json = live.answer().unwrap().rows.to_json(Datum::to_json);
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let rows = json.as_array().unwrap().iter();
    rows.map(|row| (text(&row["title"]).unwrap_or_default(), text(&row["author"]["name"])))
        .collect()
}

#[track_caller]
fn shows(live: &LiveQuery, expected: &[Row], status: QueryStatus) {
    wait::until(&format!("{expected:?} {status:?}"), wait::SOON, || {
        (live.status() == status && rows(live) == expected).then_some(())
    });
}
