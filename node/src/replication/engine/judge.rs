//! What becomes of replicas that should be equal and are not, or that can never be again.

use halcyon_core::id::TenantId;

use super::{Engine, Known, Signal};
use crate::{metadata::state::ReplicaState, storage::types::Summary};

impl Engine {
    /// A replica that missed a collection is filled again from another active one. Without any it goes on as it is, and
    /// people have to know.
    pub(super) fn warn_if_alone(&mut self, tenant: TenantId) {
        let Some(state) = self.tenants.get(&tenant).filter(|state| state.refill) else {
            return;
        };
        let is_active = state.role(self.around.me) == Some(ReplicaState::Active);
        if is_active && state.others(self.around.me, &[ReplicaState::Active]).is_empty() {
            let message = "the only active replica missed a collection of tombstones, as after a restore of old files: \
                           what was deleted before may show again; compare with a backup, and place the tenant on \
                           another node too";
            let message = message.to_owned();
            self.signals.push(Signal::Alarm { tenant, message });
        }
    }

    /// Equal vectors and unequal facts: a bug or a bad disk. People hear of it. Only a replica that two others agree
    /// against is emptied and filled again: of two that differ, nobody can say which is right.
    pub(super) fn judge(&mut self, tenant: TenantId) {
        let Some(state) = self.tenants.get_mut(&tenant) else {
            return;
        };
        let Some(own) = state.own.as_ref().filter(|_| state.suspect && !state.changed) else {
            return;
        };
        let against: Vec<_> = state.known.iter().filter(|(_, known)| differs(own, known)).collect();
        let Some(&(first, known)) = against.first() else {
            state.suspect = false;
            return;
        };
        let agreeing = against
            .iter()
            .filter(|(_, other)| other.fingerprint == known.fingerprint)
            .count();
        state.refill = agreeing >= 2;
        state.suspect = false;
        let repair = if state.refill {
            "two others agree: this replica is filled again from nothing"
        } else {
            "no two others agree: compare exports of the replicas, then drain the wrong node"
        };
        let message = format!("facts differ from those of {first} at equal vectors; {repair}");
        self.signals.push(Signal::Alarm { tenant, message });
    }
}

/// Whether two exact replicas of one epoch with equal vectors hold different facts.
pub(super) fn differs(own: &Summary, known: &Known) -> bool {
    own.is_exact()
        && known.is_exact()
        && own.vector == known.vector
        && own.collection_epoch == known.collection_epoch
        && known
            .fingerprint
            .is_some_and(|fingerprint| fingerprint != own.fingerprint)
}
