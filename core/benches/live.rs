//! Live queries: which of 100,000 a changed triple may touch, what following a change takes, and both together.
//! `cargo bench -p halcyon-core --bench live`.
//!
//! `HALCYON_POSTS` (20000,200000) says of how many entities windows are followed: a change must cost the same.

use std::{
    collections::BTreeSet,
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, NTP64, timestamp},
    coverage::ENTITIES_MAX,
    graph::{Delta, Graph, Triple},
    id::{EntityId, NodeId, OriginId, Predicate, Seq, Tag},
    query::{
        eval::Budget,
        from_text,
        live::{Coverage, Live, LiveId, Registry},
        logic::Query,
    },
    value::Value,
};

/// As the command has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Queries that are registered.
const QUERIES: u64 = 100_000;

/// Queries that share a category, so that a change to it touches as many.
const MATCHING: u64 = 10;

fn number(number: u64) -> f64 {
    f64::from(u32::try_from(number).expect("few"))
}

fn post(graph: &mut Graph, seq: u64, at: u64, created: f64) -> Delta {
    let field = |name: &str, value: f64| Change::Set {
        subject: EntityId::new(&format!("p{at}")).expect("it is short and plain"),
        predicate: Predicate::new(name).expect("it is type/field"),
        value: Value::number(value).expect("a number"),
    };
    let category = number(at % (QUERIES / MATCHING));
    let changes = vec![field("post/category", category), field("post/created", created)];
    let set = ChangeSet {
        timestamp: timestamp(NTP64(seq), ClientId::from_random(1)),
        number: seq,
        changes,
    };
    let origin = OriginId {
        node: NodeId(1),
        incarnation: 1,
    };
    graph.apply_set(Tag { origin, seq: Seq(seq) }, &set)
}

fn graph(posts: u64) -> Graph {
    let mut graph = Graph::default();
    for at in 0..posts {
        post(&mut graph, at + 1, at, number(at));
    }
    graph
}

fn read(source: &str) -> Query {
    from_text(source).unwrap_or_else(|error| panic!("{}", error.render(source)))
}

