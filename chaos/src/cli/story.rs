//! A run as a timeline for people: what happened, below what names the run and what went wrong.

use super::output;
use crate::{
    plan::Plan,
    run::Outcome,
    timeline::{Moment, Timeline},
};

/// The plan's lanes and faults, and what happened on them.
pub(super) fn of(plan: &Plan, outcome: &Outcome, replay: &str) -> Timeline {
    let mut timeline = Timeline::of_run(plan, &outcome.trace.told);
    timeline.end = Moment(u64::try_from(outcome.simulated.as_micros()).unwrap_or(u64::MAX));
    let mut say = |name: &str, text: String| timeline.head.push((name.to_owned(), text));
    say("commit", output::commit());
    say("replay", replay.to_owned());
    for violation in &outcome.violations {
        say("violation", violation.to_string());
    }
    timeline
}
