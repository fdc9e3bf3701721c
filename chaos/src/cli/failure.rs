//! What is told of a run that broke a rule, to people in lines and to programs in the same words.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::{child::Report, output};
use crate::{
    plan::Plan,
    run::Violation,
    timeline::{Timeline, text},
};

/// What `run --json` prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Findings {
    #[serde(flatten)]
    pub report: Report,
    /// Where a rule was broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Where it was broken, and a smaller run was looked for.
    #[serde(flatten)]
    pub shrunk: Shrunk,
}

/// How a rule came to be broken.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Failure {
    /// The sources: a seed means nothing on others.
    pub commit: String,
    /// The command.
    pub replay: String,
    /// All that went wrong, a line each.
    pub faults: Vec<String>,
    /// What happened around the violation, a line each.
    pub timeline: Vec<String>,
}

/// What came of looking for a smaller run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Shrunk {
    /// The smallest that breaks the same rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smallest: Option<Smallest>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_shrunk: Option<String>,
}

/// A small run that breaks the same rule.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Smallest {
    /// How much is left: `1 faults, 12.500 s, 3 hosts, 1 clients`.
    pub left: String,
    /// Runs that it took.
    pub runs: u32,
    /// Why there were no more.
    pub end: String,
    /// What names it on a command line.
    pub words: Vec<String>,
    /// Broken rules.
    pub violations: Vec<Violation>,
    /// How.
    pub failure: Failure,
}

impl Failure {
    pub(super) fn of(plan: &Plan, timeline: &Timeline, replay: &str) -> Self {
        Self {
            commit: output::commit(),
            replay: replay.to_owned(),
            faults: plan.faults.iter().map(ToString::to_string).collect(),
            timeline: text::around_violation(timeline),
        }
    }

    /// What went wrong, for a person.
    pub(super) fn faults(&self) -> Vec<String> {
        let faults = self.faults.iter().map(|fault| format!("  fault {fault}"));
        let none = self.faults.is_empty().then(|| "  no fault at all".to_owned());
        none.into_iter().chain(faults).collect()
    }
}

impl From<Result<Smallest, String>> for Shrunk {
    fn from(found: Result<Smallest, String>) -> Self {
        match found {
            Ok(smallest) => Self {
                smallest: Some(smallest),
                not_shrunk: None,
            },
            Err(why) => Self {
                smallest: None,
                not_shrunk: Some(why),
            },
        }
    }
}

impl Shrunk {
    /// For a person. Nothing where nothing was looked for.
    pub(super) fn lines(&self) -> Vec<String> {
        let why = self.not_shrunk.iter().map(|why| format!("  not made smaller: {why}"));
        let smallest = self.smallest.iter().flat_map(Smallest::lines);
        why.chain(smallest).collect()
    }
}

impl Smallest {
    /// For a person.
    pub(super) fn lines(&self) -> Vec<String> {
        let Self { left, runs, end, .. } = self;
        let head = format!("  smallest after {runs} runs: {left}; {end}");
        let violations = self.violations.iter().map(|violation| format!("  {violation}"));
        let timeline = self.failure.timeline.iter().cloned();
        let replay = format!("  replay: {}", self.failure.replay);
        let lines = [head].into_iter().chain(violations).chain(self.failure.faults());
        lines.chain([replay, String::new()]).chain(timeline).collect()
    }
}

/// How far a search is: nothing that a program reads on stdout.
pub(super) fn progress(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"{
        "seed": 7, "scenario": "swarm", "hash": "00", "events": 9, "kinds": {"fault": 2}, "simulated_ms": 9, "took_ms": 9,
        "reached": {}, "words": ["--seed", "7"], "faults": 2,
        "violations": [{"oracle": "durable", "what": "c1 lost a set", "at_ms": 9000}]
    }"#;

    fn failure(replay: &str, faults: &[&str]) -> Failure {
        Failure {
            commit: "0123abc".to_owned(),
            replay: replay.to_owned(),
            faults: faults.iter().map(|fault| (*fault).to_owned()).collect(),
            timeline: vec!["    h1".to_owned(), "9.000  X".to_owned()],
        }
    }

    fn findings() -> Findings {
        let mut findings: Findings = serde_json::from_str(REPORT).unwrap();
        assert!(findings.failure.is_none(), "a clean run has none");
        findings.failure = Some(failure(
            "chaos run --seed 7",
            &["#0 h1 loses power", "#1 h2 stands still"],
        ));
        findings.shrunk = Ok(Smallest {
            left: "0 faults, 9.500 s, 1 hosts, 1 clients".to_owned(),
            runs: 12,
            end: "the time is up".to_owned(),
            words: vec!["--faults".to_owned(), "none".to_owned()],
            violations: findings.report.violations.clone(),
            failure: failure("chaos run --seed 7 --faults none", &[]),
        })
        .into();
        findings
    }

    #[test]
    fn programs_are_told_what_people_are() {
        let told = serde_json::to_value(findings()).unwrap();
        assert_eq!(told["seed"], 7);
        assert_eq!(told["failure"]["faults"][1], "#1 h2 stands still");
        assert_eq!(
            told["smallest"]["failure"]["replay"],
            "chaos run --seed 7 --faults none"
        );
        assert_eq!(told["not_shrunk"], serde_json::Value::Null);
        let read: Findings = serde_json::from_value(told.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), told);
        let as_report: Report = serde_json::from_value(told).unwrap();
        assert_eq!(as_report.seed, 7, "a sweep reads the report alone");
    }

    #[test]
    fn what_is_left_is_told_with_the_command_and_the_timeline() {
        let expected = [
            "  smallest after 12 runs: 0 faults, 9.500 s, 1 hosts, 1 clients; the time is up",
            "  9.000 s  durable: c1 lost a set",
            "  no fault at all",
            "  replay: chaos run --seed 7 --faults none",
            "",
            "    h1",
            "9.000  X",
        ];
        assert_eq!(findings().shrunk.lines(), expected);
        let not = Shrunk::from(Err("the failure does not replay".to_owned()));
        assert_eq!(not.lines(), ["  not made smaller: the failure does not replay"]);
    }
}
