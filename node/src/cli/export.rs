//! `halcyon export`: a tenant's data as JSON lines, one entity a line; or with `--full` one fact a line, with all that
//! is needed to make an equal copy.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use futures::{Stream, StreamExt};
use halcyon_client::{AdminError, Client, ScanPlace, ScanQuery, Triple};
use halcyon_core::{
    fact::Fact,
    id::{EntityId, Predicate},
    value::Value,
    version_vector::VersionVector,
};
use halcyon_proto::v1;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::{
    Globals, connect,
    data::TenantArg,
    fact_json,
    failure::{Exit, Failure, file_failure},
    output::{self, Progress},
};

/// Triples in one page.
const PAGE: u32 = 2_000;

/// Pages between two saves of the state that `--resume` needs.
const PAGES_PER_SAVE: u32 = 10;

/// The key that tells the first and the last line of a full export from facts.
pub const FULL_KEY: &str = "halcyon";
/// In the first line.
pub const FULL_START: &str = "full-export-1";
/// In the last line.
pub const FULL_END: &str = "end";

/// See there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  halcyon export --tenant tracker -o tracker.jsonl
  halcyon export --tenant tracker --type issue | jq .
  halcyon export --tenant tracker --full -o full.jsonl      for a copy with the same fingerprint

A line is one entity: {\"id\": ..., \"issue/created\": {\"$date\": 1726270936000}, \"issue/title\": \"...\"}, fields
sorted; a field with several values is an array. `halcyon import` reads it back. What JSON has no word for is marked:
$date (ms since 1970), $ref, $bytes (hex), $json (text), $number. Entities that change meanwhile are written as they
are when they are read; --full is one moment for all.")]
pub struct ExportArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// Only fields of this type
    #[arg(long = "type", value_name = "TYPE")]
    entity_type: Option<String>,
    /// Where to; stdout if not given
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Go on with an interrupted export to the same file
    #[arg(long, requires = "output", conflicts_with = "full")]
    resume: bool,
    /// One fact a line, with timestamps, tags and tombstones (operators only)
    #[arg(long, conflicts_with = "entity_type")]
    full: bool,
}

/// Writes the data.
pub async fn run(args: ExportArgs, globals: &Globals) -> Result<(), Failure> {
    if args.full {
        return Box::pin(full(&args, globals)).await;
    }
    let state = start_state(&args)?;
    let client = unless_interrupted(&args, not_begun, connect::client(globals, &args.tenant.tenant)).await?;
    let writing = Box::pin(entities(&args, &client, state));
    let written = unless_interrupted(&args, half_written, writing).await;
    client.close().await;
    let written = written.map_err(|failure| resumable(&args, failure))?;
    finished(&args, globals, written.entities, "entity", "entities");
    Ok(())
}

/// Does it, unless Ctrl-C comes first. What goes to stdout is left to the signal, as in any Unix tool: it ends the
/// command also while nobody reads.
async fn unless_interrupted<T>(
    args: &ExportArgs,
    interrupted: impl FnOnce(&Path) -> Failure,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let Some(path) = &args.output else { return work.await };
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Err(interrupted(path)),
        done = work => done,
    }
}

/// Says that an interrupted export has not touched its file.
fn not_begun(path: &Path) -> Failure {
    let message = format!("interrupted; {} is as it was", path.display());
    Failure::interrupted(message).advise("run the same command again")
}

/// Says that an interrupted export has left a part, and how to come to the whole.
fn half_written(path: &Path) -> Failure {
    let failure = Failure::interrupted(format_args!("interrupted; {} is not whole", path.display()));
    if state_path(path).exists() {
        failure.advise("go on with --resume")
    } else {
        failure.advise("run the same command again to begin anew")
    }
}

/// One entity as a line has it.
pub fn entity_json(id: &EntityId, triples: &[Triple]) -> Json {
    let mut line = Map::new();
    line.insert("id".into(), id.as_str().into());
    let mut sorted: Vec<&Triple> = triples.iter().collect();
    sorted.sort();
    for Triple { predicate, value, .. } in sorted {
        let value = value.to_typed_json();
        match line.get_mut(predicate.as_str()) {
            None => {
                line.insert(predicate.as_str().into(), value);
            }
            Some(Json::Array(values)) => values.push(value),
            Some(single) => *single = json!([single.take(), value]),
        }
    }
    Json::Object(line)
}

