//! Live queries of pages: what each shows, and the edits that bring a page's list from one state to the next.
//!
//! ```text
//! news  = frame*       frame = id: 4 bytes, big-endian | length: 4 bytes, big-endian | JSON
//!
//! {"rows": […]}                                               all of it
//! {"edits": [[0, at], [1, at, object], [2, at, object]]}      taken out, put in, changed, one after the other
//! {"error": "…"}                                              it cannot be followed any more
//! ```
//!
//! Frames, because news go to several pages: whoever passes them on need not read them.

use std::collections::BTreeMap;

use halcyon_core::{
    graph::{Delta, Graph},
    query::{
        self,
        answer::Datum,
        error::QueryError,
        eval::Budget,
        json,
        live::{AnswerDelta, Change, Item, Key, Live, LiveId, Refused, Registry},
        lower,
    },
};
use serde_json::{Value as JsonValue, json};
use thiserror::Error;

/// Why a query is not followed.
#[derive(Debug, Error)]
pub enum SubscribeError {
    /// It is not JSON.
    #[error("a query cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// It means nothing.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// It has no live form, or is too large.
    #[error(transparent)]
    Refused(#[from] Refused),
}

const REMOVED: u8 = 0;
const ADDED: u8 = 1;
const CHANGED: u8 = 2;

#[derive(Debug)]
struct Followed {
    query: query::logic::Query,
    live: Live,
    /// In the order of the answer.
    keys: Vec<Key>,
}

/// All live queries.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    followed: BTreeMap<u32, Followed>,
    registry: Registry,
    /// What pages have not been told yet.
    news: Vec<(u32, JsonValue)>,
}

impl Answers {
    /// Follows a query; its answer is the first news of it.
    pub(crate) fn subscribe(&mut self, id: u32, text: &str, graph: &Graph) -> Result<(), SubscribeError> {
        let json: JsonValue = serde_json::from_str(text)?;
        let query = lower::lower(&json::read(&json)?)?;
        self.open(id, query, graph)?;
        Ok(())
    }

    pub(crate) fn unsubscribe(&mut self, id: u32) {
        self.followed.remove(&id);
        self.registry.remove(LiveId(id.into()));
    }

    /// Carries what changed into every answer that it touches.
    pub(crate) fn apply(&mut self, delta: &Delta, graph: &Graph) {
        let mut touched = std::collections::BTreeSet::new();
        for triple in delta.added.iter().chain(&delta.removed) {
            self.registry.touched(triple, graph, |LiveId(id)| {
                touched.insert(u32::try_from(id).expect("ids are given as u32"));
            });
        }
        for id in touched {
            let Some(followed) = self.followed.get_mut(&id) else {
                continue;
            };
            match followed.live.apply(delta, graph) {
                Ok(change) if change.is_empty() => {}
                Ok(change) => {
                    let edits = followed.edit(change);
                    self.news.push((id, json!({ "edits": edits })));
                }
                Err(_) => self.open_again(id, graph),
            }
        }
    }

    /// The news since the last time, in frames.
    pub(crate) fn take_news(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        for (id, news) in std::mem::take(&mut self.news) {
            let text = news.to_string();
            let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out
    }

    fn open(&mut self, id: u32, query: query::logic::Query, graph: &Graph) -> Result<(), Refused> {
        let live = Live::open(&query, graph, Budget::default())?;
        let mirror = live.mirror();
        let rows: Vec<JsonValue> = mirror.items().map(|(_, item)| item_json(item)).collect();
        let keys = mirror.items().map(|(key, _)| key.clone()).collect();
        self.registry.insert(LiveId(id.into()), &live, graph);
        self.followed.insert(id, Followed { query, live, keys });
        self.news.push((id, json!({ "rows": rows })));
        Ok(())
    }

    /// A query that a change touched too much starts anew.
    fn open_again(&mut self, id: u32, graph: &Graph) {
        self.registry.remove(LiveId(id.into()));
        let Some(Followed { query, .. }) = self.followed.remove(&id) else {
            return;
        };
        if let Err(error) = self.open(id, query, graph) {
            self.news.push((id, json!({ "error": error.to_string() })));
        }
    }
}

impl Followed {
    fn edit(&mut self, change: AnswerDelta) -> Vec<JsonValue> {
        let (mut edits, mut come) = (Vec::new(), Vec::new());
        for change in change.0 {
            match change {
                Change::Removed(key) => self.take_out(&key, &mut edits),
                Change::Added(key, item) => come.push((key, item)),
                Change::Changed { from, to, item } if from == to => {
                    if let Ok(at) = self.keys.binary_search(&to) {
                        edits.push(json!([CHANGED, at, item_json(&item)]));
                    }
                }
                Change::Changed { from, to, item } => {
                    self.take_out(&from, &mut edits);
                    come.push((to, item));
                }
            }
        }
        for (key, item) in come {
            let at = self.keys.binary_search(&key).unwrap_or_else(|at| at);
            self.keys.insert(at, key);
            edits.push(json!([ADDED, at, item_json(&item)]));
        }
        edits
    }

    fn take_out(&mut self, key: &Key, edits: &mut Vec<JsonValue>) {
        if let Ok(at) = self.keys.binary_search(key) {
            self.keys.remove(at);
            edits.push(json!([REMOVED, at]));
        }
    }
}

fn item_json(item: &Item) -> JsonValue {
    match item {
        Item::Row(row) => row.iter().map(Datum::to_typed_json).collect(),
        Item::Object(object) => object.to_json(Datum::to_typed_json),
    }
}
