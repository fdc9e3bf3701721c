//! `FIELD=VALUE` on the command line becomes a predicate and a value.
//!
//! The kind of a value shows in its text: `n=3` is a number, `open=true` a boolean, `title=hello` a string. A prefix
//! says it where the text alone would not: `date:`, `ref:`, `json:`, `string:`, `number:`, `bytes:`. Quotes
//! (`zip='"01234"'`) make a string of anything. An empty text unsets the field.

use std::time::Duration;

use halcyon_core::{
    id::{EntityId, Predicate},
    value::{Value, date_from_text},
};
use thiserror::Error;

/// Characters of a wrong text that an error shows.
const EXCERPT_CHARS: usize = 60;

/// What an entity's id looks like.
const ID_RULE: &str = "it has 1 to 128 bytes, is not blank and has no control characters";

/// What `--help` says about values.
pub const VALUES_HELP: &str = "\
Values:
  title=hello               a string; title='\"3\"' where it would pass for something else
  n=3  n=-1.5e3             a number
  open=true                 a boolean
  when=date:2024-09-13      a date; also date:2024-09-13T23:42:16Z and date:1726270936000 (ms since 1970)
  author=ref:ieK09sy2C      another entity
  data='json:{\"a\":[1,2]}'   JSON, kept as it is written
  text=string:true  n=number:3  b=bytes:00ff
  title=                    nothing: the field is unset

Fields are TYPE/FIELD, or FIELD alone with --type TYPE.";

/// Why an argument is not a field with a value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ValueArgError {
    /// There is no `=`.
    #[error("{0:?} is not FIELD=VALUE: there is no '='")]
    NoEquals(String),
    /// There is no slash and no type.
    #[error("{0:?} names no type: write TYPE/{0}, or add --type TYPE")]
    NoType(String),
    /// The field's name is not one.
    #[error("{0}")]
    Field(String),
    /// The text after a prefix does not fit it.
    #[error("{text:?} is not {what}; {rule}")]
    Value {
        /// The text after the prefix.
        text: String,
        /// What it should be.
        what: &'static str,
        /// How such a text looks.
        rule: &'static str,
    },
    /// JSON's form of a number, and too large for one.
    #[error("{0:?} is too large for a number; quote it ('\"{0}\"') to keep it as a string")]
    TooLarge(String),
    /// JSON's form of a number, and a number would round it.
    #[error("{0:?} has more digits than a number keeps; quote it ('\"{0}\"') to keep it as a string")]
    TooLong(String),
    /// A value is needed here.
    #[error("{0:?} has no value")]
    Empty(String),
}

/// Reads `FIELD=VALUE`; no value means that the field is unset.
pub fn parse_assignment(text: &str, entity_type: Option<&str>) -> Result<(Predicate, Option<Value>), ValueArgError> {
    let (field, value) = text
        .split_once('=')
        .ok_or_else(|| ValueArgError::NoEquals(excerpt(text)))?;
    Ok((parse_field(field, entity_type)?, parse_value(value)?))
}

/// Reads `FIELD=VALUE` where the value must be there.
pub fn parse_element(text: &str, entity_type: Option<&str>) -> Result<(Predicate, Value), ValueArgError> {
    let (predicate, value) = parse_assignment(text, entity_type)?;
    Ok((predicate, value.ok_or_else(|| ValueArgError::Empty(excerpt(text)))?))
}

/// Reads a field: `TYPE/FIELD`, or `FIELD` of the given type.
pub fn parse_field(text: &str, entity_type: Option<&str>) -> Result<Predicate, ValueArgError> {
    let name = match (text.contains('/'), entity_type) {
        (true, _) => text.to_owned(),
        (false, Some(entity_type)) => format!("{entity_type}/{text}"),
        (false, None) => return Err(ValueArgError::NoType(excerpt(text))),
    };
    Predicate::new(&name).map_err(|error| ValueArgError::Field(error.to_string()))
}

/// Reads a value; nothing for an empty text.
pub fn parse_value(text: &str) -> Result<Option<Value>, ValueArgError> {
    if text.is_empty() {
        return Ok(None);
    }
    let prefixed = text
        .split_once(':')
        .and_then(|(prefix, rest)| parse_prefixed(prefix, rest));
    prefixed.unwrap_or_else(|| parse_plain(text)).map(Some)
}

