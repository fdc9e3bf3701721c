//! The order of an answer, the part of it that shows, and what a consumer is told of it.

use std::{cmp::Reverse, ops::Bound, sync::Arc};

use crate::collections::{BTreeMap, BTreeSet};
use crate::{
    query::{
        answer::{Answer, Datum, Object, Row, Rows},
        logic::{Cursor, OrderBy, OrderKey, Query, Select, Shape},
    },
    value::Value,
};

/// Bytes of a part of a key, with the text that some have.
pub(super) const KEY_PART_BYTES: usize = 56;

/// Bytes of a place in the index, or among items, beside the parts of its key.
const PLACE_BYTES: usize = 48;

/// Bytes of an item that shows, beside the texts in it.
const ITEM_BYTES: usize = 128;

/// Where a row stands in the order of its answer: the order's keys, then the tie-break. Keys of one query compare.
#[derive(Debug, Clone, Eq, PartialOrd, Ord)]
pub struct Key(Arc<[Part]>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Up(Datum),
    Down(Reverse<Datum>),
}

/// A row of a table, or an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Of a table.
    Row(Row),
    /// Of an entity query.
    Object(Arc<Object>),
}

/// What became of one row or object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It does not show any more.
    Removed(Key),
    /// It shows now.
    Added(Key, Item),
    /// An object shows still: it changed, and it moved if the places differ.
    Changed {
        /// Where it stood.
        from: Key,
        /// Where it stands.
        to: Key,
        /// What it is now.
        item: Item,
    },
}

/// What one change set did to an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerDelta(pub Vec<Change>);

/// An answer as its consumer holds it.
#[derive(Debug, Clone)]
pub struct Mirror {
    columns: Option<Vec<Arc<str>>>,
    limit: Option<usize>,
    items: BTreeMap<Key, Item>,
}

/// The keys of an answer, and the items that show.
#[derive(Debug)]
pub(super) struct Window {
    mirror: Mirror,
    after: Option<Key>,
    /// Only with a limit; without one, all that lies behind the cursor shows.
    index: BTreeSet<Key>,
    /// With a limit, if there is one: what stands behind it in the order is not in the index, and may be there.
    bound: Option<Key>,
}

impl PartialEq for Key {
    /// Those of an index and of what shows are mostly the same ones. The standard library's shortcut is for sized types
    /// alone.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Key {
    /// Of data, as many of the first as the order has going its way, the rest ascending.
    pub(super) fn new(order: &[OrderKey], data: impl IntoIterator<Item = Datum>) -> Self {
        // An iterator that knows its length is allocated for once.
        let parts = data.into_iter().enumerate().map(|(at, datum)| {
            if order.get(at).is_some_and(|key| key.descending) {
                Part::Down(Reverse(datum))
            } else {
                Part::Up(datum)
            }
        });
        Self(parts.collect())
    }

    /// Of a table's row.
    pub(super) fn of_row(order: &[OrderKey], row: &Row) -> Self {
        // Its length is known before, so that it is allocated once.
        let parts = (0..order.len() + row.len()).map(|at| match order.get(at) {
            None => Part::Up(row[at - order.len()].clone()),
            Some(key) => {
                let datum = match key.by {
                    OrderBy::Column(column) => row[column].clone(),
                    OrderBy::Path(_) | OrderBy::Id => unreachable!("a table is in the order of columns"),
                };
                if key.descending {
                    Part::Down(Reverse(datum))
                } else {
                    Part::Up(datum)
                }
            }
        });
        Self(parts.collect())
    }

    /// The row of a table of so many columns: what the tie-break holds.
    pub(super) fn row(&self, columns: usize) -> Row {
        let mut data = self.data();
        data.split_off(data.len() - columns)
    }

    /// The entity that stands there.
    pub(super) fn id(&self) -> Value {
        match self.0.last() {
            Some(Part::Up(Datum::Value(id))) => id.clone(),
            _ => unreachable!("an entity's key ends with its id"),
        }
    }

    /// What a query that goes on behind it names.
    pub(super) fn cursor(&self) -> Cursor {
        Cursor(self.data())
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.0
    }

    pub(super) fn from_parts(parts: Vec<Part>) -> Self {
        Self(parts.into())
    }

    fn data(&self) -> Vec<Datum> {
        let data = self.0.iter().map(|part| match part {
            Part::Up(datum) | Part::Down(Reverse(datum)) => datum.clone(),
        });
        data.collect()
    }
}

impl AnswerDelta {
    /// Whether the answer is what it was.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Mirror {
    /// An answer without rows.
    pub fn empty(query: &Query) -> Self {
        Window::of(query).mirror
    }

