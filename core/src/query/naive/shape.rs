//! From bindings to rows and objects, sorted and cut.

use std::{cmp::Ordering, sync::Arc};

use super::{Binding, Naive};
use crate::collections::{BTreeMap, BTreeSet};
use crate::{
    id::EntityId,
    query::{
        answer::{Answer, Datum, Member, Object, Row, Rows},
        logic::{
            Aggregate, Cursor, Expression, Field, FieldValue, OrderBy, OrderKey, PredicateTerm, Select, Shape, Step,
            Var,
        },
        sum::ExactSum,
    },
    value::{Number, Value},
};

impl Naive {
    /// The answer of a select under what is bound around it.
    pub(super) fn select(&self, select: &Select, under: &Binding) -> Answer {
        let bindings = self.answers(&select.body, under);
        match &select.shape {
            Shape::Table(columns) => {
                let expressions: Vec<Expression> = columns.iter().map(|column| column.value).collect();
                let found = rows(&expressions, &bindings).into_iter();
                let keyed = found.map(|row| (table_key(&select.order, &row), row)).collect();
                let (rows, next) = page(
                    select,
                    keyed,
                    |cursor| table_key(&select.order, &cursor.0),
                    |_, row| row.clone(),
                );
                let columns = columns.iter().map(|column| Arc::clone(&column.name)).collect();
                let rows = Rows::Table { columns, rows };
                Answer { rows, next }
            }
            Shape::Entities { entity, fields } => {
                let ids: BTreeSet<EntityId> = bindings
                    .iter()
                    .filter_map(|binding| entity_of(binding, *entity))
                    .collect();
                let keyed = ids
                    .into_iter()
                    .map(|id| (self.entity_key(&select.order, &id), id))
                    .collect();
                let cursor_key = |cursor: &Cursor| cursor.0.clone();
                let (ids, next) = page(select, keyed, cursor_key, |key, _| key.to_vec());
                let objects = ids.into_iter().map(|id| {
                    let mut inner = under.clone();
                    inner.insert(*entity, Some(Value::Ref(id.clone())));
                    self.object(id, fields, &inner)
                });
                let rows = Rows::Entities(objects.collect());
                Answer { rows, next }
            }
        }
    }

    /// What an entity is ordered by: a datum for each key, then the id.
    fn entity_key(&self, order: &[OrderKey], id: &EntityId) -> Vec<Datum> {
        let own = Value::Ref(id.clone());
        let keys = order.iter().map(|key| match &key.by {
            OrderBy::Id | OrderBy::Column(_) => Datum::Value(own.clone()),
            OrderBy::Path(steps) => {
                let mut reached = self.reached(&own, steps);
                if key.descending {
                    reached.pop_last()
                } else {
                    reached.pop_first()
                }
                .into()
            }
        });
        keys.chain([Datum::Value(own.clone())]).collect()
    }

    fn reached(&self, from: &Value, steps: &[Step]) -> BTreeSet<Value> {
        let mut here = BTreeSet::from([from.clone()]);
        for step in steps {
            let triples = self
                .triples
                .iter()
                .filter(|triple| step.predicate.takes(&triple.predicate));
            let ends = triples.map(|triple| {
                let forward = (&triple.subject, &triple.object);
                if step.reverse { (forward.1, forward.0) } else { forward }
            });
            here = ends
                .filter(|(start, _)| here.contains(*start) && matches!(start, Value::Ref(_)))
                .map(|(_, end)| end.clone())
                .collect();
        }
        here
    }

    fn object(&self, id: EntityId, fields: &[Field], inner: &Binding) -> Object {
        let own = Value::Ref(id.clone());
        let mut members = Vec::new();
        for field in fields {
            let member = match &field.value {
                FieldValue::One(predicate) => Member::Datum(self.values(&own, predicate).pop_first().into()),
                FieldValue::All(predicate) => {
                    Member::Datum(Datum::List(self.values(&own, predicate).into_iter().collect()))
                }
                FieldValue::Everything => {
                    members.extend(self.everything(&own));
                    continue;
                }
                FieldValue::Many(select) => {
                    let objects = self.objects(select, inner).into_iter();
                    Member::Objects(objects.map(Arc::new).collect())
                }
                FieldValue::First(select) => {
                    let first = self.objects(select, inner).into_iter().next();
                    first.map_or(Member::Datum(Datum::Null), |object| Member::Object(Arc::new(object)))
                }
            };
            members.push((Arc::clone(&field.name), member));
        }
        Object { id, members }
    }

    fn objects(&self, select: &Select, inner: &Binding) -> Vec<Object> {
        match self.select(select, inner).rows {
            Rows::Entities(objects) => objects,
            Rows::Table { .. } => Vec::new(),
        }
    }

    fn values(&self, own: &Value, predicate: &PredicateTerm) -> BTreeSet<Value> {
        let triples = self.triples.iter().filter(|triple| triple.subject == *own);
        triples
            .filter(|triple| predicate.takes(&triple.predicate))
            .map(|triple| triple.object.clone())
            .collect()
    }

