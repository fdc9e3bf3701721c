//! A file of rows, one by one: CSV, a JSON array of objects, or JSON lines. Files of any size; only one row is in memory.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use thiserror::Error;

use super::{json_split::JsonSplit, quotes::QuoteWatch};

/// Bytes of one row. Far above what a change set may hold, so that a broken quote ends in an error and not in all of
/// the memory.
pub const ROW_BYTES_MAX: usize = 16 << 20;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Comma separated, with a line of names first.
    Csv,
    /// One array of objects.
    Json,
    /// One object a line.
    Jsonl,
}

/// One field's content.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// From CSV: text whose type its column says.
    Text(String),
    /// From JSON: typed already.
    Json(serde_json::Value),
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The line it starts at, from 1.
    pub line: u64,
    /// Fields in the file's order.
    pub fields: Vec<(String, Cell)>,
}

/// A row that cannot be read. The next may be fine.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {reason}")]
pub struct BadRow {
    /// Where it starts, from 1.
    pub line: u64,
    /// What is wrong.
    pub reason: String,
}

impl BadRow {
    /// A reason at a line.
    pub fn new(line: u64, reason: impl std::fmt::Display) -> Self {
        let reason = reason.to_string();
        Self { line, reason }
    }
}

/// Why a file cannot be read at all.
#[derive(Debug, Error)]
pub enum FileError {
    /// The system said no.
    #[error("cannot read {path}: {error}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// There is nothing in it.
    #[error("{path} is empty: there is nothing to import")]
    Empty {
        /// The file.
        path: String,
    },
    /// Neither its name nor its first character says what it is.
    #[error("cannot tell what {path} is from its name")]
    UnknownFormat {
        /// The file.
        path: String,
    },
    /// The first line of a CSV file does not name its columns.
    #[error("{path}: {reason}")]
    Header {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads rows.
#[derive(Debug)]
pub enum Rows {
    /// See [`Format::Csv`].
    Csv(Box<CsvRows>),
    /// See [`Format::Json`].
    Array(JsonSplit<BufReader<File>>),
    /// See [`Format::Jsonl`].
    Lines(JsonLines),
}

/// What a file is, by its name; where that says nothing, by its first character if that one is clear.
pub fn detect(path: &Path) -> Result<Format, FileError> {
    let extension = path
        .extension()
        .map(|extension| extension.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("csv") => return Ok(Format::Csv),
        Some("jsonl" | "ndjson") => return Ok(Format::Jsonl),
        _ => {}
    }
    let io = |error| io_error(path, error);
    let named = || path.display().to_string();
    let mut start = Vec::new();
    let file = File::open(path).map_err(io)?;
    file.take(4096).read_to_end(&mut start).map_err(io)?;
    Ok(match start.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => Format::Json,
        Some(b'{') => Format::Jsonl,
        None => return Err(FileError::Empty { path: named() }),
        Some(_) => return Err(FileError::UnknownFormat { path: named() }),
    })
}

/// Opens a file's rows.
pub fn open(path: &Path, format: Format) -> Result<Rows, FileError> {
    let io = |error| io_error(path, error);
    let mut file = File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.len() == 0 {
        let path = path.display().to_string();
        return Err(FileError::Empty { path });
    }
    skip_byte_order_mark(&mut file).map_err(io)?;
    Ok(match format {
        Format::Csv => Rows::Csv(Box::new(CsvRows::new(path, file)?)),
        Format::Json => Rows::Array(JsonSplit::new(BufReader::new(file))),
        Format::Jsonl => Rows::Lines(JsonLines {
            input: BufReader::new(file),
            line: 0,
            ended: false,
        }),
    })
}

impl Rows {
    /// The columns that the file names itself; none for JSON.
    pub fn columns(&self) -> &[String] {
        match self {
            Self::Csv(rows) => &rows.names,
            Self::Array(_) | Self::Lines(_) => &[],
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Row, BadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Csv(rows) => rows.next(),
            Self::Array(split) => {
                let element = split.next()?;
                Some(element.and_then(|(line, bytes)| json_row(line, &bytes)))
            }
            Self::Lines(lines) => lines.next(),
        }
    }
}

/// The rows of a CSV file.
#[derive(Debug)]
pub struct CsvRows {
    names: Vec<String>,
    reader: csv::Reader<QuoteWatch<File>>,
    ended: bool,
}

impl CsvRows {
    fn new(path: &Path, file: File) -> Result<Self, FileError> {
        let header_error = |reason: String| FileError::Header {
            path: path.display().to_string(),
            reason,
        };
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .from_reader(QuoteWatch::new(file));
        let header = reader
            .headers()
            .map_err(|error| header_error(format!("the first line cannot be read as CSV: {error}")))?;
        let names: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
        if reader.get_ref().unclosed().is_some() {
            return Err(header_error("a quote in the first line is never closed".into()));
        }
        let unique: BTreeSet<&String> = names.iter().collect();
        if unique.len() < names.len() {
            return Err(header_error("two columns have the same name".into()));
        }
        if names.iter().any(String::is_empty) {
            return Err(header_error(
                "a column has no name; the first line of a CSV file names its columns".into(),
            ));
        }
        Ok(Self {
            names,
            reader,
            ended: false,
        })
    }

