//! `halcyon watch`: a tenant's changes, or what becomes of a query's answer, as it happens.

use clap::Args;
use futures::StreamExt;
use halcyon_client::WatchEvent;
use halcyon_core::{
    change::{Change, ChangeSet},
    id::{EntityId, Predicate, Tag},
    version_vector::VersionVector,
};
use serde_json::{Value as Json, json};

use super::{
    Globals, connect,
    data::{TenantArg, plain, short},
    failure::Failure,
    output::{self, Tone},
    query,
    watch_query::{self, Following},
};

/// See there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  halcyon watch --tenant demo
  halcyon watch --tenant demo 'issue where open = true order by created desc limit 5 { title }'
  halcyon watch --tenant demo --table 'find ?name, count(?i) where ?i issue/labels ?l; ?l label/name ?name'
  halcyon watch --tenant demo --all --json
  halcyon watch --tenant demo --from VECTOR   (as an earlier --json run printed it)

Without --all or --from it begins with what happens from now on. It reconnects by itself and loses nothing.
With --json each line is an event: missed (a part of what is behind the vector), caught-up (all of it is in), live, and
anew (it was away for so long that deletions are forgotten: drop what was printed before, everything follows). The
vector of the last caught-up or live event is where a later run goes on, without gap or repeat.

With a QUERY it shows the answer and then what becomes of it: + a row that comes, - one that goes, ~ an entity that changes
(a row of a table goes, and another comes). With --json as events: status (local, syncing, synced, stale or offline), answer
(all rows: the first time, and where too much changed at once), delta (each change with its row, where it stood, `from`, and
where it stands, `at`, from 0 on). `answered_by` says whether the client answers it, or the node does because it rests on
too much to be sent.")]
pub struct WatchArgs {
    #[command(flatten)]
    tenant: TenantArg,
    /// Follow the answer to this query, text or JSON, instead of all changes; `-` reads it from stdin
    #[arg(conflicts_with_all = ["all", "from"])]
    query: Option<String>,
    /// Draw the whole answer anew whenever it changes
    #[arg(long, requires = "query")]
    table: bool,
    /// Begin with everything that the tenant holds
    #[arg(long, conflicts_with = "from")]
    all: bool,
    /// Begin behind this version vector, in hexadecimal
    #[arg(long, value_name = "VECTOR")]
    from: Option<String>,
    /// End after this many change sets, or changes of the answer
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Follows changes.
pub async fn run(args: WatchArgs, globals: &Globals) -> Result<(), Failure> {
    let from = args.from.as_deref().map(vector).transpose()?;
    let query = args.query.as_deref().map(query::given).transpose()?;
    let client = connect::client(globals, &args.tenant.tenant).await?;
    if let Some(query) = &query {
        let following = Following {
            query,
            table: args.table,
            count: args.count,
        };
        return watch_query::run(&client, &following, globals).await;
    }
    let from = match from {
        Some(from) => from,
        None if args.all => VersionVector::EMPTY,
        None => client.held().await.map_err(connect::read_failure)?,
    };
    let mut held = from.clone();
    let mut events = std::pin::pin!(client.watch(from));
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let event = tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => break,
            event = events.next() => event,
        };
        let Some(event) = event else { break };
        match event.map_err(connect::read_failure)? {
            WatchEvent::Anew => {
                held = VersionVector::EMPTY;
                anew(globals);
            }
            WatchEvent::Missed(set) => {
                left -= 1;
                show(globals, None, &set);
            }
            WatchEvent::CaughtUp(now) => {
                held = now;
                caught_up(globals, &held);
            }
            WatchEvent::Live { tag, set } => {
                left -= 1;
                held.raise(tag);
                show(globals, Some((tag, &held)), &set);
            }
        }
        output::flush();
    }
    Ok(())
}

/// A change, for programs.
pub fn change_json(change: &Change) -> Json {
    let cell = |what: &str| {
        json!({ "change": what, "subject": change.subject().map(EntityId::as_str),
                "predicate": change.predicate().map(Predicate::as_str),
                "value": change.value().map(halcyon_core::value::Value::to_typed_json) })
    };
    match change {
        Change::Set { .. } => cell("set"),
        Change::Unset { .. } => cell("unset"),
        Change::Add { .. } => cell("add"),
        Change::Remove { .. } => cell("remove"),
        Change::Create { subject } => json!({ "change": "create", "subject": subject.as_str() }),
        Change::Delete { subject } => json!({ "change": "delete", "subject": subject.as_str() }),
        Change::Opaque { kind, body } => json!({ "change": "opaque", "kind": kind, "body": hex::encode(body) }),
    }
}

