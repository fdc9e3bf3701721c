//! The in-memory triple store: the rules of merge in their plainest form.
//!
//! Clients keep their data in it; a node's storage is checked against it. It is a function of the set of
//! (tag, timestamp, change) that it took in: neither order nor repetition matters.

use uhlc::Timestamp;

use crate::collections::BTreeMap;
use crate::{
    change::{Change, ChangeSet},
    fingerprint::{Fingerprint, Part},
    id::{EntityId, Predicate, Tag},
    merge::{Element, Outcome, Register, meet_tombstones},
    value::Value,
};

/// A register and a set of elements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    /// The last register write.
    pub register: Option<Register>,
    /// The elements that no register write hides, removed ones included.
    pub elements: BTreeMap<Value, Element>,
}

/// All that is known of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entity {
    /// Deleted, by the commit with this tag.
    Deleted(Tag),
    /// Its cells.
    Live(BTreeMap<Predicate, Cell>),
}

/// Triples in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryStore {
    entities: BTreeMap<EntityId, Entity>,
    fingerprint: Fingerprint,
}

impl MemoryStore {
    /// Takes in a change set that was committed under `tag`.
    pub fn apply_set(&mut self, tag: Tag, set: &ChangeSet) {
        let mut set = set.clone();
        set.normalize();
        for change in &set.changes {
            self.apply(tag, &set.timestamp, change);
        }
    }

    /// Takes in one change of a normalized set. Changes that are not understood leave no trace here.
    pub fn apply(&mut self, tag: Tag, timestamp: &Timestamp, change: &Change) {
        match change {
            Change::Delete { subject } => self.delete(subject, tag),
            Change::Set {
                subject,
                predicate,
                value,
            } => {
                self.write_register(
                    subject,
                    predicate,
                    Register {
                        timestamp: *timestamp,
                        value: Some(value.clone()),
                        tag,
                    },
                );
            }
            Change::Unset { subject, predicate } => {
                self.write_register(
                    subject,
                    predicate,
                    Register {
                        timestamp: *timestamp,
                        value: None,
                        tag,
                    },
                );
            }
            Change::Add {
                subject,
                predicate,
                value,
            } => {
                self.write_element(
                    subject,
                    predicate,
                    value,
                    Element {
                        timestamp: *timestamp,
                        present: true,
                        tag,
                    },
                );
            }
            Change::Remove {
                subject,
                predicate,
                value,
            } => {
                self.write_element(
                    subject,
                    predicate,
                    value,
                    Element {
                        timestamp: *timestamp,
                        present: false,
                        tag,
                    },
                );
            }
            Change::Create { .. } | Change::Opaque { .. } => {}
        }
    }

    /// The sum over all live facts.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What is known of `subject`.
    pub fn entity(&self, subject: &EntityId) -> Option<&Entity> {
        self.entities.get(subject)
    }

    /// All entities, deleted ones included, in the order of their ids.
    pub fn entities(&self) -> impl Iterator<Item = (&EntityId, &Entity)> {
        self.entities.iter()
    }

    /// The live triples of `subject`, in the order of predicates and values.
    pub fn triples(&self, subject: &EntityId) -> impl Iterator<Item = (&Predicate, &Value)> {
        let cells = match self.entities.get(subject) {
            Some(Entity::Live(cells)) => Some(cells),
            Some(Entity::Deleted(_)) | None => None,
        };
        cells
            .into_iter()
            .flatten()
            .flat_map(|(predicate, cell)| cell.values().map(move |value| (predicate, value)))
    }

    fn delete(&mut self, subject: &EntityId, tag: Tag) {
        let entity = self
            .entities
            .entry(subject.clone())
            .or_insert_with(|| Entity::Live(BTreeMap::new()));
        match entity {
            Entity::Deleted(held) => {
                if meet_tombstones(*held, tag) == Outcome::Retagged {
                    *held = tag;
                }
            }
            Entity::Live(cells) => {
                for (predicate, cell) in std::mem::take(cells) {
                    self.fingerprint = self.fingerprint.minus(cell.fingerprint(subject, &predicate));
                }
                *entity = Entity::Deleted(tag);
            }
        }
    }

    fn write_register(&mut self, subject: &EntityId, predicate: &Predicate, write: Register) {
        self.change_cell(subject, predicate, |cell| cell.write_register(write));
    }

    fn write_element(&mut self, subject: &EntityId, predicate: &Predicate, value: &Value, write: Element) {
        self.change_cell(subject, predicate, |cell| cell.write_element(value, write));
    }

