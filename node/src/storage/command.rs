//! What the log holds: commands to a shard, each with all that chance and time had to say.
//!
//! A shard's state is a function of its commands: a restart replays those behind the watermark through the code that
//! ran when they were new.

use std::sync::Arc;

use halcyon_core::{
    change::ChangeSet,
    clock::{NTP64, WallTime},
    codec::{DecodeError, Reader, put_bytes, put_varint},
    fact::Fact,
    id::{EntityId, OriginId, Predicate, Seq, Tag, TenantId},
    limits::{CHANGE_SET_BYTES_MAX, ENTITY_ID_BYTES_MAX, NAME_BYTES_MAX},
    value::Value,
    version_vector::VersionVector,
};
use prost::bytes::Bytes;

use super::{
    limits::FRAME_BYTES_MAX,
    state::Prepared,
    types::{CellKey, DeltaBatch},
};

/// A change set under its tag.
#[derive(Debug, Clone)]
pub(super) struct CommitCommand {
    pub(super) tag: Tag,
    pub(super) now: WallTime,
    pub(super) content_hash: u64,
    pub(super) encoded: Bytes,
    /// The same, decoded.
    pub(super) set: Arc<ChangeSet>,
}

/// What happens to a tenant.
#[derive(Debug, Clone)]
pub(super) enum Command {
    Open { collection_epoch: u64 },
    SetAdmitting(bool),
    Erase,
    Commit(CommitCommand),
    Delta(Arc<DeltaBatch>),
    Raise(VersionVector),
    Prepare(Arc<Prepared>),
    Collect { epoch: u64 },
}

const OPEN: u8 = 1;
const SET_ADMITTING: u8 = 2;
const ERASE: u8 = 3;
const COMMIT: u8 = 4;
const DELTA: u8 = 5;
const RAISE: u8 = 6;
/// Of earlier releases: without a barrier.
const PREPARE_ALL: u8 = 7;
const COLLECT: u8 = 8;
const PREPARE: u8 = 9;

impl Command {
    /// Appends the command to a frame's payload.
    pub(super) fn put(&self, tenant: TenantId, out: &mut Vec<u8>) {
        let kind = match self {
            Self::Open { .. } => OPEN,
            Self::SetAdmitting(_) => SET_ADMITTING,
            Self::Erase => ERASE,
            Self::Commit(_) => COMMIT,
            Self::Delta(_) => DELTA,
            Self::Raise(_) => RAISE,
            Self::Prepare(prepared) if prepared.barrier.is_none() => PREPARE_ALL,
            Self::Prepare(_) => PREPARE,
            Self::Collect { .. } => COLLECT,
        };
        put_head(out, kind, tenant);
        match self {
            Self::Open {
                collection_epoch: epoch,
            }
            | Self::Collect { epoch } => put_varint(out, *epoch),
            Self::SetAdmitting(admitting) => out.push(u8::from(*admitting)),
            Self::Erase => {}
            Self::Commit(commit) => commit.put(out),
            Self::Delta(batch) => put_delta(out, batch),
            Self::Raise(vector) => vector.encode_to(out),
            Self::Prepare(prepared) => {
                put_varint(out, prepared.epoch);
                put_cells(out, &prepared.cells);
                if let Some(barrier) = &prepared.barrier {
                    barrier.encode_to(out);
                }
            }
        }
    }

    /// Reads one from a frame's payload.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<(TenantId, Self), DecodeError> {
        let kind = reader.byte("a command")?;
        let tenant = TenantId::from_bytes(reader.array("a command's tenant")?)?;
        let command = match kind {
            OPEN => Self::Open {
                collection_epoch: reader.varint("a collection epoch")?,
            },
            SET_ADMITTING => Self::SetAdmitting(reader.byte("a command")? == 1),
            ERASE => Self::Erase,
            COMMIT => Self::Commit(CommitCommand::read(reader)?),
            DELTA => Self::Delta(Arc::new(read_delta(tenant, reader)?)),
            RAISE => Self::Raise(VersionVector::read(reader)?),
            PREPARE_ALL | PREPARE => Self::Prepare(Arc::new(Prepared {
                epoch: reader.varint("a collection epoch")?,
                cells: read_cells(reader)?,
                barrier: if kind == PREPARE {
                    Some(VersionVector::read(reader)?)
                } else {
                    None
                },
            })),
            COLLECT => Self::Collect {
                epoch: reader.varint("a collection epoch")?,
            },
            version => {
                return Err(DecodeError::UnknownVersion {
                    field: "a command",
                    version,
                });
            }
        };
        Ok((tenant, command))
    }
}

