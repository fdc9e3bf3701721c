//! Faults as they come and go: what the beginning and the end of each does to the machines.
//!
//! What concerns the network is only noted here ([`Active`]); [`super::links`] adds it up. A machine is down as long as
//! any fault keeps it down.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use rand::RngExt;

use super::{
    machines::Machines,
    stage::{Order, Stage},
};
use crate::{
    oracles::Event,
    plan::{
        cluster::{Client, Host},
        fault::{Crash, DiskOperation, Fault, FaultId, Files, Kind},
        time::Millis,
    },
    world::{
        clock,
        disk::{Failing, Image},
        machine::Machine,
        trace,
    },
};

/// Files of a node's triples.
const TRIPLES_PREFIX: &str = "shard-";

/// The file of its control plane's log and votes.
const CONTROL_FILE: &str = "control.redb";

/// How long one host of a rolling upgrade is away.
const UPGRADE_TAKES: Duration = Duration::from_millis(700);

/// A fault that is at work.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) fault: Fault,
    /// Who led when it began, where it is about the leader.
    pub(super) leader: Option<Host>,
    /// Whether packets are lost and waiting to be sent again just now.
    pub(super) is_holding: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Take(FaultId),
    Start(FaultId),
    Hold(FaultId, bool),
    Down(FaultId, Host),
    Up(FaultId, Host),
    End(FaultId),
    /// Somebody's short absence begins or ends.
    Relay,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Faults {
    stage: Rc<Stage>,
    /// By simulated millisecond, then in the order in which they were put in.
    steps: BTreeMap<(u64, u64), Step>,
    put_in: u64,
    active: BTreeMap<FaultId, Active>,
    images: BTreeMap<FaultId, Image>,
    /// Whether the network may have to be laid anew.
    changed: bool,
}

impl Faults {
    pub(super) fn new(stage: &Rc<Stage>) -> Self {
        let mut this = Self {
            stage: stage.clone(),
            steps: BTreeMap::new(),
            put_in: 0,
            active: BTreeMap::new(),
            images: BTreeMap::new(),
            changed: true,
        };
        for fault in &stage.plan.faults {
            if let Kind::DiskRolledBack { to, .. } | Kind::BackupRestored { taken: to, .. } = fault.kind {
                this.put(to, Step::Take(fault.id));
            }
            this.put(fault.start, Step::Start(fault.id));
            if let Some(end) = fault.end {
                this.put(end, Step::End(fault.id));
            }
        }
        for span in stage.plan.clients.iter().flat_map(|client| &client.offline) {
            this.put(span.start, Step::Relay);
            this.put(span.end, Step::Relay);
        }
        this
    }

    fn put(&mut self, at: Millis, step: Step) {
        self.put_in += 1;
        self.steps.insert((at.0, self.put_in), step);
    }

    /// What is at work.
    pub(super) fn active(&self) -> Vec<&Active> {
        self.active.values().collect()
    }

    /// Whether the network may have changed since this was last asked.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Takes all steps that are due.
    pub(super) fn advance(&mut self, now: Millis, machines: &mut Machines) {
        while let Some(entry) = self.steps.first_entry()
            && entry.key().0 <= now.0
        {
            let step = entry.remove();
            self.step(step, now, machines);
            self.changed = true;
        }
    }

    /// Heals all that can heal.
    pub(super) fn heal(&mut self, now: Millis, machines: &mut Machines) {
        self.steps.clear();
        for id in self.active.keys().copied().collect::<Vec<_>>() {
            self.step(Step::End(id), now, machines);
        }
        machines.heal();
        self.changed = true;
    }

    fn step(&mut self, step: Step, now: Millis, machines: &mut Machines) {
        match step {
            Step::Relay => {}
            Step::Take(id) => {
                if let Some(host) = self.fault(id).kind.hosts().first() {
                    let image = self.stage.place(Machine::Host(host.0)).disk.image();
                    self.images.insert(id, image);
                }
            }
            Step::Start(id) => self.start(id, now, machines),
            Step::Hold(id, is_holding) => {
                if let Some(active) = self.active.get_mut(&id) {
                    active.is_holding = is_holding;
                }
            }
            Step::Down(id, host) => {
                machines.down(Machine::Host(host.0), Crash::Process, id);
                self.stage.releases.upgrade(host);
            }
            Step::Up(id, host) => machines.up(Machine::Host(host.0), id),
            Step::End(id) => self.end(id, now, machines),
        }
    }

    fn fault(&self, id: FaultId) -> Fault {
        let mut faults = self.stage.plan.faults.iter();
        faults
            .find(|fault| fault.id == id)
            .expect("only the plan's faults are put in")
            .clone()
    }

