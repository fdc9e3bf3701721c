//! The fault budget: what a plan may destroy, so that a run that loses data has found a bug.
//!
//! What can heal is free: any number of hosts may crash, be cut off or fill up at once, for that must never cost an
//! acknowledged change. What cannot heal is rationed. A host is *harmed* when its disk goes back, rots, or is lost, or
//! when it is removed at once. The rules:
//!
//! 1. **A minority is harmed.** At most `(v - 1) / 2` hosts, where `v` is the number of voters: the largest odd number
//!    up to five and up to the hosts at the start that do not leave. One or two hosts have one voter, so there nothing is
//!    harmed.
//! 2. **Each tenant keeps a replica whose disk is never harmed**, wherever rendezvous hashing puts it: in one region of
//!    each of its placements fewer hosts are harmed than hold it there.
//! 3. **A control plane that forgets is alone.** A disk that goes back *with* the control plane's files forgets votes
//!    and entries. From the moment it goes back to until [`ALONE_AFTER`] after its end, no other fault of a host or a
//!    network is at work, so that all others know what it knew. (Raft promises nothing else.)
//! 4. **A host is harmed or moved out once**: of harm, drain, leave, remove and replace it meets one. One that is drained
//!    or leaves has another behind it in its region that is neither harmed nor drained; a tenant is placed only into such
//!    regions. Nobody joins a region that is lost for good: who joins may vote as soon as it is there. Where a host leaves,
//!    none is lost and stays a member: a tenant does not leave one host before it is whole on all that shall have it, so
//!    nobody could leave, and that would be right.
//! 5. **Time.** Faults start after the warm-up and end, if they end, before the healing; snapshots to go back to are
//!    taken after half the warm-up, when there is something in them. One rolling upgrade a run.
//! 6. **Hours pass for good clocks.** All clocks jump as one, once a run, and from then on the true time is behind all of
//!    them: whose clock was behind the others' cannot be told by it any more. A client that is behind need not follow
//!    cause and effect, so where hours pass none is behind by more than [`CLIENT_BEHIND_MAX`], nor is set back.
//!
//! The rules hold for every sub-list of a list for which they hold; so shrinking cannot leave the budget.
//! A harmed host may refuse to serve (bit rot must be detected, not repaired): at the healing the run replaces those of
//! [`harmed`] that do not come back, as an operator would.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::{
    Plan,
    cluster::{Client, ClientPlan, Host, Tenant, TenantPlan},
    fault::{Fault, FaultId, Files, Kind},
    time::{Millis, Span},
};
use crate::topology::Region;

/// How long after a whole disk went back everything else stays well: some elections and a catch-up of the log.
pub const ALONE_AFTER: Millis = Millis::secs(5);

/// How far a client's clock may be behind and still follow cause and effect, in milliseconds.
pub const CLIENT_BEHIND_MAX: i64 = 1_000;

/// Which rule a plan breaks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OverBudget {
    /// Rule 1.
    #[error("{harmed} hosts are harmed; {allowed} may be")]
    Majority {
        /// So many.
        harmed: usize,
        /// So many may be.
        allowed: usize,
    },
    /// Rule 2.
    #[error("{0} may lose every replica that keeps its disk")]
    NoReplicaKept(Tenant),
    /// Rule 3.
    #[error("fault #{0} makes a control plane forget while fault #{1} is at work")]
    NotAlone(FaultId, FaultId),
    /// Rule 4.
    #[error("{0} is harmed or moved out twice")]
    Twice(Host),
    /// Rule 4.
    #[error("{0} has no host left that is neither harmed nor drained")]
    EmptyRegion(Region),
    /// Rule 4.
    #[error("a host joins {0}, which is lost for good")]
    JoinsLost(Region),
    /// Rule 4.
    #[error("{0} cannot leave: fault #{1} loses a member for good")]
    CannotLeave(Host, FaultId),
    /// Rule 5.
    #[error("fault #{0} starts or ends outside the run, or before what it goes back to")]
    OutOfTime(FaultId),
    /// Rule 5.
    #[error("more than one rolling upgrade")]
    TwoUpgrades,
    /// Rule 6.
    #[error("hours pass twice")]
    HoursTwice,
    /// Rule 6.
    #[error("hours pass, and the clock of {0} is behind")]
    HoursBehind(Client),
}

/// Checks a plan against the rules.
pub fn check(plan: &Plan) -> Result<(), OverBudget> {
    check_times(plan)?;
    let harmed = check_hosts(plan)?;
    let leaving = plan.faults.iter().filter(|fault| leaves(fault).is_some()).count();
    let voters = voters(plan.cluster.hosts.len().saturating_sub(leaving));
    let allowed = (voters - 1) / 2;
    if harmed.len() > allowed {
        return Err(OverBudget::Majority {
            harmed: harmed.len(),
            allowed,
        });
    }
    check_regions(plan, &harmed)?;
    check_leaving(plan)?;
    check_hours(plan)?;
    check_replicas(plan, &harmed)?;
    check_alone(plan)
}

