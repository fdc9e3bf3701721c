//! Columns, constants and lists of conditions in SQL.

use std::fmt::Write;

use super::{ColumnKind, Places};
use crate::{
    query::logic::{Aggregate, Column, Expression, OrderBy, OrderKey, Var},
    value::Value,
};

pub(super) fn table(columns: &[Column], order: &[OrderKey], places: &Places, from: &str) -> String {
    let shown: Vec<String> = columns.iter().map(|column| aggregate(column.value, places)).collect();
    let groups: Vec<&str> = columns
        .iter()
        .zip(&shown)
        .filter(|(column, _)| !column.value.is_aggregate())
        .map(|(_, text)| text.as_str())
        .collect();
    let (distinct, by) = match (columns.len() == groups.len(), groups.is_empty()) {
        (true, _) => ("DISTINCT ", String::new()),
        (false, true) => ("", String::new()),
        (false, false) => ("", format!(" GROUP BY {}", groups.join(", "))),
    };
    let own = order.iter().filter_map(|key| match key.by {
        OrderBy::Column(column) => Some(format!("{}{}", column + 1, if key.descending { " DESC" } else { "" })),
        OrderBy::Path(_) | OrderBy::Id => None,
    });
    let keys: Vec<String> = own
        .chain((1..=columns.len()).map(|column| column.to_string()))
        .collect();
    format!(
        "SELECT {distinct}{} {from}{by} ORDER BY {}",
        shown.join(", "),
        keys.join(", ")
    )
}

pub(super) fn aggregate(of: Expression, places: &Places) -> String {
    let number = |var: &Var| format!("(SELECT w.num FROM terms w WHERE w.v = {})", places[var]);
    match of {
        Expression::Var(var) => places[&var].clone(),
        Expression::CountAll => "count(*)".to_owned(),
        Expression::Aggregate(function, var) => match function {
            Aggregate::Count => format!("count({})", places[&var]),
            Aggregate::CountDistinct => format!("count(DISTINCT {})", places[&var]),
            Aggregate::Sum => format!("total({})", number(&var)),
            Aggregate::Avg => format!("avg({})", number(&var)),
            Aggregate::Min => format!("min({})", places[&var]),
            Aggregate::Max => format!("max({})", places[&var]),
            // The hexadecimal of null is an empty text, not null.
            Aggregate::Collect => format!(
                "group_concat(CASE WHEN {0} IS NOT NULL THEN hex({0}) END)",
                places[&var]
            ),
        },
    }
}

pub(super) const fn kind_of(column: &Column) -> ColumnKind {
    match column.value {
        Expression::CountAll | Expression::Aggregate(Aggregate::Count | Aggregate::CountDistinct, _) => {
            ColumnKind::Count
        }
        Expression::Aggregate(Aggregate::Sum | Aggregate::Avg, _) => ColumnKind::Rounded,
        Expression::Aggregate(Aggregate::Collect, _) => ColumnKind::List,
        Expression::Var(_) | Expression::Aggregate(Aggregate::Min | Aggregate::Max, _) => ColumnKind::Value,
    }
}

pub(super) fn all(conditions: &[String]) -> String {
    if conditions.is_empty() {
        "1".to_owned()
    } else {
        conditions.join(" AND ")
    }
}

pub(super) fn blob(value: &Value) -> String {
    format!("X'{}'", hex(&value.encode()))
}

pub(super) fn text_literal(text: &str) -> String {
    format!("CAST(X'{}' AS TEXT)", hex(text.as_bytes()))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
            let _ = write!(out, "{byte:02x}");
            out
        })
}

pub(super) fn place(number: u32) -> usize {
    usize::try_from(number).expect("32 bits fit")
}
