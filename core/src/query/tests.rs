//! Both forms, read, printed and refused; and what holds of every query.

use proptest::prelude::*;
use serde_json::{Value as JsonValue, json};

use super::{
    answer::Rows,
    ast::Query,
    from_json, from_text, json, logic,
    lower::lower,
    naive::evaluate,
    testing::{self, Triple, cases, choices::Choices, datalog::Features, sql::translate},
    text,
};

/// The line of the error, the mark under it, and the help.
#[track_caller]
fn refused(source: &str, marked: &str, says: &str) {
    let Err(error) = from_text(source) else {
        panic!("{source}: it was taken")
    };
    let shown = error.render(source);
    let line = shown.lines().nth(2).unwrap_or_default();
    let mark = shown.lines().nth(3).unwrap_or_default();
    let start = mark.find('^').unwrap_or(mark.len());
    let width = mark.chars().filter(|c| *c == '^').count();
    let found: String = line.chars().skip(start).take(width).collect();
    assert_eq!(found, marked, "{shown}");
    assert!(shown.contains(says), "expected {says:?} in\n{shown}");
}

#[track_caller]
fn refused_json(query: impl Into<JsonValue>, place: &str, says: &str) {
    let error = from_json(&query.into()).expect_err("it was taken");
    let shown = error.render("");
    assert!(
        shown.contains(&format!("--> {place}\n")) || shown.ends_with(&format!("--> {place}")),
        "{shown}"
    );
    assert!(shown.contains(says), "expected {says:?} in\n{shown}");
}

#[test]
fn an_error_of_syntax_points_at_the_place_and_says_what_would_be_right() {
    refused("post wher x = 1", "wher", "did you mean `where`?");
    refused("fnd ?x where ?x a/b", "fnd", "did you mean `find`?");
    refused("find ?x were ?x a/b", "were", "did you mean `where`?");
    refused("find ?x where ?x a/b ordr by ?x", "ordr", "did you mean `order`?");
    refused(
        "find ?x where ?x title ?y",
        "title",
        "a predicate is type/field, for example post/title",
    );
    refused("find ?x where x a/b ?y", "x", "expected a clause");
    refused("find x where ?x a/b", "x", "a variable such as ?x");
    refused("find cuont(?x) where ?x a/b", "cuont", "did you mean `count`?");
    refused("find count(x) where ?x a/b", "x", "?x");
    refused(
        "post where title = Rust",
        "Rust",
        "text stands in double quotes: \"Rust\"",
    );
    refused("post where title = null", "null", "not … exists");
    refused("post where title == \"a\"", "==", "here it is `=`");
    refused("post where title = 'a'", "'", "here it is `\"`");
    refused("post where title && x", "&&", "here it is `and`");
    refused("post where title cntains \"a\"", "cntains", "did you mean `contains`?");
    refused("post where title", "", "expected a test of it");
    refused("post where user/age > 3", "/", "author:user.age");
    refused("post where age is nmber", "nmber", "did you mean `number`?");
    refused("post where age > 30abc", "30abc", "is not a number");
    refused("post where at > 2026-13-01", "2026-13-01", "is not a date");
    refused("post where title = \"a", "\"a", "the text is not closed");
    refused("post where title = \"\\q\"", "\\q", "is not an escape");
    refused("post limit 1.5", "1.5", "a whole number");
    refused("post limit 99999999", "99999999", "up to 1000000");
    refused("post limit 1 limit 2", "limit", "the clause \"limit\" is there twice");
    refused("post { title author }", "author", "`,` and another field");
    refused("post { author { name }", "", "expected `,` and another field");
    refused("post where order = 3", "order", "stands in backquotes: `` `order` ``");
    refused("post where a = 1 and", "", "expected a field");
    refused("post where id.x = 3", ".", "the entity itself");
    refused("find ?x where ?x a/b ?y ?z", "?z", "expected `;` and another clause");
    refused("find ?x where ?x a/b, ?x a/c", ",", "clauses stand apart by `;`");
    refused("find ?x where ?x a/b and ?x a/c", "and", "clauses stand apart by `;`");
    refused("find ? where ?x a/b", "?", "is not a variable");
    refused("post where\n  a = 1 and\n  b ~ 2", "~", "line 3, column 5");
}

