//! Between the messages of `peer.proto` and the types of the rooms. Bytes are checked here, once.

use halcyon_core::{
    codec::{DecodeError, Reader, put_bytes},
    fact::Fact,
    fingerprint::Fingerprint,
    id::{EntityId, OriginId, Predicate, Seq, Tag, TenantId},
    limits::{ELEMENT_BYTES_MAX, ENTITY_ID_BYTES_MAX, NAME_BYTES_MAX},
    value::Value,
    version_vector::VersionVector,
};
use halcyon_proto::v1;
use prost::bytes::Bytes;

use crate::{
    replication::engine::Known,
    storage::types::{CellKey, Commit, GossipSet, ResumeToken, Summary},
};

/// A tenant's id.
pub(super) fn tenant(bytes: &[u8]) -> Result<TenantId, DecodeError> {
    let bytes = bytes.try_into().map_err(|_| DecodeError::TooShort("a tenant id"))?;
    TenantId::from_bytes(bytes)
}

/// A tenant's id, for the wire.
pub(super) fn tenant_bytes(tenant: TenantId) -> Bytes {
    Bytes::copy_from_slice(&tenant.to_bytes())
}

/// An origin.
pub(super) fn origin(bytes: &[u8]) -> Result<OriginId, DecodeError> {
    let bytes = bytes.try_into().map_err(|_| DecodeError::TooShort("an origin"))?;
    Ok(OriginId::from_bytes(bytes))
}

/// A tag.
pub(super) fn tag(origin_bytes: &[u8], seq: u64) -> Result<Tag, DecodeError> {
    let origin = origin(origin_bytes)?;
    if seq == 0 {
        return Err(DecodeError::invalid("a seq", "zero"));
    }
    Ok(Tag { origin, seq: Seq(seq) })
}

/// A vector; no bytes are the empty one.
pub(super) fn vector(bytes: &[u8]) -> Result<VersionVector, DecodeError> {
    if bytes.is_empty() {
        return Ok(VersionVector::EMPTY);
    }
    VersionVector::decode(bytes)
}

/// A commit of this node, for the wire. The set itself is shared, not copied.
pub(super) fn commit_to_gossip(commit: &Commit) -> v1::GossipSet {
    v1::GossipSet {
        tenant: tenant_bytes(commit.tenant),
        origin: Bytes::copy_from_slice(&commit.tag.origin.to_bytes()),
        seq: commit.tag.seq.0,
        collection_epoch: commit.collection_epoch,
        change_set: commit.encoded.clone(),
        content_hash: commit.content_hash,
        pass_on: Vec::new(),
    }
}

/// Says that there is something to pull: a set without bytes. No encoded set is empty.
pub(super) fn poke(tenant: TenantId, tag: Tag, collection_epoch: u64) -> v1::GossipSet {
    v1::GossipSet {
        tenant: tenant_bytes(tenant),
        origin: Bytes::copy_from_slice(&tag.origin.to_bytes()),
        seq: tag.seq.0,
        collection_epoch,
        ..v1::GossipSet::default()
    }
}

/// A gossiped set, for storage. The set itself is decoded there.
pub(super) fn gossip(set: &v1::GossipSet) -> Result<GossipSet, DecodeError> {
    Ok(GossipSet {
        tenant: tenant(&set.tenant)?,
        tag: tag(&set.origin, set.seq)?,
        collection_epoch: set.collection_epoch,
        encoded: set.change_set.clone(),
        content_hash: set.content_hash,
    })
}

/// An acknowledgement.
pub(super) fn ack(tenant: TenantId, origin: OriginId, seq: Seq) -> v1::GossipAck {
    v1::GossipAck {
        tenant: tenant_bytes(tenant),
        origin: Bytes::copy_from_slice(&origin.to_bytes()),
        seq: seq.0,
    }
}

/// What a replica is, for a page of vectors.
pub(super) fn tenant_vector(tenant: TenantId, summary: &Summary) -> v1::TenantVector {
    v1::TenantVector {
        tenant: tenant_bytes(tenant),
        vector: summary.vector.encode().into(),
        seen: summary.seen.encode().into(),
        collection_epoch: summary.collection_epoch,
        fingerprint: Bytes::copy_from_slice(&summary.fingerprint.0.to_be_bytes()),
    }
}

/// What a peer is.
pub(super) fn known(message: &v1::TenantVector) -> Result<(TenantId, Known), DecodeError> {
    let known = Known {
        vector: vector(&message.vector)?,
        seen: vector(&message.seen)?,
        collection_epoch: message.collection_epoch,
        fingerprint: fingerprint(&message.fingerprint),
    };
    Ok((tenant(&message.tenant)?, known))
}

