//! The rules, one sentence each.

use std::{sync::Arc, time::Duration};

use halcyon_core::{
    fingerprint::Fingerprint,
    id::{NodeId, OriginId, Seq, Tag, TenantId},
    version_vector::VersionVector,
};

use super::*;
use crate::{
    metadata::state::ReplicaState::{Active, Joining, Leaving},
    replication::{
        fixtures,
        limits::{CALL_DEADLINE, CLOSE_WAIT, DESCRIBED_FRESH, JUDGE_PATIENCE, TASKS_MAX},
    },
};

const ME: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);
const AT: Duration = Duration::from_secs(100);
const MS: Duration = Duration::from_millis(1);

fn vector(seqs: &[(u64, u64)]) -> VersionVector {
    let tag = |&(node, seq): &(u64, u64)| tag(node, seq);
    seqs.iter().map(tag).collect()
}

fn tag(node: u64, seq: u64) -> Tag {
    Tag {
        origin: OriginId {
            node: NodeId(node),
            incarnation: 1,
        },
        seq: Seq(seq),
    }
}

fn own(seqs: &[(u64, u64)], admitting: bool) -> Summary {
    Summary {
        vector: vector(seqs),
        seen: vector(seqs),
        fingerprint: Fingerprint(7),
        triples: 0,
        tombstones: 0,
        opaque: 0,
        collection_epoch: 0,
        admitting,
    }
}

fn known(seqs: &[(u64, u64)]) -> Known {
    Known {
        vector: vector(seqs),
        seen: vector(seqs),
        collection_epoch: 0,
        fingerprint: Some(Fingerprint(7)),
    }
}

/// An engine with one tenant.
fn engine(replicas: &[(u64, ReplicaState)], held: Option<Summary>) -> Engine {
    let mut engine = Engine::new(ME);
    engine.on_nodes(fixtures::regions(&[1, 2, 3, 20, 21, 22]), BTreeSet::new(), AT);
    engine.on_placement(
        fixtures::tenant_id(),
        Some(Arc::new(fixtures::tenant(replicas))),
        false,
        AT,
    );
    engine.on_summary(fixtures::tenant_id(), held, AT);
    engine
}

fn actions(engine: &mut Engine, now: Duration) -> Vec<Action> {
    engine.next_tasks(now).into_iter().map(|task| task.action).collect()
}

/// Ends the running task; says what comes next.
fn then(engine: &mut Engine, done: Done, now: Duration) -> Vec<Action> {
    engine.on_done(fixtures::tenant_id(), done, now);
    actions(engine, now)
}

const ALL_ACTIVE: [(u64, ReplicaState); 3] = [(1, Active), (2, Active), (3, Active)];
const WITHOUT_TWO: [(u64, ReplicaState); 2] = [(1, Active), (3, Active)];

#[test]
fn an_equal_digest_tells_what_the_peer_holds() {
    let mut engine = engine(&ALL_ACTIVE, Some(own(&[(2, 5)], true)));
    let doubts = engine.doubts_about(TWO);
    assert_eq!(doubts.len(), 1);
    for (tenant, vector) in doubts {
        engine.on_equal(TWO, tenant, &vector);
    }
    assert!(engine.doubts_about(TWO).is_empty(), "it is known now");
    assert!(engine.doubtful[&TWO].is_empty(), "idle tenants cost a digest nothing");
    engine.on_summary(fixtures::tenant_id(), Some(own(&[(2, 6)], true)), AT);
    assert_eq!(engine.doubts_about(TWO).len(), 1);
}

#[test]
fn a_placed_tenant_is_opened_and_then_admits() {
    let mut engine = engine(&ALL_ACTIVE, None);
    assert_eq!(actions(&mut engine, AT), [Action::Open { collection_epoch: 0 }]);
    engine.on_summary(fixtures::tenant_id(), Some(own(&[], false)), AT);
    assert_eq!(then(&mut engine, Done::Well, AT), [Action::SetAdmitting(true)]);
    engine.on_summary(fixtures::tenant_id(), Some(own(&[], true)), AT);
    assert_eq!(then(&mut engine, Done::Well, AT), []);
    assert!(engine.tenant(fixtures::tenant_id()).unwrap().serves(ME));
}

