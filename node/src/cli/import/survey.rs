//! A first look through the whole file: how many rows, which fields, what each CSV column holds, and a hash by which
//! an interrupted import knows the file again.
//!
//! A CSV column is a number column when every cell that is not empty is a number as JSON writes it (`007` and `+1` are
//! not, nor are whole numbers that would be rounded, as ids of 64 bits would), a boolean column when all are `true` or `false`, a date column when all are RFC 3339 times; else it holds
//! strings. Milliseconds become dates only with `--date`.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use halcyon_core::value::date_from_text;
use xxhash_rust::xxh3::Xxh3;

use super::rows::{self, Cell, FileError, Format};
use crate::cli::value_args::parse_number;

/// What a CSV column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// Nothing so far.
    Empty,
    /// Numbers.
    Number,
    /// `true` and `false`.
    Boolean,
    /// RFC 3339 times.
    Date,
    /// Anything else.
    String,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Rows, bad ones included.
    pub rows: u64,
    /// Fields by name; for JSON all are [`ColumnType::String`], because its values have their own types.
    pub fields: BTreeMap<String, ColumnType>,
    /// Of the file's bytes.
    pub hash: u64,
}

/// Looks through the file.
pub fn survey(path: &Path, format: Format) -> Result<Survey, FileError> {
    let mut rows = rows::open(path, format)?;
    let mut fields: BTreeMap<String, ColumnType> = rows
        .columns()
        .iter()
        .map(|name| (name.clone(), ColumnType::Empty))
        .collect();
    let mut count = 0;
    for row in rows.by_ref() {
        count += 1;
        let Ok(row) = row else { continue };
        for (name, cell) in row.fields {
            let found = match &cell {
                Cell::Text(text) => classify(text),
                Cell::Json(_) => ColumnType::String,
            };
            match fields.get_mut(&name) {
                Some(known) => *known = join(*known, found),
                None => {
                    fields.insert(name, found);
                }
            }
        }
    }
    Ok(Survey {
        rows: count,
        fields,
        hash: hash_file(path)?,
    })
}

fn classify(text: &str) -> ColumnType {
    match text {
        "" => ColumnType::Empty,
        "true" | "false" => ColumnType::Boolean,
        _ if parse_number(text).is_some() => ColumnType::Number,
        _ if text.as_bytes()[0].is_ascii_digit() && date_from_text(text).is_some() => ColumnType::Date,
        _ => ColumnType::String,
    }
}

fn join(known: ColumnType, found: ColumnType) -> ColumnType {
    match (known, found) {
        (known, ColumnType::Empty) => known,
        (ColumnType::Empty, found) => found,
        (known, found) if known == found => known,
        _ => ColumnType::String,
    }
}

fn hash_file(path: &Path) -> Result<u64, FileError> {
    let io = |error| FileError::Io {
        path: path.display().to_string(),
        error,
    };
    let mut file = File::open(path).map_err(io)?;
    let mut hasher = Xxh3::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let size = file.read(&mut buffer).map_err(io)?;
        if size == 0 {
            return Ok(hasher.digest());
        }
        hasher.update(&buffer[..size]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_has_the_type_that_fits_all_its_cells() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        std::fs::write(
            &path,
            "n,b,d,s,zip,mixed,none\n1,true,2024-09-13T23:42:16Z,x,007,1,\n-2.5,,,\"\",1,x,\n",
        )
        .unwrap();
        let survey = survey(&path, Format::Csv).unwrap();
        let types: Vec<_> = survey
            .fields
            .iter()
            .map(|(name, kind)| (name.as_str(), *kind))
            .collect();
        assert_eq!(
            types,
            [
                ("b", ColumnType::Boolean),
                ("d", ColumnType::Date),
                ("mixed", ColumnType::String),
                ("n", ColumnType::Number),
                ("none", ColumnType::Empty),
                ("s", ColumnType::String),
                ("zip", ColumnType::String),
            ]
        );
        assert_eq!(survey.rows, 2);
    }
}