/// `live`: the commit that brought the set, and what the watcher holds with it.
fn show(globals: &Globals, live: Option<(Tag, &VersionVector)>, set: &ChangeSet) {
    if globals.json {
        output::json(&event_json(live, set));
        return;
    }
    let tag = live.map(|(tag, _)| tag);
    let from = tag.map_or_else(
        || "earlier".to_owned(),
        |tag| format!("{} {}", tag.origin.node, tag.seq),
    );
    for change in &set.changes {
        output::line(format!("{}  {}", output::tint(Tone::Quiet, &from), sentence(change)));
    }
}

/// A set, for programs. One that was missed has no vector: only with all that was missed does the watcher hold more,
/// and then `caught-up` says so.
fn event_json(live: Option<(Tag, &VersionVector)>, set: &ChangeSet) -> Json {
    let changes: Vec<Json> = set.changes.iter().map(change_json).collect();
    let mut event = json!({
        "event": "missed", "client": set.client().to_string(), "timestamp": set.timestamp.to_string(),
        "changes": changes,
    });
    if let Some((tag, held)) = live {
        event["event"] = "live".into();
        event["tag"] = json!({ "origin": tag.origin.to_string(), "seq": tag.seq.0 });
        event["vector"] = hex::encode(held.encode()).into();
    }
    event
}

fn sentence(change: &Change) -> String {
    let value = change.value().map(|value| short(&plain(value))).unwrap_or_default();
    let subject = change.subject().map(ToString::to_string).unwrap_or_default();
    let field = change.predicate().map(ToString::to_string).unwrap_or_default();
    match change {
        Change::Set { .. } => format!("{subject}  {field} = {value}"),
        Change::Unset { .. } => format!("{subject}  {field} is unset"),
        Change::Add { .. } => format!("{subject}  {field} + {value}"),
        Change::Remove { .. } => format!("{subject}  {field} - {value}"),
        Change::Create { .. } => format!("{subject}  created"),
        Change::Delete { .. } => format!("{subject}  deleted"),
        Change::Opaque { kind, .. } => format!("a change of kind {kind}, which this release does not know"),
    }
}

fn anew(globals: &Globals) {
    if globals.json {
        output::json(&json!({ "event": "anew" }));
    } else {
        output::note("away for too long: what was shown before may have been deleted since; everything follows");
    }
}

fn caught_up(globals: &Globals, held: &VersionVector) {
    if globals.json {
        output::json(&json!({ "event": "caught-up", "vector": hex::encode(held.encode()) }));
    } else {
        output::note("up to date; waiting for changes (Ctrl-C ends)");
    }
}

fn vector(text: &str) -> Result<VersionVector, Failure> {
    let error = || Failure::usage("--from is not a version vector").advise("use the `vector` of an earlier --json run");
    let bytes = hex::decode(text).map_err(|_| error())?;
    VersionVector::decode(&bytes).map_err(|_| error())
}

#[cfg(test)]
mod tests {
    use halcyon_core::{
        clock::{ClientId, NTP64, timestamp},
        id::{NodeId, OriginId, Seq},
    };

    use super::*;

    #[test]
    fn only_an_event_to_go_on_from_has_a_vector() {
        let set = ChangeSet {
            timestamp: timestamp(NTP64(7), ClientId::from_random(1)),
            number: 1,
            changes: Vec::new(),
        };
        assert_eq!(event_json(None, &set).get("vector"), None);
        let origin = OriginId {
            node: NodeId(1),
            incarnation: 2,
        };
        let tag = Tag { origin, seq: Seq(3) };
        let mut held = VersionVector::EMPTY;
        held.raise(tag);
        let event = event_json(Some((tag, &held)), &set);
        let text = event["vector"].as_str().unwrap();
        assert_eq!(
            vector(text).unwrap(),
            held,
            "an earlier run's vector is where the next begins"
        );
    }

    #[test]
    fn a_vector_that_is_none_is_refused() {
        for text in ["", "xyz", "0", "ffff"] {
            assert!(vector(text).is_err(), "{text}");
        }
    }
}
