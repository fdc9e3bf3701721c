//! The Datalog form becomes a select of a table.

use std::sync::Arc;

use super::{
    body::{Level, Lowering, Rules},
    rules::expression,
    scope::{Budget, Scope, Visible, within},
};
use crate::collections::BTreeSet;
use crate::query::{
    ast::datalog::{Datalog, FindOrder, FindOrderBy},
    error::{Problem, QueryError},
    limits::{COLUMNS_MAX, ORDER_KEYS_MAX},
    logic::{Column, OrderBy, OrderKey, Select, Shape},
    text::print::measure_text,
};

pub(super) fn lower(
    query: &Datalog,
    rules: &Rules,
    budget: &mut Budget,
    scope: &mut Scope,
) -> Result<Select, QueryError> {
    within("columns", query.find.len(), COLUMNS_MAX, &query.at)?;
    within("keys of the order", query.order.len(), ORDER_KEYS_MAX, &query.at)?;
    let mut lowering = Lowering { scope, budget, rules };
    let level = Level { depth: 1, inside: None };
    let (body, visible) = lowering.body(&query.clauses, &Visible::new(), level)?;
    let mut columns: Vec<Column> = Vec::new();
    let mut names = BTreeSet::new();
    for item in &query.find {
        let name = item
            .name
            .as_ref()
            .map_or_else(|| item.measure.default_name(), |name| Arc::clone(&name.text));
        if !names.insert(Arc::clone(&name)) {
            let at = item.name.as_ref().map_or(item.measure.at(), |name| &name.at);
            let (what, name) = ("the column", name.to_string());
            let error = QueryError::new(Problem::Twice { what, name }, at);
            return Err(error.help("another name goes behind `as`"));
        }
        let value = expression(&item.measure, &visible, "`find`")?;
        columns.push(Column { name, value });
    }
    let keys = query.order.iter().map(|key| order_key(key, query, &columns));
    let order = keys.collect::<Result<Vec<_>, _>>()?;
    if let Some(cursor) = &query.after
        && cursor.0.len() != columns.len()
    {
        let problem = Problem::CursorShape {
            expected: columns.len(),
            found: cursor.0.len(),
            rule: "one for each column",
        };
        return Err(QueryError::new(problem, &query.at));
    }
    Ok(Select {
        body,
        shape: Shape::Table(columns),
        order,
        after: query.after.clone(),
        limit: query.limit,
    })
}

fn order_key(key: &FindOrder, query: &Datalog, columns: &[Column]) -> Result<OrderKey, QueryError> {
    let (found, text, at) = match &key.by {
        FindOrderBy::Measure(measure) => {
            let found = query.find.iter().position(|item| item.measure == *measure);
            (found, measure_text(measure), measure.at())
        }
        FindOrderBy::Column(name) => {
            let found = columns.iter().position(|column| column.name == name.text);
            (found, name.text.to_string(), &name.at)
        }
    };
    let Some(column) = found else {
        let names: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
        let mut error = QueryError::new(Problem::NoColumn(text.clone()), at);
        // A column's name is not what stands in a query for it.
        if matches!(key.by, FindOrderBy::Column(_)) {
            error = error.near(&text, &names);
        }
        return Err(if error.help.is_some() {
            error
        } else {
            error.help(format!("the order goes by what `find` names: add {text} there"))
        });
    };
    let by = OrderBy::Column(column);
    let descending = key.descending;
    Ok(OrderKey { by, descending })
}
