//! Drawing of the cluster, its settings, tenants, clients and other work.

use std::collections::BTreeMap;

use rand::{RngExt as _, rngs::Xoshiro256PlusPlus as Rng};

use crate::{
    plan::{
        WARM_UP,
        cluster::{
            Acknowledgement, ClientPlan, ClockPlan, ClusterPlan, HostPlan, Mix, Tenant, TenantPlan, Transport, WorkPlan,
        },
        stream::Stream,
        time::{Millis, Span},
    },
    topology::{REGIONS, Region, draw_regions},
};

/// Hosts and how often each number is drawn: three is what customers have, seven is rare and slow.
const HOSTS: [(usize, u32); 7] = [(1, 4), (2, 4), (3, 44), (4, 12), (5, 22), (6, 7), (7, 7)];

/// Regions in one cluster.
const REGIONS_MAX: usize = 5;

/// Tenants that are written to.
const TENANTS_MAX: u32 = 4;

/// Clients that write and read.
const CLIENTS_MAX: u32 = 6;

/// Settings worth varying, with values from eager to sluggish. Each is left at its default half the time.
const SETTINGS: [(&str, &[&str]); 7] = [
    ("drift_max", &["2s", "10s", "5m"]),
    ("tombstone_retention", &["1s", "4s", "15s"]),
    ("collection_interval", &["200ms", "1s", "5s"]),
    ("catch_up_interval", &["100ms", "400ms", "3s"]),
    ("probe_interval", &["200ms", "3s"]),
    ("gossip_queue_bytes_max", &["1048576"]),
    ("region_ack_deadline", &["500ms", "2s", "10s"]),
];

pub(super) fn cluster(stream: &mut Stream, wished: Option<usize>) -> ClusterPlan {
    let rng = stream.rng();
    let drawn = weighted(rng, &HOSTS);
    let count = wished.unwrap_or(drawn).clamp(1, 7);
    let region_count = rng.random_range(1..=count.min(REGIONS_MAX));
    let regions = draw_regions(region_count, rng);
    // Every region gets one host; the others fall where they fall.
    let place = |at: usize, rng: &mut Rng| match regions.get(at) {
        Some(region) => *region,
        None => one_of(rng, &regions),
    };
    let hosts = (0..count)
        .map(|at| HostPlan {
            region: place(at, rng),
            clock: host_clock(rng),
        })
        .collect();
    let mut settings = BTreeMap::new();
    for (name, values) in SETTINGS {
        if rng.random_bool(0.5) {
            settings.insert(name.to_owned(), one_of(rng, values).to_owned());
        }
    }
    ClusterPlan {
        hosts,
        shards: one_of(rng, &[1, 1, 2, 4]),
        settings,
        jitter_percent: one_of(rng, &[0, 10, 30, 200]),
        rare_paths_per_mille: one_of(rng, &[0, 5, 50, 250]),
    }
}

fn host_clock(rng: &mut Rng) -> ClockPlan {
    let (offset, drift) = match rng.random_range(0..10) {
        0 => (20_000, 20_000),
        1..=3 => (2_000, 500),
        _ => (50, 50),
    };
    ClockPlan {
        offset_ms: rng.random_range(-offset..=offset),
        drift_ppm: rng.random_range(-drift..=drift),
    }
}

pub(super) fn tenants(stream: &mut Stream, cluster: &ClusterPlan) -> Vec<TenantPlan> {
    let rng = stream.rng();
    let mut hosts_in: BTreeMap<Region, u32> = BTreeMap::new();
    for host in &cluster.hosts {
        *hosts_in.entry(host.region).or_default() += 1;
    }
    let count = rng.random_range(1..=TENANTS_MAX);
    (0..count).map(|_| tenant(rng, &hosts_in)).collect()
}

fn tenant(rng: &mut Rng, hosts_in: &BTreeMap<Region, u32>) -> TenantPlan {
    let mut all: Vec<Region> = hosts_in.keys().copied().collect();
    shuffle(rng, &mut all);
    // Wide placements are the rule: a tenant in one region replicates nothing.
    let narrow = rng.random_bool(0.25);
    let count = if narrow {
        rng.random_range(1..=all.len())
    } else {
        all.len()
    };
    let regions: Vec<Region> = all.into_iter().take(count).collect();
    let most = regions.iter().filter_map(|region| hosts_in.get(region)).max();
    let nodes_per_region = rng.random_range(1..=most.copied().unwrap_or(1).min(3));
    let waits = regions.len() > 1 && rng.random_bool(0.3);
    TenantPlan {
        home: regions[0],
        regions,
        nodes_per_region,
        acknowledgement: if waits {
            Acknowledgement::Region
        } else {
            Acknowledgement::Local
        },
    }
}

