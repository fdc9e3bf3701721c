//! What a client has seen and no replica holds any more: it went with a disk that was put back, or lost.
//!
//! The node of an origin has its sets before anybody sees them. So a replica that is asked after a client came with a
//! vector says all it will ever hold of what the client has seen, or another replica holds it. Where none of them does,
//! nothing is behind: to wait for it would put the client off for ever.

use std::time::Duration;

use halcyon_core::{
    id::{NodeId, Seq, Tag, TenantId},
    version_vector::VersionVector,
};

use super::{Engine, Step, TenantState};
use crate::replication::{
    engine::Action,
    limits::{CALL_DEADLINE, DESCRIBED_FRESH, SOUGHT_MAX},
};

/// Something that a client has seen and this replica lacks.
#[derive(Debug, Clone, Copy)]
pub struct Sought {
    seq: Seq,
    /// When a client first came with it.
    since: Duration,
}

impl Sought {
    /// An answer that comes later was asked for after a client came with it.
    fn is_told_after(self) -> Duration {
        self.since + CALL_DEADLINE
    }
}

impl Engine {
    /// What a client has seen, without what is lost for good. What this replica lacks, the others are asked for.
    pub fn attainable(&mut self, tenant: TenantId, seen: VersionVector, now: Duration) -> VersionVector {
        let me = self.around.me;
        let Some(state) = self.tenants.get_mut(&tenant) else {
            return seen;
        };
        state.forget_found();
        let lacking: Vec<Tag> = seen.iter().filter(|&tag| state.is_lacking(tag)).collect();
        let peers = state.sharers(me);
        let lost: Vec<Tag> = lacking
            .iter()
            .copied()
            .filter(|&tag| state.is_lost(tag, &peers, now))
            .collect();
        if lost.len() < lacking.len() {
            self.attend(tenant, now);
        }
        seen.iter().filter(|tag| !lost.contains(tag)).collect()
    }
}

impl TenantState {
    fn is_lacking(&self, tag: Tag) -> bool {
        self.own.as_ref().is_some_and(|own| !own.vector.covers_tag(tag))
    }

    fn forget_found(&mut self) {
        let Some(own) = &self.own else { return };
        self.sought
            .retain(|&origin, sought| own.vector.get(origin) < sought.seq);
    }

    /// Whether everybody has been asked and nobody holds it.
    fn is_lost(&mut self, tag: Tag, peers: &[NodeId], now: Duration) -> bool {
        let sought = match self.sought.get(&tag.origin) {
            // Who has seen a later one of the origin speaks for this one as well.
            Some(sought) if tag.seq <= sought.seq => *sought,
            _ => {
                if self.sought.len() >= SOUGHT_MAX {
                    self.sought.pop_first();
                }
                let sought = Sought {
                    seq: tag.seq,
                    since: now,
                };
                self.sought.insert(tag.origin, sought);
                sought
            }
        };
        let is_half_here = self.own.as_ref().is_some_and(|own| own.seen.covers_tag(tag));
        !is_half_here
            && peers.iter().all(|peer| {
                let is_asked = self.heard.get(peer).is_some_and(|&at| at > sought.is_told_after());
                let known = self.known.get(peer);
                is_asked && known.is_some_and(|known| !known.vector.covers_tag(tag) && !known.seen.covers_tag(tag))
            })
    }

    /// Asks the others for what clients have seen and this replica lacks, until all have answered.
    pub(super) fn step_seeking(&mut self, me: NodeId, now: Duration) -> Step {
        self.forget_found();
        let Some(after) = self.sought.values().map(|sought| sought.is_told_after()).max() else {
            return Step::Rest;
        };
        let mut silent = self.sharers(me);
        silent.retain(|peer| self.heard.get(peer).is_none_or(|&at| at <= after));
        if silent.is_empty() {
            return Step::Rest;
        }
        let next = self.described.map_or(Duration::ZERO, |at| at + DESCRIBED_FRESH);
        if now <= after || now < next {
            return Step::Wait(next.max(after + Duration::from_millis(1)));
        }
        Step::Do(Action::Describe(silent))
    }
}
