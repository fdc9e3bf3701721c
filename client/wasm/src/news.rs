//! What a page is told of a query: the edits that bring its list from one state to the next.
//!
//! ```text
//! news  = frame*       frame = id: 4 bytes, big-endian | length: 4 bytes, big-endian | status: 1 byte | JSON
//!
//! {"rows": […],                                               all of it, and after that
//!  "edits": [[0, at], [1, at, object], [2, at, object]],      taken out, put in, changed, one after the other
//!  "status": "synced",                                        local | syncing | synced | stale | offline
//!  "error": {"code", "message"},                              it moves no more
//!  "shared": [object…],                                       see below
//!  "at": 1000, "more": true}                                  of a part of a long answer: where its rows begin
//! ```
//!
//! What several objects include is written once, in `shared`: where they include it stands its number there, and so in
//! `shared` itself, where all numbers lead to the left. A page makes one row of it.
//!
//! A long answer comes in parts, each a frame of its own: a page reads one while the next is written. Each has the rows
//! behind those of the part before, and what of `shared` comes behind that part's. Only the last one says more than that; a
//! page shows nothing of it before.
//!
//! Frames, because news go to several pages: whoever passes them on need not read them. Only the status concerns it too:
//! the place of its name in the list above, 255 where it is what it was, or 254 where the next part is still to be taken.

use std::sync::Arc;

use halcyon_client::engine::{FollowerId, QueryError, QueryStatus, Update};
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

/// Bytes of rows and of what they share after which a part ends: some milliseconds of a page's work.
const PART_BYTES: usize = 128 << 10;

/// The status is what it was.
const UNCHANGED: u8 = u8::MAX;

/// There is more of the answer.
const MORE: u8 = u8::MAX - 1;

/// JSON as it is written. A tree of it would take longer than all else: answers are long.
#[derive(Debug, Default)]
struct Text(Vec<u8>);

/// What several objects include, by the place where each lies in memory. While one step is told, none of them moves and no
/// other one comes into its place: all that is told of is there from the beginning, and stays to the end.
#[derive(Debug, Default)]
struct Shared {
    /// As JSON: those that no part has told yet.
    objects: Vec<u8>,
    numbers: BTreeMap<usize, usize>,
}

/// What a page shows of a query.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) follower: FollowerId,
    /// In the order of the answer.
    keys: Vec<Key>,
    /// What is told, if some of it is still to be taken.
    telling: Option<Telling>,
}

/// What the updates of one step tell.
#[derive(Debug, Default)]
struct Telling {
    /// All rows, and how many of them have been told.
    answer: Option<Vec<Item>>,
    at: usize,
    edits: Text,
    shared: Shared,
    status: Option<QueryStatus>,
    error: Option<QueryError>,
}

impl Shown {
    pub(crate) const fn new(follower: FollowerId) -> Self {
        Self {
            follower,
            keys: Vec::new(),
            telling: None,
        }
    }

    /// Whether some of the last step is still to be taken, by [`Self::go_on`].
    pub(crate) const fn has_more(&self) -> bool {
        self.telling.is_some()
    }

    /// Appends a frame: what the updates of one step tell, or the first part of it. Nothing if they tell nothing.
    pub(crate) fn tell(&mut self, id: u32, updates: Vec<Update>, out: &mut Vec<u8>) {
        let mut telling = Telling::default();
        for update in updates {
            match update {
                Update::Answer(mirror) => {
                    telling.edits.0.clear();
                    telling.shared = Shared::default();
                    let (keys, items) = mirror.into_items().unzip();
                    (self.keys, telling.answer) = (keys, Some(items));
                }
                Update::Delta(delta) => self.edit(delta, &mut telling.edits, &mut telling.shared),
                Update::Status(now) => telling.status = Some(now),
                Update::Failed(error) => telling.error = Some(error),
            }
        }
        self.telling = telling.frame(id, out);
    }

    /// Appends the next part.
    pub(crate) fn go_on(&mut self, id: u32, out: &mut Vec<u8>) {
        if let Some(telling) = self.telling.take() {
            self.telling = telling.frame(id, out);
        }
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

impl Telling {
    /// Appends a frame. What it leaves is for the next one.
    fn frame(mut self, id: u32, out: &mut Vec<u8>) -> Option<Self> {
        let start = out.len();
        let body = start + FRAME_HEAD;
        // It is written where it stays.
        let mut news = Text(std::mem::take(out));
        news.0.resize(body, 0);
        let has_more = self.rows(&mut news, body);
        if !has_more {
            self.rest(&mut news, body);
        }
        if !self.shared.objects.is_empty() {
            news.member(body, b"shared");
            news.0.append(&mut self.shared.objects);
            news.0.push(b']');
        }
        if news.0.len() == body {
            news.0.truncate(start);
        } else {
            news.0.push(b'}');
            let length = u32::try_from(news.0.len() - body).unwrap_or(u32::MAX);
            news.0[start..start + 4].copy_from_slice(&id.to_be_bytes());
            news.0[start + 4..start + 8].copy_from_slice(&length.to_be_bytes());
            news.0[start + 8] = match self.status {
                _ if has_more => MORE,
                Some(status) => status as u8,
                None => UNCHANGED,
            };
        }
        *out = news.0;
        has_more.then_some(self)
    }

    /// The rows that are still to be told, as many as one part has. Says whether there are more.
    fn rows(&mut self, news: &mut Text, body: usize) -> bool {
        let Some(answer) = &self.answer else { return false };
        let first = self.at;
        news.member(body, b"rows");
        news.0.push(b'[');
        for item in &answer[first..] {
            if news.0.len() - body + self.shared.objects.len() > PART_BYTES && self.at > first {
                break;
            }
            if self.at > first {
                news.0.push(b',');
            }
            news.item(item, &mut self.shared);
            self.at += 1;
        }
        news.0.push(b']');
        let has_more = self.at < answer.len();
        if has_more || first > 0 {
            news.member(body, b"at");
            news.number(first);
        }
        if has_more {
            news.member(body, b"more");
            news.0.extend_from_slice(b"true");
        }
        has_more
    }

    /// What comes with the last part.
    fn rest(&mut self, news: &mut Text, body: usize) {
        if let Some(status) = self.status {
            news.member(body, b"status");
            news.string(STATUS[status as usize]);
        }
        if let Some(error) = &self.error {
            news.member(body, b"error");
            news.0.extend_from_slice(error_json(error).as_bytes());
        }
        if !self.edits.0.is_empty() {
            news.member(body, b"edits");
            news.0.append(&mut self.edits.0);
            news.0.push(b']');
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
        self.objects.push(if self.objects.is_empty() { b'[' } else { b',' });
        self.objects.extend_from_slice(&text.0);
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
