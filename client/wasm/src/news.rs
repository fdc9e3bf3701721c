//! What a page is told of a query: the edits that bring its list from one state to the next.
//!
//! ```text
//! news  = frame*       frame = id: 4 bytes, big-endian | length: 4 bytes, big-endian | status: 1 byte | JSON
//!
//! {"rows": […],                                               all of it, and after that
//!  "edits": [[0, at], [1, at, object], [2, at, object]],      taken out, put in, changed, one after the other
//!  "status": "synced",                                        local | syncing | synced | stale | offline
//!  "error": {"code", "message"},                              it moves no more
//!  "shared": [object…]}                                       see below
//! ```
//!
//! What several objects include is written once, in `shared`: where they include it stands its number there, and so in
//! `shared` itself, where all numbers lead to the left. A page makes one row of it.
//!
//! Frames, because news go to several pages: whoever passes them on need not read them. Only the status concerns it too:
//! the place of its name in the list above, or 255 where it is what it was.

use std::sync::Arc;

use halcyon_client::engine::{FollowerId, QueryError, Update};
use halcyon_core::{
    collections::BTreeMap,
    query::{
        answer::{Datum, Member, Object},
        live::{AnswerDelta, Change, Item, Key},
    },
    value::Value,
};
use serde_json::json;

const REMOVED: u8 = 0;
const ADDED: u8 = 1;
const CHANGED: u8 = 2;

/// Items that come at once, from which on the list is gone through once instead of once for each.
const MERGE_FROM: usize = 64;

/// By their places in [`QueryStatus`].
const STATUS: [&str; 5] = ["local", "syncing", "synced", "stale", "offline"];

/// Why writing JSON does not fail.
const WRITES: &str = "memory takes what is written";

/// Bytes of a frame before its JSON.
const FRAME_HEAD: usize = 9;

/// What an item of a long answer is taken for, at first.
const ITEM_BYTES: usize = 256;

/// The status is what it was.
const UNCHANGED: u8 = u8::MAX;

/// JSON as it is written. A tree of it would take longer than all else: answers are long.
#[derive(Debug, Default)]
struct Text(Vec<u8>);

/// What several objects include, by the place where each lies in memory. While one step is told, none of them moves and no
/// other one comes into its place: all that is told of is there from the beginning.
#[derive(Debug, Default)]
struct Shared {
    objects: Text,
    numbers: BTreeMap<usize, usize>,
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

    /// Appends a frame: what the updates of one step tell. Nothing if they tell nothing.
    pub(crate) fn tell(&mut self, id: u32, updates: Vec<Update>, out: &mut Vec<u8>) {
        let (mut edits, mut shared) = (Text::default(), Shared::default());
        let (mut status, mut failed) = (None, None);
        let start = out.len();
        let body = start + FRAME_HEAD;
        // What is long is written where it stays.
        let mut news = Text(std::mem::take(out));
        news.0.resize(body, 0);
        for update in updates {
            match update {
                Update::Answer(mirror) => {
                    edits.0.clear();
                    shared = Shared::default();
                    self.keys = mirror.keys().cloned().collect();
                    news.0.truncate(body);
                    news.0.reserve(ITEM_BYTES * self.keys.len());
                    news.member(body, b"rows");
                    news.list(mirror.items(), |text, (_, item)| text.item(item, &mut shared));
                }
                Update::Delta(delta) => self.edit(delta, &mut edits, &mut shared),
                Update::Status(now) => status = Some(now),
                Update::Failed(error) => failed = Some(error),
            }
        }
        if let Some(status) = status {
            news.member(body, b"status");
            news.string(STATUS[status as usize]);
        }
        if let Some(error) = failed {
            news.member(body, b"error");
            news.0.extend_from_slice(error_json(&error).as_bytes());
        }
        for (name, Text(list)) in [(&b"edits"[..], edits), (b"shared", shared.objects)] {
            if !list.is_empty() {
                news.member(body, name);
                news.0.extend_from_slice(&list);
                news.0.push(b']');
            }
        }
        if news.0.len() == body {
            news.0.truncate(start);
        } else {
            news.0.push(b'}');
            let length = u32::try_from(news.0.len() - body).unwrap_or(u32::MAX);
            news.0[start..start + 4].copy_from_slice(&id.to_be_bytes());
            news.0[start + 4..start + 8].copy_from_slice(&length.to_be_bytes());
            news.0[start + 8] = status.map_or(UNCHANGED, |status| status as u8);
        }
        *out = news.0;
    }

