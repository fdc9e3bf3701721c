//! The pulling side of catch-up. The next batch is received and decoded while the last one is committed; what is read
//! from the network is bounded by what the disk has taken. What came before a stream broke is kept, with its token.

use std::sync::Arc;

use halcyon_core::{
    codec::DecodeError,
    fact::Fact,
    id::{NodeId, TenantId},
    version_vector::VersionVector,
};
use halcyon_proto::v1::{self, catch_up_response::Part};
use thiserror::Error;
use tokio::{sync::mpsc, time::timeout};
use tonic::{Status, Streaming};

use super::{
    alarm::AlarmKind,
    engine::Done,
    limits::{CALL_DEADLINE, MESSAGE_DEADLINE, PULLED_BATCHES_MAX},
    shared::{Shared, count},
    wire,
};
use crate::{
    peers::UnknownPeer,
    storage::types::{DeltaBatch, StorageError},
};

/// Why a catch-up broke off.
#[derive(Debug, Error)]
pub(super) enum PullError {
    #[error(transparent)]
    UnknownPeer(#[from] UnknownPeer),
    #[error(transparent)]
    Refused(#[from] Status),
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("no message in time")]
    Silent,
    #[error("the peer has collected tombstones that are held here")]
    NewerEpoch,
    #[error("messages came in the wrong order, or the stream ended early")]
    OutOfOrder,
}

/// The snapshot that a delta was made from.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub vector: VersionVector,
    pub seen: VersionVector,
    pub collection_epoch: u64,
}

/// Pulls all that is lacking from a peer.
pub(super) async fn run(shared: &Arc<Shared>, tenant: TenantId, from: NodeId) -> Done {
    let probe = &shared.env.probe;
    probe.event("catch-up.began", &|| format!("{tenant} from {from}"));
    match pull(shared, tenant, from).await {
        Ok(snapshot) => {
            probe.event("catch-up.ended", &|| format!("{tenant} from {from}"));
            count(&shared.counters.catch_ups, 1);
            Done::Pulled {
                from,
                vector: snapshot.vector,
                seen: snapshot.seen,
            }
        }
        Err(error) => {
            count(&shared.counters.catch_ups_broken, 1);
            probe.event("catch-up.broke", &|| format!("{tenant} from {from}: {error}"));
            tracing::info!(%tenant, %from, %error, "a catch-up broke off");
            if let PullError::Malformed(error) = &error {
                let message = format!("catch-up from {from} cannot be read: {error}");
                shared.raise_alarm(AlarmKind::PeerMessage, Some(tenant), message);
            }
            Done::PullFailed(from)
        }
    }
}

pub(super) async fn pull(shared: &Arc<Shared>, tenant: TenantId, from: NodeId) -> Result<Snapshot, PullError> {
    let own = shared.storage.summary(tenant)?.ok_or(StorageError::NotHeld(tenant))?;
    let token = shared.storage.resume_token(tenant)?;
    let request = v1::CatchUpRequest {
        tenant: wire::tenant_bytes(tenant),
        vector: own.vector.encode().into(),
        collection_epoch: own.collection_epoch,
        token: token.as_ref().map(wire::token_message),
        from_nothing: own.seen.is_empty(),
    };
    let mut client = shared.pool.client(from)?;
    let call = timeout(CALL_DEADLINE, client.catch_up(request)).await;
    let mut stream = call.map_err(|_| PullError::Silent)??.into_inner();
    let Some(Part::Start(start)) = next(&mut stream).await? else {
        return Err(PullError::OutOfOrder);
    };
    let snapshot = Snapshot {
        vector: wire::vector(&start.vector)?,
        seen: wire::vector(&start.seen)?,
        collection_epoch: start.collection_epoch,
    };
    if snapshot.collection_epoch > own.collection_epoch {
        shared.env.probe.reached("catch-up.newer-epoch");
        return Err(PullError::NewerEpoch);
    }
    count(&shared.counters.catch_ups_resumed, u64::from(start.resumed));
    if start.resumed {
        shared.env.probe.reached("catch-up.resumed");
    }
    take_all(shared, tenant, stream, &snapshot).await?;
    Ok(snapshot)
}

/// What the receiving half hands to the committing half.
enum Received {
    Batch(Vec<Fact>),
    End,
    Broke(PullError),
}

async fn take_all(
    shared: &Arc<Shared>,
    tenant: TenantId,
    stream: Streaming<v1::CatchUpResponse>,
    snapshot: &Snapshot,
) -> Result<(), PullError> {
    let (sender, mut receiver) = mpsc::channel(PULLED_BATCHES_MAX);
    let receiving = tokio::spawn(receive(stream, sender));
    let batch = |facts: Vec<Fact>, complete: bool| DeltaBatch {
        tenant,
        facts,
        vector: snapshot.vector.clone(),
        seen: snapshot.seen.clone(),
        complete,
        now: shared.env.clock.wall(),
    };
    // One batch is held back, so that the last one and the end of the delta are one commit.
    let mut last = None;
    let ended = loop {
        let received = receiver.recv().await.unwrap_or(Received::Broke(PullError::OutOfOrder));
        match received {
            Received::Batch(facts) => {
                count(&shared.counters.facts_pulled, facts.len() as u64);
                if let Some(facts) = last.replace(facts) {
                    shared.storage.take_delta(batch(facts, false)).await?;
                }
            }
            Received::End => break Ok(()),
            Received::Broke(error) => break Err(error),
        }
    };
    receiving.abort();
    if ended.is_ok() || last.is_some() {
        let facts = last.unwrap_or_default();
        shared.storage.take_delta(batch(facts, ended.is_ok())).await?;
    }
    ended
}

/// Receives and decodes, one batch ahead of the disk.
async fn receive(mut stream: Streaming<v1::CatchUpResponse>, sender: mpsc::Sender<Received>) {
    loop {
        let received = match next(&mut stream).await {
            Ok(Some(Part::Batch(batch))) => match wire::facts(&batch.facts) {
                Ok(facts) => Received::Batch(facts),
                Err(error) => Received::Broke(error.into()),
            },
            Ok(Some(Part::End(_))) => Received::End,
            Ok(Some(Part::Start(_)) | None) => Received::Broke(PullError::OutOfOrder),
            Err(error) => Received::Broke(error),
        };
        let is_last = !matches!(received, Received::Batch(_));
        if sender.send(received).await.is_err() || is_last {
            return;
        }
    }
}

async fn next(stream: &mut Streaming<v1::CatchUpResponse>) -> Result<Option<Part>, PullError> {
    let message = timeout(MESSAGE_DEADLINE, stream.message()).await;
    let message = message.map_err(|_| PullError::Silent)??;
    Ok(message.and_then(|message| message.part))
}
