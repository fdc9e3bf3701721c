//! Reading live triples: of an entity, of a field by value, of a type, of a tenant.
//!
//! A cursor is a key of the index that was used. Keys hold numbers that only this replica gave out, so a cursor names
//! the replica, and any other refuses it.

use std::ops::ControlFlow;

use halcyon_core::{codec::Reader as Bytes, value::Value};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    keys::{self, NameKind},
    layer::Reader,
    limits::{KEY_VALUE_BYTES, PAGE_LOOKS_MAX, PAGE_MAX},
    resolve::{CellKeyParts, Resolver, find},
    tables::Table,
    types::{LiveTriple, ScanPage, ScanQuery, StorageError},
    work::damaged,
};

/// A replica of a tenant, to read from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) reader: &'a Reader<'a>,
    pub(super) tenant: u32,
    /// Of the shard's files.
    pub(super) log_id: u64,
}

/// Bytes in front of the key in a cursor.
const REPLICA_BYTES: usize = 8;

struct Page<'a> {
    source: Source<'a>,
    query: &'a ScanQuery,
    resolver: Resolver,
    triples: Vec<LiveTriple>,
    /// The last key that was looked at.
    last: Vec<u8>,
    looks_left: usize,
    limit: usize,
}

/// Whether the page goes on.
type Step = ControlFlow<()>;

/// Reads a page.
pub(super) fn scan(source: Source<'_>, query: &ScanQuery) -> Result<ScanPage, StorageError> {
    let mut page = Page {
        source,
        query,
        resolver: Resolver::new(source.tenant),
        triples: Vec::new(),
        last: Vec::new(),
        looks_left: PAGE_LOOKS_MAX,
        limit: query.limit.clamp(1, PAGE_MAX),
    };
    let after = page.cursor()?;
    let step = page.run(after.as_deref())?;
    let cursor = if step.is_break() {
        page.cursor_at_last()
    } else {
        Vec::new()
    };
    Ok(ScanPage {
        triples: page.triples,
        cursor: cursor.into(),
    })
}

