//! `get`, `set`, `add`, `remove`, `delete`, `scan`, `locate`: a tenant's triples from the command line.

use std::time::Duration;

use clap::Args;
use halcyon_client::{Acknowledged, ScanQuery};
use halcyon_core::{
    change::Change,
    id::{EntityId, Predicate},
    value::Value,
};
use serde_json::json;

use super::{
    Globals, connect,
    failure::Failure,
    output::{self, Rows},
    value_args::{VALUES_HELP, ValueArgError, parse_assignment, parse_element, parse_field, parse_value},
};

/// Triples that `scan` shows where no limit is given.
const SCAN_LIMIT: u32 = 100;

/// Triples asked for in one page.
const PAGE: u32 = 1_000;

/// Characters of a value in a table; `get` and `--json` show all of it.
const VALUE_CHARS_SHOWN: usize = 80;

/// The tenant, for every command on data.
#[derive(Debug, Clone, Args)]
pub struct TenantArg {
    /// The tenant's id or name
    #[arg(long, short, env = "HALCYON_TENANT")]
    pub tenant: String,
}

/// See there.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  halcyon get --tenant demo HdpMkgbHpK3_OcOIiQOuW")]
pub struct GetArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// The entity's id
    subject: String,
}

/// See there.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  halcyon set --tenant demo first issue/title='Hello there' issue/open=true
  halcyon set --tenant demo first --type issue created=date:2026-01-31 creator=ref:amara

{VALUES_HELP}

An entity that does not exist yet is created, unless --existing is given. All fields are written at once."))]
pub struct SetArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// The entity's id; `new` makes one
    subject: String,
    /// What to write
    #[arg(required = true, value_name = "FIELD=VALUE")]
    fields: Vec<String>,
    /// The type of fields that are named without one
    #[arg(long = "type", value_name = "TYPE")]
    entity_type: Option<String>,
    /// Create nothing: fail if the entity does not exist
    #[arg(long)]
    existing: bool,
}

/// See there.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  halcyon add --tenant demo first issue/labels=ref:bug issue/labels=ref:p1
  halcyon remove --tenant demo first issue/labels=ref:p1

{VALUES_HELP}"))]
pub struct ElementArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// The entity's id
    subject: String,
    /// Elements of sets
    #[arg(required = true, value_name = "FIELD=VALUE")]
    elements: Vec<String>,
    /// The type of fields that are named without one
    #[arg(long = "type", value_name = "TYPE")]
    entity_type: Option<String>,
}

/// See there.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  halcyon delete --tenant demo first

A deleted entity never comes back: later changes to it are superseded.")]
pub struct DeleteArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// Ids of entities
    #[arg(required = true)]
    subjects: Vec<String>,
}

/// See there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  halcyon scan --tenant demo --type issue --limit 20
  halcyon scan --tenant demo issue/open=true
  halcyon scan --tenant demo issue/created --from date:2026-02-01 --to date:2026-03-01
  halcyon scan --tenant demo issue/creator=ref:amara --all --json")]
pub struct ScanArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// TYPE/FIELD, or TYPE/FIELD=VALUE
    pattern: Option<String>,
    /// Only this entity
    #[arg(long)]
    subject: Option<String>,
    /// Only entities of this type
    #[arg(long = "type", value_name = "TYPE")]
    entity_type: Option<String>,
    /// With a field: values from this one on
    #[arg(long, value_name = "VALUE")]
    from: Option<String>,
    /// With a field: values below this one
    #[arg(long, value_name = "VALUE")]
    to: Option<String>,
    /// At most this many triples
    #[arg(long, default_value_t = SCAN_LIMIT)]
    limit: u32,
    /// All of them
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

/// See there.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  halcyon locate --tenant demo")]
pub struct LocateArgs {
    #[command(flatten)]
    tenant: TenantArg,
}

/// Shows one entity.
pub async fn get(args: GetArgs, globals: &Globals) -> Result<(), Failure> {
    let subject = entity(&args.subject)?;
    let client = connect::client(globals, &args.tenant.tenant).await?;
    let triples = client.get(&subject).await.map_err(connect::read_failure)?;
    client.close().await;
    if triples.is_empty() {
        return Err(Failure::failed(format_args!(
            "{} has no entity {subject}",
            args.tenant.tenant
        )));
    }
    if globals.json {
        output::json(&super::export::entity_json(&subject, &triples));
        return Ok(());
    }
    let mut rows = Rows::new(&["field", "type", "value"]);
    for (predicate, value) in &triples {
        rows.push([predicate.as_str(), value.type_name(), &plain(value)]);
    }
    rows.print();
    Ok(())
}