/// The hosts of the start whose disks a plan harms.
pub fn harmed(plan: &Plan) -> BTreeSet<Host> {
    plan.faults.iter().flat_map(|fault| harmed_by(plan, fault)).collect()
}

/// The hosts that a plan neither harms nor takes away, and where they are; all hosts where it leaves none.
pub fn kept(plan: &Plan) -> Vec<(Host, Region)> {
    let mut gone = harmed(plan);
    gone.extend(plan.faults.iter().filter_map(drained_by));
    let all = || plan.hosts().map(|(host, planned)| (host, planned.region));
    let kept: Vec<_> = all().filter(|(host, _)| !gone.contains(host)).collect();
    if kept.is_empty() { all().collect() } else { kept }
}

/// Voters of a cluster with so many hosts.
const fn voters(hosts: usize) -> usize {
    let most = if hosts > 5 { 5 } else { hosts };
    if most == 0 { 1 } else { most - (most + 1) % 2 }
}

fn harmed_by(plan: &Plan, fault: &Fault) -> Vec<Host> {
    match &fault.kind {
        Kind::DiskRolledBack { host, .. }
        | Kind::BackupRestored { host, .. }
        | Kind::BitRot { host, .. }
        | Kind::ControlRot { host, .. }
        | Kind::HostLost { host }
        | Kind::Remove { host }
        | Kind::Replace { lost: host, .. } => vec![*host],
        Kind::RegionLost { region } if fault.end.is_none() => {
            let there = plan.hosts().filter(|(_, host)| host.region == *region);
            there.map(|(host, _)| host).collect()
        }
        _ => Vec::new(),
    }
}

fn check_times(plan: &Plan) -> Result<(), OverBudget> {
    let mut upgrades = 0;
    for fault in &plan.faults {
        let ends_well = fault.end.is_none_or(|end| fault.start < end && end <= plan.duration);
        let starts_well = plan.warm_up <= fault.start && fault.start < plan.duration;
        let goes_back_well = goes_back_to(&fault.kind).is_none_or(|(to, _)| {
            let earliest = Millis(plan.warm_up.0 / 2);
            earliest <= to && to < fault.start
        });
        if !(ends_well && starts_well && goes_back_well) {
            return Err(OverBudget::OutOfTime(fault.id));
        }
        upgrades += usize::from(matches!(fault.kind, Kind::RollingUpgrade { .. }));
    }
    if upgrades > 1 {
        return Err(OverBudget::TwoUpgrades);
    }
    Ok(())
}

const fn goes_back_to(kind: &Kind) -> Option<(Millis, Files)> {
    match kind {
        Kind::DiskRolledBack { to, files, .. } => Some((*to, *files)),
        Kind::BackupRestored { taken, files, .. } => Some((*taken, *files)),
        _ => None,
    }
}

/// Rule 4's first half. Returns the harmed hosts.
fn check_hosts(plan: &Plan) -> Result<BTreeSet<Host>, OverBudget> {
    let mut harmed = BTreeSet::new();
    let mut moved = BTreeSet::new();
    for fault in &plan.faults {
        for host in harmed_by(plan, fault) {
            if !harmed.insert(host) || moved.contains(&host) {
                return Err(OverBudget::Twice(host));
            }
        }
        if let Some(host) = drained_by(fault)
            && (harmed.contains(&host) || !moved.insert(host))
        {
            return Err(OverBudget::Twice(host));
        }
    }
    Ok(harmed)
}

/// Rule 4's second half.
fn check_regions(plan: &Plan, harmed: &BTreeSet<Host>) -> Result<(), OverBudget> {
    let drained: BTreeSet<Host> = plan.faults.iter().filter_map(drained_by).collect();
    let well = |region: Region| {
        plan.hosts()
            .any(|(host, at)| at.region == region && !harmed.contains(&host) && !drained.contains(&host))
    };
    let left = drained
        .iter()
        .filter_map(|host| plan.host(*host))
        .map(|host| host.region);
    let placed = plan.faults.iter().flat_map(|fault| match &fault.kind {
        Kind::Place { regions, .. } => regions.clone(),
        _ => Vec::new(),
    });
    if let Some(region) = left.chain(placed).find(|region| !well(*region)) {
        return Err(OverBudget::EmptyRegion(region));
    }
    let is_lost = |region: Region| {
        let mut for_good = plan.faults.iter().filter(|fault| fault.end.is_none());
        for_good.any(|fault| fault.kind == Kind::RegionLost { region })
    };
    let mut joined = plan.faults.iter().filter_map(|fault| match fault.kind {
        Kind::Join { region, .. } => Some(region),
        _ => None,
    });
    joined
        .find(|region| is_lost(*region))
        .map_or(Ok(()), |region| Err(OverBudget::JoinsLost(region)))
}

