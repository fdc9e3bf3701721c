//! One tenant as it was at a moment, by the numbers that this replica gave to names: what queries read.
//!
//! Everything here is of one state, however long it is asked. A view keeps pages of the index from being used again, so
//! it should not be kept for longer than a query takes.

use std::{ops::ControlFlow, sync::Arc};

use halcyon_core::{
    codec::Reader as Bytes,
    id::{EntityId, Predicate},
};

use super::{
    facts::Stored,
    keys::{self, NameKind},
    resolve::{CellKeyParts, find},
    shard::Snapshot,
    state::TenantState,
    tables::Table,
    types::{StorageError, Summary},
    walk::{Visit, Walk},
    work::{damaged, read_predicate, read_subject},
};

pub(crate) use super::{
    keys::{ELEMENT, REGISTER, after, is_cut},
    limits::KEY_VALUE_BYTES,
};

/// See the module's page.
#[derive(Debug, Clone)]
pub(crate) struct TenantView {
    state: Arc<TenantState>,
    snapshot: Snapshot,
}

/// A predicate that some triple had.
#[derive(Debug, Clone)]
pub(crate) struct KnownPredicate {
    pub(crate) number: u32,
    pub(crate) name: Predicate,
    /// Whether elements were ever written under it. Without, an entity has one value at the most.
    pub(crate) elements: bool,
}

/// A live fact in the index by value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ValueRow<'a> {
    /// The encoded value, or its first bytes and a hash: see [`is_cut`].
    pub(crate) value: &'a [u8],
    /// [`REGISTER`] or [`ELEMENT`].
    pub(crate) part: u8,
    pub(crate) subject: u32,
}

/// Live facts of a predicate in the order of their encoded values.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Values<'a> {
    pub(crate) predicate: u32,
    /// Bytes behind the predicate in a key: where to begin.
    pub(crate) from: &'a [u8],
    /// Where to end; that place does not belong to it.
    pub(crate) to: Option<&'a [u8]>,
    /// The greatest first.
    pub(crate) descending: bool,
}

