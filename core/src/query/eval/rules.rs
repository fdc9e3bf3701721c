//! What rules derive: group by group, semi-naive.
//!
//! A round joins what a rule gained in the round before with all there is, once for each recursive call, until no rule
//! of the group gains anything (Bancilhon, "Naive evaluation of recursively defined relations", 1985; Ullman,
//! "Principles of Database and Knowledge-Base Systems", 1989). Groups come in an order in which `not` and aggregates only
//! see what is complete.

use super::{
    context::{Context, EvalError},
    group::Groups,
    relation::Relation,
    run::Run,
};
use crate::{
    limits::needs_all_forms,
    query::{
        logic::{Definition, RuleId},
        plan::{Column, DefinitionPlan, Pipeline, Plan},
        triples::{Term, Triples},
    },
};

/// The tuples of all rules.
pub(super) fn derive<T: Triples + ?Sized>(plan: &Plan, cx: &mut Context<'_, T>) -> Result<Vec<Relation>, EvalError> {
    let rules = &plan.query().rules;
    let mut relations: Vec<Relation> = rules.iter().map(|rule| Relation::new(rule.arity)).collect();
    for group in &plan.query().strata {
        needs_all_forms();
        derive_group(plan, group, &mut relations, cx)?;
    }
    Ok(relations)
}

fn derive_group<T: Triples + ?Sized>(
    plan: &Plan,
    group: &[RuleId],
    relations: &mut [Relation],
    cx: &mut Context<'_, T>,
) -> Result<(), EvalError> {
    let definitions: Vec<(usize, &Definition, &DefinitionPlan)> = group
        .iter()
        .flat_map(|rule| {
            let at = rule.0 as usize;
            let both = plan.query().rules[at]
                .definitions
                .iter()
                .zip(&plan.rules[at].definitions);
            both.map(move |(definition, plan)| (at, definition, plan))
        })
        .collect();
    for (rule, definition, plan) in &definitions {
        run(*rule, definition, &plan.full, relations, cx)?;
    }
    if !definitions.iter().any(|(_, _, plan)| plan.recursive) {
        return Ok(());
    }
    loop {
        let mut gained = false;
        for rule in group {
            gained |= relations[rule.0 as usize].end_round();
        }
        if !gained {
            return Ok(());
        }
        for (rule, definition, plan) in definitions.iter().filter(|(_, _, plan)| plan.recursive) {
            if plan.deltas.is_empty() {
                run(*rule, definition, &plan.full, relations, cx)?;
            }
            for delta in &plan.deltas {
                run(*rule, definition, delta, relations, cx)?;
            }
        }
    }
}

/// Runs one pipeline of a definition to its end, and adds what is new to the rule.
fn run<T: Triples + ?Sized>(
    rule: usize,
    definition: &Definition,
    pipeline: &Pipeline,
    relations: &mut [Relation],
    cx: &mut Context<'_, T>,
) -> Result<(), EvalError> {
    let arity = definition.head.len();
    let mut found: Vec<Term> = Vec::new();
    let mut run = Run::new(pipeline, cx);
    run.feed_one(&[]);
    if definition.head.iter().any(|expression| expression.is_aggregate()) {
        let mut groups = Groups::new(&definition.head);
        while let Some(batch) = run.next(cx, relations)? {
            groups.add(&batch, cx)?;
        }
        groups.finish(cx, |tuple, _| {
            if !tuple.iter().any(|term| term.is_null()) {
                found.extend_from_slice(tuple);
            }
            Ok(())
        })?;
    } else {
        let columns: Vec<Column> = definition
            .head
            .iter()
            .filter_map(|one| one.var())
            .map(|var| Column(var.0))
            .collect();
        // Kept apart until the pipeline is through, for it may read the rule that it adds to.
        let mut bytes = 0;
        while let Some(batch) = run.next(cx, relations)? {
            let more = batch.len * arity * size_of::<Term>();
            cx.hold(more)?;
            bytes += more;
            for at in 0..batch.len {
                found.extend(columns.iter().map(|column| batch.get(*column, at)));
            }
        }
        cx.release(bytes);
    }
    let relation = &mut relations[rule];
    for tuple in found.chunks_exact(arity) {
        cx.spend(1)?;
        if !tuple.iter().any(|term| term.is_null()) && relation.insert(tuple) {
            cx.hold(relation.tuple_bytes())?;
        }
    }
    Ok(())
}
