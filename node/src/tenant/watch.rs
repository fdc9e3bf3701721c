//! Watching a tenant from a version vector: what was missed, then every set as it comes, without a gap or a repeat.
//!
//! The watcher registers at the feed first and reads the snapshot then, so what is committed in between comes by both
//! ways and is dropped once, by the vector. Whenever the feed has lost something, or a catch-up moved the vector by more
//! than single sets, the watcher reads again from where it is.
//!
//! Deletions come as `delete` changes. What tombstones know besides never leaves.

use std::{collections::BTreeMap, sync::Arc};

use futures::{Stream, stream};
use halcyon_core::{
    change::{Change, ChangeSet},
    clock::Timestamp,
    fact::Fact,
    id::{Seq, Tag, TenantId},
    version_vector::VersionVector,
};
use prost::bytes::Bytes;
use tokio::time::timeout;

use super::{
    ReadError, Tenants,
    feed::{FeedEvent, Subscription},
    limits::{HEARTBEAT, MISSED_BYTES_MAX},
};
use crate::storage::{
    DeltaReader,
    types::{Commit, StorageError},
};

/// What a watcher hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// A part of what was missed: encoded change sets with what still holds of them. Not whole before `CaughtUp`.
    Missed(Vec<Bytes>),
    /// All that was missed is in: the watcher now holds this.
    CaughtUp(VersionVector),
    /// One change set, whole.
    Live {
        /// Where its origin put it.
        tag: Tag,
        /// Encoded.
        change_set: Bytes,
    },
    /// The connection lives.
    Held {
        /// What this node holds durably.
        own: VersionVector,
        /// Of every origin, how far another replica is known to have it durable.
        second: VersionVector,
    },
}

pub(super) fn watch(
    tenants: Tenants,
    tenant: TenantId,
    vector: VersionVector,
) -> impl Stream<Item = Result<WatchEvent, ReadError>> + use<> {
    let subscription = tenants.feed.subscribe(tenant);
    let watcher = Watcher {
        tenants,
        tenant,
        vector,
        subscription,
        phase: Phase::Open,
    };
    stream::unfold(Some(watcher), |watcher| async {
        let mut watcher = watcher?;
        match watcher.next().await {
            Ok(event) => Some((Ok(event), Some(watcher))),
            Err(error) => Some((Err(error), None)),
        }
    })
}

struct Watcher {
    tenants: Tenants,
    tenant: TenantId,
    /// What the watcher holds, once it has read all that was sent.
    vector: VersionVector,
    subscription: Subscription,
    phase: Phase,
}

enum Phase {
    /// A snapshot has to be opened.
    Open,
    /// It is being read.
    Reading(Box<DeltaReader>),
    /// Sets are passed on as they come.
    Live,
}

impl Watcher {
    async fn next(&mut self) -> Result<WatchEvent, ReadError> {
        loop {
            match &mut self.phase {
                Phase::Open => {
                    self.tenants.check(self.tenant)?;
                    let reader = self.tenants.storage.open_delta(self.tenant, &self.vector, None)?;
                    self.phase = Phase::Reading(Box::new(reader));
                }
                Phase::Reading(reader) => {
                    let batch = self.tenants.env.run_blocking(|| read(reader));
                    match batch.await? {
                        Some(sets) if sets.is_empty() => {}
                        Some(sets) => return Ok(WatchEvent::Missed(sets)),
                        None => {
                            self.vector.join(reader.vector());
                            self.phase = Phase::Live;
                            return Ok(WatchEvent::CaughtUp(self.vector.clone()));
                        }
                    }
                }
                Phase::Live => match timeout(HEARTBEAT, self.subscription.next()).await {
                    Ok(FeedEvent::Committed(commit)) => {
                        if let Some(event) = self.on_commit(&commit) {
                            return Ok(event);
                        }
                    }
                    Ok(FeedEvent::Missed) => self.phase = Phase::Open,
                    Ok(FeedEvent::Erased) => return Err(StorageError::NotHeld(self.tenant).into()),
                    Err(_) => return self.beat(),
                },
            }
        }
    }

    fn on_commit(&mut self, commit: &Arc<Commit>) -> Option<WatchEvent> {
        let tag = commit.tag;
        if self.vector.covers_tag(tag) {
            return None;
        }
        if tag.seq != self.vector.get(tag.origin).next() {
            self.phase = Phase::Open;
            return None;
        }
        self.vector.raise(tag);
        Some(WatchEvent::Live {
            tag,
            change_set: commit.encoded.clone(),
        })
    }

    fn beat(&self) -> Result<WatchEvent, ReadError> {
        self.tenants.check(self.tenant)?;
        let (own, second) = self.tenants.held(self.tenant)?;
        Ok(WatchEvent::Held { own, second })
    }
}

/// The next batch as change sets; what belongs to the half of a delta is left for when it is whole.
fn read(reader: &mut DeltaReader) -> Result<Option<Vec<Bytes>>, StorageError> {
    let Some(facts) = reader.next_batch(MISSED_BYTES_MAX)? else {
        return Ok(None);
    };
    let whole = reader.vector();
    Ok(Some(to_sets(
        facts.into_iter().filter(|fact| whole.covers_tag(fact.tag)),
    )))
}

/// Facts as change sets, one for each commit and timestamp. Registers come before the elements that they would hide.
fn to_sets(facts: impl Iterator<Item = Fact>) -> Vec<Bytes> {
    let mut sets: BTreeMap<(Tag, Timestamp), (Vec<Change>, Vec<Change>)> = BTreeMap::new();
    for fact in facts {
        let Some((timestamp, change)) = fact.body.into_change() else {
            continue;
        };
        let (registers, elements) = sets.entry((fact.tag, timestamp)).or_default();
        match change {
            Change::Set { .. } | Change::Unset { .. } => registers.push(change),
            _ => elements.push(change),
        }
    }
    let encode = |((tag, timestamp), (mut changes, elements)): ((Tag, Timestamp), (Vec<Change>, Vec<Change>))| {
        changes.extend(elements);
        let Seq(number) = tag.seq;
        let set = ChangeSet {
            timestamp,
            number,
            changes,
        };
        Bytes::from(set.encode())
    };
    sets.into_iter().map(encode).collect()
}
