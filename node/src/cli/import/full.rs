//! `halcyon import --full`: loads a full export, timestamps, tags and tombstones included.
//!
//! Facts merge: loading the same file twice, or again after an interruption, changes nothing that is there.

use std::{
    fs::File,
    io::{BufRead, BufReader, Lines},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use futures::stream;
use halcyon_core::{fact::Fact, limits::BATCH_BYTES_MAX};
use halcyon_proto::{convert, v1};
use prost::bytes::Bytes;
use serde_json::{Map, Value as Json, json};

use crate::cli::{
    Globals, connect, export,
    fact_json::{check_keys, from_json},
    failure::{Failure, file_failure},
    output::{self, Progress},
    value_args::excerpt,
};

/// Bytes of facts in one message of the stream.
const MESSAGE_BYTES: usize = BATCH_BYTES_MAX / 2;

/// Bytes of a fingerprint.
const FINGERPRINT_BYTES: usize = 16;

/// What the last line of a full export says.
#[derive(Debug, Clone)]
struct Trailer {
    vector: Bytes,
    fingerprint: String,
    facts: u64,
}

/// What a line of a full export is.
enum Line {
    First,
    Fact(Box<Fact>),
    Last(Trailer),
}

/// A line that is not as it must be.
#[derive(Debug, PartialEq, Eq)]
struct Wrong {
    line: u64,
    reason: String,
}

/// Loads the file.
pub async fn run(path: &Path, tenant: &str, globals: &Globals) -> Result<(), Failure> {
    let trailer = check(path)?;
    let admin = connect::admin(globals).await?;
    let progress = Progress::new("loading", "facts", trailer.facts);
    let broken = Broken::default();
    // Made anew for each node that is asked: the first may not hold the tenant.
    let messages = || stream::iter(Messages::new(path, tenant, &trailer, &broken));
    let answer = admin.import(messages).await;
    progress.done();
    if let Some(wrong) = broken.take() {
        return Err(wrong_failure(path, &wrong));
    }
    let answer = answer.map_err(connect::admin_failure)?;
    let fingerprint = hex::encode(&answer.fingerprint);
    let same = fingerprint == trailer.fingerprint;
    if globals.json {
        output::json(&json!({ "facts": answer.facts, "fingerprint": fingerprint, "same_as_export": same }));
    } else {
        output::line(format!(
            "{} loaded, fingerprint {fingerprint}",
            output::plural(answer.facts, "fact", "facts")
        ));
    }
    if same {
        return Ok(());
    }
    Err(Failure::failed(format_args!(
        "the fingerprint differs from the export's, {}",
        trailer.fingerprint
    ))
    .advise("the tenant held something else before; load into an empty one to get an equal copy"))
}

/// Reads all of the file before anything is sent.
fn check(path: &Path) -> Result<Trailer, Failure> {
    let lines = open(path)?.lines();
    check_lines(lines.zip(1..).map(|(text, line)| {
        let reason = |error: std::io::Error| error.to_string();
        (line, text.map_err(reason))
    }))
    .map_err(|wrong| wrong_failure(path, &wrong))
}

fn check_lines(lines: impl Iterator<Item = (u64, Result<String, String>)>) -> Result<Trailer, Wrong> {
    let (mut facts, mut trailer, mut end) = (0, None, 0);
    for (line, text) in lines {
        let wrong = |reason: String| Wrong { line, reason };
        if trailer.is_some() {
            return Err(wrong("something follows the last line of the export".into()));
        }
        match read_line(line, &text.map_err(wrong)?).map_err(wrong)? {
            Line::First => {}
            Line::Fact(_) => facts += 1,
            Line::Last(last) => trailer = Some(last),
        }
        end = line;
    }
    let wrong = |reason: String| Wrong { line: end, reason };
    match trailer {
        None if end == 0 => Err(wrong("the file is empty".into())),
        Some(trailer) if trailer.facts == facts => Ok(trailer),
        Some(trailer) => Err(wrong(format!(
            "lines are missing: it counts {} facts, and there are {facts}",
            trailer.facts
        ))),
        None => Err(wrong("the line after it is missing: the export was interrupted".into())),
    }
}

fn read_line(line: u64, text: &str) -> Result<Line, String> {
    let json: Json = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let object = json.as_object().ok_or("not an object")?;
    match object.get(export::FULL_KEY).and_then(Json::as_str) {
        Some(export::FULL_START) if line == 1 => {
            check_keys(object, &[export::FULL_KEY, "tenant"])?;
            Ok(Line::First)
        }
        _ if line == 1 => Err("not the first line of a full export".into()),
        Some(export::FULL_END) => read_trailer(object).map(Line::Last),
        _ => Ok(Line::Fact(Box::new(from_json(&json)?))),
    }
}

fn read_trailer(object: &Map<String, Json>) -> Result<Trailer, String> {
    check_keys(object, &[export::FULL_KEY, "facts", "vector", "fingerprint"])?;
    let text = |field: &str| {
        let text = object.get(field).and_then(Json::as_str);
        text.ok_or_else(|| format!("`{field}` is missing"))
    };
    let bytes = |field: &str| {
        let decoded = hex::decode(text(field)?);
        decoded.map_err(|_| format!("`{field}` is not hexadecimal"))
    };
    let vector: Bytes = bytes("vector")?.into();
    convert::vector(&vector).map_err(|error| format!("`vector`: {error}"))?;
    let fingerprint = bytes("fingerprint")?;
    if fingerprint.len() != FINGERPRINT_BYTES {
        return Err(format!(
            "`fingerprint` has {} bytes instead of {FINGERPRINT_BYTES}",
            fingerprint.len()
        ));
    }
    Ok(Trailer {
        vector,
        fingerprint: hex::encode(fingerprint),
        facts: object
            .get("facts")
            .and_then(Json::as_u64)
            .ok_or("`facts` is not a count")?,
    })
}

fn wrong_failure(path: &Path, wrong: &Wrong) -> Failure {
    let Wrong { line, reason } = wrong;
    Failure::usage(format_args!("{}:{line}: {}", path.display(), excerpt(reason)))
        .advise("is this what `halcyon export --full` wrote, from its first line to its last?")
}

fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    let file = File::open(path).map_err(|error| file_failure("read", path, &error))?;
    Ok(BufReader::new(file))
}

