//! Collection of tombstones, led for each tenant by the lowest active replica of its home region.
//!
//! 1. Facts that were received longer ago than the retention are offered to every replica, joining and leaving ones
//!    too. Each says whether it holds all of them, and its vector.
//! 2. The barrier is the join of these vectors: all that anybody held when everybody held them. A change made before
//!    and still under way is covered by it.
//! 3. They are offered again with the barrier. A replica that covers it writes down what it may forget, and says so.
//! 4. When all have said so the control plane raises the tenant's collection epoch; every replica that sees the new
//!    epoch forgets what it wrote down. One that wrote nothing down (its files were restored, or it joined in between)
//!    hands over what only it holds and is filled from nothing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use halcyon_core::{
    clock::WallTime,
    id::{NodeId, TenantId},
    mutant::{self, Mutant},
    version_vector::VersionVector,
};
use halcyon_proto::v1;
use prost::bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::{
    answers,
    engine::Engine,
    limits::{CALL_DEADLINE, COLLECT_BYTES_MAX, COLLECT_CELLS_MAX, COLLECT_TENANTS_MAX, SETTING_HEEDED_WITHIN},
    shared::{Shared, count},
    wire,
};

/// A collection that waits until all replicas cover its barrier.
struct Prepared {
    collection_epoch: u64,
    cells: Vec<Bytes>,
    barrier: VersionVector,
}

/// Runs until the node stops.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut prepared = BTreeMap::new();
    let mut after = None;
    loop {
        tokio::select! {
            biased;
            () = shared.until_stopped() => return,
            () = until_due(&shared) => {}
        }
        let mut tenants = shared.engine(|engine| engine.coordinated());
        prepared.retain(|tenant, _| tenants.contains(tenant));
        // Many tenants take turns.
        let start = tenants.partition_point(|&tenant| Some(tenant) <= after);
        let turn = start % tenants.len().max(1);
        tenants.rotate_left(turn);
        tenants.truncate(COLLECT_TENANTS_MAX);
        after = tenants.last().copied();
        for tenant in tenants {
            tokio::select! {
                biased;
                () = shared.until_stopped() => return,
                () = advance(&shared, tenant, &mut prepared) => {}
            }
        }
    }
}

/// Waits for the interval between two rounds, as it is set now: a long one that was made short meanwhile is short.
async fn until_due(shared: &Shared) {
    let began = shared.now();
    loop {
        let due = began + shared.control.settings().collection_interval;
        let left = due.saturating_sub(shared.now());
        if left.is_zero() {
            return;
        }
        sleep(left.min(SETTING_HEEDED_WITHIN)).await;
    }
}

/// Takes one tenant as far as it goes now.
async fn advance(shared: &Shared, tenant: TenantId, prepared: &mut BTreeMap<TenantId, Prepared>) {
    let Some(placement) = shared.control.tenant(tenant) else {
        return;
    };
    let collection_epoch = placement.collection_epoch + 1;
    let replicas: Vec<NodeId> = placement.replicas.keys().copied().collect();
    // Nothing comes of asking while one of them is away, and a silent one would hold up the other tenants.
    let is_away = |engine: &Engine| replicas.iter().any(|node| engine.around().unreachable.contains(node));
    if shared.engine(|engine| is_away(engine)) && !mutant::active(Mutant::CollectedEarly) {
        return;
    }
    if prepared
        .get(&tenant)
        .is_some_and(|waiting| waiting.collection_epoch != collection_epoch)
    {
        prepared.remove(&tenant);
    }
    let waiting = match prepared.remove(&tenant) {
        Some(waiting) => waiting,
        None => match first_round(shared, tenant, collection_epoch, &replicas).await {
            Some(waiting) => waiting,
            None => return,
        },
    };
    let answers = ask_all(shared, &replicas, &request(tenant, &waiting)).await;
    if !all_ready(&answers) {
        // Somebody is behind, or away. The same barrier holds until then.
        prepared.insert(tenant, waiting);
        return;
    }
    match shared.control.collected(tenant, collection_epoch).await {
        Ok(()) => {
            let cells = waiting.cells.len();
            let told = || format!("{tenant} in epoch {collection_epoch}, {cells} cells");
            shared.env.probe.event("collection.ended", &told);
            count(&shared.counters.collected, cells as u64);
        }
        Err(error) => tracing::info!(%tenant, %error, "a collection was not written down"),
    }
}

/// Finds what is old enough, and asks who holds it.
async fn first_round(
    shared: &Shared,
    tenant: TenantId,
    collection_epoch: u64,
    replicas: &[NodeId],
) -> Option<Prepared> {
    let cells = candidates(shared, tenant)?;
    let mut waiting = Prepared {
        collection_epoch,
        cells,
        barrier: VersionVector::EMPTY,
    };
    let answers = ask_all(shared, replicas, &request(tenant, &waiting)).await;
    if !all_ready(&answers) {
        return None;
    }
    for answer in answers.into_iter().flatten() {
        waiting.barrier.join(&wire::vector(&answer.vector).ok()?);
    }
    Some(waiting)
}

fn candidates(shared: &Shared, tenant: TenantId) -> Option<Vec<Bytes>> {
    let now = shared.env.clock.wall().0.to_duration();
    let retention = shared.control.settings().tombstone_retention;
    let before = WallTime::from_unix(now.checked_sub(retention).unwrap_or(Duration::ZERO));
    let cells = shared.storage.collectable(tenant, before, COLLECT_CELLS_MAX);
    let cells = cells
        .inspect_err(|error| tracing::warn!(%tenant, %error, "no tombstones could be read"))
        .ok()?;
    let mut bytes = 0;
    let encoded = cells.iter().map(wire::cell_message).take_while(|cell| {
        bytes += cell.len();
        bytes <= COLLECT_BYTES_MAX
    });
    let encoded: Vec<Bytes> = encoded.collect();
    Some(encoded).filter(|cells| !cells.is_empty())
}

fn request(tenant: TenantId, waiting: &Prepared) -> v1::PrepareCollectionRequest {
    v1::PrepareCollectionRequest {
        tenant: wire::tenant_bytes(tenant),
        collection_epoch: waiting.collection_epoch,
        cells: waiting.cells.clone(),
        barrier: if waiting.barrier.is_empty() {
            Bytes::new()
        } else {
            waiting.barrier.encode().into()
        },
    }
}

fn all_ready(answers: &[Option<v1::PrepareCollectionResponse>]) -> bool {
    answers.iter().all(|answer| match answer {
        Some(answer) => answer.ready,
        None => mutant::active(Mutant::CollectedEarly),
    })
}

async fn ask_all(
    shared: &Shared,
    replicas: &[NodeId],
    request: &v1::PrepareCollectionRequest,
) -> Vec<Option<v1::PrepareCollectionResponse>> {
    join_all(replicas.iter().map(|&peer| ask(shared, peer, request))).await
}

async fn ask(
    shared: &Shared,
    peer: NodeId,
    request: &v1::PrepareCollectionRequest,
) -> Option<v1::PrepareCollectionResponse> {
    if peer == shared.me {
        return answers::on_prepare_collection(shared, peer, request).await.ok();
    }
    let mut client = shared.pool.client(peer).ok()?;
    let answer = timeout(CALL_DEADLINE, client.prepare_collection(request.clone()))
        .await
        .ok()?;
    answer.ok().map(tonic::Response::into_inner)
}
