//! A node is killed, misses change sets, and comes back: how long until all replicas agree again?

use std::path::Path;

use clap::Args;

use super::{Figure, cluster, cluster::Cluster, load};
use crate::cli::{connect, dev::REGIONS, failure::Failure, output};

/// See there.
#[derive(Debug, Args)]
pub struct CatchUpArgs {
    /// Change sets of one triple that it misses
    #[arg(long, default_value_t = 100_000)]
    sets: u64,
}

pub(super) async fn run(args: &CatchUpArgs, dir: &Path) -> Result<Vec<Figure>, Failure> {
    let mut cluster = Cluster::start(dir, &REGIONS).await?;
    let key = cluster.tenant(&REGIONS).await?;
    let client = cluster.client(0, &key).await?;
    load::fill(&client, 1, 1_000).await?;
    let admin = cluster.admin().await?;
    cluster::until_agreed(&admin).await?;
    cluster.kill(2).await?;
    output::note(format!(
        "one node is killed; writing {} sets without it",
        output::count(args.sets)
    ));
    let wrote = load::fill(&client, args.sets, 1).await?;
    client.close().await;
    output::note("starting it again");
    let started = connect::clock().monotonic();
    cluster.restart(2).await?;
    let up = connect::clock().monotonic().saturating_sub(started);
    cluster::until_agreed(&admin).await?;
    let took = connect::clock().monotonic().saturating_sub(started);
    let sets = output::count(args.sets);
    Ok(vec![
        Figure::seconds(format!("a node returns after {sets} single-change sets"), took),
        Figure::seconds("of which until its process served", up),
        Figure::rate(
            "written meanwhile by one client, many on their way",
            args.sets,
            wrote,
            "sets/s",
        ),
    ])
}
