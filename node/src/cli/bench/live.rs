//! A live top 50, and a change that moves an entity to its top: from the writer's call to the follower's update, the
//! node's disk included. Of so many entities, and of more, which must cost the same.

use std::{path::Path, time::Duration};

use clap::Args;
use halcyon_client::Client;
use halcyon_core::value::Value;

use super::{
    Figure, cluster,
    followed::{Items, Place, date, follow, until_synced, until_told},
    percentile,
};
use crate::cli::{Globals, connect, failure::Failure, output};

/// Between two samples, so that each meets an idle node.
const PAUSE: Duration = Duration::from_millis(2);

/// Samples before the first that counts.
const WARM_UP: u64 = 20;

/// See there.
#[derive(Debug, Args)]
pub struct LiveArgs {
    /// Entities to choose from, ascending
    #[arg(long, value_delimiter = ',', default_values_t = [20_000, 200_000])]
    entities: Vec<u64>,
    /// Rows of the query
    #[arg(long, default_value_t = 50)]
    rows: usize,
    /// Changes to time
    #[arg(long, default_value_t = 300)]
    samples: u64,
    /// The tenant to write to, with --cluster
    #[arg(long, default_value = cluster::TENANT)]
    tenant: String,
}

pub(super) async fn run(args: &LiveArgs, dir: &Path, globals: &Globals) -> Result<Vec<Figure>, Failure> {
    let place = Place::open(dir, globals, &args.tenant).await?;
    let items = Items::of_a_new_type();
    let writer = place.client().await?;
    let (mut there, mut figures) = (0, Vec::new());
    for &entities in &args.entities {
        items.fill(&writer, there..entities).await?;
        there = there.max(entities);
        let follower = place.client().await?;
        figures.extend(measure(args, &items, (&writer, &follower), there).await?);
        follower.close().await;
    }
    Ok(figures)
}

async fn measure(
    args: &LiveArgs,
    items: &Items,
    (writer, follower): (&Client, &Client),
    entities: u64,
) -> Result<Vec<Figure>, Failure> {
    let clock = connect::clock();
    let limit = args.rows;
    let query = format!(
        "{} order by created desc limit {limit} {{ title, created }}",
        items.name
    );
    output::note(format!("a top {limit} of {} entities", output::count(entities)));
    let began = clock.monotonic();
    let mut live = follow(follower, &query)?;
    until_synced(&mut live).await?;
    let opened = clock.monotonic().saturating_sub(began);
    let rows = live.answer().map_or(0, |answer| answer.rows.len());
    if rows != limit {
        return Err(Failure::failed(format_args!("the answer has {rows} rows, not {limit}")));
    }
    let mut times = Vec::new();
    for at in 0..args.samples + WARM_UP {
        // Later than all before it, from anywhere among them.
        let created = Value::Date(date(2 * entities + at));
        let change = items.set(at * 7_919 % entities, "created", created.clone());
        let began = clock.monotonic();
        let pending = writer.write(vec![change]).await.map_err(connect::write_failure)?;
        // What is still told of before this is none of its time.
        until_told(&mut live, &created).await?;
        if at >= WARM_UP {
            times.push(clock.monotonic().saturating_sub(began));
        }
        pending.acknowledged().await.map_err(connect::refused_failure)?;
        tokio::time::sleep(PAUSE).await;
    }
    times.sort();
    let name = format!("a change to a live top {limit} of {}", output::count(entities));
    let time = |percent| percentile(&times, percent);
    Ok(vec![
        Figure::millis(format!("{name}, written to told, p50"), time(50)).reaching(Some(3.0)),
        Figure::millis(format!("{name}, written to told, p99"), time(99)),
        Figure::millis("before that, until the first answer was the node's", opened),
    ])
}
