//! The `chaos` command: what can be asked, and how a plan is named.
//!
//! A simulation has a process of its own. `run` is such a process; `sweep`, `meta` and `shrink` start this program
//! again with `run --json` for each of theirs, and so does a `run` that failed and looks for a smaller one.

mod child;
mod failed_seeds;
mod failure;
mod list;
mod meta;
mod mutants;
mod output;
mod patience;
mod run;
mod shrink;
mod story;
mod sweep;

use std::{collections::BTreeSet, process::ExitCode};

use clap::{Args, Parser, Subcommand, builder::RangedU64ValueParser};

use crate::plan::{
    Plan,
    draw::{self, Wish},
    fault::FaultId,
    scenario,
    time::Millis,
};
use crate::{
    local::{self, LocalArgs},
    shrink::Candidate,
};

/// Hosts that a seed draws, at most.
const HOSTS_MAX: u16 = 7;

/// The scenario that is none: the seed draws everything.
const SWARM: &str = "swarm";

/// Watch a whole Halcyon cluster survive: simulated from one seed, or on real processes.
#[derive(Debug, Parser)]
#[command(
    name = "chaos",
    version,
    after_help = "Examples:
  chaos run --seed 7                              one run; what the seed draws
  chaos run --seed 7 --scenario partition-heals --timeline
  chaos run --seed 7 --html seed-7.html           the same as a page
  chaos sweep --seeds 0..200 --jobs 2             many runs, a process each
  chaos shrink --seed 7                           the little that makes a seed fail
  chaos meta --seed 7                             the same run twice must be the same run
  chaos list                                      the named scenarios
  chaos local --scenario partition-heals          real processes"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Carries out one seed's plan in the simulator. Exit code 1: a rule was broken
    Run(run::RunArgs),
    /// Runs a seed in two processes and compares everything that happened
    Meta(meta::MetaArgs),
    /// Runs many seeds, a process each. Exit code 1: a rule was broken in one
    Sweep(sweep::SweepArgs),
    /// Makes a failing plan smaller as long as it fails in the same way
    Shrink(shrink::ShrinkArgs),
    /// Puts known bugs back, one at a time. Exit code 1: one was not found
    Mutants(mutants::MutantsArgs),
    /// The named scenarios, a line each
    List,
    /// The same stories on real processes, in network namespaces or behind a proxy
    Local(LocalArgs),
}

/// Which plan.
#[derive(Debug, Clone, Args)]
struct PlanArgs {
    /// Decides everything
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A named scenario (`chaos list`); `swarm` lets the seed draw it
    #[arg(long, default_value = SWARM)]
    scenario: String,
    /// How long workload and faults last, in simulated seconds
    #[arg(long, value_parser = seconds())]
    seconds: Option<u64>,
    /// How many hosts the seed shall draw
    #[arg(long, value_parser = at_least_one(HOSTS_MAX))]
    hosts: Option<usize>,
    /// Leaves out what the plan has after this simulated millisecond
    #[arg(long)]
    until_ms: Option<u64>,
    /// Leaves out all hosts but the first so many
    #[arg(long, value_parser = at_least_one(u16::MAX))]
    first_hosts: Option<usize>,
    /// Leaves out all clients but the first so many
    #[arg(long, value_parser = at_least_one(u16::MAX))]
    first_clients: Option<usize>,
    /// Only these faults of the plan, by number: `3,8,9`; `none` for none
    #[arg(long)]
    faults: Option<String>,
}

impl PlanArgs {
    fn plan(&self) -> Result<Plan, String> {
        let mut plan = if self.scenario == SWARM {
            let mut wish = Wish::default();
            if let Some(seconds) = self.seconds {
                wish.duration = Millis::secs(seconds);
            }
            wish.hosts = self.hosts;
            draw::swarm(self.seed, wish)
        } else if self.hosts.is_some() {
            return Err(format!(
                "--hosts is what a seed shall draw; the scenario {} has its own",
                self.scenario
            ));
        } else {
            let found = scenario::find(&self.scenario);
            let found = found.ok_or_else(|| format!("there is no scenario {:?}; see chaos list", self.scenario))?;
            (found.build)(self.seed)
        };
        if let (Some(seconds), false) = (self.seconds, self.scenario == SWARM) {
            plan = plan.shorten(Millis::secs(seconds));
        }
        if let Some(faults) = &self.faults {
            let (ids, all) = (fault_ids(faults)?, plan.fault_ids());
            if let Some(id) = ids.iter().find(|id| !all.contains(id)) {
                return Err(format!(
                    "the plan has no fault {id}; chaos run --dry shows those that it has"
                ));
            }
            plan = plan.keep(&ids);
        }
        if self.first_hosts.is_some() || self.first_clients.is_some() {
            let hosts = self.first_hosts.unwrap_or(plan.cluster.hosts.len());
            let clients = self.first_clients.unwrap_or(plan.clients.len());
            plan = plan.shrink_to(hosts, clients);
        }
        if let Some(millis) = self.until_ms {
            plan = plan.shorten(Millis(millis));
        }
        Ok(plan)
    }

