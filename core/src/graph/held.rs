//! What is confirmed of an entity, as changes and as a fingerprint: what coverage is made of.

use uhlc::{NTP64, Timestamp};

use super::{
    EntityNumber, Graph,
    cells::{Cells, Slot},
    term::Term,
};
use crate::collections::BTreeSet;
use crate::{
    change::Change,
    clock::{ClientId, timestamp},
    fingerprint::{Fingerprint, Part},
};

impl Graph {
    /// All that is confirmed of an entity: registers and elements, unset and removed ones too, registers before the
    /// elements that they would hide; or its deletion, whose timestamp is 0.
    pub fn confirmed(&self, entity: EntityNumber, mut show: impl FnMut(Timestamp, Change)) {
        if self.is_confirmed_deleted(entity) {
            let subject = self.dictionary.entity(entity).clone();
            return show(
                timestamp(NTP64(0), ClientId::from_random(0)),
                Change::Delete { subject },
            );
        }
        for slot in self.confirmed_cells(entity).slots() {
            show(self.origins.timestamp(slot.stamp()), self.change_of(entity, slot));
        }
    }

    /// Whether a change that was taken in is part of what is confirmed: nothing has taken its place.
    pub fn holds(&self, at: &Timestamp, change: &Change) -> bool {
        let Some(entity) = change
            .subject()
            .and_then(|subject| self.dictionary.entity_number(subject))
        else {
            return false;
        };
        if self.is_confirmed_deleted(entity) {
            return matches!(change, Change::Delete { .. });
        }
        let Some(predicate) = change
            .predicate()
            .and_then(|name| self.dictionary.predicate_number(name))
        else {
            return false;
        };
        let cell = self.confirmed_cells(entity).of(predicate);
        let is_element = matches!(change, Change::Add { .. } | Change::Remove { .. });
        let is_present = matches!(change, Change::Set { .. } | Change::Add { .. });
        let term = change.value().and_then(|value| self.dictionary.term(value));
        let is_same = |slot: &&Slot| {
            slot.is_element() == is_element
                && slot.is_present() == is_present
                && (term.is_none() || term == Some(slot.term()))
                && self.origins.timestamp(slot.stamp()) == *at
        };
        cell.iter().any(|slot| is_same(&slot))
    }

    /// The sum over the confirmed live facts of an entity.
    pub fn fingerprint_of_entity(&self, entity: EntityNumber) -> Fingerprint {
        let (mut sum, mut bytes) = (Fingerprint::default(), Vec::new());
        let slots = self.confirmed_cells(entity).slots().iter();
        for slot in slots.filter(|slot| slot.is_present()) {
            bytes.clear();
            self.dictionary.encode_to(slot.term(), &mut bytes);
            let part = if slot.is_element() {
                Part::Element
            } else {
                Part::Register
            };
            let name = self.dictionary.entity(entity);
            let predicate = self.dictionary.predicate(slot.predicate());
            let at = self.origins.timestamp(slot.stamp());
            sum = sum.plus(Fingerprint::of(name, predicate, part, &bytes, &at));
        }
        sum
    }

    fn is_confirmed_deleted(&self, entity: EntityNumber) -> bool {
        match self.overlay.shadows.get(&entity) {
            Some(shadow) => shadow.deleted.is_some(),
            None => self.is_deleted(entity),
        }
    }

    /// Whether most of the texts that are kept are of values that are gone: the dictionary lets none go by itself, so
    /// whoever holds the graph makes it anew. All values are looked at where `is_full` and there are more texts than the
    /// last time, else only from so many bytes on and when there are twice as many.
    pub fn is_mostly_gone(&mut self, from_bytes: usize, is_full: bool) -> bool {
        let kept = self.dictionary.text_bytes();
        let is_due = kept >= from_bytes.max(2 * self.held_text_bytes) || (is_full && kept > self.held_text_bytes);
        if !is_due {
            return false;
        }
        self.held_text_bytes = self.count_held_text_bytes();
        kept >= 2 * self.held_text_bytes
    }

    fn count_held_text_bytes(&self) -> usize {
        let shadows = self.overlay.shadows.values().map(|shadow| &shadow.cells);
        let slots = self.entities.iter().chain(shadows).flat_map(Cells::slots);
        let slots = slots.chain(self.overlay.slots());
        let terms: BTreeSet<Term> = slots.map(Slot::term).filter(|term| term.is_text()).collect();
        terms.into_iter().map(|term| self.dictionary.text_bytes_of(term)).sum()
    }

    fn confirmed_cells(&self, entity: EntityNumber) -> &Cells {
        match self.overlay.shadows.get(&entity) {
            Some(shadow) => &shadow.cells,
            None => self.cells(entity),
        }
    }

    fn change_of(&self, entity: EntityNumber, slot: &Slot) -> Change {
        let subject = self.dictionary.entity(entity).clone();
        let predicate = self.dictionary.predicate(slot.predicate()).clone();
        match (slot.is_element(), slot.is_present()) {
            (false, false) => Change::Unset { subject, predicate },
            (false, true) => Change::Set {
                subject,
                predicate,
                value: self.dictionary.value(slot.term()),
            },
            (true, true) => Change::Add {
                subject,
                predicate,
                value: self.dictionary.value(slot.term()),
            },
            (true, false) => Change::Remove {
                subject,
                predicate,
                value: self.dictionary.value(slot.term()),
            },
        }
    }
}
