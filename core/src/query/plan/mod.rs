//! Plans: how a query is answered, as steps over batches of bindings.
//!
//! A [`Pipeline`] is a chain of steps. Each takes the bindings that the one before it gives and extends, cuts or keeps
//! them; the first takes a seed: one empty binding, or the bindings around an `or`, a `not`, an `optional` or an include.
//! A binding is a tuple of terms with a multiplicity, so every step is a function between multisets of tuples: lookups
//! are joins, `not` is an anti-join, `or` a union; maintaining each under changes is known ground. Two promises hold
//! between any two steps:
//!
//! - a binding of the query's own variables comes once. What would repeat it (a place that is not told apart, branches
//!   that overlap) is cut where it arises, so no step needs to look at all that came before it;
//! - where a variable is only counted, bindings that differ in nothing else may come as one with a multiplicity.
//!
//! Columns are numbered like the scope's variables; a step keeps only the columns that are read behind it.
//!
//! The planner ([`build`]) orders the clauses of a body by estimated cost, from exact counts where a store has them: see
//! Selinger et al., "Access Path Selection in a Relational Database Management System" (1979), for the estimates. It
//! tries every start and goes on greedily. Lookups are index nested loop joins; with a compound index by value and
//! entities in one place each, a hash join over triples would read more than it saves. Relations that rules derive are
//! joined by hash.

mod build;
mod estimate;
mod explain;
mod order;
mod prepare;

use std::sync::Arc;

pub use build::plan;
pub(in crate::query) use build::plan_from;
pub use explain::Counters;

use super::{
    logic::{Comparison, Kind, OrderKey, Query, RuleId, Shape, TextTest},
    triples::Edge,
};
use crate::{id::Predicate, query::logic::Cursor, value::Value};

/// A column of a batch: a variable of the scope, or a mark of which binding around a nested pipeline a tuple is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Column(pub u32);

/// A plan. It belongs to a query, not to a store: names are looked up when it runs, so it may be kept and run again.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(crate) query: Arc<Query>,
    /// By rule.
    pub(crate) rules: Vec<RulePlan>,
    pub(crate) select: SelectPlan,
    /// How many steps there are in all; each has a number below.
    pub(crate) steps: usize,
}

/// How the tuples of a rule are derived.
#[derive(Debug, Clone)]
pub(crate) struct RulePlan {
    pub(crate) definitions: Vec<DefinitionPlan>,
}

/// How one definition's tuples are derived.
#[derive(Debug, Clone)]
pub(crate) struct DefinitionPlan {
    /// Over all there is.
    pub(crate) full: Pipeline,
    /// For each call of a rule of the same group: over what that rule gained in the last round. Empty where such calls
    /// stand inside an `or`; then every round runs `full`.
    pub(crate) deltas: Vec<Pipeline>,
    /// Whether it calls a rule of its own group.
    pub(crate) recursive: bool,
}

/// How a select is answered.
#[derive(Debug, Clone)]
pub(crate) struct SelectPlan {
    pub(crate) pipeline: Pipeline,
    /// Gives the same bindings in the order of the first order key, if that pays: see [`order`].
    pub(crate) ordered: Option<OrderedPlan>,
    pub(crate) shape: Shape,
    pub(crate) order: Vec<OrderKey>,
    pub(crate) after: Option<Cursor>,
    pub(crate) limit: Option<u32>,
    /// Of the includes, in the order of the shape's fields that hold selects.
    pub(crate) includes: Vec<SelectPlan>,
    /// Whether bindings may repeat a tuple of the answer: unless each of these predicates has one object a subject.
    pub(crate) distinct: Option<Vec<Predicate>>,
}

/// A pipeline whose bindings come in the order of one column.
#[derive(Debug, Clone)]
pub(crate) struct OrderedPlan {
    pub(crate) pipeline: Pipeline,
    /// The order key's value.
    pub(crate) column: Column,
    /// Whether rows without a value come behind all others and must be looked for when the scan ends early.
    pub(crate) nulls_last: bool,
    /// If every entity has a value only while these counts agree: the predicate and its type.
    pub(crate) if_all_have: Option<Predicate>,
}

