//! Watching a tenant from a version vector: what was missed, then every set as it comes, without a gap or a repeat.
//!
//! A watcher who was away while deletions were collected cannot be told of them any more: it is told to begin anew, and
//! then everything.
//!
//! Deletions come as `delete` changes. What tombstones know besides never leaves.

use std::collections::BTreeMap;

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
    follow::{Followed, Follower},
    limits::HEARTBEAT,
};

/// What a watcher hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// What was heard before no longer counts: all that holds follows.
    Anew,
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
    let watcher = Watcher {
        follower: Follower::new(tenants.clone(), tenant, vector),
        tenants,
        tenant,
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
    follower: Follower,
}

impl Watcher {
    async fn next(&mut self) -> Result<WatchEvent, ReadError> {
        loop {
            let step = if self.follower.is_live() {
                match timeout(HEARTBEAT, self.follower.step()).await {
                    Ok(step) => step?,
                    Err(_) => return self.beat(),
                }
            } else {
                self.follower.step().await?
            };
            match step {
                None => {}
                Some(Followed::Anew) => return Ok(WatchEvent::Anew),
                Some(Followed::Facts(facts)) => return Ok(WatchEvent::Missed(to_sets(facts))),
                Some(Followed::Whole) => return Ok(WatchEvent::CaughtUp(self.follower.vector().clone())),
                Some(Followed::Commit(commit)) => {
                    return Ok(WatchEvent::Live {
                        tag: commit.tag,
                        change_set: commit.encoded.clone(),
                    });
                }
            }
        }
    }

    fn beat(&self) -> Result<WatchEvent, ReadError> {
        self.tenants.check(self.tenant)?;
        let (own, second) = self.tenants.held(self.tenant)?;
        Ok(WatchEvent::Held { own, second })
    }
}

/// Facts as change sets, one for each commit and timestamp. Registers come before the elements that they would hide.
fn to_sets(facts: Vec<Fact>) -> Vec<Bytes> {
    let mut sets: BTreeMap<(Tag, Timestamp), (Vec<Change>, Vec<Change>)> = BTreeMap::new();
    for fact in facts {
        let Some((timestamp, change)) = fact.body.into_change() else {
            continue;
        };
        // When a field was emptied, of which the rest was collected, is for nodes.
        if matches!(&change, Change::Remove { predicate, .. } if predicate.is_reserved()) {
            continue;
        }
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
