//! Control-plane writes: a tenant's setting of about 256 bytes changes, agreed on by the nodes each time. The tenant is the
//! measurement's own, in a running cluster too.

use std::{path::Path, time::Duration};

use clap::Args;
use halcyon_client::AdminClient;
use halcyon_proto::v1;

use super::{
    Figure,
    writers::{self, Stopwatch, WriterArgs},
};
use crate::cli::{Globals, connect, dev::REGIONS, failure::Failure, output};

/// Bytes of each value, as in the measurement of etcd that this stands beside.
const VALUE_BYTES: usize = 256;

/// See there.
#[derive(Debug, Args)]
pub struct ControlArgs {
    #[command(flatten)]
    writers: WriterArgs,
}

pub(super) async fn run(args: &ControlArgs, dir: &Path, globals: &Globals) -> Result<Vec<Figure>, Failure> {
    let args = &args.writers;
    let own = writers::own_cluster(dir, globals).await?;
    let mut admins = Vec::new();
    for at in 0..args.clients.iter().copied().max().unwrap_or(1) {
        admins.push(match &own {
            Some(cluster) => cluster.admin_at(at % cluster.nodes.len()).await?,
            None => connect::admin(globals).await?,
        });
    }
    let tenant = match &own {
        Some(cluster) => {
            cluster.tenant(&REGIONS).await?;
            args.tenant.clone()
        }
        None => tenant_for_now(&admins[0]).await?,
    };
    let measured = measure(args, &admins, &tenant).await;
    if own.is_none() {
        let request = v1::TenantRequest { tenant };
        let deleted = admins[0].delete_tenant(request).await;
        deleted.map_err(connect::admin_failure)?;
    }
    measured
}

/// A tenant in a running cluster for the time of the measurement: nobody's settings change.
async fn tenant_for_now(admin: &AdminClient) -> Result<String, Failure> {
    let status = admin.status(v1::StatusRequest::default()).await;
    let status = status.map_err(connect::admin_failure)?;
    let name = format!("bench-control-{}", std::process::id());
    let request = v1::CreateTenantRequest {
        name: name.clone(),
        regions: vec![status.region],
        home: String::new(),
        nodes_per_region: 1,
    };
    admin.create_tenant(request).await.map_err(connect::admin_failure)?;
    output::note(format!(
        "writes to a tenant of its own, {name}, which is deleted at the end"
    ));
    Ok(name)
}

async fn measure(args: &WriterArgs, admins: &[AdminClient], tenant: &str) -> Result<Vec<Figure>, Failure> {
    let mut figures = Vec::new();
    for &count in &args.clients {
        output::note(format!("{count} clients, {} s", args.seconds));
        let writers = admins[..count].iter().zip(0..).map(|(admin, at)| {
            let (admin, tenant) = (admin.clone(), tenant.to_owned());
            move |stopwatch| write(admin, tenant, at, stopwatch)
        });
        let measured = writers::measure(writers, Duration::from_secs(args.seconds)).await?;
        let plural = if count == 1 { "client" } else { "clients" };
        let name = format!("control-plane writes, {count} {plural}");
        figures.push(Figure::rate(name.clone(), measured.count(), measured.took, "writes/s"));
        figures.extend(measured.percentiles(&format!("{name},")));
    }
    Ok(figures)
}

async fn write(admin: AdminClient, tenant: String, at: u64, mut stopwatch: Stopwatch) -> Result<Stopwatch, Failure> {
    while stopwatch.goes_on() {
        let mut value = format!("https://c{at}-{}.example.com", stopwatch.count());
        while value.len() < VALUE_BYTES {
            value.push_str(",https://app.example.com");
        }
        let request = v1::SetTenantSettingRequest {
            tenant: tenant.clone(),
            name: "allowed_origins".to_owned(),
            value,
        };
        let write = async {
            let written = admin.set_tenant_setting(request).await;
            written.map(|_| ()).map_err(connect::admin_failure)
        };
        stopwatch.time(write).await?;
    }
    Ok(stopwatch)
}
