//! Cursors: users of one room who all move many times a second, on one node and spread over two. How old a move is when
//! another user is shown it, what all of that costs the nodes, and what a live query notices of it.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::Args;
use halcyon_client::{
    Client, LiveQuery,
    rooms::{Room, RoomChanges},
};
use halcyon_core::{
    query::answer::{Member, Rows},
    value::Value,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    Figure, cluster, float,
    followed::{Items, Place, follow, number, until_moved, until_synced},
    percentile,
};
use crate::cli::{Globals, connect, dev::REGIONS, failure::Failure, output, room::room_failure};

/// Nodes that a measurement starts for itself, each in a region of its own.
const NODES: usize = 2;

/// From when all are in the room to the first move that counts.
const SETTLE: Duration = Duration::from_secs(1);

/// Entities that the live query takes from, and those it shows.
const ENTITIES: u64 = 100;
const TOP: usize = 50;

/// Between two writes to it.
const PAUSE: Duration = Duration::from_millis(20);

/// To this a move's age is counted.
const RESOLUTION: Duration = Duration::from_micros(100);

/// See there.
#[derive(Debug, Args)]
pub struct RoomsArgs {
    /// Users in the room, each with a connection of its own
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    users: u32,
    /// Moves of each user a second; a node passes no more than 100 on
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=100))]
    rate: u32,
    /// How long to look
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// The tenant whose room it is, with --cluster; users go to its addresses in turn
    #[arg(long, default_value = cluster::TENANT)]
    tenant: String,
}

/// What a user does, as the others are shown it.
#[derive(Debug, Serialize, Deserialize)]
struct Cursor {
    x: u32,
    y: u32,
    /// When it moved, by this process's clock.
    at_ns: u64,
}

/// What all users of a measurement share.
#[derive(Debug)]
struct Course {
    period: Duration,
    is_counting: AtomicBool,
    /// False from the end on.
    goes_on: watch::Sender<bool>,
}

/// What users made and saw while it counted.
#[derive(Debug, Default)]
struct Moves {
    made: u64,
    /// How many were so old when they were shown, in steps of [`RESOLUTION`].
    ages: BTreeMap<u128, u64>,
}

pub(super) async fn run(args: &RoomsArgs, dir: &Path, globals: &Globals) -> Result<Vec<Figure>, Failure> {
    let place = Place::open_in(&REGIONS[..NODES], dir, globals, &args.tenant).await?;
    let [near, far] = [place.client().await?, place.client_at(place.nodes() - 1).await?];
    let mut sync = Sync::open(&near, &far).await?;
    output::note("a live query without cursors");
    let mut figures = look(args, &place, &mut sync, "no cursors").await?;
    for nodes in 1..=place.nodes() {
        figures.extend(measure(args, &place, nodes, &mut sync).await?);
    }
    drop(sync);
    for client in [near, far] {
        client.close().await;
    }
    Ok(figures)
}

/// All users in one room, over so many of the nodes.
async fn measure(args: &RoomsArgs, place: &Place, nodes: usize, sync: &mut Sync<'_>) -> Result<Vec<Figure>, Failure> {
    let plural = if nodes == 1 { "" } else { "s" };
    let name = format!("{} cursors at {} Hz on {nodes} node{plural}", args.users, args.rate);
    output::note(&name);
    let course = Arc::new(Course {
        period: Duration::from_secs(1) / args.rate,
        is_counting: AtomicBool::new(false),
        goes_on: watch::Sender::new(true),
    });
    let id = format!("cursors-{}", hex::encode(connect::random_bytes(4)));
    let mut users = JoinSet::new();
    for at in 0..args.users {
        let client = place.client_at(at as usize % nodes).await?;
        let entered = client.room(&id).enter(&format!("user {at}"), "{}").await;
        let room = entered.map_err(room_failure)?;
        // Not all move in the same moment.
        let offset = course.period * at / args.users;
        users.spawn(live_in(client, room, (at, offset), course.clone()));
    }
    let counted = async {
        sleep(SETTLE).await;
        course.is_counting.store(true, Ordering::Relaxed);
        let figures = look(args, place, sync, &name).await;
        course.is_counting.store(false, Ordering::Relaxed);
        figures
    };
    let of_sync = tokio::select! {
        biased;
        ended = users.join_next() => {
            return Err(match ended {
                Some(Ok(Err(failure))) => failure,
                Some(Err(panicked)) => Failure::failed(panicked),
                Some(Ok(Ok(_))) | None => Failure::failed("a user has left before the end"),
            });
        }
        figures = counted => figures?,
    };
    course.goes_on.send_replace(false);
    let mut moves = Moves::default();
    while let Some(user) = users.join_next().await {
        moves.add(user.map_err(Failure::failed)??);
    }
    Ok([moves.figures(args, &name)?, of_sync].concat())
}

