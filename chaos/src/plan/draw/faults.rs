//! Drawing of the faults: which kinds, how often, when, for how long, to whom.

use rand::{RngExt as _, rngs::Xoshiro256PlusPlus as Rng};

use super::setting::{log_uniform, one_of, weighted};
use crate::{
    plan::{
        Plan, budget,
        cluster::{Client, Host, Tenant},
        fault::{Crash, Cut, DiskOperation, Fault, FaultId, Files, Kind},
        stream::Stream,
        time::Millis,
    },
    topology::Region,
};

/// Faults in one plan. A minute has room for twenty; a long run stays readable.
pub(super) const FAULTS_MAX: usize = 64;

/// Hosts that there ever are in one run.
pub(super) const HOSTS_MAX: u32 = 9;

/// How a kind is drawn.
pub(super) struct KindDraw {
    /// [`Kind::name`].
    pub name: &'static str,
    /// Draws one.
    draw: Draw,
    /// How it ends.
    ends: Ends,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// After a while, milliseconds from and to.
    After(u64, u64),
    /// After a while, or in one draw of five not at all.
    AfterOrNever(u64, u64),
    /// It happens at once, or for good.
    Never,
}

#[derive(Clone, Copy)]
enum Draw {
    /// Every plan has who it takes.
    Always(fn(&mut Scene<'_>) -> Kind),
    /// It takes two, or a moment early enough.
    Perhaps(fn(&mut Scene<'_>) -> Option<Kind>),
}

const fn kind(name: &'static str, ends: Ends, draw: Draw) -> KindDraw {
    KindDraw { name, draw, ends }
}

/// The kinds that the swarm draws, but for those in [`super::late`].
pub(super) const KINDS: &[KindDraw] = &[
    kind("crash", Ends::After(200, 8_000), Draw::Always(crash)),
    kind("power-cut", Ends::After(500, 6_000), Draw::Always(power_cut)),
    kind("pause", Ends::After(100, 12_000), Draw::Always(pause)),
    kind("partition", Ends::After(300, 15_000), Draw::Perhaps(partition)),
    kind("one-way-cut", Ends::After(300, 10_000), Draw::Perhaps(one_way_cut)),
    kind("region-cut", Ends::After(500, 20_000), Draw::Perhaps(region_cut)),
    kind("leader-cut", Ends::After(500, 10_000), Draw::Perhaps(leader_cut)),
    kind(
        "region-lost",
        Ends::AfterOrNever(1_000, 10_000),
        Draw::Always(region_lost),
    ),
    kind("slow-link", Ends::After(2_000, 20_000), Draw::Perhaps(slow_link)),
    kind("latency", Ends::After(1_000, 15_000), Draw::Perhaps(latency)),
    kind("loss", Ends::After(1_000, 15_000), Draw::Perhaps(loss)),
    kind("disk-full", Ends::After(500, 10_000), Draw::Always(disk_full)),
    kind("disk-errors", Ends::After(200, 6_000), Draw::Always(disk_errors)),
    kind("disk-slow", Ends::After(500, 10_000), Draw::Always(disk_slow)),
    kind(
        "disk-rolled-back",
        Ends::After(500, 5_000),
        Draw::Perhaps(disk_rolled_back),
    ),
    kind(
        "backup-restored",
        Ends::After(500, 5_000),
        Draw::Perhaps(backup_restored),
    ),
    kind("bit-rot", Ends::After(500, 3_000), Draw::Always(bit_rot)),
    kind("host-lost", Ends::Never, Draw::Always(host_lost)),
    kind("clock-jump", Ends::AfterOrNever(500, 15_000), Draw::Always(clock_jump)),
    kind("clock-rate", Ends::After(2_000, 20_000), Draw::Always(clock_rate)),
    kind(
        "client-clock",
        Ends::AfterOrNever(1_000, 20_000),
        Draw::Always(client_clock),
    ),
    kind(
        "client-offline",
        Ends::After(5_000, 40_000),
        Draw::Always(client_offline),
    ),
    kind("client-crash", Ends::After(200, 5_000), Draw::Always(client_crash)),
    kind("slow-consumer", Ends::After(2_000, 20_000), Draw::Always(slow_consumer)),
    kind("join", Ends::Never, Draw::Perhaps(join)),
    kind("drain", Ends::Never, Draw::Always(drain)),
    kind("remove", Ends::Never, Draw::Always(remove)),
    kind("replace", Ends::Never, Draw::Perhaps(replace)),
    kind("place", Ends::Never, Draw::Perhaps(place)),
    kind("rolling-upgrade", Ends::Never, Draw::Always(rolling_upgrade)),
];

/// Draws the faults of a plan that has all else.
pub(super) fn draw(plan: &mut Plan) {
    let mut stream = Stream::of(plan.seed, "faults");
    let rng = stream.rng();
    let mut enabled: Vec<(usize, u32)> = (0..KINDS.len())
        .filter_map(|at| {
            let there = rng.random_bool(0.35);
            let weight = one_of(rng, &[1, 2, 4, 8]);
            there.then_some((at, weight))
        })
        .collect();
    if enabled.is_empty() {
        enabled.push((rng.random_range(0..KINDS.len()), 1));
    }
    let gap = log_uniform(rng, 700, 8_000);
    let mut at = plan.warm_up.0;
    while plan.faults.len() < FAULTS_MAX {
        at += 1 + rng.random_range(0..2 * gap);
        let chosen = weighted(rng, &enabled);
        if at + 100 >= plan.duration.0 {
            return;
        }
        let next = u32::try_from(plan.faults.len()).unwrap_or(u32::MAX);
        let mut own = Stream::of(plan.seed, &format!("draw at {at}"));
        let Some(fault) = one(plan, &KINDS[chosen], (FaultId(next), Millis(at)), own.rng()) else {
            continue;
        };
        plan.faults.push(fault);
        if budget::check(plan).is_err() {
            plan.faults.pop();
        }
    }
}

fn one(plan: &Plan, kind: &KindDraw, (id, start): (FaultId, Millis), rng: &mut Rng) -> Option<Fault> {
    let until = |rng: &mut Rng, least, most| {
        let end = start.0 + log_uniform(rng, least, most);
        Some(Millis(end.min(plan.duration.0)))
    };
    let end = match kind.ends {
        Ends::AfterOrNever(..) if rng.random_bool(0.2) => None,
        Ends::AfterOrNever(least, most) | Ends::After(least, most) => until(rng, least, most),
        Ends::Never => None,
    };
    let mut scene = Scene { plan, start, rng };
    let drawn = match kind.draw {
        Draw::Always(draw) => draw(&mut scene),
        Draw::Perhaps(draw) => draw(&mut scene)?,
    };
    assert_eq!(drawn.name(), kind.name, "the table names what it draws");
    Some(Fault {
        id,
        start,
        end,
        kind: drawn,
    })
}

/// Who is there to be chosen.
struct Scene<'a> {
    plan: &'a Plan,
    start: Millis,
    rng: &'a mut Rng,
}

impl Scene<'_> {
    fn host(&mut self) -> Host {
        let hosts = u32::try_from(self.plan.cluster.hosts.len()).unwrap_or(1);
        Host(self.rng.random_range(1..=hosts))
    }

    fn two_hosts(&mut self) -> Option<(Host, Host)> {
        let (a, b) = (self.host(), self.host());
        (a != b).then_some((a, b))
    }

    fn client(&mut self) -> Client {
        let clients = u32::try_from(self.plan.clients.len()).unwrap_or(1);
        Client(self.rng.random_range(1..=clients))
    }

    fn regions(&self) -> Vec<Region> {
        let mut regions: Vec<Region> = self.plan.cluster.hosts.iter().map(|host| host.region).collect();
        regions.sort_unstable();
        regions.dedup();
        regions
    }

    fn region(&mut self) -> Region {
        let regions = self.regions();
        one_of(self.rng, &regions)
    }

    fn two_regions(&mut self) -> Option<(Region, Region)> {
        let (a, b) = (self.region(), self.region());
        (a != b).then_some((a, b))
    }

    /// A proper part of them: some, not all.
    fn part<T: Copy>(&mut self, all: &[T]) -> Option<Vec<T>> {
        let part: Vec<T> = all.iter().copied().filter(|_| self.rng.random_bool(0.5)).collect();
        (!part.is_empty() && part.len() < all.len()).then_some(part)
    }

    fn cut(&mut self) -> Cut {
        one_of(self.rng, &[Cut::Dropped, Cut::Dropped, Cut::Held])
    }

    /// A moment with something on the disk, before the fault.
    fn before(&mut self, least: u64, most: u64) -> Option<Millis> {
        let ago = log_uniform(self.rng, least, most);
        let to = self.start.0.saturating_sub(ago);
        (self.plan.warm_up.0 / 2 <= to).then_some(Millis(to))
    }

    /// The number of the next host that may start later. Numbers are used once.
    fn new_host(&self) -> Host {
        next_host(self.plan)
    }
}

/// See [`Scene::new_host`].
pub(super) fn next_host(plan: &Plan) -> Host {
    let started = plan.faults.iter().filter_map(|fault| match fault.kind {
        Kind::Join { host, .. } | Kind::Replace { by: host, .. } => Some(host.0),
        _ => None,
    });
    let first = u32::try_from(plan.cluster.hosts.len()).unwrap_or(u32::MAX);
    Host(started.max().unwrap_or(first) + 1)
}

fn crash(scene: &mut Scene<'_>) -> Kind {
    let how = one_of(scene.rng, &[Crash::Process, Crash::Power]);
    let host = scene.host();
    Kind::Crash { host, how }
}

fn power_cut(scene: &mut Scene<'_>) -> Kind {
    let after_operations = scene.rng.random_range(0..40);
    let host = scene.host();
    Kind::PowerCut { host, after_operations }
}

fn pause(scene: &mut Scene<'_>) -> Kind {
    let host = scene.host();
    Kind::Pause { host }
}

fn partition(scene: &mut Scene<'_>) -> Option<Kind> {
    let all: Vec<Host> = scene.plan.hosts().map(|(host, _)| host).collect();
    let hosts = scene.part(&all)?;
    let cut = scene.cut();
    Some(Kind::Partition { hosts, cut })
}

fn one_way_cut(scene: &mut Scene<'_>) -> Option<Kind> {
    let (from, to) = scene.two_hosts()?;
    Some(Kind::OneWayCut { from, to })
}

fn region_cut(scene: &mut Scene<'_>) -> Option<Kind> {
    let all = scene.regions();
    let regions = scene.part(&all)?;
    let cut = scene.cut();
    Some(Kind::RegionCut { regions, cut })
}

fn leader_cut(scene: &mut Scene<'_>) -> Option<Kind> {
    let cut = scene.cut();
    (scene.plan.cluster.hosts.len() > 1).then_some(Kind::LeaderCut { cut })
}

fn region_lost(scene: &mut Scene<'_>) -> Kind {
    let region = scene.region();
    Kind::RegionLost { region }
}

fn slow_link(scene: &mut Scene<'_>) -> Option<Kind> {
    let between = scene.two_regions()?;
    let bytes_per_second = log_uniform(scene.rng, 2_000, 1_000_000);
    Some(Kind::SlowLink {
        between,
        bytes_per_second,
    })
}

fn latency(scene: &mut Scene<'_>) -> Option<Kind> {
    let between = scene.two_regions()?;
    let extra = Millis(log_uniform(scene.rng, 5, 2_000));
    let jitter = Millis(log_uniform(scene.rng, 1, 1_000));
    Some(Kind::Latency { between, extra, jitter })
}

fn loss(scene: &mut Scene<'_>) -> Option<Kind> {
    let between = scene.two_hosts()?;
    let holds_per_minute = u32::try_from(log_uniform(scene.rng, 20, 600)).ok()?;
    let hold = Millis(log_uniform(scene.rng, 20, 1_000));
    Some(Kind::Loss {
        between,
        holds_per_minute,
        hold,
    })
}

fn disk_full(scene: &mut Scene<'_>) -> Kind {
    let host = scene.host();
    let bytes_left = one_of(scene.rng, &[0, 0, 512, 64 << 10]);
    Kind::DiskFull { host, bytes_left }
}

fn disk_errors(scene: &mut Scene<'_>) -> Kind {
    let host = scene.host();
    let operations = [DiskOperation::Read, DiskOperation::Write, DiskOperation::Sync];
    let operation = one_of(scene.rng, &operations);
    let per_mille = one_of(scene.rng, &[5, 50, 1_000]);
    Kind::DiskErrors {
        host,
        operation,
        per_mille,
    }
}

fn disk_slow(scene: &mut Scene<'_>) -> Kind {
    let host = scene.host();
    let extra = Millis(log_uniform(scene.rng, 5, 800));
    Kind::DiskSlow { host, extra }
}

fn disk_rolled_back(scene: &mut Scene<'_>) -> Option<Kind> {
    let to = scene.before(10, 15_000)?;
    let files = one_of(scene.rng, &[Files::Triples, Files::All]);
    let host = scene.host();
    Some(Kind::DiskRolledBack { host, to, files })
}

fn backup_restored(scene: &mut Scene<'_>) -> Option<Kind> {
    let taken = scene.before(8_000, 45_000)?;
    let files = one_of(scene.rng, &[Files::Triples, Files::Triples, Files::All]);
    let host = scene.host();
    Some(Kind::BackupRestored { host, taken, files })
}

fn bit_rot(scene: &mut Scene<'_>) -> Kind {
    let host = scene.host();
    let pages = one_of(scene.rng, &[1, 1, 3, 20]);
    Kind::BitRot { host, pages }
}

fn host_lost(scene: &mut Scene<'_>) -> Kind {
    let host = scene.host();
    Kind::HostLost { host }
}

fn clock_jump(scene: &mut Scene<'_>) -> Kind {
    let host = scene.host();
    let by_ms = jump(scene.rng, 3_600_000);
    Kind::ClockJump { host, by_ms }
}

/// Forward or back, from 20 ms on.
fn jump(rng: &mut Rng, most: u64) -> i64 {
    let by = log_uniform(rng, 20, most).cast_signed();
    if rng.random_bool(0.5) { by } else { -by }
}

fn clock_rate(scene: &mut Scene<'_>) -> Kind {
    let host = scene.host();
    let ppm = one_of(scene.rng, &[-300_000, -50_000, -1_000, 1_000, 50_000, 300_000]);
    Kind::ClockRate { host, ppm }
}

fn client_clock(scene: &mut Scene<'_>) -> Kind {
    let client = scene.client();
    let day = 24 * 3_600 * 1_000_u64;
    let other = jump(scene.rng, 2 * day);
    let by_ms = one_of(scene.rng, &[day.cast_signed(), other, other]);
    Kind::ClientClock { client, by_ms }
}

fn client_offline(scene: &mut Scene<'_>) -> Kind {
    let client = scene.client();
    let returns_in = scene.region();
    Kind::ClientOffline { client, returns_in }
}

fn client_crash(scene: &mut Scene<'_>) -> Kind {
    let client = scene.client();
    Kind::ClientCrash { client }
}

fn slow_consumer(scene: &mut Scene<'_>) -> Kind {
    let client = scene.client();
    let bytes_per_second = log_uniform(scene.rng, 50, 20_000);
    Kind::SlowConsumer {
        client,
        bytes_per_second,
    }
}

fn join(scene: &mut Scene<'_>) -> Option<Kind> {
    let host = scene.new_host();
    let region = scene.region();
    (host.0 <= HOSTS_MAX).then_some(Kind::Join { host, region })
}

fn drain(scene: &mut Scene<'_>) -> Kind {
    let host = scene.host();
    Kind::Drain { host }
}

fn remove(scene: &mut Scene<'_>) -> Kind {
    let host = scene.host();
    Kind::Remove { host }
}

fn replace(scene: &mut Scene<'_>) -> Option<Kind> {
    let (lost, by) = (scene.host(), scene.new_host());
    (by.0 <= HOSTS_MAX).then_some(Kind::Replace { lost, by })
}

fn place(scene: &mut Scene<'_>) -> Option<Kind> {
    let tenants = u32::try_from(scene.plan.tenants.len()).unwrap_or(1);
    let tenant = Tenant(scene.rng.random_range(1..=tenants));
    let all = scene.regions();
    let regions = scene.part(&all)?;
    let home = one_of(scene.rng, &regions);
    let nodes_per_region = scene.rng.random_range(1..=2);
    Some(Kind::Place {
        tenant,
        regions,
        home,
        nodes_per_region,
    })
}

fn rolling_upgrade(scene: &mut Scene<'_>) -> Kind {
    let pause = Millis(log_uniform(scene.rng, 1_000, 8_000));
    Kind::RollingUpgrade { pause }
}
