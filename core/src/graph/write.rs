//! Taking in changes: merge, then the indexes, then the delta.
//!
//! A set is turned into numbers, sorted by entity and place, and of several writes to one place the last stays, as
//! [`ChangeSet::normalize`] has it. Each write that a cell takes costs O(log n) in the index by value; a set of `k`
//! writes costs O(k log k + k log n).

use uhlc::Timestamp;

use super::{
    Delta, EntityNumber, Entry, Graph, Index, OfType, PredicateNumber, Triple,
    cells::{Cells, Rules, Slot, Stamp, Turn},
};
use crate::collections::BTreeSet;
use crate::{
    change::{Change, ChangeSet},
    fact::{Fact, FactBody},
    id::{EntityId, Predicate, Tag},
    merge::{Outcome, meet_tombstones},
};

/// One write to an entity.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write {
    pub(super) subject: EntityNumber,
    pub(super) act: Act,
}

/// What it does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    /// The tombstone. Sorts before all else of its entity, which it makes void.
    Delete(Tag),
    /// Drops cells without a trace: the triples are still there, but not here any more.
    Forget(Option<PredicateNumber>),
    /// A register's or an element's write.
    Slot(Slot),
}

impl Write {
    fn place(&self) -> (EntityNumber, u8, u64, u128) {
        match self.act {
            Act::Delete(_) => (self.subject, 0, 0, 0),
            Act::Forget(_) => (self.subject, 1, 0, 0),
            Act::Slot(slot) => {
                let (part, term) = slot.place();
                (self.subject, 2, part, term)
            }
        }
    }
}

impl Graph {
    /// Takes in a change set that was committed under `tag`.
    pub fn apply_set(&mut self, tag: Tag, set: &ChangeSet) -> Delta {
        self.apply_raw(tag, set).net()
    }

    /// Takes in one change of a normalized set. Changes that are not understood leave no trace here.
    pub fn apply(&mut self, tag: Tag, timestamp: &Timestamp, change: &Change) -> Delta {
        let stamp = self.origins.stamp(tag, timestamp);
        let write = self.write_of(tag, stamp, change);
        self.take_in(write.as_slice()).net()
    }

    /// Takes in one fact of a catch-up, a resume or an export.
    pub fn apply_fact(&mut self, fact: &Fact) -> Delta {
        let write = match &fact.body {
            FactBody::Register {
                subject,
                predicate,
                timestamp,
                value,
            } => {
                let stamp = self.origins.stamp(fact.tag, timestamp);
                let value = value.as_ref().map(|value| self.dictionary.intern(value));
                let (subject, predicate) = self.numbers(subject, predicate);
                let act = Act::Slot(Slot::register(predicate, value, stamp));
                Write { subject, act }
            }
            FactBody::Element {
                subject,
                predicate,
                timestamp,
                value,
                present,
            } => {
                let stamp = self.origins.stamp(fact.tag, timestamp);
                let value = self.dictionary.intern(value);
                let (subject, predicate) = self.numbers(subject, predicate);
                let act = Act::Slot(Slot::element(predicate, value, *present, stamp));
                Write { subject, act }
            }
            FactBody::Tombstone { subject } => Write {
                subject: self.dictionary.intern_entity(subject),
                act: Act::Delete(fact.tag),
            },
            FactBody::Numbers { .. } | FactBody::Opaque { .. } => return Delta::default(),
        };
        self.take_in(&[write]).net()
    }

    /// Drops an entity, or one of its cells, that nobody here needs any more: also that it was deleted. Pending sets stay.
    pub fn forget(&mut self, subject: &EntityId, predicate: Option<&Predicate>) -> Delta {
        let Some(subject) = self.dictionary.entity_number(subject) else {
            return Delta::default();
        };
        let number = match predicate {
            Some(predicate) => match self.dictionary.predicate_number(predicate) {
                Some(number) => Some(number),
                None => return Delta::default(),
            },
            None => None,
        };
        let act = Act::Forget(number);
        self.take_in(&[Write { subject, act }]).net()
    }

