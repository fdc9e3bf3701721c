//! A JSON value and the path to it, so that an error names the place; and what both forms have in common.

use std::sync::Arc;

use serde_json::{Map, Value as JsonValue, json};

use crate::{
    codec::DecodeError,
    id::is_name,
    query::{
        answer::Datum,
        ast::{Literal, Name},
        error::{Problem, QueryError, nearest},
        limits::{DEPTH_MAX, LIMIT_MAX, QUERY_BYTES_MAX},
        logic::{Comparison, Cursor, Kind, TextTest},
        place::Place,
    },
    value::Value,
};

/// A part of a query in JSON.
#[derive(Debug, Clone)]
pub(super) struct Node<'a> {
    pub(super) json: &'a JsonValue,
    path: String,
    depth: usize,
}

/// A test of one thing, as the second and third item of an array say it: `[…, ">", 3]`.
pub(super) enum Test {
    Compare(Comparison),
    In(Vec<Literal>),
    Text(TextTest, Arc<str>),
    Kind(Kind),
    Exists,
}

/// Reads JSON text, within the limits.
pub(super) fn parse(text: &str) -> Result<JsonValue, QueryError> {
    if text.len() > QUERY_BYTES_MAX {
        let (what, size) = ("bytes of a query", text.len());
        let max = QUERY_BYTES_MAX;
        return Err(QueryError::new(Problem::OverLimit { what, size, max }, &Place::Unknown));
    }
    serde_json::from_str(text).map_err(|error| {
        let line_start = text
            .split_inclusive('\n')
            .take(error.line().saturating_sub(1))
            .map(str::len)
            .sum::<usize>();
        let start = line_start + error.column().saturating_sub(1);
        let end = start + 1;
        QueryError::expected("JSON", error.to_string(), &Place::Text { start, end })
    })
}

impl<'a> Node<'a> {
    pub(super) fn root(json: &'a JsonValue) -> Result<Self, QueryError> {
        let node = Self {
            json,
            path: "query".to_owned(),
            depth: 0,
        };
        let mut budget = QUERY_BYTES_MAX;
        node.weigh(&mut budget, 0)?;
        Ok(node)
    }

    /// JSON that was not read from text has no size of its own: count what it would take, and how deep it goes.
    fn weigh(&self, budget: &mut usize, depth: usize) -> Result<(), QueryError> {
        let too_large = |what, max| {
            let size = max + 1;
            QueryError::new(Problem::OverLimit { what, size, max }, &Place::Unknown)
        };
        // An array in an object in an array is one level of a query.
        if depth > 4 * DEPTH_MAX {
            return Err(too_large("levels of nesting", 4 * DEPTH_MAX));
        }
        let (own, children): (usize, Vec<&JsonValue>) = match self.json {
            JsonValue::String(text) => (text.len(), Vec::new()),
            JsonValue::Array(items) => (items.len(), items.iter().collect()),
            JsonValue::Object(members) => (
                members.keys().map(|key| key.len() + 1).sum(),
                members.values().collect(),
            ),
            _ => (1, Vec::new()),
        };
        *budget = budget
            .checked_sub(own)
            .ok_or_else(|| too_large("bytes of a query", QUERY_BYTES_MAX))?;
        for json in children {
            let child = Node {
                json,
                path: String::new(),
                depth: 0,
            };
            child.weigh(budget, depth + 1)?;
        }
        Ok(())
    }

    pub(super) fn at(&self) -> Place {
        Place::Json(self.path.as_str().into())
    }

    pub(super) fn expected(&self, expected: &str) -> QueryError {
        let found = match self.json {
            JsonValue::Null => "null".to_owned(),
            JsonValue::Bool(boolean) => boolean.to_string(),
            JsonValue::Number(number) => number.to_string(),
            JsonValue::String(text) => format!("{:?}", text.chars().take(80).collect::<String>()),
            JsonValue::Array(items) => format!("an array of {}", items.len()),
            JsonValue::Object(_) => "an object".to_owned(),
        };
        QueryError::expected(expected, found, &self.at())
    }

    fn child(&self, json: &'a JsonValue, path: String) -> Result<Self, QueryError> {
        let depth = self.depth + 1;
        if depth > 4 * DEPTH_MAX {
            let (what, size, max) = ("levels of nesting", depth, 4 * DEPTH_MAX);
            return Err(QueryError::new(Problem::OverLimit { what, size, max }, &self.at()));
        }
        Ok(Self { json, path, depth })
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.json.get(key).is_some()
    }

