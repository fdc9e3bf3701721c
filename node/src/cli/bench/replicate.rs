//! From acknowledged on one node to readable on another: written and acknowledged here, then read there again and again
//! until it is found.

use std::{path::Path, time::Duration};

use clap::Args;
use halcyon_client::Client;
use halcyon_core::change::Change;

use super::{
    Figure, cluster,
    load::{Load, next_seed},
    percentile,
    writers::own_cluster,
};
use crate::cli::{Globals, connect, dev::REGIONS, failure::Failure};

/// How long one set may take to appear.
const APPEARS_MAX: Duration = Duration::from_secs(30);

/// Between two samples, so that each meets idle nodes.
const PAUSE: Duration = Duration::from_millis(2);

/// Samples before the first that counts: connections and caches are warm then.
const WARM_UP: u32 = 50;

/// See there.
#[derive(Debug, Args)]
pub struct ReplicateArgs {
    /// Change sets to time
    #[arg(long, default_value_t = 1_000)]
    samples: u32,
    /// The tenant to write to, with --cluster A,B
    #[arg(long, default_value = cluster::TENANT)]
    tenant: String,
}

pub(super) async fn run(args: &ReplicateArgs, dir: &Path, globals: &Globals) -> Result<Vec<Figure>, Failure> {
    let own = own_cluster(dir, globals).await?;
    let (from, to) = if let Some(cluster) = &own {
        let key = cluster.tenant(&REGIONS).await?;
        (cluster.client(0, &key).await?, cluster.client(1, &key).await?)
    } else {
        let key = connect::key(globals, &args.tenant)?;
        let addresses = globals.addresses();
        let [a, b, ..] = addresses.as_slice() else {
            return Err(Failure::usage("two nodes are needed").advise("--cluster A,B with nodes of two regions"));
        };
        (
            cluster::pinned_client(a, &args.tenant, &key).await?,
            cluster::pinned_client(b, &args.tenant, &key).await?,
        )
    };
    let mut load = Load::new(next_seed());
    let mut times = Vec::new();
    let mut reads = Vec::new();
    for at in 0..args.samples + WARM_UP {
        let (time, read) = sample((&from, &to), load.set(10), globals.timeout).await?;
        if at >= WARM_UP {
            times.push(time);
            reads.push(read);
        }
        tokio::time::sleep(PAUSE).await;
    }
    times.sort();
    reads.sort();
    Ok(vec![
        Figure::millis("acknowledged on A to readable on B, p50", percentile(&times, 50)),
        Figure::millis("acknowledged on A to readable on B, p99", percentile(&times, 99)),
        Figure::millis("of which the read that found it, p50", percentile(&reads, 50)),
    ])
}

/// Time from the acknowledgement to the end of the read that finds the set, and how long that read took.
/// `patience`: how long to wait for the acknowledgement.
async fn sample(
    (from, to): (&Client, &Client),
    changes: Vec<Change>,
    patience: Duration,
) -> Result<(Duration, Duration), Failure> {
    let clock = connect::clock();
    let subject = changes[0]
        .subject()
        .cloned()
        .ok_or_else(|| Failure::failed("a change without subject"))?;
    let mut pending = from.write(changes).await.map_err(connect::write_failure)?;
    connect::acknowledged(&mut pending, patience).await?;
    let acknowledged = clock.monotonic();
    loop {
        let asked = clock.monotonic();
        let found = to.get(&subject).await.map_err(connect::read_failure)?;
        let now = clock.monotonic();
        let waited = now.saturating_sub(acknowledged);
        if !found.is_empty() {
            return Ok((waited, now.saturating_sub(asked)));
        }
        if waited > APPEARS_MAX {
            return Err(Failure::failed("a change set did not appear on the other node"));
        }
    }
}
