//! A body made ready: places that need not be told apart, clauses that others imply.

use super::{Column, Place};
use crate::collections::{BTreeMap, BTreeSet};
use crate::query::logic::{
    Aggregate, Body, Expression, Filter, Operand, Or, Positive, PredicateTerm, RuleId, Term, Var,
};

/// What the bindings of a body are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Only the set of what is kept of them: a variable that is used once and not kept is not told apart.
    Set,
    /// Each of them, as an aggregate takes them.
    Bindings,
    /// How many there are for what is kept: a variable that is used once and not kept is only counted.
    Counted,
}

/// A clause to place among the steps. Places that a variable stands for are [`Place::New`], bound or not.
#[derive(Debug, Clone)]
pub(super) enum Item<'a> {
    Pattern {
        subject: Place,
        predicate: &'a PredicateTerm,
        object: Place,
    },
    Call {
        rule: RuleId,
        arguments: Vec<Place>,
        /// Over what the rule gained in the last round.
        gained: bool,
    },
    Or(&'a Or),
}

impl Column {
    pub(super) const fn of(var: Var) -> Self {
        Self(var.0)
    }
}

impl Item<'_> {
    /// The columns that it binds or needs, but for what is local to an `or`.
    pub(super) fn columns(&self) -> BTreeSet<Column> {
        match self {
            Self::Pattern {
                subject,
                predicate,
                object,
            } => {
                let named = match predicate {
                    PredicateTerm::Var(var) => Some(Column::of(*var)),
                    _ => None,
                };
                [subject, object]
                    .into_iter()
                    .filter_map(Place::new_column)
                    .chain(named)
                    .collect()
            }
            Self::Call { arguments, .. } => arguments.iter().filter_map(Place::new_column).collect(),
            Self::Or(or) => or.binds.iter().copied().map(Column::of).collect(),
        }
    }
}

/// The clauses of a body that bind variables.
pub(super) fn items<'a>(
    body: &'a Body,
    seed: &BTreeSet<Column>,
    keep: &BTreeSet<Column>,
    purpose: Purpose,
) -> Vec<Item<'a>> {
    let mut uses = BTreeMap::new();
    count_body(body, &mut uses);
    let is_single =
        |column: Column| uses.get(&column) == Some(&1) && !seed.contains(&column) && !keep.contains(&column);
    let place = |term: &Term| match term {
        Term::Any => Place::Any,
        Term::Constant(value) => Place::Constant(value.clone()),
        Term::Var(var) => match purpose {
            Purpose::Set if is_single(Column::of(*var)) => Place::Any,
            Purpose::Counted if is_single(Column::of(*var)) => Place::Counted,
            _ => Place::New(Column::of(*var)),
        },
    };
    let column = |term: &Term| match term {
        Term::Var(var) => Place::New(Column::of(*var)),
        _ => Place::Any,
    };
    let items = body.positives.iter().map(|positive| match positive {
        Positive::Triple(pattern) => {
            let (mut subject, mut object) = (place(&pattern.subject), place(&pattern.object));
            let is_one = matches!(pattern.predicate, PredicateTerm::Is(_) | PredicateTerm::Var(_));
            let is_mixed = subject == Place::Any || object == Place::Any;
            if subject == Place::Counted && (is_mixed || !is_one) {
                subject = column(&pattern.subject);
            }
            if object == Place::Counted && (is_mixed || !is_one) {
                object = column(&pattern.object);
            }
            Item::Pattern {
                subject,
                predicate: &pattern.predicate,
                object,
            }
        }
        Positive::Call { rule, arguments } => {
            let argument = |term: &Term| match place(term) {
                Place::Counted => column(term),
                place => place,
            };
            Item::Call {
                rule: *rule,
                arguments: arguments.iter().map(argument).collect(),
                gained: false,
            }
        }
        Positive::Or(or) => Item::Or(or),
    });
    items.collect()
}