/// How far an export has come, for `--resume`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    tenant: String,
    entity_type: Option<String>,
    /// The node that gave the cursor: it means nothing to others.
    #[serde(default)]
    address: String,
    /// Of the next page, in hexadecimal.
    cursor: String,
    /// What that node held at the beginning, in hexadecimal.
    #[serde(default)]
    vector: String,
    /// Bytes of whole lines in the file.
    bytes: u64,
    entities: u64,
    /// The entity that the last page ended in.
    open_id: Option<String>,
    open_fields: Vec<(String, Json)>,
}

/// What is read of a line that is in the file already.
#[derive(Debug, Deserialize)]
struct Written {
    id: String,
}

/// What was written stays, and the export can go on.
fn resumable(args: &ExportArgs, failure: Failure) -> Failure {
    let begun = args.output.as_deref().is_some_and(|path| state_path(path).exists());
    if failure.exit == Exit::Unreachable && begun {
        return failure.advise("add --resume to go on once a node that holds the tenant is back");
    }
    failure
}

async fn entities(args: &ExportArgs, client: &Client, mut state: State) -> Result<State, Failure> {
    let mut sink = Sink::open(args.output.as_deref(), state.bytes)?;
    let progress = Progress::new("exporting", "entities", 0);
    progress.at(state.entities);
    let mut pages = client.pages(ScanQuery {
        entity_type: args.entity_type.clone(),
        limit: PAGE,
        ..ScanQuery::default()
    });
    if let (Some(path), false) = (&args.output, state.cursor.is_empty()) {
        for entity in written_entities(path, state.bytes)? {
            pages.pass_over(&entity);
        }
        pages = pages.resume(read_place(&state));
    }
    let mut read = 0;
    let mut moves = 0;
    while let Some(triples) = pages.next().await.map_err(connect::read_failure)? {
        if pages.moves() > moves {
            moves = pages.moves();
            progress
                .note("The replica that was read is lost: the export goes on at another, without what was written.");
        }
        for entity in triples.chunk_by(|one, next| one.subject == next.subject) {
            sink.line(&entity_json(&entity[0].subject, entity))?;
            state.entities += 1;
        }
        progress.at(state.entities);
        read += 1;
        // The first, too: an export that is interrupted early goes on as well.
        if read % PAGES_PER_SAVE == 1 {
            save(args, &mut state, &pages.place(), &mut sink)?;
        }
    }
    sink.close()?;
    progress.done();
    if let Some(path) = &args.output {
        let _ = std::fs::remove_file(state_path(path));
    }
    Ok(state)
}

fn start_state(args: &ExportArgs) -> Result<State, Failure> {
    let fresh = State {
        tenant: args.tenant.tenant.clone(),
        entity_type: args.entity_type.clone(),
        ..State::default()
    };
    let Some(path) = args.output.as_deref().filter(|_| args.resume) else {
        return Ok(fresh);
    };
    let state: Option<State> = std::fs::read(state_path(path))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    // A file that is shorter than its state says is another one.
    let length = std::fs::metadata(path).map_or(0, |file| file.len());
    match state {
        Some(state)
            if state.tenant == fresh.tenant && state.entity_type == fresh.entity_type && state.bytes <= length =>
        {
            Ok(state)
        }
        _ => Err(Failure::usage(format_args!(
            "there is no interrupted export of this tenant to {}",
            path.display()
        ))
        .advise("leave --resume out to begin anew")),
    }
}

fn save(args: &ExportArgs, state: &mut State, place: &ScanPlace, sink: &mut Sink) -> Result<(), Failure> {
    let Some(path) = &args.output else { return Ok(()) };
    // Behind the last page there is nothing to go on with.
    if place.cursor.is_empty() {
        return Ok(());
    }
    state.bytes = sink.flush()?;
    state.address.clone_from(&place.address);
    state.cursor = hex::encode(&place.cursor);
    state.vector = hex::encode(place.vector.encode());
    state.open_id = place.open.first().map(|open| open.subject.to_string());
    let fields = place.open.iter();
    state.open_fields = fields
        .map(|open| (open.predicate.to_string(), open.value.to_typed_json()))
        .collect();
    let bytes = serde_json::to_vec(state).map_err(Failure::failed)?;
    let path = state_path(path);
    let temporary = path.with_extension("halcyon-export-new");
    let written = std::fs::write(&temporary, bytes).and_then(|()| std::fs::rename(&temporary, &path));
    written.map_err(|error| file_failure("write", &path, &error))
}

/// Where the interrupted export was. A state that says nothing of what its node held asks nothing of another.
fn read_place(state: &State) -> ScanPlace {
    let bytes = |text: &str| hex::decode(text).unwrap_or_default();
    let id = state.open_id.as_ref().and_then(|id| EntityId::new(id).ok());
    let field = |(name, json): &(String, Json)| {
        Some(Triple {
            subject: id.clone()?,
            predicate: Predicate::new(name).ok()?,
            value: Value::from_typed_json(json).ok()?,
        })
    };
    ScanPlace {
        address: state.address.clone(),
        cursor: bytes(&state.cursor).into(),
        vector: VersionVector::decode(&bytes(&state.vector)).unwrap_or_default(),
        open: state.open_fields.iter().filter_map(field).collect(),
    }
}

