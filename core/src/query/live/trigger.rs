//! Triggers: which changed triples may touch a query, and the way from there to keys.
//!
//! A triple that fails a comparison beside its pattern is none: it makes no binding, keeps none out and fills none in.
//! Nor is there a trigger for "is a post" beside a pattern about `post/…` of the same entity, which says it too.

use std::sync::Arc;

use super::{Filter, Query, Refused, Shape, Value, Var};
use crate::collections::BTreeSet;
use crate::query::logic::{
    Body, Field, FieldValue, Kind, Operand, OrderBy, OrderKey, Positive, PredicateTerm, Select, Term, TriplePattern,
};

/// One pattern, and what leads from a triple that matches it to keys.
#[derive(Debug, Clone)]
pub(super) struct Trigger {
    pub(super) pattern: TriplePattern,
    /// What its subject and its object must pass, each by itself.
    pub(super) tests: Vec<Filter>,
    pub(super) way: Vec<Positive>,
}

/// All triggers of a query.
#[derive(Debug)]
pub(super) struct Triggers {
    pub(super) all: Vec<Trigger>,
    pub(super) key: Var,
    /// Variables of the query and of its paths.
    pub(super) width: usize,
}

impl Triggers {
    pub(super) fn of(query: &Query) -> Result<Self, Refused> {
        if let Some(rule) = query.rules.first() {
            return Err(Refused::Rule(Arc::clone(&rule.name)));
        }
        let select = &query.select;
        let key = match &select.shape {
            Shape::Entities { entity, .. } => *entity,
            Shape::Table(_) => key_of(&select.body).ok_or(Refused::NoVariable)?,
        };
        let mut triggers = Self {
            all: Vec::new(),
            key,
            width: query.variables.len(),
        };
        triggers.select(select, &[]);
        let named = |trigger: &Trigger| matches!(trigger.pattern.predicate, PredicateTerm::Var(_));
        if triggers.all.iter().any(named) {
            return Err(Refused::PredicateVariable);
        }
        Ok(triggers)
    }

    fn select(&mut self, select: &Select, around: &[Positive]) {
        self.body(&select.body, around);
        if let Shape::Entities { entity, fields } = &select.shape {
            let mut way = around.to_vec();
            way.extend(select.body.positives.iter().cloned());
            for field in fields {
                self.field(*entity, field, &way);
            }
            for key in &select.order {
                self.order(*entity, key, &way);
            }
        }
    }

    fn body(&mut self, body: &Body, around: &[Positive]) {
        let mut way = around.to_vec();
        way.extend(body.positives.iter().cloned());
        for (at, positive) in body.positives.iter().enumerate() {
            let mut rest = way.clone();
            rest.remove(around.len() + at);
            match positive {
                Positive::Triple(pattern) if is_implied(pattern, &rest) => {}
                Positive::Triple(pattern) => {
                    let tests = body.filters.iter().filter(|filter| is_test_of(filter, pattern));
                    self.all.push(Trigger {
                        tests: tests.cloned().collect(),
                        pattern: pattern.clone(),
                        way: rest,
                    });
                }
                Positive::Or(or) => or.branches.iter().for_each(|branch| self.body(branch, &rest)),
                Positive::Call { .. } => unreachable!("a query without rules calls none"),
            }
        }
        for optional in &body.optionals {
            self.body(optional, &way);
        }
        for filter in &body.filters {
            if let Filter::Not(inner) = filter {
                self.body(inner, &way);
            }
        }
    }

    fn field(&mut self, entity: Var, field: &Field, way: &[Positive]) {
        let predicate = match &field.value {
            FieldValue::One(predicate) | FieldValue::All(predicate) => predicate.clone(),
            FieldValue::Everything => PredicateTerm::Any,
            FieldValue::Many(select) | FieldValue::First(select) => return self.select(select, way),
        };
        let pattern = TriplePattern {
            subject: Term::Var(entity),
            predicate,
            object: Term::Any,
        };
        self.push(pattern, way.to_vec());
    }

    /// The steps of a path are patterns with variables of their own.
    fn order(&mut self, entity: Var, key: &OrderKey, way: &[Positive]) {
        let OrderBy::Path(steps) = &key.by else { return };
        let (mut way, mut here) = (way.to_vec(), entity);
        for step in steps {
            let next = Var(u32::try_from(self.width).expect("a query has few variables"));
            self.width += 1;
            let (subject, object) = if step.reverse { (next, here) } else { (here, next) };
            let pattern = TriplePattern {
                subject: Term::Var(subject),
                predicate: step.predicate.clone(),
                object: Term::Var(object),
            };
            self.push(pattern.clone(), way.clone());
            way.push(Positive::Triple(pattern));
            here = next;
        }
    }

    fn push(&mut self, pattern: TriplePattern, way: Vec<Positive>) {
        let tests = Vec::new();
        self.all.push(Trigger { pattern, tests, way });
    }
}

/// Whether what stands around a pattern of a whole type says the same, and needs a triple of its own for it.
fn is_implied(pattern: &TriplePattern, around: &[Positive]) -> bool {
    let PredicateTerm::OfType(name) = &pattern.predicate else {
        return false;
    };
    let says_it = |positive: &Positive| match positive {
        Positive::Triple(other) => match &other.predicate {
            PredicateTerm::Is(one) => other.subject == pattern.subject && one.entity_type() == &**name,
            _ => false,
        },
        Positive::Or(_) | Positive::Call { .. } => false,
    };
    pattern.object == Term::Any && pattern.subject != Term::Any && around.iter().any(says_it)
}

/// Whether a filter looks at nothing but the pattern's subject, or at nothing but its object.
fn is_test_of(filter: &Filter, pattern: &TriplePattern) -> bool {
    let var = tested(filter);
    var.is_some() && (pattern.subject.var() == var || pattern.object.var() == var)
}

/// The one variable that a filter looks at.
pub(super) const fn tested(filter: &Filter) -> Option<Var> {
    match filter {
        Filter::Compare {
            left,
            right: Operand::Constant(_),
            ..
        } => Some(*left),
        Filter::In(var, _) | Filter::Text { var, .. } | Filter::Kind(var, _) => Some(*var),
        Filter::Compare { .. } | Filter::Not(_) => None,
    }
}

/// Whether the one variable's value passes.
pub(super) fn passes(filter: &Filter, value: &Value) -> bool {
    match filter {
        Filter::Compare {
            comparison,
            right: Operand::Constant(right),
            ..
        } => comparison.holds(value, right),
        Filter::In(_, values) => values.binary_search(value).is_ok(),
        Filter::Text { test, text, .. } => test.holds(value, text),
        Filter::Kind(_, kind) => Kind::of(value) == *kind,
        Filter::Compare { .. } | Filter::Not(_) => true,
    }
}

/// The variable that most patterns have as their subject, or else any that the body binds.
fn key_of(body: &Body) -> Option<Var> {
    let bound: BTreeSet<Var> = body.positives.iter().flat_map(Positive::binds).collect();
    let times = |var: &Var| {
        let subjects = body.positives.iter().filter(|positive| match positive {
            Positive::Triple(pattern) => pattern.subject == Term::Var(*var),
            Positive::Call { .. } | Positive::Or(_) => false,
        });
        subjects.count()
    };
    bound.into_iter().max_by_key(times)
}

/// The variables that tell bindings of a body apart.
pub(super) fn own_variables(body: &Body) -> BTreeSet<Var> {
    let optionals = body.optionals.iter().flat_map(|optional| &optional.positives);
    body.positives
        .iter()
        .chain(optionals)
        .flat_map(Positive::binds)
        .collect()
}
