//! Raft's own invariants:
//!
//! 1. a durable vote never falls, and is there after a restart; so is what was durable of the log;
//! 2. nobody leads without the durable votes of a quorum, and nobody leads as the same leader in two lives;
//! 3. no host goes back to a leader that it has left;
//! 4. one leader puts one entry at one place, whoever holds it (log matching);
//! 5. a new leader begins behind all that was committed before it (leader completeness);
//! 6. what was committed is never another.
//!
//! "One leader a term" is 1 and 2 together, where Raft's term is openraft's leader id, a term and a node (see
//! [`super::vote`]). Of the bare term it would be wrong: a voter that has voted for node 1 in term 5 may vote for node 3 in
//! term 5, so that both may lead, the one that comes later in that order after the other. That is as safe as two terms are,
//! for all that Raft compares are leader ids; and it spares an election where two stand at once. What Raft forbids within a
//! term, two votes of one voter of which neither is later, cannot be written down here.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Event, Evidence, Moment, Oracle,
    vote::{LeaderId, Placed, Vote},
};
use crate::{plan::cluster::Host, run::Stage, world::clock::now};

/// Nanoseconds after which a durable vote must show in a node's own account.
const SHOWN_AFTER: u64 = 1_000_000_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Raft {
    /// The last durable vote, and when that was told.
    votes: BTreeMap<Host, (Vote, u64)>,
    /// The last place of the log that was durable.
    durable: BTreeMap<Host, u64>,
    /// Who ever had a durable vote for a leader.
    voted: BTreeMap<LeaderId, BTreeSet<Host>>,
    /// How often a host went down.
    lives: BTreeMap<Host, u32>,
    /// In which of its lives a host led.
    led: BTreeMap<LeaderId, (Host, u32)>,
    /// The latest leader that each host followed.
    followed: BTreeMap<Host, LeaderId>,
    terms: BTreeMap<Host, u64>,
    /// The hash of each entry that was ever in a log.
    written: BTreeMap<(LeaderId, u64), u32>,
    /// Leaders of which an entry was ever in a log.
    began: BTreeSet<LeaderId>,
    /// What was committed, and who applied it first.
    applied: BTreeMap<u64, (Host, Placed)>,
    /// Leaders by whom, or before whom, an entry was committed.
    committed_by: BTreeMap<u64, LeaderId>,
}

