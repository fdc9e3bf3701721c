//! Stories that lead straight to one rule each: a race of leases, an outgrown log, a node that lags or leaves, a copied
//! identity, a clock that jumps offline.

use super::base::Base;
use crate::{
    plan::{
        Plan,
        cluster::{Client, Host, Tenant, Transport},
        fault::{Crash, Cut, Kind},
        time::Millis,
    },
    topology::Region::{EuDe, EuEs, EuGb, JpTok, UsEast},
};

pub(super) fn leases_race(seed: u64) -> Plan {
    // A lease outlives an election only where followers' timers run much faster than the leader's: 2.5 s against 4 s.
    let fast = |host| Kind::ClockRate {
        host: Host(host),
        ppm: 2_500_000,
    };
    Base::new(seed, "leases-race")
        .hosts(&[EuDe, EuGb, EuEs])
        .everywhere()
        .lasting(24)
        .with(|plan| {
            plan.work.operators = 6;
            plan.work.operator_pace = Millis(40);
        })
        .fault(9, 22, fast(2))
        .fault(9, 22, fast(3))
        .fault(12, 16, Kind::LeaderCut { cut: Cut::Dropped })
        .plan()
}

pub(super) fn log_outgrown(seed: u64) -> Plan {
    let away = Kind::Crash {
        host: Host(3),
        how: Crash::Power,
    };
    Base::new(seed, "log-outgrown")
        .everywhere()
        .lasting(40)
        .with(|plan| {
            plan.work.operators = 4;
            plan.work.operator_pace = Millis(60);
            plan.work.always.push("metadata.small-log".to_owned());
        })
        .fault(10, 30, away)
        .plan()
}

pub(super) fn collection_unheard(seed: u64) -> Plan {
    let slow = Kind::Latency {
        between: (EuDe, JpTok),
        extra: Millis(400),
        jitter: Millis(100),
    };
    // h1 leads, as it made the cluster, and h3 hears of it late; h2 is near enough to collect before h3 knows. Peers are
    // told of sets without their content, so h3 asks h2 for something all the time. Deletions are old enough when all of
    // them have come to h3, and digests seldom tell it before what h2 has collected.
    Base::new(seed, "collection-unheard")
        .everywhere()
        .lasting(40)
        .setting("tombstone_retention", "4s")
        .setting("collection_interval", "200ms")
        .setting("catch_up_interval", "2s")
        .with(|plan| {
            plan.work.always.push("gossip.as-poke".to_owned());
            plan.clients.iter_mut().for_each(|client| client.mix.delete = 6);
        })
        .fault(10, 36, slow)
        .plan()
}

pub(super) fn written_while_away(seed: u64) -> Plan {
    let cut = Kind::RegionCut {
        regions: vec![JpTok],
        cut: Cut::Dropped,
    };
    // What is deleted on one side is written on the other, which deletes nothing: if the tombstones were gone when it
    // returns, nobody would know why these entities must not be there. Only tombstones are there to be collected.
    Base::new(seed, "written-while-away")
        .everywhere()
        .lasting(44)
        .setting("tombstone_retention", "1s")
        .setting("collection_interval", "200ms")
        .with(|plan| {
            for client in &mut plan.clients {
                let is_away = client.region == JpTok;
                (client.mix.create, client.mix.entities) = (2, 64);
                (client.mix.unset, client.mix.remove) = (0, 0);
                client.mix.delete = if is_away { 0 } else { 4 };
            }
        })
        .fault(14, 34, cut)
        .plan()
}

pub(super) fn answers_lost(seed: u64) -> Plan {
    // Two tries of a command are some seconds apart: time enough for others to undo what the first did. Half of the
    // operators only look.
    Base::new(seed, "answers-lost")
        .everywhere()
        .with(|plan| {
            plan.work.operators = 8;
            plan.work.operator_pace = Millis(150);
            plan.work.always.push("metadata.answer-lost".to_owned());
        })
        .plan()
}

pub(super) fn forwarded(seed: u64) -> Plan {
    let away = Kind::Crash {
        host: Host(2),
        how: Crash::Process,
    };
    Base::new(seed, "forwarded")
        .tenant(&[UsEast, JpTok], 1)
        .client(UsEast, Transport::Native)
        .client(EuDe, Transport::GrpcWeb)
        .client(EuDe, Transport::Native)
        .lasting(36)
        .with(|plan| plan.clients[2].forward = true)
        .fault(14, 20, away)
        .plan()
}

