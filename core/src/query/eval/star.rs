//! Bodies about one entity: every clause asks for a field of the key itself. Most of what apps follow is like that.
//!
//! For a given key such a body leaves nothing to plan: its fields are read, tested and combined. So a live query keeps no
//! plan for it, which would take a kilobyte, and a change pays for some fields and not for the steps of a pipeline. The
//! rows are those of the plan, in an order of their own.

use std::sync::Arc;

use super::context::{Budget, EvalError};
use crate::collections::BTreeSet;
use crate::{
    id::Predicate,
    query::{
        logic::{Body, Expression, Filter, Positive, PredicateTerm, Query, Shape, Term as Place, TriplePattern, Var},
        plan::Column,
        triples::{EntityNumber, PredicateNumber, Term, Triples},
    },
    value::Value,
};

/// A query over the fields of its key.
#[derive(Debug)]
pub(super) struct Star {
    body: All,
    /// Fields that show, by their places in the body.
    shown: Box<[usize]>,
    /// What each column shows: one of these, or the key.
    columns: Box<[Option<usize>]>,
}

/// What an entity must have.
#[derive(Debug)]
struct All {
    /// What its id must pass.
    tests: Box<[Filter]>,
    fields: Box<[Field]>,
    nested: Box<[Nested]>,
}

#[derive(Debug)]
enum Nested {
    Any(Box<[All]>),
    Not(All),
}

/// One pattern.
#[derive(Debug)]
enum Field {
    /// Of one predicate, with its number as soon as the store has one.
    Is(Predicate, Option<PredicateNumber>, Object),
    /// Anything of a type.
    OfType(Arc<str>),
}

#[derive(Debug)]
enum Object {
    Any,
    /// With its term as soon as the store has one.
    Equal(Value, Option<Term>),
    Passing(Box<[Filter]>),
}

/// Reads a store, and counts.
struct Reader<'a, T: ?Sized> {
    store: &'a T,
    steps: u64,
    values: Vec<Term>,
}

impl Star {
    /// What a query asks of its key, if it asks nothing of other entities.
    pub(super) fn of(query: &Query, keys: &[Column]) -> Option<Self> {
        let [Column(key)] = *keys else { return None };
        let (key, select) = (Var(key), &query.select);
        if !select.body.optionals.is_empty() {
            return None;
        }
        let (body, objects) = All::of(&select.body, key, &mut BTreeSet::new())?;
        let vars: Vec<Var> = match &select.shape {
            Shape::Entities { entity, .. } => vec![*entity],
            Shape::Table(columns) => {
                let vars = columns.iter().map(|column| match column.value {
                    Expression::Var(var) => Some(var),
                    Expression::Aggregate(..) | Expression::CountAll => None,
                });
                vars.collect::<Option<_>>()?
            }
        };
        let (mut shown, mut columns) = (Vec::new(), Vec::new());
        for var in vars {
            if var == key {
                columns.push(None);
                continue;
            }
            let field = objects.iter().position(|object| *object == Some(var))?;
            let place = shown.iter().position(|at| *at == field).unwrap_or_else(|| {
                shown.push(field);
                shown.len() - 1
            });
            columns.push(Some(place));
        }
        Some(Self {
            body,
            shown: shown.into(),
            columns: columns.into(),
        })
    }

    /// Terms of a row.
    pub(super) const fn width(&self) -> usize {
        self.columns.len()
    }

    /// The rows for some keys, one behind the other.
    pub(super) fn rows<T: Triples + ?Sized>(
        &mut self,
        keys: &[Term],
        store: &T,
        budget: Budget,
    ) -> Result<Vec<Term>, EvalError> {
        let mut rows = Vec::with_capacity(keys.len() * self.columns.len());
        let mut reader = Reader {
            store,
            steps: 0,
            values: Vec::new(),
        };
        for key in keys {
            if let Some(entity) = key.as_entity()
                && self.body.holds(entity, &mut reader)
            {
                self.rows_of(entity, budget, &mut reader, &mut rows)?;
            }
            if reader.steps > budget.fuel {
                return Err(EvalError::OutOfFuel(budget.fuel));
            }
        }
        Ok(rows)
    }

    /// The rows of an entity that has all: each field that shows with each of its values.
    fn rows_of<T: Triples + ?Sized>(
        &mut self,
        entity: EntityNumber,
        budget: Budget,
        reader: &mut Reader<'_, T>,
        rows: &mut Vec<Term>,
    ) -> Result<(), EvalError> {
        let mut lists: Vec<Vec<Term>> = Vec::with_capacity(self.shown.len());
        for at in &self.shown {
            lists.push(self.body.fields[*at].passing(entity, reader));
        }
        let count = lists
            .iter()
            .fold(1, |count: usize, list| count.saturating_mul(list.len()));
        reader.steps += count as u64;
        if rows.len() / self.columns.len().max(1) + count > budget.tuples {
            return Err(EvalError::TooManyTuples(budget.tuples));
        }
        for at in 0..count {
            for column in &self.columns {
                rows.push(column.map_or_else(|| Term::entity(entity), |place| pick(&lists, place, at)));
            }
        }
        Ok(())
    }
}

/// Of all combinations of values: what a list gives to that one.
fn pick(lists: &[Vec<Term>], place: usize, at: usize) -> Term {
    let behind: usize = lists[..place].iter().map(Vec::len).product();
    let list = &lists[place];
    list[at / behind % list.len()]
}