/// Writes fields.
pub async fn set(args: SetArgs, globals: &Globals) -> Result<(), Failure> {
    let subject = match args.subject.as_str() {
        "new" => EntityId::generate(connect::random_bytes),
        text => entity(text)?,
    };
    let mut changes = Vec::with_capacity(args.fields.len() + 1);
    if !args.existing {
        changes.push(Change::Create {
            subject: subject.clone(),
        });
    }
    for field in &args.fields {
        let (predicate, value) = parse_assignment(field, args.entity_type.as_deref()).map_err(usage)?;
        let subject = subject.clone();
        changes.push(match value {
            Some(value) => Change::Set {
                subject,
                predicate,
                value,
            },
            None => Change::Unset { subject, predicate },
        });
    }
    write(globals, &args.tenant, &subject, changes).await
}

/// Adds elements.
pub async fn add(args: ElementArgs, globals: &Globals) -> Result<(), Failure> {
    elements(args, globals, true).await
}

/// Removes elements.
pub async fn remove(args: ElementArgs, globals: &Globals) -> Result<(), Failure> {
    elements(args, globals, false).await
}

/// Deletes entities.
pub async fn delete(args: DeleteArgs, globals: &Globals) -> Result<(), Failure> {
    let subjects: Vec<EntityId> = args
        .subjects
        .iter()
        .map(|text| entity(text))
        .collect::<Result<_, _>>()?;
    let client = connect::client(globals, &args.tenant.tenant).await?;
    let first = subjects[0].clone();
    let changes: Vec<Change> = subjects.into_iter().map(|subject| Change::Delete { subject }).collect();
    let pending = client.write(changes).await.map_err(connect::write_failure)?;
    let taken = pending.acknowledged().await.map_err(connect::refused_failure)?;
    client.close().await;
    report(
        globals,
        &first,
        &taken,
        &format!("deleted {}", args.subjects.join(", ")),
    );
    Ok(())
}

/// Lists triples.
pub async fn scan(args: ScanArgs, globals: &Globals) -> Result<(), Failure> {
    let mut query = query(&args)?;
    let client = connect::client(globals, &args.tenant.tenant).await?;
    let mut rows = Rows::new(&["subject", "field", "type", "value"]);
    let mut left = if args.all { u32::MAX } else { args.limit };
    let mut found = Vec::new();
    let more = loop {
        query.limit = left.min(PAGE);
        let page = client.scan(query.clone()).await.map_err(connect::read_failure)?;
        for triple in page.triples {
            left = left.saturating_sub(1);
            if globals.json {
                found.push(
                    json!({ "subject": triple.subject.as_str(), "predicate": triple.predicate.as_str(),
                                   "value": triple.value.to_typed_json() }),
                );
            } else {
                let value = short(&plain(&triple.value));
                rows.push([
                    triple.subject.as_str(),
                    triple.predicate.as_str(),
                    triple.value.type_name(),
                    &value,
                ]);
            }
        }
        query.cursor = page.cursor;
        if query.cursor.is_empty() || left == 0 {
            break !query.cursor.is_empty();
        }
    };
    client.close().await;
    if globals.json {
        output::json(&json!({ "triples": found, "more": more }));
    } else {
        rows.print();
        if more {
            output::note(format!(
                "There are more than {}: add --limit N or --all.",
                output::count(args.limit.into())
            ));
        }
    }
    Ok(())
}

/// Shows who holds the tenant.
pub async fn locate(args: LocateArgs, globals: &Globals) -> Result<(), Failure> {
    let client = connect::client(globals, &args.tenant.tenant).await?;
    let location = client.locate().await.map_err(connect::read_failure)?;
    client.close().await;
    connect::show_location(&location, globals);
    Ok(())
}

async fn elements(args: ElementArgs, globals: &Globals, present: bool) -> Result<(), Failure> {
    let subject = entity(&args.subject)?;
    let mut changes = Vec::with_capacity(args.elements.len() + 1);
    if present {
        changes.push(Change::Create {
            subject: subject.clone(),
        });
    }
    for element in &args.elements {
        let (predicate, value) = parse_element(element, args.entity_type.as_deref()).map_err(usage)?;
        changes.push(element_change(present, subject.clone(), predicate, value));
    }
    write(globals, &args.tenant, &subject, changes).await
}

fn element_change(present: bool, subject: EntityId, predicate: Predicate, value: Value) -> Change {
    if present {
        Change::Add {
            subject,
            predicate,
            value,
        }
    } else {
        Change::Remove {
            subject,
            predicate,
            value,
        }
    }
}