    pub(super) fn apply_raw(&mut self, tag: Tag, set: &ChangeSet) -> Delta {
        let writes = self.writes(tag, set);
        self.take_in(&writes)
    }

    /// A set as it merges, sorted by entity.
    pub(super) fn writes(&mut self, tag: Tag, set: &ChangeSet) -> Vec<Write> {
        let stamp = self.origins.stamp(tag, &set.timestamp);
        let mut writes: Vec<Write> = Vec::with_capacity(set.changes.len());
        for change in &set.changes {
            writes.extend(self.write_of(tag, stamp, change));
        }
        // Most come in order, each place once, and nothing beside a deletion.
        let is_behind = |a: &Write, b: &Write| a.place() < b.place() && !matches!(a.act, Act::Delete(_));
        if writes.is_sorted_by(is_behind) {
            return writes;
        }
        writes.sort_by_key(Write::place);
        let mut kept: Vec<Write> = Vec::with_capacity(writes.len());
        for write in writes {
            match kept.last_mut() {
                Some(last) if last.subject == write.subject && matches!(last.act, Act::Delete(_)) => {}
                Some(last) if last.place() == write.place() => *last = write,
                _ => kept.push(write),
            }
        }
        kept
    }

    fn write_of(&mut self, tag: Tag, stamp: Stamp, change: &Change) -> Option<Write> {
        let (subject, act) = match change {
            Change::Set {
                subject,
                predicate,
                value,
            } => {
                let value = self.dictionary.intern(value);
                let (subject, predicate) = self.numbers(subject, predicate);
                (subject, Act::Slot(Slot::register(predicate, Some(value), stamp)))
            }
            Change::Unset { subject, predicate } => {
                let (subject, predicate) = self.numbers(subject, predicate);
                (subject, Act::Slot(Slot::register(predicate, None, stamp)))
            }
            Change::Add {
                subject,
                predicate,
                value,
            }
            | Change::Remove {
                subject,
                predicate,
                value,
            } => {
                let value = self.dictionary.intern(value);
                let (subject, predicate) = self.numbers(subject, predicate);
                let is_in = matches!(change, Change::Add { .. });
                (subject, Act::Slot(Slot::element(predicate, value, is_in, stamp)))
            }
            Change::Delete { subject } => (self.dictionary.intern_entity(subject), Act::Delete(tag)),
            Change::Create { .. } | Change::Opaque { .. } => return None,
        };
        Some(Write { subject, act })
    }

    fn numbers(&mut self, subject: &EntityId, predicate: &Predicate) -> (EntityNumber, PredicateNumber) {
        let predicate = self.dictionary.intern_predicate(predicate);
        if self.values.len() <= predicate.0 as usize {
            self.add_index(predicate);
        }
        (self.dictionary.intern_entity(subject), predicate)
    }

    /// Takes in confirmed writes that are sorted by entity.
    fn take_in(&mut self, writes: &[Write]) -> Delta {
        let mut delta = Delta::default();
        for of_entity in writes.chunk_by(|a, b| a.subject == b.subject) {
            let subject = of_entity[0].subject;
            if self.overlay.shadows.contains_key(&subject) {
                for write in of_entity {
                    self.act_in_shadow(write);
                }
                self.join(subject, &mut delta);
                continue;
            }
            if of_entity.len() > 1 {
                self.cells_mut(subject).reserve(of_entity.len());
            }
            for write in of_entity {
                self.act(write, &mut delta);
            }
        }
        delta
    }

