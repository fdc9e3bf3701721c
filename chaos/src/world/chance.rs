//! Chance, one stream for each host and purpose: a draw by one never shifts what another draws.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use halcyon_core::env::Entropy;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::machine::{self, Machine};

/// The next number of splitmix64.
pub const fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `Env::entropy` of a host.
    Env = 1,
    /// Raft's generators on a host.
    Raft = 2,
    /// What a host's disk does.
    Disk = 3,
    /// What a client does.
    Workload = 4,
    /// libc's randomness.
    Process = 5,
    /// turmoil's latencies and losses.
    Network = 6,
    /// Which rare paths are made likely, and when.
    Rare = 7,
    /// Which live queries a client follows, and when.
    Follow = 8,
    /// What a client does in a room.
    Room = 9,
}

/// A seed for one host and purpose.
pub fn seed_for(seed: u64, purpose: Purpose, host: Machine) -> u64 {
    let mut state = seed ^ (purpose as u64) << 56 ^ host.code().wrapping_mul(0xd1b5_4a32_d192_ed03);
    splitmix(&mut state)
}

/// A generator for one host and purpose.
pub fn stream(seed: u64, purpose: Purpose, host: Machine) -> SmallRng {
    SmallRng::seed_from_u64(seed_for(seed, purpose, host))
}

/// `Env::entropy` of one host.
#[derive(Debug)]
pub struct HostEntropy(Mutex<SmallRng>);

impl HostEntropy {
    /// For `host`.
    pub fn new(seed: u64, host: Machine) -> Self {
        Self(Mutex::new(stream(seed, Purpose::Env, host)))
    }
}

impl Entropy for HostEntropy {
    fn next(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random()
    }
}

/// Raft's generators: whichever host is running draws from its own stream.
#[derive(Debug)]
struct RaftEntropy {
    seed: u64,
    streams: Mutex<BTreeMap<Machine, SmallRng>>,
}

impl Entropy for RaftEntropy {
    fn next(&self) -> u64 {
        let host = machine::current();
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = streams
            .entry(host)
            .or_insert_with(|| stream(self.seed, Purpose::Raft, host));
        stream.random()
    }
}

/// Lets all Raft nodes on this thread draw from the seed.
pub fn seed_raft(seed: u64) {
    let entropy = RaftEntropy {
        seed,
        streams: Mutex::default(),
    };
    halcyon_node::metadata::runtime::set_thread_entropy(Arc::new(entropy));
}
