//! Checked conversions between messages and core's types: the one place where bytes from outside become ids, vectors,
//! tags, facts and change sets.
//!
//! The other direction never fails. An empty byte field stands for an empty vector.

use std::time::Duration;

use halcyon_core::{
    change::ChangeSet,
    codec::DecodeError,
    fact::Fact,
    id::{EntityId, IdError, NodeId, OriginId, Predicate, RegionName, Seq, Tag, TenantId, TenantName, is_name},
    limits::CHANGE_SET_BYTES_MAX,
    value::Value,
    version_vector::VersionVector,
};
use prost::bytes::Bytes;
use thiserror::Error;

use crate::v1;

/// Why a message was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConvertError {
    /// A field that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field has the wrong number of bytes.
    #[error("{field} has {bytes} bytes instead of {expected}")]
    Length {
        /// Which.
        field: &'static str,
        /// Bytes found.
        bytes: usize,
        /// Bytes wanted.
        expected: usize,
    },
    /// A text is not the id it should be.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Bytes are not what they should encode.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// A replica of a tenant, as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// The node.
    pub node: NodeId,
    /// Where it is.
    pub region: RegionName,
    /// Where clients reach it: `host:port`.
    pub address: String,
    /// Whether it serves reads and takes writes now.
    pub serving: bool,
    /// Round trip from the answering node, where it is known.
    pub round_trip: Option<Duration>,
    /// How long it has not answered the answering node; `None` while it answers.
    pub silent: Option<Duration>,
}

/// Where a tenant is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The tenant.
    pub tenant: TenantId,
    /// Its name.
    pub name: TenantName,
    /// Nearest to the answering node first.
    pub replicas: Vec<Replica>,
    /// Its home region.
    pub home: RegionName,
    /// How far the control plane had come. A larger one is newer.
    pub metadata_index: u64,
}

/// A live triple.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Triple {
    /// The entity.
    pub subject: EntityId,
    /// The field.
    pub predicate: Predicate,
    /// The value.
    pub value: Value,
}

/// Which triples a scan wants. Every bound narrows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanQuery {
    /// Of this entity.
    pub subject: Option<EntityId>,
    /// Of this field.
    pub predicate: Option<Predicate>,
    /// Of entities of this type.
    pub entity_type: Option<String>,
    /// With a predicate: values not below.
    pub from: Option<Value>,
    /// With a predicate: values below.
    pub to: Option<Value>,
    /// Triples in a page, at the most; 0 is the node's default.
    pub limit: u32,
    /// From the page before; empty for the first.
    pub cursor: Bytes,
}

/// What an interrupted catch-up left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeToken {
    /// The first peer's vector at its snapshot.
    pub vector: VersionVector,
    /// All that the first peer had seen.
    pub seen: VersionVector,
    /// The last commit whose facts arrived whole.
    pub progress: Tag,
}

/// A change set that a node took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Where it is.
    pub tag: Tag,
    /// Places of changes that lost to what the node holds.
    pub superseded: Vec<u32>,
    /// Places of changes that a later write has beaten.
    pub overwritten: Vec<u32>,
    /// It had been taken before.
    pub again: bool,
}

/// A version vector; empty bytes are the empty vector.
pub fn vector(bytes: &[u8]) -> Result<VersionVector, ConvertError> {
    if bytes.is_empty() {
        return Ok(VersionVector::EMPTY);
    }
    Ok(VersionVector::decode(bytes)?)
}

/// The bytes of a version vector.
pub fn vector_bytes(vector: &VersionVector) -> Bytes {
    vector.encode().into()
}

/// An origin: 16 bytes.
pub fn origin(bytes: &[u8]) -> Result<OriginId, ConvertError> {
    Ok(OriginId::from_bytes(array("origin", bytes)?))
}

/// The bytes of an origin.
pub fn origin_bytes(origin: OriginId) -> Bytes {
    Bytes::copy_from_slice(&origin.to_bytes())
}

/// A tag. Seqs start at 1.
pub fn tag(origin_bytes: &[u8], seq: u64) -> Result<Tag, ConvertError> {
    if seq == 0 {
        return Err(ConvertError::Missing("seq"));
    }
    let origin = origin(origin_bytes)?;
    Ok(Tag { origin, seq: Seq(seq) })
}

