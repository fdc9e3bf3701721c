//! Reading and writing bytes: the one set of primitives under every encoding of Halcyon.
//!
//! Numbers are LEB128 varints unless their order matters, then big-endian. A reader never trusts a length: it is
//! checked against the bytes that are there before anything is allocated.

use thiserror::Error;

/// Why bytes were refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes end in the middle of something.
    #[error("{0}: the bytes end too early")]
    TooShort(&'static str),
    /// There are bytes left where there should be none.
    #[error("{field}: {bytes} bytes too many")]
    TooLong {
        /// What was read.
        field: &'static str,
        /// Bytes left.
        bytes: usize,
    },
    /// Larger than its limit.
    #[error("{field} has {size}; the limit is {max}")]
    OverLimit {
        /// What was read.
        field: &'static str,
        /// Its size, in bytes or items.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// Written by a newer release than this one.
    #[error("{field}: version {version} is not known to this release; upgrade it")]
    UnknownVersion {
        /// What was read.
        field: &'static str,
        /// The version found.
        version: u8,
    },
    /// Not what the field may hold.
    #[error("{field}: {reason}")]
    Invalid {
        /// What was read.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl DecodeError {
    /// A field that holds what it may not hold.
    pub const fn invalid(field: &'static str, reason: &'static str) -> Self {
        Self::Invalid { field, reason }
    }
}

/// Appends a varint (LEB128).
pub fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Appends a length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads from the front of a slice.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from the start.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `count` bytes.
    pub fn take(&mut self, field: &'static str, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::TooShort(field))?;
        self.rest = rest;
        Ok(taken)
    }

    /// The bytes before the next one of this kind, which is passed over.
    pub fn until(&mut self, field: &'static str, end: u8) -> Result<&'a [u8], DecodeError> {
        let at = self.rest.iter().position(|byte| *byte == end);
        let taken = self.take(field, at.ok_or(DecodeError::TooShort(field))?)?;
        self.byte(field)?;
        Ok(taken)
    }

    /// The next bytes, as many as the result holds.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::TooShort(field))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte.
    pub fn byte(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        Ok(self.array::<1>(field)?[0])
    }

    /// A varint.
    pub fn varint(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(field)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::invalid(field, "a number of more than 64 bits"));
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(DecodeError::invalid(field, "a number of more than 64 bits"))
    }

    /// A varint that counts something of which at most `max` may come.
    pub fn count(&mut self, field: &'static str, max: usize) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.varint(field)?).unwrap_or(usize::MAX);
        if count > max {
            return Err(DecodeError::OverLimit {
                field,
                size: count,
                max,
            });
        }
        Ok(count)
    }

    /// A length and that many bytes, `max` at the most.
    pub fn bytes(&mut self, field: &'static str, max: usize) -> Result<&'a [u8], DecodeError> {
        let count = self.count(field, max)?;
        self.take(field, count)
    }

    /// A length and that many bytes of UTF-8.
    pub fn text(&mut self, field: &'static str, max: usize) -> Result<&'a str, DecodeError> {
        let bytes = self.bytes(field, max)?;
        std::str::from_utf8(bytes).map_err(|_| DecodeError::invalid(field, "not UTF-8"))
    }

    /// Refuses bytes that nobody read.
    pub const fn finish(self, field: &'static str) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::TooLong {
                field,
                bytes: self.rest.len(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_varint_reads_back(number: u64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint("number"), Ok(number));
            prop_assert_eq!(reader.finish("number"), Ok(()));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while reader.varint("number").is_ok() {}
            let _ = Reader::new(&bytes).text("text", 16);
        }
    }

    #[test]
    fn a_length_is_checked_before_it_is_believed() {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, u64::MAX);
        assert!(matches!(
            Reader::new(&bytes).bytes("field", 10),
            Err(DecodeError::OverLimit { .. })
        ));
        assert!(matches!(
            Reader::new(&[5, 1]).bytes("field", 10),
            Err(DecodeError::TooShort(_))
        ));
    }
}
