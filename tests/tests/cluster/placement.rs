//! Where a tenant's bytes are, and where they are not.

use std::{path::PathBuf, time::Duration};

use halcyon_core::{change::Change, value::Value};
use halcyon_tests::{
    cluster::{Cluster, REGIONS},
    load::{Door, entity, predicate},
    search, wait,
};

/// Bytes that stand nowhere else.
const MARKER: &str = "only-in-the-union-7f3a9c51";

/// How long nobody may serve while a tenant changes hands: a client's second try.
const HAND_OVER: Duration = Duration::from_secs(10);

#[test]
fn a_node_outside_the_placement_holds_none_of_its_bytes() {
    let mut cluster = Cluster::boot(&REGIONS);
    cluster.tenant("app/eu", &["eu-west", "us-east"]);
    mark(&mut cluster.door(0, "app/eu"));
    cluster.settle("app/eu");
    // Asked in every way, the third node does not begin to hold it either.
    assert!(cluster.door(2, "app/eu").get(MARKER).is_err());
    cluster.run_keyed(2, "app/eu", &["get", MARKER]).ok();
    for node in &mut cluster.nodes {
        assert!(node.stop().success());
    }
    assert!(
        holds_marker(&cluster, 0) && holds_marker(&cluster, 1),
        "the search does not find what is there"
    );
    assert!(!holds_marker(&cluster, 2), "n3 holds what is placed elsewhere");
}

#[test]
fn a_placement_moves_the_data_before_the_old_replica_lets_go() {
    let mut cluster = Cluster::boot(&REGIONS);
    cluster.tenant("notes", &["eu-west"]);
    cluster.door(0, "notes").write_entities(0, 20_000);
    mark(&mut cluster.door(0, "notes"));
    cluster
        .run(&[
            "tenant",
            "place",
            "notes",
            "--regions",
            "ap-south",
            "--home",
            "ap-south",
        ])
        .ok();
    // Whoever asks finds a replica that serves, but for the moment in which the news of the hand-over travels.
    let mut served = wait::Stopwatch::start();
    wait::until("the tenant moves", wait::LONG, || {
        let reads: Vec<String> = (0..3).map(|at| read_marker(&mut cluster.door(at, "notes"))).collect();
        let states = cluster.replica_states("notes");
        if reads.iter().any(|read| read == "found") {
            served = wait::Stopwatch::start();
        }
        assert!(served.elapsed() < HAND_OVER, "nobody serves: {reads:?} {states:?}");
        (states == [(3, "active".to_owned())]).then_some(())
    });
    assert_eq!(cluster.settle("notes")["replicas"][0]["triples"], 20_001);
    erased(&cluster, 0);
}

#[test]
fn a_deleted_tenant_is_gone_from_every_file() {
    let mut cluster = Cluster::boot(&REGIONS);
    cluster.tenant("gone", &REGIONS);
    cluster.tenant("stays", &REGIONS);
    mark(&mut cluster.door(0, "gone"));
    cluster.door(0, "stays").write_entities(0, 10);
    cluster.settle("gone");
    cluster.run(&["tenant", "delete", "gone", "--yes"]).ok();
    cluster.run(&["tenant", "show", "gone"]).fails(4, &["gone"]);
    for at in 0..3 {
        erased(&cluster, at);
    }
    assert_eq!(cluster.settle("stays")["replicas"][0]["triples"], 10);
}

#[test]
fn a_drained_node_hands_everything_over_and_can_be_removed() {
    let mut cluster = Cluster::boot(&["eu-west", "eu-west", "us-east"]);
    cluster.tenant("notes", &["eu-west"]);
    let held_by = cluster.replica_states("notes")[0].0;
    let at = usize::try_from(held_by).expect("a small number") - 1;
    cluster.door(at, "notes").write_entities(0, 1_000);
    cluster.run(&["node", "drain", &format!("n{held_by}")]).ok();
    wait::until("the other node of the region takes over", wait::LONG, || {
        let states = cluster.replica_states("notes");
        (states.len() == 1 && states[0].0 != held_by && states[0].1 == "active").then_some(())
    });
    assert_eq!(cluster.settle("notes")["replicas"][0]["triples"], 1_000);
    cluster.run(&["node", "remove", &format!("n{held_by}")]).ok();
}

#[test]
fn a_node_that_was_drained_can_be_taken_back() {
    let cluster = Cluster::boot(&["eu-west", "eu-west"]);
    let both = ["--regions", "eu-west", "--nodes-per-region", "2"];
    cluster.run(&[&["tenant", "create", "both"][..], &both].concat()).ok();
    let told = cluster.ask(&["node", "drain", "n2"]);
    assert_eq!(told["state"], "draining");
    assert_eq!(told["left"]["one_replica_in_all"]["tenants"][0], "both", "{told}");
    assert_eq!(cluster.ask(&["node", "undrain", "n2"])["state"], "active");
    cluster.run(&["node", "undrain", "n9"]).fails(4, &["n9", "node list"]);
}

/// An entity whose id, field and value are the marker.
#[track_caller]
fn mark(door: &mut Door) {
    let set = door.set(vec![
        Change::Create {
            subject: entity(MARKER),
        },
        Change::Set {
            subject: entity(MARKER),
            predicate: predicate(&format!("{MARKER}/{MARKER}")),
            value: Value::string(MARKER),
        },
    ]);
    door.write(&[set]);
}

fn read_marker(door: &mut Door) -> String {
    match door.get(MARKER) {
        Ok(found) if found.is_empty() => "nothing".to_owned(),
        Ok(_) => "found".to_owned(),
        Err(status) => format!("{:?} {}", status.code(), status.message()),
    }
}

/// Waits until no file of the node holds the marker.
#[track_caller]
fn erased(cluster: &Cluster, at: usize) {
    let watch = wait::Stopwatch::start();
    while holds_marker(cluster, at) {
        let files = marked_files(cluster, at);
        assert!(watch.elapsed() < wait::SOON, "n{} still holds it in {files:?}", at + 1);
        wait::pause(Duration::from_millis(200));
    }
}

fn holds_marker(cluster: &Cluster, at: usize) -> bool {
    !marked_files(cluster, at).is_empty()
}

fn marked_files(cluster: &Cluster, at: usize) -> Vec<PathBuf> {
    let node = &cluster.nodes[at];
    let places = [node.data.as_path(), node.log_path()];
    places
        .iter()
        .flat_map(|place| search::files_with(place, MARKER.as_bytes()))
        .collect()
}
