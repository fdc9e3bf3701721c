//! What waits to be gossiped to one peer.
//!
//! Bounded by bytes and by sets. What does not fit, and what was under way when a stream broke, is remembered as one
//! number for each tenant and origin; when there is room again the peer is told of it with a set without bytes, and
//! pulls. So a peer that was away costs memory in proportion to tenants, not to what it missed.
//!
//! The outgoing stream takes straight from here: between the writer that committed a set and the connection that sends
//! it there is one waking and no task.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures::{Stream, task::AtomicWaker};
use halcyon_core::id::{OriginId, Seq, Tag, TenantId};
use halcyon_proto::v1;
use tokio::sync::Notify;

use crate::replication::{
    limits::{DIRTY_MAX, GOSSIP_MESSAGE_BYTES_MAX, GOSSIP_MESSAGE_SETS_MAX, GOSSIP_QUEUE_SETS_MAX},
    wire,
};

/// Bytes of a set's frame and of its ids, roughly.
const FRAME_BYTES: usize = 96;

/// What waits for one peer.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    waker: AtomicWaker,
    filled: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Item>,
    bytes: usize,
    /// The last of what the peer was not told, for each tenant and origin.
    dirty: Told,
    /// The last of what was sent and not acknowledged.
    unacked: Told,
    /// Messages sent and not answered.
    outstanding: u64,
    /// Raised with each stream: an old one must not take what is for the new.
    stream: u64,
    sent: u64,
    sent_bytes: u64,
    dropped: u64,
}

type Told = BTreeMap<(TenantId, OriginId), (Seq, u64)>;

#[derive(Debug)]
struct Item {
    tenant: TenantId,
    tag: Tag,
    message: v1::GossipSet,
}

impl Item {
    fn bytes(&self) -> usize {
        self.message.change_set.len() + FRAME_BYTES + 9 * self.message.pass_on.len()
    }
}

/// Figures of one outbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutboxMetrics {
    /// Sets that wait.
    pub sets: usize,
    /// Bytes that wait.
    pub bytes: usize,
    /// Sets handed to the network.
    pub sent: u64,
    /// Bytes of these.
    pub sent_bytes: u64,
    /// Sets that did not fit.
    pub dropped: u64,
    /// Tenants and origins that the peer still has to be told of.
    pub dirty: usize,
}

impl Outbox {
    /// Queues a set, if no more than `bytes_max` wait then. One set always fits.
    pub(super) fn push(&self, tenant: TenantId, tag: Tag, message: v1::GossipSet, bytes_max: usize) {
        let item = Item { tenant, tag, message };
        let mut state = self.lock();
        let bytes = item.bytes();
        let is_full = state.queue.len() >= GOSSIP_QUEUE_SETS_MAX || state.bytes + bytes > bytes_max;
        if is_full && !state.queue.is_empty() {
            state.dropped += 1;
            state.mark(&item);
        } else {
            state.bytes += bytes;
            state.queue.push_back(item);
        }
        drop(state);
        self.waker.wake();
        self.filled.notify_one();
    }

    /// Remembers that the peer has to be told of this.
    pub(super) fn poke(&self, tenant: TenantId, tag: Tag, collection_epoch: u64) {
        let message = wire::poke(tenant, tag, collection_epoch);
        self.lock().mark(&Item { tenant, tag, message });
        self.waker.wake();
        self.filled.notify_one();
    }

    /// Returns when there is something to send.
    pub(super) async fn filled(&self) {
        while self.lock().is_empty() {
            self.filled.notified().await;
        }
    }

    /// Starts a new stream.
    pub(super) fn stream(self: &Arc<Self>) -> OutboxStream {
        let mut state = self.lock();
        state.stream += 1;
        OutboxStream {
            stream: state.stream,
            outbox: Arc::clone(self),
        }
    }

    /// The stream broke: what it carried and what waited is only remembered.
    pub(super) fn broke(&self) {
        let mut state = self.lock();
        state.stream += 1;
        state.outstanding = 0;
        state.bytes = 0;
        for item in std::mem::take(&mut state.queue) {
            state.mark(&item);
        }
        for (key, told) in std::mem::take(&mut state.unacked) {
            state.mark_as(key, told);
        }
    }

    /// The peer answered a message.
    pub(super) fn answered(&self) {
        let mut state = self.lock();
        state.outstanding = state.outstanding.saturating_sub(1);
    }

    /// The peer has this durable.
    pub(super) fn acked(&self, tenant: TenantId, tag: Tag) {
        let mut state = self.lock();
        let key = (tenant, tag.origin);
        if state.unacked.get(&key).is_some_and(|(seq, _)| *seq <= tag.seq) {
            state.unacked.remove(&key);
        }
    }

    /// Whether a message waits for its answer.
    pub(super) fn is_waiting(&self) -> bool {
        self.lock().outstanding > 0
    }

