//! How many bindings a clause gives, and what finding them costs.
//!
//! With `N` triples, `S` subjects and `O` objects of a predicate, and `d` different values in a bound column, a lookup by
//! subject gives N / max(S, d) a binding, by object N / max(O, d), by both the product; constants and ranges are counted
//! in the index. Cost is in lookups: finding a place costs one, each entry read a tenth.

use std::{cell::RefCell, rc::Rc};

use super::{Column, Place, prepare::Item};
use crate::collections::{BTreeMap, BTreeSet};
use crate::{
    query::{
        logic::{Comparison, Filter, Operand, Or, PredicateTerm, RuleId, TextTest},
        triples::{Edge, Objects, PredicateNumber, Triples},
    },
    value::Value,
};

/// What is known behind some steps.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// Bound columns, with how many different values they may have.
    pub(super) bound: BTreeMap<Column, f64>,
    /// How many bindings.
    pub(super) rows: f64,
    /// What it took.
    pub(super) cost: f64,
    /// Where the values of a column come from.
    pub(super) origins: BTreeMap<Column, PredicateNumber>,
}

/// What a clause would do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guess {
    pub(super) rows: f64,
    pub(super) cost: f64,
}

/// Finding a place in an index, against reading one entry behind it.
const SEEK: f64 = 1.0;
const READ: f64 = 0.1;

/// Of a comparison with something unknown.
const SOME: f64 = 0.3;

/// Predicates in whose indexes a constant, or a range, is counted for one pattern.
const PREDICATES_COUNTED_MAX: usize = 64;

/// What a rule is taken to derive where nothing better is known, relative to the triples it may read.
const GROWTH: f64 = 4.0;

/// Statistics of the predicates that a pattern takes, summed.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken {
    numbers: Vec<PredicateNumber>,
    triples: f64,
    subjects: f64,
    objects: f64,
}

/// The predicates that a pattern takes in this store.
pub(super) fn numbers<T: Triples + ?Sized>(store: &T, predicate: &PredicateTerm) -> Vec<PredicateNumber> {
    match predicate {
        PredicateTerm::Is(predicate) => store.predicate_number(predicate).into_iter().collect(),
        wider => {
            let all = store.predicates().into_iter();
            all.filter(|number| wider.takes(&store.predicate(*number))).collect()
        }
    }
}

fn taken<T: Triples + ?Sized>(store: &T, predicate: &PredicateTerm) -> Taken {
    let mut taken = Taken {
        numbers: numbers(store, predicate),
        ..Taken::default()
    };
    for number in &taken.numbers {
        let statistics = store.statistics(*number);
        taken.triples += float(statistics.triples);
        taken.subjects += float(statistics.subjects);
        taken.objects += float(statistics.objects);
    }
    taken
}

#[expect(clippy::cast_precision_loss, reason = "estimates")]
pub(super) const fn float(count: u64) -> f64 {
    count as f64
}

/// The range that comparisons put an object in, and which of the filters it makes needless.
pub(super) fn range_of(filters: &[&Filter], column: Column) -> (Edge, Edge, Vec<usize>) {
    let (mut from, mut to, mut exact) = (Edge::Open, Edge::Open, Vec::new());
    for (at, filter) in filters.iter().enumerate() {
        match filter {
            Filter::Compare {
                left,
                comparison,
                right: Operand::Constant(value),
            } if Column::of(*left) == column => {
                let edge = |inclusive| match value {
                    Value::Ref(_) => Edge::Kind(crate::query::logic::Kind::Ref),
                    value => Edge::Value {
                        value: value.clone(),
                        inclusive,
                    },
                };
                let (side, edge) = match comparison {
                    Comparison::Less => (&mut to, edge(false)),
                    Comparison::AtMost => (&mut to, edge(true)),
                    Comparison::Greater => (&mut from, edge(false)),
                    Comparison::AtLeast => (&mut from, edge(true)),
                    Comparison::Equal | Comparison::NotEqual => continue,
                };
                if *side == Edge::Open {
                    if matches!(edge, Edge::Value { .. }) {
                        exact.push(at);
                    }
                    *side = edge;
                }
            }
            Filter::Kind(var, kind) if Column::of(*var) == column && (&from, &to) == (&Edge::Open, &Edge::Open) => {
                (from, to) = (Edge::Kind(*kind), Edge::Kind(*kind));
                exact.push(at);
            }
            Filter::Text {
                var,
                test: TextTest::StartsWith,
                text,
            } if Column::of(*var) == column && (&from, &to) == (&Edge::Open, &Edge::Open) => {
                (from, to) = (Edge::Prefix(text.clone()), Edge::Prefix(text.clone()));
                exact.push(at);
            }
            _ => {}
        }
    }
    (from, to, exact)
}

