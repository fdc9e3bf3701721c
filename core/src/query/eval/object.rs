//! Objects: what an entity query gives for each entity, with includes, and the keys that entities are ordered by.

use std::sync::Arc;

use super::{
    context::{Context, EvalError},
    relation::Relation,
    select::SelectRun,
};
use crate::{
    collections::BTreeMap,
    query::{
        answer::{Datum, Member, Object},
        logic::{Field, FieldValue, Filter, Operand, Positive, PredicateTerm, Select, Step, Term as Place, Var},
        plan::{Column, SelectPlan},
        triples::{EntityNumber, Entry, Objects, PredicateNumber, Scan, Term, Triples},
    },
    value::Value,
};

/// So many different values that lead to what is included are kept in mind.
const KNOWN_MAX: usize = 4_096;

/// Entries of a reverse step that are read at once.
const STEP_BATCH: usize = 1_024;

/// The members of objects.
#[derive(Debug)]
pub(super) struct Fields<'p> {
    fields: Vec<FieldRun<'p>>,
    /// The values of one field, for one after the other.
    values: Vec<Term>,
}

#[derive(Debug)]
enum FieldRun<'p> {
    One(Arc<str>, Vec<PredicateNumber>),
    All(Arc<str>, Vec<PredicateNumber>),
    Everything,
    Many(Arc<str>, Include<'p>),
    First(Arc<str>, Include<'p>),
}

/// What an entity includes.
#[derive(Debug)]
struct Include<'p> {
    select: Box<SelectRun<'p>>,
    /// Where nothing else of the entity counts: the predicates that lead from it to what it includes.
    through: Option<Vec<PredicateNumber>>,
    /// What was found, by the values that led there.
    known: BTreeMap<Vec<Term>, Vec<Arc<Object>>>,
}

impl Include<'_> {
    /// What the entity includes; its variable has this column.
    fn of<T: Triples + ?Sized>(
        &mut self,
        column: Column,
        entity: EntityNumber,
        cx: &mut Context<'_, T>,
        relations: &[Relation],
        values: &mut Vec<Term>,
    ) -> Result<Vec<Arc<Object>>, EvalError> {
        let seed = [(column, Term::entity(entity))];
        let Some(through) = &self.through else {
            return self.select.included(&seed, cx, relations);
        };
        read_values(entity, through, cx, values)?;
        if let Some(found) = self.known.get(&**values) {
            return Ok(found.clone());
        }
        let found = self.select.included(&seed, cx, relations)?;
        if self.known.len() < KNOWN_MAX {
            self.known.insert(values.clone(), found.clone());
        }
        Ok(found)
    }
}

impl<'p> Fields<'p> {
    pub(super) fn new<T: Triples + ?Sized>(
        entity: Var,
        fields: &[Field],
        includes: &'p [SelectPlan],
        cx: &Context<'_, T>,
    ) -> Self {
        let mut includes = includes.iter();
        let mut include = |select: &Select| {
            let plan = includes.next().expect("a plan for each include");
            Include {
                select: Box::new(SelectRun::new(plan, cx)),
                through: through(select, entity).map(|predicate| numbers(predicate, cx)),
                known: BTreeMap::new(),
            }
        };
        let run = |field: &Field| {
            let name = Arc::clone(&field.name);
            match &field.value {
                FieldValue::One(predicate) => FieldRun::One(name, numbers(predicate, cx)),
                FieldValue::All(predicate) => FieldRun::All(name, numbers(predicate, cx)),
                FieldValue::Everything => FieldRun::Everything,
                FieldValue::Many(select) => FieldRun::Many(name, include(select)),
                FieldValue::First(select) => FieldRun::First(name, include(select)),
            }
        };
        Self {
            fields: fields.iter().map(run).collect(),
            values: Vec::new(),
        }
    }

    /// The object of an entity, whose includes are seeded by it.
    pub(super) fn object<T: Triples + ?Sized>(
        &mut self,
        column: Column,
        entity: EntityNumber,
        cx: &mut Context<'_, T>,
        relations: &[Relation],
    ) -> Result<Object, EvalError> {
        let mut members = Vec::with_capacity(self.fields.len());
        let values = &mut self.values;
        for field in &mut self.fields {
            let (name, member) = match field {
                FieldRun::One(name, predicates) => {
                    read_values(entity, predicates, cx, values)?;
                    let least = values.iter().copied().min_by(|a, b| cx.compare(*a, *b));
                    (name, Member::Datum(cx.datum(least.unwrap_or(Term::NULL))))
                }
                FieldRun::All(name, predicates) => {
                    read_values(entity, predicates, cx, values)?;
                    (name, Member::Datum(Datum::List(ascending(values, cx))))
                }
                FieldRun::Everything => {
                    everything(entity, cx, &mut members)?;
                    continue;
                }
                FieldRun::Many(name, include) => {
                    let found = include.of(column, entity, cx, relations, values)?;
                    (name, Member::Objects(found))
                }
                FieldRun::First(name, include) => {
                    let first = include.of(column, entity, cx, relations, values)?.into_iter().next();
                    (name, first.map_or(Member::Datum(Datum::Null), Member::Object))
                }
            };
            members.push((Arc::clone(name), member));
        }
        let Value::Ref(id) = cx.value(Term::entity(entity)) else {
            unreachable!("an entity's value is a reference");
        };
        Ok(Object { id, members })
    }
}

