//! `halcyon status` and `halcyon settings`: how the cluster is, and what it is told to do.

use std::time::Duration;

use clap::{Args, Subcommand};
use halcyon_proto::v1;
use serde_json::json;

use super::{
    Globals, connect,
    failure::Failure,
    output::{self, Rows, Tone},
};

/// Time between two looks of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// What is known of the quorum is told with its age from here on. Leaders speak more often.
const QUORUM_FRESH: Duration = Duration::from_secs(1);

/// See there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  halcyon status
  halcyon status --tenant tracker --watch")]
pub struct StatusArgs {
    /// Only this tenant's lag
    #[arg(long, env = "HALCYON_TENANT")]
    tenant: Option<String>,
    /// Draw anew every second, until Ctrl-C
    #[arg(long, short)]
    watch: bool,
}

/// See there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  halcyon settings
  halcyon settings set drift_max 30s
  halcyon settings reset drift_max")]
pub struct SettingsArgs {
    #[command(subcommand)]
    command: Option<SettingsCommand>,
}

#[derive(Debug, Subcommand)]
enum SettingsCommand {
    /// List all settings with their values and defaults
    #[command(after_help = "Example:\n  halcyon settings list")]
    List,
    /// Change a setting; it applies at once, on all nodes
    #[command(after_help = "Example:\n  halcyon settings set drift_max 30s")]
    Set {
        /// The setting
        name: String,
        /// Its value
        value: String,
    },
    /// Put a setting back to its default
    #[command(after_help = "Example:\n  halcyon settings reset drift_max")]
    Reset {
        /// The setting
        name: String,
    },
}

/// Shows the cluster.
pub async fn run(args: StatusArgs, globals: &Globals) -> Result<(), Failure> {
    let admin = connect::admin(globals).await?;
    loop {
        let request = v1::StatusRequest {
            tenant: args.tenant.clone().unwrap_or_default(),
        };
        let status = admin.status(request).await.map_err(connect::admin_failure)?;
        if args.watch && !globals.json {
            output::clear_screen();
        }
        if globals.json {
            output::json(&describe(&status));
        } else {
            show(&status);
        }
        if !args.watch {
            return Ok(());
        }
        output::flush();
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => return Ok(()),
            () = tokio::time::sleep(WATCH_EVERY) => {}
        }
    }
}

/// Shows or changes settings.
pub async fn run_settings(args: SettingsArgs, globals: &Globals) -> Result<(), Failure> {
    let admin = connect::admin(globals).await?;
    let (name, value) = match args.command.unwrap_or(SettingsCommand::List) {
        SettingsCommand::List => {
            let answer = admin
                .list_settings(v1::ListSettingsRequest {})
                .await
                .map_err(connect::admin_failure)?;
            print_settings(&answer.settings, globals);
            return Ok(());
        }
        SettingsCommand::Set { name, value } if value.is_empty() => {
            let advice = format!("halcyon settings reset {name}");
            return Err(Failure::usage("the value is empty").advise(advice));
        }
        SettingsCommand::Set { name, value } => (name, value),
        SettingsCommand::Reset { name } => (name, String::new()),
    };
    let request = v1::SetSettingRequest {
        name: name.clone(),
        value,
    };
    let answer = admin.set_setting(request).await.map_err(connect::admin_failure)?;
    let changed: Vec<v1::Setting> = answer
        .settings
        .into_iter()
        .filter(|setting| setting.name == name)
        .collect();
    print_settings(&changed, globals);
    Ok(())
}

fn print_settings(settings: &[v1::Setting], globals: &Globals) {
    if globals.json {
        let all: Vec<_> = settings
            .iter()
            .map(|setting| {
                json!({ "name": setting.name, "value": setting.value, "default": setting.default,
                        "description": setting.description })
            })
            .collect();
        output::json(&json!(all));
        return;
    }
    let mut rows = Rows::new(&["name", "value", "default", "what it does"]);
    for setting in settings {
        let value = if setting.value.is_empty() {
            &setting.default
        } else {
            &setting.value
        };
        rows.push([&setting.name, value, &setting.default, &setting.description]);
    }
    rows.print();
}