#[test]
fn an_error_of_meaning_points_at_the_place_and_says_what_would_be_right() {
    refused("find ?y where ?x a/b _", "?y", "nothing binds ?y");
    refused("find ?titel where ?x a/b ?title", "?titel", "did you mean `title`?");
    refused("find ?x where ?x a/b _; ?z > 3", "?z", "which a comparison needs");
    refused(
        "find ?x where ?x a/b _; not (?x a/c ?z; ?w > 1)",
        "?w",
        "nothing binds ?w",
    );
    refused("find ?z where ?x a/b _; not ?x a/c ?z", "?z", "nothing binds ?z");
    refused("find ?z where ?x a/b _; ?x a/c ?z or ?x a/d", "?z", "nothing binds ?z");
    refused(
        "find ?x where ?x a/b ?y; (?y = ?z) or (?x a/d); optional ?x a/e ?z",
        "?z",
        "nothing binds ?z",
    );
    refused(
        "find ?x where ?x a/b; ?x = 3",
        "?x = 3",
        "an entity's id is written @id",
    );
    refused("find ?x where ?x a/b; ?x in (@a, 3)", "3", "never a number");
    refused("find ?p where ?x ?p 3; ?p = 3", "?p = 3", "\"post/title\"");
    refused("find ?x where \"p1\" a/b ?x", "\"p1\"", "a string is no entity");
    refused("find ?x where ?x a/b; 1 < 2", "1 < 2", "neither side");
    refused("find ?x where ?x a/b; _ < 2", "_ < 2", "stands for anything");
}

#[test]
fn columns_and_rules_that_do_not_fit_are_refused() {
    refused("find ?x, ?x where ?x a/b", "?x", "goes behind `as`");
    refused("find ?x where ?x a/b ?y order by ?y", "?y", "add ?y there");
    refused(
        "find ?x where ?x a/b limit 3 after (1, 2)",
        "find ?x where ?x a/b limit 3 after (1, 2)",
        "one for each column",
    );
    refused("find ?x where ?x a/b; undr(?x, _)", "undr", "there is no rule");
    refused(
        "rule under(?a): ?a a/b find ?x where undr(?x)",
        "undr",
        "did you mean `under`?",
    );
    refused(
        "rule under(?a): ?a a/b find ?x where under(?x, ?y)",
        "under",
        "has 1 columns, here are 2",
    );
    refused(
        "rule r(?a): ?a a/b rule r(?a, ?b): ?a a/b ?b find ?x where r(?x)",
        "r",
        "has 1 columns, here are 2",
    );
    refused(
        "rule r(?a): ?a a/b find ?x where ?x a/b",
        "r",
        "nothing uses the rule \"r\"",
    );
    refused(
        "rule r(?b): ?a a/b find ?x where r(?x)",
        "?b",
        "which the head of the rule needs",
    );
    refused(
        "rule r(?a): ?a a/b; not r(?a) find ?x where r(?x)",
        "r",
        "depends on itself through `not`",
    );
    refused(
        "rule r(count(?a)): ?a a/b; r(?a) find ?x where r(?x)",
        "r",
        "depends on itself through an aggregate",
    );
    refused(
        "rule r(?a): ?a a/b; not s(?a) rule s(?a): r(?a) find ?x where s(?x)",
        "r",
        "through `not`",
    );
    refused(
        "rule r(collect(?a)): ?a a/b find ?x where r(?x)",
        "?a",
        "a list is no value",
    );
    refused(
        "rule r(?a): ?a a/b; optional ?a a/c find ?x where r(?x)",
        "optional ?a a/c",
        "cannot stand in a rule",
    );
    refused(
        "find ?x where ?x a/b; not (?x a/c; optional ?x a/d ?y)",
        "optional ?x a/d ?y",
        "inside `not`",
    );
}

#[test]
fn objects_that_do_not_fit_are_refused() {
    refused("post { title, title }", "title", "goes behind `as`");
    refused("post { title as id }", "title as id", "`id` is the entity's own id");
    refused(
        "post { author limit 3 { name } }",
        "author limit 3 { name }",
        "`author[]` gives all",
    );
    refused("post after (1, @p)", "post after (1, @p)", "the last row's id");
    refused(
        "post where <comment.post = 3",
        "<comment.post",
        "an entity's id is written @id",
    );
    refused("post where id starts \"p\"", "id", "never a string");
    refused("post where id = 3", "3", "never a number");
    refused(
        "find ?x where (?x a/b ?y; ?z = 1) or (?x a/c ?z); (?z a/b; ?y = 1) or (?x a/b ?y)",
        "?z",
        "nothing binds ?z",
    );
}

