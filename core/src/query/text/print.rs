//! Queries as text: the shortest common way to write them, in one line.

use std::fmt::{Display, Formatter, Result, Write};

use super::{
    constant::{literal, page, quoted},
    lexer::{is_word, is_word_start},
    parser::KEYWORDS,
};
use crate::{
    id::is_name,
    query::{
        ast::{
            Name, Query,
            datalog::{
                Clause, ClauseKind, Datalog, FindItem, FindOrder, FindOrderBy, Measure, PredicatePattern,
                RuleDefinition, Term,
            },
            entity::{Argument, Condition, EntitySelect, FieldItem, ItemValue, Path, PathOrder, PathStep},
        },
        logic::{Aggregate, TextTest},
    },
};

/// What a way to print prints.
struct Shown<'a, T: ?Sized>(&'a T, fn(&T, &mut Formatter<'_>) -> Result);

impl<T: ?Sized> Display for Shown<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.1(self.0, f)
    }
}

pub(super) fn joined<T>(
    items: &[T],
    between: &str,
    show: fn(&T, &mut Formatter<'_>) -> Result,
    f: &mut Formatter<'_>,
) -> Result {
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            f.write_str(between)?;
        }
        show(item, f)?;
    }
    Ok(())
}

/// A query.
pub(crate) fn query(query: &Query, f: &mut Formatter<'_>) -> Result {
    match query {
        Query::Datalog(datalog) => {
            rules(&datalog.rules, f)?;
            find(datalog, f)
        }
        Query::Entity { rules: calls, select } => {
            rules(calls, f)?;
            if let Some(entity_type) = &select.entity_type {
                name(entity_type, f)?;
            }
            rest(select, f)
        }
    }
}

fn rules(rules: &[RuleDefinition], f: &mut Formatter<'_>) -> Result {
    for rule in rules {
        f.write_str("rule ")?;
        rule_name(&rule.name, f)?;
        f.write_char('(')?;
        joined(&rule.head, ", ", measure, f)?;
        f.write_str("): ")?;
        clauses(&rule.clauses, f)?;
        f.write_char(' ')?;
    }
    Ok(())
}

fn find(datalog: &Datalog, f: &mut Formatter<'_>) -> Result {
    f.write_str("find ")?;
    joined(&datalog.find, ", ", find_item, f)?;
    f.write_str(" where ")?;
    clauses(&datalog.clauses, f)?;
    if !datalog.order.is_empty() {
        f.write_str(" order by ")?;
        joined(&datalog.order, ", ", find_order, f)?;
    }
    page(datalog.limit, datalog.after.as_ref(), f)
}

fn find_item(item: &FindItem, f: &mut Formatter<'_>) -> Result {
    measure(&item.measure, f)?;
    as_name(item.name.as_ref(), f)
}

fn as_name(label: Option<&Name>, f: &mut Formatter<'_>) -> Result {
    match label {
        Some(label) => {
            f.write_str(" as ")?;
            name(label, f)
        }
        None => Ok(()),
    }
}

fn find_order(order: &FindOrder, f: &mut Formatter<'_>) -> Result {
    match &order.by {
        FindOrderBy::Measure(by) => measure(by, f)?,
        FindOrderBy::Column(by) => name(by, f)?,
    }
    f.write_str(if order.descending { " desc" } else { "" })
}

pub(crate) fn measure(measure: &Measure, f: &mut Formatter<'_>) -> Result {
    match measure {
        Measure::Var(var) => variable(var, f),
        Measure::Aggregate { function, var } => {
            let distinct = if *function == Aggregate::CountDistinct {
                "distinct "
            } else {
                ""
            };
            write!(f, "{}({distinct}?{})", function.name(), var.text)
        }
        Measure::CountAll(_) => f.write_str("count(*)"),
    }
}

fn variable(var: &Name, f: &mut Formatter<'_>) -> Result {
    write!(f, "?{}", var.text)
}

/// The name of a rule. `date(5)` would be a date.
fn rule_name(of: &Name, f: &mut Formatter<'_>) -> Result {
    if &*of.text == "date" {
        f.write_str("`date`")
    } else {
        name(of, f)
    }
}

/// A name, in backquotes where it would be taken for something else.
fn name(name: &Name, f: &mut Formatter<'_>) -> Result {
    let text = &*name.text;
    let is_bare = text.starts_with(is_word_start) && text.chars().all(is_word);
    if is_bare && text != "_" && !KEYWORDS.contains(&text) {
        f.write_str(text)
    } else {
        write!(f, "`{text}`")
    }
}

