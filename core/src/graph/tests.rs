//! The graph against the plainest store, and its indexes against what it shows.

use proptest::prelude::*;
use uhlc::Timestamp;

use super::*;
use crate::collections::{BTreeMap, BTreeSet};
use crate::{
    change::{Change, ChangeSet, tests::any_set},
    id::{NodeId, OriginId, Seq},
    query::testing::cases,
    store::{Entity, MemoryStore},
};

type Shown = BTreeSet<(EntityId, Predicate, Value)>;

fn tag(at: usize) -> Tag {
    Tag {
        origin: OriginId {
            node: NodeId(1 + (at % 2) as u64),
            incarnation: 1,
        },
        seq: Seq(1 + (at / 2) as u64),
    }
}

fn of_memory(store: &MemoryStore) -> Shown {
    let subjects = store.entities().map(|(subject, _)| subject);
    subjects
        .flat_map(|subject| {
            store
                .triples(subject)
                .map(|(predicate, value)| (subject.clone(), predicate.clone(), value.clone()))
        })
        .collect()
}

fn named(graph: &Graph, triple: &Triple) -> (EntityId, Predicate, Value) {
    let dictionary = graph.dictionary();
    (
        dictionary.entity(triple.subject).clone(),
        dictionary.predicate(triple.predicate).clone(),
        dictionary.value(triple.object),
    )
}

fn of_graph(graph: &Graph) -> Shown {
    let numbers = 0..u32::try_from(graph.entities.len()).unwrap();
    let mut fields = Vec::new();
    let mut shown = Vec::new();
    for subject in numbers.map(EntityNumber) {
        fields.clear();
        graph.fields_of(subject, &mut fields);
        for &(predicate, object) in &fields {
            let triple = Triple {
                subject,
                predicate,
                object,
            };
            shown.push(named(graph, &triple));
        }
    }
    let set: Shown = shown.iter().cloned().collect();
    assert_eq!(set.len(), shown.len(), "a triple shows once");
    set
}

/// Every index holds what shows, in the order of values, with the right counts.
fn check_indexes(graph: &Graph) {
    let shown = of_graph(graph);
    assert_eq!(graph.len(), shown.len());
    let mut indexed = Shown::new();
    for (number, index) in graph.values.iter().enumerate() {
        let predicate = PredicateNumber(u32::try_from(number).unwrap());
        let (start, end) = (Ordered::start(), index.entries.end());
        let (mut place, mut entries) = (start, Vec::new());
        while place < end {
            let slice = index.entries.forward(place, end);
            entries.extend_from_slice(slice);
            place = index.entries.ahead(place, slice.len());
        }
        let mut backwards = Vec::new();
        let mut place = end;
        while place > start {
            let slice = index.entries.backward(place, start);
            backwards.extend(slice.iter().rev());
            place = index.entries.back(place, slice.len());
        }
        backwards.reverse();
        assert_eq!(entries, backwards);
        assert_eq!(entries.len(), index.entries.len());
        assert_eq!(index.entries.count(&(start..end)), entries.len());
        let values: Vec<Value> = entries
            .iter()
            .map(|entry| graph.dictionary.value(entry.object()))
            .collect();
        let not_refs: Vec<&Value> = values.iter().filter(|value| !matches!(value, Value::Ref(_))).collect();
        assert!(not_refs.is_sorted(), "{values:?}");
        let objects: BTreeSet<Term> = entries.iter().map(|entry| entry.object()).collect();
        assert_eq!(index.entries.objects(), objects.len());
        for object in objects {
            let range = index.entries.equal(&graph.dictionary, object);
            let same = entries.iter().filter(|entry| entry.object() == object).count();
            assert_eq!(index.entries.count(&range), same);
        }
        let subjects: BTreeSet<EntityNumber> = entries.iter().map(|entry| entry.subject()).collect();
        assert_eq!(index.subjects, subjects.len());
        indexed.extend(entries.iter().map(|entry| {
            let triple = Triple {
                subject: entry.subject(),
                predicate,
                object: entry.object(),
            };
            named(graph, &triple)
        }));
    }
    assert_eq!(indexed, shown);
    for of_type in &graph.types {
        let entities: BTreeSet<&EntityId> = shown
            .iter()
            .filter(|(_, predicate, _)| predicate.entity_type() == &*of_type.name)
            .map(|(subject, ..)| subject)
            .collect();
        assert_eq!(of_type.entities, entities.len());
    }
}

/// The delta leads from what showed before to what shows now.
fn check_delta(graph: &Graph, before: &Shown, delta: &Delta) {
    let after = of_graph(graph);
    let added: Shown = delta.added.iter().map(|triple| named(graph, triple)).collect();
    let removed: Shown = delta.removed.iter().map(|triple| named(graph, triple)).collect();
    assert_eq!((added.len(), removed.len()), (delta.added.len(), delta.removed.len()));
    assert_eq!(added, &after - before);
    assert_eq!(removed, before - &after);
}