pub(super) fn lagging_node(seed: u64) -> Plan {
    let away = || Kind::Crash {
        host: Host(1),
        how: Crash::Process,
    };
    let alone = Kind::Partition {
        hosts: vec![Host(1)],
        cut: Cut::Dropped,
    };
    Base::new(seed, "lagging-node")
        .everywhere()
        .client(EuDe, Transport::Native)
        .with(|plan| {
            for client in &mut plan.clients {
                (client.mix.create, client.mix.delete) = (8, 1);
            }
        })
        .fault(11, 44, alone)
        .fault(16, 22, away())
        .fault(30, 36, away())
        .plan()
}

pub(super) fn copied_page(seed: u64) -> Plan {
    let alone = |host| Kind::Partition {
        hosts: vec![Host(host)],
        cut: Cut::Dropped,
    };
    Base::new(seed, "copied-page")
        .everywhere()
        .client(EuDe, Transport::GrpcWeb)
        .with(|plan| plan.work.copied_pages = true)
        .fault(14, 22, alone(2))
        .fault(30, 38, alone(1))
        .plan()
}

pub(super) fn slow_region(seed: u64) -> Plan {
    let slow = |region| Kind::Latency {
        between: (region, JpTok),
        extra: Millis(2_700),
        jitter: Millis(300),
    };
    // A question and its answer take longer than anybody waits, and what is deleted is old before the region hears of it.
    Base::new(seed, "slow-region")
        .everywhere()
        .setting("tombstone_retention", "1s")
        .setting("collection_interval", "500ms")
        .with(|plan| {
            for client in &mut plan.clients {
                (client.mix.delete, client.mix.create, client.mix.entities) = (5, 6, 8);
            }
        })
        .fault(11, 40, slow(EuDe))
        .fault(11, 40, slow(UsEast))
        .plan()
}

pub(super) fn moves_in_a_hurry(seed: u64) -> Plan {
    let place = |regions: &[_]| Kind::Place {
        tenant: Tenant(1),
        regions: regions.to_vec(),
        home: regions[0],
        nodes_per_region: 1,
    };
    let slow = Kind::Latency {
        between: (EuDe, UsEast),
        extra: Millis(500),
        jitter: Millis(100),
    };
    // Pages keep nothing for a second replica, and peers are told of a set without its content: for a second only the
    // node that leaves has it.
    Base::new(seed, "moves-in-a-hurry")
        .tenant(&[EuDe, UsEast], 1)
        .client(EuDe, Transport::GrpcWeb)
        .client(EuDe, Transport::GrpcWeb)
        .client(EuDe, Transport::Native)
        .with(|plan| plan.work.always.push("gossip.as-poke".to_owned()))
        .fault(11, 52, slow)
        .once(16, place(&[UsEast, JpTok]))
        .once(28, place(&[EuDe, UsEast]))
        .once(40, place(&[UsEast, JpTok]))
        .plan()
}

pub(super) fn control_rots(seed: u64) -> Plan {
    let rot = Kind::ControlRot {
        host: Host(3),
        pages: 8,
    };
    Base::new(seed, "control-rots")
        .everywhere()
        .lasting(40)
        .with(|plan| plan.work.operator_pace = Millis(200))
        .fault(20, 22, rot)
        .plan()
}

pub(super) fn node_leaves(seed: u64) -> Plan {
    let alone = Kind::Partition {
        hosts: vec![Host(4)],
        cut: Cut::Dropped,
    };
    // h4 shall have what h1 has, and is cut off as that begins: h1 may not go before h4 has it.
    Base::new(seed, "node-leaves")
        .hosts(&[EuDe, UsEast, EuGb, EuDe])
        .tenant(&[EuDe, UsEast], 1)
        .client(EuDe, Transport::Native)
        .client(UsEast, Transport::GrpcWeb)
        .tenant(&[EuDe], 1)
        .client(EuDe, Transport::GrpcWeb)
        .tenant(&[EuDe, EuGb], 2)
        .client(EuGb, Transport::Native)
        .once(16, Kind::Leave { host: Host(1) })
        .fault(15, 24, alone)
        .once(
            36,
            Kind::Join {
                host: Host(5),
                region: EuDe,
            },
        )
        .plan()
}

pub(super) fn clock_jumps_offline(seed: u64) -> Plan {
    // Less than two nodes may be apart: what may have been taken would keep its timestamp for five minutes.
    let ahead = |client| Kind::ClientClock {
        client: Client(client),
        by_ms: 5 * 60 * 1_000,
    };
    let offline = |client| Kind::ClientOffline {
        client: Client(client),
        returns_in: UsEast,
    };
    Base::new(seed, "clock-jumps-offline")
        .everywhere()
        .fault(12, 20, offline(1))
        .fault(12, 20, offline(3))
        .fault(14, 40, ahead(1))
        .fault(14, 40, ahead(3))
        .plan()
}