/// Writes to the live query for as long as it takes, and what that and all else costs the nodes meanwhile.
async fn look(args: &RoomsArgs, place: &Place, sync: &mut Sync<'_>, name: &str) -> Result<Vec<Figure>, Failure> {
    let (clock, before) = (connect::clock(), place.cpu_time());
    let began = clock.monotonic();
    let times = sync.write_for(Duration::from_secs(args.seconds)).await?;
    let lasted = clock.monotonic().saturating_sub(began).as_secs_f64();
    let told = |percent| {
        let name = format!("{name}: a write to a live query on the last node, p{percent}");
        Figure::millis(name, percentile(&times, percent))
    };
    let mut figures = vec![told(50), told(99)];
    if let (Some(before), Some(after)) = (before, place.cpu_time()) {
        let share = after.saturating_sub(before).as_secs_f64() / lasted * 100.0;
        let name = format!("{name}: CPU of {} nodes, those writes among it", place.nodes());
        figures.push(Figure::new(name, share, "% of a core"));
    }
    Ok(figures)
}

/// Moves, and looks how old the others' moves are when they come, until the end.
async fn live_in(
    client: Client,
    mut room: Room,
    (y, offset): (u32, Duration),
    course: Arc<Course>,
) -> Result<Moves, Failure> {
    let clock = connect::clock();
    let mut goes_on = course.goes_on.subscribe();
    let (mut moves, mut seen, mut x) = (Moves::default(), BTreeMap::new(), 0);
    sleep(offset).await;
    let mut ticks = interval(course.period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            _ = goes_on.wait_for(|goes_on| !goes_on) => break,
            _ = ticks.tick() => {
                x += 1;
                let at_ns = u64::try_from(clock.monotonic().as_nanos()).unwrap_or(u64::MAX);
                let cursor = serde_json::to_string(&Cursor { x, y, at_ns }).map_err(Failure::failed)?;
                room.set_presence(&cursor);
                moves.made += u64::from(course.is_counting.load(Ordering::Relaxed));
            }
            changes = room.next() => {
                let changes = changes.ok_or_else(|| Failure::failed("a node let a user in no more"))?;
                let now = clock.monotonic();
                let is_counting = course.is_counting.load(Ordering::Relaxed);
                for age in shown(&room, &changes, &mut seen).into_iter().map(|at| now.saturating_sub(at)) {
                    if is_counting {
                        *moves.ages.entry(age.as_nanos() / RESOLUTION.as_nanos()).or_default() += 1;
                    }
                }
            }
        }
    }
    drop(room);
    client.close().await;
    Ok(moves)
}

/// When those moved of whom an event shows something new. Of several events that waited, the first shows the latest move.
fn shown(room: &Room, changes: &RoomChanges, seen: &mut BTreeMap<String, u64>) -> Vec<Duration> {
    room.read(|view| {
        let mut times = Vec::new();
        for user in changes.moved.iter().filter_map(|connection| view.user(connection)) {
            // Who has just come has not moved yet.
            let Ok(cursor) = serde_json::from_str::<Cursor>(&user.presence) else {
                continue;
            };
            if seen.insert(user.connection.clone(), cursor.at_ns) != Some(cursor.at_ns) {
                times.push(Duration::from_nanos(cursor.at_ns));
            }
        }
        times
    })
}