/// What a peer is; `None` where it holds nothing.
pub(super) fn described(message: &v1::DescribeResponse) -> Result<Option<Known>, DecodeError> {
    if !message.held {
        return Ok(None);
    }
    Ok(Some(Known {
        vector: vector(&message.vector)?,
        seen: vector(&message.seen)?,
        collection_epoch: message.collection_epoch,
        fingerprint: fingerprint(&message.fingerprint),
    }))
}

fn fingerprint(bytes: &[u8]) -> Option<Fingerprint> {
    let bytes = bytes.try_into().ok()?;
    Some(Fingerprint(u128::from_be_bytes(bytes)))
}

/// A resume token, for the wire.
pub(super) fn token_message(token: &ResumeToken) -> v1::ResumeToken {
    v1::ResumeToken {
        vector: token.vector.encode().into(),
        seen: token.seen.encode().into(),
        origin: Bytes::copy_from_slice(&token.progress.origin.to_bytes()),
        seq: token.progress.seq.0,
    }
}

/// A resume token.
pub(super) fn token(message: &v1::ResumeToken) -> Result<ResumeToken, DecodeError> {
    Ok(ResumeToken {
        vector: vector(&message.vector)?,
        seen: vector(&message.seen)?,
        progress: tag(&message.origin, message.seq)?,
    })
}

/// Facts, for the wire: one buffer, and one slice of it for each.
pub(super) fn fact_messages(facts: &[Fact]) -> Vec<Bytes> {
    let mut buffer = Vec::with_capacity(96 * facts.len());
    let mut ends = Vec::with_capacity(facts.len());
    for fact in facts {
        fact.encode_to(&mut buffer);
        ends.push(buffer.len());
    }
    let mut rest = Bytes::from(buffer);
    let mut start = 0;
    let slice = |end: usize| {
        let fact = rest.split_to(end - start);
        start = end;
        fact
    };
    ends.into_iter().map(slice).collect()
}

/// Facts.
pub(super) fn facts(messages: &[Bytes]) -> Result<Vec<Fact>, DecodeError> {
    messages.iter().map(|bytes| Fact::decode(bytes)).collect()
}

const TOMBSTONE: u8 = 1;
const REGISTER: u8 = 2;
const ELEMENT: u8 = 3;

/// A cell key, for the wire.
pub(super) fn cell_message(cell: &CellKey) -> Bytes {
    let (kind, subject, predicate, value) = match cell {
        CellKey::Tombstone(subject) => (TOMBSTONE, subject, None, None),
        CellKey::Register(subject, predicate) => (REGISTER, subject, Some(predicate), None),
        CellKey::Element(subject, predicate, value) => (ELEMENT, subject, Some(predicate), Some(value)),
    };
    let mut out = vec![kind];
    put_bytes(&mut out, subject.as_str().as_bytes());
    if let Some(predicate) = predicate {
        put_bytes(&mut out, predicate.as_str().as_bytes());
    }
    if let Some(value) = value {
        value.encode_to(&mut out);
    }
    out.into()
}

/// A cell key.
pub(super) fn cell(bytes: &[u8]) -> Result<CellKey, DecodeError> {
    if bytes.len() > 2 * ELEMENT_BYTES_MAX + ENTITY_ID_BYTES_MAX + 2 * NAME_BYTES_MAX {
        return Err(DecodeError::invalid("a cell key", "too long"));
    }
    let mut reader = Reader::new(bytes);
    let kind = reader.byte("a cell key")?;
    let subject = EntityId::new(reader.text("a cell's subject", ENTITY_ID_BYTES_MAX)?)?;
    let cell = match kind {
        TOMBSTONE => CellKey::Tombstone(subject),
        REGISTER => CellKey::Register(subject, cell_predicate(&mut reader)?),
        ELEMENT => {
            let predicate = cell_predicate(&mut reader)?;
            CellKey::Element(subject, predicate, Value::read(&mut reader)?)
        }
        version => {
            let field = "a cell key's kind";
            return Err(DecodeError::UnknownVersion { field, version });
        }
    };
    reader.finish("a cell key")?;
    Ok(cell)
}

fn cell_predicate(reader: &mut Reader<'_>) -> Result<Predicate, DecodeError> {
    Ok(Predicate::new(
        reader.text("a cell's predicate", 2 * NAME_BYTES_MAX + 1)?,
    )?)
}