async fn write(globals: &Globals, tenant: &TenantArg, subject: &EntityId, changes: Vec<Change>) -> Result<(), Failure> {
    let client = connect::client(globals, &tenant.tenant).await?;
    let started = connect::clock().monotonic();
    let pending = client.write(changes).await.map_err(connect::write_failure)?;
    let taken = pending.acknowledged().await.map_err(connect::refused_failure)?;
    let took = connect::clock().monotonic().saturating_sub(started);
    client.close().await;
    if taken.superseded.is_empty() || globals.json {
        report(globals, subject, &taken, &done_text(subject, took));
    }
    if taken.superseded.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format_args!(
        "{} to {subject} had no effect: the entity was deleted or never existed",
        output::plural(taken.superseded.len() as u64, "change", "changes")
    ))
    .advise("use another id; a deleted entity does not come back"))
}

fn done_text(subject: &EntityId, took: Duration) -> String {
    format!("{subject}  durable after {}", output::duration(took))
}

fn report(globals: &Globals, subject: &EntityId, taken: &Acknowledged, text: &str) {
    if globals.json {
        output::json(&json!({
            "subject": subject.as_str(), "origin": taken.tag.origin.to_string(), "seq": taken.tag.seq.0,
            "superseded": taken.superseded, "again": taken.again,
        }));
    } else {
        output::line(text);
    }
}

fn query(args: &ScanArgs) -> Result<ScanQuery, Failure> {
    let mut query = ScanQuery {
        entity_type: args.entity_type.clone(),
        ..ScanQuery::default()
    };
    if let Some(subject) = &args.subject {
        query.subject = Some(entity(subject)?);
    }
    let bound = |text: &Option<String>| match text {
        Some(text) => parse_value(text).map_err(usage),
        None => Ok(None),
    };
    (query.from, query.to) = (bound(&args.from)?, bound(&args.to)?);
    if let Some(pattern) = &args.pattern {
        let (field, value) = pattern
            .split_once('=')
            .map_or((pattern.as_str(), None), |(f, v)| (f, Some(v)));
        query.predicate = Some(parse_field(field, args.entity_type.as_deref()).map_err(usage)?);
        query.entity_type = None;
        if let Some(value) = value {
            let (from, to) = exactly(
                &parse_element(&format!("{field}={value}"), args.entity_type.as_deref())
                    .map_err(usage)?
                    .1,
            );
            (query.from, query.to) = (Some(from), to);
        }
    }
    if query.predicate.is_none() && (query.from.is_some() || query.to.is_some()) {
        return Err(
            Failure::usage("--from and --to need a field").advise("halcyon scan issue/created --from date:2026-01-01")
        );
    }
    Ok(query)
}

/// The range that holds this value alone: up to the next value of its type, where there is one.
fn exactly(value: &Value) -> (Value, Option<Value>) {
    let text_after = |text: &str| format!("{text}\0");
    let next = match value {
        Value::String(text) => Some(Value::string(&text_after(text))),
        Value::Json(text) => Some(Value::Json(text_after(text).into())),
        Value::Boolean(false) => Some(Value::Boolean(true)),
        Value::Boolean(true) => Some(Value::Date(i64::MIN)),
        Value::Number(number) => Value::number(number.get().next_up()).ok(),
        Value::Date(millis) => millis.checked_add(1).map(Value::Date),
        // A following id: the smallest character that an id may have, behind it.
        Value::Ref(id) => EntityId::new(&format!("{id} ")).ok().map(Value::Ref),
        Value::Bytes(bytes) => Some(Value::Bytes([bytes, [0].as_slice()].concat().into())),
    };
    (value.clone(), next)
}

fn entity(text: &str) -> Result<EntityId, Failure> {
    EntityId::new(text).map_err(Failure::usage)
}

fn usage(error: ValueArgError) -> Failure {
    Failure::usage(error)
}

/// A value as a person reads it.
pub fn plain(value: &Value) -> String {
    match value.to_json() {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    }
}

/// One line of limited length.
pub fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let cut: String = line.chars().take(VALUE_CHARS_SHOWN).collect();
    if cut.len() < text.len() {
        format!("{cut}…")
    } else {
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_with_a_value_is_the_range_of_that_value_alone() {
        for (value, next) in [
            (Value::string("a"), Value::string("a\0")),
            (Value::Date(5), Value::Date(6)),
            (Value::Boolean(true), Value::Date(i64::MIN)),
        ] {
            let (from, to) = exactly(&value);
            assert_eq!((from, to), (value, Some(next)));
        }
    }

    #[test]
    fn a_long_or_many_lined_value_is_cut() {
        assert_eq!(short("a\nb"), "a…");
        assert_eq!(short("ab"), "ab");
    }
}
