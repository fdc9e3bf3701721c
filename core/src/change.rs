//! Changes and change sets, and the one encoding they have on the wire, in the log, in an outbox and in tests.
//!
//! A change set is a client's atomic group of changes under one timestamp. Its encoding names a subject or a predicate
//! once; later changes point back. Each change carries its length, so that a kind that only a newer release knows can
//! be kept and passed on without being understood ([`Change::Opaque`]).
//!
//! ```text
//! set    = version:1 byte (1) | timestamp: 24 bytes | number: varint | count: varint | count x change
//! change = length: varint | kind: 1 byte | subject: name | [predicate: name] | [value: Value::encode]
//! name   = 0, length, UTF-8 text   (a name not seen in this set yet)   |   n > 0: the n-th name of this set
//! ```

use uhlc::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

use crate::collections::{BTreeMap, BTreeSet};
use crate::{
    clock::{ClientId, read_timestamp, timestamp_to_bytes},
    codec::{DecodeError, Reader, put_bytes, put_varint},
    id::{EntityId, Predicate},
    limits::{
        CHANGE_SET_BYTES_MAX, CHANGES_MAX, ELEMENT_BYTES_MAX, ENTITY_ID_BYTES_MAX, NAME_BYTES_MAX, VALUE_BYTES_MAX,
    },
    value::Value,
};

/// One operation on a triple.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Register write: replaces what the cell showed.
    Set {
        /// The entity.
        subject: EntityId,
        /// The field.
        predicate: Predicate,
        /// What it shows from now on.
        value: Value,
    },
    /// Register write of nothing.
    Unset {
        /// The entity.
        subject: EntityId,
        /// The field.
        predicate: Predicate,
    },
    /// Puts an element into the cell's set.
    Add {
        /// The entity.
        subject: EntityId,
        /// The field.
        predicate: Predicate,
        /// The element.
        value: Value,
    },
    /// Takes an element out of the cell's set.
    Remove {
        /// The entity.
        subject: EntityId,
        /// The field.
        predicate: Predicate,
        /// The element.
        value: Value,
    },
    /// Marks that this set brings the entity into being.
    Create {
        /// The entity.
        subject: EntityId,
    },
    /// Deletes the whole entity, for good.
    Delete {
        /// The entity.
        subject: EntityId,
    },
    /// A kind that this release does not know; kept and passed on as it is.
    Opaque {
        /// Its kind.
        kind: u8,
        /// Its subject, predicate and value, as they were written.
        body: Vec<u8>,
    },
}

const SET: u8 = 1;
const UNSET: u8 = 2;
const ADD: u8 = 3;
const REMOVE: u8 = 4;
const CREATE: u8 = 5;
const DELETE: u8 = 6;

/// The first kind that is kept opaque. Kinds below it are either known or corrupt.
const OPAQUE_FROM: u8 = 7;

const VERSION: u8 = 1;

impl Change {
    /// The entity it changes, where it is understood.
    pub const fn subject(&self) -> Option<&EntityId> {
        match self {
            Self::Set { subject, .. }
            | Self::Unset { subject, .. }
            | Self::Add { subject, .. }
            | Self::Remove { subject, .. }
            | Self::Create { subject }
            | Self::Delete { subject } => Some(subject),
            Self::Opaque { .. } => None,
        }
    }

    /// The field it changes, where there is one.
    pub const fn predicate(&self) -> Option<&Predicate> {
        match self {
            Self::Set { predicate, .. }
            | Self::Unset { predicate, .. }
            | Self::Add { predicate, .. }
            | Self::Remove { predicate, .. } => Some(predicate),
            Self::Create { .. } | Self::Delete { .. } | Self::Opaque { .. } => None,
        }
    }

