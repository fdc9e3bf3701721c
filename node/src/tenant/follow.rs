//! Following a tenant from a version vector: what was missed, then every commit as it comes, without a gap or a repeat.
//!
//! The follower registers at the feed first and reads the snapshot then, so what is committed in between comes by both
//! ways and is dropped once, by the vector. Whenever the feed has lost something, or a catch-up moved the vector by more
//! than single sets, it reads again from where it is.

use std::sync::Arc;

use futures::FutureExt;
use halcyon_core::{fact::Fact, id::TenantId, version_vector::VersionVector};

use super::{
    ReadError, Tenants,
    feed::{FeedEvent, Subscription},
    limits::MISSED_BYTES_MAX,
};
use crate::storage::{
    DeltaReader,
    types::{Commit, StorageError},
};

/// What a follower hears.
#[derive(Debug)]
pub enum Followed {
    /// What was heard before no longer counts: all that holds follows. Deletions were collected in the meantime that
    /// nobody can tell any more.
    Anew,
    /// A part of what was missed. Not whole before [`Self::Whole`].
    Facts(Vec<Fact>),
    /// All that was missed is in; [`Follower::vector`] says what is held.
    Whole,
    /// One commit.
    Commit(Arc<Commit>),
}

/// Follows one tenant.
pub struct Follower {
    tenants: Tenants,
    tenant: TenantId,
    /// What whoever follows holds, once it has taken in all that it was told.
    vector: VersionVector,
    subscription: Subscription,
    phase: Phase,
}

enum Phase {
    /// A snapshot has to be opened.
    Open,
    /// It is being read.
    Reading(Box<DeltaReader>),
    /// Commits are passed on as they come.
    Live,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Follower").field(&self.tenant).finish()
    }
}

impl Follower {
    pub(super) fn new(tenants: Tenants, tenant: TenantId, vector: VersionVector) -> Self {
        let subscription = tenants.feed.subscribe(tenant);
        Self {
            tenants,
            tenant,
            vector,
            subscription,
            phase: Phase::Open,
        }
    }

    /// What is held by whoever took in all that it was told.
    pub const fn vector(&self) -> &VersionVector {
        &self.vector
    }

    /// Whether commits are passed on as they come. Only then may [`Self::step`] be given up before it is done.
    pub const fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live)
    }

    /// Goes on by one step, which may have nothing to tell.
    pub async fn step(&mut self) -> Result<Option<Followed>, ReadError> {
        match &mut self.phase {
            Phase::Open => {
                self.tenants.check(self.tenant)?;
                let reader = self.tenants.storage.open_delta(self.tenant, &self.vector, None)?;
                if !reader.tells_all_to(&self.vector) {
                    self.vector = VersionVector::EMPTY;
                    return Ok(Some(Followed::Anew));
                }
                self.phase = Phase::Reading(Box::new(reader));
                Ok(None)
            }
            Phase::Reading(reader) => {
                let batch = self.tenants.env.run_blocking(|| read(reader));
                if let Some(facts) = batch.await? {
                    return Ok((!facts.is_empty()).then_some(Followed::Facts(facts)));
                }
                self.vector.join(reader.vector());
                self.phase = Phase::Live;
                Ok(Some(Followed::Whole))
            }
            Phase::Live => {
                let event = self.subscription.next().await;
                self.on_event(event)
            }
        }
    }

    /// The next commit, if it is there already.
    pub fn ready(&mut self) -> Result<Option<Arc<Commit>>, ReadError> {
        while self.is_live() {
            let Some(event) = self.subscription.next().now_or_never() else {
                break;
            };
            if let Some(Followed::Commit(commit)) = self.on_event(event)? {
                return Ok(Some(commit));
            }
        }
        Ok(None)
    }

    fn on_event(&mut self, event: FeedEvent) -> Result<Option<Followed>, ReadError> {
        match event {
            FeedEvent::Committed(commit) => Ok(self.on_commit(commit)),
            FeedEvent::Missed => {
                self.phase = Phase::Open;
                Ok(None)
            }
            FeedEvent::Erased => Err(StorageError::NotHeld(self.tenant).into()),
        }
    }

    fn on_commit(&mut self, commit: Arc<Commit>) -> Option<Followed> {
        let tag = commit.tag;
        if self.vector.covers_tag(tag) {
            return None;
        }
        if tag.seq != self.vector.get(tag.origin).next() {
            self.phase = Phase::Open;
            return None;
        }
        self.vector.raise(tag);
        Some(Followed::Commit(commit))
    }
}

/// The next batch; what belongs to the half of a delta is left for when it is whole.
fn read(reader: &mut DeltaReader) -> Result<Option<Vec<Fact>>, StorageError> {
    let Some(mut facts) = reader.next_batch(MISSED_BYTES_MAX)? else {
        return Ok(None);
    };
    let whole = reader.vector();
    facts.retain(|fact| whole.covers_tag(fact.tag));
    Ok(Some(facts))
}
