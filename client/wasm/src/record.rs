//! What the engine wants kept on disk, as records that the disk need not understand.
//!
//! ```text
//! record = store: 1 byte (a letter) | present: 1 byte | key: 8 bytes, big-endian | length: 4 bytes, big-endian | bytes
//! ```
//!
//! Records that are taken out together belong to one step: a disk keeps all of them or none.

/// Confirmed change sets, by the order in which they came.
pub(crate) const CONFIRMED: u8 = b'c';
/// Change sets that wait, by their place.
pub(crate) const OUTBOX: u8 = b'o';
/// Single things.
pub(crate) const META: u8 = b'm';

/// In [`META`]: the version vector that the confirmed sets come to.
pub(crate) const META_VECTOR: u64 = 1;
/// In [`META`]: the largest time that this client has made or seen.
pub(crate) const META_CLOCK: u64 = 2;

/// One thing to keep, or to keep no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which of the disk's stores.
    pub store: u8,
    /// The key there.
    pub key: u64,
    /// What to keep; nothing removes the key.
    pub bytes: Option<Vec<u8>>,
}

impl Record {
    pub(crate) const fn put(store: u8, key: u64, bytes: Vec<u8>) -> Self {
        let bytes = Some(bytes);
        Self { store, key, bytes }
    }

    pub(crate) const fn remove(store: u8, key: u64) -> Self {
        let bytes = None;
        Self { store, key, bytes }
    }

    /// Appends the encoding.
    pub fn encode_to(&self, out: &mut Vec<u8>) {
        let bytes = self.bytes.as_deref().unwrap_or_default();
        let length = u32::try_from(bytes.len()).expect("a record is smaller than a message");
        out.push(self.store);
        out.push(self.bytes.is_some().into());
        out.extend_from_slice(&self.key.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(bytes);
    }
}
