//! What a client that pushes a change set must be told, by a node that holds a given history (design, section 5).

use std::collections::BTreeSet;

use halcyon_core::{
    change::{Change, ChangeSet},
    id::EntityId,
};

use super::{History, state::Entity};

/// What a node must answer to a set that it has not taken before and that its limits and its clock let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is taken. The places of changes that lost to a tombstone or name an entity that nobody created.
    Taken {
        /// From 0, ascending.
        superseded: Vec<u32>,
    },
    /// It names an entity that the node does not know, and the client has seen what the node has not: ask again later.
    Retry,
}

impl History {
    /// The answer of a node that holds this history, exactly. `covers_client`: its vector covers the client's.
    pub fn answer(&self, set: &ChangeSet, covers_client: bool) -> Answer {
        let state = self.state();
        let created: BTreeSet<&EntityId> = set.changes.iter().filter_map(creates).collect();
        let mut superseded = Vec::new();
        let mut any_unknown = false;
        for (place, change) in (0_u32..).zip(&set.changes) {
            let Some(subject) = change.subject() else { continue };
            let known = state.entities.get(subject);
            let deleted = matches!(known, Some(Entity::Deleted(_)));
            let unknown = known.is_none() && !created.contains(subject);
            // A deletion of what this node does not know yet must still stop what is on its way.
            let lost = deleted || unknown && !matches!(change, Change::Delete { .. });
            if lost {
                superseded.push(place);
            }
            any_unknown |= lost && unknown;
        }
        if any_unknown && !covers_client {
            return Answer::Retry;
        }
        Answer::Taken { superseded }
    }

    /// The set as its origin passes it on: without what was superseded.
    pub fn effective(set: &ChangeSet, superseded: &[u32]) -> ChangeSet {
        let mut effective = set.clone();
        effective.changes = (0_u32..)
            .zip(&set.changes)
            .filter(|(place, _)| !superseded.contains(place))
            .map(|(_, change)| change.clone())
            .collect();
        effective
    }
}

const fn creates(change: &Change) -> Option<&EntityId> {
    match change {
        Change::Create { subject } => Some(subject),
        _ => None,
    }
}
