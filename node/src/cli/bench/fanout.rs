//! One change that reaches many: a thousand different live queries, and a thousand subscribers of one.
//!
//! The different queries are followed by the client library, as apps do. The subscribers of one query are counted twice:
//! as bare session streams beside bare streams of a tonic server that does nothing else (a process of its own, as the
//! node is), on few connections and on one each; and as clients of the library, each with its store and its answer.

use std::{path::Path, time::Duration};

use clap::Args;
use halcyon_client::{Client, LiveQuery};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    Figure, cluster, float,
    followed::{GROUP, Items, Place, follow, group, number, until_moved, until_synced},
    percentile,
    streams::{Bare, Streams, To},
};
use crate::cli::{Globals, connect, failure::Failure, output};

/// Live queries of one client: a session has at most 256.
const QUERIES_PER_CLIENT: usize = 250;

/// Entities there are for each measurement, of a type of its own: a node goes on with what was followed in the one before
/// until the grace of its sessions has passed. Each query covers ten.
const ENTITIES: u64 = 100;

/// Between two changes, so that each meets an idle node.
const PAUSE: Duration = Duration::from_millis(50);

/// Before memory is read: what so many calls at once took for the moment goes back to the system.
const SETTLE: Duration = Duration::from_secs(5);

/// Changes before the first that counts.
const WARM_UP: u64 = 3;

/// Of a crowd: clients for each that follows something, and connections that all of them share.
const CROWD_PER_ACTIVE: usize = 100;
const CROWD_CONNECTIONS: usize = 200;

/// How long one change may take to reach all.
const PATIENCE: Duration = Duration::from_mins(1);

/// See there.
#[derive(Debug, Args)]
pub struct FanoutArgs {
    /// Different queries
    #[arg(long, default_value_t = 1_000)]
    queries: usize,
    /// Subscribers of one query
    #[arg(long, default_value_t = 1_000)]
    subscribers: usize,
    /// Connections of the bare streams, in turn; each client of the library has its own
    #[arg(long, value_delimiter = ',', default_values_t = [8, 1_000])]
    connections: Vec<usize>,
    /// Changes to time, each
    #[arg(long, default_value_t = 30)]
    changes: u64,
    /// Nothing of that, but so many connected clients, of which one in a hundred follows something
    #[arg(long, value_name = "CLIENTS")]
    crowd: Option<usize>,
    /// The tenant to write to, with --cluster
    #[arg(long, default_value = cluster::TENANT)]
    tenant: String,
}

/// Makes changes to an entity that everybody follows.
pub(super) struct Writer<'a> {
    client: &'a Client,
    items: Items,
    rank: u64,
}

impl<'a> Writer<'a> {
    async fn new(client: &'a Client) -> Result<Self, Failure> {
        let items = Items::of_a_new_type();
        items.fill(client, 0..ENTITIES).await?;
        let rank = ENTITIES;
        Ok(Self { client, items, rank })
    }

    /// Writes one more change: when that began.
    async fn change(&mut self) -> Result<Duration, Failure> {
        self.rank += 1;
        let change = self.items.set(GROUP + 1, "rank", number(self.rank));
        let began = connect::clock().monotonic();
        self.client.write(vec![change]).await.map_err(connect::write_failure)?;
        Ok(began)
    }

    async fn rest(&self) -> Result<(), Failure> {
        self.client.flush().await.map_err(connect::flush_failure)?;
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }
}

pub(super) async fn run(args: &FanoutArgs, dir: &Path, globals: &Globals) -> Result<Vec<Figure>, Failure> {
    let place = Place::open(dir, globals, &args.tenant).await?;
    let client = place.client().await?;
    if let Some(crowd) = args.crowd {
        return self::crowd(args, crowd, &place, Writer::new(&client).await?).await;
    }
    let mut figures = different(args, &place, Writer::new(&client).await?).await?;
    for &connections in &args.connections {
        figures.extend(same(args, connections, &place, Writer::new(&client).await?).await?);
    }
    figures.extend(library(args, &place, Writer::new(&client).await?).await?);
    Ok(figures)
}

