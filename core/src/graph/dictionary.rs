//! The dictionary: numbers for entities, predicates and long texts, given out in the order they are first seen.
//!
//! A table of 32-bit hashes and numbers beside a list of names: eight bytes and one word of control a name, and growing
//! the table never reads a name again. Texts share their bytes with the value they came from. Looking up is O(length);
//! comparing two texts looks into the dictionary only if their first eight bytes are equal.

use std::cmp::Ordering;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::term::{ENTITY_LOCAL, EntityNumber, PredicateNumber, REF, TEXT_FIRST, TEXT_LOCAL, Term, text_of};
use crate::{
    id::{EntityId, Predicate},
    value::Value,
};

/// Spreads 32 bits of a hash over the 64 that the table takes its buckets and its tags from.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    number: u32,
}

/// Names with numbers from 0 on.
#[derive(Debug, Clone)]
struct Names<T> {
    names: Vec<T>,
    slots: HashTable<Slot>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            slots: HashTable::new(),
        }
    }
}

const fn spread(hash: u32) -> u64 {
    (hash as u64).wrapping_mul(SPREAD)
}

impl<T> Names<T> {
    fn find(&self, hash: u32, is: impl Fn(&T) -> bool) -> Option<u32> {
        let found = self.slots.find(spread(hash), |slot| {
            slot.hash == hash && is(&self.names[slot.number as usize])
        });
        found.map(|slot| slot.number)
    }

    fn add(&mut self, hash: u32, name: T) -> u32 {
        let number = u32::try_from(self.names.len()).expect("names fit memory, so their number fits 32 bits");
        self.names.push(name);
        self.slots
            .insert_unique(spread(hash), Slot { hash, number }, |slot| spread(slot.hash));
        number
    }
}

#[expect(clippy::cast_possible_truncation, reason = "32 bits of the hash are enough")]
fn hash_of(code: u8, bytes: &[u8]) -> u32 {
    xxh3_64(bytes) as u32 ^ u32::from(code)
}

/// Entities, predicates and texts with their numbers.
#[derive(Debug, Clone, Default)]
pub struct Dictionary {
    entities: Names<EntityId>,
    predicates: Names<Predicate>,
    /// The terms of the predicates' texts, by number.
    predicate_texts: Vec<Term>,
    texts: Names<Value>,
    /// Bytes of all texts.
    text_bytes: usize,
    /// The first numbers that it gives out.
    entity_first: u32,
    text_first: u32,
}

impl Dictionary {
    /// A dictionary for what a query knows and its store does not. Its terms are [`Term::is_local`].
    pub fn local() -> Self {
        Self {
            entity_first: ENTITY_LOCAL,
            text_first: TEXT_LOCAL - TEXT_FIRST,
            ..Self::default()
        }
    }

    /// The number of an entity, new or not.
    pub fn intern_entity(&mut self, entity: &EntityId) -> EntityNumber {
        let hash = hash_of(REF, entity.as_str().as_bytes());
        let found = self.entities.find(hash, |name| name == entity);
        let number = found.unwrap_or_else(|| self.entities.add(hash, entity.clone()));
        assert!(number < ENTITY_LOCAL, "2^31 entities are more than memory holds");
        EntityNumber(self.entity_first + number)
    }

    /// The number of a predicate, new or not.
    pub fn intern_predicate(&mut self, predicate: &Predicate) -> PredicateNumber {
        let hash = hash_of(0, predicate.as_str().as_bytes());
        let found = self.predicates.find(hash, |name| name == predicate);
        PredicateNumber(found.unwrap_or_else(|| {
            let text = self.intern(&Value::string(predicate.as_str()));
            self.predicate_texts.push(text);
            self.predicates.add(hash, predicate.clone())
        }))
    }

    /// The term of a value, new or not.
    pub fn intern(&mut self, value: &Value) -> Term {
        if let Some(term) = Term::inline(value) {
            return term;
        }
        if let Value::Ref(entity) = value {
            return Term::entity(self.intern_entity(entity));
        }
        let (code, bytes) = text_of(value).expect("not inline and no reference: a text");
        let hash = hash_of(code, bytes);
        let found = self.texts.find(hash, |text| text == value);
        let number = found.unwrap_or_else(|| {
            assert!(
                self.texts.names.len() < (TEXT_LOCAL - TEXT_FIRST) as usize,
                "2^28 texts are more than memory holds"
            );
            self.text_bytes += bytes.len();
            self.texts.add(hash, value.clone())
        });
        Term::long_text(code, bytes, TEXT_FIRST + self.text_first + number)
    }

