//! Selects: from bindings to tables and objects, in order, page by page.

use std::sync::Arc;

use super::{
    batch::Batch,
    context::{Context, EvalError},
    group::Groups,
    hash::Tuples,
    object::{Fields, Path},
    relation::Relation,
    run::Run,
    sort::Sorter,
};
use crate::{
    collections::BTreeMap,
    id::Predicate,
    limits::needs_all_forms,
    query::{
        answer::{Answer, Object, Rows},
        logic::{Cursor, Expression, OrderBy, Shape},
        plan::{Column, OrderedPlan, SelectPlan},
        triples::{Edge, EntityNumber, Term, Triples},
    },
};

/// A select while it runs, for one seed after another.
#[derive(Debug)]
pub(super) struct SelectRun<'p> {
    pub(super) plan: &'p SelectPlan,
    run: Run<'p>,
    ordered: Option<Run<'p>>,
    /// Whether bindings may repeat a tuple.
    repeats: bool,
    expressions: Vec<Expression>,
    fields: Option<Fields<'p>>,
    paths: Vec<Path>,
    /// Tuples given so far, for all seeds.
    given: usize,
    /// What was built for seeds before: an object depends on its entity alone.
    built: BTreeMap<EntityNumber, Arc<Object>>,
}

impl<'p> SelectRun<'p> {
    pub(super) fn new<T: Triples + ?Sized>(plan: &'p SelectPlan, cx: &Context<'_, T>) -> Self {
        let (expressions, fields) = match &plan.shape {
            Shape::Table(columns) => (columns.iter().map(|column| column.value).collect(), None),
            Shape::Entities { entity, fields } => {
                let fields = Fields::new(*entity, fields, &plan.includes, cx);
                (vec![Expression::Var(*entity)], Some(fields))
            }
        };
        let paths = plan.order.iter().map(|key| match &key.by {
            OrderBy::Path(steps) => Path::new(steps, key.descending, cx),
            OrderBy::Column(_) | OrderBy::Id => Path::new(&[], false, cx),
        });
        Self {
            run: Run::new(&plan.pipeline, cx),
            ordered: plan
                .ordered
                .as_ref()
                .filter(|ordered| is_valid(ordered, cx))
                .map(|ordered| Run::new(&ordered.pipeline, cx)),
            repeats: plan.distinct.as_ref().is_some_and(|through| !all_single(through, cx)),
            expressions,
            fields,
            paths: paths.collect(),
            given: 0,
            built: BTreeMap::new(),
            plan,
        }
    }

    /// The answer for what is bound around it.
    pub(super) fn answer<T: Triples + ?Sized>(
        &mut self,
        seed: &[(Column, Term)],
        cx: &mut Context<'_, T>,
        relations: &[Relation],
    ) -> Result<Answer, EvalError> {
        let tuples = self.tuples(seed, cx, relations)?;
        let limit = self.plan.limit.map(|limit| limit as usize);
        let last = tuples.last().filter(|_| limit == Some(tuples.len()));
        let next = last.map(|last| Cursor(last.iter().map(|term| cx.datum(*term)).collect()));
        let rows = match &self.plan.shape {
            Shape::Table(columns) => Rows::Table {
                columns: columns.iter().map(|column| Arc::clone(&column.name)).collect(),
                rows: tuples
                    .iter()
                    .map(|tuple| tuple.iter().map(|term| cx.datum(*term)).collect())
                    .collect(),
            },
            Shape::Entities { entity, .. } => {
                let entities = tuples.iter().filter_map(|tuple| tuple.last()?.as_entity());
                let entities: Vec<EntityNumber> = entities.collect();
                Rows::Entities(self.objects(Column(entity.0), &entities, cx, relations)?)
            }
        };
        Ok(Answer { rows, next })
    }

    /// The entities that an entity query finds, without their objects.
    pub(super) fn entities<T: Triples + ?Sized>(
        &mut self,
        cx: &mut Context<'_, T>,
        relations: &[Relation],
    ) -> Result<Vec<Term>, EvalError> {
        assert!(
            matches!(self.plan.shape, Shape::Entities { .. }),
            "a table has no entities"
        );
        let tuples = self.tuples(&[], cx, relations)?.into_iter();
        Ok(tuples.filter_map(|tuple| tuple.last().copied()).collect())
    }