    fn edit(&mut self, delta: AnswerDelta, edits: &mut Text, shared: &mut Shared) {
        let mut come = Vec::new();
        for change in delta.0 {
            match change {
                Change::Removed(key) => self.take_out(&key, edits),
                Change::Added(key, item) => come.push((key, item)),
                Change::Changed { from, to, item } if from == to => {
                    if let Ok(at) = self.keys.binary_search(&to) {
                        edits.edit(CHANGED, at, Some((&item, shared)));
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
                edits.edit(ADDED, at, Some((&item, shared)));
            }
        } else {
            self.merge(come, edits, shared);
        }
    }

    /// Puts in many, in the order of the answer.
    fn merge(&mut self, mut come: Vec<(Key, Item)>, edits: &mut Text, shared: &mut Shared) {
        come.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut there = std::mem::take(&mut self.keys).into_iter().peekable();
        for (key, item) in come {
            while let Some(before) = there.next_if(|before| *before < key) {
                self.keys.push(before);
            }
            edits.edit(ADDED, self.keys.len(), Some((&item, shared)));
            self.keys.push(key);
        }
        self.keys.extend(there);
    }

    fn take_out(&mut self, key: &Key, edits: &mut Text) {
        if let Ok(at) = self.keys.binary_search(key) {
            self.keys.remove(at);
            edits.edit(REMOVED, at, None);
        }
    }
}

impl Text {
    /// Begins a member of the object that begins there.
    fn member(&mut self, object: usize, name: &[u8]) {
        self.0.push(if self.0.len() == object { b'{' } else { b',' });
        self.0.push(b'"');
        self.0.extend_from_slice(name);
        self.0.extend_from_slice(b"\":");
    }

    /// One of the list of edits, which nobody has closed yet.
    fn edit(&mut self, kind: u8, at: usize, item: Option<(&Item, &mut Shared)>) {
        self.0.push(if self.0.is_empty() { b'[' } else { b',' });
        self.0.extend_from_slice(&[b'[', b'0' + kind, b',']);
        self.number(at);
        if let Some((item, shared)) = item {
            self.0.push(b',');
            self.item(item, shared);
        }
        self.0.push(b']');
    }

    fn list<T>(&mut self, items: impl Iterator<Item = T>, mut write: impl FnMut(&mut Self, T)) {
        self.0.push(b'[');
        for (at, item) in items.enumerate() {
            if at > 0 {
                self.0.push(b',');
            }
            write(self, item);
        }
        self.0.push(b']');
    }

    fn number(&mut self, number: impl Into<serde_json::Number>) {
        serde_json::to_writer(&mut self.0, &number.into()).expect(WRITES);
    }

    fn item(&mut self, item: &Item, shared: &mut Shared) {
        match item {
            Item::Row(row) => self.list(row.iter(), Self::datum),
            Item::Object(object) => self.object(object, shared),
        }
    }

    /// As [`Object::to_json`] has it, but for what is shared.
    fn object(&mut self, object: &Object, shared: &mut Shared) {
        self.0.extend_from_slice(b"{\"id\":");
        self.string(object.id.as_str());
        for (name, member) in &object.members {
            self.0.push(b',');
            self.string(name);
            self.0.push(b':');
            match member {
                Member::Datum(datum) => self.datum(datum),
                Member::Object(object) => self.included(object, shared),
                Member::Objects(objects) => self.list(objects.iter(), |text, object| text.included(object, shared)),
            }
        }
        self.0.push(b'}');
    }

    fn included(&mut self, object: &Arc<Object>, shared: &mut Shared) {
        if Arc::strong_count(object) == 1 {
            self.object(object, shared);
        } else {
            self.number(shared.number(object));
        }
    }

    fn datum(&mut self, datum: &Datum) {
        match datum {
            Datum::Null => self.0.extend_from_slice(b"null"),
            Datum::Value(value) => self.value(value),
            Datum::List(values) => self.list(values.iter(), Self::value),
        }
    }

    /// As [`Value::to_typed_json`] has it.
    fn value(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.string(text),
            Value::Ref(entity) => {
                self.0.extend_from_slice(b"{\"$ref\":");
                self.string(entity.as_str());
                self.0.push(b'}');
            }
            Value::Date(millis) => {
                self.0.extend_from_slice(b"{\"$date\":");
                self.number(*millis);
                self.0.push(b'}');
            }
            Value::Boolean(is_true) => self.0.extend_from_slice(if *is_true { b"true" } else { b"false" }),
            other => serde_json::to_writer(&mut self.0, &other.to_typed_json()).expect(WRITES),
        }
    }

    fn string(&mut self, text: &str) {
        // Nearly every text is one, and all names are.
        let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
        if text.bytes().all(is_plain) {
            self.0.reserve(text.len() + 2);
            self.0.push(b'"');
            self.0.extend_from_slice(text.as_bytes());
            self.0.push(b'"');
        } else {
            serde_json::to_writer(&mut self.0, text).expect(WRITES);
        }
    }
}

impl Shared {
    fn number(&mut self, object: &Arc<Object>) -> usize {
        let place = Arc::as_ptr(object).addr();
        if let Some(number) = self.numbers.get(&place) {
            return *number;
        }
        let mut text = Text::default();
        text.object(object, self);
        self.objects.0.push(if self.numbers.is_empty() { b'[' } else { b',' });
        self.objects.0.extend_from_slice(&text.0);
        let number = self.numbers.len();
        self.numbers.insert(place, number);
        number
    }
}

fn error_json(error: &QueryError) -> String {
    let code = match error {
        QueryError::Refused(refusal) => refusal.code.as_str_name(),
        QueryError::Here(_) => "QUERY_FAILED",
    };
    json!({ "code": code, "message": error.to_string() }).to_string()
}