    /// All of it, as what came to an answer without rows.
    pub fn whole(&self) -> AnswerDelta {
        let items = self.items.iter();
        AnswerDelta(
            items
                .map(|(key, item)| Change::Added(key.clone(), item.clone()))
                .collect(),
        )
    }

    /// Whether the rows of a delta are rows of this query.
    pub fn takes(&self, delta: &AnswerDelta) -> bool {
        delta.0.iter().all(|change| match change {
            Change::Removed(_) => true,
            Change::Added(_, Item::Row(row))
            | Change::Changed {
                item: Item::Row(row), ..
            } => self.columns.as_ref().is_some_and(|columns| columns.len() == row.len()),
            Change::Added(_, Item::Object(_)) | Change::Changed { .. } => self.columns.is_none(),
        })
    }

    /// Takes in what a change set did, where the delta is still needed.
    fn follow(&mut self, delta: &AnswerDelta) {
        for change in &delta.0 {
            if let Change::Removed(key) | Change::Changed { from: key, .. } = change {
                self.items.remove(key);
            }
        }
        for change in &delta.0 {
            if let Change::Added(key, item) | Change::Changed { to: key, item, .. } = change {
                self.items.insert(key.clone(), item.clone());
            }
        }
    }

    /// Takes in what a change set did.
    pub fn apply(&mut self, delta: AnswerDelta) {
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        for change in delta.0 {
            match change {
                Change::Removed(key) => gone.push(key),
                Change::Added(key, item) => come.push((key, item)),
                Change::Changed { from, to, item } => {
                    gone.push(from);
                    come.push((to, item));
                }
            }
        }
        for key in gone {
            self.items.remove(&key);
        }
        self.items.extend(come);
    }

    /// Where its rows stand, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.items.keys()
    }

    /// How many rows it has.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// What leads from here to another state of the same query.
    pub fn difference(&self, to: &Self) -> AnswerDelta {
        let gone = self.items.keys().filter(|key| !to.items.contains_key(key));
        let mut changes: Vec<Change> = gone.cloned().map(Change::Removed).collect();
        for (key, item) in &to.items {
            match self.items.get(key) {
                Some(shown) if shown == item => {}
                Some(_) => changes.push(Change::Changed {
                    from: key.clone(),
                    to: key.clone(),
                    item: item.clone(),
                }),
                None => changes.push(Change::Added(key.clone(), item.clone())),
            }
        }
        AnswerDelta(changes)
    }

    /// The items in their order.
    pub fn items(&self) -> impl Iterator<Item = (&Key, &Item)> {
        self.items.iter()
    }

    /// The same, for a consumer that keeps them in its own way.
    pub fn into_items(self) -> impl Iterator<Item = (Key, Item)> {
        self.items.into_iter()
    }

    /// The answer as it stands.
    pub fn answer(&self) -> Answer {
        let is_full = self.limit == Some(self.items.len());
        let last = self.items.last_key_value().filter(|_| is_full);
        let next = last.map(|(key, item)| match item {
            Item::Row(row) => Cursor(row.clone()),
            Item::Object(_) => Cursor(key.data()),
        });
        let items = self.items.values();
        let rows = if let Some(columns) = &self.columns {
            let rows = items.filter_map(|item| match item {
                Item::Row(row) => Some(row.clone()),
                Item::Object(_) => None,
            });
            Rows::Table {
                columns: columns.clone(),
                rows: rows.collect(),
            }
        } else {
            let objects = items.filter_map(|item| match item {
                Item::Object(object) => Some(Object::clone(object)),
                Item::Row(_) => None,
            });
            Rows::Entities(objects.collect())
        };
        Answer { rows, next }
    }
}

impl Window {
    pub(super) fn of(query: &Query) -> Self {
        let Select {
            shape,
            order,
            after,
            limit,
            ..
        } = &query.select;
        let (columns, after) = match shape {
            Shape::Table(columns) => (
                Some(columns.iter().map(|column| Arc::clone(&column.name)).collect()),
                after.as_ref().map(|cursor| Key::of_row(order, &cursor.0)),
            ),
            Shape::Entities { .. } => (None, after.as_ref().map(|cursor| Key::new(order, cursor.0.clone()))),
        };
        Self {
            mirror: Mirror {
                columns,
                limit: limit.map(|limit| limit as usize),
                items: BTreeMap::new(),
            },
            after,
            index: BTreeSet::new(),
            bound: None,
        }
    }

    pub(super) fn mirror(&self) -> Mirror {
        self.mirror.clone()
    }

