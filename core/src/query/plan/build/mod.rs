//! The planner: from the logical form to steps.

mod clauses;
mod live;

use std::sync::Arc;

use self::live::live;
use super::{
    Column, DefinitionPlan, Pipeline, Plan, RulePlan, SelectPlan,
    estimate::{Estimator, Known, columns},
    order,
    prepare::{Item, Purpose, items, own, read_by, without_implied},
};
use crate::collections::{BTreeMap, BTreeSet};
use crate::{
    id::Predicate,
    limits::needs_all_forms,
    query::{
        logic::{
            Aggregate, Body, Definition, Expression, FieldValue, Filter, Positive, PredicateTerm, Query, Rule, RuleId,
            Select, Shape, Term,
        },
        triples::Triples,
    },
};

/// With more clauses than this the planner tries one start only.
const STARTS_MAX: usize = 8;

/// Plans a query for a store. The plan may run against any store; it is good for those with similar counts.
pub fn plan<T: Triples + ?Sized>(query: Arc<Query>, store: &T) -> Plan {
    plan_from(query, &BTreeSet::new(), store)
}

/// Plans a query whose seed has these columns.
pub(in crate::query) fn plan_from<T: Triples + ?Sized>(query: Arc<Query>, seed: &BTreeSet<Column>, store: &T) -> Plan {
    let mut estimator = Estimator::new(store, vec![1.0; query.rules.len()]);
    let mut rules = vec![
        RulePlan {
            definitions: Vec::new()
        };
        query.rules.len()
    ];
    let mut steps = 0;
    for group in &query.strata {
        needs_all_forms();
        for rule in group {
            let rule_of = &query.rules[rule.0 as usize];
            let bodies: Vec<&Body> = rule_of.definitions.iter().map(|definition| &definition.body).collect();
            estimator.rules[rule.0 as usize] = estimator.guess_rule(&bodies, rule_of.recursive);
        }
        for rule in group {
            rules[rule.0 as usize] = plan_rule(&query.rules[rule.0 as usize], group, &estimator, &mut steps);
        }
    }
    let mut scope = Scope {
        estimator: &estimator,
        width: query.variables.len(),
        steps,
    };
    let select = scope.select(&query.select, seed);
    let steps = scope.steps;
    Plan {
        query,
        rules,
        select,
        steps,
    }
}

fn plan_rule<T: Triples + ?Sized>(
    rule: &Rule,
    group: &[RuleId],
    estimator: &Estimator<'_, T>,
    steps: &mut usize,
) -> RulePlan {
    let plan = |definition: &Definition| {
        let mut scope = Scope {
            estimator,
            width: definition.variables.len(),
            steps: *steps,
        };
        let plan = scope.definition(definition, group);
        *steps = scope.steps;
        plan
    };
    RulePlan {
        definitions: rule.definitions.iter().map(plan).collect(),
    }
}

/// One scope of variables, while it is planned.
pub(super) struct Scope<'a, T: ?Sized> {
    pub(super) estimator: &'a Estimator<'a, T>,
    pub(super) width: usize,
    pub(super) steps: usize,
}

/// A body to plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) body: &'a Body,
    pub(super) seed: &'a BTreeSet<Column>,
    pub(super) keep: &'a BTreeSet<Column>,
    pub(super) purpose: Purpose,
    /// The clause that must come first: of the body's positives.
    pub(super) first: Option<usize>,
}

/// How far the steps have come.
#[derive(Debug, Clone)]
pub(super) struct Progress<'a> {
    pub(super) known: Known,
    filters: Vec<&'a Filter>,
    used: Vec<bool>,
}

