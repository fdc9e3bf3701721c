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

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use halcyon_core::{
    change::{Change, ChangeSet},
    clock::Timestamp,
    id::{EntityId, Predicate, Tag},
    value::Value,
};

pub use self::{
    answer::Answer,
    state::{Cell, Entity, State, Written},
};

/// Everything that was committed to a tenant, or that one replica of it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// As replicated: without what the origin answered as superseded.
    sets: BTreeMap<Tag, Arc<ChangeSet>>,
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
    pub fn add(&mut self, tag: Tag, set: impl Into<Arc<ChangeSet>>) -> Result<(), TagReused> {
        let set = set.into();
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
        self.sets.iter().map(|(tag, set)| (*tag, &**set))
    }

    /// What must show once all of it has arrived.
    pub fn state(&self) -> State {
        State::of(self)
    }

    /// All changes that count: of several of one set to the same register or element the last.
    fn changes(&self) -> impl Iterator<Item = (Tag, Timestamp, &Change)> {
        self.sets.iter().flat_map(|(tag, set)| {
            let counting = counting(&set.changes).into_iter();
            counting.map(|change| (*tag, set.timestamp, change))
        })
    }
}

/// "Within a set the later change to a register or an element replaces the earlier."
fn counting(changes: &[Change]) -> Vec<&Change> {
    let (mut later, mut counting) = (BTreeSet::new(), Vec::new());
    for change in changes.iter().rev() {
        if target(change).is_none_or(|target| later.insert(target)) {
            counting.push(change);
        }
    }
    counting.reverse();
    counting
}

/// The register (without a value) or the element that a change writes.
fn target(change: &Change) -> Option<(&EntityId, &Predicate, Option<&Value>)> {
    match change {
        Change::Set { subject, predicate, .. } | Change::Unset { subject, predicate } => {
            Some((subject, predicate, None))
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
        } => Some((subject, predicate, Some(value))),
        Change::Create { .. } | Change::Delete { .. } | Change::Opaque { .. } => None,
    }
}

#[cfg(test)]
mod tests;
