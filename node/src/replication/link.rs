//! The sending side of gossip: one long-lived stream to each peer, opened when there is something to send.

use std::{sync::Arc, time::Duration};

use halcyon_core::id::{NodeId, Tag, TenantId};
use halcyon_proto::v1;
use tokio::time::sleep;
use tonic::Streaming;

use super::{
    limits::{ACK_DEADLINE, BACKOFF_MAX, BACKOFF_MIN, CALL_DEADLINE},
    outbox::Outbox,
    shared::Shared,
    wire,
};
use crate::peers::answers::{self, StreamEnd};

/// The queue to a peer; its link is started with it.
pub(super) fn outbox(shared: &Arc<Shared>, peer: NodeId) -> Arc<Outbox> {
    let (outbox, is_new) = shared.ensure_outbox(peer);
    if is_new {
        tokio::spawn(run(Arc::clone(shared), peer, Arc::clone(&outbox)));
    }
    outbox
}

async fn run(shared: Arc<Shared>, peer: NodeId, outbox: Arc<Outbox>) {
    let mut wait = BACKOFF_MIN;
    loop {
        tokio::select! {
            biased;
            () = shared.until_stopped() => break,
            () = outbox.filled() => {}
        }
        let ended = tokio::select! {
            biased;
            () = shared.until_stopped() => break,
            ended = stream(&shared, peer, &outbox, &mut wait) => ended,
        };
        outbox.broke();
        let now = shared.now();
        shared.engine(|engine| engine.on_peer(peer, false, now));
        shared.wake.notify_one();
        tracing::debug!(%peer, error = %ended, "the gossip stream ended");
        wait = pause(&shared, wait).await;
    }
    outbox.broke();
}

async fn pause(shared: &Shared, wait: Duration) -> Duration {
    tokio::select! {
        biased;
        () = shared.until_stopped() => {}
        () = sleep(wait) => {}
    }
    (2 * wait).min(BACKOFF_MAX)
}

/// Runs one stream until it breaks.
async fn stream(shared: &Arc<Shared>, peer: NodeId, outbox: &Arc<Outbox>, wait: &mut Duration) -> StreamEnd {
    let mut answers = match open(shared, peer, outbox).await {
        Ok(answers) => answers,
        Err(error) => return error,
    };
    let now = shared.now();
    let was_away = shared.engine(|engine| {
        let was_away = engine.around().unreachable.contains(&peer);
        engine.on_peer(peer, true, now);
        was_away
    });
    if was_away {
        shared.hurry_to(peer, now);
        shared.wake.notify_one();
    }
    *wait = BACKOFF_MIN;
    loop {
        match answers::next(&mut answers, ACK_DEADLINE).await {
            Ok(answer) => on_answer(shared, peer, outbox, &answer),
            // Nothing was sent that an answer is due to.
            Err(StreamEnd::Silent) if !outbox.is_waiting() => {}
            Err(end) => return end,
        }
    }
}

async fn open(shared: &Shared, peer: NodeId, outbox: &Arc<Outbox>) -> Result<Streaming<v1::GossipResponse>, StreamEnd> {
    let mut client = shared.pool.client(peer)?;
    answers::opened(client.gossip(outbox.stream()), CALL_DEADLINE).await
}

fn on_answer(shared: &Shared, peer: NodeId, outbox: &Outbox, answer: &v1::GossipResponse) {
    outbox.answered();
    let read = |ack: &v1::GossipAck| -> Option<(TenantId, Tag)> {
        Some((wire::tenant(&ack.tenant).ok()?, wire::tag(&ack.origin, ack.seq).ok()?))
    };
    let acks: Vec<_> = answer.acks.iter().filter_map(read).collect();
    for &(tenant, tag) in &acks {
        outbox.acked(tenant, tag);
    }
    shared.acked(peer, &acks);
}
