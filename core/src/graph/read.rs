//! What queries ask of the graph.

use std::{cmp::Ordering, ops::Range};

use super::{
    Dictionary, EntityNumber, Entry, Graph, PredicateNumber, Term,
    ordered::{Ordered, Place},
    term::{STRING, text_of},
};
use crate::{
    id::Predicate,
    query::triples::{Edge, Objects, Scan, Statistics, StoreFailure, Triples},
    value::Value,
};

impl Triples for Graph {
    fn predicate_number(&self, predicate: &Predicate) -> Option<PredicateNumber> {
        self.dictionary.predicate_number(predicate)
    }

    fn predicate(&self, number: PredicateNumber) -> Predicate {
        self.dictionary.predicate(number).clone()
    }

    fn predicate_text(&self, number: PredicateNumber) -> Option<Term> {
        Some(self.dictionary.predicate_text(number))
    }

    fn predicates(&self) -> Vec<PredicateNumber> {
        let used = (0_u32..).zip(&self.values).filter(|(_, index)| index.entries.len() > 0);
        used.map(|(number, _)| PredicateNumber(number)).collect()
    }

    fn term(&self, value: &Value) -> Option<Term> {
        self.dictionary.term(value)
    }

    fn value(&self, term: Term) -> Value {
        self.dictionary.value(term)
    }

    fn bytes(&self, term: Term, show: &mut dyn FnMut(&[u8])) {
        self.dictionary.with_bytes(term, show);
    }

    fn compare(&self, a: Term, b: Term) -> Ordering {
        self.dictionary.compare(a, b)
    }

    fn values(&self, subject: EntityNumber, predicate: PredicateNumber, out: &mut Vec<Term>) {
        let mut register = None;
        for slot in self.cells(subject).of(predicate) {
            if slot.is_present() && register != Some(slot.term()) {
                out.push(slot.term());
                if !slot.is_element() {
                    register = Some(slot.term());
                }
            }
        }
    }

    fn fields(&self, subject: EntityNumber, out: &mut Vec<(PredicateNumber, Term)>) {
        self.fields_of(subject, out);
    }

    fn contains(&self, subject: EntityNumber, predicate: PredicateNumber, object: Term) -> bool {
        self.cells(subject).shows(predicate, object) > 0
    }

    fn scan(&self, scan: &Scan<'_>, after: Option<Entry>, max: usize, out: &mut Vec<Entry>) -> bool {
        let Some(index) = self.index(scan.predicate) else {
            return false;
        };
        let entries = &index.entries;
        let mut range = self.range(entries, scan.objects, after, scan.descending);
        let mut left = max;
        while left > 0 && range.start < range.end {
            if scan.descending {
                let slice = entries.backward(range.end, range.start);
                let taken = slice.len().min(left);
                out.extend(slice.iter().rev().take(taken));
                range.end = entries.back(range.end, taken);
                left -= taken;
            } else {
                let slice = entries.forward(range.start, range.end);
                let taken = slice.len().min(left);
                out.extend_from_slice(&slice[..taken]);
                range.start = entries.ahead(range.start, taken);
                left -= taken;
            }
        }
        range.start < range.end
    }

    fn statistics(&self, predicate: PredicateNumber) -> Statistics {
        self.index(predicate)
            .map_or_else(Statistics::default, |index| Statistics {
                triples: index.entries.len() as u64,
                subjects: index.subjects as u64,
                objects: index.entries.objects() as u64,
            })
    }

    fn count(&self, predicate: PredicateNumber, objects: Objects<'_>) -> u64 {
        let Some(index) = self.index(predicate) else { return 0 };
        if objects == Objects::All {
            return index.entries.len() as u64;
        }
        let range = self.range(&index.entries, objects, None, false);
        index.entries.count(&range) as u64
    }

    fn entities_of(&self, entity_type: &str) -> Option<u64> {
        let found = self.types.iter().find(|of_type| *of_type.name == *entity_type);
        Some(found.map_or(0, |of_type| of_type.entities as u64))
    }

    fn failure(&self) -> Option<StoreFailure> {
        None
    }
}

impl Graph {
    fn range(&self, entries: &Ordered, objects: Objects<'_>, after: Option<Entry>, descending: bool) -> Range<Place> {
        let dictionary = &self.dictionary;
        let mut range = match objects {
            Objects::All => Ordered::start()..entries.end(),
            Objects::Equal(term) => entries.equal(dictionary, term),
            Objects::Between(from, to) => {
                entries.partition(|entry| is_before(dictionary, from, entry.object()))
                    ..entries.partition(|entry| is_not_behind(dictionary, to, entry.object()))
            }
        };
        match after {
            Some(after) if descending => range.end = range.end.min(entries.lower(dictionary, after)),
            Some(after) => range.start = range.start.max(entries.upper(dictionary, after)),
            None => {}
        }
        range
    }
}

/// Whether an object lies before a range that begins at `from`.
fn is_before(dictionary: &Dictionary, from: &Edge, object: Term) -> bool {
    match from {
        Edge::Open => false,
        Edge::Value { value, inclusive } => {
            let order = compare_to(dictionary, object, value);
            order.is_lt() || (!inclusive && order.is_eq())
        }
        Edge::Kind(kind) => object.code() < *kind as u8,
        Edge::Prefix(text) => compare_bytes(dictionary, object, STRING, text.as_bytes()).is_lt(),
    }
}

/// Whether an object does not lie behind a range that ends at `to`.
fn is_not_behind(dictionary: &Dictionary, to: &Edge, object: Term) -> bool {
    match to {
        Edge::Open => true,
        Edge::Value { value, inclusive } => {
            let order = compare_to(dictionary, object, value);
            order.is_lt() || (*inclusive && order.is_eq())
        }
        Edge::Kind(kind) => object.code() <= *kind as u8,
        Edge::Prefix(text) => {
            if object.code() != STRING {
                // Strings come first of all types.
                return false;
            }
            let prefix = text.as_bytes();
            let is_in = |bytes: &[u8]| bytes.starts_with(prefix) || bytes < prefix;
            dictionary.with_bytes(object, is_in) == Some(true)
        }
    }
}

fn compare_to(dictionary: &Dictionary, object: Term, value: &Value) -> Ordering {
    match (Term::inline(value), text_of(value)) {
        (_, Some((code, bytes))) => compare_bytes(dictionary, object, code, bytes),
        (Some(term), None) => object.cmp(&term),
        // A reference: all of them are one place here.
        (None, None) => object.code().cmp(&super::term::REF),
    }
}

fn compare_bytes(dictionary: &Dictionary, object: Term, code: u8, bytes: &[u8]) -> Ordering {
    object.code().cmp(&code).then_with(|| {
        let order = dictionary.with_bytes(object, |held| held.cmp(bytes));
        order.unwrap_or(Ordering::Equal)
    })
}
