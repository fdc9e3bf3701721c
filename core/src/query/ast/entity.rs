//! The syntax of the entity form: `post where author.age > 30 order by created desc { title, author { name } }`.

use std::sync::Arc;

use super::{Literal, Name};
use crate::query::{
    logic::{Comparison, Cursor, Kind, TextTest},
    place::Place,
};

/// A query for entities, or an include of some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntitySelect {
    /// Their type. An include through a reference may leave it open.
    pub entity_type: Option<Name>,
    /// `where …`
    pub condition: Option<Condition>,
    /// `order by …`
    pub order: Vec<PathOrder>,
    /// `limit …`
    pub limit: Option<u32>,
    /// `after (…)`
    pub after: Option<Cursor>,
    /// `{ … }`. Without it, everything.
    pub fields: Vec<FieldItem>,
    /// All of it.
    pub at: Place,
}

/// A condition on an entity. A test of a path holds if it holds of any value that the path reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// All hold. Two or more, none of them `And` itself.
    And(Vec<Self>),
    /// Any holds. Two or more, none of them `Or` itself.
    Or(Vec<Self>),
    /// It does not hold.
    Not(Box<Self>),
    /// `age > 30`; `tags has "x"` is `tags = "x"`
    Compare {
        /// What is compared.
        path: Path,
        /// How.
        comparison: Comparison,
        /// With what.
        value: Literal,
    },
    /// `status in ("open", "held")`
    In {
        /// What is looked for.
        path: Path,
        /// Those it may be.
        values: Vec<Literal>,
    },
    /// `title starts "a"`
    Text {
        /// What is tested.
        path: Path,
        /// How.
        test: TextTest,
        /// What with.
        text: Arc<str>,
    },
    /// `age is number`
    Kind {
        /// What is tested.
        path: Path,
        /// The type.
        kind: Kind,
    },
    /// `title exists`
    Exists(Path),
    /// `under(id, @root)`
    Call {
        /// The rule.
        name: Name,
        /// One for each column.
        arguments: Vec<Argument>,
    },
}

/// An argument of a rule in a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// `id`: the entity itself.
    Id,
    /// A constant.
    Constant(Literal),
    /// `_`
    Any,
}

/// A way from an entity to values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// The steps. None is `id`, the entity itself.
    pub steps: Vec<PathStep>,
    /// Where.
    pub at: Place,
}

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathStep {
    /// `age`, or `author:user.age` for the second step with its type.
    Forward {
        /// The type of the entity whose field it is. Without it: the type of the query for the first step, the type of
        /// the step before if that is `<comment.post`, and otherwise any type.
        entity_type: Option<Name>,
        /// The field.
        field: Name,
    },
    /// `<comment.post`: to the comments whose `post` refers here.
    Reverse {
        /// The type of those that refer.
        entity_type: Name,
        /// Their field.
        field: Name,
    },
}

/// A key of the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathOrder {
    /// What is compared: the least value it reaches, or the greatest when descending.
    pub path: Path,
    /// `desc`
    pub descending: bool,
}

/// A member of the objects that are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldItem {
    /// What it holds.
    pub value: ItemValue,
    /// `as …`
    pub name: Option<Name>,
    /// Where.
    pub at: Place,
}

/// What a member holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemValue {
    /// `*`
    Everything,
    /// `title`: the least value, or null.
    One(Name),
    /// `tags[]`: all values.
    All(Name),
    /// `author { name }`: the first entity, or null.
    First {
        /// The field that refers to it.
        field: Name,
        /// What is asked of it.
        select: EntitySelect,
    },
    /// `likes[] { name }`: all entities that the field refers to.
    Many {
        /// The field that refers to them.
        field: Name,
        /// What is asked of them.
        select: EntitySelect,
    },
    /// `<comment.post { text }`: all entities that refer here. Their type is the select's.
    Reverse {
        /// Their field that refers here.
        field: Name,
        /// What is asked of them.
        select: EntitySelect,
    },
}

impl EntitySelect {
    /// All entities of a type, with everything.
    pub fn new(entity_type: Option<Name>) -> Self {
        Self {
            entity_type,
            condition: None,
            order: Vec::new(),
            limit: None,
            after: None,
            fields: vec![FieldItem::everything()],
            at: Place::Unknown,
        }
    }

    /// Whether nothing is said but that everything is asked for.
    pub(crate) fn asks_for_everything(&self) -> bool {
        matches!(
            self.fields.as_slice(),
            [FieldItem {
                value: ItemValue::Everything,
                ..
            }]
        )
    }
}

impl FieldItem {
    /// `*`
    pub const fn everything() -> Self {
        Self {
            value: ItemValue::Everything,
            name: None,
            at: Place::Unknown,
        }
    }
}