/// A tenant's id as peers write it: 16 bytes.
pub fn tenant_id(bytes: &[u8]) -> Result<TenantId, ConvertError> {
    Ok(TenantId::from_bytes(array("tenant", bytes)?)?)
}

/// The bytes of a tenant's id.
pub fn tenant_id_bytes(tenant: TenantId) -> Bytes {
    Bytes::copy_from_slice(&tenant.to_bytes())
}

/// Facts, in order.
pub fn facts(messages: &[Bytes]) -> Result<Vec<Fact>, ConvertError> {
    let facts: Result<_, DecodeError> = messages.iter().map(|bytes| Fact::decode(bytes)).collect();
    Ok(facts?)
}

/// Facts as a message carries them.
pub fn facts_bytes<'a>(facts: impl IntoIterator<Item = &'a Fact>) -> Vec<Bytes> {
    facts.into_iter().map(|fact| fact.encode().into()).collect()
}

/// A change set.
pub fn change_set(bytes: &[u8]) -> Result<ChangeSet, ConvertError> {
    Ok(ChangeSet::decode(bytes)?)
}

impl TryFrom<v1::Replica> for Replica {
    type Error = ConvertError;

    fn try_from(message: v1::Replica) -> Result<Self, ConvertError> {
        let us = message.round_trip_us;
        Ok(Self {
            node: NodeId(message.node),
            region: RegionName::new(&message.region)?,
            address: message.address,
            serving: message.serving,
            round_trip: (us != 0).then(|| Duration::from_micros(us.into())),
            silent: message.silent_ms.map(Duration::from_millis),
        })
    }
}

