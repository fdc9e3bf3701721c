//! The rules of pushing, one by one.

use std::time::Duration;

use halcyon_core::{
    clock::{Timestamp, WallTime},
    id::{EntityId, OriginId, Seq},
};
use halcyon_proto::{convert::Taken, error::ErrorCode};

use super::*;

const NODE: NodeId = NodeId(1);

fn at(seconds: u64) -> Moment {
    Moment {
        wall: WallTime::from_unix(Duration::from_secs(seconds)),
        jitter: 0,
    }
}

fn session() -> Session {
    Session::open(ClientId::from_random(7), Floor::default(), Place(0), Vec::new())
}

fn write(session: &mut Session, count: usize, moment: Moment) -> Vec<Stored> {
    let change = || Change::Create {
        subject: EntityId::new("e").unwrap(),
    };
    let stamped = (0..count).map(|_| {
        let (stored, _) = session.stamp(vec![change()], moment).unwrap();
        session.enqueue(stored.clone());
        stored
    });
    stamped.collect()
}

#[expect(clippy::unnecessary_wraps, reason = "the form in which answers are handed in")]
fn taken(seq: u64) -> Option<Result<Taken, Refusal>> {
    let origin = OriginId {
        node: NODE,
        incarnation: 1,
    };
    Some(Ok(Taken {
        tag: Tag { origin, seq: Seq(seq) },
        superseded: Vec::new(),
        overwritten: Vec::new(),
        again: false,
    }))
}

#[expect(clippy::unnecessary_wraps, reason = "the form in which answers are handed in")]
fn refused(code: ErrorCode) -> Option<Result<Taken, Refusal>> {
    Some(Err(Refusal::new(code, "no")))
}

#[expect(clippy::unnecessary_wraps, reason = "the form in which answers are handed in")]
fn drift(wall: u64) -> Option<Result<Taken, Refusal>> {
    Some(Err(Refusal::clock_drift("ahead", at(wall).wall)))
}

fn times(session: &Session) -> Vec<Timestamp> {
    session.waiting.iter().map(|set| set.timestamp).collect()
}

fn is_near(timestamp: &Timestamp, seconds: u64) -> bool {
    timestamp.get_time().to_duration().as_secs() == seconds
}

#[test]
fn each_refusal_keeps_the_set_or_settles_it_and_says_what_is_next() {
    //     code                        still waits, next
    check(ErrorCode::Busy, 1, "wait");
    check(ErrorCode::Retry, 1, "wait");
    check(ErrorCode::NoQuorum, 1, "wait");
    check(ErrorCode::NotYetReplicated, 1, "wait");
    check(ErrorCode::Internal, 1, "leave");
    check(ErrorCode::Unspecified, 1, "leave");
    check(ErrorCode::WrongRegion, 1, "move");
    check(ErrorCode::NodeRemoved, 1, "move");
    check(ErrorCode::Unauthenticated, 1, "blocked");
    check(ErrorCode::WireVersion, 1, "blocked");
    check(ErrorCode::ClockDrift, 1, "wait");
    check(ErrorCode::Limit, 0, "go");
    check(ErrorCode::Malformed, 0, "go");
    check(ErrorCode::Forbidden, 0, "go");
    check(ErrorCode::NumberReused, 0, "go");
    check(ErrorCode::Conflict, 0, "go");
}

#[track_caller]
fn check(code: ErrorCode, waits: usize, next: &str) {
    let mut session = session();
    write(&mut session, 1, at(100));
    session.next_push().unwrap();
    let outcome = session.on_answer(Answer::Results(vec![refused(code)]), at(100));
    let found = match outcome.next {
        Next::Go => "go",
        Next::Wait(_) => "wait",
        Next::Leave(_) => "leave",
        Next::Move(..) => "move",
        Next::Blocked(..) => "blocked",
    };
    assert_eq!((session.waiting(), found), (waits, next));
    assert_eq!(outcome.settled.len(), 1 - waits);
    assert_eq!(outcome.forgotten.len(), 1 - waits);
}

