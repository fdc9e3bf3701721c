//! A run in a process of its own, and its report.

use std::{
    collections::BTreeMap,
    process::{Command, Output, Stdio},
};

use serde::{Deserialize, Serialize};

use super::{PlanArgs, patience::Patience};
use crate::run::{Outcome, Violation};

/// What `run --json` prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Report {
    /// Of the run.
    pub seed: u64,
    /// Its name.
    pub scenario: String,
    /// Broken rules.
    pub violations: Vec<Violation>,
    /// Of everything that happened.
    pub hash: String,
    /// How much happened.
    pub events: u64,
    /// How much of each kind.
    pub kinds: BTreeMap<String, u64>,
    /// Simulated.
    pub simulated_ms: u64,
    /// Real.
    pub took_ms: u64,
    /// How often each marked or rare path was met.
    pub reached: BTreeMap<String, u64>,
    /// What names the run on a command line.
    pub words: Vec<String>,
    /// Faults of the plan.
    pub faults: usize,
}

impl Report {
    pub(super) fn of(args: &PlanArgs, faults: usize, outcome: &Outcome) -> Self {
        let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            seed: args.seed,
            scenario: args.scenario.clone(),
            violations: outcome.violations.clone(),
            hash: format!("{:016x}", outcome.trace.hash),
            events: outcome.trace.count,
            kinds: outcome
                .trace
                .kinds
                .iter()
                .map(|(kind, count)| ((*kind).to_owned(), *count))
                .collect(),
            reached: outcome
                .reached
                .iter()
                .map(|(path, count)| ((*path).to_owned(), *count))
                .collect(),
            words: args.words(),
            simulated_ms: millis(outcome.simulated),
            took_ms: millis(outcome.took),
            faults,
        }
    }
}

/// Runs a plan in a process of its own.
pub(super) fn run(args: &PlanArgs, more: &[&str]) -> Result<Report, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program cannot be started again: {error}"))?;
    let output = Command::new(program)
        .args(["run", "--json"])
        .args(args.words())
        .args(more)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("a run cannot be started: {error}"))?;
    read(args, &output)
}

/// The same, as long as there is patience; nothing where there is none any more.
pub(super) fn run_within(args: &PlanArgs, patience: &mut Patience) -> Option<Result<Report, String>> {
    let words = ["run", "--json"].map(str::to_owned).into_iter().chain(args.words());
    let output = patience.output(&words.collect::<Vec<_>>())?;
    Some(match output {
        Ok(output) => read(args, &output),
        Err(error) => Err(format!("a run cannot be started: {error}")),
    })
}

fn read(args: &PlanArgs, output: &Output) -> Result<Report, String> {
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!(
            "the run of seed {} ended without a report ({}): {said}",
            args.seed, output.status
        )
    })
}
