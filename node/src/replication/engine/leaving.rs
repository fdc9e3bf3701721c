//! A replica that is to hold nothing more, or to start from nothing: it hands over what only it holds, then it erases.

use std::time::Duration;

use halcyon_core::{
    id::{NodeId, Seq, Tag},
    mutant::{self, Mutant},
    version_vector::VersionVector,
};

use super::{Action, Known, Report, Step, Surroundings, TenantState};
use crate::{
    metadata::state::{ReplicaState, Tenant},
    replication::limits::{LEAVE_POLL, LEAVE_POLL_SILENT},
};

impl TenantState {
    /// The tenant was deleted: nothing of it stays.
    pub(super) fn step_deleted(&mut self, now: Duration) -> Step {
        if self.own.is_some() {
            return Step::Do(Action::Erase { if_covered_by: None });
        }
        self.report(Report::Erased, now)
    }

    /// The tenant was placed out of here, which may have come to be known late: others take what only this one holds.
    pub(super) fn step_leaving(&mut self, tenant: &Tenant, around: &Surroundings, now: Duration) -> Step {
        let placement_epoch = tenant.placement_epoch;
        let Some(own) = &self.own else {
            return self.report(Report::Gone { placement_epoch }, now);
        };
        if own.admitting {
            return Step::Do(Action::SetAdmitting(false));
        }
        if own.collection_epoch < tenant.collection_epoch && !self.refill {
            let collection_epoch = tenant.collection_epoch;
            return Step::Do(Action::Collect { collection_epoch });
        }
        let active = self.others(around.me, &[ReplicaState::Active]);
        if active.is_empty() {
            return Step::Rest;
        }
        if mutant::active(Mutant::ErasedEarly) {
            return Step::Do(Action::Erase { if_covered_by: None });
        }
        let is_silent = |node: &NodeId| around.unreachable.contains(node);
        let poll = if active.iter().any(is_silent) {
            LEAVE_POLL_SILENT
        } else {
            LEAVE_POLL
        };
        if self.described.is_none_or(|at| now >= at + poll) {
            return Step::Do(Action::Describe(active));
        }
        let own = self.own.as_ref().expect("looked at above");
        let fresh: Vec<_> = active.iter().filter_map(|node| self.fresh(*node, now)).collect();
        if fresh.len() == active.len() {
            let all = meet(&fresh);
            if all.covers(&own.vector) && all.covers(&own.seen) {
                return Step::Do(Action::Erase {
                    if_covered_by: Some(all),
                });
            }
        }
        Step::Wait(self.described.unwrap_or(now) + poll)
    }

    /// Another replica of the new epoch takes over what only this one holds; then this one starts from nothing.
    pub(super) fn step_refill(&mut self, collection_epoch: u64, active: &[NodeId], now: Duration) -> Step {
        let own = self.own.as_ref().expect("checked by the caller");
        if own.admitting {
            return Step::Do(Action::SetAdmitting(false));
        }
        if self.described.is_none_or(|at| now >= at + LEAVE_POLL) {
            return Step::Do(Action::Describe(active.to_vec()));
        }
        let taker = active.iter().filter_map(|node| self.fresh(*node, now)).find(|known| {
            known.collection_epoch >= collection_epoch
                && known.vector.covers(&own.vector)
                && known.vector.covers(&own.seen)
        });
        match taker {
            Some(known) => Step::Do(Action::Erase {
                if_covered_by: Some(known.vector.clone()),
            }),
            None => Step::Wait(self.described.unwrap_or(now) + LEAVE_POLL),
        }
    }
}

/// What every one of them covers.
fn meet(all: &[&Known]) -> VersionVector {
    let Some((first, rest)) = all.split_first() else {
        return VersionVector::EMPTY;
    };
    let least = |tag: Tag| Tag {
        origin: tag.origin,
        seq: rest
            .iter()
            .map(|known| known.vector.get(tag.origin))
            .fold(tag.seq, Seq::min),
    };
    first.vector.iter().map(least).filter(|tag| tag.seq > Seq(0)).collect()
}
