//! `halcyon watch QUERY`: the answer to a query, and what becomes of it.

use halcyon_client::{
    Client, Refusal,
    engine::{FollowError, QueryError, QueryStatus, Update},
};
use halcyon_core::query::{
    answer::{Answer, Datum, Rows as AnswerRows},
    live::{AnswerDelta, Change, Item, Key, Mirror},
};
use serde_json::{Map, Value as Json, json};

use super::{
    Globals, connect,
    failure::Failure,
    output::{self, Tone},
    query,
};

/// What is followed, and how it shows.
#[derive(Debug)]
pub struct Following<'a> {
    /// The query, as text or as JSON.
    pub query: &'a str,
    /// Draw the whole answer anew whenever it changes.
    pub table: bool,
    /// End after this many changed answers.
    pub count: Option<u64>,
}

/// The answer as it was shown.
#[derive(Default)]
struct Shown {
    mirror: Option<Mirror>,
    columns: Vec<String>,
    /// How far it can be trusted, and whether a node answered the query, as was said last.
    state: Option<(QueryStatus, bool)>,
    is_answered_by_node: bool,
    /// The first answer of a node was told.
    is_begun: bool,
    /// What the table shows.
    drawn: Option<Answer>,
}

/// Follows a query until Ctrl-C.
pub async fn run(client: &Client, following: &Following<'_>, globals: &Globals) -> Result<(), Failure> {
    let mut live = client.live(following.query).map_err(follow_failure)?;
    let mut shown = Shown::default();
    let mut left = following.count.unwrap_or(u64::MAX);
    while left > 0 {
        let update = tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => break,
            refusal = client.until_refused() => return Err(connect::refusal_failure(&refusal)),
            update = live.next() => update,
        };
        let Some(update) = update else { break };
        shown.is_answered_by_node = live.is_answered_by_node();
        match update {
            Update::Status(status) => {
                shown.on_status(status, client.refusal(), following, globals);
            }
            Update::Answer(mirror) => {
                shown.on_answer(*mirror);
                if shown.is_begun {
                    left -= 1;
                    if !globals.json && !following.table {
                        output::note("this is the whole answer, anew:");
                    }
                    shown.show_answer(following, globals);
                }
            }
            Update::Delta(delta) => {
                left -= u64::from(shown.is_begun);
                shown.on_delta(&delta, following, globals);
            }
            Update::Failed(error) => return Err(query_failure(error)),
        }
        output::flush();
    }
    Ok(())
}

impl Shown {
    fn on_status(
        &mut self,
        status: QueryStatus,
        refusal: Option<Refusal>,
        following: &Following<'_>,
        globals: &Globals,
    ) {
        let state = (status, self.is_answered_by_node);
        if self.state.replace(state) == Some(state) {
            return;
        }
        // What is here before a node has answered is nothing to tell: this program keeps nothing between two runs.
        let is_first = !self.is_begun && matches!(status, QueryStatus::Synced | QueryStatus::Stale);
        self.is_begun |= is_first;
        if is_first || (following.table && status == QueryStatus::Synced) {
            self.show_answer(following, globals);
        }
        let word = word(status);
        if globals.json {
            output::json(&json!({ "event": "status", "status": word, "answered_by": self.answered_by() }));
            return;
        }
        let why = match status {
            QueryStatus::Local => return,
            QueryStatus::Offline => {
                let why = refusal.map_or_else(|| "no node can be reached".to_owned(), |refusal| refusal.message);
                format!(": {why}; it goes on trying")
            }
            QueryStatus::Stale => ": the node lags behind what was seen before".to_owned(),
            QueryStatus::Synced if self.is_answered_by_node => {
                ": it rests on so much that the node sends its rows alone".to_owned()
            }
            QueryStatus::Syncing | QueryStatus::Synced => String::new(),
        };
        output::note(format!("{word}{why} (Ctrl-C ends)"));
    }

