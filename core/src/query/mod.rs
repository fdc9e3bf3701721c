//! Queries: two ways to write them, one meaning.
//!
//! `core/docs/query.md` has the grammars and the meaning of everything. A query is written as text, as JSON or with a
//! builder, in a Datalog form or in an entity form; all become the logical form ([`logic`]), which evaluators answer.

pub mod answer;
pub mod ast;
pub mod build;
pub mod error;
pub mod eval;
pub mod json;
pub mod limits;
pub mod live;
pub mod logic;
pub mod lower;
pub mod naive;
pub mod place;
pub mod plan;
pub mod sum;
pub mod testing;
pub mod text;
pub mod triples;

#[cfg(test)]
mod tests;

use self::error::QueryError;
use crate::limits::READS_ALL_FORMS;

/// Whether a query is JSON: then it begins with a brace.
pub fn is_json(source: &str) -> bool {
    source.trim_start().starts_with('{')
}

/// What a query means, JSON if it begins with a brace, else text; [`QueryError::render`] shows an error's place.
pub fn read(source: &str) -> Result<logic::Query, QueryError> {
    if is_json(source) {
        lower::lower(&json::read_text(source)?)
    } else {
        from_text(source)
    }
}

/// What a query in text means; an error can show its place in the text ([`QueryError::render`]).
pub fn from_text(source: &str) -> Result<logic::Query, QueryError> {
    if !READS_ALL_FORMS {
        return Err(QueryError::expected("a query in JSON", "text", &place::Place::Unknown));
    }
    lower::lower(&text::parse(source)?)
}

/// What a query in JSON means; an error names the path.
pub fn from_json(json: &serde_json::Value) -> Result<logic::Query, QueryError> {
    lower::lower(&json::read(json)?)
}
