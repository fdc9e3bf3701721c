//! What many idle tenants cost: processor time, and bytes that the nodes write to their sockets.

use std::{path::Path, time::Duration};

use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use halcyon_proto::v1;

use super::{Figure, cluster::Cluster, float};
use crate::cli::{
    connect,
    dev::REGIONS,
    failure::Failure,
    output::{self, Progress},
};

/// Tenants that are made at a time.
const MADE_AT_ONCE: usize = 64;

/// From the last tenant to the first look: what making them set off has ended then.
const SETTLE: Duration = Duration::from_secs(10);

/// See there.
#[derive(Debug, Args)]
pub struct IdleArgs {
    /// How many
    #[arg(long, default_value_t = 10_000)]
    tenants: u32,
    /// How long to look
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

pub(super) async fn run(args: &IdleArgs, dir: &Path) -> Result<Vec<Figure>, Failure> {
    let cluster = Cluster::start(dir, &REGIONS).await?;
    let admin = cluster.admin().await?;
    let progress = Progress::new("making tenants", "tenants", args.tenants.into());
    let started = connect::clock().monotonic();
    let made = stream::iter(0..args.tenants).map(|at| {
        let request = v1::CreateTenantRequest {
            name: format!("idle/t{at}"),
            regions: REGIONS.map(str::to_owned).to_vec(),
            home: String::new(),
            nodes_per_region: 1,
        };
        let (admin, progress) = (&admin, &progress);
        async move {
            admin.create_tenant(request).await.map_err(connect::admin_failure)?;
            progress.add(1);
            Ok::<_, Failure>(())
        }
    });
    made.buffer_unordered(MADE_AT_ONCE).try_collect::<()>().await?;
    progress.done();
    let making = connect::clock().monotonic().saturating_sub(started);
    output::note(format!(
        "waiting {} s, then looking for {} s",
        SETTLE.as_secs(),
        args.seconds
    ));
    tokio::time::sleep(SETTLE).await;
    let look = || -> (Duration, Option<u64>) {
        let cpu = cluster.nodes.iter().map(super::cluster::Node::cpu_time).sum();
        (cpu, loopback_bytes())
    };
    let (cpu_before, bytes_before) = look();
    let time = Duration::from_secs(args.seconds);
    tokio::time::sleep(time).await;
    let (cpu_after, bytes_after) = look();
    let cpu = cpu_after.saturating_sub(cpu_before).as_secs_f64() / time.as_secs_f64() * 100.0;
    let tenants = output::count(args.tenants.into());
    let mut figures = vec![
        Figure::new(
            format!("{tenants} idle tenants, three nodes: processor"),
            cpu,
            "% of a core",
        ),
        Figure::rate("tenants were made at", args.tenants.into(), making, "tenants/s"),
        Figure::megabytes("resident memory of a node", cluster.nodes[0].resident_bytes()),
    ];
    if let (Some(before), Some(after)) = (bytes_before, bytes_after) {
        let rate = float(after.saturating_sub(before)) / time.as_secs_f64();
        figures.insert(1, Figure::new("bytes on loopback, all of this machine's", rate, "B/s"));
    }
    Ok(figures)
}

/// Bytes that crossed the loopback device. Other programs' too: measure on a quiet machine.
fn loopback_bytes() -> Option<u64> {
    let table = std::fs::read_to_string("/proc/net/dev").ok()?;
    let line = table.lines().find_map(|line| line.trim().strip_prefix("lo:"))?;
    line.split_whitespace().next()?.parse().ok()
}
