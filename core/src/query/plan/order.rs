//! Plans that read an index in the order of the answer.
//!
//! Where the first order key is what one predicate says of the entity (or of a column that a pattern binds as its
//! object) and there is a limit, an index scan in that order finds the first answers without finding all. Bindings then
//! come in runs of one value; a run is sorted by the rest of the order, and the scan ends with the run that fills the
//! limit. It pays where many entities pass: the planner compares the share of the scan that it expects to read with the
//! whole of the other plan.

use super::{
    Column, OrderedPlan, StepKind,
    build::{Scope, Task},
    estimate::Known,
    prepare::Purpose,
};
use crate::collections::BTreeSet;
use crate::{
    id::Predicate,
    query::{
        logic::{
            self, Body, Expression, OrderBy, OrderKey, Positive, PredicateTerm, Select, Shape, Term, TriplePattern, Var,
        },
        triples::Triples,
    },
};

/// A run may be long, so a scan must promise to save at least this factor.
const GAIN_MIN: f64 = 2.0;

/// The plan in order, if there is one and it pays against `plain`.
pub(super) fn ordered<T: Triples + ?Sized>(
    scope: &mut Scope<'_, T>,
    select: &Select,
    task: Task<'_>,
    plain: &Known,
) -> Option<OrderedPlan> {
    let limit = f64::from(select.limit?);
    if !task.seed.is_empty() || task.purpose != Purpose::Set {
        return None;
    }
    let key = select.order.first()?;
    let Source {
        body,
        column,
        if_all_have,
        nulls_last,
    } = match &select.shape {
        Shape::Table(columns) => of_table(select, columns, &key.by)?,
        Shape::Entities { entity, .. } => of_entities(scope, select, *entity, key)?,
    };
    let keep: BTreeSet<Column> = task.keep.iter().copied().chain([column]).collect();
    let (mut pipeline, known) = scope.body(Task {
        body: &body,
        keep: &keep,
        first: Some(0),
        ..task
    });
    let first = pipeline.steps.iter_mut().find_map(|step| match &mut step.kind {
        StepKind::Lookup(lookup) => Some(lookup),
        _ => None,
    })?;
    // A value that is pinned has no order, and a scan must lead.
    if first.object.new_column() != Some(column) || first.subject.is_known() {
        return None;
    }
    first.descending = key.descending;
    let share = (limit / plain.rows.max(1.0)).min(1.0);
    let pays = known.cost * share * GAIN_MIN < plain.cost + plain.rows;
    pays.then_some(OrderedPlan {
        pipeline,
        column,
        nulls_last,
        if_all_have,
    })
}

/// A body whose first clause gives the values of the first order key.
struct Source {
    body: Body,
    column: Column,
    if_all_have: Option<Predicate>,
    nulls_last: bool,
}

/// The pattern that binds the column as its object comes first.
fn of_table(select: &Select, columns: &[logic::Column], by: &OrderBy) -> Option<Source> {
    let OrderBy::Column(at) = by else { return None };
    let Expression::Var(var) = columns[*at].value else {
        return None;
    };
    let is_source = |positive: &Positive| match positive {
        Positive::Triple(pattern) => {
            pattern.object == Term::Var(var) && matches!(pattern.predicate, PredicateTerm::Is(_))
        }
        _ => false,
    };
    let mut body = select.body.clone();
    let at = body.positives.iter().position(is_source)?;
    body.positives[..=at].rotate_right(1);
    Some(Source {
        body,
        column: Column::of(var),
        if_all_have: None,
        nulls_last: false,
    })
}

/// A pattern for the key's predicate is put in front.
fn of_entities<T: Triples + ?Sized>(
    scope: &mut Scope<'_, T>,
    select: &Select,
    entity: Var,
    key: &OrderKey,
) -> Option<Source> {
    let OrderBy::Path(steps) = &key.by else { return None };
    let [step] = &steps[..] else { return None };
    let PredicateTerm::Is(predicate) = &step.predicate else {
        return None;
    };
    if step.reverse {
        return None;
    }
    let is_certain = select.body.positives.iter().any(|positive| match positive {
        Positive::Triple(pattern) => pattern.subject == Term::Var(entity) && pattern.predicate == step.predicate,
        _ => false,
    });
    let (if_all_have, nulls_last) = if is_certain {
        (None, false)
    } else if key.descending {
        (None, true)
    } else {
        (Some(certain_by_type(select, entity, predicate)?), false)
    };
    let column = scope.mark();
    let pattern = TriplePattern {
        subject: Term::Var(entity),
        predicate: step.predicate.clone(),
        object: Term::Var(Var(column.0)),
    };
    let mut body = select.body.clone();
    body.positives.insert(0, Positive::Triple(pattern));
    Some(Source {
        body,
        column,
        if_all_have,
        nulls_last,
    })
}

/// The predicate, if the body says that the entity is of the predicate's type.
fn certain_by_type(select: &Select, entity: Var, predicate: &Predicate) -> Option<Predicate> {
    let says = |body: &Body| {
        body.positives.iter().any(|positive| match positive {
            Positive::Triple(pattern) if pattern.subject == Term::Var(entity) => match &pattern.predicate {
                PredicateTerm::OfType(name) => **name == *predicate.entity_type(),
                PredicateTerm::Is(other) => other.entity_type() == predicate.entity_type(),
                _ => false,
            },
            _ => false,
        })
    };
    says(&select.body).then(|| predicate.clone())
}