/// Why the messages ended early: a stream of messages cannot carry an error.
#[derive(Debug, Clone, Default)]
struct Broken(Arc<Mutex<Option<Wrong>>>);

impl Broken {
    fn take(&self) -> Option<Wrong> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, wrong: Wrong) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(wrong);
    }
}

/// The messages of an import: the tenant, facts in messages of bounded size, the vector. A commit's facts stay in one
/// message, as in the export. Where a line has become unreadable since it was checked, the vector is not sent, and what
/// was sent counts for nothing.
struct Messages {
    path: PathBuf,
    lines: Option<Lines<BufReader<File>>>,
    line: u64,
    carried: Option<Box<Fact>>,
    first: Option<v1::ImportRequest>,
    last: Option<Trailer>,
    facts: u64,
    broken: Broken,
}

impl Messages {
    fn new(path: &Path, tenant: &str, trailer: &Trailer, broken: &Broken) -> Self {
        Self {
            path: path.to_owned(),
            lines: None,
            line: 0,
            carried: None,
            first: Some(v1::ImportRequest {
                tenant: tenant.to_owned(),
                ..v1::ImportRequest::default()
            }),
            last: Some(trailer.clone()),
            facts: 0,
            broken: broken.clone(),
        }
    }

    fn batch(&mut self) -> Result<Vec<Bytes>, String> {
        let mut facts: Vec<Bytes> = Vec::new();
        let (mut bytes, mut last) = (0, None);
        while let Some(fact) = self.fact()? {
            if bytes >= MESSAGE_BYTES && last != Some(fact.tag) {
                self.carried = Some(fact);
                break;
            }
            last = Some(fact.tag);
            let encoded = fact.encode();
            bytes += encoded.len();
            facts.push(encoded.into());
        }
        Ok(facts)
    }

    /// The next fact; nothing behind the last.
    fn fact(&mut self) -> Result<Option<Box<Fact>>, String> {
        if let Some(carried) = self.carried.take() {
            return Ok(Some(carried));
        }
        if self.lines.is_none() {
            self.lines = Some(open(&self.path).map_err(|failure| failure.message)?.lines());
        }
        for text in self.lines.iter_mut().flatten() {
            self.line += 1;
            let text = text.map_err(|error| error.to_string())?;
            match read_line(self.line, &text)? {
                Line::Fact(fact) => {
                    self.facts += 1;
                    return Ok(Some(fact));
                }
                Line::First | Line::Last(_) => {}
            }
        }
        Ok(None)
    }
}

