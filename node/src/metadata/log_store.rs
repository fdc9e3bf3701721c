//! The Raft log, the vote and the committed place: one redb file, its newest entries also in memory.
//!
//! An append is in memory when it returns and on disk when its callback runs ([`super::log_writer`]), so a leader's
//! disk and its followers' work at the same time, and all that came during one fsync shares the next. `save_committed`
//! costs no commit of its own: it rides on the next append, and [`LogStore::flush_committed`] writes it when no append
//! comes. That is safe: what is committed is in the log of a quorum, so an old place on disk only means that a
//! restarted node applies the rest once it hears from the leader. It may also be newer than the entries on disk, as the
//! quorum may be others: a restart takes it back to the last of them.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use halcyon_core::env::Env;
use openraft::{
    OptionalSend, RaftLogReader,
    entry::RaftEntry,
    storage::{IOFlushed, LogState, RaftLogStorage},
};
use redb::ReadableTable;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::{mpsc, oneshot};

use super::{
    limits::{APPEND_BYTES_MAX, LOG_QUEUE_MAX},
    log_file::LogFile,
    log_tail::{Tail, is_empty},
    log_writer::{Done, Slot, Work, Writer, closed, lock},
    tables::{LOG, MARKS},
    types::{Entry, LogId, TypeConfig, Vote, told},
};

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct LogStore {
    env: Env,
    slot: Slot,
    tail: Arc<Mutex<Tail>>,
    queue: mpsc::Sender<Work>,
}

impl LogStore {
    /// Opens the log, made empty where there is none.
    pub(super) async fn open(env: &Env) -> io::Result<Self> {
        let file = env.run_blocking(|| LogFile::open(env)).await?;
        let vote = mark::<Vote>(&file, "vote")?;
        let found = || vote.map_or_else(String::new, |vote| vote.to_string());
        env.probe.event("metadata.vote-found", &found);
        let purged = mark(&file, "purged")?;
        let last = last(&file)?.or(purged);
        env.probe.event("metadata.log-found", &|| {
            last.map_or(0, |last| last.index()).to_string()
        });
        let tail = Tail::opened(last, purged, mark(&file, "committed")?);
        let (queue, waiting) = mpsc::channel(LOG_QUEUE_MAX);
        let store = Self {
            env: env.clone(),
            slot: Arc::new(RwLock::new(Some(file))),
            tail: Arc::new(Mutex::new(tail)),
            queue,
        };
        let writer = Writer {
            env: env.clone(),
            slot: store.slot.clone(),
            tail: store.tail.clone(),
            queue: waiting,
        };
        tokio::spawn(writer.run());
        Ok(store)
    }

    /// Writes the committed place if no append has taken it along.
    pub(super) async fn flush_committed(&self) -> io::Result<()> {
        if !lock(&self.tail).is_unwritten() {
            return Ok(());
        }
        self.ask(Work::Flush).await
    }

    /// Writes what is left and lets go of the file.
    pub(super) async fn close(&self) -> io::Result<()> {
        self.ask(Work::Close).await
    }

    /// Queues one piece of work and waits until it is on disk.
    async fn ask(&self, work: impl FnOnce(Done) -> Work) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        self.queue.send(work(done)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// The lock is held throughout, so that no entry leaves memory between the two looks; the file is asked only for
    /// what a peer lacks that was away.
    fn read_entries(&self, range: impl RangeBounds<u64>, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        if is_empty(&range) {
            return Ok(entries);
        }
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        let mut bytes_left = bytes_max;
        let tail = lock(&self.tail);
        let older = tail.not_here(range);
        if !is_empty(&older) && self.read_file(older, &mut bytes_left, &mut entries)? {
            return Ok(entries);
        }
        tail.read(range, bytes_left, &mut entries);
        Ok(entries)
    }

    /// Reads stay on the task: they are few, short and nearly always from memory. Whether `bytes_left` was used up.
    fn read_file(
        &self,
        range: (Bound<u64>, Bound<u64>),
        bytes_left: &mut usize,
        found: &mut Vec<Entry>,
    ) -> io::Result<bool> {
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        let read = slot.as_ref().ok_or_else(closed)?.read()?;
        let log = read.open_table(LOG).map_err(io::Error::other)?;
        for row in log.range(range).map_err(io::Error::other)? {
            let (_, bytes) = row.map_err(io::Error::other)?;
            let bytes = bytes.value();
            if bytes.len() > *bytes_left && !found.is_empty() {
                return Ok(true);
            }
            *bytes_left = bytes_left.saturating_sub(bytes.len());
            found.push(decode(bytes)?);
        }
        Ok(false)
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<Entry>> {
        self.read_entries(range, usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        mark(slot.as_ref().ok_or_else(closed)?, "vote")
    }

    /// At least one entry, and no more than fits one call between nodes.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read_entries(start..end, APPEND_BYTES_MAX)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let (last_log_id, last_purged_log_id) = lock(&self.tail).state();
        Ok(LogState {
            last_purged_log_id,
            last_log_id,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let vote = *vote;
        self.ask(|done| Work::Vote(vote, done)).await
    }

    async fn save_committed(&mut self, place: Option<LogId>) -> io::Result<()> {
        lock(&self.tail).commit(place);
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(lock(&self.tail).committed())
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut rows = Vec::new();
        let mut placed = Vec::new();
        for entry in entries {
            let bytes = encode(&entry)?;
            self.env.probe.event("metadata.appended", &|| told(&entry));
            placed.push((entry, bytes.len()));
            rows.push((placed[rows.len()].0.index(), bytes));
        }
        {
            let mut tail = lock(&self.tail);
            for (entry, bytes) in placed {
                tail.push(entry, bytes);
            }
        }
        self.queue.send(Work::Append(rows, flushed)).await.map_err(|_| closed())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        lock(&self.tail).truncate_after(last);
        let from = last.map_or(0, |last| last.index() + 1);
        self.ask(|done| Work::Truncate(from, done)).await
    }

    async fn purge(&mut self, place: LogId) -> io::Result<()> {
        lock(&self.tail).purge(place);
        self.ask(|done| Work::Purge(place, done)).await
    }
}

fn last(file: &LogFile) -> io::Result<Option<LogId>> {
    let read = file.read()?;
    let log = read.open_table(LOG).map_err(io::Error::other)?;
    let last = log.last().map_err(io::Error::other)?;
    last.map(|(_, bytes)| Ok(decode::<Entry>(bytes.value())?.log_id()))
        .transpose()
}

fn mark<T: DeserializeOwned>(file: &LogFile, name: &str) -> io::Result<Option<T>> {
    let read = file.read()?;
    let marks = read.open_table(MARKS).map_err(io::Error::other)?;
    let value = marks.get(name).map_err(io::Error::other)?;
    value.map(|bytes| decode(bytes.value())).transpose()
}

pub(super) fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    postcard::to_allocvec(value).map_err(io::Error::other)
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    decode_first(bytes).map(|(value, _)| value)
}

/// Also what comes after it.
pub(super) fn decode_first<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<(T, &[u8])> {
    postcard::take_from_bytes(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
