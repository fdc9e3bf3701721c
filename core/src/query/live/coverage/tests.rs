//! A store of the covered entities alone answers as the whole store does, and coverage that follows changes is the one
//! that is found anew.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::super::{
    LiveId, Registry,
    tests::{Step, World, check_random, edited},
};
use super::*;
use crate::collections::BTreeSet;
use crate::{
    coverage::ENTITIES_MAX,
    graph::Graph,
    query::{
        eval::answer,
        lower::lower,
        testing::{Case, Triple, case, choices::Choices, datalog::Features, schema::Edit},
    },
};

static COVERED: AtomicU64 = AtomicU64::new(0);
static REFUSED: AtomicU64 = AtomicU64::new(0);
static SETS: AtomicU64 = AtomicU64::new(0);
static CHANGED: AtomicU64 = AtomicU64::new(0);
static NARROW: AtomicU64 = AtomicU64::new(0);
static COVERED_BYTES: AtomicU64 = AtomicU64::new(0);
static NEEDED_BYTES: AtomicU64 = AtomicU64::new(0);

fn store(triples: impl Iterator<Item = Triple>) -> Graph {
    let mut world = World::default();
    world.edit(&Edit {
        removed: Vec::new(),
        added: triples.collect(),
    });
    world.graph
}

/// The covered entities by name.
fn names(coverage: &Coverage, world: &World) -> BTreeSet<EntityId> {
    let dictionary = world.graph.dictionary();
    let entities = coverage.entities();
    entities
        .into_iter()
        .map(|entity| dictionary.entity(entity).clone())
        .collect()
}

/// Answers from covered entities, and from a few more, as from all.
#[track_caller]
fn check_sufficient(coverage: &Coverage, query: &Arc<Query>, world: &World, case: &Case, more: u64) {
    let covered = names(coverage, world);
    let whole = answer(query, &world.graph).unwrap();
    for more in [0, more] {
        let is_more = |name: &EntityId| name.as_str().bytes().any(|byte| more >> (byte % 16) & 1 == 1);
        let is_held = |triple: &&Triple| covered.contains(&triple.0) || is_more(&triple.0);
        let held = store(world.triples.iter().filter(is_held).cloned());
        assert_eq!(
            answer(query, &held).unwrap(),
            whole,
            "{}\ncovered {covered:?}, more {more:x}\n{:#?}",
            case.query,
            world.triples
        );
    }
    let subjects: BTreeSet<&EntityId> = world.triples.iter().map(|triple| &triple.0).collect();
    if subjects.iter().any(|subject| !covered.contains(*subject)) {
        NARROW.fetch_add(1, Relaxed);
    }
}

/// Counts what is covered, and what is left of it once every entity is taken away without which the answer is the same.
fn count_needed(coverage: &Coverage, query: &Arc<Query>, world: &World) {
    let covered = names(coverage, world);
    let whole = answer(query, &world.graph).unwrap();
    let of = |names: &BTreeSet<EntityId>| {
        let held = world.triples.iter().filter(|triple| names.contains(&triple.0));
        held.cloned().collect::<Vec<Triple>>()
    };
    let mut needed = covered.clone();
    for name in &covered {
        needed.remove(name);
        if answer(query, &store(of(&needed).into_iter())).unwrap() != whole {
            needed.insert(name.clone());
        }
    }
    let bytes =
        |names: &BTreeSet<EntityId>| -> usize { of(names).iter().map(|triple| format!("{triple:?}").len()).sum() };
    COVERED_BYTES.fetch_add(bytes(&covered) as u64, Relaxed);
    NEEDED_BYTES.fetch_add(bytes(&needed) as u64, Relaxed);
}

