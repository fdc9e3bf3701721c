//! Our side: the graph in memory, plans that are made once, answers streamed to their last value.

use std::{sync::Arc, time::Duration};

use halcyon_core::{
    graph::Graph,
    id::{NodeId, OriginId, Seq, Tag},
    query::{
        eval::{Budget, Stream},
        logic::Query,
        lower::lower,
        plan::{Plan, plan},
        testing::blog,
        text,
    },
};

use super::{Question, memory, now, print_line};

/// A loaded graph.
pub(crate) struct Side {
    graph: Graph,
    took: Duration,
    bytes: usize,
}

/// A plan for a loaded graph.
pub(crate) struct Prepared<'a> {
    graph: &'a Graph,
    plan: Plan,
}

impl Side {
    pub(crate) fn load(entities: usize) -> Self {
        let sets = blog::sets(entities);
        // What the graph shares with the sets that it was loaded from must be counted once they are gone.
        let before = memory::held();
        let sets: Vec<Vec<u8>> = sets.into_iter().map(|set| set.encode()).collect();
        let encoded = memory::held();
        let mut graph = Graph::default();
        let mut took = Duration::ZERO;
        for (seq, set) in (1_u64..).zip(&sets) {
            let set = halcyon_core::change::ChangeSet::decode(set).expect("it was encoded");
            let origin = OriginId {
                node: NodeId(1),
                incarnation: 1,
            };
            let tag = Tag { origin, seq: Seq(seq) };
            let start = now();
            let delta = graph.apply_set(tag, &set);
            took += start.elapsed();
            assert!(delta.removed.is_empty());
        }
        let _ = before;
        Self {
            bytes: memory::held() - encoded,
            graph,
            took,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "figures are shown with a few digits")]
    pub(crate) fn print_load(&self) {
        let triples = self.graph.len() as f64;
        print_line(&format!(
            "halcyon: loaded {:.0} triples a second, {:.1} bytes a triple in memory ({:.1} of them by value)",
            triples / self.took.as_secs_f64(),
            self.bytes as f64 / triples,
            self.graph.index_bytes() as f64 / triples
        ));
    }

    pub(crate) fn prepare(&self, question: &Question) -> Prepared<'_> {
        let syntax = text::parse(&question.query).unwrap_or_else(|error| panic!("{}", error.render(&question.query)));
        let query: Query = lower(&syntax).unwrap_or_else(|error| panic!("{}", error.render(&question.query)));
        Prepared {
            graph: &self.graph,
            plan: plan(Arc::new(query), &self.graph),
        }
    }
}

impl Prepared<'_> {
    /// Reads the answer to its end: how many rows. References stay numbers, as `SQLite` has them; all else becomes values.
    pub(crate) fn run(&mut self) -> usize {
        let mut stream = Stream::new(&self.plan, self.graph, Budget::default(), None).expect("within the budget");
        let (width, mut rows) = (stream.width(), 0);
        let mut terms = Vec::new();
        while let Some(found) = stream.next_terms().expect("within the budget") {
            terms.clear();
            terms.extend_from_slice(found);
            rows += terms.len() / width;
            for term in &terms {
                match term.as_entity() {
                    Some(entity) => drop(std::hint::black_box(entity)),
                    None => drop(std::hint::black_box(stream.datum(*term))),
                }
            }
        }
        while let Some(tuples) = stream.next_tuples().expect("within the budget") {
            rows += std::hint::black_box(tuples).len();
        }
        rows
    }

    pub(crate) fn explain(&self) -> String {
        let mut stream = Stream::new(&self.plan, self.graph, Budget::default(), None).expect("within the budget");
        while stream.next_tuples().expect("within the budget").is_some() {}
        self.plan.explain(Some(&stream.counters()))
    }
}
