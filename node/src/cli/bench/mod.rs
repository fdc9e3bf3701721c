//! `halcyon bench`: what a node and a cluster do on this machine, row by row of the project's table of targets.
//!
//! Without `--cluster` each measurement starts nodes of its own, as child processes in a temporary directory, so that a
//! kill, a node's memory and its disk are the real ones. Every figure is the median of `--runs`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Globals,
    failure::Failure,
    output::{self, Rows},
};

pub mod all;
pub mod bare;
pub mod catch_up;
pub mod cluster;
pub mod control;
pub mod counted;
pub mod engine;
pub mod fanout;
pub mod followed;
pub mod idle;
pub mod join;
pub mod live;
pub mod load;
pub mod push;
pub mod query;
pub mod replicate;
pub mod resume;
pub mod rooms;
pub mod streams;
pub mod writers;

/// See there.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
    /// Measure this often and show the median
    #[arg(long, global = true, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// Where the nodes' data goes; the system's temporary directory if not given
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// What to measure.
#[derive(Debug, Subcommand)]
enum What {
    /// `engine` to `idle` below with their defaults, and one table beside the targets; queries have commands of their own
    #[command(after_help = "\
Example:
  halcyon bench all --runs 3 > figures.md

It takes minutes for each run and a quiet machine.")]
    All(all::AllArgs),
    /// One node's storage alone: small sets by 1 and 64 writers, sets of 1,000
    #[command(after_help = "\
Example:
  halcyon bench engine --runs 3

Triples have new subjects with ten fields each, and about 57 bytes of payload: subject, field and value.")]
    Engine(engine::EngineArgs),
    /// Three nodes, through gRPC: small sets by 1 and 64 clients, sets of 1,000
    #[command(after_help = "\
Examples:
  halcyon bench push --runs 3
  halcyon bench push --clients 1,64 --sizes 1 --seconds 5 --json
  halcyon bench push --cluster 127.0.0.1:7700 --tenant demo

--seconds is how long each measurement lasts. --timeout bounds the wait for one acknowledgement: a set that has none by
then ends the run.")]
    Push(push::PushArgs),
    /// From acknowledged in one region to readable in another
    #[command(after_help = "Example:\n  halcyon bench replicate --samples 2000")]
    Replicate(replicate::ReplicateArgs),
    /// A node is killed, misses change sets, and comes back
    #[command(name = "catch-up", after_help = "Example:\n  halcyon bench catch-up --sets 100000")]
    CatchUp(catch_up::CatchUpArgs),
    /// An empty node joins and takes over a full tenant; memory and disk
    #[command(after_help = "Example:\n  halcyon bench join --triples 1000000")]
    Join(join::JoinArgs),
    /// Control-plane writes by 1 and 64 clients, to a tenant of its own (in a running cluster as well)
    #[command(after_help = "Example:\n  halcyon bench control --runs 3")]
    Control(control::ControlArgs),
    /// What many idle tenants cost
    #[command(after_help = "Example:\n  halcyon bench idle --tenants 10000")]
    Idle(idle::IdleArgs),
    /// Ten questions to a million triples: in memory, and as a node answers from its disk
    #[command(after_help = "\
Examples:
  halcyon bench query --runs 3
  halcyon bench query --triples 100000 --memory

Users, posts and comments with ten fields each. What must be reached is said for a million triples in memory.")]
    Query(query::QueryArgs),
    /// A live top 50 of 20,000 entities and of 200,000: from a change written to the follower told
    #[command(after_help = "\
Examples:
  halcyon bench live
  halcyon bench live --entities 20000,2000000 --rows 20 --json
  halcyon bench live --cluster 127.0.0.1:7700 --tenant demo")]
    Live(live::LiveArgs),
    /// A change that reaches 1,000 different live queries; and 1,000 subscribers of one, beside a bare tonic server
    #[command(after_help = "\
Examples:
  halcyon bench fanout
  halcyon bench fanout --queries 5000 --subscribers 100 --connections 8
  halcyon bench fanout --crowd 10000")]
    Fanout(fanout::FanoutArgs),
    /// A first load of 100,000 triples; and the bytes to come back after 10 of 20,000 entities changed
    #[command(after_help = "Example:\n  halcyon bench resume --entities 20000 --changed 10")]
    Resume(resume::ResumeArgs),
    /// Cursors of 50 users in one room at 60 Hz, in one region and over two: their age when shown, and what they cost
    #[command(after_help = "\
Examples:
  halcyon bench rooms
  halcyon bench rooms --users 200 --rate 20 --seconds 30
  halcyon bench rooms --cluster 127.0.0.1:7700,127.0.0.1:7701 --tenant demo

The users are clients of the library in this process, so on one machine they and the nodes share its cores.")]
    Rooms(rooms::RoomsArgs),
    /// The bare server that `fanout` starts for itself
    #[command(hide = true, after_help = "Example:\n  halcyon bench bare")]
    Bare,
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    /// The project's target.
    must_reach: Option<f64>,
}

