//! Text and JSON say the same.

use serde_json::{Value as JsonValue, json};

use crate::query::{json, lower::lower, text};

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
