//! A query as a subscription names it.

use halcyon_core::query::{self, logic::Query};
use xxhash_rust::xxh3::xxh3_128;

/// Reads a query: JSON if it begins with a brace, else text. An error is for people, with the place.
pub fn read(source: &str) -> Result<Query, String> {
    query::read(source).map_err(|error| error.render(source))
}

/// Equal for queries that mean the same by the same clauses, whatever their variables are called.
pub(super) fn key_of(query: &Query) -> u128 {
    xxh3_128(format!("{:?} {:?}", query.rules, query.select).as_bytes())
}
