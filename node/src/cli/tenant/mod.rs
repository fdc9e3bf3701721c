//! `halcyon tenant`: create, list, show, place and delete tenants, their keys and settings.

use std::io::{self, BufRead, IsTerminal};

use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};
use halcyon_proto::v1;
use serde_json::json;

mod placement;

use super::{
    Globals, connect,
    failure::Failure,
    output::{self, Rows, Tone},
};

/// Tenants in one page of a list.
const PAGE: u32 = 500;

/// See there.
#[derive(Debug, Subcommand)]
pub enum TenantCommand {
    /// Create a tenant and its first access key
    #[command(after_help = "\
Example:
  halcyon tenant create tracker --regions eu-west,us-east --home eu-west

The key is shown once; only its hash is kept.")]
    Create(CreateArgs),
    /// List tenants
    #[command(after_help = "Example:\n  halcyon tenant list")]
    List,
    /// Show one tenant: regions, replicas, keys, settings
    #[command(after_help = "Example:\n  halcyon tenant show tracker")]
    Show(NameArgs),
    /// Change where a tenant is. Its data moves before an old replica drops it
    #[command(after_help = "Example:\n  halcyon tenant place tracker --regions eu-west,ap-south --home ap-south")]
    Place(PlaceArgs),
    /// Delete a tenant with all its data, everywhere
    #[command(after_help = "Example:\n  halcyon tenant delete tracker --yes")]
    Delete(DeleteArgs),
    /// Create, list and revoke access keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Change one setting of a tenant
    #[command(after_help = "\
Examples:
  halcyon tenant set tracker acknowledgement region
  halcyon tenant set tracker allowed_origins https://app.example.com")]
    Set(SetArgs),
}

/// See there.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Its name: `app` or `app/name`
    name: String,
    /// Where its data may be
    #[arg(long, value_delimiter = ',', required = true, value_name = "REGION,...")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    regions: Vec<String>,
    /// The region that coordinates; the first of --regions if not given
    #[arg(long, value_name = "REGION")]
    home: Option<String>,
    /// Replicas in each region
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    nodes_per_region: u32,
}

/// See there.
#[derive(Debug, Args)]
pub struct NameArgs {
    /// Id or name
    tenant: String,
}

/// See there.
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// Id or name
    tenant: String,
    /// Where its data may be from now on; all of them
    #[arg(long, value_delimiter = ',', value_name = "REGION,...")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    regions: Vec<String>,
    /// The region that coordinates
    #[arg(long, value_name = "REGION")]
    home: Option<String>,
    /// Replicas in each region
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    nodes_per_region: Option<u32>,
}

/// See there.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Id or name
    tenant: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// See there.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Id or name
    tenant: String,
    /// The setting
    name: String,
    /// Its value; empty: back to the default
    value: String,
}

/// See there.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Create an access key; it is shown once
    #[command(after_help = "Example:\n  halcyon tenant key create tracker --label ci")]
    Create {
        /// Id or name
        tenant: String,
        /// What it is for
        #[arg(long, default_value = "")]
        label: String,
    },
    /// List access keys; the keys themselves are not kept
    #[command(after_help = "Example:\n  halcyon tenant key list tracker")]
    List {
        /// Id or name
        tenant: String,
    },
    /// Revoke an access key at once
    #[command(after_help = "Example:\n  halcyon tenant key revoke tracker k3v9")]
    Revoke {
        /// Id or name
        tenant: String,
        /// The key's id, as `key list` shows it
        key_id: String,
    },
}

/// Runs the command.
pub async fn run(command: TenantCommand, globals: &Globals) -> Result<(), Failure> {
    match command {
        TenantCommand::Create(args) => create(args, globals).await,
        TenantCommand::List => list(globals).await,
        TenantCommand::Show(args) => {
            let admin = connect::admin(globals).await?;
            let tenant = admin
                .show_tenant(request(args.tenant))
                .await
                .map_err(connect::admin_failure)?;
            show(&tenant, globals);
            Ok(())
        }
        TenantCommand::Place(args) => place(args, globals).await,
        TenantCommand::Delete(args) => delete(args, globals).await,
        TenantCommand::Key(command) => key(command, globals).await,
        TenantCommand::Set(args) => {
            let admin = connect::admin(globals).await?;
            let request = v1::SetTenantSettingRequest {
                tenant: args.tenant,
                name: args.name,
                value: args.value,
            };
            let tenant = admin
                .set_tenant_setting(request)
                .await
                .map_err(connect::admin_failure)?;
            show(&tenant, globals);
            Ok(())
        }
    }
}

