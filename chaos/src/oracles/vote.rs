//! Votes and places of the control plane's log, as openraft counts them.
//!
//! Raft counts leaders by term. openraft counts them by term and node ([`LeaderId`]): within one term a vote may still move
//! on to a node with a larger number, which then takes over as the leader of a later term would. So its leader id is what
//! Raft's papers call a term, and whatever they say of terms is held to here of leader ids.

use std::fmt;

use halcyon_core::id::NodeId;

/// Who leads: what Raft calls a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaderId {
    /// Elections so far, more or less.
    pub term: u64,
    /// Who stood.
    pub node: NodeId,
}

impl fmt::Display for LeaderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "T{}-N{}", self.term, self.node.0)
    }
}

/// For whom a node votes. It only ever moves on to a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vote {
    /// For whom.
    pub leader: LeaderId,
    /// Whether it is known that a quorum has voted so.
    pub is_elected: bool,
}

impl Vote {
    /// From openraft's text: `<T12-N3:Q>`, or `<T12-N3:->` while the election is open.
    pub fn read(text: &str) -> Option<Self> {
        let inner = text.strip_prefix("<T")?.strip_suffix('>')?;
        let (leader, quorum) = inner.split_once(':')?;
        let (term, node) = leader.split_once("-N")?;
        let leader = LeaderId {
            term: term.parse().ok()?,
            node: NodeId(node.parse().ok()?),
        };
        Some(Self {
            leader,
            is_elected: quorum == "Q",
        })
    }
}

impl fmt::Display for Vote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let elected = if self.is_elected { ", elected" } else { "" };
        write!(f, "{}{elected}", self.leader)
    }
}

/// An entry at its place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Its place.
    pub index: u64,
    /// Who led when it was proposed.
    pub leader: LeaderId,
    /// Of its content.
    pub hash: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_are_read_and_a_later_one_is_greater() {
        let votes = ["<T1-N3:->", "<T1-N3:Q>", "<T1-N4:->", "<T2-N1:->"];
        let read: Vec<Vote> = votes.into_iter().filter_map(Vote::read).collect();
        assert_eq!(read.len(), votes.len());
        assert!(read.is_sorted());
        assert_eq!(read[1].to_string(), "T1-N3, elected");
        assert_eq!(Vote::read(""), None);
    }
}
