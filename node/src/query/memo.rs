//! What one query has read of names and values: numbers for what the index has as text, and back.
//!
//! Entities and predicates keep the numbers that the index gave them. An entity that is only referred to has none there;
//! it gets one from the far end. Long texts get numbers as they are met. Those must stay as long as the query; the rest
//! is a cache, which starts anew when it is full.

use std::collections::{BTreeMap, HashMap};

use halcyon_core::{
    graph::{Dictionary, EntityNumber, Term},
    id::EntityId,
    value::Value,
};
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use super::{limits::CACHE_BYTES, store::Fault};
use crate::storage::view::TenantView;

/// Numbers from here on belong to the engine ([`halcyon_core::graph::Dictionary::local`]).
const ENTITIES_END: u32 = 1 << 31;

/// Bytes that an entry takes besides its key.
const ENTRY_BYTES: usize = 64;

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Memo {
    texts: Dictionary,
    /// Entities without a number in the index. The first has the number before [`ENTITIES_END`].
    nameless: Vec<EntityId>,
    nameless_numbers: BTreeMap<EntityId, u32>,
    /// A cache: names of entities.
    names: HashMap<u32, EntityId, Xxh3DefaultBuilder>,
    /// A cache: terms of encoded values.
    terms: HashMap<Box<[u8]>, Term, Xxh3DefaultBuilder>,
    cache_bytes: usize,
    /// Of what must stay.
    bytes: usize,
}

impl Memo {
    /// Bytes that it must hold.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The term of an encoded value.
    pub(super) fn term_of(&mut self, view: &TenantView, encoded: &[u8]) -> Result<Term, Fault> {
        if let Some(term) = self.terms.get(encoded) {
            return Ok(*term);
        }
        let value = Value::decode(encoded).map_err(|error| Fault::damaged(&error))?;
        if let Some(term) = Term::inline(&value) {
            return Ok(term);
        }
        let term = self.term(view, &value)?;
        self.make_room(encoded.len());
        self.terms.insert(encoded.into(), term);
        Ok(term)
    }

    /// The term of a value.
    pub(super) fn term(&mut self, view: &TenantView, value: &Value) -> Result<Term, Fault> {
        if let Value::Ref(entity) = value {
            let number = match view.subject_number(entity)? {
                Some(number) => self.named(number, entity)?,
                None => self.nameless(entity),
            };
            return Ok(Term::entity(EntityNumber(number)));
        }
        if let Some(term) = self.texts.term(value) {
            return Ok(term);
        }
        let term = self.texts.intern(value);
        let len = match value {
            Value::String(text) | Value::Json(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            _ => 0,
        };
        self.bytes += len + ENTRY_BYTES;
        Ok(term)
    }

    /// The value of a term.
    pub(super) fn value(&mut self, view: &TenantView, term: Term) -> Result<Value, Fault> {
        match term.as_entity() {
            Some(entity) => Ok(Value::Ref(self.entity(view, entity)?)),
            None => Ok(self.texts.value(term)),
        }
    }

    /// The entity with a number.
    pub(super) fn entity(&mut self, view: &TenantView, number: EntityNumber) -> Result<EntityId, Fault> {
        if let Some(entity) = self.nameless.get((ENTITIES_END - 1).wrapping_sub(number.0) as usize) {
            return Ok(entity.clone());
        }
        if let Some(entity) = self.names.get(&number.0) {
            return Ok(entity.clone());
        }
        let found = view.subject(number.0)?;
        let entity = found.ok_or_else(|| Fault::read("the index has a fact of an entity that it has no name for"))?;
        self.make_room(entity.as_str().len());
        self.names.insert(number.0, entity.clone());
        Ok(entity)
    }

    /// The dictionary of long texts.
    pub(super) const fn texts(&self) -> &Dictionary {
        &self.texts
    }

    fn named(&mut self, number: u32, entity: &EntityId) -> Result<u32, Fault> {
        if number as usize >= ENTITIES_END as usize - self.nameless.len() {
            return Err(Fault::read("the tenant has had more entities than a query can number"));
        }
        if !self.names.contains_key(&number) {
            self.make_room(entity.as_str().len());
            self.names.insert(number, entity.clone());
        }
        Ok(number)
    }

    fn nameless(&mut self, entity: &EntityId) -> u32 {
        if let Some(number) = self.nameless_numbers.get(entity) {
            return *number;
        }
        let before = u32::try_from(self.nameless.len()).expect("memory bounds them");
        let number = ENTITIES_END - 1 - before;
        self.bytes += 2 * (entity.as_str().len() + ENTRY_BYTES);
        self.nameless.push(entity.clone());
        self.nameless_numbers.insert(entity.clone(), number);
        number
    }

    fn make_room(&mut self, len: usize) {
        self.cache_bytes += len + ENTRY_BYTES;
        if self.cache_bytes > CACHE_BYTES {
            self.names.clear();
            self.terms.clear();
            self.cache_bytes = len + ENTRY_BYTES;
        }
    }
}
