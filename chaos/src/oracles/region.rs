//! The data plane answers in a region that is cut off from everyone: its clients' changes are acknowledged there.
//!
//! Checked where a cut is the only thing that is wrong: a region whose nodes are down as well owes nobody an answer.

use std::collections::BTreeMap;

use super::{Event, Evidence, Oracle};
use crate::plan::{
    cluster::{Acknowledgement, Client},
    fault::{Cut, Fault, Kind},
    time::Millis,
};

/// How long a client may take to find the node near it.
const PATIENCE: Millis = Millis::secs(12);

/// A client must have tried so often.
const WRITES_MIN: u64 = 3;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Region {
    /// Sets written and acknowledged, with the simulated millisecond of the last.
    wrote: BTreeMap<Client, Vec<u64>>,
    acknowledged: BTreeMap<Client, u64>,
}

impl Oracle for Region {
    fn name(&self) -> &'static str {
        "region-answers"
    }

    fn hear(&mut self, event: &Event, evidence: Evidence<'_>) -> Result<(), String> {
        let now = crate::world::clock::now() / 1_000_000;
        match event {
            Event::Wrote { client, .. } => self.wrote.entry(*client).or_default().push(now),
            Event::Acknowledged { client, .. } => {
                self.acknowledged.insert(*client, now);
            }
            Event::FaultEnded(fault, at) => {
                if let Kind::RegionCut {
                    regions,
                    cut: Cut::Dropped,
                } = &fault.kind
                    && fault.start + PATIENCE < *at
                    && is_alone(fault, evidence)
                {
                    return self.check(fault, *at, regions, evidence);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Region {
    fn check(
        &self,
        fault: &Fault,
        end: Millis,
        regions: &[crate::topology::Region],
        evidence: Evidence<'_>,
    ) -> Result<(), String> {
        let stage = evidence.stage;
        let since = fault.start + PATIENCE;
        for (client, plan) in (1..).map(Client).zip(&stage.plan.clients) {
            let tenant = &stage.plan.tenants[plan.tenant.0 as usize - 1];
            let has_replica = regions.contains(&plan.region) && tenant.regions.contains(&plan.region);
            let is_local = tenant.acknowledgement == Acknowledgement::Local;
            let wrote = self.wrote.get(&client).map_or(&[][..], Vec::as_slice);
            let wrote = wrote.iter().filter(|at| (since.0..end.0).contains(at)).count() as u64;
            let answered = self
                .acknowledged
                .get(&client)
                .is_some_and(|at| *at >= fault.start.0 + 1_000);
            if has_replica && is_local && plan.offline.is_empty() && !plan.forward && wrote >= WRITES_MIN && !answered {
                return Err(format!(
                    "{client} wrote {wrote} sets in {}, which was cut off with a replica of its own, and heard nothing",
                    plan.region
                ));
            }
        }
        Ok(())
    }
}

/// Whether no other fault was at work meanwhile.
fn is_alone(fault: &Fault, evidence: Evidence<'_>) -> bool {
    let plan = &evidence.stage.plan;
    let span = fault.span(plan.duration);
    let others = plan.faults.iter().filter(|other| other.id != fault.id);
    let mut overlapping = others.filter(|other| other.span(plan.duration).overlaps(&span));
    overlapping.next().is_none()
        && !plan
            .faults
            .iter()
            .any(|other| other.end.is_none() && other.start <= fault.start)
}