#[test]
fn a_set_that_one_region_keeps_is_pushed_again_as_it_is_until_a_second_has_it() {
    let mut session = session();
    let written = write(&mut session, 2, at(1_000));
    session.next_push();
    let answer = vec![taken(1), refused(ErrorCode::NotYetReplicated)];
    let outcome = session.on_answer(Answer::Results(answer), at(1_000));
    assert_eq!((outcome.held, session.held_by_one()), (vec![written[1].place], 1));
    assert!(matches!(outcome.next, Next::Wait(pause) if pause > Duration::ZERO));
    // Another node, whose clock is behind: what one keeps is not stamped again.
    session.next_push();
    let outcome = session.on_answer(Answer::Results(vec![drift(600)]), at(1_000));
    assert!(outcome.rewritten.is_empty());
    assert_eq!(session.next_push().unwrap().sets, [written[1].bytes.clone()]);
    let outcome = session.on_answer(Answer::Results(vec![taken(2)]), at(1_000));
    assert_eq!((outcome.settled.len(), session.held_by_one()), (1, 0));
}

#[test]
fn one_push_is_under_way_and_what_is_written_meanwhile_makes_the_next() {
    let mut session = session();
    write(&mut session, 2, at(100));
    assert_eq!(session.next_push().unwrap().sets.len(), 2);
    write(&mut session, 3, at(100));
    assert!(session.next_push().is_none());
    session.on_answer(Answer::Results(vec![taken(1), taken(2)]), at(100));
    assert_eq!(session.next_push().unwrap().sets.len(), 3);
}

#[test]
fn a_push_holds_no_more_sets_and_bytes_than_it_may() {
    let mut session = session();
    write(&mut session, PUSH_SETS_MAX + 1, at(100));
    assert_eq!(session.next_push().unwrap().sets.len(), PUSH_SETS_MAX);
}

#[test]
fn what_was_perhaps_taken_is_pushed_again_with_the_same_bytes() {
    let mut session = session();
    let written = write(&mut session, 2, at(1_000));
    session.next_push();
    session.on_answer(Answer::Lost, at(1_000));
    session.next_push();
    // 400 s ahead: another node, whose clock is further on, may have taken them.
    let outcome = session.on_answer(Answer::Results(vec![drift(600), drift(600)]), at(1_000));
    assert!(outcome.rewritten.is_empty());
    let again = session.next_push().unwrap().sets;
    assert_eq!(
        again,
        written.into_iter().map(|stored| stored.bytes).collect::<Vec<_>>()
    );
}

#[test]
fn what_no_node_can_have_taken_is_stamped_again_in_order_after_a_lost_answer_too() {
    let mut session = session();
    write(&mut session, 3, at(1_000_000));
    session.next_push();
    session.on_answer(Answer::Lost, at(1_000_000));
    session.next_push();
    let outcome = session.on_answer(Answer::Results(vec![drift(500); 3]), at(1_000_000));
    assert_eq!(outcome.rewritten.len(), 3);
    assert!(times(&session).is_sorted() && times(&session).iter().all(|time| is_near(time, 500)));
}

#[test]
fn what_a_node_would_refuse_is_stamped_again_before_it_is_pushed_for_the_first_time() {
    //           device ahead, drift_max, stamped again: all or none
    check_before(0, 60, 0);
    check_before(59, 60, 0);
    check_before(61, 60, 3);
    check_before(61, 120, 0);
    check_before(1_000_000, 60, 3);
}

#[track_caller]
fn check_before(ahead: u64, drift_max: u64, expected: usize) {
    let mut session = session();
    write(&mut session, 3, at(500 + ahead));
    let rewritten = session.before_push(node_clock(500, drift_max), at(500 + ahead));
    assert_eq!(rewritten.len(), expected);
    // Its answer is lost, and another node takes them: nobody has to wait for anything.
    let pushed = session.next_push().unwrap().sets;
    session.on_answer(Answer::Lost, at(500 + ahead));
    assert_eq!(session.next_push().unwrap().sets, pushed);
    let times = times(&session);
    assert!(times.is_sorted());
    let latest = times.last().unwrap().get_time().to_duration().as_secs();
    assert!(latest <= 500 + drift_max, "{latest}");
}

