//! Life-like data from a seed: the users, labels, issues and comments of an issue tracker.
//!
//! One change set for each entity, users and labels first, so that references point at what exists.

use std::{collections::BTreeSet, fmt::Write};

use halcyon_core::{
    change::Change,
    id::{EntityId, Predicate},
    value::Value,
};

use super::random::Seeded;

/// The first issue's date, 2026-01-05 in the morning: fixed, so that the data is the same for all.
const FIRST_DAY_MS: i64 = 1_767_600_000_000;

/// Time between two issues, at the most.
const ISSUE_EVERY_MS_MAX: u64 = 5 * 3_600_000;

/// Many issues come closer together: all of them within ten months, so that none is of the future.
const SPAN_MS: u64 = 300 * 24 * 3_600_000;

const PEOPLE: [(&str, &str); 24] = [
    ("amara", "Amara Okafor"),
    ("bruno", "Bruno Carvalho"),
    ("chiyo", "Chiyo Tanaka"),
    ("dario", "Dario Bianchi"),
    ("elif", "Elif Yilmaz"),
    ("farid", "Farid Haddad"),
    ("greta", "Greta Lindqvist"),
    ("hanna", "Hanna Kowalska"),
    ("ivan", "Ivan Petrov"),
    ("jonas", "Jonas Weber"),
    ("kiri", "Kiri Ngata"),
    ("luz", "Luz Morales"),
    ("mehul", "Mehul Desai"),
    ("noor", "Noor de Vries"),
    ("oluchi", "Oluchi Eze"),
    ("pilar", "Pilar Ortega"),
    ("quentin", "Quentin Moreau"),
    ("rania", "Rania Mansour"),
    ("soren", "Søren Krogh"),
    ("tove", "Tove Nilsson"),
    ("uma", "Uma Raghavan"),
    ("viktor", "Viktor Horák"),
    ("wanjiru", "Wanjiru Kamau"),
    ("zoe", "Zoé Laurent"),
];

const LABELS: [(&str, &str); 12] = [
    ("bug", "#d73a4a"),
    ("regression", "#b60205"),
    ("performance", "#fbca04"),
    ("docs", "#0075ca"),
    ("design", "#c5def5"),
    ("good first issue", "#7057ff"),
    ("needs repro", "#e99695"),
    ("security", "#ee0701"),
    ("sync", "#0e8a16"),
    ("mobile", "#5319e7"),
    ("accessibility", "#006b75"),
    ("p1", "#d93f0b"),
];

const PARTS: [&str; 24] = [
    "the comment editor",
    "offline mode",
    "the search box",
    "label filters",
    "the notification bell",
    "keyboard shortcuts",
    "the export dialog",
    "dark mode",
    "the mobile sidebar",
    "image uploads",
    "the issue list",
    "mentions",
    "the date picker",
    "undo",
    "the login page",
    "bulk edits",
    "the board view",
    "the webhook log",
    "saved filters",
    "the avatar menu",
    "drag and drop",
    "the weekly digest",
    "print layout",
    "the importer",
];

const TROUBLES: [&str; 20] = [
    "loses text when the tab goes to sleep",
    "flickers on every keystroke",
    "shows yesterday's state after reconnecting",
    "takes 4 seconds on a cold start",
    "ignores the time zone",
    "jumps to the top when something new arrives",
    "cannot be reached with the keyboard alone",
    "counts deleted items",
    "breaks on names with emoji \u{1f33b}",
    "sorts \u{c5}ngstr\u{f6}m before Zebra",
    "sends the same request twice",
    "is cut off on narrow screens",
    "keeps spinning when the network is slow",
    "forgets its scroll position",
    "shows two tooltips at once",
    "swallows the first click",
    "says \u{201c}1 comments\u{201d}",
    "opens behind the sidebar",
    "drops the last line when pasting",
    "is unreadable with high contrast",
];

const CIRCUMSTANCES: [&str; 16] = [
    "for guests",
    "on Firefox",
    "on Safari 18",
    "on Android",
    "with 1,000 labels",
    "after an import",
    "in right-to-left text",
    "when two people edit",
    "after sleep and wake",
    "in a private window",
    "behind a proxy",
    "with reduced motion",
    "at 200 % zoom",
    "on a second monitor",
    "since the last release",
    "for the Lisbon office",
];

