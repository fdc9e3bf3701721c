//! What the network between the machines is like now: the sum of all faults that are at work.
//!
//! turmoil knows four states of a link and cannot hold one way only; where faults overlap, a cut wins over holding.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use turmoil::Sim;

use super::{
    faults::Active,
    stage::{Phase, Stage},
};
use crate::{
    plan::{
        fault::{Cut, Kind},
        time::Millis,
    },
    topology::{OneWay, Region},
    world::{clock::now, machine::Machine, network},
};

/// One pair of machines. *There* is from the first to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    cut_there: bool,
    cut_back: bool,
    held: bool,
    one_way: OneWay,
    limit_there: Option<u64>,
    limit_back: Option<u64>,
}

/// All pairs, as turmoil has them.
#[derive(Debug, Default)]
pub(super) struct Links {
    laid: BTreeMap<(Machine, Machine), Link>,
}

impl Links {
    /// Brings every pair in line with what is at work. `silent` machines have no power.
    pub(super) fn lay(&mut self, sim: &Sim<'_>, stage: &Stage, active: &[&Active], silent: &BTreeSet<Machine>) {
        let machines: Vec<Machine> = stage.places.keys().copied().collect();
        for (at, a) in machines.iter().enumerate() {
            for b in &machines[at + 1..] {
                let wanted = wanted(stage, active, silent, (*a, *b));
                let laid = self.laid.insert((*a, *b), wanted);
                if laid != Some(wanted) {
                    change(sim, (*a, *b), laid, wanted);
                }
            }
        }
    }

    /// Nothing is known of a machine's links: its power was cut.
    pub(super) fn forget(&mut self, machine: Machine) {
        for ((a, b), link) in &mut self.laid {
            if [*a, *b].contains(&machine) {
                (link.cut_there, link.cut_back) = (true, true);
            }
        }
    }
}

fn wanted(stage: &Stage, active: &[&Active], silent: &BTreeSet<Machine>, (a, b): (Machine, Machine)) -> Link {
    let (region_a, region_b) = (stage.place(a).region.get(), stage.place(b).region.get());
    let mut link = Link {
        cut_there: false,
        cut_back: false,
        held: false,
        one_way: OneWay::between(region_a, region_b, stage.plan.cluster.jitter_percent),
        limit_there: None,
        limit_back: None,
    };
    if [a, b]
        .iter()
        .any(|machine| silent.contains(machine) || is_away(stage, *machine))
    {
        link.cut(Cut::Dropped);
    }
    for fault in active {
        link.add(fault, (a, region_a), (b, region_b));
    }
    link.held &= !(link.cut_there || link.cut_back);
    link
}

/// Whether a client is somewhere without a network, as belongs to its life.
fn is_away(stage: &Stage, machine: Machine) -> bool {
    let Machine::Client(number) = machine else { return false };
    if stage.phase() != Phase::Working {
        return false;
    }
    let at = Millis(now() / 1_000_000);
    let client = stage.plan.client(crate::plan::cluster::Client(number));
    client.is_some_and(|client| client.offline.iter().any(|span| span.contains(at)))
}

impl Link {
    const fn cut(&mut self, cut: Cut) {
        match cut {
            Cut::Dropped => {
                self.cut_there = true;
                self.cut_back = true;
            }
            Cut::Held => self.held = true,
        }
    }

    fn add(&mut self, active: &Active, (a, region_a): (Machine, Region), (b, region_b): (Machine, Region)) {
        let is_pair = |x: Machine, y: Machine| (x, y) == (a, b) || (y, x) == (a, b);
        let joins = |(x, y): (Region, Region)| (x, y) == (region_a, region_b) || (y, x) == (region_a, region_b);
        let both_hosts = matches!((a, b), (Machine::Host(_), Machine::Host(_)));
        match &active.fault.kind {
            Kind::Partition { hosts, cut } => {
                let inside = |machine| hosts.iter().any(|host| Machine::Host(host.0) == machine);
                if both_hosts && inside(a) != inside(b) {
                    self.cut(*cut);
                }
            }
            Kind::LeaderCut { cut } => {
                let leads = |machine| active.leader.is_some_and(|leader| Machine::Host(leader.0) == machine);
                if both_hosts && leads(a) != leads(b) {
                    self.cut(*cut);
                }
            }
            Kind::OneWayCut { from, to } => {
                let (from, to) = (Machine::Host(from.0), Machine::Host(to.0));
                self.cut_there |= (from, to) == (a, b);
                self.cut_back |= (from, to) == (b, a);
            }
            Kind::RegionCut { regions, cut } if regions.contains(&region_a) != regions.contains(&region_b) => {
                self.cut(*cut);
            }
            Kind::Pause { host } if [a, b].contains(&Machine::Host(host.0)) => self.cut(Cut::Held),
            Kind::ClientOffline { client, .. } if [a, b].contains(&Machine::Client(client.0)) => {
                self.cut(Cut::Dropped);
            }
            Kind::Loss { between: (x, y), .. }
                if active.is_holding && is_pair(Machine::Host(x.0), Machine::Host(y.0)) =>
            {
                self.cut(Cut::Held);
            }
            Kind::Latency { between, extra, jitter } if joins(*between) => {
                self.one_way.shortest_us += extra.0 * 1_000;
                self.one_way.longest_us += (extra.0 + jitter.0) * 1_000;
            }
            Kind::SlowLink {
                between,
                bytes_per_second,
            } if joins(*between) => {
                lower(&mut self.limit_there, *bytes_per_second);
                lower(&mut self.limit_back, *bytes_per_second);
            }
            Kind::SlowConsumer {
                client,
                bytes_per_second,
            } => {
                let client = Machine::Client(client.0);
                if b == client {
                    lower(&mut self.limit_there, *bytes_per_second);
                } else if a == client {
                    lower(&mut self.limit_back, *bytes_per_second);
                }
            }
            _ => {}
        }
    }
}

fn lower(limit: &mut Option<u64>, other: u64) {
    *limit = Some(limit.map_or(other, |limit| limit.min(other)));
}

fn change(sim: &Sim<'_>, (a, b): (Machine, Machine), laid: Option<Link>, wanted: Link) {
    let (from, to) = (a.to_string(), b.to_string());
    let (from, to) = (from.as_str(), to.as_str());
    if laid.map(|laid| laid.one_way) != Some(wanted.one_way) {
        sim.set_link_latency(from, to, Duration::from_micros(wanted.one_way.shortest_us));
        sim.set_link_max_message_latency(from, to, Duration::from_micros(wanted.one_way.longest_us));
    }
    network::limit(a, b, wanted.limit_there);
    network::limit(b, a, wanted.limit_back);
    let state = |link: Link| (link.cut_there, link.cut_back, link.held);
    let before = laid.map_or((false, false, false), state);
    if before == state(wanted) {
        return;
    }
    match before {
        (false, false, true) => sim.release(from, to),
        (false, false, false) => {}
        _ => sim.repair(from, to),
    }
    match state(wanted) {
        (true, true, _) => sim.partition(from, to),
        (true, false, _) => sim.partition_oneway(from, to),
        (false, true, _) => sim.partition_oneway(to, from),
        (false, false, true) => sim.hold(from, to),
        (false, false, false) => {}
    }
}
