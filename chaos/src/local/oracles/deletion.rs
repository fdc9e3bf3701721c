//! Deleted stays deleted: no field of a deleted entity shows anywhere, whatever was written to it before or after.

use super::{Evidence, Kind, Violation};

const ORACLE: &str = "deleted stays deleted";

/// See the module.
pub(super) fn judge(evidence: &Evidence) -> Vec<Violation> {
    let mut violations = Vec::new();
    for shown in evidence.reads.iter().chain(&evidence.watched) {
        let deleted = evidence
            .ledger
            .of(shown.tenant)
            .filter(|written| written.kind == Kind::Delete && written.acknowledged.is_some());
        for written in deleted {
            if let Some(fields) = shown.picture.get(&written.subject) {
                let (tenant, subject, node) = (shown.tenant, &written.subject, shown.place + 1);
                let message = format!("{tenant}/{subject} is back on n{node}: {fields:?}");
                violations.push(Violation {
                    oracle: ORACLE,
                    message,
                });
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{super::tests::check, *};

    #[test]
    fn an_entity_that_came_back_is_found() {
        check(
            |run| drop(run.reads[1].picture.insert("b".to_owned(), BTreeMap::default())),
            ORACLE,
            "b is back on n2",
        );
    }
}
