//! `chaos shrink`: from a seed that fails to the little that makes it fail. `run` and `sweep` look for it as well.
//!
//! Every run that it tries is told, with what came of it, in words that replay it; a bar shows how far it is. Ctrl-C
//! ends it with the smallest so far.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    PlanArgs,
    failure::{Findings, Smallest},
    output::line,
    patience::{Over, Patience},
};
use crate::{
    plan::{Plan, time::Millis},
    shrink::{self, Aim, Candidate, Outcome, Progress, RUNS_MAX},
};

#[derive(Debug, Args)]
pub(super) struct ShrinkArgs {
    #[command(flatten)]
    plan: PlanArgs,
    /// Runs that it may take
    #[arg(long, default_value_t = RUNS_MAX)]
    runs: u32,
    /// Real seconds that it may take; Ctrl-C, too, ends it with what is known so far
    #[arg(long)]
    within: Option<u64>,
    /// With this known bug put back (`chaos mutants`); only in a build with the feature `mutants`
    #[arg(long)]
    mutant: Option<String>,
}

pub(super) fn run(args: &ShrinkArgs) -> Result<ExitCode, String> {
    let search = Search {
        args: &args.plan,
        mutant: args.mutant.as_deref(),
        runs_max: args.runs,
    };
    let mut patience = Patience::new(args.within.map(Duration::from_secs))?;
    let first = search.run(&args.plan, &mut patience);
    let first = first.ok_or("given up before the first run was over")??;
    let Some(violation) = first.report.violations.first() else {
        line(format_args!("seed {} is clean: nothing to shrink", first.report.seed));
        return Ok(ExitCode::SUCCESS);
    };
    line(format_args!("seed {}: {violation}", first.report.seed));
    let bar = bar(args.runs)?;
    let mut tried = Tried::new();
    // A bar is drawn for terminals only; what was tried is told to everybody.
    let smallest = search.smallest(&violation.oracle, &mut patience, &bar, |progress, told| {
        let (runs, same) = tried.entry(progress.aim).or_default();
        (*runs, *same) = (*runs + 1, *same + u32::from(progress.same));
        bar.suspend(|| line(told));
    })?;
    bar.finish_and_clear();
    line(format_args!("  tries that failed in the same way: {}", counts(&tried)));
    line(format_args!("  commit: {}", smallest.failure.commit));
    smallest.lines().iter().for_each(line);
    Ok(ExitCode::FAILURE)
}

/// Runs, and those of them that failed in the same way.
type Tried = BTreeMap<Aim, (u32, u32)>;

fn counts(tried: &Tried) -> String {
    let tried = tried.iter().filter(|(aim, _)| **aim != Aim::Replay);
    let each: Vec<String> = tried
        .map(|(aim, (runs, same))| format!("{aim} {same} of {runs}"))
        .collect();
    each.join(", ")
}

/// For a search of so many runs.
pub(super) fn bar(runs: u32) -> Result<ProgressBar, String> {
    let bar = ProgressBar::new(runs.into());
    let style = "{bar:30} {pos} of at most {len} runs, {elapsed} gone  {msg}";
    bar.set_style(ProgressStyle::with_template(style).map_err(|error| error.to_string())?);
    Ok(bar)
}

/// A search for the smallest part of a plan that breaks the same rule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search<'a> {
    /// The whole plan.
    pub args: &'a PlanArgs,
    /// With this known bug put back.
    pub mutant: Option<&'a str>,
    /// Runs that it may take.
    pub runs_max: u32,
}

impl Search<'_> {
    /// Looks for it as long as there is patience. `tell` hears of each run, and has it in words.
    pub(super) fn smallest(
        &self,
        class: &str,
        patience: &mut Patience,
        bar: &ProgressBar,
        mut tell: impl FnMut(&Progress<'_, String>, String),
    ) -> Result<Smallest, String> {
        let plan = self.args.plan()?;
        let whole = Candidate::whole(&plan);
        if whole.of(&plan).is_none() {
            return Err("the plan is outside the fault budget: it asks for more than nodes promise".to_owned());
        }
        let class = class.to_owned();
        // Each that fails in the same way is smaller than those before it.
        let mut last = None;
        let shrunk = shrink::shrink(
            &whole,
            &class,
            self.runs_max,
            |candidate| {
                bar.set_message(format!("now {candidate}"));
                let (outcome, findings) = self.outcome(candidate, (&whole, &plan), patience);
                if matches!(&outcome, Outcome::Violated { class: its, .. } if *its == class) {
                    last = findings;
                }
                outcome
            },
            |progress| {
                bar.set_position(progress.runs.into());
                tell(progress, told(progress, &whole));
            },
        );
        let shrunk = shrunk.map_err(|error| error.to_string())?;
        let findings = last.expect("the smallest has failed in the same way");
        Ok(Smallest {
            left: shrunk.smallest.to_string(),
            runs: shrunk.runs,
            end: end(shrunk.finished, patience.over()).to_owned(),
            words: findings.report.words,
            violations: findings.report.violations,
            failure: findings.failure.ok_or("a run that fails does not say how")?,
        })
    }

    /// What came of a part of the plan, and, if it was run, what it told.
    fn outcome(
        &self,
        candidate: &Candidate,
        (whole, plan): (&Candidate, &Plan),
        patience: &mut Patience,
    ) -> (Outcome<String>, Option<Findings>) {
        if candidate.of(plan).is_none() {
            return (Outcome::Impossible, None);
        }
        match self.run(&self.args.smaller(candidate, whole), patience) {
            None => (Outcome::GivenUp, None),
            Some(Err(_)) => (Outcome::Impossible, None),
            Some(Ok(findings)) => {
                let first = findings.report.violations.first();
                let outcome = first.map_or(Outcome::Clean, |first| Outcome::Violated {
                    class: first.oracle.clone(),
                    at: Some(Millis(first.at_ms)),
                });
                (outcome, Some(findings))
            }
        }
    }

    /// One run in a process of its own. Nothing, where it was given up.
    fn run(&self, args: &PlanArgs, patience: &mut Patience) -> Option<Result<Findings, String>> {
        let mutant = self.mutant.into_iter().flat_map(|name| ["--mutant", name]);
        let words = ["run", "--json"].into_iter().chain(mutant).map(str::to_owned);
        let words: Vec<String> = words.chain(args.words()).collect();
        let output = match patience.output(&words)? {
            Ok(output) => output,
            Err(error) => return Some(Err(format!("a run cannot be started: {error}"))),
        };
        let findings = serde_json::from_slice(&output.stdout);
        Some(findings.map_err(|_| {
            let said = String::from_utf8_lossy(&output.stderr);
            format!("the run ended without a report ({}): {said}", output.status)
        }))
    }
}