/// The values that a filter pins a column to.
pub(super) fn pinned<'a>(filters: &[&'a Filter], column: Column) -> Option<(usize, &'a [Value])> {
    filters.iter().enumerate().find_map(|(at, filter)| match filter {
        Filter::Compare {
            left,
            comparison: Comparison::Equal,
            right: Operand::Constant(value),
        } if Column::of(*left) == column => Some((at, std::slice::from_ref(value))),
        Filter::In(var, values) if Column::of(*var) == column => Some((at, &values[..])),
        _ => None,
    })
}

/// Estimates against one store.
#[derive(Debug)]
pub(super) struct Estimator<'a, T: ?Sized> {
    pub(super) store: &'a T,
    /// Tuples of each rule, about.
    pub(super) rules: Vec<f64>,
    /// What patterns take that do not name their predicate: a tenant may have thousands, and each clause is looked at
    /// again for every place in the order.
    wide: RefCell<Vec<(PredicateTerm, Rc<Taken>)>>,
}

impl<'a, T: Triples + ?Sized> Estimator<'a, T> {
    pub(super) const fn new(store: &'a T, rules: Vec<f64>) -> Self {
        Self {
            store,
            rules,
            wide: RefCell::new(Vec::new()),
        }
    }

    fn taken(&self, predicate: &PredicateTerm) -> Rc<Taken> {
        let predicate = match predicate {
            PredicateTerm::Is(_) => return Rc::new(taken(self.store, predicate)),
            PredicateTerm::Var(_) => &PredicateTerm::Any,
            other => other,
        };
        let mut wide = self.wide.borrow_mut();
        if let Some((_, known)) = wide.iter().find(|(of, _)| of == predicate) {
            return Rc::clone(known);
        }
        let new = Rc::new(taken(self.store, predicate));
        wide.push((predicate.clone(), Rc::clone(&new)));
        new
    }

    /// What placing a clause next would do.
    pub(super) fn guess(&self, item: &Item<'_>, filters: &[&Filter], known: &Known) -> Guess {
        match item {
            Item::Pattern {
                subject,
                predicate,
                object,
            } => self.guess_pattern((subject, predicate, object), filters, known),
            Item::Call {
                rule,
                arguments,
                gained,
            } => self.guess_call((*rule, *gained), arguments, known),
            Item::Or(or) => {
                let free = or
                    .binds
                    .iter()
                    .filter(|var| !known.bound.contains_key(&Column::of(**var)));
                let each = if free.count() == 0 { 0.7 } else { self.guess_or(or) };
                Guess {
                    rows: known.rows * each,
                    cost: known.rows * (2.0 + each),
                }
            }
        }
    }

    fn guess_or(&self, or: &Or) -> f64 {
        use crate::query::logic::Positive;
        let branch = |body: &crate::query::logic::Body| {
            let patterns = body.positives.iter().filter_map(|positive| match positive {
                Positive::Triple(pattern) => Some(self.taken(&pattern.predicate).triples),
                _ => None,
            });
            patterns.fold(f64::INFINITY, f64::min)
        };
        let sum: f64 = or.branches.iter().map(branch).filter(|rows| rows.is_finite()).sum();
        if or.needs.is_empty() {
            sum.max(1.0)
        } else {
            sum.max(1.0).sqrt()
        }
    }

