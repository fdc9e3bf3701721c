//! How large a query may be. What answering one may cost is limited where it is answered.

/// Bytes of a query's text, or of its JSON. A person writes a few hundred; the rest is for long lists behind `in`.
pub const QUERY_BYTES_MAX: usize = 64 << 10;

/// How deep groups, negations and includes nest. Parsers and evaluators recurse that deep, in a browser's stack too.
pub const DEPTH_MAX: usize = 24;

/// Clauses of a query in all: patterns, calls, comparisons, groups. A planner looks at pairs of them.
pub const CLAUSES_MAX: usize = 256;

/// Rules of one query, each definition counted.
pub const DEFINITIONS_MAX: usize = 64;

/// Columns of a rule. Wider facts are entities.
pub const ARITY_MAX: usize = 16;

/// Columns of a table.
pub const COLUMNS_MAX: usize = 64;

/// Members of one object that are asked for by name.
pub const FIELDS_MAX: usize = 128;

/// Includes of a query in all. Each is a query of its own for every object around it.
pub const INCLUDES_MAX: usize = 32;

/// Steps of a path. Longer ways are rules.
pub const STEPS_MAX: usize = 8;

/// Keys of an order.
pub const ORDER_KEYS_MAX: usize = 8;

/// Values of an `in`.
pub const IN_VALUES_MAX: usize = 4_096;

/// The largest limit that can be asked for: more is no page but an export.
pub const LIMIT_MAX: u32 = 1_000_000;
