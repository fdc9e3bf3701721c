//! An empty node joins and takes over a full tenant: how long, and what a full node needs of memory and disk.

use std::path::Path;

use clap::Args;
use halcyon_proto::v1;

use super::{Figure, cluster, cluster::Cluster, load};
use crate::cli::{connect, dev::REGIONS, failure::Failure, output};

/// Triples in one set while the tenant is filled.
const SET: usize = 1_000;

/// See there.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// Triples in the tenant
    #[arg(long, default_value_t = 1_000_000)]
    triples: u64,
}

pub(super) async fn run(args: &JoinArgs, dir: &Path) -> Result<Vec<Figure>, Failure> {
    let mut cluster = Cluster::start(dir, &REGIONS[..2]).await?;
    let key = cluster.tenant(&REGIONS[..2]).await?;
    let client = cluster.client(0, &key).await?;
    output::note(format!("writing {} triples", output::count(args.triples)));
    let filled = load::fill(&client, args.triples.div_ceil(SET as u64), SET).await?;
    client.close().await;
    let admin = cluster.admin().await?;
    let triples = cluster::until_agreed(&admin).await?;
    let resident = cluster.nodes[0].resident_bytes();
    output::note("an empty node joins");
    let started = connect::clock().monotonic();
    cluster.add(REGIONS[2]).await?;
    let up = connect::clock().monotonic().saturating_sub(started);
    let request = v1::PlaceTenantRequest {
        tenant: cluster::TENANT.to_owned(),
        regions: REGIONS.map(str::to_owned).to_vec(),
        ..v1::PlaceTenantRequest::default()
    };
    let placed = connect::clock().monotonic();
    admin.place_tenant(request).await.map_err(connect::admin_failure)?;
    cluster::until_active(&admin, REGIONS.len()).await?;
    let active = connect::clock().monotonic().saturating_sub(placed);
    cluster::until_agreed(&admin).await?;
    let written = &cluster.nodes[0];
    let joined = &cluster.nodes[2];
    let count = output::count(triples);
    Ok(vec![
        Figure::seconds(
            format!("an empty node joins {count} triples: placed to serving"),
            active,
        ),
        Figure::seconds("before that, from its process's start to a member", up),
        Figure::rate("the tenant was filled at", triples, filled, "triples/s"),
        Figure::megabytes(
            format!("resident memory of a node with {count} triples, written to"),
            resident,
        ),
        Figure::megabytes("resident memory of the one that joined", joined.resident_bytes()),
        Figure::megabytes("the most it ever had", joined.resident_bytes_max()),
        Figure::megabytes("disk of the node that was written to", written.disk_bytes()),
        Figure::megabytes("disk of the one that joined", joined.disk_bytes()),
    ])
}
