//! Live queries: which of 100,000 a changed triple may touch, and what following a change takes.
//! `cargo bench -p halcyon-core --bench live`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, NTP64, timestamp},
    graph::{Delta, Graph, Triple},
    id::{EntityId, NodeId, OriginId, Predicate, Seq, Tag},
    query::{
        eval::Budget,
        from_text,
        live::{Live, LiveId, Registry},
    },
    value::Value,
};

/// Queries that are registered.
const QUERIES: u64 = 100_000;

/// Queries that share a category, so that a change to it touches as many.
const MATCHING: u64 = 10;

fn post(graph: &mut Graph, seq: u64, at: u64, created: f64) -> Delta {
    let field = |name: &str, value: Value| Change::Set {
        subject: EntityId::new(&format!("p{at}")).expect("it is short and plain"),
        predicate: Predicate::new(name).expect("it is type/field"),
        value,
    };
    let category = i32::try_from(at % (QUERIES / MATCHING)).expect("few");
    let set = ChangeSet {
        timestamp: timestamp(NTP64(seq), ClientId::from_random(1)),
        number: seq,
        changes: vec![
            field("post/category", Value::number(f64::from(category)).expect("a number")),
            field("post/created", Value::number(created).expect("a number")),
        ],
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
        post(&mut graph, at + 1, at, f64::from(u32::try_from(at).expect("few")));
    }
    graph
}

fn open(source: &str, graph: &Graph) -> Live {
    let query = from_text(source).unwrap_or_else(|error| panic!("{}", error.render(source)));
    Live::open(&query, graph, Budget::default()).unwrap_or_else(|error| panic!("{error}"))
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
    let mut group = c.benchmark_group("live");
    group.throughput(Throughput::Elements(delta.len() as u64));
    group.bench_function("match 2,000 triples against 100,000 queries", |b| {
        b.iter(|| {
            let mut sum = 0;
            for triple in &delta {
                registry.touched(black_box(triple), &graph, |id| sum += id.0);
            }
            sum
        });
    });
    group.finish();
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
        .flat_map(|at| {
            post(
                &mut graph,
                20_000 + at,
                100_000 + at,
                f64::from(u32::try_from(at * 97).expect("few")),
            )
            .added
        })
        .collect();
    let mut group = c.benchmark_group("live");
    group.throughput(Throughput::Elements(delta.len() as u64));
    group.bench_function("match 2,000 triples against 100,000 ranges", |b| {
        b.iter(|| {
            let mut sum = 0;
            for triple in &delta {
                registry.touched(black_box(triple), &graph, |id| sum += id.0);
            }
            sum
        });
    });
    group.finish();
}

/// The newest post becomes newer, in ten queries, and in the newest 50 of all.
fn following(c: &mut Criterion) {
    for posts in [20_000, 200_000] {
        let mut graph = graph(posts);
        let mut seq = posts + 1;
        let mut top = open("post order by created desc limit 50 { created }", &graph);
        c.bench_function(&format!("live/a change to a top 50 of {posts}"), |b| {
            b.iter(|| {
                seq += 1;
                let delta = post(&mut graph, seq, posts - 1, f64::from(u32::try_from(seq).expect("few")));
                top.apply(&delta, &graph).expect("it fits the budget")
            });
        });
        let source = "find ?p, ?t where ?p post/category 7; ?p post/created ?t";
        let mut ten: Vec<Live> = (0..MATCHING).map(|_| open(source, &graph)).collect();
        c.bench_function(&format!("live/a change that ten follow, of {posts}"), |b| {
            b.iter(|| {
                seq += 1;
                let delta = post(&mut graph, seq, 7, f64::from(u32::try_from(seq).expect("few")));
                let apply = |live: &mut Live| live.apply(&delta, &graph).expect("it fits the budget");
                ten.iter_mut().map(apply).filter(|delta| !delta.is_empty()).count()
            });
        });
    }
}

criterion_group!(benches, matching, ranging, following);
criterion_main!(benches);