    fn guess_call(&self, (rule, gained): (RuleId, bool), arguments: &[Place], known: &Known) -> Guess {
        let all = if gained { 1.0 } else { self.rules[rule.0 as usize] };
        let is_known = |place: &&Place| match place {
            Place::New(column) => known.bound.contains_key(column),
            Place::Constant(_) => true,
            _ => false,
        };
        let count = arguments.iter().filter(is_known).count();
        let each = match count {
            0 => all,
            n if n == arguments.len() => 0.5,
            _ => all.sqrt().max(1.0),
        };
        let rows = known.rows * each;
        Guess {
            rows,
            cost: known.rows * SEEK + rows * READ,
        }
    }

    fn guess_pattern(
        &self,
        (subject, predicate, object): (&Place, &PredicateTerm, &Place),
        filters: &[&Filter],
        known: &Known,
    ) -> Guess {
        let taken = self.taken(predicate);
        let (n, s, o) = (taken.triples, taken.subjects.max(1.0), taken.objects.max(1.0));
        let side = |place: &Place, values: f64| match place {
            Place::Constant(_) => Some((1.0, 1.0 / values)),
            Place::New(column) => match (known.bound.get(column), pinned(filters, *column)) {
                (Some(different), _) => Some((1.0, 1.0 / values.max(*different))),
                #[expect(clippy::cast_precision_loss, reason = "an estimate")]
                (None, Some((_, pins))) => Some((pins.len() as f64, 1.0 / values)),
                (None, None) => None,
            },
            _ => None,
        };
        let by_subject = side(subject, s);
        let by_object = side(object, o)
            .map(|(times, share)| (times, self.share_of(&taken, object, filters, known).unwrap_or(share)));
        let (times, matches) = match (by_subject, by_object) {
            (Some((times, share)), Some((more, other))) => (times * more, (n * share * other).min(1.0)),
            (Some((times, share)), None) | (None, Some((times, share))) => (times, n * share),
            (None, None) => (1.0, n * self.range_share(&taken, object, filters)),
        };
        let seeks = match (by_subject.is_some(), predicate) {
            (true, _) | (false, PredicateTerm::Is(_)) => 1.0,
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            _ => taken.numbers.len().max(1) as f64,
        };
        let read = known.rows * times * matches;
        let places = [subject, object];
        let is_one = by_subject.is_some() && *object == Place::Any;
        let rows = if is_one {
            read.min(known.rows * times)
        } else if places.contains(&&Place::Counted) && by_subject.is_none() && by_object.is_none() {
            read.min(o)
        } else {
            read
        };
        Guess {
            rows,
            cost: known.rows * times * seeks * SEEK + read * READ,
        }
    }

