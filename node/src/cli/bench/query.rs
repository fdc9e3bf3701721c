//! Queries over users, posts and comments: in memory with a plan made once, and as a node answers them from its disk.
//!
//! In memory is what the project's table of targets means: one thread, the answer read to its end, where references of
//! unordered rows stay the numbers that they are (as in `tests/benches/query`, beside `SQLite`). From disk is the whole
//! of a node's work for one call but for the network: a snapshot, the query read and planned, rows as typed JSON.

use std::{collections::BTreeSet, ops::ControlFlow, path::Path, sync::Arc, time::Duration};

use clap::Args;
use halcyon_core::{
    change::Change,
    graph::Graph,
    id::{NodeId, OriginId, Seq, Tag},
    query::{
        eval::{Budget, Stream},
        from_text,
        plan::plan,
        testing::blog,
    },
    version_vector::VersionVector,
};

use super::{Figure, engine::Engine, float, median};
use crate::{
    cli::{connect, failure::Failure, output},
    query::{Asked, Bounds, Part, Snapshot, Statistics},
    storage::types::Admit,
};

/// Triples of an entity.
const FIELDS: u64 = 10;

/// A measurement lasts no shorter than this, and is made so often; the median counts.
const WINDOW: Duration = Duration::from_millis(40);
const WINDOWS: usize = 5;

/// See there.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// Triples to ask
    #[arg(long, default_value_t = 1_000_000)]
    triples: u64,
    /// Only in memory
    #[arg(long)]
    memory: bool,
}

/// One row of the table.
struct Question {
    name: &'static str,
    query: String,
    /// In memory over a million triples, in milliseconds.
    must_reach: f64,
}

pub(super) async fn run(args: &QueryArgs, dir: &Path) -> Result<Vec<Figure>, Failure> {
    let entities = usize::try_from(args.triples / FIELDS)
        .unwrap_or(blog::ENTITIES)
        .max(100);
    let is_whole = entities == blog::ENTITIES;
    let (mut figures, counts) = in_memory(entities, is_whole)?;
    if !args.memory {
        figures.extend(on_disk(entities, &counts, dir).await?);
    }
    Ok(figures)
}

/// Figures, and how many rows each question has.
fn in_memory(entities: usize, is_whole: bool) -> Result<(Vec<Figure>, Vec<u64>), Failure> {
    output::note(format!(
        "loading {} entities into memory",
        output::count(entities as u64)
    ));
    let sets = blog::sets(entities);
    let mut graph = Graph::default();
    let began = connect::clock().monotonic();
    for (at, set) in sets.iter().enumerate() {
        let origin = OriginId {
            node: NodeId(1),
            incarnation: 1,
        };
        let seq = Seq(at as u64 + 1);
        graph.apply_set(Tag { origin, seq }, set);
    }
    let took = connect::clock().monotonic().saturating_sub(began);
    drop(sets);
    let mut figures = vec![
        Figure::rate("load into memory", graph.len() as u64, took, "triples/s").reaching(is_whole.then_some(600_000.0)),
    ];
    let mut counts = Vec::new();
    for question in questions(entities) {
        let query = Arc::new(from_text(&question.query).map_err(Failure::failed)?);
        let plan = plan(query, &graph);
        let mut run = || -> Result<u64, Failure> {
            let mut stream = Stream::new(&plan, &graph, Budget::default(), None).map_err(Failure::failed)?;
            let (width, mut rows, mut terms) = (stream.width(), 0, Vec::new());
            while let Some(found) = stream.next_terms().map_err(Failure::failed)? {
                terms.clear();
                terms.extend_from_slice(found);
                rows += (terms.len() / width) as u64;
                for term in terms.iter().filter(|term| term.as_entity().is_none()) {
                    std::hint::black_box(stream.datum(*term));
                }
            }
            // What is in an order or in groups comes whole.
            while let Some(tuples) = stream.next_tuples().map_err(Failure::failed)? {
                rows += std::hint::black_box(tuples).len() as u64;
            }
            Ok(rows)
        };
        let (figure, rows) = measured(question.name, "in memory", &mut run)?;
        figures.push(figure.reaching(is_whole.then_some(question.must_reach)));
        counts.push(rows);
    }
    Ok((figures, counts))
}

