//! The indexed triple store in memory: the state of merge, what it shows, and the indexes that queries run on.
//!
//! Clients keep their data in it, nodes the coverage of their live queries. What it shows is a function of the set of
//! changes it took in, like [`crate::store::MemoryStore`], against which property tests hold it: the same fingerprint
//! and the same triples for any order, repetition and split.
//!
//! ```text
//! dictionary   entity, predicate, long text <-> number                       hash table, 8 bytes a name
//! entities     entity -> slots (registers, elements) with their writes       one sorted vector each, 40 bytes a slot
//! values       predicate -> every (object, subject) in the order of objects  sorted chunks, 16 bytes a triple
//! shadows      entity -> its confirmed slots, while pending sets cover it     only what is pending
//! ```
//!
//! - By subject: the entity's vector. By predicate and value, in order, by range, and references in reverse: `values`.
//!   There is no third index, because no question needs one.
//! - `values` knows exactly how many triples, subjects and different objects a predicate has, and counts a range without
//!   visiting it. These are the planner's statistics.
//! - A pending set (an optimistic write) is merged into what shows; the entity's confirmed slots go into a shadow first.
//!   So queries read one index and pay nothing for the overlay; proposing, confirming and withdrawing a set cost
//!   O(slots of the entities that it touches). Since merge is a join, what shows is the shadow joined with the pending
//!   sets, whatever came first: there is no log to replay.
//! - Every change answers with the exact [`Delta`] of visible triples, which is what live queries follow.
//!
//! A triple shows once, even if the register and an element of a cell hold the same value.

mod cells;
mod delta;
mod dictionary;
mod held;
mod ordered;
mod origins;
mod overlay;
mod read;
mod term;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use cells::{Cells, Turn};
use ordered::Ordered;
use origins::Origins;
use overlay::Overlay;

pub use delta::{Delta, Triple};
pub use dictionary::Dictionary;
pub use overlay::SetId;
pub use term::{EntityNumber, Entry, PredicateNumber, Term};

use crate::collections::BTreeMap;
use crate::{
    fingerprint::Fingerprint,
    id::{EntityId, Predicate, Tag},
    value::Value,
};

/// The triples of one predicate by value, with counts.
#[derive(Debug, Clone, Default)]
struct Index {
    entries: Ordered,
    /// How many entities have a triple here.
    subjects: usize,
    /// The predicate's type, by its place.
    of_type: usize,
}

/// A type of entities: what stands before the slash of predicates.
#[derive(Debug, Clone)]
struct OfType {
    name: Arc<str>,
    /// How many entities have a triple of the type.
    entities: usize,
}

/// Triples in memory, with indexes.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    dictionary: Dictionary,
    origins: Origins,
    /// By the entity's number.
    entities: Vec<Cells>,
    /// By the predicate's number.
    values: Vec<Index>,
    types: Vec<OfType>,
    /// What shows as deleted.
    deleted: BTreeMap<EntityNumber, Tag>,
    overlay: Overlay,
    /// Triples that show.
    len: usize,
    /// What is to come into the indexes all at once: by the predicate's number. None while each comes by itself.
    loading: Option<Vec<Vec<Entry>>>,
    /// Bytes of the texts that values needed when these were counted last.
    held_text_bytes: usize,
    /// Kept to save allocations.
    turns: Vec<Turn>,
}

impl Graph {
    /// How many triples show.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether none shows.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The sum over all confirmed live facts. Nobody asks often, so it is made when somebody does.
    pub fn fingerprint(&self) -> Fingerprint {
        let entities = (0..self.entities.len()).filter_map(|number| u32::try_from(number).ok());
        entities.fold(Fingerprint::default(), |sum, entity| {
            sum.plus(self.fingerprint_of_entity(EntityNumber(entity)))
        })
    }

    /// The numbers of names.
    pub const fn dictionary(&self) -> &Dictionary {
        &self.dictionary
    }

    /// The number of an entity, of which nothing need be known yet.
    pub fn intern_entity(&mut self, entity: &EntityId) -> EntityNumber {
        self.dictionary.intern_entity(entity)
    }

    /// Whether anything was ever written to the entity that is still held, a tombstone included.
    pub fn is_known(&self, entity: &EntityId) -> bool {
        self.dictionary
            .entity_number(entity)
            .is_some_and(|number| self.is_deleted(number) || !self.cells(number).slots().is_empty())
    }

    /// Whether the entity shows as deleted.
    pub fn is_deleted(&self, entity: EntityNumber) -> bool {
        self.deleted.contains_key(&entity)
    }

    /// The triples of an entity that show, in the order of the numbers of their predicates.
    pub fn triples(&self, entity: &EntityId) -> Vec<(Predicate, Value)> {
        let Some(number) = self.dictionary.entity_number(entity) else {
            return Vec::new();
        };
        let mut fields = Vec::new();
        self.fields_of(number, &mut fields);
        fields
            .into_iter()
            .map(|(predicate, term)| {
                (
                    self.dictionary.predicate(predicate).clone(),
                    self.dictionary.value(term),
                )
            })
            .collect()
    }

    /// Bytes of the indexes by value, for the accounting of memory.
    pub fn index_bytes(&self) -> usize {
        self.values.iter().map(|index| index.entries.bytes()).sum()
    }

    fn cells(&self, entity: EntityNumber) -> &Cells {
        const NONE: &Cells = &Cells::EMPTY;
        self.entities.get(entity.0 as usize).unwrap_or(NONE)
    }

    fn index(&self, predicate: PredicateNumber) -> Option<&Index> {
        self.values.get(predicate.0 as usize)
    }

    /// The fields that show, each triple once.
    fn fields_of(&self, entity: EntityNumber, out: &mut Vec<(PredicateNumber, Term)>) {
        self.cells(entity).shown(out);
    }
}
