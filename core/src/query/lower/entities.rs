//! The entity form becomes a tree of selects: a body for each, related to the one around it by a reference.

use std::sync::Arc;

use super::{
    body::{Lowering, Rules, disjunction, resolve},
    scope::{Budget, Scope, check_depth, within},
};
use crate::collections::BTreeSet;
use crate::{
    id::{Predicate, is_name},
    query::{
        answer::Datum,
        ast::{
            Literal, Name,
            entity::{Argument, Condition, EntitySelect, FieldItem, ItemValue, Path, PathStep},
        },
        error::{Problem, QueryError},
        limits::{FIELDS_MAX, INCLUDES_MAX, ORDER_KEYS_MAX, STEPS_MAX},
        logic::{
            Body, Comparison, Field, FieldValue, Filter, Kind, Operand, OrderBy, OrderKey, Positive, PredicateTerm,
            Select, Shape, Step, Term, TriplePattern, Var,
        },
        place::Place,
    },
    value::Value,
};

/// An entity that something is asked of: its variable, and its type where that is known.
#[derive(Debug, Clone)]
struct Entity {
    var: Var,
    of_type: Option<Arc<str>>,
}

struct Entities<'a> {
    lowering: Lowering<'a>,
    includes: usize,
}

pub(super) fn lower(
    select: &EntitySelect,
    rules: &Rules,
    budget: &mut Budget,
    scope: &mut Scope,
) -> Result<Select, QueryError> {
    let lowering = Lowering { scope, budget, rules };
    let mut entities = Entities { lowering, includes: 0 };
    let entity = entities.entity(select, "entity");
    entities.select(select, &entity, Body::default(), 1)
}

