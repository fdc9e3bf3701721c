//! `halcyon import`: a file of rows becomes a tenant's entities.
//!
//! The whole file is looked through before anything is sent: a wrong option or a bad row ends the command with nothing
//! written. Rows then go out in change sets of bounded size, several on their way at a time. How far they are durable
//! is kept in a journal, so the same command goes on after an interruption; a row that is sent twice writes the same
//! again and doubles nothing.

use std::path::{Path, PathBuf};

use clap::Args;
use halcyon_core::{
    change::Change,
    limits::{CHANGE_SET_BYTES_MAX, CHANGES_MAX},
};
use serde_json::json;

use super::{Globals, connect, data::TenantArg, failure::Failure, output, value_args::excerpt};

pub mod full;
pub mod journal;
pub mod json_split;
pub mod mapping;
pub mod quotes;
pub mod rows;
pub mod send;
pub mod survey;

use journal::{ImportId, Journal};
use mapping::{FieldOptions, Mapping};
use rows::{BadRow, FileError, Format};
use survey::Survey;

/// Bad rows that are named; the others are counted.
const BAD_ROWS_SHOWN: usize = 20;

/// Bytes that a change needs beside its value, at the most, names included.
const CHANGE_OVERHEAD: usize = 288;

/// See there.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
#[command(after_help = "\
Examples:
  halcyon import user.csv --tenant tracker --type user
  halcyon import issue.csv --tenant tracker --type issue --date created --date modified \\
      --ref creatorID=user --ref assigneeID=user
  halcyon import issueLabel.csv --tenant tracker --type issue --id issueID --merge \\
      --many labelID=label --rename labelID=labels --skip projectID
  halcyon import backup.jsonl --tenant tracker            what `halcyon export` wrote
  halcyon import full.jsonl --tenant tracker --full       what `halcyon export --full` wrote

Types: a JSON value keeps its own type; objects and arrays are kept as JSON, null is unset. A CSV column holds
numbers if all its cells are numbers as JSON writes them (007 and +1 are not), booleans if all are true or false,
dates if all are RFC 3339; else strings. An empty cell is unset. Milliseconds become dates with --date.

A file without an id field gets ids that depend on the file's content, the same on every run.
Interrupted? The same command goes on where it was; its state is in FILE.halcyon-import.")]
pub struct ImportArgs {
    /// A CSV file, a JSON array of objects, or JSON lines
    file: PathBuf,
    #[command(flatten)]
    tenant: TenantArg,
    /// The type of the entities; not needed where fields are named TYPE/FIELD
    #[arg(long = "type", value_name = "TYPE")]
    entity_type: Option<String>,
    /// The field with the entity's id; `id` if there is one
    #[arg(long, value_name = "FIELD")]
    id: Option<String>,
    /// A field with the id of another entity
    #[arg(long = "ref", value_name = "FIELD=TYPE", value_parser = pair)]
    refs: Vec<(String, String)>,
    /// A field that is a set; of references if a type is given
    #[arg(long, value_name = "FIELD[=TYPE]")]
    many: Vec<String>,
    /// A field with dates: milliseconds since 1970, RFC 3339, or 2024-09-13
    #[arg(long, value_name = "FIELD")]
    date: Vec<String>,
    /// A field with strings, whatever they look like
    #[arg(long, value_name = "FIELD")]
    string: Vec<String>,
    /// A field to leave out
    #[arg(long, value_name = "FIELD")]
    skip: Vec<String>,
    /// Another name for a field
    #[arg(long, value_name = "FIELD=NAME", value_parser = pair)]
    rename: Vec<(String, String)>,
    /// What stands between the elements of a set in a CSV cell
    #[arg(long, default_value = ";")]
    separator: String,
    /// Rows add to entities that exist, such as a table of pairs; none is created
    #[arg(long)]
    merge: bool,
    /// What the file is, if its name does not say so
    #[arg(long)]
    format: Option<Format>,
    /// Leave bad rows out instead of ending before anything is written
    #[arg(long)]
    skip_bad: bool,
    /// Forget an interrupted import of this file and begin anew
    #[arg(long)]
    restart: bool,
    /// The file is a full export: load facts with their timestamps (operators only)
    #[arg(long)]
    full: bool,
}

