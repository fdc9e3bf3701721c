//! A shard's writer: one task that takes all that has arrived, merges it, makes it durable with one sync, shows it,
//! answers, and tells the sink, in this order; and that has the overlay folded into the index behind it, and the files
//! rewritten after an erasure.
//!
//! After a failed write or sync nothing is known of the disk any more: the shard stops for good, and says so. So it does
//! when a read, whoever's, met a damaged page of the index; that is also written down, and keeps the files from being opened
//! again, or the node would go on until the next read meets the page.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use halcyon_core::{
    env::{Access, Env},
    mutant::{self, Mutant},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    base::{Fold, Index, disk_error},
    group::{Group, Origins},
    layer::Layer,
    limits::{BRIEF_BYTES, ERASE_DELAY, FRAME_BYTES_MAX, GROUP_BYTES, IDLE_FOLD, LAYERS_MAX, QUEUE_MAX, REWRITE_RETRY},
    log::Log,
    replay::told,
    request::{Answer, Queued, Request},
    rewrite::{Generation, Purge, RewriteError, Rewritten, rewrite},
    shard::Shard,
    types::{CommitSink, StorageError, StorageEvent},
    work::{Names, Work},
};

/// The writer of one shard.
pub(super) struct Writer {
    pub(super) env: Env,
    pub(super) shard: Arc<Shard>,
    pub(super) index: Arc<Index>,
    pub(super) log: Log,
    pub(super) watermark: u64,
    pub(super) names: Names,
    pub(super) origins: Origins,
    pub(super) receiver: mpsc::Receiver<Queued>,
    pub(super) sink: Arc<dyn CommitSink>,
    pub(super) queue: VecDeque<Queued>,
    pub(super) fold_bytes: usize,
    pub(super) fold: Option<Behind>,
    pub(super) generation: Generation,
    pub(super) purge: Option<Purge>,
}

/// The fold or rewrite that runs behind the writer; one at a time.
type Behind = oneshot::Receiver<Result<Done, StorageError>>;

/// What ran behind the writer.
#[derive(Debug)]
pub(super) enum Done {
    /// The last frame in the index.
    Folded(u64),
    Rewritten(Rewritten),
    /// The index is what it was.
    NotRewritten(StorageError),
}

/// A group that is merged and not durable yet.
struct Merged {
    layer: Layer,
    next_tenant: u32,
    payload: Vec<u8>,
    events: Vec<StorageEvent>,
    answers: Vec<Answer>,
}

/// What the loop woke up for.
enum Woken {
    Arrived(usize),
    Done(Result<Done, StorageError>),
    PurgeDue,
    Idle,
    Damaged,
}

impl Writer {
    /// Runs until it is closed, until every handle is gone, or until the disk fails.
    pub(super) async fn run(mut self) {
        if let Err(error) = self.work().await.and_then(|()| self.undamaged()) {
            let error = self.damage().await.unwrap_or(error);
            let message = format!("storage stops: {error}");
            self.sink.on_events(vec![StorageEvent::Alarm { tenant: None, message }]);
        }
        self.receiver.close();
        let mut left = std::mem::take(&mut self.queue);
        while let Some(queued) = left.pop_front().or_else(|| self.receiver.try_recv().ok()) {
            queued.request.fail(StorageError::Closed);
        }
    }

    async fn work(&mut self) -> Result<(), StorageError> {
        let mut arrived = Vec::new();
        loop {
            match self.wake(&mut arrived).await {
                Woken::Arrived(0) => return self.fold_all().await,
                Woken::Arrived(_) => self.queue.extend(arrived.drain(..)),
                Woken::Done(result) => self.on_done(result)?,
                Woken::PurgeDue => self.purge = self.purge.map(|purge| Purge::at_once(purge.frame)),
                Woken::Idle => self.start_fold(),
                Woken::Damaged => {}
            }
            self.undamaged()?;
            self.purge_if_due().await?;
            while !self.queue.is_empty() {
                if let Some(Queued {
                    request: Request::Close(_),
                    ..
                }) = self.queue.front()
                {
                    let closing = self.queue.pop_front();
                    self.receiver.close();
                    self.fold_all().await?;
                    if let Some(closing) = closing {
                        closing.request.fail(StorageError::Closed);
                    }
                    return Ok(());
                }
                let group = self.next_group();
                self.commit(group).await?;
                self.undamaged()?;
                self.fold_if_due().await?;
                self.purge_if_due().await?;
            }
        }
    }

