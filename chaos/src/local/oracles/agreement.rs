//! All replicas hold the same: by their own fingerprints, and by what a read of each shows.

use super::{Evidence, Violation};

const ORACLE: &str = "replicas converge";

/// See the module.
pub(super) fn judge(evidence: &Evidence) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (tenant, verdict) in &evidence.verdicts {
        if verdict["agree"] != true {
            let message = format!(
                "`halcyon verify` of {tenant}: {} {}",
                verdict["verdict"], verdict["replicas"]
            );
            violations.push(violation(message));
        }
        let replicas = verdict["replicas"].as_array().cloned().unwrap_or_default();
        let mut fingerprints: Vec<String> = replicas
            .iter()
            .map(|replica| replica["fingerprint"].to_string())
            .collect();
        fingerprints.sort();
        fingerprints.dedup();
        let read = evidence.reads.iter().filter(|read| read.tenant == *tenant).count();
        if fingerprints.len() != 1 || replicas.len() != read {
            let message = format!("{tenant}: {read} replicas were read, their fingerprints are {fingerprints:?}");
            violations.push(violation(message));
        }
    }
    for read in &evidence.reads {
        let first = evidence.reads.iter().find(|first| first.tenant == read.tenant);
        let differing = first.and_then(|first| {
            let mut subjects = first.picture.keys().chain(read.picture.keys());
            let found = subjects.find(|subject| first.picture.get(*subject) != read.picture.get(*subject));
            found.map(|subject| (first.place, subject))
        });
        if let Some((place, subject)) = differing {
            let message = format!(
                "n{} and n{} show {}/{subject} differently",
                place + 1,
                read.place + 1,
                read.tenant
            );
            violations.push(violation(message));
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
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::{super::tests::check, *};

    #[test]
    fn differing_fingerprints_and_pictures_are_found() {
        let set = |run: &mut Evidence, path: &str, value| {
            *run.verdicts.get_mut("everywhere").unwrap().pointer_mut(path).unwrap() = value;
        };
        check(|run| set(run, "/agree", json!(false)), ORACLE, "verify");
        check(
            |run| set(run, "/replicas/1/fingerprint", json!("g")),
            ORACLE,
            "fingerprints",
        );
        check(|run| set(run, "/replicas", json!([])), ORACLE, "fingerprints");
        check(
            |run| drop(run.reads[1].picture.insert("shared-1".to_owned(), BTreeMap::default())),
            ORACLE,
            "differently",
        );
    }
}
