//! `Env` of a simulated host.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc};

use halcyon_core::env::{Env, Probe};

use rand::{RngExt, rngs::SmallRng};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    chance::{self, HostEntropy, Purpose},
    clock::HostClock,
    disk::SimDisk,
    machine::Machine,
    network::SimNetwork,
    trace,
};

/// Everything that `host` may touch.
pub fn of(seed: u64, host: Machine, disk: &SimDisk) -> Env {
    Env {
        network: Arc::new(SimNetwork::new(host, disk.clone())),
        disk: Arc::new(disk.clone()),
        clock: Arc::new(HostClock(host)),
        entropy: Arc::new(HostEntropy::new(seed, host)),
        probe: Arc::new(MachineProbe(host)),
    }
}

/// Hears what a host's probe says while it happens.
pub type Ear = Rc<dyn Fn(Machine, &'static str, &str)>;

thread_local! {
    static EAR: RefCell<Option<Ear>> = const { RefCell::new(None) };
    static REACHED: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
    static RARE: RefCell<Option<Rare>> = const { RefCell::new(None) };
    static ALWAYS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Has the oracles hear every event of every machine from now on.
pub fn listen(ear: Ear) {
    EAR.set(Some(ear));
}

/// How often each kind of event, each marked path and each rare path was met.
pub fn reached() -> BTreeMap<&'static str, u64> {
    REACHED.with_borrow(Clone::clone)
}

/// How rare paths are made likely.
#[derive(Debug)]
pub struct Rare {
    seed: u64,
    per_mille: u32,
    /// Catch-ups are cut after so many batches, and how often that may still happen.
    cut_after: Option<(u32, u32)>,
    batches: u32,
    chance: SmallRng,
}

/// How often a plan that wants its catch-ups cut has them cut.
const CUTS_MAX: u32 = 12;

/// The path that cuts a catch-up.
const CUT: &str = "catch-up.cut";

impl Rare {
    /// Paths are taken `per_mille` times in a thousand, and each path by half of all seeds only: some bugs need that
    /// another path is not taken.
    pub fn new(seed: u64, per_mille: u32, cut_catch_ups_after: Option<u32>) -> Self {
        Self {
            seed,
            per_mille,
            cut_after: cut_catch_ups_after.map(|batches| (batches, CUTS_MAX)),
            batches: 0,
            chance: chance::stream(seed, Purpose::Rare, Machine::World),
        }
    }

    fn take(&mut self, path: &'static str) -> bool {
        if path == CUT
            && let Some((after, left)) = &mut self.cut_after
            && *left > 0
        {
            self.batches += 1;
            let is_due = self.batches > *after;
            if is_due {
                self.batches = 0;
                *left -= 1;
            }
            return is_due;
        }
        let mut coin = self.seed ^ xxh3_64(path.as_bytes());
        let is_on = self.per_mille > 0 && chance::splitmix(&mut coin) & 1 == 0;
        is_on && self.chance.random_range(0..1_000) < self.per_mille
    }
}

/// Makes rare paths likely from now on, or (`None`) leaves them rare.
pub fn set_rare(rare: Option<Rare>) {
    RARE.set(rare);
}

/// Has these paths taken whenever they are met.
pub fn set_always(paths: Vec<String>) {
    ALWAYS.set(paths);
}

fn count(path: &'static str) {
    REACHED.with_borrow_mut(|reached| *reached.entry(path).or_default() += 1);
}

/// A machine's probe: everything goes into the trace and to the oracles.
#[derive(Debug)]
struct MachineProbe(Machine);

impl Probe for MachineProbe {
    fn event(&self, kind: &'static str, detail: &dyn Fn() -> String) {
        let detail = detail();
        count(kind);
        let ear = EAR.with_borrow(Clone::clone);
        if let Some(ear) = ear {
            ear(self.0, kind, &detail);
        }
        trace::tell(self.0, kind, detail);
    }

    fn rare(&self, path: &'static str) -> bool {
        let always = ALWAYS.with_borrow(|paths| paths.iter().any(|always| always == path));
        let taken = always || RARE.with_borrow_mut(|rare| rare.as_mut().is_some_and(|rare| rare.take(path)));
        if taken {
            count(path);
            trace::tell(self.0, "rare", path.to_owned());
        }
        taken
    }

    fn reached(&self, path: &'static str) {
        count(path);
        trace::tell(self.0, "reached", path.to_owned());
    }
}
