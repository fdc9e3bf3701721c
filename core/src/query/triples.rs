//! What the engine asks of a store of triples.
//!
//! [`Graph`](crate::graph::Graph) answers from memory. A store on disk answers the same way without being read into
//! memory: nothing here lends what the store holds. A scan is asked for again and again, each time from behind the last
//! entry, so a store keeps no iterator between two calls; names and values become terms when they are handed out, in a
//! dictionary that may live as long as one query (subjects and predicates keep the numbers that the disk has for them,
//! values that stand in index keys are interned as they are met).
//!
//! Reading may fail. So that no comparison needs a `Result`, a store that fails remembers it, answers with nothing from
//! then on, and says so through [`Triples::failure`], which the engine asks between batches.

use std::{cmp::Ordering, sync::Arc};

use super::logic::Kind;
pub use crate::graph::{EntityNumber, Entry, PredicateNumber, Term};
use crate::{id::Predicate, value::Value};

/// How many triples a predicate has. A planner does well with estimates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// All of them.
    pub triples: u64,
    /// How many different subjects they have.
    pub subjects: u64,
    /// How many different objects they have.
    pub objects: u64,
}

/// One end of a range of objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edge {
    /// No end.
    Open,
    /// A value, which is no reference: an index may hold references in an order of its own.
    Value {
        /// The value.
        value: Value,
        /// Whether it belongs to the range.
        inclusive: bool,
    },
    /// All values of the type belong to the range.
    Kind(Kind),
    /// All strings that begin so belong to the range.
    Prefix(Arc<str>),
}

/// Which objects a scan takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objects<'a> {
    /// All.
    All,
    /// One.
    Equal(Term),
    /// Those from one edge to another.
    Between(&'a Edge, &'a Edge),
}

/// Triples of one predicate in the order of their objects. References come after dates and before bytes, and among
/// themselves in the order of their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scan<'a> {
    /// The predicate.
    pub predicate: PredicateNumber,
    /// Which objects.
    pub objects: Objects<'a>,
    /// The greatest first.
    pub descending: bool,
}

/// Why a store could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store cannot be read: {0}")]
pub struct StoreFailure(pub Arc<str>);

/// A store of triples. All answers are of one state, however long a query takes.
pub trait Triples {
    /// The number of a predicate, if any triple ever had it.
    fn predicate_number(&self, predicate: &Predicate) -> Option<PredicateNumber>;

    /// The predicate with a number.
    fn predicate(&self, number: PredicateNumber) -> Predicate;

    /// The term of a predicate's text, if the store has one for it.
    fn predicate_text(&self, number: PredicateNumber) -> Option<Term> {
        self.term(&Value::string(self.predicate(number).as_str()))
    }

    /// All predicates that have triples.
    fn predicates(&self) -> Vec<PredicateNumber>;

    /// The term of a value, if some triple may hold it.
    fn term(&self, value: &Value) -> Option<Term>;

    /// The value of a term.
    fn value(&self, term: Term) -> Value;

    /// Shows the bytes of a text, or of a reference's id. Other terms have none.
    fn bytes(&self, term: Term, show: &mut dyn FnMut(&[u8]));

    /// The order of two terms' values.
    fn compare(&self, a: Term, b: Term) -> Ordering;

    /// Appends the different objects of a cell.
    fn values(&self, subject: EntityNumber, predicate: PredicateNumber, out: &mut Vec<Term>);

    /// Appends the different triples of an entity, those of one predicate together.
    fn fields(&self, subject: EntityNumber, out: &mut Vec<(PredicateNumber, Term)>);

    /// Whether there is such a triple.
    fn contains(&self, subject: EntityNumber, predicate: PredicateNumber, object: Term) -> bool;

    /// Appends at most `max` entries of a scan, those behind `after`. False if there are no more behind them.
    fn scan(&self, scan: &Scan<'_>, after: Option<Entry>, max: usize, out: &mut Vec<Entry>) -> bool;

    /// What there is of a predicate.
    fn statistics(&self, predicate: PredicateNumber) -> Statistics;

    /// How many triples a scan gives, exactly.
    fn count(&self, predicate: PredicateNumber, objects: Objects<'_>) -> u64;

    /// How many triples a scan gives, about.
    fn estimate(&self, predicate: PredicateNumber, objects: Objects<'_>) -> u64 {
        self.count(predicate, objects)
    }

    /// How many entities have a triple whose predicate is of this type, if that is known exactly.
    fn entities_of(&self, entity_type: &str) -> Option<u64>;

    /// Why reading failed, if it did.
    fn failure(&self) -> Option<StoreFailure>;
}
