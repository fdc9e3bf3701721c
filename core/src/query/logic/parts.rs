//! What the small parts of the logical form mean by themselves: types, comparisons, tests, names.

use super::{
    Aggregate, Comparison, Expression, Filter, Kind, Operand, Positive, PredicateTerm, Term, TextTest, TriplePattern,
    Var,
};
use crate::{id::Predicate, value::Value};

impl Kind {
    /// All, in the order of their codes.
    pub const ALL: [Self; 7] = [
        Self::String,
        Self::Number,
        Self::Boolean,
        Self::Date,
        Self::Ref,
        Self::Bytes,
        Self::Json,
    ];

    /// The type of a value.
    pub const fn of(value: &Value) -> Self {
        match value {
            Value::String(_) => Self::String,
            Value::Number(_) => Self::Number,
            Value::Boolean(_) => Self::Boolean,
            Value::Date(_) => Self::Date,
            Value::Ref(_) => Self::Ref,
            Value::Bytes(_) => Self::Bytes,
            Value::Json(_) => Self::Json,
        }
    }

    /// Its name, as both forms write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Ref => "ref",
            Self::Bytes => "bytes",
            Self::Json => "json",
        }
    }
}

impl Comparison {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Equal,
        Self::NotEqual,
        Self::Less,
        Self::AtMost,
        Self::Greater,
        Self::AtLeast,
    ];

    /// Whether it holds between two values.
    pub fn holds(self, left: &Value, right: &Value) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::AtMost => left <= right,
            Self::Greater => left > right,
            Self::AtLeast => left >= right,
        }
    }

    /// The comparison that says the same with its sides swapped.
    pub const fn flipped(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::AtMost => Self::AtLeast,
            Self::Greater => Self::Less,
            Self::AtLeast => Self::AtMost,
            Self::Equal | Self::NotEqual => self,
        }
    }

    /// As both forms write it.
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
        }
    }
}

impl TextTest {
    /// Whether a value passes.
    pub fn holds(self, value: &Value, text: &str) -> bool {
        match (self, value) {
            (Self::StartsWith, Value::String(string)) => string.starts_with(text),
            (Self::Contains, Value::String(string)) => string.contains(text),
            _ => false,
        }
    }
}

impl Filter {
    /// The one variable that it looks at.
    pub const fn tested(&self) -> Option<Var> {
        match self {
            Self::Compare {
                left,
                right: Operand::Constant(_),
                ..
            } => Some(*left),
            Self::In(var, _) | Self::Text { var, .. } | Self::Kind(var, _) => Some(*var),
            Self::Compare { .. } | Self::Not(_) => None,
        }
    }

    /// Whether the one variable's value passes.
    pub fn passes(&self, value: &Value) -> bool {
        match self {
            Self::Compare {
                comparison,
                right: Operand::Constant(right),
                ..
            } => comparison.holds(value, right),
            Self::In(_, values) => values.binary_search(value).is_ok(),
            Self::Text { test, text, .. } => test.holds(value, text),
            Self::Kind(_, kind) => Kind::of(value) == *kind,
            Self::Compare { .. } | Self::Not(_) => true,
        }
    }
}

impl Aggregate {
    /// Its name, as both forms write it; a distinct count is `count` of `distinct`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Count | Self::CountDistinct => "count",
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::Collect => "collect",
        }
    }
}

impl Positive {
    /// The variables that it binds.
    pub fn binds(&self) -> Vec<Var> {
        match self {
            Self::Triple(pattern) => {
                let predicate = match &pattern.predicate {
                    PredicateTerm::Var(var) => Some(*var),
                    _ => None,
                };
                let terms = [pattern.subject.var(), predicate, pattern.object.var()];
                terms.into_iter().flatten().collect()
            }
            Self::Call { arguments, .. } => arguments.iter().filter_map(Term::var).collect(),
            Self::Or(or) => or.binds.clone(),
        }
    }
}

impl TriplePattern {
    /// Whether another pattern says the same, and needs a triple of its own for it: "is of a type" beside a field of that
    /// type.
    pub fn is_said_by(&self, around: &[Positive]) -> bool {
        let PredicateTerm::OfType(name) = &self.predicate else {
            return false;
        };
        let says_it = |positive: &Positive| match positive {
            Positive::Triple(other) => match &other.predicate {
                PredicateTerm::Is(one) => other.subject == self.subject && one.entity_type() == &**name,
                _ => false,
            },
            Positive::Or(_) | Positive::Call { .. } => false,
        };
        self.object == Term::Any && self.subject != Term::Any && around.iter().any(says_it)
    }
}

impl Term {
    /// The variable, if it is one.
    pub const fn var(&self) -> Option<Var> {
        match self {
            Self::Var(var) => Some(*var),
            Self::Constant(_) | Self::Any => None,
        }
    }
}

impl Expression {
    /// The variable it reads.
    pub const fn var(self) -> Option<Var> {
        match self {
            Self::Var(var) | Self::Aggregate(_, var) => Some(var),
            Self::CountAll => None,
        }
    }

    /// Whether a group keeps each value of what it reads.
    pub const fn holds_values(self) -> bool {
        matches!(
            self,
            Self::Aggregate(
                Aggregate::CountDistinct | Aggregate::Min | Aggregate::Max | Aggregate::Collect,
                _
            )
        )
    }

    /// Whether it gathers all values into one row.
    pub const fn gathers(self) -> bool {
        matches!(self, Self::Aggregate(Aggregate::Collect, _))
    }

    /// Whether it needs a group.
    pub const fn is_aggregate(self) -> bool {
        !matches!(self, Self::Var(_))
    }
}

impl PredicateTerm {
    /// Whether a predicate is among those it takes. A variable takes any.
    pub fn takes(&self, predicate: &Predicate) -> bool {
        match self {
            Self::Is(one) => one == predicate,
            Self::OfType(entity_type) => predicate.entity_type() == &**entity_type,
            Self::OfField(field) => predicate.field() == &**field,
            Self::Var(_) | Self::Any => true,
        }
    }
}
