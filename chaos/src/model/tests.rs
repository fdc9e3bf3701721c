//! The rules one by one, and the model against the store that clients and nodes are built on.

use std::collections::BTreeMap;

use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, NTP64, timestamp},
    id::{EntityId, NodeId, OriginId, Predicate, Seq, Tag},
    store::{self, MemoryStore},
    value::Value,
};
use proptest::prelude::*;

use super::{Answer, Cell, Entity, History, State, Written};

fn entity(name: &str) -> EntityId {
    EntityId::new(name).unwrap()
}

fn field(name: &str) -> Predicate {
    Predicate::new(name).unwrap()
}

fn tag(node: u64, seq: u64) -> Tag {
    Tag {
        origin: OriginId {
            node: NodeId(node),
            incarnation: 1,
        },
        seq: Seq(seq),
    }
}

fn set_of(time: u64, client: u128, changes: Vec<Change>) -> ChangeSet {
    ChangeSet {
        timestamp: timestamp(NTP64(time), ClientId::from_random(client)),
        number: 1,
        changes,
    }
}

/// `+x` and `-x` add and remove, `=x` sets, `=` unsets, `*` creates, `!` deletes; all of entity `e`, field `t/f`.
fn change(text: &str) -> Change {
    let (subject, predicate) = (entity("e"), field("t/f"));
    let value = Value::string(&text[1..]);
    match (text.as_bytes()[0], text.len()) {
        (b'+', _) => Change::Add {
            subject,
            predicate,
            value,
        },
        (b'-', _) => Change::Remove {
            subject,
            predicate,
            value,
        },
        (b'=', 1) => Change::Unset { subject, predicate },
        (b'=', _) => Change::Set {
            subject,
            predicate,
            value,
        },
        (b'*', _) => Change::Create { subject },
        _ => Change::Delete { subject },
    }
}

fn changes(text: &str) -> Vec<Change> {
    text.split_whitespace().map(change).collect()
}

/// A history of sets `(time, changes)`, each by a client of its own, committed by one node in this order.
fn history(sets: &[(u64, &str)]) -> History {
    let mut history = History::default();
    for ((time, text), seq) in sets.iter().zip(1..) {
        let set = set_of(*time, u128::from(seq), changes(text));
        history.add(tag(1, seq), set).unwrap();
    }
    history
}

#[track_caller]
fn shows(sets: &[(u64, &str)], expected: &[&str]) {
    let state = history(sets).state();
    let found: Vec<Value> = state.triples().into_iter().map(|(_, _, value)| value.clone()).collect();
    let expected: Vec<Value> = expected.iter().map(|text| Value::string(text)).collect();
    assert_eq!(found, expected);
}

#[test]
fn the_later_register_write_wins_and_unset_is_the_smallest() {
    shows(&[(2, "=b"), (1, "=a")], &["b"]);
    shows(&[(1, "=b"), (2, "=a"), (3, "=")], &[]);
    // One client that stamps twice with one time: the larger value.
    let mut faulty = History::default();
    for (at, text) in [(1, "=a"), (2, "=b"), (3, "=")] {
        faulty.add(tag(1, at), set_of(5, 1, changes(text))).unwrap();
    }
    assert_eq!(faulty.state().triples().len(), 1);
    assert_eq!(faulty.state().triples()[0].2, &Value::string("b"));
}

#[test]
fn elements_count_alone_and_a_register_write_hides_older_ones_for_good() {
    shows(&[(1, "+a"), (2, "+b"), (3, "-a")], &["b"]);
    shows(&[(1, "+a"), (3, "+b"), (2, "=x")], &["x", "b"]);
    shows(&[(1, "+a"), (2, "=x"), (3, "=")], &[]);
    shows(&[(1, "+a +b"), (2, "= +c +d")], &["c", "d"]);
}

#[test]
fn within_a_set_the_later_change_replaces_the_earlier() {
    shows(&[(1, "=a =b")], &["b"]);
    shows(&[(1, "+a -a")], &[]);
    shows(&[(1, "-a +a")], &["a"]);
    shows(&[(1, "=a = +b")], &["b"]);
}