    /// The value it carries, where there is one.
    pub const fn value(&self) -> Option<&Value> {
        match self {
            Self::Set { value, .. } | Self::Add { value, .. } | Self::Remove { value, .. } => Some(value),
            _ => None,
        }
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Set { .. } => SET,
            Self::Unset { .. } => UNSET,
            Self::Add { .. } => ADD,
            Self::Remove { .. } => REMOVE,
            Self::Create { .. } => CREATE,
            Self::Delete { .. } => DELETE,
            Self::Opaque { kind, .. } => *kind,
        }
    }
}

/// A client's atomic group of changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeSet {
    /// When, by the client's clock. Its id is the client's incarnation.
    pub timestamp: Timestamp,
    /// The client's own count, from 1, within its incarnation.
    pub number: u64,
    /// In the order they were made.
    pub changes: Vec<Change>,
}

impl ChangeSet {
    /// Who made it.
    pub fn client(&self) -> ClientId {
        ClientId::of(&self.timestamp)
    }

    /// The encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + 48 * self.changes.len());
        out.push(VERSION);
        out.extend_from_slice(&timestamp_to_bytes(&self.timestamp));
        put_varint(&mut out, self.number);
        put_varint(&mut out, self.changes.len() as u64);
        let mut names = NameWriter::default();
        let mut body = Vec::new();
        for change in &self.changes {
            body.clear();
            names.change_to(change, &mut body);
            put_bytes(&mut out, &body);
        }
        out
    }

    /// Reads a set that is all of `bytes`, and checks every limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode_among(bytes, &|_| None)
    }

    /// The same for who knows many predicates already: what is known is not checked and made again.
    pub fn decode_among(bytes: &[u8], known: &dyn Fn(&str) -> Option<Predicate>) -> Result<Self, DecodeError> {
        check_size("bytes of a change set", bytes.len(), CHANGE_SET_BYTES_MAX)?;
        let mut reader = Reader::new(bytes);
        let version = reader.byte("a change set")?;
        if version != VERSION {
            return Err(DecodeError::UnknownVersion {
                field: "a change set",
                version,
            });
        }
        let timestamp = read_timestamp(&mut reader)?;
        let number = reader.varint("a change set's number")?;
        let count = reader.count("changes of a change set", CHANGES_MAX)?;
        let mut names = NameReader {
            names: Vec::new(),
            known,
        };
        let mut changes = Vec::with_capacity(count.min(bytes.len()));
        for _ in 0..count {
            let body = reader.bytes("a change", CHANGE_SET_BYTES_MAX)?;
            changes.push(names.change(body)?);
        }
        reader.finish("a change set")?;
        Ok(Self {
            timestamp,
            number,
            changes,
        })
    }

    /// A hash of an encoded set, by which two sets under one number are told apart.
    pub fn content_hash(encoded: &[u8]) -> u64 {
        xxh3_64(encoded)
    }

    /// The set as it merges: of several changes to one register or element the last, and nothing beside a deletion.
    /// The order of what is left does not matter.
    pub fn normalize(&mut self) {
        let mut deleted = BTreeSet::new();
        let mut last = BTreeMap::new();
        for (at, change) in self.changes.iter().enumerate() {
            if let Change::Delete { subject } = change {
                deleted.insert(subject.clone());
            }
            last.insert(Target::of(change, at), at);
        }
        let is_last: BTreeSet<usize> = last.into_values().collect();
        let mut at = 0;
        self.changes.retain(|change| {
            at += 1;
            let dead = change.subject().is_some_and(|subject| deleted.contains(subject));
            is_last.contains(&(at - 1)) && (!dead || matches!(change, Change::Delete { .. }))
        });
    }
}

/// What two changes of one set may both write. The later one counts.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Register(EntityId, Predicate),
    Element(EntityId, Predicate, Value),
    Create(EntityId),
    Delete(EntityId),
    Opaque(usize),
}