const WISHES: [&str; 14] = [
    "Remember the last filter in",
    "Let people reorder items in",
    "Say when the last sync was in",
    "Add an empty state to",
    "Explain errors in",
    "Respect reduced motion in",
    "Offer a compact view of",
    "Write tests for",
    "Measure how often people use",
    "Document",
    "Make a keyboard shortcut for",
    "Ask before leaving",
    "Translate",
    "Show who changed",
];

const STEPS: [&str; 8] = [
    "Open two windows side by side.",
    "Turn the network off.",
    "Edit the title in both.",
    "Turn the network on again.",
    "Scroll down to the last comment.",
    "Switch to another region.",
    "Reload the page.",
    "Paste a long text with a table in it.",
];

const REMARKS: [&str; 14] = [
    "I can reproduce this on the current build.",
    "Same here, Firefox on Linux.",
    "Could be the cache: after a reload it is fine.",
    "I would rather fix the cause than the symptom.",
    "Does it also happen with an empty project?",
    "Bisected to last Tuesday's change of the list view.",
    "Thank you! The recording helps a lot. \u{1f64f}",
    "Not a regression, it has been like that from the start.",
    "Let us do this after the release.",
    "I have a fix, will open a pull request tomorrow.",
    "The new wording is much better.",
    "Two customers have asked for this.",
    "Closed by the last change; please reopen if you see it again.",
    "\u{1f44d}",
];

/// Where an open issue stands, about as often as here. A closed one stands nowhere.
const STATUSES: [&str; 10] = [
    "backlog", "backlog", "backlog", "backlog", "todo", "todo", "todo", "doing", "doing", "review",
];

/// How urgent it is.
const PRIORITIES: [&str; 8] = ["low", "low", "medium", "medium", "medium", "high", "high", "urgent"];

/// How much to make.
#[derive(Debug, Clone, Copy)]
pub struct Amount {
    /// Issues; everything else follows.
    pub issues: u64,
    /// Other seeds give other data.
    pub seed: u64,
}

/// One entity and what brings it into being.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// Its id.
    pub id: EntityId,
    /// Its change set.
    pub changes: Vec<Change>,
}

/// All entities of the tracker.
pub fn tracker(amount: Amount) -> Vec<Entity> {
    let mut random = Seeded::new(amount.seed);
    let mut made = Vec::new();
    let users: Vec<EntityId> = PEOPLE
        .iter()
        .enumerate()
        .map(|(at, (login, name))| {
            let role = if at < 9 { "crew" } else { "guest" };
            let user = Draft::new("user", &mut random)
                .set("login", Value::string(login))
                .set("name", Value::string(name))
                .set("role", Value::string(role));
            user.finish(&mut made)
        })
        .collect();
    let labels: Vec<EntityId> = LABELS
        .iter()
        .map(|(name, color)| {
            let label = Draft::new("label", &mut random)
                .set("name", Value::string(name))
                .set("color", Value::string(color));
            label.finish(&mut made)
        })
        .collect();
    let every = (SPAN_MS / amount.issues.max(1)).clamp(1, ISSUE_EVERY_MS_MAX);
    for number in 0..amount.issues {
        let created = FIRST_DAY_MS + millis(number * every + random.below(every));
        issue((number + 1, created), (&users, &labels), &mut random, &mut made);
    }
    made
}

fn issue(
    (number, created): (u64, i64),
    (users, labels): (&[EntityId], &[EntityId]),
    random: &mut Seeded,
    made: &mut Vec<Entity>,
) {
    let comments = random.below(5);
    let is_open = random.chance(60);
    let mut modified = created;
    let mut draft = Draft::new("issue", random)
        .set("title", Value::string(&title(random)))
        .set("number", Value::number(small(number)).unwrap_or(Value::Boolean(false)))
        .set("open", Value::Boolean(is_open))
        .set("priority", Value::string(random.pick(&PRIORITIES)))
        .set("created", Value::Date(created))
        .set("creator", Value::Ref(users[random.index(users.len())].clone()))
        .set("description", Value::string(&description(random)));
    if is_open {
        draft = draft.set("status", Value::string(random.pick(&STATUSES)));
    }
    if random.chance(65) {
        draft = draft.set("assignee", Value::Ref(users[random.index(users.len())].clone()));
    }
    let wanted = random.below(4);
    let chosen: BTreeSet<&EntityId> = (0..wanted).map(|_| &labels[random.index(labels.len())]).collect();
    for label in chosen {
        draft = draft.add("labels", Value::Ref(label.clone()));
    }
    let id = draft.id.clone();
    let mut said = Vec::new();
    for _ in 0..comments {
        modified += millis(60_000 + random.below(9 * 3_600_000));
        let comment = Draft::new("comment", random)
            .set("issue", Value::Ref(id.clone()))
            .set("author", Value::Ref(users[random.index(users.len())].clone()))
            .set("created", Value::Date(modified))
            .set("body", Value::string(&comment_body(random)));
        comment.finish(&mut said);
    }
    draft.set("modified", Value::Date(modified)).finish(made);
    made.append(&mut said);
}