fn open(source: &str, graph: &Graph) -> Live {
    Live::open(&read(source), graph, Budget::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn cover(source: &str, graph: &Graph) -> Coverage {
    let coverage = Coverage::open(&read(source), graph, Budget::default(), ENTITIES_MAX);
    coverage.unwrap_or_else(|error| panic!("{error}"))
}

fn of_category(category: u64) -> String {
    format!("find ?p, ?t where ?p post/category {category}; ?p post/created ?t")
}

/// A change to which the index answers with ten of 100,000.
fn matching(c: &mut Criterion) {
    let mut graph = graph(10_000);
    let mut registry = Registry::default();
    for id in 0..QUERIES {
        let category = id % (QUERIES / MATCHING);
        let live = open(&format!("find ?p where ?p post/category {category}"), &graph);
        registry.insert(LiveId(id), &live, &graph);
    }
    let delta: Vec<Triple> = (0..1_000)
        .flat_map(|at| post(&mut graph, 20_000 + at, 100_000 + at * 7, 1.0).added)
        .collect();
    match_all(
        c,
        "match 2,000 triples against 100,000 queries",
        &delta,
        &registry,
        &graph,
    );
}

/// The same where each query asks for a range of values, of which ten hold a change's.
fn ranging(c: &mut Criterion) {
    let mut graph = graph(1_000);
    let mut registry = Registry::default();
    for id in 0..QUERIES {
        let source = format!("find ?p where ?p post/created ?t; ?t >= {id}; ?t < {}", id + MATCHING);
        let live = open(&source, &graph);
        registry.insert(LiveId(id), &live, &graph);
    }
    let delta: Vec<Triple> = (0..1_000)
        .flat_map(|at| post(&mut graph, 20_000 + at, 100_000 + at, number(at * 97)).added)
        .collect();
    match_all(
        c,
        "match 2,000 triples against 100,000 ranges",
        &delta,
        &registry,
        &graph,
    );
}

/// The same where each query asks for any value beside its category.
fn beside(c: &mut Criterion) {
    let mut graph = graph(10_000);
    let mut registry = Registry::default();
    for id in 0..QUERIES {
        let live = open(&of_category(id % (QUERIES / MATCHING)), &graph);
        registry.insert(LiveId(id), &live, &graph);
    }
    let delta: Vec<Triple> = (0..1_000)
        .flat_map(|at| post(&mut graph, 20_000 + at, at * 7, number(at)).added)
        .collect();
    let name = "match triples against 100,000 queries with a category beside";
    match_all(c, name, &delta, &registry, &graph);
}

fn match_all(c: &mut Criterion, name: &str, delta: &[Triple], registry: &Registry, graph: &Graph) {
    let mut group = c.benchmark_group("live");
    group.throughput(Throughput::Elements(delta.len() as u64));
    group.bench_function(name, |b| {
        b.iter(|| {
            let mut sum = 0;
            for triple in delta {
                registry.touched(black_box(triple), graph, |id| sum += id.0);
            }
            sum
        });
    });
    group.finish();
}

/// A change is written, matched against 100,000 queries that are all followed, and taken in by the ten that it concerns.
/// What the write takes by itself is told, too.
fn end_to_end(c: &mut Criterion) {
    const POSTS: u64 = 20_000;
    let mut graph = graph(POSTS);
    let mut registry = Registry::default();
    let mut all = Vec::new();
    for id in 0..QUERIES {
        let live = open(&of_category(id % (QUERIES / MATCHING)), &graph);
        registry.insert(LiveId(id), &live, &graph);
        all.push(live);
    }
    let mut seq = POSTS;
    // The same ten again and again; and others each time, whose state no cache has.
    for (which, step) in [("the same", 0), ("other", 7)] {
        let at = |seq: u64| 7 + seq * step % (POSTS - 7);
        c.bench_function(&format!("live/a change of {which} post, written alone"), |b| {
            b.iter(|| {
                seq += 1;
                post(&mut graph, seq, at(seq), number(seq))
            });
        });
        let name = format!("live/a change, matched against 100,000 and followed by {which} ten");
        c.bench_function(&name, |b| {
            b.iter(|| {
                seq += 1;
                let delta = post(&mut graph, seq, at(seq), number(seq));
                let mut touched = BTreeSet::new();
                for triple in delta.added.iter().chain(&delta.removed) {
                    registry.touched(triple, &graph, |id| {
                        touched.insert(id.0);
                    });
                }
                let place = |id: u64| usize::try_from(id).expect("few");
                black_box(touched.iter().map(|id| all[place(*id)].warm()).sum::<usize>());
                let mut changed = 0;
                for id in touched {
                    let live = &mut all[place(id)];
                    let delta = live.apply(&delta, &graph).expect("it fits the budget");
                    changed += u64::from(!delta.is_empty());
                }
                assert_eq!(changed, MATCHING);
            });
        });
    }
}

/// The newest post becomes newer, in the newest 50 of all, in what a node covers for them, and in ten queries.
fn following(c: &mut Criterion) {
    let sizes = std::env::var("HALCYON_POSTS").unwrap_or_else(|_| "20000,200000".to_owned());
    for posts in sizes.split(',').map(|size| size.parse().expect("numbers")) {
        let mut graph = graph(posts);
        let mut seq = posts + 1;
        let source = "post order by created desc limit 50 { created }";
        let mut top = open(source, &graph);
        c.bench_function(&format!("live/a change to a top 50 of {posts}"), |b| {
            b.iter(|| {
                seq += 1;
                // From anywhere among them to the top.
                let delta = post(&mut graph, seq, seq * 7_919 % posts, number(seq));
                top.apply(&delta, &graph).expect("it fits the budget")
            });
        });
        // The same without the write, which goes through indexes of so many entities.
        c.bench_function(&format!("live/maintaining a top 50 of {posts} alone"), |b| {
            b.iter_custom(|times| {
                let mut took = Duration::ZERO;
                for _ in 0..times {
                    seq += 1;
                    let delta = post(&mut graph, seq, seq * 7_919 % posts, number(seq));
                    let began = now();
                    black_box(top.apply(&delta, &graph).expect("it fits the budget"));
                    took += began.elapsed();
                }
                took
            });
        });
        let mut covered = cover(source, &graph);
        c.bench_function(&format!("live/a change to the coverage of a top 50 of {posts}"), |b| {
            b.iter(|| {
                seq += 1;
                let delta = post(&mut graph, seq, seq * 7_919 % posts, number(seq));
                covered.apply(&delta, &graph).expect("it fits the budget")
            });
        });
        let source = of_category(7);
        let mut ten: Vec<Live> = (0..MATCHING).map(|_| open(&source, &graph)).collect();
        c.bench_function(&format!("live/a change that ten follow, of {posts}"), |b| {
            b.iter(|| {
                seq += 1;
                let delta = post(&mut graph, seq, 7, number(seq));
                let apply = |live: &mut Live| live.apply(&delta, &graph).expect("it fits the budget");
                ten.iter_mut().map(apply).filter(|delta| !delta.is_empty()).count()
            });
        });
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn now() -> Instant {
    Instant::now()
}

criterion_group!(benches, matching, ranging, beside, end_to_end, following);
criterion_main!(benches);