    fn everything(&self, own: &Value) -> Vec<(Arc<str>, Member)> {
        let mut all: BTreeMap<Arc<str>, Vec<Value>> = BTreeMap::new();
        for triple in self.triples.iter().filter(|triple| triple.subject == *own) {
            all.entry(triple.predicate.as_str().into())
                .or_default()
                .push(triple.object.clone());
        }
        let members = all.into_iter().map(|(name, mut values)| {
            values.sort();
            let one = if values.len() == 1 { values.pop() } else { None };
            (name, Member::Datum(one.map_or(Datum::List(values), Datum::Value)))
        });
        members.collect()
    }
}

/// The rows that columns, or a head, make of bindings.
pub(super) fn rows(columns: &[Expression], bindings: &BTreeSet<Binding>) -> BTreeSet<Row> {
    let plain = |binding: &Binding| -> Row {
        let vars = columns
            .iter()
            .filter(|column| !column.is_aggregate())
            .filter_map(|column| column.var());
        vars.map(|var| binding[&var].clone().into()).collect()
    };
    if !columns.iter().any(|column| column.is_aggregate()) {
        return bindings.iter().map(plain).collect();
    }
    let mut groups: BTreeMap<Row, Vec<&Binding>> = BTreeMap::new();
    if columns.iter().all(|column| column.is_aggregate()) {
        groups.insert(Row::new(), Vec::new());
    }
    for binding in bindings {
        groups.entry(plain(binding)).or_default().push(binding);
    }
    let rows = groups.into_iter().map(|(key, group)| {
        let mut key = key.into_iter();
        let data = columns.iter().map(|column| match column {
            Expression::Var(_) => key.next().unwrap_or(Datum::Null),
            Expression::Aggregate(aggregate, var) => gather(*aggregate, *var, &group),
            Expression::CountAll => count(group.len()),
        });
        data.collect()
    });
    rows.collect()
}

fn gather(aggregate: Aggregate, var: Var, group: &[&Binding]) -> Datum {
    let mut values: Vec<Value> = group.iter().filter_map(|binding| binding[&var].clone()).collect();
    values.sort();
    let numbers = values.iter().filter_map(|value| match value {
        Value::Number(number) => Some(*number),
        _ => None,
    });
    let numbers: Vec<Number> = numbers.collect();
    let mut sum = ExactSum::default();
    for number in &numbers {
        sum.add(*number);
    }
    match aggregate {
        Aggregate::Count => count(values.len()),
        Aggregate::CountDistinct => count(values.into_iter().collect::<BTreeSet<_>>().len()),
        Aggregate::Sum => sum.get().map(Value::Number).into(),
        Aggregate::Avg => sum.average(numbers.len() as u64).map(Value::Number).into(),
        Aggregate::Min => values.into_iter().next().into(),
        Aggregate::Max => values.into_iter().next_back().into(),
        Aggregate::Collect => Datum::List(values),
    }
}

fn count(size: usize) -> Datum {
    #[expect(clippy::cast_precision_loss, reason = "an oracle counts small things")]
    let size = size as f64;
    Value::number(size).ok().into()
}

fn entity_of(binding: &Binding, entity: Var) -> Option<EntityId> {
    match &binding[&entity] {
        Some(Value::Ref(id)) => Some(id.clone()),
        _ => None,
    }
}

/// What a row is ordered by: a datum for each key, then all columns.
fn table_key(order: &[OrderKey], row: &[Datum]) -> Vec<Datum> {
    let keys = order.iter().filter_map(|key| match key.by {
        OrderBy::Column(column) => row.get(column).cloned(),
        OrderBy::Path(_) | OrderBy::Id => None,
    });
    keys.chain(row.iter().cloned()).collect()
}

/// Sorts what has keys, passes over what the cursor has behind it, and keeps what the limit allows.
fn page<T>(
    select: &Select,
    mut keyed: Vec<(Vec<Datum>, T)>,
    cursor_key: impl Fn(&Cursor) -> Vec<Datum>,
    cursor_of: impl Fn(&[Datum], &T) -> Vec<Datum>,
) -> (Vec<T>, Option<Cursor>) {
    keyed.sort_by(|(a, _), (b, _)| compare(&select.order, a, b));
    if let Some(cursor) = &select.after {
        let after = cursor_key(cursor);
        keyed.retain(|(key, _)| compare(&select.order, key, &after) == Ordering::Greater);
    }
    let mut next = None;
    if let Some(limit) = select.limit {
        keyed.truncate(super::place(limit));
        let full = keyed.len() == super::place(limit);
        next = keyed
            .last()
            .filter(|_| full)
            .map(|(key, row)| Cursor(cursor_of(key, row)));
    }
    (keyed.into_iter().map(|(_, row)| row).collect(), next)
}

/// Key by key; those behind the order's own keys ascend.
fn compare(order: &[OrderKey], a: &[Datum], b: &[Datum]) -> Ordering {
    for (at, (a, b)) in a.iter().zip(b).enumerate() {
        let descending = order.get(at).is_some_and(|key| key.descending);
        let ordering = if descending { b.cmp(a) } else { a.cmp(b) };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
    Ordering::Equal
}
