//! What stands out among the tenants, kept as it changes: who asks pays nothing for those that are well.

use std::collections::BTreeMap;

use halcyon_core::id::TenantId;

use super::Engine;
use crate::metadata::state::ReplicaState;

/// How the replicas of this node are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Tenants that this node knows.
    pub tenants: usize,
    /// Replicas that should serve and are not whole: being opened, or filled again.
    pub unserved: usize,
    /// Catch-ups under way.
    pub pulling: usize,
}

impl Engine {
    /// How the replicas are.
    pub fn standing(&self) -> Standing {
        Standing {
            tenants: self.tenants.len(),
            unserved: self.unserved.len(),
            pulling: self.pulling.len(),
        }
    }

    /// Tenants that hold changes which nobody here understands, and how many.
    pub const fn opaque(&self) -> &BTreeMap<TenantId, u64> {
        &self.opaque
    }

    /// Looks at one tenant, after anything about it changed.
    pub(super) fn note(&mut self, tenant: TenantId) {
        let me = self.around.me;
        let state = self.tenants.get(&tenant);
        let opaque = state.and_then(|state| state.own.as_ref()).map_or(0, |own| own.opaque);
        if opaque > 0 {
            self.opaque.insert(tenant, opaque);
        } else {
            self.opaque.remove(&tenant);
        }
        let is_active = |state: &&super::TenantState| state.role(me) == Some(ReplicaState::Active) && !state.deleted;
        if state.filter(is_active).is_some_and(|state| !state.serves(me)) {
            self.unserved.insert(tenant);
        } else {
            self.unserved.remove(&tenant);
        }
    }
}