    /// The objects that the answer to a seed has. One that several seeds lead to is built once.
    pub(super) fn included<T: Triples + ?Sized>(
        &mut self,
        seed: &[(Column, Term)],
        cx: &mut Context<'_, T>,
        relations: &[Relation],
    ) -> Result<Vec<Arc<Object>>, EvalError> {
        let Shape::Entities { entity, .. } = self.plan.shape else {
            return Ok(Vec::new());
        };
        let tuples = self.tuples(seed, cx, relations)?;
        let entities = tuples.iter().filter_map(|tuple| tuple.last()?.as_entity());
        let objects = entities.map(|number| self.built(Column(entity.0), number, cx, relations));
        objects.collect()
    }

    fn built<T: Triples + ?Sized>(
        &mut self,
        column: Column,
        entity: EntityNumber,
        cx: &mut Context<'_, T>,
        relations: &[Relation],
    ) -> Result<Arc<Object>, EvalError> {
        if let Some(object) = self.built.get(&entity) {
            return Ok(Arc::clone(object));
        }
        let fields = self.fields.as_mut().expect("entities have fields");
        let object = Arc::new(fields.object(column, entity, cx, relations)?);
        self.built.insert(entity, Arc::clone(&object));
        Ok(object)
    }

    /// The tuples of an answer in their order, for what is bound around it.
    fn tuples<T: Triples + ?Sized>(
        &mut self,
        seed: &[(Column, Term)],
        cx: &mut Context<'_, T>,
        relations: &[Relation],
    ) -> Result<Vec<Vec<Term>>, EvalError> {
        let mut sorter = self.sorter(cx);
        let is_sorted = self.plan.limit != Some(0) && self.sort_ordered(&mut sorter, cx, relations)?;
        if !is_sorted {
            sorter = self.sorter(cx);
            self.run.feed_one(seed);
            match &self.plan.shape {
                Shape::Table(_) => self.sort_table(&mut sorter, cx, relations)?,
                Shape::Entities { entity, .. } => self.sort_entities(Column(entity.0), &mut sorter, cx, relations)?,
            }
        }
        let tuples = sorter.finish(cx);
        self.given += tuples.len();
        if self.given > cx.budget().tuples {
            return Err(EvalError::TooManyTuples(cx.budget().tuples));
        }
        Ok(tuples)
    }

    /// The objects of entities, found or not.
    pub(super) fn objects<T: Triples + ?Sized>(
        &mut self,
        column: Column,
        entities: &[EntityNumber],
        cx: &mut Context<'_, T>,
        relations: &[Relation],
    ) -> Result<Vec<Object>, EvalError> {
        let Some(fields) = &mut self.fields else {
            return Ok(Vec::new());
        };
        let mut objects = Vec::with_capacity(entities.len());
        for entity in entities {
            objects.push(fields.object(column, *entity, cx, relations)?);
        }
        Ok(objects)
    }

    fn sorter<T: Triples + ?Sized>(&self, cx: &mut Context<'_, T>) -> Sorter {
        let plan = self.plan;
        let after = plan.after.as_ref().map(|cursor| {
            let terms = cursor.0.iter().map(|datum| cx.term_of(datum));
            terms.collect::<Vec<Term>>()
        });
        let (width, keys) = match &plan.shape {
            Shape::Table(columns) => {
                let keys = plan.order.iter().filter_map(|key| match key.by {
                    OrderBy::Column(at) => Some((at, key.descending)),
                    OrderBy::Path(_) | OrderBy::Id => None,
                });
                let ties = (0..columns.len()).map(|at| (at, false));
                (columns.len(), keys.chain(ties).collect())
            }
            Shape::Entities { .. } => {
                let keys = plan.order.iter().enumerate().map(|(at, key)| (at, key.descending));
                let width = plan.order.len() + 1;
                (width, keys.chain([(width - 1, false)]).collect())
            }
        };
        Sorter::new(width, keys, after, plan.limit.map(|limit| limit as usize))
    }

