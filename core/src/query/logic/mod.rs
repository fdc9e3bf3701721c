//! The logical form: what a query means, once names are resolved and everything is checked.
//!
//! Both surface forms ([`super::ast`]) become this, and all that answers queries starts from it: the naive evaluator,
//! the planner, live queries. A value of these types that came out of [`super::lower`] keeps these promises:
//!
//! - every variable that a filter, a head, a column or an order key uses is bound by the clauses it may rely on;
//! - no two scopes share a variable: what is local to a branch, to a `not` or to an include has a number of its own;
//! - no rule depends on itself through a `not` or an aggregate; [`Query::strata`] is an order to compute them in.
//!
//! # Meaning
//!
//! `core/docs/query.md` says it at length. In short:
//!
//! - Triples are a set. A variable stands for a [`Value`]: a subject is a ref, a predicate is its text as a string.
//! - A **body** under a binding `b` gives the set of the smallest bindings that extend `b` and
//!   1. make every positive clause true ([`Body::positives`], in any order);
//!   2. are then extended by each of [`Body::optionals`], in the order written: by every match there is, or else by
//!      null for each variable that is still free;
//!   3. pass every filter ([`Body::filters`], in any order). A filter that meets null is false, `!=` too.
//! - A null matches nothing: a triple pattern or a call that holds a null variable has no match.
//! - [`Term::Any`] asks that something be there and does not tell bindings apart.
//! - Variables are compared, joined and grouped by equality of values, which is false across types; `<` and its kin,
//!   order, min and max use the order of [`Value`] (by type code first), with null before every value.

mod parts;

use std::sync::Arc;

use super::answer::Datum;
use crate::{id::Predicate, value::Value};

/// A checked query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The derived relations, at the places that [`RuleId`] names.
    pub rules: Vec<Rule>,
    /// The rules in groups: those of one group need each other (or one needs itself), and nothing of a later group.
    pub strata: Vec<Vec<RuleId>>,
    /// What is asked for.
    pub select: Select,
    /// The names of the variables of `select` and of everything nested in it, by number; invented ones begin with `_`.
    pub variables: Vec<Arc<str>>,
}

/// A variable, by its number in its scope: one definition of a rule, or the query's select with all that nests in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Var(pub u32);

/// A rule, by its place in [`Query::rules`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

/// A derived relation: the set of tuples that any of its definitions gives. A tuple never holds a null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: Arc<str>,
    /// How many columns a tuple has.
    pub arity: usize,
    /// One or more. A rule with an aggregate in its head has exactly one.
    pub definitions: Vec<Definition>,
    /// Whether it needs itself, directly or through others of its group.
    pub recursive: bool,
}

/// One way to derive tuples. Without aggregates: the head of each binding of the body. With aggregates: bindings are
/// grouped by the head's plain variables, as for [`Shape::Table`]; a tuple whose aggregate is null is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// As many as the rule's arity.
    pub head: Vec<Expression>,
    /// What must hold. It has no optionals.
    pub body: Body,
    /// The names of its variables, by number.
    pub variables: Vec<Arc<str>>,
}

/// A conjunction; see the module's page for what it means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body {
    /// What binds variables. A disjunction stands behind the clauses that bind what it needs.
    pub positives: Vec<Positive>,
    /// Left joins, in the order written. Only the outermost body of a select has them. Each holds positives and
    /// filters, which see all that is bound before it.
    pub optionals: Vec<Self>,
    /// What bindings must pass in the end.
    pub filters: Vec<Filter>,
}

/// A clause that binds variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Positive {
    /// Some triple matches.
    Triple(TriplePattern),
    /// Some tuple of a rule matches.
    Call {
        /// The rule.
        rule: RuleId,
        /// As many as its arity.
        arguments: Vec<Term>,
    },
    /// Some branch holds.
    Or(Or),
}

/// A disjunction. Under a binding, its answer is the union of its branches' answers, cut down to `binds` and what was
/// bound already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Or {
    /// Two or more. They have no optionals.
    pub branches: Vec<Body>,
    /// The variables that every branch binds and that are seen outside. Other variables of a branch are either bound
    /// outside, or local to it.
    pub binds: Vec<Var>,
    /// The variables that are seen outside, and that some branch uses but not every branch binds: they must be bound
    /// before.
    pub needs: Vec<Var>,
}

/// A pattern over triples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriplePattern {
    /// A constant here is a ref.
    pub subject: Term,
    /// The predicate.
    pub predicate: PredicateTerm,
    /// The object.
    pub object: Term,
}

/// What stands at a place of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Term {
    /// A variable.
    Var(Var),
    /// A value.
    Constant(Value),
    /// Anything, `_`.
    Any,
}

/// Which predicates a pattern takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PredicateTerm {
    /// This one: `post/title`.
    Is(Predicate),
    /// Any of a type: `post/*`. With [`Term::Any`] as object it says that an entity is of the type.
    OfType(Arc<str>),
    /// Any of a field, whatever the type: `*/age`. It is how a path goes on behind a reference.
    OfField(Arc<str>),
    /// Any, and the variable is its text as a string.
    Var(Var),
    /// Any, `_`.
    Any,
}

