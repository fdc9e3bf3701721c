//! `chaos sweep`: many seeds, a process each. The first that fail are made smaller and explained.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{
    PlanArgs,
    child::{self, Report},
    failed_seeds::{self, FailedSeed},
    failure::progress,
    output::{commit, line},
    patience::{Over, Patience},
};
use crate::{run::MARKS, world::interpose};

/// The exit code of who was interrupted, as shells have it.
const INTERRUPTED: u8 = 130;

/// Failures that are shown in full; of more only the seed is.
const SHOWN_MAX: usize = 10;

#[derive(Debug, Args)]
pub(super) struct SweepArgs {
    /// From, up to and not including: `0..200`
    #[arg(long, default_value = "0..40", value_parser = seeds)]
    seeds: (u64, u64),
    /// Processes at a time
    #[arg(long, default_value_t = 2, value_parser = super::at_least_one(256))]
    pub(super) jobs: usize,
    /// A named scenario (`chaos list`); `swarm` lets each seed draw its own
    #[arg(long, default_value = super::SWARM)]
    scenario: String,
    /// How long workload and faults last, in simulated seconds
    #[arg(long, value_parser = super::seconds())]
    seconds: Option<u64>,
    /// How many hosts the seeds shall draw
    #[arg(long, value_parser = super::at_least_one(super::HOSTS_MAX))]
    hosts: Option<usize>,
    /// Begins no run after so many failures
    #[arg(long, default_value_t = u64::MAX, value_parser = clap::value_parser!(u64).range(1..))]
    failures_max: u64,
    /// Begins no run after so many real seconds, and says how many it left out
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    within: Option<u64>,
    /// Real seconds, after all runs, in which the first seeds that failed are made smaller; 0: none is
    #[arg(long, default_value_t = 120)]
    pub(super) shrink_within: u64,
    /// Writes a page for each of the first seeds that failed
    #[arg(long, value_name = "DIR")]
    pub(super) html_dir: Option<PathBuf>,
    /// Prints one report for programs, when all is done
    #[arg(long)]
    json: bool,
}

impl SweepArgs {
    /// What one seed runs.
    pub(super) fn plan(&self, seed: u64) -> PlanArgs {
        PlanArgs {
            seed,
            scenario: self.scenario.clone(),
            seconds: self.seconds,
            hosts: self.hosts,
            until_ms: None,
            first_hosts: None,
            first_clients: None,
            faults: None,
        }
    }

    /// Results as they come: what programs read is printed at the end.
    fn tell(&self, text: &str) {
        if self.json {
            progress(text);
        } else {
            line(text);
        }
    }
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("{text:?} is no range of seeds; give 0..200");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let (from, to) = (from.parse().map_err(|_| wrong())?, to.parse().map_err(|_| wrong())?);
    if from < to { Ok((from, to)) } else { Err(wrong()) }
}

/// What all runs together came to.
#[derive(Debug, Default, Serialize)]
struct Sum {
    runs: u64,
    failed: Vec<FailedSeed>,
    broken: Vec<String>,
    simulated_ms: u64,
    took_ms: u64,
    events: u64,
    faults: usize,
    reached: BTreeMap<String, u64>,
}

pub(super) fn run(args: &SweepArgs) -> Result<ExitCode, String> {
    let (from, to) = args.seeds;
    // What is wrong with one plan's words is wrong with all.
    args.plan(from).plan()?;
    let bar = ProgressBar::new(to - from);
    let style = "{bar:30} {pos}/{len} runs, {elapsed} gone, {eta} to go  {msg}";
    bar.set_style(ProgressStyle::with_template(style).map_err(|error| error.to_string())?);
    let next = AtomicU64::new(from);
    let is_interrupted = AtomicBool::new(false);
    let problem = Mutex::new(None);
    let sum = Mutex::new(Sum::default());
    let began = interpose::real_time();
    thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(|| match work(args, began, &next, &sum, &bar) {
                Ok(Some(Over::Interrupted)) => is_interrupted.store(true, Ordering::Relaxed),
                Ok(_) => {}
                Err(why) => {
                    problem
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .get_or_insert(why);
                }
            });
        }
    });
    bar.finish_and_clear();
    if let Some(why) = problem.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(why);
    }
    let took = interpose::real_time().saturating_sub(began);
    let mut sum = sum.into_inner().map_err(|_| "a worker panicked".to_owned())?;
    sum.failed.sort_by_key(|failed| failed.report.seed);
    sum.lines(args, took.as_secs_f64())
        .iter()
        .for_each(|line| args.tell(line));
    let is_interrupted = is_interrupted.into_inner();
    if is_interrupted && !sum.failed.is_empty() {
        progress("interrupted: nothing is made smaller, and no pages are written");
    }
    if !is_interrupted {
        failed_seeds::explain(args, &mut sum.failed, |seed| {
            for line in explained(seed) {
                args.tell(&line);
            }
        });
    }
    if args.json {
        let told = sum.told(args);
        line(serde_json::to_string(&told).map_err(|error| error.to_string())?);
    }
    let is_clean = sum.failed.is_empty() && sum.broken.is_empty();
    Ok(match (is_clean, is_interrupted) {
        (false, _) => ExitCode::FAILURE,
        (true, true) => ExitCode::from(INTERRUPTED),
        (true, false) => ExitCode::SUCCESS,
    })
}

