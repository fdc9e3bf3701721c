//! Values: what a triple's object can be, in an encoding that keeps their order.
//!
//! `a < b` exactly when `a.encode() < b.encode()`, so a range of an index is a range of values. Values of different
//! types order by type code. No encoding is a prefix of another, so a key may go on behind a value.

use std::{borrow::Cow, cmp::Ordering, sync::Arc};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    codec::{DecodeError, Reader},
    id::EntityId,
    limits::{READS_ALL_FORMS, VALUE_BYTES_MAX},
};

/// A number that is not NaN; negative zero is zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number(f64);

impl Number {
    /// Checks and normalizes.
    pub fn new(number: f64) -> Result<Self, DecodeError> {
        if number.is_nan() {
            return Err(DecodeError::invalid("a number", "NaN is not a number"));
        }
        Ok(Self(if number == 0.0 { 0.0 } else { number }))
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// Bits that sort like the numbers: the sign flipped, and all bits of negative ones.
    pub(crate) fn ordered_bits(self) -> u64 {
        let bits = self.0.to_bits();
        if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
    }

    pub(crate) fn from_ordered_bits(bits: u64) -> Result<Self, DecodeError> {
        let number = f64::from_bits(if bits >> 63 == 1 { bits & !(1 << 63) } else { !bits });
        if number == 0.0 && number.is_sign_negative() {
            return Err(DecodeError::invalid("a number", "negative zero"));
        }
        Self::new(number)
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// The object of a triple. The variants stand in the order of their type codes, which are fixed for good.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Code 0.
    String(Arc<str>),
    /// Code 1.
    Number(Number),
    /// Code 2.
    Boolean(bool),
    /// Code 3: milliseconds since 1970 UTC.
    Date(i64),
    /// Code 4: another entity.
    Ref(EntityId),
    /// Code 5.
    Bytes(Arc<[u8]>),
    /// Code 6: JSON text as it was written. Orders as text.
    Json(Arc<str>),
}

const STRING: u8 = 0;
const NUMBER: u8 = 1;
const BOOLEAN: u8 = 2;
const DATE: u8 = 3;
const REF: u8 = 4;
const BYTES: u8 = 5;
const JSON: u8 = 6;

impl Value {
    /// A string.
    pub fn string(text: &str) -> Self {
        Self::String(text.into())
    }

    /// A number; NaN is refused.
    pub fn number(number: f64) -> Result<Self, DecodeError> {
        Number::new(number).map(Self::Number)
    }

    /// The type's name, as documents and errors have it.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::String(_) => "string",
            Self::Number(_) => "number",
            Self::Boolean(_) => "boolean",
            Self::Date(_) => "date",
            Self::Ref(_) => "ref",
            Self::Bytes(_) => "bytes",
            Self::Json(_) => "json",
        }
    }