impl<T: Triples + ?Sized> Scope<'_, T> {
    fn definition(&mut self, definition: &Definition, group: &[RuleId]) -> DefinitionPlan {
        let is_aggregate = definition.head.iter().any(|expression| expression.is_aggregate());
        let purpose = purpose_of(definition.head.iter().copied());
        let keep = read_by(definition.head.iter().copied(), purpose, &definition.body);
        let seed = BTreeSet::new();
        let task = Task {
            body: &definition.body,
            seed: &seed,
            keep: &keep,
            purpose,
            first: None,
        };
        let full = self.body(task).0;
        let in_group = |positive: &Positive| matches!(positive, Positive::Call { rule, .. } if group.contains(rule));
        let direct: Vec<usize> = (0..definition.body.positives.len())
            .filter(|at| in_group(&definition.body.positives[*at]))
            .collect();
        let all = calls(&definition.body)
            .iter()
            .filter(|rule| group.contains(rule))
            .count();
        let deltas = if all == direct.len() && !is_aggregate {
            direct
                .iter()
                .map(|at| {
                    let first = Some(*at);
                    self.body(Task { first, ..task }).0
                })
                .collect()
        } else {
            Vec::new()
        };
        DefinitionPlan {
            full,
            deltas,
            recursive: all > 0,
        }
    }

    fn select(&mut self, select: &Select, seed: &BTreeSet<Column>) -> SelectPlan {
        let purpose = match &select.shape {
            Shape::Table(columns) => purpose_of(columns.iter().map(|column| column.value)),
            Shape::Entities { .. } => Purpose::Set,
        };
        let keep = match &select.shape {
            Shape::Table(columns) => read_by(columns.iter().map(|column| column.value), purpose, &select.body),
            Shape::Entities { entity, .. } => BTreeSet::from([Column::of(*entity)]),
        };
        let task = Task {
            body: &select.body,
            seed,
            keep: &keep,
            purpose,
            first: None,
        };
        let (pipeline, known) = self.body(task);
        let ordered = order::ordered(self, select, task, &known);
        let includes = match &select.shape {
            Shape::Table(_) => Vec::new(),
            Shape::Entities { entity, fields } => {
                let seed = BTreeSet::from([Column::of(*entity)]);
                let selects = fields.iter().filter_map(|field| match &field.value {
                    FieldValue::Many(select) | FieldValue::First(select) => Some(select),
                    _ => None,
                });
                selects.map(|inner| self.select(inner, &seed)).collect()
            }
        };
        let sure = keep.union(seed).copied().collect();
        SelectPlan {
            distinct: repeats(&select.body, sure),
            pipeline,
            ordered,
            shape: select.shape.clone(),
            order: select.order.clone(),
            after: select.after.clone(),
            limit: select.limit,
            includes,
        }
    }

    /// Plans a body: its steps, and what is known behind them.
    pub(super) fn body(&mut self, task: Task<'_>) -> (Pipeline, Known) {
        let mut all = items(task.body, task.seed, task.keep, task.purpose);
        let first = task.first.map(|at| {
            let mut item = all.remove(at);
            if let Item::Call { gained, .. } = &mut item {
                *gained = true;
            }
            item
        });
        let is_forced = first.is_some();
        let all = without_implied(first.into_iter().chain(all).collect(), is_forced);
        let own = own(task.body);
        let start = Progress {
            known: Known {
                bound: task.seed.iter().map(|column| (*column, 1.0)).collect(),
                rows: 1.0,
                cost: 0.0,
                origins: BTreeMap::new(),
            },
            filters: task.body.filters.iter().collect(),
            used: vec![false; task.body.filters.len()],
        };
        let order = self.best_order(&all, &start, &own, is_forced);
        let mut progress = start;
        let mut steps = Vec::new();
        let visible: BTreeSet<Column> = own.union(task.seed).copied().collect();
        self.decide(&mut progress, &visible, &mut steps);
        for at in order {
            self.emit(&all[at], &mut progress, &mut steps);
            self.decide(&mut progress, &visible, &mut steps);
        }
        for optional in &task.body.optionals {
            self.optional(optional, task, &mut progress, &mut steps);
            self.decide(&mut progress, &visible, &mut steps);
        }
        assert!(
            progress.used.iter().all(|used| *used),
            "every filter has found its place"
        );
        let pipeline = live(steps, task.keep, self.width);
        (pipeline, progress.known)
    }

    fn best_order(&self, items: &[Item<'_>], start: &Progress<'_>, own: &BTreeSet<Column>, forced: bool) -> Vec<usize> {
        let allowed = |at: &usize| is_ready(&items[*at], &start.known);
        let starts: Vec<Option<usize>> = if forced {
            vec![Some(0)]
        } else if items.len() <= STARTS_MAX {
            (0..items.len()).filter(allowed).map(Some).collect()
        } else {
            vec![None]
        };
        let mut best: Option<(f64, Vec<usize>)> = None;
        for first in starts {
            let found = self.greedy(items, start.clone(), own, first);
            if best.as_ref().is_none_or(|(cost, _)| found.0 < *cost) {
                best = Some(found);
            }
        }
        best.map_or_else(Vec::new, |(_, order)| order)
    }

    fn greedy(
        &self,
        items: &[Item<'_>],
        mut progress: Progress<'_>,
        own: &BTreeSet<Column>,
        first: Option<usize>,
    ) -> (f64, Vec<usize>) {
        let mut left: Vec<usize> = (0..items.len()).collect();
        let mut order = Vec::with_capacity(items.len());
        let visible: BTreeSet<Column> = own.iter().copied().chain(columns(&progress.known)).collect();
        self.settle(&mut progress, &visible);
        while !left.is_empty() {
            let filters = progress.open();
            let score = |at: usize| {
                let guess = self.estimator.guess(&items[at], &filters, &progress.known);
                guess.cost + guess.rows
            };
            let ready = left
                .iter()
                .enumerate()
                .filter(|(_, at)| is_ready(&items[**at], &progress.known));
            let next = match first.filter(|_| order.is_empty()) {
                Some(first) => left.iter().position(|at| *at == first),
                None => ready
                    .min_by(|a, b| score(*a.1).total_cmp(&score(*b.1)))
                    .map(|(place, _)| place),
            };
            // Lowering has checked that some `or` can always come next.
            let at = left.remove(next.unwrap_or(0));
            order.push(at);
            self.advance(&items[at], &mut progress);
            self.settle(&mut progress, &visible);
        }
        (progress.known.cost + progress.known.rows, order)
    }

    pub(super) fn mark(&mut self) -> Column {
        self.width += 1;
        Column(u32::try_from(self.width - 1).expect("limits::CLAUSES_MAX bounds the marks"))
    }
}

impl<'a> Progress<'a> {
    fn open_places(&self) -> Vec<usize> {
        (0..self.filters.len()).filter(|at| !self.used[*at]).collect()
    }

    fn open(&self) -> Vec<&'a Filter> {
        self.open_places().into_iter().map(|at| self.filters[at]).collect()
    }
}

