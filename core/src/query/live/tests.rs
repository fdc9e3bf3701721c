//! After each change set, what a consumer holds equals a fresh evaluation and the plainest evaluator.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use proptest::prelude::*;

use super::*;
use crate::collections::BTreeSet;
use crate::{
    change::{Change as Write, ChangeSet},
    clock::{ClientId, NTP64, timestamp},
    graph::Graph,
    id::{EntityId, NodeId, OriginId, Seq, Tag},
    query::{
        answer::Rows,
        eval::answer,
        lower::lower,
        naive,
        testing::{
            Triple, case, cases,
            choices::Choices,
            datalog::Features,
            schema::{Edit, Schema, changes, edit, entities},
        },
    },
};

/// A graph, and beside it the triples that it shows.
#[derive(Default)]
pub(super) struct World {
    pub(super) graph: Graph,
    pub(super) triples: BTreeSet<Triple>,
    seq: u64,
}

impl World {
    /// Makes triples go and come by set elements alone, so that what went may come again.
    pub(super) fn edit(&mut self, edit: &Edit) -> Delta {
        let before = self.triples.clone();
        edit.apply(&mut self.triples);
        let removed = edit.removed.iter().map(|(subject, predicate, value)| Write::Remove {
            subject: subject.clone(),
            predicate: predicate.clone(),
            value: value.clone(),
        });
        let added = edit.added.iter().map(|(subject, predicate, value)| Write::Add {
            subject: subject.clone(),
            predicate: predicate.clone(),
            value: value.clone(),
        });
        let delta = self.apply(NTP64(self.seq + 1), removed.chain(added).collect());
        let changed = before.symmetric_difference(&self.triples).count();
        assert_eq!(
            delta.added.len() + delta.removed.len(),
            changed,
            "the graph follows the edit"
        );
        delta
    }

    /// Takes in a set of any changes, made now or earlier than what is there.
    pub(super) fn write(&mut self, schema: &Schema, choices: &mut Choices<'_>) -> Delta {
        let time = NTP64(1 + choices.below(8) as u64);
        let delta = self.apply(time, changes(schema, choices));
        let named = |triples: &[crate::graph::Triple]| -> BTreeSet<Triple> {
            let dictionary = self.graph.dictionary();
            let name = |triple: &crate::graph::Triple| {
                let (subject, predicate) = (
                    dictionary.entity(triple.subject),
                    dictionary.predicate(triple.predicate),
                );
                (subject.clone(), predicate.clone(), dictionary.value(triple.object))
            };
            triples.iter().map(name).collect()
        };
        let of_entity = |entity: EntityId| {
            let shown = self.graph.triples(&entity);
            shown
                .into_iter()
                .map(move |(predicate, value)| (entity.clone(), predicate, value))
        };
        let after: BTreeSet<Triple> = entities().flat_map(of_entity).collect();
        assert_eq!(named(&delta.removed), &self.triples - &after, "what went");
        assert_eq!(named(&delta.added), &after - &self.triples, "what came");
        self.triples = after;
        delta
    }

    fn apply(&mut self, time: NTP64, changes: Vec<Write>) -> Delta {
        self.seq += 1;
        let mut set = ChangeSet {
            timestamp: timestamp(time, ClientId::from_random(u128::from(self.seq))),
            number: self.seq,
            changes,
        };
        set.normalize();
        let origin = OriginId {
            node: NodeId(1),
            incarnation: 1,
        };
        let tag = Tag {
            origin,
            seq: Seq(self.seq),
        };
        self.graph.apply_set(tag, &set)
    }
}

