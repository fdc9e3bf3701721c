//! What becomes of replicas that should be equal and are not, or that can never be again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use halcyon_core::id::{NodeId, TenantId};

use super::{Engine, Known, Signal, TenantState};
use crate::{metadata::state::ReplicaState, replication::limits::JUDGE_PATIENCE, storage::types::Summary};

impl Engine {
    /// What the others said that they are.
    pub(super) fn on_described(&mut self, tenant: TenantId, answers: Vec<(NodeId, Option<Known>)>, now: Duration) {
        for (peer, answer) in answers {
            match answer {
                Some(known) => self.on_known(peer, tenant, known, now),
                None => self.on_known(peer, tenant, Known::default(), now),
            }
        }
        let Some(state) = self.tenants.get_mut(&tenant) else {
            return;
        };
        state.described = Some(now);
        let collection_epoch = state.own.as_ref().map_or(0, |own| own.collection_epoch);
        let gives = state.refill
            || !matches!(
                state.role(self.around.me),
                Some(ReplicaState::Active | ReplicaState::Joining)
            );
        if gives {
            let pokes = state
                .others(self.around.me, &[ReplicaState::Active])
                .into_iter()
                .filter_map(|to| {
                    let tag = state.lacked_by(to)?;
                    Some(Signal::Poke {
                        to,
                        tenant,
                        tag,
                        collection_epoch,
                    })
                });
            self.signals.extend(pokes);
        }
        self.judge(tenant, now);
    }

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

    /// Equal vectors and unequal facts: a bug or a bad disk. People hear of it. Where most of the active replicas agree,
    /// one that stands against them is emptied and filled again, after it has handed over what only it holds; otherwise
    /// nobody can say which is right.
    pub(super) fn judge(&mut self, tenant: TenantId, now: Duration) {
        let me = self.around.me;
        let Some(state) = self.tenants.get_mut(&tenant) else {
            return;
        };
        let Some(own) = state.own.as_ref().filter(|_| state.suspect && !state.changed) else {
            return;
        };
        let camps = camps(state, own, me, now);
        if camps.len() < 2 {
            (state.suspect, state.judged_by) = (false, None);
            return;
        }
        let others = state.others(me, &[ReplicaState::Active]);
        let electors = others.len() + usize::from(state.role(me) == Some(ReplicaState::Active));
        let majority = camps.iter().find(|(_, camp)| 2 * camp.active.len() > electors);
        let counted: BTreeSet<NodeId> = camps.values().flat_map(|camp| camp.active.iter().copied()).collect();
        let is_awaited = |node: &NodeId| !counted.contains(node) && !self.around.unreachable.contains(node);
        let judged_by = *state.judged_by.get_or_insert(now + JUDGE_PATIENCE);
        if majority.is_none() && now < judged_by && others.iter().any(is_awaited) {
            return;
        }
        let stands_against = majority.is_some_and(|(&fingerprint, _)| fingerprint != own.fingerprint.0);
        let message = verdict(me, &camps, majority.map(|(&fingerprint, _)| fingerprint));
        (state.suspect, state.judged_by) = (false, None);
        state.refill |= stands_against;
        self.signals.push(Signal::Alarm { tenant, message });
    }
}

/// Replicas that hold the same.
#[derive(Debug, Default)]
struct Camp {
    all: BTreeSet<NodeId>,
    /// Of these, the active ones. Only they have a say: one that joins was filled by somebody.
    active: BTreeSet<NodeId>,
}

/// This replica and the others that were heard just now, as far as they can be compared, by what they hold.
fn camps(state: &TenantState, own: &Summary, me: NodeId, now: Duration) -> BTreeMap<u128, Camp> {
    let heard = state
        .known
        .keys()
        .filter_map(|&node| Some((node, state.fresh(node, now)?)));
    let comparable = heard.filter(|(_, known)| is_comparable(own, known));
    let others = comparable.filter_map(|(node, known)| Some((node, known.fingerprint?.0)));
    let mut camps: BTreeMap<u128, Camp> = BTreeMap::new();
    for (node, fingerprint) in others.chain([(me, own.fingerprint.0)]) {
        let camp = camps.entry(fingerprint).or_default();
        camp.all.insert(node);
        if state.role(node) == Some(ReplicaState::Active) {
            camp.active.insert(node);
        }
    }
    camps
}

/// Who is right, as far as that can be said, and what is done or to be done.
fn verdict(me: NodeId, camps: &BTreeMap<u128, Camp>, majority: Option<u128>) -> String {
    let Some(majority) = majority else {
        let camps: Vec<String> = camps.values().map(|camp| names(&camp.all, me)).collect();
        return format!(
            "replicas hold different facts at equal vectors ({}) and no majority of them agrees, so nobody can say which \
             is right: compare exports of the replicas, then drain the wrong node",
            camps.join(" against ")
        );
    };
    let agreeing = names(&camps[&majority].active, me);
    let against = camps.iter().filter(|&(&fingerprint, _)| fingerprint != majority);
    let against: BTreeSet<NodeId> = against.flat_map(|(_, camp)| camp.all.iter().copied()).collect();
    let stands = if against.len() == 1 { "stands alone" } else { "stand" };
    format!(
        "{} {stands} against {agreeing}, which agree: its facts differ at equal vectors; it hands over what only \
         it holds and is filled again from nothing; look at the disk of its node",
        names(&against, me)
    )
}

fn names(nodes: &BTreeSet<NodeId>, me: NodeId) -> String {
    let name = |&node: &NodeId| {
        if node == me {
            format!("{node} (this node)")
        } else {
            node.to_string()
        }
    };
    let names: Vec<String> = nodes.iter().map(name).collect();
    names.join(", ")
}

/// Whether two exact replicas of one epoch with equal vectors hold different facts.
pub(super) fn differs(own: &Summary, known: &Known) -> bool {
    is_comparable(own, known)
        && known
            .fingerprint
            .is_some_and(|fingerprint| fingerprint != own.fingerprint)
}

/// Whether both should hold the same facts.
fn is_comparable(own: &Summary, known: &Known) -> bool {
    own.is_exact() && known.is_exact() && own.vector == known.vector && own.collection_epoch == known.collection_epoch
}
