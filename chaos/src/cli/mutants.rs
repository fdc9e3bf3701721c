//! `chaos mutants`: known bugs are put back one at a time, and each must be found.
//!
//! A run that breaks a rule counts only if the same run without the bug breaks none: what is wrong anyway finds nothing.

use std::{
    process::ExitCode,
    sync::{Mutex, PoisonError},
    thread,
};

use clap::Args;
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use halcyon_core::mutant::{self, Mutant};
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    PlanArgs,
    child::{self, Report},
    output::line,
};
use crate::plan::scenario;

#[derive(Debug, Args)]
pub(super) struct MutantsArgs {
    /// Only these, by name; all of them where nothing is said
    names: Vec<String>,
    /// Seeds that a bug may need at the most
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// Processes at a time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// How long workload and faults of a run last, in simulated seconds
    #[arg(long)]
    seconds: Option<u64>,
}

/// What became of one mutant.
struct Hunt {
    mutant: Mutant,
    /// Runs until it was found.
    runs: u64,
    /// The run that found it.
    found: Option<Report>,
    /// Runs that break a rule without the bug as well.
    broken_anyway: u64,
}

pub(super) fn run(args: &MutantsArgs) -> Result<ExitCode, String> {
    if !mutant::POSSIBLE {
        return Err("this build has no known bugs in it; for one that has: \
                    cargo run --release -p halcyon-chaos --features mutants -- mutants"
            .to_owned());
    }
    let mutants = chosen(&args.names)?;
    let bar = ProgressBar::new(mutants.len() as u64);
    let style = "{bar:30} {pos}/{len} bugs, {elapsed} gone  {msg}";
    bar.set_style(ProgressStyle::with_template(style).map_err(|error| error.to_string())?);
    let mut hunts = Vec::new();
    for mutant in mutants {
        bar.set_message(mutant.name());
        let hunt = hunt(mutant, args)?;
        // The whole takes long: whoever waits sees each as it is done.
        bar.suspend(|| line(told(&hunt)));
        hunts.push(hunt);
        bar.inc(1);
    }
    bar.finish_and_clear();
    show(&hunts);
    let all = hunts.iter().all(|hunt| hunt.found.is_some());
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Puts a bug back into this process.
pub(super) fn activate(name: &str) -> Result<(), String> {
    let mutant = named(name)?;
    #[cfg(feature = "mutants")]
    mutant::activate(mutant);
    if mutant::active(mutant) {
        Ok(())
    } else {
        Err(format!(
            "this build has no bug {name}; build it with --features mutants"
        ))
    }
}

fn named(name: &str) -> Result<Mutant, String> {
    let names = || Mutant::ALL.map(Mutant::name).join(", ");
    let found = Mutant::ALL.into_iter().find(|mutant| mutant.name() == name);
    found.ok_or_else(|| format!("there is no known bug {name:?}; there are {}", names()))
}

fn chosen(names: &[String]) -> Result<Vec<Mutant>, String> {
    if names.is_empty() {
        return Ok(Mutant::ALL.to_vec());
    }
    names.iter().map(|name| named(name)).collect()
}

/// Scenarios that lead straight to a bug; between them the seed draws everything.
const fn scenarios(mutant: Mutant) -> &'static [&'static str] {
    match mutant {
        Mutant::AcknowledgeBeforeSync | Mutant::VoteWithoutSync => &["power-lost-everywhere", "crash-in-commit"],
        Mutant::SeqReused => &["disk-rolled-back", "old-backup"],
        Mutant::VectorMovedEarly => &["catch-up-interrupted"],
        Mutant::DriftNotRefused => &["clock-ahead"],
        Mutant::LeaseRead => &["leases-race"],
        Mutant::ErasedEarly => &["moves-in-a-hurry", "placement-moves"],
        Mutant::PlacementNotChecked => &["forwarded"],
        Mutant::CollectedEarly => &["written-while-away"],
        Mutant::CommandRepeated => &["answers-lost"],
        Mutant::LeadsAgain => &["rolling-upgrade"],
        Mutant::SealNotChecked => &["bits-turned"],
        Mutant::LeftNotTold | Mutant::DigestNotCompared => &["queries-followed"],
        Mutant::LagShownAsSynced => &["readers-move"],
        Mutant::AnswerNotTold => &["answers-sent"],
        Mutant::GoneNotTold => &["rooms-meet"],
        Mutant::LostCommitNotNoticed => &["control-rots"],
        Mutant::TombstoneLoses => &["client-offline-week"],
        Mutant::LagNotNoticed => &["lagging-node"],
        Mutant::TieByArrival => &["copied-page"],
        Mutant::SubscriptionDropped | Mutant::ResumeByTimestamp | Mutant::GapSkipped => &["partition-heals"],
        Mutant::GossipBeforeSync | Mutant::FailedApplySeen | Mutant::LastArrivalWins => &[],
    }
}