#[test]
fn a_gap_is_pulled_from_who_has_most_and_another_is_asked_when_that_fails() {
    let mut engine = engine(&ALL_ACTIVE, Some(own(&[(2, 5)], true)));
    engine.on_gap(TWO, fixtures::tenant_id(), tag(2, 9), AT);
    engine.on_gap(THREE, fixtures::tenant_id(), tag(2, 8), AT);
    assert_eq!(actions(&mut engine, AT), [Action::Pull(TWO)]);
    assert_eq!(then(&mut engine, Done::PullFailed(TWO), AT), [Action::Pull(THREE)]);
    assert_eq!(then(&mut engine, Done::PullFailed(THREE), AT), []);
    let due = engine.due().unwrap();
    assert!(due > AT && due < AT + Duration::from_secs(1), "{due:?}");
    assert_eq!(actions(&mut engine, due).len(), 1);
}

#[test]
fn what_was_seen_and_is_not_whole_is_pulled_once() {
    let mut engine = engine(&ALL_ACTIVE, Some(own(&[(2, 5)], true)));
    let half = Known {
        seen: vector(&[(2, 5), (3, 4)]),
        ..known(&[(2, 5)])
    };
    engine.on_known(TWO, fixtures::tenant_id(), half.clone(), AT);
    let later = AT + Duration::from_secs(1);
    assert_eq!(actions(&mut engine, later), [Action::Pull(TWO)]);
    let pulled = Done::Pulled {
        from: TWO,
        vector: half.vector.clone(),
        seen: half.seen.clone(),
    };
    assert_eq!(then(&mut engine, pulled, later), []);
    engine.on_known(TWO, fixtures::tenant_id(), half, later);
    assert_eq!(actions(&mut engine, later + Duration::from_secs(1)), []);
}

#[test]
fn a_joining_replica_reports_only_when_it_covers_the_active_ones() {
    let replicas = [(1, Joining), (2, Active), (3, Active)];
    let mut engine = engine(&replicas, Some(own(&[(2, 5)], false)));
    assert_eq!(actions(&mut engine, AT), [Action::Describe(vec![TWO, THREE])]);
    let answers = Done::Described(vec![(TWO, Some(known(&[(2, 9)])))]);
    engine.on_done(fixtures::tenant_id(), answers, AT);
    let at = AT + Duration::from_millis(50);
    assert_eq!(actions(&mut engine, at), [Action::Pull(TWO)]);
    engine.on_summary(fixtures::tenant_id(), Some(own(&[(2, 9)], false)), at);
    let pulled = Done::Pulled {
        from: TWO,
        vector: vector(&[(2, 9)]),
        seen: vector(&[(2, 9)]),
    };
    assert_eq!(then(&mut engine, pulled, at), [Action::Describe(vec![TWO, THREE])]);
    let answers = Done::Described(vec![(TWO, Some(known(&[(2, 9)]))), (THREE, Some(known(&[(2, 7)])))]);
    let ready = Action::Report(Report::Ready { placement_epoch: 1 });
    assert_eq!(then(&mut engine, answers, at), [ready]);
}

#[test]
fn a_joining_replica_that_hears_nobody_waits() {
    let mut engine = engine(&[(1, Joining), (2, Active)], Some(own(&[], false)));
    assert_eq!(actions(&mut engine, AT), [Action::Describe(vec![TWO])]);
    assert_eq!(then(&mut engine, Done::Described(vec![]), AT), []);
    assert_eq!(engine.due(), Some(AT + DESCRIBED_FRESH));
}