    const fn answered_by(&self) -> &'static str {
        if self.is_answered_by_node { "node" } else { "client" }
    }

    fn on_answer(&mut self, mirror: Mirror) {
        self.columns = match mirror.answer().rows {
            AnswerRows::Table { columns, .. } => columns.iter().map(ToString::to_string).collect(),
            AnswerRows::Entities(_) => Vec::new(),
        };
        self.mirror = Some(mirror);
    }

    fn show_answer(&mut self, following: &Following<'_>, globals: &Globals) {
        let Some(mirror) = &self.mirror else { return };
        let answer = mirror.answer();
        if globals.json {
            let rows = answer.rows.to_json(Datum::to_typed_json);
            output::json(&json!({ "event": "answer", "answered_by": self.answered_by(), "rows": rows }));
        } else if following.table {
            if self.drawn.as_ref() != Some(&answer) {
                output::clear_screen();
                self.print(&answer);
                self.drawn = Some(answer);
            }
        } else {
            for (_, item) in mirror.items() {
                self.tell("+", item);
            }
        }
    }

    fn on_delta(&mut self, delta: &AnswerDelta, following: &Following<'_>, globals: &Globals) {
        let Some(mirror) = &mut self.mirror else { return };
        let before: Vec<_> = delta.0.iter().map(|change| stood(mirror, change)).collect();
        let places_before = globals.json.then(|| Places::of(mirror));
        mirror.apply(delta.clone());
        if !self.is_begun {
            return;
        }
        if let Some(before_it) = places_before {
            let places = (&before_it, &Places::of(mirror));
            let changes = delta.0.iter().zip(&before);
            let changes: Vec<Json> = changes
                .map(|(change, stood)| self.change_json(change, stood.as_ref(), places))
                .collect();
            output::json(&json!({ "event": "delta", "changes": changes }));
        } else if following.table {
            self.show_answer(following, globals);
        } else {
            for (change, stood) in delta.0.iter().zip(&before) {
                match change {
                    Change::Removed(_) => stood.iter().for_each(|item| self.tell("-", item)),
                    Change::Added(_, item) => self.tell("+", item),
                    Change::Changed { item, .. } => self.tell("~", item),
                }
            }
        }
    }

    fn change_json(&self, change: &Change, stood: Option<&Item>, (before, after): (&Places, &Places)) -> Json {
        let row = |item: Option<&Item>| item.map(|item| self.item_json(item));
        match change {
            Change::Removed(key) => json!({ "change": "removed", "row": row(stood), "from": before.find(key) }),
            Change::Added(key, item) => json!({ "change": "added", "row": row(Some(item)), "at": after.find(key) }),
            Change::Changed { from, to, item } => json!({
                "change": "changed", "row": row(Some(item)), "from": before.find(from), "at": after.find(to),
            }),
        }
    }

    fn item_json(&self, item: &Item) -> Json {
        match item {
            Item::Row(row) => {
                let cells = row.iter().map(Datum::to_typed_json);
                Json::Object(self.columns.iter().cloned().zip(cells).collect::<Map<_, _>>())
            }
            Item::Object(object) => object.to_json(Datum::to_typed_json),
        }
    }

    fn tell(&self, sign: &str, item: &Item) {
        let tone = match sign {
            "+" => Tone::Good,
            "-" => Tone::Bad,
            _ => Tone::Careful,
        };
        let row = query::sentence(&self.item_json(item));
        output::line(format!("{} {row}", output::tint(tone, sign)));
    }

    fn print(&self, answer: &Answer) {
        let Json::Array(rows) = answer.rows.to_json(Datum::to_typed_json) else {
            return;
        };
        query::table(&self.columns, &rows).print();
    }
}

/// Where each row of an answer stands, from 0 on.
struct Places(Vec<Key>);

impl Places {
    fn of(mirror: &Mirror) -> Self {
        Self(mirror.keys().cloned().collect())
    }

    fn find(&self, key: &Key) -> Option<usize> {
        self.0.binary_search(key).ok()
    }
}

/// What stood where a change takes something away.
fn stood(mirror: &Mirror, change: &Change) -> Option<Item> {
    let Change::Removed(key) = change else { return None };
    let mut items = mirror.items();
    items.find(|(at, _)| *at == key).map(|(_, item)| item.clone())
}

const fn word(status: QueryStatus) -> &'static str {
    match status {
        QueryStatus::Local => "local",
        QueryStatus::Syncing => "syncing",
        QueryStatus::Synced => "synced",
        QueryStatus::Stale => "stale",
        QueryStatus::Offline => "offline",
    }
}

fn follow_failure(error: FollowError) -> Failure {
    match error {
        FollowError::Query(text) => Failure::usage(text.strip_prefix("error: ").unwrap_or(&text)),
        FollowError::Refused(refused) => Failure::usage(refused).advise("ask once: halcyon query"),
        FollowError::Eval(error) => Failure::failed(error),
    }
}

fn query_failure(error: QueryError) -> Failure {
    match error {
        QueryError::Refused(refusal) => connect::refusal_failure(&refusal),
        QueryError::Here(refused) => Failure::failed(refused).advise("ask once: halcyon query"),
    }
}
