//! Kinds that came to the swarm when its seeds meant something already: they are drawn after all others, from streams of
//! their own. So a seed keeps what it drew before, with the numbers that it had.

use rand::{RngExt as _, rngs::Xoshiro256PlusPlus as Rng};

use super::{
    faults::{FAULTS_MAX, HOSTS_MAX, next_host},
    setting::{log_uniform, one_of},
};
use crate::{
    plan::{
        Plan, budget,
        cluster::{Client, Host},
        fault::{Fault, FaultId, Kind},
        stream::Stream,
        time::Millis,
    },
    topology::Region,
};

/// How often hours pass, where all clients' clocks allow it.
const HOURS: f64 = 0.25;

/// How often a host leaves, where another can take its place.
const LEAVES: f64 = 0.25;

/// How often clients follow live queries.
const FOLLOWS: f64 = 0.5;

/// How often clients meet in rooms.
const MEETS: f64 = 0.3;

/// How often a node sends few entities for a query, and answers of those that rest on more.
const FEW: f64 = 0.3;

/// How often bits flip in the control plane's file of a host.
const ROTS: f64 = 0.15;

/// Live queries that a client follows at a time, at most.
const LIVE_MAX: u32 = 3;

const HOUR_MS: u64 = 3_600_000;

/// Draws them into a plan that has all others.
pub(super) fn draw(plan: &mut Plan) {
    for (name, chance, draw) in [
        ("hours", HOURS, hours as fn(&mut Plan, &mut Rng)),
        ("leaves", LEAVES, leaves),
        ("follows", FOLLOWS, follows),
        ("meets", MEETS, meets),
        ("rots", ROTS, rots),
        ("few", FEW, few),
    ] {
        let mut stream = Stream::of(plan.seed, name);
        if stream.rng().random_bool(chance) {
            draw(plan, stream.rng());
        }
    }
    plan.faults.sort_by_key(|fault| fault.start);
}

/// A client is offline for some of a run's seconds, and in the midst of them for up to a week.
fn hours(plan: &mut Plan, rng: &mut Rng) {
    let clients = u32::try_from(plan.clients.len()).unwrap_or(1);
    let client = Client(rng.random_range(1..=clients));
    let returns_in = one_of(rng, &regions(plan));
    let start = moment(plan, rng);
    let lasts = log_uniform(rng, 2_000, 20_000);
    let by_ms = log_uniform(rng, HOUR_MS, 7 * 24 * HOUR_MS).cast_signed();
    let end = Millis((start.0 + lasts).min(plan.duration.0));
    let midst = Millis(u64::midpoint(start.0, end.0));
    let away = Kind::ClientOffline { client, returns_in };
    admit(
        plan,
        vec![(start, Some(end), away), (midst, None, Kind::TimePasses { by_ms })],
    );
}

/// A host leaves, and perhaps a new one comes into its region.
fn leaves(plan: &mut Plan, rng: &mut Rng) {
    let hosts = plan.cluster.hosts.len();
    let first = rng.random_range(0..hosts);
    let start = moment(plan, rng);
    let joins = rng.random_bool(0.5);
    let later = start + Millis(log_uniform(rng, 1_000, 15_000));
    // The first that may, from a drawn one on.
    let left = (first..first + hosts).map(|at| at % hosts).find(|at| {
        let host = Host(u32::try_from(at + 1).unwrap_or(u32::MAX));
        admit(plan, vec![(start, None, Kind::Leave { host })])
    });
    let (Some(left), host) = (left, next_host(plan)) else {
        return;
    };
    if joins && host.0 <= HOSTS_MAX {
        let region = plan.cluster.hosts[left].region;
        admit(plan, vec![(later, None, Kind::Join { host, region })]);
    }
}

/// Most clients follow queries.
fn follows(plan: &mut Plan, rng: &mut Rng) {
    for client in &mut plan.clients {
        let live = rng.random_range(1..=LIVE_MAX);
        client.mix.live = if rng.random_bool(0.7) { live } else { 0 };
    }
}

/// Most clients go in and out of a room.
fn meets(plan: &mut Plan, rng: &mut Rng) {
    for client in &mut plan.clients {
        client.mix.room = rng.random_bool(0.8);
    }
}

/// Nodes send few entities.
fn few(plan: &mut Plan, rng: &mut Rng) {
    let most = one_of(rng, &["1", "4", "12", "40"]);
    plan.cluster
        .settings
        .insert("live_entities_max".to_owned(), most.to_owned());
}

/// A node stops, and finds its control plane's file changed.
fn rots(plan: &mut Plan, rng: &mut Rng) {
    let hosts = u32::try_from(plan.cluster.hosts.len()).unwrap_or(1);
    let host = Host(rng.random_range(1..=hosts));
    let pages = one_of(rng, &[1, 3, 20]);
    let start = moment(plan, rng);
    let end = Millis((start.0 + log_uniform(rng, 500, 3_000)).min(plan.duration.0));
    admit(plan, vec![(start, Some(end), Kind::ControlRot { host, pages })]);
}

/// When it starts: there is time left for it to be felt.
fn moment(plan: &Plan, rng: &mut Rng) -> Millis {
    let most = plan.warm_up.0 + (plan.duration.0 - plan.warm_up.0) * 2 / 3;
    Millis(rng.random_range(plan.warm_up.0..=most))
}

fn regions(plan: &Plan) -> Vec<Region> {
    plan.cluster.hosts.iter().map(|host| host.region).collect()
}

/// Puts all of them into the plan, or, where that would break the budget, none.
fn admit(plan: &mut Plan, faults: Vec<(Millis, Option<Millis>, Kind)>) -> bool {
    let before = plan.faults.len();
    for (start, end, kind) in faults {
        let id = FaultId(u32::try_from(plan.faults.len()).unwrap_or(u32::MAX));
        plan.faults.push(Fault { id, start, end, kind });
    }
    let is_within = plan.faults.len() <= FAULTS_MAX && budget::check(plan).is_ok();
    if !is_within {
        plan.faults.truncate(before);
    }
    is_within
}