/// What to send.
#[derive(Debug)]
pub struct Plan {
    /// The file.
    pub path: PathBuf,
    /// What it is.
    pub format: Format,
    /// How rows become changes.
    pub mapping: Mapping,
    /// Rows in the file.
    pub rows: u64,
}

/// Loads a file.
pub async fn run(args: ImportArgs, globals: &Globals) -> Result<(), Failure> {
    if args.full {
        return full::run(&args.file, &args.tenant.tenant, globals).await;
    }
    let options = options(&args)?;
    let format = args
        .format
        .map_or_else(|| rows::detect(&args.file), Ok)
        .map_err(file_failure)?;
    let survey = survey::survey(&args.file, format).map_err(file_failure)?;
    let mapping = Mapping::new(&options, &survey).map_err(Failure::usage)?;
    let plan = Plan {
        path: args.file.clone(),
        format,
        mapping,
        rows: survey.rows,
    };
    let bad = check_rows(&plan, &args, globals)?;
    let mut journal = Journal::open(&args.file, import_id(&args, &options, &survey));
    if args.restart {
        journal.restart();
    }
    if journal.rows_durable() > 0 {
        output::note(format!(
            "{} rows are durable from an earlier run; going on from there",
            output::count(journal.rows_durable())
        ));
    }
    let client = connect::client(globals, &args.tenant.tenant).await?;
    let sent = send::send(&plan, &client, &mut journal, globals.timeout).await;
    client.close().await;
    let sent = sent?;
    journal.finish();
    report(&args, globals, &sent, &bad);
    Ok(())
}

/// The changes of a row, or why there are none; `at` is its place in the file.
pub fn row_changes(plan: &Plan, at: u64, row: Result<rows::Row, BadRow>) -> Result<(u64, Vec<Change>), BadRow> {
    let row = row?;
    let changes = plan.mapping.changes(at, &row)?;
    if changes.len() > CHANGES_MAX || changes_bytes(&changes) > CHANGE_SET_BYTES_MAX {
        let reason = format!("too large: a row may have {CHANGES_MAX} changes and {CHANGE_SET_BYTES_MAX} bytes");
        return Err(BadRow::new(row.line, reason));
    }
    Ok((row.line, changes))
}

/// Bytes that the changes take in a set, at the most.
pub fn changes_bytes(changes: &[Change]) -> usize {
    let value = |change: &Change| change.value().map_or(0, |value| value.encode().len());
    changes.iter().map(|change| CHANGE_OVERHEAD + value(change)).sum()
}

/// The bad rows of a file: how many, and the first of them.
#[derive(Debug, Default)]
struct BadRows {
    count: u64,
    first: Vec<BadRow>,
}

impl BadRows {
    /// The first of them, for programs.
    fn json(&self) -> serde_json::Value {
        let row = |bad: &BadRow| json!({ "line": bad.line, "reason": bad.reason });
        self.first.iter().map(row).collect()
    }
}

fn check_rows(plan: &Plan, args: &ImportArgs, globals: &Globals) -> Result<BadRows, Failure> {
    let mut bad = BadRows::default();
    let rows = rows::open(&plan.path, plan.format).map_err(file_failure)?;
    for (row, at) in rows.zip(0..) {
        if let Err(error) = row_changes(plan, at, row) {
            bad.count += 1;
            if bad.first.len() < BAD_ROWS_SHOWN {
                if !globals.json {
                    output::note(format!("{}: {error}", plan.path.display()));
                }
                bad.first.push(error);
            }
        }
    }
    let more = bad.count - bad.first.len() as u64;
    if more > 0 && !globals.json {
        output::note(format!("... and {} more", output::count(more)));
    }
    if bad.count > 0 && !args.skip_bad {
        let rows = output::plural(bad.count, "bad row", "bad rows");
        return Err(Failure::failed(format_args!(
            "{rows} of {}; nothing was written",
            output::count(plan.rows)
        ))
        .advise("mend the file, or add --skip-bad to leave them out")
        .with("bad_rows", json!(bad.count))
        .with("first_bad_rows", bad.json()));
    }
    Ok(bad)
}

