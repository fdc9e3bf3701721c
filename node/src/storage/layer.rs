//! The overlay: rows that are durable in the log and not yet folded into the index, in layers; and reads through all.
//!
//! Invariant: for a row of a table that [`Table::is_index`], a layer says `Some` only where nothing below it has the
//! row, and `None` only where something has. So what comes and goes within a layer cancels out.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    collections::{BTreeMap, btree_map},
    iter::Peekable,
    ops::Bound,
    sync::Arc,
};

use halcyon_core::id::TenantId;

use super::{
    base::{Base, BaseRange},
    careful::careful,
    keys,
    state::TenantState,
    tables::{TABLES, Table},
    types::StorageError,
};

/// A row, or that there is none.
pub(super) type Row = Option<Box<[u8]>>;
type Rows = BTreeMap<Key, Row>;

/// Rows of one layer.
pub(super) type LayerRows<'a> = btree_map::Range<'a, Key, Row>;

/// Bytes of a key that needs no allocation of its own: nearly all of them.
const INLINE_BYTES: usize = 38;

/// A key. Short ones lie in the map itself: no memory of their own, and no detour to compare them.
#[derive(Debug, Clone)]
pub(super) enum Key {
    Inline { len: u8, bytes: [u8; INLINE_BYTES] },
    Boxed(Box<[u8]>),
}

impl Key {
    fn new(key: Vec<u8>) -> Self {
        let mut bytes = [0; INLINE_BYTES];
        match (bytes.get_mut(..key.len()), u8::try_from(key.len())) {
            (Some(inline), Ok(len)) => {
                inline.copy_from_slice(&key);
                Self::Inline { len, bytes }
            }
            _ => Self::Boxed(key.into()),
        }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Boxed(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

/// Bytes that an entry takes in memory besides key and value.
const ENTRY_OVERHEAD: usize = 64;

/// Changes to tables. `None` removes a row.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer {
    tables: [Rows; TABLES],
    /// Tenants whose record changed; `None` where it was erased.
    pub(super) tenants: BTreeMap<TenantId, Option<Arc<TenantState>>>,
    entries: usize,
    bytes: usize,
}

impl Layer {
    pub(super) fn is_empty(&self) -> bool {
        self.entries == 0 && self.tenants.is_empty()
    }

    pub(super) const fn entries(&self) -> usize {
        self.entries
    }

    /// Bytes in memory, about.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    #[expect(
        clippy::option_option,
        reason = "no word on the row, or that there is none, or the row"
    )]
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Option<Option<&[u8]>> {
        self.tables[table as usize].get(key).map(Option::as_deref)
    }

    pub(super) fn put(&mut self, table: Table, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.put_row(table, Key::new(key), value.map(Into::into));
    }

    /// Takes in what came after it.
    pub(super) fn absorb(&mut self, newer: Self) {
        if self.is_empty() {
            *self = newer;
            return;
        }
        for (table, rows) in Table::ALL.into_iter().zip(newer.tables) {
            for (key, row) in rows {
                self.put_row(table, key, row);
            }
        }
        self.tenants.extend(newer.tenants);
    }

    fn put_row(&mut self, table: Table, key: Key, row: Row) {
        let size = key.as_slice().len() + ENTRY_OVERHEAD + row.as_ref().map_or(0, |row| row.len());
        match self.tables[table as usize].entry(key) {
            btree_map::Entry::Vacant(entry) => {
                entry.insert(row);
                self.entries += 1;
                self.bytes += size;
            }
            btree_map::Entry::Occupied(entry) if table.is_index() && entry.get().is_some() != row.is_some() => {
                entry.remove();
                self.entries -= 1;
                self.bytes = self.bytes.saturating_sub(size);
            }
            btree_map::Entry::Occupied(mut entry) => {
                let before = entry.get().as_ref().map_or(0, |row| row.len());
                self.bytes = (self.bytes + row.as_ref().map_or(0, |row| row.len())).saturating_sub(before);
                entry.insert(row);
            }
        }
    }

    pub(super) fn rows(&self, table: Table, from: &[u8], to: Option<&[u8]>) -> LayerRows<'_> {
        let end = to.map_or(Bound::Unbounded, Bound::Excluded);
        if to.is_some_and(|to| to <= from) {
            return btree_map::Range::default();
        }
        self.tables[table as usize].range::<[u8], _>((Bound::Included(from), end))
    }
}