    fn act(&mut self, write: &Write, delta: &mut Delta) {
        let subject = write.subject;
        let mut turns = std::mem::take(&mut self.turns);
        turns.clear();
        match write.act {
            Act::Slot(slot) => {
                if !self.deleted.contains_key(&subject) {
                    self.ensure(subject);
                    let rules = Rules {
                        dictionary: &self.dictionary,
                        origins: &self.origins,
                    };
                    self.entities[subject.0 as usize].write(rules, slot, |turn| turns.push(turn));
                    self.settle(subject, &turns, delta);
                }
            }
            Act::Delete(tag) => {
                let held = self.deleted.get(&subject).copied();
                if held.is_none_or(|held| meet_tombstones(held, tag) == Outcome::Retagged) {
                    self.deleted.insert(subject, tag);
                }
                self.cells_mut(subject).clear(None, |turn| turns.push(turn));
                self.settle_cleared(subject, &turns, delta);
            }
            Act::Forget(predicate) => {
                if predicate.is_none() {
                    self.deleted.remove(&subject);
                }
                self.cells_mut(subject).clear(predicate, |turn| turns.push(turn));
                self.settle_cleared(subject, &turns, delta);
            }
        }
        self.turns = turns;
    }

    fn act_in_shadow(&mut self, write: &Write) {
        let shadow = self.overlay.shadows.entry(write.subject).or_default();
        match write.act {
            Act::Slot(slot) if shadow.deleted.is_none() => {
                let rules = Rules {
                    dictionary: &self.dictionary,
                    origins: &self.origins,
                };
                shadow.cells.write(rules, slot, |_| {});
            }
            Act::Slot(_) => {}
            Act::Delete(tag) => {
                if shadow
                    .deleted
                    .is_none_or(|held| meet_tombstones(held, tag) == Outcome::Retagged)
                {
                    shadow.deleted = Some(tag);
                }
                shadow.cells.clear(None, |_| {});
            }
            Act::Forget(predicate) => {
                if predicate.is_none() {
                    shadow.deleted = None;
                }
                shadow.cells.clear(predicate, |_| {});
            }
        }
    }

    /// Carries what one write did to a cell to the index. Of a register and an element with one value, the triple goes
    /// when both are gone.
    fn settle(&mut self, subject: EntityNumber, turns: &[Turn], delta: &mut Delta) {
        let Some(first) = turns.first() else { return };
        let predicate = first.slot.predicate();
        let cell = self.entities[subject.0 as usize].of(predicate);
        let is_now = cell.iter().any(Slot::is_present);
        let is_new = |slot: &Slot| turns.iter().any(|turn| turn.shown && turn.slot == *slot);
        let was_before =
            turns.iter().any(|turn| !turn.shown) || cell.iter().any(|slot| slot.is_present() && !is_new(slot));
        for (at, turn) in turns.iter().enumerate() {
            let object = turn.slot.term();
            if turns[..at].iter().any(|earlier| earlier.slot.term() == object) {
                continue;
            }
            let same = || turns[at..].iter().filter(|turn| turn.slot.term() == object);
            let shown = same().filter(|turn| turn.shown).count();
            let hidden = same().count() - shown;
            let after = self.entities[subject.0 as usize].shows(predicate, object);
            let before = after + hidden - shown;
            let triple = Triple {
                subject,
                predicate,
                object,
            };
            if before == 0 && after > 0 {
                self.reveal(triple);
                delta.added.push(triple);
            } else if before > 0 && after == 0 {
                self.hide(triple);
                delta.removed.push(triple);
            }
        }
        if is_now != was_before {
            self.count_subject(subject, predicate, is_now);
        }
    }

    /// A cell of an entity began or ceased to show anything.
    fn count_subject(&mut self, subject: EntityNumber, predicate: PredicateNumber, is_now: bool) {
        let of_type = self.values[predicate.0 as usize].of_type;
        let is_same_type = |slot: &Slot| {
            slot.is_present()
                && slot.predicate() != predicate
                && self.values[slot.predicate().0 as usize].of_type == of_type
        };
        let is_alone = !self.cells(subject).slots().iter().any(is_same_type);
        let count = |counter: &mut usize| *counter = if is_now { *counter + 1 } else { *counter - 1 };
        count(&mut self.values[predicate.0 as usize].subjects);
        if is_alone {
            count(&mut self.types[of_type].entities);
        }
    }