/// The entities in the first `bytes` of the file.
fn written_entities(path: &Path, bytes: u64) -> Result<Vec<EntityId>, Failure> {
    let read = |error| file_failure("read", path, &error);
    let file = File::open(path).map_err(read)?;
    let mut entities = Vec::new();
    for line in BufReader::new(file.take(bytes)).lines() {
        let line = line.map_err(read)?;
        let entity: Option<Written> = serde_json::from_str(&line).ok();
        entities.extend(entity.and_then(|entity| EntityId::new(&entity.id).ok()));
    }
    Ok(entities)
}

fn state_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".halcyon-export");
    name.into()
}

async fn full(args: &ExportArgs, globals: &Globals) -> Result<(), Failure> {
    let parts = unless_interrupted(args, not_begun, full_parts(args, globals)).await?;
    let facts = unless_interrupted(args, half_written, all_facts(args, parts)).await?;
    finished(args, globals, facts, "fact", "facts");
    Ok(())
}

async fn full_parts(
    args: &ExportArgs,
    globals: &Globals,
) -> Result<impl Stream<Item = Result<v1::ExportResponse, AdminError>> + use<>, Failure> {
    let admin = connect::admin(globals).await?;
    let request = v1::ExportRequest {
        tenant: args.tenant.tenant.clone(),
        // Who names one node means that one.
        from_removed: globals.given_addresses().len() == 1,
    };
    admin.export(request).await.map_err(connect::admin_failure)
}

/// Writes what a node has, and returns how many facts that is.
async fn all_facts(
    args: &ExportArgs,
    parts: impl Stream<Item = Result<v1::ExportResponse, AdminError>>,
) -> Result<u64, Failure> {
    let mut parts = std::pin::pin!(parts);
    let mut sink = Sink::open(args.output.as_deref(), 0)?;
    sink.line(&json!({ FULL_KEY: FULL_START, "tenant": args.tenant.tenant }))?;
    let progress = Progress::new("exporting", "facts", 0);
    let (mut facts, mut end) = (0, None);
    while let Some(part) = parts.next().await {
        let part = part.map_err(connect::admin_failure)?;
        for encoded in &part.facts {
            let fact = Fact::decode(encoded).map_err(|error| {
                Failure::failed(format_args!("a fact cannot be read: {error}")).advise("use a newer halcyon")
            })?;
            sink.line(&fact_json::to_json(&fact))?;
            facts += 1;
        }
        progress.at(facts);
        if !part.fingerprint.is_empty() {
            end = Some((hex::encode(&part.vector), hex::encode(&part.fingerprint)));
        }
    }
    let Some((vector, fingerprint)) = end else {
        return Err(Failure::unreachable("the stream ended early; the export is not whole").advise("run it again"));
    };
    sink.line(&json!({ FULL_KEY: FULL_END, "facts": facts, "vector": vector, "fingerprint": fingerprint }))?;
    sink.close()?;
    progress.done();
    Ok(facts)
}

/// To a file the verdict goes to stdout; where stdout has the data, to stderr.
fn finished(args: &ExportArgs, globals: &Globals, count: u64, one: &str, many: &str) {
    let text = format!("{} exported", output::plural(count, one, many));
    match (&args.output, globals.json) {
        (Some(path), true) => output::json(&json!({ many: count, "file": path.display().to_string() })),
        (Some(path), false) => output::line(format!("{text} to {}", path.display())),
        (None, _) => output::note(text),
    }
}

/// Lines to a file or to stdout.
enum Sink {
    File {
        file: BufWriter<File>,
        path: PathBuf,
        bytes: u64,
    },
    Stdout,
}

