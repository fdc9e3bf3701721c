//! The timeline in columns: a lane for each host and client, one line an event, 140 characters wide.
//!
//! ```text
//!      12.000  v     |     |     v       #3 h1 | all others: packets dropped
//!      12.040  :     L     |     :       h2: leads in term 4
//!              ~ 1.532 s: 120 commit, 94 gossip
//!      16.000  ^     |     |     ^       #3 ends
//!      16.021  <-----o     |     |       h2 -> h1 catch-up t1 (212 ms)
//! ```
//!
//! A lane is `|` while it is well, `:` while a fault is at work on it, and `.` while it is down. What happens all the
//! time is shown near a violation and counted elsewhere.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{Effect, Kind, LaneAt, Link, Mark, Moment, Span, Timeline};

/// Characters of a line.
pub const COLUMNS_MAX: usize = 140;

/// Lines of one timeline; past them rarer things are left out too. Faults and violations never are.
pub const LINES_MAX: usize = 400;

/// Events before a violation that are shown whatever they are.
const BEFORE_VIOLATION: usize = 30;

/// Events after it.
const AFTER_VIOLATION: usize = 5;

/// Lines up to a violation that show how it came about: its neighbourhood, and what was rare before that.
const EXCERPT_BEFORE: usize = 50;

/// Lines from a violation on.
const EXCERPT_AFTER: usize = 8;

/// Silence that is worth a line.
const SILENCE: Moment = Moment::millis(1_000);

/// Lines after which the names of the lanes are said again.
const NAMES_EVERY: usize = 50;

const TIME_COLUMNS: usize = 12;

/// Characters of all lanes together.
const LANE_COLUMNS_MAX: usize = 64;