#[test]
fn a_tombstone_beats_everything_whatever_the_time() {
    shows(&[(1, "!"), (9, "=a"), (10, "* +b")], &[]);
    let state = history(&[(5, "!"), (3, "!")]).state();
    assert_eq!(state.entities[&entity("e")], Entity::Deleted(tag(1, 1)));
}

#[test]
fn a_tag_has_one_content() {
    let mut twice = history(&[(1, "=a")]);
    let other = set_of(1, 1, changes("=b"));
    assert_eq!(twice.add(tag(1, 1), other).unwrap_err().tag, tag(1, 1));
    let same = set_of(1, 1, changes("=a"));
    assert_eq!(twice.add(tag(1, 1), same), Ok(()));
}

#[test]
fn a_push_hears_what_lost_and_what_must_wait() {
    let taken = |superseded: &[u32]| Answer::Taken {
        superseded: superseded.to_vec(),
    };
    let check = |held: &[(u64, &str)], push: &str, covers, answer: Answer| {
        let found = history(held).answer(&set_of(9, 9, changes(push)), covers);
        assert_eq!(found, answer, "{held:?} <- {push}");
    };
    check(&[(1, "* =a")], "=b +c", true, taken(&[]));
    check(&[], "* =b", false, taken(&[]));
    check(&[], "=b * +c", true, taken(&[]));
    check(&[], "=b +c", true, taken(&[0, 1]));
    check(&[], "=b +c", false, Answer::Retry);
    check(&[], "!", false, taken(&[]));
    check(&[], "=b !", true, taken(&[0]));
    check(&[(1, "* =a"), (2, "!")], "=b !", false, taken(&[0, 1]));
    check(&[(1, "* =a"), (2, "!")], "* =b", true, taken(&[0, 1]));
    check(&[(1, "*")], "=b", false, taken(&[]));
    let set = set_of(9, 9, changes("=b * +c"));
    assert_eq!(History::effective(&set, &[0, 2]).changes, changes("*"));
}

#[test]
fn what_was_collected_is_forgotten_but_never_shows() {
    let mut collected = history(&[(1, "* =a"), (2, "!"), (3, "=b")]);
    collected.collect(entity("e"));
    assert_eq!(collected.state(), State::default());
    let push = set_of(9, 9, changes("=b"));
    assert_eq!(collected.answer(&push, false), Answer::Retry);
    assert_eq!(collected.answer(&push, true), Answer::Taken { superseded: vec![0] });
}

