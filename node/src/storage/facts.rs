//! Rows of the index that hold facts: registers, elements, tombstones.

use std::cmp::Ordering;

use halcyon_core::codec::{DecodeError, Reader, put_varint};

/// A commit, by the number of its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LocalTag {
    pub(super) origin: u32,
    pub(super) seq: u64,
}

/// A timestamp, by the number of its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LocalTime {
    pub(super) time: u64,
    pub(super) client: u32,
}

/// A register or an element.
///
/// ```text
/// row = flags: 1 byte (1: live) | time: 8 bytes | client, origin, seq: varints | received: 8 bytes, unless live
///     | the encoded value: a live register's, or that of an element whose key had no room for it
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored<'a> {
    /// A register with a value, or an element that is in.
    pub(super) live: bool,
    pub(super) at: LocalTime,
    pub(super) tag: LocalTag,
    /// When this node was told that it is gone. 0 while it is live.
    pub(super) received: u64,
    /// See above.
    pub(super) value: &'a [u8],
}

impl<'a> Stored<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.value.len());
        out.push(u8::from(self.live));
        out.extend_from_slice(&self.at.time.to_be_bytes());
        put_varint(&mut out, u64::from(self.at.client));
        put_varint(&mut out, u64::from(self.tag.origin));
        put_varint(&mut out, self.tag.seq);
        if !self.live {
            out.extend_from_slice(&self.received.to_be_bytes());
        }
        out.extend_from_slice(self.value);
        out
    }

    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let live = reader.byte("a fact's row")? == 1;
        let time = u64::from_be_bytes(reader.array("a fact's row")?);
        let client = short(&mut reader)?;
        let tag = LocalTag {
            origin: short(&mut reader)?,
            seq: reader.varint("a fact's row")?,
        };
        let received = if live {
            0
        } else {
            u64::from_be_bytes(reader.array("a fact's row")?)
        };
        let left = reader.remaining();
        Ok(Self {
            live,
            at: LocalTime { time, client },
            tag,
            received,
            value: reader.take("a fact's row", left)?,
        })
    }

    /// A register's value, as registers compare.
    pub(super) fn register_value(&self) -> Option<&'a [u8]> {
        self.live.then_some(self.value)
    }
}

/// A deleted entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tomb {
    pub(super) tag: LocalTag,
    /// When this node was told.
    pub(super) received: u64,
}

impl Tomb {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(20);
        put_varint(&mut out, u64::from(self.tag.origin));
        put_varint(&mut out, self.tag.seq);
        out.extend_from_slice(&self.received.to_be_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let tag = LocalTag {
            origin: short(&mut reader)?,
            seq: reader.varint("a tombstone's row")?,
        };
        let received = u64::from_be_bytes(reader.array("a tombstone's row")?);
        reader.finish("a tombstone's row")?;
        Ok(Self { tag, received })
    }
}

/// How a write of an element compares with another at the same time: removal wins.
pub(super) fn element_order(held: bool, other: bool) -> Ordering {
    other.cmp(&held)
}

fn short(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let number = reader.varint("an interned name")?;
    u32::try_from(number).map_err(|_| DecodeError::invalid("an interned name", "too large"))
}
