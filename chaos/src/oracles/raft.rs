//! Raft's own invariants: no host goes back to a leader that it has left, a durable vote never falls, what was committed
//! is never another.
//!
//! openraft counts a term and a node where Raft counts a term: in one term a node with a larger number may be elected as
//! well, and takes over as the leader of a later term would. So a term may have two leaders, one after the other.

use std::collections::BTreeMap;

use halcyon_core::id::NodeId;

use super::{Event, Evidence, Moment, Oracle};
use crate::{plan::cluster::Host, world::clock::now};

/// Nanoseconds after which a durable vote must show in a node's own account.
const SHOWN_AFTER: u64 = 1_000_000_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Raft {
    /// The latest leader that each host followed, and its term.
    followed: BTreeMap<Host, (u64, NodeId)>,
    /// The term of the last durable vote, and when that was told.
    votes: BTreeMap<Host, (u64, u64)>,
    terms: BTreeMap<Host, u64>,
    log: BTreeMap<u64, (Host, String)>,
}

impl Oracle for Raft {
    fn name(&self) -> &'static str {
        "raft"
    }

    fn hear(&mut self, event: &Event, _evidence: Evidence<'_>) -> Result<(), String> {
        match event {
            Event::Voted { host, term } => {
                let (last, told) = self.votes.entry(*host).or_default();
                if term < last {
                    return Err(format!("{host} voted in term {term} after term {last}"));
                }
                (*last, *told) = (*term, now());
            }
            Event::VoteFound { host, term } => {
                let last = self.votes.get(host).map_or(0, |(last, _)| *last);
                if *term < last {
                    return Err(format!(
                        "{host} had voted in term {last}, and after its restart knows of term {term} only"
                    ));
                }
            }
            Event::Applied { host, index, hash } => {
                let (first, known) = self.log.entry(*index).or_insert_with(|| (*host, hash.clone()));
                if known != hash {
                    return Err(format!("{host} applied another entry at {index} than {first} did"));
                }
            }
            Event::Down(host) => {
                self.terms.remove(host);
                self.followed.remove(host);
            }
            Event::DiskChanged(host) => {
                self.votes.remove(host);
                self.terms.remove(host);
                self.followed.remove(host);
            }
            _ => {}
        }
        Ok(())
    }

    fn look(&mut self, _moment: Moment, evidence: Evidence<'_>) -> Result<(), String> {
        for (host, rooms) in evidence.stage.running() {
            let roles = rooms.metadata.roles();
            let last = self.terms.entry(host).or_default();
            if roles.term < *last {
                return Err(format!("{host} went from term {last} back to term {}", roles.term));
            }
            *last = roles.term;
            let vote = self.votes.get(&host).filter(|(_, told)| *told + SHOWN_AFTER < now());
            if vote.is_some_and(|(vote, _)| roles.term < *vote) {
                return Err(format!(
                    "{host} is in term {} after it had voted in a later one",
                    roles.term
                ));
            }
            if let Some(leader) = roles.leader {
                let last = self.followed.entry(host).or_insert((roles.term, leader));
                if (roles.term, leader) < *last {
                    let (term, known) = last;
                    return Err(format!(
                        "{host} follows {leader} in term {} after {known} in term {term}",
                        roles.term
                    ));
                }
                *last = (roles.term, leader);
            }
        }
        Ok(())
    }
}
