//! Constants and cursors as text.

use std::fmt::{Display, Formatter, Result, Write};

use super::{lexer::is_word, print::joined};
use crate::{
    query::{answer::Datum, ast::Literal, logic::Cursor},
    value::{Value, date_from_text, date_to_text},
};

/// The limit and the cursor.
pub(super) fn page(limit: Option<u32>, after: Option<&Cursor>, f: &mut Formatter<'_>) -> Result {
    if let Some(limit) = limit {
        write!(f, " limit {limit}")?;
    }
    if let Some(after) = after {
        write!(f, " after {after}")?;
    }
    Ok(())
}

/// As it stands behind `after`.
impl Display for Cursor {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_char('(')?;
        joined(&self.0, ", ", datum, f)?;
        f.write_char(')')
    }
}

fn datum(datum: &Datum, f: &mut Formatter<'_>) -> Result {
    match datum {
        Datum::Null => f.write_str("null"),
        Datum::Value(constant) => value(constant, f),
        Datum::List(values) => {
            f.write_char('[')?;
            joined(values, ", ", value, f)?;
            f.write_char(']')
        }
    }
}

/// A constant of the syntax.
pub(super) fn literal(constant: &Literal, f: &mut Formatter<'_>) -> Result {
    value(&constant.value, f)
}

fn value(constant: &Value, f: &mut Formatter<'_>) -> Result {
    match constant {
        Value::String(text) => quoted(text, f),
        Value::Number(number) if number.get().is_infinite() => {
            f.write_str(if number.get() > 0.0 { "infinity" } else { "-infinity" })
        }
        Value::Number(number) => {
            let text = format!("{:?}", number.get());
            f.write_str(text.strip_suffix(".0").unwrap_or(&text))
        }
        Value::Boolean(boolean) => write!(f, "{boolean}"),
        Value::Date(millis) => match date_to_text(*millis).filter(|text| date_from_text(text) == Some(*millis)) {
            Some(text) if text.starts_with(|c: char| c.is_ascii_digit()) => f.write_str(&text),
            _ => write!(f, "date({millis})"),
        },
        Value::Ref(entity) => {
            f.write_char('@')?;
            if entity.as_str().chars().all(is_word) {
                f.write_str(entity.as_str())
            } else {
                quoted(entity.as_str(), f)
            }
        }
        Value::Bytes(bytes) => {
            f.write_str("0x")?;
            bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
        }
        Value::Json(text) => {
            f.write_str("json")?;
            quoted(text, f)
        }
    }
}

/// A text in double quotes.
pub(super) fn quoted(text: &str, f: &mut Formatter<'_>) -> Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            c if c.is_control() => write!(f, "\\u{{{:x}}}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}
