//! Stories about nodes, disks and networks.

use super::base::Base;
use crate::{
    plan::{
        Plan,
        cluster::{Acknowledgement, Client, Host, Tenant, Transport},
        fault::{Crash, Cut, Files, Kind},
        time::Millis,
    },
    topology::Region::{AuSyd, BrSao, EuDe, EuEs, EuGb, JpTok, UsEast},
};

const DAY_MS: i64 = 24 * 3_600 * 1_000;

pub(super) fn partition_heals(seed: u64) -> Plan {
    let cut = |region, cut| Kind::RegionCut {
        regions: vec![region],
        cut,
    };
    Base::new(seed, "partition-heals")
        .everywhere()
        .fault(12, 28, cut(JpTok, Cut::Dropped))
        .fault(36, 44, cut(EuDe, Cut::Held))
        .plan()
}

pub(super) fn region_lost(seed: u64) -> Plan {
    Base::new(seed, "region-lost")
        .hosts(&[EuDe, UsEast, JpTok, EuDe, UsEast])
        .tenant(&[JpTok, EuDe], 1)
        .client(JpTok, Transport::Native)
        .client(EuDe, Transport::Native)
        .tenant(&[EuDe, UsEast, JpTok], 1)
        .client(JpTok, Transport::GrpcWeb)
        .client(UsEast, Transport::Native)
        .once(24, Kind::RegionLost { region: JpTok })
        .plan()
}

pub(super) fn leader_isolated(seed: u64) -> Plan {
    let mut base = Base::new(seed, "leader-isolated")
        .hosts(&[EuDe, EuGb, UsEast, EuDe, UsEast])
        .everywhere()
        .with(|plan| {
            plan.work.operators = 3;
            plan.work.operator_pace = Millis(200);
        });
    for (start, end, cut) in [(10, 16, Cut::Dropped), (22, 25, Cut::Held), (32, 40, Cut::Dropped)] {
        base = base.fault(start, end, Kind::LeaderCut { cut });
    }
    base.plan()
}

pub(super) fn crash_in_commit(seed: u64) -> Plan {
    let mut base = Base::new(seed, "crash-in-commit").everywhere();
    // The seed moves the depth, so that a sweep reaches every operation of a commit on every host.
    let depth = |at: u64| u32::try_from((seed + at * 5) % 24).unwrap_or(0);
    for at in 0..9 {
        let start = 10 + 5 * at;
        let kind = Kind::PowerCut {
            host: Host(u32::try_from(1 + at % 3).unwrap_or(1)),
            after_operations: depth(at),
        };
        base = base.fault(start, start + 3, kind);
    }
    base.plan()
}

pub(super) fn disk_rolled_back(seed: u64) -> Plan {
    let kind = Kind::DiskRolledBack {
        host: Host(2),
        to: Millis::secs(18),
        files: if seed.is_multiple_of(2) {
            Files::All
        } else {
            Files::Triples
        },
    };
    Base::new(seed, "disk-rolled-back")
        .everywhere()
        .fault(26, 29, kind)
        .plan()
}

pub(super) fn old_backup(seed: u64) -> Plan {
    let kind = Kind::BackupRestored {
        host: Host(3),
        taken: Millis::secs(10),
        files: Files::Triples,
    };
    Base::new(seed, "old-backup")
        .everywhere()
        .setting("tombstone_retention", "4s")
        .setting("collection_interval", "1s")
        .with(|plan| plan.clients.iter_mut().for_each(|client| client.mix.delete = 6))
        .fault(36, 40, kind)
        .plan()
}

pub(super) fn bits_turned(seed: u64) -> Plan {
    // Most pages of a young file have nothing on them, and of a log what was folded is not read again.
    let (host, pages) = (Host(3), 400);
    let rot = Kind::BitRot { host, pages };
    Base::new(seed, "bits-turned")
        .everywhere()
        .with(|plan| plan.work.always.push("storage.fold-early".to_owned()))
        .fault(24, 26, rot)
        .plan()
}

pub(super) fn clock_ahead(seed: u64) -> Plan {
    let (ahead, day) = (10 * 60 * 1_000, DAY_MS);
    Base::new(seed, "clock-ahead")
        .everywhere()
        .fault(
            12,
            30,
            Kind::ClockJump {
                host: Host(2),
                by_ms: ahead,
            },
        )
        .fault(
            34,
            46,
            Kind::ClockJump {
                host: Host(1),
                by_ms: -ahead,
            },
        )
        .fault(
            10,
            40,
            Kind::ClientClock {
                client: Client(1),
                by_ms: day,
            },
        )
        .fault(
            20,
            50,
            Kind::ClientClock {
                client: Client(2),
                by_ms: -day,
            },
        )
        // Good clients ask a node for the time first, and are seldom refused.
        .with(|plan| plan.work.heedless_pages = true)
        .fault(
            10,
            40,
            Kind::ClientClock {
                client: Client(3),
                by_ms: day,
            },
        )
        .plan()
}

pub(super) fn client_offline_week(seed: u64) -> Plan {
    let kind = Kind::ClientOffline {
        client: Client(1),
        returns_in: UsEast,
    };
    Base::new(seed, "client-offline-week")
        .everywhere()
        .setting("tombstone_retention", "6d")
        .setting("collection_interval", "1s")
        .with(|plan| plan.clients.iter_mut().for_each(|client| client.mix.delete = 5))
        .fault(12, 48, kind)
        .once(28, Kind::TimePasses { by_ms: 7 * DAY_MS })
        .plan()
}

