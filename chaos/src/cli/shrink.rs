//! `chaos shrink`: from a seed that fails to the little that makes it fail.
//!
//! Every run that it tries is told, with what came of it, in words that replay it; a bar shows how far it is.

use std::{collections::BTreeMap, process::ExitCode};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    PlanArgs,
    child::{self, Report},
    output::line,
};
use crate::{
    plan::time::Millis,
    shrink::{self, Aim, Candidate, Outcome, Progress, RUNS_MAX, Shrunk},
};

#[derive(Debug, Args)]
pub(super) struct ShrinkArgs {
    #[command(flatten)]
    plan: PlanArgs,
    /// Runs that it may take
    #[arg(long, default_value_t = RUNS_MAX)]
    runs: u32,
    /// With this known bug put back (`chaos mutants`); only in a build with the feature `mutants`
    #[arg(long)]
    mutant: Option<String>,
}

/// Runs, and those of them that failed in the same way.
type Tried = BTreeMap<Aim, (u32, u32)>;

pub(super) fn run(args: &ShrinkArgs) -> Result<ExitCode, String> {
    let plan = args.plan.plan()?;
    let first = child::run(&args.plan, &args.more())?;
    let Some(violation) = first.violations.first() else {
        line(format_args!("seed {} is clean: nothing to shrink", first.seed));
        return Ok(ExitCode::SUCCESS);
    };
    line(format_args!("seed {}: {violation}", first.seed));
    let whole = Candidate::whole(&plan);
    let class = violation.oracle.clone();
    let bar = bar(args.runs)?;
    let mut tried = Tried::new();
    let shrunk = shrink::shrink(
        &whole,
        &class,
        args.runs,
        |candidate| {
            bar.set_message(format!("now {candidate}"));
            args.outcome(candidate, &whole, candidate.of(&plan).is_some())
        },
        |progress| {
            let (runs, same) = tried.entry(progress.aim).or_default();
            (*runs, *same) = (*runs + 1, *same + u32::from(progress.same));
            bar.set_position(progress.runs.into());
            // A bar is drawn for terminals only; what was tried is told to everybody.
            bar.suspend(|| line(told(progress, &whole)));
        },
    );
    bar.finish_and_clear();
    let shrunk = shrunk.map_err(|error| error.to_string())?;
    line(summary(&shrunk, &tried));
    if let Some(smallest) = shrunk.smallest.of(&plan) {
        for fault in &smallest.faults {
            line(format_args!("  fault {fault}"));
        }
    }
    let words = args.plan.smaller(&shrunk.smallest, &whole).words();
    let mutant = args.more().join(" ");
    line(
        format_args!("  replay: chaos run {} --timeline {mutant}", words.join(" "))
            .to_string()
            .trim_end(),
    );
    Ok(ExitCode::FAILURE)
}

fn bar(runs: u32) -> Result<ProgressBar, String> {
    let bar = ProgressBar::new(runs.into());
    let style = "{bar:30} {pos} of at most {len} runs, {elapsed} gone  {msg}";
    bar.set_style(ProgressStyle::with_template(style).map_err(|error| error.to_string())?);
    Ok(bar)
}

/// One run: what was left of the plan, and what came of it.
fn told(progress: &Progress<'_, String>, whole: &Candidate) -> String {
    let words = progress.tried.arguments(whole);
    let tried = if words.is_empty() { "the whole plan" } else { &words };
    let came = match progress.outcome {
        Outcome::Violated { .. } if progress.same => format!("fails in the same way: {}", progress.tried),
        Outcome::Violated { class, .. } => format!("breaks another rule: {class}"),
        Outcome::Clean => "clean".to_owned(),
        Outcome::Impossible => "impossible".to_owned(),
    };
    format!("{:>4} {:<9} {tried}: {came}", progress.runs, progress.aim)
}

fn summary(shrunk: &Shrunk, tried: &Tried) -> String {
    let each: Vec<String> = tried
        .iter()
        .filter(|(aim, _)| **aim != Aim::Replay)
        .map(|(aim, (runs, same))| format!("{aim} {same} of {runs}"))
        .collect();
    let end = if shrunk.finished {
        "nothing smaller was left to try"
    } else {
        "the runs are used up"
    };
    format!(
        "smallest after {} runs: {}; {end}\n  tries that failed in the same way: {}",
        shrunk.runs,
        shrunk.smallest,
        each.join(", ")
    )
}

impl ShrinkArgs {
    /// What every run is told beside its plan.
    fn more(&self) -> Vec<&str> {
        let mutant = self.mutant.as_deref();
        mutant.map_or_else(Vec::new, |name| vec!["--mutant", name])
    }

    fn outcome(&self, candidate: &Candidate, whole: &Candidate, is_possible: bool) -> Outcome<String> {
        if !is_possible {
            return Outcome::Impossible;
        }
        match child::run(&self.plan.smaller(candidate, whole), &self.more()) {
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
}
