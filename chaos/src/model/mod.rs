//! What a tenant must show, by the definition: an independent reading of the design's rules of data (section 3).
//!
//! No merging happens here. A history is the set of all change sets with their tags; every answer is computed from all
//! of it, each time, by what the rules say about sets of writes ("the largest of all register writes", "hidden if any
//! register write is later"). So order and repetition cannot matter, and nothing is shared with the code under test but
//! the data types. It is slow, and short enough to be compared with the design line by line.
//!
//! [`History`] holds what was committed, [`State`] is what must show, and [`History::answer`] is what a client that
//! pushes a set must be told.

mod answer;
mod state;

use std::collections::{BTreeMap, BTreeSet};

use halcyon_core::{
    change::{Change, ChangeSet},
    clock::Timestamp,
    id::{EntityId, Tag},
};

pub use self::{
    answer::Answer,
    state::{Cell, Entity, State, Written},
};

/// Everything that was committed to a tenant, or that one replica of it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// As replicated: without what the origin answered as superseded.
    sets: BTreeMap<Tag, ChangeSet>,
    /// Entities whose tombstones were collected: gone, and forgotten.
    collected: BTreeSet<EntityId>,
}

/// A tag under which two different sets were committed. Whoever reports this has found a seq that was used twice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{tag:?} was used for two change sets")]
pub struct TagReused {
    /// The tag.
    pub tag: Tag,
}

impl History {
    /// Adds a set; adding it again changes nothing.
    pub fn add(&mut self, tag: Tag, set: ChangeSet) -> Result<(), TagReused> {
        match self.sets.get(&tag) {
            Some(held) if *held != set => Err(TagReused { tag }),
            Some(_) => Ok(()),
            None => {
                self.sets.insert(tag, set);
                Ok(())
            }
        }
    }

    /// Notes that every replica has collected the tombstone of an entity.
    pub fn collect(&mut self, subject: EntityId) {
        self.collected.insert(subject);
    }

    /// The sets in the order of their tags.
    pub fn sets(&self) -> impl Iterator<Item = (Tag, &ChangeSet)> {
        self.sets.iter().map(|(tag, set)| (*tag, set))
    }

    /// What must show once all of it has arrived.
    pub fn state(&self) -> State {
        State::of(self)
    }

    /// All changes that count: of several of one set to the same register or element the last.
    fn changes(&self) -> impl Iterator<Item = (Tag, Timestamp, &Change)> {
        self.sets.iter().flat_map(|(tag, set)| {
            let counting = set.changes.iter().enumerate().filter(|(place, change)| {
                let replaced = set.changes[place + 1..].iter().any(|later| same_target(change, later));
                !replaced
            });
            counting.map(|(_, change)| (*tag, set.timestamp, change))
        })
    }
}

/// "Within a set the later change to a register or an element replaces the earlier."
fn same_target(earlier: &Change, later: &Change) -> bool {
    let same_cell = earlier.subject() == later.subject() && earlier.predicate() == later.predicate();
    let is_register = |change: &Change| matches!(change, Change::Set { .. } | Change::Unset { .. });
    let is_element = |change: &Change| matches!(change, Change::Add { .. } | Change::Remove { .. });
    let registers = is_register(earlier) && is_register(later);
    let elements = is_element(earlier) && is_element(later) && earlier.value() == later.value();
    same_cell && (registers || elements)
}

#[cfg(test)]
mod tests;
