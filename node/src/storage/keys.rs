//! Keys of the index: numbers and values in bytes that sort as they do, and the places of facts.

use halcyon_core::codec::{DecodeError, Reader};
use xxhash_rust::xxh3::xxh3_128;

use super::limits::KEY_VALUE_BYTES;

/// What a name names. The byte stands in the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameKind {
    Subject = b's' as isize,
    Predicate = b'p' as isize,
    Origin = b'o' as isize,
    Client = b'c' as isize,
    Type = b't' as isize,
}

/// The register's part of a cell.
pub(crate) const REGISTER: u8 = 0;
/// An element's part of a cell.
pub(crate) const ELEMENT: u8 = 1;
const TOMBSTONE: u8 = 2;
const NUMBERS: u8 = 3;
const OPAQUE: u8 = 4;

/// Where a fact is, within its tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place<'a> {
    Register(u32, u32),
    /// Subject, predicate, and the value as [`put_value`] has it.
    Element(u32, u32, &'a [u8]),
    Tombstone(u32),
    Numbers(u32),
    Opaque(u32),
}

/// Bytes of a number, by the zero bytes in front of it.
const LENGTHS: [u8; 9] = [8, 7, 6, 5, 4, 3, 2, 1, 0];

/// Appends a number: its length in bytes, then those.
pub(super) fn put_number(out: &mut Vec<u8>, number: u64) {
    let bytes = number.to_be_bytes();
    let zeros = number.leading_zeros() as usize / 8;
    out.push(LENGTHS[zeros]);
    out.extend_from_slice(&bytes[zeros..]);
}

/// Reads what [`put_number`] wrote.
pub(super) fn number(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let len = usize::from(reader.byte("a key")?);
    if len > 8 {
        return Err(DecodeError::invalid("a key", "a number of more than 8 bytes"));
    }
    let taken = reader.take("a key", len)?;
    let mut bytes = [0; 8];
    bytes[8 - len..].copy_from_slice(taken);
    Ok(u64::from_be_bytes(bytes))
}

/// Reads a number that is an interned name's.
pub(super) fn id(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    u32::try_from(number(reader)?).map_err(|_| DecodeError::invalid("a key", "a number of more than 4 bytes"))
}

/// A key of the tenant and some numbers.
pub(super) fn key(tenant: u32, numbers: &[u64]) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    put_number(&mut out, u64::from(tenant));
    for &number in numbers {
        put_number(&mut out, number);
    }
    out
}

/// The key of a name.
pub(super) fn name_key(tenant: u32, kind: NameKind, name: &[u8]) -> Vec<u8> {
    let mut out = key(tenant, &[]);
    out.push(kind as u8);
    out.extend_from_slice(name);
    out
}

/// The key of a name's number.
pub(super) fn id_key(tenant: u32, kind: NameKind, id: u32) -> Vec<u8> {
    let mut out = key(tenant, &[]);
    out.push(kind as u8);
    put_number(&mut out, u64::from(id));
    out
}

/// The key of a register.
pub(super) fn register_key(tenant: u32, subject: u32, predicate: u32) -> Vec<u8> {
    let mut out = key(tenant, &[u64::from(subject), u64::from(predicate)]);
    out.push(REGISTER);
    out
}

/// The key of an element, whose value is as [`put_value`] has it.
pub(super) fn element_key(tenant: u32, subject: u32, predicate: u32, value: &[u8]) -> Vec<u8> {
    let mut out = key(tenant, &[u64::from(subject), u64::from(predicate)]);
    out.push(ELEMENT);
    out.extend_from_slice(value);
    out
}

/// The key of a live fact by its value. `encoded` is the whole value.
pub(super) fn value_key(tenant: u32, predicate: u32, encoded: &[u8], part: u8, subject: u32) -> Vec<u8> {
    let mut out = key(tenant, &[u64::from(predicate)]);
    put_value(&mut out, encoded);
    out.push(part);
    out.extend_from_slice(&subject.to_be_bytes());
    out
}

/// Part and subject of a key that [`value_key`] made.
pub(super) fn value_key_end(key: &[u8]) -> Option<(u8, u32)> {
    let (rest, subject) = key.split_last_chunk::<4>()?;
    Some((*rest.last()?, u32::from_be_bytes(*subject)))
}

/// Appends an encoded value as keys hold it: whole, or cut and with a hash of the whole.
pub(super) fn put_value(out: &mut Vec<u8>, encoded: &[u8]) {
    if encoded.len() <= KEY_VALUE_BYTES {
        out.extend_from_slice(encoded);
    } else {
        out.extend_from_slice(&encoded[..KEY_VALUE_BYTES]);
        out.extend_from_slice(&xxh3_128(encoded).to_be_bytes());
    }
}

/// Whether [`put_value`] cut a value to these bytes.
pub(crate) const fn is_cut(value: &[u8]) -> bool {
    value.len() > KEY_VALUE_BYTES
}

/// The smallest key that is larger than all keys with this prefix.
pub(crate) fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

impl<'a> Place<'a> {
    /// Appends it.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let (kind, numbers): (u8, &[u32]) = match self {
            Self::Register(subject, predicate) => (REGISTER, &[*subject, *predicate]),
            Self::Element(subject, predicate, _) => (ELEMENT, &[*subject, *predicate]),
            Self::Tombstone(subject) => (TOMBSTONE, &[*subject]),
            Self::Numbers(client) => (NUMBERS, &[*client]),
            Self::Opaque(place) => (OPAQUE, &[*place]),
        };
        out.push(kind);
        for &number in numbers {
            put_number(out, u64::from(number));
        }
        if let Self::Element(_, _, value) = self {
            out.extend_from_slice(value);
        }
    }

    /// Reads one that is all that is left.
    pub(super) fn read(mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match reader.byte("a place")? {
            REGISTER => Self::Register(id(&mut reader)?, id(&mut reader)?),
            ELEMENT => {
                let (subject, predicate) = (id(&mut reader)?, id(&mut reader)?);
                let left = reader.remaining();
                Self::Element(subject, predicate, reader.take("a place", left)?)
            }
            TOMBSTONE => Self::Tombstone(id(&mut reader)?),
            NUMBERS => Self::Numbers(id(&mut reader)?),
            OPAQUE => Self::Opaque(id(&mut reader)?),
            _ => return Err(DecodeError::invalid("a place", "no such kind")),
        })
    }

    /// Its row in `ByOrigin`.
    pub(super) fn origin_key(&self, tenant: u32, origin: u32, seq: u64) -> Vec<u8> {
        let mut out = key(tenant, &[u64::from(origin), seq]);
        self.put(&mut out);
        out
    }

    /// Its row in `Collectable`.
    pub(super) fn collectable_key(&self, tenant: u32, received: u64) -> Vec<u8> {
        let mut out = key(tenant, &[]);
        out.extend_from_slice(&received.to_be_bytes());
        self.put(&mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_reads_back_and_sorts_like_itself(a: u64, shift in 0_u32..64, b: u64) {
            let (a, b) = (a >> shift, b);
            let (mut x, mut y) = (Vec::new(), Vec::new());
            put_number(&mut x, a);
            put_number(&mut y, b);
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!(number(&mut Reader::new(&x)), Ok(a));
        }

        #[test]
        fn any_bytes_are_a_place_or_refused(bytes: Vec<u8>) {
            if let Ok(place) = Place::read(Reader::new(&bytes)) {
                let mut out = Vec::new();
                place.put(&mut out);
                prop_assert_eq!(Place::read(Reader::new(&out)), Ok(place));
            }
        }
    }
}
