//! For tests, here and in other crates: data written as text, and random schemas, data and queries.

pub mod blog;
pub mod choices;
pub mod datalog;
pub mod entities;
pub mod schema;
pub mod sql;
#[cfg(test)]
mod sqlite;

use self::{
    choices::Choices,
    datalog::Features,
    schema::{Schema, data, schema},
};
use super::{
    ast::{
        Query,
        datalog::{ClauseKind, PredicatePattern, Term},
    },
    text,
};
use crate::collections::BTreeSet;
use crate::{
    id::{EntityId, Predicate},
    value::Value,
};

/// A triple.
pub type Triple = (EntityId, Predicate, Value);

/// A schema, data over it, and a query on it.
#[derive(Debug)]
pub struct Case {
    /// The schema.
    pub schema: Schema,
    /// The data.
    pub triples: BTreeSet<Triple>,
    /// The query, in either form; it passes all checks.
    pub query: Query,
}

/// A random case. What the features leave out is not in its query.
pub fn case(features: Features, choices: &mut Choices<'_>) -> Case {
    let schema = schema(choices);
    let query = match choices.below(3) {
        2 => entities::query(&schema, features, choices),
        _ => datalog::query(&schema, features, choices),
    };
    let triples = data(&schema, TRIPLES, choices);
    Case { schema, triples, query }
}

/// Triples of a case: enough for joins to find something, few enough for nested loops.
const TRIPLES: usize = 30;

/// How many random cases to try: `PROPTEST_CASES` if it is set, or else so many.
pub fn cases(default: u32) -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|cases| cases.parse().ok()).unwrap_or(default)
}

/// Triples from lines such as `@p1 post/title "Rust"`. Panics at whatever is no triple.
pub fn triples(lines: &str) -> Vec<Triple> {
    let read = |line: &str| {
        let query = text::parse(&format!("find ?x where {line}")).unwrap_or_else(|error| panic!("{line}: {error}"));
        let Query::Datalog(query) = query else {
            panic!("{line}: no triple")
        };
        let clause = query.clauses.into_iter().next().map(|clause| clause.kind);
        match clause {
            Some(ClauseKind::Triple {
                subject: Term::Constant(subject),
                predicate: PredicatePattern::Is(predicate),
                object: Term::Constant(object),
            }) => match subject.value {
                Value::Ref(subject) => (subject, predicate, object.value),
                _ => panic!("{line}: the subject is no entity"),
            },
            _ => panic!("{line}: no triple"),
        }
    };
    lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(read)
        .collect()
}
