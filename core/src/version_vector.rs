//! Version vectors: the last seq held from each origin.
//!
//! After Parker et al., "Detection of Mutual Inconsistency in Distributed Systems" (1983).

use crate::collections::BTreeMap;
use crate::{
    codec::{DecodeError, Reader, put_varint},
    id::{OriginId, Seq, Tag},
    limits::ORIGINS_MAX,
};

/// The last seq held from each origin. An origin that is not in it counts as 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionVector(BTreeMap<OriginId, Seq>);

impl VersionVector {
    /// The vector that covers nothing.
    pub const EMPTY: Self = Self(BTreeMap::new());

    /// The last seq held from `origin`.
    pub fn get(&self, origin: OriginId) -> Seq {
        self.0.get(&origin).copied().unwrap_or_default()
    }

    /// Raises an origin's seq; never lowers it.
    pub fn raise(&mut self, tag: Tag) {
        if tag.seq > self.get(tag.origin) {
            self.0.insert(tag.origin, tag.seq);
        }
    }

    /// Raises every origin's seq to the other's.
    pub fn join(&mut self, other: &Self) {
        for (&origin, &seq) in &other.0 {
            self.raise(Tag { origin, seq });
        }
    }

    /// Whether all that `other` holds is held here.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|(&origin, &seq)| self.get(origin) >= seq)
    }

    /// Whether this one commit is held here.
    pub fn covers_tag(&self, tag: Tag) -> bool {
        self.get(tag.origin) >= tag.seq
    }

    /// How many change sets `other` holds that are not held here.
    pub fn behind(&self, other: &Self) -> u64 {
        other
            .0
            .iter()
            .map(|(&origin, seq)| seq.0.saturating_sub(self.get(origin).0))
            .sum()
    }

    /// The entries in the order of their origins.
    pub fn iter(&self) -> impl Iterator<Item = Tag> + '_ {
        self.0.iter().map(|(&origin, &seq)| Tag { origin, seq })
    }

    /// How many origins it names.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it covers nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the encoding.
    pub fn encode_to(&self, out: &mut Vec<u8>) {
        put_varint(out, self.0.len() as u64);
        for (origin, seq) in &self.0 {
            out.extend_from_slice(&origin.to_bytes());
            put_varint(out, seq.0);
        }
    }

    /// The encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(2 + 20 * self.0.len());
        self.encode_to(&mut out);
        out
    }

    /// Reads one from the front.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.count("a version vector", ORIGINS_MAX)?;
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let origin = OriginId::from_bytes(reader.array("an origin")?);
            let seq = Seq(reader.varint("a seq")?);
            if seq == Seq(0) || entries.last_key_value().is_some_and(|(&last, _)| last >= origin) {
                return Err(DecodeError::invalid(
                    "a version vector",
                    "a zero or an origin out of order",
                ));
            }
            entries.insert(origin, seq);
        }
        Ok(Self(entries))
    }

    /// Reads one that is all of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let vector = Self::read(&mut reader)?;
        reader.finish("a version vector")?;
        Ok(vector)
    }
}

impl FromIterator<Tag> for VersionVector {
    fn from_iter<I: IntoIterator<Item = Tag>>(tags: I) -> Self {
        let mut vector = Self::EMPTY;
        tags.into_iter().for_each(|tag| vector.raise(tag));
        vector
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::NodeId;

    fn any_vector() -> impl Strategy<Value = VersionVector> {
        proptest::collection::vec((0_u64..4, 0_u64..3, 1_u64..9), 0..8).prop_map(|entries| {
            let tag = |(node, incarnation, seq)| Tag {
                origin: OriginId {
                    node: NodeId(node),
                    incarnation,
                },
                seq: Seq(seq),
            };
            entries.into_iter().map(tag).collect()
        })
    }

    proptest! {
        #[test]
        fn join_is_the_smallest_that_covers_both(a in any_vector(), b in any_vector()) {
            let mut joined = a.clone();
            joined.join(&b);
            let mut other = b.clone();
            other.join(&a);
            prop_assert_eq!(&joined, &other);
            prop_assert!(joined.covers(&a) && joined.covers(&b));
            prop_assert!(joined.iter().all(|tag| a.get(tag.origin) == tag.seq || b.get(tag.origin) == tag.seq));
            prop_assert_eq!(a.covers(&b), a.behind(&b) == 0);
        }

        #[test]
        fn it_reads_back(vector in any_vector()) {
            prop_assert_eq!(VersionVector::decode(&vector.encode()), Ok(vector));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Ok(vector) = VersionVector::decode(&bytes) {
                prop_assert_eq!(VersionVector::decode(&vector.encode()), Ok(vector));
            }
        }
    }
}