fn step(graph: &mut Graph, change: impl FnOnce(&mut Graph) -> Delta) {
    let before = of_graph(graph);
    let delta = change(graph);
    check_delta(graph, &before, &delta);
    check_indexes(graph);
}

fn singles(sets: &[ChangeSet]) -> Vec<(Tag, Timestamp, Change)> {
    let mut singles = Vec::new();
    for (at, set) in sets.iter().enumerate() {
        let mut set = set.clone();
        set.normalize();
        singles.extend(set.changes.into_iter().map(|change| (tag(at), set.timestamp, change)));
    }
    singles
}

fn same(graph: &Graph, store: &MemoryStore) {
    assert_eq!(of_graph(graph), of_memory(store));
    assert_eq!(graph.fingerprint(), store.fingerprint());
    for (subject, entity) in store.entities() {
        let number = graph.dictionary().entity_number(subject).unwrap();
        assert_eq!(graph.is_deleted(number), matches!(entity, Entity::Deleted(_)));
        assert!(graph.is_known(subject));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(1_500)))]
    #[test]
    fn sets_in_order_and_single_changes_in_any_order_give_what_the_plain_store_gives(
        sets in proptest::collection::vec(any_set(), 0..8),
        again in any::<prop::sample::Index>(),
        shuffled in proptest::collection::vec(any::<prop::sample::Index>(), 64),
    ) {
        let mut store = MemoryStore::default();
        let mut whole = Graph::default();
        for (at, set) in sets.iter().enumerate() {
            store.apply_set(tag(at), set);
            step(&mut whole, |graph| graph.apply_set(tag(at), set));
        }
        same(&whole, &store);
        let mut singles = singles(&sets);
        if !singles.is_empty() {
            let one = singles[again.index(singles.len())].clone();
            singles.push(one);
        }
        for (at, other) in shuffled.iter().enumerate().take(singles.len()) {
            let other = other.index(singles.len());
            singles.swap(at, other);
        }
        let mut split = Graph::default();
        for (tag, timestamp, change) in &singles {
            step(&mut split, |graph| graph.apply(*tag, timestamp, change));
        }
        same(&split, &store);
    }

    #[test]
    fn what_is_loaded_at_once_gives_what_comes_one_by_one_gives(
        sets in proptest::collection::vec(any_set(), 0..8),
        loads in proptest::collection::vec(any::<bool>(), 8),
    ) {
        let mut store = MemoryStore::default();
        let mut graph = Graph::default();
        for (at, (set, begins)) in sets.iter().zip(loads).enumerate() {
            store.apply_set(tag(at), set);
            if begins {
                graph.begin_load();
            }
            graph.apply_set(tag(at), set);
        }
        graph.end_load();
        same(&graph, &store);
        check_indexes(&graph);
    }

    #[test]
    fn what_shows_is_the_confirmed_state_joined_with_what_is_pending(
        sets in proptest::collection::vec(any_set(), 1..8),
        steps in proptest::collection::vec((0..4_u8, any::<prop::sample::Index>()), 0..24),
    ) {
        let sets: Vec<ChangeSet> = sets
            .into_iter()
            .enumerate()
            .map(|(at, set)| ChangeSet { number: at as u64, ..set })
            .collect();
        let mut graph = Graph::default();
        let mut confirmed: BTreeMap<usize, ChangeSet> = BTreeMap::new();
        let mut pending: BTreeMap<usize, ChangeSet> = BTreeMap::new();
        for (what, which) in steps {
            let at = which.index(sets.len());
            let set = &sets[at];
            match what {
                0 => {
                    pending.insert(at, set.clone());
                    step(&mut graph, |graph| graph.propose(set));
                }
                1 => {
                    pending.remove(&at);
                    step(&mut graph, |graph| graph.withdraw(SetId::of(set)));
                }
                2 => {
                    confirmed.insert(at, set.clone());
                    step(&mut graph, |graph| graph.apply_set(tag(at), set));
                }
                _ => {
                    pending.remove(&at);
                    confirmed.insert(at, set.clone());
                    step(&mut graph, |graph| graph.confirm(tag(at), set));
                }
            }
            let mut store = MemoryStore::default();
            for (at, set) in &confirmed {
                store.apply_set(tag(*at), set);
            }
            prop_assert_eq!(graph.fingerprint(), store.fingerprint());
            for set in pending.values() {
                store.apply_set(origins::UNCOMMITTED, set);
            }
            prop_assert_eq!(of_graph(&graph), of_memory(&store));
            prop_assert_eq!(graph.overlay.shadows.is_empty(), pending.values().all(|set| {
                set.changes.iter().all(|change| matches!(change, Change::Create { .. }))
            }));
        }
    }

    #[test]
    fn a_term_is_its_value_and_sorts_like_it(
        a in crate::value::tests::any_value(), b in crate::value::tests::any_value(), stem in "[ab]{6,10}",
        x in "[a\\x00]{0,3}", y in "[a\\x00]{0,3}",
    ) {
        let mut dictionary = Dictionary::default();
        let texts = [Value::string(&format!("{stem}{x}")), Value::string(&format!("{stem}{y}")), a, b];
        let terms: Vec<Term> = texts.iter().map(|value| dictionary.intern(value)).collect();
        for (one, x) in texts.iter().zip(&terms) {
            prop_assert_eq!(&dictionary.value(*x), one);
            prop_assert_eq!(dictionary.term(one), Some(*x));
            let mut bytes = Vec::new();
            dictionary.encode_to(*x, &mut bytes);
            prop_assert_eq!(bytes, one.encode());
            for (other, y) in texts.iter().zip(&terms) {
                prop_assert_eq!(dictionary.compare(*x, *y), one.cmp(other));
            }
        }
    }
}

