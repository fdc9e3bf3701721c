//! What a peer lacks of a tenant, from a state that stays as it is while it is read.

use std::{collections::VecDeque, sync::Arc};

use halcyon_core::{
    codec::Reader as Bytes,
    fact::{Fact, FactBody},
    id::{OriginId, Seq, Tag},
    version_vector::VersionVector,
};

use super::{
    facts::LocalTag,
    keys::{self, Place},
    layer::Reader,
    resolve::{Resolver, find_origin},
    shard::Snapshot,
    state::TenantState,
    tables::Table,
    types::{ResumeToken, StorageError},
    work::damaged,
};

/// Bytes of a fact besides its names and value.
const FACT_OVERHEAD: usize = 64;

/// Facts that a peer lacks, in the order of their tags.
#[derive(Debug)]
pub struct DeltaReader {
    state: Arc<TenantState>,
    snapshot: Snapshot,
    /// The token, if it is of use.
    token: Option<ResumeToken>,
    /// Origins that are left, each with the seq that the peer has.
    origins: VecDeque<Tag>,
    /// Within the first of them: the last key that was read.
    after: Option<Vec<u8>>,
    /// A commit that did not fit into the batch before.
    left: Vec<Fact>,
    resolver: Resolver,
}

impl DeltaReader {
    pub(super) fn new(
        (state, snapshot): (Arc<TenantState>, Snapshot),
        theirs: &VersionVector,
        token: Option<&ResumeToken>,
    ) -> Self {
        let token = token.filter(|token| state.summary.vector.covers(&token.seen)).cloned();
        let lacking = state.summary.seen.iter().filter(|tag| theirs.get(tag.origin) < tag.seq);
        let origins = lacking.map(|tag| Tag {
            origin: tag.origin,
            seq: theirs.get(tag.origin),
        });
        Self {
            token,
            origins: origins.collect(),
            after: None,
            left: Vec::new(),
            resolver: Resolver::new(state.number),
            state,
            snapshot,
        }
    }

    /// The tenant's vector at the snapshot.
    pub fn vector(&self) -> &VersionVector {
        &self.state.summary.vector
    }

    /// All that the tenant had seen at the snapshot.
    pub fn seen(&self) -> &VersionVector {
        &self.state.summary.seen
    }

    /// Whether the token was of use.
    pub const fn resumed(&self) -> bool {
        self.token.is_some()
    }

    /// At the snapshot.
    pub fn collection_epoch(&self) -> u64 {
        self.state.summary.collection_epoch
    }

    /// Whether somebody with this vector has heard of everything that was collected up to the snapshot. Whoever has not
    /// keeps for good what was deleted meanwhile: it has to begin anew.
    pub fn tells_all_to(&self, theirs: &VersionVector) -> bool {
        let collected = self.state.collected.as_ref();
        theirs.is_empty() || collected.is_some_and(|collected| theirs.covers(collected))
    }

    /// The next facts, whole commits, about `bytes_max` of them or one commit; `None` at the end.
    pub fn next_batch(&mut self, bytes_max: usize) -> Result<Option<Vec<Fact>>, StorageError> {
        let snapshot = self.snapshot.clone();
        let reader = snapshot.reader();
        let mut batch = std::mem::take(&mut self.left);
        let mut bytes: usize = batch.iter().map(size).sum();
        while let Some(&Tag { origin, seq }) = self.origins.front() {
            let Some(number) = find_origin(&reader, self.state.number, origin)? else {
                self.next_origin();
                continue;
            };
            if self.read_origin(&reader, (origin, number, seq), (&mut batch, &mut bytes, bytes_max))? {
                return Ok(Some(batch));
            }
            self.next_origin();
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    fn next_origin(&mut self) {
        self.origins.pop_front();
        self.after = None;
    }

    /// Reads commits of one origin; answers whether the batch is full. What did not fit is left.
    fn read_origin(
        &mut self,
        reader: &Reader<'_>,
        (origin, number, seq): (OriginId, u32, Seq),
        (batch, bytes, bytes_max): (&mut Vec<Fact>, &mut usize, usize),
    ) -> Result<bool, StorageError> {
        let tenant = self.state.number;
        let prefix = keys::key(tenant, &[u64::from(number)]);
        let from = match self.after.take() {
            Some(after) => [&*after, &[0]].concat(),
            None => keys::key(tenant, &[u64::from(number), seq.0 + 1]),
        };
        let mut rows = reader.range(Table::ByOrigin, &from, keys::after(&prefix).as_deref())?;
        let mut commit: Vec<Fact> = Vec::new();
        let mut commit_bytes = 0;
        let mut last = None;
        while let Some((key, _)) = rows.next_row()? {
            let mut parts = Bytes::new(&key[prefix.len()..]);
            let seq = keys::number(&mut parts).map_err(damaged("by-origin"))?;
            let tag = Tag { origin, seq: Seq(seq) };
            if commit.first().is_some_and(|first| first.tag != tag) {
                let full = !batch.is_empty() && *bytes + commit_bytes > bytes_max;
                if full {
                    self.left = commit;
                    self.after = last;
                    return Ok(true);
                }
                batch.append(&mut commit);
                *bytes += commit_bytes;
                commit_bytes = 0;
            }
            if !self.is_skipped(tag) {
                let place = Place::read(parts).map_err(damaged("by-origin"))?;
                let local = LocalTag { origin: number, seq };
                let body = self.resolver.fact(reader, local, &place)?;
                let fact = Fact { tag, body };
                commit_bytes += size(&fact);
                commit.push(fact);
            }
            last = Some(key);
        }
        batch.append(&mut commit);
        *bytes += commit_bytes;
        if *bytes >= bytes_max {
            self.next_origin();
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether the peer has the commit from the stream that broke off.
    fn is_skipped(&self, tag: Tag) -> bool {
        let token = self.token.as_ref();
        token.is_some_and(|token| tag <= token.progress && token.vector.covers_tag(tag))
    }
}

/// Bytes of a fact as encoded, about.
pub(super) fn size(fact: &Fact) -> usize {
    let names = match &fact.body {
        FactBody::Register {
            subject,
            predicate,
            value,
            ..
        } => subject.as_str().len() + predicate.as_str().len() + value.as_ref().map_or(0, value_size),
        FactBody::Element {
            subject,
            predicate,
            value,
            ..
        } => subject.as_str().len() + predicate.as_str().len() + value_size(value),
        FactBody::Tombstone { subject } => subject.as_str().len(),
        FactBody::Numbers { .. } => 1_024,
        FactBody::Opaque { body, .. } => body.len(),
    };
    FACT_OVERHEAD + names
}

fn value_size(value: &halcyon_core::value::Value) -> usize {
    use halcyon_core::value::Value;
    match value {
        Value::String(text) | Value::Json(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Ref(entity) => entity.as_str().len(),
        Value::Number(_) | Value::Boolean(_) | Value::Date(_) => 8,
    }
}
