//! What holds of every query, on random schemas, data and queries.

use proptest::prelude::*;
use serde_json::{Value as JsonValue, json};

use crate::query::{
    answer::Rows,
    ast::Query,
    from_json, from_text, json, logic,
    lower::lower,
    naive::evaluate,
    testing::{self, Triple, cases, choices::Choices, datalog::Features, sql::translate},
    text,
};

fn case(tape: &[u16]) -> (Vec<Triple>, Query) {
    let case = testing::case(Features::ALL, &mut Choices::new(tape));
    (case.triples.into_iter().collect(), case.query)
}

fn tape() -> impl Strategy<Value = Vec<u16>> {
    proptest::collection::vec(any::<u16>(), 0..300)
}

/// The query with another limit and cursor.
fn paged(query: &logic::Query, limit: Option<u32>, after: Option<logic::Cursor>) -> logic::Query {
    let mut query = query.clone();
    query.select.limit = limit;
    query.select.after = after;
    query
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(2_000)))]

    #[test]
    fn every_query_reads_back_from_its_text_and_its_json(tape in tape()) {
        let (_, query) = case(&tape);
        let text = query.to_string();
        let read = text::parse(&text).map_err(|error| TestCaseError::fail(error.render(&text)))?;
        prop_assert_eq!(&read, &query, "{}", text);
        let json = json::write(&query);
        let read = json::read(&json).map_err(|error| TestCaseError::fail(format!("{error}\n{json}")))?;
        prop_assert_eq!(&read, &query, "{}", json);
        let through_serde: Query = serde_json::from_str(&serde_json::to_string(&query).unwrap()).unwrap();
        prop_assert_eq!(&through_serde, &query);
        let logic = lower(&query).map_err(|error| TestCaseError::fail(error.render(&text)))?;
        prop_assert_eq!(lower(&text::parse(&text).unwrap()), Ok(logic));
    }

    #[test]
    fn pages_put_together_are_the_whole(tape in tape(), limit in 1_u32..4) {
        let (triples, query) = case(&tape);
        let logic = lower(&query).unwrap();
        let whole = evaluate(&paged(&logic, None, None), triples.clone());
        let mut pages: Vec<Rows> = Vec::new();
        let mut after = None;
        loop {
            let page = evaluate(&paged(&logic, Some(limit), after), triples.clone());
            pages.push(page.rows);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let together = pages.into_iter().reduce(|all, page| match (all, page) {
            (Rows::Table { columns, mut rows }, Rows::Table { rows: more, .. }) => {
                rows.extend(more);
                Rows::Table { columns, rows }
            }
            (Rows::Entities(mut objects), Rows::Entities(more)) => {
                objects.extend(more);
                Rows::Entities(objects)
            }
            (all, _) => all,
        });
        prop_assert_eq!(together, Some(whole.rows), "{}", query);
    }

    #[test]
    fn no_text_and_no_json_breaks_a_parser(tape in tape(), cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<char>()), 0..4), junk: String) {
        let (_, query) = case(&tape);
        let mut chars: Vec<char> = query.to_string().chars().collect();
        for (at, c) in cuts {
            let at = at.index(chars.len());
            if c.is_ascii_digit() {
                chars.remove(at);
            } else {
                chars[at] = c;
            }
            if chars.is_empty() {
                break;
            }
        }
        let broken: String = chars.into_iter().collect();
        for source in [broken, junk, query.to_string().replace(' ', "")] {
            if let Err(error) = from_text(&source) {
                prop_assert!(error.render(&source).starts_with("error: "));
            }
            if let Err(error) = json::read_text(&source) {
                prop_assert!(error.render(&source).starts_with("error: "));
            }
        }
    }

    #[test]
    fn no_json_breaks_the_reader(tape in tape(), at: prop::sample::Index, kind in 0..6_usize) {
        let (_, query) = case(&tape);
        let mut json = json::write(&query);
        let junk = [json!(null), json!([]), json!({}), json!("?"), json!(-1.5), json!({"$date": []})];
        let count = count_nodes(&json);
        replace_node(&mut json, &mut at.index(count), &junk[kind]);
        if let Err(error) = from_json(&json) {
            prop_assert!(error.render("").starts_with("error: "));
        }
    }
}

fn count_nodes(json: &JsonValue) -> usize {
    1 + match json {
        JsonValue::Array(items) => items.iter().map(count_nodes).sum(),
        JsonValue::Object(members) => members.values().map(count_nodes).sum::<usize>(),
        _ => 0,
    }
}

fn replace_node(json: &mut JsonValue, at: &mut usize, junk: &JsonValue) {
    if *at == 0 {
        *json = junk.clone();
    }
    *at = at.wrapping_sub(1);
    match json {
        JsonValue::Array(items) => items.iter_mut().for_each(|item| replace_node(item, at, junk)),
        JsonValue::Object(members) => members.values_mut().for_each(|item| replace_node(item, at, junk)),
        _ => {}
    }
}

/// Tapes from a fixed row of numbers (Knuth's MMIX).
fn tapes() -> impl Iterator<Item = Vec<u16>> {
    let mut state = 1_u64;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u16::try_from(state >> 48).expect("16 bits fit")
    };
    (0..1_000).map(move |_| (0..300).map(|_| next()).collect())
}

#[test]
fn random_cases_are_worth_their_while() {
    let mut found: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    for tape in tapes() {
        let (triples, query) = case(&tape);
        let logic = lower(&query).unwrap_or_else(|error| panic!("{query}: {error}"));
        let text = query.to_string();
        let mut count = |what, is: bool| *found.entry(what).or_default() += usize::from(is);
        for word in [
            "rule ",
            " not ",
            " or ",
            "optional ",
            "count(",
            "sum(",
            "collect(",
            "order by",
            "limit",
            "after (",
            " in (",
            " starts ",
            "<",
            "{ ",
            "[]",
            "*/",
            "where",
            "exists",
        ] {
            count(word, text.contains(word));
        }
        let cut = paged(&logic, None, None);
        count("SQLite can say it", translate(&logic).is_some());
        count("has an answer", !evaluate(&cut, triples.clone()).rows.is_empty());
        count("has several", evaluate(&cut, triples).rows.len() > 2);
    }
    let rare: Vec<_> = found.iter().filter(|(_, count)| **count < 25).collect();
    assert!(rare.is_empty(), "{found:?}");
    assert!(found["SQLite can say it"] > 900, "{found:?}");
    assert!(found["has an answer"] > 500 && found["has several"] > 200, "{found:?}");
}
