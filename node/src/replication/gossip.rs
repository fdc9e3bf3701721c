//! The receiving side of gossip: make it durable, pass it on, acknowledge.
//!
//! Sets are passed on before they are durable here: they are at their origin. An acknowledgement comes after our own
//! fsync. What has a gap before it waits here while a catch-up fills the gap, so that a live stream goes on without
//! another one.

use std::{collections::BTreeMap, sync::Arc};

use futures::{Stream, StreamExt, stream};
use halcyon_core::id::{NodeId, OriginId, Seq, Tag, TenantId};
use halcyon_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    alarm::AlarmKind,
    limits::{GOSSIP_MESSAGE_SETS_MAX, GOSSIP_PIPELINE, LATE_ACKS_MAX, PASS_ON_MAX},
    shared::{Shared, count},
    wire,
};
use crate::storage::types::{GossipOutcome, GossipSet};

/// Answers a stream, message by message and in order; several are with storage at once.
pub(super) fn answer_stream<S, E>(
    shared: Arc<Shared>,
    from: NodeId,
    inbound: S,
) -> impl Stream<Item = Result<v1::GossipResponse, E>> + use<S, E>
where
    S: Stream<Item = Result<v1::GossipRequest, E>> + Send + 'static,
    E: Send + 'static,
{
    let (sender, receiver) = mpsc::channel(LATE_ACKS_MAX);
    shared.set_late(from, sender);
    let answers = inbound
        .map(move |request| {
            let shared = Arc::clone(&shared);
            async move { Ok(on_gossip(&shared, from, request?).await) }
        })
        .buffered(GOSSIP_PIPELINE)
        .map(Some)
        .chain(stream::iter([None]));
    // The peer's end of the stream is the end of ours, whatever acknowledgements may still come.
    stream::select(answers, ReceiverStream::new(receiver).map(|late| Some(Ok(late))))
        .take_while(|answer| std::future::ready(answer.is_some()))
        .filter_map(std::future::ready)
}

/// Takes one message in.
pub(super) async fn on_gossip(shared: &Arc<Shared>, from: NodeId, request: v1::GossipRequest) -> v1::GossipResponse {
    let received = request.sets.len().min(GOSSIP_MESSAGE_SETS_MAX);
    count(&shared.counters.gossip_received, received as u64);
    let bytes = request.sets.iter().map(|set| set.change_set.len() as u64).sum();
    count(&shared.counters.gossip_received_bytes, bytes);
    pass_on(shared, &request.sets);
    let mut sets = Vec::with_capacity(received);
    let mut acks = Acks::default();
    for message in request.sets.iter().take(GOSSIP_MESSAGE_SETS_MAX) {
        match wire::gossip(message) {
            Ok(set) if set.encoded.is_empty() => on_poke(shared, from, &set, &mut acks),
            // A removed node's origins are closed: what it sent last must not move one survivor's vector alone.
            Ok(set) if is_removed(shared, set.tag.origin) => {}
            Ok(set) => sets.push(set),
            Err(error) => {
                let message = format!("node {from} sent gossip that cannot be read: {error}");
                shared.raise_alarm(AlarmKind::PeerMessage, None, message);
            }
        }
    }
    if !sets.is_empty() {
        take(shared, from, sets, &mut acks).await;
    }
    acks.into_response()
}