    fn start(&mut self, id: FaultId, now: Millis, machines: &mut Machines) {
        let fault = self.fault(id);
        trace::tell(Machine::World, "fault", format!("#{id} begins: {}", fault.kind));
        self.stage.hear(&Event::FaultBegan(fault.clone()));
        let leader = matches!(fault.kind, Kind::LeaderCut { .. })
            .then(|| self.stage.leader())
            .flatten();
        self.draw_holds(&fault, now);
        self.start_machines(&fault, now, machines);
        self.start_disks(&fault);
        self.start_clocks(&fault);
        self.order(&fault.kind);
        let active = Active {
            fault,
            leader,
            is_holding: false,
        };
        self.active.insert(id, active);
    }

    /// Draws when packets between two hosts are lost.
    fn draw_holds(&mut self, fault: &Fault, now: Millis) {
        let Kind::Loss {
            holds_per_minute, hold, ..
        } = fault.kind
        else {
            return;
        };
        let end = fault.end.unwrap_or(self.stage.plan.duration);
        let mean = 60_000 / u64::from(holds_per_minute.max(1));
        let mut stream = self.stage.plan.fault_stream(fault.id);
        let mut at = now;
        loop {
            at = at + Millis(stream.rng().random_range(0..=2 * mean));
            if at >= end {
                return;
            }
            self.put(at, Step::Hold(fault.id, true));
            at = at + hold;
            self.put(at, Step::Hold(fault.id, false));
        }
    }

    fn start_machines(&mut self, fault: &Fault, now: Millis, machines: &mut Machines) {
        let id = fault.id;
        match &fault.kind {
            Kind::Crash { host, how } => machines.down(Machine::Host(host.0), *how, id),
            Kind::ClientCrash { client } => machines.down(Machine::Client(client.0), Crash::Power, id),
            Kind::HostLost { host } | Kind::Replace { lost: host, .. } => machines.lose(*host, id),
            Kind::RegionLost { region } => {
                for host in self.stage.hosts_in(*region) {
                    match fault.end {
                        Some(_) => machines.down(Machine::Host(host.0), Crash::Power, id),
                        None => machines.lose(host, id),
                    }
                }
            }
            Kind::DiskRolledBack { host, files, .. } | Kind::BackupRestored { host, files, .. } => {
                let machine = Machine::Host(host.0);
                machines.down(machine, Crash::Power, id);
                if let Some(image) = self.images.get(&id) {
                    let prefix = match files {
                        Files::Triples => TRIPLES_PREFIX,
                        Files::All => "",
                    };
                    self.stage.place(machine).disk.restore(image, prefix);
                    self.stage.hear(&Event::DiskChanged(*host));
                }
            }
            Kind::BitRot { host, pages } => {
                machines.down(Machine::Host(host.0), Crash::Power, id);
                self.rot(*host, TRIPLES_PREFIX, *pages);
                self.stage.hear(&Event::DiskChanged(*host));
            }
            // What its node did before still counts: it notices, or has lost nothing.
            Kind::ControlRot { host, pages } => {
                let serves = self.stage.rooms(*host).is_some();
                machines.down(Machine::Host(host.0), Crash::Process, id);
                if serves {
                    self.rot(*host, CONTROL_FILE, *pages);
                }
            }
            Kind::RollingUpgrade { pause } => {
                for (host, turn) in self.stage.all_hosts().into_iter().zip(0..) {
                    let at = now + Millis(pause.0 * turn);
                    self.put(at, Step::Down(id, host));
                    let takes = u64::try_from(UPGRADE_TAKES.as_millis()).unwrap_or(0);
                    self.put(at + Millis(takes), Step::Up(id, host));
                }
            }
            _ => {}
        }
    }

    /// Flips bits in files whose name begins so.
    fn rot(&self, host: Host, prefix: &str, pages: u32) {
        let machine = Machine::Host(host.0);
        let rotten = self.stage.place(machine).disk.rot(prefix, pages);
        trace::tell(machine, "disk.rot", rotten);
    }

    fn start_disks(&self, fault: &Fault) {
        let ail = |host: &Host, change: &dyn Fn(&mut crate::world::disk::Ailment)| {
            self.stage
                .place(Machine::Host(host.0))
                .disk
                .ail(|ailment| change(ailment));
        };
        match &fault.kind {
            Kind::PowerCut { host, after_operations } => ail(host, &|a| a.cut_after = Some(*after_operations)),
            Kind::DiskFull { host, bytes_left } => {
                let size = self.stage.place(Machine::Host(host.0)).disk.size();
                ail(host, &|a| a.capacity = Some(size + bytes_left));
            }
            Kind::DiskErrors {
                host,
                operation,
                per_mille,
            } => {
                let chance = f64::from(*per_mille) / 1_000.0;
                ail(host, &|a| match operation {
                    DiskOperation::Read => a.failing.read = chance,
                    DiskOperation::Write => a.failing.write = chance,
                    DiskOperation::Sync => a.failing.sync = chance,
                });
            }
            Kind::DiskSlow { host, extra } => ail(host, &|a| a.slower = extra.duration()),
            Kind::Pause { host } => {
                let end = fault.end.unwrap_or(self.stage.plan.duration);
                ail(host, &|a| a.paused_until = end.0 * 1_000_000);
            }
            _ => {}
        }
    }

