//! A node that lags behind what the client has seen: its answer adds and takes nothing away, until it has caught up.

use halcyon_proto::v1::connect_response::Event;

use super::*;

#[test]
fn a_stale_answer_adds_and_says_so_and_what_is_gone_goes_once_the_node_has_caught_up() {
    const QUERY: usize = 3;
    let mut world = World::new();
    world.step(Step::Elsewhere((0..3).map(|at| Edit::Post(at, at, 1)).collect()));
    world.step(Step::Follow(0, QUERY));
    world.settle();
    world.step(Step::Lose(0, true));
    world.step(Step::Elsewhere(vec![Edit::Delete(0), Edit::Post(5, 5, 1)]));
    world.step(Step::Connect(0));
    let moment = world.moment();
    let World { node, clients, .. } = &mut world;
    let client = &mut clients[0];
    let follower = client.followers[&QUERY];
    let Some(Call::Subscribe { mut request, .. }) = client.engine.next_call() else {
        panic!("it asks for its query");
    };
    assert!(!request.digest.is_empty(), "it says what it holds");
    let number = request.subscription;
    // A node that lags does not ask what is held: it takes nothing away.
    request.digest.clear();
    let answer = node.subscribe(&request).unwrap();
    client.engine.on_subscribed(number, Ok(answer));
    let session = client.session.unwrap();
    for mut event in node.events(session, 0) {
        if let Some(Event::Commit(commit)) = &mut event.event {
            for delta in &mut commit.deltas {
                delta.stale = true;
            }
        }
        client.engine.on_event(event, moment).unwrap();
        client.check();
    }
    assert_eq!(client.engine.status(follower), Some(QueryStatus::Stale));
    // Three from before, of which the node has deleted one, and the one that is new.
    let shown = client.engine.answer(follower).unwrap();
    assert_eq!((shown.rows.len(), node.answer(QUERY).rows.len()), (4, 3));

    node.end(session, number);
    world.step(Step::Hear(0, 10));
    assert_eq!(world.clients[0].engine.status(follower), Some(QueryStatus::Syncing));
    world.settle();
}
