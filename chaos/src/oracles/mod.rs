//! The rules that must hold whatever happens, one file each.
//!
//! Oracles hear every event as it happens ([`Event`]), and look at the nodes between two steps of the simulation: often
//! and cheaply, now and then closely, and once at the end, when the cluster is whole again. What they need to know of
//! what was committed is in the [`Ledger`], which hears each event first.
//!
//! To add one: a file with a struct that implements [`Oracle`], a line in [`Court::new`], and a known bug put back once
//! to see it caught.

mod bounded;
mod deleted;
mod drift;
mod durable;
mod event;
mod ledger;
mod left_out;
mod linear;
mod live;
mod model;
mod opaque;
mod placement;
mod raft;
mod reads;
mod refused;
mod region;
mod rooms;
mod shown;
mod stamps;
mod upgrade;
mod vectors;
mod vote;
mod watch;

pub use event::{Event, Followed, Follower, RoomShown, Said, understand};
pub use ledger::Ledger;
pub(crate) use linear::PRESENT;
pub use vote::{LeaderId, Placed, Vote};

use halcyon_core::id::TenantId;

use crate::run::Stage;

/// How thorough a look is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// Ten times a second: cheap things only.
    Quickly,
    /// Every other second.
    Closely,
    /// The cluster is whole again; nothing more will happen.
    End,
}

/// What an oracle is given.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The machines.
    pub stage: &'a Stage,
    /// What was committed.
    pub ledger: &'a Ledger,
}

/// One rule.
pub trait Oracle {
    /// Its name, in reports.
    fn name(&self) -> &'static str;

    /// Something happened. Says in words how that breaks the rule, if it does.
    fn hear(&mut self, _event: &Event, _evidence: Evidence<'_>) -> Result<(), String> {
        Ok(())
    }

    /// What is still on its way, in words. The end is not looked at before nothing is.
    fn unsettled(&self, _evidence: Evidence<'_>) -> Option<String> {
        None
    }

    /// Whether a set of a tenant's client may rest on what a lost host alone had, which nobody has removed.
    fn may_rest_on_lost(&self, _tenant: TenantId, _evidence: Evidence<'_>) -> bool {
        false
    }

    /// A look at the nodes.
    fn look(&mut self, _moment: Moment, _evidence: Evidence<'_>) -> Result<(), String> {
        Ok(())
    }
}

/// All oracles and what they share.
pub struct Court {
    ledger: Ledger,
    oracles: Vec<Box<dyn Oracle>>,
}

impl std::fmt::Debug for Court {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Court")
    }
}

impl Default for Court {
    fn default() -> Self {
        Self::new()
    }
}

impl Court {
    /// With all oracles.
    pub fn new() -> Self {
        Self {
            ledger: Ledger::default(),
            oracles: vec![
                Box::new(bounded::Bounded),
                Box::new(deleted::Deleted),
                Box::new(drift::Drift::default()),
                Box::new(durable::Durable::default()),
                Box::new(left_out::LeftOut::default()),
                Box::new(linear::Linear::default()),
                Box::new(live::Live::default()),
                Box::new(model::Model::default()),
                Box::new(opaque::Opaque::default()),
                Box::new(placement::Placement::default()),
                Box::new(raft::Raft::default()),
                Box::new(reads::Reads::default()),
                Box::new(refused::Refused::default()),
                Box::new(region::Region::default()),
                Box::new(rooms::Rooms::default()),
                Box::new(stamps::Stamps::default()),
                Box::new(upgrade::Upgrade::default()),
                Box::new(vectors::Vectors::default()),
                Box::new(watch::Watches::default()),
            ],
        }
    }

    /// Lets all hear of something. Returns broken rules.
    pub fn hear(&mut self, event: &Event, stage: &Stage) -> Vec<(&'static str, String)> {
        let reused = self.ledger.hear(event, stage).err();
        let mut broken: Vec<_> = reused.map(|what| ("seq-once", what)).into_iter().collect();
        let ledger = &self.ledger;
        for oracle in &mut self.oracles {
            if let Err(what) = oracle.hear(event, Evidence { stage, ledger }) {
                broken.push((oracle.name(), what));
            }
        }
        broken
    }

    /// What is still on its way.
    pub fn unsettled(&self, stage: &Stage) -> Option<String> {
        let ledger = &self.ledger;
        self.oracles
            .iter()
            .find_map(|oracle| oracle.unsettled(Evidence { stage, ledger }))
    }

    /// Whether a set of a tenant's client may rest on what a lost host alone had, which nobody has removed.
    pub fn may_rest_on_lost(&self, tenant: TenantId, stage: &Stage) -> bool {
        let ledger = &self.ledger;
        let mut oracles = self.oracles.iter();
        oracles.any(|oracle| oracle.may_rest_on_lost(tenant, Evidence { stage, ledger }))
    }

    /// Lets all look. Returns broken rules.
    pub fn look(&mut self, stage: &Stage, moment: Moment) -> Vec<(&'static str, String)> {
        let mut broken = Vec::new();
        let ledger = &self.ledger;
        for oracle in &mut self.oracles {
            if let Err(what) = oracle.look(moment, Evidence { stage, ledger }) {
                broken.push((oracle.name(), what));
            }
        }
        broken
    }
}
