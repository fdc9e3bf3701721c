//! The data plane answers in a region whose own node serves, cut off from the quorum or not; and every region is served
//! by a node of its own again once the fault is over.

use super::{Evidence, Violation};
use crate::local::{limits::STRETCH_MAX, links::region_of};

const ORACLE: &str = "a region that is cut off answers";

/// See the module.
pub(super) fn judge(evidence: &Evidence) -> Vec<Violation> {
    let helped = evidence.faults.iter().filter_map(|fault| fault.helped.clone());
    let mut violations: Vec<Violation> = helped.map(violation).collect();
    for fault in evidence.faults.iter().filter(|fault| fault.kind.node_serves()) {
        for (place, _) in writing(evidence) {
            let (longest, count) = evidence.ledger.stretch(place, fault.began, fault.healed);
            if longest > STRETCH_MAX {
                let (region, name, what) = (region_of(place), fault.kind.name(), &fault.what);
                let message = format!(
                    "{region}: {longest:.1?} without an acknowledged write during `{name}` ({what}), {count} in all"
                );
                violations.push(violation(message));
            }
        }
        let own = evidence.members.get(&fault.node).copied();
        let during = evidence.ledger.written.iter().filter(|written| {
            let told = written.acknowledged.filter(|told| Some(told.node) == own);
            written.place == fault.node && told.is_some_and(|told| (fault.began..=fault.healed).contains(&told.at))
        });
        if during.count() == 0 {
            let name = fault.kind.name();
            let message = format!("n{} took no write of its region during `{name}`", fault.node + 1);
            violations.push(violation(message));
        }
    }
    let Some(healed) = evidence.faults.iter().map(|fault| fault.healed).max() else {
        return violations;
    };
    for (place, number) in writing(evidence) {
        let taken = evidence.ledger.written.iter().any(|written| {
            let told = written.acknowledged.filter(|told| told.node == number);
            written.place == place && told.is_some_and(|told| told.at > healed)
        });
        if !taken {
            let region = region_of(place);
            let message = format!("after the last fault n{} took no more write of {region}", place + 1);
            violations.push(violation(message));
        }
    }
    violations
}

/// Members beside which somebody writes.
fn writing(evidence: &Evidence) -> impl Iterator<Item = (usize, u64)> + '_ {
    let members = evidence.members.iter().map(|(place, number)| (*place, *number));
    members.filter(|(place, _)| evidence.ledger.written.iter().any(|written| written.place == *place))
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
    use crate::local::{scenario::Kind, strike::Happened};

    fn partition(began: u64, healed: u64) -> Happened {
        Happened {
            kind: Kind::Partition,
            node: 0,
            what: "cut".to_owned(),
            began: Duration::from_millis(began),
            healed: Duration::from_millis(healed),
            helped: None,
        }
    }

    #[test]
    fn a_region_that_falls_silent_is_found() {
        check(
            |run| run.faults.push(partition(100, 9_000)),
            ORACLE,
            "without an acknowledged write",
        );
        check(
            |run| run.faults.push(partition(2_000, 3_000)),
            ORACLE,
            "took no write of its region",
        );
        check(|run| run.faults.push(partition(0, 800)), ORACLE, "took no more write");
        let mut fault = partition(100, 600);
        fault.helped = Some("n1 had to be helped".to_owned());
        check(|run| run.faults.push(fault), ORACLE, "n1 had to be helped");
    }

    #[test]
    fn a_region_that_goes_on_is_fine() {
        let mut evidence = super::super::tests::healthy();
        evidence.faults.push(partition(100, 600));
        assert_eq!(judge(&evidence), []);
    }
}