/// Who looks at a fact of the index by value.
pub(crate) type VisitValue<'v> = &'v mut dyn FnMut(ValueRow<'_>) -> ControlFlow<()>;

/// The bytes of a fact in the index by value, behind the predicate.
pub(crate) fn place_of(encoded: &[u8], part: u8, subject: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(encoded.len() + 5);
    keys::put_value(&mut out, encoded);
    out.push(part);
    out.extend_from_slice(&subject.to_be_bytes());
    out
}

/// An encoded value as keys hold it.
pub(crate) fn short_of(encoded: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(encoded.len().min(96));
    keys::put_value(&mut out, encoded);
    out
}

impl TenantView {
    pub(super) fn new((state, snapshot): (Arc<TenantState>, Snapshot)) -> Self {
        Self { state, snapshot }
    }

    /// What the replica is.
    pub(crate) fn summary(&self) -> &Summary {
        &self.state.summary
    }

    /// Numbers of subjects are below.
    pub(crate) fn subjects_end(&self) -> u32 {
        self.state.next.subject
    }

    /// The number of an entity that was ever written to.
    pub(crate) fn subject_number(&self, subject: &EntityId) -> Result<Option<u32>, StorageError> {
        let text = subject.as_str().as_bytes();
        find(&self.snapshot.reader(), self.state.number, NameKind::Subject, text)
    }

    /// The entity with a number, unless it was forgotten.
    pub(crate) fn subject(&self, number: u32) -> Result<Option<EntityId>, StorageError> {
        let key = keys::id_key(self.state.number, NameKind::Subject, number);
        let row = self.snapshot.reader().get(Table::Ids, &key)?;
        row.map(|row| read_subject(&row)).transpose()
    }

    /// The predicate of a name.
    pub(crate) fn predicate(&self, name: &Predicate) -> Result<Option<KnownPredicate>, StorageError> {
        let reader = self.snapshot.reader();
        let tenant = self.state.number;
        let Some(number) = find(&reader, tenant, NameKind::Predicate, name.as_str().as_bytes())? else {
            return Ok(None);
        };
        let row = reader.get(Table::Ids, &keys::id_key(tenant, NameKind::Predicate, number))?;
        Ok(Some(KnownPredicate {
            number,
            name: name.clone(),
            elements: row.is_some_and(|row| row.first() == Some(&1)),
        }))
    }

    /// All predicates that any triple ever had, in the order of their numbers.
    pub(crate) fn predicates(&self) -> Result<Vec<KnownPredicate>, StorageError> {
        let mut prefix = keys::key(self.state.number, &[]);
        prefix.push(NameKind::Predicate as u8);
        let mut rows = self.snapshot.reader().prefix(Table::Ids, &prefix)?;
        let mut found = Vec::new();
        while let Some((key, row)) = rows.next_row()? {
            found.push(KnownPredicate {
                number: keys::id(&mut Bytes::new(&key[prefix.len()..])).map_err(damaged("ids"))?,
                name: read_predicate(&row)?,
                elements: row.first() == Some(&1),
            });
        }
        Ok(found)
    }

    /// Shows the encoded value of a register, if it has one.
    pub(crate) fn register(
        &self,
        subject: u32,
        predicate: u32,
        show: &mut dyn FnMut(&[u8]),
    ) -> Result<(), StorageError> {
        let key = keys::register_key(self.state.number, subject, predicate);
        if let Some(row) = self.snapshot.reader().get(Table::Cells, &key)? {
            let stored = Stored::decode(&row).map_err(damaged("cells"))?;
            if let Some(value) = stored.register_value() {
                show(value);
            }
        }
        Ok(())
    }

    /// Shows the encoded values of an entity, of one predicate or of all, with the predicates' numbers. A register and
    /// an element may hold the same.
    pub(crate) fn cells(
        &self,
        subject: u32,
        predicate: Option<u32>,
        show: &mut dyn FnMut(u32, &[u8]),
    ) -> Result<(), StorageError> {
        let numbers: Vec<u64> = std::iter::once(subject).chain(predicate).map(u64::from).collect();
        let prefix = keys::key(self.state.number, &numbers);
        let mut failure = None;
        let mut visit = |key: &[u8], row: &[u8]| match live_value(key, row) {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some((predicate, value))) => {
                show(predicate, value);
                ControlFlow::Continue(())
            }
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        };
        self.walk(Table::Cells, &prefix, &mut visit)?;
        failure.map_or(Ok(()), Err)
    }

    /// Shows the whole encoded value of a fact that the index by value has with a cut one.
    pub(crate) fn whole_value(
        &self,
        predicate: u32,
        row: ValueRow<'_>,
        show: &mut dyn FnMut(&[u8]),
    ) -> Result<(), StorageError> {
        let tenant = self.state.number;
        let key = if row.part == ELEMENT {
            keys::element_key(tenant, row.subject, predicate, row.value)
        } else {
            keys::register_key(tenant, row.subject, predicate)
        };
        if let Some(row) = self.snapshot.reader().get(Table::Cells, &key)? {
            show(Stored::decode(&row).map_err(damaged("cells"))?.value);
        }
        Ok(())
    }

    /// Whether the index by value has a fact, by its place ([`place_of`]).
    pub(crate) fn has_value(&self, predicate: u32, place: &[u8]) -> Result<bool, StorageError> {
        let mut key = keys::key(self.state.number, &[u64::from(predicate)]);
        key.extend_from_slice(place);
        Ok(self.snapshot.reader().get(Table::Values, &key)?.is_some())
    }

    /// Shows facts by value. Breaks if the visitor does.
    pub(crate) fn values(&self, values: Values<'_>, visit: VisitValue<'_>) -> Result<ControlFlow<()>, StorageError> {
        let prefix = keys::key(self.state.number, &[u64::from(values.predicate)]);
        let from = [&*prefix, values.from].concat();
        let to = match values.to {
            Some(to) => Some([&*prefix, to].concat()),
            None => after(&prefix),
        };
        let walk = Walk {
            table: Table::Values,
            from: &from,
            to: to.as_deref(),
            descending: values.descending,
        };
        self.snapshot.reader().walk(walk, &mut |key, _| {
            let Some((part, subject)) = keys::value_key_end(key) else {
                return ControlFlow::Continue(());
            };
            let value = &key[prefix.len()..key.len() - 5];
            visit(ValueRow { value, part, subject })
        })
    }

    /// How many entities may have a triple of a type: a row may outlive an entity's last one. Counting ends at `max`.
    pub(crate) fn entities_at_most(&self, entity_type: &str, max: u64) -> Result<u64, StorageError> {
        let tenant = self.state.number;
        let kind = find(&self.snapshot.reader(), tenant, NameKind::Type, entity_type.as_bytes())?;
        let Some(kind) = kind else { return Ok(0) };
        let mut count = 0;
        self.walk(Table::Types, &keys::key(tenant, &[u64::from(kind)]), &mut |_, _| {
            count += 1;
            if count < max {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        Ok(count)
    }

    fn walk(&self, table: Table, prefix: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        let to = after(prefix);
        let walk = Walk {
            table,
            from: prefix,
            to: to.as_deref(),
            descending: false,
        };
        self.snapshot.reader().walk(walk, visit).map(drop)
    }
}

/// Predicate and encoded value of a row of `Cells`, if it is live.
fn live_value<'a>(key: &'a [u8], row: &'a [u8]) -> Result<Option<(u32, &'a [u8])>, StorageError> {
    let stored = Stored::decode(row).map_err(damaged("cells"))?;
    if !stored.live {
        return Ok(None);
    }
    let cell = CellKeyParts::read(key)?;
    let value = match cell.element {
        Some(short) if !is_cut(short) => short,
        _ => stored.value,
    };
    Ok(Some((cell.predicate, value)))
}
