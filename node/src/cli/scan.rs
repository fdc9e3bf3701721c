//! `halcyon scan`: the triples that match a pattern.

use clap::Args;
use halcyon_client::{Client, ReadError, ScanQuery, Triple};
use halcyon_core::{id::EntityId, value::Value};
use serde_json::json;

use super::{
    Globals, connect,
    data::{TenantArg, entity, plain, short, usage},
    failure::Failure,
    output::{self, Rows},
    value_args::{parse_element, parse_field, parse_value},
};

/// Triples that `scan` shows where no limit is given.
const SCAN_LIMIT: u32 = 100;

/// Triples asked for in one page.
const PAGE: u32 = 1_000;

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
    #[arg(long, default_value_t = SCAN_LIMIT, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// All of them, written as they come
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

/// Lists triples.
pub async fn run(args: ScanArgs, globals: &Globals) -> Result<(), Failure> {
    let mut query = query(&args)?;
    let client = connect::client(globals, &args.tenant.tenant).await?;
    let mut listing = Listing::new(globals);
    let listed = if args.all || args.limit > PAGE {
        query.limit = PAGE;
        let left = if args.all { usize::MAX } else { args.limit as usize };
        all(&client, query, left, &mut listing).await
    } else {
        query.limit = args.limit;
        client.scan(query).await.map(|page| {
            listing.add(&page.triples);
            !page.cursor.is_empty()
        })
    };
    client.close().await;
    let more = listed.map_err(connect::read_failure)?;
    listing.end(more);
    if more && !globals.json {
        output::note(format!(
            "There are more than {}: add --limit N or --all.",
            output::count(args.limit.into())
        ));
    }
    Ok(())
}

/// Shows up to `left` triples as they come. Returns whether there are more.
async fn all(client: &Client, query: ScanQuery, mut left: usize, listing: &mut Listing) -> Result<bool, ReadError> {
    let mut pages = client.pages(query);
    let mut moves = 0;
    while let Some(mut triples) = pages.next().await? {
        if pages.moves() > moves {
            moves = pages.moves();
            output::note("The replica that was read is lost: the scan goes on at another, without what was shown.");
        }
        if triples.len() > left {
            triples.truncate(left);
            listing.add(&triples);
            return Ok(true);
        }
        left -= triples.len();
        listing.add(&triples);
    }
    Ok(false)
}

/// Triples as a table or as one JSON document, written as they come.
struct Listing {
    json: bool,
    is_begun: bool,
    rows: Rows,
}

impl Listing {
    fn new(globals: &Globals) -> Self {
        Self {
            json: globals.json,
            is_begun: false,
            rows: Rows::new(&["subject", "field", "type", "value"]),
        }
    }

    fn add(&mut self, triples: &[Triple]) {
        if self.json {
            let mut text = String::new();
            for triple in triples {
                text.push_str(if self.is_begun { "," } else { "{\"triples\":[" });
                self.is_begun = true;
                let triple = json!({ "subject": triple.subject.as_str(), "predicate": triple.predicate.as_str(),
                                     "value": triple.value.to_typed_json() });
                text.push_str(&triple.to_string());
            }
            output::part(text);
            return;
        }
        for triple in triples {
            let value = short(&plain(&triple.value));
            self.rows.push([
                triple.subject.as_str(),
                triple.predicate.as_str(),
                triple.value.type_name(),
                &value,
            ]);
        }
        self.rows.print_so_far();
        self.is_begun = true;
    }

    fn end(self, more: bool) {
        if self.json {
            let start = if self.is_begun { "" } else { "{\"triples\":[" };
            output::line(format!("{start}],\"more\":{more}}}"));
        } else if !self.is_begun {
            self.rows.print();
        }
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
}