#[test]
fn json_errors_name_the_path() {
    refused_json(json!({"from": "post", "wher": []}), "query", "did you mean `where`?");
    refused_json(json!({"form": "post"}), "query", "did you mean `from`?");
    refused_json(json!([]), "query", "expected a query");
    refused_json(
        json!({"from": "post", "where": ["a", "==", 3]}),
        "query.where[1]",
        "did you mean \"=\"?",
    );
    refused_json(
        json!({"from": "post", "where": {"and": [["a", "=", 3], ["b", "="]]}}),
        "query.where.and[1]",
        "an array of 3",
    );
    refused_json(
        json!({"from": "post", "where": ["a", "=", null]}),
        "query.where[2]",
        "`not` and `exists`",
    );
    refused_json(
        json!({"from": "post", "where": ["a.", "=", 1]}),
        "query.where[0]",
        "expected a field",
    );
    refused_json(
        json!({"from": "post", "select": [{"include": "a", "selct": []}]}),
        "query.select[0]",
        "did you mean `select`?",
    );
    refused_json(json!({"from": "post", "limit": -1}), "query.limit", "a whole number");
    refused_json(
        json!({"find": [], "where": []}),
        "query.find",
        "an array of columns, not empty",
    );
    refused_json(json!({"find": ["x"], "where": []}), "query.find[0]", "\"?x\"");
    refused_json(json!({"find": ["?x"]}), "query", "the key \"where\" is missing");
    refused_json(
        json!({"find": ["?x"], "where": [["?x", "title", "?y"]]}),
        "query.where[0][1]",
        "a predicate such as",
    );
    refused_json(
        json!({"find": ["?x"], "where": [["?x", "a/b", {"$date": "x"}]]}),
        "query.where[0][2]",
        "RFC 3339",
    );
    refused_json(
        json!({"find": ["?z"], "where": [["?x", "a/b"]]}),
        "query.find[0]",
        "nothing binds ?z",
    );
    refused_json(
        json!({"find": [{"count": "?x", "sum": "?x"}], "where": [["?x", "a/b"]]}),
        "query.find[0]",
        "an aggregate",
    );
}

#[test]
fn what_is_too_large_is_refused() {
    let deep = format!("find ?x where {}?x a/b{}", "(".repeat(2_000), ")".repeat(2_000));
    assert!(
        text::parse(&deep)
            .unwrap_err()
            .to_string()
            .contains("levels of nesting")
    );
    let nots = format!("post where {}a = 1", "not ".repeat(10_000));
    assert!(
        text::parse(&nots)
            .unwrap_err()
            .to_string()
            .contains("levels of nesting")
    );
    let wide = format!("find ?x where ?x a/b{}", "; ?x a/b".repeat(300));
    assert!(from_text(&wide).unwrap_err().to_string().contains("clauses"));
    let long = format!("find ?x where ?x a/b \"{}\"", "y".repeat(70_000));
    assert!(text::parse(&long).unwrap_err().to_string().contains("bytes of a query"));
    let includes = format!(
        "a {{ {} }}",
        (0..40)
            .map(|n| format!("b as c{n} {{ d }}"))
            .collect::<Vec<_>>()
            .join(", ")
    );
    assert!(from_text(&includes).unwrap_err().to_string().contains("includes"));
    let path = format!("a where {}b = 1", "b.".repeat(20));
    assert!(from_text(&path).unwrap_err().to_string().contains("steps of a path"));
    let mut deep = json!(["a", "=", 1]);
    for _ in 0..2_000 {
        deep = json!({ "not": deep });
    }
    assert!(
        json::read(&json!({"from": "a", "where": deep}))
            .unwrap_err()
            .to_string()
            .contains("levels of nesting")
    );
    let many: Vec<u32> = (0..5_000).collect();
    let many = json!({"from": "a", "where": ["b", "in", many]});
    assert!(
        json::read(&many)
            .and_then(|query| lower(&query))
            .unwrap_err()
            .to_string()
            .contains("values of `in`")
    );
}

/// A text, and the same in JSON.
#[track_caller]
fn same(source: &str, json: impl Into<JsonValue>) {
    let json = json.into();
    let from_text = text::parse(source).unwrap_or_else(|error| panic!("{}", error.render(source)));
    let from_json = json::read(&json).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(from_text, from_json);
    assert_eq!(json::write(&from_text), json);
    assert_eq!(from_text.to_string(), source);
    lower(&from_text).unwrap_or_else(|error| panic!("{}", error.render(source)));
}