    /// The order-keeping encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24);
        self.encode_to(&mut out);
        out
    }

    /// Appends the order-keeping encoding.
    pub fn encode_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::String(text) => put_terminated(out, STRING, text.as_bytes()),
            Self::Number(number) => {
                out.push(NUMBER);
                out.extend_from_slice(&number.ordered_bits().to_be_bytes());
            }
            Self::Boolean(boolean) => out.extend_from_slice(&[BOOLEAN, u8::from(*boolean)]),
            Self::Date(millis) => {
                out.push(DATE);
                out.extend_from_slice(&(millis.cast_unsigned() ^ 1 << 63).to_be_bytes());
            }
            Self::Ref(entity) => put_terminated(out, REF, entity.as_str().as_bytes()),
            Self::Bytes(bytes) => put_terminated(out, BYTES, bytes),
            Self::Json(text) => put_terminated(out, JSON, text.as_bytes()),
        }
    }

    /// Reads one value from the front.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.byte("a value")? {
            STRING => Self::String(text(&terminated(reader)?)?.into()),
            NUMBER => Self::Number(Number::from_ordered_bits(u64::from_be_bytes(
                reader.array("a number")?,
            ))?),
            BOOLEAN => match reader.byte("a boolean")? {
                0 => Self::Boolean(false),
                1 => Self::Boolean(true),
                _ => return Err(DecodeError::invalid("a boolean", "neither 0 nor 1")),
            },
            DATE => Self::Date((u64::from_be_bytes(reader.array("a date")?) ^ 1 << 63).cast_signed()),
            REF => Self::Ref(EntityId::new(text(&terminated(reader)?)?)?),
            BYTES => Self::Bytes((&*terminated(reader)?).into()),
            JSON => Self::Json(text(&terminated(reader)?)?.into()),
            version => {
                return Err(DecodeError::UnknownVersion {
                    field: "a value's type",
                    version,
                });
            }
        })
    }

    /// Reads a value that is all of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let value = Self::read(&mut reader)?;
        reader.finish("a value")?;
        Ok(value)
    }

    /// As plain JSON, for people: a date as RFC 3339 text, a ref as the id, bytes in hex, what is beyond all numbers as
    /// `infinity`.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::String(text) => serde_json::Value::from(&**text),
            Self::Number(number) if number.get().is_finite() => json_number(number.get()),
            Self::Number(number) => if number.get() > 0.0 { "infinity" } else { "-infinity" }.into(),
            Self::Boolean(boolean) => (*boolean).into(),
            Self::Date(millis) => date_to_text(*millis).map_or_else(|| (*millis).into(), Into::into),
            Self::Ref(entity) => entity.as_str().into(),
            Self::Bytes(bytes) => bytes_to_hex(bytes).into(),
            Self::Json(text) => serde_json::from_str(text).unwrap_or_else(|_| serde_json::Value::from(&**text)),
        }
    }

    /// As JSON that loses nothing: what JSON has no word for is an object of one key, `$date`, `$ref`, …
    pub fn to_typed_json(&self) -> serde_json::Value {
        let tagged = |tag: &str, value: serde_json::Value| serde_json::json!({ tag: value });
        match self {
            Self::String(text) => serde_json::Value::from(&**text),
            Self::Boolean(boolean) => (*boolean).into(),
            Self::Number(number) if number.get().is_finite() => json_number(number.get()),
            Self::Number(number) => tagged("$number", if number.get() > 0.0 { "inf" } else { "-inf" }.into()),
            Self::Date(millis) => tagged("$date", (*millis).into()),
            Self::Ref(entity) => tagged("$ref", entity.as_str().into()),
            Self::Bytes(bytes) => tagged("$bytes", bytes_to_hex(bytes).into()),
            Self::Json(text) => tagged("$json", serde_json::Value::from(&**text)),
        }
    }

    /// Reads what [`Self::to_typed_json`] wrote. Other objects and arrays become json values.
    pub fn from_typed_json(json: &serde_json::Value) -> Result<Self, DecodeError> {
        match json {
            serde_json::Value::String(text) => Ok(Self::string(text)),
            serde_json::Value::Bool(boolean) => Ok(Self::Boolean(*boolean)),
            serde_json::Value::Number(number) => from_json_number(number),
            serde_json::Value::Null => Err(DecodeError::invalid("a value", "null: unset the field instead")),
            serde_json::Value::Object(object) if object.len() == 1 => {
                let (tag, inner) = object.iter().next().expect("one entry");
                let unknown = DecodeError::invalid(
                    "a value",
                    "a single key that starts with $ is a tag: $number, $date, $ref, $bytes, $json (which takes any JSON, as text)",
                );
                let plain = || {
                    if tag.starts_with('$') {
                        return Err(unknown);
                    }
                    Ok(Self::Json(json.to_string().into()))
                };
                Self::from_tagged(tag, inner).unwrap_or_else(plain)
            }
            _ => Ok(Self::Json(json.to_string().into())),
        }
    }

    fn from_tagged(tag: &str, inner: &serde_json::Value) -> Option<Result<Self, DecodeError>> {
        let as_text = inner
            .as_str()
            .ok_or(DecodeError::invalid("a value", "the tagged value is not text"));
        Some(match tag {
            "$number" => as_text.and_then(|text| {
                let number = number_from_text(text).ok_or(DecodeError::invalid("a number", "not a number"))?;
                Self::number(number)
            }),
            "$date" => match (inner.as_i64(), inner.as_str().and_then(date_from_text)) {
                (Some(millis), _) | (None, Some(millis)) => Ok(Self::Date(millis)),
                (None, None) => Err(DecodeError::invalid("a date", "neither milliseconds nor RFC 3339")),
            },
            "$ref" => as_text.and_then(|text| Ok(Self::Ref(EntityId::new(text)?))),
            "$bytes" => as_text.and_then(|text| bytes_from_hex(text).map(|bytes| Self::Bytes(bytes.into()))),
            "$json" => as_text.map(|text| Self::Json(text.into())),
            _ => return None,
        })
    }
}

/// A number in text. Where not all forms are read, only those that JSON has no number for.
fn number_from_text(text: &str) -> Option<f64> {
    match text {
        "inf" => Some(f64::INFINITY),
        "-inf" => Some(f64::NEG_INFINITY),
        _ if READS_ALL_FORMS => text.parse().ok(),
        _ => None,
    }
}

/// RFC 3339 text of milliseconds since 1970; `None` outside the years 0 to 9999.
pub fn date_to_text(millis: i64) -> Option<String> {
    let nanos = i128::from(millis) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()?
        .format(&Rfc3339)
        .ok()
}