impl Entities<'_> {
    fn entity(&mut self, select: &EntitySelect, or_else: &str) -> Entity {
        let of_type = select.entity_type.as_ref().map(|name| Arc::clone(&name.text));
        let var = self.lowering.scope.invent(of_type.as_deref().unwrap_or(or_else));
        self.lowering.scope.is_subject(var);
        Entity { var, of_type }
    }

    /// A select whose body begins with what relates its entity to the one around it.
    fn select(
        &mut self,
        select: &EntitySelect,
        entity: &Entity,
        mut body: Body,
        depth: usize,
    ) -> Result<Select, QueryError> {
        check_depth(depth, &select.at)?;
        within("keys of the order", select.order.len(), ORDER_KEYS_MAX, &select.at)?;
        within("fields of an object", select.fields.len(), FIELDS_MAX, &select.at)?;
        if let Some(name) = &select.entity_type {
            check_name(name)?;
        }
        if let Some(condition) = &select.condition {
            self.condition(condition, entity, &mut body, depth)?;
        }
        let predicate = entity.of_type.clone().map_or(PredicateTerm::Any, PredicateTerm::OfType);
        if !is_of(&body, entity) {
            self.lowering.budget.clause(&select.at)?;
            body.positives
                .insert(0, triple(Term::Var(entity.var), predicate, Term::Any));
        }
        put_in_order(&mut body);
        let mut order = Vec::new();
        for key in &select.order {
            let steps = steps(&key.path, entity)?;
            let by = if steps.is_empty() {
                OrderBy::Id
            } else {
                OrderBy::Path(steps)
            };
            let descending = key.descending;
            order.push(OrderKey { by, descending });
        }
        check_cursor(select)?;
        let fields = self.fields(&select.fields, entity, depth)?;
        let var = entity.var;
        Ok(Select {
            body,
            shape: Shape::Entities { entity: var, fields },
            order,
            after: select.after.clone(),
            limit: select.limit,
        })
    }

    // Conditions.

    fn condition(
        &mut self,
        condition: &Condition,
        entity: &Entity,
        body: &mut Body,
        depth: usize,
    ) -> Result<(), QueryError> {
        check_depth(depth, &Place::Unknown)?;
        match condition {
            Condition::And(all) => all
                .iter()
                .try_for_each(|one| self.condition(one, entity, body, depth + 1)),
            Condition::Or(any) => {
                let mut branches = Vec::new();
                for one in any {
                    let mut branch = Body::default();
                    self.condition(one, entity, &mut branch, depth + 1)?;
                    put_in_order(&mut branch);
                    branches.push(branch);
                }
                let or = disjunction(branches, &BTreeSet::from([entity.var]));
                body.positives.push(Positive::Or(or));
                Ok(())
            }
            Condition::Not(inner) => {
                let mut without = Body::default();
                self.condition(inner, entity, &mut without, depth + 1)?;
                put_in_order(&mut without);
                body.filters.push(Filter::Not(without));
                Ok(())
            }
            Condition::Call { name, arguments } => {
                self.lowering.budget.clause(&name.at)?;
                let rule = resolve(self.lowering.rules, name, arguments.len())?;
                let arguments = arguments.iter().map(|argument| match argument {
                    Argument::Id => Term::Var(entity.var),
                    Argument::Constant(constant) => Term::Constant(constant.value.clone()),
                    Argument::Any => Term::Any,
                });
                let arguments = arguments.collect();
                body.positives.push(Positive::Call { rule, arguments });
                Ok(())
            }
            Condition::Compare {
                path,
                comparison,
                value,
            } => self.compare(path, *comparison, value, entity, body),
            Condition::In { path, values } => {
                let var = self.reach(path, entity, body)?;
                let filter = self.lowering.one_of(var, values, &path.at)?;
                body.filters.push(filter);
                Ok(())
            }
            Condition::Text { path, test, text } => {
                let var = self.reach(path, entity, body)?;
                self.lowering.scope.is_compared(var, Kind::String, &path.at);
                let (test, text) = (*test, Arc::clone(text));
                body.filters.push(Filter::Text { var, test, text });
                Ok(())
            }
            Condition::Kind { path, kind } => {
                let var = self.reach(path, entity, body)?;
                body.filters.push(Filter::Kind(var, *kind));
                Ok(())
            }
            Condition::Exists(path) => self.walk(path, entity, &Term::Any, body),
        }
    }

    fn compare(
        &mut self,
        path: &Path,
        comparison: Comparison,
        value: &Literal,
        entity: &Entity,
        body: &mut Body,
    ) -> Result<(), QueryError> {
        if comparison == Comparison::Equal && !path.steps.is_empty() {
            return self.walk(path, entity, &Term::Constant(value.value.clone()), body);
        }
        let left = self.reach(path, entity, body)?;
        self.lowering.scope.is_compared(left, Kind::of(&value.value), &value.at);
        let right = Operand::Constant(value.value.clone());
        body.filters.push(Filter::Compare {
            left,
            comparison,
            right,
        });
        Ok(())
    }

    /// The variable of what a path reaches.
    fn reach(&mut self, path: &Path, entity: &Entity, body: &mut Body) -> Result<Var, QueryError> {
        let Some(last) = path.steps.last() else {
            return Ok(entity.var);
        };
        let (PathStep::Forward { field, .. } | PathStep::Reverse { entity_type: field, .. }) = last;
        let var = self.lowering.scope.invent(&field.text);
        self.walk(path, entity, &Term::Var(var), body)?;
        Ok(var)
    }

    /// A pattern for each step of a path; the last ends at `end`.
    fn walk(&mut self, path: &Path, entity: &Entity, end: &Term, body: &mut Body) -> Result<(), QueryError> {
        let steps = steps(path, entity)?;
        let mut from = entity.var;
        let mut is_entity = true;
        let last = steps.len().saturating_sub(1);
        for (at, step) in steps.into_iter().enumerate() {
            self.lowering.budget.clause(&path.at)?;
            // A path goes on through references alone: what holds an equal text refers to nothing.
            if step.reverse && !is_entity {
                body.filters.push(Filter::Kind(from, Kind::Ref));
            }
            is_entity = step.reverse;
            let to = if at == last {
                end.clone()
            } else {
                Term::Var(self.lowering.scope.invent("step"))
            };
            let here = Term::Var(from);
            let next = to.clone();
            let (subject, object) = if step.reverse { (to, here) } else { (here, to) };
            self.check_subject(&subject, path)?;
            body.positives.push(triple(subject, step.predicate, object));
            if let Term::Var(var) = next {
                from = var;
            }
        }
        Ok(())
    }

    fn check_subject(&mut self, subject: &Term, path: &Path) -> Result<(), QueryError> {
        match subject {
            Term::Var(var) => self.lowering.scope.is_subject(*var),
            Term::Constant(value) if !matches!(value, Value::Ref(_)) => {
                let message = format!("the path leads to entities, and a {} is none", value.type_name());
                let error = QueryError::new(Problem::Senseless(message), &path.at);
                return Err(error.help("an entity's id is written @id"));
            }
            Term::Constant(_) | Term::Any => {}
        }
        Ok(())
    }

    // Fields.

    fn fields(&mut self, items: &[FieldItem], entity: &Entity, depth: usize) -> Result<Vec<Field>, QueryError> {
        let mut fields: Vec<Field> = Vec::new();
        let mut names = BTreeSet::new();
        let has_everything = items.iter().any(|item| matches!(item.value, ItemValue::Everything));
        for item in items {
            let name = item_name(item);
            if has_everything && item.name.is_some() && name.contains('/') {
                let (what, name) = ("the member", name.to_string());
                let error = QueryError::new(Problem::Twice { what, name }, &item.at);
                return Err(error.help("`*` may give one of this name; take a name without `/`"));
            }
            if !names.insert(Arc::clone(&name)) {
                let (what, name) = ("the field", name.to_string());
                let error = QueryError::new(Problem::Twice { what, name }, &item.at);
                return Err(error.help("another name goes behind `as`"));
            }
            if &*name == "id" {
                let (what, name) = ("the member", name.to_string());
                let error = QueryError::new(Problem::Twice { what, name }, &item.at);
                return Err(error.help(
                    "`id` is the entity's own id, which is always there; give the field another name behind `as`",
                ));
            }
            let value = self.field_value(item, entity, depth)?;
            fields.push(Field { name, value });
        }
        Ok(fields)
    }

    fn field_value(&mut self, item: &FieldItem, entity: &Entity, depth: usize) -> Result<FieldValue, QueryError> {
        let of = |field: &Name| predicate(entity.of_type.as_deref(), field);
        match &item.value {
            ItemValue::Everything => Ok(FieldValue::Everything),
            ItemValue::One(field) => of(field).map(FieldValue::One),
            ItemValue::All(field) => of(field).map(FieldValue::All),
            ItemValue::First { field, select } => {
                if select.limit.is_some() || select.after.is_some() {
                    let (what, place) = ("`limit` or `after`", "on a field that gives one entity");
                    let error = QueryError::new(Problem::Misplaced { what, place }, &item.at);
                    return Err(error.help(format!("`{}[]` gives all that it refers to", field.text)));
                }
                let mut first = self.include(field, false, (select, entity), depth)?;
                first.limit = Some(1);
                Ok(FieldValue::First(Box::new(first)))
            }
            ItemValue::Many { field, select } => {
                let many = self.include(field, false, (select, entity), depth)?;
                Ok(FieldValue::Many(Box::new(many)))
            }
            ItemValue::Reverse { field, select } => {
                let many = self.include(field, true, (select, entity), depth)?;
                Ok(FieldValue::Many(Box::new(many)))
            }
        }
    }

    fn include(
        &mut self,
        field: &Name,
        reverse: bool,
        (select, around): (&EntitySelect, &Entity),
        depth: usize,
    ) -> Result<Select, QueryError> {
        self.includes += 1;
        within("includes", self.includes, INCLUDES_MAX, &select.at)?;
        self.lowering.budget.clause(&select.at)?;
        let inner = self.entity(select, &field.text);
        let (here, there) = (Term::Var(around.var), Term::Var(inner.var));
        let link = if reverse {
            triple(there, predicate(inner.of_type.as_deref(), field)?, here)
        } else {
            triple(here, predicate(around.of_type.as_deref(), field)?, there)
        };
        let body = Body {
            positives: vec![link],
            ..Body::default()
        };
        self.select(select, &inner, body, depth + 1)
    }
}

