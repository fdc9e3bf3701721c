//! Witness queries: tables of keys beside the entities that their bindings rest on, derived from a query.
//!
//! One table covers the patterns of the outermost body and of its optionals. Each branch of an `or` has a table of its
//! own, in which the branch stands in the place of the `or`: its local entities would not be seen outside otherwise.
//!
//! **Strict.** If all that a `not` looks at belongs to entities whose triples make the binding anyway, then whoever holds
//! the binding holds what keeps it out. Bindings that are kept out need no entities then, and a window needs only those
//! of its rows.
//!
//! **Relaxed.** Otherwise bindings count that all clauses but the `not`s leave, and each `not` has a table more: those
//! bindings, with its inside joined behind them like an `optional`.

use std::sync::Arc;

use crate::collections::BTreeSet;
use crate::query::logic::{
    Body, Column, Expression, Field, FieldValue, Filter, Or, OrderBy, OrderKey, Positive, Query, Select, Shape, Step,
    Term, TriplePattern, Var,
};

/// A table of keys and entities.
#[derive(Debug)]
pub(super) struct Witness {
    pub(super) query: Query,
    /// Whether the key is an entity that a row rests on, or just a value in it.
    pub(super) has_key_as_subject: bool,
    /// Only rows whose second column shows among the objects of this include count.
    pub(super) only_shown: Option<usize>,
}

/// What a query's answer rests on.
#[derive(Debug, Default)]
pub(super) struct Witnesses {
    /// The outermost body's. A key without a row here has no binding.
    pub(super) body: Vec<Witness>,
    /// What the rows of such keys rest on besides: steps of the order, includes.
    pub(super) rows: Vec<Witness>,
    /// Whether it has includes: then the objects themselves say which entities show in them.
    pub(super) has_includes: bool,
    /// Whether the rows of a window need only what they rest on themselves.
    pub(super) can_window: bool,
}

/// Where the clauses of a part stand in the context: outermost, or in the optional of that place.
#[derive(Debug, Clone, Copy)]
enum At {
    Main,
    Optional(usize),
}

struct Builder<'a> {
    query: &'a Query,
    names: Vec<Arc<str>>,
    /// The key, then what stands in front of each row's entities.
    lead: Vec<Var>,
    only_shown: Option<usize>,
    relaxed: bool,
    out: Vec<Witness>,
}

impl Witnesses {
    pub(super) fn of(query: &Query, key: Var) -> Self {
        let mut names = query.variables.clone();
        let mut select = query.select.clone();
        name_all(&mut select, &mut names);
        let strict = is_strict(&select.body, &BTreeSet::new());
        let mut witnesses = Self {
            can_window: strict && is_window_own(&select, key),
            ..Self::default()
        };
        let mut builder = Builder {
            query,
            names,
            lead: vec![key],
            only_shown: None,
            relaxed: !strict,
            out: Vec::new(),
        };
        builder.whole(&select.body);
        witnesses.body = std::mem::take(&mut builder.out);
        if let Shape::Entities { entity, fields } = &select.shape {
            builder.order(&Body::default(), *entity, &select.order);
            let mut place = 0;
            builder.fields(&Body::default(), &[*entity], fields, &mut place);
            witnesses.has_includes = place > 0;
        }
        witnesses.rows = builder.out;
        witnesses
    }
}

