//! Who leads the control plane, as far as durable votes tell: a leader writes down that it is elected, and so does
//! whoever hears of it.

use std::collections::{BTreeMap, BTreeSet};

use super::LaneAt;
use crate::oracles::{LeaderId, Vote};

/// The last vote of each host.
#[derive(Debug, Default)]
pub(super) struct Roles {
    votes: BTreeMap<LaneAt, Vote>,
    leading: BTreeSet<LaneAt>,
    /// The latest leader that anybody wrote down, and where it runs.
    latest: Option<(LeaderId, LaneAt)>,
}

impl Roles {
    /// A host's vote is durable, for a node that runs on `whom`. Says what the host is now, unless it was that before.
    pub(super) fn vote(&mut self, lane: LaneAt, vote: Vote, whom: Option<LaneAt>, name: &str) -> Option<String> {
        if self.votes.insert(lane, vote) == Some(vote) {
            return None;
        }
        if let (true, Some(whom)) = (vote.is_elected, whom) {
            self.latest = self.latest.max(Some((vote.leader, whom)));
        }
        let term = vote.leader.term;
        let role = match (whom == Some(lane), vote.is_elected) {
            (true, true) => {
                self.leading.insert(lane);
                return Some(format!("leads in term {term}"));
            }
            (true, false) => format!("stands for election in term {term}"),
            (false, true) => format!("follows {name} in term {term}"),
            (false, false) => format!("votes for {name} in term {term}"),
        };
        let led = self.leading.remove(&lane);
        Some(if led { format!("leads no more: {role}") } else { role })
    }

    /// A host that is down leads nobody.
    pub(super) fn down(&mut self, lane: LaneAt) {
        self.leading.remove(&lane);
    }

    /// The latest leader's host, whether it still leads or not: others may not have noticed yet.
    pub(super) fn leader(&self) -> Option<LaneAt> {
        self.latest.map(|(_, lane)| lane)
    }
}
