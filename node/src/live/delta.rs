//! What subscribers are sent, encoded once for all that follow a query.

use std::collections::BTreeMap;

use halcyon_core::{
    change::{Change, ChangeSet},
    clock::Timestamp,
    graph::{EntityNumber, Graph},
    limits::{CHANGE_SET_BYTES_MAX, CHANGES_MAX, VALUE_BYTES_MAX},
    value::Value,
};
use halcyon_proto::v1;
use prost::{Message, bytes::Bytes};

use super::limits::CHUNK_BYTES;

/// A delta that is being put together.
#[derive(Debug, Default)]
pub(super) struct Draft {
    sets: BTreeMap<Timestamp, (u64, Vec<Change>)>,
    entered: Vec<String>,
    left: Vec<String>,
    bytes: usize,
}

impl Draft {
    pub(super) const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// A change that holds.
    pub(super) fn change(&mut self, at: Timestamp, number: u64, change: Change) {
        self.bytes += size(&change);
        let (of_set, changes) = self.sets.entry(at).or_default();
        *of_set = number.max(*of_set);
        changes.push(change);
    }

    /// An entity is not needed any more.
    pub(super) fn leave(&mut self, name: &str) {
        self.bytes += name.len() + 2;
        self.left.push(name.to_owned());
    }

    fn enter(&mut self, name: &str) {
        self.bytes += name.len() + 2;
        self.entered.push(name.to_owned());
    }

    pub(super) fn encode(self) -> Bytes {
        let sets = self.sets.into_iter().map(|(timestamp, (number, changes))| {
            let set = ChangeSet {
                timestamp,
                number,
                changes,
            };
            Bytes::from(set.encode())
        });
        let delta = v1::CoverageDelta {
            change_sets: sets.collect(),
            entered: self.entered,
            left: self.left,
            answer: None,
        };
        delta.encode_to_vec().into()
    }
}

/// Parts of a delta, each small enough for a message.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    done: Vec<Bytes>,
    draft: Draft,
}

impl Drafts {
    /// An entity that comes, with all that is known of it.
    pub(super) fn enter(&mut self, graph: &Graph, entity: EntityNumber) {
        self.draft.enter(graph.dictionary().entity(entity).as_str());
        graph.confirmed(entity, |at, change| {
            self.draft.change(at, 0, change);
            self.cut();
        });
        self.cut();
    }

    pub(super) fn change(&mut self, at: Timestamp, number: u64, change: Change) {
        self.draft.change(at, number, change);
        self.cut();
    }

    pub(super) fn leave(&mut self, name: &str) {
        self.draft.leave(name);
        self.cut();
    }

    /// The parts; none if nothing was put in.
    pub(super) fn finish(mut self) -> Vec<Bytes> {
        if !self.draft.is_empty() {
            self.done.push(self.draft.encode());
        }
        self.done
    }

    fn cut(&mut self) {
        if self.draft.bytes >= CHUNK_BYTES {
            self.done.push(std::mem::take(&mut self.draft).encode());
        }
    }
}

/// Bytes of a change as encoded, about.
pub(super) fn size(change: &Change) -> usize {
    let subject = change.subject().map_or(0, |subject| subject.as_str().len());
    let predicate = change.predicate().map_or(0, |predicate| predicate.as_str().len());
    let value = change.value().map_or(0, |value| match value {
        Value::String(text) | Value::Json(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Ref(entity) => entity.as_str().len(),
        Value::Number(_) | Value::Boolean(_) | Value::Date(_) => 8,
    });
    subject + predicate + value + CHANGE_OVERHEAD
}

/// Bytes of a change besides its names and value, with its share of a set; and enough that the changes of one part are
/// not too many for one set.
const CHANGE_OVERHEAD: usize = 28;

const _: () = assert!(CHUNK_BYTES / CHANGE_OVERHEAD < CHANGES_MAX);
const _: () = assert!(CHUNK_BYTES + VALUE_BYTES_MAX < CHANGE_SET_BYTES_MAX);