impl Page<'_> {
    fn run(&mut self, after: Option<&[u8]>) -> Result<Step, StorageError> {
        let (reader, tenant, query) = (self.source.reader, self.source.tenant, self.query);
        let done = Ok(Step::Continue(()));
        let predicate = match &query.predicate {
            Some(predicate) => match find(reader, tenant, NameKind::Predicate, predicate.as_str().as_bytes())? {
                Some(id) => Some(u64::from(id)),
                None => return done,
            },
            None => None,
        };
        if let Some(subject) = &query.subject {
            let Some(id) = find(reader, tenant, NameKind::Subject, subject.as_str().as_bytes())? else {
                return done;
            };
            let numbers: Vec<u64> = std::iter::once(u64::from(id)).chain(predicate).collect();
            return self.cells(&keys::key(tenant, &numbers), after);
        }
        match (predicate, &query.entity_type) {
            (Some(predicate), _) => self.values(predicate, after),
            (None, Some(kind)) => match find(reader, tenant, NameKind::Type, kind.as_bytes())? {
                Some(kind) => self.entities(u64::from(kind), after),
                None => done,
            },
            (None, None) => self.cells(&keys::key(tenant, &[]), after),
        }
    }

    /// Rows of `Cells` under a prefix.
    fn cells(&mut self, prefix: &[u8], after: Option<&[u8]>) -> Result<Step, StorageError> {
        let end = keys::after(prefix);
        let from = behind(after, prefix);
        let mut rows = self.source.reader.range(Table::Cells, &from, end.as_deref())?;
        while let Some((key, row)) = rows.next_row()? {
            if self.look(&key, &row)?.is_break() {
                return Ok(Step::Break(()));
            }
        }
        Ok(Step::Continue(()))
    }

    /// Live facts of a field in the order of their values.
    fn values(&mut self, predicate: u64, after: Option<&[u8]>) -> Result<Step, StorageError> {
        let (reader, tenant) = (self.source.reader, self.source.tenant);
        let prefix = keys::key(tenant, &[predicate]);
        let bound = |value: &Value| {
            let encoded = value.encode();
            [&*prefix, &encoded[..encoded.len().min(KEY_VALUE_BYTES)]].concat()
        };
        let start = self.query.from.as_ref().map_or_else(|| prefix.clone(), &bound);
        // Of a bound that is cut, all that shares its first bytes is looked at.
        let end = match &self.query.to {
            Some(to) => keys::after(&bound(to)),
            None => keys::after(&prefix),
        };
        let from = behind(after, &start);
        let mut rows = reader.range(Table::Values, &from, end.as_deref())?;
        while let Some((key, _)) = rows.next_row()? {
            let Some((part, subject)) = keys::value_key_end(&key) else {
                continue;
            };
            let short = &key[prefix.len()..key.len() - 5];
            let predicate = u32::try_from(predicate).unwrap_or(u32::MAX);
            let cell = if part == keys::ELEMENT {
                keys::element_key(tenant, subject, predicate, short)
            } else {
                keys::register_key(tenant, subject, predicate)
            };
            if let Some(row) = reader.get(Table::Cells, &cell)? {
                let step = self.look(&cell, &row)?;
                self.last = key;
                if step.is_break() {
                    return Ok(step);
                }
            }
        }
        Ok(Step::Continue(()))
    }

    /// Entities that have a field of a type, each whole.
    fn entities(&mut self, kind: u64, after: Option<&[u8]>) -> Result<Step, StorageError> {
        let (reader, tenant) = (self.source.reader, self.source.tenant);
        let prefix = keys::key(tenant, &[kind]);
        let start = match after {
            Some(after) => {
                let subject = CellKeyParts::read(after).map_err(|_| StorageError::BadCursor)?.subject;
                keys::key(tenant, &[kind, u64::from(subject)])
            }
            None => prefix.clone(),
        };
        let mut rows = reader.range(Table::Types, &start, keys::after(&prefix).as_deref())?;
        let mut after = after;
        while let Some((key, _)) = rows.next_row()? {
            let subject = keys::number(&mut Bytes::new(&key[prefix.len()..])).map_err(damaged("types"))?;
            let entity = keys::key(tenant, &[subject]);
            let within = after.take().filter(|after| after.starts_with(&entity));
            if self.cells(&entity, within)?.is_break() {
                return Ok(Step::Break(()));
            }
        }
        Ok(Step::Continue(()))
    }

    /// Takes a row of `Cells` into the page, if the query wants it.
    fn look(&mut self, key: &[u8], row: &[u8]) -> Result<Step, StorageError> {
        let reader = self.source.reader;
        let cell = CellKeyParts::read(key)?;
        if let Some(triple) = self.resolver.triple(reader, cell, row)?
            && self.wants(&triple)
        {
            self.triples.push(triple);
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        self.looks_left -= 1;
        let full = self.triples.len() >= self.limit || self.looks_left == 0;
        Ok(if full { Step::Break(()) } else { Step::Continue(()) })
    }

    fn wants(&self, triple: &LiveTriple) -> bool {
        let query = self.query;
        query
            .predicate
            .as_ref()
            .is_none_or(|predicate| *predicate == triple.predicate)
            && query
                .entity_type
                .as_ref()
                .is_none_or(|kind| kind == triple.predicate.entity_type())
            && query.from.as_ref().is_none_or(|from| *from <= triple.value)
            && query.to.as_ref().is_none_or(|to| triple.value < *to)
    }

    fn replica(&self) -> [u8; REPLICA_BYTES] {
        let mut bytes = self.source.log_id.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.source.tenant.to_be_bytes());
        xxh3_64(&bytes).to_be_bytes()
    }

    fn cursor(&self) -> Result<Option<Vec<u8>>, StorageError> {
        if self.query.cursor.is_empty() {
            return Ok(None);
        }
        match self.query.cursor.split_first_chunk() {
            Some((replica, key)) if *replica == self.replica() => Ok(Some(key.to_vec())),
            _ => Err(StorageError::BadCursor),
        }
    }

    fn cursor_at_last(&self) -> Vec<u8> {
        [&self.replica()[..], &self.last].concat()
    }
}

/// The first key to look at: right behind a cursor, if it is not before the start.
fn behind(after: Option<&[u8]>, start: &[u8]) -> Vec<u8> {
    match after {
        Some(after) if after >= start => [after, &[0]].concat(),
        _ => start.to_vec(),
    }
}