fn follow(tape: &[u16], step: Step) {
    let mut choices = Choices::new(tape);
    let case = case(Features::ALL, &mut choices);
    let Ok(query) = lower(&case.query) else { return };
    let query = Arc::new(query);
    let mut world = World::default();
    world.edit(&Edit {
        removed: Vec::new(),
        added: case.triples.iter().cloned().collect(),
    });
    let Ok(mut coverage) = Coverage::open(&query, &world.graph, Budget::default(), ENTITIES_MAX) else {
        REFUSED.fetch_add(1, Relaxed);
        return;
    };
    COVERED.fetch_add(1, Relaxed);
    let mut registry = Registry::default();
    registry.insert_coverage(LiveId(1), &coverage, &world.graph);
    check_sufficient(&coverage, &query, &world, &case, choices.below(1 << 16) as u64);
    count_needed(&coverage, &query, &world);
    for _ in 0..4 {
        let before = names(&coverage, &world);
        let delta = step(&mut world, &case.schema, &mut choices);
        SETS.fetch_add(1, Relaxed);
        let mut touched = false;
        for triple in delta.added.iter().chain(&delta.removed) {
            registry.touched(triple, &world.graph, |_| touched = true);
        }
        // An entity that the query names is covered with the first change that concerns the query once it is known. Whom
        // the registry leaves out hears nothing: what it counts must not need to change either.
        let awaits_a_name = coverage.named.values().any(Option::is_none);
        let change = if touched || awaits_a_name {
            coverage.apply(&delta, &world.graph).unwrap()
        } else {
            CoverageChange::default()
        };
        let fresh = Coverage::open(&query, &world.graph, Budget::default(), ENTITIES_MAX).unwrap();
        let after = names(&coverage, &world);
        assert_eq!(
            after,
            names(&fresh, &world),
            "{}\n{delta:#?}\n{:#?}",
            case.query,
            world.triples
        );
        assert_eq!(coverage.counts, fresh.counts, "{}", case.query);
        let dictionary = world.graph.dictionary();
        let named = |entities: &[EntityNumber]| -> BTreeSet<EntityId> {
            entities
                .iter()
                .map(|entity| dictionary.entity(*entity).clone())
                .collect()
        };
        assert_eq!(named(&change.entered), &after - &before, "{}", case.query);
        assert_eq!(named(&change.left), &before - &after, "{}", case.query);
        let is_named = |entity: &EntityNumber| coverage.named.values().any(|named| named.as_ref() == Some(entity));
        if !change.left.is_empty() || !change.entered.iter().all(is_named) {
            CHANGED.fetch_add(1, Relaxed);
            assert!(touched, "the registry leads to {}", case.query);
        }
        check_sufficient(&coverage, &query, &world, &case, choices.below(1 << 16) as u64);
    }
}

#[test]
fn the_covered_entities_answer_as_all_do_after_every_change_set() {
    check_random(|tape| follow(tape, edited));
    check_random(|tape| follow(tape, World::write));
    let count = |counter: &AtomicU64| counter.load(Relaxed);
    let (sets, changed, narrow) = (count(&SETS), count(&CHANGED), count(&NARROW));
    assert!(
        changed * 20 > sets && narrow * 4 > sets,
        "{changed} of {sets} changed, {narrow} narrow"
    );
    let (bytes, needed) = (count(&COVERED_BYTES), count(&NEEDED_BYTES));
    // An answer needs less than what keeps it right after the next change: 1.8 to 1.9 times that.
    assert!(
        4 * bytes < 9 * needed,
        "{bytes} bytes are covered where {needed} would do"
    );
    if let Ok(path) = std::env::var("HALCYON_LIVE_COUNTS") {
        let (covered, refused) = (count(&COVERED), count(&REFUSED));
        let text = format!(
            "covered {covered}, refused {refused}, sets {sets}, changed {changed}, narrow {narrow}; \
             {bytes} bytes, {needed} needed\n"
        );
        std::fs::write(path, text).unwrap();
    }
}

#[track_caller]
fn check(query: &str, lines: &str, covered: &str) {
    let query = crate::query::from_text(query).unwrap();
    let world = {
        let mut world = World::default();
        world.edit(&Edit {
            removed: Vec::new(),
            added: crate::query::testing::triples(lines),
        });
        world
    };
    let coverage = Coverage::open(&query, &world.graph, Budget::default(), ENTITIES_MAX).unwrap();
    let names = names(&coverage, &world);
    let names: Vec<&str> = names.iter().map(EntityId::as_str).collect();
    assert_eq!(names.join(" "), covered);
}

const BLOG: &str = r#"
    @p1 post/title "one"
    @p1 post/author @u1
    @p1 post/rank 1
    @p2 post/title "two"
    @p2 post/author @u2
    @p2 post/rank 2
    @p2 post/hidden true
    @p3 post/rank 3
    @u1 user/age 30
    @u2 user/age 40
    @u2 user/banned true
    @c1 comment/post @p1
    @c1 comment/at 1
    @c2 comment/post @p1
    @c2 comment/at 2
    @c2 comment/by @u2
"#;

