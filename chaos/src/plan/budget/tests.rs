//! Tests of the budget: what is within it and what is not, rule by rule.

use super::*;
use crate::plan::scenario::base::Base;

const TO: Millis = Millis(9_000);

/// Three hosts in two regions (h1 and h3 in the first); the tenant is in both.
fn plan(faults: Vec<(u64, Option<u64>, Kind)>) -> Plan {
    let base = Base::new(1, "budget").hosts(&[Region::EuDe, Region::EuGb, Region::EuDe]);
    let mut plan = base.tenant(&[Region::EuDe, Region::EuGb], 1).plan();
    plan.faults = (0..)
        .zip(faults)
        .map(|(id, (start, end, kind))| Fault {
            id: FaultId(id),
            start: Millis::secs(start),
            end: end.map(Millis::secs),
            kind,
        })
        .collect();
    plan
}

fn rolled_back(host: u32, files: Files) -> Kind {
    Kind::DiskRolledBack {
        host: Host(host),
        to: TO,
        files,
    }
}

#[track_caller]
fn refused(faults: Vec<(u64, Option<u64>, Kind)>, why: &OverBudget) {
    assert_eq!(check(&plan(faults)).as_ref(), Err(why));
}

#[test]
fn voters_are_the_largest_odd_number_up_to_five() {
    let found: Vec<usize> = (1..=7).map(voters).collect();
    assert_eq!(found, [1, 1, 3, 3, 5, 5, 5]);
}

#[test]
fn a_minority_may_be_harmed_and_no_more() {
    assert_eq!(check(&plan(vec![(10, None, Kind::HostLost { host: Host(2) })])), Ok(()));
    refused(
        vec![
            (10, None, Kind::HostLost { host: Host(2) }),
            (20, Some(22), rolled_back(1, Files::Triples)),
        ],
        &OverBudget::Majority { harmed: 2, allowed: 1 },
    );
}

#[test]
fn all_hosts_may_lose_power_at_once() {
    let crash = |host| Kind::Crash {
        host: Host(host),
        how: crate::plan::fault::Crash::Power,
    };
    let all = (1..=3).map(|host| (10, Some(12), crash(host))).collect();
    assert_eq!(check(&plan(all)), Ok(()));
}

#[test]
fn each_tenant_keeps_a_disk_wherever_hashing_puts_it() {
    let lost = || vec![(10, None, Kind::RegionLost { region: Region::EuGb })];
    assert_eq!(check(&plan(lost())), Ok(()));
    let mut narrow = plan(lost());
    narrow.tenants[0].regions = vec![Region::EuGb];
    assert_eq!(check(&narrow), Err(OverBudget::NoReplicaKept(Tenant(1))));
    // Two hosts in eu-de and one copy there: it may lie on the host that is harmed.
    let mut unlucky = plan(vec![(10, None, Kind::HostLost { host: Host(1) })]);
    unlucky.tenants[0].regions = vec![Region::EuDe];
    assert_eq!(check(&unlucky), Err(OverBudget::NoReplicaKept(Tenant(1))));
    unlucky.tenants[0].nodes_per_region = 2;
    assert_eq!(check(&unlucky), Ok(()));
}

#[test]
fn a_control_plane_that_forgets_is_alone() {
    let pause = Kind::Pause { host: Host(2) };
    let back = || (20, Some(22), rolled_back(1, Files::All));
    assert_eq!(check(&plan(vec![back()])), Ok(()));
    assert_eq!(check(&plan(vec![back(), (28, Some(30), pause.clone())])), Ok(()));
    refused(
        vec![(10, Some(12), pause.clone()), back()],
        &OverBudget::NotAlone(FaultId(1), FaultId(0)),
    );
    refused(
        vec![back(), (26, Some(30), pause.clone())],
        &OverBudget::NotAlone(FaultId(0), FaultId(1)),
    );
    let triples = (20, Some(22), rolled_back(1, Files::Triples));
    assert_eq!(check(&plan(vec![(10, Some(12), pause), triples])), Ok(()));
}

