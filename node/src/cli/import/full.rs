//! `halcyon import --full`: loads a full export, timestamps, tags and tombstones included.
//!
//! Facts merge: loading the same file twice, or again after an interruption, changes nothing that is there.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use futures::stream;
use halcyon_core::{fact::Fact, limits::BATCH_BYTES_MAX};
use halcyon_proto::v1;
use prost::bytes::Bytes;
use serde_json::json;

use crate::cli::{
    Globals, connect, export,
    fact_json::from_json,
    failure::{Failure, file_failure},
    output::{self, Progress},
};

/// Bytes of facts in one message of the stream.
const MESSAGE_BYTES: usize = BATCH_BYTES_MAX / 2;

/// What the last line of a full export says.
struct Trailer {
    vector: Vec<u8>,
    fingerprint: String,
    facts: u64,
}

/// Loads the file.
pub async fn run(path: &Path, tenant: &str, globals: &Globals) -> Result<(), Failure> {
    let trailer = check(path)?;
    let admin = connect::admin(globals).await?;
    let progress = Progress::new("loading", "facts", trailer.facts);
    let first = v1::ImportRequest {
        tenant: tenant.to_owned(),
        ..v1::ImportRequest::default()
    };
    let last = v1::ImportRequest {
        vector: trailer.vector.into(),
        ..v1::ImportRequest::default()
    };
    let batches = Batches {
        lines: open(path)?.lines(),
        carried: None,
    };
    let messages = std::iter::once(first).chain(batches).chain(std::iter::once(last));
    let answer = admin
        .import(stream::iter(messages))
        .await
        .map_err(connect::admin_failure)?;
    progress.done();
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
    let wrong = |line: usize, reason: &str| {
        Failure::usage(format_args!("{}:{line}: {reason}", path.display()))
            .advise("is this what `halcyon export --full` wrote, from its first line to its last?")
    };
    let (mut facts, mut trailer) = (0, None);
    for (text, line) in open(path)?.lines().zip(1..) {
        let text = text.map_err(|error| file_failure("read", path, &error))?;
        let json: serde_json::Value = serde_json::from_str(&text).map_err(|error| wrong(line, &error.to_string()))?;
        if trailer.is_some() {
            return Err(wrong(line, "something follows the last line of the export"));
        }
        match json.get(export::FULL_KEY).and_then(serde_json::Value::as_str) {
            Some(export::FULL_START) if line == 1 => {}
            Some(export::FULL_END) => {
                trailer = Some(read_trailer(&json).ok_or_else(|| wrong(line, "the last line cannot be read"))?);
            }
            _ if line == 1 => return Err(wrong(line, "not the first line of a full export")),
            _ => {
                from_json(&json).map_err(|error| wrong(line, &error))?;
                facts += 1;
            }
        }
    }
    match trailer {
        Some(trailer) if trailer.facts == facts => Ok(trailer),
        Some(_) => Err(wrong(1, "lines are missing: the count at the end says so")),
        None => Err(wrong(1, "the last line is missing: the export was interrupted")),
    }
}

fn read_trailer(json: &serde_json::Value) -> Option<Trailer> {
    Some(Trailer {
        vector: hex::decode(json.get("vector")?.as_str()?).ok()?,
        fingerprint: json.get("fingerprint")?.as_str()?.to_owned(),
        facts: json.get("facts")?.as_u64()?,
    })
}

fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    let file = File::open(path).map_err(|error| file_failure("read", path, &error))?;
    Ok(BufReader::new(file))
}

/// Facts in messages of bounded size. A commit's facts stay in one message, as in the export.
struct Batches {
    lines: std::io::Lines<BufReader<File>>,
    carried: Option<Fact>,
}

impl Iterator for Batches {
    type Item = v1::ImportRequest;

    fn next(&mut self) -> Option<v1::ImportRequest> {
        let mut facts: Vec<Bytes> = Vec::new();
        let (mut bytes, mut last) = (0, None);
        while let Some(fact) = self.carried.take().or_else(|| self.fact()) {
            if bytes >= MESSAGE_BYTES && last != Some(fact.tag) {
                self.carried = Some(fact);
                break;
            }
            last = Some(fact.tag);
            let encoded = fact.encode();
            bytes += encoded.len();
            facts.push(encoded.into());
        }
        (!facts.is_empty()).then(|| v1::ImportRequest {
            facts,
            ..v1::ImportRequest::default()
        })
    }
}

impl Batches {
    /// The next fact; the lines were checked before, so what is none is the first or the last one.
    fn fact(&mut self) -> Option<Fact> {
        for text in self.lines.by_ref() {
            let json: serde_json::Value = serde_json::from_str(&text.ok()?).ok()?;
            if json.get(export::FULL_KEY).is_none() {
                return from_json(&json).ok();
            }
        }
        None
    }
}