/// Whose tenants move away.
const fn drained_by(fault: &Fault) -> Option<Host> {
    match fault.kind {
        Kind::Drain { host } | Kind::Leave { host } => Some(host),
        _ => None,
    }
}

const fn leaves(fault: &Fault) -> Option<Host> {
    match fault.kind {
        Kind::Leave { host } => Some(host),
        _ => None,
    }
}

/// Rule 4's last sentence.
fn check_leaving(plan: &Plan) -> Result<(), OverBudget> {
    let Some(host) = plan.faults.iter().find_map(leaves) else {
        return Ok(());
    };
    let stays_lost = |fault: &&Fault| match fault.kind {
        Kind::HostLost { .. } => true,
        Kind::RegionLost { .. } => fault.end.is_none(),
        _ => false,
    };
    let lost = plan.faults.iter().find(stays_lost);
    lost.map_or(Ok(()), |fault| Err(OverBudget::CannotLeave(host, fault.id)))
}

/// Rule 6.
fn check_hours(plan: &Plan) -> Result<(), OverBudget> {
    let passes = |fault: &&Fault| matches!(fault.kind, Kind::TimePasses { .. });
    match plan.faults.iter().filter(passes).count() {
        0 => return Ok(()),
        1 => {}
        _ => return Err(OverBudget::HoursTwice),
    }
    let clients = (1..).map(Client).zip(&plan.clients);
    let drawn = clients.filter(|(_, client)| most_behind(client, plan.duration) > CLIENT_BEHIND_MAX);
    let set = plan.faults.iter().filter_map(|fault| match fault.kind {
        Kind::ClientClock { client, by_ms } if by_ms < 0 => Some(client),
        _ => None,
    });
    let mut behind = drawn.map(|(client, _)| client).chain(set);
    behind
        .next()
        .map_or(Ok(()), |client| Err(OverBudget::HoursBehind(client)))
}

/// Milliseconds that a client's clock is behind by its plan, at the most.
fn most_behind(client: &ClientPlan, duration: Millis) -> i64 {
    let lost = i64::from(client.clock.drift_ppm).min(0) * duration.0.cast_signed() / 1_000_000;
    -(client.clock.offset_ms + lost)
}

/// Rule 2.
fn check_replicas(plan: &Plan, harmed: &BTreeSet<Host>) -> Result<(), OverBudget> {
    let mut hosts: BTreeMap<Region, (u32, u32)> = BTreeMap::new();
    for (host, at) in plan.hosts() {
        let (all, bad) = hosts.entry(at.region).or_default();
        *all += 1;
        *bad += u32::from(harmed.contains(&host));
    }
    let keeps = |regions: &[Region], nodes_per_region: u32| {
        regions.iter().any(|region| {
            let (all, bad) = hosts.get(region).copied().unwrap_or_default();
            bad < nodes_per_region.min(all)
        })
    };
    let first = plan.tenants.iter().zip(1..).map(|(tenant, number)| {
        let TenantPlan {
            regions,
            nodes_per_region,
            ..
        } = tenant;
        (Tenant(number), regions, *nodes_per_region)
    });
    let later = plan.faults.iter().filter_map(|fault| match &fault.kind {
        Kind::Place {
            tenant,
            regions,
            nodes_per_region,
            ..
        } => Some((*tenant, regions, *nodes_per_region)),
        _ => None,
    });
    for (tenant, regions, nodes_per_region) in first.chain(later) {
        if !keeps(regions, nodes_per_region) {
            return Err(OverBudget::NoReplicaKept(tenant));
        }
    }
    Ok(())
}

/// Rule 3.
fn check_alone(plan: &Plan) -> Result<(), OverBudget> {
    for fault in &plan.faults {
        let Some((to, Files::All)) = goes_back_to(&fault.kind) else {
            continue;
        };
        let window = Span {
            start: to,
            end: fault.span(plan.duration).end + ALONE_AFTER,
        };
        let beside = plan.faults.iter().find(|other| {
            let at_work = other.span(plan.duration);
            // What happens at once is at work for a while: a join moves voters.
            let at_work = Span {
                start: at_work.start,
                end: at_work.end.max(at_work.start + ALONE_AFTER),
            };
            other.id != fault.id && other.kind.client().is_none() && at_work.overlaps(&window)
        });
        if let Some(beside) = beside {
            return Err(OverBudget::NotAlone(fault.id, beside.id));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