    fn next(&mut self) -> Option<Result<Row, BadRow>> {
        if self.ended {
            return None;
        }
        let mut record = csv::StringRecord::new();
        let before = self.reader.position().line();
        match self.reader.read_record(&mut record) {
            Ok(false) => None,
            Ok(true) => {
                let line = record.position().map_or(before, csv::Position::line);
                // Only the last row can end so, and all before it was read.
                if let Some(opened) = self.reader.get_ref().unclosed() {
                    self.ended = true;
                    let reason = format!("a quote that opens in line {opened} is never closed");
                    return Some(Err(BadRow::new(line, reason)));
                }
                Some(self.row(line, &record))
            }
            Err(error) => {
                self.ended = matches!(error.kind(), csv::ErrorKind::Io(_));
                let line = error.position().map_or(before, csv::Position::line);
                Some(Err(BadRow::new(line, csv_reason(&error))))
            }
        }
    }

    fn row(&self, line: u64, record: &csv::StringRecord) -> Result<Row, BadRow> {
        if record.len() != self.names.len() {
            let reason = format!(
                "{} fields where the first line names {}; is a quote or a comma missing?",
                record.len(),
                self.names.len()
            );
            return Err(BadRow::new(line, reason));
        }
        let cells = record.iter().map(|text| Cell::Text(text.to_owned()));
        Ok(Row {
            line,
            fields: self.names.iter().cloned().zip(cells).collect(),
        })
    }
}

fn csv_reason(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "not UTF-8; convert the file first, e.g. with iconv".into(),
        _ => error.to_string(),
    }
}

/// One JSON object a line.
#[derive(Debug)]
pub struct JsonLines {
    input: BufReader<File>,
    line: u64,
    ended: bool,
}

impl JsonLines {
    fn next(&mut self) -> Option<Result<Row, BadRow>> {
        while !self.ended {
            self.line += 1;
            let mut bytes = Vec::new();
            let limit = ROW_BYTES_MAX as u64 + 1;
            match (&mut self.input).take(limit).read_until(b'\n', &mut bytes) {
                Ok(0) => self.ended = true,
                Ok(size) if size > ROW_BYTES_MAX => {
                    self.ended = true;
                    let reason = format!("longer than {ROW_BYTES_MAX} bytes; JSON lines have one object a line");
                    return Some(Err(BadRow::new(self.line, reason)));
                }
                Ok(_) if bytes.trim_ascii().is_empty() => {}
                Ok(_) => return Some(json_row(self.line, bytes.trim_ascii())),
                Err(error) => {
                    self.ended = true;
                    return Some(Err(BadRow::new(self.line, error)));
                }
            }
        }
        None
    }
}

fn json_row(line: u64, bytes: &[u8]) -> Result<Row, BadRow> {
    match serde_json::from_slice(bytes) {
        Ok(serde_json::Value::Object(object)) => Ok(Row {
            line,
            fields: object
                .into_iter()
                .map(|(name, value)| (name, Cell::Json(value)))
                .collect(),
        }),
        Ok(_) => Err(BadRow::new(line, "not an object: a row is {\"field\": value, ...}")),
        Err(error) => Err(BadRow::new(line, format!("not JSON: {error}"))),
    }
}

