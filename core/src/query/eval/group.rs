//! Groups and their aggregates.

use hashbrown::HashTable;

use super::{
    batch::Batch,
    context::{Context, EvalError},
    hash::{Tuples, hash},
};
use crate::{
    query::{
        logic::{Aggregate, Expression},
        plan::Column,
        sum::ExactSum,
        triples::{Term, Triples},
    },
    value::Number,
};

/// Up to here a count is exact as a number.
const COUNT_MAX: u64 = 1 << 53;

/// Bindings in groups by the plain columns among some expressions.
#[derive(Debug)]
pub(super) struct Groups<'p> {
    expressions: &'p [Expression],
    keys: Tuples,
    /// For each group, one for each aggregate.
    states: Vec<Vec<State>>,
    aggregates: Vec<Expression>,
}

#[derive(Debug, Clone)]
enum State {
    Count(u64),
    Distinct(HashTable<Term>),
    Numbers(Box<ExactSum>, u64),
    Extreme(Option<Term>),
    All(Vec<Term>),
}

impl State {
    fn new(expression: Expression) -> Self {
        match expression {
            Expression::Aggregate(Aggregate::CountDistinct, _) => Self::Distinct(HashTable::new()),
            Expression::Aggregate(Aggregate::Sum | Aggregate::Avg, _) => Self::Numbers(Box::default(), 0),
            Expression::Aggregate(Aggregate::Min | Aggregate::Max, _) => Self::Extreme(None),
            Expression::Aggregate(Aggregate::Collect, _) => Self::All(Vec::new()),
            Expression::Aggregate(Aggregate::Count, _) | Expression::CountAll | Expression::Var(_) => Self::Count(0),
        }
    }

    /// Takes a value in; how many bytes more it holds. None if it counts more than a number can show.
    fn add<T: Triples + ?Sized>(
        &mut self,
        expression: Expression,
        term: Option<Term>,
        weight: u64,
        cx: &Context<'_, T>,
    ) -> Option<usize> {
        Some(match (self, term) {
            // What is counted and cannot be null has no column.
            (Self::Count(count), term) => {
                if term.is_none_or(|term| !term.is_null()) {
                    *count = count.checked_add(weight).filter(|count| *count <= COUNT_MAX)?;
                }
                0
            }
            (_, None) => 0,
            (_, Some(term)) if term.is_null() => 0,
            (Self::Distinct(seen), Some(term)) => {
                let of = |term: &Term| hash(std::slice::from_ref(term));
                if seen.find(of(&term), |held| *held == term).is_none() {
                    seen.insert_unique(of(&term), term, of);
                    size_of::<Term>()
                } else {
                    0
                }
            }
            (Self::Numbers(sum, count), Some(term)) => {
                if let Some(number) = term.as_number() {
                    sum.add(number);
                    *count += 1;
                }
                0
            }
            (Self::Extreme(held), Some(term)) => {
                let is_max = matches!(expression, Expression::Aggregate(Aggregate::Max, _));
                let wins = held.is_none_or(|held| {
                    let order = cx.compare(term, held);
                    if is_max { order.is_gt() } else { order.is_lt() }
                });
                if wins {
                    *held = Some(term);
                }
                0
            }
            (Self::All(terms), Some(term)) => {
                terms.push(term);
                size_of::<Term>()
            }
        })
    }

    fn finish<T: Triples + ?Sized>(self, expression: Expression, cx: &mut Context<'_, T>) -> Term {
        let number = |number: Option<Number>| number.map_or(Term::NULL, Term::number);
        match self {
            Self::Count(count) => number(number_of(count)),
            Self::Distinct(seen) => number(number_of(seen.len() as u64)),
            Self::Numbers(sum, count) if matches!(expression, Expression::Aggregate(Aggregate::Avg, _)) => {
                number(sum.average(count))
            }
            Self::Numbers(sum, _) => number(sum.get()),
            Self::Extreme(held) => held.unwrap_or(Term::NULL),
            Self::All(mut terms) => {
                terms.sort_by(|a, b| cx.compare(*a, *b));
                cx.list(terms)
            }
        }
    }
}

fn number_of(count: u64) -> Option<Number> {
    #[expect(clippy::cast_precision_loss, reason = "no count is larger than `COUNT_MAX`")]
    let count = count as f64;
    Number::new(count).ok()
}

impl<'p> Groups<'p> {
    pub(super) fn new(expressions: &'p [Expression]) -> Self {
        let plain = expressions
            .iter()
            .filter(|expression| !expression.is_aggregate())
            .count();
        let aggregates: Vec<Expression> = expressions.iter().copied().filter(|one| one.is_aggregate()).collect();
        let mut groups = Self {
            expressions,
            keys: Tuples::new(plain),
            states: Vec::new(),
            aggregates,
        };
        if plain == 0 {
            groups.group(&[]);
        }
        groups
    }

    /// The place of a group, new or not.
    fn group(&mut self, key: &[Term]) -> usize {
        let (group, is_new) = self.keys.insert(key);
        if is_new {
            self.states
                .push(self.aggregates.iter().copied().map(State::new).collect());
        }
        group
    }

    pub(super) fn add<T: Triples + ?Sized>(&mut self, batch: &Batch, cx: &mut Context<'_, T>) -> Result<(), EvalError> {
        let plain: Vec<&[Term]> = self
            .expressions
            .iter()
            .filter(|expression| !expression.is_aggregate())
            .filter_map(|expression| expression.var())
            .map(|var| batch.column(Column(var.0)))
            .collect();
        let inputs: Vec<(Expression, Option<&[Term]>)> = self
            .aggregates
            .iter()
            .map(|expression| {
                let column = expression.var().map(|var| Column(var.0));
                let terms = column
                    .filter(|column| batch.has(*column))
                    .map(|column| batch.column(column));
                (*expression, terms)
            })
            .collect();
        let (before, mut bytes) = (self.states.len(), 0);
        let mut key = Vec::with_capacity(plain.len());
        let mut last: Option<usize> = None;
        for at in 0..batch.len {
            let is_same = last.is_some_and(|group| {
                let held = self.keys.get(group);
                held.iter().zip(&plain).all(|(term, column)| *term == column[at])
            });
            let group = match last {
                Some(group) if is_same => group,
                _ => {
                    key.clear();
                    key.extend(plain.iter().map(|column| column[at]));
                    self.group(&key)
                }
            };
            last = Some(group);
            let weight = batch.weight(at);
            for (state, (expression, terms)) in self.states[group].iter_mut().zip(&inputs) {
                let added = state.add(*expression, terms.map(|terms| terms[at]), weight, cx);
                bytes += added.ok_or(EvalError::CountTooLarge)?;
            }
        }
        let each = self.keys.tuple_bytes() + self.aggregates.len() * size_of::<State>();
        cx.hold(bytes + (self.states.len() - before) * each)
    }

    /// A tuple for each group, in the order of the expressions.
    pub(super) fn finish<T: Triples + ?Sized>(
        self,
        cx: &mut Context<'_, T>,
        mut put: impl FnMut(&[Term], &mut Context<'_, T>) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        let mut tuple = Vec::with_capacity(self.expressions.len());
        for (group, states) in self.states.into_iter().enumerate() {
            let mut key = self.keys.get(group).iter();
            let mut states = states.into_iter();
            tuple.clear();
            for expression in self.expressions {
                let term = if expression.is_aggregate() {
                    let state = states.next().expect("one for each aggregate");
                    state.finish(*expression, cx)
                } else {
                    *key.next().expect("one for each plain column")
                };
                tuple.push(term);
            }
            put(&tuple, cx)?;
        }
        Ok(())
    }
}