/// The timeline as text, with a line break at the end of each line.
pub fn render(timeline: &Timeline) -> String {
    let events = events(timeline);
    let mut text = head(timeline);
    let page = Page::new(timeline);
    // What happens less and less often is left out until the rest fits; faults and violations always stay.
    let body = (0..=2)
        .rev()
        .map(|rank| page.body(&events, rank))
        .find(|body| body.lines.len() <= LINES_MAX);
    let body = body.unwrap_or_else(|| page.body(&events, 0));
    for (at, line) in body.lines.iter().enumerate() {
        if at % NAMES_EVERY == 0 {
            text.push_str(&page.names());
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The lines around the first violation, below the names of the lanes. None where nothing was violated.
pub fn around_violation(timeline: &Timeline) -> Vec<String> {
    let page = Page::new(timeline);
    let body = page.body(&events(timeline), RARE);
    let Some(violation) = body.violation else {
        return Vec::new();
    };
    let end = (violation + EXCERPT_AFTER).min(body.lines.len());
    let shown = &body.lines[violation.saturating_sub(EXCERPT_BEFORE)..end];
    let names = page.names();
    let lines = names.lines().chain(shown.iter().map(String::as_str));
    lines.map(|line| line.trim_end().to_owned()).collect()
}

fn head(timeline: &Timeline) -> String {
    let mut text = format!("{}\n", timeline.title);
    for (name, what) in &timeline.head {
        let indent = TIME_COLUMNS + 2;
        for (at, line) in wrapped(what, COLUMNS_MAX - indent).iter().enumerate() {
            let name = if at == 0 { name.as_str() } else { "" };
            let _ = writeln!(text, "{name:<TIME_COLUMNS$}  {line}");
        }
    }
    let letters: Vec<String> = super::KINDS
        .iter()
        .map(|kind| format!("{} {}", kind.letter(), kind.name()))
        .collect();
    for line in wrapped(&letters.join(", "), COLUMNS_MAX) {
        let _ = writeln!(text, "{line}");
    }
    text
}

/// What a line is about.
#[derive(Clone, Copy)]
enum Event<'a> {
    Starts(&'a Span),
    Happens(&'a Span),
    Mark(&'a Mark),
    Link(&'a Link),
    Ends(&'a Span),
    Healed(Moment),
}

impl Event<'_> {
    const fn at(&self) -> Moment {
        match self {
            Self::Starts(span) | Self::Happens(span) => span.start,
            Self::Mark(mark) => mark.at,
            Self::Link(link) => link.received,
            Self::Ends(span) => span.end,
            Self::Healed(at) => *at,
        }
    }

    const fn kind(&self) -> Option<Kind> {
        match self {
            Self::Mark(mark) => Some(mark.kind),
            Self::Link(link) => Some(link.kind),
            _ => None,
        }
    }

    fn rank(&self) -> u8 {
        self.kind().map_or(0, Kind::rank)
    }
}

fn events(timeline: &Timeline) -> Vec<Event<'_>> {
    let mut events = Vec::new();
    for span in &timeline.spans {
        if span.start == span.end {
            events.push(Event::Happens(span));
            continue;
        }
        events.push(Event::Starts(span));
        // What lasts until everything is healed is said once, by the healing.
        if timeline.healed != Some(span.end) {
            events.push(Event::Ends(span));
        }
    }
    events.extend(timeline.marks.iter().map(Event::Mark));
    events.extend(timeline.links.iter().map(Event::Link));
    events.extend(timeline.healed.map(Event::Healed));
    events.sort_by_key(Event::at);
    events
}

/// Which events stand near a violation.
fn near_violation(events: &[Event<'_>]) -> Vec<bool> {
    let mut near = vec![false; events.len()];
    for (at, event) in events.iter().enumerate() {
        if event.kind() == Some(Kind::Violation) {
            let end = (at + AFTER_VIOLATION + 1).min(events.len());
            near[at.saturating_sub(BEFORE_VIOLATION)..end].fill(true);
        }
    }
    near
}

/// The rank of what happens now and then only.
const RARE: u8 = 1;

/// All that happened.
#[derive(Default)]
struct Body {
    lines: Vec<String>,
    /// Where the first violation stands.
    violation: Option<usize>,
}

/// Writes lines of one width.
struct Page<'a> {
    timeline: &'a Timeline,
    lane_columns: usize,
}

impl<'a> Page<'a> {
    fn new(timeline: &'a Timeline) -> Self {
        let lanes = timeline.lanes.len().max(1);
        Self {
            timeline,
            lane_columns: (LANE_COLUMNS_MAX / lanes).clamp(3, 8),
        }
    }

    /// All lines, with events above `rank` counted instead, but near a violation.
    fn body(&self, events: &[Event<'_>], rank: u8) -> Body {
        let near = near_violation(events);
        let mut body = Body::default();
        let mut quiet = Quiet::default();
        for (event, near) in events.iter().zip(near) {
            if !near && event.rank() > rank {
                quiet.add(event);
                continue;
            }
            if let Some(line) = quiet.line(event.at()) {
                body.lines.push(format!("{:>TIME_COLUMNS$}  {line}", ""));
            }
            quiet = Quiet::after(event.at());
            if event.kind() == Some(Kind::Violation) {
                body.violation.get_or_insert(body.lines.len());
            }
            self.event(event, &mut body.lines);
        }
        let last = events.last().map_or(Moment(0), Event::at);
        if let Some(line) = quiet.line(self.timeline.end.max(last)) {
            body.lines.push(format!("{:>TIME_COLUMNS$}  {line}", ""));
        }
        body
    }

    fn names(&self) -> String {
        let width = self.lane_columns;
        let row = |of: fn(&super::Lane) -> &str| {
            let mut row = format!("{:>TIME_COLUMNS$}  ", "");
            for lane in &self.timeline.lanes {
                let short: String = of(lane).chars().take(width - 1).collect();
                let _ = write!(row, "{short:<width$}");
            }
            row.trim_end().to_owned() + "\n"
        };
        let names = row(|lane| &lane.name);
        // Regions need room to be told apart.
        if width >= 6 {
            names + &row(|lane| &lane.note)
        } else {
            names
        }
    }

    fn event(&self, event: &Event<'_>, lines: &mut Vec<String>) {
        let at = event.at();
        let mut rails = self.rails(at);
        let mut put = |lanes: &[LaneAt], letter: char| {
            for lane in lanes {
                rails[lane.0 * self.lane_columns] = letter;
            }
        };
        let text = match event {
            Event::Starts(span) => {
                put(&span.lanes, 'v');
                span.text.clone()
            }
            Event::Ends(span) => {
                put(&span.lanes, '^');
                format!("{} ends", span.text.split(' ').next().unwrap_or_default())
            }
            Event::Happens(span) => {
                put(&span.lanes, '*');
                span.text.clone()
            }
            Event::Healed(_) => "everything that can heal is healed; the workload ends".to_owned(),
            Event::Mark(mark) => {
                put(mark.lane.as_slice(), mark.kind.letter());
                self.said(mark)
            }
            Event::Link(link) => {
                self.arrow(link, &mut rails);
                self.carried(link)
            }
        };
        let rails: String = rails.into_iter().collect();
        let indent = TIME_COLUMNS + 2 + rails.chars().count() + 1;
        let whole = event.kind() == Some(Kind::Violation);
        let mut wrapped = wrapped(&text, COLUMNS_MAX - indent);
        if !whole && wrapped.len() > 1 {
            let joined = wrapped.join(" ");
            let mut first: String = joined.chars().take(COLUMNS_MAX - indent - 1).collect();
            first.push('…');
            wrapped = vec![first];
        }
        for (line_at, line) in wrapped.iter().enumerate() {
            if line_at == 0 {
                lines.push(format!("{at:>TIME_COLUMNS$}  {rails} {line}"));
            } else {
                lines.push(format!("{:indent$}{line}", ""));
            }
        }
    }

    fn said(&self, mark: &Mark) -> String {
        let kind = match mark.kind {
            Kind::Violation => "VIOLATION ",
            Kind::Alarm => "ALARM ",
            _ => "",
        };
        match mark.lane {
            Some(lane) => format!("{kind}{}: {}", self.timeline.lanes[lane.0].name, mark.text),
            None => format!("{kind}{}", mark.text),
        }
    }

    fn carried(&self, link: &Link) -> String {
        let lanes = &self.timeline.lanes;
        let (from, to) = (&lanes[link.from.0].name, &lanes[link.to.0].name);
        let took = link.received.0.saturating_sub(link.sent.0) / 1_000;
        format!("{from} -> {to} {} {} ({took} ms)", link.kind.name(), link.text)
    }

    /// Every lane's state at a moment, in the first of its characters.
    fn rails(&self, at: Moment) -> Vec<char> {
        let mut rails = vec![' '; self.timeline.lanes.len() * self.lane_columns];
        for lane in 0..self.timeline.lanes.len() {
            rails[lane * self.lane_columns] = '|';
        }
        let at_work = self
            .timeline
            .spans
            .iter()
            .filter(|span| span.start < at && at < span.end);
        for span in at_work {
            for lane in &span.lanes {
                let rail = &mut rails[lane.0 * self.lane_columns];
                let down = span.effect == Effect::Down || *rail == '.';
                *rail = if down { '.' } else { ':' };
            }
        }
        rails
    }

    fn arrow(&self, link: &Link, rails: &mut [char]) {
        let (from, to) = (link.from.0 * self.lane_columns, link.to.0 * self.lane_columns);
        rails[from.min(to)..=from.max(to)].fill('-');
        rails[from] = 'o';
        rails[to] = if from < to { '>' } else { '<' };
    }
}

/// A stretch of which nothing is shown.
#[derive(Default)]
struct Quiet {
    since: Moment,
    counts: BTreeMap<Kind, u64>,
}

impl Quiet {
    const fn after(since: Moment) -> Self {
        Self {
            since,
            counts: BTreeMap::new(),
        }
    }

    fn add(&mut self, event: &Event<'_>) {
        if let Some(kind) = event.kind() {
            *self.counts.entry(kind).or_default() += 1;
        }
    }

    fn line(&self, until: Moment) -> Option<String> {
        let long = until.0.saturating_sub(self.since.0);
        if self.counts.is_empty() && long < SILENCE.0 {
            return None;
        }
        let counts = self
            .counts
            .iter()
            .map(|(kind, count)| format!("{count} {}", kind.name()));
        let counts: Vec<String> = counts.collect();
        let what = if counts.is_empty() {
            "nothing".to_owned()
        } else {
            counts.join(", ")
        };
        Some(format!("~ {} s: {what}", Moment(long)))
    }
}

/// Lines of at most so many characters, broken at spaces where there are any.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut length = 0;
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        if length > 0 && length + 1 + word.len() > columns {
            lines.push(String::new());
            length = 0;
        }
        while word.len() > columns {
            let rest = word.split_off(columns);
            lines.last_mut().expect("there is a line").extend(word);
            lines.push(String::new());
            word = rest;
        }
        let line = lines.last_mut().expect("there is a line");
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        length += word.len();
        line.extend(word);
    }
    lines
}
