//! Linearizability: is there one order of operations that explains every answer?
//!
//! Wing and Gong's search ("Testing and Verifying Concurrent Objects", 1993) with Lowe's memory ("Testing for
//! linearizability", 2017): operations are put in order one by one; an operation may come next if no other that is
//! still open had ended before it began, and if the object, as it then stands, would have answered as it did. A set of
//! ordered operations that was met before with the same state is not tried again.
//!
//! An operation without an answer (a timeout, a crash) may have taken effect at any moment after its call, or never.
//! Objects are checked one by one, per key, for linearizability is local (Herlihy and Wing, 1990).
//!
//! The search is bounded: past its steps it says *undecided*, which is neither a pass nor a failure. A failure is
//! explained by the shortest beginning of the history that cannot be ordered ([`explain`]).

pub mod explain;
pub mod register;
mod search;

use std::{collections::BTreeMap, fmt, hash::Hash};

pub use self::{explain::Explanation, search::STEPS_MAX};

/// What one object does when nobody else is near: the sequential specification.
pub trait Spec {
    /// All that the object remembers.
    type State: Clone + Eq + Hash + fmt::Debug;
    /// What it is asked.
    type Call: Clone + fmt::Display;
    /// What it answers.
    type Reply: Clone + PartialEq + fmt::Display;

    /// Before the first call.
    fn start(&self) -> Self::State;

    /// The state after a call and the answer. Total: every call is possible in every state.
    fn apply(&self, state: &Self::State, call: &Self::Call) -> (Self::State, Self::Reply);
}

/// A moment of the run, in whichever unit the history has. Only the order counts.
pub type Moment = u64;

/// One operation of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation<C, R> {
    /// Who asked.
    pub process: String,
    /// What.
    pub call: C,
    /// When.
    pub called: Moment,
    /// When it was answered, and what. `None`: nobody knows whether it took effect.
    pub returned: Option<(Moment, R)>,
}

/// The operations of a specification.
pub type OperationOf<S> = Operation<<S as Spec>::Call, <S as Spec>::Reply>;

/// What became of the search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// An order: the operations' places in the history. Unanswered ones may be missing.
    Linearizable(Vec<usize>),
    /// No order explains the answers.
    Violation(Explanation),
    /// The search was given up after so many steps.
    Undecided {
        /// So many.
        steps: u64,
    },
}

/// Checks the history of one object.
pub fn check<S: Spec>(spec: &S, history: &[OperationOf<S>], steps_max: u64) -> Verdict {
    match search::order(spec, history, steps_max) {
        search::Outcome::Ordered(order) => Verdict::Linearizable(order),
        search::Outcome::OutOfSteps { steps } => Verdict::Undecided { steps },
        search::Outcome::Impossible(_) => Verdict::Violation(explain::explain(spec, history, steps_max)),
    }
}

/// Checks the histories of many objects, each alone. Returns those that are not known to be linearizable.
pub fn check_each<'a, K: Ord, S: Spec>(
    spec: &S,
    histories: &'a BTreeMap<K, Vec<OperationOf<S>>>,
    steps_max: u64,
) -> Vec<(&'a K, Verdict)> {
    let verdicts = histories
        .iter()
        .map(|(key, history)| (key, check(spec, history, steps_max)));
    verdicts
        .filter(|(_, verdict)| !matches!(verdict, Verdict::Linearizable(_)))
        .collect()
}

impl<C: fmt::Display, R: fmt::Display> fmt::Display for Operation<C, R> {
    /// Such as `[12, 30] c1: read -> 5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            process, call, called, ..
        } = self;
        match &self.returned {
            Some((at, reply)) => write!(f, "[{called}, {at}] {process}: {call} -> {reply}"),
            None => write!(f, "[{called}, ?] {process}: {call} -> no answer"),
        }
    }
}

#[cfg(test)]
mod tests;
