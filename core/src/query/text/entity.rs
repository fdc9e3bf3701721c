//! The entity form: `post where author.age > 30 and not tags has "x" order by created desc { title, author { name } }`.

use super::{
    lexer::Token,
    parser::{Parser, TAIL},
};
use crate::query::{
    ast::{
        Name,
        entity::{Argument, Condition, EntitySelect, FieldItem, ItemValue, Path, PathOrder, PathStep},
    },
    error::{Problem, QueryError},
    logic::Comparison,
};

const WHAT_FOLLOWS: &str = "`where`, `order by`, `limit`, `after`, `{` or the end of the query";

/// What may come after a field that is asked for.
const AFTER_FIELD: [&str; 5] = ["as", "where", TAIL[0], TAIL[1], TAIL[2]];

const TESTS: [&str; 6] = ["has", "in", "starts", "contains", "is", "exists"];

impl Parser {
    /// `post where … order by … limit … after … { … }`
    pub(super) fn entity_query(&mut self) -> Result<EntitySelect, QueryError> {
        let start = self.here();
        let expected = "a type of entities, such as `post`, or `find`";
        let entity_type = self.name(expected)?;
        let mut select = self.select_rest(Some(entity_type))?;
        select.at = self.since(&start);
        if self.is_word("where") && select.condition.is_none() {
            let (what, place) = ("`where`", "behind `order by`, `limit`, `after` or the fields");
            let error = QueryError::new(Problem::Misplaced { what, place }, &self.here());
            return Err(error.help("it follows the type: `post where … order by … limit … { … }`"));
        }
        if *self.peek() != Token::End {
            return Err(self.unexpected_among(WHAT_FOLLOWS, &["where", "and", "or", TAIL[0], TAIL[1], TAIL[2]]));
        }
        Ok(select)
    }

    /// What follows the type.
    fn select_rest(&mut self, entity_type: Option<Name>) -> Result<EntitySelect, QueryError> {
        let start = self.here();
        let condition = if self.take_word("where") {
            Some(self.condition()?)
        } else {
            None
        };
        let tail = self.tail(Self::path_order)?;
        let fields = if self.is_sign("{") {
            self.nested(Self::fields)?
        } else {
            vec![FieldItem::everything()]
        };
        Ok(EntitySelect {
            entity_type,
            condition,
            order: tail.order,
            limit: tail.limit,
            after: tail.after,
            fields,
            at: self.since(&start),
        })
    }

    fn path_order(&mut self) -> Result<PathOrder, QueryError> {
        let path = self.path()?;
        let descending = self.direction();
        Ok(PathOrder { path, descending })
    }

    // Fields.

    fn fields(&mut self) -> Result<Vec<FieldItem>, QueryError> {
        self.need_sign("{")?;
        let mut fields = Vec::new();
        while !self.is_sign("}") {
            if self.is_word("id") {
                self.own_id()?;
            } else {
                fields.push(self.field()?);
            }
            if !self.take_sign(",") && !self.is_sign("}") {
                let expected = "`,` and another field, `}`, or `{` for the fields of what it refers to";
                return Err(self.unexpected_among(expected, &AFTER_FIELD));
            }
        }
        self.advance();
        Ok(fields)
    }

    /// `id` may be asked for; it is there anyhow.
    fn own_id(&mut self) -> Result<(), QueryError> {
        self.advance();
        if self.is_sign(",") || self.is_sign("}") {
            return Ok(());
        }
        let error = self.unexpected("`,` or `}`");
        Err(error.help("`id` is the entity's own id; a field of that name stands in backquotes"))
    }

    fn field(&mut self) -> Result<FieldItem, QueryError> {
        let start = self.here();
        if self.take_sign("*") {
            return Ok(FieldItem {
                value: ItemValue::Everything,
                name: None,
                at: start,
            });
        }
        if self.take_sign("<") {
            let entity_type = self.name("a type")?;
            self.need_sign(".")?;
            let field = self.name("a field")?;
            let name = self.label_after_as()?;
            let select = self.select_rest(Some(entity_type))?;
            let value = ItemValue::Reverse { field, select };
            let at = self.since(&start);
            return Ok(FieldItem { value, name, at });
        }
        let field = self.name("a field, `*` or `<`")?;
        let many = self.take_sign("[");
        if many {
            self.need_sign("]")?;
        }
        let entity_type = if self.take_sign(":") {
            Some(self.name("a type")?)
        } else {
            None
        };
        let name = self.label_after_as()?;
        let is_include = entity_type.is_some() || self.is_select();
        let value = match (is_include, many) {
            (false, false) => ItemValue::One(field),
            (false, true) => ItemValue::All(field),
            (true, many) => {
                let select = self.select_rest(entity_type)?;
                if many {
                    ItemValue::Many { field, select }
                } else {
                    ItemValue::First { field, select }
                }
            }
        };
        let at = self.since(&start);
        Ok(FieldItem { value, name, at })
    }

    fn label_after_as(&mut self) -> Result<Option<Name>, QueryError> {
        if self.take_word("as") {
            return self.label().map(Some);
        }
        Ok(None)
    }

    fn is_select(&self) -> bool {
        self.is_sign("{") || self.is_word("where") || TAIL.iter().any(|word| self.is_word(word))
    }

    // Conditions.

