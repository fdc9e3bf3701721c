//! Control-plane writes: a tenant's setting of about 256 bytes changes, agreed on by the nodes each time.

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
    if let Some(cluster) = &own {
        cluster.tenant(&REGIONS).await?;
    }
    let mut figures = Vec::new();
    for &count in &args.clients {
        output::note(format!("{count} clients, {} s", args.seconds));
        let writers = admins[..count].iter().zip(0..).map(|(admin, at)| {
            let (admin, tenant) = (admin.clone(), args.tenant.clone());
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
