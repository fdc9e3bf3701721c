//! SIGTERM in the middle of work: a clean end in bounded time, nothing acknowledged is lost, programs go on elsewhere.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use halcyon_proto::v1::push_result;
use halcyon_tests::{
    cluster::{Cluster, REGIONS},
    load::Door,
    program::acknowledged,
    wait,
};

/// What a node may take to stop with calls in flight: 10 s for those, the rest for a busy machine's disk.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Clients that push to the node while it stops.
const CLIENTS: usize = 4;

/// Change sets in one of their pushes.
const BATCH: usize = 10;

/// Each client's entities have their own numbers.
const APART: usize = 1_000_000;

#[test]
fn a_node_that_is_told_to_stop_ends_what_is_in_flight_and_loses_nothing_that_it_acknowledged() {
    let mut cluster = Cluster::boot(&REGIONS);
    cluster.tenant("notes", &REGIONS);
    let program = cluster.program("notes");
    let at = program.node();
    let doors: Vec<Door> = (0..CLIENTS).map(|_| cluster.door(at, "notes")).collect();
    let (stopped, acknowledged_by) = (AtomicBool::new(false), [const { AtomicUsize::new(0) }; CLIENTS]);
    let took = std::thread::scope(|scope| {
        for (client, mut door) in doors.into_iter().enumerate() {
            let (stopped, count) = (&stopped, &acknowledged_by[client]);
            scope.spawn(move || {
                while !stopped.load(Ordering::Acquire) {
                    let from = count.load(Ordering::Acquire);
                    if door.try_write_entities((client + 1) * APART + from, BATCH) {
                        count.store(from + BATCH, Ordering::Release);
                    }
                }
            });
        }
        let busy = || {
            acknowledged_by
                .iter()
                .all(|count| count.load(Ordering::Acquire) > BATCH)
        };
        wait::until("the load runs", wait::SOON, || busy().then_some(()));
        let pending = program.write_entities(0, BATCH);
        let watch = wait::Stopwatch::start();
        let status = cluster.nodes[at].stop();
        let took = watch.elapsed();
        stopped.store(true, Ordering::Release);
        assert!(status.success(), "it ended with {status}");
        acknowledged(pending, wait::SOON);
        took
    });
    assert!(took < STOP_WITHIN, "it took {took:?}");
    // While it is away, the program that spoke to it goes on.
    program.write_and_wait(BATCH, BATCH);
    assert_ne!(program.node(), at);
    program.close();

    cluster.start(at);
    let acknowledged: usize = acknowledged_by.iter().map(|count| count.load(Ordering::Acquire)).sum();
    let (least, triples) = ((acknowledged + 2 * BATCH) as u64, cluster.settled_triples("notes"));
    // Of each client the push whose answer was cut off may be in as well.
    let most = least + (CLIENTS * BATCH) as u64;
    assert!((least..=most).contains(&triples), "{triples} of {least}");
    let mut door = cluster.door((at + 1) % 3, "notes");
    for (client, count) in acknowledged_by.iter().enumerate() {
        let last = (client + 1) * APART + count.load(Ordering::Acquire) - 1;
        let fields = door.get(&format!("e{last}")).expect("it serves");
        assert_eq!(fields.len(), 1, "e{last} was acknowledged and is lost");
    }
}

#[test]
fn a_push_that_waits_for_another_region_does_not_hold_up_the_stop_and_is_kept() {
    let mut cluster = Cluster::boot(&["eu-west", "us-east"]);
    cluster.tenant("notes", &["eu-west", "us-east"]);
    for change in [
        ["settings", "set", "region_ack_deadline", "10s"].as_slice(),
        &["tenant", "set", "notes", "acknowledgement", "region"],
    ] {
        cluster.run(change).ok();
    }
    cluster.run_on(0, &["tenant", "show", "notes"]).ok();
    cluster.partition(1);
    let mut door = cluster.door(0, "notes");
    let set = door.entity(0).encode();
    let in_flight = door.push_and_go(vec![set.clone()]);
    wait::until("n1 has it", wait::SOON, || {
        door.get("e0").ok().filter(|fields| !fields.is_empty())
    });
    let watch = wait::Stopwatch::start();
    let status = cluster.nodes[0].stop();
    let took = watch.elapsed();
    assert!(status.success(), "it ended with {status}");
    assert!(took < STOP_WITHIN, "it took {took:?}");
    let answer = wait::runtime().block_on(in_flight).expect("nobody panicked");
    let is_taken = |answers: &[halcyon_proto::v1::PushResult]| {
        answers
            .iter()
            .any(|answer| matches!(answer.result, Some(push_result::Result::Taken(_))))
    };
    assert!(
        !answer.is_ok_and(|answers| is_taken(&answers)),
        "acknowledged by one region alone"
    );

    cluster.links.heal();
    cluster.start(0);
    let again = wait::until("the same push is acknowledged", wait::SOON, || {
        let answers = door.push_encoded(vec![set.clone()]).ok()?;
        match answers.into_iter().next()?.result? {
            push_result::Result::Taken(taken) => Some(taken.again),
            push_result::Result::Refused(_) => None,
        }
    });
    assert!(again, "what was kept was not known");
    assert_eq!(cluster.settled_triples("notes"), 1);
}
