//! Queries: two ways to write them, one meaning.
//!
//! `core/docs/query.md` has the grammars and the meaning of everything. A query is written as text, as JSON or with a
//! builder, in a Datalog form or in an entity form; all become the logical form ([`logic`]), which evaluators answer.

pub mod answer;
pub mod ast;
pub mod build;
pub mod error;
pub mod json;
pub mod limits;
pub mod logic;
pub mod lower;
pub mod naive;
pub mod place;
pub mod sum;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod text;

#[cfg(test)]
mod tests;