    /// Figures.
    pub(super) fn metrics(&self) -> OutboxMetrics {
        let state = self.lock();
        OutboxMetrics {
            sets: state.queue.len(),
            bytes: state.bytes,
            sent: state.sent,
            sent_bytes: state.sent_bytes,
            dropped: state.dropped,
            dirty: state.dirty.len(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.dirty.is_empty()
    }

    fn mark(&mut self, item: &Item) {
        let told = (item.tag.seq, item.message.collection_epoch);
        self.mark_as((item.tenant, item.tag.origin), told);
    }

    fn mark_as(&mut self, key: (TenantId, OriginId), told: (Seq, u64)) {
        if self.dirty.len() < DIRTY_MAX || self.dirty.contains_key(&key) {
            let last = self.dirty.entry(key).or_insert(told);
            *last = told.max(*last);
        }
    }

    /// The next message: all that waits, as far as it fits.
    fn take(&mut self) -> Option<v1::GossipRequest> {
        let mut sets = Vec::new();
        let mut bytes = 0;
        while let Some(item) = self.queue.front()
            && sets.len() < GOSSIP_MESSAGE_SETS_MAX
            && (sets.is_empty() || bytes + item.bytes() <= GOSSIP_MESSAGE_BYTES_MAX)
        {
            bytes += item.bytes();
            let item = self.queue.pop_front().expect("it has a front");
            self.sent += 1;
            let told = (item.tag.seq, item.message.collection_epoch);
            self.unacked.insert((item.tenant, item.tag.origin), told);
            sets.push(item.message);
        }
        self.bytes -= bytes;
        self.sent_bytes += bytes as u64;
        while self.queue.is_empty()
            && sets.len() < GOSSIP_MESSAGE_SETS_MAX
            && let Some(((tenant, origin), (seq, collection_epoch))) = self.dirty.pop_first()
        {
            self.unacked.insert((tenant, origin), (seq, collection_epoch));
            sets.push(wire::poke(tenant, Tag { origin, seq }, collection_epoch));
        }
        if sets.is_empty() {
            return None;
        }
        self.outstanding += 1;
        Some(v1::GossipRequest { sets })
    }
}

/// The outgoing half of a gossip stream.
#[derive(Debug)]
pub(super) struct OutboxStream {
    outbox: Arc<Outbox>,
    stream: u64,
}

impl Stream for OutboxStream {
    type Item = v1::GossipRequest;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.outbox.waker.register(context.waker());
        let mut state = self.outbox.lock();
        if state.stream != self.stream {
            return Poll::Ready(None);
        }
        match state.take() {
            Some(message) => Poll::Ready(Some(message)),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};
    use halcyon_core::id::NodeId;

    use super::*;
    use crate::replication::fixtures;

    fn tag(seq: u64) -> Tag {
        let (node, incarnation) = (NodeId(1), 1);
        let origin = OriginId { node, incarnation };
        Tag { origin, seq: Seq(seq) }
    }

    fn push(outbox: &Outbox, seq: u64, bytes: usize) {
        let message = v1::GossipSet {
            change_set: vec![1; bytes].into(),
            ..wire::poke(fixtures::tenant_id(), tag(seq), 0)
        };
        outbox.push(fixtures::tenant_id(), tag(seq), message, 1_000);
    }

    /// The seqs of the next message, and whether each is a poke.
    fn next(stream: &mut OutboxStream) -> Option<Vec<(u64, bool)>> {
        let message = stream.next().now_or_never()??;
        let told = message.sets.iter().map(|set| (set.seq, set.change_set.is_empty()));
        Some(told.collect())
    }

    #[test]
    fn what_does_not_fit_is_told_by_one_poke_when_the_queue_is_empty() {
        let outbox = Arc::new(Outbox::default());
        let mut stream = outbox.stream();
        for seq in 1..=9 {
            push(&outbox, seq, 300);
        }
        assert_eq!(outbox.metrics().dropped, 7);
        assert_eq!(next(&mut stream), Some(vec![(1, false), (2, false), (9, true)]));
        assert_eq!(next(&mut stream), None);
        push(&outbox, 10, 5_000);
        assert_eq!(next(&mut stream), Some(vec![(10, false)]), "one set always fits");
    }

    #[test]
    fn what_was_under_way_when_a_stream_broke_is_told_on_the_next_one() {
        let outbox = Arc::new(Outbox::default());
        let mut stream = outbox.stream();
        push(&outbox, 1, 300);
        assert_eq!(next(&mut stream), Some(vec![(1, false)]));
        push(&outbox, 2, 300);
        outbox.broke();
        assert_eq!(next(&mut stream), None, "the old stream takes nothing more");
        assert_eq!(next(&mut outbox.stream()), Some(vec![(2, true)]));
    }
}
