//! The syntax of the Datalog form: `find ?title, count(?c) where ?p post/title ?title; ?c comment/post ?p`.

use std::sync::Arc;

use super::{Literal, Name};
use crate::{
    id::Predicate,
    query::{
        logic::{Aggregate, Comparison, Cursor, Kind, TextTest},
        place::Place,
    },
};

/// A query in the Datalog form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datalog {
    /// `rule under(?a, ?b): …`
    pub rules: Vec<RuleDefinition>,
    /// `find …`
    pub find: Vec<FindItem>,
    /// `where …`
    pub clauses: Vec<Clause>,
    /// `order by …`
    pub order: Vec<FindOrder>,
    /// `limit …`
    pub limit: Option<u32>,
    /// `after (…)`
    pub after: Option<Cursor>,
    /// All of it.
    pub at: Place,
}

/// One definition of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleDefinition {
    /// The rule.
    pub name: Name,
    /// Its columns.
    pub head: Vec<Measure>,
    /// What must hold.
    pub clauses: Vec<Clause>,
}

/// A column of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindItem {
    /// What it holds.
    pub measure: Measure,
    /// `as …`
    pub name: Option<Name>,
}

/// A variable, or an aggregate of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measure {
    /// `?x`
    Var(Name),
    /// `sum(?x)`
    Aggregate {
        /// The function.
        function: Aggregate,
        /// Of which variable.
        var: Name,
    },
    /// `count(*)`
    CountAll(Place),
}

/// A key of the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindOrder {
    /// Which column.
    pub by: FindOrderBy,
    /// `desc`
    pub descending: bool,
}

/// How a key of the order names a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FindOrderBy {
    /// By what it holds.
    Measure(Measure),
    /// By the name that `as` gave it.
    Column(Name),
}

/// A clause and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// What it says.
    pub kind: ClauseKind,
    /// Where.
    pub at: Place,
}

/// What a clause says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClauseKind {
    /// `?p post/title ?t`
    Triple {
        /// The subject.
        subject: Term,
        /// The predicate.
        predicate: PredicatePattern,
        /// The object; [`Term::Any`] where it is left out.
        object: Term,
    },
    /// `under(?a, ?b)`
    Call {
        /// The rule.
        name: Name,
        /// One for each column.
        arguments: Vec<Term>,
    },
    /// `?x > 3`
    Compare {
        /// The left side.
        left: Term,
        /// How.
        comparison: Comparison,
        /// The right side.
        right: Term,
    },
    /// `?x in (1, 2)`
    In {
        /// The variable.
        var: Name,
        /// Those it may be.
        values: Vec<Literal>,
    },
    /// `?x starts "a"`
    Text {
        /// The variable.
        var: Name,
        /// How.
        test: TextTest,
        /// What with.
        text: Arc<str>,
    },
    /// `?x is number`
    Kind {
        /// The variable.
        var: Name,
        /// The type.
        kind: Kind,
    },
    /// `(…) or (…)`
    Or(Vec<Vec<Clause>>),
    /// `not (…)`
    Not(Vec<Clause>),
    /// `optional (…)`
    Optional(Vec<Clause>),
}

/// What stands at a place of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    /// `?x`
    Var(Name),
    /// `"x"`
    Constant(Literal),
    /// `_`
    Any,
}

/// Which predicates a pattern takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PredicatePattern {
    /// `post/title`
    Is(Predicate),
    /// `post/*`
    OfType(Arc<str>),
    /// `*/title`
    OfField(Arc<str>),
    /// `?a`
    Var(Name),
    /// `_`
    Any,
}

impl Measure {
    /// The name of a column that has no `as`: as it is written, without the marks of variables.
    pub fn default_name(&self) -> Arc<str> {
        match self {
            Self::Var(var) => Arc::clone(&var.text),
            Self::Aggregate { function, var } => {
                let distinct = if *function == Aggregate::CountDistinct {
                    "distinct "
                } else {
                    ""
                };
                format!("{}({distinct}{})", function.name(), var.text).into()
            }
            Self::CountAll(_) => "count(*)".into(),
        }
    }

    /// Where it stands.
    pub const fn at(&self) -> &Place {
        match self {
            Self::Var(var) | Self::Aggregate { var, .. } => &var.at,
            Self::CountAll(at) => at,
        }
    }
}