fn put_head(out: &mut Vec<u8>, kind: u8, tenant: TenantId) {
    out.push(kind);
    out.extend_from_slice(&tenant.to_bytes());
}

impl CommitCommand {
    /// As [`Command::put`].
    pub(super) fn put_command(&self, tenant: TenantId, out: &mut Vec<u8>) {
        put_head(out, COMMIT, tenant);
        self.put(out);
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_tag(out, self.tag);
        out.extend_from_slice(&self.now.0.0.to_be_bytes());
        out.extend_from_slice(&self.content_hash.to_be_bytes());
        put_bytes(out, &self.encoded);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let tag = read_tag(reader)?;
        let now = WallTime(NTP64(u64::from_be_bytes(reader.array("a commit")?)));
        let content_hash = u64::from_be_bytes(reader.array("a commit")?);
        let encoded = Bytes::copy_from_slice(reader.bytes("a change set", CHANGE_SET_BYTES_MAX)?);
        let set = Arc::new(ChangeSet::decode(&encoded)?);
        Ok(Self {
            tag,
            now,
            content_hash,
            encoded,
            set,
        })
    }
}

fn put_tag(out: &mut Vec<u8>, tag: Tag) {
    out.extend_from_slice(&tag.origin.to_bytes());
    put_varint(out, tag.seq.0);
}

fn read_tag(reader: &mut Reader<'_>) -> Result<Tag, DecodeError> {
    Ok(Tag {
        origin: OriginId::from_bytes(reader.array("a tag")?),
        seq: Seq(reader.varint("a tag")?),
    })
}

fn put_delta(out: &mut Vec<u8>, batch: &DeltaBatch) {
    out.push(u8::from(batch.complete));
    out.extend_from_slice(&batch.now.0.0.to_be_bytes());
    batch.vector.encode_to(out);
    batch.seen.encode_to(out);
    put_varint(out, batch.facts.len() as u64);
    let mut bytes = Vec::with_capacity(128);
    for fact in &batch.facts {
        bytes.clear();
        fact.encode_to(&mut bytes);
        put_bytes(out, &bytes);
    }
}

fn read_delta(tenant: TenantId, reader: &mut Reader<'_>) -> Result<DeltaBatch, DecodeError> {
    let complete = reader.byte("a delta")? == 1;
    let now = WallTime(NTP64(u64::from_be_bytes(reader.array("a delta")?)));
    let vector = VersionVector::read(reader)?;
    let seen = VersionVector::read(reader)?;
    let count = reader.count("facts of a delta", FRAME_BYTES_MAX)?;
    let mut facts = Vec::new();
    for _ in 0..count {
        facts.push(Fact::decode(reader.bytes("a fact", FRAME_BYTES_MAX)?)?);
    }
    Ok(DeltaBatch {
        tenant,
        facts,
        vector,
        seen,
        complete,
        now,
    })
}

/// Appends the keys of cells.
pub(super) fn put_cells(out: &mut Vec<u8>, cells: &[CellKey]) {
    put_varint(out, cells.len() as u64);
    for cell in cells {
        let (kind, subject) = match cell {
            CellKey::Tombstone(subject) => (0, subject),
            CellKey::Register(subject, _) => (1, subject),
            CellKey::Element(subject, ..) => (2, subject),
        };
        out.push(kind);
        put_bytes(out, subject.as_str().as_bytes());
        if let CellKey::Register(_, predicate) | CellKey::Element(_, predicate, _) = cell {
            put_bytes(out, predicate.as_str().as_bytes());
        }
        if let CellKey::Element(_, _, value) = cell {
            value.encode_to(out);
        }
    }
}

/// Reads what [`put_cells`] wrote.
pub(super) fn read_cells(reader: &mut Reader<'_>) -> Result<Vec<CellKey>, DecodeError> {
    let count = reader.count("cells", FRAME_BYTES_MAX)?;
    let mut cells = Vec::new();
    for _ in 0..count {
        let kind = reader.byte("a cell")?;
        let subject = EntityId::new(reader.text("a cell's subject", ENTITY_ID_BYTES_MAX)?)?;
        if kind == 0 {
            cells.push(CellKey::Tombstone(subject));
            continue;
        }
        let predicate = Predicate::new(reader.text("a cell's predicate", 2 * NAME_BYTES_MAX + 1)?)?;
        cells.push(match kind {
            1 => CellKey::Register(subject, predicate),
            _ => CellKey::Element(subject, predicate, Value::read(reader)?),
        });
    }
    Ok(cells)
}
