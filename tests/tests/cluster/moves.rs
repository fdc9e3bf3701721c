//! A program and its node: when that one dies, freezes or lets go of the tenant, the program goes on at another.

use std::time::Duration;

use halcyon_client::{Acknowledged, ClientOptions};
use halcyon_proto::{error, v1::ErrorCode};
use halcyon_tests::{
    cluster::{Cluster, REGIONS},
    links::{Link, PROGRAM},
    program::{Program, acknowledged},
    wait,
};
use rustix::process::Signal;
use tonic::Status;

/// Sets before and after.
const SETS: usize = 300;

/// What a byte takes to a node that is far.
const FAR: Duration = Duration::from_millis(100);

/// Sets between two looks at where the program is.
const BATCH: usize = 20;

#[test]
fn when_its_node_is_killed_a_program_writes_on_elsewhere_and_nothing_is_lost_or_doubled() {
    check(|cluster, at| cluster.nodes[at].kill(), |cluster, at| cluster.start(at));
}

#[test]
fn when_its_node_freezes_a_program_writes_on_elsewhere_and_nothing_is_lost_or_doubled() {
    check(
        |cluster, at| cluster.nodes[at].signal(Signal::STOP),
        |cluster, at| cluster.nodes[at].signal(Signal::CONT),
    );
}

/// Harms the node in use in the middle of a load, and mends it.
#[track_caller]
fn check(harm: impl FnOnce(&mut Cluster, usize), mend: impl FnOnce(&mut Cluster, usize)) {
    let mut cluster = Cluster::boot(&REGIONS);
    cluster.tenant("notes", &REGIONS);
    let program = cluster.program("notes");
    program.write_and_wait(0, SETS);
    let left = program.node();
    let in_flight = program.write_entities(SETS, SETS);
    harm(&mut cluster, left);
    let pending = program.write_entities(2 * SETS, SETS);
    let mut taken = acknowledged(in_flight, wait::SOON);
    taken.extend(acknowledged(pending, wait::SOON));
    assert_ne!(program.node(), left, "it still speaks to the node that is away");
    assert!(taken.iter().all(is_plain), "{taken:?}");
    mend(&mut cluster, left);
    assert_eq!(cluster.settled_triples("notes"), 3 * SETS as u64);
    for at in 0..3 {
        let last = cluster.door(at, "notes").get(&format!("e{}", 3 * SETS - 1));
        assert_eq!(last.map(|fields| fields.len()).ok(), Some(1), "on n{}", at + 1);
    }
    program.close();
}

#[test]
fn a_program_goes_to_the_nearest_node_and_moves_when_another_becomes_nearer() {
    let mut cluster = Cluster::boot_with_doors_for_programs(&REGIONS);
    cluster.tenant("notes", &REGIONS);
    let stand_near = |near: usize| {
        for at in 0..3 {
            let link = if at == near { Link::Open } else { Link::Slow(FAR) };
            cluster.links.set(PROGRAM, at, link);
        }
    };
    stand_near(1);
    let program = Program::open(ClientOptions {
        addresses: vec![cluster.advertised_address(0)],
        ..cluster.options("notes")
    });
    program.write_and_wait(0, BATCH);
    assert_eq!(program.node(), 1);
    stand_near(2);
    let mut written = BATCH;
    wait::until("the program is at n3", wait::LONG, || {
        program.write_and_wait(written, BATCH);
        written += BATCH;
        (program.node() == 2).then_some(())
    });
    program.close();
    assert_eq!(cluster.settled_triples("notes"), written as u64);
}

#[test]
fn a_program_follows_its_tenant_to_another_region_while_it_writes() {
    let mut cluster = Cluster::boot(&REGIONS);
    cluster.tenant("notes", &["eu-west"]);
    let program = cluster.program("notes");
    program.write_and_wait(0, SETS);
    assert_eq!(program.node(), 0);
    let home = ["--regions", "ap-south", "--home", "ap-south"];
    cluster
        .run(&[&["tenant", "place", "notes"], home.as_slice()].concat())
        .ok();
    let mut written = SETS;
    wait::until("the program is at n3", wait::LONG, || {
        program.write_and_wait(written, BATCH);
        written += BATCH;
        (program.node() == 2).then_some(())
    });
    program.write_and_wait(written, BATCH);
    assert_eq!(program.fields("e0"), 1);
    assert_eq!(cluster.settled_triples("notes"), (written + BATCH) as u64);
    // n1 tells whoever still asks it.
    let refused = cluster.door(0, "notes").get("e0").expect_err("n1 has let go of it");
    assert_eq!(code(&refused), Some(ErrorCode::WrongRegion));
    program.close();
}

#[test]
fn a_program_that_reaches_one_node_only_is_forwarded_if_it_asks_for_that() {
    let mut cluster = Cluster::boot(&REGIONS);
    cluster.tenant("notes", &["eu-west", "us-east"]);
    let program = Program::open(ClientOptions {
        addresses: vec![cluster.address(2)],
        forward: true,
        ..cluster.options("notes")
    });
    program.write_and_wait(0, SETS);
    assert_eq!((program.node(), program.fields("e0")), (2, 1));
    // Without being asked n3 passes nothing on.
    let refused = cluster.door(2, "notes").get("e0").expect_err("n3 does not hold it");
    assert_eq!(code(&refused), Some(ErrorCode::WrongRegion));
    // One of the replicas is enough.
    cluster.settle("notes");
    cluster.nodes[0].kill();
    program.write_and_wait(SETS, SETS);
    assert_eq!(program.fields(&format!("e{}", 2 * SETS - 1)), 1);
    cluster.start(0);
    assert_eq!(cluster.settled_triples("notes"), 2 * SETS as u64);
    program.close();
}

/// Nothing of it lost to anything: all entities are the program's own.
fn is_plain(taken: &Acknowledged) -> bool {
    taken.superseded.is_empty()
}

fn code(status: &Status) -> Option<ErrorCode> {
    error::from_status(status).map(|error| error.code())
}