impl Iterator for Messages {
    type Item = v1::ImportRequest;

    fn next(&mut self) -> Option<v1::ImportRequest> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let counted = self.last.as_ref()?.facts;
        let facts = match self.batch() {
            Ok(facts) if facts.is_empty() && self.facts != counted => Err("the file has changed meanwhile".to_owned()),
            batch => batch,
        };
        match facts {
            Ok(facts) if facts.is_empty() => self.last.take().map(|trailer| v1::ImportRequest {
                vector: trailer.vector,
                ..v1::ImportRequest::default()
            }),
            Ok(facts) => Some(v1::ImportRequest {
                facts,
                ..v1::ImportRequest::default()
            }),
            Err(reason) => {
                self.last = None;
                self.broken.put(Wrong {
                    line: self.line,
                    reason,
                });
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = r#"{"halcyon":"full-export-1","tenant":"t"}"#;
    const FACT: &str = r#"{"fact":"tombstone","subject":"a","tag":[1,"a",1]}"#;
    const LAST: &str = r#"{"halcyon":"end","facts":1,"vector":"00","fingerprint":"00000000000000000000000000000000"}"#;

    fn checked(lines: &[&str]) -> Result<Trailer, Wrong> {
        check_lines(
            lines
                .iter()
                .map(|&text| Ok(text.to_owned()))
                .zip(1..)
                .map(|(text, line)| (line, text)),
        )
    }

    #[test]
    fn an_export_is_whole_or_refused_with_the_line_at_fault() {
        assert_eq!(checked(&[FIRST, FACT, LAST]).unwrap().facts, 1);
        let last = |from: &str, to: &str| LAST.replace(from, to);
        let register = |fields: &str| format!(r#"{{"fact":"register","subject":"a","predicate":"a/b",{fields}}}"#);
        let stamped = format!(r#""timestamp":"{}","tag":[1,"a",1]"#, "01".repeat(24));
        //     lines                                                     line, words
        check(&[FACT, LAST], 1, "first line");
        check(&[FIRST, FACT], 2, "interrupted");
        check(&[FIRST, FACT, FACT, LAST], 4, "counts 1 facts, and there are 2");
        check(&[FIRST, FACT, LAST, FACT], 4, "follows");
        check(&[FIRST, "{", LAST], 2, "not JSON");
        check(&[FIRST, &FACT.replace("tag", "tga"), LAST], 2, "`tga`");
        check(&[FIRST, &register(&stamped), LAST], 2, "`value` is missing");
        check(
            &[FIRST, FACT, &last("\"00\"", "\"zz\"")],
            3,
            "`vector` is not hexadecimal",
        );
        check(&[FIRST, FACT, &last("\"00\"", "\"ffffff\"")], 3, "`vector`");
        check(&[FIRST, FACT, &last("00000000", "00")], 3, "`fingerprint` has");
        check(&[FIRST, FACT, &last("end\"", "end\",\"more\":1")], 3, "`more`");
    }

    #[track_caller]
    fn check(lines: &[&str], line: u64, words: &str) {
        let wrong = checked(lines).unwrap_err();
        assert!(wrong.line == line && wrong.reason.contains(words), "{wrong:?}");
    }

    #[test]
    fn a_file_that_changes_under_the_import_sends_no_vector() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("full.jsonl");
        std::fs::write(&path, [FIRST, FACT, LAST].join("\n")).unwrap();
        let trailer = super::check(&path).unwrap();
        let broken = Broken::default();
        let sent: Vec<_> = Messages::new(&path, "t", &trailer, &broken).collect();
        assert_eq!((sent.len(), sent[1].facts.len(), &sent[2].vector[..]), (3, 1, &[0][..]));
        assert_eq!(broken.take(), None);
        for changed in [[FIRST, "{", LAST].join("\n"), [FIRST, LAST].join("\n"), String::new()] {
            std::fs::write(&path, changed).unwrap();
            let sent: Vec<_> = Messages::new(&path, "t", &trailer, &broken).collect();
            assert!(sent.iter().all(|message| message.vector.is_empty()));
            assert!(broken.take().is_some());
        }
    }
}
