//! `chaos run`: one plan, in this process.

use std::{path::PathBuf, process::ExitCode, thread};

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::{
    PlanArgs,
    child::Report,
    mutants,
    output::{self, line},
    story,
};
use crate::{
    plan::Plan,
    run::{self, Outcome},
    timeline,
    world::{interpose, trace},
};

/// Stack of the simulation's thread: every node runs on it.
const STACK_BYTES: usize = 64 << 20;

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
    /// Prints a report for programs
    #[arg(long)]
    json: bool,
    /// Shows the plan and does not carry it out
    #[arg(long)]
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
    let shown = plan.clone();
    let outcome = simulate(plan, args.trace.clone())?;
    let replay = format!("chaos run {}", args.plan.words().join(" "));
    if args.timeline || args.html.is_some() {
        let timeline = story::of(&shown, &outcome, &replay);
        if args.timeline {
            line(timeline::text::render(&timeline).trim_end());
        }
        if let Some(path) = &args.html {
            let written = std::fs::write(path, timeline::html::render(&timeline));
            written.map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    if args.events {
        show_events(&outcome);
    }
    if args.json {
        let report = Report::of(&args.plan, shown.faults.len(), &outcome);
        line(serde_json::to_string(&report).map_err(|error| error.to_string())?);
    } else {
        show(args, &shown, &outcome);
    }
    output::flush();
    interpose::leave(u8::from(!outcome.violations.is_empty()));
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
    thread.join().map_err(|_| "the simulator itself panicked".to_owned())?
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

fn show(args: &RunArgs, plan: &Plan, outcome: &Outcome) {
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
    if outcome.violations.is_empty() {
        return;
    }
    for violation in &outcome.violations {
        line(format_args!("  {violation}"));
    }
    for fault in &plan.faults {
        line(format_args!("  fault {fault}"));
    }
    let mutant = args
        .mutant
        .as_ref()
        .map_or_else(String::new, |name| format!(" --mutant {name}"));
    line(format_args!("  commit: {}", output::commit()));
    line(format_args!(
        "  replay: chaos run {}{mutant}",
        args.plan.words().join(" ")
    ));
}
