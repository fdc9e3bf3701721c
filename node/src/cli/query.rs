//! `halcyon query` and `halcyon explain`: what a tenant's triples say, and how a node finds it out.

use std::{io::Read, path::PathBuf};

use clap::Args;
use halcyon_client::QueryRows;
use halcyon_core::value::Value;
use serde_json::{Map, Value as Json, json};

use super::{
    Globals, connect,
    data::{TenantArg, plain, short},
    failure::{Failure, file_failure},
    output::{self, Rows},
};

/// Bytes of a query that are read from a file or from stdin. A node takes fewer.
const QUERY_BYTES_MAX: u64 = 1 << 20;

/// What is asked.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// The query, as text or as JSON; `-` reads it from stdin
    query: Option<String>,
    /// Read the query from a file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// See there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  halcyon query --tenant demo 'user { name }'
  halcyon query --tenant demo 'issue where open = true and creator.name starts \"A\" order by created desc limit 5
    { title, creator { name }, labels[] { name }, <comment.issue order by created limit 2 { body } }'
  halcyon query --tenant demo 'find ?name, count(?i) where ?i issue/labels ?l; ?l label/name ?name
    order by count(?i) desc limit 5'
  halcyon query --tenant demo --json '{\"from\": \"label\", \"where\": [\"name\", \"=\", \"bug\"]}'
  echo 'label order by name' | halcyon query --tenant demo -

A query asks for objects (`issue where …`) or for rows (`find … where …`); core/docs/query.md has the language. With
--json each row is a JSON object on a line of its own; values are typed: {\"$date\": …}, {\"$ref\": …}. Where the limit
was reached, or the node lags, stderr has {\"stale\": …, \"next\": …}; `next` goes behind the query's `after`.")]
pub struct QueryArgs {
    #[command(flatten)]
    tenant: TenantArg,
    #[command(flatten)]
    source: Source,
}

/// See there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  halcyon explain --tenant demo 'issue where creator.name starts \"A\" order by created desc limit 5'
  halcyon explain --tenant demo --analyze 'find count(?c) where ?c comment/issue ?i; ?i issue/open true'

Each line is a step: what it looks up, by which index, how many rows are expected (~) and, with --analyze, how many came
(=). A * marks what a step finds; what has none is known before.")]
pub struct ExplainArgs {
    #[command(flatten)]
    tenant: TenantArg,
    #[command(flatten)]
    source: Source,
    /// Run the query too, and count the rows of every step
    #[arg(long)]
    analyze: bool,
}

impl Source {
    fn read(&self) -> Result<String, Failure> {
        match (&self.query, &self.file) {
            (Some(query), _) => given(query),
            (None, Some(file)) => std::fs::File::open(file)
                .and_then(read_text)
                .map_err(|error| file_failure("read", file, &error)),
            (None, None) => Err(Failure::usage("there is no query")),
        }
    }
}

/// A query of the command line; `-` stands for stdin.
pub fn given(query: &str) -> Result<String, Failure> {
    if query != "-" {
        return Ok(query.to_owned());
    }
    read_text(std::io::stdin().lock()).map_err(|error| Failure::usage(format_args!("stdin: {error}")))
}