pub(super) fn catch_up_interrupted(seed: u64) -> Plan {
    let away = Kind::Partition {
        hosts: vec![Host(1)],
        cut: Cut::Dropped,
    };
    let mut base = Base::new(seed, "catch-up-interrupted")
        .everywhere()
        .with(|plan| {
            plan.work.cut_catch_ups_after = Some(1);
            plan.work.always.push("catch-up.small-batches".to_owned());
            for client in &mut plan.clients {
                (client.mix.value_bytes_max, client.mix.entities) = (8_192, 64);
            }
        })
        .fault(10, 28, away);
    // The peer that h1 catches up with goes away, then the other, so that it must resume with another each time.
    for (start, host) in [(29, 2), (32, 3), (35, 2), (38, 3)] {
        let kind = Kind::Partition {
            hosts: vec![Host(host)],
            cut: Cut::Dropped,
        };
        base = base.fault(start, start + 2, kind);
    }
    base.plan()
}

pub(super) fn tombstones_away(seed: u64) -> Plan {
    let away = |host| Kind::Crash {
        host: Host(host),
        how: Crash::Power,
    };
    Base::new(seed, "tombstones-away")
        .everywhere()
        .setting("tombstone_retention", "2s")
        .setting("collection_interval", "500ms")
        .with(|plan| plan.clients.iter_mut().for_each(|client| client.mix.delete = 6))
        .fault(12, 30, away(3))
        .fault(34, 44, Kind::Pause { host: Host(2) })
        .plan()
}

pub(super) fn slow_consumer(seed: u64) -> Plan {
    let kind = Kind::SlowConsumer {
        client: Client(1),
        bytes_per_second: 200,
    };
    Base::new(seed, "slow-consumer")
        .everywhere()
        .client(EuDe, Transport::GrpcWeb)
        .with(|plan| {
            for client in &mut plan.clients {
                (client.pace, client.mix.value_bytes_max) = (Millis(40), 1_024);
            }
        })
        .fault(10, 40, kind)
        .plan()
}

pub(super) fn ten_thousand_tenants(seed: u64) -> Plan {
    let away = Kind::Partition {
        hosts: vec![Host(3)],
        cut: Cut::Dropped,
    };
    Base::new(seed, "ten-thousand-tenants")
        .everywhere()
        .lasting(40)
        .with(|plan| plan.work.idle_tenants = 10_000)
        .fault(14, 22, away)
        .fault(
            28,
            31,
            Kind::Crash {
                host: Host(2),
                how: Crash::Process,
            },
        )
        .plan()
}

pub(super) fn poisoned_change(seed: u64) -> Plan {
    Base::new(seed, "poisoned-change")
        .everywhere()
        .with(|plan| plan.work.poisoned_change_at = Some(Millis::secs(12)))
        .fault(
            20,
            24,
            Kind::Crash {
                host: Host(1),
                how: Crash::Power,
            },
        )
        .fault(
            28,
            36,
            Kind::Partition {
                hosts: vec![Host(2)],
                cut: Cut::Dropped,
            },
        )
        .plan()
}

pub(super) fn node_replaced(seed: u64) -> Plan {
    Base::new(seed, "node-replaced")
        .hosts(&[EuDe, UsEast, EuGb, EuDe])
        .tenant(&[EuDe, UsEast], 2)
        .client(EuDe, Transport::Native)
        .client(UsEast, Transport::GrpcWeb)
        .tenant(&[EuGb, EuDe], 1)
        .client(EuGb, Transport::Native)
        .once(
            20,
            Kind::Replace {
                lost: Host(4),
                by: Host(5),
            },
        )
        .plan()
}

pub(super) fn rolling_upgrade(seed: u64) -> Plan {
    Base::new(seed, "rolling-upgrade")
        .everywhere()
        .once(12, Kind::RollingUpgrade { pause: Millis::secs(8) })
        .plan()
}

pub(super) fn placement_moves(seed: u64) -> Plan {
    let place = |regions: &[_]| Kind::Place {
        tenant: Tenant(1),
        regions: regions.to_vec(),
        home: regions[0],
        nodes_per_region: 1,
    };
    Base::new(seed, "placement-moves")
        .hosts(&[EuDe, EuEs, BrSao, AuSyd])
        .tenant(&[EuDe, EuEs], 1)
        .client(EuDe, Transport::Native)
        .client(EuEs, Transport::Native)
        .client(BrSao, Transport::GrpcWeb)
        .with(|plan| plan.tenants[0].acknowledgement = Acknowledgement::Region)
        .once(14, place(&[EuEs, BrSao]))
        .once(28, place(&[BrSao, AuSyd]))
        .once(42, place(&[EuDe, EuEs]))
        .fault(30, 34, Kind::Pause { host: Host(4) })
        .plan()
}

pub(super) fn power_lost_everywhere(seed: u64) -> Plan {
    let mut base = Base::new(seed, "power-lost-everywhere").everywhere();
    for start in [16, 36] {
        for region in [EuDe, UsEast, JpTok] {
            base = base.fault(start, start + 4, Kind::RegionLost { region });
        }
    }
    // One moment for all three.
    base.with(|plan| {
        for three in plan.faults.chunks_mut(3) {
            let (start, end) = (three[0].start, three[0].end);
            for fault in three {
                (fault.start, fault.end) = (start, end);
            }
        }
    })
    .plan()
}
