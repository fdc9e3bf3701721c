//! Which machines are up, and how they go down and come back.
//!
//! The order at a crash: the disk is dead to the node that ran on it, then (where the power goes) the network is
//! silent, then the node's tasks are dropped. So no destructor writes, and a dead machine says no goodbye.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use turmoil::Sim;

use super::{
    faults::Active,
    links::Links,
    stage::{Order, Stage},
};
use crate::{
    oracles::Event,
    plan::{
        cluster::{Client, Host},
        fault::{Crash, FaultId},
    },
    world::{disk::Ailment, machine::Machine, trace},
};

/// See the module.
pub(super) struct Machines {
    pub(super) sim: Sim<'static>,
    stage: Rc<Stage>,
    links: Links,
    /// Who is down, and which faults keep it down. Without a fault: a power cut that nobody has claimed.
    down: BTreeMap<Machine, BTreeSet<FaultId>>,
    /// Who is down without power: peers hear nothing.
    silent: BTreeSet<Machine>,
    /// Gone for good.
    lost: BTreeSet<Machine>,
}

impl std::fmt::Debug for Machines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machines")
            .field("down", &self.down)
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

impl Machines {
    pub(super) fn new(sim: Sim<'static>, stage: Rc<Stage>) -> Self {
        Self {
            sim,
            stage,
            links: Links::default(),
            down: BTreeMap::new(),
            silent: BTreeSet::new(),
            lost: BTreeSet::new(),
        }
    }

    /// Brings the network in line with the faults at work.
    pub(super) fn lay(&mut self, active: &[&Active]) {
        self.links.lay(&self.sim, &self.stage, active, &self.silent);
    }

    /// Takes a machine down for a fault.
    pub(super) fn down(&mut self, machine: Machine, how: Crash, fault: FaultId) {
        let is_up = !self.down.contains_key(&machine);
        self.down.entry(machine).or_default().insert(fault);
        if is_up {
            self.crash(machine, how);
        }
    }

    /// The fault no longer keeps the machine down.
    pub(super) fn up(&mut self, machine: Machine, fault: FaultId) {
        let Some(reasons) = self.down.get_mut(&machine) else {
            return;
        };
        reasons.remove(&fault);
        if reasons.is_empty() && !self.lost.contains(&machine) {
            self.start(machine);
        }
    }

    /// A host and its disk are gone for good.
    pub(super) fn lose(&mut self, host: Host, fault: FaultId) {
        let machine = Machine::Host(host.0);
        self.down(machine, Crash::Power, fault);
        self.stage.place(machine).disk.wipe();
        self.lost.insert(machine);
        self.stage.set_lost(host);
        self.stage.hear(&Event::DiskChanged(host));
    }

    /// A node that is no member any more is stopped for good; its disk is kept, and may be looked at.
    pub(super) fn retire(&mut self, host: Host) {
        let machine = Machine::Host(host.0);
        if self.down.insert(machine, BTreeSet::new()).is_none() {
            self.crash(machine, Crash::Process);
        }
        self.lost.insert(machine);
        self.stage.set_lost(host);
    }

    /// Notices disks whose power was cut in the middle of something, and completes the crash.
    pub(super) fn notice_power_cuts(&mut self) -> bool {
        let cut: Vec<Machine> = self
            .stage
            .places
            .iter()
            .filter(|(machine, place)| place.disk.is_off() && !self.down.contains_key(machine))
            .map(|(machine, _)| *machine)
            .collect();
        for machine in &cut {
            self.down.insert(*machine, BTreeSet::new());
            self.crash(*machine, Crash::Power);
        }
        !cut.is_empty()
    }

    /// Starts whatever is down and not lost; replaces nodes whose disks do not let them start.
    pub(super) fn heal(&mut self) {
        let down: Vec<Machine> = self
            .down
            .keys()
            .filter(|machine| !self.lost.contains(machine))
            .copied()
            .collect();
        for machine in down {
            self.start(machine);
        }
        for place in self.stage.places.values() {
            place.disk.ail(|ailment| *ailment = Ailment::default());
        }
    }

    /// Starts nodes again that stopped because of what is on their disks, as a service manager does.
    pub(super) fn restart_stopped(&mut self) {
        for (host, rooms) in self.stage.running() {
            let machine = Machine::Host(host.0);
            if rooms.storage.has_stopped() && self.stage.place(machine).disk.is_well() {
                self.crash(machine, Crash::Process);
                self.start(machine);
            }
        }
    }

    /// A new machine in the place of one whose disk is of no use any more, as an operator would put it there.
    pub(super) fn replace_disk(&mut self, host: Host) {
        let machine = Machine::Host(host.0);
        self.crash(machine, Crash::Power);
        self.stage.place(machine).disk.wipe();
        self.stage.hear(&Event::DiskChanged(host));
        self.stage.order(Order::Join(host));
        if let Some(node) = self.stage.node_of(host) {
            self.stage.order(Order::Remove(host, node));
        }
        self.start(machine);
    }

    fn crash(&mut self, machine: Machine, how: Crash) {
        let disk = &self.stage.place(machine).disk;
        let fate = match how {
            Crash::Process => {
                disk.end_process();
                String::new()
            }
            Crash::Power => disk.crash(),
        };
        trace::tell(machine, "machine.down", format!("{how:?} {fate}"));
        if let Machine::Host(number) = machine {
            self.stage.stopped(Host(number));
            self.stage.hear(&Event::Down(Host(number)));
        }
        if let Machine::Client(number) = machine {
            self.stage.hear(&Event::ClientDown(Client(number)));
        }
        if how == Crash::Power {
            self.silent.insert(machine);
            // The network first: what the tasks say as they are dropped must not be heard.
            let name = machine.to_string();
            for other in self.stage.places.keys().filter(|other| **other != machine) {
                self.sim.partition(name.as_str(), other.to_string().as_str());
            }
        }
        self.sim.crash(machine.to_string());
    }

    fn start(&mut self, machine: Machine) {
        self.down.remove(&machine);
        self.silent.remove(&machine);
        self.links.forget(machine);
        self.stage.place(machine).disk.power_on();
        trace::tell(machine, "machine.up", String::new());
        self.sim.bounce(machine.to_string());
    }
}
