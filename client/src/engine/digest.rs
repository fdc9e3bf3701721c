//! Fingerprints of a query's coverage, by bucket of entity: what a client sends when it comes back.

use halcyon_core::collections::BTreeMap;
use halcyon_core::coverage::{Digest, bucket_of};
use halcyon_proto::v1;
use prost::bytes::Bytes;

use super::{QueryId, replica::Replica};

/// The fingerprints of what is held for a query; none if nothing is.
pub(super) fn digest(replica: &Replica, query: QueryId) -> Vec<Bytes> {
    if replica.covered_count(query) == 0 {
        return Vec::new();
    }
    let mut digest = Digest::default();
    for number in replica.covered(query) {
        let entity = replica.graph().dictionary().entity(number);
        digest.add(entity, replica.fingerprint(number));
    }
    digest
        .encode()
        .iter()
        .map(|bucket| Bytes::copy_from_slice(bucket))
        .collect()
}

/// The entities held in these buckets.
pub(super) fn held(replica: &Replica, query: QueryId, buckets: &[u32]) -> Vec<v1::BucketEntities> {
    let mut held: BTreeMap<u32, Vec<String>> = buckets.iter().map(|&bucket| (bucket, Vec::new())).collect();
    for number in replica.covered(query) {
        let entity = replica.graph().dictionary().entity(number);
        if let Some(entities) = held.get_mut(&u32::from(bucket_of(entity))) {
            entities.push(entity.as_str().to_owned());
        }
    }
    let held = held.into_iter();
    held.map(|(bucket, entities)| v1::BucketEntities { bucket, entities })
        .collect()
}