fn half(text: &str, f: &mut Formatter<'_>) -> Result {
    // A half of a predicate stands beside a slash, where no keyword can.
    debug_assert!(is_name(text), "the halves of predicates are names");
    if matches!(text, "infinity" | "_") {
        write!(f, "`{text}`")
    } else {
        f.write_str(text)
    }
}

// Clauses.

fn clauses(all: &[Clause], f: &mut Formatter<'_>) -> Result {
    joined(all, "; ", clause, f)
}

fn group(all: &[Clause], f: &mut Formatter<'_>) -> Result {
    f.write_char('(')?;
    clauses(all, f)?;
    f.write_char(')')
}

/// The clauses behind `not` or `optional`: without parentheses if it is one pattern.
fn unit(all: &[Clause], f: &mut Formatter<'_>) -> Result {
    match all {
        [only] if matches!(only.kind, ClauseKind::Triple { .. } | ClauseKind::Call { .. }) => clause(only, f),
        _ => group(all, f),
    }
}

fn clause(clause: &Clause, f: &mut Formatter<'_>) -> Result {
    match &clause.kind {
        ClauseKind::Triple {
            subject,
            predicate: pattern,
            object,
        } => {
            term(subject, f)?;
            f.write_char(' ')?;
            predicate(pattern, f)?;
            if *object == Term::Any {
                return Ok(());
            }
            f.write_char(' ')?;
            term(object, f)
        }
        ClauseKind::Call { name: rule, arguments } => {
            rule_name(rule, f)?;
            f.write_char('(')?;
            joined(arguments, ", ", term, f)?;
            f.write_char(')')
        }
        ClauseKind::Compare {
            left,
            comparison,
            right,
        } => {
            term(left, f)?;
            write!(f, " {} ", comparison.sign())?;
            term(right, f)
        }
        ClauseKind::In { var, values } => {
            variable(var, f)?;
            f.write_str(" in (")?;
            joined(values, ", ", literal, f)?;
            f.write_char(')')
        }
        ClauseKind::Text { var, test, text } => {
            variable(var, f)?;
            text_test(*test, text, f)
        }
        ClauseKind::Kind { var, kind } => write!(f, "?{} is {}", var.text, kind.name()),
        ClauseKind::Or(branches) => joined(branches, " or ", |branch, f| group(branch, f), f),
        ClauseKind::Not(inner) => {
            f.write_str("not ")?;
            unit(inner, f)
        }
        ClauseKind::Optional(inner) => {
            f.write_str("optional ")?;
            unit(inner, f)
        }
    }
}

fn text_test(test: TextTest, text: &str, f: &mut Formatter<'_>) -> Result {
    f.write_str(match test {
        TextTest::StartsWith => " starts ",
        TextTest::Contains => " contains ",
    })?;
    quoted(text, f)
}

fn term(term: &Term, f: &mut Formatter<'_>) -> Result {
    match term {
        Term::Var(var) => variable(var, f),
        Term::Constant(constant) => literal(constant, f),
        Term::Any => f.write_char('_'),
    }
}

fn predicate(pattern: &PredicatePattern, f: &mut Formatter<'_>) -> Result {
    match pattern {
        PredicatePattern::Is(predicate) => {
            half(predicate.entity_type(), f)?;
            f.write_char('/')?;
            half(predicate.field(), f)
        }
        PredicatePattern::OfType(entity_type) => {
            half(entity_type, f)?;
            f.write_str("/*")
        }
        PredicatePattern::OfField(field) => {
            f.write_str("*/")?;
            half(field, f)
        }
        PredicatePattern::Var(var) => variable(var, f),
        PredicatePattern::Any => f.write_char('_'),
    }
}

// Entities.

fn rest(select: &EntitySelect, f: &mut Formatter<'_>) -> Result {
    clauses_of(select, f)?;
    if select.asks_for_everything() {
        return Ok(());
    }
    if select.fields.is_empty() {
        return f.write_str(" {}");
    }
    f.write_str(" { ")?;
    joined(&select.fields, ", ", field, f)?;
    f.write_str(" }")
}

/// What an include has behind its name. Without braces, a field behind it would read as one more key of its order, and
/// an include of everything as the reference itself.
fn include_rest(select: &EntitySelect, f: &mut Formatter<'_>) -> Result {
    rest(select, f)?;
    let is_bare =
        select.entity_type.is_none() && select.condition.is_none() && select.limit.is_none() && select.after.is_none();
    let is_open = select.asks_for_everything() && (is_bare || !select.order.is_empty());
    f.write_str(if is_open { " { * }" } else { "" })
}