/// Milliseconds since 1970 of an RFC 3339 text.
pub fn date_from_text(text: &str) -> Option<i64> {
    if !READS_ALL_FORMS {
        return None;
    }
    let date = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(date.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
}

/// A whole number that would be rounded is no number of ours: ids of 64 bits would come back as others.
fn from_json_number(json: &serde_json::Number) -> Result<Value, DecodeError> {
    let number = json.as_f64().unwrap_or(f64::NAN);
    #[expect(clippy::cast_possible_truncation, reason = "what does not fit is not equal")]
    let back = number as i128;
    match json.as_i128() {
        Some(whole) if whole != back => Err(DecodeError::invalid(
            "a number",
            "it would be rounded: write it as a string",
        )),
        _ => Value::number(number),
    }
}

fn json_number(number: f64) -> serde_json::Value {
    #[expect(clippy::cast_possible_truncation, reason = "checked: whole and within 53 bits")]
    let whole = number as i64;
    #[expect(
        clippy::cast_precision_loss,
        clippy::float_cmp,
        reason = "exact equality with the number it came from"
    )]
    let exact = whole as f64 == number && whole.unsigned_abs() < 1 << 53;
    if exact { whole.into() } else { number.into() }
}

fn bytes_to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn bytes_from_hex(text: &str) -> Result<Vec<u8>, DecodeError> {
    let error = || DecodeError::invalid("bytes", "not hexadecimal");
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return Err(error());
    }
    let pairs = text.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| {
            std::str::from_utf8(pair)
                .ok()
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .ok_or_else(error)
        })
        .collect()
}

/// A zero byte inside is followed by 0xff, the end is two zero bytes (as in FoundationDB's tuple layer).
fn put_terminated(out: &mut Vec<u8>, code: u8, bytes: &[u8]) {
    out.push(code);
    for &byte in bytes {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// Borrowed unless there is a zero byte inside.
fn terminated<'b>(reader: &mut Reader<'b>) -> Result<Cow<'b, [u8]>, DecodeError> {
    let mut bytes = Cow::Borrowed(reader.until("a value", 0)?);
    loop {
        if bytes.len() > VALUE_BYTES_MAX {
            return Err(DecodeError::OverLimit {
                field: "a value",
                size: bytes.len(),
                max: VALUE_BYTES_MAX,
            });
        }
        match reader.byte("a value")? {
            0 => return Ok(bytes),
            0xff => {
                let rest = reader.until("a value", 0)?;
                let bytes = bytes.to_mut();
                bytes.push(0);
                bytes.extend_from_slice(rest);
            }
            _ => return Err(DecodeError::invalid("a value", "a zero byte that is not escaped")),
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::invalid("a value", "not UTF-8"))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<String>().prop_map(|text| Value::string(&text)),
            any::<f64>().prop_filter_map("NaN", |number| Value::number(number).ok()),
            (-9_i32..9).prop_map(|number| Value::number(number.into()).unwrap()),
            any::<bool>().prop_map(Value::Boolean),
            any::<i64>().prop_map(Value::Date),
            "[a-c]{1,3}".prop_map(|text| Value::Ref(EntityId::new(&text).unwrap())),
            any::<Vec<u8>>().prop_map(|bytes| Value::Bytes(bytes.into())),
            "[\\[\\]{}a\\x00]{0,4}".prop_map(|text| Value::Json(text.into())),
        ]
    }

    #[test]
    fn a_whole_number_in_json_is_kept_or_refused() {
        let read = |text: &str| Value::from_typed_json(&serde_json::from_str(text).unwrap());
        for (text, number) in [
            ("9007199254740992", 9_007_199_254_740_992.0),
            ("-3", -3.0),
            ("1e20", 1e20),
        ] {
            assert_eq!(read(text), Value::number(number), "{text}");
        }
        for text in ["9007199254740993", "-9007199254740993", "18446744073709551615"] {
            assert!(read(text).unwrap_err().to_string().contains("as a string"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_encoding_keeps_order_and_reads_back(a in any_value(), b in any_value()) {
            prop_assert_eq!(a.encode().cmp(&b.encode()), a.cmp(&b));
            prop_assert_eq!(Value::decode(&a.encode()), Ok(a.clone()));
            prop_assert!(a == b || !b.encode().starts_with(&a.encode()));
        }

        #[test]
        fn typed_json_loses_nothing(value in any_value()) {
            // As text: not every parser reads a number as it was written.
            let text = value.to_typed_json().to_string();
            let read = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(Value::from_typed_json(&read), Ok(value), "{}", text);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Ok(value) = Value::decode(&bytes) {
                prop_assert_eq!(value.encode(), bytes);
            }
        }
    }

    #[test]
    fn a_tag_that_is_none_is_refused() {
        let read = |json: &str| Value::from_typed_json(&serde_json::from_str(json).unwrap());
        for json in [r#"{"$dte": 0}"#, r#"{"$dat": "2026-01-01"}"#, r#"{"$": 1}"#] {
            assert!(read(json).unwrap_err().to_string().contains("$json"), "{json}");
        }
        for json in [r#"{"a": 0}"#, r#"{"$a": 1, "b": 2}"#, "{}", "[]"] {
            assert!(matches!(read(json), Ok(Value::Json(_))), "{json}");
        }
    }

    #[test]
    fn a_date_is_rfc_3339_in_json() {
        let date = Value::Date(1_726_270_936_000);
        assert_eq!(date.to_json(), "2024-09-13T23:42:16Z");
        assert_eq!(date_from_text("2024-09-13T23:42:16Z"), Some(1_726_270_936_000));
    }
}
