//! What an earlier run left in the outbox, and what a node lost that had taken it.

use std::collections::BTreeSet;

use halcyon_core::{
    id::{NodeId, OriginId, Seq, Tag},
    version_vector::VersionVector,
};
use halcyon_proto::convert::Taken;

use super::*;

/// The node names the session of a set by its clock, and an earlier run had another.
#[test]
fn a_set_of_an_earlier_run_that_changes_nothing_here_does_not_stay_pending() {
    let steps = |follows_first: bool| {
        let follows = [Step::Follow(0, 0), Step::Connect(0), Step::Calls(0, 2, false)];
        let pushes = [Step::Push(0, false)];
        if follows_first {
            follows.into_iter().chain(pushes).collect::<Vec<_>>()
        } else {
            pushes.into_iter().chain(follows).collect()
        }
    };
    for follows_first in [true, false] {
        let mut world = World::new();
        world.step(Step::Write(0, vec![Edit::Close(0)]));
        world.step(Step::Restart(0));
        for step in steps(follows_first) {
            world.step(step);
        }
        world.settle();
    }
}

/// A node takes sets that change nothing (a late deletion, a field of what is deleted) while nobody follows a query here.
#[test]
fn a_set_that_was_taken_before_anything_showed_does_not_show_after_a_restart() {
    for (write, elsewhere) in [
        (Edit::Delete(3), vec![Edit::Post(3, 0, 0)]),
        (Edit::Post(3, 0, 0), vec![Edit::Delete(3), Edit::Post(4, 0, 0)]),
    ] {
        let mut world = World::new();
        world.step(Step::Write(0, vec![write]));
        world.step(Step::Push(0, false));
        world.step(Step::Elsewhere(elsewhere));
        for step in [
            Step::Connect(0),
            Step::Follow(0, 2),
            Step::Calls(0, 1, false),
            Step::Hear(0, 2),
            Step::Restart(0),
        ] {
            world.step(step);
        }
        world.settle();
    }
}

/// It stayed pending under the tag that was lost with its node's disk (seed 90212 of the simulator).
#[test]
fn a_set_that_was_lost_and_is_taken_anew_waits_for_its_new_tag() {
    let node = NodeId(1);
    let tag = |incarnation| Tag {
        origin: OriginId { node, incarnation },
        seq: Seq(1),
    };
    // The places are those of the whole set, also where the first answer has taken some of it away.
    let taken = |tag| {
        Answer::Results(vec![Some(Ok(Taken {
            tag,
            superseded: vec![0],
            overwritten: vec![1],
            again: false,
        }))])
    };
    let mut world = World::new();
    world.step(Step::Follow(0, 0));
    world.step(Step::Write(0, vec![Edit::Close(0), Edit::Close(1), Edit::Close(2)]));
    let moment = world.moment();
    let engine = &mut world.clients[0].engine;
    for incarnation in [1, 2] {
        assert_eq!(engine.next_push().map(|push| push.sets.len()), Some(1));
        engine.on_push_answer(taken(tag(incarnation)), moment);
        let notices = engine.take_notices();
        assert_eq!(
            notices.len(),
            usize::from(incarnation == 1),
            "it is told once: {notices:?}"
        );
        let left: Vec<usize> = engine
            .replica
            .pending()
            .map(|pending| pending.set.changes.len())
            .collect();
        assert_eq!(left, [2]);
        let tags: Vec<_> = engine.replica.pending().map(|pending| pending.tag).collect();
        assert_eq!(tags, [Some(tag(incarnation))]);
        let held = Held {
            own: VersionVector::EMPTY,
            second: VersionVector::EMPTY,
        };
        engine.on_held(node, &held, &BTreeSet::from([node]));
    }
}
