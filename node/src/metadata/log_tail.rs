//! The newest entries of the Raft log, in memory: replication and apply read them here, before they are on disk too.

use std::{
    collections::BTreeMap,
    ops::{Bound, RangeBounds},
};

use openraft::entry::RaftEntry;

use super::{
    limits::LOG_TAIL_BYTES,
    types::{Entry, LogId},
};

/// Entries with the bytes that each takes on disk, and the places that the log knows of itself.
///
/// Invariant: an entry of the log that is not in `entries` is on disk.
#[derive(Debug, Default)]
pub(super) struct Tail {
    entries: BTreeMap<u64, (Entry, usize)>,
    bytes: usize,
    /// All entries up to this one are on disk.
    written: u64,
    last: Option<LogId>,
    purged: Option<LogId>,
    committed: Option<LogId>,
    /// The committed place on disk is older.
    committed_unwritten: bool,
}

impl Tail {
    /// What the disk knows. The committed place there may be that of an entry which a quorum held when this disk did not
    /// yet: only what is here can be applied again, and the leader sends the rest.
    pub(super) fn opened(last: Option<LogId>, purged: Option<LogId>, committed: Option<LogId>) -> Self {
        Self {
            written: last.map_or(0, |place| place.index()),
            last,
            purged,
            committed: committed.min(last),
            ..Self::default()
        }
    }

    pub(super) fn push(&mut self, entry: Entry, bytes: usize) {
        let place = entry.log_id();
        if self.last.is_none_or(|last| last.index() <= place.index()) {
            self.last = Some(place);
        }
        self.bytes += bytes;
        if let Some((_, replaced)) = self.entries.insert(place.index(), (entry, bytes)) {
            self.bytes -= replaced;
        }
    }

    /// The entries up to `index` are on disk: the oldest may leave.
    pub(super) fn written_to(&mut self, index: u64) {
        self.written = self.written.max(index);
        while self.bytes > LOG_TAIL_BYTES
            && let Some(oldest) = self.entries.first_entry()
            && *oldest.key() <= self.written
        {
            self.bytes -= oldest.remove().1;
        }
    }

    /// The entries from `index` on are gone from the disk.
    pub(super) fn cut_from(&mut self, index: u64) {
        self.written = self.written.min(index.saturating_sub(1));
    }

    /// The entries after `last` are no longer in the log.
    pub(super) fn truncate_after(&mut self, last: Option<LogId>) {
        let cut = self.entries.split_off(&last.map_or(0, |last| last.index() + 1));
        self.bytes -= cut.values().map(|(_, bytes)| bytes).sum::<usize>();
        // A log that ends before that place stays as it is.
        if self.last.map(|own| own.index()) > last.map(|last| last.index()) {
            self.last = last;
        }
    }

    /// The entries up to `place` are no longer in the log.
    pub(super) fn purge(&mut self, place: LogId) {
        let kept = self.entries.split_off(&(place.index() + 1));
        let purged = std::mem::replace(&mut self.entries, kept);
        self.bytes -= purged.values().map(|(_, bytes)| bytes).sum::<usize>();
        self.purged = self.purged.max(Some(place));
    }

    /// The last place of the log, and up to which it is purged.
    pub(super) fn state(&self) -> (Option<LogId>, Option<LogId>) {
        (self.last.max(self.purged), self.purged)
    }

    /// The part of `range` that only the disk has.
    pub(super) fn not_here(&self, range: (Bound<u64>, Bound<u64>)) -> (Bound<u64>, Bound<u64>) {
        let Some(first) = self.entries.keys().next() else {
            return range;
        };
        let ends_before = match range.1 {
            Bound::Included(end) => end < *first,
            Bound::Excluded(end) => end <= *first,
            Bound::Unbounded => false,
        };
        (range.0, if ends_before { range.1 } else { Bound::Excluded(*first) })
    }

    /// Adds the entries of `range` that are here to `found`, until `bytes_left` is used up. One always fits.
    pub(super) fn read(&self, range: (Bound<u64>, Bound<u64>), mut bytes_left: usize, found: &mut Vec<Entry>) {
        for (_, (entry, bytes)) in self.entries.range(range) {
            if *bytes > bytes_left && !found.is_empty() {
                return;
            }
            bytes_left = bytes_left.saturating_sub(*bytes);
            found.push(entry.clone());
        }
    }

    pub(super) fn committed(&self) -> Option<LogId> {
        self.committed
    }

    pub(super) fn commit(&mut self, place: Option<LogId>) {
        self.committed_unwritten |= self.committed != place;
        self.committed = place;
    }

    pub(super) fn is_unwritten(&self) -> bool {
        self.committed_unwritten
    }

    pub(super) fn take_unwritten(&mut self) -> Option<LogId> {
        let unwritten = std::mem::take(&mut self.committed_unwritten);
        self.committed.filter(|_| unwritten)
    }

    /// The commit that took it along has failed.
    pub(super) fn put_back_unwritten(&mut self, place: Option<LogId>) {
        self.committed_unwritten |= place.is_some();
    }
}

/// Whether a range holds nothing. The maps below would panic on one that ends before it starts.
pub(super) fn is_empty(range: &impl RangeBounds<u64>) -> bool {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    match range.end_bound() {
        Bound::Included(end) => *end < start,
        Bound::Excluded(end) => *end <= start,
        Bound::Unbounded => false,
    }
}
