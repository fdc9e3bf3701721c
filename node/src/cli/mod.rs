//! The `halcyon` command: a node, and the programs an operator and a developer need around it.
//!
//! It is a client of the server like any other program: it speaks through the client crate and knows no room of the
//! node, but for `node start`, `dev` and `bench`, which run nodes.

use std::{process::ExitCode, sync::LazyLock, time::Duration};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use halcyon_proto::v1::WireVersions;

pub mod bench;
pub mod connect;
pub mod data;
pub mod dev;
pub mod drain;
pub mod export;
pub mod fact_json;
pub mod failure;
pub mod generate;
pub mod import;
pub mod node;
pub mod output;
pub mod process;
pub mod query;
pub mod random;
pub mod room;
pub mod scan;
pub mod status;
pub mod tenant;
pub mod value_args;
pub mod verify;
pub mod watch;
pub mod watch_query;

use failure::{Exit, Failure};

/// How long the runtime may take to end after the command is done; what still runs is cut off.
const SHUTDOWN_MAX: Duration = Duration::from_secs(2);

/// Regional sync nodes for local-first apps.
#[derive(Debug, Parser)]
#[command(name = "halcyon", version = VERSION, long_version = LONG_VERSION.as_str(), arg_required_else_help = true)]
#[command(after_help = "\
Start here:
  halcyon dev                     three regions on this machine, with data in them
  halcyon scan --tenant demo      look at it
  halcyon query --help            ask it
  halcyon COMMAND --help          every command has an example

Exit codes: 0 done; 1 failed, or replicas disagree; 2 wrong usage; 3 no node answered; 4 a node refused, or only one
region has what was written and the tenant asks for two; 130 Ctrl-C before it was done (0 where it is the end, as of
`watch`); 141 whoever read the answer went away, as in other Unix tools.")]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Release and what it was built for.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The same, with what support asks for first.
static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    let WireVersions { oldest, newest } = halcyon_proto::version::WIRE;
    let commit = option_env!("HALCYON_COMMIT").unwrap_or("not recorded");
    let kind = if cfg!(debug_assertions) { "debug" } else { "release" };
    let (os, machine) = (std::env::consts::OS, std::env::consts::ARCH);
    format!(
        "{VERSION}\ncommit {commit}, {kind} build for {os} {machine}\nwire halcyon.v1, versions {oldest} to {newest}"
    )
});

/// What `--timeout` is when nobody says. Above a node's own deadlines, so that its reason comes before our impatience.
pub const TIMEOUT_DEFAULT: &str = "30s";

/// The same, for commands that make their own options.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Where a node listens for clients if it is not told otherwise.
const CLUSTER_DEFAULT: &str = "127.0.0.1:7700";

/// What every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "For every command")]
pub struct Globals {
    /// Addresses of nodes to begin with; commands on data go on to the tenant's nearest [default: 127.0.0.1:7700]
    #[arg(
        long,
        global = true,
        env = "HALCYON_CLUSTER",
        value_delimiter = ',',
        value_name = "HOST:PORT,..."
    )]
    pub cluster: Vec<String>,

    /// Commands on data stay with the nodes at --cluster, and do not go to the nearest
    #[arg(long, global = true)]
    pub pin: bool,

    /// The admin credential, or the file it is in
    #[arg(
        long,
        global = true,
        env = "HALCYON_ADMIN",
        hide_env_values = true,
        value_name = "FILE|TEXT"
    )]
    pub admin_credential: Option<String>,

    /// A tenant's access key, or the file it is in
    #[arg(
        long,
        global = true,
        env = "HALCYON_KEY",
        hide_env_values = true,
        value_name = "KEY|FILE"
    )]
    pub key: Option<String>,

    /// A PEM file with the CA of the nodes' client listeners, where they use TLS
    #[arg(long, global = true, env = "HALCYON_CA", value_name = "FILE")]
    pub ca: Option<std::path::PathBuf>,

    /// How long a command waits for the cluster; for a long one, how long it waits for the next answer
    #[arg(long, global = true, env = "HALCYON_TIMEOUT", default_value = TIMEOUT_DEFAULT, value_parser = value_args::time)]
    #[arg(value_name = "TIME")]
    pub timeout: Duration,

    /// Tenants, settings and status as of now: all that anybody wrote before shows, or the read is refused
    #[arg(long, global = true)]
    pub linearizable: bool,

    /// Answer in JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
}

