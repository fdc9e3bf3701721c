//! What the last commands were answered, so that one that is proposed again after a lost answer is not carried out again.
//!
//! The proposer draws an id for each command and keeps it for every try ([`Command::Once`]). What is remembered is part of
//! the state and of its snapshots: every node remembers the same, and forgets the oldest at the same command.

use std::collections::{BTreeMap, VecDeque};

use halcyon_core::mutant::{self, Mutant};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    command::{Command, Outcome, Refusal, Reply},
    limits::ANSWERS_REMEMBERED_MAX,
    state::State,
};

/// The last answers, by the ids of their commands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answered {
    answers: BTreeMap<u128, Outcome>,
    /// The same ids, the oldest first.
    order: VecDeque<u128>,
}

impl Answered {
    /// What the command of this id was answered, if it was carried out not long ago.
    pub fn get(&self, id: u128) -> Option<&Outcome> {
        self.answers.get(&id)
    }

    fn note(&mut self, id: u128, outcome: Outcome) {
        if self.answers.insert(id, outcome).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > ANSWERS_REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.answers.remove(&oldest);
        }
    }
}

impl State {
    /// Carries out a command, unless one of this id was: then it gets that one's answer, a refusal too.
    pub(super) fn apply_once(&mut self, id: u128, command: Command) -> Result<Reply, Refusal> {
        if let Some(Outcome(first)) = self.answered.get(id)
            && !mutant::active(Mutant::CommandRepeated)
        {
            return first.clone();
        }
        let answer = self.apply(command);
        self.answered.note(id, Outcome(answer.clone()));
        answer
    }

    /// Whether applying this would only repeat an answer.
    pub(super) fn has_answered(&self, command: &Command) -> bool {
        matches!(command, Command::Once { id, .. } if self.answered.get(*id).is_some())
    }
}

/// Ids and answers, the oldest first.
impl Serialize for Answered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.order.iter().map(|id| (id, &self.answers[id])))
    }
}

impl<'de> Deserialize<'de> for Answered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut answered = Self::default();
        for (id, outcome) in Vec::<(u128, Outcome)>::deserialize(deserializer)? {
            answered.note(id, outcome);
        }
        Ok(answered)
    }
}