fn query(items: &Items, of_group: u64, at: usize) -> String {
    let group = group(of_group);
    format!(
        "{} where group = {group:?} and rank > -{} order by created",
        items.name,
        at + 1
    )
}

/// Different queries, of which each covers the same ten entities.
async fn different(args: &FanoutArgs, place: &Place, mut writer: Writer<'_>) -> Result<Vec<Figure>, Failure> {
    output::note(format!("{} different live queries", args.queries));
    // From here on the node has the tenant in memory.
    let first = place.client().await?;
    let mut warm = follow(&first, &query(&writer.items, 1, args.queries))?;
    until_synced(&mut warm).await?;
    let mut clients = Vec::new();
    // As many again, which no change reaches: they pay for what so many calls at once take and give back.
    let others = follow_all(args, place, &writer.items, 2, &mut clients).await?;
    let before = bytes_at_rest(place).await;
    let lives = follow_all(args, place, &writer.items, 1, &mut clients).await?;
    let after = bytes_at_rest(place).await;
    let (times, _) = rounds(args, &mut writer, lives).await?;
    drop(others);
    for client in clients.into_iter().chain([first]) {
        client.close().await;
    }
    let name = format!("a change reaches {} different live queries", args.queries);
    let mut figures = vec![
        Figure::millis(format!("{name}, p50"), percentile(&times, 50)),
        Figure::millis(format!("{name}, p99"), percentile(&times, 99)).reaching(Some(30.0)),
    ];
    if let (Some(before), Some(after)) = (before, after) {
        let each = float(after.saturating_sub(before)) / float(args.queries.max(1) as u64);
        let figure = Figure::new(
            "resident memory of the node for each more, ten entities covered",
            each / 1e3,
            "KB",
        );
        figures.push(figure.reaching(Some(10.0)));
    }
    Ok(figures)
}

/// What the node takes once what was done has been put away.
async fn bytes_at_rest(place: &Place) -> Option<u64> {
    tokio::time::sleep(SETTLE).await;
    place.node_bytes()
}

async fn follow_all(
    args: &FanoutArgs,
    place: &Place,
    items: &Items,
    of_group: u64,
    clients: &mut Vec<Client>,
) -> Result<Vec<LiveQuery>, Failure> {
    let mut lives = Vec::new();
    for at in 0..args.queries {
        if at % QUERIES_PER_CLIENT == 0 {
            clients.push(place.client().await?);
        }
        if let Some(client) = clients.last() {
            lives.push(follow(client, &query(items, of_group, at))?);
        }
    }
    for live in &mut lives {
        until_synced(live).await?;
    }
    Ok(lives)
}

/// One query, as bare streams, in turns with those of a bare server.
async fn same(
    args: &FanoutArgs,
    connections: usize,
    place: &Place,
    mut writer: Writer<'_>,
) -> Result<Vec<Figure>, Failure> {
    let (count, connections) = (args.subscribers, connections.min(args.subscribers));
    output::note(format!("{count} subscribers of one query on {connections} connections"));
    let bare = Bare::start().await?;
    let mut theirs = Streams::open(&bare.address, (connections, count), To::Bare).await?;
    let query = query(&writer.items, 1, 0);
    let mut ours = Streams::open(place.address(), (connections, count), To::Node(place, Some(&query))).await?;
    let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
    for at in 0..args.changes + WARM_UP {
        let began = writer.change().await?;
        let (our, bytes) = ours.last_of_all().await?;
        let our = our.saturating_sub(began);
        writer.rest().await?;
        let began = connect::clock().monotonic();
        bare.tell(bytes).await?;
        let their = theirs.last_of_all().await?.0.saturating_sub(began);
        tokio::time::sleep(PAUSE).await;
        if at >= WARM_UP {
            our_times.push(our.as_secs_f64() * 1e3);
            their_times.push(their.as_secs_f64() * 1e3);
        }
    }
    let (our, their) = (super::median(&our_times), super::median(&their_times));
    let name = format!("{count} subscribers of one query on {connections} connections");
    Ok(vec![
        Figure::new(
            format!("{name}, written to the last, times the bare server's"),
            our / their,
            "x",
        )
        .reaching(Some(1.5)),
        Figure::new("written to the last", our, "ms"),
        Figure::new("a bare tonic server, told to the last", their, "ms"),
    ])
}