    async fn wake(&mut self, arrived: &mut Vec<Queued>) -> Woken {
        let folding = self.fold.is_some();
        let idle = !folding && !self.shard.read().is_folded();
        let purging = !folding && self.purge.is_some();
        tokio::select! {
            biased;
            () = self.index.damage.noticed() => Woken::Damaged,
            result = done(&mut self.fold), if folding => Woken::Done(result),
            count = self.receiver.recv_many(arrived, QUEUE_MAX) => Woken::Arrived(count),
            () = tokio::time::sleep(ERASE_DELAY), if purging => Woken::PurgeDue,
            () = tokio::time::sleep(IDLE_FOLD), if idle => Woken::Idle,
        }
    }

    /// An error once a read has met a damaged page.
    fn undamaged(&self) -> Result<(), StorageError> {
        let found = self.index.damage.found();
        found.map_or(Ok(()), |reason| Err(StorageError::Disk(reason.into())))
    }

    /// Writes down what is damaged, if that is why it stops.
    async fn damage(&self) -> Option<StorageError> {
        let reason = self.index.damage.found()?;
        self.env.probe.reached("storage.damaged");
        let (disk, name) = (&self.env.disk, self.generation.damage_record());
        let write = || disk.write_small(&name, reason.as_bytes(), Access::Normal);
        let told = match self.env.run_blocking(write).await {
            Ok(()) => reason.clone(),
            Err(failed) => format!("{reason}; it could not be written down: {failed}"),
        };
        Some(StorageError::Disk(told.into()))
    }

    /// The front of the queue, up to a group's size.
    fn next_group(&mut self) -> Vec<Queued> {
        let mut group = Vec::new();
        let mut bytes = 0;
        while let Some(queued) = self.queue.pop_front_if(|queued| {
            bytes == 0 || (bytes + queued.bytes <= GROUP_BYTES && !matches!(queued.request, Request::Close(_)))
        }) {
            bytes += queued.bytes;
            group.push(queued);
        }
        group
    }

    /// Carries out a group. A request that cannot be merged fails alone: the others are tried again without it.
    async fn commit(&mut self, group: Vec<Queued>) -> Result<(), StorageError> {
        let env = self.env.clone();
        let is_brief = matches!(&*group, [alone] if alone.bytes <= BRIEF_BYTES) && self.queue.is_empty();
        let merged = if is_brief {
            env.run_brief(|| self.merge_and_append(&group)).await?
        } else {
            env.run_blocking(|| self.merge_and_append(&group)).await?
        };
        match merged {
            Appended::Done(merged) => self.finish(group, merged),
            Appended::NoRoom(merged) => {
                if mutant::active(Mutant::GossipBeforeSync) {
                    self.sink.on_events(merged.events.clone());
                }
                self.make_room(merged.payload.len()).await?;
                let merged = env.run_blocking(|| self.append(merged)).await?;
                self.finish(group, merged);
            }
            Appended::Failed(error) if group.len() == 1 => {
                for queued in group {
                    queued.request.fail(error.clone());
                }
            }
            Appended::Failed(_) => {
                for queued in group.into_iter().rev() {
                    let bytes = GROUP_BYTES.max(queued.bytes);
                    self.queue.push_front(Queued { bytes, ..queued });
                }
            }
        }
        Ok(())
    }

    fn merge_and_append(&mut self, group: &[Queued]) -> Result<Appended, StorageError> {
        let merged = match self.merge(group) {
            Ok(merged) => merged,
            Err(error) => {
                self.names.clear();
                return Ok(Appended::Failed(error));
            }
        };
        let is_early = mutant::active(Mutant::GossipBeforeSync);
        if merged.payload.is_empty() || self.log.has_room(merged.payload.len()) && !is_early {
            return self.append(merged).map(Appended::Done);
        }
        Ok(Appended::NoRoom(merged))
    }

