//! Tables: the bindings of each key, the groups they fall into, and the rows that these make.
//!
//! Without a limit no row is held: rows are the bindings, or what groups make of them, and are made when they come, go or
//! are asked for.

use std::sync::Arc;

use super::{
    EvalError, Ground, Keyed, Query, Term, Triples, Var,
    group::Group,
    trigger::own_variables,
    window::{AnswerDelta, Change, Item, Key, Mirror, Window},
};
use crate::collections::{BTreeMap, BTreeSet, compact};
use crate::query::{
    answer::{Datum, Row},
    eval::Data,
    logic::{Column, Expression, OrderKey, Shape},
};
use crate::value::Value;

/// Bytes of a text beside its own.
const TEXT_BYTES: usize = 32;

/// Bytes of a key's place among the bindings.
const BINDINGS_BYTES: usize = 64;

/// Bytes of a group with its plain columns.
const GROUP_BYTES: usize = 160;

/// Bytes of what an aggregate of a group needs.
const PART_BYTES: usize = 96;

/// Bytes of a value in the order that an aggregate keeps.
const HELD_VALUE_BYTES: usize = 64;

#[derive(Debug)]
pub(super) struct Table {
    /// The body, with all its own variables as columns.
    probe: Keyed,
    key_column: usize,
    columns: Box<[Expression]>,
    /// Which column of a binding each column reads.
    reads: Box<[Option<usize>]>,
    /// Every binding is a row of its own: all its variables are columns.
    is_row_each: bool,
    order: Vec<OrderKey>,
    /// What the variables are bound to, one binding behind the other. Most keys have one, and most tables few keys.
    bindings: compact::Map<Term, Box<[Datum]>>,
    /// Variables of a binding.
    width: usize,
    held: usize,
    /// Bytes of the texts in the bindings.
    texts: usize,
    groups: BTreeMap<Row, Group>,
    window: Window,
}

impl Table {
    pub(super) fn open<T: Triples + ?Sized>(
        (query, columns, key): (&Query, &[Column], Var),
        store: &T,
        ground: Ground<'_>,
    ) -> Result<Self, EvalError> {
        let own = own_variables(&query.select.body);
        let place = |var: Var| own.iter().position(|own| *own == var);
        let columns: Box<[Expression]> = columns.iter().map(|column| column.value).collect();
        let reads: Box<[Option<usize>]> = columns.iter().map(|column| column.var().and_then(place)).collect();
        let is_plain = !columns.iter().any(|column| column.is_aggregate());
        let mut table = Self {
            probe: Keyed::new(bindings_of(query, &own), key),
            key_column: place(key).expect("the body binds its key"),
            is_row_each: is_plain && (0..own.len()).all(|at| reads.contains(&Some(at))),
            reads,
            order: query.select.order.clone(),
            bindings: compact::Map::new(),
            width: own.len(),
            held: 0,
            texts: 0,
            groups: BTreeMap::new(),
            window: Window::of(query),
            columns,
        };
        if table.is_one_group() {
            table.groups.insert(Row::new(), Group::new(&table.columns));
        }
        let found = table.probe.data(None, table.key_column, store, ground)?;
        table.probe.narrow();
        table.held = found.keys.len();
        table.texts = texts(&found.data);
        if !table.is_row_each {
            let mut before = BTreeMap::new();
            for binding in found.data.chunks_exact(table.width) {
                table.put(binding, true, &mut before);
            }
        }
        let bindings = by_key(found, table.width).into_iter();
        table.bindings = bindings.map(|(key, of_key)| (key, of_key.into())).collect();
        if table.window.has_limit() {
            let rows = table.rows().collect();
            table.shift(&[], rows);
        }
        Ok(table)
    }

    pub(super) fn held(&self) -> usize {
        self.held + self.groups.len() + self.window.len()
    }