impl Sink {
    /// Keeps the first `keep` bytes. Without them the state of an earlier export goes too: it tells of another file.
    fn open(path: Option<&Path>, keep: u64) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self::Stdout) };
        if keep == 0 {
            let _ = std::fs::remove_file(state_path(path));
        }
        let open = || -> io::Result<File> {
            let mut file = OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
            file.set_len(keep)?;
            file.seek(SeekFrom::Start(keep))?;
            Ok(file)
        };
        let file = open().map_err(|error| file_failure("write", path, &error))?;
        Ok(Self::File {
            file: BufWriter::new(file),
            path: path.to_owned(),
            bytes: keep,
        })
    }

    fn line(&mut self, json: &Json) -> Result<(), Failure> {
        match self {
            Self::Stdout => output::json(json),
            Self::File { file, path, bytes } => {
                let line = format!("{json}\n");
                file.write_all(line.as_bytes())
                    .map_err(|error| file_failure("write", path, &error))?;
                *bytes += line.len() as u64;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<u64, Failure> {
        match self {
            Self::Stdout => Ok(0),
            Self::File { file, path, bytes } => {
                file.flush().map_err(|error| file_failure("write", path, &error))?;
                Ok(*bytes)
            }
        }
    }

    fn close(mut self) -> Result<(), Failure> {
        self.flush()?;
        match &self {
            Self::Stdout => Ok(()),
            Self::File { file, path, .. } => file
                .get_ref()
                .sync_all()
                .map_err(|error| file_failure("write", path, &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_goes_on_where_it_was_and_knows_what_it_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("a.jsonl");
        let args = |tenant: &str| resuming(tenant, &output);
        assert!(start_state(&args("demo")).is_err(), "nothing was interrupted");
        let mut state = State {
            tenant: "demo".into(),
            ..State::default()
        };
        let triple = |subject: &str| Triple {
            subject: EntityId::new(subject).unwrap(),
            predicate: Predicate::new("issue/title").unwrap(),
            value: Value::string("x"),
        };
        let place = ScanPlace {
            address: "127.0.0.1:7701".into(),
            cursor: vec![0, 255].into(),
            open: vec![triple("c")],
            ..ScanPlace::default()
        };
        let mut sink = Sink::open(Some(&output), 0).unwrap();
        for id in ["a", "b"] {
            sink.line(&entity_json(&EntityId::new(id).unwrap(), &[triple(id)]))
                .unwrap();
        }
        save(&args("demo"), &mut state, &place, &mut sink).unwrap();
        sink.line(&json!({ "id": "c" })).unwrap();
        sink.close().unwrap();
        let found = start_state(&args("demo")).unwrap();
        assert_eq!(read_place(&found), place);
        let written: Vec<String> = written_entities(&output, found.bytes)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(written, ["a", "b"]);
        assert!(start_state(&args("other")).is_err());
    }

    #[test]
    fn what_an_interrupted_export_says_is_what_the_next_one_does() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("a.jsonl");
        let args = resuming("demo", &output);
        let mut state = State {
            tenant: "demo".into(),
            ..State::default()
        };
        let place = |cursor: &'static [u8]| ScanPlace {
            cursor: cursor.into(),
            ..ScanPlace::default()
        };
        let says = || half_written(&output).advice.unwrap();
        let mut sink = Sink::open(Some(&output), 0).unwrap();
        sink.line(&json!({ "id": "a" })).unwrap();
        save(&args, &mut state, &place(b""), &mut sink).unwrap();
        assert!(
            says().contains("anew") && start_state(&args).is_err(),
            "the end was read"
        );
        save(&args, &mut state, &place(b"1"), &mut sink).unwrap();
        sink.close().unwrap();
        assert!(says().contains("--resume") && start_state(&args).is_ok());

        std::fs::write(&output, "x").unwrap();
        assert!(start_state(&args).is_err(), "the state tells of a longer file");
        Sink::open(Some(&output), 0).unwrap();
        assert!(
            !state_path(&output).exists(),
            "the state tells of the file that was there before"
        );
        assert_eq!(half_written(&output).exit as u8, 130);
        assert_eq!(not_begun(&output).exit as u8, 130);
    }

    fn resuming(tenant: &str, output: &Path) -> ExportArgs {
        ExportArgs {
            tenant: TenantArg { tenant: tenant.into() },
            entity_type: None,
            output: Some(output.to_owned()),
            resume: true,
            full: false,
        }
    }

    #[test]
    fn an_entity_is_one_line_with_sorted_fields() {
        let triple = |field: &str, value| Triple {
            subject: EntityId::new("a").unwrap(),
            predicate: Predicate::new(field).unwrap(),
            value,
        };
        let reference = |id: &str| Value::Ref(EntityId::new(id).unwrap());
        let line = entity_json(
            &EntityId::new("a").unwrap(),
            &[
                triple("issue/title", Value::string("x")),
                triple("issue/labels", reference("l2")),
                triple("issue/labels", reference("l1")),
                triple("issue/created", Value::Date(5)),
            ],
        );
        assert_eq!(
            line.to_string(),
            r#"{"id":"a","issue/created":{"$date":5},"issue/labels":[{"$ref":"l1"},{"$ref":"l2"}],"issue/title":"x"}"#
        );
    }
}
