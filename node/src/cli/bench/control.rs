//! Control-plane writes: a tenant's setting of about 256 bytes changes, agreed on by the nodes each time.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::Args;
use halcyon_client::AdminClient;
use halcyon_proto::v1;

use super::{Figure, cluster, cluster::Cluster, percentile};
use crate::cli::{Globals, connect, dev::REGIONS, failure::Failure, output};

/// Bytes of each value, as in the measurement of etcd that this stands beside.
const VALUE_BYTES: usize = 256;

/// See there.
#[derive(Debug, Args)]
pub struct ControlArgs {
    /// How many clients at a time
    #[arg(long, value_delimiter = ',', default_value = "1,64")]
    clients: Vec<usize>,
    /// How long each measurement lasts
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// The tenant whose setting changes, with --cluster
    #[arg(long, default_value = cluster::TENANT)]
    tenant: String,
}

pub(super) async fn run(args: &ControlArgs, dir: &Path, globals: &Globals) -> Result<Vec<Figure>, Failure> {
    let own = if globals.cluster.is_empty() {
        Some(Cluster::start(dir, &REGIONS).await?)
    } else {
        None
    };
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
        let stop = Arc::new(AtomicBool::new(false));
        let started = connect::clock().monotonic();
        let writers: Vec<_> = admins[..count]
            .iter()
            .zip(0..)
            .map(|(admin, at)| tokio::spawn(write(admin.clone(), args.tenant.clone(), at, Arc::clone(&stop))))
            .collect();
        tokio::time::sleep(Duration::from_secs(args.seconds)).await;
        stop.store(true, Ordering::Relaxed);
        let mut latencies = Vec::new();
        for writer in writers {
            let written = writer
                .await
                .map_err(|error| Failure::failed(format_args!("a writer ended: {error}")))?;
            latencies.append(&mut written?);
        }
        let took = connect::clock().monotonic().saturating_sub(started);
        latencies.sort();
        let plural = if count == 1 { "client" } else { "clients" };
        let name = format!("control-plane writes, {count} {plural}");
        figures.push(Figure::rate(name.clone(), latencies.len() as u64, took, "writes/s"));
        figures.push(Figure::millis(format!("{name}, p50"), percentile(&latencies, 50)));
        figures.push(Figure::millis(format!("{name}, p99"), percentile(&latencies, 99)));
    }
    Ok(figures)
}

async fn write(admin: AdminClient, tenant: String, at: u64, stop: Arc<AtomicBool>) -> Result<Vec<Duration>, Failure> {
    let clock = connect::clock();
    let mut latencies = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let mut value = format!("https://c{at}-{}.example.com", latencies.len());
        while value.len() < VALUE_BYTES {
            value.push_str(",https://app.example.com");
        }
        let request = v1::SetTenantSettingRequest {
            tenant: tenant.clone(),
            name: "allowed_origins".to_owned(),
            value,
        };
        let sent = clock.monotonic();
        admin
            .set_tenant_setting(request)
            .await
            .map_err(connect::admin_failure)?;
        latencies.push(clock.monotonic().saturating_sub(sent));
    }
    Ok(latencies)
}