/// A chain of steps.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pipeline {
    pub(crate) steps: Vec<Step>,
    /// Columns of its batches.
    pub(crate) width: usize,
    /// The columns that its seed has.
    pub(crate) seed: Vec<Column>,
}

/// One step.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) kind: StepKind,
    /// The columns that its batches have.
    pub(crate) keep: Vec<Column>,
    /// How many bindings it gives, about.
    pub(crate) estimate: f64,
    /// Its place among the counters.
    pub(crate) number: usize,
}

/// What a step does.
#[derive(Debug, Clone)]
pub(crate) enum StepKind {
    /// Every binding with each of these values.
    Constants { column: Column, values: Vec<Value> },
    /// Every binding with each triple that matches.
    Lookup(Lookup),
    /// Every binding with each tuple of a rule that matches.
    Call { rule: RuleId, arguments: Vec<Place> },
    /// The tuples that a rule gained in the last round.
    Gained { rule: RuleId, arguments: Vec<Place> },
    /// Every binding with what any branch adds to it.
    Or {
        mark: Column,
        branches: Vec<Pipeline>,
        binds: Vec<Column>,
    },
    /// Every binding with what the inner pipeline adds, or nulls.
    Optional {
        mark: Column,
        inner: Pipeline,
        binds: Vec<Column>,
    },
    /// The bindings for which the inner pipeline gives nothing.
    Not { mark: Column, inner: Pipeline },
    /// The bindings that pass all tests.
    Filter(Vec<Test>),
}

/// A pattern, with what is known of its places when the step runs.
#[derive(Debug, Clone)]
pub(crate) struct Lookup {
    pub(crate) subject: Place,
    pub(crate) predicate: Predicates,
    pub(crate) object: Place,
    /// Where the subject is not known: the objects that a scan takes.
    pub(crate) range: Option<(Edge, Edge)>,
    /// A scan's direction.
    pub(crate) descending: bool,
}

/// What is known of a place when a step runs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Place {
    /// It is in this column.
    Bound(Column),
    /// It goes into this column.
    New(Column),
    /// It equals what another place of this step puts into this column.
    Again(Column),
    /// This value.
    Constant(Value),
    /// Anything, and it does not tell bindings apart.
    Any,
    /// Anything, and each is counted.
    Counted,
}

/// The predicates of a pattern.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Predicates {
    Is(Predicate),
    OfType(Arc<str>),
    OfField(Arc<str>),
    Any,
    /// A variable's, which is [`Place::Bound`], [`Place::New`] or [`Place::Again`].
    Named(Place),
}

/// A test of one binding.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    Compare(Column, Comparison, Side),
    In(Column, Vec<Value>),
    Text(Column, TextTest, Arc<str>),
    Kind(Column, Kind),
}

/// The right side of a comparison.
#[derive(Debug, Clone)]
pub(crate) enum Side {
    Column(Column),
    Constant(Value),
}

impl Plan {
    /// The query that it answers.
    pub fn query(&self) -> &Query {
        &self.query
    }
}

impl Place {
    /// The column it reads.
    pub(crate) const fn bound(&self) -> Option<Column> {
        match self {
            Self::Bound(column) => Some(*column),
            _ => None,
        }
    }

    /// The column it writes.
    pub(crate) const fn new_column(&self) -> Option<Column> {
        match self {
            Self::New(column) => Some(*column),
            _ => None,
        }
    }

    /// Whether its value is known before the step looks.
    pub(crate) const fn is_known(&self) -> bool {
        matches!(self, Self::Bound(_) | Self::Constant(_))
    }
}

impl Predicates {
    /// The place of its variable.
    pub(crate) const fn place(&self) -> Option<&Place> {
        match self {
            Self::Named(place) => Some(place),
            _ => None,
        }
    }
}
