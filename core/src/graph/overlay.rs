//! The client's unconfirmed sets over the confirmed state.
//!
//! What shows of an entity is the join of its confirmed slots with the pending sets that touch it. While there are such
//! sets, the confirmed slots lie in a shadow, and confirmed changes go there; then the entity is joined anew and the
//! difference goes to the indexes. Without pending sets there is no shadow, and no cost.

use super::{
    Delta, EntityNumber, Graph, Triple,
    cells::{Cells, Rules, Slot},
    origins::UNCOMMITTED,
    term::{PredicateNumber, Term},
    write::{Act, Write},
};
use crate::collections::{BTreeMap, BTreeSet};
use crate::{change::ChangeSet, clock::ClientId, id::Tag};

/// Which change set: its client's incarnation, and the number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetId {
    /// Who made it.
    pub client: ClientId,
    /// Its number.
    pub number: u64,
}

impl SetId {
    /// Of a set.
    pub fn of(set: &ChangeSet) -> Self {
        Self {
            client: set.client(),
            number: set.number,
        }
    }
}

/// The confirmed state of an entity that pending sets cover.
#[derive(Debug, Clone, Default)]
pub(super) struct Shadow {
    pub(super) cells: Cells,
    pub(super) deleted: Option<Tag>,
}

/// Pending sets, and the shadows under them.
#[derive(Debug, Clone, Default)]
pub(super) struct Overlay {
    pub(super) shadows: BTreeMap<EntityNumber, Shadow>,
    sets: BTreeMap<SetId, Vec<Write>>,
    touching: BTreeMap<EntityNumber, BTreeSet<SetId>>,
}

impl Overlay {
    /// What pending sets write.
    pub(super) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.sets.values().flatten().filter_map(|write| match &write.act {
            Act::Slot(slot) => Some(slot),
            Act::Delete(_) | Act::Forget(_) => None,
        })
    }
}

impl Graph {
    /// Shows a set that is not confirmed yet. Proposing it again changes nothing.
    pub fn propose(&mut self, set: &ChangeSet) -> Delta {
        let id = SetId::of(set);
        if self.overlay.sets.contains_key(&id) {
            return Delta::default();
        }
        let writes = self.writes(UNCOMMITTED, set);
        let subjects: BTreeSet<EntityNumber> = writes.iter().map(|write| write.subject).collect();
        self.overlay.sets.insert(id, writes);
        for &subject in &subjects {
            self.shadow(subject);
            self.overlay.touching.entry(subject).or_default().insert(id);
        }
        self.join_all(subjects)
    }

    /// Takes a pending set away: it was confirmed and taken in, or refused. What it alone showed goes.
    pub fn withdraw(&mut self, id: SetId) -> Delta {
        let subjects = self.release(id);
        self.join_all(subjects)
    }

    /// Takes in a set of ours that a node has committed under `tag`, and withdraws it from the overlay, in one step.
    pub fn confirm(&mut self, tag: Tag, set: &ChangeSet) -> Delta {
        let subjects = self.release(SetId::of(set));
        let mut delta = self.apply_raw(tag, set);
        self.join_into(subjects, &mut delta);
        delta.net()
    }

    /// The sets that are pending, in the order of their clients and numbers.
    pub fn pending(&self) -> impl Iterator<Item = SetId> {
        self.overlay.sets.keys().copied()
    }

    /// Whether a pending set touches the entity.
    pub fn is_pending(&self, entity: EntityNumber) -> bool {
        self.overlay.shadows.contains_key(&entity)
    }

    /// Takes the set out of the overlay; answers with the entities that it touched.
    fn release(&mut self, id: SetId) -> BTreeSet<EntityNumber> {
        let writes = self.overlay.sets.remove(&id).unwrap_or_default();
        let subjects: BTreeSet<EntityNumber> = writes.iter().map(|write| write.subject).collect();
        for subject in &subjects {
            if let Some(sets) = self.overlay.touching.get_mut(subject) {
                sets.remove(&id);
            }
        }
        subjects
    }

