//! Facts: what a replica holds, one by one, with the commit that brought it. A catch-up and a full export are streams
//! of these.
//!
//! ```text
//! fact = kind: 1 byte | tag: origin (16 bytes), seq (varint) | timestamp: 24 bytes, but for a tombstone and numbers
//!        | subject | predicate | value, as the kind has them
//! ```

use uhlc::Timestamp;

use crate::{
    change::Change,
    clock::{ClientId, NTP64, read_timestamp, timestamp, timestamp_to_bytes},
    codec::{DecodeError, Reader, put_bytes, put_varint},
    id::{EntityId, OriginId, Predicate, Seq, Tag},
    limits::{CHANGE_SET_BYTES_MAX, ENTITY_ID_BYTES_MAX, NAME_BYTES_MAX},
    numbers::TakenNumbers,
    value::Value,
};

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// The commit that brought it.
    pub tag: Tag,
    /// What it says.
    pub body: FactBody,
}

/// What a fact says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FactBody {
    /// The last register write of a cell; `None` is `unset`.
    Register {
        /// The entity.
        subject: EntityId,
        /// The field.
        predicate: Predicate,
        /// When.
        timestamp: Timestamp,
        /// What it shows.
        value: Option<Value>,
    },
    /// One element of a cell's set.
    Element {
        /// The entity.
        subject: EntityId,
        /// The field.
        predicate: Predicate,
        /// When.
        timestamp: Timestamp,
        /// The element.
        value: Value,
        /// In, or out.
        present: bool,
    },
    /// The entity is deleted.
    Tombstone {
        /// The entity.
        subject: EntityId,
    },
    /// The numbers taken from one client incarnation through the tag's origin. The tag's seq is the last one's.
    Numbers {
        /// The client.
        client: ClientId,
        /// The numbers.
        taken: TakenNumbers,
    },
    /// A change that this release does not understand, with its place in its set.
    Opaque {
        /// When.
        timestamp: Timestamp,
        /// Its place in the set.
        place: u32,
        /// Its kind.
        kind: u8,
        /// Its bytes.
        body: Vec<u8>,
    },
}

const REGISTER: u8 = 1;
const UNSET: u8 = 2;
const PRESENT: u8 = 3;
const REMOVED: u8 = 4;
const TOMBSTONE: u8 = 5;
const NUMBERS: u8 = 6;
const OPAQUE: u8 = 7;

impl Fact {
    /// Appends the encoding.
    pub fn encode_to(&self, out: &mut Vec<u8>) {
        out.push(self.body.kind());
        out.extend_from_slice(&self.tag.origin.to_bytes());
        put_varint(out, self.tag.seq.0);
        match &self.body {
            FactBody::Register {
                subject,
                predicate,
                timestamp,
                value,
            } => {
                put_cell(out, subject, predicate, timestamp);
                if let Some(value) = value {
                    value.encode_to(out);
                }
            }
            FactBody::Element {
                subject,
                predicate,
                timestamp,
                value,
                ..
            } => {
                put_cell(out, subject, predicate, timestamp);
                value.encode_to(out);
            }
            FactBody::Tombstone { subject } => put_bytes(out, subject.as_str().as_bytes()),
            FactBody::Numbers { client, taken } => {
                out.extend_from_slice(&client.to_bytes());
                put_bytes(out, &taken.encode());
            }
            FactBody::Opaque {
                timestamp,
                place,
                kind,
                body,
            } => {
                out.extend_from_slice(&timestamp_to_bytes(timestamp));
                put_varint(out, u64::from(*place));
                out.push(*kind);
                put_bytes(out, body);
            }
        }
    }

    /// The encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        self.encode_to(&mut out);
        out
    }

    /// Reads a fact that is all of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.byte("a fact")?;
        let origin = OriginId::from_bytes(reader.array("a fact's origin")?);
        let seq = Seq(reader.varint("a fact's seq")?);
        let body = read_body(kind, &mut reader)?;
        reader.finish("a fact")?;
        Ok(Self {
            tag: Tag { origin, seq },
            body,
        })
    }
}