impl Moves {
    fn add(&mut self, other: Self) {
        self.made += other.made;
        for (age, count) in other.ages {
            *self.ages.entry(age).or_default() += count;
        }
    }

    fn figures(&self, args: &RoomsArgs, name: &str) -> Result<Vec<Figure>, Failure> {
        let shown: u64 = self.ages.values().sum();
        if shown == 0 {
            return Err(Failure::failed(format_args!("{name}: nobody was shown a move")));
        }
        let each = |count: u64| float(count) / float(u64::from(args.users)) / float(args.seconds);
        let age = |percent: u64| self.age((shown * percent).div_ceil(100)).as_secs_f64() * 1e3;
        Ok(vec![
            Figure::new(format!("{name}: age of a move when shown, p50"), age(50), "ms"),
            Figure::new(format!("{name}: age of a move when shown, p99"), age(99), "ms").reaching(Some(40.0)),
            Figure::new(format!("{name}: moves that each makes"), each(self.made), "a second"),
            Figure::new(
                format!("{name}: moves of each that each other is shown"),
                each(shown) / float(u64::from(args.users - 1)),
                "a second",
            ),
        ])
    }

    /// The age that so many do not exceed.
    fn age(&self, mut count: u64) -> Duration {
        for (age, of_this) in &self.ages {
            if count <= *of_this {
                return RESOLUTION * u32::try_from(*age + 1).unwrap_or(u32::MAX);
            }
            count -= of_this;
        }
        Duration::MAX
    }
}

/// A live query at one node, and writes to it at another.
struct Sync<'a> {
    writer: &'a Client,
    items: Items,
    live: LiveQuery,
    rank: u64,
}

impl<'a> Sync<'a> {
    async fn open(writer: &'a Client, follower: &Client) -> Result<Self, Failure> {
        let items = Items::of_a_new_type();
        items.fill(writer, 0..ENTITIES).await?;
        let query = format!("{} order by rank desc limit {TOP} {{ title, rank }}", items.name);
        let mut live = follow(follower, &query)?;
        until_synced(&mut live).await?;
        let rank = ENTITIES - 1;
        let mut sync = Self {
            writer,
            items,
            live,
            rank,
        };
        // What was filled may come there later.
        sync.until_told().await?;
        Ok(sync)
    }

    /// Writes for so long: from each call until the follower was told, ascending.
    async fn write_for(&mut self, time: Duration) -> Result<Vec<Duration>, Failure> {
        let clock = connect::clock();
        let end = clock.monotonic() + time;
        let mut times = Vec::new();
        while clock.monotonic() < end {
            self.rank += 1;
            let change = self.items.set(self.rank % ENTITIES, "rank", number(self.rank));
            let began = clock.monotonic();
            let pending = self.writer.write(vec![change]).await.map_err(connect::write_failure)?;
            let acknowledged = async { pending.acknowledged().await.map_err(connect::refused_failure) };
            let told = async {
                self.until_told().await?;
                Ok(clock.monotonic())
            };
            let (told, _) = tokio::try_join!(told, acknowledged)?;
            times.push(told.saturating_sub(began));
            sleep(PAUSE).await;
        }
        times.sort();
        Ok(times)
    }

    /// Waits until the first row is the one of the largest rank.
    async fn until_told(&mut self) -> Result<(), Failure> {
        let rank = number(self.rank);
        while self.first_rank().as_ref() != Some(&rank) {
            until_moved(&mut self.live).await?;
        }
        Ok(())
    }

    fn first_rank(&self) -> Option<Value> {
        let Rows::Entities(objects) = self.live.answer()?.rows else {
            return None;
        };
        let mut members = objects.first()?.members.iter();
        let (_, rank) = members.find(|(name, _)| **name == *"rank")?;
        let Member::Datum(rank) = rank else { return None };
        rank.value().cloned()
    }
}