impl Globals {
    /// The addresses that somebody gave.
    pub fn given_addresses(&self) -> Vec<String> {
        let given = self.cluster.iter().filter(|address| !address.trim().is_empty());
        given.cloned().collect()
    }

    /// Where to find nodes: what was given, or the port where `dev` and `node start` listen.
    pub fn addresses(&self) -> Vec<String> {
        let given = self.given_addresses();
        if given.is_empty() {
            vec![CLUSTER_DEFAULT.to_owned()]
        } else {
            given
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run three regions on this machine, with a demo tenant
    Dev(dev::Dev),
    /// Run a node; list, drain and remove nodes
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Make tokens by which new nodes join
    #[command(subcommand)]
    Token(node::TokenCommand),
    /// Show nodes, regions, round trips, lag and alarms
    Status(status::StatusArgs),
    /// Show and change the cluster's settings; changes apply at once
    Settings(status::SettingsArgs),
    /// Create, show, place and delete tenants
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Load a CSV, JSON or JSON lines file into a tenant
    Import(import::ImportArgs),
    /// Write a tenant's data as JSON lines
    Export(export::ExportArgs),
    /// Show one entity
    Get(data::GetArgs),
    /// Set fields of an entity
    Set(data::SetArgs),
    /// Add elements to sets of an entity
    Add(data::ElementArgs),
    /// Remove elements from sets of an entity
    Remove(data::ElementArgs),
    /// Delete entities, for good
    Delete(data::DeleteArgs),
    /// List triples that match a pattern
    Scan(scan::ScanArgs),
    /// Ask a query: objects with what belongs to them, or rows
    Query(query::QueryArgs),
    /// Show how a node answers a query: steps, indexes, row counts
    Explain(query::ExplainArgs),
    /// Follow a tenant's changes as they happen
    Watch(watch::WatchArgs),
    /// See who is in a room, and say something there
    #[command(subcommand)]
    Room(room::RoomCommand),
    /// Show which nodes hold a tenant, nearest first
    Locate(data::LocateArgs),
    /// Compare all replicas of a tenant
    Verify(verify::VerifyArgs),
    /// Measure
    Bench(bench::BenchArgs),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let matches = without_empty_env(Cli::command()).try_get_matches();
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return not_understood(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return report(
                &Failure::failed(format_args!("cannot start: {error}")),
                cli.globals.json,
            );
        }
    };
    let json = cli.globals.json;
    let outcome = runtime.block_on(Box::pin(run(cli)));
    runtime.shutdown_timeout(SHUTDOWN_MAX);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure, json),
    }
}

/// Help that was asked for, or what is wrong with the command line; in JSON where that was asked for.
fn not_understood(error: &clap::Error) -> ExitCode {
    let asks_for_json = std::env::args_os().any(|argument| argument == "--json");
    if error.use_stderr() && asks_for_json {
        return report(&usage_failure(&error.to_string()), true);
    }
    let printed = error.print();
    if !error.use_stderr() {
        output::leave_if_unwritten(printed);
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8))
}

/// What is wrong stands in the first paragraph of clap's text, and what would be right in the others.
fn usage_failure(text: &str) -> Failure {
    let (wrong, right) = text.trim().split_once("\n\n").unwrap_or((text.trim(), ""));
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let failure = Failure::usage(one_line(wrong.trim_start_matches("error:")));
    match one_line(right) {
        advice if advice.is_empty() => failure,
        advice => failure.advise(advice),
    }
}

