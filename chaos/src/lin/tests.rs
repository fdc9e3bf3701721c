//! Histories with known answers, histories of a real atomic object, and a checker by definition to compare with.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    Operation, STEPS_MAX, Spec as _, Verdict, check, check_each,
    register::{Call, Register, Reply},
};

type Op = Operation<Call<u32>, Reply<u32>>;

const SPEC: Register<u32> = Register::new();

fn answered(process: &str, call: Call<u32>, (called, at): (u64, u64), reply: Reply<u32>) -> Op {
    Op {
        process: process.to_owned(),
        call,
        called,
        returned: Some((at, reply)),
    }
}

fn write(new: u32, span: (u64, u64)) -> Op {
    answered("w", Call::Write(new), span, Reply::Done)
}

fn lost_write(new: u32, called: u64) -> Op {
    Op {
        process: "w".to_owned(),
        call: Call::Write(new),
        called,
        returned: None,
    }
}

fn read(content: Option<u32>, span: (u64, u64)) -> Op {
    answered("r", Call::Read, span, content.map_or(Reply::Absent, Reply::Content))
}

fn verdict(history: &[Op]) -> Verdict {
    check(&SPEC, history, STEPS_MAX)
}

#[track_caller]
fn good(history: &[Op]) {
    let Verdict::Linearizable(order) = verdict(history) else {
        panic!("{:?}", verdict(history));
    };
    assert!(explains(history, &order), "{order:?}");
}

#[track_caller]
fn bad(history: &[Op], broken: usize) {
    match verdict(history) {
        Verdict::Violation(explanation) => assert_eq!(explanation.broken, broken, "{explanation}"),
        other => panic!("{other:?}"),
    }
}

/// Whether this order of operations is possible by the definition.
fn explains(history: &[Op], order: &[usize]) -> bool {
    let chosen: BTreeSet<usize> = order.iter().copied().collect();
    let all_answered = (0..history.len()).all(|place| history[place].returned.is_none() || chosen.contains(&place));
    let mut state = SPEC.start();
    let mut replies_agree = true;
    for place in order {
        let (after, reply) = SPEC.apply(&state, &history[*place].call);
        replies_agree &= history[*place].returned.as_ref().is_none_or(|(_, said)| *said == reply);
        state = after;
    }
    let in_time = order.iter().enumerate().all(|(at, earlier)| {
        order[at + 1..].iter().all(|later| {
            let ended = history[*later].returned.as_ref().map_or(u64::MAX, |(at, _)| *at);
            ended >= history[*earlier].called
        })
    });
    chosen.len() == order.len() && all_answered && replies_agree && in_time
}

/// Every order of every choice of unanswered operations.
fn by_definition(history: &[Op]) -> bool {
    fn extend(history: &[Op], order: &mut Vec<usize>) -> bool {
        if explains(history, order) {
            return true;
        }
        for place in 0..history.len() {
            if !order.contains(&place) {
                order.push(place);
                if extend(history, order) {
                    return true;
                }
                order.pop();
            }
        }
        false
    }
    extend(history, &mut Vec::new())
}

#[test]
fn one_after_another_must_be_as_if_alone() {
    good(&[]);
    good(&[write(1, (0, 1)), read(Some(1), (2, 3))]);
    bad(&[write(1, (0, 1)), read(None, (2, 3))], 1);
    bad(&[write(1, (0, 1)), write(2, (2, 3)), read(Some(1), (4, 5))], 2);
}

#[test]
fn what_overlaps_may_come_in_either_order() {
    good(&[write(1, (0, 9)), read(None, (1, 2)), read(Some(1), (3, 4))]);
    bad(&[write(1, (0, 9)), read(Some(1), (1, 2)), read(None, (3, 4))], 2);
    good(&[write(1, (0, 9)), write(2, (0, 9)), read(Some(1), (10, 11))]);
    bad(
        &[
            write(1, (0, 9)),
            write(2, (0, 9)),
            read(Some(1), (10, 11)),
            read(Some(2), (12, 13)),
        ],
        3,
    );
    // At one moment: they overlap.
    good(&[write(1, (0, 5)), read(None, (5, 6))]);
}