fn options(args: &ImportArgs) -> Result<FieldOptions, Failure> {
    if let Some(entity_type) = &args.entity_type
        && !halcyon_core::id::is_name(entity_type)
    {
        return Err(Failure::usage(format_args!("{:?} is not a type", excerpt(entity_type)))
            .advise("use letters, digits, _ and -"));
    }
    if args.separator.is_empty() {
        return Err(Failure::usage("--separator is empty"));
    }
    let many = |text: &String| match text.split_once('=') {
        Some((field, to)) => (field.to_owned(), Some(to.to_owned())),
        None => (text.clone(), None),
    };
    Ok(FieldOptions {
        entity_type: args.entity_type.clone(),
        id: args.id.clone(),
        refs: args.refs.iter().cloned().collect(),
        many: args.many.iter().map(many).collect(),
        dates: args.date.clone(),
        strings: args.string.clone(),
        skip: args.skip.clone(),
        rename: args.rename.iter().cloned().collect(),
        separator: args.separator.clone(),
        merge: args.merge,
    })
}

fn import_id(args: &ImportArgs, options: &FieldOptions, survey: &Survey) -> ImportId {
    let text = format!("{options:?} {}", args.skip_bad);
    ImportId {
        file_hash: survey.hash,
        tenant: args.tenant.tenant.clone(),
        options_hash: xxhash_rust::xxh3::xxh3_64(text.as_bytes()),
    }
}

fn report(args: &ImportArgs, globals: &Globals, sent: &send::Sent, bad: &BadRows) {
    if globals.json {
        output::json(&json!({
            "rows": sent.rows, "changes": sent.changes, "change_sets": sent.sets, "bad_rows": bad.count,
            "first_bad_rows": bad.json(),
            "superseded": sent.superseded, "superseded_lines": sent.superseded_lines,
            "overwritten": sent.overwritten,
            "seconds": sent.took.as_secs_f64(),
        }));
        return;
    }
    output::line(format!(
        "{} of {} imported into {} in {} ({}, {})",
        output::plural(sent.rows, "row", "rows"),
        file_name(&args.file),
        args.tenant.tenant,
        output::duration(sent.took),
        output::plural(sent.changes, "change", "changes"),
        output::plural(sent.sets, "change set", "change sets"),
    ));
    if bad.count > 0 {
        output::line(format!("{} left out", output::plural(bad.count, "bad row", "bad rows")));
    }
    if sent.superseded > 0 {
        let lines: Vec<String> = sent.superseded_lines.iter().map(u64::to_string).collect();
        output::line(format!(
            "{} had no effect: their entities were deleted, or do not exist (lines {})",
            output::plural(sent.superseded, "change", "changes"),
            lines.join(", ")
        ));
    }
    if sent.overwritten > 0 {
        output::line(format!(
            "{} had lost already: later writes of the same fields were there",
            output::plural(sent.overwritten, "change", "changes"),
        ));
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn file_failure(error: FileError) -> Failure {
    match error {
        FileError::Io { .. } => Failure::failed(error),
        FileError::Header { .. } | FileError::Empty { .. } => Failure::usage(error),
        FileError::UnknownFormat { .. } => Failure::usage(error).advise("say it: --format csv, json or jsonl"),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text
        .split_once('=')
        .filter(|(left, right)| !left.is_empty() && !right.is_empty());
    pair.map(|(left, right)| (left.to_owned(), right.to_owned()))
        .ok_or_else(|| "it is FIELD=NAME".to_owned())
}
