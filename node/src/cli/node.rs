//! `halcyon node` and `halcyon token`: run a node, let nodes join, drain and remove them.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use halcyon_client::AdminError;
use halcyon_core::id::NodeId;
use halcyon_proto::v1;
use serde_json::json;

use super::{
    Globals, connect,
    drain::{self, Left},
    failure::{Exit, Failure},
    output, process,
    status::{describe_node, nodes_table},
    value_args::time,
};
use crate::config::{Config, ConfigError, Source, Start};

/// See there.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Run a node until Ctrl-C or SIGTERM
    #[command(after_help = "\
Examples:
  halcyon node start --region eu-west --data ./eu --listen 10.0.0.1:7700 --peer-listen 10.0.0.1:7710 --bootstrap
  halcyon node start --region us-east --data ./us --listen 10.1.0.1:7700 --peer-listen 10.1.0.1:7710 --join TOKEN
  halcyon node start --region us-east --data ./us --listen 10.1.0.1:7700 --peer-listen 10.1.0.1:7710

The first node of a cluster takes --bootstrap; it leaves DIR/admin.credential for `halcyon token create`. Each other
one takes --join once. A later start of the same directory needs neither. Flags may also stand in the file or in the
environment as HALCYON_REGION, HALCYON_DATA, and so on.")]
    Start(StartArgs),
    /// List the cluster's nodes
    #[command(after_help = "Example:\n  halcyon node list")]
    List,
    /// Move a node's tenants elsewhere, so that it can be removed
    #[command(after_help = "\
Example:
  halcyon node drain n3

Tenants stay in their regions. Those that keep one replica only, or cannot leave, are named; `node undrain` takes it
back.")]
    Drain {
        /// The node, as `node list` shows it
        node: NodeId,
    },
    /// Let a node that was drained have tenants again
    #[command(after_help = "Example:\n  halcyon node undrain n3")]
    Undrain {
        /// The node, as `node list` shows it
        node: NodeId,
    },
    /// Take a node out for good
    #[command(after_help = "\
Examples:
  halcyon node remove n3
  halcyon node remove n3 --force     it is lost, with all that only it had")]
    Remove {
        /// The node, as `node list` shows it
        node: NodeId,
        /// Also where it has data that no other replica is known to have
        #[arg(long)]
        force: bool,
    },
}

/// See there.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Where the node is, e.g. eu-west
    #[arg(long)]
    region: Option<String>,
    /// Its directory [default: halcyon-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where it listens for clients [default: 127.0.0.1:7700]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where it listens for other nodes [default: 127.0.0.1:7710]
    #[arg(long, value_name = "HOST:PORT")]
    peer_listen: Option<String>,
    /// Where clients reach it, if that is another address
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Where other nodes reach it, if that is another address
    #[arg(long, value_name = "HOST:PORT")]
    peer_advertise: Option<String>,
    /// Make a new cluster with this node as its first
    #[arg(long, conflicts_with = "join")]
    bootstrap: bool,
    /// Join a cluster by a token from `halcyon token create`
    #[arg(long, value_name = "TOKEN")]
    join: Option<String>,
    /// A TOML file with these and further settings; see deploy/halcyon.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// See there.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token by which nodes may join while it lasts
    #[command(after_help = "\
Example:
  halcyon token create --lifetime 1h
  halcyon node start --region us-east --data ./us ... --join $(halcyon token create)")]
    Create {
        /// How long it is good for; as the setting `token_lifetime` has it where nothing is said
        #[arg(long, value_parser = time, value_name = "TIME")]
        lifetime: Option<Duration>,
    },
}

/// Runs the command.
pub async fn run(command: NodeCommand, globals: &Globals) -> Result<(), Failure> {
    match command {
        NodeCommand::Start(args) => start(args, globals).await,
        NodeCommand::List => list(globals).await,
        NodeCommand::Drain { node } => drain(node, globals).await,
        NodeCommand::Undrain { node } => undrain(node, globals).await,
        NodeCommand::Remove { node, force } => {
            let admin = connect::admin(globals).await?;
            let request = v1::RemoveNodeRequest { node: node.0, force };
            admin.remove_node(request).await.map_err(connect::admin_failure)?;
            if globals.json {
                output::json(&json!({ "removed": node.0 }));
            } else {
                output::line(format!("{node} is removed for good"));
                output::note(
                    "Its directory may be deleted once nothing is missed that only it held. While it still runs,\n  \
                     halcyon export --full --tenant NAME --cluster ITS-ADDRESS\ntakes a tenant out of it.",
                );
            }
            Ok(())
        }
    }
}

async fn drain(node: NodeId, globals: &Globals) -> Result<(), Failure> {
    let admin = connect::admin(globals).await?;
    let held = drain::held_by(node.0, &admin).await?;
    let drained = admin.drain_node(v1::NodeRequest { node: node.0 }).await;
    let drained = drained.map_err(node_failure)?;
    let status = admin
        .status(v1::StatusRequest::default())
        .await
        .map_err(connect::admin_failure)?;
    let left = Left::of(&drained, &status.nodes, &held);
    if globals.json {
        let mut told = describe_node(&drained);
        told["left"] = left.json();
        output::json(&told);
        return Ok(());
    }
    output::line(drained_text(&drained, &status.nodes));
    for text in left.texts(&drained) {
        output::line(text);
    }
    output::note(format!(
        "When `halcyon tenant list` shows nothing moving:\n  halcyon node remove n{}",
        drained.id
    ));
    Ok(())
}

