//! The tables of an outbox. A table's name ends in the version of its format.

use redb::TableDefinition;

/// Change sets in the order of their writes.
///
/// Key: the place. Value: the encoded set, which carries its client incarnation and number. Format version 1.
pub(super) const SETS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("sets-1");

/// Numbers about the outbox as a whole.
///
/// Key: a name. `stamped` and `accepted`: what the clock of a later incarnation starts from. `pushed`: the
/// largest timestamp that may have been pushed. `place`: the last place given out. Value: the number. Format version 1.
pub(super) const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers-1");

/// What nodes have confirmed of the entities that queries cover. [`crate::engine::Table::Facts`] says what key and value
/// are. Format version 1.
pub(super) const FACTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("facts-1");

/// Which entities each query covers: [`crate::engine::Table::Coverage`]. Format version 1.
pub(super) const COVERAGE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("coverage-1");

/// The queries, and the vectors that they show: [`crate::engine::Table::Queries`]. Format version 1.
pub(super) const QUERIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("queries-1");

/// What became of sets that a node has taken: [`crate::engine::Table::Written`]. Format version 1.
pub(super) const WRITTEN: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("written-1");