    fn sort_table<T: Triples + ?Sized>(
        &mut self,
        sorter: &mut Sorter,
        cx: &mut Context<'_, T>,
        relations: &[Relation],
    ) -> Result<(), EvalError> {
        needs_all_forms();
        if self.expressions.iter().any(|expression| expression.is_aggregate()) {
            let mut groups = Groups::new(&self.expressions);
            while let Some(batch) = self.run.next(cx, relations)? {
                groups.add(&batch, cx)?;
            }
            return groups.finish(cx, |tuple, cx| sorter.push(tuple, cx));
        }
        let mut seen = self.repeats.then(|| Tuples::new(self.expressions.len()));
        let mut tuple = Vec::with_capacity(self.expressions.len());
        while let Some(batch) = self.run.next(cx, relations)? {
            for at in 0..batch.len {
                fill(&mut tuple, &self.expressions, &batch, at);
                if is_new(seen.as_mut(), &tuple, cx)? {
                    sorter.push(&tuple, cx)?;
                }
            }
        }
        Ok(())
    }

    fn sort_entities<T: Triples + ?Sized>(
        &mut self,
        column: Column,
        sorter: &mut Sorter,
        cx: &mut Context<'_, T>,
        relations: &[Relation],
    ) -> Result<(), EvalError> {
        let mut seen = self.repeats.then(|| Tuples::new(1));
        let mut tuple = Vec::new();
        while let Some(batch) = self.run.next(cx, relations)? {
            for &id in batch.column(column) {
                if let Some(entity) = id.as_entity()
                    && is_new(seen.as_mut(), &[id], cx)?
                {
                    tuple.clear();
                    for path in &mut self.paths {
                        tuple.push(path.key(entity, cx)?);
                    }
                    tuple.push(id);
                    sorter.push(&tuple, cx)?;
                }
            }
        }
        Ok(())
    }

    /// Reads in the order of the first key until the limit is full. False if the other plan must answer.
    fn sort_ordered<T: Triples + ?Sized>(
        &mut self,
        sorter: &mut Sorter,
        cx: &mut Context<'_, T>,
        relations: &[Relation],
    ) -> Result<bool, EvalError> {
        let (Some(run), Some(plan)) = (&mut self.ordered, &self.plan.ordered) else {
            return Ok(false);
        };
        run.feed_one(&[]);
        let first = self.plan.order.first().zip(self.plan.after.as_ref());
        if let Some((key, cursor)) = first {
            let place = match key.by {
                OrderBy::Column(at) => at,
                OrderBy::Path(_) | OrderBy::Id => 0,
            };
            let edge = match cursor.0.get(place).and_then(|datum| datum.value()) {
                None | Some(crate::value::Value::Ref(_)) => None,
                Some(value) => Some(Edge::Value {
                    value: value.clone(),
                    inclusive: true,
                }),
            };
            if let Some(edge) = edge {
                let (from, to) = if key.descending {
                    (Edge::Open, edge)
                } else {
                    (edge, Edge::Open)
                };
                run.narrow(from, to);
            }
        }
        let entity = match &self.plan.shape {
            Shape::Entities { entity, .. } => Some(Column(entity.0)),
            Shape::Table(_) => None,
        };
        let mut seen = match entity {
            Some(_) => Some(Tuples::new(1)),
            None => self.repeats.then(|| Tuples::new(self.expressions.len())),
        };
        let (mut last, mut tuple) = (None, Vec::new());
        while let Some(batch) = run.next(cx, relations)? {
            for at in 0..batch.len {
                let value = batch.get(plan.column, at);
                if sorter.is_full() && last.is_some_and(|last| ends_run(last, value)) {
                    return Ok(true);
                }
                last = Some(value);
                if let Some(entity) = entity {
                    let id = batch.get(entity, at);
                    let Some(number) = id.as_entity() else { continue };
                    if !is_new(seen.as_mut(), &[id], cx)? {
                        continue;
                    }
                    tuple.clear();
                    // Of several references the scan does not meet the first one first, and behind a cursor it may not
                    // meet the first value at all: that entity stands before the cursor.
                    let may_be_later = value.as_entity().is_some() || first.is_some();
                    let key = if may_be_later {
                        self.paths[0].key(number, cx)?
                    } else {
                        value
                    };
                    tuple.push(key);
                    for path in &mut self.paths[1..] {
                        tuple.push(path.key(number, cx)?);
                    }
                    tuple.push(id);
                } else {
                    fill(&mut tuple, &self.expressions, &batch, at);
                    if !is_new(seen.as_mut(), &tuple, cx)? {
                        continue;
                    }
                }
                sorter.push(&tuple, cx)?;
            }
        }
        Ok(sorter.is_full() || !plan.nulls_last)
    }