/// Many sessions, of which few follow anything.
async fn crowd(
    args: &FanoutArgs,
    clients: usize,
    place: &Place,
    mut writer: Writer<'_>,
) -> Result<Vec<Figure>, Failure> {
    let active = (clients / CROWD_PER_ACTIVE).max(1);
    output::note(format!("{clients} connected clients, of which {active} follow a query"));
    let query = query(&writer.items, 1, 0);
    let open = async |count, query| {
        let connections = CROWD_CONNECTIONS.min(count);
        Streams::open(place.address(), (connections, count), To::Node(place, query)).await
    };
    let mut following = open(active, Some(&*query)).await?;
    let before = place.node_bytes();
    let idle = open(clients.saturating_sub(active).max(1), None).await?;
    let after = place.node_bytes();
    let mut times = Vec::new();
    for at in 0..args.changes + WARM_UP {
        let began = writer.change().await?;
        let last = following.last_of_all().await?.0.saturating_sub(began);
        writer.rest().await?;
        if at >= WARM_UP {
            times.push(last);
        }
    }
    times.sort();
    drop(idle);
    let name = format!("{clients} connected clients, {active} of them following, written to the last told");
    let mut figures = vec![
        Figure::millis(format!("{name}, p50"), percentile(&times, 50)),
        Figure::millis(format!("{name}, p99"), percentile(&times, 99)),
    ];
    if let (Some(before), Some(after)) = (before, after) {
        let each = float(after.saturating_sub(before)) / float(clients.max(1) as u64) / 1e3;
        figures.push(Figure::new(
            "resident memory of the node for each that follows nothing",
            each,
            "KB",
        ));
        figures.push(Figure::megabytes("resident memory of the node with all of them", after));
    }
    Ok(figures)
}

/// One query, by clients of the library.
async fn library(args: &FanoutArgs, place: &Place, mut writer: Writer<'_>) -> Result<Vec<Figure>, Failure> {
    output::note(format!("{} clients with one query", args.subscribers));
    let (mut clients, mut lives) = (Vec::new(), Vec::new());
    for _ in 0..args.subscribers {
        let client = place.client().await?;
        lives.push(follow(&client, &query(&writer.items, 1, 0))?);
        clients.push(client);
    }
    for live in &mut lives {
        until_synced(live).await?;
    }
    let (_, lasts) = rounds(args, &mut writer, lives).await?;
    for client in clients {
        client.close().await;
    }
    let name = format!(
        "{} clients of the library with one query, written to the last told",
        args.subscribers
    );
    Ok(vec![Figure::new(name, super::median(&lasts), "ms")])
}

/// Changes, each of which all hear: the times of all, ascending, and those of the last to hear of each, in ms.
async fn rounds(
    args: &FanoutArgs,
    writer: &mut Writer<'_>,
    lives: Vec<LiveQuery>,
) -> Result<(Vec<Duration>, Vec<f64>), Failure> {
    let count = lives.len();
    let (tell, mut heard) = mpsc::channel(2 * count.max(1));
    let mut followers = JoinSet::new();
    for mut live in lives {
        let tell = tell.clone();
        followers.spawn(async move {
            while until_moved(&mut live).await.is_ok() {
                if tell.send(connect::clock().monotonic()).await.is_err() {
                    return;
                }
            }
        });
    }
    let (mut times, mut lasts) = (Vec::new(), Vec::new());
    for at in 0..args.changes + WARM_UP {
        let began = writer.change().await?;
        let mut of_this = Vec::with_capacity(count);
        for _ in 0..count {
            let late = || {
                Failure::failed(format_args!(
                    "a change did not reach all within {} s",
                    PATIENCE.as_secs()
                ))
            };
            let moment = tokio::time::timeout(PATIENCE, heard.recv()).await.map_err(|_| late())?;
            of_this.push(moment.ok_or_else(late)?.saturating_sub(began));
        }
        writer.rest().await?;
        if at >= WARM_UP {
            lasts.push(of_this.iter().max().map_or(0.0, Duration::as_secs_f64) * 1e3);
            times.extend(of_this);
        }
    }
    times.sort();
    Ok((times, lasts))
}
