//! Queries over a million triples in memory: `cargo bench --workspace --bench query`.
//!
//! The same questions as `tests/benches/query` asks beside `SQLite`, and what a change costs.

use std::{hint::black_box, sync::Arc};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, NTP64, timestamp},
    graph::{Graph, SetId},
    id::{NodeId, OriginId, Predicate, Seq, Tag},
    query::{
        eval::{Budget, Stream, evaluate},
        lower::lower,
        plan::{Plan, plan},
        testing::blog,
        text,
    },
    value::Value,
};

fn tag(seq: usize) -> Tag {
    let origin = OriginId {
        node: NodeId(1),
        incarnation: 1,
    };
    Tag {
        origin,
        seq: Seq(seq as u64 + 1),
    }
}

fn load(sets: &[ChangeSet]) -> Graph {
    let mut graph = Graph::default();
    for (at, set) in sets.iter().enumerate() {
        graph.apply_set(tag(at), set);
    }
    graph
}

fn plan_of(source: &str, graph: &Graph) -> Plan {
    let syntax = text::parse(source).expect("it is a query");
    plan(Arc::new(lower(&syntax).expect("it means something")), graph)
}

fn tables(criterion: &mut Criterion, graph: &Graph) {
    let (city, category) = (blog::city(42), blog::category(42));
    let entity = blog::entity(50_000);
    let questions = [
        ("entity", format!("find ?p, ?o where @{:?} ?p ?o", entity.as_str())),
        ("category", format!("find ?p where ?p post/category {category:?}")),
        (
            "by-age-above",
            "find ?p where ?p post/author ?u; ?u user/age ?a; ?a > 30".into(),
        ),
        ("by-age", "find ?p where ?p post/author ?u; ?u user/age 42".into()),
        (
            "three-hops-above",
            "find ?c where ?c comment/post ?p; ?p post/author ?u; ?u user/age ?a; ?a > 30".into(),
        ),
        (
            "three-hops-city",
            format!("find ?c where ?c comment/post ?p; ?p post/author ?u; ?u user/city {city:?}"),
        ),
        (
            "per-city",
            "find ?city, count(?p) where ?p post/author ?u; ?u user/city ?city".into(),
        ),
        ("per-predicate", "find ?p, count(?s) where ?s ?p ?o".into()),
        (
            "newest",
            "find ?t, ?p where ?p post/created ?t order by ?t desc limit 20".into(),
        ),
        (
            "newest-of-category",
            format!("find ?t, ?p where ?p post/created ?t; ?p post/category {category:?} order by ?t desc limit 20"),
        ),
    ];
    let mut group = criterion.benchmark_group("table");
    for (name, source) in questions {
        let plan = plan_of(&source, graph);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut stream = Stream::new(&plan, graph, Budget::default(), None).expect("within the budget");
                while let Some(tuples) = stream.next_tuples().expect("within the budget") {
                    black_box(tuples);
                }
            });
        });
    }
    group.finish();
}

fn objects(criterion: &mut Criterion, graph: &Graph) {
    let category = blog::category(42);
    let questions = [
        ("newest", "post order by created desc limit 20".to_owned()),
        (
            "newest-of-category",
            format!("post where category = {category:?} order by created desc limit 20"),
        ),
        (
            "with-includes",
            format!(
                "post where category = {category:?} order by created desc limit 20 \
                 {{ title, author {{ name }}, <comment.post order by created desc limit 3 {{ text }} }}"
            ),
        ),
        (
            "by-path",
            "post where author.age > 30 and published = true order by created desc limit 50".to_owned(),
        ),
    ];
    let mut group = criterion.benchmark_group("objects");
    for (name, source) in questions {
        let plan = plan_of(&source, graph);
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(evaluate(&plan, graph, Budget::default(), None).expect("within the budget")));
        });
    }
    group.finish();
}

fn changes(criterion: &mut Criterion, graph: &mut Graph, sets: &[ChangeSet]) {
    let mut group = criterion.benchmark_group("change");
    let title = Predicate::new("post/title").expect("type/field");
    let mut time = 1_u64 << 60;
    let mut next = |at: usize| {
        time += 1;
        ChangeSet {
            timestamp: timestamp(NTP64(time), ClientId::from_random(2)),
            number: time,
            changes: vec![Change::Set {
                subject: blog::entity(at % blog::ENTITIES),
                predicate: title.clone(),
                value: Value::string(&format!("Changed for the {time}th time")),
            }],
        }
    };
    let mut at = 0;
    group.bench_function("confirmed", |bencher| {
        bencher.iter_batched(
            || {
                at += 1;
                next(at)
            },
            |set| black_box(graph.apply_set(tag(1_000_000), &set)),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("proposed-and-withdrawn", |bencher| {
        bencher.iter_batched(
            || next(17),
            |set| {
                black_box(graph.propose(&set));
                black_box(graph.withdraw(SetId::of(&set)))
            },
            BatchSize::SmallInput,
        );
    });
    group.sample_size(10);
    group.bench_function("load-100000-triples", |bencher| {
        bencher.iter(|| black_box(load(&sets[..100.min(sets.len())])));
    });
    group.finish();
}

fn all(criterion: &mut Criterion) {
    let sets = blog::sets(blog::ENTITIES);
    let mut graph = load(&sets);
    tables(criterion, &graph);
    objects(criterion, &graph);
    changes(criterion, &mut graph, &sets);
}

criterion_group!(benches, all);
criterion_main!(benches);
