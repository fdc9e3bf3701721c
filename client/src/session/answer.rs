//! What each answer to a push means.

use std::{collections::VecDeque, time::Duration};

use halcyon_core::clock::WallTime;
use halcyon_proto::{
    convert::Taken,
    error::{ErrorCode, Refusal},
    v1,
};

use super::{Kept, Moment, Place, Session, Settled, Stored, Waiting, backoff};
use crate::{limits::BLOCKED_WAIT, types::Acknowledged};

/// How a push ended.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The node answered for each set, in order. `None` is an answer that cannot be understood.
    Results(Vec<Option<Result<Taken, Refusal>>>),
    /// The node refused the whole call.
    Refused(Refusal),
    /// No answer: a lost connection or a deadline.
    Lost,
    /// It was not sent: no node could be reached.
    Unsent,
}

impl Answer {
    /// Whether it says that the clock is wrong: then sets are stamped again.
    pub fn is_drift(&self) -> bool {
        let is_drift = |refusal: &Refusal| matches!(meaning(refusal.code), Meaning::Drift);
        match self {
            Self::Results(results) => results.iter().flatten().any(|one| one.as_ref().is_err_and(is_drift)),
            Self::Refused(refusal) => is_drift(refusal),
            Self::Lost | Self::Unsent => false,
        }
    }
}

/// What is to be done after an answer.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What became of sets.
    pub settled: Vec<Settled>,
    /// Sets that had been taken, were lost, and are taken anew: as what.
    pub anew: Vec<(Place, Acknowledged)>,
    /// Sets with a new timestamp. They must be durable before they are pushed.
    pub rewritten: Vec<Stored>,
    /// Sets that leave the outbox.
    pub forgotten: Vec<Place>,
    /// Sets that a node keeps and no second region has yet. They stay in the outbox.
    pub held: Vec<Place>,
    /// What to do before the next push.
    pub next: Next,
}

/// What to do before the next push.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Next {
    /// Nothing.
    #[default]
    Go,
    /// Wait.
    Wait(Duration),
    /// This node failed: try another, after a wait.
    Leave(Duration),
    /// This node does not hold the tenant; these do.
    Move(Vec<v1::Replica>, Duration),
    /// Nodes refuse this client as a whole.
    Blocked(Refusal, Duration),
}

/// What one refusal means for its set.
enum Meaning {
    /// Not taken; the same again later.
    Again,
    /// Perhaps taken; the same bytes again later.
    Perhaps,
    /// Taken by this node, and not yet by a second region: the same bytes again, here, until it has them too.
    Held,
    /// Not taken: its timestamp is too far ahead.
    Drift,
    /// Not taken: the tenant is elsewhere.
    Elsewhere,
    /// The client as a whole is refused.
    Client,
    /// The set is refused for good.
    Never,
}

const fn meaning(code: ErrorCode) -> Meaning {
    match code {
        ErrorCode::Busy | ErrorCode::Retry | ErrorCode::NoQuorum => Meaning::Again,
        ErrorCode::NotYetReplicated => Meaning::Held,
        ErrorCode::Internal | ErrorCode::Unspecified => Meaning::Perhaps,
        ErrorCode::ClockDrift => Meaning::Drift,
        ErrorCode::WrongRegion | ErrorCode::NodeRemoved => Meaning::Elsewhere,
        ErrorCode::Unauthenticated | ErrorCode::WireVersion => Meaning::Client,
        ErrorCode::Limit
        | ErrorCode::NotFound
        | ErrorCode::Forbidden
        | ErrorCode::Malformed
        | ErrorCode::NumberReused
        | ErrorCode::Exists
        | ErrorCode::Conflict => Meaning::Never,
    }
}

/// What the answers of one push come to.
#[derive(Default)]
struct Round {
    outcome: Outcome,
    drift: Option<WallTime>,
    wait: Duration,
    failed: bool,
    elsewhere: Option<Vec<v1::Replica>>,
    blocked: Option<Refusal>,
}

impl Session {
    /// The push under way ended like this.
    pub(crate) fn on_answer(&mut self, answer: Answer, moment: Moment) -> Outcome {
        let under_way = std::mem::take(&mut self.under_way);
        let pushed: VecDeque<_> = self.waiting.drain(..under_way).collect();
        self.waiting_bytes -= pushed.iter().map(|set| set.bytes.len()).sum::<usize>();
        let mut round = Round::default();
        let left = match answer {
            Answer::Results(results) => self.on_results(pushed, results, &mut round),
            Answer::Refused(refusal) => self.on_refusal(pushed, refusal, &mut round),
            Answer::Lost => lost(pushed, &mut round),
            Answer::Unsent => {
                round.failed = true;
                pushed
            }
        };
        let settled_of_one_by_one = under_way - left.len();
        self.one_by_one = self.one_by_one.saturating_sub(settled_of_one_by_one);
        self.waiting_bytes += left.iter().map(|set| set.bytes.len()).sum::<usize>();
        for set in left.into_iter().rev() {
            self.waiting.push_front(set);
        }
        if let Some(node) = round.drift {
            round.outcome.rewritten = self.stamp_again(node, moment);
        }
        self.finish(round, moment)
    }

