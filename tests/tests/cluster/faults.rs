//! Crashes, a lost majority, a disk that was rolled back, links that hold what they carry.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use halcyon_proto::v1::Taken;
use halcyon_tests::{
    cluster::{Cluster, REGIONS},
    http,
    links::Link,
    search, wait,
};
use rustix::process::Signal;

/// Change sets written while a node is down.
const MISSED: usize = 100_000;

/// Change sets in one request of the load that the kill interrupts.
const IN_FLIGHT: usize = 20;

/// Entities of different loads have different numbers.
const SECOND_LOAD: usize = 1_000_000;

#[test]
fn a_node_killed_under_load_comes_back_and_agrees_after_100_000_changes() {
    let mut cluster = Cluster::boot(&REGIONS);
    cluster.tenant("load", &REGIONS);
    let mut under_load = cluster.door(1, "load");
    let (acknowledged, killed) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !killed.load(Ordering::Acquire) {
                let from = acknowledged.load(Ordering::Acquire);
                if under_load.try_write_entities(SECOND_LOAD + from, IN_FLIGHT) {
                    acknowledged.store(from + IN_FLIGHT, Ordering::Release);
                }
            }
        });
        let busy = || (acknowledged.load(Ordering::Acquire) >= 10 * IN_FLIGHT).then_some(());
        wait::until("the load runs", wait::SOON, busy);
        cluster.nodes[1].kill();
        killed.store(true, Ordering::Release);
    });
    let acknowledged = acknowledged.into_inner();

    cluster.door(0, "load").write_entities(0, MISSED);
    cluster.start(1);
    let agreed = cluster.settle("load");
    let triples = agreed["replicas"][0]["triples"].as_u64().unwrap_or_default();
    let least = (MISSED + acknowledged) as u64;
    // A request whose answer was lost may be in as well.
    assert!(
        (least..=least + IN_FLIGHT as u64).contains(&triples),
        "{triples} of {least}"
    );
    let last = format!("e{}", SECOND_LOAD + acknowledged - 1);
    for at in 0..3 {
        assert!(
            !cluster.door(at, "load").get(&last).expect("it serves").is_empty(),
            "{last} is lost on n{}",
            at + 1
        );
    }
}

#[test]
fn without_a_majority_reads_and_writes_go_on_and_the_control_plane_says_so() {
    let mut cluster = Cluster::boot(&REGIONS);
    cluster.tenant("notes", &REGIONS);
    cluster.door(0, "notes").write_entities(0, 100);
    cluster.settle("notes");
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();

    let mut door = cluster.door(0, "notes");
    door.write_entities(100, 100);
    assert_eq!(door.get("e150").expect("it serves").len(), 1);
    assert_eq!(
        http::get(cluster.nodes[0].client_port, "/healthz")
            .map(|(status, _)| status)
            .ok(),
        Some(200)
    );
    let refused = cluster.run_on(0, &["tenant", "create", "more", "--regions", "eu-west"]);
    assert_ne!(refused.code, 0, "{}", refused.stdout);
    let said = refused.stderr.to_lowercase();
    assert!(
        said.contains("leader") || said.contains("quorum") || said.contains("majority"),
        "{said}"
    );

    // The node that is left even restarts alone, and still has everything.
    cluster.nodes[0].kill();
    cluster.start(0);
    let mut door = cluster.door(0, "notes");
    assert_eq!(door.get("e150").expect("it serves").len(), 1);
    door.write_entities(200, 1);

    cluster.start(1);
    cluster.start(2);
    assert_eq!(cluster.settle("notes")["replicas"][2]["triples"], 201);
    // What had no majority then may have been carried out since; a new command is.
    cluster.tenant("another", &["eu-west"]);
}

#[test]
fn a_node_on_an_older_copy_of_its_files_loses_nothing_and_uses_no_seq_twice() {
    let mut cluster = Cluster::boot(&REGIONS);
    cluster.tenant("notes", &REGIONS);
    let mut taken = cluster.door(1, "notes").write_entities(0, 200);
    cluster.settle("notes");
    let copy = cluster.file("older");
    assert!(cluster.nodes[1].stop().success());
    search::copy_directory(&cluster.nodes[1].data, &copy);

    cluster.start(1);
    taken.extend(cluster.door(1, "notes").write_entities(200, 300));
    cluster.settle("notes");
    cluster.nodes[1].kill();
    std::fs::remove_dir_all(&cluster.nodes[1].data).expect("the directory was the node's");
    search::copy_directory(&copy, &cluster.nodes[1].data);

    cluster.start(1);
    taken.extend(cluster.door(1, "notes").write_entities(500, 300));
    assert_eq!(cluster.settle("notes")["replicas"][1]["triples"], 800);
    let places: BTreeSet<(Vec<u8>, u64)> = taken.iter().map(place).collect();
    assert_eq!(places.len(), 800, "a seq was used twice");
    for at in 0..3 {
        let mut door = cluster.door(at, "notes");
        for subject in ["e0", "e499", "e799"] {
            assert_eq!(
                door.get(subject).expect("it serves").len(),
                1,
                "{subject} on n{}",
                at + 1
            );
        }
    }
}

#[test]
fn links_that_hold_lose_and_slow_what_they_carry_do_no_harm() {
    let mut cluster = Cluster::boot(&REGIONS);
    cluster.tenant("notes", &REGIONS);
    cluster.links.set(0, 2, Link::Cut);
    cluster.links.set(1, 2, Link::Held);
    cluster
        .links
        .set(1, 0, Link::Slow(std::time::Duration::from_millis(60)));
    for at in 0..3 {
        cluster.door(at, "notes").write_entities(1_000 * at, 500);
    }
    cluster.links.heal();
    assert_eq!(cluster.settle("notes")["replicas"][0]["triples"], 1_500);
}

#[test]
fn a_frozen_node_is_waited_for_by_nobody_and_catches_up_when_it_thaws() {
    let mut cluster = Cluster::boot(&REGIONS);
    cluster.tenant("notes", &REGIONS);
    cluster.nodes[2].signal(Signal::STOP);
    let watch = wait::Stopwatch::start();
    cluster.door(0, "notes").write_entities(0, 2_000);
    assert!(watch.elapsed() < wait::SOON, "writes waited for a frozen node");
    cluster.nodes[2].signal(Signal::CONT);
    assert_eq!(cluster.settle("notes")["replicas"][0]["triples"], 2_000);
}

#[test]
fn a_measurement_ends_where_a_set_is_not_acknowledged_within_the_timeout() {
    let mut cluster = Cluster::boot(&["eu-west"]);
    cluster.tenant("notes", &["eu-west"]);
    let push = ["bench", "push", "--clients", "1", "--sizes", "1"];
    // Longer than the test waits.
    let patience = ["--seconds", "3600", "--timeout", "1s"];
    let mut pushing = cluster.start_keyed(0, "notes", &[&push[..], &patience].concat(), "pushing");
    let mut door = cluster.door(0, "notes");
    wait::until("sets arrive", wait::SOON, || {
        door.scan(1).is_ok_and(|found| found > 0).then_some(())
    });
    cluster.nodes[0].signal(Signal::STOP);
    pushing.ends_with(3, wait::SOON);
    assert!(pushing.notes().contains("--timeout"), "{}", pushing.notes());
    cluster.nodes[0].signal(Signal::CONT);
}

fn place(taken: &Taken) -> (Vec<u8>, u64) {
    (taken.origin.to_vec(), taken.seq)
}
