//! Digests with peers: with a random one at every interval, and at once with one that is new or came back.
//!
//! Several at a time, one for each peer: a silent one holds up nobody else.

use std::{collections::BTreeSet, sync::Arc};

use futures::{StreamExt, stream::FuturesUnordered};
use halcyon_core::{
    id::{NodeId, TenantId},
    version_vector::VersionVector,
};
use halcyon_proto::v1;
use thiserror::Error;
use tokio::time::{sleep, timeout};
use tonic::Status;

use super::{
    alarm::AlarmKind,
    engine::bucket_of,
    limits::{BACKOFF_MAX, BUCKETS, CALL_DEADLINE, MEETINGS_MAX},
    shared::{Shared, count},
    wire,
};
use crate::{peers::UnknownPeer, storage::types::StorageError};

/// Why a digest was not exchanged.
#[derive(Debug, Error)]
enum RoundError {
    #[error(transparent)]
    UnknownPeer(#[from] UnknownPeer),
    #[error(transparent)]
    Refused(#[from] Status),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("no answer in time")]
    Silent,
}

/// Runs until the node stops.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut next = shared.now() + shared.control.settings().catch_up_interval;
    let mut meetings = FuturesUnordered::new();
    let mut busy = BTreeSet::new();
    loop {
        let now = shared.now();
        let mut peers = shared.take_urgent(now, &busy, MEETINGS_MAX - meetings.len());
        if now >= next {
            next = now + shared.control.settings().catch_up_interval;
            peers.extend(random_peer(&shared));
        }
        for peer in peers {
            if meetings.len() < MEETINGS_MAX && busy.insert(peer) {
                meetings.push(meet(&shared, peer));
            }
        }
        let is_full = meetings.len() == MEETINGS_MAX;
        let urgent = shared.next_urgent(&busy).filter(|_| !is_full);
        let until = urgent.map_or(next, |urgent| urgent.min(next));
        tokio::select! {
            biased;
            () = shared.until_stopped() => return,
            Some(peer) = meetings.next() => {
                busy.remove(&peer);
            }
            () = shared.hurry.notified() => {}
            () = sleep(until.saturating_sub(now)) => {}
        }
    }
}

fn random_peer(shared: &Shared) -> Option<NodeId> {
    let peers = shared.engine(|engine| engine.peers());
    let pick = shared.env.entropy.next() % (peers.len() as u64).max(1);
    peers.into_iter().nth(usize::try_from(pick).unwrap_or_default())
}

/// One round with one peer. Returns whose it was.
async fn meet(shared: &Shared, peer: NodeId) -> NodeId {
    let result = round(shared, peer).await;
    let now = shared.now();
    shared.engine(|engine| engine.on_peer(peer, result.is_ok(), now));
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "no digest with a peer");
        let is_peer = shared.engine(|engine| engine.peers().contains(&peer));
        if is_peer {
            shared.hurry_to(peer, now + BACKOFF_MAX);
        }
    }
    shared.wake.notify_one();
    peer
}

async fn round(shared: &Shared, peer: NodeId) -> Result<(), RoundError> {
    shared.refresh_changed()?;
    let (digest, doubts) = shared.engine(|engine| (engine.digest_for(peer), engine.doubts_about(peer)));
    let buckets = digest.into_sums();
    let mut client = shared.pool.client(peer)?;
    let request = v1::DigestRequest {
        buckets,
        metadata_index: shared.control.index(),
    };
    let answer = in_time(client.digest(request)).await?;
    count(&shared.counters.digests, 1);
    settle(shared, peer, doubts, &answer.differing);
    if answer.differing.is_empty() {
        return Ok(());
    }
    count(&shared.counters.digests_differing, 1);
    let mut after = prost::bytes::Bytes::new();
    loop {
        let request = v1::VectorsRequest {
            buckets: answer.differing.clone(),
            bucket_count: u32::try_from(BUCKETS).expect("few buckets"),
            after,
        };
        let page = in_time(client.vectors(request)).await?;
        compare(shared, peer, &page);
        match page.tenants.last() {
            Some(last) if page.more => after = last.tenant.clone(),
            _ => return Ok(()),
        }
    }
}

/// What lies in buckets that are equal is equal: the peer holds what the digest was made of.
fn settle(shared: &Shared, peer: NodeId, doubts: Vec<(TenantId, VersionVector)>, differing: &[u32]) {
    for (tenant, vector) in doubts {
        let bucket = u32::try_from(bucket_of(tenant, BUCKETS)).unwrap_or(u32::MAX);
        if !differing.contains(&bucket) {
            shared.engine(|engine| engine.on_equal(peer, tenant, &vector));
            shared.known_changed(tenant);
        }
    }
}

/// Tells the rules what the peer is.
fn compare(shared: &Shared, peer: NodeId, page: &v1::VectorsResponse) {
    let now = shared.now();
    for message in &page.tenants {
        let Ok((tenant, known)) = wire::known(message) else {
            let message = format!("node {peer} sent a vector that cannot be read");
            shared.raise_alarm(AlarmKind::PeerMessage, None, message);
            continue;
        };
        shared.engine(|engine| engine.on_compared(peer, tenant, known, now));
        shared.known_changed(tenant);
    }
}

async fn in_time<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, RoundError> {
    let answer: Result<_, _> = timeout(CALL_DEADLINE, call).await;
    Ok(answer.map_err(|_| RoundError::Silent)??.into_inner())
}