    /// Puts the confirmed state of an entity into a shadow, if it is not there.
    fn shadow(&mut self, subject: EntityNumber) {
        if self.overlay.shadows.contains_key(&subject) {
            return;
        }
        let shadow = Shadow {
            cells: self.cells(subject).clone(),
            deleted: self.deleted.get(&subject).copied(),
        };
        self.overlay.shadows.insert(subject, shadow);
    }

    fn join_all(&mut self, subjects: BTreeSet<EntityNumber>) -> Delta {
        let mut delta = Delta::default();
        self.join_into(subjects, &mut delta);
        delta.net()
    }

    fn join_into(&mut self, subjects: BTreeSet<EntityNumber>, delta: &mut Delta) {
        for subject in subjects {
            self.join(subject, delta);
        }
    }

    /// Makes what shows of an entity from its shadow and the pending sets.
    pub(super) fn join(&mut self, subject: EntityNumber, delta: &mut Delta) {
        let is_covered = self.overlay.touching.get(&subject).is_some_and(|sets| !sets.is_empty());
        let state = if is_covered {
            self.joined(subject)
        } else {
            self.overlay.touching.remove(&subject);
            match self.overlay.shadows.remove(&subject) {
                Some(shadow) => shadow,
                None => return,
            }
        };
        match state.deleted {
            Some(tag) => self.deleted.insert(subject, tag),
            None => self.deleted.remove(&subject),
        };
        self.show(subject, state.cells, delta);
    }

    fn joined(&self, subject: EntityNumber) -> Shadow {
        let mut state = self.overlay.shadows.get(&subject).cloned().unwrap_or_default();
        let rules = Rules {
            dictionary: &self.dictionary,
            origins: &self.origins,
        };
        let sets = self.overlay.touching.get(&subject).into_iter().flatten();
        let writes = sets.flat_map(|id| &self.overlay.sets[id]);
        for write in writes.filter(|write| write.subject == subject) {
            match write.act {
                Act::Delete(tag) if state.deleted.is_none() => {
                    state.cells = Cells::default();
                    state.deleted = Some(tag);
                }
                Act::Slot(slot) if state.deleted.is_none() => state.cells.write(rules, slot, |_| {}),
                Act::Delete(_) | Act::Slot(_) | Act::Forget(_) => {}
            }
        }
        state
    }

    /// Puts cells in the place of what an entity shows, and carries the difference to the indexes.
    fn show(&mut self, subject: EntityNumber, cells: Cells, delta: &mut Delta) {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        self.cells(subject).shown(&mut before);
        cells.shown(&mut after);
        *self.cells_mut(subject) = cells;
        before.sort_unstable();
        after.sort_unstable();
        let went = minus(&before, &after);
        let came = minus(&after, &before);
        for &(predicate, object) in &went {
            self.hide(Triple {
                subject,
                predicate,
                object,
            });
        }
        for &(predicate, object) in &came {
            self.reveal(Triple {
                subject,
                predicate,
                object,
            });
        }
        self.count_predicates(predicates(&before), false);
        self.count_predicates(predicates(&after), true);
        let triple = |&(predicate, object): &Field| Triple {
            subject,
            predicate,
            object,
        };
        delta.removed.extend(went.iter().map(triple));
        delta.added.extend(came.iter().map(triple));
    }
}

type Field = (PredicateNumber, Term);

/// Of two sorted lists, what only the first has.
fn minus(a: &[Field], b: &[Field]) -> Vec<Field> {
    a.iter()
        .filter(|field| b.binary_search(field).is_err())
        .copied()
        .collect()
}

/// The different predicates of a sorted list.
fn predicates(fields: &[Field]) -> impl Iterator<Item = PredicateNumber> {
    fields.chunk_by(|a, b| a.0 == b.0).map(|run| run[0].0)
}
