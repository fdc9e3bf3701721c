//! Everything that was ever committed, by tenant: the oracles' common knowledge.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use halcyon_core::{
    change::{Change, ChangeSet},
    clock::ClientId,
    id::{EntityId, NodeId, OriginId, Seq, Tag, TenantId},
    version_vector::VersionVector,
};

use super::Event;
use crate::{model::History, plan::cluster::Host, run::Stage};

/// What was committed to one tenant.
#[derive(Debug, Default)]
pub struct Book {
    sets: BTreeMap<Tag, (u64, Arc<ChangeSet>)>,
    /// The same sets by client and number: one that was pushed again has several tags.
    by_number: BTreeMap<(ClientId, u64), BTreeSet<Tag>>,
    /// The last seq of each origin.
    last: BTreeMap<OriginId, Seq>,
    /// Sets that only a disk held that is gone, or went back: they may be somewhere, in part, or nowhere.
    doubtful: BTreeSet<Tag>,
    /// Those of them whose own disk had gone before the last other one that held them.
    lost_twice: BTreeSet<Tag>,
}

impl Book {
    /// A set, by its tag.
    pub fn set(&self, tag: Tag) -> Option<&ChangeSet> {
        self.sets.get(&tag).map(|(_, set)| &**set)
    }

    /// All sets, by tag.
    pub fn sets(&self) -> impl Iterator<Item = (Tag, &ChangeSet)> {
        self.sets.iter().map(|(tag, (_, set))| (*tag, &**set))
    }

    /// The sets that a client was told of by the number of its own and a tag. A set that was taken long ago, and is
    /// pushed again, is answered with the tag of the last that its client had there: it is durable by then.
    pub fn told_of(&self, number: u64, tag: Tag) -> impl Iterator<Item = (Tag, &ChangeSet)> {
        let there = self.set(tag);
        let is_it = there.is_some_and(|set| set.number == number);
        let elsewhere = there.filter(|_| !is_it).map(ChangeSet::client);
        let tags = elsewhere
            .into_iter()
            .flat_map(move |client| self.tags_of(client, number));
        let tags = is_it.then_some(tag).into_iter().chain(tags);
        tags.filter_map(|tag| Some((tag, self.set(tag)?)))
    }

    /// Everywhere that a client's set was committed.
    pub fn tags_of(&self, client: ClientId, number: u64) -> impl Iterator<Item = Tag> + '_ {
        self.by_number.get(&(client, number)).into_iter().flatten().copied()
    }

    /// The last seq that an origin gave.
    pub fn last(&self, origin: OriginId) -> Seq {
        self.last.get(&origin).copied().unwrap_or_default()
    }

    /// Whether only a disk held it that is gone or went back.
    pub fn is_doubtful(&self, tag: Tag) -> bool {
        self.doubtful.contains(&tag)
    }

    /// Whether the disk that took it and another's that held it are gone, or went back, both.
    pub fn is_lost_twice(&self, tag: Tag) -> bool {
        self.lost_twice.contains(&tag)
    }

    /// How many sets there are and how many of them are in doubt: both only grow.
    pub fn size(&self) -> (usize, usize) {
        (self.sets.len(), self.doubtful.len())
    }

    /// Whether nothing is in doubt of what a vector covers.
    pub fn is_sure_of(&self, vector: &VersionVector) -> bool {
        !self.doubtful.iter().any(|tag| vector.covers_tag(*tag))
    }

    /// What a replica with this vector holds, and whether that can be said for sure.
    pub fn covered_by(&self, vector: &VersionVector) -> (History, bool) {
        let mut history = History::default();
        for (tag, (_, set)) in &self.sets {
            if vector.covers_tag(*tag) {
                // Two contents of one tag were reported when the second came.
                let _ = history.add(*tag, set.clone());
            }
        }
        (history, self.is_sure_of(vector))
    }

    /// Whether an entity may have come back after its deletion was collected: only a disk that is gone, or went back,
    /// had the set that creates it, and this vector covers the same set, pushed again.
    pub fn may_be_back(&self, subject: &EntityId, vector: &VersionVector) -> bool {
        let lost = self.doubtful.iter().filter_map(|tag| Some((*tag, self.set(*tag)?)));
        let mut creations = lost.filter(|(_, set)| creates(set, subject));
        creations.any(|(lost, set)| {
            let mut tags = self.tags_of(set.client(), set.number);
            tags.any(|tag| tag != lost && vector.covers_tag(tag))
        })
    }

    /// Whether any deleted entity may have come back where this vector is.
    pub fn may_any_be_back(&self, vector: &VersionVector) -> bool {
        let covered = self.sets().filter(|(tag, _)| vector.covers_tag(*tag));
        let mut deleted = covered.flat_map(|(_, set)| deletions(set));
        deleted.any(|subject| self.may_be_back(subject, vector))
    }
}

