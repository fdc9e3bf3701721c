//! Three nodes live, change sets through gRPC: one or many clients that each wait for the acknowledgement of a set
//! before they send the next.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::Args;
use halcyon_client::Client;

use super::{
    Figure, cluster,
    cluster::Cluster,
    load::{Load, next_seed},
};
use crate::cli::{Globals, connect, dev::REGIONS, failure::Failure, output};

/// Clients that send sets of many triples. One would leave the nodes idle while it makes the next set.
const LARGE_SET_CLIENTS: usize = 4;

/// Triples from which a set counts as large.
const LARGE_SET: usize = 100;

/// See there.
#[derive(Debug, Args)]
pub struct PushArgs {
    /// How many clients at a time, for small sets
    #[arg(long, value_delimiter = ',', default_value = "1,64")]
    clients: Vec<usize>,
    /// Triples in a set
    #[arg(long, value_delimiter = ',', default_value = "1,1000")]
    sizes: Vec<usize>,
    /// How long each measurement lasts
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// The tenant to write to, with --cluster
    #[arg(long, default_value = cluster::TENANT)]
    tenant: String,
}

pub(super) async fn run(args: &PushArgs, dir: &Path, globals: &Globals) -> Result<Vec<Figure>, Failure> {
    let own = if globals.cluster.is_empty() {
        Some(Cluster::start(dir, &REGIONS).await?)
    } else {
        None
    };
    let (addresses, key) = match &own {
        Some(cluster) => {
            let key = cluster.tenant(&REGIONS).await?;
            let addresses = cluster.nodes.iter().map(|node| node.client_address.clone()).collect();
            (addresses, key)
        }
        None => (globals.addresses(), connect::key(globals, &args.tenant)?),
    };
    let mut figures = Vec::new();
    for &size in &args.sizes {
        let counts = if size < LARGE_SET {
            args.clients.as_slice()
        } else {
            &[LARGE_SET_CLIENTS]
        };
        for &count in counts {
            output::note(format!("sets of {size}, {count} clients, {} s", args.seconds));
            let clients = clients(&addresses, &args.tenant, &key, count).await?;
            let measured = measure(clients, size, Duration::from_secs(args.seconds)).await?;
            figures.extend(measured.figures(addresses.len(), size, count));
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

/// What a load came to.
struct Measured {
    sets: u64,
    took: Duration,
    latencies: Vec<Duration>,
}

impl Measured {
    fn figures(mut self, nodes: usize, size: usize, clients: usize) -> Vec<Figure> {
        self.latencies.sort();
        let nodes = if nodes == 1 {
            "one node".to_owned()
        } else {
            format!("{nodes} nodes")
        };
        let plural = if clients == 1 { "client" } else { "clients" };
        let name = format!("{nodes}, sets of {size}, {clients} {plural}");
        let rate = if size == 1 {
            Figure::rate(name.clone(), self.sets, self.took, "sets/s")
        } else {
            Figure::rate(name.clone(), self.sets * size as u64, self.took, "triples/s")
        };
        let latency = |percent| super::percentile(&self.latencies, percent);
        vec![
            rate,
            Figure::millis(format!("{name}, acknowledged p50"), latency(50)),
            Figure::millis(format!("{name}, acknowledged p99"), latency(99)),
        ]
    }
}

async fn measure(clients: Vec<Client>, size: usize, time: Duration) -> Result<Measured, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let started = connect::clock().monotonic();
    let writers: Vec<_> = clients
        .into_iter()
        .map(|client| tokio::spawn(write(client, size, Arc::clone(&stop))))
        .collect();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    for writer in writers {
        let written = writer
            .await
            .map_err(|error| Failure::failed(format_args!("a writer ended: {error}")))?;
        latencies.append(&mut written?);
    }
    let took = connect::clock().monotonic().saturating_sub(started);
    Ok(Measured {
        sets: latencies.len() as u64,
        took,
        latencies,
    })
}

async fn write(client: Client, size: usize, stop: Arc<AtomicBool>) -> Result<Vec<Duration>, Failure> {
    let clock = connect::clock();
    let mut load = Load::new(next_seed());
    let mut latencies = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let changes = load.set(size);
        let sent = clock.monotonic();
        let pending = client.write(changes).await.map_err(connect::write_failure)?;
        pending.acknowledged().await.map_err(connect::refused_failure)?;
        latencies.push(clock.monotonic().saturating_sub(sent));
    }
    client.close().await;
    Ok(latencies)
}