impl FactBody {
    /// What it says as a change, with its timestamp; `None` for what only replicas tell each other. A tombstone has no
    /// timestamp of its own and needs none: a deletion wins whatever its timestamp.
    pub fn into_change(self) -> Option<(Timestamp, Change)> {
        Some(match self {
            Self::Register {
                subject,
                predicate,
                timestamp,
                value: Some(value),
            } => (
                timestamp,
                Change::Set {
                    subject,
                    predicate,
                    value,
                },
            ),
            Self::Register {
                subject,
                predicate,
                timestamp,
                value: None,
            } => (timestamp, Change::Unset { subject, predicate }),
            Self::Element {
                subject,
                predicate,
                timestamp,
                value,
                present: true,
            } => (
                timestamp,
                Change::Add {
                    subject,
                    predicate,
                    value,
                },
            ),
            Self::Element {
                subject,
                predicate,
                timestamp,
                value,
                present: false,
            } => (
                timestamp,
                Change::Remove {
                    subject,
                    predicate,
                    value,
                },
            ),
            Self::Tombstone { subject } => (
                timestamp(NTP64(0), ClientId::from_random(0)),
                Change::Delete { subject },
            ),
            Self::Opaque {
                timestamp, kind, body, ..
            } => (timestamp, Change::Opaque { kind, body }),
            Self::Numbers { .. } => return None,
        })
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Register { value: Some(_), .. } => REGISTER,
            Self::Register { value: None, .. } => UNSET,
            Self::Element { present: true, .. } => PRESENT,
            Self::Element { present: false, .. } => REMOVED,
            Self::Tombstone { .. } => TOMBSTONE,
            Self::Numbers { .. } => NUMBERS,
            Self::Opaque { .. } => OPAQUE,
        }
    }
}

fn put_cell(out: &mut Vec<u8>, subject: &EntityId, predicate: &Predicate, timestamp: &Timestamp) {
    out.extend_from_slice(&timestamp_to_bytes(timestamp));
    put_bytes(out, subject.as_str().as_bytes());
    put_bytes(out, predicate.as_str().as_bytes());
}

fn read_body(kind: u8, reader: &mut Reader<'_>) -> Result<FactBody, DecodeError> {
    match kind {
        REGISTER | UNSET | PRESENT | REMOVED => {
            let timestamp = read_timestamp(reader)?;
            let subject = EntityId::new(reader.text("a fact's subject", ENTITY_ID_BYTES_MAX)?)?;
            let predicate = Predicate::new(reader.text("a fact's predicate", 2 * NAME_BYTES_MAX + 1)?)?;
            if kind == UNSET {
                return Ok(FactBody::Register {
                    subject,
                    predicate,
                    timestamp,
                    value: None,
                });
            }
            let value = Value::read(reader)?;
            Ok(if kind == REGISTER {
                FactBody::Register {
                    subject,
                    predicate,
                    timestamp,
                    value: Some(value),
                }
            } else {
                FactBody::Element {
                    subject,
                    predicate,
                    timestamp,
                    value,
                    present: kind == PRESENT,
                }
            })
        }
        TOMBSTONE => Ok(FactBody::Tombstone {
            subject: EntityId::new(reader.text("a fact's subject", ENTITY_ID_BYTES_MAX)?)?,
        }),
        NUMBERS => {
            let client = ClientId::from_bytes(reader.array("a client id")?)?;
            let taken = TakenNumbers::decode(reader.bytes("client numbers", CHANGE_SET_BYTES_MAX)?)?;
            Ok(FactBody::Numbers { client, taken })
        }
        OPAQUE => {
            let timestamp = read_timestamp(reader)?;
            let place = u32::try_from(reader.varint("a change's place")?)
                .map_err(|_| DecodeError::invalid("a change's place", "too large"))?;
            let kind = reader.byte("a change's kind")?;
            let body = reader.bytes("a change", CHANGE_SET_BYTES_MAX)?.to_vec();
            Ok(FactBody::Opaque {
                timestamp,
                place,
                kind,
                body,
            })
        }
        version => Err(DecodeError::UnknownVersion {
            field: "a fact's kind",
            version,
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{change::tests::any_set, id::NodeId};

    proptest! {
        #[test]
        fn a_fact_reads_back_and_damage_is_refused_or_read(set in any_set(), seq: u64, at: prop::sample::Index, byte: u8) {
            let tag = Tag { origin: OriginId { node: NodeId(3), incarnation: 5 }, seq: Seq(seq) };
            for change in set.changes {
                let (Some(subject), predicate) = (change.subject().cloned(), change.predicate().cloned()) else { continue };
                let body = match (predicate, change.value().cloned()) {
                    (Some(predicate), value) => FactBody::Register { subject, predicate, timestamp: set.timestamp, value },
                    (None, _) => FactBody::Tombstone { subject },
                };
                let fact = Fact { tag, body };
                let mut bytes = fact.encode();
                prop_assert_eq!(Fact::decode(&bytes), Ok(fact));
                let at = at.index(bytes.len());
                bytes[at] = byte;
                let _ = Fact::decode(&bytes);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Fact::decode(&bytes);
        }
    }
}
