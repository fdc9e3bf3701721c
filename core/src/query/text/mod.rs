//! The text form: what a person types. `core/docs/query.md` has the grammar.

mod constant;
mod datalog;
mod entity;
mod lexer;
mod parser;
pub(crate) mod print;

use self::parser::Parser;
use super::{
    ast::{Query, entity::Path},
    error::QueryError,
};

/// Reads a query in either form: one that begins with `find`, after its rules, is Datalog; any other asks for entities.
pub fn parse(source: &str) -> Result<Query, QueryError> {
    let mut parser = Parser::new(source)?;
    let query = parser.query()?;
    parser.end()?;
    Ok(query)
}

/// Reads a path that stands alone, such as `author:user.age`.
pub fn parse_path(source: &str) -> Result<Path, QueryError> {
    let mut parser = Parser::new(source)?;
    let path = parser.path_among(false)?;
    parser.end()?;
    Ok(path)
}
