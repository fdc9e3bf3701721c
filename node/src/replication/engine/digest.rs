//! Digests: two nodes compare all the tenants that both hold at the cost of what differs.
//!
//! A bucket's digest is the sum of one hash for each tenant in it, so it depends on no order and one tenant's change
//! costs one subtraction. Hashes are kept; only tenants that changed are hashed again.

use halcyon_core::id::TenantId;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::{replication::limits::BUCKETS, storage::types::Summary};

/// The bucket of a tenant, of `count`.
pub fn bucket_of(tenant: TenantId, count: usize) -> usize {
    let hash = xxh3_64(&tenant.to_bytes());
    usize::try_from(hash % count.max(1) as u64).expect("less than a usize")
}

/// What a tenant adds to its bucket.
///
/// The fingerprint takes part: two exact nodes with equal vectors and unequal facts must notice each other.
pub(super) fn hash_of(tenant: TenantId, summary: &Summary) -> u64 {
    let mut bytes = Vec::with_capacity(64 + 20 * (summary.vector.len() + summary.seen.len()));
    summary.vector.encode_to(&mut bytes);
    summary.seen.encode_to(&mut bytes);
    let mut hash = Xxh3::new();
    hash.update(&tenant.to_bytes());
    hash.update(&summary.collection_epoch.to_le_bytes());
    hash.update(&summary.fingerprint.0.to_le_bytes());
    hash.update(&bytes);
    hash.digest()
}

/// The sums of all buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest(Vec<u64>);

impl Default for Digest {
    fn default() -> Self {
        Self(vec![0; BUCKETS])
    }
}

impl Digest {
    /// Adds a tenant.
    pub fn add(&mut self, tenant: TenantId, hash: u64) {
        let sum = &mut self.0[bucket_of(tenant, BUCKETS)];
        *sum = sum.wrapping_add(hash);
    }

    /// Takes a tenant out.
    pub fn remove(&mut self, tenant: TenantId, hash: u64) {
        let sum = &mut self.0[bucket_of(tenant, BUCKETS)];
        *sum = sum.wrapping_sub(hash);
    }

    /// The sums, for the wire.
    pub fn into_sums(self) -> Vec<u64> {
        self.0
    }

    /// Which buckets differ from `theirs`. All of them, where the other node counts in other buckets.
    pub fn differing(&self, theirs: &[u64]) -> Vec<u32> {
        let all = theirs.len() != self.0.len();
        let differs = |at: &usize| all || self.0[*at] != theirs[*at];
        (0..self.0.len())
            .filter(differs)
            .map(|at| u32::try_from(at).expect("few buckets"))
            .collect()
    }
}
