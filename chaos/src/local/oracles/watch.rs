//! A watcher missed nothing and invented nothing: what it put together equals a fresh read of its node, it was told
//! nothing that nobody wrote, and nothing twice.

use std::collections::BTreeSet;

use super::{Evidence, Violation};

const ORACLE: &str = "a watch misses and invents nothing";

/// See the module.
pub(super) fn judge(evidence: &Evidence) -> Vec<Violation> {
    let mut violations: Vec<Violation> = evidence.ledger.broken.iter().cloned().map(violation).collect();
    let repeated = evidence.ledger.repeated.iter();
    violations.extend(repeated.map(|tag| violation(format!("told twice: {tag}"))));
    let written: BTreeSet<&str> = evidence.ledger.written.iter().map(|w| w.marker.as_str()).collect();
    let invented = evidence
        .ledger
        .seen
        .keys()
        .filter(|(_, marker)| !written.contains(marker.as_str()));
    violations.extend(invented.map(|(place, marker)| violation(format!("n{} invented {marker}", place + 1))));
    for watched in &evidence.watched {
        let read = evidence
            .reads
            .iter()
            .find(|read| read.place == watched.place && read.tenant == watched.tenant);
        let Some(read) = read else {
            continue;
        };
        for subject in read
            .picture
            .keys()
            .chain(watched.picture.keys())
            .collect::<BTreeSet<_>>()
        {
            let (there, here) = (read.picture.get(subject), watched.picture.get(subject));
            if there != here {
                let (node, tenant) = (watched.place + 1, watched.tenant);
                let message = format!("n{node}, {tenant}/{subject}: a read shows {there:?}, the watcher {here:?}");
                violations.push(violation(message));
            }
        }
    }
    violations
}

fn violation(message: String) -> Violation {
    Violation {
        oracle: ORACLE,
        message,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::tests::check, *};

    #[test]
    fn a_gap_an_invention_and_a_repeat_are_found() {
        check(|run| drop(run.watched[0].picture.remove("a")), ORACLE, "n1");
        check(
            |run| {
                run.ledger.seen.insert((1, "other".to_owned()), Duration::ZERO);
            },
            ORACLE,
            "n2 invented other",
        );
        check(
            |run| {
                run.ledger.repeated.insert("t".to_owned());
            },
            ORACLE,
            "twice",
        );
        check(|run| run.ledger.broken.push("it ended".to_owned()), ORACLE, "it ended");
    }
}
