//! `chaos run`: one plan, in this process. Where it fails, a smaller one that fails in the same way is looked for in
//! others.

use std::{
    fs::OpenOptions,
    panic,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::{
    PlanArgs,
    child::Report,
    failure::{self, Failure, Findings, Shrunk, Smallest},
    mutants,
    output::{self, line},
    patience::Patience,
    shrink::{self, Search},
    story,
};
use crate::{
    plan::{Plan, budget},
    run::{self, Outcome},
    shrink::RUNS_MAX,
    timeline::{self, Timeline},
    world::{interpose, trace},
};

/// Stack of the simulation's thread: every node runs on it.
const STACK_BYTES: usize = 64 << 20;

/// How long a person who was not asked waits for a smaller run.
const SHRINK_WITHIN: u64 = 60;

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct RunArgs {
    #[command(flatten)]
    plan: PlanArgs,
    /// Shows what happened, in order
    #[arg(long)]
    timeline: bool,
    /// Writes the timeline as a page that needs nothing else
    #[arg(long)]
    html: Option<PathBuf>,
    /// Shows every event that was told, in order
    #[arg(long)]
    events: bool,
    /// Prints a report for programs, on the last line
    #[arg(long)]
    json: bool,
    /// Real seconds in which a smaller run is looked for that fails in the same way [default: 60; with --json, or for a
    /// part of a plan (--faults, --until-ms, --first-hosts, --first-clients): none]
    #[arg(long)]
    shrink_within: Option<u64>,
    /// Looks for no smaller run
    #[arg(long, conflicts_with = "shrink_within")]
    no_shrink: bool,
    /// Shows the plan and does not carry it out
    #[arg(long, conflicts_with_all = ["timeline", "html", "events", "json", "trace"])]
    dry: bool,
    /// Writes every event to this file, a line each
    #[arg(long)]
    trace: Option<PathBuf>,
    /// Puts a known bug back (`chaos mutants`); only in a build with the feature `mutants`
    #[arg(long)]
    mutant: Option<String>,
}

pub(super) fn run(args: &RunArgs) -> Result<ExitCode, String> {
    interpose::without_address_randomisation();
    if let Some(name) = &args.mutant {
        mutants::activate(name)?;
    }
    let plan = args.plan.plan()?;
    if args.dry {
        line(&plan);
        return Ok(ExitCode::SUCCESS);
    }
    show_log();
    if let Some(path) = &args.html {
        // What cannot be written is told before the run, not in the place of what it found.
        let tried = OpenOptions::new().append(true).create(true).open(path);
        tried.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let shown = plan.clone();
    let outcome = simulate(plan, args.trace.clone())?;
    let is_clean = outcome.violations.is_empty();
    let is_told = args.timeline || args.html.is_some() || !is_clean;
    let timeline = is_told.then(|| story::of(&shown, &outcome, &args.replay()));
    if let Some(timeline) = timeline.as_ref().filter(|_| args.timeline) {
        line(timeline::text::render(timeline).trim_end());
    }
    if args.events {
        show_events(&outcome);
    }
    let failed = timeline.as_ref().filter(|_| !is_clean);
    let mut findings = Findings {
        report: Report::of(&args.plan, shown.faults.len(), &outcome),
        failure: failed.map(|timeline| Failure::of(&shown, timeline, &args.replay())),
        shrunk: Shrunk::default(),
    };
    if !args.json {
        show(&shown, &outcome);
        findings.failure.iter().for_each(show_replay);
    }
    if let (Some(within), Some(first)) = (args.shrink_within(), outcome.violations.first()) {
        findings.shrunk = args.smallest(&first.oracle, within).into();
    }
    if let (Some(path), Some(timeline)) = (&args.html, timeline) {
        write_page(path, timeline, findings.shrunk.smallest.as_ref())?;
    }
    if args.json {
        line(serde_json::to_string(&findings).map_err(|error| error.to_string())?);
    } else {
        findings
            .failure
            .iter()
            .for_each(|failure| args.show_failure(failure, &findings.shrunk));
    }
    output::flush();
    interpose::leave(u8::from(!is_clean));
}

impl RunArgs {
    /// Which plan.
    #[cfg(test)]
    pub(super) const fn plan(&self) -> &PlanArgs {
        &self.plan
    }

    fn replay(&self) -> String {
        let mutant = self.mutant.iter().map(|name| format!(" --mutant {name}"));
        let mutant: String = mutant.collect();
        format!("chaos run {}{mutant}", self.plan.words().join(" "))
    }

    /// How long to look for a smaller run. Whoever replays a small one, or is a program, asks for it.
    fn shrink_within(&self) -> Option<Duration> {
        let unasked = (!self.json && !self.plan.is_part()).then_some(SHRINK_WITHIN);
        let within = self.shrink_within.or(unasked).filter(|_| !self.no_shrink);
        within.map(Duration::from_secs)
    }

    fn smallest(&self, class: &str, within: Duration) -> Result<Smallest, String> {
        let search = Search {
            args: &self.plan,
            mutant: self.mutant.as_deref(),
            runs_max: RUNS_MAX,
        };
        failure::progress(&format!(
            "looking for a smaller run for at most {within:?}; Ctrl-C ends that with the smallest so far"
        ));
        let bar = shrink::bar(RUNS_MAX)?;
        let mut patience = Patience::new(Some(within))?;
        let smallest = search.smallest(class, &mut patience, &bar, |_, told| {
            bar.suspend(|| failure::progress(&told));
        });
        bar.finish_and_clear();
        smallest
    }

    /// What is left of it, and the timeline around the violation.
    fn show_failure(&self, failure: &Failure, shrunk: &Shrunk) {
        shrunk.lines().iter().for_each(line);
        if shrunk.smallest.is_some() {
            return;
        }
        failure.faults().iter().for_each(line);
        if !self.timeline {
            line("");
            failure.timeline.iter().for_each(line);
        }
    }
}

/// What nodes and clients log, for whoever looks for a bug: `RUST_LOG=halcyon_client=debug`.
fn show_log() {
    if let Ok(filter) = EnvFilter::try_from_default_env() {
        let log = tracing_subscriber::fmt().with_env_filter(filter).without_time();
        // It fails where a subscriber is set already.
        let _ = log.with_writer(std::io::stderr).try_init();
    }
}

/// On a fresh thread: what an earlier one drew for its hash maps would be left over.
fn simulate(plan: Plan, trace: Option<PathBuf>) -> Result<Outcome, String> {
    let work = move || {
        if let Some(path) = trace {
            trace::write_to(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(run::run(plan))
    };
    let thread = thread::Builder::new()
        .name("world".into())
        .stack_size(STACK_BYTES)
        .spawn(work);
    let thread = thread.map_err(|error| format!("no thread for the simulation: {error}"))?;
    let outcome = thread.join().map_err(|_| "the simulator itself panicked".to_owned())?;
    // A run takes note of panics in silence; what comes after it panics aloud.
    let _ = panic::take_hook();
    outcome
}

fn show_events(outcome: &Outcome) {
    for told in &outcome.trace.told {
        let millis = told.at / 1_000_000;
        let (seconds, millis) = (millis / 1_000, millis % 1_000);
        line(format_args!(
            "{seconds:>6}.{millis:03} {:<5} {:<22} {}",
            told.machine, told.kind, told.detail
        ));
    }
}

fn show(plan: &Plan, outcome: &Outcome) {
    let trace = &outcome.trace;
    line(format_args!(
        "seed {}: {} after {:.0} simulated seconds in {:.1} s ({:.1} a second), {} faults, {} events, hash {:016x}",
        plan.seed,
        if outcome.violations.is_empty() {
            "clean"
        } else {
            "BROKEN"
        },
        outcome.simulated.as_secs_f64(),
        outcome.took.as_secs_f64(),
        outcome.speed(),
        plan.faults.len(),
        trace.count,
        trace.hash,
    ));
    for violation in &outcome.violations {
        line(format_args!("  {violation}"));
    }
    if let (Err(why), false) = (budget::check(plan), outcome.violations.is_empty()) {
        line(format_args!(
            "  the plan is outside the fault budget, so that this may be no bug: {why}"
        ));
    }
}

fn show_replay(failure: &Failure) {
    line(format_args!("  commit: {}", failure.commit));
    line(format_args!("  replay: {}", failure.replay));
}

/// The page of the run that was asked for; its head says which smaller one is enough.
fn write_page(path: &Path, mut timeline: Timeline, smallest: Option<&Smallest>) -> Result<(), String> {
    if let Some(smallest) = smallest {
        let mut say = |name: &str, text: &str| timeline.head.push((name.to_owned(), text.to_owned()));
        say("smaller", &smallest.failure.replay);
        say("left of it", &smallest.left);
        smallest.failure.faults.iter().for_each(|fault| say("fault", fault));
    }
    let written = std::fs::write(path, timeline::html::render(&timeline));
    written.map_err(|error| format!("{}: {error}", path.display()))
}
