//! `chaos shrink`: from a seed that fails to the little that makes it fail.

use std::process::ExitCode;

use clap::Args;

use super::{
    PlanArgs,
    child::{self, Report},
    output::line,
};
use crate::{
    plan::time::Millis,
    shrink::{self, Candidate, Outcome, RUNS_MAX},
};

#[derive(Debug, Args)]
pub(super) struct ShrinkArgs {
    #[command(flatten)]
    plan: PlanArgs,
    /// Runs that it may take
    #[arg(long, default_value_t = RUNS_MAX)]
    runs: u32,
}

pub(super) fn run(args: &ShrinkArgs) -> Result<ExitCode, String> {
    let plan = args.plan.plan()?;
    let first = child::run(&args.plan, &[])?;
    let Some(violation) = first.violations.first() else {
        line(format_args!("seed {} is clean: nothing to shrink", first.seed));
        return Ok(ExitCode::SUCCESS);
    };
    line(format_args!("seed {}: {violation}", first.seed));
    let whole = Candidate::whole(&plan);
    let class = violation.oracle.clone();
    let shrunk = shrink::shrink(
        &whole,
        &class,
        args.runs,
        |candidate| outcome(&args.plan, candidate, &whole, candidate.of(&plan).is_some()),
        |progress| {
            if progress.same {
                line(format_args!("  after {} runs: {}", progress.runs, progress.tried));
            }
        },
    );
    let shrunk = shrunk.map_err(|error| error.to_string())?;
    let words = args.plan.smaller(&shrunk.smallest, &whole).words();
    line(format_args!("smallest after {} runs: {}", shrunk.runs, shrunk.smallest));
    if let Some(smallest) = shrunk.smallest.of(&plan) {
        for fault in &smallest.faults {
            line(format_args!("  fault {fault}"));
        }
    }
    line(format_args!("  replay: chaos run {} --timeline", words.join(" ")));
    Ok(ExitCode::FAILURE)
}

fn outcome(args: &PlanArgs, candidate: &Candidate, whole: &Candidate, is_possible: bool) -> Outcome<String> {
    if !is_possible {
        return Outcome::Impossible;
    }
    match child::run(&args.smaller(candidate, whole), &[]) {
        Ok(Report { violations, .. }) => {
            violations
                .into_iter()
                .next()
                .map_or(Outcome::Clean, |first| Outcome::Violated {
                    class: first.oracle,
                    at: Some(Millis(first.at_ms)),
                })
        }
        Err(_) => Outcome::Impossible,
    }
}
