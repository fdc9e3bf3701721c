//! The evaluator against the plainest one, on random schemas, data and queries; and what the plainest one cannot show:
//! limits, streams, explanations, long texts.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    change::{Change, ChangeSet},
    clock::{ClientId, NTP64, timestamp},
    graph::Graph,
    id::{NodeId, OriginId, Seq, Tag},
    query::{
        logic::Query,
        lower::lower,
        naive,
        plan::plan,
        testing::{
            Triple, cases,
            choices::Choices,
            datalog::{self, Features},
            entities,
            schema::{data, schema},
            triples,
        },
        text,
    },
};

fn tag(seq: u64) -> Tag {
    let origin = OriginId {
        node: NodeId(1),
        incarnation: 1,
    };
    Tag { origin, seq: Seq(seq) }
}

fn graph_of(triples: impl IntoIterator<Item = Triple>) -> Graph {
    let changes = triples.into_iter().map(|(subject, predicate, value)| Change::Add {
        subject,
        predicate,
        value,
    });
    let mut graph = Graph::default();
    graph.apply_set(
        tag(1),
        &ChangeSet {
            timestamp: timestamp(NTP64(1), ClientId::from_random(1)),
            number: 1,
            changes: changes.collect(),
        },
    );
    graph
}

fn understood(source: &str) -> Arc<Query> {
    let parsed = text::parse(source).unwrap_or_else(|error| panic!("{}", error.render(source)));
    Arc::new(lower(&parsed).unwrap_or_else(|error| panic!("{}", error.render(source))))
}

