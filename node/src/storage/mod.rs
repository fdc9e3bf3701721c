//! Storage of triples: what is acknowledged is on this disk, and nothing is shown or told to anyone before that.
//!
//! A node has a few shards; a tenant lives in one of them. A shard is a log, an overlay in memory, and an index:
//! - each group of requests is one frame of the **log** and one sync, shared by all who wait ([`writer`], [`log`]);
//! - what the log holds is merged into the **overlay** ([`layer`]), from which reads see it at once;
//! - the overlay is folded, tens of thousands of rows at a time and in the order of keys, into the **index**, a redb
//!   file ([`base`]), because the pages of an index in random order are what a commit costs, not the sync;
//! - what the disk gives back is checked, frame by frame and page by page ([`sealed`]): a damaged page is never shown, and
//!   the node stops for good.
//!
//! A shard's state is a function of its commands ([`command`]); a restart replays those that no fold has taken in.
//! Reads merge the overlay and the index, and never wait for a sync.

mod admit;
mod apply;
mod base;
pub mod bench;
mod careful;
mod command;
mod delta;
mod facts;
mod group;
mod keys;
mod layer;
mod limits;
mod log;
mod merge;
mod open;
mod replay;
mod request;
mod resolve;
mod rewrite;
mod scan;
mod sealed;
mod shard;
mod state;
mod tables;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod types;
pub(crate) mod view;
mod walk;
mod work;
mod writer;

use std::sync::{Arc, atomic::Ordering};

use halcyon_core::{
    clock::{NTP64, WallTime},
    codec::Reader as Bytes,
    id::{EntityId, NodeId, TenantId},
    version_vector::VersionVector,
};
use tokio::sync::{Semaphore, mpsc, oneshot};
use xxhash_rust::xxh3::xxh3_64;

pub use self::{base::OpenError, delta::DeltaReader, open::Options};
use self::{
    keys::Place,
    limits::{GROUP_BYTES, QUEUE_BYTES_MAX},
    request::{Act, Queued, Request},
    resolve::Resolver,
    scan::Source,
    shard::Shard,
    tables::Table,
    types::{
        Admit, AdmitError, Admitted, CellKey, CollectOutcome, DeltaBatch, GossipOutcome, GossipSet, LiveTriple,
        ResumeToken, ScanPage, ScanQuery, StorageError, Summary,
    },
    view::TenantView,
    work::damaged,
};

/// Bytes that a request takes besides what it carries.
const REQUEST_BYTES: usize = 128;

/// The node's storage. Clones are handles to one.
#[derive(Debug, Clone)]
pub struct Storage {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shards: Vec<Arc<Shard>>,
    /// The doors to the shards' writers. A writer ends when the last handle does.
    senders: Vec<mpsc::Sender<Queued>>,
    log_ids: Vec<u64>,
    /// Bytes of requests that may still be queued.
    room: Arc<Semaphore>,
}

/// What storage has done since the start, and what waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct StorageMetrics {
    /// Requests made durable.
    pub commits: u64,
    /// Syncs of the log: each made one group of requests durable.
    pub syncs: u64,
    /// Bytes written to the log.
    pub log_bytes: u64,
    /// Times the overlay was written to the index.
    pub folds: u64,
    /// Bytes in the overlay.
    pub overlay_bytes: u64,
    /// Requests that wait.
    pub queued: u64,
}