    fn merge(&mut self, group: &[Queued]) -> Result<Merged, StorageError> {
        self.names.trim();
        let published = self.shard.read();
        let mut work = Work {
            below: published.reader(),
            published: &published.tenants,
            pending: Layer::default(),
            names: &mut self.names,
            next_tenant: published.next_tenant,
        };
        let mut making = Group {
            work: &mut work,
            origins: &mut self.origins,
            now: self.env.clock.wall(),
            payload: Vec::new(),
            events: Vec::new(),
        };
        let mut answers = Vec::with_capacity(group.len());
        for queued in group {
            answers.push(making.take(&queued.request)?);
        }
        let (payload, events) = (making.payload, making.events);
        if payload.len() > FRAME_BYTES_MAX {
            return Err(StorageError::Disk("a request is larger than a frame of the log".into()));
        }
        Ok(Merged {
            layer: work.pending,
            next_tenant: work.next_tenant,
            payload,
            events,
            answers,
        })
    }

    /// Makes a group durable, then visible.
    fn append(&mut self, mut merged: Merged) -> Result<Merged, StorageError> {
        if merged.payload.is_empty() {
            return Ok(merged);
        }
        let written = self.log.append(&merged.payload);
        let written = written.map_err(disk_error)?;
        let counters = &self.shard.counters;
        counters.groups.fetch_add(1, Ordering::Relaxed);
        counters
            .commits
            .fetch_add(merged.answers.len() as u64, Ordering::Relaxed);
        counters.log_bytes.fetch_add(written as u64, Ordering::Relaxed);
        let layer = std::mem::take(&mut merged.layer);
        self.shard.write().publish(layer, merged.next_tenant);
        Ok(merged)
    }

    fn finish(&mut self, group: Vec<Queued>, merged: Merged) {
        self.tell(&merged.events);
        if merged
            .events
            .iter()
            .any(|event| matches!(event, StorageEvent::Erased(_)))
        {
            self.purge_after(ERASE_DELAY);
        }
        for (queued, answer) in group.into_iter().zip(merged.answers) {
            queued.request.answer(answer);
        }
        if !merged.events.is_empty() && !mutant::active(Mutant::GossipBeforeSync) {
            self.sink.on_events(merged.events);
        }
    }

    /// The simulator's oracles hear of every set that became durable, before anybody else does.
    fn tell(&self, events: &[StorageEvent]) {
        let probe = &self.env.probe;
        for event in events {
            match event {
                StorageEvent::Committed(commit) => probe.event("storage.committed", &|| {
                    told(commit.tenant, commit.tag, commit.content_hash, &commit.encoded)
                }),
                StorageEvent::CaughtUp(tenant) => probe.event("storage.caught-up", &|| tenant.to_string()),
                StorageEvent::Erased(tenant) => probe.event("storage.erased", &|| tenant.to_string()),
                StorageEvent::Alarm { message, .. } => probe.event("storage.alarm", &|| message.clone()),
            }
        }
    }

    /// Starts a fold when the overlay or the log has grown, and waits for the one before when it has grown too far.
    async fn fold_if_due(&mut self) -> Result<(), StorageError> {
        if let Some(fold) = &mut self.fold
            && let Ok(result) = fold.try_recv()
        {
            self.on_done(result)?;
        }
        let (bytes, layers) = self.shard.read().size();
        if self.fold.is_some() {
            if bytes < 2 * self.fold_bytes {
                return Ok(());
            }
            self.end_fold().await?;
        }
        let is_early = self.env.probe.rare("storage.fold-early");
        if bytes >= self.fold_bytes || layers >= LAYERS_MAX || self.log.room() < 4 * GROUP_BYTES as u64 || is_early {
            self.start_fold();
        }
        Ok(())
    }

    /// Freezes the overlay and has it written to the index in the background.
    fn start_fold(&mut self) {
        let mut published = self.shard.write();
        let fold = Fold {
            layers: published.freeze(),
            watermark: self.log.last(),
            next_tenant: published.next_tenant,
        };
        drop(published);
        self.log.switch(self.watermark);
        let (sender, receiver) = oneshot::channel();
        self.fold = Some(receiver);
        let (env, shard, index) = (self.env.clone(), Arc::clone(&self.shard), Arc::clone(&self.index));
        tokio::spawn(async move {
            let result = env.run_blocking(|| {
                let base = index.fold(&fold)?;
                drop(shard.on_folded(&fold, base));
                index.release()?;
                Ok(Done::Folded(fold.watermark))
            });
            let result = result.await;
            drop(fold);
            drop(sender.send(result));
        });
    }

