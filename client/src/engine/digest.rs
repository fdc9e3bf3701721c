//! Fingerprints of a query's coverage, by bucket of entity: what a client sends when it comes back.

use halcyon_core::collections::{BTreeMap, BTreeSet};
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

/// The entities held in these buckets, with the fingerprint of each: what is equal need not come again. Of buckets beyond so
/// many bytes nothing is said; these come second.
pub(super) fn held(
    replica: &Replica,
    query: QueryId,
    buckets: &[u32],
    bytes_max: usize,
) -> (Vec<v1::BucketEntities>, BTreeSet<u32>) {
    let none: (Vec<String>, Vec<u8>) = Default::default();
    let mut held: BTreeMap<u32, _> = buckets.iter().map(|&bucket| (bucket, none.clone())).collect();
    for number in replica.covered(query) {
        let entity = replica.graph().dictionary().entity(number);
        if let Some((entities, fingerprints)) = held.get_mut(&u32::from(bucket_of(entity))) {
            entities.push(entity.as_str().to_owned());
            fingerprints.extend_from_slice(&replica.fingerprint(number).0.to_le_bytes());
        }
    }
    let mut bytes = 0;
    let mut unsaid = BTreeSet::new();
    let held = held.into_iter().map(|(bucket, (entities, fingerprints))| {
        bytes += fingerprints.len() + entities.iter().map(|name| name.len() + NAME_OVERHEAD).sum::<usize>();
        let mut held = v1::BucketEntities {
            bucket,
            entities,
            fingerprints: fingerprints.into(),
        };
        if bytes > bytes_max {
            unsaid.insert(bucket);
            (held.entities, held.fingerprints) = Default::default();
        }
        held
    });
    (held.collect(), unsaid)
}

/// Bytes of a name in a message besides its own.
const NAME_OVERHEAD: usize = 3;
