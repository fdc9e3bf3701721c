//! Which of a client's change sets a tenant has taken, so that one pushed twice is taken once.
//!
//! Kept per client incarnation and origin: the numbers as ranges, and for the newest few their content hash and seq.

use crate::{
    codec::{DecodeError, Reader, put_varint},
    id::Seq,
};

/// Sets whose hash is remembered. A client pushes again what it has not heard about: its last few.
pub const RECENT_MAX: usize = 64;

/// Ranges in one record. A client numbers from 1 without holes, so more than a few come from a faulty one.
pub const RANGES_MAX: usize = 1_024;

/// A set taken not long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recent {
    /// The client's number.
    pub number: u64,
    /// Where the origin put it.
    pub seq: Seq,
    /// [`crate::change::ChangeSet::content_hash`].
    pub hash: u64,
}

/// What is known of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Never taken through this origin.
    No,
    /// Taken, and committed at this seq or before it.
    Taken(Seq),
    /// Taken with other content. The client is at fault; its set is refused.
    Conflict,
}

/// The numbers taken from one client incarnation through one origin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TakenNumbers {
    /// First and last, both included; ascending, with holes between.
    ranges: Vec<(u64, u64)>,
    /// Ascending by seq.
    recent: Vec<Recent>,
}

impl TakenNumbers {
    /// What is known of a number with this content.
    pub fn lookup(&self, number: u64, hash: u64) -> Known {
        if !self.contains(number) {
            return Known::No;
        }
        match self.recent.iter().find(|recent| recent.number == number) {
            Some(recent) if recent.hash == hash => Known::Taken(recent.seq),
            Some(_) => Known::Conflict,
            None => Known::Taken(self.last_seq()),
        }
    }

    /// The seq of the last set taken.
    pub fn last_seq(&self) -> Seq {
        self.recent.last().map(|recent| recent.seq).unwrap_or_default()
    }

    /// Notes a set that was taken. Returns whether there was room; without it the set must be refused.
    pub fn take(&mut self, taken: Recent) -> bool {
        if !self.insert(taken.number) {
            return false;
        }
        self.recent.push(taken);
        if self.recent.len() > RECENT_MAX {
            self.recent.remove(0);
        }
        true
    }

    /// Whether this number, which was not taken, cannot be noted any more.
    pub fn is_full_for(&self, number: u64) -> bool {
        self.ranges.len() >= RANGES_MAX && !self.clone().insert(number)
    }

    fn contains(&self, number: u64) -> bool {
        let after = self.ranges.partition_point(|&(first, _)| first <= number);
        after > 0 && number <= self.ranges[after - 1].1
    }

    fn insert(&mut self, number: u64) -> bool {
        let after = self.ranges.partition_point(|&(first, _)| first <= number);
        let joins_before = after > 0 && self.ranges[after - 1].1.checked_add(1) == Some(number);
        let joins_after = after < self.ranges.len() && number.checked_add(1) == Some(self.ranges[after].0);
        match (joins_before, joins_after) {
            (true, true) => {
                self.ranges[after - 1].1 = self.ranges[after].1;
                self.ranges.remove(after);
            }
            (true, false) => self.ranges[after - 1].1 = number,
            (false, true) => self.ranges[after].0 = number,
            (false, false) if self.contains(number) => {}
            (false, false) if self.ranges.len() >= RANGES_MAX => return false,
            (false, false) => self.ranges.insert(after, (number, number)),
        }
        true
    }

    /// The encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.ranges.len() as u64);
        for &(first, last) in &self.ranges {
            put_varint(&mut out, first);
            put_varint(&mut out, last - first);
        }
        put_varint(&mut out, self.recent.len() as u64);
        for recent in &self.recent {
            put_varint(&mut out, recent.number);
            put_varint(&mut out, recent.seq.0);
            out.extend_from_slice(&recent.hash.to_le_bytes());
        }
        out
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let count = reader.count("ranges of client numbers", RANGES_MAX)?;
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for _ in 0..count {
            let first = reader.varint("a client number")?;
            let last = first.checked_add(reader.varint("a client number")?);
            let last = last.ok_or(DecodeError::invalid("a client number", "too large"))?;
            if ranges
                .last()
                .is_some_and(|&(_, before)| before.saturating_add(1) >= first)
            {
                return Err(DecodeError::invalid("ranges of client numbers", "out of order"));
            }
            ranges.push((first, last));
        }
        let count = reader.count("recent client numbers", RECENT_MAX)?;
        let mut recent = Vec::with_capacity(count);
        for _ in 0..count {
            let number = reader.varint("a client number")?;
            let seq = Seq(reader.varint("a seq")?);
            recent.push(Recent {
                number,
                seq,
                hash: u64::from_le_bytes(reader.array("a hash")?),
            });
        }
        reader.finish("client numbers")?;
        Ok(Self { ranges, recent })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_hold_exactly_what_was_taken(numbers in proptest::collection::vec(0_u64..40, 0..60)) {
            let mut taken = TakenNumbers::default();
            let mut model = BTreeSet::new();
            for (seq, &number) in (1..).zip(&numbers) {
                if model.insert(number) {
                    let room = taken.take(Recent { number, seq: Seq(seq), hash: number * 7 });
                    prop_assert!(room);
                }
            }
            for number in 0..41 {
                prop_assert_eq!(taken.lookup(number, number * 7) == Known::No, !model.contains(&number));
            }
            prop_assert_eq!(TakenNumbers::decode(&taken.encode()), Ok(taken));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = TakenNumbers::decode(&bytes);
        }
    }

    #[test]
    fn the_same_number_with_other_content_is_a_conflict() {
        let mut taken = TakenNumbers::default();
        taken.take(Recent {
            number: 1,
            seq: Seq(9),
            hash: 5,
        });
        assert_eq!(taken.lookup(1, 5), Known::Taken(Seq(9)));
        assert_eq!(taken.lookup(1, 6), Known::Conflict);
    }
}