/// Some programs put the bytes EF BB BF before UTF-8 text.
fn skip_byte_order_mark(file: &mut File) -> io::Result<()> {
    let mut start = Vec::new();
    Read::by_ref(file).take(3).read_to_end(&mut start)?;
    let skip = if start == [0xef, 0xbb, 0xbf] { 3 } else { 0 };
    file.seek(SeekFrom::Start(skip)).map(|_| ())
}

fn io_error(path: &Path, error: io::Error) -> FileError {
    FileError::Io {
        path: path.display().to_string(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(name: &str, content: &str) -> Vec<Result<Row, BadRow>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        open(&path, detect(&path).unwrap()).unwrap().collect()
    }

    fn text(row: &Row, at: usize) -> &str {
        match &row.fields[at].1 {
            Cell::Text(text) => text,
            Cell::Json(_) => panic!("json"),
        }
    }

    #[test]
    fn csv_rows_keep_line_breaks_quotes_and_emoji() {
        let rows = rows("a.csv", "\u{feff}id,body\n1,\"a \"\"b\"\"\n\n\u{1f600}\"\n2,\n");
        let first = rows[0].as_ref().unwrap();
        assert_eq!(
            (first.line, text(first, 0), text(first, 1)),
            (2, "1", "a \"b\"\n\n\u{1f600}")
        );
        let second = rows[1].as_ref().unwrap();
        assert_eq!((second.line, text(second, 1)), (5, ""));
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn a_quote_that_is_never_closed_is_a_bad_row() {
        let rows = rows("a.csv", "id,body\n1,x\n2,\"open\n3,y\n");
        assert!(rows[0].is_ok());
        let bad = rows[1].as_ref().unwrap_err();
        assert!(bad.line == 3 && bad.reason.contains("line 3 is never closed"), "{bad}");
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn a_file_that_says_nothing_about_itself_is_not_guessed() {
        let found = |name: &str, content: &str| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            detect(&path).and_then(|format| open(&path, format).map(|_| format))
        };
        for (name, content, format) in [
            ("a.csv", "id\n", Format::Csv),
            ("a.CSV", "id\n", Format::Csv),
            ("a.ndjson", "{}", Format::Jsonl),
            ("a.json", " [1]", Format::Json),
            ("a.json", "{}", Format::Jsonl),
            ("a.txt", "{}", Format::Jsonl),
        ] {
            assert_eq!(found(name, content).unwrap(), format, "{name}");
        }
        for name in ["a.tsv", "a.xlsx", "a.json", "a"] {
            let found = found(name, "id,title\n");
            assert!(
                matches!(found, Err(FileError::UnknownFormat { .. })),
                "{name} {found:?}"
            );
        }
        for name in ["a.csv", "a.jsonl", "a"] {
            let found = found(name, "");
            assert!(matches!(found, Err(FileError::Empty { .. })), "{name} {found:?}");
        }
    }

    #[test]
    fn a_short_csv_row_is_bad_and_the_next_one_is_read() {
        let rows = rows("a.csv", "id,body\n1\n2,x\n");
        assert_eq!(rows[0].as_ref().unwrap_err().line, 2);
        assert!(rows[1].is_ok());
    }

    #[test]
    fn json_lines_and_arrays_give_the_same_rows() {
        let lines = rows("a.jsonl", "{\"a\":1}\n\n{\"a\":\"]\\\"\"}\n7\n{\n");
        let array = rows("a.json", "[ {\"a\":1},\n\n{\"a\":\"]\\\"\"}\n,7,\n{]]");
        let fields = |rows: &[Result<Row, BadRow>]| -> Vec<_> {
            rows.iter()
                .filter_map(|row| row.as_ref().ok().map(|row| row.fields.clone()))
                .collect()
        };
        assert_eq!(fields(&lines), fields(&array));
        assert_eq!(fields(&lines).len(), 2);
        assert_eq!((lines.len(), array.len()), (4, 4));
        assert_eq!(array[1].as_ref().unwrap().line, 3);
        assert_eq!(array[2].as_ref().unwrap_err().line, 4);
    }
}