async fn create(args: CreateArgs, globals: &Globals) -> Result<(), Failure> {
    let admin = connect::admin(globals).await?;
    let request = v1::CreateTenantRequest {
        name: args.name,
        regions: args.regions,
        home: args.home.unwrap_or_default(),
        nodes_per_region: args.nodes_per_region,
    };
    let tenant = admin.create_tenant(request).await.map_err(connect::admin_failure)?;
    if globals.json {
        let mut description = describe(&tenant);
        description["key"] = json!(tenant.key);
        output::json(&description);
        return Ok(());
    }
    show(&tenant, globals);
    placement::warn_of_missing_nodes(&tenant);
    output::line("");
    output::line(format!("access key  {}", output::tint(Tone::Strong, &tenant.key)));
    output::note(format!(
        "\nThe key is shown this once. Use it so:\n  export HALCYON_KEY={}\n  halcyon set --tenant {} first note/text=hello",
        tenant.key, tenant.name
    ));
    Ok(())
}

async fn list(globals: &Globals) -> Result<(), Failure> {
    let admin = connect::admin(globals).await?;
    let mut rows = Rows::new(&["name", "regions", "home", "replicas>", "state", "id"]);
    let mut after = String::new();
    let mut found = Vec::new();
    loop {
        let request = v1::ListTenantsRequest { after, limit: PAGE };
        let page = admin.list_tenants(request).await.map_err(connect::admin_failure)?;
        for tenant in &page.tenants {
            rows.push([
                tenant.name.clone(),
                tenant.regions.join(","),
                tenant.home.clone(),
                tenant.replicas.len().to_string(),
                state_of(tenant),
                tenant.id.clone(),
            ]);
            found.push(describe(tenant));
        }
        after = page.next;
        if after.is_empty() {
            break;
        }
    }
    if globals.json {
        output::json(&json!(found));
    } else if rows.is_empty() {
        output::note("There are no tenants yet. Create one:\n  halcyon tenant create NAME --regions REGION,REGION");
    } else {
        rows.print();
    }
    Ok(())
}

async fn place(args: PlaceArgs, globals: &Globals) -> Result<(), Failure> {
    if args.regions.is_empty() && args.home.is_none() && args.nodes_per_region.is_none() {
        return Err(Failure::usage("nothing to change").advise("give --regions, --home or --nodes-per-region"));
    }
    let admin = connect::admin(globals).await?;
    if args.home.is_none() && !args.regions.is_empty() {
        let now = admin.show_tenant(request(args.tenant.clone())).await;
        placement::check_home(&now.map_err(connect::admin_failure)?, &args.regions)?;
    }
    let request = v1::PlaceTenantRequest {
        tenant: args.tenant,
        regions: args.regions,
        home: args.home.unwrap_or_default(),
        nodes_per_region: args.nodes_per_region.unwrap_or(0),
    };
    let tenant = admin.place_tenant(request).await.map_err(connect::admin_failure)?;
    show(&tenant, globals);
    if !globals.json {
        placement::warn_of_missing_nodes(&tenant);
        output::note(format!(
            "\nThe data moves now; an old replica drops its copy when the new ones have all of it.\n  halcyon tenant show {}",
            tenant.name
        ));
    }
    Ok(())
}

async fn delete(args: DeleteArgs, globals: &Globals) -> Result<(), Failure> {
    let admin = connect::admin(globals).await?;
    if !args.yes {
        confirm(&args.tenant)?;
    }
    let answer = admin
        .delete_tenant(request(args.tenant.clone()))
        .await
        .map_err(connect::admin_failure)?;
    if globals.json {
        output::json(&json!({ "deleted": args.tenant, "erasing": answer.erasing }));
    } else if answer.erasing.is_empty() {
        output::line(format!("{} is deleted; no node holds anything of it", args.tenant));
    } else {
        let nodes: Vec<String> = answer.erasing.iter().map(|node| format!("n{node}")).collect();
        output::line(format!(
            "{} is deleted; {} erase its data now",
            args.tenant,
            nodes.join(", ")
        ));
    }
    Ok(())
}

