//! A tenant's values never reach the disk or the log of a node outside its placement.

use super::{Evidence, Violation};

const ORACLE: &str = "data stays in its placement";

/// See the module.
pub(super) fn judge(evidence: &Evidence) -> Vec<Violation> {
    let strays = evidence.strays.iter();
    strays
        .map(|stray| Violation {
            oracle: ORACLE,
            message: stray.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::check, *};

    #[test]
    fn a_stray_value_is_found() {
        check(|run| run.strays.push("a file".to_owned()), ORACLE, "a file");
    }
}
