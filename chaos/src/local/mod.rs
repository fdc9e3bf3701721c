//! `chaos local`: a cluster of real `halcyon` processes, broken on purpose and judged from outside.
//!
//! A run lays the ground (network namespaces, or loopback behind a proxy), boots nodes on it, has clients write and
//! watch, strikes with the faults of its scenario, mends them, and asks the oracles. Whatever ends it (its end, an
//! error, Ctrl-C, a panic) takes down what it made; what a killed run left, the next one removes.

mod clock;
mod cluster;
mod figures;
mod ground;
mod ledger;
mod leftovers;
mod limits;
mod links;
mod node;
mod oracles;
mod report;
mod run;
mod scenario;
mod strays;
mod strike;
mod watcher;
mod workload;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use self::{ground::Ground, links::Links};
pub use self::{ground::Mode, scenario::Scenario};

/// The tenant with a replica in every region.
const EVERYWHERE: &str = "everywhere";

/// The tenant that must stay in the first two regions.
const NEAR: &str = "near";

/// Namespaces were asked for and cannot be made.
const CANNOT: u8 = 3;

/// Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

/// See there.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  chaos local --scenario partition-heals
  chaos local --scenario kill-9-under-load --seconds 120 --mode namespaces
  chaos local --scenario disk-full --json
  chaos local --list

Exit code 0: every promise was kept. 1: one was not, and the evidence is kept. 3: namespaces were asked for and cannot
be made here.")]
pub struct LocalArgs {
    /// The story
    #[arg(long, value_enum, default_value = "partition-heals")]
    pub scenario: Scenario,
    /// Nodes, one region after the other
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(*limits::NODES.start() as i64..=*limits::NODES.end() as i64))]
    pub nodes: u8,
    /// Clients that write beside each node
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(*limits::CLIENTS.start() as i64..=*limits::CLIENTS.end() as i64))]
    pub clients: u8,
    /// How long they write
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(limits::SECONDS))]
    pub seconds: u64,
    /// How nodes are kept apart
    #[arg(long, value_enum, default_value = "auto")]
    pub mode: Mode,
    /// The halcyon binary [default: beside this command]
    #[arg(long, value_name = "PATH")]
    pub halcyon: Option<PathBuf>,
    /// Answer in JSON, for programs
    #[arg(long)]
    pub json: bool,
    /// Name the scenarios and stop
    #[arg(long)]
    pub list: bool,
}

/// Runs the command.
pub async fn run(args: LocalArgs) -> anyhow::Result<ExitCode> {
    if args.list {
        report::list(args.json);
        return Ok(ExitCode::SUCCESS);
    }
    let halcyon = binary(args.halcyon.as_ref())?;
    for left in leftovers::remove() {
        report::note(&format!("removed what an earlier run left: {left}"));
    }
    let links = Links::default();
    let entropy = halcyon_client::env::system(None)?.entropy;
    let ground = match Ground::lay(args.mode, &links, &entropy) {
        Ok((ground, why_not)) => {
            if let Some(reason) = why_not {
                report::note(&format!(
                    "no network namespaces ({reason}): the proxy takes their place"
                ));
            }
            ground
        }
        Err(error) => {
            report::note(&error.to_string());
            return Ok(ExitCode::from(CANNOT));
        }
    };
    report::note(&format!("{}: {}", ground.mode(), ground.describe()));
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        biased;
        ended = run::run(&args, (ground, links), halcyon) => ended,
        pressed = tokio::signal::ctrl_c() => {
            pressed?;
            report::note("interrupted: everything is taken down");
            Ok(ExitCode::from(INTERRUPTED))
        }
        _ = terminate.recv() => {
            report::note("told to stop: everything is taken down");
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

/// The tenants of a run, and the regions of each.
fn tenants() -> [(&'static str, Vec<&'static str>); 2] {
    [
        (EVERYWHERE, links::REGIONS.to_vec()),
        (NEAR, links::REGIONS[..2].to_vec()),
    ]
}

fn binary(given: Option<&PathBuf>) -> anyhow::Result<PathBuf> {
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("halcyon"));
    let path = given
        .cloned()
        .or_else(beside)
        .context("where is halcyon? Give --halcyon PATH")?;
    if !path.is_file() {
        bail!(
            "{} is not there; build it (cargo build --release -p halcyon-node) or give --halcyon PATH",
            path.display()
        );
    }
    Ok(path.canonicalize()?)
}
