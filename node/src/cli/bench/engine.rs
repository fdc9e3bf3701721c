//! One node's storage alone, without network: change sets straight into `Storage::admit`, acknowledged after the fsync.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::Args;
use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, Clock, NTP64},
    env::Env,
    id::{NodeId, TenantId},
    version_vector::VersionVector,
};

use super::{
    Figure, cluster, float,
    load::{Load, next_seed},
};
use crate::{
    cli::{
        connect,
        failure::{Failure, file_failure},
        output,
    },
    env,
    storage::{
        Options, Storage,
        types::{Admit, CommitSink, StorageEvent},
    },
};

/// Triples in a large set.
const LARGE_SET: usize = 1_000;

/// Writers of large sets: one makes and encodes a set while the others' are merged.
const LARGE_SET_WRITERS: usize = 4;

/// See there.
#[derive(Debug, Args)]
pub struct EngineArgs {
    /// How many writers at a time, for sets of one triple
    #[arg(long, value_delimiter = ',', default_value = "1,64")]
    writers: Vec<usize>,
    /// How long each of these measurements lasts
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Triples to write in sets of 1,000; 0 leaves that out
    #[arg(long, default_value_t = 1_000_000)]
    triples: u64,
}

/// Nobody listens.
struct NoSink;

impl CommitSink for NoSink {
    fn on_events(&self, _events: Vec<StorageEvent>) {}
}

/// A storage of its own, in a directory that goes with it.
#[derive(Debug)]
pub(super) struct Engine {
    dir: PathBuf,
    pub(super) env: Env,
    pub(super) storage: Storage,
    pub(super) tenant: TenantId,
}

impl Engine {
    pub(super) async fn open(parent: &Path) -> Result<Self, Failure> {
        let dir = parent.join(format!("halcyon-bench-{}", hex::encode(connect::random_bytes(6))));
        std::fs::create_dir_all(&dir).map_err(|error| file_failure("make", &dir, &error))?;
        let env = env::system(&dir).map_err(|error| file_failure("open", &dir, &error))?;
        let options = Options {
            node: NodeId(1),
            ..Options::default()
        };
        let storage = Storage::open(&env, options, Arc::new(NoSink))
            .await
            .map_err(Failure::failed)?;
        let tenant = TenantId::generate(|count| env.random_bytes(count));
        storage.open_tenant(tenant, 0).await.map_err(Failure::failed)?;
        storage.set_admitting(tenant, true).await.map_err(Failure::failed)?;
        Ok(Self {
            dir,
            env,
            storage,
            tenant,
        })
    }

    fn writer(&self) -> Writer {
        let client = ClientId::from_random(self.env.random_u128());
        Writer {
            storage: self.storage.clone(),
            env: self.env.clone(),
            tenant: self.tenant,
            clock: Clock::new(client, NTP64(0)),
            number: 0,
            nothing_seen: Arc::new(VersionVector::EMPTY),
            load: Load::new(next_seed()),
        }
    }

    pub(super) async fn close(self) {
        self.storage.close().await;
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// One client, without a network between it and the storage.
struct Writer {
    storage: Storage,
    env: Env,
    tenant: TenantId,
    clock: Clock,
    number: u64,
    nothing_seen: Arc<VersionVector>,
    load: Load,
}

impl Writer {
    async fn write(&mut self, triples: usize) -> Result<(), Failure> {
        let changes: Vec<Change> = self.load.set(triples);
        let now = self.env.clock.wall();
        self.number += 1;
        let set = ChangeSet {
            timestamp: self.clock.stamp(now),
            number: self.number,
            changes,
        };
        let encoded = set.encode().into();
        let admit = Admit {
            tenant: self.tenant,
            set,
            encoded,
            client_vector: Arc::clone(&self.nothing_seen),
            now,
            ahead: None,
        };
        self.storage.admit(admit).await.map_err(Failure::failed).map(|_| ())
    }
}

pub(super) async fn run(args: &EngineArgs, dir: &Path) -> Result<Vec<Figure>, Failure> {
    let mut figures = Vec::new();
    for &writers in &args.writers {
        output::note(format!("sets of 1, {writers} writers, {} s", args.seconds));
        let engine = Engine::open(dir).await?;
        let (sets, took) = small_sets(&engine, writers, Duration::from_secs(args.seconds)).await?;
        engine.close().await;
        let plural = if writers == 1 { "writer" } else { "writers" };
        figures.push(Figure::rate(
            format!("one node's storage, sets of 1, {writers} {plural}"),
            sets,
            took,
            "sets/s",
        ));
    }
    if args.triples > 0 {
        figures.extend(large_sets(dir, args.triples).await?);
    }
    Ok(figures)
}

async fn small_sets(engine: &Engine, writers: usize, time: Duration) -> Result<(u64, Duration), Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let started = connect::clock().monotonic();
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let (mut writer, stop) = (engine.writer(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut sets = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    writer.write(1).await?;
                    sets += 1;
                }
                Ok::<_, Failure>(sets)
            })
        })
        .collect();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut sets = 0;
    for task in tasks {
        sets += task
            .await
            .map_err(|error| Failure::failed(format_args!("a writer ended: {error}")))??;
    }
    Ok((sets, connect::clock().monotonic().saturating_sub(started)))
}

async fn large_sets(dir: &Path, triples: u64) -> Result<Vec<Figure>, Failure> {
    output::note(format!("{} triples in sets of {LARGE_SET}", output::count(triples)));
    let engine = Engine::open(dir).await?;
    let device_before = device_bytes();
    let started = connect::clock().monotonic();
    let sets_each = triples.div_ceil((LARGE_SET * LARGE_SET_WRITERS) as u64);
    let tasks: Vec<_> = (0..LARGE_SET_WRITERS)
        .map(|_| {
            let mut writer = engine.writer();
            tokio::spawn(async move {
                for _ in 0..sets_each {
                    writer.write(LARGE_SET).await?;
                }
                Ok::<_, Failure>(writer.load.payload)
            })
        })
        .collect();
    let mut payload = 0;
    for task in tasks {
        payload += task
            .await
            .map_err(|error| Failure::failed(format_args!("a writer ended: {error}")))??;
    }
    let took = connect::clock().monotonic().saturating_sub(started);
    // What was deferred is part of the cost: closing writes it out.
    engine.storage.close().await;
    let closed = connect::clock().monotonic().saturating_sub(started);
    let device = device_bytes().saturating_sub(device_before);
    let disk = cluster::disk_bytes(&engine.dir);
    engine.close().await;
    let written = sets_each * (LARGE_SET * LARGE_SET_WRITERS) as u64;
    let name = format!(
        "one node's storage, {} triples in sets of {}",
        output::count(written),
        output::count(LARGE_SET as u64)
    );
    Ok(vec![
        Figure::rate(name.clone(), written, took, "triples/s"),
        Figure::rate(
            format!("{name}, with what closing writes"),
            written,
            closed,
            "triples/s",
        ),
        Figure::new(
            "bytes to the device per byte of payload",
            float(device) / float(payload.max(1)),
            "x",
        ),
        Figure::megabytes("payload", payload),
        Figure::megabytes("files on disk", disk),
    ])
}

/// Bytes that this process has had written to devices.
fn device_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