#[test]
fn a_leaving_replica_stops_to_admit_and_erases_only_what_all_active_ones_cover() {
    let replicas = [(1, Leaving), (2, Active), (3, Active)];
    let mut engine = engine(&replicas, Some(own(&[(1, 4)], true)));
    assert_eq!(actions(&mut engine, AT), [Action::SetAdmitting(false)]);
    engine.on_summary(fixtures::tenant_id(), Some(own(&[(1, 4)], false)), AT);
    assert_eq!(then(&mut engine, Done::Well, AT), [Action::Describe(vec![TWO, THREE])]);
    let answers = vec![(TWO, Some(known(&[(1, 4)]))), (THREE, Some(known(&[(1, 3)])))];
    assert_eq!(then(&mut engine, Done::Described(answers), AT), []);
    let signals = engine.take_signals();
    assert!(matches!(signals[..], [Signal::Poke { to: THREE, .. }]), "{signals:?}");
    let at = engine.due().unwrap();
    assert_eq!(actions(&mut engine, at), [Action::Describe(vec![TWO, THREE])]);
    let answers = vec![(TWO, Some(known(&[(1, 4), (2, 9)]))), (THREE, Some(known(&[(1, 5)])))];
    let erase = Action::Erase {
        if_covered_by: Some(vector(&[(1, 4)])),
    };
    assert_eq!(then(&mut engine, Done::Described(answers), at), [erase]);
    engine.on_summary(fixtures::tenant_id(), None, at);
    let gone = Action::Report(Report::Gone { placement_epoch: 1 });
    assert_eq!(then(&mut engine, Done::Erased(true), at), [gone]);
}

#[test]
fn a_replica_that_missed_a_collection_hands_over_and_starts_from_nothing() {
    let mut engine = engine(&ALL_ACTIVE, Some(own(&[(1, 4)], true)));
    assert_eq!(actions(&mut engine, AT), []);
    let mut tenant = fixtures::tenant(&ALL_ACTIVE);
    tenant.collection_epoch = 1;
    engine.on_placement(fixtures::tenant_id(), Some(Arc::new(tenant)), false, AT);
    assert_eq!(actions(&mut engine, AT), [Action::Collect { collection_epoch: 1 }]);
    let missed = Done::Collected(CollectOutcome::MustRefill);
    assert_eq!(then(&mut engine, missed, AT), [Action::SetAdmitting(false)]);
    engine.on_summary(fixtures::tenant_id(), Some(own(&[(1, 4)], false)), AT);
    assert_eq!(then(&mut engine, Done::Well, AT), [Action::Describe(vec![TWO, THREE])]);
    let newer = Known {
        collection_epoch: 1,
        ..known(&[(1, 4), (2, 2)])
    };
    let answers = Done::Described(vec![(TWO, Some(newer.clone()))]);
    let erase = Action::Erase {
        if_covered_by: Some(newer.vector),
    };
    assert_eq!(then(&mut engine, answers, AT), [erase]);
    engine.on_summary(fixtures::tenant_id(), None, AT);
    assert_eq!(
        then(&mut engine, Done::Erased(true), AT),
        [Action::Open { collection_epoch: 1 }]
    );
    let mut empty = own(&[], false);
    empty.collection_epoch = 1;
    engine.on_summary(fixtures::tenant_id(), Some(empty), AT);
    assert!(!engine.tenant(fixtures::tenant_id()).unwrap().serves(ME));
    engine.on_done(fixtures::tenant_id(), Done::Well, AT);
    let at = AT + Duration::from_millis(50);
    assert_eq!(actions(&mut engine, at), [Action::Pull(TWO)]);
}

#[test]
fn the_only_active_replica_that_missed_a_collection_goes_on_and_people_hear_of_it() {
    for (others, is_alone) in [(&[][..], true), (&[(2, Joining)], true), (&[(2, Active)], false)] {
        let replicas = [&[(1, Active)], others].concat();
        let mut engine = engine(&replicas, Some(own(&[(1, 4)], true)));
        let mut placement = fixtures::tenant(&replicas);
        placement.collection_epoch = 1;
        engine.on_placement(fixtures::tenant_id(), Some(Arc::new(placement)), false, AT);
        assert_eq!(actions(&mut engine, AT), [Action::Collect { collection_epoch: 1 }]);
        let next = then(&mut engine, Done::Collected(CollectOutcome::MustRefill), AT);
        assert_eq!(next.is_empty(), is_alone, "{next:?}");
        let alarms = engine.take_signals();
        assert_eq!(matches!(alarms[..], [Signal::Alarm { .. }]), is_alone, "{alarms:?}");
    }
}