/// Reads an entity's id. One that shows nothing is legal on the wire and a slip of the fingers here.
pub fn parse_id(text: &str) -> Result<EntityId, String> {
    if text.chars().all(char::is_whitespace) {
        return Err(format!("{text:?} is not an entity id: it is blank"));
    }
    EntityId::new(text).map_err(|error| error.to_string())
}

/// A time that is longer than nothing: `90s`, `5m`, `1h 30m`.
pub fn time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| format!("{error}; write 90s, 5m or 1h"))?;
    if time.is_zero() {
        return Err("it must be longer than nothing; write 90s, 5m or 1h".into());
    }
    Ok(time)
}

/// The beginning of a text that came from outside, for an error.
pub fn excerpt(text: &str) -> String {
    let cut: String = text.chars().take(EXCERPT_CHARS).collect();
    if cut.len() < text.len() {
        format!("{cut}…")
    } else {
        cut
    }
}

/// Milliseconds since 1970 of a date as people and files write it.
pub fn parse_date(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Some(millis) = parse_millis(text) {
        return Some(millis);
    }
    date_from_text(text)
        .or_else(|| date_from_text(&format!("{text}T00:00:00Z")))
        .or_else(|| date_from_text(&text.replacen(' ', "T", 1)))
        .or_else(|| date_from_text(&format!("{}Z", text.replacen(' ', "T", 1))))
}

/// Whether a text is a number as JSON has it: no `+`, no leading zeros, so that `007` stays a text; and so does a whole
/// number that would be rounded, as ids of 64 bits are.
pub fn parse_number(text: &str) -> Option<f64> {
    let first = text.bytes().next()?;
    if !first.is_ascii_digit() && first != b'-' {
        return None;
    }
    let number: serde_json::Number = serde_json::from_str(text).ok()?;
    let number = number.as_f64().filter(|number| number.is_finite())?;
    is_kept_whole(text, number).then_some(number)
}

/// Whether a number that was written without fraction and exponent is what its text says.
fn is_kept_whole(text: &str, number: f64) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return true;
    }
    #[expect(clippy::cast_possible_truncation, reason = "what does not fit is not equal")]
    let back = number as i128;
    text.parse() == Ok(back)
}

fn parse_prefixed(prefix: &str, rest: &str) -> Option<Result<Value, ValueArgError>> {
    let error = |what, rule| ValueArgError::Value {
        text: excerpt(rest),
        what,
        rule,
    };
    Some(match prefix {
        "string" => Ok(Value::string(rest)),
        "number" => rest
            .parse()
            .ok()
            .filter(|&number: &f64| number.is_finite() && is_kept_whole(rest, number))
            .and_then(|number| Value::number(number).ok())
            .ok_or_else(|| {
                error(
                    "a number",
                    "write 3, -1.5 or 2e10; it has to be finite, and a whole one must not need rounding",
                )
            }),
        "date" => parse_date(rest).map(Value::Date).ok_or_else(|| {
            error(
                "a date",
                "write 2024-09-13, 2024-09-13T23:42:16Z or milliseconds since 1970",
            )
        }),
        "ref" => parse_id(rest)
            .map(Value::Ref)
            .map_err(|_| error("an entity id", ID_RULE)),
        "json" => serde_json::from_str::<serde_json::Value>(rest)
            .map(|_| Value::Json(rest.into()))
            .map_err(|_| error("JSON", "check its quotes, and quote the whole argument for the shell")),
        "bytes" => hex::decode(rest)
            .map(|bytes| Value::Bytes(bytes.into()))
            .map_err(|_| error("bytes", "write them in hexadecimal")),
        _ => return None,
    })
}

fn parse_plain(text: &str) -> Result<Value, ValueArgError> {
    match text {
        "true" => return Ok(Value::Boolean(true)),
        "false" => return Ok(Value::Boolean(false)),
        _ => {}
    }
    if let Some(number) = parse_number(text).and_then(|number| Value::number(number).ok()) {
        return Ok(number);
    }
    if is_too_large(text) {
        return Err(ValueArgError::TooLarge(excerpt(text)));
    }
    if is_written_as_number(text) {
        return Err(ValueArgError::TooLong(excerpt(text)));
    }
    if text.len() >= 2
        && text.starts_with('"')
        && let Ok(inner) = serde_json::from_str::<String>(text)
    {
        return Ok(Value::string(&inner));
    }
    Ok(Value::string(text))
}

