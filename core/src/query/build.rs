//! Entity queries written in Rust.
//!
//! ```
//! use halcyon_core::query::{ast::Query, build::{all, field, one, reference, reverse}};
//!
//! let query = Query::entity("post")
//!     .where_(field("author.age").gt(30).and(field("tags").has("x").not()))
//!     .order_by_desc("created")
//!     .limit(50)
//!     .select([
//!         one("title"),
//!         all("tags"),
//!         reference("author").select([one("name")]).into(),
//!         reverse("comment.post").named("comments").order_by("created").limit(5).select([one("text")]).into(),
//!     ])
//!     .build()?;
//! assert_eq!(
//!     query.to_string(),
//!     "post where author.age > 30 and not tags = \"x\" order by created desc limit 50 \
//!      { title, tags[], author { name }, <comment.post as comments order by created limit 5 { text } }",
//! );
//! # Ok::<(), halcyon_core::query::error::QueryError>(())
//! ```
//!
//! Paths are written as in the text form. What is wrong with one is reported by `build`.

use super::{
    ast::{
        Literal, Name, Query,
        entity::{Condition, EntitySelect, FieldItem, ItemValue, Path, PathOrder},
    },
    error::{Problem, QueryError},
    logic::{Comparison, Cursor, Kind, TextTest},
    place::Place,
    text,
};
use crate::{id::EntityId, value::Value};

impl Query {
    /// Begins a query for entities of a type.
    pub fn entity(entity_type: &str) -> Entities {
        Entities(Ok(EntitySelect::new(Some(Name::new(entity_type)))))
    }
}

/// A query for entities that is being written.
#[derive(Debug, Clone)]
pub struct Entities(Result<EntitySelect, QueryError>);

/// An include that is being written.
#[derive(Debug, Clone)]
pub struct Include {
    kind: IncludeKind,
    field: Name,
    name: Option<Name>,
    select: Result<EntitySelect, QueryError>,
}

#[derive(Debug, Clone, Copy)]
enum IncludeKind {
    First,
    Many,
    Reverse,
}

/// A member of the objects that are asked for.
#[derive(Debug, Clone)]
pub struct Member(Result<FieldItem, QueryError>);

/// A way from an entity to values, about to be tested.
#[derive(Debug, Clone)]
pub struct Field(Result<Path, QueryError>);

/// A condition.
#[derive(Debug, Clone)]
pub struct Where(Result<Condition, QueryError>);

/// The values that a path such as `author.age` reaches.
pub fn field(path: &str) -> Field {
    Field(text::parse_path(path))
}

/// A member with the least value of a field, or null.
pub fn one(field: &str) -> Member {
    Member(Ok(item(ItemValue::One(Name::new(field)))))
}

/// A member with all values of a field, in a list.
pub fn all(field: &str) -> Member {
    Member(Ok(item(ItemValue::All(Name::new(field)))))
}

/// A member for each predicate.
pub fn everything() -> Member {
    Member(Ok(FieldItem::everything()))
}

/// The entity that a field refers to, or null.
pub fn reference(field: &str) -> Include {
    Include::new(IncludeKind::First, field, None)
}

/// All entities that a field refers to.
pub fn references(field: &str) -> Include {
    Include::new(IncludeKind::Many, field, None)
}

/// All entities that refer here: `comment.post` are the comments whose `post` is this entity.
pub fn reverse(of: &str) -> Include {
    let Some((entity_type, field)) = of.split_once('.') else {
        let expected = "a type and its field that refers here, such as comment.post";
        let error = QueryError::expected(expected, format!("{of:?}"), &Place::Unknown);
        let mut include = Include::new(IncludeKind::Reverse, of, None);
        include.select = Err(error);
        return include;
    };
    Include::new(IncludeKind::Reverse, field, Some(Name::new(entity_type)))
}

fn item(value: ItemValue) -> FieldItem {
    FieldItem {
        value,
        ..FieldItem::everything()
    }
}

/// What a query and an include have in common; `$select` is a `Result<EntitySelect, QueryError>`.
macro_rules! select_methods {
    ($($select:tt)+) => {
        /// Only those of which a condition holds; of several, all must.
        pub fn where_(mut self, condition: Where) -> Self {
            self.$($select)+ = self.$($select)+.and_then(|mut select| {
                let condition = condition.0?;
                select.condition = Some(match select.condition {
                    Some(before) => Condition::all(vec![before, condition]),
                    None => condition,
                });
                Ok(select)
            });
            self
        }

        /// Least first, after the keys that are there already.
        pub fn order_by(self, path: &str) -> Self {
            self.ordered(path, false)
        }

        /// Greatest first, after the keys that are there already.
        pub fn order_by_desc(self, path: &str) -> Self {
            self.ordered(path, true)
        }

        fn ordered(mut self, path: &str, descending: bool) -> Self {
            self.$($select)+ = self.$($select)+.and_then(|mut select| {
                let path = text::parse_path(path)?;
                select.order.push(PathOrder { path, descending });
                Ok(select)
            });
            self
        }

        /// At most so many.
        pub fn limit(mut self, limit: u32) -> Self {
            self.$($select)+ = self.$($select)+.map(|select| EntitySelect { limit: Some(limit), ..select });
            self
        }

        /// What the objects hold. Without it: everything.
        pub fn select(mut self, members: impl IntoIterator<Item = Member>) -> Self {
            self.$($select)+ = self.$($select)+.and_then(|select| {
                let fields = members.into_iter().map(|member| member.0).collect::<Result<_, _>>()?;
                Ok(EntitySelect { fields, ..select })
            });
            self
        }
    };
}

