//! `region` acknowledgement: a push is answered when a second region has it on disk, and not before.

use std::time::Duration;

use halcyon_core::version_vector::VersionVector;
use halcyon_proto::{
    convert,
    v1::{ErrorCode, PushResult, Taken, push_result},
};
use halcyon_tests::{
    cluster::Cluster,
    links::Link,
    load::Door,
    program::{acknowledged, acknowledged_now},
    wait,
};

/// Where the tenant is: n1 and n2.
const TWO: [&str; 2] = ["eu-west", "us-east"];

/// How long bytes take from n1 to n2: far longer than a node needs to answer by itself.
const FAR: Duration = Duration::from_millis(150);

/// How long a push waits for a second region that is there.
const ACK_DEADLINE: &str = "10s";

/// How long it waits where there is none.
const ACK_DEADLINE_ALONE: &str = "300ms";

/// Sets in the push whose origin is killed.
const SETS: usize = 100;

#[test]
fn what_was_acknowledged_is_in_the_other_region_when_its_origin_is_killed_at_once() {
    let mut cluster = boot(ACK_DEADLINE);
    cluster.links.set(0, 1, Link::Slow(FAR));
    let mut door = cluster.door(0, "notes");
    let sets: Vec<Vec<u8>> = (0..SETS).map(|at| door.entity(at).encode()).collect();
    let answers = door.push_encoded(sets).expect("n1 serves");
    cluster.nodes[0].kill();

    let taken: Vec<Taken> = answers.into_iter().map(taken).collect();
    assert_eq!(taken.len(), SETS);
    let mut other = cluster.door(1, "notes");
    let held = other.own_vector().expect("n2 serves");
    for (at, taken) in taken.iter().enumerate() {
        assert!(covers(&held, taken), "e{at} was acknowledged, and n2 does not have it");
        assert_eq!(
            other.get(&format!("e{at}")).map(|fields| fields.len()).ok(),
            Some(1),
            "e{at}"
        );
    }
    cluster.links.heal();
    cluster.start(0);
    assert_eq!(cluster.settled_triples("notes"), SETS as u64);
}

#[test]
fn without_the_other_region_a_push_is_kept_and_the_same_push_is_acknowledged_once_it_is_back() {
    let mut cluster = boot(ACK_DEADLINE_ALONE);
    cluster.partition(1);
    let first = kept(&cluster, 0);
    cluster.links.heal();
    acknowledged_again(&cluster, first);

    cluster.nodes[1].kill();
    let second = kept(&cluster, 1);
    cluster.start(1);
    acknowledged_again(&cluster, second);
    assert_eq!(cluster.settled_triples("notes"), 2);
}

#[test]
fn a_program_waits_for_the_other_region_and_goes_on_when_it_is_back() {
    let mut cluster = boot(ACK_DEADLINE_ALONE);
    cluster.nodes[1].kill();
    let program = cluster.program("notes");
    let mut pending = program.write_entities(0, 10);
    let last = pending.pop().expect("ten were written");
    let mut door = cluster.door(0, "notes");
    wait::until("n1 has it", wait::SOON, || {
        door.get("e9").ok().filter(|fields| !fields.is_empty())
    });
    assert_eq!(acknowledged_now(last), None, "acknowledged by one region alone");
    cluster.start(1);
    let taken = acknowledged(pending, wait::SOON);
    assert!(taken.iter().all(|taken| taken.superseded.is_empty()), "{taken:?}");
    acknowledged(program.write_entities(10, 10), wait::SOON);
    assert_eq!(cluster.settled_triples("notes"), 20);
}

#[test]
fn one_region_alone_cannot_be_asked_for_two() {
    let mut cluster = Cluster::boot(&["eu-west"]);
    cluster.tenant("notes", &["eu-west"]);
    let set = ["tenant", "set", "notes", "acknowledgement", "region"];
    cluster.run(&set).fails(4, &["region"]);
}

/// Two regions, and a tenant in both that asks for both.
#[track_caller]
fn boot(deadline: &str) -> Cluster {
    let mut cluster = Cluster::boot(&TWO);
    cluster.tenant("notes", &TWO);
    cluster.run(&["settings", "set", "region_ack_deadline", deadline]).ok();
    cluster
        .run(&["tenant", "set", "notes", "acknowledgement", "region"])
        .ok();
    // Whoever was asked is up to date when it answers.
    for at in 0..2 {
        let shown = cluster.run_on(at, &["tenant", "show", "notes"]).ok();
        assert!(shown.stdout.contains("region"), "{}", shown.stdout);
    }
    cluster
}

/// A push of one set that n1 keeps without an acknowledgement, as often as it is made.
#[track_caller]
fn kept(cluster: &Cluster, at: usize) -> (Door, Vec<u8>) {
    let mut door = cluster.door(0, "notes");
    let set = door.entity(at).encode();
    for _ in 0..2 {
        let answers = door.push_encoded(vec![set.clone()]).expect("n1 serves");
        assert_eq!(code(answers.first()), Some(ErrorCode::NotYetReplicated), "{answers:?}");
        let fields = door.get(&format!("e{at}")).expect("n1 serves");
        assert_eq!(fields.len(), 1, "the data is not kept");
    }
    (door, set)
}

/// The same bytes, until they are acknowledged: as taken before, and held by n2 then.
#[track_caller]
fn acknowledged_again(cluster: &Cluster, (mut door, set): (Door, Vec<u8>)) {
    let taken = wait::until("the push is acknowledged", wait::SOON, || {
        let answers = door.push_encoded(vec![set.clone()]).expect("n1 serves");
        match code(answers.first()) {
            Some(code) => {
                assert_eq!(code, ErrorCode::NotYetReplicated);
                None
            }
            None => answers.into_iter().next().map(taken),
        }
    });
    assert!(taken.again, "it was taken a second time: {taken:?}");
    let held = cluster.door(1, "notes").own_vector().expect("n2 serves");
    assert!(covers(&held, &taken), "acknowledged, and n2 does not have it");
}

fn code(answer: Option<&PushResult>) -> Option<ErrorCode> {
    match answer.and_then(|answer| answer.result.as_ref()) {
        Some(push_result::Result::Refused(error)) => Some(error.code()),
        _ => None,
    }
}

#[track_caller]
fn taken(answer: PushResult) -> Taken {
    match answer.result {
        Some(push_result::Result::Taken(taken)) => taken,
        other => panic!("not taken: {other:?}"),
    }
}

#[track_caller]
fn covers(vector: &VersionVector, taken: &Taken) -> bool {
    vector.covers_tag(convert::tag(&taken.origin, taken.seq).expect("a node's tag can be read"))
}