    fn start_clocks(&self, fault: &Fault) {
        match &fault.kind {
            Kind::ClockJump { host, by_ms } => clock::jump(Machine::Host(host.0), by_ms * 1_000_000),
            Kind::ClientClock { client, by_ms } => clock::jump(Machine::Client(client.0), by_ms * 1_000_000),
            Kind::TimePasses { by_ms } => {
                for machine in self.stage.places.keys() {
                    clock::jump(*machine, by_ms * 1_000_000);
                }
            }
            Kind::ClockRate { host, ppm } => {
                let planned = self.stage.planned_clock(Machine::Host(host.0)).drift_ppm;
                clock::drift(Machine::Host(host.0), i64::from(planned + ppm));
            }
            _ => {}
        }
    }

    /// What a person does.
    fn order(&self, kind: &Kind) {
        match kind {
            Kind::Join { host, .. } => self.stage.order(Order::Join(*host)),
            Kind::Drain { host } => self.stage.order(Order::Drain(*host)),
            Kind::Remove { host } => self.remove(*host),
            Kind::Leave { host } => {
                self.stage.order(Order::Drain(*host));
                if let Some(node) = self.stage.node_of(*host) {
                    self.stage.order(Order::Leave(*host, node));
                }
            }
            Kind::Replace { lost, by } => {
                self.stage.order(Order::Join(*by));
                self.remove(*lost);
            }
            Kind::Place {
                tenant,
                regions,
                home,
                nodes_per_region,
            } => self.stage.order(Order::Place {
                tenant: *tenant,
                regions: regions.clone(),
                home: *home,
                nodes_per_region: *nodes_per_region,
            }),
            _ => {}
        }
    }

    fn remove(&self, host: Host) {
        if let Some(node) = self.stage.node_of(host) {
            self.stage.order(Order::Remove(host, node));
        }
    }

    fn end(&mut self, id: FaultId, now: Millis, machines: &mut Machines) {
        let Some(active) = self.active.remove(&id) else { return };
        let fault = active.fault;
        trace::tell(Machine::World, "fault", format!("#{id} ends: {}", fault.kind));
        self.stage.hear(&Event::FaultEnded(fault.clone(), now));
        let ail = |host: &Host, change: &dyn Fn(&mut crate::world::disk::Ailment)| {
            self.stage
                .place(Machine::Host(host.0))
                .disk
                .ail(|ailment| change(ailment));
        };
        match &fault.kind {
            Kind::PowerCut { host, .. } => ail(host, &|a| a.cut_after = None),
            Kind::DiskFull { host, .. } => ail(host, &|a| a.capacity = None),
            Kind::DiskErrors { host, .. } => ail(host, &|a| a.failing = Failing::default()),
            Kind::DiskSlow { host, .. } => ail(host, &|a| a.slower = Duration::ZERO),
            Kind::Pause { host } => ail(host, &|a| a.paused_until = 0),
            Kind::ClockJump { host, by_ms } => clock::jump(Machine::Host(host.0), -by_ms * 1_000_000),
            Kind::ClientClock { client, by_ms } => clock::jump(Machine::Client(client.0), -by_ms * 1_000_000),
            Kind::ClockRate { host, .. } => {
                let machine = Machine::Host(host.0);
                clock::drift(machine, i64::from(self.stage.planned_clock(machine).drift_ppm));
            }
            Kind::ClientOffline { client, returns_in } => {
                self.stage.place(Machine::Client(client.0)).region.set(*returns_in);
            }
            _ => {}
        }
        self.end_machines(&fault, machines);
    }

    fn end_machines(&self, fault: &Fault, machines: &mut Machines) {
        let down: BTreeSet<Machine> = match &fault.kind {
            Kind::DiskFull { host, .. } | Kind::DiskErrors { host, .. } => {
                // After a failed write or sync a node stops writing for good; whoever makes room starts it again.
                machines.down(Machine::Host(host.0), Crash::Process, fault.id);
                BTreeSet::from([Machine::Host(host.0)])
            }
            Kind::ClientCrash { client: Client(number) } => BTreeSet::from([Machine::Client(*number)]),
            Kind::RegionLost { region } => {
                let hosts = self.stage.hosts_in(*region).into_iter();
                hosts.map(|host| Machine::Host(host.0)).collect()
            }
            Kind::Crash { host, .. }
            | Kind::PowerCut { host, .. }
            | Kind::DiskRolledBack { host, .. }
            | Kind::BackupRestored { host, .. }
            | Kind::BitRot { host, .. }
            | Kind::ControlRot { host, .. } => BTreeSet::from([Machine::Host(host.0)]),
            _ => BTreeSet::new(),
        };
        for machine in down {
            machines.up(machine, fault.id);
        }
    }
}