/// Both evaluators agree, on the answer and on every page of it; so does the stream, as a set.
#[track_caller]
fn agree(query: &Arc<Query>, triples: &[Triple], source: &str) {
    let graph = graph_of(triples.iter().cloned());
    let expected = naive::evaluate(query, triples.iter().cloned());
    let plan = plan(Arc::clone(query), &graph);
    let explained = plan.explain(None);
    let found = evaluate(&plan, &graph, Budget::default(), None).unwrap();
    assert_eq!(found.answer, expected, "{source}\n{explained}\n{triples:#?}");
    if let Rows::Table { rows, .. } = &expected.rows {
        let mut stream = Stream::new(&plan, &graph, Budget::default(), None).unwrap();
        let mut streamed = Vec::new();
        while let Some(tuples) = stream.next_tuples().unwrap() {
            streamed.extend(tuples);
        }
        streamed.sort();
        let mut rows = rows.clone();
        rows.sort();
        assert_eq!(streamed, rows, "{source}\n{explained}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(2_000), max_shrink_iters: 20_000, ..ProptestConfig::default() })]
    #[test]
    fn tables_are_what_the_plainest_evaluator_says(tape in proptest::collection::vec(any::<u16>(), 0..500)) {
        let mut choices = Choices::new(&tape);
        let schema = schema(&mut choices);
        let data: Vec<Triple> = data(&schema, 40, &mut choices).into_iter().collect();
        let syntax = datalog::query(&schema, Features::ALL, &mut choices);
        // Now and then what is made at random means nothing.
        let Ok(query) = lower(&syntax) else { return Ok(()) };
        agree(&Arc::new(query), &data, &syntax.to_string());
    }

    #[test]
    fn objects_are_what_the_plainest_evaluator_says(tape in proptest::collection::vec(any::<u16>(), 0..500)) {
        let mut choices = Choices::new(&tape);
        let schema = schema(&mut choices);
        let data: Vec<Triple> = data(&schema, 40, &mut choices).into_iter().collect();
        let syntax = entities::query(&schema, Features::ALL, &mut choices);
        // Now and then what is made at random means nothing.
        let Ok(query) = lower(&syntax) else { return Ok(()) };
        agree(&Arc::new(query), &data, &syntax.to_string());
    }
}

const BLOG: &str = r#"
    @u1 user/name "Ada Lovelace of London"
    @u1 user/age 36
    @u1 user/city "London"
    @u2 user/name "Ada Lovelace of Paris"
    @u2 user/age 17
    @u2 user/city "Paris"
    @u3 user/name "Ada L"
    @u3 user/age 90
    @p1 post/title "https://example.com/a/very/long/title"
    @p1 post/author @u1
    @p1 post/created 10
    @p1 post/tags "rust"
    @p1 post/tags "halcyon-days"
    @p2 post/title "https://example.com/a/very/long/tail"
    @p2 post/author @u1
    @p2 post/created 20
    @p3 post/title "https://example.com/"
    @p3 post/author @u3
    @p3 post/created 15
    @p4 post/title "zebra"
    @p4 post/author @u2
    @p1 post/links @z9
    @p1 post/links @a1
    @p2 post/links @m5
    @c1 comment/post @p1
    @c1 comment/text "first"
    @c2 comment/post @p1
    @c2 comment/text "second"
    @c3 comment/post @p3
    @f1 folder/parent @f0
    @f2 folder/parent @f1
    @f3 folder/parent @f2
    @f4 folder/parent @f1
"#;

#[test]
fn queries_as_apps_write_them_are_answered() {
    let data = triples(BLOG);
    for source in [
        r"find ?p, ?t where ?p post/author ?u; ?u user/age ?a; ?a > 30; ?p post/title ?t",
        r"find ?p, ?t where ?p post/author ?u; ?u user/age 36; ?p post/title ?t",
        r"find ?c where ?c comment/post ?p; ?p post/author ?u; ?u user/age ?a; ?a > 30",
        r"find ?city, count(?p) where ?p post/author ?u; ?u user/city ?city order by count(?p) desc, ?city",
        r"find ?p, count(?s) where ?s ?p _",
        r"find ?p, count(?s) where ?s ?p ?o",
        r"find ?p, count(*), min(?o), max(?o), count(distinct ?o), collect(?o), sum(?o), avg(?o) where ?s ?p ?o",
        r"find count(*) where _ post/title _",
        r#"find ?t where ?p post/title ?t; ?t starts "https://example.com/a""#,
        r#"find ?t where ?p post/title ?t; ?t > "https://example.com/a/very/long/tail""#,
        r#"find ?t where ?p post/title ?t; ?t contains "tail""#,
        r"find ?t where ?p post/title ?t order by ?t desc limit 2",
        r"find ?n where ?u user/name ?n order by ?n limit 2",
        r"find ?p, ?c where ?p post/title _; optional ?c comment/post ?p",
        r"find ?p where ?p post/title _; not _ comment/post ?p",
        r#"find ?p where ?p post/tags "rust" or ?p post/author @u2"#,
        r#"find ?u where ?u user/city ?c; ?c in ("London", "Rome", "Paris")"#,
        r"rule under(?x, ?y): ?x folder/parent ?y rule under(?x, ?z): ?x folder/parent ?y; under(?y, ?z)
           find ?x where under(?x, @f0)",
        r"rule under(?x, ?y): ?x folder/parent ?y rule under(?x, ?z): under(?x, ?y); under(?y, ?z)
           find ?y, count(?x) where under(?x, ?y)",
        r"post order by created desc limit 2",
        r"post order by created limit 2",
        r"post order by created desc limit 4",
        r#"post where tags has "rust" order by created desc limit 20"#,
        r#"post where author.age > 30 and not tags has "rust""#,
        r"post where author.age > 30 { title, author { name }, <comment.post order by text desc limit 1 { text } }",
        r"user order by age desc { name, <post.author order by created desc limit 1 { title, created } }",
        r"user where id = @u1 { * }",
        r"post order by author.age desc, title limit 3",
        r"post order by links desc limit 1",
        r"post where links exists order by links limit 1",
    ] {
        let Ok(parsed) = text::parse(source) else {
            panic!("{}", text::parse(source).expect_err("it is refused").render(source))
        };
        let query = lower(&parsed).unwrap_or_else(|error| panic!("{}", error.render(source)));
        agree(&Arc::new(query), &data, source);
    }
}

/// A page after another gives the whole, in the order of the whole.
#[test]
fn pages_follow_each_other_without_gap_or_repeat() {
    let data = triples(BLOG);
    let graph = graph_of(data);
    for source in [
        "post order by created desc",
        "post order by created",
        "user order by name",
        "post order by author",
    ] {
        let whole = answer(&understood(source), &graph).unwrap();
        let Rows::Entities(whole) = whole.rows else { panic!() };
        let mut query = (*understood(&format!("{source} limit 1"))).clone();
        let mut paged = Vec::new();
        loop {
            let page = answer(&Arc::new(query.clone()), &graph).unwrap();
            let Rows::Entities(objects) = page.rows else { panic!() };
            paged.extend(objects);
            match page.next {
                Some(next) => query.select.after = Some(next),
                None => break,
            }
        }
        assert_eq!(paged, whole, "{source}");
    }
}

#[test]
fn what_costs_too_much_is_ended_with_the_reason() {
    let graph = graph_of(triples(BLOG));
    let query = understood("find ?a, ?b, ?c where ?a post/title _; ?b post/title _; ?c post/title _");
    let plan = plan(query, &graph);
    let check = |budget: Budget, error: &EvalError| {
        assert_eq!(&evaluate(&plan, &graph, budget, None).unwrap_err(), error);
    };
    let budget = Budget::default();
    check(Budget { fuel: 20, ..budget }, &EvalError::OutOfFuel(20));
    check(Budget { tuples: 20, ..budget }, &EvalError::TooManyTuples(20));
    check(Budget { bytes: 500, ..budget }, &EvalError::OutOfMemory(500));
    assert!(evaluate(&plan, &graph, budget, None).is_ok());
}

#[test]
fn a_caller_that_goes_away_stops_the_work() {
    let many = (0..5_000).map(|at| {
        let line = format!("@p{at} post/rank {at}");
        triples(&line).remove(0)
    });
    let graph = graph_of(many);
    let plan = plan(understood("find ?a, ?b where ?a post/rank _; ?b post/rank _"), &graph);
    let stop = || std::ops::ControlFlow::Break(());
    let error = evaluate(&plan, &graph, Budget::default(), Some(&stop)).unwrap_err();
    assert_eq!(error, EvalError::Interrupted);
    let mut stream = Stream::new(&plan, &graph, Budget::default(), None).unwrap();
    assert!(stream.next_tuples().unwrap().is_some());
    assert!(
        stream.counters().fuel < 20_000,
        "the first tuples come before the last are looked for"
    );
}

#[test]
fn a_plan_starts_at_the_selective_end_and_says_so() {
    let many = (0..2_000).flat_map(|at| {
        let lines = format!(
            "@p{at} post/author @u{}\n@u{} user/age {}\n@p{at} post/created {at}",
            at % 200,
            at % 200,
            at % 200 % 60
        );
        triples(&lines)
    });
    let graph = graph_of(many);
    let query = understood("find ?p where ?p post/author ?u; ?u user/age ?a; ?a > 57");
    let plan_of = |query| plan(query, &graph);
    let plan = plan_of(query);
    let evaluated = evaluate(&plan, &graph, Budget::default(), None).unwrap();
    assert_eq!(
        plan.explain(Some(&evaluated.counters)),
        "lookup ?u* user/age ?a* [57 .. ]  by predicate and range of values  ~6 = 6\n\
         lookup ?p* post/author ?u  by predicate and value  ~60 = 60\n\
         140 steps, 960 bytes held\n"
    );
    let explained = plan.explain_json(Some(&evaluated.counters));
    assert_eq!(explained["steps"][1]["actual"], 60);
    let newest = plan_of(understood("post order by created desc limit 2"));
    let evaluated = evaluate(&newest, &graph, Budget::default(), None).unwrap();
    assert!(
        evaluated.counters.fuel < 100,
        "{}",
        newest.explain(Some(&evaluated.counters))
    );
}

/// Behind the cursor an index meets entities again that stand before it by another value.
#[test]
fn a_page_in_the_order_of_a_field_of_several_values_repeats_nothing() {
    let lines = "@p1 post/rank 1\n@p1 post/rank 9\n@p2 post/rank 2\n@p2 post/rank 9.5\n@p3 post/rank 3\n\
                 @p4 post/rank 4\n@p5 post/rank 5\n@p6 post/rank 6";
    let graph = graph_of(triples(lines));
    for (source, expected) in [
        ("post order by rank limit 6 after (4, @p4)", "p5 p6"),
        ("post order by rank desc limit 6 after (6, @p6)", "p5 p4 p3"),
    ] {
        let found = answer(&understood(source), &graph).unwrap();
        let Rows::Entities(objects) = found.rows else {
            panic!("{source}")
        };
        let ids: Vec<&str> = objects.iter().map(|object| object.id.as_str()).collect();
        assert_eq!(ids.join(" "), expected, "{source}");
    }
}

#[test]
fn a_count_that_no_number_shows_is_refused() {
    let lines: Vec<String> = (0..20).map(|at| format!("@p{at} post/title \"a\"")).collect();
    let graph = graph_of(triples(&lines.join("\n")));
    let count = |patterns: usize| {
        let patterns = (0..patterns).map(|at| format!("?a{at} post/title ?b{at}"));
        let source = format!("find count(*) where {}", patterns.collect::<Vec<_>>().join("; "));
        answer(&understood(&source), &graph).map(|found| found.rows.to_json(Datum::to_json).to_string())
    };
    assert_eq!(count(3).unwrap(), "[{\"count(*)\":8000}]");
    for patterns in [13, 15, 17, 40] {
        assert!(matches!(count(patterns), Err(EvalError::CountTooLarge)), "{patterns}");
    }
}

/// `p2` holds what `p1` holds, and refers to nothing by it.
#[test]
fn a_path_goes_back_from_references_alone() {
    let lines = "@p1 post/tag \"a\"\n@p2 post/tag \"a\"\n@p3 post/tag @p2\n@p2 post/rank 1\n@p3 post/rank 2\n\
                 @p4 post/tag @p2\n@p4 post/rank 3";
    for source in [
        "post where tag.<post.tag exists",
        "post where tag.<post.tag.rank > 1",
        "post order by tag.<post.tag desc",
        "post where <post.tag exists",
    ] {
        agree(&understood(source), &triples(lines), source);
    }
    let found = answer(
        &understood("post where tag.<post.tag exists { }"),
        &graph_of(triples(lines)),
    )
    .unwrap();
    let shown = found.rows.to_json(Datum::to_json).to_string();
    assert_eq!(shown, r#"[{"id":"p3"},{"id":"p4"}]"#);
}