    pub(super) fn rows_held(&self) -> usize {
        match (self.window.has_limit(), self.is_row_each) {
            (true, _) => self.window.shown(),
            (false, true) => self.held,
            (false, false) => self.groups.len(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let bindings = self.held * self.width * size_of::<Datum>() + self.bindings.len() * BINDINGS_BYTES;
        let groups = self.groups.len() * (GROUP_BYTES + self.columns.len() * PART_BYTES);
        let valued = self.columns.iter().filter(|column| column.holds_values()).count();
        // What an aggregate orders, and a window shows, has these texts again.
        let texts = self.texts * (1 + valued + usize::from(self.window.has_limit()));
        bindings + texts + groups + valued * self.held * HELD_VALUE_BYTES + self.window.bytes()
    }

    /// What a consumer starts from.
    pub(super) fn mirror(&self) -> Mirror {
        if self.window.has_limit() {
            return self.window.mirror();
        }
        let item = |row: Row| (Key::of_row(&self.order, &row), Item::Row(row));
        self.window.mirror_of(self.rows().map(item))
    }

    /// Reads a little of what [`Self::apply`] will read.
    pub(super) fn warm(&self) -> usize {
        let first = self.bindings.first_key_value();
        let held = first.map_or(0, |(_, data)| usize::from(data.first() == Some(&Datum::Null)));
        self.probe.warm() + self.reads.first().copied().flatten().unwrap_or(0) + held
    }

    pub(super) fn apply<T: Triples + ?Sized>(
        &mut self,
        keys: &[Term],
        store: &T,
        ground: Ground<'_>,
    ) -> Result<AnswerDelta, EvalError> {
        let found = self.probe.data(Some(keys), self.key_column, store, ground)?;
        let mut now = by_key(found, self.width);
        let reads = self.is_row_each.then_some(&self.reads[..]);
        // Rows, or bindings.
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        for key in keys {
            let after: Box<[Datum]> = now.remove(key).unwrap_or_default().into();
            self.texts += texts(&after);
            let before = match self.bindings.get_mut(key) {
                Some(held) if !after.is_empty() => {
                    let before = std::mem::replace(held, after);
                    self.texts -= texts(&before);
                    differ((&before[..], &held[..]), (self.width, reads), (&mut gone, &mut come));
                    continue;
                }
                Some(_) => self.bindings.remove(key).unwrap_or_default(),
                None => Box::default(),
            };
            self.texts -= texts(&before);
            gone.extend(before.chunks_exact(self.width).map(|binding| read(reads, binding)));
            come.extend(after.chunks_exact(self.width).map(|binding| read(reads, binding)));
            if !after.is_empty() {
                self.bindings.insert(*key, after);
            }
        }
        self.held = self.held + come.len() - gone.len();
        if self.is_row_each {
            return Ok(self.shift(&gone, come));
        }
        let mut before = BTreeMap::new();
        for binding in gone {
            self.put(&binding, false, &mut before);
        }
        for binding in come {
            self.put(&binding, true, &mut before);
        }
        Ok(self.tell(before))
    }

    fn row_of(&self, binding: &[Datum]) -> Row {
        read(Some(&self.reads), binding)
    }

    /// All rows there are, in no order.
    fn rows(&self) -> impl Iterator<Item = Row> {
        let of_bindings = self.bindings.values().filter(|_| self.is_row_each);
        let of_bindings = of_bindings.flat_map(|held| held.chunks_exact(self.width));
        let of_groups = self.groups.keys().filter_map(|plain| self.row(plain));
        of_bindings.map(|binding| self.row_of(binding)).chain(of_groups)
    }

    /// A binding comes or goes. `before` keeps the row that its group had at first.
    fn put(&mut self, binding: &[Datum], comes: bool, before: &mut BTreeMap<Row, Option<Row>>) {
        let mut values = self.row_of(binding);
        let plain: Row = if self.columns.iter().any(|column| column.is_aggregate()) {
            let all = self.columns.iter().zip(&values);
            let plain = all.filter(|(column, _)| !column.is_aggregate());
            plain.map(|(_, datum)| datum.clone()).collect()
        } else {
            std::mem::take(&mut values)
        };
        if !before.contains_key(&plain) {
            before.insert(plain.clone(), self.row(&plain));
        }
        let group = self.groups.entry(plain);
        let group = group.or_insert_with(|| Group::new(&self.columns));
        group.put(&self.columns, &values, comes);
    }

    /// Without plain columns there is one group, be it empty.
    fn is_one_group(&self) -> bool {
        self.columns.iter().all(|column| column.is_aggregate())
    }

    fn row(&self, plain: &Row) -> Option<Row> {
        let group = self.groups.get(plain)?;
        (self.is_one_group() || !group.is_empty()).then(|| group.row(&self.columns, plain))
    }

    fn tell(&mut self, before: BTreeMap<Row, Option<Row>>) -> AnswerDelta {
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        for (plain, before) in before {
            let after = self.row(&plain);
            if after.is_none() {
                self.groups.remove(&plain);
            }
            if before != after {
                gone.extend(before);
                come.extend(after);
            }
        }
        self.shift(&gone, come)
    }

    /// Rows go and come.
    fn shift(&mut self, gone: &[Row], come: Vec<Row>) -> AnswerDelta {
        let key = |row: &Row| Key::of_row(&self.order, row);
        let mut changes = Vec::with_capacity(gone.len() + come.len());
        let gone: Vec<Key> = gone.iter().map(key).collect();
        let mut come: Vec<(Key, Row)> = come.into_iter().map(|row| (key(&row), row)).collect();
        come.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        if self.window.has_limit() {
            let keys = come.iter().map(|(key, _)| key.clone()).collect();
            let (left, entered) = self.window.shift(gone, keys);
            changes.extend(left.into_iter().map(Change::Removed));
            for key in entered {
                let row = match come.binary_search_by(|(other, _)| other.cmp(&key)) {
                    Ok(at) => std::mem::take(&mut come[at].1),
                    Err(_) => key.row(self.columns.len()),
                };
                changes.push(Change::Added(key, Item::Row(row)));
            }
        } else {
            let shows = |key: &Key| self.window.is_behind_cursor(key);
            changes.extend(gone.into_iter().filter(shows).map(Change::Removed));
            let come = come.into_iter().filter(|(key, _)| shows(key));
            changes.extend(come.map(|(key, row)| Change::Added(key, Item::Row(row))));
            return AnswerDelta(changes);
        }
        self.window.tell(changes)
    }
}

/// Data of bindings, one binding behind the other, by the key of each.
fn by_key(found: Data, width: usize) -> BTreeMap<Term, Vec<Datum>> {
    if let [key] = found.keys[..] {
        return BTreeMap::from([(key, found.data)]);
    }
    let mut by_key: BTreeMap<Term, Vec<Datum>> = BTreeMap::new();
    let mut data = found.data.into_iter();
    for key in found.keys {
        let of_key = by_key.entry(key).or_insert_with(|| Vec::with_capacity(width));
        of_key.extend(data.by_ref().take(width));
    }
    by_key
}

/// A row that reads a binding, or the binding itself.
fn read(reads: Option<&[Option<usize>]>, binding: &[Datum]) -> Row {
    let Some(reads) = reads else {
        return binding.to_vec();
    };
    let datum = |at: &Option<usize>| at.map_or(Datum::Null, |at| binding[at].clone());
    reads.iter().map(datum).collect()
}

/// The bindings of a key that go, and those that come. Of several most stay.
fn differ(
    (before, after): (&[Datum], &[Datum]),
    (width, reads): (usize, Option<&[Option<usize>]>),
    (gone, come): (&mut Vec<Row>, &mut Vec<Row>),
) {
    if before == after {
        return;
    }
    if before.len() == width && after.len() == width {
        gone.push(read(reads, before));
        come.push(read(reads, after));
        return;
    }
    let mut old: Vec<&[Datum]> = before.chunks_exact(width).collect();
    old.sort_unstable();
    let mut stays = vec![false; old.len()];
    for binding in after.chunks_exact(width) {
        match old.binary_search(&binding) {
            Ok(at) => stays[at] = true,
            Err(_) => come.push(read(reads, binding)),
        }
    }
    let old = old.into_iter().zip(stays).filter(|(_, stays)| !stays);
    gone.extend(old.map(|(binding, _)| read(reads, binding)));
}

/// Bytes of the texts among them.
fn texts(data: &[Datum]) -> usize {
    let bytes = data.iter().map(|datum| match datum {
        Datum::Value(Value::String(text) | Value::Json(text)) => TEXT_BYTES + text.len(),
        Datum::Value(Value::Bytes(bytes)) => TEXT_BYTES + bytes.len(),
        Datum::Value(Value::Ref(entity)) => TEXT_BYTES + entity.as_str().len(),
        Datum::Null | Datum::Value(Value::Number(_) | Value::Boolean(_) | Value::Date(_)) | Datum::List(_) => 0,
    });
    bytes.sum()
}

/// A query for all bindings of a body: of its own variables.
fn bindings_of(query: &Query, own: &BTreeSet<Var>) -> Query {
    let mut probe = query.clone();
    let columns = own.iter().map(|var| Column {
        name: Arc::from(format!("v{}", var.0)),
        value: Expression::Var(*var),
    });
    probe.select.shape = Shape::Table(columns.collect());
    probe.select.order = Vec::new();
    probe.select.after = None;
    probe.select.limit = None;
    probe
}