    /// The number of an entity that is known.
    pub fn entity_number(&self, entity: &EntityId) -> Option<EntityNumber> {
        let hash = hash_of(REF, entity.as_str().as_bytes());
        let found = self.entities.find(hash, |name| name == entity);
        found.map(|number| EntityNumber(self.entity_first + number))
    }

    /// The number of a predicate that is known.
    pub fn predicate_number(&self, predicate: &Predicate) -> Option<PredicateNumber> {
        let hash = hash_of(0, predicate.as_str().as_bytes());
        let found = self.predicates.find(hash, |name| name == predicate);
        found.map(PredicateNumber)
    }

    /// The predicate with this name, if it is known.
    pub fn predicate_named(&self, name: &str) -> Option<&Predicate> {
        let hash = hash_of(0, name.as_bytes());
        let found = self.predicates.find(hash, |predicate| predicate.as_str() == name);
        found.map(|number| &self.predicates.names[number as usize])
    }

    /// The term of a value, if its text or its entity is known.
    pub fn term(&self, value: &Value) -> Option<Term> {
        if let Some(term) = Term::inline(value) {
            return Some(term);
        }
        if let Value::Ref(entity) = value {
            return self.entity_number(entity).map(Term::entity);
        }
        let (code, bytes) = text_of(value)?;
        let number = self.texts.find(hash_of(code, bytes), |text| text == value)?;
        Some(Term::long_text(code, bytes, TEXT_FIRST + self.text_first + number))
    }

    /// The entity with this number.
    pub fn entity(&self, number: EntityNumber) -> &EntityId {
        &self.entities.names[(number.0 - self.entity_first) as usize]
    }

    /// The predicate with this number.
    pub fn predicate(&self, number: PredicateNumber) -> &Predicate {
        &self.predicates.names[number.0 as usize]
    }

    /// The term of a predicate's text.
    pub fn predicate_text(&self, number: PredicateNumber) -> Term {
        self.predicate_texts[number.0 as usize]
    }

    /// Bytes of all texts that were ever met and are not in their terms: none is let go.
    pub const fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    /// Bytes of a text that has a number of its own; 0 of every other term.
    pub(super) fn text_bytes_of(&self, term: Term) -> usize {
        if !term.is_text() || !term.is_long_text() {
            return 0;
        }
        text_of(self.text(term)).map_or(0, |(_, bytes)| bytes.len())
    }

    /// How many entities have a number, those that are only referred to included.
    pub fn entities(&self) -> usize {
        self.entities.names.len()
    }

    /// How many predicates have a number.
    pub fn predicates(&self) -> usize {
        self.predicates.names.len()
    }

    /// The value of a term of this dictionary.
    pub fn value(&self, term: Term) -> Value {
        if let Some(value) = term.to_inline_value() {
            return value;
        }
        match term.as_entity() {
            Some(entity) => Value::Ref(self.entity(entity).clone()),
            None => self.text(term).clone(),
        }
    }

    /// Appends the value's encoding.
    pub fn encode_to(&self, term: Term, out: &mut Vec<u8>) {
        match term.to_inline_value() {
            Some(value) => value.encode_to(out),
            None if term.is_text() => self.text(term).encode_to(out),
            None => self.value(term).encode_to(out),
        }
    }

    /// Gives the bytes of a text, or of a reference's id; nothing for other types.
    pub fn with_bytes<R>(&self, term: Term, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        if let Some(entity) = term.as_entity() {
            return Some(read(self.entity(entity).as_str().as_bytes()));
        }
        if term.is_long_text() {
            return text_of(self.text(term)).map(|(_, bytes)| read(bytes));
        }
        if term.is_text() {
            let (bytes, len) = term.inline_bytes();
            return Some(read(&bytes[..len]));
        }
        None
    }

    /// The order of the values.
    pub fn compare(&self, a: Term, b: Term) -> Ordering {
        match (a.as_entity(), b.as_entity()) {
            (Some(x), Some(y)) if x != y => self.entity(x).cmp(self.entity(y)),
            _ => self.index_order(a, b),
        }
    }

    /// The order of terms in an index: that of the values, but references by their numbers.
    pub(super) fn index_order(&self, a: Term, b: Term) -> Ordering {
        let tied = a != b && a.is_long_text() && b.is_long_text() && a.code() == b.code() && a.key() == b.key();
        if tied {
            return self.text(a).cmp(self.text(b));
        }
        a.cmp(&b)
    }

    fn text(&self, term: Term) -> &Value {
        &self.texts.names[(term.text_number() - TEXT_FIRST - self.text_first) as usize]
    }
}
