//! Known bugs that can be put back, one at a time, to see that the simulator finds them.
//!
//! They exist only with the feature `mutants`, which the `halcyon` command refuses to be built with: without it
//! [`active`] is a constant, and nothing of them is left in the code.

/// A bug that somebody made once, here or elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Mutant {
    /// A push is answered when it is written, not when it is synced.
    AcknowledgeBeforeSync,
    /// A vote is given before it is on disk.
    VoteWithoutSync,
    /// A change set leaves its origin before it is on disk there.
    GossipBeforeSync,
    /// A node is the same origin again after a restart, whatever became of its disk.
    SeqReused,
    /// The version vector moves with the first batch of a catch-up.
    VectorMovedEarly,
    /// A gossiped change set moves the vector over the gap before it.
    GapSkipped,
    /// What is written after a deletion brings the entity back.
    TombstoneLoses,
    /// The last write to arrive wins, whatever its timestamp.
    LastArrivalWins,
    /// Timestamps from the far future are taken.
    DriftNotRefused,
    /// A linearizable read trusts the leader's lease.
    LeaseRead,
    /// A node that should pass a push on keeps it.
    PlacementNotChecked,
    /// A change set that could not be applied counts as held.
    FailedApplySeen,
    /// A watch goes on from the largest timestamp it has seen.
    ResumeByTimestamp,
    /// A watch that lost its node stays silent.
    SubscriptionDropped,
    /// Tombstones are collected while a replica is away.
    CollectedEarly,
    /// A replica that leaves erases what nobody else has.
    ErasedEarly,
    /// Of two writes with one timestamp the first to arrive stays.
    TieByArrival,
    /// A node that lags takes an entity that it does not know yet for one that was deleted.
    LagNotNoticed,
    /// A command of the control plane that is proposed again is carried out again.
    CommandRepeated,
    /// A leader that restarts leads on, whatever of what it had sent its disk has lost.
    LeadsAgain,
    /// A page that is not what was written is read all the same.
    SealNotChecked,
    /// A live query is not told of an entity that it needs no more.
    LeftNotTold,
    /// A live query at a node that lacks what its client has seen counts as synced.
    LagShownAsSynced,
    /// Who comes back to a live query is taken to hold what it should.
    DigestNotCompared,
    /// A live query that a node answers is not told what became of its answer.
    AnswerNotTold,
    /// A room does not hear that somebody went whose node fell silent.
    GoneNotTold,
    /// A node goes on from a log that lost what was durable.
    LostCommitNotNoticed,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::AcknowledgeBeforeSync,
        Self::VoteWithoutSync,
        Self::GossipBeforeSync,
        Self::SeqReused,
        Self::VectorMovedEarly,
        Self::GapSkipped,
        Self::TombstoneLoses,
        Self::LastArrivalWins,
        Self::DriftNotRefused,
        Self::LeaseRead,
        Self::PlacementNotChecked,
        Self::FailedApplySeen,
        Self::ResumeByTimestamp,
        Self::SubscriptionDropped,
        Self::CollectedEarly,
        Self::ErasedEarly,
        Self::TieByArrival,
        Self::LagNotNoticed,
        Self::CommandRepeated,
        Self::LeadsAgain,
        Self::SealNotChecked,
        Self::LeftNotTold,
        Self::LagShownAsSynced,
        Self::DigestNotCompared,
        Self::AnswerNotTold,
        Self::GoneNotTold,
        Self::LostCommitNotNoticed,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AcknowledgeBeforeSync => "acknowledge-before-sync",
            Self::VoteWithoutSync => "vote-without-sync",
            Self::GossipBeforeSync => "gossip-before-sync",
            Self::SeqReused => "seq-reused",
            Self::VectorMovedEarly => "vector-moved-early",
            Self::GapSkipped => "gap-skipped",
            Self::TombstoneLoses => "tombstone-loses",
            Self::LastArrivalWins => "last-arrival-wins",
            Self::DriftNotRefused => "drift-not-refused",
            Self::LeaseRead => "lease-read",
            Self::PlacementNotChecked => "placement-not-checked",
            Self::FailedApplySeen => "failed-apply-seen",
            Self::ResumeByTimestamp => "resume-by-timestamp",
            Self::SubscriptionDropped => "subscription-dropped",
            Self::CollectedEarly => "collected-early",
            Self::ErasedEarly => "erased-early",
            Self::TieByArrival => "tie-by-arrival",
            Self::LagNotNoticed => "lag-not-noticed",
            Self::CommandRepeated => "command-repeated",
            Self::LeadsAgain => "leads-again",
            Self::SealNotChecked => "seal-not-checked",
            Self::LeftNotTold => "left-not-told",
            Self::LagShownAsSynced => "lag-shown-as-synced",
            Self::DigestNotCompared => "digest-not-compared",
            Self::AnswerNotTold => "answer-not-told",
            Self::GoneNotTold => "gone-not-told",
            Self::LostCommitNotNoticed => "lost-commit-not-noticed",
        }
    }
}

#[cfg(feature = "mutants")]
mod switch {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Mutant;

    /// The place of the active mutant in [`Mutant::ALL`], counted from one.
    static ACTIVE: AtomicU8 = AtomicU8::new(0);

    /// Puts a bug back, for the rest of the process.
    pub fn activate(mutant: Mutant) {
        ACTIVE.store(mutant as u8 + 1, Ordering::Relaxed);
    }

    /// Whether this bug is there.
    pub fn active(mutant: Mutant) -> bool {
        ACTIVE.load(Ordering::Relaxed) == mutant as u8 + 1
    }
}

#[cfg(feature = "mutants")]
pub use switch::{activate, active};

/// Whether this bug is there: never, in a build without mutants.
#[cfg(not(feature = "mutants"))]
pub const fn active(_: Mutant) -> bool {
    false
}

/// Whether bugs can be put back into this build.
pub const POSSIBLE: bool = cfg!(feature = "mutants");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_mutant_is_listed_once_in_its_place_and_has_a_name_of_its_own() {
        let names: BTreeSet<_> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        assert_eq!(names.len(), Mutant::ALL.len());
        for (place, mutant) in Mutant::ALL.into_iter().enumerate() {
            assert_eq!(mutant as usize, place);
        }
    }
}