#[test]
fn an_operation_without_an_answer_may_have_happened_later_or_never() {
    good(&[lost_write(1, 0), read(None, (2, 3)), read(Some(1), (4, 5))]);
    good(&[lost_write(1, 0), read(None, (2, 3)), read(None, (4, 5))]);
    bad(&[lost_write(1, 0), read(Some(1), (2, 3)), read(None, (4, 5))], 2);
    bad(&[read(Some(1), (0, 1)), lost_write(1, 2)], 0);
}

#[test]
fn create_delete_and_compare_say_what_they_met() {
    let create = |new, span, reply| answered("a", Call::Create(new), span, reply);
    let delete = |span, reply| answered("b", Call::Delete, span, reply);
    let compare = |old, new, span, reply| answered("c", Call::Compare { old, new }, span, reply);
    good(&[
        create(1, (0, 1), Reply::Done),
        create(2, (2, 3), Reply::Refused),
        delete((4, 5), Reply::Done),
    ]);
    bad(&[create(1, (0, 1), Reply::Done), create(2, (2, 3), Reply::Done)], 1);
    good(&[
        create(1, (0, 4), Reply::Done),
        create(2, (0, 4), Reply::Refused),
        read(Some(1), (5, 6)),
    ]);
    bad(
        &[
            create(1, (0, 4), Reply::Done),
            create(2, (0, 4), Reply::Done),
            read(Some(1), (5, 6)),
        ],
        1,
    );
    good(&[
        write(1, (0, 1)),
        compare(1, 2, (2, 5), Reply::Done),
        compare(1, 3, (2, 5), Reply::Refused),
    ]);
    bad(
        &[
            write(1, (0, 1)),
            compare(1, 2, (2, 5), Reply::Done),
            compare(1, 3, (2, 6), Reply::Done),
        ],
        2,
    );
    bad(&[delete((0, 1), Reply::Done)], 0);
}

#[test]
fn a_failure_is_explained_by_the_shortest_beginning() {
    let history = [
        write(1, (0, 10)),
        read(Some(1), (11, 20)),
        lost_write(7, 15),
        write(2, (21, 30)),
        read(Some(1), (31, 40)),
        write(3, (35, 45)),
        read(Some(3), (50, 60)),
    ];
    let Verdict::Violation(explanation) = verdict(&history) else {
        panic!("not found");
    };
    let expected = "\
nothing explains  [31, 40] r: read -> 1
the first 6 operations cannot be put in order; all before it can:
    [0, 10] w: write 1 -> done   then Some(1)
    [11, 20] r: read -> 1   then Some(1)
    [15, ?] w: write 7 -> no answer   then Some(7)
    [21, 30] w: write 2 -> done   then Some(2)
open at that moment, tried at every place:
    [35, 45] w: write 3 -> done
";
    assert_eq!(explanation.to_string(), expected);
}

#[test]
fn each_object_is_checked_alone() {
    let histories = BTreeMap::from([
        ("a", vec![write(1, (0, 1)), read(Some(1), (2, 3))]),
        ("b", vec![write(1, (0, 1)), read(None, (2, 3))]),
        ("c", vec![]),
    ]);
    let found = check_each(&SPEC, &histories, STEPS_MAX);
    let keys: Vec<&str> = found.iter().map(|(key, _)| **key).collect();
    assert_eq!(keys, ["b"]);
}

#[test]
fn a_search_without_an_end_says_so() {
    // Twenty writes at once, then a value that none of them wrote: every order must be tried.
    let mut history: Vec<Op> = (0..20).map(|new| write(new, (0, 10))).collect();
    history.push(read(Some(99), (11, 12)));
    assert_eq!(check(&SPEC, &history, 10_000), Verdict::Undecided { steps: 10_000 });
}

