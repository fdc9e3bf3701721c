//! A simulated disk: files in memory, of which a crash keeps what was synced and a seeded part of the rest.
//!
//! Invariants:
//! - what `sync` returned for survives every crash;
//! - a write that was not synced survives whole, in torn 512-byte sectors, or not at all, each by itself;
//! - a small file is replaced as a whole, as `Env` promises;
//! - after the power is cut no handle opened before writes again, whatever still holds it.
//!
//! `run` sleeps first and then runs the work in place: nothing is seen before it is durable, and no thread takes part.

mod file;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use halcyon_core::env::{Access, BoxFuture, Disk, File};
use memchr::memmem;
use rand::{Rng, RngExt, rngs::SmallRng};

use super::{
    chance::{self, Purpose},
    clock::now,
    machine::Machine,
    trace,
};
use file::{Contents, Handle};

/// What a disk writes as one: a torn write is torn between these.
const SECTOR_BYTES: usize = 512;

/// What a sync is called where a change of the disk has a name.
const SYNC: &str = "sync";

/// A unit that rots.
const PAGE_BYTES: usize = 4_096;

/// How an unsynced write fares in a crash: it is lost more often than kept, as nobody asked for it yet.
const LOST_IN_CRASH: f64 = 0.4;

/// Of those not lost, the part that is torn.
const TORN_IN_CRASH: f64 = 0.4;

/// Of disk work, the part that finds its pages in memory and takes no time.
const INSTANT_WORK: f64 = 0.5;

/// The slowest disk work of a healthy disk.
const SLOWEST_WORK_MICROS: f64 = 8_000.0;

/// How likely operations fail.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Failing {
    /// Reads.
    pub read: f64,
    /// Writes, changes of length, removals.
    pub write: f64,
    /// Syncs.
    pub sync: f64,
}

/// How a disk misbehaves, besides crashes.
#[derive(Debug, Clone, Default)]
pub struct Ailment {
    /// Power fails when this many more writes and syncs have passed.
    pub cut_after: Option<u32>,
    /// Bytes that fit; more is `StorageFull`.
    pub capacity: Option<u64>,
    /// Chances that a read, a write or a sync fails with an I/O error.
    pub failing: Failing,
    /// Time that each piece of work takes longer.
    pub slower: Duration,
    /// Nothing is worked on before this simulated nanosecond: the machine is paused.
    pub paused_until: u64,
}

/// All files at one moment.
#[derive(Debug, Clone, Default)]
pub struct Image {
    files: BTreeMap<String, Vec<u8>>,
    small: BTreeMap<String, Vec<u8>>,
}

pub(super) struct State {
    host: Machine,
    files: BTreeMap<String, Contents>,
    small: BTreeMap<String, Vec<u8>>,
    opened: BTreeSet<String>,
    chance: SmallRng,
    /// Raised by every crash: handles of before are dead.
    generation: u64,
    is_off: bool,
    ailment: Ailment,
}

