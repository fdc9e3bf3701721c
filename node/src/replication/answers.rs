//! Answers to the small questions of peers.

use halcyon_core::id::NodeId;
use halcyon_proto::v1;

use super::{
    PeerCallError,
    engine::bucket_of,
    limits::{BUCKETS, COLLECT_CELLS_MAX, VECTORS_PAGE_BYTES_MAX},
    shared::Shared,
    wire,
};

/// Which buckets differ.
pub(super) fn on_digest(
    shared: &Shared,
    from: NodeId,
    request: &v1::DigestRequest,
) -> Result<v1::DigestResponse, PeerCallError> {
    shared.refresh_changed()?;
    let (digest, was_away) = shared.engine(|engine| {
        let was_away = engine.around().unreachable.contains(&from);
        (engine.digest_for(from), was_away)
    });
    // It called, so it is up; whether it can be called the next digest shows.
    if was_away {
        shared.hurry_to(from, shared.now());
    }
    Ok(v1::DigestResponse {
        differing: digest.differing(&request.buckets),
    })
}

/// One page of the tenants in some buckets.
pub(super) fn on_vectors(
    shared: &Shared,
    from: NodeId,
    request: &v1::VectorsRequest,
) -> Result<v1::VectorsResponse, PeerCallError> {
    let after = if request.after.is_empty() {
        None
    } else {
        Some(wire::tenant(&request.after)?)
    };
    let count = usize::try_from(request.bucket_count).unwrap_or(BUCKETS);
    let wanted: std::collections::BTreeSet<u32> = request.buckets.iter().copied().collect();
    shared.refresh_changed()?;
    Ok(shared.engine(|engine| {
        let mut response = v1::VectorsResponse::default();
        let mut bytes = 0;
        for (tenant, state) in engine.shared_with(from).filter(|&(tenant, _)| Some(tenant) > after) {
            let bucket = u32::try_from(bucket_of(tenant, count)).unwrap_or(u32::MAX);
            let Some(own) = state.own.as_ref().filter(|_| wanted.contains(&bucket)) else {
                continue;
            };
            if bytes >= VECTORS_PAGE_BYTES_MAX {
                response.more = true;
                break;
            }
            let message = wire::tenant_vector(tenant, own);
            bytes += 64 + message.vector.len() + message.seen.len();
            response.tenants.push(message);
        }
        response
    }))
}

/// What this replica is.
pub(super) fn on_describe(
    shared: &Shared,
    request: &v1::DescribeRequest,
) -> Result<v1::DescribeResponse, PeerCallError> {
    let tenant = wire::tenant(&request.tenant)?;
    // Before the summary: what the view says is obeyed by the time the summary is read.
    let metadata_index = shared.control.index();
    let Some(own) = shared.storage.summary(tenant)? else {
        return Ok(v1::DescribeResponse {
            metadata_index,
            ..v1::DescribeResponse::default()
        });
    };
    let message = wire::tenant_vector(tenant, &own);
    Ok(v1::DescribeResponse {
        held: true,
        vector: message.vector,
        seen: message.seen,
        fingerprint: message.fingerprint,
        triples: own.triples,
        collection_epoch: own.collection_epoch,
        metadata_index,
    })
}

/// Whether this replica holds all of them, and covers the barrier; if there is one, that is durable then.
pub(super) async fn on_prepare_collection(
    shared: &Shared,
    from: NodeId,
    request: &v1::PrepareCollectionRequest,
) -> Result<v1::PrepareCollectionResponse, PeerCallError> {
    let tenant = wire::tenant(&request.tenant)?;
    let barrier = wire::vector(&request.barrier)?;
    let is_replica = |placement: &crate::metadata::state::Tenant| placement.replicas.contains_key(&from);
    if !shared
        .control
        .tenant(tenant)
        .is_some_and(|placement| is_replica(&placement))
    {
        return Err(PeerCallError::NotReplicated(from, tenant));
    }
    let cells = request
        .cells
        .iter()
        .take(COLLECT_CELLS_MAX)
        .map(|bytes| wire::cell(bytes))
        .collect::<Result<Vec<_>, _>>()?;
    let ready = shared
        .storage
        .prepare_collection(tenant, request.collection_epoch, cells, barrier)
        .await?;
    // After the question: a larger vector only makes the barrier safer.
    let vector = shared
        .storage
        .summary(tenant)?
        .map(|own| own.vector)
        .unwrap_or_default();
    Ok(v1::PrepareCollectionResponse {
        ready,
        vector: vector.encode().into(),
    })
}