async fn undrain(node: NodeId, globals: &Globals) -> Result<(), Failure> {
    let admin = connect::admin(globals).await?;
    let active = admin.undrain_node(v1::NodeRequest { node: node.0 }).await;
    let active = active.map_err(node_failure)?;
    if globals.json {
        output::json(&describe_node(&active));
    } else {
        output::line(format!(
            "n{} is {}; tenants may be placed on it again",
            active.id, active.state
        ));
    }
    Ok(())
}

/// A refusal is mostly about a number that no node has.
fn node_failure(error: AdminError) -> Failure {
    match connect::admin_failure(error) {
        failure if failure.exit == Exit::Refused && failure.advice.is_none() => {
            failure.advise("halcyon node list shows the nodes there are")
        }
        failure => failure,
    }
}

/// What draining does: tenants stay in their regions, so it matters who else is there.
fn drained_text(drained: &v1::NodeDescription, nodes: &[v1::NodeDescription]) -> String {
    let (id, region) = (drained.id, &drained.region);
    let others: Vec<String> = nodes
        .iter()
        .filter(|node| node.id != id && node.region == *region && node.state == "active")
        .map(|node| format!("n{}", node.id))
        .collect();
    if others.is_empty() {
        return format!(
            "n{id} is {}. There is no other node in {region}: tenants are given up there, and kept in their other \
             regions",
            drained.state
        );
    }
    format!(
        "n{id} is {}; its tenants move to {} in {region} now",
        drained.state,
        others.join(", ")
    )
}

/// Runs the command.
pub async fn run_token(command: TokenCommand, globals: &Globals) -> Result<(), Failure> {
    let TokenCommand::Create { lifetime } = command;
    let admin = connect::admin(globals).await?;
    let request = v1::CreateTokenRequest {
        lifetime_ms: lifetime.map_or(0, |lifetime| u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX)),
    };
    let answer = admin.create_token(request).await.map_err(connect::admin_failure)?;
    if globals.json {
        output::json(&json!({ "token": answer.token, "expires_ms": answer.expires_ms }));
    } else {
        output::line(&answer.token);
        output::note(match lifetime {
            Some(lifetime) => format!("good for {}", humantime::format_duration(lifetime)),
            None => "good for as long as the setting token_lifetime says (halcyon settings)".to_owned(),
        });
    }
    Ok(())
}

async fn start(args: StartArgs, globals: &Globals) -> Result<(), Failure> {
    let start = Start::from_flags(args.bootstrap, args.join.as_deref()).map_err(config_failure)?;
    let flags = Source {
        region: args.region,
        data: args.data,
        listen: args.listen,
        peer_listen: args.peer_listen,
        advertise: args.advertise,
        peer_advertise: args.peer_advertise,
        ..Source::default()
    };
    let config = Config::load(args.config.as_deref(), &flags, start).map_err(config_failure)?;
    process::start_logs(config.log_format, &config.log_filter)?;
    let (region, data, bootstrap) = (
        config.region.clone(),
        config.data.clone(),
        config.start == Start::Bootstrap,
    );
    let node = process::start(config, "--listen and --peer-listen name other addresses").await?;
    let (id, clients, peers) = (
        node.id(),
        node.client_address().to_owned(),
        node.peer_address().to_owned(),
    );
    if globals.json {
        output::json(
            &json!({ "node": id.0, "region": region.as_str(), "client_address": clients, "peer_address": peers }),
        );
        output::flush();
    } else {
        output::note(format!("{id} runs in {region}: clients at {clients}, peers at {peers}"));
        if bootstrap {
            let credential = data.join("admin.credential");
            output::note(format!(
                "Let a node join:\n  halcyon token create --cluster {clients} --admin-credential {}",
                credential.display()
            ));
        }
    }
    let over = process::until_over(&node).await;
    output::note("stopping");
    process::stop(vec![node]).await?;
    over
}

async fn list(globals: &Globals) -> Result<(), Failure> {
    let admin = connect::admin(globals).await?;
    let status = admin
        .status(v1::StatusRequest::default())
        .await
        .map_err(connect::admin_failure)?;
    if globals.json {
        output::json(&json!(status.nodes.iter().map(describe_node).collect::<Vec<_>>()));
    } else {
        nodes_table(&status.nodes).print();
    }
    Ok(())
}

fn config_failure(error: ConfigError) -> Failure {
    Failure::usage(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draining_says_who_takes_over_or_that_nobody_does() {
        let node = |id, region: &str, state: &str| v1::NodeDescription {
            id,
            region: region.into(),
            state: state.into(),
            ..v1::NodeDescription::default()
        };
        let drained = node(2, "us", "draining");
        let alone = [node(1, "eu", "active"), drained.clone()];
        assert!(drained_text(&drained, &alone).contains("no other node in us"));
        let two = [drained.clone(), node(3, "us", "active"), node(4, "us", "draining")];
        assert!(drained_text(&drained, &two).contains("move to n3 in us"));
    }
}
