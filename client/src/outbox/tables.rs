//! The tables of an outbox. A table's name ends in the version of its format.

use redb::TableDefinition;

/// Change sets in the order of their writes.
///
/// Key: the place. Value: the encoded set, which carries its client incarnation and number. Format version 1.
pub(super) const SETS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("sets-1");

/// Numbers about the outbox as a whole.
///
/// Key: a name. `stamped` and `accepted`: what the clock of a later incarnation starts from. `place`: the last place
/// given out. Value: the number. Format version 1.
pub(super) const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers-1");