#[test]
fn unequal_facts_raise_an_alarm_and_only_two_against_one_are_repaired() {
    let wrong = |fingerprint| Known {
        fingerprint: Some(Fingerprint(fingerprint)),
        ..known(&[(1, 4)])
    };
    for (three, refills) in [(8, true), (7, false), (9, false)] {
        let mut engine = engine(&ALL_ACTIVE, Some(own(&[(1, 4)], true)));
        assert_eq!(actions(&mut engine, AT), []);
        engine.on_known(TWO, fixtures::tenant_id(), wrong(8), AT);
        let at = AT + Duration::from_secs(1);
        assert_eq!(actions(&mut engine, at), [Action::Describe(vec![TWO, THREE])]);
        let answers = vec![(TWO, Some(wrong(8))), (THREE, Some(wrong(three)))];
        engine.on_done(fixtures::tenant_id(), Done::Described(answers), at);
        assert!(matches!(engine.take_signals()[..], [Signal::Alarm { .. }]));
        assert_eq!(engine.tenant(fixtures::tenant_id()).unwrap().refill, refills, "{three}");
    }
}

#[test]
fn a_removed_nodes_half_is_closed_after_a_while_with_all_others() {
    let mut half = own(&[(1, 4)], true);
    half.seen.raise(tag(9, 3));
    let mut engine = engine(&ALL_ACTIVE, Some(half));
    assert_eq!(actions(&mut engine, AT), []);
    engine.on_nodes(fixtures::regions(&[1, 2, 3]), BTreeSet::from([NodeId(9)]), AT);
    assert_eq!(actions(&mut engine, AT), []);
    assert_eq!(actions(&mut engine, AT + CLOSE_WAIT), [Action::Close(vec![TWO, THREE])]);
}

/// Seed 700905.
#[test]
fn a_node_that_is_removed_while_it_is_asked_is_not_asked_again_and_its_half_is_closed() {
    let mut half = own(&[(1, 4)], true);
    half.seen.raise(tag(2, 3));
    let tenant = fixtures::tenant_id();
    let pulled = Done::Pulled {
        from: TWO,
        vector: vector(&[(2, 2), (3, 8)]),
        seen: vector(&[(2, 3)]),
    };
    for done in [Done::PullFailed(TWO), pulled] {
        let mut engine = engine(&ALL_ACTIVE, Some(half.clone()));
        engine.on_gap(TWO, tenant, tag(2, 3), AT);
        assert_eq!(actions(&mut engine, AT), [Action::Pull(TWO)]);
        engine.on_nodes(fixtures::regions(&[1, 3]), BTreeSet::from([TWO]), AT);
        engine.on_placement(tenant, Some(Arc::new(fixtures::tenant(&WITHOUT_TWO))), false, AT);
        assert_eq!(then(&mut engine, done, AT), []);
        // What it had under way comes later.
        engine.on_gap(TWO, tenant, tag(2, 4), AT);
        engine.on_known(TWO, tenant, known(&[(2, 4), (3, 9)]), AT);
        assert_eq!(actions(&mut engine, AT), []);
        assert_eq!(actions(&mut engine, AT + CLOSE_WAIT), [Action::Close(vec![THREE])]);
    }
}

#[test]
fn who_is_no_replica_any_more_hands_over_what_it_holds_and_is_nobodys_second() {
    let tenant = fixtures::tenant_id();
    let mut engine = engine(&ALL_ACTIVE, Some(own(&[(1, 4), (3, 9)], true)));
    engine.on_known(TWO, tenant, known(&[(1, 4), (3, 9)]), AT);
    assert_eq!(engine.held(tenant), vector(&[(1, 4), (3, 9)]));
    engine.on_placement(tenant, Some(Arc::new(fixtures::tenant(&WITHOUT_TWO))), false, AT);
    assert_eq!(engine.held(tenant), VersionVector::EMPTY);
    engine.on_known(TWO, tenant, known(&[(1, 4), (2, 6), (3, 9)]), AT);
    assert_eq!(engine.held(tenant), VersionVector::EMPTY);
    assert_eq!(actions(&mut engine, AT), [Action::Pull(TWO)]);
}

