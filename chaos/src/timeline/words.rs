//! An event in words for a person, and what the words of a run name: hosts, nodes, tenants.

use std::collections::BTreeMap;

use halcyon_core::id::NodeId;

use super::{Kind, LaneAt, Moment, Timeline};
use crate::world::trace::Told;

/// Characters of an event's text that are shown.
const TEXT_CHARS_MAX: usize = 160;

/// Which host ran which node, and how the plan calls a tenant that events call by its id.
#[derive(Debug, Default)]
pub(super) struct Names {
    nodes: BTreeMap<NodeId, LaneAt>,
    tenants: BTreeMap<String, String>,
}

impl Names {
    /// From all of a run: a node votes before it says that it serves. No number of a node is used twice.
    pub(super) fn of(timeline: &Timeline, told: &[Told]) -> Self {
        let mut names = Self::default();
        for told in told {
            match told.kind {
                "node.serves" => {
                    let node = told.detail.strip_prefix("as node ").and_then(|node| node.parse().ok());
                    let lane = timeline.lane(&told.machine.to_string());
                    names.nodes.extend(node.zip(lane));
                }
                "tenant" => {
                    let words = told.detail.split_once(" is ");
                    names
                        .tenants
                        .extend(words.map(|(name, id)| (id.to_owned(), name.to_owned())));
                }
                _ => {}
            }
        }
        names
    }

    /// Where a node runs, or ran.
    pub(super) fn host(&self, node: NodeId) -> Option<LaneAt> {
        self.nodes.get(&node).copied()
    }

    /// A node by its host's name, or by its own where it never came to serve.
    pub(super) fn whom(&self, timeline: &Timeline, node: NodeId) -> String {
        self.host(node)
            .map_or_else(|| node.to_string(), |lane| timeline.lanes[lane.0].name.clone())
    }

    /// A tenant by the plan's name, or by its id where the plan has none for it.
    pub(super) fn tenant<'a>(&'a self, id: &'a str) -> &'a str {
        self.tenants.get(id).map_or(id, String::as_str)
    }

    /// A text with the plan's names of tenants.
    pub(super) fn shorten(&self, text: &str) -> String {
        let named = self.tenants.iter().filter(|(id, _)| text.contains(*id));
        named.fold(text.to_owned(), |text, (id, name)| text.replace(id, name))
    }
}

/// What kind of event one machine tells of itself.
pub(super) fn kind(names: &Names, told: &Told) -> Kind {
    // Operators make and delete tenants all the time; the plan's own move.
    if told.kind == "storage.erased" && !names.tenants.contains_key(&told.detail) {
        return Kind::Note;
    }
    match (told.kind, told.detail.split('.').next().unwrap_or_default()) {
        ("storage.alarm" | "disk.rot" | "disk.power-cut", _) | ("reached", "storage") => Kind::Alarm,
        ("machine.down" | "machine.up" | "node.serves" | "node.failed", _) => Kind::Process,
        ("metadata.vote", _) => Kind::Role,
        ("order" | "operator.did" | "storage.erased", _) => Kind::Placement,
        ("catch-up.began" | "catch-up.ended" | "catch-up.broke" | "storage.caught-up", _)
        | ("reached" | "rare", "catch-up") => Kind::CatchUp,
        ("collection.ended", _) => Kind::Collection,
        ("client.finished" | "client.again" | "client.refused" | "client.kept" | "watch.ended", _) => Kind::Client,
        ("storage.committed", _) => Kind::Commit,
        ("reached" | "rare", "gossip") => Kind::Gossip,
        ("client.read" | "client.not-read", _) => Kind::Read,
        ("operator.asked", _) if told.detail.contains(": read: ") => Kind::Read,
        ("client.acknowledged" | "client.not-written" | "operator.asked", _) => Kind::Push,
        _ => Kind::Note,
    }
}

/// What it says.
pub(super) fn said(told: &Told) -> String {
    let detail = told.detail.trim();
    match told.kind {
        "machine.down" => format!("goes down: {detail}"),
        "machine.up" => "starts".to_owned(),
        "node.serves" => format!("serves {detail}"),
        "node.failed" => format!("does not start: {detail}"),
        "storage.caught-up" => format!("has caught up in {detail}"),
        "collection.ended" => format!("has tombstones collected of {detail}"),
        "storage.erased" => format!("erases {detail}"),
        "catch-up.broke" => format!("catch-up broke off: {detail}"),
        "client.acknowledged" => format!("acknowledged: {detail}"),
        "client.read" => format!("reads {detail}"),
        "client.not-read" => format!("hears nothing of {detail}"),
        "client.finished" => "has done all that it wanted".to_owned(),
        "client.again" => format!("tries again: {detail}"),
        "operator.asked" => format!("asked {detail}"),
        "storage.alarm" | "reached" => detail.to_owned(),
        "rare" => format!("{detail} (made likely)"),
        kind => format!("{kind} {detail}"),
    }
}

/// The beginning of a text, in one line.
pub(super) fn shortened(text: &str) -> String {
    let mut chars = text.chars();
    let mut short: String = chars.by_ref().take(TEXT_CHARS_MAX).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}

/// The first host, client or operator that a text names. Entities (`c1-1-7`) and nodes (`n1`) are none.
pub(super) fn first_lane(timeline: &Timeline, text: &str) -> Option<LaneAt> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && !"-_.".contains(letter));
    let mut lanes = words.filter_map(|word| timeline.lane(word.trim_end_matches('.')));
    lanes.next()
}

/// The answer that no order of operations explains: `nothing explains  [called, answered] o3: read -> 1`. The violation
/// is told at the end of a run, and the answer was heard long before.
pub(super) fn unexplained(timeline: &Timeline, text: &str) -> Option<(Moment, LaneAt, String)> {
    let (_, rest) = text.split_once("nothing explains  [")?;
    let (times, rest) = rest.split_once("] ")?;
    let answered: u64 = times.split_once(", ")?.1.parse().ok()?;
    let (process, operation) = rest.split_once(": ")?;
    let operation = operation.lines().next().unwrap_or_default();
    let lane = timeline.lane(process)?;
    let text = format!("nothing explains this answer: {operation}");
    Some((Moment(answered / 1_000), lane, text))
}
