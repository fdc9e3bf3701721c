//! A run as a timeline for people.

use crate::{
    plan::Plan,
    run::Outcome,
    timeline::{Kind, Mark, Moment, Timeline},
    world::trace::Told,
};

/// Characters of an event's text that are shown.
const TEXT_CHARS_MAX: usize = 160;

/// The plan's lanes and faults, and what happened on them.
pub(super) fn of(plan: &Plan, outcome: &Outcome, replay: &str) -> Timeline {
    let mut timeline = Timeline::of_plan(plan);
    timeline.end = Moment(u64::try_from(outcome.simulated.as_micros()).unwrap_or(u64::MAX));
    timeline.head.push(("replay".to_owned(), replay.to_owned()));
    for violation in &outcome.violations {
        timeline.head.push(("violation".to_owned(), violation.to_string()));
    }
    let marks: Vec<Mark> = outcome
        .trace
        .told
        .iter()
        .filter_map(|told| mark(&timeline, told))
        .collect();
    timeline.marks.extend(marks);
    timeline
}

fn mark(timeline: &Timeline, told: &Told) -> Option<Mark> {
    let kind = match told.kind {
        // They are spans.
        "fault" | "phase" => return None,
        "violation" => Kind::Violation,
        "storage.alarm" | "disk.rot" | "disk.power-cut" => Kind::Alarm,
        "machine.down" | "machine.up" | "node.serves" | "node.failed" => Kind::Process,
        "metadata.vote" => Kind::Role,
        "order" | "operator.did" | "storage.erased" => Kind::Placement,
        "catch-up.began" | "catch-up.ended" | "catch-up.broke" | "storage.caught-up" => Kind::CatchUp,
        "client.finished" | "client.again" | "client.refused" | "watch.ended" => Kind::Client,
        "client.acknowledged" => Kind::Push,
        "storage.committed" => Kind::Commit,
        "client.not-read" => Kind::Read,
        _ => Kind::Note,
    };
    let text: String = format!("{} {}", told.kind, told.detail)
        .chars()
        .take(TEXT_CHARS_MAX)
        .collect();
    Some(Mark {
        at: Moment(told.at / 1_000),
        lane: timeline.lane(&told.machine.to_string()),
        kind,
        text,
    })
}