impl Target {
    fn of(change: &Change, at: usize) -> Self {
        match change.clone() {
            Change::Set { subject, predicate, .. } | Change::Unset { subject, predicate } => {
                Self::Register(subject, predicate)
            }
            Change::Add {
                subject,
                predicate,
                value,
            }
            | Change::Remove {
                subject,
                predicate,
                value,
            } => Self::Element(subject, predicate, value),
            Change::Create { subject } => Self::Create(subject),
            Change::Delete { subject } => Self::Delete(subject),
            Change::Opaque { .. } => Self::Opaque(at),
        }
    }
}

/// Writes each name once.
#[derive(Default)]
struct NameWriter {
    places: BTreeMap<String, u64>,
}

impl NameWriter {
    fn change_to(&mut self, change: &Change, out: &mut Vec<u8>) {
        out.push(change.kind());
        if let Change::Opaque { body, .. } = change {
            out.extend_from_slice(body);
            return;
        }
        if let Some(subject) = change.subject() {
            self.name_to(subject.as_str(), out);
        }
        if let Some(predicate) = change.predicate() {
            self.name_to(predicate.as_str(), out);
        }
        if let Some(value) = change.value() {
            value.encode_to(out);
        }
    }

    fn name_to(&mut self, name: &str, out: &mut Vec<u8>) {
        if let Some(&place) = self.places.get(name) {
            put_varint(out, place);
            return;
        }
        put_varint(out, 0);
        put_bytes(out, name.as_bytes());
        self.places.insert(name.to_owned(), self.places.len() as u64 + 1);
    }
}

/// A name that was read, in the types it has been used as.
struct Name<'a> {
    text: &'a str,
    entity: Option<EntityId>,
    predicate: Option<Predicate>,
}

/// Reads names that are written once. A name used again shares its text.
struct NameReader<'a> {
    names: Vec<Name<'a>>,
    known: &'a dyn Fn(&str) -> Option<Predicate>,
}

impl<'a> NameReader<'a> {
    fn change(&mut self, body: &'a [u8]) -> Result<Change, DecodeError> {
        let mut reader = Reader::new(body);
        let kind = reader.byte("a change")?;
        if kind >= OPAQUE_FROM {
            return Ok(Change::Opaque {
                kind,
                body: body[1..].to_vec(),
            });
        }
        let subject = self.subject(&mut reader)?;
        let change = match kind {
            SET => {
                let predicate = self.predicate(&mut reader)?;
                Change::Set {
                    subject,
                    predicate,
                    value: value(&mut reader, VALUE_BYTES_MAX)?,
                }
            }
            UNSET => Change::Unset {
                subject,
                predicate: self.predicate(&mut reader)?,
            },
            ADD => {
                let predicate = self.predicate(&mut reader)?;
                Change::Add {
                    subject,
                    predicate,
                    value: value(&mut reader, ELEMENT_BYTES_MAX)?,
                }
            }
            REMOVE => {
                let predicate = self.predicate(&mut reader)?;
                Change::Remove {
                    subject,
                    predicate,
                    value: value(&mut reader, ELEMENT_BYTES_MAX)?,
                }
            }
            CREATE => Change::Create { subject },
            DELETE => Change::Delete { subject },
            _ => return Err(DecodeError::invalid("a change", "kind 0 does not exist")),
        };
        reader.finish("a change")?;
        Ok(change)
    }

    fn subject(&mut self, reader: &mut Reader<'a>) -> Result<EntityId, DecodeError> {
        let name = self.name(reader)?;
        if name.entity.is_none() {
            name.entity = Some(EntityId::new(name.text)?);
        }
        name.entity.clone().ok_or(DecodeError::TooShort("an entity id"))
    }

    fn predicate(&mut self, reader: &mut Reader<'a>) -> Result<Predicate, DecodeError> {
        let known = self.known;
        let name = self.name(reader)?;
        if name.predicate.is_none() {
            name.predicate = Some(known(name.text).map_or_else(|| Predicate::new(name.text), Ok)?);
        }
        name.predicate.clone().ok_or(DecodeError::TooShort("a predicate"))
    }