#[test]
fn a_half_that_an_earlier_incarnation_of_this_node_left_elsewhere_is_closed_by_this_node_alone() {
    let mut half = own(&[(1, 4)], true);
    half.seen.raise(tag(1, 6));
    let mut mine = engine(&ALL_ACTIVE, Some(half));
    assert_eq!(actions(&mut mine, AT), []);
    assert_eq!(actions(&mut mine, AT + CLOSE_WAIT), [Action::Close(vec![TWO, THREE])]);

    let mut half = own(&[(2, 4)], true);
    half.seen.raise(tag(2, 6));
    let mut anothers = engine(&ALL_ACTIVE, Some(half));
    assert_eq!(actions(&mut anothers, AT + CLOSE_WAIT * 2), []);
}

#[test]
fn the_replica_that_held_a_set_first_is_not_its_second() {
    let mut engine = engine(&ALL_ACTIVE, Some(own(&[(1, 4)], true)));
    let known = |vector: &[(u64, u64)]| Known {
        vector: vector.iter().map(|&(node, seq)| tag(node, seq)).collect(),
        ..Known::default()
    };
    engine.on_known(TWO, fixtures::tenant_id(), known(&[(1, 2), (2, 9)]), AT);
    engine.on_known(THREE, fixtures::tenant_id(), known(&[(1, 3), (2, 5)]), AT);
    let held = engine.held(fixtures::tenant_id());
    assert_eq!(held, [tag(1, 3), tag(2, 5)].into_iter().collect());
}

#[test]
fn one_copy_goes_to_each_region_and_around_a_node_that_is_down() {
    let replicas = [(1, Active), (20, Active), (21, Joining), (22, Leaving), (3, Active)];
    let mut engine = engine(&replicas, Some(own(&[], true)));
    let plan = |engine: &mut Engine| {
        engine
            .on_committed(fixtures::tenant_id(), tag(1, 1), true)
            .unwrap()
            .targets
            .clone()
    };
    let target = |to, pass_on: &[u64]| Target {
        to: NodeId(to),
        pass_on: pass_on.to_vec(),
    };
    assert_eq!(plan(&mut engine), [target(20, &[21]), target(3, &[])]);
    engine.on_peer(NodeId(20), false, AT);
    assert_eq!(plan(&mut engine), [target(21, &[20]), target(3, &[])]);
}

#[test]
fn a_digest_changes_with_what_is_held_and_back_again() {
    let mut engine = engine(&ALL_ACTIVE, Some(own(&[(1, 4)], true)));
    let before = engine.digest_for(TWO);
    assert_ne!(before, Digest::default());
    engine.on_summary(fixtures::tenant_id(), Some(own(&[(1, 5)], true)), AT);
    assert_eq!(engine.digest_for(TWO).differing(&before.clone().into_sums()).len(), 1);
    engine.on_summary(fixtures::tenant_id(), Some(own(&[(1, 4)], true)), AT);
    assert_eq!(engine.digest_for(TWO), before);
    engine.on_placement(
        fixtures::tenant_id(),
        Some(Arc::new(fixtures::tenant(&[(1, Active)]))),
        false,
        AT,
    );
    assert_eq!(engine.digest_for(TWO), Digest::default());
}

#[test]
fn work_for_many_tenants_is_bounded() {
    let mut engine = Engine::new(ME);
    engine.on_nodes(fixtures::regions(&[1, 2, 3]), BTreeSet::new(), AT);
    for at in 0..1_000 {
        let mut tenant = fixtures::tenant(&ALL_ACTIVE);
        tenant.id = TenantId::from_bytes(u128::to_be_bytes(at)).unwrap();
        engine.on_placement(tenant.id, Some(Arc::new(tenant)), false, AT);
    }
    let mut done = 0;
    let mut tasks = engine.next_tasks(AT);
    assert_eq!(tasks.len(), TASKS_MAX);
    while let Some(task) = tasks.pop() {
        done += 1;
        engine.on_summary(task.tenant, Some(own(&[], true)), AT);
        engine.on_done(task.tenant, Done::Well, AT);
        tasks.extend(engine.next_tasks(AT));
        assert!(tasks.len() <= TASKS_MAX);
    }
    assert_eq!(done, 1_000);
}