#[test]
fn differences_name_what_must_be_and_what_is() {
    let (must, is) = (history(&[(1, "=a"), (2, "=b")]).state(), history(&[(1, "=a")]).state());
    let lines = must.differences(&is);
    assert_eq!(lines, [r#"e: must be t/f [String("b")], is t/f [String("a")]"#]);
    assert_eq!(must.differences(&must), Vec::<String>::new());
}

/// What the store holds, in the model's types. Entities that were only created leave no trace in it.
fn state_of(store: &MemoryStore) -> State {
    let cell = |cell: &store::Cell| Cell {
        register: cell.register.as_ref().map(|register| Written {
            content: register.value.clone(),
            timestamp: register.timestamp,
            tag: register.tag,
        }),
        elements: cell
            .elements
            .iter()
            .map(|(value, element)| {
                let written = Written {
                    content: element.present,
                    timestamp: element.timestamp,
                    tag: element.tag,
                };
                (value.clone(), written)
            })
            .collect(),
    };
    let entities = store.entities().map(|(subject, entity)| {
        let entity = match entity {
            store::Entity::Deleted(tag) => Entity::Deleted(*tag),
            store::Entity::Live(cells) => {
                let cells = cells.iter().map(|(predicate, held)| (predicate.clone(), cell(held)));
                Entity::Live(cells.collect())
            }
        };
        (subject.clone(), entity)
    });
    State {
        entities: entities.collect(),
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[ab\\x00]{0,2}".prop_map(|text| Value::string(&text)),
        proptest::collection::vec(0..2_u8, 0..3).prop_map(|bytes| Value::Bytes(bytes.into())),
        "[1-3]".prop_map(|text| Value::Json(text.as_str().into())),
        (-2..3_i32).prop_map(|number| Value::number(f64::from(number) / 2.0).unwrap()),
        any::<bool>().prop_map(Value::Boolean),
        (-1..2_i64).prop_map(Value::Date),
    ]
}

fn any_change() -> impl Strategy<Value = Change> {
    let subject = "[a-c]".prop_map(|text| entity(&text));
    let predicate = "t/[fg]".prop_map(|text| field(&text));
    (subject, predicate, any_value(), 0..14_u8).prop_map(|(subject, predicate, value, kind)| match kind {
        0..=3 => Change::Set {
            subject,
            predicate,
            value,
        },
        4 | 5 => Change::Unset { subject, predicate },
        6..=8 => Change::Add {
            subject,
            predicate,
            value,
        },
        9 | 10 => Change::Remove {
            subject,
            predicate,
            value,
        },
        11 | 12 => Change::Create { subject },
        _ => Change::Delete { subject },
    })
}

/// Few clients and few times, so that most writes meet another of the same time; some sets under two tags, as after a
/// lost answer.
fn any_history() -> impl Strategy<Value = Vec<(Tag, ChangeSet)>> {
    let set = (0..5_u64, 1..4_u128, proptest::collection::vec(any_change(), 0..6))
        .prop_map(|(time, client, changes)| set_of(time, client, changes));
    let twice = proptest::bool::weighted(0.2);
    proptest::collection::vec((set, 1..4_u64, twice, 1..4_u64), 0..10).prop_map(|sets| {
        let mut seqs: BTreeMap<u64, u64> = BTreeMap::new();
        let mut next = |node| {
            let seq = seqs.entry(node).or_default();
            *seq += 1;
            tag(node, *seq)
        };
        let mut history = Vec::new();
        for (set, node, twice, other) in sets {
            history.push((next(node), set.clone()));
            if twice && other != node {
                history.push((next(other), set));
            }
        }
        history
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8_000))]

    #[test]
    fn the_store_shows_what_the_rules_say_in_whatever_order_sets_arrive(
        sets in any_history(),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let mut history = History::default();
        for (tag, set) in &sets {
            history.add(*tag, set.clone()).unwrap();
        }
        let mut store = MemoryStore::default();
        // Some sets early, out of order and perhaps more than once; then all of them.
        if !sets.is_empty() {
            for at in &order {
                let (tag, set) = &sets[at.index(sets.len())];
                store.apply_set(*tag, set);
            }
        }
        for (tag, set) in &sets {
            store.apply_set(*tag, set);
        }
        let mut must = history.state();
        prop_assert_eq!(must.fingerprint(), store.fingerprint());
        let bare = |entity: &Entity| matches!(entity, Entity::Live(cells) if cells.is_empty());
        must.entities.retain(|_, entity| !bare(entity));
        let is = state_of(&store);
        prop_assert_eq!(must.differences(&is), Vec::<String>::new());
        prop_assert_eq!(&must, &is);
        for subject in must.entities.keys() {
            let shown: Vec<_> = store.triples(subject).collect();
            prop_assert_eq!(must.triples_of(subject), shown);
        }
    }

    #[test]
    fn what_an_origin_leaves_out_changes_nothing_but_unknown_entities(sets in any_history()) {
        // A node that holds everything and knows every entity leaves out exactly what a tombstone beats.
        let mut whole = History::default();
        let mut effective = History::default();
        let known = set_of(0, 1, ["a", "b", "c"].map(|name| Change::Create { subject: entity(name) }).to_vec());
        for history in [&mut whole, &mut effective] {
            history.add(tag(9, 1), known.clone()).unwrap();
        }
        for (tag, set) in sets {
            let Answer::Taken { superseded } = effective.answer(&set, true) else {
                return Err(TestCaseError::fail("everything is known"));
            };
            effective.add(tag, History::effective(&set, &superseded)).unwrap();
            whole.add(tag, set).unwrap();
        }
        let shown = |history: &History| {
            let mut state = history.state();
            state.entities.values_mut().for_each(|entity| if let Entity::Deleted(held) = entity { *held = tag(0, 0) });
            state
        };
        prop_assert_eq!(shown(&whole), shown(&effective));
    }
}
