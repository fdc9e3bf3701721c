//! What must hold, judged from outside by what clients did and saw. One file each, all pure.

mod agreement;
mod availability;
mod deletion;
mod durability;
mod placement;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;

use super::{
    ledger::{Kind, Ledger},
    strike::Happened,
    watcher::Picture,
};

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    /// The oracle.
    pub(super) oracle: &'static str,
    /// What it found.
    pub(super) message: String,
}

/// What a node or a watcher shows of a tenant at the end.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    /// The node's place.
    pub(super) place: usize,
    /// See there.
    pub(super) tenant: &'static str,
    /// See there.
    pub(super) picture: Picture,
}

/// All that a run knows at its end.
#[derive(Debug, Clone, Default)]
pub(super) struct Evidence {
    /// See there.
    pub(super) ledger: Ledger,
    /// Every replica of every tenant, read through that replica alone.
    pub(super) reads: Vec<Shown>,
    /// Every watcher.
    pub(super) watched: Vec<Shown>,
    /// What `halcyon verify` said of each tenant.
    pub(super) verdicts: BTreeMap<&'static str, Value>,
    /// What was done.
    pub(super) faults: Vec<Happened>,
    /// Files of nodes outside a tenant's placement that hold one of its markers.
    pub(super) strays: Vec<String>,
    /// Nodes that are members at the end, by place, and the numbers under which the cluster knows them.
    pub(super) members: BTreeMap<usize, u64>,
    /// When the load began and when it was told to stop.
    pub(super) load: (Duration, Duration),
}

/// Asks every oracle.
pub(super) fn judge(evidence: &Evidence) -> Vec<Violation> {
    let oracles: [fn(&Evidence) -> Vec<Violation>; 6] = [
        durability::judge,
        agreement::judge,
        deletion::judge,
        watch::judge,
        availability::judge,
        placement::judge,
    ];
    oracles.iter().flat_map(|oracle| oracle(evidence)).collect()
}

/// What must show of the entities that one writer alone wrote, by its acknowledgements in their order. Entities with a
/// change set of unknown fate are left out.
fn expected(ledger: &Ledger, tenant: &'static str) -> Picture {
    let mut picture = Picture::new();
    let mut deleted = BTreeSet::new();
    let mut unknown = BTreeSet::new();
    for written in ledger.of(tenant).filter(|written| written.kind != Kind::Shared) {
        let subject = written.subject.as_str();
        if written.acknowledged.is_none() {
            unknown.insert(subject);
            continue;
        }
        let field = match written.kind {
            Kind::Create => super::workload::MARK,
            Kind::Set => super::workload::RANK,
            Kind::Add => super::workload::TAGS,
            Kind::Delete => {
                deleted.insert(subject);
                continue;
            }
            Kind::Late | Kind::Shared => continue,
        };
        let values = picture.entry(subject.to_owned()).or_default();
        let values = values.entry(field.to_owned()).or_default();
        if written.kind != Kind::Add {
            values.clear();
        }
        values.insert(written.marker.clone());
    }
    picture.retain(|subject, _| !deleted.contains(subject.as_str()) && !unknown.contains(subject.as_str()));
    picture
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::ledger::{Written, tests::written};

    /// A healthy run: entity `a` with all its fields, entity `b` deleted, both shown everywhere.
    pub(super) fn healthy() -> Evidence {
        let mut evidence = Evidence {
            load: (Duration::ZERO, Duration::from_secs(1)),
            members: BTreeMap::from([(0, 1), (1, 2)]),
            ..Evidence::default()
        };
        evidence.ledger.written = vec![
            written(Kind::Create, "a", "m1", 100),
            written(Kind::Set, "a", "m2", 200),
            written(Kind::Set, "a", "m3", 300),
            written(Kind::Add, "a", "m4", 400),
            written(Kind::Create, "b", "m5", 500),
            written(Kind::Delete, "b", "m6", 600),
            written(Kind::Late, "b", "m7", 700),
        ];
        let picture = expected(&evidence.ledger, "everywhere");
        for place in 0..2 {
            let shown = Shown {
                place,
                tenant: "everywhere",
                picture: picture.clone(),
            };
            evidence.reads.push(shown.clone());
            evidence.watched.push(shown);
            for marker in ["m1", "m2", "m3", "m4", "m5"] {
                let seen = (place, marker.to_owned());
                evidence.ledger.seen.insert(seen, Duration::from_millis(900));
            }
        }
        let replica = |node: u64| serde_json::json!({ "node": node, "error": "", "exact": true, "fingerprint": "f" });
        let verdict = serde_json::json!({ "agree": true, "verdict": "equal", "replicas": [replica(1), replica(2)] });
        evidence.verdicts.insert("everywhere", verdict);
        evidence
    }

    /// What the oracles say about a healthy run after `break_it`.
    #[track_caller]
    pub(super) fn check(break_it: impl FnOnce(&mut Evidence), oracle: &str, word: &str) {
        let mut evidence = healthy();
        assert_eq!(judge(&evidence), [], "the healthy run is judged broken");
        break_it(&mut evidence);
        let violations = judge(&evidence);
        let found = violations
            .iter()
            .any(|violation| violation.oracle == oracle && violation.message.contains(word));
        assert!(found, "no `{oracle}` says `{word}`: {violations:?}");
    }

    #[test]
    fn what_must_show_follows_from_the_acknowledgements() {
        let picture = expected(&healthy().ledger, "everywhere");
        assert_eq!(picture.keys().collect::<Vec<_>>(), ["a"]);
        let shown: Vec<String> = picture["a"].values().flatten().cloned().collect();
        assert_eq!(shown, ["m1", "m3", "m4"]);
        let mut ledger = healthy().ledger;
        let lost: &mut Written = &mut ledger.written[2];
        lost.acknowledged = None;
        assert!(
            expected(&ledger, "everywhere").is_empty(),
            "an unknown fate demands nothing"
        );
    }
}