    /// The share of a predicate's triples that have a constant as their object, counted.
    fn share_of(&self, taken: &Taken, object: &Place, filters: &[&Filter], known: &Known) -> Option<f64> {
        let values = match object {
            Place::Constant(value) => std::slice::from_ref(value),
            Place::New(column) if !known.bound.contains_key(column) => pinned(filters, *column)?.1,
            _ => return None,
        };
        let mut count = 0;
        for value in values.iter().take(16) {
            if let Some(term) = self.store.term(value) {
                count += self.sum(taken, Objects::Equal(term));
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let each = float(count) / values.len().clamp(1, 16) as f64;
        Some(each / taken.triples.max(1.0))
    }

    fn range_share(&self, taken: &Taken, object: &Place, filters: &[&Filter]) -> f64 {
        let Some(column) = object.new_column() else { return 1.0 };
        let (from, to, _) = range_of(filters, column);
        if (&from, &to) == (&Edge::Open, &Edge::Open) {
            return 1.0;
        }
        float(self.sum(taken, Objects::Between(&from, &to))) / taken.triples.max(1.0)
    }

    /// Of very many predicates some are counted.
    fn sum(&self, taken: &Taken, objects: Objects<'_>) -> u64 {
        let looked_at = taken.numbers.iter().take(PREDICATES_COUNTED_MAX);
        let sum: u64 = looked_at.map(|number| self.store.estimate(*number, objects)).sum();
        let of_each = taken.numbers.len().div_ceil(PREDICATES_COUNTED_MAX).max(1);
        sum.saturating_mul(of_each as u64)
    }

    /// Which part of the bindings pass a filter.
    pub(super) fn share_that_pass(&self, filter: &Filter, known: &Known) -> f64 {
        let of_column = |column: Column, objects: &dyn Fn() -> Option<u64>| {
            let origin = known.origins.get(&column)?;
            let all = float(self.store.statistics(*origin).triples).max(1.0);
            Some((float(objects()?) / all).min(1.0))
        };
        match filter {
            Filter::Compare {
                left,
                comparison: Comparison::Equal,
                right: Operand::Constant(value),
            } => {
                let column = Column::of(*left);
                let count = || {
                    let term = self.store.term(value)?;
                    Some(self.store.estimate(*known.origins.get(&column)?, Objects::Equal(term)))
                };
                of_column(column, &count).unwrap_or(0.1)
            }
            Filter::Compare {
                left: var,
                right: Operand::Constant(_),
                ..
            }
            | Filter::Text { var, .. }
            | Filter::Kind(var, _) => {
                let column = Column::of(*var);
                let (from, to, _) = range_of(&[filter], column);
                if (&from, &to) == (&Edge::Open, &Edge::Open) {
                    return SOME;
                }
                let count = || {
                    Some(
                        self.store
                            .estimate(*known.origins.get(&column)?, Objects::Between(&from, &to)),
                    )
                };
                of_column(column, &count).unwrap_or(SOME)
            }
            Filter::In(..) => 0.2,
            Filter::Compare {
                comparison: Comparison::Equal,
                ..
            } => 0.1,
            Filter::Compare { .. } => SOME,
            Filter::Not(_) => 0.5,
        }
    }

    /// Takes a clause as placed: what is known behind it.
    pub(super) fn place(&self, item: &Item<'_>, filters: &[&Filter], known: &mut Known) -> f64 {
        let guess = self.guess(item, filters, known);
        known.cost += guess.cost;
        known.rows = guess.rows;
        let (subject, object) = match item {
            Item::Pattern { subject, object, .. } => (subject.new_column(), object.new_column()),
            _ => (None, None),
        };
        let statistics = match item {
            Item::Pattern { predicate, .. } => Some(self.taken(predicate)),
            _ => None,
        };
        for column in item.columns() {
            let values = match &statistics {
                Some(taken) if Some(column) == subject => taken.subjects,
                Some(taken) if Some(column) == object => taken.objects,
                _ => f64::INFINITY,
            };
            let different = known.bound.get(&column).copied().unwrap_or(f64::INFINITY);
            known.bound.insert(column, different.min(values));
            if let Some(taken) = &statistics
                && let [one] = taken.numbers[..]
                && Some(column) == object
            {
                known.origins.entry(column).or_insert(one);
            }
        }
        known.cap();
        guess.rows
    }

    /// How many tuples a rule may derive, about, from what its bodies read.
    pub(super) fn guess_rule(&self, bodies: &[&crate::query::logic::Body], recursive: bool) -> f64 {
        use crate::query::logic::Positive;
        let mut all = 0.0;
        for body in bodies {
            let mut rows = f64::INFINITY;
            for positive in &body.positives {
                if let Positive::Triple(pattern) = positive {
                    rows = rows.min(self.taken(&pattern.predicate).triples);
                }
            }
            if rows.is_finite() {
                all += rows;
            }
        }
        if recursive { all * GROWTH } else { all }.max(1.0)
    }
}

impl Known {
    /// No column has more different values than there are bindings.
    pub(super) fn cap(&mut self) {
        let rows = self.rows.max(1.0);
        for different in self.bound.values_mut() {
            *different = different.min(rows);
        }
    }
}

/// The columns that are bound.
pub(super) fn columns(known: &Known) -> BTreeSet<Column> {
    known.bound.keys().copied().collect()
}
