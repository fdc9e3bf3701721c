//! What a plan does, for people and for tools: each step, the index it reads, how many bindings were expected and came.

use std::fmt::Write;

use serde_json::{Value as JsonValue, json};

use super::{Lookup, Pipeline, Place, Plan, Predicates, SelectPlan, Side, Step, StepKind, Test};
use crate::query::{
    logic::{FieldValue, Shape},
    triples::Edge,
};

/// What an evaluation took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bindings that each step gave, by the step's number.
    pub steps: Vec<u64>,
    /// Entries read and bindings made.
    pub fuel: u64,
    /// Bytes that were held.
    pub bytes: usize,
}

/// A line of an explanation.
struct Line {
    depth: usize,
    text: String,
    index: Option<&'static str>,
    step: Option<(f64, usize)>,
}

impl Plan {
    /// The plan as indented text; with counters, beside each estimate what came.
    pub fn explain(&self, counters: Option<&Counters>) -> String {
        let mut out = String::new();
        for line in self.lines() {
            let _ = write!(out, "{}{}", "  ".repeat(line.depth), line.text);
            if let Some(index) = line.index {
                let _ = write!(out, "  by {index}");
            }
            if let Some((estimate, number)) = line.step {
                let _ = write!(out, "  ~{estimate:.0}");
                if let Some(count) = counters.and_then(|counters| counters.steps.get(number)) {
                    let _ = write!(out, " = {count}");
                }
            }
            out.push('\n');
        }
        if let Some(counters) = counters {
            let _ = writeln!(out, "{} steps, {} bytes held", counters.fuel, counters.bytes);
        }
        out
    }

    /// The same as JSON: a list of steps, each with its depth.
    pub fn explain_json(&self, counters: Option<&Counters>) -> JsonValue {
        let steps = self.lines().into_iter().map(|line| {
            let mut step = json!({ "depth": line.depth, "what": line.text });
            if let Some(index) = line.index {
                step["index"] = index.into();
            }
            if let Some((estimate, number)) = line.step {
                step["estimate"] = json!(estimate.round());
                if let Some(count) = counters.and_then(|counters| counters.steps.get(number)) {
                    step["actual"] = (*count).into();
                }
            }
            step
        });
        let mut explained = json!({ "steps": steps.collect::<Vec<_>>() });
        if let Some(counters) = counters {
            explained["fuel"] = counters.fuel.into();
            explained["bytes"] = counters.bytes.into();
        }
        explained
    }

    fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for (rule, plan) in self.query.rules.iter().zip(&self.rules) {
            for (definition, plan) in rule.definitions.iter().zip(&plan.definitions) {
                let again = if plan.recursive { ", until nothing is new" } else { "" };
                lines.push(Line::title(0, format!("rule {}{again}", rule.name)));
                pipeline(&plan.full, &definition.variables, 1, &mut lines);
                for delta in &plan.deltas {
                    lines.push(Line::title(1, "with what was gained".to_owned()));
                    pipeline(delta, &definition.variables, 2, &mut lines);
                }
            }
        }
        select(&self.select, &self.query.variables, 0, &mut lines);
        lines
    }
}

impl Line {
    const fn title(depth: usize, text: String) -> Self {
        Self {
            depth,
            text,
            index: None,
            step: None,
        }
    }
}

type Names = [std::sync::Arc<str>];

fn select(plan: &SelectPlan, names: &Names, depth: usize, lines: &mut Vec<Line>) {
    if let Some(ordered) = &plan.ordered {
        let until = plan
            .limit
            .map_or(String::new(), |limit| format!(", until {limit} are found"));
        lines.push(Line::title(depth, format!("in order{until}")));
        pipeline(&ordered.pipeline, names, depth + 1, lines);
        if ordered.nulls_last || ordered.if_all_have.is_some() {
            lines.push(Line::title(depth, "or, where values are missing".to_owned()));
            pipeline(&plan.pipeline, names, depth + 1, lines);
        }
    } else {
        pipeline(&plan.pipeline, names, depth, lines);
    }
    match &plan.shape {
        Shape::Table(columns) => {
            if columns.iter().any(|column| column.value.is_aggregate()) {
                lines.push(Line::title(depth, "group".to_owned()));
            }
        }
        Shape::Entities { fields, .. } => {
            let includes = fields
                .iter()
                .filter(|field| matches!(field.value, FieldValue::Many(_) | FieldValue::First(_)));
            for (field, include) in includes.zip(&plan.includes) {
                lines.push(Line::title(depth, format!("include {}, for each", field.name)));
                select(include, names, depth + 1, lines);
            }
        }
    }
}