    /// Feeds the pipeline for [`Self::stream`]; false if the answer has an order or groups, and must be whole.
    pub(super) fn start_stream(&mut self) -> bool {
        let is_plain = matches!(self.plan.shape, Shape::Table(_))
            && !self.expressions.iter().any(|expression| expression.is_aggregate())
            && self.plan.order.is_empty()
            && self.plan.after.is_none()
            && self.plan.limit.is_none();
        if is_plain {
            self.run.feed_one(&[]);
        }
        is_plain
    }

    /// Starts from nothing.
    pub(super) fn feed_all(&mut self) {
        self.run.feed_one(&[]);
    }

    /// Starts from some values of the variables that the plan has as its seed.
    pub(super) fn feed_keys(&mut self, keys: &[Column], tuples: &[Term]) {
        self.run.feed_keys(keys, tuples);
    }

    /// The next tuples as they are found, flat: a table's, or entities.
    pub(super) fn stream<T: Triples + ?Sized>(
        &mut self,
        seen: &mut Option<Tuples>,
        cx: &mut Context<'_, T>,
        relations: &[Relation],
        out: &mut Vec<Term>,
    ) -> Result<bool, EvalError> {
        let Some(batch) = self.run.next(cx, relations)? else {
            return Ok(false);
        };
        if self.repeats && seen.is_none() {
            *seen = Some(Tuples::new(self.expressions.len()));
        }
        let mut tuple = Vec::with_capacity(self.expressions.len());
        for at in 0..batch.len {
            fill(&mut tuple, &self.expressions, &batch, at);
            if is_new(seen.as_mut(), &tuple, cx)? {
                out.extend_from_slice(&tuple);
                self.given += 1;
            }
        }
        if self.given > cx.budget().tuples {
            return Err(EvalError::TooManyTuples(cx.budget().tuples));
        }
        Ok(true)
    }

    pub(super) fn width(&self) -> usize {
        self.expressions.len()
    }
}

/// Whether all that comes from `value` on lies behind `last` in the order of values. References come in the order of
/// their numbers, so all of them are one run.
fn ends_run(last: Term, value: Term) -> bool {
    last != value && !(last.as_entity().is_some() && value.as_entity().is_some())
}

fn fill(tuple: &mut Vec<Term>, expressions: &[Expression], batch: &Batch, at: usize) {
    tuple.clear();
    let vars = expressions.iter().filter_map(|expression| expression.var());
    tuple.extend(vars.map(|var| batch.get(Column(var.0), at)));
}

fn is_new<T: Triples + ?Sized>(
    seen: Option<&mut Tuples>,
    tuple: &[Term],
    cx: &mut Context<'_, T>,
) -> Result<bool, EvalError> {
    let Some(seen) = seen else { return Ok(true) };
    let is_new = seen.insert(tuple).1;
    if is_new {
        cx.hold(seen.tuple_bytes())?;
    }
    Ok(is_new)
}

fn all_single<T: Triples + ?Sized>(through: &[Predicate], cx: &Context<'_, T>) -> bool {
    let is_single = |predicate: &Predicate| {
        cx.store.predicate_number(predicate).is_none_or(|number| {
            let statistics = cx.store.statistics(number);
            statistics.triples == statistics.subjects
        })
    };
    !through.is_empty() && through.iter().all(is_single)
}

/// Whether a plan in order finds every entity.
fn is_valid<T: Triples + ?Sized>(ordered: &OrderedPlan, cx: &Context<'_, T>) -> bool {
    ordered.if_all_have.as_ref().is_none_or(|predicate| {
        let number = cx.store.predicate_number(predicate);
        let have = number.map_or(0, |number| cx.store.statistics(number).subjects);
        cx.store.entities_of(predicate.entity_type()) == Some(have)
    })
}
