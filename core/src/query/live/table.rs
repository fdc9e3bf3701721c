//! Tables: the bindings of each key, the groups they fall into, and the rows that these make.

use std::sync::Arc;

use super::{
    EvalError, Ground, Keyed, Query, Term, Triples, Var,
    group::Group,
    trigger::own_variables,
    window::{AnswerDelta, Change, Item, Key, Window},
};
use crate::collections::{BTreeMap, BTreeSet};
use crate::query::{
    answer::{Datum, Row},
    logic::{Column, Expression, OrderKey, Shape},
};

#[derive(Debug)]
pub(super) struct Table {
    /// The body, with all its own variables as columns.
    probe: Keyed,
    key_column: usize,
    columns: Vec<Expression>,
    /// Which column of a binding each column reads.
    reads: Vec<Option<usize>>,
    /// Every binding is a row of its own: all its variables are columns.
    is_row_each: bool,
    order: Vec<OrderKey>,
    bindings: BTreeMap<Term, Vec<Row>>,
    held: usize,
    groups: BTreeMap<Row, Group>,
    pub(super) window: Window,
}

impl Table {
    pub(super) fn open<T: Triples + ?Sized>(
        (query, columns, key): (&Query, &[Column], Var),
        store: &T,
        ground: Ground<'_>,
    ) -> Result<Self, EvalError> {
        let own = own_variables(&query.select.body);
        let place = |var: Var| own.iter().position(|own| *own == var);
        let columns: Vec<Expression> = columns.iter().map(|column| column.value).collect();
        let reads: Vec<Option<usize>> = columns.iter().map(|column| column.var().and_then(place)).collect();
        let is_plain = !columns.iter().any(|column| column.is_aggregate());
        let mut table = Self {
            probe: Keyed::new(bindings_of(query, &own), key),
            key_column: place(key).expect("the body binds its key"),
            is_row_each: is_plain && (0..own.len()).all(|at| reads.contains(&Some(at))),
            reads,
            order: query.select.order.clone(),
            bindings: BTreeMap::new(),
            held: 0,
            groups: BTreeMap::new(),
            window: Window::of(query),
            columns,
        };
        let mut first = BTreeMap::new();
        if table.is_one_group() {
            table.groups.insert(Row::new(), Group::new(&table.columns));
            first.insert(Row::new(), None);
        }
        let found = table.probe.rows(None, table.key_column, store, ground)?;
        table.probe.narrow();
        if table.is_row_each {
            table.move_rows(Vec::new(), found);
        } else {
            table.come(found, &mut first);
            table.tell(first);
        }
        Ok(table)
    }

    pub(super) fn held(&self) -> usize {
        self.held + self.window.len()
    }

    pub(super) fn apply<T: Triples + ?Sized>(
        &mut self,
        keys: &[Term],
        store: &T,
        ground: Ground<'_>,
    ) -> Result<AnswerDelta, EvalError> {
        let found = self.probe.rows(Some(keys), self.key_column, store, ground)?;
        let gone = keys.iter().filter_map(|key| self.bindings.remove(key)).flatten();
        let gone: Vec<Row> = gone.collect();
        self.held -= gone.len();
        if self.is_row_each {
            return Ok(self.move_rows(gone, found));
        }
        let mut before = BTreeMap::new();
        for binding in gone {
            self.put(&binding, false, &mut before);
        }
        self.come(found, &mut before);
        Ok(self.tell(before))
    }

    /// Bindings that are rows go and come. Most that go come back.
    fn move_rows(&mut self, mut gone: Vec<Row>, found: Vec<(Term, Row)>) -> AnswerDelta {
        gone.sort_unstable();
        let (mut stays, mut come) = (vec![false; gone.len()], Vec::new());
        for (key, binding) in found {
            match gone.binary_search(&binding) {
                Ok(at) => stays[at] = true,
                Err(_) => come.push(self.row_of(&binding)),
            }
            self.held += 1;
            self.bindings.entry(key).or_default().push(binding);
        }
        let gone = gone.iter().zip(stays).filter(|(_, stays)| !stays);
        let gone: Vec<Row> = gone.map(|(binding, _)| self.row_of(binding)).collect();
        self.shift(&gone, come)
    }

    fn row_of(&self, binding: &Row) -> Row {
        let read = |at: &Option<usize>| at.map_or(Datum::Null, |at| binding[at].clone());
        self.reads.iter().map(read).collect()
    }

    fn come(&mut self, found: Vec<(Term, Row)>, before: &mut BTreeMap<Row, Option<Row>>) {
        for (key, binding) in found {
            self.put(&binding, true, before);
            self.held += 1;
            self.bindings.entry(key).or_default().push(binding);
        }
    }

    /// A binding comes or goes. `before` keeps the row that its group had at first.
    fn put(&mut self, binding: &Row, comes: bool, before: &mut BTreeMap<Row, Option<Row>>) {
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
        }
        self.window.tell(changes)
    }
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
