//! Opening a node's storage: files, formats, replay of the logs, and the writers' start.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use halcyon_core::{
    env::{Access, Env},
    id::NodeId,
};
use tokio::sync::{Semaphore, mpsc};

use super::{
    Inner, Storage,
    base::{FORMAT, Index, OpenError, Opened, disk_error},
    group::Origins,
    limits::{FOLD_BYTES, QUEUE_BYTES_MAX, QUEUE_MAX},
    log::{Log, LogError, LogId},
    replay::replay,
    rewrite::{Generation, Purge, RewriteError, Rewritten, rewrite},
    shard::{Published, Shard},
    types::{CommitSink, StorageError},
    work::Names,
    writer::Writer,
};

/// How storage is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// This node, for the origins that it draws.
    pub node: NodeId,
    /// Independent parts, each with a writer of its own. Fixed when the directory is made; later values are ignored.
    pub shards: usize,
    /// Memory for pages of the index, for all shards together.
    pub cache_bytes: usize,
    /// Bytes of the overlay after which it is folded into the index.
    pub fold_bytes: usize,
}

impl Default for Options {
    /// Two shards, which two cores can serve, and 64 MiB: what the index of a million triples reads in an hour.
    fn default() -> Self {
        Self {
            node: NodeId::default(),
            shards: 2,
            cache_bytes: 64 << 20,
            fold_bytes: FOLD_BYTES,
        }
    }
}

/// The file that says what the directory is: `halcyon storage <format> <shards>`.
pub(super) const SHAPE: &str = "storage.format";

impl Storage {
    /// Opens or makes the storage in the environment's directory. Call it on a tokio runtime: the writers are tasks.
    pub async fn open(env: &Env, options: Options, sink: Arc<dyn CommitSink>) -> Result<Self, OpenError> {
        let shards = env.run_blocking(|| shape(env, options.shards)).await?;
        let mut inner = Inner {
            shards: Vec::new(),
            senders: Vec::new(),
            log_ids: Vec::new(),
            room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
        };
        let mut writers = Vec::new();
        for number in 0..shards {
            let cache_bytes = options.cache_bytes / shards;
            let opened = env.run_blocking(|| open_shard(env, number, cache_bytes)).await?;
            let (sender, receiver) = mpsc::channel(QUEUE_MAX);
            let shard = Arc::new(Shard::new(opened.published));
            inner.shards.push(Arc::clone(&shard));
            inner.senders.push(sender);
            inner.log_ids.push(opened.log_id);
            writers.push(Writer {
                env: env.clone(),
                shard,
                purge: opened.erased.then(|| Purge::at_once(opened.log.last())),
                index: opened.index,
                generation: opened.generation,
                log: opened.log,
                watermark: opened.watermark,
                names: Names::default(),
                origins: Origins {
                    node: options.node,
                    env: env.clone(),
                    drawn: BTreeMap::new(),
                },
                receiver,
                sink: Arc::clone(&sink),
                queue: VecDeque::new(),
                fold: None,
                fold_bytes: options.fold_bytes,
            });
        }
        for writer in writers {
            tokio::spawn(writer.run());
        }
        Ok(Self { inner: Arc::new(inner) })
    }
}

struct OpenedShard {
    published: Published,
    index: Arc<Index>,
    log: Log,
    log_id: u64,
    watermark: u64,
    generation: Generation,
    /// Whether files may hold bytes of a tenant that was erased.
    erased: bool,
}

/// Reads or writes what the directory is; answers with its number of shards.
fn shape(env: &Env, shards: usize) -> Result<usize, OpenError> {
    let disk = |error: std::io::Error| StorageError::Disk(error.to_string().into());
    if let Some(bytes) = env.disk.read_small(SHAPE).map_err(disk)? {
        let text = String::from_utf8_lossy(&bytes);
        let mut words = text.trim().strip_prefix("halcyon storage ").unwrap_or("").split(' ');
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        let (found, shards) = (number(), number());
        let damaged = || StorageError::Disk(format!("{SHAPE} says {text:?}").into());
        let found = found.ok_or_else(damaged)?;
        if found > FORMAT {
            return Err(OpenError::NewerFormat { found });
        }
        let shards = shards.filter(|&shards| shards > 0).ok_or_else(damaged)?;
        if found < FORMAT {
            // Before anything is changed that an older release would not understand.
            write_shape(env, shards)?;
        }
        return Ok(usize::try_from(shards).map_err(|_| damaged())?);
    }
    let shards = shards.max(1);
    write_shape(env, shards)?;
    Ok(shards)
}

fn write_shape(env: &Env, shards: impl std::fmt::Display) -> Result<(), OpenError> {
    let text = format!("halcyon storage {FORMAT} {shards}\n");
    let written = env.disk.write_small(SHAPE, text.as_bytes(), Access::Normal);
    Ok(written.map_err(disk_error)?)
}

/// Has what an earlier release wrote without seals copied into a file that has them, once.
fn sealed(env: &Env, opened: Opened, generation: Generation) -> Result<(Opened, Generation), OpenError> {
    if !opened.is_plain {
        return Ok((opened, generation));
    }
    let file = generation.file_name();
    tracing::info!(
        file,
        "the index is copied into a file whose pages are checked; once, and it may take a while"
    );
    let mut shown = None;
    let rewritten = rewrite(&*env.disk, &opened.index, generation, |base| shown = Some(base));
    let Rewritten { generation, index } = match rewritten {
        Ok(rewritten) => rewritten,
        Err(RewriteError::Copy(error)) => {
            tracing::warn!(file, %error, "the index could not be copied, and is used without checks until the next start");
            return Ok((opened, generation));
        }
        Err(RewriteError::Switch(error)) => return Err(error.into()),
    };
    let base = shown.map_or_else(|| index.base(), Ok)?;
    Ok((Opened { index, base, ..opened }, generation))
}

fn open_shard(env: &Env, shard: usize, cache_bytes: usize) -> Result<OpenedShard, OpenError> {
    let disk = |error: std::io::Error| StorageError::Disk(error.to_string().into());
    let generation = Generation::current(&*env.disk, shard).map_err(disk)?;
    if let Some(reason) = env.disk.read_small(&generation.damage_record()).map_err(disk)? {
        let reason = String::from_utf8_lossy(&reason).into_owned();
        return Err(OpenError::DamagedIndex { shard, reason });
    }
    let file = env.disk.open(&generation.file_name()).map_err(disk)?;
    let opened = Index::open(file, cache_bytes, env.entropy.next())?;
    let (opened, generation) = sealed(env, opened, generation)?;
    let (id, watermark) = (opened.log_id, opened.watermark);
    let at = LogId { shard, id, watermark };
    let (log, frames) = Log::open(&*env.disk, at).map_err(|error| match error {
        LogError::Io(error) => OpenError::Storage(disk(error)),
        LogError::Damaged(reason) => OpenError::DamagedLog { shard, reason },
    })?;
    let tenants = opened.tenants.into_iter().map(|(id, state)| (id, Arc::new(state)));
    let mut published = Published::new(opened.base, tenants.collect(), opened.next_tenant);
    replay(&mut published, frames, &*env.probe)?;
    Ok(OpenedShard {
        erased: opened.erased || published.has_erased()?,
        generation,
        published,
        index: opened.index,
        log,
        log_id: id,
        watermark,
    })
}
