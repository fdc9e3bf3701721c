//! Every table of the control plane's file, what its keys and values are.
//!
//! The name ends in the format. A new format is a new table and a step that fills it from the old one at start.

use redb::TableDefinition;

/// The Raft log. Key: the entry's index. Value: the entry ([`super::types::Entry`]) in postcard.
///
/// Keys only ever grow at the end, are cut off at the end (a new leader knows better) or at the start (a snapshot
/// covers them), so a commit touches the last page and its path.
pub(super) const LOG: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("log-1");

/// Single values. Key: `vote`, `purged`, `committed` or [`COMMITS`]. Value: in postcard, a vote for the first, a log id for
/// the next two; for the last the number, little-endian.
pub(super) const MARKS: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("marks-1");

/// How many commits there were in the file, this one included.
pub(super) const COMMITS: &str = "commits";