    /// An object that has only these keys.
    pub(super) fn object(&self, expected: &str, known: &[&str]) -> Result<&'a Map<String, JsonValue>, QueryError> {
        let members = self.json.as_object().ok_or_else(|| self.expected(expected))?;
        let Some(key) = members.keys().find(|key| !known.contains(&key.as_str())) else {
            return Ok(members);
        };
        let problem = Problem::UnknownKey {
            key: key.clone(),
            known: known.join(", "),
        };
        Err(QueryError::new(problem, &self.at()).near(key, known))
    }

    pub(super) fn key(&self, key: &str) -> Result<Option<Self>, QueryError> {
        match self.json.get(key) {
            Some(json) => self.child(json, format!("{}.{key}", self.path)).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn need(&self, key: &'static str) -> Result<Self, QueryError> {
        self.key(key)?
            .ok_or_else(|| QueryError::new(Problem::MissingKey(key), &self.at()))
    }

    pub(super) fn items(&self, expected: &str) -> Result<Vec<Self>, QueryError> {
        let items = self.json.as_array().ok_or_else(|| self.expected(expected))?;
        let numbered = items.iter().enumerate();
        numbered
            .map(|(at, json)| self.child(json, format!("{}[{at}]", self.path)))
            .collect()
    }

    /// At least one of something.
    pub(super) fn some_items(&self, expected: &str) -> Result<Vec<Self>, QueryError> {
        let items = self.items(expected)?;
        if items.is_empty() {
            Err(self.expected(expected))
        } else {
            Ok(items)
        }
    }

    /// What `read` makes of every item under a key; none if there is no such key.
    pub(super) fn each<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&Self) -> Result<T, QueryError>,
    ) -> Result<Vec<T>, QueryError> {
        match self.key(key)? {
            Some(node) => node.items(expected)?.iter().map(read).collect(),
            None => Ok(Vec::new()),
        }
    }

    pub(super) fn text(&self, expected: &str) -> Result<&'a str, QueryError> {
        self.json.as_str().ok_or_else(|| self.expected(expected))
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool, QueryError> {
        match self.key(key)? {
            Some(node) => node.json.as_bool().ok_or_else(|| node.expected("true or false")),
            None => Ok(false),
        }
    }

    /// The name of a type, a field, a rule or a variable.
    pub(super) fn name(&self, text: &str) -> Result<Name, QueryError> {
        if is_name(text) {
            return Ok(Name {
                text: text.into(),
                at: self.at(),
            });
        }
        let problem = Problem::Malformed {
            text: format!("{:?}", text.chars().take(80).collect::<String>()),
            what: "a name",
            rule: "it has 1 to 64 letters, digits, _ or -, and does not start with a digit or -",
        };
        Err(QueryError::new(problem, &self.at()))
    }

    /// `as`: the name of a column or a member, which may hold spaces.
    pub(super) fn label(&self) -> Result<Option<Name>, QueryError> {
        let Some(node) = self.key("as")? else { return Ok(None) };
        let text = node.text("a name")?;
        if text.is_empty() || text.len() > 256 || text.contains(|c: char| c == '`' || c.is_control()) {
            return Err(node.expected("a name of 1 to 256 bytes without control characters and backquotes"));
        }
        let (text, at) = (text.into(), node.at());
        Ok(Some(Name { text, at }))
    }

    /// A constant: typed JSON, and `{"$string": "?x"}` for a text that would read as a variable.
    pub(super) fn literal(&self) -> Result<Literal, QueryError> {
        if self.json.is_null() {
            let error = self.expected("a constant");
            return Err(error.help("a field without a value is found with `not` and `exists`"));
        }
        let value = match self.json.get("$string").and_then(JsonValue::as_str) {
            Some(text) if self.json.as_object().is_some_and(|members| members.len() == 1) => Value::string(text),
            _ => Value::from_typed_json(self.json).map_err(|error| {
                let error = QueryError::new(Problem::Value(error), &self.at());
                if self.json.is_object() {
                    return error.help("in a query there is `$string`, too: a text that would read as a variable");
                }
                error
            })?,
        };
        Ok(Literal { value, at: self.at() })
    }

    pub(super) fn limit(&self) -> Result<Option<u32>, QueryError> {
        let Some(node) = self.key("limit")? else {
            return Ok(None);
        };
        let limit = node.json.as_u64().and_then(|limit| u32::try_from(limit).ok());
        match limit.filter(|limit| *limit <= LIMIT_MAX) {
            Some(limit) => Ok(Some(limit)),
            None => Err(node.expected(&format!("a whole number up to {LIMIT_MAX}"))),
        }
    }

    pub(super) fn after(&self) -> Result<Option<Cursor>, QueryError> {
        let Some(node) = self.key("after")? else {
            return Ok(None);
        };
        let read = |place: &Self| {
            Datum::from_typed_json(place.json).map_err(|error| QueryError::new(Problem::Value(error), &place.at()))
        };
        let places: Result<Vec<Datum>, QueryError> = node.items("the places of a cursor")?.iter().map(read).collect();
        Ok(Some(Cursor(places?)))
    }

    /// The test that the items from the second on say; `None` if the second is no sign of a test.
    pub(super) fn test(items: &[Self]) -> Result<Option<Test>, QueryError> {
        let Some(sign) = items.get(1).and_then(|item| item.json.as_str()) else {
            return Ok(None);
        };
        if let Some(comparison) = Comparison::ALL.into_iter().find(|comparison| comparison.sign() == sign) {
            return Ok(Some(Test::Compare(comparison)));
        }
        let third = || {
            items
                .get(2)
                .ok_or_else(|| items[1].expected("a test and what it tests for"))
        };
        Ok(Some(match sign {
            "in" => {
                let values = third()?.some_items("an array of constants, not empty")?;
                Test::In(values.iter().map(Self::literal).collect::<Result<_, _>>()?)
            }
            "starts" => Test::Text(TextTest::StartsWith, third()?.text("a text")?.into()),
            "contains" => Test::Text(TextTest::Contains, third()?.text("a text")?.into()),
            "is" => Test::Kind(third()?.kind()?),
            "has" => Test::Compare(Comparison::Equal),
            "exists" => Test::Exists,
            _ => return Ok(None),
        }))
    }

    fn kind(&self) -> Result<Kind, QueryError> {
        let names = Kind::ALL.map(Kind::name);
        let expected = format!("a type of values ({})", names.join(", "));
        let word = self.text(&expected)?;
        let found = Kind::ALL.into_iter().find(|kind| kind.name() == word);
        found.ok_or_else(|| self.expected(&expected).near(word, &names))
    }

    /// An array that says a test has this many items.
    pub(super) fn need_items(&self, items: &[Self], count: usize) -> Result<(), QueryError> {
        if items.len() == count {
            Ok(())
        } else {
            Err(self.expected(&format!("an array of {count}")))
        }
    }

    /// The error for the second item of an array that is no test, with the sign that was probably meant.
    pub(super) fn unknown_test(&self, expected: &str) -> QueryError {
        const SIGNS: [&str; 12] = [
            "=", "!=", "<", "<=", ">", ">=", "in", "starts", "contains", "is", "has", "exists",
        ];
        let error = self.expected(expected);
        let foreign = [
            ("==", "="),
            ("<>", "!="),
            ("like", "contains"),
            ("startsWith", "starts"),
        ];
        let word = self.json.as_str().unwrap_or("");
        let meant = foreign.iter().find(|(there, _)| *there == word).map(|(_, here)| *here);
        match meant.or_else(|| nearest(word, &SIGNS)) {
            Some(near) => error.help(format!("did you mean {near:?}?")),
            None => error,
        }
    }
}