impl Builder<'_> {
    /// All tables of a body that stands alone.
    fn whole(&mut self, body: &Body) {
        let mut context = body.clone();
        if self.relaxed {
            relax(&mut context);
        }
        self.part(&context, body, At::Main);
        for (place, optional) in body.optionals.iter().enumerate() {
            self.part(&context, optional, At::Optional(place));
        }
    }

    /// The table of one part of a context, and those of what nests in it.
    fn part(&mut self, context: &Body, part: &Body, at: At) {
        let mut columns = subjects(&part.positives);
        if matches!(at, At::Main) {
            columns.extend(part.optionals.iter().flat_map(|optional| subjects(&optional.positives)));
        }
        self.push(context, columns);
        for positive in &part.positives {
            let Positive::Or(or) = positive else { continue };
            for branch in &or.branches {
                let narrowed = narrowed(context, at, or, branch, self.relaxed);
                self.part(&narrowed, branch, at);
            }
        }
        if !self.relaxed {
            return;
        }
        for filter in &part.filters {
            let Filter::Not(inside) = filter else { continue };
            let mut joined = context.clone();
            let mut optional = inside.clone();
            relax(&mut optional);
            joined.optionals.push(optional);
            let place = joined.optionals.len() - 1;
            self.part(&joined, inside, At::Optional(place));
        }
    }

    fn push(&mut self, context: &Body, columns: BTreeSet<Var>) {
        let lead = self.lead.clone();
        let has_key_as_subject = columns.contains(&lead[0]);
        let rest = columns.into_iter().filter(|var| !lead.contains(var));
        let columns = lead.iter().copied().chain(rest).map(|var| Column {
            name: Arc::from(format!("v{}", var.0)),
            value: Expression::Var(var),
        });
        let select = Select {
            body: context.clone(),
            shape: Shape::Table(columns.collect()),
            order: Vec::new(),
            after: None,
            limit: None,
        };
        let query = Query {
            select,
            variables: self.names.clone(),
            ..self.query.clone()
        };
        self.out.push(Witness {
            query,
            has_key_as_subject,
            only_shown: self.only_shown,
        });
    }

    /// Steps of an order that lead to other entities. `context` binds the entity, or is empty for the key.
    fn order(&mut self, context: &Body, entity: Var, order: &[OrderKey]) {
        for key in order {
            let OrderBy::Path(steps) = &key.by else { continue };
            if is_own_path(steps) {
                continue;
            }
            let (mut context, mut here) = (context.clone(), entity);
            for step in steps {
                let next = fresh(&mut self.names);
                context.positives.push(step_pattern(step, here, next));
                here = next;
            }
            let columns = subjects(&context.positives);
            self.push(&context, columns);
        }
    }

    /// Includes, each behind those around it. `around` has the entities from the key on.
    fn fields(&mut self, context: &Body, around: &[Var], fields: &[Field], place: &mut usize) {
        for field in fields {
            let (FieldValue::Many(select) | FieldValue::First(select)) = &field.value else {
                continue;
            };
            let Shape::Entities { entity, fields } = &select.shape else {
                continue;
            };
            let this = *place;
            *place += 1;
            let outer: BTreeSet<Var> = around.iter().copied().collect();
            let strict = is_strict(&select.body, &outer);
            let own = select.order.iter().all(is_own_key);
            let mut around = around.to_vec();
            around.push(*entity);
            self.relaxed = !strict;
            self.lead = vec![around[0], *entity];
            // With an order of its own, what shows is enough.
            self.only_shown = (strict && own).then_some(this);
            let mut joined = context.clone();
            join(&mut joined, &select.body);
            let mut bound = joined.clone();
            relax(&mut bound);
            if self.only_shown.is_none() || reaches_further(&select.body, &around) {
                let mut part = joined.clone();
                part.optionals.clear();
                self.whole(&part);
            }
            self.order(&bound, *entity, &select.order);
            self.fields(&bound, &around, fields, place);
        }
    }
}

/// Gives every subject that may be any a variable.
fn name_all(select: &mut Select, names: &mut Vec<Arc<str>>) {
    name_body(&mut select.body, names);
    if let Shape::Entities { fields, .. } = &mut select.shape {
        for field in fields {
            if let FieldValue::Many(select) | FieldValue::First(select) = &mut field.value {
                name_all(select, names);
            }
        }
    }
}

fn name_body(body: &mut Body, names: &mut Vec<Arc<str>>) {
    for positive in &mut body.positives {
        match positive {
            Positive::Triple(pattern) if pattern.subject == Term::Any => pattern.subject = Term::Var(fresh(names)),
            Positive::Or(or) => or.branches.iter_mut().for_each(|branch| name_body(branch, names)),
            Positive::Triple(_) | Positive::Call { .. } => {}
        }
    }
    for optional in &mut body.optionals {
        name_body(optional, names);
    }
    for filter in &mut body.filters {
        if let Filter::Not(inside) = filter {
            name_body(inside, names);
        }
    }
}

fn fresh(names: &mut Vec<Arc<str>>) -> Var {
    let var = Var(u32::try_from(names.len()).expect("a query has few variables"));
    names.push("_".into());
    var
}

fn step_pattern(step: &Step, here: Var, next: Var) -> Positive {
    let (subject, object) = if step.reverse { (next, here) } else { (here, next) };
    Positive::Triple(TriplePattern {
        subject: Term::Var(subject),
        predicate: step.predicate.clone(),
        object: Term::Var(object),
    })
}

/// The variables that stand for subjects in the patterns of a conjunction, `or`s aside.
fn subjects(positives: &[Positive]) -> BTreeSet<Var> {
    let patterns = positives.iter().filter_map(|positive| match positive {
        Positive::Triple(pattern) => pattern.subject.var(),
        Positive::Or(_) | Positive::Call { .. } => None,
    });
    patterns.collect()
}

/// Takes all `not`s out.
fn relax(body: &mut Body) {
    body.filters.retain(|filter| !matches!(filter, Filter::Not(_)));
    for positive in &mut body.positives {
        if let Positive::Or(or) = positive {
            or.branches.iter_mut().for_each(relax);
        }
    }
    body.optionals.iter_mut().for_each(relax);
}