/// How a case's data changes.
pub(super) type Step = fn(&mut World, &Schema, &mut Choices<'_>) -> Delta;

/// Triples that come and go.
pub(super) fn edited(world: &mut World, schema: &Schema, choices: &mut Choices<'_>) -> Delta {
    let edit = edit(schema, &world.triples, choices);
    world.edit(&edit)
}

/// Follows random cases. The one that is told of, where it goes wrong, is as short as can be.
#[track_caller]
pub(super) fn check_random(follow: fn(&[u16])) {
    let config = ProptestConfig {
        cases: cases(2_000),
        max_shrink_iters: 5_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let result = runner.run(&proptest::collection::vec(any::<u16>(), 0..600), |tape| {
        follow(&tape);
        Ok(())
    });
    assert!(result.is_ok(), "{}", result.unwrap_err());
}

/// What random cases came to.
#[derive(Debug)]
struct Counts {
    followed: AtomicU64,
    refused: [AtomicU64; 4],
    sets: AtomicU64,
    changed: AtomicU64,
}

impl Counts {
    const fn new() -> Self {
        Self {
            followed: AtomicU64::new(0),
            refused: [const { AtomicU64::new(0) }; 4],
            sets: AtomicU64::new(0),
            changed: AtomicU64::new(0),
        }
    }

    fn refuse(&self, refused: &Refused) {
        let place = match refused {
            Refused::Rule(_) => 0,
            Refused::PredicateVariable => 1,
            Refused::NoVariable => 2,
            Refused::TooLarge(_) | Refused::TooManyEntities(_) | Refused::Eval(_) => 3,
        };
        self.refused[place].fetch_add(1, Relaxed);
    }

    /// Enough answers must have changed; the figures go to a file if one is asked for.
    #[track_caller]
    fn check(&self) {
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        let (followed, sets, changed) = (count(&self.followed), count(&self.sets), count(&self.changed));
        assert!(
            followed > 0 && changed * 20 > sets,
            "{followed} followed, {changed} of {sets} changed"
        );
        if let Ok(path) = std::env::var("HALCYON_LIVE_COUNTS") {
            let refused = self.refused.each_ref().map(count);
            let text = format!(
                "followed {followed}, sets {sets}, changed {changed}; refused: rule, predicate, none, other {refused:?}\n"
            );
            std::fs::write(path, text).unwrap();
        }
    }
}

fn follow(tape: &[u16], step: Step, counts: &Counts) {
    let mut choices = Choices::new(tape);
    let case = case(Features::ALL, &mut choices);
    let Ok(query) = lower(&case.query) else { return };
    let query = Arc::new(query);
    let mut world = World::default();
    world.edit(&Edit {
        removed: Vec::new(),
        added: case.triples.iter().cloned().collect(),
    });
    let mut live = match Live::open(&query, &world.graph, Budget::default()) {
        Ok(live) => live,
        Err(refused) => return counts.refuse(&refused),
    };
    counts.followed.fetch_add(1, Relaxed);
    let mut registry = Registry::default();
    registry.insert(LiveId(1), &live, &world.graph);
    let mut mirror = live.mirror();
    // Another consumer, that hears of all in bytes.
    let mut far = Mirror::empty(&query);
    let is_table = matches!(query.select.shape, Shape::Table(_));
    if is_table {
        far.apply(over_a_wire(&far, &mirror.whole()));
    }
    for _ in 0..5 {
        let delta = step(&mut world, &case.schema, &mut choices);
        counts.sets.fetch_add(1, Relaxed);
        // Whom the registry leaves out hears nothing: what it keeps beside its answer must not need to change either.
        let mut touched = false;
        for triple in delta.added.iter().chain(&delta.removed) {
            registry.touched(triple, &world.graph, |_| touched = true);
        }
        if touched {
            let change = live.apply(&delta, &world.graph).unwrap();
            counts.changed.fetch_add(u64::from(!change.is_empty()), Relaxed);
            if is_table {
                far.apply(over_a_wire(&far, &change));
            }
            mirror.apply(change);
        }
        let fresh = answer(&query, &world.graph).unwrap();
        assert_eq!(
            mirror.answer(),
            fresh,
            "{}\n{delta:#?}\n{:#?}",
            case.query,
            world.triples
        );
        assert_eq!(live.answer(), fresh, "{}", case.query);
        if is_table {
            assert_eq!(far.answer(), fresh, "{}", case.query);
        }
        assert!(live.rows() >= fresh.rows.len(), "{}", case.query);
        let plainest = naive::evaluate(&query, world.triples.iter().cloned());
        assert_eq!(fresh, plainest, "{}", case.query);
    }
}

fn over_a_wire(mirror: &Mirror, delta: &AnswerDelta) -> AnswerDelta {
    let bytes: Vec<u8> = delta.encode().flatten().collect();
    let read = AnswerDelta::decode(&bytes).unwrap();
    assert_eq!(&read, delta);
    assert!(mirror.takes(&read));
    read
}

#[test]
fn a_live_answer_is_a_fresh_one_after_every_edit() {
    static COUNTS: Counts = Counts::new();
    check_random(|tape| follow(tape, edited, &COUNTS));
    COUNTS.check();
}

#[test]
fn a_live_answer_is_a_fresh_one_after_every_change_set() {
    static COUNTS: Counts = Counts::new();
    check_random(|tape| follow(tape, World::write, &COUNTS));
    COUNTS.check();
}

/// Neither change leads to the comment in what is left: each needs what the other took away.
#[test]
fn what_goes_together_is_looked_up_as_it_was_before() {
    let lines = "@c1 comment/post @p1\n@p1 post/title \"x\"\n@p1 post/author @u1\n@u1 user/age 3";
    let source =
        "find ?c where ?c comment/post ?p; ?c comment/post _; ?p post/title _; ?p post/author ?u; ?u user/age _";
    let query = crate::query::from_text(source).unwrap();
    let triples = crate::query::testing::triples(lines);
    let mut world = World::default();
    world.edit(&Edit {
        removed: Vec::new(),
        added: triples.clone(),
    });
    let mut live = Live::open(&query, &world.graph, Budget::default()).unwrap();
    assert_eq!(live.answer().rows.len(), 1);
    let delta = world.edit(&Edit {
        removed: vec![triples[1].clone(), triples[3].clone()],
        added: Vec::new(),
    });
    live.apply(&delta, &world.graph).unwrap();
    assert_eq!(live.answer().rows.len(), 0);
}

#[test]
fn more_rows_of_one_entity_than_can_be_counted_end_its_query() {
    let vars: Vec<String> = (0..crate::query::limits::COLUMNS_MAX)
        .map(|at| format!("?a{at}"))
        .collect();
    let patterns: Vec<String> = vars.iter().map(|var| format!("?p post/tag {var}")).collect();
    let source = format!("find {} where {}", vars.join(", "), patterns.join("; "));
    let query = crate::query::from_text(&source).unwrap();
    let mut world = World::default();
    let tags = |lines| Edit {
        removed: Vec::new(),
        added: crate::query::testing::triples(lines),
    };
    world.edit(&tags("@p post/tag \"a\""));
    let mut live = Live::open(&query, &world.graph, Budget::default()).unwrap();
    assert_eq!(live.answer().rows.len(), 1);
    let delta = world.edit(&tags("@p post/tag \"b\""));
    let lost = live.apply(&delta, &world.graph).unwrap_err();
    assert!(lost.to_string().contains("1000000"), "{lost}");
}

const FOLDERS: &str = "
    rule under(?a, ?b): ?a folder/parent ?b
    rule under(?a, ?c): ?a folder/parent ?b; under(?b, ?c)
    find ?a where under(?a, @root)";

/// Follows edits, each of some triples that go and some that come, and tells the entities found after each.
#[track_caller]
fn check_steps(source: &str, first: &str, steps: &[(&str, &str, &str)]) {
    let query = crate::query::from_text(source).unwrap();
    let mut world = World::default();
    world.edit(&Edit {
        removed: Vec::new(),
        added: crate::query::testing::triples(first),
    });
    let mut live = Live::open(&query, &world.graph, Budget::default()).unwrap();
    let query = Arc::new(query);
    for (removed, added, found) in steps {
        let delta = world.edit(&Edit {
            removed: crate::query::testing::triples(removed),
            added: crate::query::testing::triples(added),
        });
        live.apply(&delta, &world.graph).unwrap();
        let shown = live.answer();
        assert_eq!(shown, answer(&query, &world.graph).unwrap());
        let id = |row: &Vec<crate::query::answer::Datum>| match row[0].value() {
            Some(Value::Ref(id)) => id.as_str().to_owned(),
            other => panic!("{other:?}"),
        };
        let shown: Vec<String> = match &shown.rows {
            Rows::Table { rows, .. } => rows.iter().map(id).collect(),
            Rows::Entities(objects) => objects.iter().map(|object| object.id.as_str().to_owned()).collect(),
        };
        assert_eq!(shown.join(" "), *found, "{removed} -> {added}");
    }
}

#[test]
fn a_closure_follows_what_moves_and_what_only_rests_on_itself_goes() {
    let tree = "@a folder/parent @root\n@b folder/parent @a\n@c folder/parent @b";
    check_steps(
        FOLDERS,
        tree,
        &[
            ("", "@d folder/parent @c", "a b c d"),
            // A second way keeps what the first no longer leads to.
            ("", "@c folder/parent @root", "a b c d"),
            ("@b folder/parent @a", "", "a c d"),
            // A cycle with a way out, and then without one.
            ("", "@b folder/parent @d", "a b c d"),
            ("@c folder/parent @root", "", "a"),
            ("@d folder/parent @c", "@d folder/parent @a", "a b c d"),
        ],
    );
}

#[test]
fn a_rule_with_a_not_over_another_rule_follows_both() {
    let source = "
        rule done(?t): ?t task/state \"done\"
        rule open(?t): ?t task/state _; not done(?t)
        rule blocked(?t): ?t task/after ?u; open(?u)
        find ?t where open(?t); not blocked(?t)";
    let tasks = "@a task/state \"new\"\n@b task/state \"new\"\n@b task/after @a";
    check_steps(
        source,
        tasks,
        &[
            ("", "@c task/state \"new\"\n@c task/after @b", "a"),
            ("@a task/state \"new\"", "@a task/state \"done\"", "b"),
            ("@b task/state \"new\"", "@b task/state \"done\"", "c"),
            ("@a task/state \"done\"", "@a task/state \"new\"", "a c"),
        ],
    );
}

#[test]
fn what_comes_inside_a_not_of_a_rule_takes_its_tuples_away() {
    let source = "
        rule done(?t): ?t task/done true
        rule open(?t): ?t task/name _; not done(?t)
        find ?t where open(?t)";
    check_steps(
        source,
        "@a task/name \"one\"\n@b task/name \"two\"",
        &[
            ("", "@a task/done true", "b"),
            ("@a task/done true", "@b task/done true", "a"),
        ],
    );
}

/// Each of the two is looked up among what there was, by what went with it.
#[test]
fn both_halves_of_a_derivation_may_go_at_once() {
    let of_tuples = "
        rule near(?a, ?b): ?a link/to ?b
        rule two(?a, ?c): near(?a, ?b); near(?b, ?c)
        find ?a where two(?a, @c)";
    let of_triples = "
        rule two(?a, ?c): ?a link/to ?b; ?b link/to ?c
        find ?a where two(?a, @c)";
    for source in [of_tuples, of_triples] {
        check_steps(
            source,
            "@a link/to @b\n@b link/to @c",
            &[
                ("", "@d link/to @b", "a d"),
                ("@a link/to @b\n@d link/to @b\n@b link/to @c", "", ""),
            ],
        );
    }
}

#[test]
fn a_window_that_runs_out_is_filled_again_from_what_lies_behind() {
    let posts: Vec<String> = (1..=7).map(|at| format!("@p{at} post/rank {at}")).collect();
    let (source, first) = ("post order by rank limit 2", posts.join("\n"));
    let gone = |at: usize| posts[at - 1].as_str();
    check_steps(
        source,
        &first,
        &[
            (gone(1), "", "p2 p3"),
            (gone(2), "", "p3 p4"),
            (gone(4), "", "p3 p5"),
            (gone(3), gone(1), "p1 p5"),
            (gone(5), "", "p1 p6"),
        ],
    );
}

/// Behind the window the scan meets those before it again, by a value that is not their least.
#[test]
fn a_window_over_a_field_of_several_values_is_filled_by_the_least_of_each() {
    let first = "@p1 post/rank 1\n@p1 post/rank 7.5\n@p2 post/rank 2\n@p2 post/rank 7.6\n@p3 post/rank 3\n\
                 @p4 post/rank 4\n@p5 post/rank 8\n@p6 post/rank 9";
    check_steps(
        "post order by rank limit 3",
        first,
        &[
            ("@p3 post/rank 3\n@p4 post/rank 4", "", "p1 p2 p5"),
            ("@p1 post/rank 1", "", "p2 p1 p5"),
        ],
    );
}

/// A name is changed that one of many posts leads to, through an optional.
#[test]
fn what_an_optional_leads_to_is_found_through_it() {
    let source = "find ?p, ?n where ?p post/title _; optional (?p post/author ?u); optional (?u user/name ?n)";
    let query = crate::query::from_text(source).unwrap();
    let posts: Vec<String> = (0..20)
        .map(|at| format!("@p{at} post/title \"a\"\n@p{at} post/author @u{at}\n@u{at} user/name \"x\""))
        .collect();
    let mut world = World::default();
    world.edit(&Edit {
        removed: Vec::new(),
        added: crate::query::testing::triples(&posts.join("\n")),
    });
    let mut triggers = Triggers::of(&query).unwrap();
    triggers.meet(&world.graph);
    let delta = world.edit(&Edit {
        removed: crate::query::testing::triples("@u7 user/name \"x\""),
        added: crate::query::testing::triples("@u7 user/name \"y\""),
    });
    let (derived, budget) = (
        Derived::open(&query, &world.graph, Budget::default()).unwrap(),
        Budget::default(),
    );
    let past = Past {
        triples: &delta.removed,
        tuples: &[],
    };
    let solver = Solver::new(&world.graph, derived.ground(budget), past);
    let keys = solver.candidates(&triggers, &delta, &Derivation::default()).unwrap();
    assert_eq!(keys.len(), 1);
}

/// One edge joins all that lead to it with all that it leads to.
#[test]
fn a_rule_that_derives_too_much_at_once_ends_before_it_holds_it() {
    let source = "
        rule under(?a, ?b): ?a folder/parent ?b
        rule under(?a, ?c): ?a folder/parent ?b; under(?b, ?c)
        find ?a where under(?a, @root)";
    let query = crate::query::from_text(source).unwrap();
    let lines: Vec<String> = (0..40)
        .flat_map(|at| [format!("@a{at} folder/parent @x"), format!("@y folder/parent @b{at}")])
        .collect();
    let mut world = World::default();
    world.edit(&Edit {
        removed: Vec::new(),
        added: crate::query::testing::triples(&lines.join("\n")),
    });
    let budget = Budget {
        tuples: 500,
        ..Budget::default()
    };
    let mut live = Live::open(&query, &world.graph, budget).unwrap();
    let delta = world.edit(&Edit {
        removed: Vec::new(),
        added: crate::query::testing::triples("@x folder/parent @y"),
    });
    assert_eq!(live.apply(&delta, &world.graph), Err(Lost::TooFar(budget.fuel)));
}

/// A user without an age is renamed: the optional for ages stands beside, and leads nowhere. And what stands in a `not` of
/// a `not` counts most where it is null.
#[test]
fn an_optional_beside_is_no_way() {
    check_steps(
        "find ?p, ?a, ?n where ?p post/title _; optional (?p post/author ?u); optional (?u user/age ?a); \
         optional (?u user/name ?n)",
        "@p post/title \"a\"\n@p post/author @u",
        &[("", "@u user/name \"x\"", "p"), ("@u user/name \"x\"", "", "p")],
    );
    check_steps(
        "find ?p, ?n where ?p post/title _; optional (?p post/author ?u); optional (?p post/editor ?u); \
         optional (?u user/name ?n)",
        "@p post/title \"a\"\n@p post/author @u",
        &[("", "@u user/name \"x\"", "p"), ("@u user/name \"x\"", "", "p")],
    );
    check_steps(
        "find ?p where ?p post/title _; optional (?p post/author ?u); \
         not (?p post/tag ?t; ?t tag/flag _; not (?t tag/ok ?u))",
        "@p post/title \"a\"\n@p post/tag @t",
        &[("", "@t tag/flag 1", ""), ("@t tag/flag 1", "", "p")],
    );
}
