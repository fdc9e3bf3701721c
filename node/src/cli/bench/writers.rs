//! Writers side by side, each of which waits for one write before it begins the next, as long as a measurement lasts.

use std::{
    future::Future,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::Args;
use futures::future::try_join_all;

use super::{Figure, cluster, cluster::Cluster, percentile};
use crate::cli::{Globals, connect, dev::REGIONS, failure::Failure};

/// What every measurement with writers is told.
#[derive(Debug, Args)]
pub struct WriterArgs {
    /// How many clients at a time
    #[arg(long, value_delimiter = ',', default_value = "1,64")]
    pub(super) clients: Vec<usize>,
    /// How long each measurement lasts
    #[arg(long, default_value_t = 3)]
    pub(super) seconds: u64,
    /// The tenant to write to, with --cluster
    #[arg(long, default_value = cluster::TENANT)]
    pub(super) tenant: String,
}

/// Nodes of the measurement's own, where the command names none.
pub(super) async fn own_cluster(dir: &Path, globals: &Globals) -> Result<Option<Cluster>, Failure> {
    if globals.cluster.is_empty() {
        Ok(Some(Cluster::start(dir, &REGIONS).await?))
    } else {
        Ok(None)
    }
}

/// Times one writer's writes until the measurement is over.
#[derive(Debug)]
pub(super) struct Stopwatch {
    is_over: Arc<AtomicBool>,
    latencies: Vec<Duration>,
}

impl Stopwatch {
    /// Whether another write may begin.
    pub(super) fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    /// Writes so far.
    pub(super) fn count(&self) -> usize {
        self.latencies.len()
    }

    /// Carries out one write.
    pub(super) async fn time(&mut self, write: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
        let clock = connect::clock();
        let began = clock.monotonic();
        write.await?;
        self.latencies.push(clock.monotonic().saturating_sub(began));
        Ok(())
    }
}

/// What all writers together came to.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) took: Duration,
    /// In ascending order.
    latencies: Vec<Duration>,
}

impl Measured {
    /// Writes that were answered.
    pub(super) fn count(&self) -> u64 {
        self.latencies.len() as u64
    }

    /// How long most writes took.
    pub(super) fn percentiles(&self, name: &str) -> [Figure; 2] {
        [50, 99].map(|percent| Figure::millis(format!("{name} p{percent}"), percentile(&self.latencies, percent)))
    }
}

/// Lets all writers write for this long. Each gives its stopwatch back when that says that it is over. The first that
/// fails ends the measurement.
pub(super) async fn measure<Writing>(
    writers: impl IntoIterator<Item = impl FnOnce(Stopwatch) -> Writing>,
    time: Duration,
) -> Result<Measured, Failure>
where
    Writing: Future<Output = Result<Stopwatch, Failure>> + Send + 'static,
{
    let is_over = Arc::new(AtomicBool::new(false));
    let started = connect::clock().monotonic();
    let stopwatch = || Stopwatch {
        is_over: Arc::clone(&is_over),
        latencies: Vec::new(),
    };
    let writers: Vec<_> = writers
        .into_iter()
        .map(|write| tokio::spawn(write(stopwatch())))
        .collect();
    let all = try_join_all(writers.into_iter().map(async |writer| {
        let ended = writer.await;
        ended.map_err(|error| Failure::failed(format_args!("a writer ended: {error}")))?
    }));
    let end = async {
        tokio::time::sleep(time).await;
        is_over.store(true, Ordering::Relaxed);
        Ok(())
    };
    let ended = tokio::try_join!(all, end);
    // Also those that go on while one has failed.
    is_over.store(true, Ordering::Relaxed);
    let (stopwatches, ()) = ended?;
    let mut latencies: Vec<_> = stopwatches.into_iter().flat_map(|writer| writer.latencies).collect();
    let took = connect::clock().monotonic().saturating_sub(started);
    latencies.sort();
    Ok(Measured { took, latencies })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_writer_that_fails_ends_the_measurement() {
        let fails = |at: usize| {
            move |stopwatch: Stopwatch| async move {
                match at {
                    0 => std::future::pending().await,
                    1 => Ok(stopwatch),
                    _ => Err(Failure::unreachable("no node has acknowledged the write")),
                }
            }
        };
        let measured = measure((0..3).map(fails), Duration::from_hours(1));
        let ended = tokio::time::timeout(Duration::from_secs(10), measured).await;
        let failure = ended.expect("it does not wait for the others").unwrap_err();
        assert_eq!(failure.message, "no node has acknowledged the write");
    }
}
