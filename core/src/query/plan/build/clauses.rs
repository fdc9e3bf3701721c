//! Placing clauses: the steps that one becomes, and the filters that can be decided behind it.

use super::{Progress, Scope, Task};
use crate::collections::BTreeSet;
use crate::{
    query::{
        logic::{Body, Filter, Operand, PredicateTerm},
        plan::{
            Column, Lookup, Place, Predicates, Side, Step, StepKind, Test,
            estimate::{columns, pinned, range_of},
            prepare::{Item, Purpose, filter_vars, mentioned, own},
        },
        triples::{Edge, Triples},
    },
    value::Value,
};

/// What placing a clause brings with it.
pub(super) struct Placed {
    pins: Vec<(Column, Vec<Value>)>,
    range: Option<(Edge, Edge)>,
}

/// A filter that is decided.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    Test(usize),
    Not(usize),
}

impl<T: Triples + ?Sized> Scope<'_, T> {
    /// Places a clause: the filters that it takes with it.
    pub(super) fn advance(&self, item: &Item<'_>, progress: &mut Progress<'_>) -> Placed {
        let filters = progress.open();
        let mut placed = Placed {
            pins: Vec::new(),
            range: None,
        };
        let mut taken = Vec::new();
        if let Item::Pattern { subject, object, .. } = item {
            let free = |place: &Place| {
                place
                    .new_column()
                    .filter(|column| !progress.known.bound.contains_key(column))
            };
            for column in [free(subject), free(object)].into_iter().flatten() {
                if let Some((at, values)) = pinned(&filters, column)
                    && placed.pins.iter().all(|(pinned, _)| *pinned != column)
                {
                    taken.push(at);
                    placed.pins.push((column, values.to_vec()));
                }
            }
            let is_pinned = |column: Column| placed.pins.iter().any(|(pinned, _)| *pinned == column);
            let subject_known = match subject {
                Place::New(column) => progress.known.bound.contains_key(column) || is_pinned(*column),
                place => place.is_known(),
            };
            if !subject_known
                && let Some(column) = free(object)
                && !is_pinned(column)
                && subject.new_column() != Some(column)
            {
                let (from, to, exact) = range_of(&filters, column);
                taken.extend(exact);
                if (&from, &to) != (&Edge::Open, &Edge::Open) {
                    placed.range = Some((from, to));
                }
            }
        }
        self.estimator.place(item, &filters, &mut progress.known);
        let open = progress.open_places();
        for at in taken {
            progress.used[open[at]] = true;
        }
        placed
    }

    /// Which filters can be decided now, and what they leave.
    pub(super) fn settle(&self, progress: &mut Progress<'_>, visible: &BTreeSet<Column>) -> Vec<Action> {
        let mut actions = Vec::new();
        loop {
            let before = actions.len();
            for at in 0..progress.filters.len() {
                if progress.used[at] {
                    continue;
                }
                let filter = progress.filters[at];
                let is_bound = |column: &Column| progress.known.bound.contains_key(column);
                let action = match filter {
                    Filter::Not(inner) => {
                        let shared = mentioned(inner);
                        let ready = shared.intersection(visible).all(is_bound);
                        ready.then_some(Action::Not(at))
                    }
                    filter => filter_vars(filter)
                        .into_iter()
                        .all(|var| is_bound(&Column::of(var)))
                        .then_some(Action::Test(at)),
                };
                if let Some(action) = action {
                    progress.used[at] = true;
                    progress.known.rows *= self.estimator.share_that_pass(filter, &progress.known);
                    actions.push(action);
                }
            }
            if actions.len() == before {
                break;
            }
        }
        progress.known.cap();
        actions
    }

    /// The same, with the steps for it.
    pub(super) fn decide(&mut self, progress: &mut Progress<'_>, visible: &BTreeSet<Column>, steps: &mut Vec<Step>) {
        let mut actions = self.settle(progress, visible);
        // What needs only what is at hand comes before what looks something up.
        actions.sort_by_key(|action| matches!(action, Action::Not(_)));
        let mut tests = Vec::new();
        for action in &actions {
            if let Action::Test(at) = action {
                tests.push(test_of(progress.filters[*at]));
            }
        }
        let rows = progress.known.rows;
        if !tests.is_empty() {
            self.push(StepKind::Filter(tests), rows, steps);
        }
        for action in actions {
            if let Action::Not(at) = action
                && let Filter::Not(inner) = progress.filters[at]
            {
                let mark = self.mark();
                let seed: BTreeSet<Column> = columns(&progress.known).into_iter().chain([mark]).collect();
                let task = Task {
                    body: inner,
                    seed: &seed,
                    keep: &BTreeSet::from([mark]),
                    purpose: Purpose::Set,
                    first: None,
                };
                let inner = self.body(task).0;
                self.push(StepKind::Not { mark, inner }, rows, steps);
            }
        }
    }

    pub(super) fn emit(&mut self, item: &Item<'_>, progress: &mut Progress<'_>, steps: &mut Vec<Step>) {
        let bound = columns(&progress.known);
        let placed = self.advance(item, progress);
        let rows = progress.known.rows;
        let pinned: BTreeSet<Column> = placed.pins.iter().map(|(column, _)| *column).collect();
        for (column, values) in placed.pins {
            self.push(StepKind::Constants { column, values }, rows, steps);
        }
        let mut seen = BTreeSet::new();
        let mut place = |place: &Place| match place {
            Place::New(column) if bound.contains(column) || pinned.contains(column) => Place::Bound(*column),
            Place::New(column) if !seen.insert(*column) => Place::Again(*column),
            place => place.clone(),
        };
        let kind = match item {
            Item::Pattern {
                subject,
                predicate,
                object,
            } => {
                let subject = place(subject);
                let predicate = predicates_of(predicate, &mut place);
                StepKind::Lookup(Lookup {
                    subject,
                    predicate,
                    object: place(object),
                    range: placed.range,
                    descending: false,
                })
            }
            Item::Call {
                rule,
                arguments,
                gained,
            } => {
                let (rule, arguments) = (*rule, arguments.iter().map(place).collect());
                if *gained {
                    StepKind::Gained { rule, arguments }
                } else {
                    StepKind::Call { rule, arguments }
                }
            }
            Item::Or(or) => {
                let mark = self.mark();
                let seed: BTreeSet<Column> = bound.iter().copied().chain([mark]).collect();
                let binds: Vec<Column> = or
                    .binds
                    .iter()
                    .map(|var| Column::of(*var))
                    .filter(|column| !bound.contains(column))
                    .collect();
                let keep: BTreeSet<Column> = binds.iter().copied().chain([mark]).collect();
                let branch = |body| {
                    let task = Task {
                        body,
                        seed: &seed,
                        keep: &keep,
                        purpose: Purpose::Set,
                        first: None,
                    };
                    self.body(task).0
                };
                let branches = or.branches.iter().map(branch).collect();
                StepKind::Or { mark, branches, binds }
            }
        };
        self.push(kind, rows, steps);
    }

    pub(super) fn optional(&mut self, body: &Body, task: Task<'_>, progress: &mut Progress<'_>, steps: &mut Vec<Step>) {
        let mark = self.mark();
        let bound = columns(&progress.known);
        let seed: BTreeSet<Column> = bound.iter().copied().chain([mark]).collect();
        let binds: Vec<Column> = own(body).into_iter().filter(|column| !bound.contains(column)).collect();
        let keep: BTreeSet<Column> = binds.iter().copied().chain([mark]).collect();
        let inner_task = Task {
            body,
            seed: &seed,
            keep: &keep,
            purpose: Purpose::Bindings,
            first: None,
        };
        let (inner, known) = self.body(inner_task);
        debug_assert!(task.body.optionals.iter().any(|one| std::ptr::eq(one, body)));
        progress.known.cost += progress.known.rows * known.cost;
        progress.known.rows *= known.rows.max(1.0);
        for column in &binds {
            progress.known.bound.insert(*column, progress.known.rows);
        }
        let rows = progress.known.rows;
        self.push(StepKind::Optional { mark, inner, binds }, rows, steps);
    }

    pub(super) fn push(&mut self, kind: StepKind, estimate: f64, steps: &mut Vec<Step>) {
        steps.push(Step {
            kind,
            keep: Vec::new(),
            estimate,
            number: self.steps,
        });
        self.steps += 1;
    }
}

fn test_of(filter: &Filter) -> Test {
    match filter {
        Filter::Compare {
            left,
            comparison,
            right,
        } => {
            let side = match right {
                Operand::Var(var) => Side::Column(Column::of(*var)),
                Operand::Constant(value) => Side::Constant(value.clone()),
            };
            Test::Compare(Column::of(*left), *comparison, side)
        }
        Filter::In(var, values) => Test::In(Column::of(*var), values.clone()),
        Filter::Text { var, test, text } => Test::Text(Column::of(*var), *test, text.clone()),
        Filter::Kind(var, kind) => Test::Kind(Column::of(*var), *kind),
        Filter::Not(_) => unreachable!("a `not` is a step of its own"),
    }
}

fn predicates_of(predicate: &PredicateTerm, place: &mut impl FnMut(&Place) -> Place) -> Predicates {
    match predicate {
        PredicateTerm::Is(one) => Predicates::Is(one.clone()),
        PredicateTerm::OfType(name) => Predicates::OfType(name.clone()),
        PredicateTerm::OfField(name) => Predicates::OfField(name.clone()),
        PredicateTerm::Any => Predicates::Any,
        PredicateTerm::Var(var) => Predicates::Named(place(&Place::New(Column::of(*var)))),
    }
}
