//! The syntax of queries: what was written, in either form, before names are resolved.
//!
//! Text, JSON and the builder make these; [`super::lower`] turns them into the logical form. Nothing here is checked
//! beyond what the types say. A value of these types prints as text (`Display`) and converts to JSON, and reads back
//! from both as itself; places do not count.

pub mod datalog;
pub mod entity;

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use self::{
    datalog::{Datalog, RuleDefinition},
    entity::EntitySelect,
};
use super::{json, place::Place, text};
use crate::value::Value;

/// A query, in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// `find … where …`
    Datalog(Datalog),
    /// `post where … { … }`
    Entity {
        /// Rules that its conditions call.
        rules: Vec<RuleDefinition>,
        /// What is asked for.
        select: EntitySelect,
    },
}

/// A name and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Without the mark of a variable or quotes.
    pub text: Arc<str>,
    /// Where.
    pub at: Place,
}

/// A constant and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Literal {
    /// What it is.
    pub value: Value,
    /// Where.
    pub at: Place,
}

impl Name {
    /// A name that was not read from anywhere.
    pub fn new(text: &str) -> Self {
        Self {
            text: text.into(),
            at: Place::Unknown,
        }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::print::query(self, f)
    }
}

impl Serialize for Query {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json::write(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Query {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = serde_json::Value::deserialize(deserializer)?;
        json::read(&json).map_err(D::Error::custom)
    }
}
