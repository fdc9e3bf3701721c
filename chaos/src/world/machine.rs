//! The machines of a simulation, and which of them is running now.

use std::{cell::RefCell, collections::HashMap, fmt};

use serde::{Deserialize, Serialize};
use tokio::runtime::{Handle, Id};

/// A machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Machine {
    /// The simulator itself: faults, checks.
    World,
    /// Runs a node: a host of the plan.
    Host(u32),
    /// Runs a client of the plan.
    Client(u32),
    /// Runs an operator. The first sets the cluster up and carries out what the plan changes.
    Operator(u32),
}

impl Machine {
    /// A number that no other machine has, for hashes and seeds.
    pub const fn code(self) -> u64 {
        let (kind, number) = match self {
            Self::World => (0, 0),
            Self::Host(number) => (1, number),
            Self::Client(number) => (2, number),
            Self::Operator(number) => (3, number),
        };
        kind << 32 | number as u64
    }

    /// From its name.
    pub fn named(name: &str) -> Option<Self> {
        if name == "world" {
            return Some(Self::World);
        }
        let number = name.get(1..)?.parse().ok()?;
        match name.as_bytes()[0] {
            b'h' => Some(Self::Host(number)),
            b'c' => Some(Self::Client(number)),
            b'o' => Some(Self::Operator(number)),
            _ => None,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::World => f.pad("world"),
            Self::Host(number) => f.pad(&format!("h{number}")),
            Self::Client(number) => f.pad(&format!("c{number}")),
            Self::Operator(number) => f.pad(&format!("o{number}")),
        }
    }
}

thread_local! {
    static RUNTIMES: RefCell<HashMap<Id, Machine>> = RefCell::default();
}

/// Says that the runtime of the calling task is `machine`'s. A restarted host has a new runtime.
pub fn enter(machine: Machine) {
    RUNTIMES.with(|runtimes| runtimes.borrow_mut().insert(Handle::current().id(), machine));
}

/// The machine that is running.
pub fn current() -> Machine {
    let id = Handle::try_current().map(|handle| handle.id());
    let machine = id
        .ok()
        .and_then(|id| RUNTIMES.with(|runtimes| runtimes.borrow().get(&id).copied()));
    machine.unwrap_or(Machine::World)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_which_machine_it_is() {
        for machine in [
            Machine::World,
            Machine::Operator(1),
            Machine::Host(7),
            Machine::Client(12),
        ] {
            assert_eq!(Machine::named(&machine.to_string()), Some(machine));
        }
        assert_eq!(Machine::named("x1"), None);
        assert_eq!(Machine::named("h"), None);
    }
}