impl Datum {
    /// Reads what [`Self::to_typed_json`] wrote.
    pub fn from_typed_json(json: &JsonValue) -> Result<Self, DecodeError> {
        match json {
            JsonValue::Null => Ok(Self::Null),
            JsonValue::Array(items) => items
                .iter()
                .map(Value::from_typed_json)
                .collect::<Result<_, _>>()
                .map(Self::List),
            value => Value::from_typed_json(value).map(Self::Value),
        }
    }
}

/// Members of an object, those with nothing to say left out.
pub(super) fn members(all: Vec<(&str, Option<JsonValue>)>) -> JsonValue {
    let said = all
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)));
    JsonValue::Object(said.collect())
}

/// An array, unless it is empty.
pub(super) fn some_array<T>(items: &[T], write: impl Fn(&T) -> JsonValue) -> Option<JsonValue> {
    (!items.is_empty()).then(|| items.iter().map(write).collect())
}

/// The cursor and the limit.
pub(super) fn write_page(limit: Option<u32>, after: Option<&Cursor>) -> [(&'static str, Option<JsonValue>); 2] {
    let after = after.map(Cursor::to_typed_json);
    [("limit", limit.map(JsonValue::from)), ("after", after)]
}

/// A constant. A text that would read as a variable, or as anything, is tagged.
pub(super) fn write_value(value: &Value) -> JsonValue {
    match value {
        Value::String(text) if text.starts_with('?') || &**text == "_" => json!({ "$string": &**text }),
        value => value.to_typed_json(),
    }
}

pub(super) fn write_literals(literals: &[Literal]) -> JsonValue {
    literals.iter().map(|literal| write_value(&literal.value)).collect()
}

pub(super) const fn text_test_name(test: TextTest) -> &'static str {
    match test {
        TextTest::StartsWith => "starts",
        TextTest::Contains => "contains",
    }
}