#[test]
fn what_was_perhaps_taken_is_not_stamped_again_before_a_push_nor_is_what_waits_behind_it() {
    let mut session = session();
    let written = write(&mut session, 1, at(1_000));
    session.next_push();
    session.on_answer(Answer::Lost, at(1_000));
    write(&mut session, 1, at(1_000));
    assert!(session.before_push(node_clock(600, 60), at(1_000)).is_empty());
    // Once the clock has come near, only what comes after.
    write(&mut session, 1, at(9_000));
    let rewritten = session.before_push(node_clock(950, 60), at(1_350));
    assert_eq!(rewritten.len(), 2);
    assert_eq!(session.next_push().unwrap().sets[0], written[0].bytes);
    assert!(times(&session).is_sorted());
}

#[test]
fn what_an_earlier_run_wrote_and_cannot_have_pushed_is_stamped_again() {
    let mut offline = session();
    // An hour ahead, and no node in sight.
    let left = write(&mut offline, 2, at(4_600));
    offline.next_push();
    offline.on_answer(Answer::Unsent, at(4_600));
    assert_eq!(restarted(&offline, left).len(), 2);

    let mut pushed = session();
    let left = write(&mut pushed, 2, at(1_500));
    pushed.next_push();
    assert!(pushed.on_send());
    assert_eq!(restarted(&pushed, left).len(), 0);
}

/// What a run that begins after `before`, with what that left, stamps again for a node at 1,000 s.
fn restarted(before: &Session, left: Vec<Stored>) -> Vec<Stored> {
    let last = left.last().unwrap().place;
    let mut session = Session::open(ClientId::from_random(8), before.floor(), last, left);
    session.before_push(node_clock(1_000, 60), at(1_500))
}

#[test]
fn the_floor_is_raised_by_a_push_now_and_then_not_by_each() {
    let mut session = session();
    let mut raised = 0;
    for second in 0..30 {
        write(&mut session, 1, at(1_000 + second));
        session.next_push();
        raised += usize::from(session.on_send());
        session.on_answer(Answer::Lost, at(1_000 + second));
    }
    assert_eq!(raised, 3);
}

#[test]
fn a_set_that_a_node_far_ahead_may_have_taken_keeps_its_bytes_however_large_its_drift_may_be() {
    //            ahead of the refusing node, drift_max, stamped again
    check_doubt(599, 60, false);
    check_doubt(659, 60, false);
    check_doubt(661, 60, true);
    check_doubt(661, 3_600, false);
}

#[track_caller]
fn check_doubt(ahead: u64, drift_max: u64, is_stamped_again: bool) {
    let mut session = session();
    session.before_push(node_clock(5_000, drift_max), at(5_000));
    write(&mut session, 1, at(5_000));
    session.next_push();
    session.on_answer(Answer::Lost, at(5_000));
    session.next_push();
    let outcome = session.on_answer(Answer::Results(vec![drift(5_000 - ahead)]), at(5_000));
    assert_eq!(!outcome.rewritten.is_empty(), is_stamped_again);
}

fn node_clock(wall: u64, drift_max: u64) -> NodeClock {
    NodeClock {
        wall: at(wall).wall,
        drift_max: Duration::from_secs(drift_max),
    }
}

#[test]
fn drift_corrects_the_clock_for_what_was_refused_and_for_what_comes() {
    let mut session = session();
    write(&mut session, 2, at(9_000));
    session.next_push();
    write(&mut session, 2, at(9_001));
    let outcome = session.on_answer(Answer::Results(vec![drift(500), drift(500)]), at(9_002));
    write(&mut session, 1, at(9_005));
    let times = times(&session);
    assert_eq!(outcome.rewritten.len(), 4, "those behind come after them");
    assert!(times.is_sorted() && times[..4].iter().all(|time| is_near(time, 500)) && is_near(&times[4], 503));
}