impl Figure {
    fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        let name = name.into();
        Self {
            name,
            value,
            unit,
            must_reach: None,
        }
    }

    fn reaching(self, must_reach: Option<f64>) -> Self {
        Self { must_reach, ..self }
    }

    fn seconds(name: impl Into<String>, time: Duration) -> Self {
        Self::new(name, time.as_secs_f64(), "s")
    }

    fn millis(name: impl Into<String>, time: Duration) -> Self {
        Self::new(name, time.as_secs_f64() * 1e3, "ms")
    }

    fn megabytes(name: impl Into<String>, bytes: u64) -> Self {
        Self::new(name, float(bytes) / 1e6, "MB")
    }

    fn rate(name: impl Into<String>, count: u64, time: Duration, unit: &'static str) -> Self {
        Self::new(name, float(count) / time.as_secs_f64().max(1e-9), unit)
    }
}

/// Measures.
pub async fn run(args: BenchArgs, globals: &Globals) -> Result<(), Failure> {
    let dir = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    if !matches!(args.what, What::All(_)) {
        let runs = repeat(&args.what, args.runs, &dir, globals).await?;
        report(&args, globals, &runs);
        return Ok(());
    }
    let mut all = Vec::new();
    for what in all::each()? {
        output::note(format!("bench {}", name(&what)));
        all.push((name(&what), repeat(&what, args.runs, &dir, globals).await?));
    }
    report_all(globals, &all);
    Ok(())
}

async fn repeat(what: &What, count: u32, dir: &Path, globals: &Globals) -> Result<Vec<Vec<Figure>>, Failure> {
    let mut runs = Vec::new();
    for run in 1..=count {
        if count > 1 {
            output::note(format!("run {run} of {count}"));
        }
        let figures = tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => Err(Failure::interrupted("interrupted")),
            figures = Box::pin(measure(what, dir, globals)) => figures,
        };
        runs.push(figures?);
    }
    Ok(runs)
}

async fn measure(what: &What, dir: &Path, globals: &Globals) -> Result<Vec<Figure>, Failure> {
    match what {
        What::All(_) => Err(Failure::failed("`all` is not a single measurement")),
        What::Engine(args) => engine::run(args, dir).await,
        What::Push(args) => push::run(args, dir, globals).await,
        What::Replicate(args) => replicate::run(args, dir, globals).await,
        What::CatchUp(args) => catch_up::run(args, dir).await,
        What::Join(args) => join::run(args, dir).await,
        What::Control(args) => control::run(args, dir, globals).await,
        What::Idle(args) => idle::run(args, dir).await,
        What::Query(args) => query::run(args, dir).await,
        What::Live(args) => live::run(args, dir, globals).await,
        What::Fanout(args) => fanout::run(args, dir, globals).await,
        What::Resume(args) => resume::run(args, dir, globals).await,
        What::Rooms(args) => rooms::run(args, dir, globals).await,
        What::Bare => bare::serve().await.map(|()| Vec::new()),
    }
}

