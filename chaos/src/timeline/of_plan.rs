//! The lanes and spans that follow from a plan; the run adds what happens.

use super::{Effect, Lane, LaneAt, Span, Timeline};
use crate::{
    plan::{
        Plan,
        cluster::Host,
        fault::{Fault, Kind},
    },
    topology::Region,
};

impl Timeline {
    /// A lane for each host, those that join later included, and each client; a span for each fault.
    pub fn of_plan(plan: &Plan) -> Self {
        let mut timeline = Self {
            title: format!("seed {}, {}", plan.seed, plan.scenario),
            healed: Some(plan.duration.into()),
            end: plan.duration.into(),
            ..Self::default()
        };
        let mut hosts: Vec<(Host, Region)> = plan.hosts().map(|(host, at)| (host, at.region)).collect();
        for fault in &plan.faults {
            match &fault.kind {
                Kind::Join { host, region } => hosts.push((*host, *region)),
                Kind::Replace { lost, by } => {
                    let region = plan.host(*lost).map_or(hosts[0].1, |host| host.region);
                    hosts.push((*by, region));
                }
                _ => {}
            }
        }
        hosts.sort_unstable();
        let lane = |name: String, region: Region| Lane {
            name,
            note: region.to_string(),
        };
        timeline.lanes = hosts
            .iter()
            .map(|(host, region)| lane(host.to_string(), *region))
            .collect();
        let clients = plan.clients.iter().zip(1..);
        timeline
            .lanes
            .extend(clients.map(|(client, number)| lane(format!("c{number}"), client.region)));
        let spans: Vec<Span> = plan.faults.iter().map(|fault| timeline.span(plan, fault)).collect();
        timeline.spans = spans;
        timeline
    }

    /// The span of a fault. What the plan cannot know (who led) is left out; the run may add lanes.
    pub fn span(&self, plan: &Plan, fault: &Fault) -> Span {
        let within = |regions: &[Region], clients: bool| {
            let hosts = plan.hosts().filter(|(_, host)| regions.contains(&host.region));
            let mut names: Vec<String> = hosts.map(|(host, _)| host.to_string()).collect();
            let there = plan
                .clients
                .iter()
                .zip(1..)
                .filter(|(client, _)| regions.contains(&client.region));
            if clients {
                names.extend(there.map(|(_, number)| format!("c{number}")));
            }
            names
        };
        let names = match &fault.kind {
            Kind::RegionCut { regions, .. } => within(regions, true),
            Kind::RegionLost { region } => within(&[*region], false),
            kind => {
                let hosts = kind.hosts().into_iter().map(|host| host.to_string());
                hosts.chain(kind.client().map(|client| client.to_string())).collect()
            }
        };
        let at_once = fault.end.is_none() && effect(&fault.kind) == Effect::Operator;
        let span = fault.span(plan.duration);
        Span {
            start: span.start.into(),
            end: if at_once { span.start.into() } else { span.end.into() },
            lanes: names.iter().filter_map(|name| self.lane(name)).collect::<Vec<LaneAt>>(),
            effect: effect(&fault.kind),
            text: format!("#{} {}", fault.id, fault.kind),
        }
    }
}

const fn effect(kind: &Kind) -> Effect {
    match kind {
        Kind::Crash { .. }
        | Kind::PowerCut { .. }
        | Kind::Pause { .. }
        | Kind::RegionLost { .. }
        | Kind::DiskRolledBack { .. }
        | Kind::BackupRestored { .. }
        | Kind::BitRot { .. }
        | Kind::ControlRot { .. }
        | Kind::HostLost { .. }
        | Kind::ClientCrash { .. } => Effect::Down,
        Kind::Partition { .. }
        | Kind::OneWayCut { .. }
        | Kind::RegionCut { .. }
        | Kind::LeaderCut { .. }
        | Kind::ClientOffline { .. } => Effect::Cut,
        Kind::SlowLink { .. } | Kind::Latency { .. } | Kind::Loss { .. } | Kind::SlowConsumer { .. } => Effect::Network,
        Kind::DiskFull { .. } | Kind::DiskErrors { .. } | Kind::DiskSlow { .. } => Effect::Disk,
        Kind::ClockJump { .. } | Kind::ClockRate { .. } | Kind::ClientClock { .. } | Kind::TimePasses { .. } => {
            Effect::Clock
        }
        Kind::Join { .. }
        | Kind::Drain { .. }
        | Kind::Remove { .. }
        | Kind::Leave { .. }
        | Kind::Replace { .. }
        | Kind::Place { .. }
        | Kind::RollingUpgrade { .. } => Effect::Operator,
    }
}
