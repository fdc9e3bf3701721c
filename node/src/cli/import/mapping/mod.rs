//! How a row becomes changes: which field is the id, which are references, sets, dates, and what an empty one means.
//!
//! A field that is empty (CSV) or null (JSON) stays unset. A row's entity is created by its change set, unless rows are
//! merged into entities that exist.

use std::collections::BTreeMap;

use halcyon_core::{
    change::Change,
    id::{EntityId, Predicate, is_name},
    limits::{ELEMENT_BYTES_MAX, VALUE_BYTES_MAX},
    value::Value,
};
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::{
    rows::{BadRow, Cell, Row},
    survey::{ColumnType, Survey},
};
use crate::cli::value_args::{excerpt, parse_date, parse_id, parse_number};

/// Fields that an error lists.
const FIELDS_LISTED: usize = 20;

/// What the command line says about fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldOptions {
    /// The type of all entities; not needed where the fields are named `type/field`, as an export has them.
    pub entity_type: Option<String>,
    /// The field with the entity's id.
    pub id: Option<String>,
    /// References, with the type of what they name.
    pub refs: BTreeMap<String, String>,
    /// Sets; of references where a type is given.
    pub many: BTreeMap<String, Option<String>>,
    /// Dates.
    pub dates: Vec<String>,
    /// Strings, whatever they look like.
    pub strings: Vec<String>,
    /// Fields to leave out.
    pub skip: Vec<String>,
    /// Fields that get another name.
    pub rename: BTreeMap<String, String>,
    /// What stands between the elements of a set in one CSV cell.
    pub separator: String,
    /// Rows add to entities that exist and create none.
    pub merge: bool,
}

/// What to do with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    predicate: Predicate,
    kind: Kind,
    many: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// CSV: by the column's type. JSON: by the value's own.
    Inferred(ColumnType),
    String,
    Date,
    Ref,
}

/// How rows become changes.
#[derive(Debug, Clone)]
pub struct Mapping {
    fields: BTreeMap<String, Field>,
    id: Option<String>,
    id_seed: u64,
    merge: bool,
    separator: String,
}

impl Mapping {
    /// Checks the options against the fields that the file has; the error says what to change.
    pub fn new(options: &FieldOptions, survey: &Survey) -> Result<Self, String> {
        check_named_fields(options, survey)?;
        let id = match &options.id {
            Some(id) => Some(id.clone()),
            None => survey.fields.contains_key("id").then(|| "id".to_owned()),
        };
        if options.merge && id.is_none() {
            return Err("--merge needs --id FIELD: which field names the entity to add to?".into());
        }
        let mut fields = BTreeMap::new();
        for (name, column) in &survey.fields {
            if Some(name) == id.as_ref() || options.skip.contains(name) {
                continue;
            }
            let field = Field {
                predicate: predicate(options, name)?,
                kind: kind(options, name, *column),
                many: options.many.contains_key(name),
            };
            fields.insert(name.clone(), field);
        }
        Ok(Self {
            fields,
            id,
            id_seed: survey.hash,
            merge: options.merge,
            separator: options.separator.clone(),
        })
    }

    /// The row's changes. `at` is its place in the file, from 0.
    pub fn changes(&self, at: u64, row: &Row) -> Result<Vec<Change>, BadRow> {
        let subject = self.subject(at, row)?;
        let mut changes = Vec::with_capacity(row.fields.len() + 1);
        if !self.merge {
            changes.push(Change::Create {
                subject: subject.clone(),
            });
        }
        for (name, cell) in &row.fields {
            let Some(field) = self.fields.get(name) else { continue };
            let bad = |reason: String| BadRow::new(row.line, format_args!("field {}: {reason}", excerpt(name)));
            let (values, many) = self.values(field, cell).map_err(bad)?;
            for value in values {
                check_size(&value, many).map_err(bad)?;
                let (subject, predicate) = (subject.clone(), field.predicate.clone());
                changes.push(if many {
                    Change::Add {
                        subject,
                        predicate,
                        value,
                    }
                } else {
                    Change::Set {
                        subject,
                        predicate,
                        value,
                    }
                });
            }
        }
        Ok(changes)
    }