/// The context with a branch in the place of its `or`.
fn narrowed(context: &Body, at: At, or: &Or, branch: &Body, relaxed: bool) -> Body {
    let (mut or, mut branch) = (or.clone(), branch.clone());
    if relaxed {
        or.branches.iter_mut().for_each(relax);
        relax(&mut branch);
    }
    let mut narrowed = context.clone();
    let part = match at {
        At::Main => &mut narrowed,
        At::Optional(place) => &mut narrowed.optionals[place],
    };
    let or = Positive::Or(or);
    if let Some(place) = part.positives.iter().position(|positive| *positive == or) {
        part.positives.splice(place..=place, branch.positives);
        part.filters.extend(branch.filters);
    }
    narrowed
}

/// Adds the clauses of an include behind those of what is around it.
fn join(context: &mut Body, body: &Body) {
    context.positives.extend(body.positives.iter().cloned());
    context.filters.extend(body.filters.iter().cloned());
}

/// Whether an include rests on entities besides itself and those around it.
fn reaches_further(body: &Body, around: &[Var]) -> bool {
    let has_or = body
        .positives
        .iter()
        .any(|positive| matches!(positive, Positive::Or(_)));
    has_or || subjects(&body.positives).iter().any(|var| !around.contains(var))
}

// What is strict.

fn is_strict(body: &Body, outer: &BTreeSet<Var>) -> bool {
    let mut own = subjects(&body.positives);
    own.extend(outer);
    let evident = nots_are_evident(body, &own);
    let has_not = has_not(body);
    evident && (!has_not || body.optionals.iter().all(|optional| is_evident(optional, &own)))
}

/// Whether all `not`s of a conjunction look only at entities that it binds as subjects.
fn nots_are_evident(body: &Body, own: &BTreeSet<Var>) -> bool {
    let filters = body.filters.iter().all(|filter| match filter {
        Filter::Not(inside) => is_evident(inside, own),
        _ => true,
    });
    let branches = body.positives.iter().all(|positive| match positive {
        Positive::Or(or) => or.branches.iter().all(|branch| {
            let mut own = own.clone();
            own.extend(subjects(&branch.positives));
            nots_are_evident(branch, &own)
        }),
        Positive::Triple(_) | Positive::Call { .. } => true,
    });
    let optionals = body.optionals.iter().all(|optional| nots_are_evident(optional, own));
    filters && branches && optionals
}

/// Whether all patterns, however deep, are about entities of `own`.
fn is_evident(body: &Body, own: &BTreeSet<Var>) -> bool {
    let positives = body.positives.iter().all(|positive| match positive {
        Positive::Triple(pattern) => match &pattern.subject {
            Term::Var(var) => own.contains(var),
            Term::Constant(_) => true,
            Term::Any => false,
        },
        Positive::Or(or) => or.branches.iter().all(|branch| is_evident(branch, own)),
        // What a rule derives is derived wherever the covered entities are.
        Positive::Call { .. } => true,
    });
    let filters = body.filters.iter().all(|filter| match filter {
        Filter::Not(inside) => is_evident(inside, own),
        _ => true,
    });
    positives && filters && body.optionals.iter().all(|optional| is_evident(optional, own))
}

fn has_not(body: &Body) -> bool {
    let branches = body.positives.iter().any(|positive| match positive {
        Positive::Or(or) => or.branches.iter().any(has_not),
        Positive::Triple(_) | Positive::Call { .. } => false,
    });
    let filters = body.filters.iter().any(|filter| matches!(filter, Filter::Not(_)));
    branches || filters || body.optionals.iter().any(has_not)
}

/// Whether what decides about the place of a row belongs to the entities that make the row.
fn is_window_own(select: &Select, key: Var) -> bool {
    match &select.shape {
        Shape::Entities { .. } => select.order.iter().all(is_own_key),
        Shape::Table(columns) => {
            let own = subjects(&select.body.positives);
            let has_key = columns.iter().any(|column| column.value == Expression::Var(key));
            let is_plain = columns.iter().all(|column| !column.value.is_aggregate());
            has_key && is_plain && select.body.optionals.iter().all(|optional| is_evident(optional, &own))
        }
    }
}

fn is_own_key(key: &OrderKey) -> bool {
    match &key.by {
        OrderBy::Path(steps) => is_own_path(steps),
        OrderBy::Id | OrderBy::Column(_) => true,
    }
}

/// Whether a path stays with the entity that it starts from.
fn is_own_path(steps: &[Step]) -> bool {
    matches!(steps, [] | [Step { reverse: false, .. }])
}
