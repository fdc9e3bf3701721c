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
    /// What each column shows: the field at that place in the body, or the key.
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
    /// Of one predicate.
    Is(Met<Predicate, PredicateNumber>, Object),
    /// Anything of a type.
    OfType(Arc<str>),
}

#[derive(Debug)]
enum Object {
    Any,
    Equal(Met<Value, Term>),
    Passing(Box<[Filter]>),
}

/// What a query names, or what a store has for it as soon as it has met it.
#[derive(Debug)]
enum Met<N, K> {
    Named(N),
    As(K),
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
        let place = |var: Var| {
            if var == key {
                return Some(None);
            }
            objects.iter().position(|object| *object == Some(var)).map(Some)
        };
        let columns = vars.into_iter().map(place).collect::<Option<_>>()?;
        Some(Self { body, columns })
    }

    /// Reads a little of what asking for rows will read.
    pub(super) fn warm(&self) -> usize {
        let some = |field: &Field| usize::from(matches!(field, Field::Is(Met::As(_), Object::Any)));
        let column = self.columns.first().copied().flatten().unwrap_or(0);
        self.body.fields.iter().map(some).sum::<usize>() + column
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
        // Each field that shows once, whatever columns show it.
        let mut lists: Vec<(usize, Vec<Term>)> = Vec::with_capacity(self.columns.len());
        for at in self.columns.iter().flatten() {
            if lists.iter().all(|(shown, _)| shown != at) {
                lists.push((*at, self.body.fields[*at].passing(entity, reader)));
            }
        }
        let count = lists
            .iter()
            .fold(1, |count: usize, (_, list)| count.saturating_mul(list.len()));
        let before = rows.len() / self.columns.len().max(1);
        if count > budget.tuples.saturating_sub(before) {
            return Err(EvalError::TooManyTuples(budget.tuples));
        }
        reader.steps += count as u64;
        for at in 0..count {
            for column in &self.columns {
                rows.push(column.map_or_else(|| Term::entity(entity), |field| pick(&lists, field, at)));
            }
        }
        Ok(())
    }
}

/// Of all combinations of values: what a field gives to that one.
fn pick(lists: &[(usize, Vec<Term>)], field: usize, at: usize) -> Term {
    let is_before = |(shown, _): &&(usize, Vec<Term>)| *shown != field;
    let before = lists.iter().take_while(is_before);
    let behind: usize = before.clone().map(|(_, list)| list.len()).product();
    let (_, list) = &lists[before.count()];
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
            Place::Constant(value) => Object::Equal(Met::Named(value.clone())),
            Place::Var(var) => {
                let tests = filters.iter().filter(|filter| filter.tested() == Some(*var));
                Object::Passing(tests.cloned().collect())
            }
        };
        match (&pattern.predicate, object) {
            (PredicateTerm::Is(predicate), object) => Some(Self::Is(Met::Named(predicate.clone()), object)),
            (PredicateTerm::OfType(name), Object::Any) => Some(Self::OfType(Arc::clone(name))),
            _ => None,
        }
    }

    /// Whether an entity has such a triple.
    fn holds<T: Triples + ?Sized>(&mut self, entity: EntityNumber, reader: &mut Reader<'_, T>) -> bool {
        let (predicate, object) = match self {
            Self::Is(predicate, object) => (predicate, object),
            Self::OfType(name) => return reader.is_of(entity, name),
        };
        let Some(number) = predicate.met(|name| reader.store.predicate_number(name)) else {
            return false;
        };
        match object {
            Object::Any => !reader.values(entity, number).is_empty(),
            Object::Equal(value) => {
                reader.steps += 1;
                let term = value.met(|value| reader.store.term(value));
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
        let Self::Is(predicate, Object::Passing(tests)) = self else {
            return Vec::new();
        };
        let Some(number) = predicate.met(|name| reader.store.predicate_number(name)) else {
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

impl<N, K: Copy> Met<N, K> {
    /// What a store knows stays; what it does not know may come.
    fn met(&mut self, find: impl FnOnce(&N) -> Option<K>) -> Option<K> {
        match self {
            Self::As(known) => Some(*known),
            Self::Named(name) => {
                let known = find(name)?;
                *self = Self::As(known);
                Some(known)
            }
        }
    }
}

fn pass(tests: &[Filter], value: &Value) -> bool {
    tests.iter().all(|test| test.passes(value))
}
