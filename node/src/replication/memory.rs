//! A replica in memory, by the rules of storage in their plainest form: what the model runs.

use std::collections::BTreeSet;

use halcyon_core::{
    change::ChangeSet,
    fact::{Fact, FactBody},
    id::{EntityId, Seq, Tag},
    store::{Entity, MemoryStore},
    version_vector::VersionVector,
};

use crate::storage::types::{GossipOutcome, ResumeToken};

/// A replica of one tenant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replica {
    pub(crate) store: MemoryStore,
    pub(crate) vector: VersionVector,
    pub(crate) seen: VersionVector,
    pub(crate) token: Option<ResumeToken>,
}

impl Replica {
    /// Takes in a set that is the next of its origin.
    pub(crate) fn commit(&mut self, tag: Tag, set: &ChangeSet) {
        assert_eq!(
            self.vector.get(tag.origin).next(),
            tag.seq,
            "a set was committed out of order"
        );
        self.store.apply_set(tag, set);
        self.vector.raise(tag);
        self.seen.raise(tag);
    }

    /// Takes in a gossiped set, if it is the next of its origin.
    pub(crate) fn gossip(&mut self, tag: Tag, set: &ChangeSet) -> GossipOutcome {
        let last = self.vector.get(tag.origin);
        if last >= tag.seq {
            return GossipOutcome::Held;
        }
        if last.next() != tag.seq {
            return GossipOutcome::Gap(last);
        }
        self.commit(tag, set);
        GossipOutcome::Taken
    }

    /// All facts, in the order of their tags.
    pub(crate) fn facts(&self) -> Vec<Fact> {
        let mut facts = Vec::new();
        for (subject, entity) in self.store.entities() {
            match entity {
                Entity::Deleted(tag) => facts.push(Fact {
                    tag: *tag,
                    body: FactBody::Tombstone {
                        subject: subject.clone(),
                    },
                }),
                Entity::Live(cells) => {
                    for (predicate, cell) in cells {
                        facts.extend(cell.register.as_ref().map(|register| Fact {
                            tag: register.tag,
                            body: FactBody::Register {
                                subject: subject.clone(),
                                predicate: predicate.clone(),
                                timestamp: register.timestamp,
                                value: register.value.clone(),
                            },
                        }));
                        facts.extend(cell.elements.iter().map(|(value, element)| Fact {
                            tag: element.tag,
                            body: FactBody::Element {
                                subject: subject.clone(),
                                predicate: predicate.clone(),
                                timestamp: element.timestamp,
                                value: value.clone(),
                                present: element.present,
                            },
                        }));
                    }
                }
            }
        }
        facts.sort_by_key(|fact| fact.tag);
        facts
    }

    /// What `theirs` lacks; with a token of use, without what came before its progress.
    pub(crate) fn delta(&self, theirs: &VersionVector, token: Option<&ResumeToken>) -> Vec<Fact> {
        let is_lacking = |fact: &Fact| {
            let is_skipped = token.is_some_and(|token| fact.tag <= token.progress && token.vector.covers_tag(fact.tag));
            !theirs.covers_tag(fact.tag) && !is_skipped
        };
        let mut facts = self.facts();
        facts.retain(is_lacking);
        facts
    }

    /// Takes in a fact, unless the vector covers it: then it is held, or was beaten.
    pub(crate) fn take_fact(&mut self, fact: &Fact, skips_covered: bool) {
        if skips_covered && self.vector.covers_tag(fact.tag) {
            return;
        }
        self.seen.raise(fact.tag);
        apply(&mut self.store, fact);
    }

    /// The whole of a delta is in.
    pub(crate) fn complete(&mut self, vector: &VersionVector) {
        self.vector.join(vector);
        self.seen.join(vector);
        self.token = None;
    }

    /// Forgets tombstones.
    pub(crate) fn collect(&mut self, subjects: &BTreeSet<EntityId>) {
        let mut store = MemoryStore::default();
        for fact in self.facts() {
            let is_collected = matches!(&fact.body, FactBody::Tombstone { subject } if subjects.contains(subject));
            if !is_collected {
                apply(&mut store, &fact);
            }
        }
        self.store = store;
    }

    /// The tombstone of an entity.
    pub(crate) fn tombstone(&self, subject: &EntityId) -> Option<Tag> {
        match self.store.entity(subject) {
            Some(Entity::Deleted(tag)) => Some(*tag),
            Some(Entity::Live(_)) | None => None,
        }
    }

    /// No half of a delta is in.
    pub(crate) fn is_exact(&self) -> bool {
        self.vector.covers(&self.seen)
    }

    /// The seq after the last of an origin's.
    pub(crate) fn next_seq(&self, origin: halcyon_core::id::OriginId) -> Seq {
        self.vector.get(origin).next()
    }
}

fn apply(store: &mut MemoryStore, fact: &Fact) {
    if let Some((timestamp, change)) = fact.body.clone().into_change() {
        store.apply(fact.tag, &timestamp, &change);
    }
}