fn title(random: &mut Seeded) -> String {
    if random.chance(65) {
        let mut text = format!("{} {}", random.pick(&PARTS), random.pick(&TROUBLES));
        if random.chance(50) {
            text.push(' ');
            text.push_str(random.pick(&CIRCUMSTANCES));
        }
        let mut letters = text.chars();
        letters
            .next()
            .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    } else {
        format!("{} {}", random.pick(&WISHES), random.pick(&PARTS))
    }
}

fn description(random: &mut Seeded) -> String {
    let mut text = format!("While working with {}, I noticed this.\n\n", random.pick(&PARTS));
    if random.chance(60) {
        text.push_str("**Steps**\n\n");
        for step in 1..=2 + random.below(3) {
            let _ = writeln!(text, "{step}. {}", random.pick(&STEPS));
        }
        text.push_str("\n**Expected:** nothing special.\n");
    }
    if random.chance(25) {
        let millis = 200 + random.below(4_000);
        let _ = write!(text, "\n```\nwarn: slow frame ({millis} ms) \"render list\"\n```\n");
    }
    text
}

fn comment_body(random: &mut Seeded) -> String {
    let mut text = random.pick(&REMARKS).to_owned();
    if random.chance(30) {
        text.push_str("\n\n> ");
        text.push_str(random.pick(&STEPS));
        text.push_str("\n\n");
        text.push_str(random.pick(&REMARKS));
    }
    text
}

/// An entity in the making.
struct Draft {
    entity_type: &'static str,
    id: EntityId,
    changes: Vec<Change>,
}

impl Draft {
    fn new(entity_type: &'static str, random: &mut Seeded) -> Self {
        let id = random.entity();
        let changes = vec![Change::Create { subject: id.clone() }];
        Self {
            entity_type,
            id,
            changes,
        }
    }

    fn set(mut self, field: &str, value: Value) -> Self {
        let (subject, predicate) = (self.id.clone(), self.predicate(field));
        self.changes.push(Change::Set {
            subject,
            predicate,
            value,
        });
        self
    }

    fn add(mut self, field: &str, value: Value) -> Self {
        let (subject, predicate) = (self.id.clone(), self.predicate(field));
        self.changes.push(Change::Add {
            subject,
            predicate,
            value,
        });
        self
    }

    fn predicate(&self, field: &str) -> Predicate {
        Predicate::new(&format!("{}/{field}", self.entity_type)).expect("the names in this file are names")
    }

    fn finish(self, made: &mut Vec<Entity>) -> EntityId {
        let id = self.id;
        made.push(Entity {
            id: id.clone(),
            changes: self.changes,
        });
        id
    }
}

fn millis(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

fn small(number: u64) -> f64 {
    u32::try_from(number).unwrap_or(u32::MAX).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_tracker_and_every_reference_exists() {
        let amount = Amount { issues: 200, seed: 1 };
        let made = tracker(amount);
        assert_eq!(made, tracker(amount));
        let ids: BTreeSet<&EntityId> = made.iter().map(|entity| &entity.id).collect();
        assert_eq!(ids.len(), made.len());
        let mut triples = 0;
        for change in made.iter().flat_map(|entity| &entity.changes) {
            triples += usize::from(change.value().is_some());
            if let Some(Value::Ref(to)) = change.value() {
                assert!(ids.contains(to), "{to}");
            }
        }
        assert!((2_000..6_000).contains(&triples), "{triples}");
    }

    #[test]
    fn many_issues_lie_as_close_together_as_it_takes_to_end_before_today() {
        let last_day = FIRST_DAY_MS + millis(SPAN_MS + 40 * 3_600_000);
        for issues in [1, 200, 3_000] {
            let made = tracker(Amount { issues, seed: 2 });
            let dates = made.iter().flat_map(|entity| &entity.changes).filter_map(Change::value);
            let latest = dates.filter_map(|value| match value {
                Value::Date(millis) => Some(*millis),
                _ => None,
            });
            assert!(latest.max().is_some_and(|latest| latest < last_day), "{issues}");
        }
    }
}
