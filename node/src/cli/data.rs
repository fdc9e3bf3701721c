//! `get`, `set`, `add`, `remove`, `delete`, `scan`, `locate`: a tenant's triples from the command line.

use std::{collections::BTreeSet, time::Duration};

use clap::Args;
use halcyon_client::{Acknowledged, Triple};
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
    value_args::{VALUES_HELP, ValueArgError, parse_assignment, parse_element, parse_id},
};

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

A deleted entity never comes back: later changes to it are superseded. An id that nobody knows here is said so and left
alone; --force deletes it too, for data that is still on its way from another region.")]
pub struct DeleteArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// Ids of entities
    #[arg(required = true)]
    subjects: Vec<String>,
    /// Also ids that the node does not know
    #[arg(long)]
    force: bool,
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
    let fields = client.get(&subject).await.map_err(connect::read_failure)?;
    let asked = connect::answered_by(&client.status());
    client.close().await;
    if fields.is_empty() {
        let text = format!("{} has no entity {subject}, says {asked}", args.tenant.tenant);
        return Err(Failure::failed(text).advise(
            "what was written at another node a moment ago is on its way: ask again; or ask that node with \
             --cluster ADDRESS --pin",
        ));
    }
    if globals.json {
        let triple = |(predicate, value)| Triple {
            subject: subject.clone(),
            predicate,
            value,
        };
        let triples: Vec<Triple> = fields.into_iter().map(triple).collect();
        output::json(&super::export::entity_json(&subject, &triples));
        return Ok(());
    }
    let mut rows = Rows::new(&["field", "type", "value"]);
    for (predicate, value) in &fields {
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
    changes.extend(field_changes(&subject, &args.fields, args.entity_type.as_deref())?);
    write(globals, &args.tenant, &subject, changes).await
}

/// What the fields on the command line write. Each may be there once: of two values one would be lost in silence.
fn field_changes(subject: &EntityId, fields: &[String], entity_type: Option<&str>) -> Result<Vec<Change>, Failure> {
    let mut named = BTreeSet::new();
    let mut changes = Vec::with_capacity(fields.len());
    for field in fields {
        let (predicate, value) = parse_assignment(field, entity_type).map_err(usage)?;
        if !named.insert(predicate.clone()) {
            return Err(Failure::usage(format_args!(
                "{predicate} is there twice; one write has one value for it"
            ))
            .advise("halcyon add writes several values of one field"));
        }
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
    Ok(changes)
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
    let subjects: BTreeSet<EntityId> = args
        .subjects
        .iter()
        .map(|text| entity(text))
        .collect::<Result<_, _>>()?;
    let client = connect::client(globals, &args.tenant.tenant).await?;
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for subject in subjects {
        let exists = args.force || !client.get(&subject).await.map_err(connect::read_failure)?.is_empty();
        if exists { &mut known } else { &mut unknown }.push(subject);
    }
    if !known.is_empty() {
        let changes = known
            .iter()
            .cloned()
            .map(|subject| Change::Delete { subject })
            .collect();
        let mut pending = client.write(changes).await.map_err(connect::write_failure)?;
        let taken = connect::acknowledged(&mut pending, globals.timeout).await?;
        report(globals, &known, &taken, &format!("deleted {}", listed(&known)));
    }
    client.close().await;
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format_args!(
        "{} has no entity {}; nothing to delete there",
        args.tenant.tenant,
        listed(&unknown)
    ))
    .advise("check the id; --force deletes it all the same, should it be on its way from another region"))
}

fn listed(subjects: &[EntityId]) -> String {
    let subjects: Vec<&str> = subjects.iter().map(EntityId::as_str).collect();
    subjects.join(", ")
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
    let mut pending = client.write(changes).await.map_err(connect::write_failure)?;
    let taken = connect::acknowledged(&mut pending, globals.timeout).await?;
    let took = connect::clock().monotonic().saturating_sub(started);
    client.close().await;
    if taken.superseded.is_empty() || globals.json {
        report(
            globals,
            std::slice::from_ref(subject),
            &taken,
            &done_text(subject, took),
        );
    }
    if !taken.overwritten.is_empty() && !globals.json {
        output::note(format!(
            "{} had lost already: a later write of the same field was there",
            output::plural(taken.overwritten.len() as u64, "change", "changes")
        ));
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

fn report(globals: &Globals, subjects: &[EntityId], taken: &Acknowledged, text: &str) {
    if globals.json {
        let subjects: Vec<&str> = subjects.iter().map(EntityId::as_str).collect();
        output::json(&json!({
            "subject": subjects.first(), "subjects": subjects,
            "origin": taken.tag.origin.to_string(), "seq": taken.tag.seq.0,
            "superseded": taken.superseded, "overwritten": taken.overwritten, "again": taken.again,
        }));
    } else {
        output::line(text);
    }
}

pub(super) fn entity(text: &str) -> Result<EntityId, Failure> {
    parse_id(text).map_err(Failure::usage)
}

pub(super) fn usage(error: ValueArgError) -> Failure {
    Failure::usage(error)
}

/// A value as a person reads it, and as `set` takes it behind its prefix.
pub fn plain(value: &Value) -> String {
    if let Value::Json(text) = value {
        // As it was written, as `--json` has it: its spaces and the order of its keys are part of it.
        return text.to_string();
    }
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
    fn one_field_has_one_value_in_one_write() {
        let subject = EntityId::new("a").unwrap();
        let fields = |fields: &[&str]| {
            let fields: Vec<String> = fields.iter().map(|&field| field.to_owned()).collect();
            field_changes(&subject, &fields, Some("t")).map(|changes| changes.len())
        };
        assert_eq!(fields(&["a=1", "b=1"]).unwrap(), 2);
        for twice in [["a=1", "a=2"], ["a=1", "t/a=1"], ["a=1", "a="]] {
            let failure = fields(&twice).unwrap_err();
            assert!(failure.message.contains("t/a is there twice"), "{failure}");
        }
    }

    #[test]
    fn json_is_shown_as_it_was_written() {
        assert_eq!(plain(&Value::Json("{\"b\":1, \"a\":2}".into())), "{\"b\":1, \"a\":2}");
        assert_eq!(plain(&Value::Date(0)), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn a_long_or_many_lined_value_is_cut() {
        assert_eq!(short("a\nb"), "a…");
        assert_eq!(short("ab"), "ab");
    }
}
