//! What is kept on a disk that knows keys, values and transactions: `IndexedDB`, say.
//!
//! ```text
//! records = record*
//! record  = store: 1 byte (a letter) | present: 1 byte | key length: 2 bytes | value length: 4 bytes | key | value
//! ```
//!
//! Lengths are big-endian; a record that is not present removes its key. Records that are taken out together belong to
//! one step: a disk keeps all of them or none. It may give back what it kept step by step: of a key the last counts.

use halcyon_client::engine::{Floor, Place, Record, Stored, Table};
use halcyon_core::collections::BTreeMap;
use halcyon_core::{change::ChangeSet, clock::NTP64};
use thiserror::Error;

/// The outbox. Key: a place (8 bytes, big-endian). Value: the encoded change set.
const SETS: u8 = b's';

/// Numbers (8 bytes, big-endian) by their names: `stamped`, `accepted`, `pushed`, `place`.
const NUMBERS: u8 = b'n';

/// The engine's own tables.
const TABLES: [(Table, u8); 4] = [
    (Table::Facts, b'f'),
    (Table::Coverage, b'v'),
    (Table::Queries, b'q'),
    (Table::Written, b'w'),
];

const STAMPED: &[u8] = b"stamped";
const ACCEPTED: &[u8] = b"accepted";
const PUSHED: &[u8] = b"pushed";
const PLACE: &[u8] = b"place";

/// What a disk gave back is not what was put there.
#[derive(Debug, Error)]
#[error("what the disk kept cannot be read")]
pub struct DiskError;

/// What a disk kept.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// In the order of their places.
    pub(crate) sets: Vec<Stored>,
    pub(crate) floor: Floor,
    pub(crate) place: Place,
    pub(crate) rows: Vec<Record>,
    /// Sets of the outbox that this release cannot read. They stay on the disk.
    pub(crate) unreadable: usize,
}

/// What the disk does not have yet, beside the engine's rows.
#[derive(Debug, Default)]
pub(crate) struct Unsaved {
    /// None lets a set go.
    sets: BTreeMap<Place, Option<Stored>>,
    last: Place,
    /// What was told last.
    floor: Floor,
}

impl Unsaved {
    /// Behind what the disk has.
    pub(crate) fn behind(left: &Left) -> Self {
        Self {
            sets: BTreeMap::new(),
            last: left.place,
            floor: left.floor,
        }
    }

    pub(crate) fn put(&mut self, stored: Stored) {
        self.sets.insert(stored.place, Some(stored));
    }

    pub(crate) fn let_go(&mut self, places: impl IntoIterator<Item = Place>) {
        self.sets.extend(places.into_iter().map(|place| (place, None)));
    }

    /// Everything, in one step. Empty if the disk has it all.
    pub(crate) fn take(&mut self, floor: Floor, rows: Vec<Record>) -> Vec<u8> {
        let mut out = Vec::new();
        for (place, stored) in std::mem::take(&mut self.sets) {
            let key = place.number().to_be_bytes();
            put(&mut out, SETS, &key, stored.as_ref().map(|stored| &*stored.bytes));
            if stored.is_some() && place > self.last {
                self.last = place;
                put(&mut out, NUMBERS, PLACE, Some(&key));
            }
        }
        if floor != self.floor {
            self.floor = floor;
            put(&mut out, NUMBERS, STAMPED, Some(&floor.stamped.0.to_be_bytes()));
            put(&mut out, NUMBERS, ACCEPTED, Some(&floor.accepted.0.to_be_bytes()));
            put(&mut out, NUMBERS, PUSHED, Some(&floor.pushed.0.to_be_bytes()));
        }
        for Record { table, key, value } in rows {
            let store = TABLES
                .iter()
                .find(|(one, _)| *one == table)
                .map_or(0, |(_, store)| *store);
            put(&mut out, store, &key, value.as_deref());
        }
        out
    }
}

fn put(out: &mut Vec<u8>, store: u8, key: &[u8], value: Option<&[u8]>) {
    let is_present = value.is_some();
    let value = value.unwrap_or_default();
    let key_length = u16::try_from(key.len()).expect("a key is a name");
    let length = u32::try_from(value.len()).expect("a value is smaller than a message");
    out.extend_from_slice(&[store, u8::from(is_present)]);
    out.extend_from_slice(&key_length.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(value);
}

/// Reads records that a disk kept. Of those with one key the last counts.
pub(crate) fn read(bytes: &[u8]) -> Result<Left, DiskError> {
    let mut left = Left::default();
    let mut told = None;
    let mut sets = BTreeMap::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (store, key, value) = next(&mut rest)?;
        let (is_present, value) = (value.is_some(), value.unwrap_or_default());
        match store {
            SETS if !is_present => {
                sets.remove(&Place::from_number(number(key)));
            }
            SETS => {
                let place = Place::from_number(number(key));
                if let Ok(set) = ChangeSet::decode(value) {
                    let (timestamp, bytes) = (set.timestamp, value.to_vec().into());
                    let stored = Stored {
                        place,
                        timestamp,
                        bytes,
                    };
                    sets.insert(place, stored);
                } else {
                    // Nobody else may get its place.
                    left.unreadable += 1;
                    left.place = left.place.max(place);
                }
            }
            NUMBERS => match key {
                STAMPED => left.floor.stamped = NTP64(number(value)),
                ACCEPTED => left.floor.accepted = NTP64(number(value)),
                PUSHED => told = Some(NTP64(number(value))),
                PLACE => left.place = left.place.max(Place::from_number(number(value))),
                _ => {}
            },
            _ => {
                let table = TABLES.iter().find(|(_, letter)| *letter == store);
                left.rows.extend(table.map(|(table, _)| Record {
                    table: *table,
                    key: key.to_vec(),
                    value: is_present.then(|| value.to_vec()),
                }));
            }
        }
    }
    // Earlier releases did not tell this disk how far was pushed: all that they left may have been.
    left.floor.pushed = told.unwrap_or(left.floor.stamped);
    left.sets = sets.into_values().collect();
    Ok(left)
}

/// Store, key and value of a record.
type Next<'a> = (u8, &'a [u8], Option<&'a [u8]>);

fn next<'a>(rest: &mut &'a [u8]) -> Result<Next<'a>, DiskError> {
    let (head, tail) = rest.split_first_chunk().ok_or(DiskError)?;
    let [store, is_present, k0, k1, v0, v1, v2, v3] = *head;
    let key_length = usize::from(u16::from_be_bytes([k0, k1]));
    let length = u32::from_be_bytes([v0, v1, v2, v3]) as usize;
    let (key, tail) = tail.split_at_checked(key_length).ok_or(DiskError)?;
    let (value, tail) = tail.split_at_checked(length).ok_or(DiskError)?;
    *rest = tail;
    Ok((store, key, (is_present != 0).then_some(value)))
}

/// The places of sets of which the engine noted that a node has taken them.
pub(crate) fn taken(rows: &[Record]) -> impl Iterator<Item = Place> {
    let written = rows
        .iter()
        .filter(|row| row.table == Table::Written && row.value.is_some());
    written.map(|row| Place::from_number(number(&row.key)))
}

fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_be_bytes)
}