    /// What names a smaller plan.
    fn smaller(&self, candidate: &Candidate, whole: &Candidate) -> Self {
        let mut smaller = self.clone();
        let ids: Vec<String> = candidate.faults.iter().map(ToString::to_string).collect();
        smaller.faults = Some(if ids.is_empty() {
            "none".to_owned()
        } else {
            ids.join(",")
        });
        // The whole may be a part of a larger plan already: what stays as it is stays named.
        let changed = |is_changed: bool, to: usize| is_changed.then_some(to);
        let duration = (candidate.duration != whole.duration).then_some(candidate.duration.0);
        smaller.until_ms = duration.or(self.until_ms);
        smaller.first_hosts = changed(candidate.hosts != whole.hosts, candidate.hosts).or(self.first_hosts);
        smaller.first_clients = changed(candidate.clients != whole.clients, candidate.clients).or(self.first_clients);
        smaller
    }

    /// Whether it names a part of a plan, as a search for the smallest does.
    const fn is_part(&self) -> bool {
        self.faults.is_some() || self.until_ms.is_some() || self.first_hosts.is_some() || self.first_clients.is_some()
    }

    /// What names the same plan on a command line.
    fn words(&self) -> Vec<String> {
        let mut words = vec!["--seed".to_owned(), self.seed.to_string()];
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                words.extend([name.to_owned(), value]);
            }
        };
        add("--scenario", (self.scenario != SWARM).then(|| self.scenario.clone()));
        add("--seconds", self.seconds.map(|seconds| seconds.to_string()));
        add("--hosts", self.hosts.map(|hosts| hosts.to_string()));
        add("--until-ms", self.until_ms.map(|millis| millis.to_string()));
        add("--first-hosts", self.first_hosts.map(|hosts| hosts.to_string()));
        add("--first-clients", self.first_clients.map(|clients| clients.to_string()));
        add("--faults", self.faults.clone());
        words
    }
}

/// Of simulated time: up to a day.
fn seconds() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(1..=86_400)
}

fn at_least_one(most: u16) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=most.into())
}

fn fault_ids(text: &str) -> Result<BTreeSet<FaultId>, String> {
    if text == "none" {
        return Ok(BTreeSet::new());
    }
    let id = |word: &str| {
        let number = word.trim().parse();
        number
            .map(FaultId)
            .map_err(|_| format!("{word:?} is not the number of a fault; give 3,8,9 or none"))
    };
    text.split(',').map(id).collect()
}

fn run_local(args: LocalArgs) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    runtime
        .block_on(Box::pin(local::run(args)))
        .map_err(|error| format!("{error:#}"))
}

/// Runs the command.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Meta(args) => meta::run(&args),
        Command::Sweep(args) => sweep::run(&args),
        Command::Shrink(args) => shrink::run(&args),
        Command::Mutants(args) => mutants::run(&args),
        Command::List => list::run(),
        Command::Local(args) => run_local(args),
    };
    result.unwrap_or_else(|problem| {
        output::problem(&problem);
        ExitCode::from(2)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn args(words: &str) -> PlanArgs {
        let words = ["chaos", "run"].into_iter().chain(words.split_whitespace());
        match Cli::parse_from(words).command {
            Command::Run(args) => args.plan().clone(),
            _ => unreachable!("it says run"),
        }
    }

    /// What names the plan after it was made smaller.
    #[track_caller]
    fn check(words: &str, smaller: impl FnOnce(&mut Candidate), expected: &str) {
        let args = args(words);
        let whole = Candidate::whole(&args.plan().unwrap());
        let mut candidate = whole.clone();
        smaller(&mut candidate);
        assert_eq!(args.smaller(&candidate, &whole).words().join(" "), expected);
    }

    #[test]
    fn a_plan_is_refused_that_would_not_be_the_one_that_was_meant() {
        let why = |words: &str| args(words).plan().unwrap_err();
        assert!(why("--seed 7 --faults 0,999").contains("no fault 999"));
        assert!(why("--scenario partition-heals --hosts 5").contains("has its own"));
        assert!(why("--scenario partition-heal").contains("chaos list"));
        for words in [
            "--hosts 0",
            "--hosts 8",
            "--seconds 0",
            "--seconds 18446744073709551615",
            "--first-clients 0",
        ] {
            let words = ["chaos", "run"].into_iter().chain(words.split(' '));
            assert!(Cli::try_parse_from(words).is_err());
        }
    }

    #[test]
    fn a_part_of_a_part_is_named_by_both() {
        check("--seed 7", |part| part.faults.clear(), "--seed 7 --faults none");
        check(
            "--seed 7 --until-ms 20000 --first-hosts 2 --faults none",
            |part| part.clients = 1,
            "--seed 7 --until-ms 20000 --first-hosts 2 --first-clients 1 --faults none",
        );
        check(
            "--seed 7 --until-ms 20000 --faults none",
            |part| part.duration = Millis(10_500),
            "--seed 7 --until-ms 10500 --faults none",
        );
    }
}
