//! Synthetic failures whose smallest cause is known, and the runs it takes to find it.

use proptest::prelude::*;

use super::*;
use crate::plan::draw::{Wish, swarm};

fn whole(faults: u32) -> Candidate {
    Candidate {
        faults: (0..faults).map(FaultId).collect(),
        duration: Millis::secs(60),
        hosts: 5,
        clients: 4,
    }
}

fn ids(numbers: &[u32]) -> BTreeSet<FaultId> {
    numbers.iter().copied().map(FaultId).collect()
}

const LOST: &str = "acknowledged is durable";
const OTHER: &str = "replicas converge";

fn violated(class: &'static str) -> Outcome<&'static str> {
    Outcome::Violated { class, at: None }
}

/// Fails while these faults are kept and the run is at least so large.
#[track_caller]
fn check(faults: u32, needed: &Candidate, runs_at_most: u32) {
    let run = |candidate: &Candidate| {
        let fails = needed.faults.is_subset(&candidate.faults)
            && needed.duration <= candidate.duration
            && needed.hosts <= candidate.hosts
            && needed.clients <= candidate.clients;
        if fails { violated(LOST) } else { Outcome::Clean }
    };
    let shrunk = shrink(&whole(faults), &LOST, RUNS_MAX, run, |_| {}).unwrap();
    assert_eq!(shrunk.smallest.faults, needed.faults);
    assert_eq!(
        (shrunk.smallest.hosts, shrunk.smallest.clients),
        (needed.hosts, needed.clients)
    );
    let left = shrunk.smallest.duration.since(needed.duration);
    assert!(needed.duration <= shrunk.smallest.duration && left <= DURATION_STEP);
    assert!(shrunk.finished);
    assert!(shrunk.runs <= runs_at_most, "{} runs for {needed}", shrunk.runs);
}

#[test]
fn the_smallest_cause_is_found_in_few_runs() {
    let needed = |faults: &[u32], seconds, hosts, clients| Candidate {
        faults: ids(faults),
        duration: Millis::secs(seconds),
        hosts,
        clients,
    };
    check(0, &needed(&[], 60, 5, 4), 20);
    check(22, &needed(&[], 9, 1, 1), 15);
    check(22, &needed(&[13], 20, 3, 1), 35);
    check(22, &needed(&[2, 20], 45, 3, 2), 60);
    check(19, &needed(&[0, 9, 18], 30, 3, 2), 80);
    check(64, &needed(&[7, 8, 40], 30, 5, 4), 120);
}

#[test]
fn only_the_same_class_counts() {
    // Without fault 5 something else fails; it must not be taken for the same.
    let run = |candidate: &Candidate| {
        let has = |id| candidate.faults.contains(&FaultId(id));
        if has(5) && has(9) {
            violated(LOST)
        } else {
            violated(OTHER)
        }
    };
    let shrunk = shrink(&whole(12), &LOST, RUNS_MAX, run, |_| {}).unwrap();
    assert_eq!(shrunk.smallest.faults, ids(&[5, 9]));
}

#[test]
fn what_does_not_replay_is_said_so() {
    let result = shrink(&whole(3), &LOST, RUNS_MAX, |_| Outcome::Clean, |_| {});
    assert_eq!(result, Err(ShrinkError::NotReplayed));
    let result = shrink(&whole(3), &LOST, RUNS_MAX, |_| violated(OTHER), |_| {});
    assert_eq!(result, Err(ShrinkError::NotReplayed));
}

#[test]
fn runs_are_bounded_and_told_one_by_one() {
    let (mut told, mut aims) = (Vec::new(), Vec::new());
    let run = |candidate: &Candidate| {
        let fails = ids(&[1, 6, 11, 16]).is_subset(&candidate.faults);
        if fails { violated(LOST) } else { Outcome::Clean }
    };
    let shrunk = shrink(&whole(20), &LOST, 10, run, |progress| {
        told.push((progress.runs, progress.same));
        aims.push(progress.aim);
        assert_eq!(progress.same, *progress.outcome == violated(LOST));
    })
    .unwrap();
    assert_eq!((aims[0], aims[1]), (Aim::Replay, Aim::Faults));
    assert!(!shrunk.finished);
    assert_eq!(shrunk.runs, 10);
    let numbers: Vec<u32> = told.iter().map(|(runs, _)| *runs).collect();
    assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
    assert_eq!(told[0], (1, true));
    assert!(
        ids(&[1, 6, 11, 16]).is_subset(&shrunk.smallest.faults),
        "it still fails"
    );
}

#[test]
fn a_search_that_is_given_up_answers_with_the_smallest_so_far() {
    let given_up_after = |runs_max: u32| {
        let mut runs = 0;
        shrink(
            &whole(20),
            &LOST,
            RUNS_MAX,
            |candidate| {
                runs += 1;
                match candidate.faults.contains(&FaultId(3)) {
                    _ if runs > runs_max => Outcome::GivenUp,
                    true => violated(LOST),
                    false => Outcome::Clean,
                }
            },
            |_| {},
        )
    };
    assert_eq!(given_up_after(0), Err(ShrinkError::GivenUp));
    let shrunk = given_up_after(4).unwrap();
    assert!(!shrunk.finished);
    assert_eq!(shrunk.runs, 4);
    assert!(shrunk.smallest.faults.len() < 20 && shrunk.smallest.faults.contains(&FaultId(3)));
}

#[test]
fn the_moment_of_the_violation_cuts_the_duration_at_once() {
    let mut durations = Vec::new();
    let run = |candidate: &Candidate| {
        durations.push(candidate.duration);
        let at = Millis(12_300);
        if candidate.duration >= at {
            Outcome::Violated {
                class: LOST,
                at: Some(at),
            }
        } else {
            Outcome::Clean
        }
    };
    let shrunk = shrink(&whole(0), &LOST, RUNS_MAX, run, |_| {}).unwrap();
    assert_eq!(durations[1], Millis(12_800));
    assert!(shrunk.smallest.duration <= Millis(12_800));
}

#[test]
fn an_impossible_candidate_costs_no_run() {
    let mut ran = 0;
    let run = |candidate: &Candidate| {
        if candidate.hosts < 3 {
            return Outcome::Impossible;
        }
        ran += 1;
        violated(LOST)
    };
    let shrunk = shrink(&whole(4), &LOST, RUNS_MAX, run, |_| {}).unwrap();
    assert_eq!(shrunk.smallest.hosts, 3);
    assert_eq!(shrunk.runs, ran);
}

#[test]
fn a_candidate_of_a_plan_is_a_plan_or_impossible() {
    for seed in 0..60 {
        let plan = swarm(seed, Wish::default());
        let mut candidate = Candidate::whole(&plan);
        assert_eq!(candidate.of(&plan).as_ref(), Some(&plan));
        candidate.hosts = 2;
        candidate.clients = 1;
        candidate.duration = Millis::secs(20);
        if let Some(smaller) = candidate.of(&plan) {
            assert_eq!(budget::check(&smaller), Ok(()));
            assert!(smaller.faults.len() <= plan.faults.len());
        }
        candidate.duration = plan.warm_up;
        assert_eq!(candidate.of(&plan), None);
    }
}

#[test]
fn the_arguments_name_what_is_smaller() {
    let all = whole(3);
    assert_eq!(all.arguments(&all), "");
    let mut candidate = all.clone();
    candidate.faults.remove(&FaultId(1));
    candidate.hosts = 3;
    assert_eq!(candidate.arguments(&all), "--faults 0,2 --first-hosts 3");
    candidate.faults.clear();
    (candidate.duration, candidate.clients) = (Millis(1_500), 1);
    let words = "--faults none --until-ms 1500 --first-hosts 3 --first-clients 1";
    assert_eq!(candidate.arguments(&all), words);
    assert_eq!(candidate.to_string(), "0 faults, 1.500 s, 3 hosts, 1 clients");
}

proptest! {
    #[test]
    fn nothing_can_be_left_out_of_what_is_found(needed in proptest::collection::btree_set(0_u32..40, 0..6)) {
        let all: Vec<u32> = (0..40).collect();
        let found = ddmin::minimize(all, |kept| {
            Ok::<_, std::convert::Infallible>(needed.iter().all(|item| kept.contains(item)))
        });
        let found: BTreeSet<u32> = found.unwrap().into_iter().collect();
        prop_assert_eq!(found, needed);
    }

    #[test]
    fn a_failure_that_is_not_monotone_still_ends_one_minimal(seed: u64) {
        // Fails by a coin that the kept set tosses: no structure to follow at all, but the whole fails.
        let fails = |kept: &[u32]| {
            let toss = kept.iter().fold(seed, |hash, item| {
                (hash ^ u64::from(*item)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17)
            });
            kept.len() == 16 || toss % 3 == 0
        };
        let all: Vec<u32> = (0..16).collect();
        let found = ddmin::minimize(all, |kept| Ok::<_, std::convert::Infallible>(fails(kept))).unwrap();
        prop_assert!(fails(&found));
        for left_out in 0..found.len() {
            let mut without = found.clone();
            without.remove(left_out);
            prop_assert!(found.len() == 1 || !fails(&without));
        }
    }
}