fn show(status: &v1::StatusResponse) {
    let quorum = if status.quorum {
        let age = Duration::from_millis(status.quorum_age_ms.unwrap_or_default());
        let text = if age < QUORUM_FRESH {
            "has a leader and a quorum".to_owned()
        } else {
            format!("had a leader and a quorum {} s ago", age.as_secs())
        };
        output::tint(Tone::Good, &text).into_owned()
    } else {
        output::tint(
            Tone::Bad,
            "has NO quorum: tenants serve on, but nothing about them can be changed",
        )
        .into_owned()
    };
    output::line(format!(
        "cluster {}  {quorum}  (index {})\nseen from n{} in {}, which holds {}\n",
        status.cluster,
        status.metadata_index,
        status.node,
        status.region,
        output::plural(status.tenants_held, "tenant", "tenants"),
    ));
    nodes_table(&status.nodes).print();
    show_lag(&status.lag);
    if status.alarms.is_empty() {
        output::line(format!("\n{}", output::tint(Tone::Good, "no alarms")));
        return;
    }
    output::line("");
    for alarm in &status.alarms {
        let tenant = if alarm.tenant_id.is_empty() {
            String::new()
        } else {
            format!(" tenant {}", alarm.tenant_id)
        };
        let text = format!("ALARM n{}{tenant} {}: {}", alarm.node, alarm.kind, alarm.message);
        output::line(output::tint(Tone::Bad, &text));
    }
}

/// The nodes of a cluster as a table.
pub fn nodes_table(nodes: &[v1::NodeDescription]) -> Rows {
    let mut rows = Rows::new(&[
        "node",
        "region",
        "role",
        "state",
        "round trip>",
        "clients",
        "peers",
        "version",
    ]);
    for node in nodes {
        let round_trip = match (node.reachable, node.round_trip_us) {
            (false, _) => match node.silent_ms {
                Some(silent) => format!("unreachable for {} s", silent / 1_000),
                None => "unreachable".to_owned(),
            },
            (true, 0) => "-".to_owned(),
            (true, micros) => output::duration(Duration::from_micros(micros.into())),
        };
        rows.push([
            format!("n{}", node.id),
            node.region.clone(),
            node.role.clone(),
            node.state.clone(),
            round_trip,
            node.client_address.clone(),
            node.peer_address.clone(),
            node.version.clone(),
        ]);
    }
    rows
}

/// One node, for programs.
pub fn describe_node(node: &v1::NodeDescription) -> serde_json::Value {
    json!({
        "node": node.id, "region": node.region, "role": node.role, "state": node.state,
        "reachable": node.reachable, "round_trip_us": node.round_trip_us, "silent_ms": node.silent_ms,
        "client_address": node.client_address, "peer_address": node.peer_address, "version": node.version,
    })
}

fn show_lag(lag: &[v1::TenantLag]) {
    let mut rows = Rows::new(&["tenant", "node", "region", "state", "behind>"]);
    for replica in lag {
        let name = if replica.tenant_name.is_empty() {
            &replica.tenant_id
        } else {
            &replica.tenant_name
        };
        let behind = match replica.change_sets {
            _ if replica.unheard => "unknown".to_owned(),
            0 => "0".to_owned(),
            count => output::plural(count, "set", "sets"),
        };
        rows.push([
            name.clone(),
            format!("n{}", replica.node),
            replica.region.clone(),
            if replica.unreachable {
                format!("{}, unreachable", replica.state)
            } else {
                replica.state.clone()
            },
            behind,
        ]);
    }
    if !rows.is_empty() {
        output::line("");
        rows.print();
    }
}

fn describe(status: &v1::StatusResponse) -> serde_json::Value {
    json!({
        "node": status.node,
        "region": status.region,
        "cluster": status.cluster,
        "quorum": status.quorum,
        "quorum_age_ms": status.quorum_age_ms,
        "metadata_index": status.metadata_index,
        "tenants_held": status.tenants_held,
        "nodes": status.nodes.iter().map(describe_node).collect::<Vec<_>>(),
        "lag": status.lag.iter().map(|lag| json!({
            "tenant": lag.tenant_name, "tenant_id": lag.tenant_id, "node": lag.node, "region": lag.region,
            "state": lag.state, "change_sets": (!lag.unheard).then_some(lag.change_sets), "reachable": !lag.unreachable,
        })).collect::<Vec<_>>(),
        "alarms": status.alarms.iter().map(|alarm| json!({
            "node": alarm.node, "tenant_id": alarm.tenant_id, "kind": alarm.kind, "message": alarm.message,
            "since_ms": alarm.since_ms,
        })).collect::<Vec<_>>(),
    })
}
