//! The naive evaluator against SQLite: two readings of the same page must agree.

use proptest::prelude::*;
use rusqlite::{Connection, types::ValueRef};

use super::{
    Triple, case, cases,
    choices::Choices,
    datalog::Features,
    sql::{ColumnKind, Sql, TABLES, fill, translate},
};
use crate::{
    query::{
        answer::{Datum, Row, Rows},
        ast::Query,
        logic,
        lower::lower,
        naive::evaluate,
        text,
    },
    value::Value,
};

/// What SQLite answers. Numbers of [`ColumnKind::Rounded`] are as it rounds them.
fn ask(connection: &Connection, sql: &Sql) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare(&sql.text)?;
    let read = |row: &rusqlite::Row<'_>| {
        let columns = sql.columns.iter().enumerate();
        columns.map(|(at, kind)| Ok(datum(*kind, row.get_ref(at)?))).collect()
    };
    statement.query_map([], read)?.collect()
}

fn datum(kind: ColumnKind, value: ValueRef<'_>) -> Datum {
    let decode = |bytes: &[u8]| Value::decode(bytes).expect("we encoded it");
    match (kind, value) {
        (ColumnKind::List, ValueRef::Null) => Datum::List(Vec::new()),
        (ColumnKind::List, ValueRef::Text(text)) => {
            let items = std::str::from_utf8(text).expect("hexadecimal").split(',');
            let mut values: Vec<Value> = items.map(|item| decode(&unhex(item))).collect();
            values.sort();
            Datum::List(values)
        }
        (_, ValueRef::Null) => Datum::Null,
        (_, ValueRef::Blob(bytes)) => Datum::Value(decode(bytes)),
        (_, ValueRef::Integer(count)) => number(f64::from(i32::try_from(count).expect("counts are small"))),
        (_, ValueRef::Real(real)) => number(real),
        (kind, value) => panic!("{kind:?} came as {value:?}"),
    }
}

fn number(number: f64) -> Datum {
    Datum::Value(Value::number(number).expect("no NaN comes from numbers"))
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hexadecimal"))
        .collect()
}

/// The naive answer, in SQLite's shape: entities are one column.
fn plain(rows: Rows) -> Vec<Row> {
    match rows {
        Rows::Table { rows, .. } => rows,
        Rows::Entities(objects) => objects
            .into_iter()
            .map(|object| vec![Datum::Value(Value::Ref(object.id))])
            .collect(),
    }
}

/// Rounded columns, which differ in the last places, taken out of the rows.
fn split(rows: Vec<Row>, columns: &[ColumnKind]) -> Vec<(Row, Vec<Option<f64>>)> {
    let split = rows.into_iter().map(|row| {
        let (rounded, exact): (Vec<_>, Vec<_>) = row
            .into_iter()
            .zip(columns)
            .partition(|(_, kind)| **kind == ColumnKind::Rounded);
        let numbers = rounded.into_iter().map(|(datum, _)| match datum {
            Datum::Value(Value::Number(number)) => Some(number.get()),
            _ => None,
        });
        (exact.into_iter().map(|(datum, _)| datum).collect(), numbers.collect())
    });
    split.collect()
}

fn near(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0),
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// Whether SQLite was asked and agrees.
fn agree(triples: &[Triple], query: &Query) -> Result<bool, TestCaseError> {
    let mut logic: logic::Query = lower(query).map_err(|error| TestCaseError::fail(error.to_string()))?;
    logic.select.after = None;
    let Some(columns) = translate(&logic).map(|sql| sql.columns) else {
        return Ok(false);
    };
    let in_order = columns
        .iter()
        .all(|kind| matches!(kind, ColumnKind::Value | ColumnKind::Count));
    if !in_order {
        logic.select.limit = None;
    }
    let Some(sql) = translate(&logic) else { return Ok(false) };
    let connection = Connection::open_in_memory().expect("memory");
    connection.execute_batch(TABLES).expect("tables");
    connection.execute_batch(&fill(triples)).expect("rows");
    let theirs =
        ask(&connection, &sql).map_err(|error| TestCaseError::fail(format!("{error}\n{query}\n{}", sql.text)))?;
    let ours = plain(evaluate(&logic, triples.to_vec()).rows);
    let (mut ours, mut theirs) = (split(ours, &columns), split(theirs, &columns));
    if !in_order {
        ours.sort_by(|(a, _), (b, _)| a.cmp(b));
        theirs.sort_by(|(a, _), (b, _)| a.cmp(b));
    }
    let same = ours.len() == theirs.len()
        && ours
            .iter()
            .zip(&theirs)
            .all(|((a, x), (b, y))| a == b && x.iter().zip(y).all(|(x, y)| near(*x, *y)));
    prop_assert!(same, "{}\n{}\nours {:?}\ntheirs {:?}", query, sql.text, ours, theirs);
    Ok(true)
}

#[test]
fn sqlite_agrees_on_what_is_easy_to_see() {
    let triples = super::triples(
        "@p post/title \"Rust\"
         @p post/rank 3
         @q post/title \"Sync\"
         @q post/up @p
         @r post/up @q",
    );
    for query in [
        "find ?t where ?p post/title ?t order by ?t desc",
        "find ?p, ?r where ?p post/title; optional ?p post/rank ?r",
        "rule over(?a, ?b): ?a post/up ?b rule over(?a, ?c): ?a post/up ?b; over(?b, ?c) find ?x, count(?y) where over(?x, ?y)",
        "rule ups(?b, count(?a)): ?a post/up ?b find ?x, ?n where ups(?x, ?n)",
        "post where not title starts \"R\" order by up.rank desc",
    ] {
        let query = text::parse(query).expect(query);
        assert!(agree(&triples, &query).expect("it agrees"), "{query} was not asked");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(1_500)))]

    #[test]
    fn sqlite_agrees_with_the_naive_evaluator(tape in proptest::collection::vec(any::<u16>(), 0..300)) {
        let case = case(Features::ALL, &mut Choices::new(&tape));
        let triples: Vec<Triple> = case.triples.into_iter().collect();
        agree(&triples, &case.query)?;
    }
}
