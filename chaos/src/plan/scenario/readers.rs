//! Stories about those who follow what others write.

use super::base::Base;
use crate::{
    plan::{
        Plan,
        cluster::{Client, Host, Transport},
        fault::{Crash, Cut, Kind},
        time::Millis,
    },
    topology::Region::{EuDe, JpTok, UsEast},
};

pub(super) fn queries_followed(seed: u64) -> Plan {
    followed(seed, "queries-followed").plan()
}

/// The same with queries that rest on more than a client is sent, or come to.
pub(super) fn answers_sent(seed: u64) -> Plan {
    followed(seed, "answers-sent").setting("live_entities_max", "12").plan()
}

fn followed(seed: u64, name: &'static str) -> Base {
    let alone = |region| Kind::RegionCut {
        regions: vec![region],
        cut: Cut::Dropped,
    };
    let crash = |host| Kind::Crash {
        host: Host(host),
        how: Crash::Process,
    };
    let away = |client, returns_in| Kind::ClientOffline {
        client: Client(client),
        returns_in,
    };
    // What a client has seen in one region the node of another lacks, when it comes there.
    Base::new(seed, name)
        .everywhere()
        .client(EuDe, Transport::Native)
        .client(UsEast, Transport::Native)
        .with(|plan| {
            for client in &mut plan.clients {
                client.mix.live = 3;
                (client.mix.unset, client.mix.delete, client.mix.create) = (4, 3, 5);
                client.mix.fields = 2;
                client.pace = Millis(120);
            }
        })
        .fault(12, 26, alone(UsEast))
        .fault(16, 22, away(2, EuDe))
        .fault(20, 30, away(1, JpTok))
        .fault(34, 38, crash(1))
        .fault(40, 52, alone(JpTok))
        .fault(44, 46, away(4, UsEast))
}

pub(super) fn readers_move(seed: u64) -> Plan {
    let alone = Kind::RegionCut {
        regions: vec![UsEast],
        cut: Cut::Dropped,
    };
    let away = |client, returns_in| Kind::ClientOffline {
        client: Client(client),
        returns_in,
    };
    // What was written in the region that is cut off they have seen there, each other's sets too.
    Base::new(seed, "readers-move")
        .everywhere()
        .client(UsEast, Transport::Native)
        .client(UsEast, Transport::Native)
        .with(|plan| {
            for client in &mut plan.clients {
                client.mix.live = 3;
                client.pace = Millis(120);
            }
        })
        .fault(12, 46, alone)
        .fault(20, 22, away(2, EuDe))
        .fault(30, 32, away(4, JpTok))
        .plan()
}

pub(super) fn rooms_meet(seed: u64) -> Plan {
    let alone = |region, cut| Kind::RegionCut {
        regions: vec![region],
        cut,
    };
    let crash = |host, how| Kind::Crash { host: Host(host), how };
    let away = |client, returns_in| Kind::ClientOffline {
        client: Client(client),
        returns_in,
    };
    Base::new(seed, "rooms-meet")
        .tenant(&[EuDe, UsEast, JpTok], 1)
        .client(EuDe, Transport::Native)
        .client(UsEast, Transport::Native)
        .client(JpTok, Transport::Native)
        .client(EuDe, Transport::Native)
        .tenant(&[UsEast, EuDe], 1)
        .client(UsEast, Transport::Native)
        .client(EuDe, Transport::Native)
        .with(|plan| {
            for client in &mut plan.clients {
                client.mix.room = true;
                client.pace = Millis(1_000);
            }
        })
        .fault(12, 24, alone(JpTok, Cut::Dropped))
        .fault(18, 30, crash(1, Crash::Process))
        .fault(26, 32, away(2, EuDe))
        .fault(36, 44, alone(UsEast, Cut::Held))
        .fault(46, 50, crash(3, Crash::Power))
        .plan()
}