#[test]
fn memory_makes_long_histories_cheap() {
    let mut history = Vec::new();
    for at in 0..2_000 {
        let start = u64::from(at) * 10;
        history.push(write(at, (start, start + 15)));
        history.push(lost_write(at + 10_000, start + 3));
        history.push(read(Some(at), (start + 16, start + 19)));
    }
    // Writes overlap the next write only before it is read: an order exists and is found without search.
    history.retain(|operation| operation.returned.is_some() || operation.called % 200 == 3);
    assert!(matches!(check(&SPEC, &history, 200_000), Verdict::Linearizable(_)));
}

/// An atomic register used by some processes: each operation takes effect at one moment between call and answer.
fn atomic(script: &[(u8, u8, u8, bool)]) -> Vec<Op> {
    let mut clock = [0_u64; 4];
    let mut pending = Vec::new();
    for (at, (process, what, takes, lost)) in script.iter().enumerate() {
        let process = usize::from(process % 4);
        let called = clock[process] + u64::from(what % 3);
        let effect = called + u64::from(takes % 7);
        let ended = effect + u64::from(takes / 7 % 7);
        clock[process] = ended + 1;
        let new = u32::try_from(at).unwrap();
        let call = match what % 6 {
            0 | 1 => Call::Read,
            2 => Call::Write(new),
            3 => Call::Create(new),
            4 => Call::Delete,
            _ => Call::Compare {
                old: new.saturating_sub(3),
                new,
            },
        };
        pending.push((effect, at, process, call, called, ended, *lost));
    }
    pending.sort_by_key(|(effect, at, ..)| (*effect, *at));
    let mut state = SPEC.start();
    let mut history = Vec::new();
    for (_, at, process, call, called, ended, lost) in pending {
        let (after, reply) = SPEC.apply(&state, &call);
        // Every other operation whose answer is lost did not take effect either.
        if !lost || at % 2 == 0 {
            state = after;
        }
        history.push(Op {
            process: format!("p{process}"),
            call,
            called,
            returned: (!lost).then_some((ended, reply)),
        });
    }
    history
}

fn script(len: usize) -> impl Strategy<Value = Vec<(u8, u8, u8, bool)>> {
    proptest::collection::vec(
        (any::<u8>(), any::<u8>(), any::<u8>(), proptest::bool::weighted(0.1)),
        0..len,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_an_atomic_object_did_is_accepted(script in script(60)) {
        let history = atomic(&script);
        match verdict(&history) {
            Verdict::Linearizable(order) => prop_assert!(explains(&history, &order)),
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn a_value_that_nobody_wrote_is_rejected(script in script(40), which: prop::sample::Index) {
        let mut history = atomic(&script);
        let reads: Vec<usize> = (0..history.len())
            .filter(|place| history[*place].call == Call::Read && history[*place].returned.is_some())
            .collect();
        prop_assume!(!reads.is_empty());
        let read = reads[which.index(reads.len())];
        if let Some((_, reply)) = &mut history[read].returned {
            *reply = Reply::Content(1_000_000);
        }
        match verdict(&history) {
            Verdict::Violation(explanation) => prop_assert_eq!(explanation.broken, read),
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn the_search_finds_what_the_definition_says(
        script in script(6),
        changed: prop::sample::Index,
        to in 0_u32..6,
    ) {
        let mut history = atomic(&script);
        prop_assume!(!history.is_empty());
        let at = changed.index(history.len());
        if let Some((_, reply)) = &mut history[at].returned {
            *reply = match to {
                0 => Reply::Absent,
                1 => Reply::Done,
                2 => Reply::Refused,
                content => Reply::Content(content),
            };
        }
        let found = matches!(verdict(&history), Verdict::Linearizable(_));
        prop_assert_eq!(found, by_definition(&history));
    }
}