/// Few into many, many into few, and what is there already.
#[test]
fn a_load_is_as_many_inserts() {
    let dictionary = Dictionary::default();
    let entry = |number: u32| {
        let object = Term::number(crate::value::Number::new(f64::from(number % 997)).unwrap());
        Entry::new(object, EntityNumber(number))
    };
    let (mut loaded, mut put) = (Ordered::default(), Ordered::default());
    for (from, many) in [(0, 3), (1, 5_000), (4_000, 2_000), (9_000, 100), (0, 7)] {
        let entries: Vec<Entry> = (from..from + many).rev().map(|at| entry(at * 31)).collect();
        let new = entries.iter().filter(|one| put.insert(&dictionary, **one)).count();
        assert_eq!(loaded.load(&dictionary, entries), new);
        assert_eq!((loaded.len(), loaded.objects()), (put.len(), put.objects()));
        let all = |index: &Ordered| index.chunks.iter().flatten().copied().collect::<Vec<Entry>>();
        assert_eq!(all(&loaded), all(&put));
        assert!(loaded.firsts.iter().eq(loaded.chunks.iter().map(|chunk| &chunk[0])));
    }
}

/// A chunk splits, fills and empties without losing an entry or a count.
#[test]
fn many_entries_stay_in_order_through_splits_and_joins() {
    let dictionary = Dictionary::default();
    let entry = |number: u32| {
        let object = Term::number(crate::value::Number::new(f64::from(number % 997)).unwrap());
        Entry::new(object, EntityNumber(number))
    };
    let mut index = Ordered::default();
    let mut expected = BTreeSet::new();
    let mut number = 1_u32;
    for round in 0..40_000_u32 {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let one = entry(number >> 16);
        if round < 20_000 || round % 3 == 0 {
            assert_eq!(index.insert(&dictionary, one), expected.insert(one));
        } else {
            let gone = *expected.range(one..).next().unwrap_or(&one);
            assert_eq!(index.remove(&dictionary, gone), expected.remove(&gone));
        }
    }
    let objects: BTreeSet<Term> = expected.iter().map(|entry| entry.object()).collect();
    assert_eq!((index.len(), index.objects()), (expected.len(), objects.len()));
    let (mut place, mut all) = (Ordered::start(), Vec::new());
    while place < index.end() {
        let slice = index.forward(place, index.end());
        all.extend_from_slice(slice);
        place = index.ahead(place, slice.len());
    }
    assert!(all.iter().eq(expected.iter()));
    let from = entry(5_000);
    let to = entry(30_000);
    let range = index.lower(&dictionary, from)..index.upper(&dictionary, to);
    let (from, to) = (from.min(to), to.max(from));
    if range.start <= range.end {
        assert_eq!(index.count(&range), expected.range(from..=to).count());
    }
    for gone in expected {
        assert!(index.remove(&dictionary, gone) && !index.remove(&dictionary, gone));
    }
    assert_eq!((index.len(), index.objects()), (0, 0));
}

proptest! {
    /// What a node sends of an entity makes another graph merge as it does, whatever comes later, late writes too.
    #[test]
    fn what_is_confirmed_of_an_entity_stands_for_all_that_made_it(
        first in proptest::collection::vec(any_set(), 0..8),
        later in proptest::collection::vec(any_set(), 0..4),
    ) {
        let mut graph = Graph::default();
        for (at, set) in first.iter().enumerate() {
            graph.apply_set(tag(at), set);
        }
        let mut copy = Graph::default();
        let mut sum = Fingerprint::default();
        let numbers = 0..u32::try_from(graph.dictionary().entities()).unwrap();
        for entity in numbers.map(EntityNumber) {
            graph.confirmed(entity, |at, change| {
                assert!(graph.holds(&at, &change) || matches!(change, Change::Delete { .. }));
                copy.apply(tag(0), &at, &change);
            });
            sum = sum.plus(graph.fingerprint_of_entity(entity));
        }
        prop_assert_eq!(sum, graph.fingerprint());
        prop_assert_eq!(copy.fingerprint(), graph.fingerprint());
        for (at, set) in later.iter().enumerate() {
            let at = first.len() + at;
            graph.apply_set(tag(at), set);
            // Of what comes, only what holds is sent on.
            for change in set.changes.iter().filter(|change| graph.holds(&set.timestamp, change)) {
                copy.apply(tag(at), &set.timestamp, change);
            }
            prop_assert_eq!(copy.fingerprint(), graph.fingerprint());
        }
    }
}