impl Storage {
    /// Takes a client's change set. Answered when it is durable.
    pub async fn admit(&self, admit: Admit) -> Result<Admitted, AdmitError> {
        let bytes = admit.encoded.len() + REQUEST_BYTES;
        let sender = &self.inner.senders[self.shard_of(admit.tenant)];
        let room = u32::try_from(bytes).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.inner.room).try_acquire_many_owned(room);
        let permit = permit.map_err(|_| AdmitError::Busy)?;
        let (reply, answer) = oneshot::channel();
        let queued = Queued {
            request: Request::Admit(admit, reply),
            bytes,
            permit: Some(permit),
        };
        sender.try_send(queued).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AdmitError::Busy,
            mpsc::error::TrySendError::Closed(_) => StorageError::Closed.into(),
        })?;
        answer.await.unwrap_or(Err(StorageError::Unanswered.into()))
    }

    /// Takes sets that other nodes committed first; answers in the same order when they are durable.
    pub async fn take_gossip(&self, from: NodeId, sets: Vec<GossipSet>) -> Result<Vec<GossipOutcome>, StorageError> {
        let mut outcomes: Vec<Option<GossipOutcome>> = vec![None; sets.len()];
        let mut groups = Vec::new();
        for (place, set) in sets.into_iter().enumerate() {
            let shard = self.shard_of(set.tenant);
            let bytes = set.encoded.len() + REQUEST_BYTES;
            let open = groups.iter_mut().rfind(|group: &&mut GossipGroup| group.shard == shard);
            match open {
                Some(group) if group.bytes + bytes <= GROUP_BYTES => group.push(place, set, bytes),
                _ => {
                    let mut group = GossipGroup {
                        shard,
                        ..GossipGroup::default()
                    };
                    group.push(place, set, bytes);
                    groups.push(group);
                }
            }
        }
        let mut waiting = Vec::new();
        for group in groups {
            let (reply, answer) = oneshot::channel();
            let sets = group.sets;
            self.send(group.shard, group.bytes, Request::Gossip { from, sets, reply })
                .await?;
            waiting.push((group.places, answer));
        }
        for (places, answer) in waiting {
            let answers = answer.await.unwrap_or(Err(StorageError::Unanswered))?;
            for (place, outcome) in places.into_iter().zip(answers) {
                outcomes[place] = Some(outcome);
            }
        }
        Ok(outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or(GossipOutcome::Failed))
            .collect())
    }

    /// Takes a batch of a catch-up stream.
    pub async fn take_delta(&self, batch: DeltaBatch) -> Result<(), StorageError> {
        let bytes = batch.facts.iter().map(delta::size).sum::<usize>() + REQUEST_BYTES;
        let tenant = batch.tenant;
        self.act_of(tenant, Act::Delta(Arc::new(batch)), bytes).await.map(drop)
    }

    /// Makes this node a replica that holds nothing yet and does not admit. Does nothing to a tenant that is held.
    pub async fn open_tenant(&self, tenant: TenantId, collection_epoch: u64) -> Result<(), StorageError> {
        self.act(tenant, Act::Open { collection_epoch }).await.map(drop)
    }

    /// Whether clients' sets are taken.
    pub async fn set_admitting(&self, tenant: TenantId, admitting: bool) -> Result<(), StorageError> {
        self.act(tenant, Act::SetAdmitting(admitting)).await.map(drop)
    }

    /// Forgets a tenant, if there is nothing that `if_covered_by` lacks. Answers whether nothing is held any more.
    pub async fn erase_tenant(
        &self,
        tenant: TenantId,
        if_covered_by: Option<VersionVector>,
    ) -> Result<bool, StorageError> {
        self.act(tenant, Act::Erase { if_covered_by }).await
    }

    /// Raises the vector: an origin was closed for good.
    pub async fn raise_vector(&self, tenant: TenantId, vector: VersionVector) -> Result<(), StorageError> {
        self.act(tenant, Act::Raise(vector)).await.map(drop)
    }

    /// With an empty barrier: whether all cells are held as gone. With one: whether it is covered; what may be forgotten is
    /// durable then, without what shows again by now.
    pub async fn prepare_collection(
        &self,
        tenant: TenantId,
        epoch: u64,
        cells: Vec<CellKey>,
        barrier: VersionVector,
    ) -> Result<bool, StorageError> {
        let bytes = cells.len() * 512 + REQUEST_BYTES;
        self.act_of(tenant, Act::Prepare { epoch, cells, barrier }, bytes).await
    }

    /// Forgets what was prepared for an epoch.
    pub async fn collect(&self, tenant: TenantId, epoch: u64) -> Result<CollectOutcome, StorageError> {
        let done = self.act(tenant, Act::Collect { epoch }).await?;
        Ok(if done {
            CollectOutcome::Collected
        } else {
            CollectOutcome::MustRefill
        })
    }

    /// Finishes what is queued, folds, and stops the writers.
    pub async fn close(&self) {
        let mut waiting = Vec::new();
        for sender in &self.inner.senders {
            let (reply, answer) = oneshot::channel();
            let queued = Queued {
                request: Request::Close(reply),
                bytes: REQUEST_BYTES,
                permit: None,
            };
            if sender.send(queued).await.is_ok() {
                waiting.push(answer);
            }
        }
        for answer in waiting {
            // An error says that the writer is gone, which is what was asked.
            drop(answer.await);
        }
    }

    /// What the replica is; `None` where the tenant is not held.
    pub fn summary(&self, tenant: TenantId) -> Result<Option<Summary>, StorageError> {
        Ok(self.shard(tenant).tenant(tenant).map(|state| state.summary.clone()))
    }

    /// The live triples of an entity, in the order of fields, then values.
    pub fn get(&self, tenant: TenantId, subject: &EntityId) -> Result<Vec<LiveTriple>, StorageError> {
        let query = ScanQuery {
            subject: Some(subject.clone()),
            limit: usize::MAX,
            ..ScanQuery::default()
        };
        let mut page = self.scan(tenant, &query)?;
        let mut triples = page.triples;
        while !page.cursor.is_empty() {
            let cursor = page.cursor;
            page = self.scan(
                tenant,
                &ScanQuery {
                    cursor,
                    ..query.clone()
                },
            )?;
            triples.append(&mut page.triples);
        }
        triples.sort_by(|a, b| (&a.predicate, &a.value).cmp(&(&b.predicate, &b.value)));
        Ok(triples)
    }

    /// A page of live triples.
    pub fn scan(&self, tenant: TenantId, query: &ScanQuery) -> Result<ScanPage, StorageError> {
        let shard = self.shard_of(tenant);
        let published = self.inner.shards[shard].read();
        let state = published.tenants.get(&tenant).ok_or(StorageError::NotHeld(tenant))?;
        let source = Source {
            reader: &published.reader(),
            tenant: state.number,
            log_id: self.inner.log_ids[shard],
        };
        scan::scan(source, query)
    }

    /// A tenant as it is now, to be asked for as long as it takes.
    pub(crate) fn view(&self, tenant: TenantId) -> Result<TenantView, StorageError> {
        let snapshot = self.shard(tenant).snapshot(tenant);
        Ok(TenantView::new(snapshot.ok_or(StorageError::NotHeld(tenant))?))
    }

    /// What a peer with this vector lacks, from a snapshot.
    pub fn open_delta(
        &self,
        tenant: TenantId,
        theirs: &VersionVector,
        token: Option<&ResumeToken>,
    ) -> Result<DeltaReader, StorageError> {
        let snapshot = self
            .shard(tenant)
            .snapshot(tenant)
            .ok_or(StorageError::NotHeld(tenant))?;
        Ok(DeltaReader::new(snapshot, theirs, token))
    }

    /// What an interrupted catch-up left behind.
    pub fn resume_token(&self, tenant: TenantId) -> Result<Option<ResumeToken>, StorageError> {
        let state = self.shard(tenant).tenant(tenant).ok_or(StorageError::NotHeld(tenant))?;
        Ok(state.token.as_deref().cloned())
    }

    /// What says that a fact is gone and was received before a moment, the oldest first.
    pub fn collectable(
        &self,
        tenant: TenantId,
        received_before: WallTime,
        limit: usize,
    ) -> Result<Vec<CellKey>, StorageError> {
        let published = self.shard(tenant).read();
        let state = published.tenants.get(&tenant).ok_or(StorageError::NotHeld(tenant))?;
        let reader = published.reader();
        let mut resolver = Resolver::new(state.number);
        let prefix = keys::key(state.number, &[]);
        let WallTime(NTP64(before)) = received_before;
        let end = [&*prefix, &before.to_be_bytes()].concat();
        let mut rows = reader.range(Table::Collectable, &prefix, Some(&end))?;
        let mut cells = Vec::new();
        while cells.len() < limit
            && let Some((key, _)) = rows.next_row()?
        {
            let place = key.get(prefix.len() + 8..).unwrap_or_default();
            let place = Place::read(Bytes::new(place)).map_err(damaged("collectable"))?;
            cells.extend(resolver.cell_key(&reader, &place)?);
        }
        Ok(cells)
    }

    /// All tenants that are held, in the order of their ids.
    pub fn tenants(&self) -> Result<Vec<TenantId>, StorageError> {
        let mut tenants = Vec::new();
        for shard in &self.inner.shards {
            tenants.extend(shard.read().tenants.keys().copied());
        }
        tenants.sort();
        Ok(tenants)
    }

    /// Whether a shard takes nothing more: its disk failed, and nothing is known of it until the files are opened anew.
    pub fn has_stopped(&self) -> bool {
        self.inner.senders.iter().any(mpsc::Sender::is_closed)
    }

    /// Counters.
    pub fn metrics(&self) -> StorageMetrics {
        let mut sum = StorageMetrics::default();
        for (shard, sender) in self.inner.shards.iter().zip(&self.inner.senders) {
            let counters = &shard.counters;
            sum.commits += counters.commits.load(Ordering::Relaxed);
            sum.syncs += counters.groups.load(Ordering::Relaxed);
            sum.log_bytes += counters.log_bytes.load(Ordering::Relaxed);
            sum.folds += counters.folds.load(Ordering::Relaxed);
            sum.overlay_bytes += shard.read().overlay_bytes() as u64;
            sum.queued += (sender.max_capacity() - sender.capacity()) as u64;
        }
        sum
    }

    async fn act(&self, tenant: TenantId, act: Act) -> Result<bool, StorageError> {
        self.act_of(tenant, act, REQUEST_BYTES).await
    }

    async fn act_of(&self, tenant: TenantId, act: Act, bytes: usize) -> Result<bool, StorageError> {
        let (reply, answer) = oneshot::channel();
        self.send(self.shard_of(tenant), bytes, Request::Act { tenant, act, reply })
            .await?;
        answer.await.unwrap_or(Err(StorageError::Unanswered))
    }

    async fn send(&self, shard: usize, bytes: usize, request: Request) -> Result<(), StorageError> {
        let room = u32::try_from(bytes.min(QUEUE_BYTES_MAX)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.inner.room).acquire_many_owned(room).await;
        let permit = permit.map_err(|_| StorageError::Closed)?;
        let permit = Some(permit);
        let queued = Queued { request, bytes, permit };
        let sent = self.inner.senders[shard].send(queued).await;
        sent.map_err(|_| StorageError::Closed)
    }

    fn shard_of(&self, tenant: TenantId) -> usize {
        let hash = xxh3_64(&tenant.to_bytes());
        let shards = self.inner.shards.len() as u64;
        usize::try_from(hash % shards).expect("smaller than the number of shards")
    }

    fn shard(&self, tenant: TenantId) -> &Arc<Shard> {
        &self.inner.shards[self.shard_of(tenant)]
    }
}

/// Sets of one call that go to one shard together.
#[derive(Default)]
struct GossipGroup {
    shard: usize,
    bytes: usize,
    places: Vec<usize>,
    sets: Vec<GossipSet>,
}

impl GossipGroup {
    fn push(&mut self, place: usize, set: GossipSet, bytes: usize) {
        self.places.push(place);
        self.sets.push(set);
        self.bytes += bytes;
    }
}