fn report(args: &BenchArgs, globals: &Globals, runs: &[Vec<Figure>]) {
    let has_targets = runs[0].iter().any(|figure| figure.must_reach.is_some());
    let targets: &[&str] = if has_targets { &["must reach>"] } else { &[] };
    let columns = [&["measured", "median>"], targets, &["unit", "runs"]].concat();
    let mut rows = Rows::new(&columns);
    let mut all = Vec::new();
    for (at, first) in runs[0].iter().enumerate() {
        let values: Vec<f64> = runs
            .iter()
            .filter_map(|run| run.get(at))
            .map(|figure| figure.value)
            .collect();
        let median = median(&values);
        let shown: Vec<String> = values.iter().map(|value| short(*value)).collect();
        let shown = if values.len() > 1 {
            shown.join(" ")
        } else {
            String::new()
        };
        let target = has_targets.then(|| first.must_reach.map_or_else(|| "-".to_owned(), short));
        let figure = [first.name.clone(), short(median)].into_iter().chain(target);
        rows.push(figure.chain([first.unit.to_owned(), shown]));
        let mut told = json!({ "name": first.name, "median": median, "unit": first.unit, "runs": values });
        if let Some(target) = first.must_reach {
            told["must_reach"] = target.into();
        }
        all.push(told);
    }
    if globals.json {
        output::json(&json!({ "bench": name(&args.what), "figures": all }));
    } else {
        rows.print();
    }
}

/// The figures of every measurement, as a table for a page.
fn report_all(globals: &Globals, all: &[(&str, Vec<Vec<Figure>>)]) {
    if !globals.json {
        output::line(all::HEAD);
    }
    for (bench, runs) in all {
        for (at, figure) in runs[0].iter().enumerate() {
            let values: Vec<f64> = runs
                .iter()
                .filter_map(|run| run.get(at))
                .map(|figure| figure.value)
                .collect();
            if globals.json {
                output::json(&json!({ "bench": bench, "name": figure.name, "median": median(&values),
                                      "unit": figure.unit, "runs": values }));
            } else {
                output::line(all::row(figure, &values));
            }
        }
    }
}

const fn name(what: &What) -> &'static str {
    match what {
        What::All(_) => "all",
        What::Engine(_) => "engine",
        What::Push(_) => "push",
        What::Replicate(_) => "replicate",
        What::CatchUp(_) => "catch-up",
        What::Join(_) => "join",
        What::Control(_) => "control",
        What::Idle(_) => "idle",
        What::Query(_) => "query",
        What::Live(_) => "live",
        What::Fanout(_) => "fanout",
        What::Resume(_) => "resume",
        What::Rooms(_) => "rooms",
        What::Bare => "bare",
    }
}

/// The middle one, or the mean of the two in the middle.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        len if len.is_multiple_of(2) => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
        len => sorted[len / 2],
    }
}

/// The value that `percent` of all do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

fn short(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 100.0 => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "shown, and not negative"
            )]
            let whole = magnitude.round() as u64;
            output::count(whole)
        }
        magnitude if magnitude >= 10.0 => format!("{value:.1}"),
        // What takes microseconds is told in milliseconds too.
        magnitude if magnitude > 0.0 && magnitude < 0.1 => format!("{value:.4}"),
        _ => format!("{value:.2}"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a measured figure")]
const fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }

    #[test]
    fn a_percentile_is_one_of_the_samples() {
        let samples: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&samples, 50), Duration::from_millis(50));
        assert_eq!(percentile(&samples, 99), Duration::from_millis(99));
        assert_eq!(percentile(&samples[..1], 99), Duration::from_millis(1));
    }
}