    fn condition(&mut self) -> Result<Condition, QueryError> {
        let mut any = vec![self.conjunction()?];
        while self.take_word("or") {
            any.push(self.conjunction()?);
        }
        Ok(Condition::any(any))
    }

    fn conjunction(&mut self) -> Result<Condition, QueryError> {
        let mut all = vec![self.negation()?];
        while self.take_word("and") {
            all.push(self.negation()?);
        }
        Ok(Condition::all(all))
    }

    fn negation(&mut self) -> Result<Condition, QueryError> {
        if self.take_word("not") {
            return Ok(Condition::Not(Box::new(self.nested(Self::negation)?)));
        }
        if self.take_sign("(") {
            let condition = self.nested(Self::condition)?;
            self.need_sign(")")?;
            return Ok(condition);
        }
        self.test()
    }

    fn test(&mut self) -> Result<Condition, QueryError> {
        let is_name = matches!(self.peek(), Token::Word(_) | Token::Quoted(_));
        if is_name && *self.peek_at(1) == Token::Sign("(") {
            return self.call_condition();
        }
        let path = self.path()?;
        if let Some(comparison) = self.comparison() {
            let value = self.literal()?;
            return Ok(Condition::Compare {
                path,
                comparison,
                value,
            });
        }
        if let Some(test) = self.text_test() {
            let text = self.text()?;
            return Ok(Condition::Text { path, test, text });
        }
        if self.take_word("has") {
            let value = self.literal()?;
            let comparison = Comparison::Equal;
            return Ok(Condition::Compare {
                path,
                comparison,
                value,
            });
        }
        if self.take_word("in") {
            let values = self.literals()?;
            return Ok(Condition::In { path, values });
        }
        if self.take_word("is") {
            let kind = self.kind()?;
            return Ok(Condition::Kind { path, kind });
        }
        if self.take_word("exists") {
            return Ok(Condition::Exists(path));
        }
        let expected = "a test of it: = != < <= > >=, `has`, `in`, `starts`, `contains`, `is` or `exists`";
        let error = self.unexpected_among(expected, &TESTS);
        Err(if *self.peek() == Token::Sign("/") {
            error
                .help("the steps of a path stand apart by dots; a type stands before the field it has: author:user.age")
        } else {
            error
        })
    }

    fn call_condition(&mut self) -> Result<Condition, QueryError> {
        let name = self.name_not_keyword("the name of a rule")?;
        self.need_sign("(")?;
        let arguments = self.list(Self::argument)?;
        self.need_sign(")")?;
        Ok(Condition::Call { name, arguments })
    }

    fn argument(&mut self) -> Result<Argument, QueryError> {
        if self.take_word("id") {
            return Ok(Argument::Id);
        }
        if self.take_word("_") {
            return Ok(Argument::Any);
        }
        if self.is_constant() {
            return Ok(Argument::Constant(self.literal()?));
        }
        Err(self.unexpected("`id`, a constant or `_`"))
    }

    // Paths.

    /// `id`, `author.age`, `author:user.age` or `<comment.post.text`
    pub(super) fn path(&mut self) -> Result<Path, QueryError> {
        self.path_among(true)
    }

    /// A path; among keywords, its first name cannot be one.
    pub(super) fn path_among(&mut self, keywords: bool) -> Result<Path, QueryError> {
        let start = self.here();
        if self.is_word("id") {
            self.advance();
            if self.is_sign(".") {
                let error = self.unexpected("a test of `id`");
                return Err(error.help("`id` is the entity itself; a path begins with a field, such as `author.age`"));
            }
            let at = self.since(&start);
            return Ok(Path { steps: Vec::new(), at });
        }
        let mut steps = vec![self.step(keywords)?];
        loop {
            if self.take_sign(":") {
                let entity_type = self.name("a type")?;
                self.need_sign(".")?;
                let field = self.name("a field")?;
                let entity_type = Some(entity_type);
                steps.push(PathStep::Forward { entity_type, field });
            } else if self.take_sign(".") {
                steps.push(self.step(false)?);
            } else {
                let at = self.since(&start);
                return Ok(Path { steps, at });
            }
        }
    }

    fn step(&mut self, keywords: bool) -> Result<PathStep, QueryError> {
        if self.take_sign("<") {
            let entity_type = self.name("a type")?;
            self.need_sign(".")?;
            let field = self.name("a field")?;
            return Ok(PathStep::Reverse { entity_type, field });
        }
        let field = if keywords {
            self.name_not_keyword("a field or `<`")?
        } else {
            self.name("a field or `<`")?
        };
        Ok(PathStep::Forward {
            entity_type: None,
            field,
        })
    }
}

impl Condition {
    /// All of these; conditions that are such a list themselves become part of it.
    pub fn all(conditions: Vec<Self>) -> Self {
        let mut flat = Vec::new();
        for condition in conditions {
            match condition {
                Self::And(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        match flat.pop() {
            Some(only) if flat.is_empty() => only,
            Some(last) => {
                flat.push(last);
                Self::And(flat)
            }
            None => Self::And(flat),
        }
    }

    /// Any of these; conditions that are such a list themselves become part of it.
    pub fn any(conditions: Vec<Self>) -> Self {
        let mut flat = Vec::new();
        for condition in conditions {
            match condition {
                Self::Or(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        match flat.pop() {
            Some(only) if flat.is_empty() => only,
            Some(last) => {
                flat.push(last);
                Self::Or(flat)
            }
            None => Self::Or(flat),
        }
    }
}