/// Rows of several layers in the order of their keys. Of one key the newest layer's.
pub(super) struct Overlay<'a> {
    heads: Vec<Peekable<btree_map::Range<'a, Key, Row>>>,
}

impl<'a> Overlay<'a> {
    /// `layers` has the newest first.
    pub(super) fn new(layers: impl Iterator<Item = &'a Layer>, table: Table, from: &[u8], to: Option<&[u8]>) -> Self {
        let heads = layers.map(|layer| layer.rows(table, from, to).peekable());
        Self { heads: heads.collect() }
    }
}

impl<'a> Iterator for Overlay<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut first: Option<&'a [u8]> = None;
        for head in &mut self.heads {
            if let Some((key, _)) = head.peek() {
                let key = key.as_slice();
                first = Some(first.map_or(key, |first| first.min(key)));
            }
        }
        let first = first?;
        let mut found = None;
        for head in &mut self.heads {
            if let Some((_, row)) = head.next_if(|(key, _)| *key.as_slice() == *first) {
                found.get_or_insert(row.as_deref());
            }
        }
        found.map(|row| (first, row))
    }
}

/// A consistent state to read from: layers over the index.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    /// The newest first.
    pub(super) layers: Vec<&'a Layer>,
    pub(super) base: &'a Base,
}

/// A row as read.
pub(super) type KeyValue = (Vec<u8>, Vec<u8>);

impl<'a> Reader<'a> {
    /// `layers` has the newest first.
    pub(super) fn new(layers: impl Iterator<Item = &'a Layer>, base: &'a Base) -> Self {
        let layers = layers.filter(|layer| layer.entries > 0).collect();
        Self { layers, base }
    }

    /// The same with one layer more on top.
    pub(super) fn under<'b>(&'b self, top: &'b Layer) -> Reader<'b> {
        Reader::new(std::iter::once(top).chain(self.layers.iter().copied()), self.base)
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        for layer in &self.layers {
            if let Some(row) = layer.get(table, key) {
                return Ok(row.map(<[u8]>::to_vec));
            }
        }
        self.base.get(table, key)
    }

    /// Rows from `from` to before `to`.
    pub(super) fn range(&self, table: Table, from: &[u8], to: Option<&[u8]>) -> Result<Merged<'a>, StorageError> {
        let overlay = Overlay::new(self.layers.iter().copied(), table, from, to);
        let mut merged = Merged {
            overlay: overlay.peekable(),
            base: self.base.range(table, from, to)?,
            head: None,
        };
        merged.advance()?;
        Ok(merged)
    }

    /// Rows whose key begins with `prefix`.
    pub(super) fn prefix(&self, table: Table, prefix: &[u8]) -> Result<Merged<'a>, StorageError> {
        self.range(table, prefix, keys::after(prefix).as_deref())
    }
}

/// Rows of the overlay and the index in the order of their keys.
pub(super) struct Merged<'a> {
    overlay: Peekable<Overlay<'a>>,
    base: Option<BaseRange>,
    head: Option<KeyValue>,
}

impl Merged<'_> {
    /// The next row.
    pub(super) fn next_row(&mut self) -> Result<Option<KeyValue>, StorageError> {
        loop {
            let Some(&(key, row)) = self.overlay.peek() else {
                let head = self.head.take();
                self.advance()?;
                return Ok(head);
            };
            if self.head.as_ref().is_some_and(|head| *head.0 < *key) {
                let head = self.head.take();
                self.advance()?;
                return Ok(head);
            }
            if self.head.as_ref().is_some_and(|head| *head.0 == *key) {
                self.advance()?;
            }
            self.overlay.next();
            if let Some(row) = row {
                return Ok(Some((key.to_vec(), row.to_vec())));
            }
        }
    }

    fn advance(&mut self) -> Result<(), StorageError> {
        self.head = None;
        if let Some(range) = &mut self.base {
            self.head = careful(|| {
                let Some(row) = range.next() else { return Ok(None) };
                let (key, value) = row.map_err(super::base::disk_error)?;
                Ok::<_, StorageError>(Some((key.value().to_vec(), value.value().to_vec())))
            })?;
        }
        Ok(())
    }
}