fn read_text(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(QUERY_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Asks.
pub async fn run(args: QueryArgs, globals: &Globals) -> Result<(), Failure> {
    let query = args.source.read()?;
    let client = connect::client(globals, &args.tenant.tenant).await?;
    let mut rows = client.query(&query).await.map_err(connect::query_failure)?;
    let found = if globals.json {
        print_json(&mut rows).await?
    } else {
        print_table(&mut rows).await?
    };
    let asked = connect::answered_by(&client.status());
    client.close().await;
    if globals.json {
        // Beside the rows, on stderr: a script that pages takes it from there.
        if rows.is_stale() || rows.next_page().is_some() {
            output::note(json!({ "stale": rows.is_stale(), "next": rows.next_page() }).to_string());
        }
    } else {
        if rows.is_stale() {
            output::note("This node lags behind what was asked for: the answer may be older.");
        }
        let count = output::plural(found, "row", "rows");
        output::note(if found == 0 {
            format!("{count}, says {asked}")
        } else {
            count
        });
        if let Some(next) = rows.next_page() {
            output::note(format!("There may be more: add `after {next}`."));
        }
    }
    Ok(())
}

/// Explains.
pub async fn explain(args: ExplainArgs, globals: &Globals) -> Result<(), Failure> {
    let query = args.source.read()?;
    let client = connect::client(globals, &args.tenant.tenant).await?;
    let explained = client.explain(&query, args.analyze).await;
    let explained = explained.map_err(connect::query_failure)?;
    client.close().await;
    output::line(if globals.json { explained.json } else { explained.text }.trim_end());
    Ok(())
}

async fn print_json(rows: &mut QueryRows) -> Result<u64, Failure> {
    let mut count = 0;
    while let Some(row) = rows.next().await.map_err(connect::query_failure)? {
        output::json(&named(rows.columns(), parsed(&row)?));
        count += 1;
    }
    Ok(count)
}

async fn print_table(rows: &mut QueryRows) -> Result<u64, Failure> {
    let mut found = Vec::new();
    while let Some(row) = rows.next().await.map_err(connect::query_failure)? {
        found.push(named(rows.columns(), parsed(&row)?));
    }
    let table = table(rows.columns(), &found);
    if !table.is_empty() || !rows.columns().is_empty() {
        table.print();
    }
    Ok(found.len() as u64)
}

fn parsed(row: &str) -> Result<Json, Failure> {
    serde_json::from_str(row).map_err(|error| Failure::failed(format_args!("a row cannot be read: {error}")))
}

/// A row as an object, whatever was asked for.
fn named(columns: &[String], row: Json) -> Json {
    match row {
        Json::Array(cells) => Json::Object(columns.iter().cloned().zip(cells).collect()),
        object => object,
    }
}

/// Rows under the names of all their members, in the order in which they come.
pub(super) fn table(columns: &[String], rows: &[Json]) -> Rows {
    let mut names: Vec<&str> = columns.iter().map(String::as_str).collect();
    for name in rows.iter().filter_map(Json::as_object).flat_map(Map::keys) {
        // The id comes first, wherever JSON puts it.
        if !names.contains(&name.as_str()) {
            names.insert(if name == "id" { 0 } else { names.len() }, name);
        }
    }
    let mut table = Rows::new(&names);
    for row in rows {
        table.push(names.iter().map(|name| row.get(name).map_or_else(String::new, cell)));
    }
    table
}

/// A row in one line, the id first.
pub(super) fn sentence(row: &Json) -> String {
    let members = row.as_object().into_iter().flatten();
    let (id, others): (Vec<_>, Vec<_>) = members.partition(|(name, _)| *name == "id");
    let id = id.into_iter().map(|(_, id)| cell(id));
    let others = others
        .into_iter()
        .map(|(name, value)| format!("{name} = {}", cell(value)));
    id.chain(others).collect::<Vec<_>>().join("  ")
}

/// A cell as a person reads it, in one line.
fn cell(json: &Json) -> String {
    match untyped(json) {
        Json::Null => "-".to_owned(),
        Json::String(text) => short(&text),
        other => short(&other.to_string()),
    }
}

/// Typed values as plain ones, however deep they lie.
fn untyped(json: &Json) -> Json {
    match json {
        Json::Array(items) => items.iter().map(untyped).collect(),
        Json::Object(members) => {
            let is_value = members.len() == 1 && members.keys().all(|key| key.starts_with('$'));
            match Value::from_typed_json(json) {
                Ok(value) if is_value => Json::String(plain(&value)),
                _ => Json::Object(
                    members
                        .iter()
                        .map(|(name, member)| (name.clone(), untyped(member)))
                        .collect(),
                ),
            }
        }
        plain => plain.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_become_a_table_that_people_can_read() {
        let columns = ["name".to_owned(), "n".to_owned()];
        let rows = [
            named(&columns, json!(["bug", 3])),
            named(&columns, json!([null, {"$date": 0}])),
        ];
        assert_eq!(
            table(&columns, &rows).render(),
            "NAME  N\nbug   3\n-     1970-01-01T00:00:00Z"
        );
    }

    #[test]
    fn objects_become_a_table_with_the_id_in_front() {
        let rows = [
            json!({"by": {"id": "u1", "name": "Ada"}, "id": "p1", "tags": ["a", {"$ref": "u2"}]}),
            json!({"by": null, "id": "p2", "tags": []}),
        ];
        assert_eq!(
            table(&[], &rows).render(),
            "ID  BY                        TAGS\np1  {\"id\":\"u1\",\"name\":\"Ada\"}  [\"a\",\"u2\"]\np2  -                         []"
        );
    }
}
