//! Deltas of tables' answers as bytes, for a consumer that does not answer the query itself.
//!
//! A change is a tag and its places; a place is its parts, each with its direction. A row stands in its place already, so
//! of one that comes only the number of its columns is there. What is read is checked: what is no delta is an error.

use std::cmp::Reverse;

use super::window::{AnswerDelta, Change, Item, Key, Part};
use crate::{
    codec::{DecodeError, Reader, put_varint},
    query::answer::Datum,
    value::Value,
};

const REMOVED: u8 = 0;
const ADDED: u8 = 1;
const CHANGED: u8 = 2;

const UP: u8 = 0;
const DOWN: u8 = 1;

const NULL: u8 = 0;
const VALUE: u8 = 1;
const LIST: u8 = 2;

impl AnswerDelta {
    /// Each change as bytes. Those of one delta may be cut into parts anywhere between two changes.
    ///
    /// # Panics
    ///
    /// If it is of objects: these are not sent.
    pub fn encode(&self) -> impl Iterator<Item = Vec<u8>> {
        self.0.iter().map(|change| {
            let mut out = Vec::new();
            match change {
                Change::Removed(key) => {
                    out.push(REMOVED);
                    put_key(&mut out, key);
                }
                Change::Added(key, item) => {
                    out.push(ADDED);
                    put_key(&mut out, key);
                    put_item(&mut out, item);
                }
                Change::Changed { from, to, item } => {
                    out.push(CHANGED);
                    put_key(&mut out, from);
                    put_key(&mut out, to);
                    put_item(&mut out, item);
                }
            }
            out
        })
    }

    /// Reads changes that stand one behind the other.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let mut changes = Vec::new();
        while reader.remaining() > 0 {
            changes.push(read_change(&mut reader)?);
        }
        Ok(Self(changes))
    }
}

fn put_key(out: &mut Vec<u8>, key: &Key) {
    put_count(out, key.parts().len());
    for part in key.parts() {
        let (direction, datum) = match part {
            Part::Up(datum) => (UP, datum),
            Part::Down(Reverse(datum)) => (DOWN, datum),
        };
        out.push(direction);
        put_datum(out, datum);
    }
}

fn put_item(out: &mut Vec<u8>, item: &Item) {
    match item {
        Item::Row(row) => put_count(out, row.len()),
        Item::Object(_) => unreachable!("the answers that are sent are tables"),
    }
}

fn put_datum(out: &mut Vec<u8>, datum: &Datum) {
    match datum {
        Datum::Null => out.push(NULL),
        Datum::Value(value) => {
            out.push(VALUE);
            value.encode_to(out);
        }
        Datum::List(values) => {
            out.push(LIST);
            put_count(out, values.len());
            for value in values {
                value.encode_to(out);
            }
        }
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    put_varint(out, count as u64);
}

fn read_change(reader: &mut Reader<'_>) -> Result<Change, DecodeError> {
    match reader.byte("a change of an answer")? {
        REMOVED => Ok(Change::Removed(read_key(reader)?)),
        ADDED => {
            let key = read_key(reader)?;
            let item = read_item(reader, &key)?;
            Ok(Change::Added(key, item))
        }
        CHANGED => {
            let from = read_key(reader)?;
            let to = read_key(reader)?;
            let item = read_item(reader, &to)?;
            Ok(Change::Changed { from, to, item })
        }
        _ => Err(DecodeError::invalid("a change of an answer", "no such kind")),
    }
}

fn read_key(reader: &mut Reader<'_>) -> Result<Key, DecodeError> {
    let parts = read_all(reader, "a place", |reader| {
        let direction = reader.byte("the direction of a place")?;
        let datum = read_datum(reader)?;
        match direction {
            UP => Ok(Part::Up(datum)),
            DOWN => Ok(Part::Down(Reverse(datum))),
            _ => Err(DecodeError::invalid("the direction of a place", "neither up nor down")),
        }
    })?;
    Ok(Key::from_parts(parts))
}

/// The row that stands at a place.
fn read_item(reader: &mut Reader<'_>, at: &Key) -> Result<Item, DecodeError> {
    let columns = reader.count("a row", at.parts().len())?;
    Ok(Item::Row(at.row(columns)))
}

fn read_datum(reader: &mut Reader<'_>) -> Result<Datum, DecodeError> {
    match reader.byte("a cell")? {
        NULL => Ok(Datum::Null),
        VALUE => Ok(Datum::Value(Value::read(reader)?)),
        LIST => Ok(Datum::List(read_all(reader, "a list", Value::read)?)),
        _ => Err(DecodeError::invalid("a cell", "no such kind")),
    }
}

/// So many, each of a byte at the least.
fn read_all<'a, T>(
    reader: &mut Reader<'a>,
    field: &'static str,
    mut read: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = reader.count(field, reader.remaining())?;
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(read(reader)?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::query::{from_text, live::Mirror};

    #[track_caller]
    fn refused(bytes: &[u8], why: &str) {
        let error = AnswerDelta::decode(bytes).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn what_is_no_delta_is_an_error() {
        refused(&[9], "no such kind");
        refused(&[REMOVED], "a place");
        refused(&[REMOVED, 1, 7, NULL], "neither up nor down");
        refused(&[REMOVED, 1, UP, 9], "a cell");
        refused(&[REMOVED, 0xff, 0xff, 0x03], "a place");
        refused(&[ADDED, 1, UP, NULL], "a row");
        refused(&[ADDED, 1, UP, NULL, 2], "a row");
        refused(&[CHANGED, 1, UP, NULL], "a place");
    }

    #[test]
    fn rows_of_another_shape_are_not_taken() {
        let (key, row) = (Key::from_parts(vec![Part::Up(Datum::Null)]), vec![Datum::Null]);
        let delta = AnswerDelta(vec![Change::Added(key, Item::Row(row))]);
        for (query, takes) in [
            ("find ?t where ?p post/title ?t", true),
            ("find ?p, ?t where ?p post/title ?t", false),
            ("post { title }", false),
        ] {
            let mirror = Mirror::empty(&from_text(query).unwrap());
            assert_eq!(mirror.takes(&delta), takes, "{query}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(delta) = AnswerDelta::decode(&bytes) {
                let again: Vec<u8> = delta.encode().flatten().collect();
                prop_assert_eq!(AnswerDelta::decode(&again).unwrap(), delta);
            }
        }
    }
}
