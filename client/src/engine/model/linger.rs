//! Pages that were left: there for a while, and gone then.

use super::*;

/// Who comes back soon finds the page as the node has it by then, and nothing is sent again; later it is loaded anew.
#[test]
fn a_page_that_was_left_is_there_for_a_while() {
    const QUERY: usize = 3;
    let mut world = World::new();
    let edits = |created: u8| Step::Elsewhere((0..12).map(|at| Edit::Post(at, created, 1)).collect());
    world.step(edits(1));
    world.step(Step::Follow(0, QUERY));
    world.settle();
    let full = std::mem::take(&mut world.node.sent);
    world.step(Step::Leave(0, QUERY));
    world.step(edits(2));
    world.step(Step::Hear(0, 1_000));
    world.step(Step::Follow(0, QUERY));
    let follower = world.clients[0].followers[&QUERY];
    let engine = &world.clients[0].engine;
    assert_eq!(engine.status(follower), Some(QueryStatus::Synced));
    assert_eq!(engine.answer(follower), Some(world.node.answer(QUERY)));
    world.settle();
    assert_eq!(world.node.sent, 0, "nothing is loaded again");
    world.step(Step::Leave(0, QUERY));
    world.step(Step::Age(0));
    world.step(Step::Age(0));
    assert!(!world.clients[0].engine.has_lingering());
    assert!(
        world.clients[0].engine.replica.graph().is_empty(),
        "what nothing needs is gone"
    );
    world.step(Step::Follow(0, QUERY));
    world.settle();
    assert!(world.node.sent * 2 > full, "it is loaded again");
}

#[test]
fn what_was_left_goes_in_the_order_in_which_it_was_left() {
    let mut world = World::new();
    world.step(Step::Elsewhere((0..4).map(|at| Edit::Post(at, at, 1)).collect()));
    let most = crate::limits::LINGERING_MAX;
    for query in 0..most {
        world.step(Step::Follow(0, query));
    }
    world.settle();
    for query in 0..most {
        world.step(Step::Leave(0, query));
    }
    assert_eq!(world.clients[0].engine.queries.len(), most);
    world.clients[0].engine.age_lingering();
    world.step(Step::Follow(0, 0));
    world.step(Step::Leave(0, 0));
    world.clients[0].engine.age_lingering();
    assert_eq!(world.clients[0].engine.queries.len(), 1, "it was left last");
    // One that was never synced does not linger.
    world.clients[1].engine.on_disconnected();
    let follower = world.clients[1].engine.follow("post order by created limit 1").unwrap();
    world.clients[1].engine.leave(follower);
    assert!(world.clients[1].engine.queries.is_empty());
}
