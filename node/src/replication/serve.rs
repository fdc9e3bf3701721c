//! The serving side of catch-up: a consistent snapshot, read one batch ahead of the network and no further.

use std::sync::Arc;

use futures::Stream;
use halcyon_core::id::{NodeId, TenantId};
use halcyon_proto::v1::{self, catch_up_response::Part};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    PeerCallError,
    limits::{CATCH_UP_BATCH_BYTES, SERVED_BATCHES_MAX},
    shared::{Shared, count},
    wire,
};
use crate::storage::{DeltaReader, types::StorageError};

type Answer = Result<v1::CatchUpResponse, StorageError>;

/// Starts to serve a catch-up. Only replicas of the tenant may have its data.
pub(super) fn serve(
    shared: &Arc<Shared>,
    from: NodeId,
    request: &v1::CatchUpRequest,
) -> Result<impl Stream<Item = Answer> + use<>, PeerCallError> {
    let tenant = wire::tenant(&request.tenant)?;
    let theirs = wire::vector(&request.vector)?;
    let token = request.token.as_ref().map(wire::token).transpose()?;
    if !is_replica(shared, from, tenant) {
        return Err(PeerCallError::NotReplicated(from, tenant));
    }
    let permit = Arc::clone(&shared.served)
        .try_acquire_owned()
        .map_err(|_| PeerCallError::Busy)?;
    let reader = shared.storage.open_delta(tenant, &theirs, token.as_ref())?;
    let (sender, receiver) = mpsc::channel(SERVED_BATCHES_MAX);
    let is_older = request.collection_epoch < reader.collection_epoch();
    tokio::spawn(run(Arc::clone(shared), reader, is_older, sender, permit));
    Ok(ReceiverStream::new(receiver))
}

/// By the view, or by the placement that the rules last saw where the tenant is leaving this node.
fn is_replica(shared: &Shared, from: NodeId, tenant: TenantId) -> bool {
    let placement = shared.control.tenant(tenant);
    placement.is_some_and(|placement| placement.replicas.contains_key(&from))
}

async fn run(
    shared: Arc<Shared>,
    mut reader: DeltaReader,
    is_older: bool,
    sender: mpsc::Sender<Answer>,
    _permit: OwnedSemaphorePermit,
) {
    let start = v1::CatchUpStart {
        vector: reader.vector().encode().into(),
        seen: reader.seen().encode().into(),
        collection_epoch: reader.collection_epoch(),
        resumed: reader.resumed(),
    };
    if sender.send(Ok(part(Part::Start(start)))).await.is_err() {
        return;
    }
    // Who is of an older epoch lacks deletions that nobody can send any more: it may only hand over, and start anew.
    if is_older {
        return;
    }
    let mut facts = 0;
    let probe = &shared.env.probe;
    let is_small = probe.rare("catch-up.small-batches");
    let bytes = if is_small { 1 } else { CATCH_UP_BATCH_BYTES };
    loop {
        if probe.rare("catch-up.cut") {
            return;
        }
        let next = shared.env.run_blocking(|| {
            let batch = reader.next_batch(bytes)?;
            Ok(batch.map(|facts| wire::fact_messages(&facts)))
        });
        let (answer, is_last) = match next.await {
            Ok(Some(batch)) => {
                facts += batch.len() as u64;
                count(&shared.counters.facts_served, batch.len() as u64);
                (Ok(part(Part::Batch(v1::CatchUpBatch { facts: batch }))), false)
            }
            Ok(None) => (Ok(part(Part::End(v1::CatchUpEnd { facts }))), true),
            Err(error) => (Err(error), true),
        };
        if sender.send(answer).await.is_err() || is_last {
            return;
        }
    }
}

const fn part(part: Part) -> v1::CatchUpResponse {
    v1::CatchUpResponse { part: Some(part) }
}
