//! Keeps Raft's membership and the tenants' placements in line with the nodes that there are.
//!
//! Every node runs this task; it acts only while its node leads. Each round looks at what is and does the next safe
//! thing, so nothing is remembered between rounds and a new leader simply goes on:
//! - a node without a place in the group becomes a learner;
//! - when the wanted voters are not the present ones, and those to come answer and have caught up, the voters change;
//! - a removed node stops voting first and then leaves the group;
//! - tenants whose placement has a next step get it, in batches.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use futures::FutureExt;
use halcyon_core::id::{NodeId, RegionName, TenantId};
use openraft::{ChangeMembers, EmptyNode, Instant, async_runtime::WatchReceiver};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, timeout},
};

use super::{
    command::{Command, Placement},
    limits::{
        LEARNER_HEARD, MEMBERSHIP_DEADLINE, PLACEMENTS_BATCH_MAX, RECONCILE_INTERVAL, RECONCILE_LINGER, SWEEP_INTERVAL,
        SWEEP_TENANTS_PER_ROUND, VOTER_LAG_MAX,
    },
    placement,
    state::{Node, State},
    types::Raft,
    view::View,
    voters,
};

/// The group as Raft has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Group {
    /// Where a change of voters is half done: those that it leads to.
    voters: BTreeSet<NodeId>,
    /// Who began a change of voters was lost, or ran out of time, before the old ones were let go.
    is_half_changed: bool,
    members: BTreeSet<NodeId>,
    /// Members that answer and whose log is near the leader's.
    caught_up: BTreeSet<NodeId>,
}

/// One change of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    AddLearners(BTreeSet<NodeId>),
    SetVoters(BTreeSet<NodeId>),
    Remove(BTreeSet<NodeId>),
}

/// How far the look through the placements has come. A tenant's next step depends on the tenant, and each command that
/// changes it takes that step, and on the nodes: so all tenants are looked at when those have changed, and then none.
#[derive(Debug, Default)]
struct Sweep {
    /// As they were when the sweep began.
    nodes: BTreeMap<NodeId, Arc<Node>>,
    /// Where it goes on; `None` when it is through.
    from: Option<Bound<TenantId>>,
    /// A step was found, so there may be another after it.
    found: bool,
}

/// Runs until `stop` says so.
pub(super) async fn run(raft: Raft, mut view: View, mut stop: watch::Receiver<bool>) {
    let mut sweep = Sweep::default();
    let mut again = tokio::time::interval(SWEEP_INTERVAL);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let pause = if sweep.from.is_some() {
            RECONCILE_LINGER
        } else {
            RECONCILE_INTERVAL
        };
        tokio::select! {
            biased;
            _ = stop.changed() => return,
            () = view.changed() => tokio::time::sleep(RECONCILE_LINGER).await,
            () = tokio::time::sleep(pause) => {}
        }
        if !raft.is_leader() {
            // Whoever leads from now on begins anew.
            sweep = Sweep::default();
            continue;
        }
        if again.tick().now_or_never().is_some() {
            sweep = Sweep::default();
        }
        tokio::select! {
            biased;
            _ = stop.changed() => return,
            () = round(&raft, &view, &mut sweep) => {}
        }
    }
}

async fn round(raft: &Raft, view: &View, sweep: &mut Sweep) {
    let nodes = view.read(|state| state.nodes.clone());
    // Before the bootstrap command there is nothing to go by.
    if nodes.is_empty() {
        return;
    }
    if let Some(group) = group(raft) {
        let regions = nodes.values().map(|node| (node.id, node.region.clone())).collect();
        if let Some(change) = next_change(&regions, &group) {
            change_group(raft, change).await;
        }
    }
    place(raft, view, sweep).await;
}

/// The group, unless a change of it is not committed yet.
fn group(raft: &Raft) -> Option<Group> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let effective = &metrics.membership_config;
    if effective != &metrics.committed_membership_config {
        return None;
    }
    let configs = effective.membership().get_joint_config();
    let replication = metrics.replication.as_ref()?;
    let last = metrics.last_log_index.unwrap_or(0);
    let near = |index: u64| last.saturating_sub(index) <= VOTER_LAG_MAX;
    let reached = |matched: &Option<super::types::LogId>| matched.is_some_and(|place| near(place.index()));
    let heard = metrics.heartbeat.as_ref();
    let answers = |id: &u64| {
        let last = heard.and_then(|heard| heard.get(id)).copied().flatten();
        last.is_some_and(|at| at.elapsed() <= LEARNER_HEARD)
    };
    let mut caught_up: BTreeSet<_> = replication
        .iter()
        .filter(|(id, at)| reached(at) && answers(id))
        .map(|(id, _)| NodeId(*id))
        .collect();
    caught_up.insert(NodeId(metrics.id));
    Some(Group {
        voters: configs.last()?.iter().copied().map(NodeId).collect(),
        is_half_changed: configs.len() > 1,
        members: effective.membership().nodes().map(|(id, _)| NodeId(*id)).collect(),
        caught_up,
    })
}

