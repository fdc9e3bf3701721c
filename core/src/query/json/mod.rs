//! The JSON form: what a program sends. `core/docs/query.md` has its shape; values are in typed JSON.

mod datalog;
mod entity;
mod node;

use serde_json::Value as JsonValue;

use self::node::Node;
use super::{ast::Query, error::QueryError};
use crate::limits::READS_ALL_FORMS;

/// Reads a query in either form: one with `find` is Datalog, one with `from` asks for entities.
pub fn read(json: &JsonValue) -> Result<Query, QueryError> {
    let node = Node::root(json)?;
    if READS_ALL_FORMS && node.has("find") {
        return datalog::read(&node).map(Query::Datalog);
    }
    entity::read(&node)
}

/// Reads a query from JSON text.
pub fn read_text(text: &str) -> Result<Query, QueryError> {
    read(&node::parse(text)?)
}

/// Writes what [`read`] reads.
pub fn write(query: &Query) -> JsonValue {
    match query {
        Query::Datalog(datalog) => datalog::write(datalog),
        Query::Entity { rules, select } => entity::write(rules, select),
    }
}