#[test]
fn what_a_peer_passes_on_or_offers_is_no_proof_that_it_holds_it() {
    let mut passed_on = engine(&ALL_ACTIVE, Some(own(&[(2, 5)], true)));
    passed_on.on_gap(THREE, fixtures::tenant_id(), tag(2, 9), AT);
    assert_eq!(passed_on.held(fixtures::tenant_id()), VersionVector::EMPTY);
    assert!(!passed_on.is_in_another_region(fixtures::tenant_id(), tag(2, 5)));

    // Who leaves must not erase 3 and 4, which the other may lack, because that one spoke of 9.
    let mut leaving = engine(&[(1, Leaving), (2, Active)], Some(own(&[(3, 4)], false)));
    assert_eq!(actions(&mut leaving, AT), [Action::Describe(vec![TWO])]);
    let answers = vec![(TWO, Some(known(&[(3, 2)])))];
    assert_eq!(then(&mut leaving, Done::Described(answers), AT), []);
    leaving.on_gap(TWO, fixtures::tenant_id(), tag(3, 9), AT);
    assert_eq!(actions(&mut leaving, AT), []);
}

#[test]
fn what_a_peer_offered_and_does_not_hold_is_asked_of_its_origin_and_of_the_peer_later() {
    let mut engine = engine(&ALL_ACTIVE, Some(own(&[(3, 5)], true)));
    engine.on_gap(TWO, fixtures::tenant_id(), tag(3, 9), AT);
    assert_eq!(actions(&mut engine, AT), [Action::Pull(TWO)]);
    let nothing = Done::Pulled {
        from: TWO,
        vector: vector(&[(3, 5)]),
        seen: vector(&[(3, 5)]),
    };
    engine.on_gap(TWO, fixtures::tenant_id(), tag(3, 9), AT);
    assert_eq!(then(&mut engine, nothing.clone(), AT), [Action::Pull(THREE)]);
    assert_eq!(then(&mut engine, Done::PullFailed(THREE), AT), []);
    let due = engine.due().unwrap();
    assert!(due > AT, "nobody is asked without a pause");
    assert_eq!(actions(&mut engine, due).len(), 1);
}

#[test]
fn an_acknowledgement_of_a_node_that_is_no_replica_counts_for_nothing() {
    let mut engine = engine(&[(1, Active), (2, Active)], Some(own(&[(1, 5)], true)));
    engine.on_ack(THREE, fixtures::tenant_id(), tag(1, 5));
    assert_eq!(engine.held(fixtures::tenant_id()), VersionVector::EMPTY);
    engine.on_ack(TWO, fixtures::tenant_id(), tag(1, 5));
    assert!(engine.is_in_another_region(fixtures::tenant_id(), tag(1, 5)));
    engine.on_nodes(fixtures::regions(&[1]), BTreeSet::from([TWO]), AT);
    assert!(
        !engine.is_in_another_region(fixtures::tenant_id(), tag(1, 5)),
        "it is nowhere now"
    );
}

#[test]
fn unequal_facts_at_equal_vectors_are_repaired_where_most_active_replicas_agree() {
    // Ours is 7. Each case: the fingerprints of the others, whether this one is filled again, what people are told.
    check_judgement(&[8, 8], true, "n1 (this node) stands alone against n2, n3");
    check_judgement(&[7, 8], false, "n3 stands alone against n1 (this node), n2");
    check_judgement(&[8], false, "(n1 (this node) against n2) and no majority");
    check_judgement(&[7, 8, 8], false, "(n1 (this node), n2 against n3, n4) and no majority");
    check_judgement(&[8, 8, 7, 8], true, "n1 (this node), n4 stand against n2, n3, n5");
    check_judgement(&[8, 9], false, "(n1 (this node) against n2 against n3) and no majority");
}

