//! What client and node agree on about coverage: which bucket an entity is in, and the digest of what is held.
//!
//! A subscription covers whole entities. A client that comes back says what it holds by a [`Digest`]: a fingerprint for
//! each of 256 buckets of entities. Buckets that are equal hold the same live facts, and nothing of them is sent. Of the
//! others it says the same for each entity, so that what changed is sent and not what lies beside it.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use crate::{codec::DecodeError, fingerprint::Fingerprint, id::EntityId};

/// Buckets of a digest. At 20,000 entities a bucket has 80: for ten changed ones the client names 4% of them.
pub const BUCKETS: usize = 256;

/// Entities that one subscription may cover. More is no page of an app but an export: it is asked for once, in pages.
pub const ENTITIES_MAX: usize = 100_000;

/// Bytes of a fingerprint, of a bucket or of one entity.
pub const FINGERPRINT_BYTES: usize = 16;

/// The bucket of an entity.
pub fn bucket_of(entity: &EntityId) -> u8 {
    let [bucket, ..] = xxh3_64(entity.as_str().as_bytes()).to_le_bytes();
    bucket
}

/// A fingerprint for each bucket: the sum over the live facts of the entities in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Digest {
    buckets: Box<[Fingerprint; BUCKETS]>,
}

impl Digest {
    /// Adds all live facts of an entity, given as their sum.
    pub fn add(&mut self, entity: &EntityId, facts: Fingerprint) {
        let bucket = &mut self.buckets[usize::from(bucket_of(entity))];
        *bucket = bucket.plus(facts);
    }

    /// Takes them out again.
    pub fn take_out(&mut self, entity: &EntityId, facts: Fingerprint) {
        let bucket = &mut self.buckets[usize::from(bucket_of(entity))];
        *bucket = bucket.minus(facts);
    }

    /// The buckets in which the two differ, ascending.
    pub fn differing(&self, other: &Self) -> Vec<u8> {
        let pairs = (0_u8..=u8::MAX).zip(self.buckets.iter().zip(other.buckets.iter()));
        pairs.filter(|(_, (a, b))| a != b).map(|(bucket, _)| bucket).collect()
    }

    /// The encoding of each bucket.
    pub fn encode(&self) -> Vec<[u8; FINGERPRINT_BYTES]> {
        self.buckets.iter().map(|bucket| bucket.0.to_le_bytes()).collect()
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(buckets: &[impl AsRef<[u8]>]) -> Result<Self, DecodeError> {
        if buckets.len() != BUCKETS {
            return Err(DecodeError::invalid("a digest", "it has 256 buckets"));
        }
        let mut digest = Self::default();
        for (bucket, bytes) in digest.buckets.iter_mut().zip(buckets) {
            let bytes = bytes.as_ref().try_into();
            let bytes = bytes.map_err(|_| DecodeError::invalid("a digest", "a bucket has 16 bytes"))?;
            *bucket = Fingerprint(u128::from_le_bytes(bytes));
        }
        Ok(digest)
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self {
            buckets: Box::new([Fingerprint::default(); BUCKETS]),
        }
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = self
            .buckets
            .iter()
            .fold(Fingerprint::default(), |sum, one| sum.plus(*one));
        write!(f, "Digest({sum})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entity(number: u16) -> EntityId {
        EntityId::new(&format!("entity-{number}")).unwrap()
    }

    fn digest(facts: &[(u16, u128)]) -> Digest {
        let mut digest = Digest::default();
        for (number, fact) in facts {
            digest.add(&entity(*number), Fingerprint(*fact));
        }
        digest
    }

    proptest! {
        #[test]
        fn a_digest_does_not_depend_on_order_and_reads_back(mut facts: Vec<(u16, u128)>, more: (u16, u128)) {
            let held = digest(&facts);
            facts.reverse();
            prop_assert_eq!(&digest(&facts), &held);
            prop_assert_eq!(Digest::decode(&held.encode()), Ok(held.clone()));
            prop_assert_eq!(held.differing(&held), Vec::<u8>::new());
            let mut other = held.clone();
            other.add(&entity(more.0), Fingerprint(more.1));
            let differing: Vec<u8> = (more.1 != 0).then(|| bucket_of(&entity(more.0))).into_iter().collect();
            prop_assert_eq!(other.differing(&held), differing);
            other.take_out(&entity(more.0), Fingerprint(more.1));
            prop_assert_eq!(other, held);
        }

        #[test]
        fn any_bytes_are_read_or_refused(buckets: Vec<Vec<u8>>, count in 250_usize..260, length in 15_usize..18) {
            prop_assert!(Digest::decode(&buckets).is_err());
            let buckets = vec![vec![7_u8; length]; count];
            prop_assert_eq!(Digest::decode(&buckets).is_ok(), count == BUCKETS && length == FINGERPRINT_BYTES);
        }
    }

    #[test]
    fn entities_spread_over_all_buckets() {
        let mut counts = [0_u32; BUCKETS];
        for number in 0..20_000 {
            counts[usize::from(bucket_of(&entity(number)))] += 1;
        }
        assert!(counts.iter().all(|count| (40..130).contains(count)), "{counts:?}");
    }

    /// Client and node may be of different releases: the place of an entity must not change between them.
    #[test]
    fn the_bucket_of_an_entity_stays_what_it_is() {
        let buckets = ["a", "V1StGXR8_Z5jdHi6B-myT", "entity-1"].map(|id| bucket_of(&EntityId::new(id).unwrap()));
        assert_eq!(buckets, [31, 182, 47]);
    }
}
