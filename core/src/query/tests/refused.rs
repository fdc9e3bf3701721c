//! What is refused: where the error points, and what it says would be right.

use serde_json::{Value as JsonValue, json};

use crate::query::{from_json, from_text, json, lower::lower, text};

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
    refused("post limit 3 where open = true", "where", "it follows the type");
    refused("post limit 1000001", "1000001", "found `1000001`");
    refused(
        "find ?x, count(?y) where ?x a/b ?y order by count(?z)",
        "?z",
        "add count(?z) there",
    );
    refused(
        "post { *, title as `post/text` }",
        "title as `post/text`",
        "take a name without `/`",
    );
    refused(
        "post order by n after (1, 2) limit 2",
        "post order by n after (1, 2) limit 2",
        "as @id",
    );
    for number in ["9007199254740993", "-9007199254740993", "1e999", &"7".repeat(40)] {
        refused(
            &format!("post where n = {number}"),
            number,
            "whole ones are exact up to",
        );
    }
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
