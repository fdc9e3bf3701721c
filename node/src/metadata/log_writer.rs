//! The one task that writes the Raft log's file, in the order in which the work came.
//!
//! All work that waits goes into one redb commit with one fsync. Raft does not wait meanwhile: a leader's entries
//! travel to the followers while they go to its own disk, and leave before this disk is touched.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use halcyon_core::{
    env::Env,
    mutant::{self, Mutant},
};
use openraft::storage::IOFlushed;
use redb::{Durability, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use super::{
    limits::LOG_BATCH_MAX,
    log_file::LogFile,
    log_store::encode,
    log_tail::Tail,
    tables::{LOG, MARKS},
    types::{LogId, TypeConfig, Vote},
};

/// The open file. Empty once the log is closed, so that the directory can be opened anew.
pub(super) type Slot = Arc<RwLock<Option<LogFile>>>;

/// Answered when the work is on disk.
pub(super) type Done = oneshot::Sender<io::Result<()>>;

/// One piece of work.
pub(super) enum Work {
    Append(Vec<(u64, Vec<u8>)>, IOFlushed<TypeConfig>),
    Vote(Vote, Done),
    /// Cuts off the entries from this index on.
    Truncate(u64, Done),
    /// Drops the entries up to this place.
    Purge(LogId, Done),
    /// Writes the committed place.
    Flush(Done),
    /// The same, and lets go of the file.
    Close(Done),
}

/// See the module.
pub(super) struct Writer {
    pub(super) env: Env,
    pub(super) slot: Slot,
    pub(super) tail: Arc<Mutex<Tail>>,
    pub(super) queue: mpsc::Receiver<Work>,
}

impl Writer {
    /// Runs until the log is closed or nobody is left who could ask.
    pub(super) async fn run(mut self) {
        let mut batch = Vec::with_capacity(LOG_BATCH_MAX);
        while self.queue.recv_many(&mut batch, LOG_BATCH_MAX).await > 0 {
            let closing = batch.iter().any(|work| matches!(work, Work::Close(_)));
            // What is runnable goes first, so that the followers' disks work at the same time as this one: handing this
            // thread's tasks to another takes 0.2 ms on a busy machine, about what an fsync takes.
            tokio::task::yield_now().await;
            let (slot, tail, works) = (&self.slot, &self.tail, &batch);
            let result = self.env.run_blocking(move || commit(slot, tail, works)).await;
            if closing {
                // First, so that whoever has seen the answer also sees later work refused.
                self.queue.close();
                self.env
                    .run_blocking(|| drop(self.slot.write().unwrap_or_else(PoisonError::into_inner).take()))
                    .await;
            }
            for work in batch.drain(..) {
                if result.is_ok() {
                    self.tell(&work);
                }
                work.answer(&result);
            }
            if closing {
                return;
            }
        }
    }
}

impl Writer {
    /// The simulator's oracles ask what was durable of whoever starts again.
    fn tell(&self, work: &Work) {
        let probe = &self.env.probe;
        match work {
            Work::Vote(vote, _) => probe.event("metadata.vote", &|| vote.to_string()),
            Work::Append(rows, _) => {
                if let Some((last, _)) = rows.last() {
                    probe.event("metadata.log-durable", &|| last.to_string());
                }
            }
            Work::Truncate(from, _) => probe.event("metadata.log-cut", &|| from.saturating_sub(1).to_string()),
            Work::Purge(place, _) => probe.event("metadata.log-durable", &|| place.index().to_string()),
            Work::Flush(_) | Work::Close(_) => {}
        }
    }
}

impl Work {
    fn answer(self, result: &io::Result<()>) {
        let copy = match result {
            Ok(()) => Ok(()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        match self {
            Self::Append(_, flushed) => flushed.io_completed(copy),
            Self::Vote(_, done)
            | Self::Truncate(_, done)
            | Self::Purge(_, done)
            | Self::Flush(done)
            | Self::Close(done) => {
                // Who does not wait any more does not want to know.
                let _ = done.send(copy);
            }
        }
    }

    fn write(&self, write: &WriteTransaction) -> io::Result<()> {
        match self {
            Self::Append(rows, _) => {
                let mut log = write.open_table(LOG).map_err(io::Error::other)?;
                for (index, bytes) in rows {
                    log.insert(index, bytes.as_slice()).map_err(io::Error::other)?;
                }
            }
            Self::Vote(vote, _) => put_mark(write, "vote", vote)?,
            Self::Truncate(from, _) => {
                let mut log = write.open_table(LOG).map_err(io::Error::other)?;
                log.retain_in(*from.., |_, _| false).map_err(io::Error::other)?;
            }
            Self::Purge(place, _) => {
                put_mark(write, "purged", place)?;
                let mut log = write.open_table(LOG).map_err(io::Error::other)?;
                log.retain_in(..=place.index(), |_, _| false)
                    .map_err(io::Error::other)?;
            }
            Self::Flush(_) | Self::Close(_) => {}
        }
        Ok(())
    }
}

/// One durable commit of `works` and of the committed place, if that has moved.
fn commit(slot: &Slot, tail: &Mutex<Tail>, works: &[Work]) -> io::Result<()> {
    let place = lock(tail).take_unwritten();
    let result = commit_with(slot, works, place.as_ref());
    let mut tail = lock(tail);
    if result.is_err() {
        tail.put_back_unwritten(place);
        return result;
    }
    for work in works {
        match work {
            Work::Append(rows, _) => tail.written_to(rows.last().map_or(0, |(index, _)| *index)),
            Work::Truncate(from, _) => tail.cut_from(*from),
            _ => {}
        }
    }
    result
}

fn commit_with(slot: &Slot, works: &[Work], place: Option<&LogId>) -> io::Result<()> {
    let only_flushes = works.iter().all(|work| matches!(work, Work::Flush(_) | Work::Close(_)));
    if only_flushes && place.is_none() {
        return Ok(());
    }
    let slot = slot.read().unwrap_or_else(PoisonError::into_inner);
    let file = slot.as_ref().ok_or_else(closed)?;
    let only_votes = works.iter().all(|work| matches!(work, Work::Vote(..)));
    let durability = if mutant::active(Mutant::VoteWithoutSync) && only_votes {
        Durability::None
    } else {
        Durability::Immediate
    };
    file.commit(durability, |write| {
        for work in works {
            work.write(write)?;
        }
        place.map_or(Ok(()), |place| put_mark(write, "committed", place))
    })
}

fn put_mark<T: serde::Serialize>(write: &WriteTransaction, name: &str, value: &T) -> io::Result<()> {
    let bytes = encode(value)?;
    let mut marks = write.open_table(MARKS).map_err(io::Error::other)?;
    marks.insert(name, bytes.as_slice()).map_err(io::Error::other)?;
    Ok(())
}

/// The lock is held for steps in memory only.
pub(super) fn lock(tail: &Mutex<Tail>) -> std::sync::MutexGuard<'_, Tail> {
    tail.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The log was closed at shutdown.
pub(super) fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the control plane's log is closed")
}
