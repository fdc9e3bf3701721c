//! Random queries in the entity form. Each passes all checks.

use std::sync::Arc;

use super::{
    choices::Choices,
    datalog::{Features, closure},
    schema::{FieldSchema, Schema, entity, value},
};
use crate::collections::BTreeSet;
use crate::{
    query::{
        answer::Datum,
        ast::{
            Literal, Name, Query,
            entity::{Argument, Condition, EntitySelect, FieldItem, ItemValue, Path, PathOrder, PathStep},
        },
        logic::{Comparison, Cursor, Kind, TextTest},
        place::Place,
    },
    value::Value,
};

/// A query. Of the features, it heeds whether there may be rules.
pub fn query(schema: &Schema, features: Features, choices: &mut Choices<'_>) -> Query {
    let mut maker = Maker { schema, choices };
    let of_type = maker.any_type();
    let mut select = maker.select(Some(of_type), 0);
    if maker.choices.one_in(8) {
        let keys = (0..select.order.len()).map(|_| maker.datum()).collect::<Vec<_>>();
        let id = Datum::Value(Value::Ref(entity(maker.choices.below(7))));
        select.after = Some(Cursor(keys.into_iter().chain([id]).collect()));
    }
    let mut rules = Vec::new();
    if features.rules && maker.choices.one_in(6) {
        let field = maker.reference(None);
        rules.extend(closure(&field, maker.choices.one_in(4)));
        let call = maker.call();
        select.condition = Some(match select.condition {
            Some(before) => Condition::all(vec![call, before]),
            None => call,
        });
    }
    Query::Entity { rules, select }
}

struct Maker<'a, 'b> {
    schema: &'a Schema,
    choices: &'a mut Choices<'b>,
}

/// How deep includes nest here.
const DEPTH: usize = 2;

impl Maker<'_, '_> {
    fn any_type(&mut self) -> Arc<str> {
        self.choices.pick(&self.schema.fields).predicate.entity_type().into()
    }

    /// A field of a type, or of any.
    fn field(&mut self, of_type: Option<&str>) -> FieldSchema {
        let fits = |field: &&FieldSchema| of_type.is_none_or(|of_type| field.predicate.entity_type() == of_type);
        let fields: Vec<&FieldSchema> = self.schema.fields.iter().filter(fits).collect();
        (*self.choices.pick(&fields)).clone()
    }

    fn reference(&mut self, of_type: Option<&str>) -> FieldSchema {
        let fits = |field: &&FieldSchema| {
            field.kind == Kind::Ref && of_type.is_none_or(|of_type| field.predicate.entity_type() == of_type)
        };
        let fields: Vec<&FieldSchema> = self.schema.fields.iter().filter(fits).collect();
        (*self.choices.pick(&fields)).clone()
    }

    fn select(&mut self, of_type: Option<Arc<str>>, depth: usize) -> EntitySelect {
        let condition = self.choices.one_in(2).then(|| self.condition(of_type.as_deref(), 0));
        let mut order = Vec::new();
        for _ in 0..self.choices.below(3) {
            let path = self.path(of_type.as_deref()).0;
            let descending = self.choices.one_in(2);
            order.push(PathOrder { path, descending });
        }
        let limit = self.choices.one_in(3).then(|| [3, 1, 2, 0, 50][self.choices.below(5)]);
        let fields = if self.choices.one_in(4) {
            vec![FieldItem::everything()]
        } else {
            self.fields(of_type.as_deref(), depth)
        };
        EntitySelect {
            entity_type: of_type.map(|name| Name::new(&name)),
            condition,
            order,
            limit,
            after: None,
            fields,
            at: Place::Unknown,
        }
    }

    // Conditions.

    fn call(&mut self) -> Condition {
        let other = match self.choices.below(3) {
            2 => Argument::Any,
            _ => Argument::Constant(self.literal(Kind::Ref)),
        };
        let mut arguments = vec![Argument::Id, other];
        if self.choices.one_in(2) {
            arguments.reverse();
        }
        let name = Name::new("reach");
        let call = Condition::Call { name, arguments };
        if self.choices.one_in(4) {
            Condition::Not(Box::new(call))
        } else {
            call
        }
    }

    fn condition(&mut self, of_type: Option<&str>, depth: usize) -> Condition {
        let inner = |maker: &mut Self| maker.condition(of_type, depth + 1);
        match self.choices.below(if depth < 2 { 9 } else { 6 }) {
            6 => {
                let all = (0..2 + self.choices.below(2)).map(|_| inner(self)).collect();
                Condition::all(all)
            }
            7 => {
                let any = (0..2 + self.choices.below(2)).map(|_| inner(self)).collect();
                Condition::any(any)
            }
            8 => Condition::Not(Box::new(inner(self))),
            _ => self.test(of_type),
        }
    }

