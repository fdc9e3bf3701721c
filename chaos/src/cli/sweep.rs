//! `chaos sweep`: many seeds, a process each.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    PlanArgs,
    child::{self, Report},
    output::{commit, line},
};
use crate::{run::MARKS, world::interpose};

/// Failures that are shown in full; of more only the seed is.
const SHOWN_MAX: usize = 10;

#[derive(Debug, Args)]
pub(super) struct SweepArgs {
    /// From, up to and not including: `0..200`
    #[arg(long, default_value = "0..40", value_parser = seeds)]
    seeds: (u64, u64),
    /// Processes at a time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// A named scenario (`chaos list`); `swarm` lets each seed draw its own
    #[arg(long, default_value = super::SWARM)]
    scenario: String,
    /// How long workload and faults last, in simulated seconds
    #[arg(long)]
    seconds: Option<u64>,
    /// How many hosts; otherwise the plan says
    #[arg(long)]
    hosts: Option<usize>,
    /// Goes on after so many failures
    #[arg(long, default_value_t = u64::MAX)]
    failures_max: u64,
    /// Begins no run after so many real seconds, and says how many it left out
    #[arg(long)]
    within: Option<u64>,
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let wrong = || format!("{text:?} is no range of seeds; give 0..200");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let (from, to) = (from.parse().map_err(|_| wrong())?, to.parse().map_err(|_| wrong())?);
    if from < to { Ok((from, to)) } else { Err(wrong()) }
}

/// What all runs together came to.
#[derive(Default)]
struct Sum {
    runs: u64,
    failed: Vec<Report>,
    broken: Vec<String>,
    simulated_ms: u64,
    took_ms: u64,
    events: u64,
    faults: usize,
    reached: BTreeMap<String, u64>,
}

pub(super) fn run(args: &SweepArgs) -> Result<ExitCode, String> {
    let (from, to) = args.seeds;
    let bar = ProgressBar::new(to - from);
    let style = "{bar:30} {pos}/{len} runs, {elapsed} gone, {eta} to go  {msg}";
    bar.set_style(ProgressStyle::with_template(style).map_err(|error| error.to_string())?);
    let next = AtomicU64::new(from);
    let sum = Mutex::new(Sum::default());
    let began = interpose::real_time();
    thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| work(args, began, &next, &sum, &bar));
        }
    });
    bar.finish_and_clear();
    let took = interpose::real_time().saturating_sub(began);
    let sum = sum.into_inner().map_err(|_| "a worker panicked".to_owned())?;
    show(args, &sum, took.as_secs_f64());
    let is_clean = sum.failed.is_empty() && sum.broken.is_empty();
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn work(args: &SweepArgs, began: Duration, next: &AtomicU64, sum: &Mutex<Sum>, bar: &ProgressBar) {
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
            return;
        }
        let plan = PlanArgs {
            seed,
            scenario: args.scenario.clone(),
            seconds: args.seconds,
            hosts: args.hosts,
            until_ms: None,
            first_hosts: None,
            first_clients: None,
            faults: None,
        };
        let report = child::run(&plan, &[]);
        if let Ok(mut sum) = sum.lock() {
            sum.add(report, bar, &plan);
        }
        bar.inc(1);
    }
}

impl Sum {
    fn add(&mut self, report: Result<Report, String>, bar: &ProgressBar, plan: &PlanArgs) {
        self.runs += 1;
        let report = match report {
            Ok(report) => report,
            Err(problem) => {
                tell(bar, &format!("seed {}: {problem}", plan.seed));
                self.broken.push(problem);
                return;
            }
        };
        self.simulated_ms += report.simulated_ms;
        self.took_ms += report.took_ms;
        self.events += report.events;
        self.faults += report.faults;
        for (path, count) in &report.reached {
            *self.reached.entry(path.clone()).or_default() += count;
        }
        if let Some(violation) = report.violations.first() {
            tell(bar, &format!("seed {}: {violation}", report.seed));
            self.failed.push(report);
            bar.set_message(format!("{} broken", self.failed.len()));
        }
    }
}

/// At once, also where no bar is drawn: a sweep that is cut off has told what it found.
fn tell(bar: &ProgressBar, text: &str) {
    bar.suspend(|| line(text));
}

fn show(args: &SweepArgs, sum: &Sum, took: f64) {
    let broken = (sum.failed.len() + sum.broken.len()) as u64;
    let simulated = Duration::from_millis(sum.simulated_ms).as_secs_f64();
    let speed = simulated / Duration::from_millis(sum.took_ms.max(1)).as_secs_f64();
    line(format_args!(
        "{} runs, {} clean, {broken} broken; {} faults, {} events; {simulated:.0} simulated seconds in {took:.0} s, \
         {speed:.1} a second on each of {} jobs",
        sum.runs,
        sum.runs - broken,
        sum.faults,
        sum.events,
        args.jobs,
    ));
    let left_out = (args.seeds.1 - args.seeds.0).saturating_sub(sum.runs);
    if left_out > 0 {
        line(format_args!("{left_out} runs were left out"));
    }
    let missed: Vec<&str> = MARKS
        .iter()
        .filter(|mark| !sum.reached.contains_key(**mark))
        .copied()
        .collect();
    if missed.is_empty() {
        line("every marked path was reached");
    } else {
        line(format_args!("marked paths that no run reached: {}", missed.join(", ")));
    }
    if broken > 0 {
        line(format_args!("commit: {}", commit()));
    }
    let mut failed: Vec<&Report> = sum.failed.iter().collect();
    failed.sort_by_key(|report| report.seed);
    for report in failed.iter().take(SHOWN_MAX) {
        for violation in &report.violations {
            line(format_args!("seed {}  {violation}", report.seed));
        }
        line(format_args!("  replay: chaos run {}", report.words.join(" ")));
    }
    if failed.len() > SHOWN_MAX {
        let seeds: Vec<String> = failed
            .iter()
            .skip(SHOWN_MAX)
            .map(|report| report.seed.to_string())
            .collect();
        line(format_args!("and seeds {}", seeds.join(" ")));
    }
}
