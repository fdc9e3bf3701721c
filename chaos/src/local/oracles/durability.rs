//! What was acknowledged is readable on every replica, and every write is answered once all is healed.

use super::{Evidence, Violation, expected};

const ORACLE: &str = "acknowledged is durable";

/// See the module.
pub(super) fn judge(evidence: &Evidence) -> Vec<Violation> {
    let mut violations = Vec::new();
    for written in &evidence.ledger.written {
        let told = match (&written.acknowledged, &written.refused) {
            (_, Some(reason)) => format!("{} was refused: {reason}", written.marker),
            (None, None) => format!("{} was never answered", written.marker),
            (Some(_), None) => continue,
        };
        violations.push(violation(format!("{told} (written at {:.3?})", written.at)));
    }
    for read in &evidence.reads {
        for (subject, fields) in expected(&evidence.ledger, read.tenant) {
            let shown = read.picture.get(&subject);
            if shown != Some(&fields) {
                let message = format!(
                    "{}/{subject} on n{}: expected {fields:?}, found {shown:?}",
                    read.tenant,
                    read.place + 1
                );
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
    use super::{super::tests::check, *};

    #[test]
    fn a_lost_value_an_old_value_and_a_silent_write_are_found() {
        check(|run| drop(run.reads[1].picture.remove("a")), ORACLE, "on n2");
        check(
            |run| {
                let fields = run.reads[0].picture.get_mut("a").unwrap();
                fields.insert("note/rank".to_owned(), ["m2".to_owned()].into());
            },
            ORACLE,
            "m3",
        );
        check(
            |run| run.ledger.written[0].acknowledged = None,
            ORACLE,
            "never answered",
        );
        check(
            |run| run.ledger.written[0].refused = Some("no".to_owned()),
            ORACLE,
            "refused",
        );
    }
}
