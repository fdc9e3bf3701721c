//! What clients did and saw, with times of one clock: all that the oracles judge by.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// What a change set does. The letter in its marker tells the kinds apart for a reader of the evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Brings an entity into being and marks it.
    Create,
    /// Sets another field of an entity that its writer made.
    Set,
    /// Adds an element to a set of such an entity.
    Add,
    /// Deletes such an entity.
    Delete,
    /// Writes to an entity that its writer has deleted: it must change nothing.
    Late,
    /// Marks one of a few entities that all writers share.
    Shared,
}

/// An acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Acknowledgement {
    /// When the writer heard it.
    pub(super) at: Duration,
    /// The number of the node that has it.
    pub(super) node: u64,
}

/// One change set.
#[derive(Debug, Clone)]
pub(super) struct Written {
    /// Unique in the run: in a value of the set, and in no other.
    pub(super) marker: String,
    /// See there.
    pub(super) kind: Kind,
    /// The entity.
    pub(super) subject: String,
    /// The tenant.
    pub(super) tenant: &'static str,
    /// Where its writer is.
    pub(super) place: usize,
    /// When it was handed to the client library.
    pub(super) at: Duration,
    /// `None`: not yet.
    pub(super) acknowledged: Option<Acknowledgement>,
    /// Why a node will never take it.
    pub(super) refused: Option<String>,
}

/// Everything that happened, in the order in which it was written.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    /// All change sets.
    pub(super) written: Vec<Written>,
    /// When the watcher at a place first saw a marker: readable there from then on.
    pub(super) seen: BTreeMap<(usize, String), Duration>,
    /// Tags that a watcher was given twice.
    pub(super) repeated: BTreeSet<String>,
    /// Watches that ended with an error.
    pub(super) broken: Vec<String>,
}

/// The ledger as tasks share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Book(Arc<Mutex<Ledger>>);

impl Book {
    /// Opens it for a moment.
    pub(super) fn open(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a change set and returns its place.
    pub(super) fn wrote(&self, written: Written) -> usize {
        let mut ledger = self.open();
        ledger.written.push(written);
        ledger.written.len() - 1
    }

    /// Change sets that are neither acknowledged nor refused.
    pub(super) fn waiting(&self) -> usize {
        let ledger = self.open();
        let waits = |written: &&Written| written.acknowledged.is_none() && written.refused.is_none();
        ledger.written.iter().filter(waits).count()
    }
}

impl Ledger {
    /// Change sets to a tenant.
    pub(super) fn of<'a>(&'a self, tenant: &'a str) -> impl Iterator<Item = &'a Written> + 'a {
        self.written.iter().filter(move |written| written.tenant == tenant)
    }

    /// Acknowledged marks of entities that nobody deletes: each stays readable under its marker for good, so that its
    /// absence anywhere is lag or loss and never a later write.
    pub(super) fn lasting<'a>(&'a self, tenant: &'a str) -> impl Iterator<Item = (&'a Written, Acknowledgement)> + 'a {
        let deleted: BTreeSet<&str> = self
            .of(tenant)
            .filter(|written| written.kind == Kind::Delete)
            .map(|written| written.subject.as_str())
            .collect();
        self.of(tenant)
            .filter(move |written| written.kind == Kind::Create && !deleted.contains(written.subject.as_str()))
            .filter_map(|written| Some((written, written.acknowledged?)))
    }

    /// The longest time within `[from, to]` in which no writer at `place` was acknowledged, and how many were.
    pub(super) fn stretch(&self, place: usize, from: Duration, to: Duration) -> (Duration, usize) {
        let mut times: Vec<Duration> = self
            .written
            .iter()
            .filter(|written| written.place == place)
            .filter_map(|written| Some(written.acknowledged?.at))
            .filter(|at| (from..=to).contains(at))
            .collect();
        times.sort_unstable();
        let count = times.len();
        let mut longest = Duration::ZERO;
        let mut before = from;
        for at in times.into_iter().chain([to]) {
            longest = longest.max(at.saturating_sub(before));
            before = at;
        }
        (longest, count)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A change set of writer 0 at place 0, acknowledged by node 1 after 10 ms.
    pub(crate) fn written(kind: Kind, subject: &str, marker: &str, at: u64) -> Written {
        Written {
            marker: marker.to_owned(),
            kind,
            subject: subject.to_owned(),
            tenant: "everywhere",
            place: 0,
            at: Duration::from_millis(at),
            acknowledged: Some(Acknowledgement {
                at: Duration::from_millis(at + 10),
                node: 1,
            }),
            refused: None,
        }
    }

    #[test]
    fn the_longest_stretch_counts_the_edges() {
        let mut ledger = Ledger::default();
        for at in [100, 200, 900] {
            ledger.written.push(written(Kind::Create, "e", "m", at));
        }
        let ms = Duration::from_millis;
        assert_eq!(ledger.stretch(0, ms(0), ms(1_000)), (ms(700), 3));
        assert_eq!(ledger.stretch(0, ms(0), ms(5_000)), (ms(4_090), 3));
        assert_eq!(ledger.stretch(1, ms(0), ms(1_000)), (ms(1_000), 0));
    }

    #[test]
    fn a_deleted_entity_does_not_last() {
        let mut ledger = Ledger::default();
        ledger.written.push(written(Kind::Create, "a", "1", 0));
        ledger.written.push(written(Kind::Create, "b", "2", 0));
        ledger.written.push(written(Kind::Delete, "a", "3", 50));
        let lasting: Vec<&str> = ledger.lasting("everywhere").map(|(w, _)| w.subject.as_str()).collect();
        assert_eq!(lasting, ["b"]);
    }
}