fn pipeline(plan: &Pipeline, names: &Names, depth: usize, lines: &mut Vec<Line>) {
    for step in &plan.steps {
        let (text, index) = describe(step, names);
        lines.push(Line {
            depth,
            text,
            index,
            step: Some((step.estimate, step.number)),
        });
        match &step.kind {
            StepKind::Or { branches, .. } => {
                for branch in branches {
                    lines.push(Line::title(depth + 1, "branch".to_owned()));
                    pipeline(branch, names, depth + 2, lines);
                }
            }
            StepKind::Optional { inner, .. } | StepKind::Not { inner, .. } => pipeline(inner, names, depth + 1, lines),
            _ => {}
        }
    }
}

fn describe(step: &Step, names: &Names) -> (String, Option<&'static str>) {
    let name = |column: super::Column| {
        let known = names.get(column.0 as usize);
        known.map_or_else(|| format!("?#{}", column.0), |name| format!("?{name}"))
    };
    let place = |place: &Place| match place {
        Place::Bound(column) | Place::Again(column) => name(*column),
        Place::New(column) => format!("{}*", name(*column)),
        Place::Constant(value) => value.to_typed_json().to_string(),
        Place::Any => "_".to_owned(),
        Place::Counted => "#".to_owned(),
    };
    match &step.kind {
        StepKind::Constants { column, values } => (format!("{} in {} constants", name(*column), values.len()), None),
        StepKind::Lookup(lookup) => {
            let predicate = match &lookup.predicate {
                Predicates::Is(predicate) => predicate.to_string(),
                Predicates::OfType(name) => format!("{name}/*"),
                Predicates::OfField(name) => format!("*/{name}"),
                Predicates::Any => "_".to_owned(),
                Predicates::Named(named) => place(named),
            };
            let range = lookup
                .range
                .as_ref()
                .map_or(String::new(), |(from, to)| format!(" [{} .. {}]", edge(from), edge(to)));
            let down = if lookup.descending { " descending" } else { "" };
            let text = format!(
                "lookup {} {predicate} {}{range}{down}",
                place(&lookup.subject),
                place(&lookup.object)
            );
            (text, Some(index(lookup)))
        }
        StepKind::Call { rule, arguments } | StepKind::Gained { rule, arguments } => {
            let arguments: Vec<String> = arguments.iter().map(place).collect();
            (format!("rule {} ({})", rule.0, arguments.join(", ")), Some("hash"))
        }
        StepKind::Or { branches, .. } => (format!("or of {} branches", branches.len()), None),
        StepKind::Optional { .. } => ("optional".to_owned(), None),
        StepKind::Not { .. } => ("not".to_owned(), None),
        StepKind::Filter(tests) => {
            let tests: Vec<String> = tests
                .iter()
                .map(|test| match test {
                    Test::Compare(left, comparison, right) => {
                        let right = match right {
                            Side::Column(column) => name(*column),
                            Side::Constant(value) => value.to_typed_json().to_string(),
                        };
                        format!("{} {} {right}", name(*left), comparison.sign())
                    }
                    Test::In(column, values) => format!("{} in {} constants", name(*column), values.len()),
                    Test::Text(column, test, text) => format!("{} {test:?} {text:?}", name(*column)),
                    Test::Kind(column, kind) => format!("{} is {}", name(*column), kind.name()),
                })
                .collect();
            (format!("filter {}", tests.join(" and ")), None)
        }
    }
}

fn index(lookup: &Lookup) -> &'static str {
    if lookup.subject.is_known() {
        "subject"
    } else if lookup.object.is_known() {
        "predicate and value"
    } else if lookup.range.is_some() {
        "predicate and range of values"
    } else {
        "predicate"
    }
}

fn edge(edge: &Edge) -> String {
    match edge {
        Edge::Open => String::new(),
        Edge::Value { value, inclusive } => {
            let sign = if *inclusive { "=" } else { "" };
            format!("{sign}{}", value.to_typed_json())
        }
        Edge::Kind(kind) => kind.name().to_owned(),
        Edge::Prefix(text) => format!("{text:?}…"),
    }
}