/// One run: what was left of the plan, and what came of it.
fn told(progress: &Progress<'_, String>, whole: &Candidate) -> String {
    let words = progress.tried.arguments(whole);
    let tried = if words.is_empty() { "the whole plan" } else { &words };
    let came = match progress.outcome {
        Outcome::Violated { .. } if progress.same => format!("fails in the same way: {}", progress.tried),
        Outcome::Violated { class, .. } => format!("breaks another rule: {class}"),
        Outcome::Clean => "clean".to_owned(),
        Outcome::Impossible | Outcome::GivenUp => "not run".to_owned(),
    };
    format!("{:>4} {:<9} {tried}: {came}", progress.runs, progress.aim)
}

const fn end(is_finished: bool, over: Option<Over>) -> &'static str {
    match over {
        _ if is_finished => "nothing smaller was left to try",
        Some(Over::Late) => "the time is up",
        Some(Over::Interrupted) => "interrupted",
        None => "the runs are used up",
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

    use super::{super::patience::ALONE, *};

    /// Runs of this program break a rule as long as the second fault of two is there; before that they do `this`.
    fn program(name: &str, this: &str) -> PathBuf {
        let script = format!(
            r#"#!/bin/sh
violations='[{{"oracle": "durable", "what": "c1 lost a set", "at_ms": 45000}}]'
case " $* " in *" --faults 0 "*|*" --faults none "*) violations='[]';; esac
{this}
echo '{{"seed": 1, "scenario": "", "hash": "", "events": 1, "kinds": {{}}, "simulated_ms": 1, "took_ms": 1, "reached": {{}},
"faults": 1, "violations": '"$violations"', "words": ["'"$*"'"],
"failure": {{"commit": "0123abc", "replay": "chaos '"$*"'", "faults": [], "timeline": []}}}}'
"#
        );
        let path = std::env::temp_dir().join(format!("chaos-{}-{name}", std::process::id()));
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    /// What is found in so many milliseconds, and the runs that were told.
    fn search(name: &str, this: &str, millis: u64) -> (Result<Smallest, String>, Vec<String>) {
        let _alone = ALONE.lock();
        let program = program(name, this);
        let args = super::super::tests::args("--seed 1 --scenario partition-heals");
        let search = Search {
            args: &args,
            mutant: None,
            runs_max: RUNS_MAX,
        };
        let mut patience = Patience::with(program.clone(), Some(Duration::from_millis(millis))).unwrap();
        let mut all = Vec::new();
        let found = search.smallest("durable", &mut patience, &ProgressBar::hidden(), |_, told| {
            all.push(told);
        });
        fs::remove_file(program).unwrap();
        (found, all)
    }

    #[test]
    fn the_smallest_is_looked_for_in_other_processes() {
        let (found, told) = search("shrinks", "", 60_000);
        let found = found.unwrap();
        assert_eq!(found.end, "nothing smaller was left to try");
        assert!(
            found.failure.replay.contains("--scenario partition-heals"),
            "{}",
            found.failure.replay
        );
        assert!(found.failure.replay.contains("--faults 1"), "{}", found.failure.replay);
        assert_eq!(found.violations[0].oracle, "durable");
        assert!(
            told[0].contains("replay    the whole plan: fails in the same way"),
            "{}",
            told[0]
        );
        assert_eq!(told.len(), found.runs as usize);
    }

    #[test]
    fn an_interrupt_or_the_end_of_the_time_leaves_the_smallest_so_far() {
        let interrupt = r#"case " $* " in *" --until-ms "*) kill -INT $PPID; sleep 60;; esac"#;
        let (found, _) = search("interrupted", interrupt, 60_000);
        let found = found.unwrap();
        assert_eq!(found.end, "interrupted");
        assert!(found.left.starts_with("1 faults"), "{}", found.left);
        let (found, _) = search("late", r#"case " $* " in *" --until-ms "*) sleep 60;; esac"#, 3_000);
        assert_eq!(found.unwrap().end, "the time is up");
        let (found, told) = search("never", "sleep 60", 100);
        assert_eq!(told, Vec::<String>::new());
        assert!(found.unwrap_err().contains("given up"));
    }
}