    fn on_results(
        &mut self,
        pushed: VecDeque<Waiting>,
        results: Vec<Option<Result<Taken, Refusal>>>,
        round: &mut Round,
    ) -> VecDeque<Waiting> {
        (self.blocked, self.takes) = (None, None);
        let mut left = VecDeque::new();
        let mut results = results.into_iter();
        for mut set in pushed {
            match results.next().flatten() {
                Some(Ok(taken)) => self.on_taken(set, taken, round),
                Some(Err(refusal)) => {
                    if let Some(set) = on_set_refused(set, refusal, round) {
                        left.push_back(set);
                    }
                }
                None => {
                    set.uncertain = true;
                    round.failed = true;
                    left.push_back(set);
                }
            }
        }
        left
    }

    fn on_taken(&mut self, set: Waiting, taken: Taken, round: &mut Round) {
        self.stamps.accept(&set.timestamp);
        self.seen.raise(taken.tag);
        if !taken.again {
            self.takes = Some(taken.tag.origin);
        }
        let forgotten = self.keep(Kept {
            place: set.place,
            timestamp: set.timestamp,
            tag: taken.tag,
            bytes: set.bytes,
            unheard_of: 0,
            is_found: taken.again && set.settled,
        });
        round.outcome.forgotten.extend(forgotten);
        let acknowledged = Acknowledged {
            tag: taken.tag,
            superseded: taken.superseded,
            overwritten: taken.overwritten,
            again: taken.again,
        };
        if set.settled {
            round.outcome.anew.push((set.place, acknowledged));
        } else {
            round.outcome.settled.push((set.place, Ok(acknowledged)));
        }
    }

    fn on_refusal(&mut self, mut pushed: VecDeque<Waiting>, refusal: Refusal, round: &mut Round) -> VecDeque<Waiting> {
        let is_of_client = matches!(refusal.code, ErrorCode::NotFound | ErrorCode::Forbidden);
        match meaning(refusal.code) {
            Meaning::Never if is_of_client => round.blocked = Some(refusal),
            // One of them is at fault; alone it will be found.
            Meaning::Never if pushed.len() > 1 => {
                self.one_by_one = pushed.len();
            }
            Meaning::Perhaps => {
                round.wait = refusal.retry_after.unwrap_or_default();
                return lost(pushed, round);
            }
            _ => {
                let sets = std::mem::take(&mut pushed);
                pushed = sets
                    .into_iter()
                    .filter_map(|set| on_set_refused(set, refusal.clone(), round))
                    .collect();
            }
        }
        pushed
    }

    fn finish(&mut self, round: Round, moment: Moment) -> Outcome {
        let Round {
            mut outcome,
            drift,
            wait,
            failed,
            elsewhere,
            blocked,
        } = round;
        let is_held = !outcome.held.is_empty();
        let troubled = failed || is_held || drift.is_some() || elsewhere.is_some() || wait > Duration::ZERO;
        self.failures = if troubled { self.failures.saturating_add(1) } else { 0 };
        let pause = wait.max(backoff(self.failures, moment.jitter));
        outcome.next = if let Some(refusal) = blocked {
            self.blocked = Some(refusal.clone());
            Next::Blocked(refusal, BLOCKED_WAIT)
        } else if let Some(replicas) = elsewhere {
            Next::Move(replicas, pause)
        } else if failed {
            Next::Leave(pause)
        } else if troubled {
            Next::Wait(pause)
        } else {
            Next::Go
        };
        let refused = outcome.settled.iter().filter(|(_, result)| result.is_err());
        outcome.forgotten.extend(refused.map(|&(place, _)| place));
        outcome
    }
}

/// What a refusal means for one set: it stays, or it is settled.
fn on_set_refused(mut set: Waiting, refusal: Refusal, round: &mut Round) -> Option<Waiting> {
    match meaning(refusal.code) {
        Meaning::Again => {
            let asked = refusal.retry_after.unwrap_or_default();
            round.wait = round.wait.max(asked).max(Duration::from_millis(1));
        }
        Meaning::Perhaps => {
            set.uncertain = true;
            round.failed = true;
            round.wait = round.wait.max(refusal.retry_after.unwrap_or_default());
        }
        Meaning::Held => {
            // Its bytes may not change: this node has taken them.
            (set.uncertain, set.held) = (true, true);
            round.outcome.held.push(set.place);
            round.wait = round.wait.max(refusal.retry_after.unwrap_or_default());
        }
        Meaning::Drift => {
            round.drift = round.drift.max(refusal.wall);
            round.wait = round.wait.max(Duration::from_millis(1));
        }
        Meaning::Elsewhere => round.elsewhere = Some(refusal.replicas),
        Meaning::Client => round.blocked = Some(refusal),
        Meaning::Never if set.settled => {
            round.outcome.forgotten.push(set.place);
            return None;
        }
        Meaning::Never => {
            round.outcome.settled.push((set.place, Err(refusal)));
            return None;
        }
    }
    Some(set)
}

fn lost(mut pushed: VecDeque<Waiting>, round: &mut Round) -> VecDeque<Waiting> {
    round.failed = true;
    for set in &mut pushed {
        set.uncertain = true;
    }
    pushed
}