#[test]
fn text_and_json_say_the_same() {
    same("post", json!({"from": "post"}));
    same(
        "post where author.age > 30 and not tags = \"x\" order by created desc limit 50 { title, author { name } }",
        json!({
            "from": "post",
            "where": {"and": [["author.age", ">", 30], {"not": ["tags", "=", "x"]}]},
            "order": [{"by": "created", "desc": true}],
            "limit": 50,
            "select": ["title", {"include": "author", "select": ["name"]}],
        }),
    );
    same(
        "post { <comment.post as comments where hidden = false limit 5 { text }, likes[]:user order by id {}, tags[] as t }",
        json!({"from": "post", "select": [
            {"reverse": "comment.post", "as": "comments", "where": ["hidden", "=", false], "limit": 5, "select": ["text"]},
            {"include": "likes[]", "type": "user", "order": [{"by": "id"}], "select": []},
            {"field": "tags[]", "as": "t"},
        ]}),
    );
    same(
        "find ?title, count(?c) as n where ?p post/title ?title; ?c comment/post ?p; \
         ?p post/created > 2026-01-01T00:00:00Z order by n desc limit 20"
            .replace(
                "?p post/created > 2026-01-01T00:00:00Z",
                "?p post/created ?d; ?d > 2026-01-01T00:00:00Z",
            )
            .as_str(),
        json!({
            "find": ["?title", {"count": "?c", "as": "n"}],
            "where": [
                ["?p", "post/title", "?title"], ["?c", "comment/post", "?p"],
                ["?p", "post/created", "?d"], ["?d", ">", {"$date": 1_767_225_600_000_i64}],
            ],
            "order": [{"by": {"column": "n"}, "desc": true}],
            "limit": 20,
        }),
    );
    same(
        "rule under(?a, ?b): ?a folder/parent ?b rule under(?a, ?c): ?a folder/parent ?b; under(?b, ?c) \
         find ?x where under(?x, @root); (?x a/b \"?y\") or (?x */c); not ?x a/* 1; optional (?x _ ?z; ?z is date) \
         after (@f)",
        json!({
            "rules": [
                {"name": "under", "head": ["?a", "?b"], "where": [["?a", "folder/parent", "?b"]]},
                {"name": "under", "head": ["?a", "?c"], "where": [
                    ["?a", "folder/parent", "?b"], {"call": "under", "args": ["?b", "?c"]},
                ]},
            ],
            "find": ["?x"],
            "where": [
                {"call": "under", "args": ["?x", {"$ref": "root"}]},
                {"or": [[["?x", "a/b", {"$string": "?y"}]], [["?x", "*/c"]]]},
                {"not": [["?x", "a/*", 1]]},
                {"optional": [["?x", "_", "?z"], ["?z", "is", "date"]]},
            ],
            "after": [{"$ref": "f"}],
        }),
    );
    same(
        "`order` where `where` = 1 or a starts \"b\" or <c.`by`.x in (1, true) or under(id, _, @a) \
         order by a:b.c, id after (null, -infinity, @\"a b\") { id2 }"
            .replace("under(id, _, @a) ", "d exists ")
            .as_str(),
        json!({
            "from": "order",
            "where": {"or": [
                ["`where`", "=", 1], ["a", "starts", "b"], ["<c.`by`.x", "in", [1, true]], ["d", "exists"],
            ]},
            "order": [{"by": "a:b.c"}, {"by": "id"}],
            "after": [null, {"$number": "-inf"}, {"$ref": "a b"}],
            "select": ["id2"],
        }),
    );
}

#[test]
fn a_pattern_can_end_in_a_test() {
    for (short, long) in [
        ("find ?p where ?p a/b > 3", "find ?p where ?p a/b ?_1; ?_1 > 3"),
        (
            "find ?_1 where ?_1 a/b > 3; not ?_1 a/c starts \"x\"",
            "find ?_1 where ?_1 a/b ?_2; ?_2 > 3; not (?_1 a/c ?_3; ?_3 starts \"x\")",
        ),
        (
            "find ?p where ?p a/b in (1, 2) or ?p in/is",
            "find ?p where (?p a/b ?_1; ?_1 in (1, 2)) or (?p in/is)",
        ),
        (
            "find ?p, ?r where ?p a/b ?r; ?p a/c is number",
            "find ?p, ?r where ?p a/b ?r; ?p a/c ?_1; ?_1 is number",
        ),
    ] {
        let query = text::parse(short).unwrap_or_else(|error| panic!("{}", error.render(short)));
        assert_eq!(query.to_string(), long);
        assert_eq!(text::parse(long), Ok(query));
    }
}

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