pub(super) fn clients(stream: &mut Stream, tenants: &[TenantPlan], duration: Millis) -> Vec<ClientPlan> {
    let rng = stream.rng();
    let count = rng.random_range(2..=CLIENTS_MAX);
    // Clients of one run draw what they do from one mix in two runs of three, so that a run has a character.
    let shared = rng.random_bool(0.66).then(|| mix(rng));
    (0..count)
        .map(|_| {
            let at = rng.random_range(0..tenants.len());
            let near = one_of(rng, &tenants[at].regions);
            let region = if rng.random_bool(0.8) {
                near
            } else {
                one_of(rng, &REGIONS)
            };
            let own = mix(rng);
            ClientPlan {
                region,
                tenant: Tenant(1 + u32::try_from(at).unwrap_or_default()),
                transport: if rng.random_bool(0.3) {
                    Transport::GrpcWeb
                } else {
                    Transport::Native
                },
                clock: client_clock(rng),
                starts: Millis(rng.random_range(WARM_UP.0 / 2..=WARM_UP.0)),
                pace: Millis(log_uniform(rng, 40, 1_500)),
                mix: shared.unwrap_or(own),
                offline: absences(rng, duration),
                forward: rng.random_bool(0.15),
            }
        })
        .collect()
}

fn client_clock(rng: &mut Rng) -> ClockPlan {
    let (offset, drift) = match rng.random_range(0..10) {
        0 => (600_000, 5_000),
        1..=3 => (30_000, 500),
        _ => (1_000, 100),
    };
    ClockPlan {
        offset_ms: rng.random_range(-offset..=offset),
        drift_ppm: rng.random_range(-drift..=drift),
    }
}

fn absences(rng: &mut Rng, duration: Millis) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut at = WARM_UP.0;
    for _ in 0..one_of(rng, &[0, 0, 1, 3]) {
        at += log_uniform(rng, 500, 20_000);
        let end = at + log_uniform(rng, 300, 6_000);
        if end < duration.0 {
            spans.push(Span {
                start: Millis(at),
                end: Millis(end),
            });
        }
        at = end;
    }
    spans
}

/// Bytes of values in a client's largest set. More would only fill disks and memory: seed 40085 drew sets of six megabytes,
/// and had committed 366 MB after twenty seconds.
const SET_BYTES_MAX: u32 = 128 << 10;

/// Swarm again: each thing that a client does is left out by some seeds, but for register writes.
fn mix(rng: &mut Rng) -> Mix {
    let mut weight = |most: u32| {
        let there = rng.random_bool(0.66);
        let weight = rng.random_range(1..=most);
        if there { weight } else { 0 }
    };
    let (unset, add, remove, create) = (weight(4), weight(8), weight(8), weight(8));
    let (delete, read) = (weight(5), weight(10));
    let mut mix = Mix {
        set: rng.random_range(1..=10),
        unset,
        add,
        remove,
        create,
        delete,
        read,
        changes_max: one_of(rng, &[1, 4, 20, 200]),
        entities: u32::try_from(log_uniform(rng, 2, 200)).unwrap_or(2),
        fields: rng.random_range(1..=6),
        value_bytes_max: one_of(rng, &[16, 64, 64, 2_048, 32_768]),
        watch: rng.random_bool(0.7),
        // Drawn later (`draw/late.rs`).
        live: 0,
        room: false,
    };
    mix.changes_max = mix.changes_max.min(SET_BYTES_MAX / mix.value_bytes_max);
    mix
}

pub(super) fn work(stream: &mut Stream, duration: Millis) -> WorkPlan {
    let rng = stream.rng();
    let poisoned = rng.random_bool(0.08);
    let poisoned_at = Millis(rng.random_range(WARM_UP.0..duration.0));
    let cuts = rng.random_bool(0.2);
    let cut_after = rng.random_range(0..4);
    WorkPlan {
        operators: rng.random_range(1..=3),
        operator_pace: Millis(log_uniform(rng, 100, 2_000)),
        idle_tenants: one_of(rng, &[0, 0, 0, 0, 10, 100]),
        poisoned_change_at: poisoned.then_some(poisoned_at),
        cut_catch_ups_after: cuts.then_some(cut_after),
        always: Vec::new(),
        copied_pages: rng.random_bool(0.1),
        heedless_pages: false,
    }
}

/// One of them.
pub(super) fn one_of<T: Copy>(rng: &mut Rng, all: &[T]) -> T {
    all[rng.random_range(0..all.len())]
}

/// One of them by weight.
pub(super) fn weighted<T: Copy>(rng: &mut Rng, all: &[(T, u32)]) -> T {
    let sum: u32 = all.iter().map(|(_, weight)| weight).sum();
    let mut left = rng.random_range(0..sum);
    for (thing, weight) in all {
        if left < *weight {
            return *thing;
        }
        left -= weight;
    }
    all[0].0
}

/// As often between 100 and 200 as between 1 000 and 2 000.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "milliseconds and counts far below 2^52"
)]
pub(super) fn log_uniform(rng: &mut Rng, least: u64, most: u64) -> u64 {
    let (low, high) = ((least as f64).ln(), (most as f64).ln());
    (rng.random_range(low..=high).exp().round() as u64).clamp(least, most)
}

fn shuffle<T>(rng: &mut Rng, all: &mut [T]) {
    for at in (1..all.len()).rev() {
        all.swap(at, rng.random_range(0..=at));
    }
}