async fn key(command: KeyCommand, globals: &Globals) -> Result<(), Failure> {
    let admin = connect::admin(globals).await?;
    match command {
        KeyCommand::Create { tenant, label } => {
            let request = v1::CreateKeyRequest {
                tenant: tenant.clone(),
                label,
            };
            let answer = admin.create_key(request).await.map_err(connect::admin_failure)?;
            let id = answer.description.map(|key| key.id).unwrap_or_default();
            if globals.json {
                output::json(&json!({ "id": id, "key": answer.key }));
            } else {
                output::line(&answer.key);
                output::note(format!(
                    "The key is shown this once. Revoke it with:\n  halcyon tenant key revoke {tenant} {id}"
                ));
            }
        }
        KeyCommand::List { tenant } => {
            let tenant = admin
                .show_tenant(request(tenant))
                .await
                .map_err(connect::admin_failure)?;
            if globals.json {
                output::json(&describe(&tenant)["keys"]);
            } else {
                print_keys(&tenant);
            }
        }
        KeyCommand::Revoke { tenant, key_id } => {
            let request = v1::RevokeKeyRequest {
                tenant,
                key_id: key_id.clone(),
            };
            admin.revoke_key(request).await.map_err(connect::admin_failure)?;
            if globals.json {
                output::json(&json!({ "revoked": key_id }));
            } else {
                output::line(format!("{key_id} is revoked"));
            }
        }
    }
    Ok(())
}

fn show(tenant: &v1::TenantDescription, globals: &Globals) {
    if globals.json {
        output::json(&describe(tenant));
        return;
    }
    output::line(format!("{}  {}", output::tint(Tone::Strong, &tenant.name), tenant.id));
    output::line(format!(
        "regions     {}, home {}",
        tenant.regions.join(", "),
        tenant.home
    ));
    output::line(format!(
        "placement   epoch {}, {} in each region",
        tenant.placement_epoch, tenant.nodes_per_region
    ));
    for replica in &tenant.replicas {
        let tone = if replica.state == "active" {
            Tone::Good
        } else {
            Tone::Careful
        };
        output::line(format!(
            "replica     n{} {} {}",
            replica.node,
            replica.region,
            output::tint(tone, &replica.state)
        ));
    }
    let mut settings: Vec<_> = tenant.settings.iter().collect();
    settings.sort();
    for (name, value) in settings {
        output::line(format!("setting     {name} = {value}"));
    }
    for key in &tenant.keys {
        output::line(format!("key         {} {}", key.id, key.label));
    }
}

fn print_keys(tenant: &v1::TenantDescription) {
    let mut rows = Rows::new(&["id", "label", "created"]);
    for key in &tenant.keys {
        rows.push([key.id.clone(), key.label.clone(), date(key.created_ms)]);
    }
    rows.print();
}

fn describe(tenant: &v1::TenantDescription) -> serde_json::Value {
    let settings: std::collections::BTreeMap<_, _> = tenant.settings.iter().collect();
    json!({
        "id": tenant.id,
        "name": tenant.name,
        "regions": tenant.regions,
        "home": tenant.home,
        "nodes_per_region": tenant.nodes_per_region,
        "placement_epoch": tenant.placement_epoch,
        "collection_epoch": tenant.collection_epoch,
        "replicas": tenant.replicas.iter().map(|replica| json!({
            "node": replica.node, "region": replica.region, "state": replica.state,
        })).collect::<Vec<_>>(),
        "keys": tenant.keys.iter().map(|key| json!({
            "id": key.id, "label": key.label, "created": date(key.created_ms),
        })).collect::<Vec<_>>(),
        "settings": settings,
    })
}

/// One word for all replicas together.
fn state_of(tenant: &v1::TenantDescription) -> String {
    let moving = tenant
        .replicas
        .iter()
        .filter(|replica| replica.state != "active")
        .count();
    match (tenant.replicas.len(), moving) {
        (0, _) => "nowhere".into(),
        (_, 0) => "active".into(),
        (_, moving) => format!("{moving} moving"),
    }
}

fn date(millis: u64) -> String {
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    halcyon_core::value::date_to_text(millis).unwrap_or_default()
}

fn confirm(tenant: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(format_args!("deleting {tenant} cannot be undone")).advise("add --yes"));
    }
    output::note(format!(
        "This deletes {tenant} with all its data, on every node. It cannot be undone.\nType the tenant's name to go on:"
    ));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && answer.trim() == tenant {
        return Ok(());
    }
    Err(Failure::failed("nothing was deleted"))
}

const fn request(tenant: String) -> v1::TenantRequest {
    v1::TenantRequest { tenant }
}
