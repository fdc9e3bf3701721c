//! The compact map against the standard library's.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use proptest::prelude::*;

use super::{Entry, Map, RUN_MAX, Set};

#[derive(Debug, Clone)]
enum Step {
    Insert(u16, u8),
    Remove(u16),
    Add(u16),
    PopFirst,
    PopLast,
    SplitOff(u16),
    Append(Vec<(u16, u8)>),
    Retain(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0_u16..600;
    let step = prop_oneof![
        40 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Insert(key, value)),
        15 => key.clone().prop_map(Step::Remove),
        10 => key.clone().prop_map(Step::Add),
        2 => Just(Step::PopFirst),
        2 => Just(Step::PopLast),
        1 => key.clone().prop_map(Step::SplitOff),
        2 => prop::collection::vec((key, any::<u8>()), 0..300).prop_map(Step::Append),
        1 => any::<u8>().prop_map(Step::Retain),
    ];
    prop::collection::vec(step, 0..200)
}

fn take(step: Step, ours: &mut Map<u16, u8>, theirs: &mut BTreeMap<u16, u8>) {
    match step {
        Step::Insert(key, value) => assert_eq!(ours.insert(key, value), theirs.insert(key, value)),
        Step::Remove(key) => assert_eq!(ours.remove(&key), theirs.remove(&key)),
        Step::Add(key) => {
            if let Entry::Occupied(entry) = ours.entry(key) {
                assert_eq!(entry.get(), &theirs[&key]);
            }
            let plus = |value: &mut u8| *value = value.wrapping_add(1);
            ours.entry(key).and_modify(plus).or_insert(7);
            theirs.entry(key).and_modify(plus).or_insert(7);
        }
        Step::PopFirst => assert_eq!(ours.pop_first(), theirs.pop_first()),
        Step::PopLast => assert_eq!(ours.pop_last(), theirs.pop_last()),
        Step::SplitOff(key) => {
            let (upper, other) = (ours.split_off(&key), theirs.split_off(&key));
            same(&upper, &other);
            *ours = upper;
            *theirs = other;
        }
        Step::Append(entries) => {
            ours.append(&mut entries.iter().copied().collect());
            theirs.append(&mut entries.into_iter().collect());
        }
        Step::Retain(above) => {
            ours.retain(|_, value| *value >= above);
            theirs.retain(|_, value| *value >= above);
        }
    }
}

fn same(ours: &Map<u16, u8>, theirs: &BTreeMap<u16, u8>) {
    assert_eq!(ours.len(), theirs.len());
    assert_eq!(ours.iter().len(), theirs.len());
    assert!(ours.iter().eq(theirs));
    assert!(ours.iter().rev().eq(theirs.iter().rev()));
    assert_eq!(ours.first_key_value(), theirs.first_key_value());
    assert_eq!(ours.last_key_value(), theirs.last_key_value());
    assert!(ours.clone().into_iter().eq(theirs.clone()));
}

proptest! {
    #[test]
    fn a_compact_map_does_what_a_b_tree_does(steps in steps(), from in 0_u16..600, to in 0_u16..600) {
        let (mut ours, mut theirs) = (Map::new(), BTreeMap::new());
        for step in steps {
            take(step, &mut ours, &mut theirs);
            same(&ours, &theirs);
        }
        for key in 0..600 {
            prop_assert_eq!(ours.get(&key), theirs.get(&key));
        }
        let (from, to) = (from.min(to), from.max(to) + 1);
        prop_assert!(ours.range(from..to).eq(theirs.range(from..to)));
        prop_assert!(ours.range(from..to).rev().eq(theirs.range(from..to).rev()));
        prop_assert!(ours.range(..=to).eq(theirs.range(..=to)));
        let behind = (Bound::Excluded(from), Bound::Unbounded);
        prop_assert!(ours.range(behind).eq(theirs.range(behind)));
    }

    #[test]
    fn a_compact_set_does_what_a_b_tree_does(a: BTreeSet<u8>, b: BTreeSet<u8>) {
        let (ours, other): (Set<u8>, Set<u8>) = (a.iter().copied().collect(), b.iter().copied().collect());
        prop_assert!(ours.iter().eq(&a));
        prop_assert!(ours.union(&other).eq(a.union(&b)));
        prop_assert!(ours.difference(&other).eq(a.difference(&b)));
        prop_assert!(ours.intersection(&other).eq(a.intersection(&b)));
        prop_assert_eq!(ours.is_subset(&other), a.is_subset(&b));
        prop_assert_eq!(ours.cmp(&other), a.cmp(&b));
        prop_assert_eq!(format!("{ours:?}"), format!("{a:?}"));
    }
}

#[test]
fn keys_that_come_in_their_order_fill_their_runs() {
    let map: Map<usize, ()> = (0..RUN_MAX * 10).map(|key| (key, ())).collect();
    assert_eq!(map.runs(), 10);
}