/// The predicate that leads from the entity around an include to what is included, if that is all that counts of it.
fn through(select: &Select, around: Var) -> Option<&PredicateTerm> {
    let is_around = |place: &Place| place.var() == Some(around);
    let is_apart = |filter: &Filter| match filter {
        Filter::Compare { left, right, .. } => *left != around && *right != Operand::Var(around),
        Filter::In(var, _) | Filter::Text { var, .. } | Filter::Kind(var, _) => *var != around,
        Filter::Not(_) => false,
    };
    if !select.body.optionals.is_empty() || !select.body.filters.iter().all(is_apart) {
        return None;
    }
    let mut found = None;
    for positive in &select.body.positives {
        let Positive::Triple(pattern) = positive else {
            return None;
        };
        match (
            is_around(&pattern.subject),
            is_around(&pattern.object),
            &pattern.predicate,
        ) {
            (false, false, PredicateTerm::Var(var)) if *var == around => return None,
            (false, false, _) => {}
            (true, false, predicate @ PredicateTerm::Is(_)) if found.is_none() => found = Some(predicate),
            _ => return None,
        }
    }
    found
}

/// Fills in the different values of some predicates.
fn read_values<T: Triples + ?Sized>(
    entity: EntityNumber,
    predicates: &[PredicateNumber],
    cx: &mut Context<'_, T>,
    values: &mut Vec<Term>,
) -> Result<(), EvalError> {
    values.clear();
    for predicate in predicates {
        cx.store.values(entity, *predicate, values);
    }
    cx.spend(1 + values.len())?;
    if predicates.len() > 1 {
        values.sort_unstable();
        values.dedup();
    }
    Ok(())
}

fn ascending<T: Triples + ?Sized>(terms: &mut [Term], cx: &Context<'_, T>) -> Vec<Value> {
    terms.sort_by(|a, b| cx.compare(*a, *b));
    terms.iter().map(|term| cx.value(*term)).collect()
}

fn everything<T: Triples + ?Sized>(
    entity: EntityNumber,
    cx: &mut Context<'_, T>,
    members: &mut Vec<(Arc<str>, Member)>,
) -> Result<(), EvalError> {
    let mut fields = Vec::new();
    cx.store.fields(entity, &mut fields);
    cx.spend(1 + fields.len())?;
    let first = members.len();
    for cell in fields.chunk_by(|a, b| a.0 == b.0) {
        let datum = match cell {
            [(_, one)] => cx.datum(*one),
            many => {
                let mut values: Vec<Term> = many.iter().map(|(_, term)| *term).collect();
                Datum::List(ascending(&mut values, cx))
            }
        };
        let name = cx.store.predicate(cell[0].0);
        members.push((name.as_str().into(), Member::Datum(datum)));
    }
    members[first..].sort_by(|a, b| a.0.cmp(&b.0));
    Ok(())
}

fn numbers<T: Triples + ?Sized>(predicate: &PredicateTerm, cx: &Context<'_, T>) -> Vec<PredicateNumber> {
    match predicate {
        PredicateTerm::Is(one) => cx.store.predicate_number(one).into_iter().collect(),
        wider => {
            let all = cx.store.predicates().into_iter();
            all.filter(|number| wider.takes(&cx.store.predicate(*number))).collect()
        }
    }
}

/// A way from an entity to what it is ordered by.
#[derive(Debug)]
pub(super) struct Path {
    steps: Vec<(Vec<PredicateNumber>, bool)>,
    descending: bool,
    here: Vec<Term>,
    next: Vec<Term>,
    entries: Vec<Entry>,
}

impl Path {
    pub(super) fn new<T: Triples + ?Sized>(steps: &[Step], descending: bool, cx: &Context<'_, T>) -> Self {
        let steps = steps.iter().map(|step| (numbers(&step.predicate, cx), step.reverse));
        Self {
            steps: steps.collect(),
            descending,
            here: Vec::new(),
            next: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// The least that it reaches, or the greatest; null for none.
    pub(super) fn key<T: Triples + ?Sized>(
        &mut self,
        entity: EntityNumber,
        cx: &mut Context<'_, T>,
    ) -> Result<Term, EvalError> {
        self.here.clear();
        self.here.push(Term::entity(entity));
        for (predicates, reverse) in &self.steps {
            self.next.clear();
            for term in &self.here {
                let Some(entity) = term.as_entity() else {
                    continue;
                };
                for predicate in predicates {
                    if *reverse {
                        subjects(*term, *predicate, &mut self.entries, &mut self.next, cx)?;
                    } else {
                        cx.store.values(entity, *predicate, &mut self.next);
                    }
                }
            }
            cx.spend(1 + self.next.len())?;
            self.next.sort_unstable();
            self.next.dedup();
            std::mem::swap(&mut self.here, &mut self.next);
        }
        let ends = self.here.iter().copied();
        let end = if self.descending {
            ends.max_by(|a, b| cx.compare(*a, *b))
        } else {
            ends.min_by(|a, b| cx.compare(*a, *b))
        };
        Ok(end.unwrap_or(Term::NULL))
    }
}

/// Those that refer to a term, or hold it.
fn subjects<T: Triples + ?Sized>(
    object: Term,
    predicate: PredicateNumber,
    entries: &mut Vec<Entry>,
    out: &mut Vec<Term>,
    cx: &mut Context<'_, T>,
) -> Result<(), EvalError> {
    let scan = Scan {
        predicate,
        objects: Objects::Equal(object),
        descending: false,
    };
    let mut after = None;
    loop {
        entries.clear();
        let more = cx.store.scan(&scan, after, STEP_BATCH, entries);
        cx.spend(entries.len())?;
        out.extend(entries.iter().map(|entry| Term::entity(entry.subject())));
        after = entries.last().copied();
        if !more {
            return Ok(());
        }
    }
}
