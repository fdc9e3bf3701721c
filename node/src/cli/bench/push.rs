//! Three nodes live, change sets through gRPC: one or many clients that each wait for the acknowledgement of a set
//! before they send the next.

use std::{path::Path, time::Duration};

use clap::Args;
use halcyon_client::Client;

use super::{
    Figure, cluster,
    load::{Load, next_seed},
    writers::{self, Measured, Stopwatch, WriterArgs},
};
use crate::cli::{Globals, connect, dev::REGIONS, failure::Failure, output};

/// Clients that send sets of many triples. One would leave the nodes idle while it makes the next set.
const LARGE_SET_CLIENTS: usize = 4;

/// Triples from which a set counts as large.
const LARGE_SET: usize = 100;

/// See there.
#[derive(Debug, Args)]
pub struct PushArgs {
    #[command(flatten)]
    writers: WriterArgs,
    /// Triples in a set
    #[arg(long, value_delimiter = ',', default_value = "1,1000")]
    sizes: Vec<usize>,
}

pub(super) async fn run(args: &PushArgs, dir: &Path, globals: &Globals) -> Result<Vec<Figure>, Failure> {
    let (sizes, args) = (&args.sizes, &args.writers);
    let own = writers::own_cluster(dir, globals).await?;
    let (addresses, key) = match &own {
        Some(cluster) => {
            let key = cluster.tenant(&REGIONS).await?;
            let addresses = cluster.nodes.iter().map(|node| node.client_address.clone()).collect();
            (addresses, key)
        }
        None => (globals.addresses(), connect::key(globals, &args.tenant)?),
    };
    let (mut figures, patience) = (Vec::new(), globals.timeout);
    for &size in sizes {
        let counts = if size < LARGE_SET {
            args.clients.as_slice()
        } else {
            &[LARGE_SET_CLIENTS]
        };
        for &count in counts {
            output::note(format!("sets of {size}, {count} clients, {} s", args.seconds));
            let clients = clients(&addresses, &args.tenant, &key, count).await?;
            let writers = clients
                .into_iter()
                .map(|client| move |stopwatch| write(client, size, patience, stopwatch));
            let measured = writers::measure(writers, Duration::from_secs(args.seconds)).await?;
            figures.extend(figures_of(&measured, addresses.len(), size, count));
        }
    }
    if let Some(cluster) = &own {
        let started = connect::clock().monotonic();
        cluster::until_agreed(&cluster.admin().await?).await?;
        let waited = connect::clock().monotonic().saturating_sub(started);
        figures.push(Figure::seconds("all replicas agree after the last set", waited));
    }
    Ok(figures)
}

/// Clients spread over the nodes.
async fn clients(addresses: &[String], tenant: &str, key: &str, count: usize) -> Result<Vec<Client>, Failure> {
    let mut clients = Vec::with_capacity(count);
    for address in addresses.iter().cycle().take(count) {
        clients.push(cluster::pinned_client(address, tenant, key).await?);
    }
    Ok(clients)
}

fn figures_of(measured: &Measured, nodes: usize, size: usize, clients: usize) -> Vec<Figure> {
    let nodes = if nodes == 1 {
        "one node".to_owned()
    } else {
        format!("{nodes} nodes")
    };
    let plural = if clients == 1 { "client" } else { "clients" };
    let name = format!("{nodes}, sets of {size}, {clients} {plural}");
    let (count, unit) = if size == 1 {
        (measured.count(), "sets/s")
    } else {
        (measured.count() * size as u64, "triples/s")
    };
    let rate = Figure::rate(name.clone(), count, measured.took, unit);
    let latencies = measured.percentiles(&format!("{name}, acknowledged"));
    [rate].into_iter().chain(latencies).collect()
}

/// `patience`: how long to wait for the acknowledgement of one set.
async fn write(
    client: Client,
    size: usize,
    patience: Duration,
    mut stopwatch: Stopwatch,
) -> Result<Stopwatch, Failure> {
    let mut load = Load::new(next_seed());
    while stopwatch.goes_on() {
        let changes = load.set(size);
        let write = async {
            let mut pending = client.write(changes).await.map_err(connect::write_failure)?;
            connect::acknowledged(&mut pending, patience).await.map(|_| ())
        };
        stopwatch.time(write).await?;
    }
    client.close().await;
    Ok(stopwatch)
}