    fn subject(&self, at: u64, row: &Row) -> Result<EntityId, BadRow> {
        let Some(id) = &self.id else {
            return Ok(self.made_id(at));
        };
        let cell = row.fields.iter().find(|(name, _)| name == id).map(|(_, cell)| cell);
        let text = match cell {
            Some(Cell::Text(text) | Cell::Json(serde_json::Value::String(text))) => text.clone(),
            Some(Cell::Json(serde_json::Value::Number(number))) => number.to_string(),
            _ => String::new(),
        };
        if text.is_empty() {
            return Err(BadRow::new(
                row.line,
                format_args!("field {}: the id is missing", excerpt(id)),
            ));
        }
        parse_id(&text).map_err(|error| BadRow::new(row.line, format_args!("field {}: {error}", excerpt(id))))
    }

    /// The same file gives the same ids, so that a second run doubles nothing.
    fn made_id(&self, at: u64) -> EntityId {
        let bytes = xxh3_128_with_seed(&at.to_be_bytes(), self.id_seed).to_be_bytes();
        EntityId::generate(|count| bytes.iter().copied().cycle().take(count).enumerate().map(mix).collect())
    }

    /// The values of a cell, and whether they are elements of a set.
    fn values(&self, field: &Field, cell: &Cell) -> Result<(Vec<Value>, bool), String> {
        let values = match cell {
            Cell::Text(text) if text.is_empty() => Vec::new(),
            Cell::Text(text) if field.many => return Ok((self.elements(field, text)?, true)),
            Cell::Text(text) => vec![text_value(field.kind, text)?],
            Cell::Json(serde_json::Value::Null) => Vec::new(),
            Cell::Json(serde_json::Value::Array(elements)) if field.many || is_export(field, cell) => {
                let elements: Result<_, _> = elements.iter().map(|element| json_value(field.kind, element)).collect();
                return Ok((elements?, true));
            }
            Cell::Json(json) => vec![json_value(field.kind, json)?],
        };
        Ok((values, field.many))
    }

    fn elements(&self, field: &Field, text: &str) -> Result<Vec<Value>, String> {
        if text.starts_with('[')
            && let Ok(elements) = serde_json::from_str::<Vec<serde_json::Value>>(text)
        {
            return elements.iter().map(|element| json_value(field.kind, element)).collect();
        }
        let parts = text
            .split(&self.separator)
            .map(str::trim)
            .filter(|part| !part.is_empty());
        parts.map(|part| text_value(field.kind, part)).collect()
    }
}

/// In an export a field with several values is an array; JSON values are marked as such.
fn is_export(field: &Field, cell: &Cell) -> bool {
    let marked = matches!(field.kind, Kind::Inferred(ColumnType::Empty));
    marked && matches!(cell, Cell::Json(serde_json::Value::Array(_)))
}

fn check_named_fields(options: &FieldOptions, survey: &Survey) -> Result<(), String> {
    let named = options
        .id
        .iter()
        .chain(options.refs.keys())
        .chain(options.many.keys())
        .chain(&options.dates)
        .chain(&options.strings)
        .chain(&options.skip)
        .chain(options.rename.keys());
    for name in named {
        if !survey.fields.contains_key(name) && survey.rows > 0 {
            let name = excerpt(name);
            return Err(format!("the file has no field {name:?}; it has {}", listed(survey)));
        }
    }
    for type_name in options.refs.values().chain(options.many.values().flatten()) {
        if !is_name(type_name) {
            let name = excerpt(type_name);
            return Err(format!("{name:?} is not a type: use letters, digits, _ and -"));
        }
    }
    Ok(())
}