fn creates(set: &ChangeSet, subject: &EntityId) -> bool {
    let is_it = |change: &Change| matches!(change, Change::Create { subject: created } if created == subject);
    set.changes.iter().any(is_it)
}

/// The entities that a set deletes.
fn deletions(set: &ChangeSet) -> impl Iterator<Item = &EntityId> {
    set.changes.iter().filter_map(|change| match change {
        Change::Delete { subject } => Some(subject),
        _ => None,
    })
}

/// All tenants' books.
#[derive(Debug, Default)]
pub struct Ledger {
    books: BTreeMap<TenantId, Book>,
    /// Hosts whose disks are not what they were.
    changed: BTreeSet<Host>,
    /// Nodes that were removed with force, from the order on: what they take until they hear of it nobody else gets.
    out: BTreeSet<NodeId>,
}

impl Ledger {
    /// A tenant's.
    pub fn book(&self, tenant: TenantId) -> Option<&Book> {
        self.books.get(&tenant)
    }

    /// Every tenant with anything in it.
    pub fn books(&self) -> impl Iterator<Item = (TenantId, &Book)> {
        self.books.iter().map(|(tenant, book)| (*tenant, book))
    }

    /// An error: a tag that was used for two contents.
    pub(super) fn hear(&mut self, event: &Event, stage: &Stage) -> Result<(), String> {
        match event {
            Event::Committed {
                host,
                tenant,
                tag,
                hash,
                set,
            } => self.commit(*host, *tenant, *tag, (*hash, set)),
            Event::Began(tenant, origin) => {
                let last = &mut self.books.entry(*tenant).or_default().last;
                last.entry(*origin).or_insert(Seq(1));
                Ok(())
            }
            Event::DiskChanged(host) => {
                self.doubt(*host, stage);
                Ok(())
            }
            Event::TakenOut(host) => {
                self.out.extend(stage.nodes_of(*host));
                self.doubt(*host, stage);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn commit(&mut self, host: Host, tenant: TenantId, tag: Tag, (hash, set): (u64, &ChangeSet)) -> Result<(), String> {
        let book = self.books.entry(tenant).or_default();
        if let Some((held_hash, held)) = book.sets.get(&tag) {
            if (*held_hash, &**held) != (hash, set) {
                return Err(format!(
                    "{} of {tenant} stands for two contents: {host} took {set:?} and {held:?} was there",
                    Told(tag)
                ));
            }
            return Ok(());
        }
        book.sets.insert(tag, (hash, Arc::new(set.clone())));
        book.by_number
            .entry((set.client(), set.number))
            .or_default()
            .insert(tag);
        if self.out.contains(&tag.origin.node) {
            book.doubtful.insert(tag);
        }
        let last = book.last.entry(tag.origin).or_default();
        *last = tag.seq.max(*last);
        Ok(())
    }

    /// A host's disk is not what it was, or out of reach for good: of what it took, and of what those took whose disks
    /// changed before, all that nobody else has is in doubt.
    fn doubt(&mut self, host: Host, stage: &Stage) {
        let others: Vec<_> = stage
            .running()
            .into_iter()
            .filter(|(other, _)| *other != host)
            .collect();
        self.changed.insert(host);
        let own = stage.nodes_of(host);
        let nodes: BTreeSet<NodeId> = self.changed.iter().flat_map(|host| stage.nodes_of(*host)).collect();
        for (tenant, book) in &mut self.books {
            let vectors: Vec<VersionVector> = others
                .iter()
                .filter_map(|(_, rooms)| rooms.storage.summary(*tenant).ok().flatten())
                .map(|summary| summary.vector)
                .collect();
            let is_alone = |tag: &Tag| !vectors.iter().any(|vector| vector.covers_tag(*tag));
            let taken = book.sets.keys().filter(|tag| nodes.contains(&tag.origin.node));
            for tag in taken.copied().filter(is_alone) {
                if book.doubtful.insert(tag) && !own.contains(&tag.origin.node) {
                    book.lost_twice.insert(tag);
                }
            }
        }
    }
}

/// A tag for people.
pub(super) struct Told(pub(super) Tag);

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.0.origin, self.0.seq)
    }
}
