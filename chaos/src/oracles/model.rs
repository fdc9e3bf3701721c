//! What a replica shows is what the definition says of the sets that its vector covers, whatever the order in which
//! they came and the way: for every exact replica, at any time.
//!
//! Its fingerprint is compared every other second. What it really shows (`oracles/shown.rs`) is read of one host in turn
//! then, and of all at the end.

use std::{collections::BTreeMap, mem};

use halcyon_core::{fingerprint::Fingerprint, id::TenantId};
use halcyon_node::{rpc::Rooms, storage::types::Summary};

use super::{
    Evidence, Moment, Oracle,
    ledger::Book,
    shown::{self, Stored, Wrong},
};
use crate::{
    model::State,
    plan::{cluster::Host, fault::Kind},
    run::Stage,
    world::machine::Machine,
};

/// A tenant, a vector, and how much is known of the tenant.
type Key = (TenantId, Vec<u8>, (usize, usize));

/// What replicas with one vector must show.
#[derive(Debug)]
struct Due {
    fingerprint: Fingerprint,
    state: State,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// If it can be said: most replicas hold the same, and at the end for long.
    computed: BTreeMap<Key, Option<Due>>,
    looks: usize,
}

impl Oracle for Model {
    fn name(&self) -> &'static str {
        "model"
    }

    fn look(&mut self, moment: Moment, evidence: Evidence<'_>) -> Result<(), String> {
        if moment == Moment::Quickly {
            return Ok(());
        }
        self.looks += 1;
        let mut before = mem::take(&mut self.computed);
        let running = evidence.stage.running();
        let in_turn = self.looks % running.len().max(1);
        for (place, (host, rooms)) in running.into_iter().enumerate() {
            let is_read = moment == Moment::End || place == in_turn && is_well(host, evidence.stage);
            for (tenant, book) in evidence.ledger.books() {
                let Ok(Some(summary)) = rooms.storage.summary(tenant) else {
                    continue;
                };
                if !summary.is_exact() {
                    continue;
                }
                let key = (tenant, summary.vector.encode(), book.size());
                let known = before.remove(&key);
                let due = self.computed.entry(key);
                let due = due.or_insert_with(|| known.unwrap_or_else(|| must_show(book, &summary)));
                let Some(due) = due.as_ref() else { continue };
                let is_other = due.fingerprint != summary.fingerprint;
                // See `oracles/deleted.rs`.
                let may_differ = || summary.collection_epoch > 0 && book.may_any_be_back(&summary.vector);
                if !(is_read || is_other) || may_differ() {
                    continue;
                }
                read((host, &rooms), tenant, (due, moment), evidence.stage)?;
                if is_other {
                    return Err(format!("{host}'s fingerprint of {tenant} is not what its sets make"));
                }
            }
        }
        Ok(())
    }
}

/// What a replica must show, if that can be said.
fn must_show(book: &Book, summary: &Summary) -> Option<Due> {
    let (history, is_sure) = book.covered_by(&summary.vector);
    is_sure.then(|| {
        let state = history.state();
        Due {
            fingerprint: state.fingerprint(),
            state,
        }
    })
}

/// Reads a replica in all ways that change nothing now.
fn read(
    (host, rooms): (Host, &Rooms),
    tenant: TenantId,
    (due, moment): (&Due, Moment),
    stage: &Stage,
) -> Result<(), String> {
    let storage = &rooms.storage;
    let replica = Stored { storage, tenant };
    let is_end = moment == Moment::End;
    let mut shown = shown::check_pages(&replica, &due.state);
    if is_end && shown.is_ok() {
        shown = shown::check_snapshots(&replica, &due.state);
    }
    match shown {
        Err(Wrong::Shown(what)) => Err(format!("{host} shows {tenant} otherwise than its sets make it: {what}")),
        Err(Wrong::Unreadable(error)) if is_end && !is_rotten(host, stage) => {
            Err(format!("{host}, whose disk is well, cannot read {tenant}: {error}"))
        }
        Ok(()) | Err(Wrong::Unreadable(_)) => Ok(()),
    }
}

/// Whether reading does no harm: a disk that fails would fail in another place without us.
fn is_well(host: Host, stage: &Stage) -> bool {
    stage.place(Machine::Host(host.0)).disk.is_well() && !is_rotten(host, stage)
}

/// Whether pages of its disk may be damaged that nobody has read yet.
pub(super) fn is_rotten(host: Host, stage: &Stage) -> bool {
    let mut faults = stage.plan.faults.iter();
    faults.any(|fault| matches!(fault.kind, Kind::BitRot { host: of, .. } if of == host))
}
