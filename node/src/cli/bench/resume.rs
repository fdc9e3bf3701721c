//! A program that was away while others wrote: bytes on its connections and time until its answer is the node's again,
//! beside those of a first load. It keeps its data on disk, ends, and starts again, so it comes back by digest.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clap::Args;
use halcyon_client::{Client, LiveQuery, Outbox, env};
use halcyon_core::{env::Env, query::answer::Datum, value::Value};

use super::{
    Figure, cluster,
    counted::counted,
    float,
    followed::{Items, Place, follow, until_synced},
};
use crate::cli::{
    Globals, connect,
    failure::{Failure, file_failure},
    output,
};

/// First loads that are timed besides the very first.
const LOADS: usize = 5;

/// Triples of an entity.
const FIELDS: u64 = 5;

/// What a changed title says.
const CHANGED: &str = "changed while the client was away";

/// See there.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// Entities that the client follows, of five fields each
    #[arg(long, default_value_t = 20_000)]
    entities: u64,
    /// Entities that change while it is away
    #[arg(long, default_value_t = 10)]
    changed: u64,
    /// The tenant to write to, with --cluster
    #[arg(long, default_value = cluster::TENANT)]
    tenant: String,
}

/// A client's directory. It goes when this does.
struct Home(PathBuf);

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) async fn run(args: &ResumeArgs, dir: &Path, globals: &Globals) -> Result<Vec<Figure>, Failure> {
    let place = Place::open(dir, globals, &args.tenant).await?;
    let items = Items::of_a_new_type();
    let writer = place.client().await?;
    items.fill(&writer, 0..args.entities).await?;
    let name = format!(
        "{} entities, {} triples into a fresh client",
        output::count(args.entities),
        output::count(args.entities * FIELDS)
    );
    output::note(&name);
    let mut figures = loads(args, &place, &items, &name).await?;
    output::note("the same on disk, and back again after others wrote");
    figures.extend(away(args, (&place, dir), &items, &writer).await?);
    Ok(figures)
}

/// First loads into clients that keep nothing.
async fn loads(args: &ResumeArgs, place: &Place, items: &Items, name: &str) -> Result<Vec<Figure>, Failure> {
    let mut times = Vec::new();
    for _ in 0..=LOADS {
        let client = place.client().await?;
        let (took, live) = load(&client, &items.name, args.entities).await?;
        times.push(took.as_secs_f64() * 1e3);
        drop(live);
        client.close().await;
    }
    // The node reads the tenant into memory for the first that follows anything.
    let first = times.remove(0);
    Ok(vec![
        Figure::new(name, super::median(&times), "ms").reaching(Some(400.0)),
        Figure::new("the first of them, for which the node reads its disk", first, "ms"),
    ])
}

async fn away(
    args: &ResumeArgs,
    (place, dir): (&Place, &Path),
    items: &Items,
    writer: &Client,
) -> Result<Vec<Figure>, Failure> {
    let home = dir.join(format!("halcyon-bench-{}", hex::encode(connect::random_bytes(6))));
    std::fs::create_dir_all(&home).map_err(|error| file_failure("make", &home, &error))?;
    let home = Home(home);
    let bytes = Arc::new(AtomicU64::new(0));
    let outbox = || Outbox::Disk("app".to_owned());
    let client = place.client_in(world(&home, &bytes)?, outbox()).await?;
    let (_, live) = load(&client, &items.name, args.entities).await?;
    // What is followed when the program ends is kept.
    client.close().await;
    drop(live);
    let all = bytes.swap(0, Ordering::Relaxed);
    let apart = (args.entities / args.changed.max(1)).max(1);
    let changed = args.changed.min(args.entities);
    let changes = (0..changed).map(|at| items.set(at * apart, "title", Value::string(CHANGED)));
    let pending = writer.write(changes.collect()).await.map_err(connect::write_failure)?;
    pending.acknowledged().await.map_err(connect::refused_failure)?;
    let began = connect::clock().monotonic();
    let client = place.client_in(world(&home, &bytes)?, outbox()).await?;
    let opened = connect::clock().monotonic().saturating_sub(began);
    let (took, live) = load(&client, &items.name, args.entities).await?;
    let back = bytes.swap(0, Ordering::Relaxed);
    let count = format!("find count(?p) where ?p {}/title {CHANGED:?}", items.name);
    let seen = client.query_local(&count).map_err(Failure::failed)?;
    let seen = seen.rows.to_json(Datum::to_json).to_string();
    if !seen.contains(&changed.to_string()) {
        return Err(Failure::failed(format_args!(
            "{changed} entities changed, the client shows {seen}"
        )));
    }
    client.close().await;
    drop(live);
    let of = format!("{changed} of {} changed", output::count(args.entities));
    Ok(vec![
        Figure::new(
            format!("back after {of}: bytes against a first load"),
            float(back) / float(all) * 100.0,
            "%",
        )
        .reaching(Some(5.0)),
        Figure::new("bytes to come back, both ways", float(back) / 1e3, "KB"),
        Figure::new("bytes of a first load, both ways", float(all) / 1e3, "KB"),
        Figure::millis("from followed again to the node's answer", took),
        Figure::millis(
            "before that, until the program has read its disk and found the node",
            opened,
        ),
    ])
}

fn world(home: &Home, bytes: &Arc<AtomicU64>) -> Result<Env, Failure> {
    let env = env::system(Some(&home.0)).map_err(|error| file_failure("open", &home.0, &error))?;
    Ok(counted(env, bytes))
}

/// Follows all of a type until the answer is the node's.
async fn load(client: &Client, query: &str, entities: u64) -> Result<(Duration, LiveQuery), Failure> {
    let clock = connect::clock();
    let began = clock.monotonic();
    let mut live = follow(client, query)?;
    until_synced(&mut live).await?;
    let took = clock.monotonic().saturating_sub(began);
    let rows = live.answer().map_or(0, |answer| answer.rows.len()) as u64;
    if rows == entities {
        Ok((took, live))
    } else {
        Err(Failure::failed(format_args!(
            "the client has {rows} of {entities} entities"
        )))
    }
}