#[test]
fn a_host_is_harmed_or_moved_out_once_and_its_region_keeps_another() {
    let drain = |host| Kind::Drain { host: Host(host) };
    assert_eq!(check(&plan(vec![(10, None, drain(3))])), Ok(()));
    refused(vec![(10, None, drain(2))], &OverBudget::EmptyRegion(Region::EuGb));
    refused(
        vec![(10, None, drain(3)), (20, None, Kind::HostLost { host: Host(3) })],
        &OverBudget::Twice(Host(3)),
    );
    refused(
        vec![(10, None, drain(3)), (20, None, Kind::HostLost { host: Host(1) })],
        &OverBudget::EmptyRegion(Region::EuDe),
    );
}

#[test]
fn who_leaves_has_another_behind_it_and_waits_for_nobody_who_is_lost() {
    let leave = |host| Kind::Leave { host: Host(host) };
    let lost = |end| (20, end, Kind::RegionLost { region: Region::EuGb });
    assert_eq!(check(&plan(vec![(10, None, leave(3))])), Ok(()));
    refused(vec![(10, None, leave(2))], &OverBudget::EmptyRegion(Region::EuGb));
    refused(
        vec![(10, None, leave(3)), (20, None, Kind::Drain { host: Host(3) })],
        &OverBudget::Twice(Host(3)),
    );
    // Two hosts are left, and one voter.
    refused(
        vec![(10, None, leave(3)), (20, Some(22), rolled_back(2, Files::Triples))],
        &OverBudget::Majority { harmed: 1, allowed: 0 },
    );
    let mut five = plan(vec![(10, None, leave(3)), lost(None)]);
    let more = five.cluster.hosts.clone();
    five.cluster
        .hosts
        .extend(more.into_iter().filter(|host| host.region == Region::EuDe));
    assert_eq!(check(&five), Err(OverBudget::CannotLeave(Host(3), FaultId(1))));
    five.faults[1].end = Some(Millis::secs(22));
    assert_eq!(check(&five), Ok(()));
}

#[test]
fn hours_pass_once_and_for_no_client_that_is_behind() {
    let hours = || (20, None, Kind::TimePasses { by_ms: 3_600_000 });
    let set = |by_ms| Kind::ClientClock {
        client: Client(1),
        by_ms,
    };
    assert_eq!(check(&plan(vec![hours(), (30, Some(40), set(5_000))])), Ok(()));
    refused(vec![hours(), hours()], &OverBudget::HoursTwice);
    refused(
        vec![hours(), (30, Some(40), set(-5_000))],
        &OverBudget::HoursBehind(Client(1)),
    );
    let mut behind = plan(vec![hours()]);
    let base = Base::new(1, "budget").everywhere().plan();
    behind.clients = base.clients;
    assert_eq!(check(&behind), Ok(()));
    behind.clients[1].clock.offset_ms = -2_000;
    assert_eq!(check(&behind), Err(OverBudget::HoursBehind(Client(2))));
}

#[test]
fn nobody_joins_a_region_that_is_lost_for_good() {
    let region = Region::EuGb;
    let join = Kind::Join { host: Host(4), region };
    let lost = || Kind::RegionLost { region };
    assert_eq!(
        check(&plan(vec![(10, None, join.clone()), (20, Some(22), lost())])),
        Ok(())
    );
    refused(
        vec![(10, None, join), (20, None, lost())],
        &OverBudget::JoinsLost(region),
    );
}

#[test]
fn faults_keep_to_the_run() {
    let pause = || Kind::Pause { host: Host(2) };
    refused(vec![(1, Some(2), pause())], &OverBudget::OutOfTime(FaultId(0)));
    refused(vec![(30, Some(30), pause())], &OverBudget::OutOfTime(FaultId(0)));
    refused(vec![(30, Some(3_000), pause())], &OverBudget::OutOfTime(FaultId(0)));
    refused(
        vec![(9, Some(12), rolled_back(1, Files::Triples))],
        &OverBudget::OutOfTime(FaultId(0)),
    );
}