#[test]
fn a_set_older_than_one_that_was_taken_keeps_its_timestamp() {
    let mut session = session();
    let written = write(&mut session, 2, at(1_000));
    session.next_push();
    // The node's clock went on between the two.
    let outcome = session.on_answer(Answer::Results(vec![drift(939), taken(1)]), at(1_000));
    assert!(outcome.rewritten.is_empty());
    assert_eq!(session.next_push().unwrap().sets, [written[0].bytes.clone()]);
}

#[test]
fn one_set_that_makes_the_whole_call_fail_is_found_and_the_others_are_taken() {
    let mut session = session();
    write(&mut session, 3, at(100));
    assert_eq!(session.next_push().unwrap().sets.len(), 3);
    session.on_answer(Answer::Refused(Refusal::new(ErrorCode::Malformed, "no")), at(100));
    assert_eq!(session.next_push().unwrap().sets.len(), 1);
    session.on_answer(Answer::Results(vec![taken(1)]), at(100));
    assert_eq!(session.next_push().unwrap().sets.len(), 1);
    let outcome = session.on_answer(Answer::Refused(Refusal::new(ErrorCode::Malformed, "no")), at(100));
    assert!(matches!(outcome.settled[..], [(Place(2), Err(_))]));
    write(&mut session, 1, at(100));
    assert_eq!(session.next_push().unwrap().sets.len(), 1);
    session.on_answer(Answer::Results(vec![taken(2)]), at(100));
    write(&mut session, 1, at(100));
    assert_eq!(session.next_push().unwrap().sets.len(), 2, "all at once again");
}

#[test]
fn a_set_is_kept_until_a_second_replica_holds_it_and_pushed_again_if_its_node_is_lost() {
    //     second holds, other node holds, replicas, let go, pushed again
    check_held(0, 0, &[1, 2], (0, 0));
    check_held(2, 0, &[1, 2], (2, 0));
    check_held(0, 1, &[1, 2], (1, 0));
    // What a vector covers of a node that is gone may have been closed without being there.
    check_held(0, 1, &[2, 3], (0, 3));
    check_held(3, 3, &[2, 3], (0, 3));
    check_held(0, 0, &[], (0, 0));
}

#[track_caller]
fn check_held(second: u64, own: u64, replicas: &[u64], expected: (usize, usize)) {
    let mut session = session();
    write(&mut session, 3, at(100));
    session.next_push();
    session.on_answer(Answer::Results((1..=3).map(taken).collect()), at(100));
    let vector = |seq: u64| {
        let Some(Ok(taken)) = taken(seq) else {
            return VersionVector::EMPTY;
        };
        [taken.tag].into_iter().filter(|tag| tag.seq > Seq(0)).collect()
    };
    let held = Held {
        own: vector(own),
        second: vector(second),
    };
    let replicas = replicas.iter().map(|&node| NodeId(node)).collect();
    let let_go = session.on_held(NodeId(2), &held, &replicas);
    let again = session.next_push().map_or(0, |push| push.sets.len());
    assert_eq!((let_go.len(), again), expected);
    assert_eq!(session.waiting(), 0, "they count as acknowledged");
}

#[test]
fn what_vectors_say_of_an_incarnation_that_ended_is_believed_once_a_node_has_found_the_set() {
    let Some(Ok(Taken { tag, .. })) = taken(1) else {
        unreachable!()
    };
    let mut later = tag;
    later.origin.incarnation += 1;
    // Its node runs anew, perhaps on an older disk, and the rest was closed; whoever answers has heard of both, or of another
    // that has.
    let shown = Held {
        own: [tag, later].into_iter().collect(),
        second: [tag].into_iter().collect(),
    };
    let told = Held {
        own: VersionVector::EMPTY,
        second: [tag, later].into_iter().collect(),
    };
    for (node, covered) in [(NODE, shown), (NodeId(2), told)] {
        let replicas = [NODE, NodeId(2)].into();
        let mut session = session();
        write(&mut session, 1, at(100));
        session.next_push();
        session.on_answer(Answer::Results(vec![taken(1)]), at(100));
        assert!(session.on_held(node, &covered, &replicas).is_empty());
        assert_eq!(session.next_push().unwrap().sets.len(), 1, "pushed again");
        let found = Taken {
            tag,
            superseded: Vec::new(),
            overwritten: Vec::new(),
            again: true,
        };
        session.on_answer(Answer::Results(vec![Some(Ok(found))]), at(100));
        assert_eq!(session.on_held(node, &covered, &replicas).len(), 1, "let go");
        assert_eq!(session.kept(), 0);
    }
}