fn is_ready(item: &Item<'_>, known: &Known) -> bool {
    match item {
        Item::Or(or) => or.needs.iter().all(|var| known.bound.contains_key(&Column::of(*var))),
        _ => true,
    }
}

/// What aggregates need of the bindings that they take.
fn purpose_of(expressions: impl Iterator<Item = Expression>) -> Purpose {
    let mut purpose = Purpose::Set;
    for expression in expressions {
        match expression {
            Expression::Var(_) => {}
            Expression::Aggregate(Aggregate::Sum | Aggregate::Avg | Aggregate::Collect, _) => return Purpose::Bindings,
            Expression::CountAll | Expression::Aggregate(..) => purpose = Purpose::Counted,
        }
    }
    purpose
}

/// Whether bindings of a body may repeat what is kept of them: not if that determines all the rest, through the
/// predicates in the list as long as each has one object a subject.
fn repeats(body: &Body, mut sure: BTreeSet<Column>) -> Option<Vec<Predicate>> {
    let own = own(body);
    let mut through = Vec::new();
    while !own.is_subset(&sure) {
        let next = body.positives.iter().find_map(|positive| match positive {
            Positive::Triple(pattern) => match (&pattern.subject, &pattern.predicate, &pattern.object) {
                (Term::Var(subject), PredicateTerm::Is(predicate), Term::Var(object)) => {
                    let (subject, object) = (Column::of(*subject), Column::of(*object));
                    (sure.contains(&subject) && !sure.contains(&object)).then(|| (object, predicate.clone()))
                }
                _ => None,
            },
            _ => None,
        });
        let Some((column, predicate)) = next else {
            return Some(Vec::new());
        };
        sure.insert(column);
        through.push(predicate);
    }
    if through.is_empty() { None } else { Some(through) }
}

/// The rules that a body calls, at any depth.
fn calls(body: &Body) -> Vec<RuleId> {
    let mut found = Vec::new();
    for positive in &body.positives {
        match positive {
            Positive::Call { rule, .. } => found.push(*rule),
            Positive::Or(or) => found.extend(or.branches.iter().flat_map(calls)),
            Positive::Triple(_) => {}
        }
    }
    found.extend(body.optionals.iter().flat_map(calls));
    for filter in &body.filters {
        if let Filter::Not(inner) = filter {
            found.extend(calls(inner));
        }
    }
    found
}
