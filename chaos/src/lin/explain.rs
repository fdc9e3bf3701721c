//! Why a history cannot be ordered, in the fewest operations that show it.
//!
//! A beginning of a linearizable history is linearizable, so the first answer that cannot be explained is found by
//! halving: the history up to the answer before it has an order, up to this answer it has none. Operations that were
//! open at that moment count as unanswered.

use std::fmt;

use super::{Moment, Operation, OperationOf, Spec, search};

/// Operations shown before the one that cannot be explained. The full history is in the trace.
const SHOWN_MAX: usize = 24;

/// The shortest beginning that cannot be ordered, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The first operation whose answer nothing explains: its place in the history.
    pub broken: usize,
    /// That operation.
    pub answer: String,
    /// How many operations that beginning has.
    pub operations: usize,
    /// An order of all that was answered before: the last operations of it, and the state after each.
    pub order: Vec<String>,
    /// Operations that were open at that moment.
    pub open: Vec<String>,
}

pub(super) fn explain<S: Spec>(spec: &S, history: &[OperationOf<S>], steps_max: u64) -> Explanation {
    let mut answers: Vec<(Moment, usize)> = history
        .iter()
        .enumerate()
        .filter_map(|(place, operation)| operation.returned.as_ref().map(|(at, _)| (*at, place)))
        .collect();
    answers.sort_unstable();
    // `low` answers can be explained, `high` cannot.
    let (mut low, mut high) = (0, answers.len());
    while high - low > 1 {
        let middle = usize::midpoint(low, high);
        let (beginning, _) = up_to(history, &answers[..middle]);
        match search::order(spec, &beginning, steps_max) {
            search::Outcome::Impossible(_) => high = middle,
            search::Outcome::Ordered(_) | search::Outcome::OutOfSteps { .. } => low = middle,
        }
    }
    let broken = answers[high - 1].1;
    let (whole, _) = up_to(history, &answers[..high]);
    let (before, places) = up_to(history, &answers[..high - 1]);
    let order = match search::order(spec, &before, steps_max) {
        search::Outcome::Ordered(order) | search::Outcome::Impossible(order) => order,
        search::Outcome::OutOfSteps { .. } => Vec::new(),
    };
    let ordered: Vec<usize> = order.iter().map(|place| places[*place]).collect();
    let answered_at = answers[high - 1].0;
    let open = history.iter().enumerate().filter(|(place, operation)| {
        let ended = operation.returned.as_ref().is_some_and(|(at, _)| *at < answered_at);
        *place != broken && operation.called <= answered_at && !ended && !ordered.contains(place)
    });
    Explanation {
        broken,
        answer: history[broken].to_string(),
        operations: whole.len(),
        order: states(spec, history, &ordered),
        open: open.map(|(_, operation)| operation.to_string()).collect(),
    }
}

/// The history up to the last of these answers, and where each operation of it stands in the whole.
fn up_to<C: Clone, R: Clone>(
    history: &[Operation<C, R>],
    answers: &[(Moment, usize)],
) -> (Vec<Operation<C, R>>, Vec<usize>) {
    let end = answers.last().map_or(0, |(at, _)| *at);
    let answered: std::collections::BTreeSet<usize> = answers.iter().map(|(_, place)| *place).collect();
    let mut beginning = Vec::new();
    let mut places = Vec::new();
    for (place, operation) in history.iter().enumerate() {
        if operation.called > end {
            continue;
        }
        let mut operation = operation.clone();
        if !answered.contains(&place) {
            operation.returned = None;
        }
        beginning.push(operation);
        places.push(place);
    }
    (beginning, places)
}

fn states<S: Spec>(spec: &S, history: &[OperationOf<S>], order: &[usize]) -> Vec<String> {
    let mut state = spec.start();
    let mut lines = Vec::new();
    for place in order {
        let operation = &history[*place];
        state = spec.apply(&state, &operation.call).0;
        lines.push(format!("{operation}   then {state:?}"));
    }
    lines.split_off(lines.len().saturating_sub(SHOWN_MAX))
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "nothing explains  {}", self.answer)?;
        writeln!(
            f,
            "the first {} operations cannot be put in order; all before it can:",
            self.operations
        )?;
        for line in &self.order {
            writeln!(f, "    {line}")?;
        }
        if !self.open.is_empty() {
            writeln!(f, "open at that moment, tried at every place:")?;
        }
        for line in &self.open {
            writeln!(f, "    {line}")?;
        }
        Ok(())
    }
}
