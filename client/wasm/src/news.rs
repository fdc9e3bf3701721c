//! What a page is told of a query: the edits that bring its list from one state to the next.
//!
//! ```text
//! news  = frame*       frame = id: 4 bytes, big-endian | length: 4 bytes, big-endian | status: 1 byte | JSON
//!
//! {"rows": […],                                               all of it, and after that
//!  "edits": [[0, at], [1, at, object], [2, at, object]],      taken out, put in, changed, one after the other
//!  "status": "synced",                                        local | syncing | synced | stale | offline
//!  "error": {"code", "message"}}                              it moves no more
//! ```
//!
//! Frames, because news go to several pages: whoever passes them on need not read them. Only the status concerns it too:
//! the place of its name in the list above, or 255 where it is what it was.

use halcyon_client::engine::{FollowerId, QueryError, QueryStatus, Update};
use halcyon_core::query::{
    answer::Datum,
    live::{AnswerDelta, Change, Item, Key},
};
use serde_json::{Map, Value as JsonValue, json};

const REMOVED: u8 = 0;
const ADDED: u8 = 1;
const CHANGED: u8 = 2;

/// Items that come at once, from which on the list is gone through once instead of once for each.
const MERGE_FROM: usize = 64;

/// By their places in [`QueryStatus`].
const STATUS: [&str; 5] = ["local", "syncing", "synced", "stale", "offline"];

/// The status is what it was.
const UNCHANGED: u8 = u8::MAX;

/// What is told of one step.
#[derive(Debug)]
pub(crate) struct Told {
    news: JsonValue,
    status: Option<QueryStatus>,
}

/// What a page shows of a query.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) follower: FollowerId,
    /// In the order of the answer.
    keys: Vec<Key>,
}

impl Shown {
    pub(crate) const fn new(follower: FollowerId) -> Self {
        let keys = Vec::new();
        Self { follower, keys }
    }

    /// The updates of one step as news; none if they tell nothing.
    pub(crate) fn tell(&mut self, updates: Vec<Update>) -> Option<Told> {
        let mut news = Map::new();
        let mut status = None;
        let mut edits = Vec::new();
        for update in updates {
            match update {
                Update::Answer(mirror) => {
                    edits.clear();
                    self.keys = mirror.keys().cloned().collect();
                    let rows: JsonValue = mirror.items().map(|(_, item)| item_json(item)).collect();
                    news.insert("rows".to_owned(), rows);
                }
                Update::Delta(delta) => self.edit(delta, &mut edits),
                Update::Status(now) => {
                    news.insert("status".to_owned(), STATUS[now as usize].into());
                    status = Some(now);
                }
                Update::Failed(error) => {
                    news.insert("error".to_owned(), error_json(&error));
                }
            }
        }
        if !edits.is_empty() {
            news.insert("edits".to_owned(), edits.into());
        }
        (!news.is_empty()).then(|| Told {
            news: news.into(),
            status,
        })
    }

    fn edit(&mut self, delta: AnswerDelta, edits: &mut Vec<JsonValue>) {
        let mut come = Vec::new();
        for change in delta.0 {
            match change {
                Change::Removed(key) => self.take_out(&key, edits),
                Change::Added(key, item) => come.push((key, item)),
                Change::Changed { from, to, item } if from == to => {
                    if let Ok(at) = self.keys.binary_search(&to) {
                        edits.push(json!([CHANGED, at, item_json(&item)]));
                    }
                }
                Change::Changed { from, to, item } => {
                    self.take_out(&from, edits);
                    come.push((to, item));
                }
            }
        }
        if come.len() < MERGE_FROM {
            for (key, item) in come {
                let at = self.keys.binary_search(&key).unwrap_or_else(|at| at);
                self.keys.insert(at, key);
                edits.push(json!([ADDED, at, item_json(&item)]));
            }
        } else {
            self.merge(come, edits);
        }
    }

    /// Puts in many, in the order of the answer.
    fn merge(&mut self, mut come: Vec<(Key, Item)>, edits: &mut Vec<JsonValue>) {
        come.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut there = std::mem::take(&mut self.keys).into_iter().peekable();
        for (key, item) in come {
            while let Some(before) = there.next_if(|before| *before < key) {
                self.keys.push(before);
            }
            edits.push(json!([ADDED, self.keys.len(), item_json(&item)]));
            self.keys.push(key);
        }
        self.keys.extend(there);
    }

    fn take_out(&mut self, key: &Key, edits: &mut Vec<JsonValue>) {
        if let Ok(at) = self.keys.binary_search(key) {
            self.keys.remove(at);
            edits.push(json!([REMOVED, at]));
        }
    }
}

/// Appends a frame.
pub(crate) fn frame(id: u32, told: &Told, out: &mut Vec<u8>) {
    let text = told.news.to_string();
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.push(told.status.map_or(UNCHANGED, |status| status as u8));
    out.extend_from_slice(text.as_bytes());
}

fn item_json(item: &Item) -> JsonValue {
    match item {
        Item::Row(row) => row.iter().map(Datum::to_typed_json).collect(),
        Item::Object(object) => object.to_json(Datum::to_typed_json),
    }
}

fn error_json(error: &QueryError) -> JsonValue {
    let code = match error {
        QueryError::Refused(refusal) => refusal.code.as_str_name(),
        QueryError::Here(_) => "QUERY_FAILED",
    };
    json!({ "code": code, "message": error.to_string() })
}
