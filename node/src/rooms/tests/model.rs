//! Chance plays: clients come and go, nodes die, streams break and fall silent. After a quiet while, everybody in a room
//! is shown the same, and nobody who is gone.

use std::time::Duration;

use super::world::World;

const CLIENTS: u64 = 7;
const ROOMS: [&str; 2] = ["a", "b"];

/// `SplitMix64`.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn pick(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).unwrap()
    }
}

#[test]
fn after_a_quiet_while_everybody_is_shown_the_same_and_nobody_who_is_gone() {
    for seed in 0..300 {
        play(seed, 400);
    }
}

fn play(seed: u64, steps: u64) {
    let mut chance = Chance(seed);
    let nodes = 2 + chance.pick(3);
    let mut world = World::new(nodes);
    for step in 0..steps {
        act(&mut world, &mut chance, step);
        if step % 150 == 149 {
            world.quiet();
            world.check();
        }
    }
    world.quiet();
    world.check();
}

fn act(world: &mut World, chance: &mut Chance, step: u64) {
    let client = u8::try_from(1 + chance.below(CLIENTS)).unwrap();
    let room = ROOMS[chance.pick(ROOMS.len())];
    let (from, to) = {
        let pairs = world.pairs();
        pairs[chance.pick(pairs.len())]
    };
    let at = world.place_of(client, room);
    match (chance.below(100), at) {
        (0..12, _) => {
            let node = world
                .node_of(client)
                .map_or(chance.pick(world.nodes()), |(node, _)| node);
            world.join(node, client, room);
        }
        (12..18, Some(node)) => world.leave(node, client, room),
        (18..36, Some(_)) => world.set_presence(client, room, &format!("{client}@{step}")),
        (36..44, Some(node)) => world.set_status(node, client, room, ["x", "y"][chance.pick(2)], &step.to_string()),
        (44..48, Some(node)) => world.send(node, client, room, &step.to_string(), Vec::new()),
        (48..50, _) => world.end(client),
        (50..53, _) => match world.node_of(client) {
            Some((node, true)) => world.detach(node, client),
            Some((node, false)) => world.attach(node, client),
            None => {}
        },
        (53..55, _) => world.crash(from, chance.below(2) == 0),
        (55..58, _) => world.cut(from, to, chance.below(2) == 0),
        (58..64, _) => world.connect(),
        (64..76, _) => {
            world.take(from, to);
        }
        (76..88, _) => {
            world.deliver(from, to);
        }
        (88..95, _) => {
            world.read(client);
        }
        (95..98, _) => world.pass(Duration::from_secs(1)),
        (98..99, _) => world.pass(Duration::from_secs(6)),
        _ => {}
    }
}