/// A variable that is set to nothing counts as not set, as in any shell script that leaves one out.
fn without_empty_env(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        value.is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|arg| if is_empty(&arg) { arg.env(None::<&str>) } else { arg })
        .mut_subcommands(without_empty_env)
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let globals = &cli.globals;
    match cli.command {
        Command::Dev(args) => dev::run(args, globals).await,
        Command::Node(command) => node::run(command, globals).await,
        Command::Token(command) => node::run_token(command, globals).await,
        Command::Status(args) => status::run(args, globals).await,
        Command::Settings(args) => status::run_settings(args, globals).await,
        Command::Tenant(command) => tenant::run(command, globals).await,
        Command::Import(args) => import::run(args, globals).await,
        Command::Export(args) => export::run(args, globals).await,
        Command::Get(args) => data::get(args, globals).await,
        Command::Set(args) => data::set(args, globals).await,
        Command::Add(args) => data::add(args, globals).await,
        Command::Remove(args) => data::remove(args, globals).await,
        Command::Delete(args) => data::delete(args, globals).await,
        Command::Scan(args) => scan::run(args, globals).await,
        Command::Query(args) => query::run(args, globals).await,
        Command::Explain(args) => query::explain(args, globals).await,
        Command::Watch(args) => watch::run(args, globals).await,
        Command::Room(command) => room::run(command, globals).await,
        Command::Locate(args) => data::locate(args, globals).await,
        Command::Verify(args) => verify::run(args, globals).await,
        Command::Bench(args) => bench::run(args, globals).await,
    }
}

/// Says what went wrong. With `--json` as JSON too, on stderr, because stdout holds data.
fn report(failure: &Failure, json: bool) -> ExitCode {
    if json {
        output::note(told(failure).to_string());
    } else if failure.exit != Exit::Ok {
        output::note(format!("{} {failure}", output::tint_note(output::Tone::Bad, "error:")));
    }
    ExitCode::from(failure.exit as u8)
}

fn told(failure: &Failure) -> serde_json::Value {
    let mut told =
        serde_json::json!({ "error": failure.message, "advice": failure.advice, "exit": failure.exit as u8 });
    for (name, detail) in &failure.details {
        told[name] = detail.clone();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_waits_longer_than_a_node_does() {
        assert_eq!(humantime::parse_duration(TIMEOUT_DEFAULT), Ok(TIMEOUT));
        assert!(TIMEOUT > crate::limits::FORWARD_TIMEOUT && TIMEOUT > crate::limits::QUERY_TIME_MAX);
        for wrong in ["0s", "soon", ""] {
            let args = ["halcyon", "status", "--timeout", wrong];
            assert!(Cli::try_parse_from(args).is_err(), "{wrong}");
        }
        let cli = Cli::try_parse_from(["halcyon", "status", "--timeout", "3s"]).unwrap();
        assert_eq!(cli.globals.timeout, Duration::from_secs(3));
    }

    #[test]
    fn what_is_wrong_with_a_command_line_can_be_told_in_json() {
        let error = Cli::try_parse_from(["halcyon", "status", "--nonsense"]).unwrap_err();
        let failure = usage_failure(&error.to_string());
        assert_eq!(failure.exit, Exit::Usage);
        assert_eq!(failure.message, "unexpected argument '--nonsense' found");
        assert!(failure.advice.unwrap().contains("Usage: halcyon status"));
    }

    #[test]
    fn addresses_that_are_empty_are_not_given() {
        let addresses = |text: &str| {
            let cli = Cli::try_parse_from(["halcyon", "status", "--cluster", text]).unwrap();
            cli.globals.addresses()
        };
        assert_eq!(addresses(""), [CLUSTER_DEFAULT]);
        assert_eq!(addresses("a:1,,b:2"), ["a:1", "b:2"]);
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.has_subcommands() {
                for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
                    check(sub, &path);
                }
                return;
            }
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{path} has no example");
        }
        check(&Cli::command(), "");
    }
}