/// The disk of one host. Survives the host's crashes.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimDisk({})", self.state().host)
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64, host: Machine) -> Self {
        Self(Arc::new(Mutex::new(State {
            host,
            files: BTreeMap::new(),
            small: BTreeMap::new(),
            opened: BTreeSet::new(),
            chance: chance::stream(seed, Purpose::Disk, host),
            generation: 0,
            is_off: false,
            ailment: Ailment::default(),
        })))
    }

    /// Whether the power is off, by a crash or by a cut in the middle of something.
    pub fn is_off(&self) -> bool {
        self.state().is_off
    }

    /// Whether it does what it is told, whatever is on it.
    pub fn is_well(&self) -> bool {
        let ailment = &self.state().ailment;
        ailment.capacity.is_none() && ailment.failing == Failing::default()
    }

    /// Cuts the power. Says what became of the unsynced writes.
    pub fn crash(&self) -> String {
        let state = &mut *self.state();
        state.generation += 1;
        state.is_off = true;
        state.opened.clear();
        state.ailment.cut_after = None;
        let mut fates = Vec::new();
        for (name, contents) in &mut state.files {
            let pending = contents.pending();
            let (kept, torn) = contents.crash(&mut state.chance);
            if pending != 0 {
                fates.push(format!("{name}: of {pending} unsynced writes {kept} kept, {torn} torn"));
            }
        }
        fates.join("; ")
    }

    /// Ends the process but not the machine: the system still writes what it was given.
    pub fn end_process(&self) {
        let state = &mut *self.state();
        state.generation += 1;
        state.opened.clear();
        state.is_off = true;
        for contents in state.files.values_mut() {
            contents.sync();
        }
    }

    /// Lets the disk be used again after a crash.
    pub fn power_on(&self) {
        self.state().is_off = false;
    }

    /// Changes how the disk misbehaves.
    pub fn ail(&self, change: impl FnOnce(&mut Ailment)) {
        change(&mut self.state().ailment);
    }

    /// Everything that is durable now.
    pub fn image(&self) -> Image {
        let state = self.state();
        let durable = |(name, contents): (&String, &Contents)| (name.clone(), contents.durable().to_vec());
        Image {
            files: state.files.iter().map(durable).collect(),
            small: state.small.clone(),
        }
    }

    /// Puts an earlier state of the files whose name begins with `prefix` back, while the power is off.
    pub fn restore(&self, image: &Image, prefix: &str) {
        let mut state = self.state();
        debug_assert!(state.is_off, "a disk is restored under a running node");
        state.files.retain(|name, _| !name.starts_with(prefix));
        state.small.retain(|name, _| !name.starts_with(prefix));
        let files = image.files.iter().filter(|(name, _)| name.starts_with(prefix));
        state
            .files
            .extend(files.map(|(name, bytes)| (name.clone(), Contents::of(bytes.clone()))));
        let small = image.small.iter().filter(|(name, _)| name.starts_with(prefix));
        state
            .small
            .extend(small.map(|(name, bytes)| (name.clone(), bytes.clone())));
    }

    /// Empties the disk, while the power is off: a new machine.
    pub fn wipe(&self) {
        self.restore(&Image::default(), "");
    }

    /// Flips a bit in so many pages, of those with anything on them, of the files whose name begins with `prefix`. Says
    /// where.
    pub fn rot(&self, prefix: &str, pages: u32) -> String {
        let state = &mut *self.state();
        let is_full = |page: &[u8]| page.iter().any(|byte| *byte != 0);
        let files = state.files.iter().filter(|(name, _)| name.starts_with(prefix));
        let full = files.flat_map(|(name, contents)| {
            let pages = contents.durable().chunks(PAGE_BYTES).zip(0..);
            pages
                .filter(|(page, _)| is_full(page))
                .map(|(_, at)| (name.clone(), at))
        });
        let full: Vec<(String, usize)> = full.collect();
        let mut rotten = Vec::new();
        for _ in 0..pages.min(u32::try_from(full.len()).unwrap_or(u32::MAX)) {
            let (name, page) = &full[state.chance.random_range(0..full.len())];
            let contents = state.files.get_mut(name);
            let flipped = contents.and_then(|contents| contents.flip_bit(page * PAGE_BYTES, &mut state.chance));
            rotten.extend(flipped.map(|offset| format!("{name} at {offset}")));
        }
        rotten.join(", ")
    }

    /// Whether `needle` is anywhere on the disk, synced or not; the file that holds it.
    pub fn find(&self, needle: &[u8]) -> Option<String> {
        let state = self.state();
        let finder = memmem::Finder::new(needle);
        let holds = |bytes: &[u8]| finder.find(bytes).is_some();
        let of_files = state.files.iter().find(|(_, contents)| holds(contents.seen()));
        let of_small = || state.small.iter().find(|(_, bytes)| holds(bytes)).map(|(name, _)| name);
        of_files.map(|(name, _)| name).or_else(of_small).cloned()
    }

    /// Bytes in all files.
    pub fn size(&self) -> u64 {
        self.state().size()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn size(&self) -> u64 {
        let files = self.files.values().map(|contents| contents.seen().len());
        (files.sum::<usize>() + self.small.values().map(Vec::len).sum::<usize>()) as u64
    }

    /// Before anything that changes the disk: it may be off, at its end, full or failing.
    pub(super) fn before_change(&mut self, what: &'static str, grows_by: u64) -> io::Result<()> {
        if self.is_off {
            return Err(power_lost());
        }
        if let Some(left) = &mut self.ailment.cut_after {
            if *left == 0 {
                self.is_off = true;
                trace::tell(self.host, "disk.power-cut", format!("in the middle of a {what}"));
                return Err(power_lost());
            }
            *left -= 1;
        }
        if grows_by > 0
            && self
                .ailment
                .capacity
                .is_some_and(|capacity| self.size() + grows_by > capacity)
        {
            trace::mark(self.host, "disk.full", grows_by);
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is full"));
        }
        let Failing { write, sync, .. } = self.ailment.failing;
        self.may_fail(if what == SYNC { sync } else { write })
    }

    pub(super) fn before_read(&mut self) -> io::Result<()> {
        if self.is_off {
            return Err(power_lost());
        }
        self.may_fail(self.ailment.failing.read)
    }

    fn may_fail(&mut self, chance: f64) -> io::Result<()> {
        if chance > 0.0 && self.chance.random_bool(chance) {
            trace::mark(self.host, "disk.error", 0);
            return Err(io::Error::other("the disk failed"));
        }
        Ok(())
    }

    fn latency(&mut self, now: u64) -> Duration {
        let healthy = if self.chance.random_bool(INSTANT_WORK) {
            Duration::ZERO
        } else {
            let slow: f64 = self.chance.random();
            Duration::from_secs_f64(slow.powi(6) * SLOWEST_WORK_MICROS / 1e6)
        };
        let paused = Duration::from_nanos(self.ailment.paused_until.saturating_sub(now));
        healthy + self.ailment.slower + paused
    }
}

pub(super) fn power_lost() -> io::Error {
    io::Error::other("the power is off")
}

impl Disk for SimDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        if state.is_off {
            return Err(power_lost());
        }
        if !state.opened.insert(name.to_owned()) {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!("{name} is open already"),
            ));
        }
        state.files.entry(name.to_owned()).or_default();
        let generation = state.generation;
        Ok(Arc::new(Handle::new(self.0.clone(), name, generation)))
    }

    fn write_small(&self, name: &str, bytes: &[u8], _access: Access) -> io::Result<()> {
        let mut state = self.state();
        trace::bytes(state.host, "disk.small", bytes.len() as u64, bytes);
        state.before_change("write of a small file", bytes.len() as u64)?;
        state.small.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn read_small(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let state = self.state();
        if state.is_off {
            return Err(power_lost());
        }
        Ok(state.small.get(name).cloned())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.state();
        let names: BTreeSet<_> = state.files.keys().chain(state.small.keys()).cloned().collect();
        Ok(names.into_iter().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.before_change("removal", 0)?;
        state.small.remove(name);
        state.files.remove(name);
        Ok(())
    }

    fn run<'a>(&'a self, work: Box<dyn FnOnce() + Send + 'a>) -> BoxFuture<'a, ()> {
        let latency = self.state().latency(now());
        Box::pin(async move {
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
            work();
        })
    }
}

/// Whether a seeded coin shows heads this time.
fn comes_true(chance: &mut impl Rng, probability: f64) -> bool {
    chance.random_bool(probability)
}

#[cfg(test)]
mod tests;