fn clauses_of(select: &EntitySelect, f: &mut Formatter<'_>) -> Result {
    if let Some(condition) = &select.condition {
        f.write_str(" where ")?;
        any(condition, f)?;
    }
    if !select.order.is_empty() {
        f.write_str(" order by ")?;
        joined(&select.order, ", ", path_order, f)?;
    }
    page(select.limit, select.after.as_ref(), f)
}

fn path_order(order: &PathOrder, f: &mut Formatter<'_>) -> Result {
    path(&order.path, f)?;
    f.write_str(if order.descending { " desc" } else { "" })
}

fn any(condition: &Condition, f: &mut Formatter<'_>) -> Result {
    match condition {
        Condition::Or(inner) => joined(inner, " or ", all, f),
        other => all(other, f),
    }
}

fn all(condition: &Condition, f: &mut Formatter<'_>) -> Result {
    match condition {
        Condition::And(inner) => joined(inner, " and ", one, f),
        other => one(other, f),
    }
}

fn one(condition: &Condition, f: &mut Formatter<'_>) -> Result {
    match condition {
        Condition::And(_) | Condition::Or(_) => write!(f, "({})", Shown(condition, any)),
        Condition::Not(inner) => {
            f.write_str("not ")?;
            one(inner, f)
        }
        Condition::Compare {
            path: of,
            comparison,
            value,
        } => {
            path(of, f)?;
            write!(f, " {} ", comparison.sign())?;
            literal(value, f)
        }
        Condition::In { path: of, values } => {
            path(of, f)?;
            f.write_str(" in (")?;
            joined(values, ", ", literal, f)?;
            f.write_char(')')
        }
        Condition::Text { path: of, test, text } => {
            path(of, f)?;
            text_test(*test, text, f)
        }
        Condition::Kind { path: of, kind } => {
            path(of, f)?;
            write!(f, " is {}", kind.name())
        }
        Condition::Exists(of) => {
            path(of, f)?;
            f.write_str(" exists")
        }
        Condition::Call { name: rule, arguments } => {
            rule_name(rule, f)?;
            f.write_char('(')?;
            joined(arguments, ", ", argument, f)?;
            f.write_char(')')
        }
    }
}

fn argument(argument: &Argument, f: &mut Formatter<'_>) -> Result {
    match argument {
        Argument::Id => f.write_str("id"),
        Argument::Constant(constant) => literal(constant, f),
        Argument::Any => f.write_char('_'),
    }
}

pub(crate) fn path(path: &Path, f: &mut Formatter<'_>) -> Result {
    if path.steps.is_empty() {
        return f.write_str("id");
    }
    for (at, step) in path.steps.iter().enumerate() {
        match step {
            PathStep::Forward {
                entity_type: Some(entity_type),
                field,
            } => {
                f.write_char(':')?;
                name(entity_type, f)?;
                f.write_char('.')?;
                name(field, f)?;
            }
            PathStep::Forward {
                entity_type: None,
                field,
            } => {
                f.write_str(if at > 0 { "." } else { "" })?;
                name(field, f)?;
            }
            PathStep::Reverse { entity_type, field } => {
                f.write_str(if at > 0 { ".<" } else { "<" })?;
                name(entity_type, f)?;
                f.write_char('.')?;
                name(field, f)?;
            }
        }
    }
    Ok(())
}

/// A path as text.
pub(crate) fn path_text(of: &Path) -> String {
    Shown(of, path).to_string()
}

fn field(item: &FieldItem, f: &mut Formatter<'_>) -> Result {
    let (of, many, include) = match &item.value {
        ItemValue::Everything => return f.write_char('*'),
        ItemValue::Reverse { field, select } => {
            f.write_char('<')?;
            if let Some(entity_type) = &select.entity_type {
                name(entity_type, f)?;
            }
            f.write_char('.')?;
            name(field, f)?;
            as_name(item.name.as_ref(), f)?;
            return include_rest(select, f);
        }
        ItemValue::One(of) => (of, false, None),
        ItemValue::All(of) => (of, true, None),
        ItemValue::First { field, select } => (field, false, Some(select)),
        ItemValue::Many { field, select } => (field, true, Some(select)),
    };
    name(of, f)?;
    f.write_str(if many { "[]" } else { "" })?;
    let entity_type = include.and_then(|select| select.entity_type.as_ref());
    if let Some(entity_type) = entity_type {
        f.write_char(':')?;
        name(entity_type, f)?;
    }
    as_name(item.name.as_ref(), f)?;
    let Some(select) = include else { return Ok(()) };
    include_rest(select, f)
}

/// A column as text, for errors and explanations.
pub(crate) fn measure_text(of: &Measure) -> String {
    Shown(of, measure).to_string()
}