/// Leaves out what the others imply. The first stays where two say the same, and if it must.
pub(super) fn without_implied(items: Vec<Item<'_>>, first_stays: bool) -> Vec<Item<'_>> {
    let mut kept: Vec<Item<'_>> = Vec::with_capacity(items.len());
    let all = items.clone();
    for (at, item) in items.into_iter().enumerate() {
        let is_implied = all.iter().enumerate().any(|(other_at, other)| {
            other_at != at && implies(other, &item) && (other_at < at || !implies(&item, other))
        });
        if !is_implied || (first_stays && at == 0) {
            kept.push(item);
        }
    }
    kept
}

/// Whether whatever matches `a` matches `b`.
fn implies(a: &Item<'_>, b: &Item<'_>) -> bool {
    let (
        Item::Pattern {
            subject,
            predicate,
            object,
        },
        Item::Pattern {
            subject: other_subject,
            predicate: other_predicate,
            object: other_object,
        },
    ) = (a, b)
    else {
        return false;
    };
    let covers = |place: &Place, by: &Place| *place == Place::Any || (*place == *by && *place != Place::Counted);
    let is_wider = match (predicate, other_predicate) {
        (PredicateTerm::Var(one), PredicateTerm::Var(other)) => one == other,
        (_, PredicateTerm::Var(_)) => false,
        (_, PredicateTerm::Any) => true,
        (PredicateTerm::Is(one), wider) => wider.takes(one),
        (one, other) => one == other,
    };
    is_wider && covers(other_subject, subject) && covers(other_object, object)
}

fn count_body(body: &Body, uses: &mut BTreeMap<Column, usize>) {
    for positive in &body.positives {
        match positive {
            Positive::Triple(pattern) => {
                count_term(&pattern.subject, uses);
                count_term(&pattern.object, uses);
                if let PredicateTerm::Var(var) = &pattern.predicate {
                    count_var(*var, uses);
                }
            }
            Positive::Call { arguments, .. } => arguments.iter().for_each(|term| count_term(term, uses)),
            Positive::Or(or) => {
                // What an `or` shares with others is never single.
                or.binds.iter().chain(&or.needs).for_each(|var| count_var(*var, uses));
                or.branches.iter().for_each(|branch| count_body(branch, uses));
            }
        }
    }
    body.optionals.iter().for_each(|optional| count_body(optional, uses));
    for filter in &body.filters {
        match filter {
            Filter::Not(inner) => count_body(inner, uses),
            filter => filter_vars(filter).into_iter().for_each(|var| count_var(var, uses)),
        }
    }
}

fn count_term(term: &Term, uses: &mut BTreeMap<Column, usize>) {
    if let Term::Var(var) = term {
        count_var(*var, uses);
    }
}

fn count_var(var: Var, uses: &mut BTreeMap<Column, usize>) {
    *uses.entry(Column::of(var)).or_default() += 1;
}

/// The variables of a filter that is no `not`.
pub(super) fn filter_vars(filter: &Filter) -> Vec<Var> {
    match filter {
        Filter::Compare { left, right, .. } => match right {
            Operand::Var(right) => vec![*left, *right],
            Operand::Constant(_) => vec![*left],
        },
        Filter::In(var, _) | Filter::Text { var, .. } | Filter::Kind(var, _) => vec![*var],
        Filter::Not(_) => Vec::new(),
    }
}

/// All variables that a body mentions, at any depth.
pub(super) fn mentioned(body: &Body) -> BTreeSet<Column> {
    let mut uses = BTreeMap::new();
    count_body(body, &mut uses);
    uses.into_keys().collect()
}

/// What positives bind.
pub(super) fn bound_by(positives: &[Positive]) -> BTreeSet<Column> {
    let mut bound = BTreeSet::new();
    let mut term = |term: &Term| {
        if let Term::Var(var) = term {
            bound.insert(Column::of(*var));
        }
    };
    for positive in positives {
        match positive {
            Positive::Triple(pattern) => {
                term(&pattern.subject);
                term(&pattern.object);
                if let PredicateTerm::Var(var) = &pattern.predicate {
                    term(&Term::Var(*var));
                }
            }
            Positive::Call { arguments, .. } => arguments.iter().for_each(&mut term),
            Positive::Or(or) => or.binds.iter().for_each(|var| term(&Term::Var(*var))),
        }
    }
    bound
}

/// What a body itself binds, optionals included.
pub(super) fn own(body: &Body) -> BTreeSet<Column> {
    let optionals = body.optionals.iter().flat_map(own);
    bound_by(&body.positives).into_iter().chain(optionals).collect()
}

/// The columns that expressions read, but for those that are only counted and never null.
pub(super) fn read_by(
    expressions: impl Iterator<Item = Expression>,
    purpose: Purpose,
    body: &Body,
) -> BTreeSet<Column> {
    let sure = bound_by(&body.positives);
    expressions
        .filter(|expression| match expression {
            Expression::Aggregate(Aggregate::Count, var) => {
                purpose != Purpose::Counted || !sure.contains(&Column::of(*var))
            }
            _ => true,
        })
        .filter_map(Expression::var)
        .map(Column::of)
        .collect()
}