impl From<Replica> for v1::Replica {
    fn from(replica: Replica) -> Self {
        let micros = replica.round_trip.unwrap_or_default().as_micros();
        Self {
            node: replica.node.0,
            region: replica.region.into(),
            address: replica.address,
            serving: replica.serving,
            round_trip_us: u32::try_from(micros).unwrap_or(u32::MAX),
            silent_ms: replica
                .silent
                .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// Replicas, in order.
pub fn replicas(messages: Vec<v1::Replica>) -> Result<Vec<Replica>, ConvertError> {
    messages.into_iter().map(Replica::try_from).collect()
}

impl TryFrom<v1::LocateResponse> for Location {
    type Error = ConvertError;

    fn try_from(message: v1::LocateResponse) -> Result<Self, ConvertError> {
        Ok(Self {
            tenant: message.tenant_id.parse()?,
            name: message.tenant_name.parse()?,
            replicas: replicas(message.replicas)?,
            home: message.home.parse()?,
            metadata_index: message.metadata_index,
        })
    }
}

impl From<Location> for v1::LocateResponse {
    fn from(location: Location) -> Self {
        Self {
            tenant_id: location.tenant.into(),
            tenant_name: location.name.into(),
            replicas: location.replicas.into_iter().map(v1::Replica::from).collect(),
            home: location.home.into(),
            metadata_index: location.metadata_index,
        }
    }
}

impl TryFrom<v1::Triple> for Triple {
    type Error = ConvertError;

    fn try_from(message: v1::Triple) -> Result<Self, ConvertError> {
        Ok(Self {
            subject: message.subject.parse()?,
            predicate: message.predicate.parse()?,
            value: Value::decode(&message.value)?,
        })
    }
}

impl From<Triple> for v1::Triple {
    fn from(triple: Triple) -> Self {
        Self {
            subject: triple.subject.into(),
            predicate: triple.predicate.into(),
            value: triple.value.encode().into(),
        }
    }
}

impl TryFrom<v1::ScanRequest> for ScanQuery {
    type Error = ConvertError;

    fn try_from(message: v1::ScanRequest) -> Result<Self, ConvertError> {
        let some = |text: String| (!text.is_empty()).then_some(text);
        let entity_type = some(message.entity_type);
        if entity_type.as_deref().is_some_and(|text| !is_name(text)) {
            return Err(
                DecodeError::invalid("an entity type", "it is the part of a predicate before the slash").into(),
            );
        }
        if message.cursor.len() > CHANGE_SET_BYTES_MAX {
            return Err(DecodeError::invalid("a cursor", "too long to be one of ours").into());
        }
        let value = |bytes: Option<Bytes>| bytes.map(|bytes| Value::decode(&bytes)).transpose();
        Ok(Self {
            subject: some(message.subject).map(|text| text.parse()).transpose()?,
            predicate: some(message.predicate).map(|text| text.parse()).transpose()?,
            entity_type,
            from: value(message.from)?,
            to: value(message.to)?,
            limit: message.limit,
            cursor: message.cursor,
        })
    }
}

impl ScanQuery {
    /// The request for this query.
    pub fn into_request(self, tenant: String, forward: bool) -> v1::ScanRequest {
        v1::ScanRequest {
            tenant,
            subject: self.subject.map(String::from).unwrap_or_default(),
            predicate: self.predicate.map(String::from).unwrap_or_default(),
            entity_type: self.entity_type.unwrap_or_default(),
            from: self.from.map(|value| value.encode().into()),
            to: self.to.map(|value| value.encode().into()),
            limit: self.limit,
            cursor: self.cursor,
            forward,
        }
    }
}

impl TryFrom<v1::ResumeToken> for ResumeToken {
    type Error = ConvertError;

    fn try_from(message: v1::ResumeToken) -> Result<Self, ConvertError> {
        Ok(Self {
            vector: vector(&message.vector)?,
            seen: vector(&message.seen)?,
            progress: tag(&message.origin, message.seq)?,
        })
    }
}

impl From<ResumeToken> for v1::ResumeToken {
    fn from(token: ResumeToken) -> Self {
        Self {
            vector: vector_bytes(&token.vector),
            seen: vector_bytes(&token.seen),
            origin: origin_bytes(token.progress.origin),
            seq: token.progress.seq.0,
        }
    }
}

impl TryFrom<v1::Taken> for Taken {
    type Error = ConvertError;

    fn try_from(message: v1::Taken) -> Result<Self, ConvertError> {
        Ok(Self {
            tag: tag(&message.origin, message.seq)?,
            superseded: message.superseded,
            overwritten: message.overwritten,
            again: message.again,
        })
    }
}

impl From<Taken> for v1::Taken {
    fn from(taken: Taken) -> Self {
        Self {
            origin: origin_bytes(taken.tag.origin),
            seq: taken.tag.seq.0,
            superseded: taken.superseded,
            overwritten: taken.overwritten,
            again: taken.again,
        }
    }
}

fn array<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], ConvertError> {
    bytes.try_into().map_err(|_| ConvertError::Length {
        field,
        bytes: bytes.len(),
        expected: N,
    })
}

#[cfg(test)]
mod tests {
    use halcyon_core::{
        clock::{ClientId, NTP64, timestamp},
        fact::FactBody,
    };
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn any_tag() -> impl Strategy<Value = Tag> {
        (any::<u64>(), any::<u64>(), 1..u64::MAX).prop_map(|(node, incarnation, seq)| {
            let node = NodeId(node);
            let origin = OriginId { node, incarnation };
            Tag { origin, seq: Seq(seq) }
        })
    }

    fn any_vector() -> impl Strategy<Value = VersionVector> {
        proptest::collection::vec(any_tag(), 0..6).prop_map(|tags| tags.into_iter().collect())
    }

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            "\\PC{0,9}".prop_map(|text| Value::string(&text)),
            any::<i64>().prop_map(Value::Date)
        ]
    }

    fn any_replica() -> impl Strategy<Value = Replica> {
        (
            any::<u64>(),
            "[a-z][a-z0-9-]{0,9}",
            "[a-z]{1,9}:[1-9]",
            any::<bool>(),
            1..u32::MAX,
        )
            .prop_map(|(node, region, address, serving, micros)| Replica {
                node: NodeId(node),
                region: region.parse().unwrap(),
                address,
                serving,
                round_trip: (micros % 2 == 0).then(|| Duration::from_micros(micros.into())),
                silent: (micros % 3 == 0).then(|| Duration::from_millis(micros.into())),
            })
    }

