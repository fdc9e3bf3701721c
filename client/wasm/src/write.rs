//! A write as a page says it: a JSON array of changes, with typed values (`core/docs/query.md` has them).
//!
//! `[["create", "i1"], ["set", "i1", "issues/title", "x"], ["unset", "i1", "issues/due"],
//!   ["add", "i1", "issues/labels", {"$ref": "l1"}], ["remove", …], ["delete", "i2"]]`

use halcyon_core::{
    change::Change,
    codec::DecodeError,
    id::{EntityId, IdError, Predicate},
    value::Value,
};
use serde_json::Value as JsonValue;
use thiserror::Error;

/// Why a write was not taken.
#[derive(Debug, Error)]
pub enum WriteError {
    /// It is not JSON.
    #[error("a write cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// It is no array of changes.
    #[error("change {0} of a write is not understood")]
    Shape(usize),
    /// An entity or a predicate has a name that cannot be one.
    #[error(transparent)]
    Name(#[from] IdError),
    /// A value is not one, or a limit is exceeded.
    #[error(transparent)]
    Value(#[from] DecodeError),
    /// Nothing is written.
    #[error("a write without changes")]
    Empty,
    /// Too much waits for a node already.
    #[error("too many writes wait for a node; let some of them get there first")]
    Full,
}

/// Reads changes.
pub(crate) fn read(text: &str) -> Result<Vec<Change>, WriteError> {
    let json: JsonValue = serde_json::from_str(text)?;
    let items = json.as_array().ok_or(WriteError::Shape(0))?;
    if items.is_empty() {
        return Err(WriteError::Empty);
    }
    let numbered = items.iter().enumerate();
    numbered.map(|(at, item)| read_change(at, item)).collect()
}

fn read_change(at: usize, item: &JsonValue) -> Result<Change, WriteError> {
    let shape = || WriteError::Shape(at);
    let text = |place: usize| item.get(place).and_then(JsonValue::as_str).ok_or_else(shape);
    let subject = EntityId::new(text(1)?)?;
    let predicate = || Ok::<_, WriteError>(Predicate::new(text(2)?)?);
    let value = || Ok::<_, WriteError>(Value::from_typed_json(item.get(3).ok_or_else(shape)?)?);
    Ok(match text(0)? {
        "create" => Change::Create { subject },
        "delete" => Change::Delete { subject },
        "set" => Change::Set {
            subject,
            predicate: predicate()?,
            value: value()?,
        },
        "unset" => Change::Unset {
            subject,
            predicate: predicate()?,
        },
        "add" => Change::Add {
            subject,
            predicate: predicate()?,
            value: value()?,
        },
        "remove" => Change::Remove {
            subject,
            predicate: predicate()?,
            value: value()?,
        },
        _ => return Err(shape()),
    })
}