    /// The same with these items, of which those show that stand behind the cursor.
    pub(super) fn mirror_of(&self, items: impl Iterator<Item = (Key, Item)>) -> Mirror {
        Mirror {
            items: items.filter(|(key, _)| self.is_behind_cursor(key)).collect(),
            ..self.mirror()
        }
    }

    /// What shows at a key.
    pub(super) fn item(&self, key: &Key) -> Option<&Item> {
        self.mirror.items.get(key)
    }

    /// Rows that show.
    pub(super) fn shown(&self) -> usize {
        self.mirror.items.len()
    }

    /// About how many bytes its items take, and its keys.
    pub(super) fn bytes(&self) -> usize {
        let parts = self.mirror.items.keys().next().map_or(0, |key| key.parts().len());
        let places = self.index.len() + self.mirror.items.len();
        places * (PLACE_BYTES + parts * KEY_PART_BYTES) + self.mirror.items.len() * ITEM_BYTES
    }

    /// Keys and items that it holds.
    pub(super) fn len(&self) -> usize {
        self.index.len().max(self.mirror.items.len())
    }

    pub(super) const fn has_limit(&self) -> bool {
        self.mirror.limit.is_some()
    }

    /// Whether it stands behind the place from which the query goes on.
    pub(super) fn is_behind_cursor(&self, key: &Key) -> bool {
        self.after.as_ref().is_none_or(|after| after < key)
    }

    /// Moves keys: those that show no more, and those that show now and did not. No key both goes and comes.
    pub(super) fn shift(&mut self, gone: Vec<Key>, come: Vec<Key>) -> (Vec<Key>, Vec<Key>) {
        if self.mirror.limit.is_none() {
            let shows = |key: &Key| self.is_behind_cursor(key);
            let (left, entered) = (gone.into_iter().filter(shows), come.into_iter().filter(shows));
            return (left.collect(), entered.collect());
        }
        self.put(&gone, come);
        self.moved()
    }

    /// With a limit: moves keys in the index alone.
    pub(super) fn put(&mut self, gone: &[Key], come: Vec<Key>) {
        for key in gone {
            self.index.remove(key);
        }
        self.index.extend(come);
    }

    /// With a limit: what shows no more by the index, and what shows now.
    pub(super) fn moved(&self) -> (Vec<Key>, Vec<Key>) {
        let from = self.after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut now = self
            .index
            .range::<Key, _>((from, Bound::Unbounded))
            .take(self.mirror.limit.unwrap_or(usize::MAX))
            .peekable();
        let mut before = self.mirror.items.keys().peekable();
        let (mut left, mut entered) = (Vec::new(), Vec::new());
        loop {
            match (before.peek(), now.peek()) {
                (None, None) => return (left, entered),
                (Some(a), Some(b)) if *a == *b => {
                    before.next();
                    now.next();
                }
                (Some(a), b) if b.is_none_or(|b| *a < *b) => left.extend(before.next().cloned()),
                _ => entered.extend(now.next().cloned()),
            }
        }
    }

    /// Whether the index has a place for a key, where it holds only a stretch of the order.
    pub(super) fn has_place(&self, key: &Key) -> bool {
        self.is_behind_cursor(key) && self.bound.as_ref().is_none_or(|bound| key <= bound)
    }

    /// How many more keys fill the index up to so many; none if it has what shows, or all there are.
    pub(super) fn lacks(&self, full: usize) -> Option<(usize, &Key)> {
        let bound = self.bound.as_ref()?;
        let is_short = self.index.len() < self.mirror.limit.unwrap_or(0);
        is_short.then(|| (full - self.index.len(), bound))
    }

    /// The index holds all up to its last key; if there may be more, `is_all` is false.
    pub(super) fn bind(&mut self, is_all: bool) {
        self.bound = if is_all { None } else { self.index.last().cloned() };
    }

    /// Lets go of keys behind the first ones.
    pub(super) fn cut(&mut self, keep: usize) -> Vec<Key> {
        let mut cut = Vec::new();
        while self.index.len() > keep {
            cut.extend(self.index.pop_last());
        }
        self.bind(false);
        cut
    }

    /// Shows what is there at the beginning.
    pub(super) fn fill(&mut self, items: impl IntoIterator<Item = (Key, Item)>) {
        self.mirror.items.extend(items);
    }

    /// Shows what changed, to the consumer too.
    pub(super) fn tell(&mut self, changes: Vec<Change>) -> AnswerDelta {
        let delta = AnswerDelta(changes);
        self.mirror.follow(&delta);
        delta
    }
}
