//! Answers: rows of cells, or objects with objects in them, in the order that the query asks for.

use std::sync::Arc;

use serde_json::{Map, Value as JsonValue};

use super::logic::Cursor;
use crate::{id::EntityId, value::Value};

/// What a cell of a row, or of a cursor, holds. Null comes before every value, a list after.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Datum {
    /// Nothing.
    Null,
    /// A value.
    Value(Value),
    /// What `collect` gathered. Lists compare item by item.
    List(Vec<Value>),
}

/// A row of a table: a cell for each column.
pub type Row = Vec<Datum>;

/// The answer to a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What was found.
    pub rows: Rows,
    /// Where to go on: the cursor of the last row. Only if there are as many rows as the limit allows, and any.
    pub next: Option<Cursor>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// Rows of cells.
    Table {
        /// The names of the columns.
        columns: Vec<Arc<str>>,
        /// The rows.
        rows: Vec<Row>,
    },
    /// Objects.
    Entities(Vec<Object>),
}

/// An entity as a query asked for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// The entity.
    pub id: EntityId,
    /// The members that were asked for, in the order they were asked for.
    pub members: Vec<(Arc<str>, Member)>,
}

/// A member of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Member {
    /// Nothing, a value or the list of a field's values.
    Datum(Datum),
    /// Another entity, shared by all that refer to it. None is [`Datum::Null`].
    Object(Arc<Object>),
    /// Other entities.
    Objects(Vec<Arc<Object>>),
}

impl Datum {
    /// The value, if it is one.
    pub const fn value(&self) -> Option<&Value> {
        match self {
            Self::Value(value) => Some(value),
            Self::Null | Self::List(_) => None,
        }
    }

    /// As JSON that loses nothing.
    pub fn to_typed_json(&self) -> JsonValue {
        match self {
            Self::Null => JsonValue::Null,
            Self::Value(value) => value.to_typed_json(),
            Self::List(values) => values.iter().map(Value::to_typed_json).collect(),
        }
    }

    /// As plain JSON, for people.
    pub fn to_json(&self) -> JsonValue {
        match self {
            Self::Null => JsonValue::Null,
            Self::Value(value) => value.to_json(),
            Self::List(values) => values.iter().map(Value::to_json).collect(),
        }
    }
}

impl From<Option<Value>> for Datum {
    fn from(value: Option<Value>) -> Self {
        value.map_or(Self::Null, Self::Value)
    }
}

impl Rows {
    /// How many there are.
    pub const fn len(&self) -> usize {
        match self {
            Self::Table { rows, .. } => rows.len(),
            Self::Entities(objects) => objects.len(),
        }
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As a JSON array of objects; each value through `datum`, such as [`Datum::to_json`].
    pub fn to_json(&self, datum: fn(&Datum) -> JsonValue) -> JsonValue {
        match self {
            Self::Table { columns, rows } => rows
                .iter()
                .map(|row| {
                    let members = columns.iter().zip(row);
                    let members = members.map(|(name, value)| (name.to_string(), datum(value)));
                    JsonValue::Object(members.collect::<Map<_, _>>())
                })
                .collect(),
            Self::Entities(objects) => objects.iter().map(|object| object.to_json(datum)).collect(),
        }
    }
}

impl Object {
    /// As a JSON object, the id first; each value through `datum`, such as [`Datum::to_json`].
    pub fn to_json(&self, datum: fn(&Datum) -> JsonValue) -> JsonValue {
        let id = ("id".to_owned(), self.id.as_str().into());
        let members = self
            .members
            .iter()
            .map(|(name, member)| (name.to_string(), member.to_json(datum)));
        JsonValue::Object(std::iter::once(id).chain(members).collect())
    }
}

impl Member {
    fn to_json(&self, datum: fn(&Datum) -> JsonValue) -> JsonValue {
        match self {
            Self::Datum(value) => datum(value),
            Self::Object(object) => object.to_json(datum),
            Self::Objects(objects) => objects.iter().map(|object| object.to_json(datum)).collect(),
        }
    }
}
