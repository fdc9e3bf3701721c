//! A program with an outbox on disk: killed again and again, everything that it wrote arrives once.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use halcyon_core::version_vector::VersionVector;
use halcyon_tests::{cluster::Cluster, command::Running, wait};

/// How often the program is killed.
const KILLS: usize = 3;

/// Sets that are durable in its outbox before a kill. All fit among those that an outbox keeps for a second replica, so
/// every run pushes all that the runs before it wrote.
const SETS_BEFORE: usize = 150;

/// More than it ever writes.
const ENDLESS: usize = 1_000_000;

#[test]
fn a_program_that_is_killed_while_it_pushes_loses_nothing_and_nothing_arrives_twice() {
    let cluster = boot();
    let mut written = 0;
    for kill in 0..KILLS {
        let mut writer = start(&cluster, kill, written, ENDLESS);
        let durable = wait::until("the program writes", wait::SOON, || {
            assert!(!writer.has_ended(), "it ended: {}", writer.notes());
            let durable = count(&writer, "written");
            (durable >= SETS_BEFORE && taken(&cluster) > 0).then_some(durable)
        });
        writer.kill();
        assert!(count(&writer, "written") >= durable);
        let left = number(&writer, "left");
        assert!(
            left + kill >= written,
            "the outbox lost what was durable: {left} of {written}"
        );
        // The last write may be durable and not said, or said by nobody because it was not.
        written += count(&writer, "written") + 1;
    }
    end(&cluster, written);
}

#[test]
fn what_a_program_wrote_while_no_node_was_there_arrives_after_both_were_killed() {
    let mut cluster = boot();
    cluster.nodes[0].kill();
    let mut writer = start(&cluster, 0, 0, ENDLESS);
    wait::until("the program writes", wait::SOON, || {
        assert!(!writer.has_ended(), "it ended: {}", writer.notes());
        (count(&writer, "written") >= SETS_BEFORE).then_some(())
    });
    writer.kill();
    let written = count(&writer, "written") + 1;
    cluster.start(0);
    // The node dies as well, in the middle of what it takes.
    let mut writer = start(&cluster, 1, written, ENDLESS);
    wait::until("the node takes", wait::SOON, || (taken(&cluster) > 0).then_some(()));
    cluster.nodes[0].kill();
    writer.kill();
    let written = written + count(&writer, "written") + 1;
    cluster.start(0);
    end(&cluster, written);
}

/// The last run ends by itself. Every set that was durable is there and took one place in the tenant's sequence.
#[track_caller]
fn end(cluster: &Cluster, written: usize) {
    let mut last = start(cluster, KILLS, written, 1);
    last.succeeds(wait::LONG);
    assert_eq!(count(&last, "flushed"), 1, "{:?}", last.lines());
    let mut door = cluster.door(0, "notes");
    // Of each run that was killed the last set may have been cut off before it was durable.
    let is_there = |at: &usize| door.get(&format!("e{at}")).is_ok_and(|fields| fields.len() == 1);
    let arrived = (0..=written).filter(is_there).count();
    assert!(arrived + KILLS > written, "{arrived} of {written} arrived");
    let triples = cluster.settled_triples("notes");
    assert_eq!((triples, taken(cluster)), (arrived as u64, arrived as u64));
}

#[track_caller]
fn boot() -> Cluster {
    let mut cluster = Cluster::boot(&["eu-west"]);
    cluster.tenant("notes", &["eu-west"]);
    cluster
}

/// Starts the program on its directory; the entities that it writes are e`first`, e`first + 1`, …
#[track_caller]
fn start(cluster: &Cluster, run: usize, first: usize, count: usize) -> Running {
    let mut command = Command::new(PathBuf::from(env!("CARGO_BIN_EXE_halcyon-tests-writer")));
    command
        .arg(cluster.file("program"))
        .args([&cluster.address(0), "notes", &first.to_string(), &count.to_string()])
        .env("HALCYON_KEY", cluster.key("notes"))
        .stdin(Stdio::null());
    Running::start(
        command,
        "the writer".to_owned(),
        &cluster.file(&format!("writer-{run}")),
    )
}

/// How many places of its sequence the tenant has given out, over all origins.
#[track_caller]
fn taken(cluster: &Cluster) -> u64 {
    let held = cluster.door(0, "notes").own_vector().unwrap_or_default();
    VersionVector::EMPTY.behind(&held)
}

fn count(writer: &Running, word: &str) -> usize {
    let lines = writer.lines();
    lines.iter().filter(|line| line.starts_with(word)).count()
}

#[track_caller]
fn number(writer: &Running, word: &str) -> usize {
    let lines = writer.lines();
    let found = lines.iter().find_map(|line| line.strip_prefix(word));
    let found = found.and_then(|number| number.trim().parse().ok());
    found.unwrap_or_else(|| panic!("no `{word}` in {lines:?}"))
}
