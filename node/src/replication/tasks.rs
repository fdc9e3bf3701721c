//! Carries out what the rules decided for one tenant, and tells them how it ended.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::join_all;
use halcyon_core::{
    id::{NodeId, Seq, Tag, TenantId},
    version_vector::VersionVector,
};
use halcyon_proto::v1;
use tokio::time::timeout;

use super::{
    engine::{Action, Done, Known, Task},
    gossip::{self, Acks},
    limits::{CALL_DEADLINE, LATE_ACK_ORIGINS_MAX},
    pull,
    shared::Shared,
    wire,
};
use crate::storage::types::StorageError;

/// Starts a task.
pub(super) fn spawn(shared: &Arc<Shared>, task: Task) {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let done = tokio::select! {
            biased;
            () = shared.until_stopped() => return,
            done = carry_out(&shared, task.tenant, task.action) => done,
        };
        finish(&shared, task.tenant, done).await;
    });
}

async fn finish(shared: &Arc<Shared>, tenant: TenantId, done: Done) {
    let is_pulled = matches!(done, Done::Pulled { .. });
    let before = shared.engine(|engine| engine.tenant(tenant).and_then(|state| state.own.clone()));
    let parked = shared.unpark(tenant);
    if is_pulled && !parked.is_empty() {
        let mut by_peer: BTreeMap<NodeId, Vec<_>> = BTreeMap::new();
        for (from, set) in parked {
            by_peer.entry(from).or_default().push(set);
        }
        for (from, sets) in by_peer {
            gossip::take(shared, from, sets, &mut Acks::default()).await;
        }
    }
    let done = match shared.refresh(tenant) {
        Ok(()) => done,
        Err(error) => failed(tenant, "read", &error),
    };
    if is_pulled {
        let before = before.map(|own| own.vector).unwrap_or_default();
        ack_pulled(shared, tenant, &before);
    }
    let now = shared.now();
    shared.engine(|engine| engine.on_done(tenant, done, now));
    shared.known_changed(tenant);
    shared.wake.notify_one();
}

/// Tells the others what the catch-up made durable here, so that nobody waits for a digest to hear of it.
fn ack_pulled(shared: &Shared, tenant: TenantId, before: &VersionVector) {
    let own = shared.engine(|engine| engine.tenant(tenant).and_then(|state| state.own.clone()));
    let raised = own.iter().flat_map(|own| own.vector.iter());
    let acks: Vec<_> = raised
        .filter(|&tag| !before.covers_tag(tag))
        .take(LATE_ACK_ORIGINS_MAX)
        .map(|tag| wire::ack(tenant, tag.origin, tag.seq))
        .collect();
    if !acks.is_empty() {
        shared.ack_late(tenant, &acks);
    }
}

async fn carry_out(shared: &Arc<Shared>, tenant: TenantId, action: Action) -> Done {
    let storage = &shared.storage;
    match action {
        Action::Open { collection_epoch } => well(tenant, "open", storage.open_tenant(tenant, collection_epoch).await),
        Action::SetAdmitting(admitting) => well(tenant, "admit", storage.set_admitting(tenant, admitting).await),
        Action::Pull(from) => pull::run(shared, tenant, from).await,
        Action::Describe(peers) => Done::Described(describe_all(shared, tenant, &peers).await),
        Action::Erase { if_covered_by } => match storage.erase_tenant(tenant, if_covered_by).await {
            Ok(erased) => Done::Erased(erased),
            Err(error) => failed(tenant, "erase", &error),
        },
        Action::Collect { collection_epoch } => match storage.collect(tenant, collection_epoch).await {
            Ok(outcome) => Done::Collected(outcome),
            Err(error) => failed(tenant, "collect", &error),
        },
        Action::Report(report) => match shared.control.report(shared.me, tenant, report).await {
            Ok(()) => Done::Well,
            Err(error) => {
                tracing::info!(%tenant, ?report, %error, "a report was not taken");
                Done::Failed
            }
        },
        Action::Close(peers) => close(shared, tenant, &peers).await,
    }
}

fn well(tenant: TenantId, what: &'static str, result: Result<(), StorageError>) -> Done {
    match result {
        Ok(()) => Done::Well,
        Err(error) => failed(tenant, what, &error),
    }
}

fn failed(tenant: TenantId, what: &'static str, error: &StorageError) -> Done {
    tracing::warn!(%tenant, what, %error, "storage failed");
    Done::Failed
}

/// Asks peers what they are. Who does not answer is missing.
async fn describe_all(shared: &Shared, tenant: TenantId, peers: &[NodeId]) -> Vec<(NodeId, Option<Known>)> {
    let asked = peers.iter().map(|&peer| async move {
        let answer = describe(shared, tenant, peer).await;
        let now = shared.now();
        shared.engine(|engine| engine.on_peer(peer, answer.is_some(), now));
        let known = wire::described(&answer?).ok()?;
        Some((peer, known))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

async fn describe(shared: &Shared, tenant: TenantId, peer: NodeId) -> Option<v1::DescribeResponse> {
    let mut client = shared.pool.client(peer).ok()?;
    let request = v1::DescribeRequest {
        tenant: wire::tenant_bytes(tenant),
    };
    let answer = timeout(CALL_DEADLINE, client.describe(request)).await.ok()?;
    answer.ok().map(tonic::Response::into_inner)
}

/// Closes the origins of removed nodes, and of this node's earlier incarnations. Every other replica must answer, know of
/// the removal (so that it refuses what the removed node still had under way) and hand over all it holds; then this one
/// holds what anybody holds.
async fn close(shared: &Arc<Shared>, tenant: TenantId, peers: &[NodeId]) -> Done {
    let index = shared.control.index();
    let around = shared.engine(|engine| engine.around().clone());
    let mut last: BTreeMap<_, Seq> = BTreeMap::new();
    for &peer in peers {
        let Some(answer) = describe(shared, tenant, peer).await else {
            return Done::Failed;
        };
        if answer.metadata_index < index {
            return Done::Failed;
        }
        if !answer.held {
            continue;
        }
        let Ok(snapshot) = pull::pull(shared, tenant, peer).await else {
            return Done::PullFailed(peer);
        };
        for tag in snapshot.seen.iter().chain(snapshot.vector.iter()) {
            let seq = last.entry(tag.origin).or_default();
            *seq = tag.seq.max(*seq);
        }
    }
    let own = match shared.storage.summary(tenant) {
        Ok(Some(own)) => own,
        Ok(None) => return Done::Well,
        Err(error) => return failed(tenant, "read", &error),
    };
    for tag in own.seen.iter() {
        let seq = last.entry(tag.origin).or_default();
        *seq = tag.seq.max(*seq);
    }
    let closed: VersionVector = last
        .into_iter()
        .filter(|&(origin, seq)| around.may_close(origin) && own.vector.get(origin) < seq)
        .map(|(origin, seq)| Tag { origin, seq })
        .collect();
    well(tenant, "close", shared.storage.raise_vector(tenant, closed).await)
}
