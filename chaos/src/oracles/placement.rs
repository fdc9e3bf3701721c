//! No value of a tenant is on the disk of a node outside its placement, nor shown to another tenant's client.
//!
//! Every value begins with a text that only its tenant's values have. A host that was ever in the placement is passed
//! over: what it must erase, and when, is for the tests of erasure.

use std::collections::{BTreeMap, BTreeSet};

use halcyon_client::WatchEvent;
use halcyon_core::value::Value;
use halcyon_node::rpc::Rooms;

use super::{Event, Evidence, Moment, Oracle};
use crate::{
    plan::cluster::{Client, Host, Tenant},
    run::Stage,
    workload,
    world::machine::Machine,
};

/// Disks are searched with every so manieth close look: it takes long.
const SEARCH_EVERY: u32 = 6;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Placement {
    placed: BTreeMap<Tenant, BTreeSet<Host>>,
    looks: u32,
}

impl Oracle for Placement {
    fn name(&self) -> &'static str {
        "placement"
    }

    fn hear(&mut self, event: &Event, evidence: Evidence<'_>) -> Result<(), String> {
        match event {
            // A placement may last for less than the time between two looks (seed 91022). Who was never told to hold the
            // tenant has nothing to erase.
            Event::Erased(host, erased) => {
                let tenants = evidence.stage.all_access();
                let tenant = tenants.iter().find(|(_, access)| access.id == *erased);
                if let Some((tenant, _)) = tenant {
                    self.placed.entry(*tenant).or_default().insert(*host);
                }
                Ok(())
            }
            Event::Read { client, shown, .. } => {
                let values = shown.iter().map(|(_, value)| value);
                check_values(*client, values, evidence)
            }
            Event::Watched(client, _, WatchEvent::Missed(set) | WatchEvent::Live { set, .. }) => {
                let values = set.changes.iter().filter_map(halcyon_core::change::Change::value);
                check_values(*client, values, evidence)
            }
            _ => Ok(()),
        }
    }

    fn look(&mut self, moment: Moment, evidence: Evidence<'_>) -> Result<(), String> {
        let stage = evidence.stage;
        for rooms in stage.running().values() {
            self.note_placed(rooms, stage);
        }
        self.looks += u32::from(moment == Moment::Closely);
        let is_due = moment == Moment::End || moment == Moment::Closely && self.looks.is_multiple_of(SEARCH_EVERY);
        if !is_due {
            return Ok(());
        }
        for (tenant, placed) in &self.placed {
            let needle = workload::marker(*tenant);
            for host in stage.all_hosts().into_iter().filter(|host| !placed.contains(host)) {
                if let Some(file) = stage.place(Machine::Host(host.0)).disk.find(needle.as_bytes()) {
                    return Err(format!(
                        "{host} was never a replica of {tenant}, and its {file} holds values of it"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Placement {
    /// Where tenants are, as a node knows it.
    fn note_placed(&mut self, rooms: &Rooms, stage: &Stage) {
        for (tenant, access) in stage.all_access() {
            let Some(placed) = rooms.view.tenant(access.id) else {
                continue;
            };
            let hosts = placed.replicas.keys().filter_map(|node| stage.host_of(*node));
            self.placed.entry(tenant).or_default().extend(hosts);
        }
    }
}

fn check_values<'a>(
    client: Client,
    values: impl Iterator<Item = &'a Value>,
    evidence: Evidence<'_>,
) -> Result<(), String> {
    let Some(plan) = evidence.stage.plan.client(client) else {
        return Ok(());
    };
    let marker = workload::marker(plan.tenant);
    for value in values {
        if let Value::String(text) = value
            && !text.starts_with(&marker)
        {
            return Err(format!("{client} of {} was shown {text:?}", plan.tenant));
        }
    }
    Ok(())
}