/// A test on what is bound. Any test of a null is false.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// A comparison.
    Compare {
        /// What stands on the left.
        left: Var,
        /// How they compare.
        comparison: Comparison,
        /// What stands on the right.
        right: Operand,
    },
    /// The variable's value is one of these; ascending, without repetition.
    In(Var, Vec<Value>),
    /// The variable's value is a string that passes; other values do not.
    Text {
        /// The variable.
        var: Var,
        /// How.
        test: TextTest,
        /// What with.
        text: Arc<str>,
    },
    /// The variable's value is of this type.
    Kind(Var, Kind),
    /// The body has no answer under the binding. Variables not bound outside are local to it. It has no optionals.
    Not(Body),
}

/// The right side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    /// A variable.
    Var(Var),
    /// A value.
    Constant(Value),
}

/// How two values compare, by the total order of [`Value`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

/// A test of a string. Both go by Unicode scalar values, case and all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TextTest {
    /// It begins with the text.
    StartsWith,
    /// The text stands somewhere in it.
    Contains,
}

/// The type of a value, in the order of the type codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Code 0.
    String,
    /// Code 1.
    Number,
    /// Code 2.
    Boolean,
    /// Code 3.
    Date,
    /// Code 4.
    Ref,
    /// Code 5.
    Bytes,
    /// Code 6.
    Json,
}

/// What is asked for: what must hold, the shape of the answer, and which part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Select {
    /// What must hold. In an include it uses the variable of the entity around it, which is bound.
    pub body: Body,
    /// What one row of the answer is.
    pub shape: Shape,
    /// The order, before the tie-break of the shape. Null comes before every value; descending turns that around.
    pub order: Vec<OrderKey>,
    /// Only rows after this one, in the order.
    pub after: Option<Cursor>,
    /// At most this many rows, the first in the order.
    pub limit: Option<u32>,
}

/// What one row of the answer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// Cells. Without aggregates: the set of the columns' tuples. With aggregates: the set of bindings of the body's
    /// own variables (those of its positives and optionals; not `_`, not what is local to a branch or a `not`) is
    /// grouped by the plain columns, null equal to null; each aggregate takes the group's bindings one by one, equal
    /// values and all. Without plain columns there is exactly one group, be it empty.
    ///
    /// Tie-break: all columns from left to right, ascending. So the order is total.
    Table(Vec<Column>),
    /// One object for each value of a variable that is bound to subjects.
    ///
    /// Tie-break: the id, ascending. So the order is total.
    Entities {
        /// The variable: the body's bindings are cut down to it.
        entity: Var,
        /// What the object holds beside its id.
        fields: Vec<Field>,
    },
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name, unique in the table.
    pub name: Arc<str>,
    /// What it holds.
    pub value: Expression,
}

/// What a column or a place in a head holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expression {
    /// The value of a variable.
    Var(Var),
    /// An aggregate of a group.
    Aggregate(Aggregate, Var),
    /// `count(*)`: how many bindings the group has.
    CountAll,
}

/// A function of the values that a variable has in a group, equal values counted as often as they come, nulls never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aggregate {
    /// How many.
    Count,
    /// How many different.
    CountDistinct,
    /// The exact sum of the numbers among them, rounded once; 0 for none. Other types are passed over.
    Sum,
    /// The rounded sum of the numbers among them, divided by how many; null for none.
    Avg,
    /// The least; null for none.
    Min,
    /// The greatest; null for none.
    Max,
    /// All, ascending, as a list. Not in a rule's head.
    Collect,
}

/// A member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name, unique in the object; never `id`. Empty for [`FieldValue::Everything`].
    pub name: Arc<str>,
    /// What it holds.
    pub value: FieldValue,
}

/// What a member of an object holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldValue {
    /// The least value of the field, or null. The predicate is [`PredicateTerm::Is`] or [`PredicateTerm::OfField`].
    One(PredicateTerm),
    /// The set of all its values, ascending, as a list.
    All(PredicateTerm),
    /// A member for each predicate of the entity, under the predicate's text, in their order: the value if there is
    /// one, the ascending list if there are several.
    Everything,
    /// Entities that belong to this one, in a list.
    Many(Box<Select>),
    /// The first of the entities that belong to this one, or null. The select's limit is 1.
    First(Box<Select>),
}

/// One key of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderKey {
    /// What is compared.
    pub by: OrderBy,
    /// Greatest first, null last.
    pub descending: bool,
}

/// What an order compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderBy {
    /// A column of the table, by its place.
    Column(usize),
    /// Of the values that the steps reach from the entity: the least, or the greatest when descending; null for none.
    Path(Vec<Step>),
    /// The entity's id.
    Id,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// [`PredicateTerm::Is`] or [`PredicateTerm::OfField`].
    pub predicate: PredicateTerm,
    /// From an object to the subjects that refer to it, instead of from a subject to its objects.
    pub reverse: bool,
}

/// A place between two rows: what the row before it is ordered by. It stays where it is while data changes.
///
/// For a table: a cell for each column. For entities: a cell for each order key, then the id as a ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub Vec<Datum>);

impl Cursor {
    /// As a query in JSON has it behind `after`. `Display` is for one in text.
    pub fn to_typed_json(&self) -> serde_json::Value {
        self.0.iter().map(Datum::to_typed_json).collect()
    }
}