#[test]
fn what_an_answer_rests_on_is_covered_and_no_more() {
    check("post", BLOG, "p1 p2 p3");
    check("post where rank > 1", BLOG, "p2 p3");
    check("post where author.age > 30", BLOG, "p2 u2");
    check("post where author.age > 30 or rank = 3", BLOG, "p2 p3 u2");
    // Kept out by what it holds itself: not needed.
    check("post where not hidden = true", BLOG, "p1 p3");
    // Kept out by what another holds: both are needed.
    check("post where not author.banned = true", BLOG, "p1 p2 p3 u2");
    check("post order by rank desc limit 1", BLOG, "p3");
    // The order rests on others: all of them are needed to know who is first.
    check("post order by author.age desc limit 1", BLOG, "p1 p2 p3 u1 u2");
    check("post where rank = 1 { title, author { age } }", BLOG, "p1 u1");
    check(
        "post where rank = 1 { <comment.post order by at desc limit 1 { at } }",
        BLOG,
        "c2 p1",
    );
    check(
        "post where rank = 1 { <comment.post where by.age > 1 { at } }",
        BLOG,
        "c2 p1 u2",
    );
    check("find count(?p) where ?p post/rank ?r; ?r < 3", BLOG, "p1 p2");
    check(
        "find ?p, ?r where ?p post/rank ?r order by ?r desc limit 2",
        BLOG,
        "p2 p3",
    );
    check("find ?t where @p1 post/author ?u; ?u user/age ?t", BLOG, "p1 u1");
    check(
        "find ?p, ?a where ?p post/rank 3; optional (?p post/author ?u; ?u user/age ?a)",
        BLOG,
        "p3",
    );
    check("find ?a, ?v where @p1 ?a ?v; ?a starts \"post/r\"", BLOG, "p1");
    // All that the rule derives rests on, and what the query looks at besides.
    let rule = "rule by(?p, ?u): ?p post/author ?u";
    check(
        &format!("{rule} find ?p where by(?p, ?u); ?u user/age 40"),
        BLOG,
        "p1 p2 u2",
    );
    check(
        &format!("{rule} find ?p where ?p post/rank ?r; not by(?p, _)"),
        BLOG,
        "p1 p2 p3",
    );
}

#[test]
fn what_cannot_be_covered_is_refused_with_the_reason() {
    let refused = |query: &str, max: usize| {
        let query = crate::query::from_text(query).unwrap();
        let graph = store(crate::query::testing::triples(BLOG).into_iter());
        Coverage::open(&query, &graph, Budget::default(), max).unwrap_err()
    };
    assert_eq!(refused("post", 2), Refused::TooManyEntities(2));
    assert_eq!(refused("find ?a where @p1 ?a _", 9), Refused::PredicateVariable);
    let rule = "rule r(?a): _ ?a _ find ?a where r(?a)";
    assert_eq!(refused(rule, 9), Refused::PredicateVariable);
    let rule = "rule r(?a, count(?p)): ?p post/rank ?a find ?a where r(?a, _)";
    assert_eq!(refused(rule, 9), Refused::Rule("r".into()));
    let rule = "rule r(?p): ?p post/rank _ find ?p where r(?p); ?p post/rank 1";
    assert_eq!(refused(rule, 2), Refused::TooManyEntities(2));
}

/// The object of one pattern is the predicate of another: with another object, another entity is needed.
#[test]
fn a_value_that_names_a_predicate_is_looked_at() {
    let triples = crate::query::testing::triples;
    let query = crate::query::from_text("find ?a, ?b where ?a item/field ?f; ?b ?f _").unwrap();
    let mut world = World::default();
    world.edit(&Edit {
        removed: Vec::new(),
        added: triples("@a item/field \"post/title\"\n@p post/title \"x\"\n@q post/rank 1"),
    });
    let mut coverage = Coverage::open(&query, &world.graph, Budget::default(), ENTITIES_MAX).unwrap();
    let covered = |coverage: &Coverage, world: &World| {
        let names = names(coverage, world);
        let names: Vec<&str> = names.iter().map(EntityId::as_str).collect();
        names.join(" ")
    };
    assert_eq!(covered(&coverage, &world), "a p");
    let delta = world.edit(&Edit {
        removed: triples("@a item/field \"post/title\""),
        added: triples("@a item/field \"post/rank\""),
    });
    coverage.apply(&delta, &world.graph).unwrap();
    assert_eq!(covered(&coverage, &world), "a q");
}
