//! Which live queries a change is shown to: no fewer than it may touch (the random tests beside the code), and few more.

use std::collections::BTreeSet;

use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, NTP64, timestamp},
    graph::Graph,
    id::{EntityId, NodeId, OriginId, Predicate, Seq, Tag},
    query::{
        eval::Budget,
        from_text,
        live::{Live, LiveId, Registry},
    },
    value::Value,
};

#[derive(Default)]
struct World {
    graph: Graph,
    registry: Registry,
    seq: u64,
}

impl World {
    fn follow(&mut self, id: u64, query: &str) {
        let query = from_text(query).expect("it is a query");
        let live = Live::open(&query, &self.graph, Budget::default()).expect("it can be followed");
        self.registry.insert(LiveId(id), &live, &self.graph);
    }

    /// Sets one field: the queries that hear of it.
    fn set(&mut self, subject: &str, field: &str, value: &str) -> Vec<u64> {
        self.seq += 1;
        let set = ChangeSet {
            timestamp: timestamp(NTP64(self.seq), ClientId::from_random(1)),
            number: self.seq,
            changes: vec![Change::Set {
                subject: EntityId::new(subject).expect("an id"),
                predicate: Predicate::new(field).expect("a predicate"),
                value: Value::string(value),
            }],
        };
        let origin = OriginId {
            node: NodeId(1),
            incarnation: 1,
        };
        let tag = Tag {
            origin,
            seq: Seq(self.seq),
        };
        let delta = self.graph.apply_set(tag, &set);
        let mut touched = BTreeSet::new();
        for triple in delta.added.iter().chain(&delta.removed) {
            self.registry.touched(triple, &self.graph, |id| {
                touched.insert(id.0);
            });
        }
        touched.into_iter().collect()
    }
}

#[test]
fn only_queries_whose_constant_the_subject_has_hear_of_what_stands_beside_it() {
    let mut world = World::default();
    for (post, channel) in [("p1", "red"), ("p2", "blue")] {
        world.set(post, "post/channel", channel);
        world.set(post, "post/text", "first");
    }
    for (id, channel) in [(1, "red"), (2, "blue"), (3, "green, which nobody has used yet")] {
        world.follow(
            id,
            &format!("post where channel = {channel:?} order by text {{ text }}"),
        );
    }
    world.follow(4, "post order by text { text }");
    // What the store had not met stands under its field alone.
    assert_eq!(world.set("p1", "post/text", "second"), [1, 3, 4]);
    assert_eq!(world.set("p2", "post/text", "second"), [2, 3, 4]);
    // Who leaves one channel for another concerns both.
    assert_eq!(world.set("p1", "post/channel", "blue"), [1, 2, 4]);
    assert_eq!(world.set("p1", "post/text", "third"), [2, 3, 4]);
    world.registry.remove(LiveId(2));
    assert_eq!(world.set("p1", "post/text", "fourth"), [3, 4]);
}