impl Oracle for Raft {
    fn name(&self) -> &'static str {
        "raft"
    }

    fn hear(&mut self, event: &Event, evidence: Evidence<'_>) -> Result<(), String> {
        match event {
            Event::Voted(host, vote) => self.vote(*host, *vote, now()),
            Event::VoteFound(host, found) => self.vote_found(*host, *found),
            Event::LogDurable(host, last) => {
                let durable = self.durable.entry(*host).or_default();
                *durable = (*durable).max(*last);
                Ok(())
            }
            Event::LogCut(host, last) => {
                if let Some(durable) = self.durable.get_mut(host) {
                    *durable = (*durable).min(*last);
                }
                Ok(())
            }
            Event::LogFound(host, found) => self.log_found(*host, *found),
            Event::Appended(host, entry) => {
                if self.write(*host, *entry)? {
                    self.begin(*host, *entry)?;
                    self.elected(*host, entry.leader, evidence.stage)?;
                }
                Ok(())
            }
            Event::Applied(host, entry) => self.apply(*host, *entry),
            Event::Down(host) => {
                *self.lives.entry(*host).or_default() += 1;
                self.forget(*host);
                Ok(())
            }
            Event::DiskChanged(host) => {
                self.votes.remove(host);
                self.durable.remove(host);
                self.forget(*host);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn look(&mut self, _moment: Moment, evidence: Evidence<'_>) -> Result<(), String> {
        for (host, rooms) in evidence.stage.running() {
            let roles = rooms.metadata.roles();
            self.term_shown(host, roles.term)?;
            if let Some(node) = roles.leader {
                let leader = LeaderId { term: roles.term, node };
                self.follow(host, leader)?;
                if node == rooms.me {
                    self.lead(host, leader)?;
                }
            }
        }
        Ok(())
    }
}

impl Raft {
    /// What a host's memory held is gone.
    fn forget(&mut self, host: Host) {
        self.terms.remove(&host);
        self.followed.remove(&host);
    }

    fn vote(&mut self, host: Host, vote: Vote, now: u64) -> Result<(), String> {
        self.voted.entry(vote.leader).or_default().insert(host);
        match self.votes.insert(host, (vote, now)) {
            Some((last, _)) if vote < last => Err(format!("{host} voted for {vote} after it had voted for {last}")),
            _ => Ok(()),
        }
    }

    fn vote_found(&self, host: Host, found: Option<Vote>) -> Result<(), String> {
        let last = self.votes.get(&host).map(|(last, _)| *last);
        if found < last {
            let told = |vote: Option<Vote>| vote.map_or_else(|| "nobody".to_owned(), |vote| vote.to_string());
            return Err(format!(
                "{host} had voted for {}, and knows after its restart of {} only",
                told(last),
                told(found)
            ));
        }
        Ok(())
    }

    fn log_found(&self, host: Host, found: u64) -> Result<(), String> {
        match self.durable.get(&host) {
            Some(last) if found < *last => Err(format!(
                "{host}'s log was durable up to {last}, and ends after its restart at {found}"
            )),
            _ => Ok(()),
        }
    }

    /// Whether it is the first entry of its leader.
    fn write(&mut self, host: Host, entry: Placed) -> Result<bool, String> {
        let Placed { index, leader, hash } = entry;
        let known = *self.written.entry((leader, index)).or_insert(hash);
        if known != hash {
            return Err(format!("{host} holds another entry of {leader} at {index} than others"));
        }
        Ok(self.began.insert(leader))
    }

    /// A leader writes its first entry as soon as it leads.
    fn begin(&self, host: Host, first: Placed) -> Result<(), String> {
        let mut behind = self.committed_by.range(first.index..);
        match behind.find(|(_, by)| **by < first.leader) {
            Some((index, by)) => Err(format!(
                "{host} begins to lead as {} at {}; {by} had committed up to {index} before",
                first.leader, first.index
            )),
            None => Ok(()),
        }
    }

    /// Whether a quorum has voted for it.
    fn elected(&self, host: Host, leader: LeaderId, stage: &Stage) -> Result<(), String> {
        let Some(roles) = stage.rooms(host).map(|rooms| rooms.metadata.roles()) else {
            return Ok(());
        };
        // Who makes the cluster leads before any election. While the voters change, a quorum of both halves must vote.
        if leader.term == 0 || roles.voters.is_empty() || roles.voters != roles.needed {
            return Ok(());
        }
        let voted = self.voted.get(&leader);
        let has_voted = |host: Host| voted.is_some_and(|voted| voted.contains(&host));
        // One that has never served, but votes, may be anywhere.
        let voters = roles.voters.iter().map(|node| stage.host_of(*node));
        let votes = voters.filter(|voter| voter.is_none_or(has_voted)).count();
        if roles.voters.len() < 2 * votes {
            return Ok(());
        }
        let voters = roles.voters;
        Err(format!(
            "{host} leads as {leader} by {votes} durable votes of {voters:?}"
        ))
    }

    fn apply(&mut self, host: Host, entry: Placed) -> Result<(), String> {
        let index = entry.index;
        let (first, known) = *self.applied.entry(index).or_insert((host, entry));
        if known != entry {
            return Err(format!("{host} applied another entry at {index} than {first} did"));
        }
        // It heard that this is committed from a leader for whom it has voted, or from an earlier one.
        if let Some((vote, _)) = self.votes.get(&host) {
            let by = self.committed_by.entry(index).or_insert(vote.leader);
            *by = vote.leader.min(*by);
        }
        Ok(())
    }

    fn term_shown(&mut self, host: Host, term: u64) -> Result<(), String> {
        if let Some(last) = self.terms.insert(host, term)
            && term < last
        {
            return Err(format!("{host} went from term {last} back to term {term}"));
        }
        let vote = self.votes.get(&host).filter(|(_, told)| *told + SHOWN_AFTER < now());
        match vote {
            Some((vote, _)) if term < vote.leader.term => {
                Err(format!("{host} is in term {term} after it had voted for {vote}"))
            }
            _ => Ok(()),
        }
    }

    fn follow(&mut self, host: Host, leader: LeaderId) -> Result<(), String> {
        match self.followed.insert(host, leader) {
            Some(last) if leader < last => Err(format!("{host} follows {leader} after {last}")),
            _ => Ok(()),
        }
    }

    /// What it sent in its former life may never have come to its disk.
    fn lead(&mut self, host: Host, leader: LeaderId) -> Result<(), String> {
        let life = (host, self.lives.get(&host).copied().unwrap_or_default());
        let first = *self.led.entry(leader).or_insert(life);
        if first == life {
            return Ok(());
        }
        Err(format!("{host} leads as {leader}, as it did before its restart"))
    }
}

#[cfg(test)]
mod tests {
    use halcyon_core::id::NodeId;

    use super::*;

    const H1: Host = Host(1);
    const H2: Host = Host(2);

    fn leader(term: u64, node: u64) -> LeaderId {
        let node = NodeId(node);
        LeaderId { term, node }
    }

    fn vote(term: u64, node: u64) -> Vote {
        Vote {
            leader: leader(term, node),
            is_elected: false,
        }
    }

    fn entry(leader: LeaderId, index: u64, hash: u32) -> Placed {
        Placed { index, leader, hash }
    }

    #[track_caller]
    fn breaks(said: Result<(), String>, what: &str) {
        let said = said.expect_err("the rule is broken");
        assert!(said.contains(what), "{said}");
    }

    #[test]
    fn a_vote_moves_on_within_a_term_and_never_back() {
        let mut raft = Raft::default();
        assert_eq!(raft.vote(H1, vote(5, 1), 0), Ok(()));
        assert_eq!(raft.vote(H1, vote(5, 3), 0), Ok(()));
        breaks(
            raft.vote(H1, vote(5, 2), 0),
            "voted for T5-N2 after it had voted for T5-N3",
        );
    }

    #[test]
    fn a_vote_is_there_after_a_restart() {
        let mut raft = Raft::default();
        assert_eq!(raft.vote_found(H1, None), Ok(()));
        assert_eq!(raft.vote(H1, vote(5, 3), 0), Ok(()));
        assert_eq!(raft.vote_found(H1, Some(vote(5, 3))), Ok(()));
        breaks(
            raft.vote_found(H1, Some(vote(5, 1))),
            "knows after its restart of T5-N1 only",
        );
        breaks(raft.vote_found(H1, None), "of nobody only");
    }

    #[test]
    fn what_was_durable_of_a_log_is_there_after_a_restart() {
        let mut raft = Raft::default();
        assert_eq!(raft.log_found(H1, 0), Ok(()));
        raft.durable.insert(H1, 7);
        assert_eq!(raft.log_found(H1, 7), Ok(()));
        assert_eq!(raft.log_found(H2, 0), Ok(()));
        breaks(
            raft.log_found(H1, 6),
            "durable up to 7, and ends after its restart at 6",
        );
    }

    #[test]
    fn a_leader_leads_in_one_life() {
        let mut raft = Raft::default();
        assert_eq!(raft.lead(H1, leader(5, 1)), Ok(()));
        assert_eq!(raft.lead(H1, leader(5, 1)), Ok(()));
        *raft.lives.entry(H1).or_default() += 1;
        breaks(raft.lead(H1, leader(5, 1)), "as it did before its restart");
        assert_eq!(raft.lead(H1, leader(6, 1)), Ok(()));
    }

    #[test]
    fn one_leader_puts_one_entry_at_one_place() {
        let mut raft = Raft::default();
        assert_eq!(raft.write(H1, entry(leader(5, 1), 7, 1)), Ok(true));
        assert_eq!(raft.write(H2, entry(leader(5, 1), 7, 1)), Ok(false));
        assert_eq!(raft.write(H2, entry(leader(6, 2), 7, 2)), Ok(true));
        breaks(
            raft.write(H2, entry(leader(5, 1), 7, 2)).map(drop),
            "another entry of T5-N1 at 7",
        );
    }

    #[test]
    fn a_later_leader_begins_behind_what_was_committed() {
        let mut raft = Raft::default();
        assert_eq!(raft.vote(H1, vote(5, 1), 0), Ok(()));
        assert_eq!(raft.apply(H1, entry(leader(4, 2), 7, 1)), Ok(()));
        assert_eq!(raft.begin(H2, entry(leader(5, 2), 8, 2)), Ok(()));
        // It was voted for before that was committed, and hears of it late.
        assert_eq!(raft.begin(H2, entry(leader(4, 3), 7, 2)), Ok(()));
        breaks(raft.begin(H2, entry(leader(5, 2), 7, 2)), "T5-N1 had committed up to 7");
    }
}