    /// What an entity shows as a whole came or went: its different predicates.
    pub(super) fn count_predicates(&mut self, predicates: impl Iterator<Item = PredicateNumber>, came: bool) {
        let count = |counter: &mut usize| *counter = if came { *counter + 1 } else { *counter - 1 };
        let mut types = BTreeSet::new();
        for predicate in predicates {
            let index = &mut self.values[predicate.0 as usize];
            count(&mut index.subjects);
            types.insert(index.of_type);
        }
        for of_type in types {
            count(&mut self.types[of_type].entities);
        }
    }

    fn add_index(&mut self, predicate: PredicateNumber) {
        for number in self.values.len()..=predicate.0 as usize {
            let number = PredicateNumber(u32::try_from(number).expect("a predicate's number"));
            let name = self.dictionary.predicate(number).entity_type();
            let of_type = self.types.iter().position(|held| *held.name == *name);
            let of_type = of_type.unwrap_or_else(|| {
                self.types.push(OfType {
                    name: name.into(),
                    entities: 0,
                });
                self.types.len() - 1
            });
            self.values.push(Index {
                of_type,
                ..Index::default()
            });
        }
    }

    /// The same where whole cells went.
    fn settle_cleared(&mut self, subject: EntityNumber, turns: &[Turn], delta: &mut Delta) {
        let mut types = BTreeSet::new();
        for cell in turns.chunk_by(|a, b| a.slot.predicate() == b.slot.predicate()) {
            let predicate = cell[0].slot.predicate();
            for turn in cell {
                let triple = Triple {
                    subject,
                    predicate,
                    object: turn.slot.term(),
                };
                if self.hide(triple) {
                    delta.removed.push(triple);
                }
            }
            let index = &mut self.values[predicate.0 as usize];
            index.subjects -= 1;
            types.insert(index.of_type);
        }
        let of_type = |slot: &Slot| self.values[slot.predicate().0 as usize].of_type;
        let left = self.cells(subject).slots().iter().filter(|slot| slot.is_present());
        let left: BTreeSet<usize> = left.map(of_type).collect();
        for gone in types.difference(&left) {
            self.types[*gone].entities -= 1;
        }
    }

    /// Much is to come: what it shows goes into the indexes when [`Self::end_load`] is called. Nothing may be read from
    /// them before.
    pub fn begin_load(&mut self) {
        self.loading.get_or_insert_default();
    }

    /// Ends what [`Self::begin_load`] began.
    pub fn end_load(&mut self) {
        for (at, entries) in self.loading.take().into_iter().flatten().enumerate() {
            self.len += self.values[at].entries.load(&self.dictionary, entries);
        }
    }

    pub(super) fn reveal(&mut self, triple: Triple) {
        if let Some(loading) = &mut self.loading {
            let at = triple.predicate.0 as usize;
            if loading.len() <= at {
                loading.resize_with(at + 1, Vec::new);
            }
            loading[at].push(Entry::new(triple.object, triple.subject));
            return;
        }
        let index = &mut self.values[triple.predicate.0 as usize];
        let is_new = index
            .entries
            .insert(&self.dictionary, Entry::new(triple.object, triple.subject));
        self.len += usize::from(is_new);
    }

    /// False if it was not there.
    pub(super) fn hide(&mut self, triple: Triple) -> bool {
        // It may be among what is to come.
        self.end_load();
        let index = &mut self.values[triple.predicate.0 as usize];
        let was_there = index
            .entries
            .remove(&self.dictionary, Entry::new(triple.object, triple.subject));
        self.len -= usize::from(was_there);
        was_there
    }

    fn ensure(&mut self, entity: EntityNumber) {
        if self.entities.len() <= entity.0 as usize {
            self.entities.resize_with(entity.0 as usize + 1, Cells::default);
        }
    }

    pub(super) fn cells_mut(&mut self, entity: EntityNumber) -> &mut Cells {
        self.ensure(entity);
        &mut self.entities[entity.0 as usize]
    }
}