impl All {
    /// What a body asks of the key, and the variable for the object of each field. `objects` are all there were: none
    /// may stand twice.
    fn of(body: &Body, key: Var, objects: &mut BTreeSet<Var>) -> Option<(Self, Vec<Option<Var>>)> {
        let (mut fields, mut vars, mut nested) = (Vec::new(), Vec::new(), Vec::new());
        for positive in &body.positives {
            match positive {
                Positive::Triple(pattern) => {
                    let var = pattern.object.var();
                    if var.is_some_and(|var| var == key || !objects.insert(var)) {
                        return None;
                    }
                    if !pattern.is_said_by(&body.positives) {
                        fields.push(Field::of(pattern, key, &body.filters)?);
                        vars.push(var);
                    }
                }
                Positive::Or(or) => {
                    if or.binds.iter().chain(&or.needs).any(|var| *var != key) {
                        return None;
                    }
                    let branches = or.branches.iter().map(|branch| Some(Self::of(branch, key, objects)?.0));
                    nested.push(Nested::Any(branches.collect::<Option<_>>()?));
                }
                Positive::Call { .. } => return None,
            }
        }
        let mut tests = Vec::new();
        for filter in &body.filters {
            match (filter, filter.tested()) {
                (Filter::Not(inside), _) => nested.push(Nested::Not(Self::of(inside, key, objects)?.0)),
                (_, Some(var)) if var == key => tests.push(filter.clone()),
                (_, Some(var)) if vars.contains(&Some(var)) => {}
                _ => return None,
            }
        }
        let all = Self {
            tests: tests.into(),
            fields: fields.into(),
            nested: nested.into(),
        };
        Some((all, vars))
    }

    fn holds<T: Triples + ?Sized>(&mut self, entity: EntityNumber, reader: &mut Reader<'_, T>) -> bool {
        let id = || reader.store.value(Term::entity(entity));
        (self.tests.is_empty() || pass(&self.tests, &id()))
            && self.fields.iter_mut().all(|field| field.holds(entity, reader))
            && self.nested.iter_mut().all(|nested| match nested {
                Nested::Any(branches) => branches.iter_mut().any(|branch| branch.holds(entity, reader)),
                Nested::Not(inside) => !inside.holds(entity, reader),
            })
    }
}

impl Field {
    fn of(pattern: &TriplePattern, key: Var, filters: &[Filter]) -> Option<Self> {
        if pattern.subject != Place::Var(key) {
            return None;
        }
        let object = match &pattern.object {
            Place::Any => Object::Any,
            Place::Constant(value) => Object::Equal(value.clone(), None),
            Place::Var(var) => {
                let tests = filters.iter().filter(|filter| filter.tested() == Some(*var));
                Object::Passing(tests.cloned().collect())
            }
        };
        match (&pattern.predicate, object) {
            (PredicateTerm::Is(predicate), object) => Some(Self::Is(predicate.clone(), None, object)),
            (PredicateTerm::OfType(name), Object::Any) => Some(Self::OfType(Arc::clone(name))),
            _ => None,
        }
    }

    /// Whether an entity has such a triple.
    fn holds<T: Triples + ?Sized>(&mut self, entity: EntityNumber, reader: &mut Reader<'_, T>) -> bool {
        let (predicate, number, object) = match self {
            Self::Is(predicate, number, object) => (predicate, number, object),
            Self::OfType(name) => return reader.is_of(entity, name),
        };
        let Some(number) = known(number, || reader.store.predicate_number(predicate)) else {
            return false;
        };
        match object {
            Object::Any => !reader.values(entity, number).is_empty(),
            Object::Equal(value, term) => {
                reader.steps += 1;
                let term = known(term, || reader.store.term(value));
                term.is_some_and(|term| reader.store.contains(entity, number, term))
            }
            Object::Passing(tests) => {
                let store = reader.store;
                let mut values = reader.values(entity, number).iter();
                values.any(|value| tests.is_empty() || pass(tests, &store.value(*value)))
            }
        }
    }

    /// The objects that an entity has there.
    fn passing<T: Triples + ?Sized>(&mut self, entity: EntityNumber, reader: &mut Reader<'_, T>) -> Vec<Term> {
        let Self::Is(predicate, number, Object::Passing(tests)) = self else {
            return Vec::new();
        };
        let Some(number) = known(number, || reader.store.predicate_number(predicate)) else {
            return Vec::new();
        };
        let store = reader.store;
        let mut values = reader.values(entity, number).to_vec();
        values.retain(|value| tests.is_empty() || pass(tests, &store.value(*value)));
        values
    }
}

impl<T: Triples + ?Sized> Reader<'_, T> {
    fn values(&mut self, entity: EntityNumber, predicate: PredicateNumber) -> &[Term] {
        self.values.clear();
        self.store.values(entity, predicate, &mut self.values);
        self.steps += 1 + self.values.len() as u64;
        &self.values
    }

    fn is_of(&mut self, entity: EntityNumber, name: &str) -> bool {
        let mut fields = Vec::new();
        self.store.fields(entity, &mut fields);
        self.steps += 1 + fields.len() as u64;
        fields.dedup_by_key(|(predicate, _)| *predicate);
        let is_it = |(predicate, _): &(PredicateNumber, Term)| self.store.predicate(*predicate).entity_type() == name;
        fields.iter().any(is_it)
    }
}

/// What a store knows stays; what it does not know may come.
fn known<T: Copy>(held: &mut Option<T>, find: impl FnOnce() -> Option<T>) -> Option<T> {
    if held.is_none() {
        *held = find();
    }
    *held
}

fn pass(tests: &[Filter], value: &Value) -> bool {
    tests.iter().all(|test| test.passes(value))
}