/// The run of this number: scenarios and free draws in turn.
fn plan(mutant: Mutant, number: u64, seconds: Option<u64>) -> PlanArgs {
    let told = scenarios(mutant);
    let turn = usize::try_from(number).unwrap_or(usize::MAX) % (told.len() + 1);
    let name = told.get(turn).filter(|name| scenario::find(name).is_some());
    PlanArgs {
        seed: number,
        scenario: name.map_or(super::SWARM, |name| name).to_owned(),
        seconds: seconds.filter(|_| name.is_none()),
        hosts: None,
        until_ms: None,
        first_hosts: None,
        first_clients: None,
        faults: None,
    }
}

/// Where the workers of a hunt are.
#[derive(Default)]
struct State {
    next: u64,
    /// The lowest number that found it.
    found: Option<(u64, Report)>,
    broken_anyway: u64,
    problem: Option<String>,
}

impl State {
    /// The next run's number, while there is one.
    fn take(&mut self, seeds: u64) -> Option<u64> {
        if self.next >= seeds || self.found.is_some() || self.problem.is_some() {
            return None;
        }
        self.next += 1;
        Some(self.next - 1)
    }
}

/// Runs seed after seed until one finds the bug.
fn hunt(mutant: Mutant, args: &MutantsArgs) -> Result<Hunt, String> {
    let state = Mutex::new(State::default());
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let next = || lock().take(args.seeds);
    let work = || {
        while let Some(number) = next() {
            let found = one(&plan(mutant, number, args.seconds), mutant);
            let mut state = lock();
            match found {
                Ok(Found::Nothing) => {}
                Ok(Found::BrokenAnyway) => state.broken_anyway += 1,
                Ok(Found::Bug(report)) => {
                    let is_first = state.found.as_ref().is_none_or(|(first, _)| number < *first);
                    if is_first {
                        state.found = Some((number, *report));
                    }
                }
                Err(problem) => state.problem = Some(problem),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(work);
        }
    });
    let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(problem) = state.problem {
        return Err(format!("{}: {problem}", mutant.name()));
    }
    Ok(Hunt {
        mutant,
        runs: state.found.as_ref().map_or(state.next, |(number, _)| number + 1),
        found: state.found.map(|(_, report)| report),
        broken_anyway: state.broken_anyway,
    })
}

/// What one run found.
enum Found {
    Nothing,
    BrokenAnyway,
    Bug(Box<Report>),
}

fn one(plan: &PlanArgs, mutant: Mutant) -> Result<Found, String> {
    let report = child::run(plan, &["--mutant", mutant.name()])?;
    if report.violations.is_empty() {
        return Ok(Found::Nothing);
    }
    let without = child::run(plan, &[])?;
    Ok(if without.violations.is_empty() {
        Found::Bug(Box::new(report))
    } else {
        Found::BrokenAnyway
    })
}

/// One line of what became of a hunt.
fn told(hunt: &Hunt) -> String {
    let (name, runs) = (hunt.mutant.name(), hunt.runs);
    match &hunt.found {
        Some(report) => {
            let rule = report.violations.first().map_or("", |violation| &violation.oracle);
            format!("{name}: found by {rule} after {runs} runs: {}", report.words.join(" "))
        }
        None => format!(
            "{name}: NOT FOUND in {runs} runs ({} broken anyway)",
            hunt.broken_anyway
        ),
    }
}

fn show(hunts: &[Hunt]) {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table.set_header(["known bug", "runs", "found by", "chaos run --mutant NAME ..."]);
    for hunt in hunts {
        let name = hunt.mutant.name();
        let runs = hunt.runs.to_string();
        match &hunt.found {
            Some(report) => {
                let rule = report.violations.first().map_or("", |violation| &violation.oracle);
                table.add_row([name, &runs, rule, &report.words.join(" ")]);
            }
            None => {
                table.add_row([name, &runs, "NOT FOUND", ""]);
            }
        }
    }
    line(table);
    let missed = hunts.iter().filter(|hunt| hunt.found.is_none()).count();
    line(format_args!(
        "{} of {} known bugs found",
        hunts.len() - missed,
        hunts.len()
    ));
}
