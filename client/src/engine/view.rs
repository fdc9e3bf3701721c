//! What one query sees of the local store.
//!
//! Once its coverage is here, a query sees that and what pending sets touch, and nothing else. A client holds entities for
//! other queries too, and those may be older, or lie here without what they refer to: an issue whose author is not here
//! would come first in an order by the author's name. Until then it sees all that is here, which is better than nothing.
//!
//! Statistics are those of the whole store. They guide plans; where an evaluator concludes something from them (that a
//! predicate has one value for each entity, that every entity of a type has it), it holds for whole entities left out too.

use std::cmp::Ordering;

use halcyon_core::{
    graph::Graph,
    id::Predicate,
    query::triples::{EntityNumber, Entry, Objects, PredicateNumber, Scan, Statistics, StoreFailure, Term, Triples},
    value::Value,
};

use super::numbers::Numbers;

/// Entries that are counted at a time.
const COUNT_BATCH: usize = 1_024;

/// See the module's page.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) graph: &'a Graph,
    /// None sees all.
    pub(super) covered: Option<&'a Numbers>,
}

impl View<'_> {
    fn sees(&self, entity: EntityNumber) -> bool {
        self.covered
            .is_none_or(|covered| covered.contains(entity) || self.graph.is_pending(entity))
    }
}

impl Triples for View<'_> {
    fn predicate_number(&self, predicate: &Predicate) -> Option<PredicateNumber> {
        self.graph.predicate_number(predicate)
    }

    fn predicate(&self, number: PredicateNumber) -> Predicate {
        self.graph.predicate(number)
    }

    fn predicate_text(&self, number: PredicateNumber) -> Option<Term> {
        self.graph.predicate_text(number)
    }

    fn predicates(&self) -> Vec<PredicateNumber> {
        self.graph.predicates()
    }

    fn term(&self, value: &Value) -> Option<Term> {
        self.graph.term(value)
    }

    fn value(&self, term: Term) -> Value {
        self.graph.value(term)
    }

    fn bytes(&self, term: Term, show: &mut dyn FnMut(&[u8])) {
        Triples::bytes(self.graph, term, show);
    }

    fn compare(&self, a: Term, b: Term) -> Ordering {
        self.graph.compare(a, b)
    }

    fn values(&self, subject: EntityNumber, predicate: PredicateNumber, out: &mut Vec<Term>) {
        if self.sees(subject) {
            self.graph.values(subject, predicate, out);
        }
    }

    fn fields(&self, subject: EntityNumber, out: &mut Vec<(PredicateNumber, Term)>) {
        if self.sees(subject) {
            self.graph.fields(subject, out);
        }
    }

    fn contains(&self, subject: EntityNumber, predicate: PredicateNumber, object: Term) -> bool {
        self.sees(subject) && self.graph.contains(subject, predicate, object)
    }

    fn scan(&self, scan: &Scan<'_>, after: Option<Entry>, max: usize, out: &mut Vec<Entry>) -> bool {
        if self.covered.is_none() {
            return self.graph.scan(scan, after, max, out);
        }
        let from = out.len();
        let mut after = after;
        loop {
            let start = out.len();
            let more = self.graph.scan(scan, after, max - (start - from), out);
            after = out.last().copied().filter(|_| out.len() > start);
            let mut kept = start;
            for at in start..out.len() {
                if self.sees(out[at].subject()) {
                    out[kept] = out[at];
                    kept += 1;
                }
            }
            out.truncate(kept);
            if !more || kept - from >= max {
                return more;
            }
        }
    }

    fn statistics(&self, predicate: PredicateNumber) -> Statistics {
        self.graph.statistics(predicate)
    }

    fn count(&self, predicate: PredicateNumber, objects: Objects<'_>) -> u64 {
        if self.covered.is_none() {
            return self.graph.count(predicate, objects);
        }
        let scan = Scan {
            predicate,
            objects,
            descending: false,
        };
        let (mut entries, mut after, mut count) = (Vec::new(), None, 0);
        loop {
            entries.clear();
            let more = self.scan(&scan, after, COUNT_BATCH, &mut entries);
            count += entries.len() as u64;
            after = entries.last().copied();
            if !more {
                return count;
            }
        }
    }

    fn estimate(&self, predicate: PredicateNumber, objects: Objects<'_>) -> u64 {
        self.graph.estimate(predicate, objects)
    }

    fn entities_of(&self, entity_type: &str) -> Option<u64> {
        self.graph.entities_of(entity_type)
    }

    fn failure(&self) -> Option<StoreFailure> {
        None
    }
}