impl Entities {
    select_methods!(0);

    /// Only those behind a cursor.
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.0 = self.0.map(|select| EntitySelect {
            after: Some(cursor),
            ..select
        });
        self
    }

    /// The query.
    pub fn build(self) -> Result<Query, QueryError> {
        let rules = Vec::new();
        self.0.map(|select| Query::Entity { rules, select })
    }
}

impl Include {
    fn new(kind: IncludeKind, field: &str, entity_type: Option<Name>) -> Self {
        Self {
            kind,
            field: Name::new(field),
            name: None,
            select: Ok(EntitySelect::new(entity_type)),
        }
    }

    select_methods!(select);

    /// Only entities of a type, whose fields are then meant.
    pub fn of(mut self, entity_type: &str) -> Self {
        self.select = self.select.map(|select| EntitySelect {
            entity_type: Some(Name::new(entity_type)),
            ..select
        });
        self
    }

    /// Under another name than the field's.
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(Name::new(name));
        self
    }
}

impl Member {
    /// Under another name than the field's.
    pub fn named(self, name: &str) -> Self {
        Self(self.0.map(|item| FieldItem {
            name: Some(Name::new(name)),
            ..item
        }))
    }
}

impl From<Include> for Member {
    fn from(include: Include) -> Self {
        let (kind, field, name) = (include.kind, include.field, include.name);
        Self(include.select.map(|select| FieldItem {
            value: match kind {
                IncludeKind::First => ItemValue::First { field, select },
                IncludeKind::Many => ItemValue::Many { field, select },
                IncludeKind::Reverse => ItemValue::Reverse { field, select },
            },
            name,
            at: Place::Unknown,
        }))
    }
}

impl Field {
    fn test(self, test: impl FnOnce(Path) -> Condition) -> Where {
        Where(self.0.map(test))
    }

    fn compare(self, comparison: Comparison, value: impl Into<Value>) -> Where {
        let value = literal(value);
        self.test(|path| Condition::Compare {
            path,
            comparison,
            value,
        })
    }

    /// Some value equals this one.
    pub fn eq(self, value: impl Into<Value>) -> Where {
        self.compare(Comparison::Equal, value)
    }

    /// The set of values has this one: the same as [`Self::eq`].
    pub fn has(self, value: impl Into<Value>) -> Where {
        self.compare(Comparison::Equal, value)
    }

    /// Some value is another than this one.
    pub fn ne(self, value: impl Into<Value>) -> Where {
        self.compare(Comparison::NotEqual, value)
    }

    /// Some value is less.
    pub fn lt(self, value: impl Into<Value>) -> Where {
        self.compare(Comparison::Less, value)
    }

    /// Some value is at most this one.
    pub fn lte(self, value: impl Into<Value>) -> Where {
        self.compare(Comparison::AtMost, value)
    }

    /// Some value is greater.
    pub fn gt(self, value: impl Into<Value>) -> Where {
        self.compare(Comparison::Greater, value)
    }

    /// Some value is at least this one.
    pub fn gte(self, value: impl Into<Value>) -> Where {
        self.compare(Comparison::AtLeast, value)
    }

    /// Some value is one of these.
    pub fn one_of<V: Into<Value>>(self, values: impl IntoIterator<Item = V>) -> Where {
        let values: Vec<Literal> = values.into_iter().map(literal).collect();
        if values.is_empty() {
            let problem = Problem::Senseless("nothing is among no values".to_owned());
            return Where(Err(QueryError::new(problem, &Place::Unknown)));
        }
        self.test(|path| Condition::In { path, values })
    }

    /// Some value is a string that begins so.
    pub fn starts_with(self, text: &str) -> Where {
        let (test, text) = (TextTest::StartsWith, text.into());
        self.test(|path| Condition::Text { path, test, text })
    }

    /// Some value is a string that holds this.
    pub fn contains(self, text: &str) -> Where {
        let (test, text) = (TextTest::Contains, text.into());
        self.test(|path| Condition::Text { path, test, text })
    }

    /// Some value is of a type.
    pub fn is(self, kind: Kind) -> Where {
        self.test(|path| Condition::Kind { path, kind })
    }

    /// There is a value.
    pub fn exists(self) -> Where {
        self.test(Condition::Exists)
    }
}

impl Where {
    /// Both hold.
    pub fn and(self, other: Self) -> Self {
        Self(self.0.and_then(|one| Ok(Condition::all(vec![one, other.0?]))))
    }

    /// One of them holds.
    pub fn or(self, other: Self) -> Self {
        Self(self.0.and_then(|one| Ok(Condition::any(vec![one, other.0?]))))
    }

    /// It does not hold.
    #[expect(clippy::should_implement_trait, reason = "reads like `and` and `or`")]
    pub fn not(self) -> Self {
        Self(self.0.map(|one| Condition::Not(Box::new(one))))
    }
}

fn literal(value: impl Into<Value>) -> Literal {
    Literal {
        value: value.into(),
        at: Place::Unknown,
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::string(text)
    }
}

impl From<bool> for Value {
    fn from(boolean: bool) -> Self {
        Self::Boolean(boolean)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::number(number.into()).expect("a whole number is a number")
    }
}

impl From<EntityId> for Value {
    fn from(entity: EntityId) -> Self {
        Self::Ref(entity)
    }
}