async fn on_disk(entities: usize, counts: &[u64], dir: &Path) -> Result<Vec<Figure>, Failure> {
    output::note("loading the same into a node's storage");
    let engine = Engine::open(dir).await?;
    let began = connect::clock().monotonic();
    for mut set in blog::sets(entities) {
        // A node takes nothing of an entity that nobody created.
        let subjects: BTreeSet<_> = set
            .changes
            .iter()
            .filter_map(|change| change.subject().cloned())
            .collect();
        let created = subjects.into_iter().map(|subject| Change::Create { subject });
        set.changes.splice(..0, created);
        let admit = Admit {
            tenant: engine.tenant,
            encoded: set.encode().into(),
            set,
            client_vector: Arc::new(VersionVector::EMPTY),
            now: engine.env.clock.wall(),
            ahead: None,
        };
        engine.storage.admit(admit).await.map_err(Failure::failed)?;
    }
    let took = connect::clock().monotonic().saturating_sub(began);
    let triples = entities as u64 * FIELDS;
    let mut figures = vec![Figure::rate("load into storage", triples, took, "triples/s")];
    let statistics = Statistics::default();
    for (question, &count) in questions(entities).into_iter().zip(counts) {
        let mut run = || -> Result<u64, Failure> {
            let snapshot = Snapshot::of(&engine.storage, &statistics, engine.tenant).map_err(Failure::failed)?;
            let asked = Asked::read(&question.query).map_err(Failure::failed)?;
            let mut rows = 0;
            let mut take = |part: Part| {
                if let Part::End { rows: count, .. } = part {
                    rows = count;
                }
                ControlFlow::Continue(())
            };
            let answered = asked.answer(&snapshot, bounds(), &mut take);
            answered.map_err(Failure::failed).map(|()| rows)
        };
        let (figure, rows) = measured(question.name, "from disk", &mut run)?;
        if rows != count {
            let text = format!("{}: {rows} rows from disk, {count} in memory", question.name);
            return Err(Failure::failed(text));
        }
        figures.push(figure);
    }
    engine.close().await;
    Ok(figures)
}

const fn bounds() -> Bounds<'static> {
    Bounds {
        rows: 10_000_000,
        memory: 1 << 30,
        answer: 1 << 30,
        time: Duration::from_mins(10),
        go_on: &|| true,
    }
}

/// Milliseconds of one run: the median of some windows, each of as many runs as fill it. And the rows.
fn measured(name: &str, place: &str, run: &mut dyn FnMut() -> Result<u64, Failure>) -> Result<(Figure, u64), Failure> {
    let clock = connect::clock();
    let rows = run()?;
    let mut times = Vec::with_capacity(WINDOWS);
    for _ in 0..WINDOWS {
        let began = clock.monotonic();
        let mut runs = 0;
        let took = loop {
            run()?;
            runs += 1;
            let took = clock.monotonic().saturating_sub(began);
            if took >= WINDOW {
                break took;
            }
        };
        times.push(took.as_secs_f64() * 1e3 / float(runs));
    }
    let shown = output::plural(rows, "row", "rows");
    let figure = Figure::new(format!("{name} ({shown}), {place}"), median(&times), "ms");
    Ok((figure, rows))
}

fn questions(entities: usize) -> Vec<Question> {
    let (city, category) = (blog::city(42), blog::category(42));
    let entity = blog::entity(entities / 2);
    let question = |name, must_reach, query: &str| Question {
        name,
        query: query.to_owned(),
        must_reach,
    };
    vec![
        question(
            "one entity of 10 fields",
            0.004,
            &format!("find ?p, ?o where @{:?} ?p ?o", entity.as_str()),
        ),
        question(
            "one category of 100",
            0.03,
            &format!("find ?p where ?p post/category {category:?}"),
        ),
        question(
            "posts by authors, age > 30",
            7.0,
            "find ?p where ?p post/author ?u; ?u user/age ?a; ?a > 30",
        ),
        question(
            "posts by authors, age = 42",
            0.15,
            "find ?p where ?p post/author ?u; ?u user/age 42",
        ),
        question(
            "three hops, age > 30",
            35.0,
            "find ?c where ?c comment/post ?p; ?p post/author ?u; ?u user/age ?a; ?a > 30",
        ),
        question(
            "three hops from one city",
            0.35,
            &format!("find ?c where ?c comment/post ?p; ?p post/author ?u; ?u user/city {city:?}"),
        ),
        question(
            "posts per author city",
            15.0,
            "find ?city, count(?p) where ?p post/author ?u; ?u user/city ?city",
        ),
        question("count by predicate over all", 25.0, "find ?p, count(?s) where ?s ?p ?o"),
        question(
            "newest 20 posts",
            0.01,
            "find ?t, ?p where ?p post/created ?t order by ?t desc limit 20",
        ),
        question(
            "newest 20 in a category",
            0.1,
            &format!("find ?t, ?p where ?p post/created ?t; ?p post/category {category:?} order by ?t desc limit 20"),
        ),
    ]
}
