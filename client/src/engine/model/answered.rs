//! A node answers a query that rests on too much, and a node that lags comes between.

use halcyon_proto::{
    error::{ErrorCode, Refusal},
    v1::connect_response::Event,
};

use super::*;

/// How many posts each user has.
const COUNTS: usize = 2;

/// One client that follows the counts, and what it is shown.
fn world(entities_max: usize) -> World {
    let mut world = World::new();
    world.step(Step::Bound(entities_max));
    world.step(Step::Elsewhere((0..3).map(|at| Edit::Post(at, at, at)).collect()));
    world.step(Step::Follow(0, COUNTS));
    world.settle();
    world
}

/// It comes to a node that lags and finds the query the other way. What is sent, as long as that lasts.
fn come_to_one_that_lags(world: &mut World, entities_max: usize) -> u32 {
    world.step(Step::Lose(0, true));
    world.step(Step::Bound(entities_max));
    world.step(Step::Elsewhere(vec![Edit::Delete(0)]));
    world.step(Step::Connect(0));
    let moment = world.moment();
    let World { node, clients, .. } = world;
    let client = &mut clients[0];
    let Some(Call::Subscribe { mut request, .. }) = client.engine.next_call() else {
        panic!("it asks for its query");
    };
    let number = request.subscription;
    request.digest.clear();
    let answer = node.subscribe(&request).unwrap();
    client.engine.on_subscribed(number, Ok(answer));
    let set = ChangeSet {
        timestamp: timestamp(moment.wall.0, ClientId::from_random(8)),
        number: 1,
        changes: Edit::Post(1, 1, 0).changes(),
    };
    node.commit(set);
    for mut event in node.events(client.session.unwrap(), 0) {
        if let Some(Event::Commit(commit)) = &mut event.event {
            commit.deltas.iter_mut().for_each(|delta| delta.stale = true);
        }
        client.engine.on_event(event, moment).unwrap();
        client.check();
    }
    number
}

#[track_caller]
fn stays_until_the_node_has_caught_up(of_node_first: bool, bounds: (usize, usize)) {
    let mut world = world(bounds.0);
    let follower = world.clients[0].followers[&COUNTS];
    let before = world.clients[0].engine.answer(follower);
    assert_eq!(world.clients[0].engine.is_answered_by_node(follower), of_node_first);
    let number = come_to_one_that_lags(&mut world, bounds.1);
    let engine = &world.clients[0].engine;
    assert_eq!(engine.status(follower), Some(QueryStatus::Stale));
    assert_eq!(engine.answer(follower), before, "what was shown stays");
    assert_eq!(engine.is_answered_by_node(follower), of_node_first);
    let session = world.clients[0].session.unwrap();
    world.node.end(session, number);
    world.settle();
    let engine = &world.clients[0].engine;
    assert_eq!(engine.is_answered_by_node(follower), !of_node_first);
    assert_ne!(engine.answer(follower), before);
}

#[test]
fn a_stale_answer_takes_nothing_from_what_is_held() {
    stays_until_the_node_has_caught_up(false, (100, 0));
}

#[test]
fn stale_coverage_takes_nothing_from_an_answer() {
    stays_until_the_node_has_caught_up(true, (0, 100));
}

#[test]
fn an_answer_that_is_forbidden_now_does_not_show_and_shows_when_it_is_allowed_again() {
    let mut world = world(0);
    let follower = world.clients[0].followers[&COUNTS];
    world.step(Step::Lose(0, true));
    world.step(Step::Connect(0));
    let engine = &mut world.clients[0].engine;
    let Some(Call::Subscribe { request, .. }) = engine.next_call() else {
        panic!("it asks for its query");
    };
    let forbidden = CallFailure::Refused(Refusal::new(ErrorCode::Forbidden, "no longer"));
    engine.on_subscribed(request.subscription, Err(forbidden));
    assert!(engine.answer(follower).unwrap().rows.is_empty());
    let updates = engine.take_updates(follower);
    assert!(
        matches!(updates.last(), Some(Update::Status(QueryStatus::Local))),
        "{updates:?}"
    );
    let [mirror] = &updates
        .iter()
        .filter_map(|update| match update {
            Update::Answer(mirror) => Some((**mirror).clone()),
            _ => None,
        })
        .collect::<Vec<_>>()[..]
    else {
        panic!("{updates:?}");
    };
    world.clients[0].mirrors.insert(follower, mirror.clone());
    world.step(Step::Lose(0, true));
    world.settle();
    assert_eq!(world.clients[0].engine.answer(follower).unwrap().rows.len(), 3);
}