    fn name(&mut self, reader: &mut Reader<'a>) -> Result<&mut Name<'a>, DecodeError> {
        const TEXT_MAX: usize = if ENTITY_ID_BYTES_MAX > 2 * NAME_BYTES_MAX + 1 {
            ENTITY_ID_BYTES_MAX
        } else {
            2 * NAME_BYTES_MAX + 1
        };
        let place = usize::try_from(reader.varint("a name")?).unwrap_or(usize::MAX);
        let at = if place == 0 {
            let text = reader.text("a name", TEXT_MAX)?;
            self.names.push(Name {
                text,
                entity: None,
                predicate: None,
            });
            self.names.len() - 1
        } else {
            place - 1
        };
        self.names
            .get_mut(at)
            .ok_or(DecodeError::invalid("a name", "points at a name that is not there"))
    }
}

fn value(reader: &mut Reader<'_>, max: usize) -> Result<Value, DecodeError> {
    let before = reader.remaining();
    let value = Value::read(reader)?;
    check_size("bytes of a value", before - reader.remaining(), max)?;
    Ok(value)
}

const fn check_size(field: &'static str, size: usize, max: usize) -> Result<(), DecodeError> {
    if size > max {
        return Err(DecodeError::OverLimit { field, size, max });
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{clock::timestamp, value::tests::any_value};

    fn entity() -> impl Strategy<Value = EntityId> {
        "[a-d]".prop_map(|text| EntityId::new(&text).unwrap())
    }

    fn predicate() -> impl Strategy<Value = Predicate> {
        "[tu]/[fg]".prop_map(|text| Predicate::new(&text).unwrap())
    }

    pub(crate) fn any_change() -> impl Strategy<Value = Change> {
        prop_oneof![
            4 => (entity(), predicate(), any_value()).prop_map(|(subject, predicate, value)| Change::Set { subject, predicate, value }),
            1 => (entity(), predicate()).prop_map(|(subject, predicate)| Change::Unset { subject, predicate }),
            3 => (entity(), predicate(), 0..3_i64).prop_map(|(subject, predicate, n)| Change::Add { subject, predicate, value: Value::Date(n) }),
            3 => (entity(), predicate(), 0..3_i64).prop_map(|(subject, predicate, n)| Change::Remove { subject, predicate, value: Value::Date(n) }),
            1 => entity().prop_map(|subject| Change::Create { subject }),
            1 => entity().prop_map(|subject| Change::Delete { subject }),
        ]
    }

    pub(crate) fn any_set() -> impl Strategy<Value = ChangeSet> {
        (0..6_u64, 1..4_u128, proptest::collection::vec(any_change(), 0..6)).prop_map(|(time, client, changes)| {
            ChangeSet {
                timestamp: timestamp(uhlc::NTP64(time), ClientId::from_random(client)),
                number: 1,
                changes,
            }
        })
    }

    proptest! {
        #[test]
        fn a_set_reads_back(set in any_set()) {
            prop_assert_eq!(ChangeSet::decode(&set.encode()), Ok(set));
        }

        #[test]
        fn any_bytes_are_read_or_refused(set in any_set(), at: prop::sample::Index, byte: u8, junk: Vec<u8>) {
            let mut bytes = set.encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = ChangeSet::decode(&bytes);
            let _ = ChangeSet::decode(&junk);
        }

        #[test]
        fn normalizing_twice_changes_nothing(mut set in any_set()) {
            set.normalize();
            let once = set.clone();
            set.normalize();
            prop_assert_eq!(set, once);
        }
    }

    #[test]
    fn a_kind_of_a_newer_release_is_kept_as_it_is() {
        let opaque = Change::Opaque {
            kind: 200,
            body: vec![1, 2, 3],
        };
        let client = ClientId::from_random(1);
        let set = ChangeSet {
            timestamp: timestamp(uhlc::NTP64(1), client),
            number: 1,
            changes: vec![opaque],
        };
        assert_eq!(ChangeSet::decode(&set.encode()), Ok(set));
    }
}
