//! What a replica of one tenant is, apart from its facts. In memory for every tenant; in its table since the last fold.

use std::sync::Arc;

use halcyon_core::{
    codec::{DecodeError, Reader, put_varint},
    fingerprint::Fingerprint,
    id::{OriginId, Seq, Tag},
    version_vector::VersionVector,
};

use super::types::{CellKey, ResumeToken, Summary};

/// A tenant's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TenantState {
    /// Its number in this shard.
    pub(super) number: u32,
    pub(super) summary: Summary,
    /// Deleted entities, of the tombstones in the summary.
    pub(super) deleted: u64,
    pub(super) token: Option<Arc<ResumeToken>>,
    pub(super) prepared: Option<Arc<Prepared>>,
    /// All that was ever collected, in this replica or before it was filled, has a tag that this covers. `None` while a
    /// replica that is being filled cannot know.
    pub(super) collected: Option<VersionVector>,
    /// The time of the latest removal of which only a trace is left: later writes beat it.
    pub(super) traced: u64,
    /// The numbers that the next names get.
    pub(super) next: Next,
}

/// The numbers that the next names get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) subject: u32,
    pub(super) predicate: u32,
    pub(super) origin: u32,
    pub(super) client: u32,
    pub(super) kind: u32,
}

/// What the control plane may tell this replica to forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prepared {
    /// The collection epoch that it leads to.
    pub(super) epoch: u64,
    pub(super) cells: Vec<CellKey>,
    /// What every replica covers: what came later is not forgotten, even where it is of these cells. Earlier releases
    /// forgot whatever stood there.
    pub(super) barrier: Option<VersionVector>,
}

const VERSION: u8 = 3;

impl TenantState {
    /// A tenant that holds nothing yet.
    pub(super) fn new(number: u32, collection_epoch: u64) -> Self {
        let summary = Summary {
            vector: VersionVector::EMPTY,
            seen: VersionVector::EMPTY,
            fingerprint: Fingerprint::default(),
            triples: 0,
            tombstones: 0,
            opaque: 0,
            collection_epoch,
            admitting: false,
        };
        let next = Next {
            subject: 1,
            predicate: 1,
            origin: 1,
            client: 1,
            kind: 1,
        };
        Self {
            number,
            summary,
            deleted: 0,
            token: None,
            prepared: None,
            collected: (collection_epoch == 0).then_some(VersionVector::EMPTY),
            traced: 0,
            next,
        }
    }

    /// It was filled: what others collected before has been covered by their vectors, and so by this one's.
    pub(super) fn note_filled(&mut self) {
        if self.collected.is_none() {
            self.collected = Some(self.summary.vector.clone());
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, u8::from(self.summary.admitting)];
        out.extend_from_slice(&self.summary.fingerprint.0.to_be_bytes());
        let next = self.next;
        for number in [
            self.number,
            next.subject,
            next.predicate,
            next.origin,
            next.client,
            next.kind,
        ] {
            put_varint(&mut out, u64::from(number));
        }
        let Summary {
            triples,
            tombstones,
            opaque,
            collection_epoch,
            ..
        } = self.summary;
        for count in [triples, tombstones, self.deleted, opaque, collection_epoch] {
            put_varint(&mut out, count);
        }
        self.summary.vector.encode_to(&mut out);
        self.summary.seen.encode_to(&mut out);
        out.push(u8::from(self.token.is_some()));
        if let Some(token) = &self.token {
            token.vector.encode_to(&mut out);
            token.seen.encode_to(&mut out);
            out.extend_from_slice(&token.progress.origin.to_bytes());
            put_varint(&mut out, token.progress.seq.0);
        }
        out.push(u8::from(self.prepared.is_some()));
        if let Some(prepared) = &self.prepared {
            put_varint(&mut out, prepared.epoch);
            super::command::put_cells(&mut out, &prepared.cells);
            put_vector(&mut out, prepared.barrier.as_ref());
        }
        put_vector(&mut out, self.collected.as_ref());
        put_varint(&mut out, self.traced);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.byte("a tenant's record")?;
        if version == 0 || version > VERSION {
            return Err(DecodeError::UnknownVersion {
                field: "a tenant's record",
                version,
            });
        }
        let admitting = reader.byte("a tenant's record")? == 1;
        let fingerprint = Fingerprint(u128::from_be_bytes(reader.array("a tenant's record")?));
        let mut numbers = [0_u32; 6];
        for number in &mut numbers {
            *number = u32::try_from(reader.varint("a tenant's record")?)
                .map_err(|_| DecodeError::invalid("a tenant's record", "a number too large"))?;
        }
        let [number, subject, predicate, origin, client, kind] = numbers;
        let mut counts = [0_u64; 5];
        for count in &mut counts {
            *count = reader.varint("a tenant's record")?;
        }
        let [triples, tombstones, deleted, opaque, collection_epoch] = counts;
        let summary = Summary {
            vector: VersionVector::read(&mut reader)?,
            seen: VersionVector::read(&mut reader)?,
            fingerprint,
            triples,
            tombstones,
            opaque,
            collection_epoch,
            admitting,
        };
        let token = read_token(&mut reader)?;
        let prepared = read_prepared(&mut reader, version)?;
        let collected = match version {
            // Before, nobody noted what was collected.
            1 => Some(if collection_epoch == 0 {
                VersionVector::EMPTY
            } else {
                summary.vector.clone()
            }),
            _ => read_vector(&mut reader)?,
        };
        let traced = if version < 3 {
            0
        } else {
            reader.varint("a tenant's record")?
        };
        reader.finish("a tenant's record")?;
        Ok(Self {
            number,
            summary,
            deleted,
            token,
            prepared,
            collected,
            traced,
            next: Next {
                subject,
                predicate,
                origin,
                client,
                kind,
            },
        })
    }
}

fn read_token(reader: &mut Reader<'_>) -> Result<Option<Arc<ResumeToken>>, DecodeError> {
    if reader.byte("a resume token")? == 0 {
        return Ok(None);
    }
    Ok(Some(Arc::new(ResumeToken {
        vector: VersionVector::read(reader)?,
        seen: VersionVector::read(reader)?,
        progress: Tag {
            origin: OriginId::from_bytes(reader.array("a resume token")?),
            seq: Seq(reader.varint("a resume token")?),
        },
    })))
}

fn read_prepared(reader: &mut Reader<'_>, version: u8) -> Result<Option<Arc<Prepared>>, DecodeError> {
    if reader.byte("a prepared collection")? == 0 {
        return Ok(None);
    }
    Ok(Some(Arc::new(Prepared {
        epoch: reader.varint("a prepared collection")?,
        cells: super::command::read_cells(reader)?,
        barrier: if version < 3 { None } else { read_vector(reader)? },
    })))
}

fn put_vector(out: &mut Vec<u8>, vector: Option<&VersionVector>) {
    out.push(u8::from(vector.is_some()));
    if let Some(vector) = vector {
        vector.encode_to(out);
    }
}

fn read_vector(reader: &mut Reader<'_>) -> Result<Option<VersionVector>, DecodeError> {
    match reader.byte("a vector that may be missing")? {
        0 => Ok(None),
        _ => Ok(Some(VersionVector::read(reader)?)),
    }
}
