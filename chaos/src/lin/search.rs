//! The search for an order, over a list of calls and answers in the order of time.
//!
//! An operation in the list may come next as long as the walk has not met an answer: what comes after an answer began
//! later. When one is taken, its call and its answer leave the list; when the walk meets an answer, the last taken is
//! put back and the walk goes on behind it (the list of Lowe's paper, which needs no search for candidates).

use std::collections::HashSet;

use super::{OperationOf, Spec};

/// Steps after which the search is given up. A step remembers at most one set of operations and one state: a few
/// hundred bytes for the history of a run, so a hundred megabytes in all, and a second of work.
pub const STEPS_MAX: u64 = 400_000;

/// What became of the search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An order that explains every answer.
    Ordered(Vec<usize>),
    /// There is none. The longest order that was possible.
    Impossible(Vec<usize>),
    /// Given up.
    OutOfSteps { steps: u64 },
}

pub(super) fn order<S: Spec>(spec: &S, history: &[OperationOf<S>], steps_max: u64) -> Outcome {
    let mut list = EventList::of(history);
    let mut done = Done::of(history.len());
    let mut seen: HashSet<(Done, S::State)> = HashSet::new();
    let mut taken: Vec<(usize, S::State)> = Vec::new();
    let mut longest: Vec<usize> = Vec::new();
    let mut state = spec.start();
    let mut at = list.first();
    let mut steps = 0;
    while list.answers_left > 0 {
        let Event::Call(place) = list.event(at) else {
            // Nothing before this answer can come next: the last choice was wrong.
            let Some((place, before)) = taken.pop() else {
                return Outcome::Impossible(longest);
            };
            state = before;
            done.unset(place);
            at = list.put_back(place);
            continue;
        };
        steps += 1;
        if steps > steps_max {
            return Outcome::OutOfSteps { steps: steps_max };
        }
        let operation = &history[place];
        let (after, reply) = spec.apply(&state, &operation.call);
        let agrees = operation.returned.as_ref().is_none_or(|(_, said)| *said == reply);
        done.set(place);
        if agrees && seen.insert((done.clone(), after.clone())) {
            taken.push((place, std::mem::replace(&mut state, after)));
            list.take_out(place);
            at = list.first();
            if taken.len() > longest.len() {
                longest = taken.iter().map(|(place, _)| *place).collect();
            }
        } else {
            done.unset(place);
            at = list.after(at);
        }
    }
    Outcome::Ordered(taken.into_iter().map(|(place, _)| place).collect())
}

/// Which operations are in order already.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Done(Vec<u64>);

impl Done {
    fn of(operations: usize) -> Self {
        Self(vec![0; operations.div_ceil(64)])
    }

    fn set(&mut self, place: usize) {
        self.0[place / 64] |= 1 << (place % 64);
    }

    fn unset(&mut self, place: usize) {
        self.0[place / 64] &= !(1 << (place % 64));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Call(usize),
    Answer,
    /// Before the first and behind the last.
    Rim,
}

/// Calls and answers in the order of time, doubly linked.
struct EventList {
    events: Vec<Event>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Where each operation's call and answer stand in `events`.
    places: Vec<(usize, Option<usize>)>,
    answers_left: usize,
}

impl EventList {
    fn of<C, R>(history: &[super::Operation<C, R>]) -> Self {
        // At one moment calls come before answers: then the two operations overlap, and more orders are possible.
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (place, operation) in history.iter().enumerate() {
            moments.push((operation.called, false, place));
            if let Some((at, _)) = &operation.returned {
                assert!(operation.called <= *at, "an operation is answered after its call");
                moments.push((*at, true, place));
            }
        }
        moments.sort_unstable();
        let mut events = vec![Event::Rim];
        let mut places = vec![(0, None); history.len()];
        for (_, is_answer, place) in moments {
            if is_answer {
                places[place].1 = Some(events.len());
                events.push(Event::Answer);
            } else {
                places[place].0 = events.len();
                events.push(Event::Call(place));
            }
        }
        let len = events.len();
        Self {
            events,
            next: (0..len).map(|at| (at + 1) % len).collect(),
            previous: (0..len).map(|at| (at + len - 1) % len).collect(),
            answers_left: places.iter().filter(|(_, answer)| answer.is_some()).count(),
            places,
        }
    }

    fn first(&self) -> usize {
        self.next[0]
    }

    fn after(&self, at: usize) -> usize {
        self.next[at]
    }

    fn event(&self, at: usize) -> Event {
        self.events[at]
    }

    fn take_out(&mut self, place: usize) {
        let (call, answer) = self.places[place];
        for at in std::iter::once(call).chain(answer) {
            let (before, behind) = (self.previous[at], self.next[at]);
            self.next[before] = behind;
            self.previous[behind] = before;
        }
        self.answers_left -= usize::from(answer.is_some());
    }

    /// Returns what stands behind its call: the walk goes on there.
    fn put_back(&mut self, place: usize) -> usize {
        let (call, answer) = self.places[place];
        // The opposite order of taking out, for the links of the one may lead to the other.
        for at in answer.into_iter().chain(std::iter::once(call)) {
            let (before, behind) = (self.previous[at], self.next[at]);
            self.next[before] = at;
            self.previous[behind] = at;
        }
        self.answers_left += usize::from(answer.is_some());
        self.next[call]
    }
}