/// Gives sets to storage, and acts on what became of them.
pub(super) async fn take(shared: &Arc<Shared>, from: NodeId, sets: Vec<GossipSet>, acks: &mut Acks) {
    // Cheap copies: the bytes are shared. They are kept where there is a gap.
    let outcomes = match shared.storage.take_gossip(from, sets.clone()).await {
        Ok(outcomes) => outcomes,
        Err(error) => {
            if let Some(left_out) = shared.gossip_refused.on_event(shared.now()) {
                tracing::warn!(%from, %error, left_out, "gossip was not taken");
            }
            return;
        }
    };
    let now = shared.now();
    let mut gaps = BTreeMap::new();
    // An origin gossips nothing before it has it on disk. Who passes a set on may not have it yet, or not what came before.
    let mut held_by_sender = BTreeMap::new();
    let mut taken = 0;
    let mut held = 0;
    for (set, outcome) in sets.into_iter().zip(outcomes) {
        match outcome {
            GossipOutcome::Taken => {
                taken += 1;
                if set.tag.origin.node == from {
                    held_by_sender.insert((set.tenant, set.tag.origin), set.tag);
                }
                acks.add(set.tenant, set.tag);
            }
            GossipOutcome::Held => {
                held += 1;
                if set.tag.origin.node == from {
                    held_by_sender.insert((set.tenant, set.tag.origin), set.tag);
                }
                acks.add(set.tenant, set.tag);
            }
            GossipOutcome::Gap(_) => {
                shared.env.probe.reached("gossip.gap");
                if set.tag.origin.node == from {
                    held_by_sender.insert((set.tenant, set.tag.origin), set.tag);
                }
                gaps.insert((set.tenant, set.tag.origin), set.tag);
                shared.park(from, set);
            }
            GossipOutcome::NotHere => {
                // Between two collections: what is dropped here is pulled when both sides have collected.
                gaps.insert((set.tenant, set.tag.origin), set.tag);
            }
            GossipOutcome::Failed => {
                let message = format!("the set {}:{} could not be taken", set.tag.origin, set.tag.seq);
                shared.raise_alarm(AlarmKind::Disk, Some(set.tenant), message);
            }
        }
    }
    let held_by_sender: Vec<_> = held_by_sender
        .into_iter()
        .map(|((tenant, _), tag)| (tenant, tag))
        .collect();
    shared.acked(from, &held_by_sender);
    count(&shared.counters.gossip_taken, taken);
    count(&shared.counters.gossip_held, held);
    if !gaps.is_empty() {
        count(&shared.counters.gossip_gaps, gaps.len() as u64);
        shared.engine(|engine| {
            for (&(tenant, _), &tag) in &gaps {
                engine.on_gap(from, tenant, tag, now);
            }
        });
        shared.wake.notify_one();
    }
}

/// The last seq of each origin of each tenant.
#[derive(Debug, Default)]
pub(super) struct Acks(BTreeMap<(TenantId, OriginId), Seq>);

impl Acks {
    pub(super) fn add(&mut self, tenant: TenantId, tag: Tag) {
        let seq = self.0.entry((tenant, tag.origin)).or_default();
        *seq = tag.seq.max(*seq);
    }

    fn into_response(self) -> v1::GossipResponse {
        let ack = |((tenant, origin), seq)| wire::ack(tenant, origin, seq);
        v1::GossipResponse {
            acks: self.0.into_iter().map(ack).collect(),
        }
    }
}

fn is_removed(shared: &Shared, origin: OriginId) -> bool {
    shared.engine(|engine| engine.around().removed.contains(&origin.node))
}

/// A peer holds something: pull it, unless it is here.
fn on_poke(shared: &Shared, from: NodeId, set: &GossipSet, acks: &mut Acks) {
    let now = shared.now();
    let is_held = shared.engine(|engine| {
        let own = engine.tenant(set.tenant).and_then(|state| state.own.as_ref());
        let is_held = own.is_some_and(|own| own.vector.covers_tag(set.tag));
        if !is_held {
            engine.on_gap(from, set.tenant, set.tag, now);
        }
        is_held
    });
    if is_held {
        acks.add(set.tenant, set.tag);
    } else {
        shared.wake.notify_one();
    }
}

/// Passes sets on to the rest of this region, as far as those nodes are replicas by our own view.
fn pass_on(shared: &Shared, sets: &[v1::GossipSet]) {
    for message in sets
        .iter()
        .filter(|set| !set.pass_on.is_empty())
        .take(GOSSIP_MESSAGE_SETS_MAX)
    {
        let Ok(set) = wire::gossip(message) else { continue };
        let placement = shared.engine(|engine| engine.tenant(set.tenant).and_then(|state| state.placement.clone()));
        let Some(placement) = placement else { continue };
        for to in message.pass_on.iter().take(PASS_ON_MAX).map(|&node| NodeId(node)) {
            if to != shared.me
                && placement.replicas.contains_key(&to)
                && let Some(outbox) = shared.outbox(to)
            {
                let message = v1::GossipSet {
                    pass_on: Vec::new(),
                    ..message.clone()
                };
                shared.queue(&outbox, set.tenant, set.tag, message);
                count(&shared.counters.gossip_passed_on, 1);
            }
        }
    }
}
