//! One query that is followed, and who follows it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use halcyon_core::{
    collections::compact,
    coverage::{Digest, bucket_of},
    fingerprint::Fingerprint,
    graph::Graph,
    id::EntityId,
    query::live::Coverage,
    version_vector::VersionVector,
};
use prost::bytes::Bytes;

use super::{
    delta::Drafts,
    kept::{AnswerError, Kept},
};
use crate::session::{Session, SessionId};

/// Who follows a query: the session, and its number for the subscription.
pub(super) type Follows = (SessionId, u32);

/// A query that is kept up to date.
#[derive(Debug)]
pub(super) struct Plan {
    /// Tells equal queries.
    pub(super) key: u128,
    pub(super) kept: Kept,
    /// Where what it rests on becomes too much, its answer may be kept.
    pub(super) can_be_answered: bool,
    /// Mostly one: a B-tree has room for eleven at once.
    pub(super) subscribers: compact::Map<Follows, Subscriber>,
    /// Since when nobody follows it.
    pub(super) idle_since: Duration,
}

/// One who follows it. What is rarely there is elsewhere: a plan has one for each, and room for some more.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) session: Session,
    /// It is to say what it holds of these buckets; until when.
    pub(super) resuming: Option<Box<(BTreeSet<u8>, Duration)>>,
    /// It has seen more than the node had: this.
    pub(super) ahead: Option<Box<VersionVector>>,
}

/// The entities that a client holds in buckets that differ, and of each, if it says so, the fingerprint.
pub type Held = BTreeMap<EntityId, Option<Fingerprint>>;

impl Plan {
    /// The digest of all that it covers; of an answer there is none, it is sent whole.
    pub(super) fn digest(&self, graph: &Graph) -> Option<Digest> {
        let Kept::Coverage(coverage) = &self.kept else {
            return None;
        };
        let mut digest = Digest::default();
        for entity in coverage.entities() {
            digest.add(graph.dictionary().entity(entity), graph.fingerprint_of_entity(entity));
        }
        Some(digest)
    }

    /// All that is sent for it, or of its coverage only what is in some buckets.
    pub(super) fn load(&mut self, graph: &Graph, buckets: Option<&BTreeSet<u8>>) -> Result<Vec<Bytes>, AnswerError> {
        match &mut self.kept {
            Kept::Coverage(coverage) => Ok(parts(coverage, graph, buckets, None)),
            Kept::Answer(answered) => answered.whole(),
        }
    }

    /// What a client does not hold of some buckets as it is here, and what it holds there that is not covered.
    pub(super) fn repair(&self, graph: &Graph, buckets: &BTreeSet<u8>, held: &Held) -> Vec<Bytes> {
        match &self.kept {
            Kept::Coverage(coverage) => parts(coverage, graph, Some(buckets), Some(held)),
            Kept::Answer(_) => Vec::new(),
        }
    }
}

fn parts(coverage: &Coverage, graph: &Graph, buckets: Option<&BTreeSet<u8>>, held: Option<&Held>) -> Vec<Bytes> {
    let mut drafts = Drafts::default();
    let dictionary = graph.dictionary();
    for entity in coverage.entities() {
        let name = dictionary.entity(entity);
        let is_asked = |buckets: &BTreeSet<u8>| buckets.contains(&bucket_of(name));
        let theirs = held.and_then(|held| held.get(name).copied().flatten());
        let is_held = theirs.is_some_and(|theirs| theirs == graph.fingerprint_of_entity(entity));
        if buckets.is_none_or(is_asked) && !is_held {
            drafts.enter(graph, entity);
        }
    }
    for name in held.into_iter().flat_map(BTreeMap::keys) {
        let number = dictionary.entity_number(name);
        if !number.is_some_and(|number| coverage.contains(number)) {
            drafts.leave(name.as_str());
        }
    }
    drafts.finish()
}