/// The next change that brings `group` nearer to `nodes`, one at a time.
fn next_change(nodes: &BTreeMap<NodeId, RegionName>, group: &Group) -> Option<Change> {
    // Raft goes no further by itself, and until it does a majority of the old voters is needed as well.
    if group.is_half_changed {
        return Some(Change::SetVoters(group.voters.clone()));
    }
    let newcomers: BTreeSet<_> = nodes.keys().filter(|id| !group.members.contains(id)).copied().collect();
    if !newcomers.is_empty() {
        return Some(Change::AddLearners(newcomers));
    }
    let may_vote = |id: &NodeId| group.voters.contains(id) || group.caught_up.contains(id);
    let candidates = nodes
        .iter()
        .filter(|(id, _)| may_vote(id))
        .map(|(id, region)| (*id, region.clone()))
        .collect();
    let wanted = voters::choose(&candidates, &group.voters);
    if wanted != group.voters && !wanted.is_empty() {
        return Some(Change::SetVoters(wanted));
    }
    let removed: BTreeSet<_> = group
        .members
        .iter()
        .filter(|id| !nodes.contains_key(id))
        .copied()
        .collect();
    (!removed.is_empty()).then_some(Change::Remove(removed))
}

async fn change_group(raft: &Raft, change: Change) {
    tracing::info!(?change, "the control plane's group changes");
    let (members, retain) = match change {
        Change::AddLearners(nodes) => {
            let learners = nodes.into_iter().map(|node| (node.0, EmptyNode {})).collect();
            (ChangeMembers::AddNodes(learners), true)
        }
        // Voters that are no longer wanted stay as learners (`retain`).
        Change::SetVoters(nodes) => (ChangeMembers::ReplaceAllVoters(numbers(nodes)), true),
        Change::Remove(nodes) => (ChangeMembers::RemoveNodes(numbers(nodes)), false),
    };
    match timeout(MEMBERSHIP_DEADLINE, raft.change_membership(members, retain)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the group did not change; the next round looks again"),
        Err(_) => tracing::warn!("the change of the group is still under way"),
    }
}

fn numbers(nodes: BTreeSet<NodeId>) -> BTreeSet<u64> {
    nodes.into_iter().map(|node| node.0).collect()
}

impl Sweep {
    /// The next steps of placements among the tenants that come next.
    fn next(&mut self, state: &State) -> Vec<Placement> {
        if self.nodes != state.nodes {
            *self = Self {
                nodes: state.nodes.clone(),
                from: Some(Bound::Unbounded),
                found: false,
            };
        }
        let Some(from) = self.from else { return Vec::new() };
        let mut looked = 0;
        let mut steps = Vec::new();
        for tenant in state
            .tenants
            .range((from, Bound::Unbounded))
            .map(|(_, tenant)| tenant)
            .take(SWEEP_TENANTS_PER_ROUND)
        {
            looked += 1;
            self.from = Some(Bound::Excluded(tenant.id));
            steps.extend(placement::step(tenant, &state.nodes).map(|replicas| Placement {
                tenant: tenant.id,
                expected_epoch: tenant.placement_epoch,
                replicas,
            }));
        }
        self.found |= !steps.is_empty();
        if looked < SWEEP_TENANTS_PER_ROUND {
            self.from = std::mem::take(&mut self.found).then_some(Bound::Unbounded);
        }
        steps
    }
}

/// Proposes the next steps of placements that have one.
async fn place(raft: &Raft, view: &View, sweep: &mut Sweep) {
    let steps = view.read(|state| sweep.next(state));
    for batch in steps.chunks(PLACEMENTS_BATCH_MAX) {
        let write = raft.client_write(Command::SetReplicas(batch.to_vec()));
        if !matches!(timeout(MEMBERSHIP_DEADLINE, write).await, Ok(Ok(_))) {
            // No longer the leader, or no quorum: whoever leads next does it, or the same in a sweep of its own.
            *sweep = Sweep::default();
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> BTreeSet<NodeId> {
        text.bytes().map(|digit| NodeId(u64::from(digit - b'0'))).collect()
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "a table of cases reads better without references"
    )]
    #[track_caller]
    fn check(nodes: &str, (voters, members, caught_up): (&str, &str, &str), expected: Option<Change>) {
        let region = |id: &NodeId| RegionName::new(&format!("r{}", id.0 % 3)).unwrap();
        let nodes = ids(nodes).into_iter().map(|id| (id, region(&id))).collect();
        let group = Group {
            voters: ids(voters),
            is_half_changed: false,
            members: ids(members),
            caught_up: ids(caught_up),
        };
        assert_eq!(next_change(&nodes, &group), expected);
    }

    #[test]
    fn a_change_of_voters_that_nobody_finished_is_finished_before_anything_else() {
        let group = Group {
            voters: ids("134"),
            is_half_changed: true,
            members: ids("1234"),
            caught_up: ids("1234"),
        };
        let region = RegionName::new("r1").unwrap();
        let nodes = ids("1345").into_iter().map(|id| (id, region.clone())).collect();
        assert_eq!(next_change(&nodes, &group), Some(Change::SetVoters(ids("134"))));
    }

    #[test]
    fn a_new_node_learns_before_it_votes() {
        check("123", ("1", "1", "1"), Some(Change::AddLearners(ids("23"))));
        check("123", ("1", "123", "1"), None);
        check("123", ("1", "123", "12"), None);
        check("123", ("1", "123", "123"), Some(Change::SetVoters(ids("123"))));
        check("123", ("123", "123", "123"), None);
    }

    #[test]
    fn a_removed_node_stops_voting_before_it_leaves() {
        check("124", ("123", "1234", "1234"), Some(Change::SetVoters(ids("124"))));
        check("124", ("124", "1234", "124"), Some(Change::Remove(ids("3"))));
        check("12", ("123", "123", "123"), Some(Change::SetVoters(ids("1"))));
    }

    #[test]
    fn a_voter_that_is_away_stays_a_voter() {
        check("1234", ("123", "1234", "124"), None);
        // Nor does it matter who was there first.
        check("1236", ("1", "1236", "126"), Some(Change::SetVoters(ids("126"))));
        check("1236", ("126", "1236", "1236"), None);
    }
}
