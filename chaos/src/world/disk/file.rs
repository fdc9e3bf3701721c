//! One file: what is durable, what is seen, and the writes between the two.

use std::{
    fmt, io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use halcyon_core::env::File;
use rand::{RngExt, rngs::SmallRng};

use super::{LOST_IN_CRASH, PAGE_BYTES, SECTOR_BYTES, SYNC, State, TORN_IN_CRASH, comes_true, power_lost, trace};

enum Change {
    Write(usize, Vec<u8>),
    Len(usize),
}

/// What is in a file.
#[derive(Default)]
pub(super) struct Contents {
    durable: Vec<u8>,
    seen: Vec<u8>,
    pending: Vec<Change>,
}

impl Contents {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self {
            seen: bytes.clone(),
            durable: bytes,
            pending: Vec::new(),
        }
    }

    pub(super) fn durable(&self) -> &[u8] {
        &self.durable
    }

    pub(super) fn seen(&self) -> &[u8] {
        &self.seen
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.seen, &change);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in mem::take(&mut self.pending) {
            apply(&mut self.durable, &change);
        }
    }

    /// How many unsynced changes were kept whole and how many torn.
    pub(super) fn crash(&mut self, chance: &mut SmallRng) -> (usize, usize) {
        let (mut kept, mut torn) = (0, 0);
        for change in mem::take(&mut self.pending) {
            if comes_true(chance, LOST_IN_CRASH) {
                continue;
            }
            match change {
                Change::Write(offset, bytes) if comes_true(chance, TORN_IN_CRASH) => {
                    torn += 1;
                    for (sector, part) in bytes.chunks(SECTOR_BYTES).enumerate() {
                        if comes_true(chance, 0.5) {
                            let at = offset + sector * SECTOR_BYTES;
                            apply(&mut self.durable, &Change::Write(at, part.to_vec()));
                        }
                    }
                }
                change => {
                    kept += 1;
                    apply(&mut self.durable, &change);
                }
            }
        }
        self.seen.clone_from(&self.durable);
        (kept, torn)
    }

    /// Flips a bit in the page at `start`, if that holds anything. Returns where.
    pub(super) fn flip_bit(&mut self, start: usize, chance: &mut SmallRng) -> Option<usize> {
        let end = self.durable.len().min(self.seen.len());
        let page = start..(start + PAGE_BYTES).min(end);
        let is_used = page.clone().any(|at| self.durable[at] != 0);
        if page.is_empty() || !is_used {
            return None;
        }
        let at = chance.random_range(page);
        let bit = 1 << chance.random_range(0..8);
        self.durable[at] ^= bit;
        self.seen[at] ^= bit;
        Some(at)
    }
}

fn apply(image: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Len(len) => image.resize(*len, 0),
        Change::Write(offset, bytes) => {
            let end = offset + bytes.len();
            if image.len() < end {
                image.resize(end, 0);
            }
            image[*offset..end].copy_from_slice(bytes);
        }
    }
}

/// An open file.
pub(super) struct Handle {
    disk: Arc<Mutex<State>>,
    name: String,
    generation: u64,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.name)
    }
}

impl Handle {
    pub(super) fn new(disk: Arc<Mutex<State>>, name: &str, generation: u64) -> Self {
        Self {
            disk,
            name: name.to_owned(),
            generation,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk, if this handle still counts.
    fn usable(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.is_off || state.generation != self.generation {
            return Err(power_lost());
        }
        Ok(state)
    }

    fn look<T>(&self, look: impl FnOnce(&[u8]) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.usable()?;
        state.before_read()?;
        let contents = state
            .files
            .get(&self.name)
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        look(contents.seen())
    }

    fn change(&self, what: &'static str, end: u64, change: impl FnOnce(&mut Contents)) -> io::Result<()> {
        let mut state = self.usable()?;
        let len = state
            .files
            .get(&self.name)
            .map_or(0, |contents| contents.seen().len() as u64);
        state.before_change(what, end.saturating_sub(len))?;
        let contents = state.files.get_mut(&self.name);
        change(contents.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?);
        Ok(())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.state();
        if state.generation == self.generation {
            state.opened.remove(&self.name);
        }
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}

impl File for Handle {
    fn len(&self) -> io::Result<u64> {
        self.look(|bytes| Ok(bytes.len() as u64))
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let offset = place(offset)?;
        self.look(|bytes| {
            let wanted = bytes.get(offset..offset + buffer.len());
            buffer.copy_from_slice(wanted.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
            Ok(())
        })
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        trace::bytes(self.state().host, "disk.write", offset, bytes);
        let at = place(offset)?;
        self.change("write", offset + bytes.len() as u64, |contents| {
            contents.change(Change::Write(at, bytes.to_vec()));
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        trace::mark(self.state().host, "disk.len", len);
        let to = place(len)?;
        self.change("change of length", len, |contents| contents.change(Change::Len(to)))
    }

    fn sync(&self) -> io::Result<()> {
        trace::mark(self.state().host, "disk.sync", 0);
        self.change(SYNC, 0, Contents::sync)
    }
}
