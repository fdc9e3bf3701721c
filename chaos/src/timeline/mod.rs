//! The timeline of a run, for a person: one lane for each host and client, what happened on them, what went wrong, and
//! which message led where.
//!
//! What a run told fills in a [`Timeline`] (`Timeline::of_run`); [`text`] writes it in columns, one line an event, and [`html`] as one page that
//! needs nothing else. Both show all faults and violations; of what happens all the time they show the neighbourhood of
//! a violation, and elsewhere how much of it there was.

pub mod html;
mod of_plan;
mod of_trace;
mod roles;
mod sets;
pub mod text;
mod words;

use std::fmt;

use serde::Serialize;

/// Simulated microseconds since the start of the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Moment(pub u64);

impl Moment {
    /// From milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(millis * 1_000)
    }
}

impl From<crate::plan::time::Millis> for Moment {
    fn from(millis: crate::plan::time::Millis) -> Self {
        Self::millis(millis.0)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.0 / 1_000_000, self.0 / 1_000 % 1_000);
        f.pad(&text)
    }
}

/// A lane's place in [`Timeline::lanes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct LaneAt(pub usize);

/// A host, a client or an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lane {
    /// Such as `h1`.
    pub name: String,
    /// Its region, say.
    pub note: String,
}

/// What a mark or a message is. Kinds are what a reader filters by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An oracle disagrees.
    Violation,
    /// A node noticed that something is wrong.
    Alarm,
    /// A process starts or stops.
    Process,
    /// A role in the control plane changes.
    Role,
    /// A tenant's placement changes.
    Placement,
    /// A catch-up starts, is cut, resumes, or is whole.
    CatchUp,
    /// Tombstones are collected.
    Collection,
    /// A client goes, comes, or is refused.
    Client,
    /// A change set is pushed.
    Push,
    /// A commit is durable.
    Commit,
    /// A change set is passed on.
    Gossip,
    /// A client reads.
    Read,
    /// Anything else.
    Note,
}

/// All kinds, the weightiest first.
pub const KINDS: [Kind; 13] = [
    Kind::Violation,
    Kind::Alarm,
    Kind::Process,
    Kind::Role,
    Kind::Placement,
    Kind::CatchUp,
    Kind::Collection,
    Kind::Client,
    Kind::Push,
    Kind::Commit,
    Kind::Gossip,
    Kind::Read,
    Kind::Note,
];

impl Kind {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Violation => "violation",
            Self::Alarm => "alarm",
            Self::Process => "process",
            Self::Role => "role",
            Self::Placement => "placement",
            Self::CatchUp => "catch-up",
            Self::Collection => "collection",
            Self::Client => "client",
            Self::Push => "push",
            Self::Commit => "commit",
            Self::Gossip => "gossip",
            Self::Read => "read",
            Self::Note => "note",
        }
    }

    /// The letter in its lane.
    pub const fn letter(self) -> char {
        match self {
            Self::Violation => 'X',
            Self::Alarm => '!',
            Self::Process => 'S',
            Self::Role => 'L',
            Self::Placement => 'P',
            Self::CatchUp => 'U',
            Self::Collection => 'T',
            Self::Client => 'K',
            Self::Push => 'w',
            Self::Commit => 'c',
            Self::Gossip => 'g',
            Self::Read => 'r',
            Self::Note => 'n',
        }
    }

    /// How rare it is: 0 is always shown, 3 happens all the time.
    const fn rank(self) -> u8 {
        match self {
            Self::Violation => 0,
            Self::Alarm | Self::Process | Self::Role | Self::Placement => 1,
            Self::CatchUp | Self::Collection | Self::Client => 2,
            Self::Push | Self::Commit | Self::Gossip | Self::Read | Self::Note => 3,
        }
    }
}

/// Something that happened on one lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mark {
    /// When.
    pub at: Moment,
    /// Where. `None`: everywhere, or nowhere in particular.
    pub lane: Option<LaneAt>,
    /// What kind.
    pub kind: Kind,
    /// What, in a line.
    pub text: String,
}

/// What a fault does to the lanes it names, as far as a drawing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// The lane stands still.
    Down,
    /// The lane is cut off.
    Cut,
    /// Messages are slower or lost.
    Network,
    /// The disk is full, slow or wrong.
    Disk,
    /// The clock is wrong.
    Clock,
    /// Someone operates the cluster.
    Operator,
}

/// A fault at work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Span {
    /// From.
    pub start: Moment,
    /// Until. The same as `start` where it happens at once.
    pub end: Moment,
    /// On these lanes; none where it is about the network as a whole.
    pub lanes: Vec<LaneAt>,
    /// What it does to them.
    pub effect: Effect,
    /// The fault's number and line.
    pub text: String,
}

/// A message, or a stream of them, from lane to lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// When it left, or the stream began.
    pub sent: Moment,
    /// When it arrived, or the stream ended.
    pub received: Moment,
    /// From.
    pub from: LaneAt,
    /// To.
    pub to: LaneAt,
    /// What kind.
    pub kind: Kind,
    /// What, in a line.
    pub text: String,
}

/// A run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Timeline {
    /// Such as `seed 42, partition-heals`.
    pub title: String,
    /// What stands above: violation, commit, the command that replays it, in lines of name and text.
    pub head: Vec<(String, String)>,
    /// Hosts, then clients, then operators.
    pub lanes: Vec<Lane>,
    /// In any order.
    pub marks: Vec<Mark>,
    /// In any order.
    pub spans: Vec<Span>,
    /// In any order.
    pub links: Vec<Link>,
    /// When the faults were healed.
    pub healed: Option<Moment>,
    /// When the run ended.
    pub end: Moment,
}

impl Timeline {
    /// The lane of this name.
    pub fn lane(&self, name: &str) -> Option<LaneAt> {
        self.lanes.iter().position(|lane| lane.name == name).map(LaneAt)
    }

    /// The moments at which an oracle disagreed.
    pub fn violations(&self) -> impl Iterator<Item = &Mark> {
        self.marks.iter().filter(|mark| mark.kind == Kind::Violation)
    }
}

#[cfg(test)]
mod tests;