#[test]
fn nobody_says_that_no_majority_agrees_before_the_others_were_counted_or_took_too_long() {
    let mut engine = engine(&ALL_ACTIVE, Some(own(&[(2, 5)], true)));
    let wrong = Known {
        fingerprint: Some(Fingerprint(8)),
        ..known(&[(2, 5)])
    };
    // The third is behind, and cannot be compared.
    let answers = vec![(TWO, Some(wrong.clone())), (THREE, Some(known(&[(2, 4)])))];
    let mut told = |at| {
        engine.on_known(TWO, fixtures::tenant_id(), wrong.clone(), at);
        let at = engine.due().unwrap().max(at);
        assert_eq!(actions(&mut engine, at), [Action::Describe(vec![TWO, THREE])]);
        then(&mut engine, Done::Described(answers.clone()), at);
        let signals = engine.take_signals();
        signals.iter().any(|signal| matches!(signal, Signal::Alarm { .. }))
    };
    assert!(!told(AT));
    assert!(!told(AT + JUDGE_PATIENCE / 2));
    assert!(told(AT + JUDGE_PATIENCE * 2));
}

#[track_caller]
fn check_judgement(others: &[u128], is_filled_again: bool, told: &str) {
    let nodes: Vec<u64> = (2..).take(others.len()).collect();
    let replicas: Vec<_> = [1].iter().chain(&nodes).map(|&node| (node, Active)).collect();
    let mut engine = engine(&replicas, Some(own(&[(2, 5)], true)));
    let answers: Vec<_> = nodes
        .iter()
        .zip(others)
        .map(|(&node, &fingerprint)| {
            let fingerprint = Some(Fingerprint(fingerprint));
            let known = Known {
                fingerprint,
                ..known(&[(2, 5)])
            };
            (NodeId(node), Some(known))
        })
        .collect();
    for (node, known) in &answers {
        engine.on_known(*node, fixtures::tenant_id(), known.clone().unwrap(), AT);
    }
    let at = engine.due().unwrap();
    let asked = nodes.into_iter().map(NodeId).collect();
    assert_eq!(actions(&mut engine, at), [Action::Describe(asked)]);
    let next = then(&mut engine, Done::Described(answers), at);
    let signals = engine.take_signals();
    assert!(
        matches!(&signals[..], [Signal::Alarm { message, .. }] if message.contains(told)),
        "{signals:?}"
    );
    let gives_up = next == [Action::SetAdmitting(false)];
    assert_eq!(gives_up, is_filled_again, "{told}: {next:?}");
}

#[test]
fn what_clients_have_seen_and_nobody_holds_any_more_is_not_waited_for() {
    let tenant = fixtures::tenant_id();
    let mut engine = engine(&ALL_ACTIVE, Some(own(&[(1, 4), (2, 5)], true)));
    let seen = vector(&[(1, 3), (2, 7)]);
    let ask = |engine: &mut Engine, now| engine.attainable(tenant, seen.clone(), now);
    assert_eq!(ask(&mut engine, AT), seen, "nobody was asked");
    // What they say now may have been said before the client saw it.
    engine.on_known(TWO, tenant, known(&[(2, 5)]), AT + MS);
    engine.on_known(THREE, tenant, known(&[(2, 5)]), AT + MS);
    assert_eq!(ask(&mut engine, AT + MS), seen);
    assert_eq!(actions(&mut engine, AT + MS), []);
    let later = AT + CALL_DEADLINE + 2 * MS;
    assert_eq!(actions(&mut engine, later), [Action::Describe(vec![TWO, THREE])]);
    let two = (TWO, Some(known(&[(2, 5)])));
    then(&mut engine, Done::Described(vec![two.clone()]), later);
    assert_eq!(ask(&mut engine, later), seen, "one of them did not answer");
    let later = later + DESCRIBED_FRESH;
    assert_eq!(actions(&mut engine, later), [Action::Describe(vec![THREE])]);
    then(
        &mut engine,
        Done::Described(vec![(THREE, Some(known(&[(2, 7)])))]),
        later,
    );
    assert_eq!(ask(&mut engine, later), seen, "one of them holds it");
    engine.on_known(THREE, tenant, known(&[(2, 5)]), later);
    assert_eq!(ask(&mut engine, later), vector(&[(1, 3)]));
    // A later one of the same origin is asked for anew.
    let more = vector(&[(2, 8)]);
    assert_eq!(engine.attainable(tenant, more.clone(), later), more);
}