/// Puts the disjunctions behind the clauses that bind the entity, those that need it last.
fn put_in_order(body: &mut Body) {
    body.positives.sort_by_key(|positive| match positive {
        Positive::Triple(_) | Positive::Call { .. } => 0,
        Positive::Or(or) if or.needs.is_empty() => 1,
        Positive::Or(_) => 2,
    });
}

fn triple(subject: Term, predicate: PredicateTerm, object: Term) -> Positive {
    Positive::Triple(TriplePattern {
        subject,
        predicate,
        object,
    })
}

/// The name of a member: what stands behind `as`, or else the field, or the type of those that refer here.
fn item_name(item: &FieldItem) -> Arc<str> {
    if let Some(name) = &item.name {
        return Arc::clone(&name.text);
    }
    match &item.value {
        ItemValue::Everything => "".into(),
        ItemValue::One(field)
        | ItemValue::All(field)
        | ItemValue::First { field, .. }
        | ItemValue::Many { field, .. } => Arc::clone(&field.text),
        ItemValue::Reverse { field, select } => {
            let entity_type = select.entity_type.as_ref().unwrap_or(field);
            Arc::clone(&entity_type.text)
        }
    }
}

/// Whether a body already says that the entity is of its type, or that it is there at all.
fn is_of(body: &Body, entity: &Entity) -> bool {
    body.positives.iter().any(|positive| match positive {
        Positive::Triple(pattern) => {
            let fits = match (&pattern.predicate, &entity.of_type) {
                (_, None) => true,
                (PredicateTerm::Is(predicate), Some(of_type)) => predicate.entity_type() == &**of_type,
                (PredicateTerm::OfType(found), Some(of_type)) => found == of_type,
                _ => false,
            };
            fits && pattern.subject == Term::Var(entity.var)
        }
        Positive::Call { .. } => false,
        Positive::Or(or) => or.branches.iter().all(|branch| is_of(branch, entity)),
    })
}