/// The file's fields, as many as are read with patience.
fn listed(survey: &Survey) -> String {
    let names: Vec<String> = survey
        .fields
        .keys()
        .take(FIELDS_LISTED)
        .map(|name| excerpt(name))
        .collect();
    let more = survey.fields.len().saturating_sub(FIELDS_LISTED);
    let ending = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("{}{ending}", names.join(", "))
}

fn predicate(options: &FieldOptions, name: &str) -> Result<Predicate, String> {
    let field = options.rename.get(name).map_or(name, String::as_str);
    let full = match &options.entity_type {
        _ if field.contains('/') => field.to_owned(),
        Some(entity_type) => format!("{entity_type}/{field}"),
        None => return Err(format!("field {:?} has no type: add --type TYPE", excerpt(name))),
    };
    let predicate = Predicate::new(&full).map_err(|_| {
        let (field, name) = (excerpt(field), excerpt(name));
        format!("{field:?} cannot be a field's name; add --rename \"{name}=other_name\" or --skip \"{name}\"")
    })?;
    if predicate.is_reserved() {
        let full = excerpt(&full);
        return Err(format!(
            "{full} begins with _, which is reserved; add --rename or --skip"
        ));
    }
    Ok(predicate)
}

fn kind(options: &FieldOptions, name: &str, column: ColumnType) -> Kind {
    let is_ref = options.refs.contains_key(name) || options.many.get(name).is_some_and(Option::is_some);
    if is_ref {
        Kind::Ref
    } else if options.dates.iter().any(|date| date == name) {
        Kind::Date
    } else if options.strings.iter().any(|string| string == name) {
        Kind::String
    } else if name.contains('/') {
        Kind::Inferred(ColumnType::Empty)
    } else {
        Kind::Inferred(column)
    }
}

fn text_value(kind: Kind, text: &str) -> Result<Value, String> {
    match kind {
        Kind::Ref => parse_id(text).map(Value::Ref),
        Kind::Date | Kind::Inferred(ColumnType::Date) => parse_date(text).map(Value::Date).ok_or_else(|| {
            let text = excerpt(text);
            format!("{text:?} is not a date: milliseconds since 1970 or RFC 3339")
        }),
        Kind::Inferred(ColumnType::Number) => parse_number(text)
            .and_then(|number| Value::number(number).ok())
            .ok_or_else(|| format!("{:?} is not a number", excerpt(text))),
        Kind::Inferred(ColumnType::Boolean) => Ok(Value::Boolean(text == "true")),
        Kind::String | Kind::Inferred(_) => Ok(Value::string(text)),
    }
}

fn json_value(kind: Kind, json: &serde_json::Value) -> Result<Value, String> {
    match (kind, json) {
        (Kind::Ref | Kind::Date | Kind::String, serde_json::Value::String(text)) => text_value(kind, text),
        (Kind::Ref | Kind::Date | Kind::String, serde_json::Value::Number(number)) => {
            text_value(kind, &number.to_string())
        }
        (Kind::Ref | Kind::Date, serde_json::Value::Object(_)) | (Kind::Inferred(_), _) => {
            Value::from_typed_json(json).map_err(|error| error.to_string())
        }
        (Kind::String, other) => Ok(Value::string(&other.to_string())),
        (Kind::Ref, _) => Err("not an entity id".into()),
        (Kind::Date, _) => Err("not a date: milliseconds since 1970 or RFC 3339".into()),
    }
}

fn check_size(value: &Value, many: bool) -> Result<(), String> {
    let size = value.encode().len();
    let (what, max) = if many {
        ("an element of a set", ELEMENT_BYTES_MAX)
    } else {
        ("a value", VALUE_BYTES_MAX)
    };
    if size > max {
        return Err(format!("{size} bytes are too many: {what} has at most {max}"));
    }
    Ok(())
}

fn mix((at, byte): (usize, u8)) -> u8 {
    byte.wrapping_add(u8::try_from(at & 0xf0).unwrap_or(0))
}

#[cfg(test)]
mod tests;