    fn change_cell(&mut self, subject: &EntityId, predicate: &Predicate, change: impl FnOnce(&mut Cell)) {
        let entity = self
            .entities
            .entry(subject.clone())
            .or_insert_with(|| Entity::Live(BTreeMap::new()));
        let Entity::Live(cells) = entity else { return };
        let cell = cells.entry(predicate.clone()).or_default();
        let before = cell.fingerprint(subject, predicate);
        change(cell);
        self.fingerprint = self
            .fingerprint
            .minus(before)
            .plus(cell.fingerprint(subject, predicate));
    }
}

impl Cell {
    /// What shows: the register's value, if it has one, and the elements that are in.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        let register = self.register.as_ref().and_then(|register| register.value.as_ref());
        register.into_iter().chain(
            self.elements
                .iter()
                .filter(|(_, element)| element.present)
                .map(|(value, _)| value),
        )
    }

    fn write_register(&mut self, write: Register) {
        let outcome = self
            .register
            .as_ref()
            .map_or(Outcome::Replaced, |held| held.meet(&write));
        if outcome != Outcome::Stays {
            self.elements.retain(|_, element| !write.hides(&element.timestamp));
            self.register = Some(write);
        }
    }

    fn write_element(&mut self, value: &Value, write: Element) {
        if self
            .register
            .as_ref()
            .is_some_and(|register| register.hides(&write.timestamp))
        {
            return;
        }
        let outcome = self
            .elements
            .get(value)
            .map_or(Outcome::Replaced, |held| held.meet(&write));
        if outcome != Outcome::Stays {
            self.elements.insert(value.clone(), write);
        }
    }

    fn fingerprint(&self, subject: &EntityId, predicate: &Predicate) -> Fingerprint {
        let mut sum = Fingerprint::default();
        if let Some(Register {
            timestamp,
            value: Some(value),
            ..
        }) = &self.register
        {
            sum = sum.plus(Fingerprint::of(
                subject,
                predicate,
                Part::Register,
                &value.encode(),
                timestamp,
            ));
        }
        for (value, element) in self.elements.iter().filter(|(_, element)| element.present) {
            sum = sum.plus(Fingerprint::of(
                subject,
                predicate,
                Part::Element,
                &value.encode(),
                &element.timestamp,
            ));
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::query::testing::cases;
    use crate::{
        change::tests::any_set,
        id::{NodeId, OriginId, Seq},
    };

    fn tag(at: usize) -> Tag {
        Tag {
            origin: OriginId {
                node: NodeId(1 + (at % 2) as u64),
                incarnation: 1,
            },
            seq: Seq(1 + (at / 2) as u64),
        }
    }

    /// All changes of all sets, one by one, as a catch-up in small batches would bring them.
    fn singles(sets: &[ChangeSet]) -> Vec<(Tag, Timestamp, Change)> {
        let mut singles = Vec::new();
        for (at, set) in sets.iter().enumerate() {
            let mut set = set.clone();
            set.normalize();
            singles.extend(set.changes.into_iter().map(|change| (tag(at), set.timestamp, change)));
        }
        singles
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(cases(1_000)))]
        #[test]
        fn any_order_any_repetition_and_any_split_give_the_same_state(
            sets in proptest::collection::vec(any_set(), 0..8),
            seed in any::<prop::sample::Index>(),
            shuffled in Just(()).prop_perturb(|(), mut rng| (0..64).map(|_| rng.next_u32() as usize).collect::<Vec<_>>()),
        ) {
            let mut whole = MemoryStore::default();
            for (at, set) in sets.iter().enumerate() {
                whole.apply_set(tag(at), set);
            }
            let mut singles = singles(&sets);
            if !singles.is_empty() {
                let again = singles[seed.index(singles.len())].clone();
                singles.push(again);
            }
            for (at, other) in shuffled.iter().enumerate().take(singles.len()) {
                let len = singles.len();
                singles.swap(at, other % len);
            }
            let mut split = MemoryStore::default();
            for (tag, timestamp, change) in &singles {
                split.apply(*tag, timestamp, change);
            }
            prop_assert_eq!(&whole.fingerprint, &split.fingerprint);
            prop_assert_eq!(whole, split);
        }

        #[test]
        fn what_is_deleted_shows_nothing_ever_again(sets in proptest::collection::vec(any_set(), 0..8)) {
            let mut store = MemoryStore::default();
            let mut deleted = Vec::new();
            for (at, set) in sets.iter().enumerate() {
                store.apply_set(tag(at), set);
                deleted.extend(set.changes.iter().filter_map(|change| match change {
                    Change::Delete { subject } => Some(subject.clone()),
                    _ => None,
                }));
                for subject in &deleted {
                    prop_assert_eq!(store.triples(subject).count(), 0);
                }
            }
        }
    }
}