fn steps(path: &Path, entity: &Entity) -> Result<Vec<Step>, QueryError> {
    within("steps of a path", path.steps.len(), STEPS_MAX, &path.at)?;
    let mut of_type = entity.of_type.clone();
    let mut steps = Vec::new();
    for step in &path.steps {
        steps.push(match step {
            PathStep::Forward { entity_type, field } => {
                let named = entity_type.as_ref().map(|name| Arc::clone(&name.text));
                let predicate = predicate(named.or(of_type).as_deref(), field)?;
                of_type = None;
                let reverse = false;
                Step { predicate, reverse }
            }
            PathStep::Reverse { entity_type, field } => {
                let predicate = predicate(Some(&entity_type.text), field)?;
                of_type = Some(Arc::clone(&entity_type.text));
                let reverse = true;
                Step { predicate, reverse }
            }
        });
    }
    Ok(steps)
}

fn predicate(of_type: Option<&str>, field: &Name) -> Result<PredicateTerm, QueryError> {
    check_name(field)?;
    let Some(of_type) = of_type else {
        return Ok(PredicateTerm::OfField(Arc::clone(&field.text)));
    };
    let text = format!("{of_type}/{}", field.text);
    Predicate::new(&text).map(PredicateTerm::Is).map_err(|_| {
        let (what, rule) = ("a predicate", "it is type/field");
        QueryError::new(Problem::Malformed { text, what, rule }, &field.at)
    })
}

fn check_name(name: &Name) -> Result<(), QueryError> {
    if is_name(&name.text) {
        return Ok(());
    }
    let problem = Problem::Malformed {
        text: format!("`{}`", name.text),
        what: "a name",
        rule: "it has 1 to 64 letters, digits, _ or -, and does not start with a digit or -",
    };
    Err(QueryError::new(problem, &name.at))
}

fn check_cursor(select: &EntitySelect) -> Result<(), QueryError> {
    let Some(cursor) = &select.after else { return Ok(()) };
    let expected = select.order.len() + 1;
    let ends_with_id = matches!(cursor.0.last(), Some(Datum::Value(Value::Ref(_))));
    if cursor.0.len() == expected && ends_with_id {
        return Ok(());
    }
    let problem = if cursor.0.len() == expected {
        Problem::Senseless("the last place of the cursor is no entity's id".to_owned())
    } else {
        Problem::CursorShape {
            expected,
            found: cursor.0.len(),
            rule: "one for each key of the order, and the last row's id as @id",
        }
    };
    let error = QueryError::new(problem, &select.at);
    Err(error.help("a cursor ends with the id of the row that it stands behind, as @id; an answer names its own"))
}
