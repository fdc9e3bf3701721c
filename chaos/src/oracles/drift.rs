//! No node takes a set that is stamped further ahead of its own clock than the cluster's settings allow: one broken
//! clock must not drag the time of all others along, nor win against every write of tomorrow.

use std::collections::BTreeMap;

use halcyon_core::{change::ChangeSet, clock::WallTime, id::Tag};

use super::{Event, Evidence, Moment, Oracle, ledger::Told};
use crate::{plan::cluster::Host, world::machine::Machine};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Drift {
    /// The latest that each host's clock ever showed: it may have been set back since it let a set in.
    latest: BTreeMap<Host, WallTime>,
}

impl Oracle for Drift {
    fn name(&self) -> &'static str {
        "drift"
    }

    fn hear(&mut self, event: &Event, evidence: Evidence<'_>) -> Result<(), String> {
        match event {
            Event::Committed { host, tag, set, .. } => self.committed(*host, *tag, set, evidence),
            _ => Ok(()),
        }
    }

    fn look(&mut self, _moment: Moment, evidence: Evidence<'_>) -> Result<(), String> {
        for host in evidence.stage.running().into_keys() {
            self.clock_of(host, evidence);
        }
        Ok(())
    }
}

impl Drift {
    fn clock_of(&mut self, host: Host, evidence: Evidence<'_>) -> WallTime {
        let now = evidence.stage.place(Machine::Host(host.0)).env.clock.wall();
        let latest = self.latest.entry(host).or_insert(now);
        *latest = now.max(*latest);
        *latest
    }

    fn committed(&mut self, host: Host, tag: Tag, set: &ChangeSet, evidence: Evidence<'_>) -> Result<(), String> {
        let Some(rooms) = evidence.stage.rooms(host).filter(|rooms| rooms.me == tag.origin.node) else {
            return Ok(());
        };
        let allowed = rooms.view.settings().drift_max;
        let clock = self.clock_of(host, evidence);
        let stamped = set.timestamp.get_time().to_duration();
        let ahead = stamped.saturating_sub(clock.0.to_duration());
        if allowed < ahead {
            return Err(format!(
                "{host} took {}, which is stamped {ahead:?} ahead of its clock; {allowed:?} are allowed",
                Told(tag)
            ));
        }
        Ok(())
    }
}