    /// Waits for the fold or rewrite that is running.
    async fn end_fold(&mut self) -> Result<(), StorageError> {
        if self.fold.is_none() {
            return Ok(());
        }
        let result = done(&mut self.fold).await;
        self.on_done(result)
    }

    fn on_done(&mut self, result: Result<Done, StorageError>) -> Result<(), StorageError> {
        self.fold = None;
        match result? {
            Done::Folded(watermark) => self.watermark = watermark,
            Done::Rewritten(Rewritten { generation, index }) => {
                self.generation = generation;
                self.index = index;
            }
            Done::NotRewritten(error) => {
                let message = format!("what was erased is still in a file, and is tried again: {error}");
                self.sink.on_events(vec![StorageEvent::Alarm { tenant: None, message }]);
                self.purge_after(REWRITE_RETRY);
            }
        }
        Ok(())
    }

    /// Has the files rewritten some time from now. Erasures until then share the rewrite.
    fn purge_after(&mut self, delay: Duration) {
        let due = self.purge.map(|purge| purge.due);
        self.purge = Some(Purge {
            frame: self.log.last(),
            due: due.unwrap_or_else(|| self.env.clock.monotonic() + delay),
        });
    }

    /// Takes the next step of a purge: folds what was erased, wipes the log, rewrites the index.
    async fn purge_if_due(&mut self) -> Result<(), StorageError> {
        let Some(purge) = self.purge.filter(|_| self.fold.is_none()) else {
            return Ok(());
        };
        if self.env.clock.monotonic() < purge.due {
            return Ok(());
        }
        let env = self.env.clone();
        let is_folded = purge.frame <= self.watermark;
        let wiped = is_folded
            && env
                .run_blocking(|| self.log.wipe(purge.frame, self.watermark))
                .await
                .map_err(disk_error)?;
        if wiped {
            self.purge = None;
            self.start_rewrite();
        } else {
            self.start_fold();
        }
        Ok(())
    }

    /// Has the index copied into a fresh file in the background. Until then nothing is folded; the log and the overlay
    /// take what is written.
    fn start_rewrite(&mut self) {
        let (sender, receiver) = oneshot::channel();
        self.fold = Some(receiver);
        let (env, shard, index) = (self.env.clone(), Arc::clone(&self.shard), Arc::clone(&self.index));
        let generation = self.generation;
        tokio::spawn(async move {
            let show = |base| drop(shard.on_rewritten(base));
            let result = env.run_blocking(|| rewrite(&*env.disk, &index, generation, show));
            let result = match result.await {
                Ok(rewritten) => Ok(Done::Rewritten(rewritten)),
                Err(RewriteError::Copy(error)) => Ok(Done::NotRewritten(error)),
                Err(RewriteError::Switch(error)) => Err(error),
            };
            drop(index);
            drop(sender.send(result));
        });
    }

    /// Waits until the log has room for a payload.
    async fn make_room(&mut self, payload: usize) -> Result<(), StorageError> {
        self.end_fold().await?;
        self.start_fold();
        if !self.log.has_room(payload) {
            self.end_fold().await?;
            self.log.switch(self.watermark);
        }
        Ok(())
    }

    async fn fold_all(&mut self) -> Result<(), StorageError> {
        self.end_fold().await?;
        if !self.shard.read().is_folded() {
            self.start_fold();
            self.end_fold().await?;
        }
        Ok(())
    }
}

/// What became of a group.
enum Appended {
    Done(Merged),
    /// The log is full; nothing was written.
    NoRoom(Merged),
    /// It could not be merged; nothing was written.
    Failed(StorageError),
}

async fn done(behind: &mut Option<Behind>) -> Result<Done, StorageError> {
    match behind {
        Some(receiver) => receiver.await.unwrap_or(Err(StorageError::Closed)),
        None => Err(StorageError::Closed),
    }
}
