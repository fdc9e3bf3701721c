//! Which columns each step must keep: those that are read behind it.

use crate::collections::BTreeSet;
use crate::query::plan::{Column, Pipeline, Place, Side, Step, StepKind, Test};

/// Lets each step keep only what is read behind it.
pub(super) fn live(mut steps: Vec<Step>, keep: &BTreeSet<Column>, width: usize) -> Pipeline {
    let mut live = keep.clone();
    for step in steps.iter_mut().rev() {
        step.keep = live.iter().copied().collect();
        for column in writes(&step.kind) {
            live.remove(&column);
        }
        live.extend(reads(&step.kind));
    }
    Pipeline {
        steps,
        width,
        seed: live.into_iter().collect(),
    }
}

fn writes(kind: &StepKind) -> Vec<Column> {
    let of_places = |places: &[&Place]| places.iter().filter_map(|place| place.new_column()).collect();
    match kind {
        StepKind::Constants { column, .. } => vec![*column],
        StepKind::Lookup(lookup) => {
            let mut places = vec![&lookup.subject, &lookup.object];
            places.extend(lookup.predicate.place());
            of_places(&places)
        }
        StepKind::Call { arguments, .. } | StepKind::Gained { arguments, .. } => {
            arguments.iter().filter_map(Place::new_column).collect()
        }
        StepKind::Or { binds, .. } | StepKind::Optional { binds, .. } => binds.clone(),
        StepKind::Not { .. } | StepKind::Filter(_) => Vec::new(),
    }
}

fn reads(kind: &StepKind) -> Vec<Column> {
    let without = |mark: &Column, pipeline: &Pipeline| {
        let seed = pipeline.seed.iter().copied();
        seed.filter(|column| column != mark).collect::<Vec<_>>()
    };
    match kind {
        StepKind::Constants { .. } => Vec::new(),
        StepKind::Lookup(lookup) => {
            let mut places = vec![&lookup.subject, &lookup.object];
            places.extend(lookup.predicate.place());
            places.into_iter().filter_map(Place::bound).collect()
        }
        StepKind::Call { arguments, .. } | StepKind::Gained { arguments, .. } => {
            arguments.iter().filter_map(Place::bound).collect()
        }
        StepKind::Or { mark, branches, .. } => branches.iter().flat_map(|branch| without(mark, branch)).collect(),
        StepKind::Optional { mark, inner, .. } | StepKind::Not { mark, inner } => without(mark, inner),
        StepKind::Filter(tests) => tests
            .iter()
            .flat_map(|test| match test {
                Test::Compare(left, _, Side::Column(right)) => vec![*left, *right],
                Test::Compare(column, ..) | Test::In(column, _) | Test::Text(column, ..) | Test::Kind(column, _) => {
                    vec![*column]
                }
            })
            .collect(),
    }
}