/// Runs seeds until there are no more, or until somebody interrupts: then the rest is left out.
fn work(
    args: &SweepArgs,
    began: Duration,
    next: &AtomicU64,
    sum: &Mutex<Sum>,
    bar: &ProgressBar,
) -> Result<Option<Over>, String> {
    let mut patience = Patience::new(None)?;
    let is_late = || {
        let gone = interpose::real_time().saturating_sub(began);
        args.within.is_some_and(|within| gone >= Duration::from_secs(within))
    };
    while !is_late() {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        let failures = sum
            .lock()
            .map_or(u64::MAX, |sum| (sum.failed.len() + sum.broken.len()) as u64);
        if seed >= args.seeds.1 || failures >= args.failures_max {
            break;
        }
        let Some(report) = child::run_within(&args.plan(seed), &mut patience) else {
            break;
        };
        if let Ok(mut sum) = sum.lock() {
            // At once, also where no bar is drawn: a sweep that is cut off has told what it found.
            if let Some(told) = sum.add(seed, report) {
                bar.suspend(|| args.tell(&told));
                bar.set_message(format!("{} broken", sum.failed.len() + sum.broken.len()));
            }
        }
        bar.inc(1);
    }
    Ok(patience.over())
}

/// What programs are told.
#[derive(Debug, Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    sum: &'a Sum,
    commit: String,
    left_out: u64,
    missed: Vec<&'static str>,
}

impl Sum {
    /// Counts a run. Says what went wrong in it.
    fn add(&mut self, seed: u64, report: Result<Report, String>) -> Option<String> {
        self.runs += 1;
        let report = match report {
            Ok(report) => report,
            Err(problem) => {
                let told = format!("seed {seed}: {problem}");
                self.broken.push(problem);
                return Some(told);
            }
        };
        self.simulated_ms += report.simulated_ms;
        self.took_ms += report.took_ms;
        self.events += report.events;
        self.faults += report.faults;
        for (path, count) in &report.reached {
            *self.reached.entry(path.clone()).or_default() += count;
        }
        let told = format!("seed {seed}: {}", report.violations.first()?);
        self.failed.push(FailedSeed::told(report));
        Some(told)
    }

    fn told(&self, args: &SweepArgs) -> Told<'_> {
        Told {
            sum: self,
            commit: commit(),
            left_out: self.left_out(args),
            missed: self.missed(),
        }
    }

    fn left_out(&self, args: &SweepArgs) -> u64 {
        (args.seeds.1 - args.seeds.0).saturating_sub(self.runs)
    }

    /// Marked paths that no run reached.
    fn missed(&self) -> Vec<&'static str> {
        let missed = MARKS.iter().filter(|mark| !self.reached.contains_key(**mark));
        missed.copied().collect()
    }

    /// For a person.
    fn lines(&self, args: &SweepArgs, took: f64) -> Vec<String> {
        let broken = (self.failed.len() + self.broken.len()) as u64;
        let simulated = Duration::from_millis(self.simulated_ms).as_secs_f64();
        let speed = simulated / Duration::from_millis(self.took_ms.max(1)).as_secs_f64();
        let mut lines = vec![format!(
            "{} runs, {} clean, {broken} broken; {} faults, {} events; {simulated:.0} simulated seconds in {took:.0} s, \
             {speed:.1} a second on each of {} jobs",
            self.runs,
            self.runs - broken,
            self.faults,
            self.events,
            args.jobs,
        )];
        let (left_out, missed) = (self.left_out(args), self.missed());
        lines.extend((left_out > 0).then(|| format!("{left_out} runs were left out")));
        lines.push(if missed.is_empty() {
            "every marked path was reached".to_owned()
        } else {
            format!("marked paths that no run reached: {}", missed.join(", "))
        });
        lines.extend((broken > 0).then(|| format!("commit: {}", commit())));
        for FailedSeed { report, .. } in self.failed.iter().take(SHOWN_MAX) {
            let violations = report.violations.iter();
            lines.extend(violations.map(|violation| format!("seed {}  {violation}", report.seed)));
            lines.push(format!("  replay: chaos run {}", report.words.join(" ")));
        }
        let more = self.failed.iter().skip(SHOWN_MAX);
        let more: Vec<String> = more.map(|failed| failed.report.seed.to_string()).collect();
        lines.extend((!more.is_empty()).then(|| format!("and seeds {}", more.join(" "))));
        lines
    }
}

/// What was found out about a seed that failed, for a person.
fn explained(seed: &FailedSeed) -> Vec<String> {
    let page = seed.page.iter().map(|page| format!("  page: {}", page.display()));
    let head = format!("\nseed {}", seed.report.seed);
    [head].into_iter().chain(page).chain(seed.shrunk.lines()).collect()
}