    fn test(&mut self, of_type: Option<&str>) -> Condition {
        let (path, kind) = self.path(of_type);
        let leads_to_subject = matches!(path.steps.last(), None | Some(PathStep::Reverse { .. }));
        match self.choices.below(8) {
            3 => Condition::Exists(path),
            4 => Condition::In {
                path,
                values: (0..=self.choices.below(3)).map(|_| self.literal(kind)).collect(),
            },
            5 if !leads_to_subject => Condition::Text {
                path,
                test: *self.choices.pick(&[TextTest::StartsWith, TextTest::Contains]),
                text: (*self.choices.pick(&["x", "y", ""])).into(),
            },
            6 => Condition::Kind {
                path,
                kind: *self.choices.pick(&[kind, Kind::Number]),
            },
            _ => Condition::Compare {
                path,
                comparison: *self.choices.pick(&Comparison::ALL),
                value: self.literal(kind),
            },
        }
    }

    fn literal(&mut self, kind: Kind) -> Literal {
        let at = Place::Unknown;
        let value = value(kind, self.choices);
        Literal { value, at }
    }

    fn datum(&mut self) -> Datum {
        match self.choices.below(8) {
            0 => Datum::Null,
            kind => Datum::Value(value(Kind::ALL[kind - 1], self.choices)),
        }
    }

    /// A path, and what it mostly ends at.
    fn path(&mut self, of_type: Option<&str>) -> (Path, Kind) {
        let at = Place::Unknown;
        let mut steps = Vec::new();
        let mut here: Option<Arc<str>> = of_type.map(Into::into);
        let mut named: Option<Arc<str>> = None;
        for _ in 0..self.choices.below(3) {
            if self.choices.one_in(3) {
                let from = self.reference(None);
                let of_type = from.predicate.entity_type();
                steps.push(PathStep::Reverse {
                    entity_type: Name::new(of_type),
                    field: Name::new(from.predicate.field()),
                });
                here = Some(of_type.into());
                named = None;
            } else {
                let from = self.reference(named.as_deref().or(here.as_deref()));
                steps.push(forward(named.take(), &from));
                named = self.choices.one_in(3).then(|| self.any_type());
                here = None;
            }
        }
        if steps.is_empty() && self.choices.one_in(8) {
            return (Path { steps, at }, Kind::Ref);
        }
        if matches!(steps.last(), Some(PathStep::Reverse { .. })) && self.choices.one_in(3) {
            return (Path { steps, at }, Kind::Ref);
        }
        let last = self.field(named.as_deref().or(here.as_deref()));
        steps.push(forward(named, &last));
        (Path { steps, at }, last.kind)
    }

    // Fields.

    fn fields(&mut self, of_type: Option<&str>, depth: usize) -> Vec<FieldItem> {
        let mut names = BTreeSet::new();
        let mut items = Vec::new();
        for number in 0..self.choices.below(4) {
            let value = match self.choices.below(if depth < DEPTH { 7 } else { 3 }) {
                2 => ItemValue::All(name_of(&self.field(of_type))),
                3 | 4 => self.include(of_type, depth),
                5 | 6 => {
                    let from = self.reference(None);
                    ItemValue::Reverse {
                        field: name_of(&from),
                        select: self.select(Some(from.predicate.entity_type().into()), depth + 1),
                    }
                }
                _ => ItemValue::One(name_of(&self.field(of_type))),
            };
            let own: Arc<str> = match &value {
                ItemValue::Everything => "".into(),
                ItemValue::One(field)
                | ItemValue::All(field)
                | ItemValue::First { field, .. }
                | ItemValue::Many { field, .. } => Arc::clone(&field.text),
                ItemValue::Reverse { field, select } => Arc::clone(&select.entity_type.as_ref().unwrap_or(field).text),
            };
            let name = (!names.insert(own)).then(|| Name::new(&format!("as {number}")));
            items.push(FieldItem {
                value,
                name,
                at: Place::Unknown,
            });
        }
        items
    }

    fn include(&mut self, of_type: Option<&str>, depth: usize) -> ItemValue {
        let field = name_of(&self.reference(of_type));
        let inner_type = self.choices.one_in(2).then(|| self.any_type());
        let mut select = self.select(inner_type, depth + 1);
        if self.choices.one_in(2) {
            return ItemValue::Many { field, select };
        }
        select.limit = None;
        ItemValue::First { field, select }
    }
}

fn name_of(field: &FieldSchema) -> Name {
    Name::new(field.predicate.field())
}

fn forward(named: Option<Arc<str>>, field: &FieldSchema) -> PathStep {
    PathStep::Forward {
        entity_type: named.map(|name| Name::new(&name)),
        field: name_of(field),
    }
}