    fn any_query() -> impl Strategy<Value = ScanQuery> {
        let entity = proptest::option::of("[a-z]{1,9}");
        let predicate = proptest::option::of("[a-z]{1,9}/[a-z]{1,9}");
        let entity_type = proptest::option::of("[a-z]{1,9}");
        let (from, to) = (proptest::option::of(any_value()), proptest::option::of(any_value()));
        (entity, predicate, entity_type, from, to, any::<u32>(), any::<Vec<u8>>()).prop_map(
            |(subject, predicate, entity_type, from, to, limit, cursor)| ScanQuery {
                subject: subject.map(|text| text.parse().unwrap()),
                predicate: predicate.map(|text| text.parse().unwrap()),
                entity_type,
                from,
                to,
                limit,
                cursor: cursor.into(),
            },
        )
    }

    /// Through the bytes of the wire and back; with one byte damaged, read or refused.
    #[expect(clippy::needless_pass_by_value, reason = "each message is made for this one call")]
    #[track_caller]
    fn check<T, M>(original: &T, message: M, damage: (prop::sample::Index, u8))
    where
        T: TryFrom<M, Error = ConvertError> + PartialEq + std::fmt::Debug,
        M: Message + Default,
    {
        let mut bytes = message.encode_to_vec();
        let read = M::decode(&*bytes).unwrap();
        assert_eq!(T::try_from(read).as_ref(), Ok(original));
        if !bytes.is_empty() {
            let at = damage.0.index(bytes.len());
            bytes[at] = damage.1;
        }
        if let Ok(message) = M::decode(&*bytes) {
            let _ = T::try_from(message);
        }
    }

    proptest! {
        #[test]
        fn a_message_survives_the_wire_and_damage_is_refused_or_read(
            replica in any_replica(),
            query in any_query(),
            value in any_value(),
            vectors in (any_vector(), any_vector()),
            tag in any_tag(),
            superseded: Vec<u32>,
            overwritten: Vec<u32>,
            damage: (prop::sample::Index, u8),
        ) {
            let location = Location {
                tenant: "V1StGXR8_Z5jdHi6B-myT".parse().unwrap(),
                name: "app/one".parse().unwrap(),
                replicas: vec![replica.clone()],
                home: replica.region.clone(),
                metadata_index: tag.seq.0,
            };
            let triple = Triple { subject: "e".parse().unwrap(), predicate: "t/f".parse().unwrap(), value };
            let token = ResumeToken { vector: vectors.0, seen: vectors.1, progress: tag };
            let taken = Taken { tag, superseded, overwritten, again: true };
            check(&replica, v1::Replica::from(replica.clone()), damage);
            check(&location, v1::LocateResponse::from(location.clone()), damage);
            check(&query, query.clone().into_request("app".into(), true), damage);
            check(&triple, v1::Triple::from(triple.clone()), damage);
            check(&token, v1::ResumeToken::from(token.clone()), damage);
            check(&taken, v1::Taken::from(taken.clone()), damage);
        }

        #[test]
        fn vectors_tags_tenants_and_facts_survive(vector_in in any_vector(), tag_in in any_tag(), value in any_value()) {
            prop_assert_eq!(vector(&vector_bytes(&vector_in)), Ok(vector_in));
            prop_assert_eq!(tag(&origin_bytes(tag_in.origin), tag_in.seq.0), Ok(tag_in));
            let tenant: TenantId = "V1StGXR8_Z5jdHi6B-myT".parse().unwrap();
            prop_assert_eq!(tenant_id(&tenant_id_bytes(tenant)), Ok(tenant));
            let fact = Fact {
                tag: tag_in,
                body: FactBody::Register {
                    subject: "e".parse().unwrap(),
                    predicate: "t/f".parse().unwrap(),
                    timestamp: timestamp(NTP64(7), ClientId::from_random(9)),
                    value: Some(value),
                },
            };
            prop_assert_eq!(facts(&facts_bytes([&fact])), Ok(vec![fact]));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, seq: u64) {
            let _ = (vector(&bytes), tag(&bytes, seq), tenant_id(&bytes), change_set(&bytes));
            let _ = facts(&[bytes.into()]);
        }
    }

    #[test]
    fn no_bytes_are_the_empty_vector_and_no_tag() {
        assert_eq!(vector(&[]), Ok(VersionVector::EMPTY));
        assert!(tag(&[], 1).is_err() && tag(&[0; 16], 0).is_err() && tenant_id(&[]).is_err());
    }
}
