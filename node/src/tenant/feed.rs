//! The feed of commits: from storage to replication and to those who watch a tenant.
//!
//! It runs on the writer, so it never waits: a watcher whose queue is full loses all of it and is told to read what it
//! missed from storage, from its own vector.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak},
};

use halcyon_core::id::TenantId;
use tokio::sync::Notify;

use super::limits::{WATCH_QUEUE_BYTES_MAX, WATCH_QUEUE_SETS_MAX};
use crate::storage::types::{Commit, CommitSink, StorageEvent};

/// The sink that storage is opened with. Clones share it.
#[derive(Clone, Default)]
pub struct Feed {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Who hears of everything. Weak, because it holds the storage that holds this feed.
    next: OnceLock<Weak<dyn CommitSink>>,
    watchers: RwLock<BTreeMap<TenantId, Vec<Arc<Queue>>>>,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Feed")
    }
}

/// What a watcher hears.
#[derive(Debug, Clone)]
pub enum FeedEvent {
    /// A set is in.
    Committed(Arc<Commit>),
    /// More than single sets came in, or the queue was full: read from storage what was missed.
    Missed,
    /// The tenant is no longer here.
    Erased,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<QueueState>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    commits: VecDeque<Arc<Commit>>,
    bytes: usize,
    missed: bool,
    erased: bool,
}

/// One watcher's end of the feed. Nothing after its making is lost without a [`FeedEvent::Missed`].
#[derive(Debug)]
pub struct Subscription {
    feed: Feed,
    tenant: TenantId,
    queue: Arc<Queue>,
}

impl Feed {
    /// Who hears of everything. The first one stays.
    pub fn attach(&self, sink: &Arc<dyn CommitSink>) {
        // A second one is a mistake in how the node is put together; the first goes on as it was.
        let _ = self.inner.next.set(Arc::downgrade(sink));
    }

    /// Starts to watch a tenant.
    pub fn subscribe(&self, tenant: TenantId) -> Subscription {
        let queue = Arc::new(Queue::default());
        let mut watchers = self.inner.watchers.write().unwrap_or_else(PoisonError::into_inner);
        watchers.entry(tenant).or_default().push(Arc::clone(&queue));
        drop(watchers);
        Subscription {
            feed: self.clone(),
            tenant,
            queue,
        }
    }

    /// How many watch.
    pub fn watchers(&self) -> usize {
        let watchers = self.inner.watchers.read().unwrap_or_else(PoisonError::into_inner);
        watchers.values().map(Vec::len).sum()
    }

    fn tell_watchers(&self, events: &[StorageEvent]) {
        let watchers = self.inner.watchers.read().unwrap_or_else(PoisonError::into_inner);
        if watchers.is_empty() {
            return;
        }
        for event in events {
            let tenant = match event {
                StorageEvent::Committed(commit) => commit.tenant,
                StorageEvent::CaughtUp(tenant) | StorageEvent::Erased(tenant) => *tenant,
                StorageEvent::Alarm { .. } => continue,
            };
            for queue in watchers.get(&tenant).into_iter().flatten() {
                queue.push(event);
            }
        }
    }
}

impl CommitSink for Feed {
    fn on_events(&self, events: Vec<StorageEvent>) {
        self.tell_watchers(&events);
        if let Some(next) = self.inner.next.get().and_then(Weak::upgrade) {
            next.on_events(events);
        }
    }
}

impl Queue {
    fn push(&self, event: &StorageEvent) {
        let mut state = self.lock();
        match event {
            StorageEvent::Committed(commit) => state.push(commit),
            StorageEvent::CaughtUp(_) => state.miss(),
            StorageEvent::Erased(_) => state.erased = true,
            StorageEvent::Alarm { .. } => {}
        }
        drop(state);
        self.filled.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QueueState {
    fn push(&mut self, commit: &Arc<Commit>) {
        // What comes before the watcher has read what it missed is part of what it will read.
        if self.missed {
            return;
        }
        self.bytes += commit.encoded.len();
        self.commits.push_back(Arc::clone(commit));
        if self.commits.len() > WATCH_QUEUE_SETS_MAX || self.bytes > WATCH_QUEUE_BYTES_MAX {
            self.miss();
        }
    }

    fn miss(&mut self) {
        self.commits.clear();
        self.bytes = 0;
        self.missed = true;
    }

    fn take(&mut self) -> Option<FeedEvent> {
        if self.erased {
            return Some(FeedEvent::Erased);
        }
        if std::mem::take(&mut self.missed) {
            return Some(FeedEvent::Missed);
        }
        let commit = self.commits.pop_front()?;
        self.bytes -= commit.encoded.len();
        Some(FeedEvent::Committed(commit))
    }
}

impl Subscription {
    /// The next event.
    pub async fn next(&self) -> FeedEvent {
        loop {
            if let Some(event) = self.queue.lock().take() {
                return event;
            }
            self.queue.filled.notified().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut watchers = self.feed.inner.watchers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(queues) = watchers.get_mut(&self.tenant) {
            queues.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
            if queues.is_empty() {
                watchers.remove(&self.tenant);
            }
        }
    }
}