/// Whether a text is written as a number and has no place among them: `1e309`.
fn is_too_large(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_written_so = digits.starts_with(|c: char| c.is_ascii_digit());
    is_written_so && text.parse::<f64>().is_ok_and(f64::is_infinite)
}

/// Whether a text has JSON's form of a number.
fn is_written_as_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit()) && serde_json::from_str::<serde_json::Number>(text).is_ok()
}

/// Whole milliseconds; a fraction of zeros is common in exported tables and does no harm.
fn parse_millis(text: &str) -> Option<i64> {
    let number = parse_number(text)?;
    #[expect(clippy::cast_possible_truncation, reason = "checked: within 53 bits")]
    (number.abs() < 9e15).then_some(number.floor() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &Value) {
        assert_eq!(parse_value(text).unwrap().as_ref(), Some(expected), "{text}");
    }

    #[test]
    fn the_kind_of_a_value_shows_in_its_text() {
        let number = |number| Value::number(number).unwrap();
        check("hello", &Value::string("hello"));
        check("\"3\"", &Value::string("3"));
        check("\"un\"closed", &Value::string("\"un\"closed"));
        check("3", &number(3.0));
        check("-1.5e3", &number(-1500.0));
        check("9007199254740992", &number(9_007_199_254_740_992.0));
        check("-9007199254740994", &number(-9_007_199_254_740_994.0));
        check("0.1234567890123456789", &number(0.123_456_789_012_345_68));
        check("007", &Value::string("007"));
        check("+1", &Value::string("+1"));
        check("true", &Value::Boolean(true));
        check("string:true", &Value::string("true"));
        check("https://example.com", &Value::string("https://example.com"));
        check("date:2024-09-13", &Value::Date(1_726_185_600_000));
        check("date:2024-09-13T23:42:16Z", &Value::Date(1_726_270_936_000));
        check("date:1726270936000.0", &Value::Date(1_726_270_936_000));
        check("ref:abc", &Value::Ref(EntityId::new("abc").unwrap()));
        check("json:{\"a\":1}", &Value::Json("{\"a\":1}".into()));
        check("bytes:00ff", &Value::Bytes([0, 255].as_slice().into()));
        assert_eq!(parse_value("").unwrap(), None);
    }

    #[test]
    fn a_wrong_argument_says_what_to_write() {
        for (text, words) in [
            ("title", "no '='"),
            ("title=x", "--type"),
            ("a/b/c=x", "type/field"),
            ("a/b=date:soon", "milliseconds"),
            ("a/b=json:{", "quotes"),
            ("a/b=ref:", "1 to 128"),
            ("a/b=ref: ", "not blank"),
            ("a/b=number:inf", "finite"),
            ("a/b=number:1e309", "finite"),
            ("a/b=number:nan", "finite"),
            ("a/b=1e309", "too large"),
            ("a/b=9007199254740993", "more digits"),
            ("a/b=number:12345678901234567890", "rounding"),
            ("a/b=-1e309", "too large"),
        ] {
            let error = parse_assignment(text, None).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(parse_element("a/b=", None).is_err());
    }

    #[test]
    fn a_long_argument_is_cut_in_its_error() {
        for text in ["x".repeat(10_000), format!("a/b=date:{}", "x".repeat(10_000))] {
            assert!(parse_assignment(&text, None).unwrap_err().to_string().len() < 300);
        }
    }

    #[test]
    fn an_id_that_shows_nothing_is_refused() {
        assert!(parse_id(" ").unwrap_err().contains("blank"));
        assert!(parse_id("").is_err() && parse_id("\u{3000} ").is_err());
        assert!(parse_id("a b").is_ok());
    }

    #[test]
    fn a_field_takes_the_given_type() {
        assert_eq!(parse_field("title", Some("issue")).unwrap().as_str(), "issue/title");
        assert_eq!(parse_field("post/title", Some("issue")).unwrap().as_str(), "post/title");
    }
}
