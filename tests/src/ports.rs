//! Ports on loopback that nobody else takes: not this process again, and not a test process beside it.
//!
//! A node is told its ports before it opens them, and opens them again after a stop, so that a port must stay its own
//! for the whole test. Each test process locks a slice of the range at a time, in a file that the system unlocks when
//! the process ends, however it ends.

use std::{
    env,
    fs::{self, File},
    net::TcpListener,
    ops::Range,
    sync::{Mutex, PoisonError},
};

/// Below the range that the system takes for outgoing connections, so that a node that was stopped finds its port free
/// when it starts again.
const PORTS: Range<u16> = 10_000..32_000;

/// Ports in a slice: a cluster of five nodes needs fifteen.
const SLICE: u16 = 100;

/// Where the slices are locked, under the system's directory for temporary files.
const LOCKS: &str = "halcyon-tests-ports";

/// What is left of the slice in use, and the locks of all slices that this process has had.
#[derive(Debug)]
struct Claimed {
    left: Range<u16>,
    locks: Vec<File>,
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    free_ports(1)
}

/// The first of `count` ports in a row, fewer than a slice has, that nobody listens on and nobody else is given.
pub fn free_ports(count: u16) -> u16 {
    static CLAIMED: Mutex<Claimed> = Mutex::new(Claimed {
        left: 0..0,
        locks: Vec::new(),
    });
    let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
    claimed.take(count)
}

impl Claimed {
    fn take(&mut self, count: u16) -> u16 {
        loop {
            while self.left.start + count <= self.left.end {
                let first = self.left.start;
                self.left.start += count;
                if (first..first + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
                    return first;
                }
            }
            self.claim();
        }
    }

    /// Locks the next slice that nobody has.
    fn claim(&mut self) {
        let folder = env::temp_dir().join(LOCKS);
        fs::create_dir_all(&folder).expect("the directory for temporary files can be written to");
        for first in PORTS.step_by(usize::from(SLICE)) {
            let lock = File::create(folder.join(first.to_string())).ok();
            if let Some(lock) = lock.filter(|lock| lock.try_lock().is_ok()) {
                self.locks.push(lock);
                self.left = first..first + SLICE;
                return;
            }
        }
        panic!(
            "all ports are taken by test processes; {} of them by this one",
            self.locks.len()
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn nothing() -> Claimed {
        Claimed {
            left: 0..0,
            locks: Vec::new(),
        }
    }

    #[test]
    fn no_port_is_given_twice_by_two_who_share_a_machine() {
        // A lock belongs to the open file, so two in one process stand for two processes.
        let (mut ours, mut theirs) = (nothing(), nothing());
        let mut given = BTreeSet::new();
        for _ in 0..SLICE {
            assert!(given.insert(ours.take(1)));
            assert!(given.insert(theirs.take(1)));
        }
        let row = ours.take(20);
        assert!((row..row + 20).all(|port| given.insert(port)));
    }
}
