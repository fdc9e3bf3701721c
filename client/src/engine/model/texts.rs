//! Memory of texts: what was typed over does not stay.

use super::*;

/// Somebody types for long: what was typed over goes.
#[test]
fn texts_that_were_typed_over_do_not_stay() {
    const TEXT_BYTES: usize = 100_000;
    let mut world = World::new();
    world.step(Step::Elsewhere(vec![Edit::Post(1, 1, 1)]));
    world.step(Step::Follow(0, 0));
    world.settle();
    let (mut most, mut moment) = (0, world.moment());
    for at in 0..300_u64 {
        let text = format!("{at}{}", "x".repeat(TEXT_BYTES));
        let change = Change::Set {
            subject: EntityId::new("p1").unwrap(),
            predicate: Predicate::new("post/title").unwrap(),
            value: Value::string(&text),
        };
        moment = world.moment();
        world.node.commit(ChangeSet {
            timestamp: timestamp(moment.wall.0, ClientId::from_random(7)),
            number: 1_000 + at,
            changes: vec![change],
        });
        hear(&world.node, &mut world.clients[0], 10, moment);
        let dictionary = world.clients[0].engine.replica.graph().dictionary();
        most = most.max(dictionary.text_bytes());
    }
    let allowed = crate::limits::TEXTS_LOOKED_AT_FROM + 2 * TEXT_BYTES;
    assert!(most <= allowed, "{most} bytes of texts, {allowed} allowed, {moment:?}");
    assert!(most > allowed / 2, "nothing was looked at: {most}");
}
