//! Admission: whether a client's change set may be taken at all. Pure; the wall time is an argument.
//!
//! Only the edge asks this. What another node admitted is never refused for drift, names or placement.

use std::collections::BTreeMap;

use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{DriftError, WallTime, check_drift},
    id::{NodeId, Predicate},
    mutant::{self, Mutant},
};
use thiserror::Error;

use crate::metadata::{
    settings::Settings,
    state::{ReplicaState, Tenant},
};

/// Why a change set may not be taken here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Another node holds the tenant.
    #[error("this node does not hold the tenant; its replicas are {}", names(.replicas))]
    WrongRegion {
        /// Who does.
        replicas: BTreeMap<NodeId, ReplicaState>,
    },
    /// The replica here is not whole yet, or on its way out.
    #[error("this replica of the tenant takes no writes now; another may")]
    NotServing,
    /// Nothing is in it.
    #[error("a change set needs at least one change")]
    Empty,
    /// Numbers count from 1.
    #[error("a change set needs a number from 1")]
    NumberZero,
    /// The name is Halcyon's own.
    #[error("{0} is reserved: names that begin with _ are Halcyon's own")]
    Reserved(Predicate),
    /// A newer release's change. It is kept when a peer sends it; from a client it is refused.
    #[error("a change of kind {0} is not known to this release; upgrade the node or use an older client")]
    NotUnderstood(u8),
}

/// Whether `me` may take `set`. Sizes were checked when the set was decoded.
pub fn check(tenant: &Tenant, me: NodeId, set: &ChangeSet) -> Result<(), Refusal> {
    check_replica(tenant, me)?;
    if set.number == 0 {
        return Err(Refusal::NumberZero);
    }
    if set.changes.is_empty() {
        return Err(Refusal::Empty);
    }
    set.changes.iter().try_for_each(check_change)
}

/// Whether a set is too far ahead of this node's clock to be taken now. It may have been taken before: storage knows.
pub fn ahead(set: &ChangeSet, wall: WallTime, settings: &Settings) -> Option<DriftError> {
    let ahead = check_drift(&set.timestamp, wall, settings.drift_max).err();
    ahead.filter(|_| !mutant::active(Mutant::DriftNotRefused))
}

/// Whether `me` may serve the tenant to clients.
pub fn check_replica(tenant: &Tenant, me: NodeId) -> Result<(), Refusal> {
    match tenant.replicas.get(&me) {
        Some(ReplicaState::Active) => Ok(()),
        Some(ReplicaState::Joining | ReplicaState::Leaving) => Err(Refusal::NotServing),
        None => Err(Refusal::WrongRegion {
            replicas: tenant.replicas.clone(),
        }),
    }
}

fn check_change(change: &Change) -> Result<(), Refusal> {
    if let Change::Opaque { kind, .. } = change {
        return Err(Refusal::NotUnderstood(*kind));
    }
    match change.predicate() {
        Some(predicate) if predicate.is_reserved() => Err(Refusal::Reserved(predicate.clone())),
        _ => Ok(()),
    }
}

fn names(replicas: &BTreeMap<NodeId, ReplicaState>) -> String {
    let names: Vec<_> = replicas.keys().map(ToString::to_string).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use halcyon_core::{
        clock::{ClientId, timestamp},
        id::EntityId,
        value::Value,
    };

    use super::*;
    use crate::replication::fixtures::tenant;

    const ME: NodeId = NodeId(1);

    fn wall(seconds: u64) -> WallTime {
        WallTime::from_unix(Duration::from_secs(seconds))
    }

    fn set(predicate: &str) -> ChangeSet {
        ChangeSet {
            timestamp: timestamp(wall(100).0, ClientId::from_random(9)),
            number: 1,
            changes: vec![Change::Set {
                subject: EntityId::new("e1").unwrap(),
                predicate: Predicate::new(predicate).unwrap(),
                value: Value::Boolean(true),
            }],
        }
    }

    #[track_caller]
    fn check_that(replicas: &[(u64, ReplicaState)], set: &ChangeSet, expected: &str) {
        let result = check(&tenant(replicas), ME, set);
        let said = result.map_or_else(|refusal| refusal.to_string(), |()| "taken".to_owned());
        assert!(said.contains(expected), "{said} does not say {expected}");
    }

    #[test]
    fn only_an_active_replica_takes_writes_and_others_are_named() {
        let good = set("post/title");
        check_that(&[(1, ReplicaState::Active)], &good, "taken");
        check_that(&[(1, ReplicaState::Joining)], &good, "takes no writes now");
        check_that(&[(1, ReplicaState::Leaving)], &good, "takes no writes now");
        check_that(&[(2, ReplicaState::Active), (3, ReplicaState::Active)], &good, "n2, n3");
    }

    #[test]
    fn a_timestamp_may_be_ahead_by_the_setting_and_behind_without_a_bound() {
        let settings = Settings {
            drift_max: Duration::from_mins(1),
            ..Settings::default()
        };
        let ahead = |at| ahead(&set("post/title"), wall(at), &settings).map(|drift| drift.ahead);
        assert_eq!(ahead(39), Some(Duration::from_secs(61)));
        assert_eq!(ahead(40), None);
        assert_eq!(ahead(100_000), None);
    }

    #[test]
    fn reserved_names_unknown_kinds_and_empty_or_unnumbered_sets_are_refused() {
        let active = [(1, ReplicaState::Active)];
        check_that(&active, &set("_halcyon/title"), "reserved");
        check_that(&active, &set("post/_deleted"), "reserved");
        let good = set("post/title");
        let opaque = Change::Opaque {
            kind: 200,
            body: vec![1],
        };
        check_that(
            &active,
            &ChangeSet {
                changes: vec![opaque],
                ..good.clone()
            },
            "kind 200",
        );
        check_that(
            &active,
            &ChangeSet {
                changes: vec![],
                ..good.clone()
            },
            "at least one",
        );
        check_that(&active, &ChangeSet { number: 0, ..good }, "from 1");
    }
}