#[test]
fn a_push_that_says_what_a_second_replica_holds_speaks_for_its_own_incarnation_only() {
    let mut session = session();
    write(&mut session, 1, at(100));
    session.next_push();
    session.on_answer(Answer::Results(vec![taken(1)]), at(100));
    let Some(Ok(Taken { tag, .. })) = taken(1) else {
        unreachable!()
    };
    let held = Held {
        second: [tag].into_iter().collect(),
        ..Held::default()
    };
    write(&mut session, 1, at(100));
    session.next_push();
    let mut anew = tag;
    anew.origin.incarnation += 1;
    let there = Taken {
        tag: anew,
        superseded: Vec::new(),
        overwritten: Vec::new(),
        again: false,
    };
    session.on_answer(Answer::Results(vec![Some(Ok(there))]), at(100));
    assert!(session.on_held(NODE, &held, &BTreeSet::new()).is_empty());
    assert_eq!(session.kept(), 2);
}

#[test]
fn a_push_that_takes_nothing_says_nothing_of_what_a_second_replica_holds() {
    let held = |seq| {
        let Some(Ok(Taken { tag, .. })) = taken(seq) else {
            unreachable!()
        };
        Held {
            second: [tag].into_iter().collect(),
            ..Held::default()
        }
    };
    let mut session = session();
    write(&mut session, 1, at(100));
    session.next_push();
    session.on_answer(Answer::Results(vec![taken(1)]), at(100));
    assert!(
        session.on_held(NodeId(2), &held(1), &BTreeSet::new()).is_empty(),
        "another node"
    );
    write(&mut session, 1, at(100));
    session.next_push();
    let busy = Refusal::new(ErrorCode::Busy, "later");
    session.on_answer(Answer::Results(vec![Some(Err(busy))]), at(100));
    assert!(
        session.on_held(NODE, &held(1), &BTreeSet::new()).is_empty(),
        "it takes none"
    );
    session.next_push();
    session.on_answer(Answer::Results(vec![taken(2)]), at(100));
    assert_eq!(session.on_held(NODE, &held(2), &BTreeSet::new()).len(), 2);
}

#[test]
fn a_set_that_its_node_forgot_or_that_nobody_hears_of_is_pushed_again() {
    let nobody = Held::default();
    let replicas = [NodeId(1), NodeId(2)].into();
    let pushed_again_after = |node: u64| {
        let mut session = session();
        write(&mut session, 1, at(100));
        session.next_push();
        session.on_answer(Answer::Results(vec![taken(1)]), at(100));
        let mut asked = 0;
        while session.next_push().is_none() {
            session.on_held(NodeId(node), &nobody, &replicas);
            asked += 1;
        }
        asked
    };
    assert_eq!(
        pushed_again_after(1),
        1,
        "the node that took it does not hold it any more"
    );
    assert_eq!(pushed_again_after(2), 5, "another may only not have heard of it yet");
}

#[test]
fn a_restart_pushes_what_is_left_first_and_goes_on_behind_it() {
    let mut before = session();
    let left = write(&mut before, 3, at(100));
    let mut after = Session::open(ClientId::from_random(8), before.floor(), Place(5), left.clone());
    let new = write(&mut after, 1, at(50));
    assert!(new[0].timestamp > left[2].timestamp && new[0].place == Place(6));
    let pushed = after.next_push().unwrap().sets;
    assert_eq!(
        pushed[..3],
        left.into_iter().map(|stored| stored.bytes).collect::<Vec<_>>()
    );
}

#[test]
fn waits_grow_and_are_spread() {
    assert!(backoff(1, 0) < backoff(3, 0) && backoff(3, 0) < backoff(3, u64::MAX / 3));
    assert!(backoff(u32::MAX, u64::MAX) <= BACKOFF_MAX);
}
