//! What each construct means: a query, and what it gives on a small world.

use serde_json::{Value as JsonValue, json};

use crate::query::{
    answer::{Answer, Datum, Rows},
    from_text,
    naive::evaluate,
    testing::triples,
};

const WORLD: &str = r#"
    @u1 user/name "Ada"
    @u1 user/age 36
    @u1 user/city "Ulm"
    @u2 user/name "Bob"
    @u2 user/age 25
    @u2 user/city "Bonn"
    @u3 user/name "Cyd"
    @u3 user/city "Ulm"
    @u4 user/name "Dan"
    @u4 user/age "old"
    @p1 post/title "Rust"
    @p1 post/author @u1
    @p1 post/created 2026-01-01T00:00:00Z
    @p1 post/tags "db"
    @p1 post/tags "x"
    @p1 post/rank 3
    @p2 post/title "Sync"
    @p2 post/author @u2
    @p2 post/created 2026-01-02T00:00:00Z
    @p2 post/tags "x"
    @p2 post/hidden true
    @p2 post/rank 2
    @p3 post/title "Offline"
    @p3 post/author @u1
    @p3 post/created 2026-01-03T00:00:00Z
    @p3 post/rank 3
    @p4 post/title "Lost"
    @p4 post/author @u9
    @p5 post/title "Draft"
    @p5 post/rank 2026-01-01T00:00:00Z
    @c1 comment/post @p1
    @c1 comment/text "hi"
    @c1 comment/by @u2
    @c2 comment/post @p1
    @c2 comment/text "yo"
    @c2 comment/by @u1
    @c3 comment/post @p3
    @c3 comment/text "ok"
    @c3 comment/by @u2
    @f2 folder/parent @f1
    @f3 folder/parent @f2
    @f4 folder/parent @f3
    @f5 folder/parent @f5
    @f2 folder/name "two"
"#;

#[track_caller]
fn answer(query: &str) -> Answer {
    let logic = from_text(query).unwrap_or_else(|error| panic!("{}", error.render(query)));
    evaluate(&logic, triples(WORLD))
}

fn plain(answer: &Answer) -> JsonValue {
    match &answer.rows {
        Rows::Table { rows, .. } => rows
            .iter()
            .map(|row| match row.as_slice() {
                [only] => only.to_json(),
                row => row.iter().map(Datum::to_json).collect(),
            })
            .collect(),
        Rows::Entities(_) => answer.rows.to_json(Datum::to_json),
    }
}

/// A table of one column is a list; one of several is a list of lists.
#[track_caller]
fn check(query: &str, expected: impl Into<JsonValue>) {
    assert_eq!(plain(&answer(query)), expected.into(), "{query}");
}

/// The ids of the entities that a query finds.
#[track_caller]
fn ids(query: &str, expected: &[&str]) {
    let Rows::Entities(objects) = answer(query).rows else {
        panic!("{query}: no entities")
    };
    let found: Vec<&str> = objects.iter().map(|object| object.id.as_str()).collect();
    assert_eq!(found, expected, "{query}");
}

#[test]
fn a_pattern_matches_each_value_of_a_predicate() {
    check("find ?t where @p1 post/tags ?t", json!(["db", "x"]));
    check("find ?p where ?p post/tags \"x\"", json!(["p1", "p2"]));
    check(
        "find ?p, ?t where ?p post/tags ?t",
        json!([["p1", "db"], ["p1", "x"], ["p2", "x"]]),
    );
    check("find ?n where @u1 user/name ?n", json!(["Ada"]));
    check("find ?n where @nobody user/name ?n", json!([]));
    check("find ?p where ?p post/hidden", json!(["p2"]));
    check("find ?p where ?p post/author @u1", json!(["p1", "p3"]));
}

#[test]
fn predicates_can_be_of_a_type_of_a_field_or_any() {
    check("find ?u where ?u user/*", json!(["u1", "u2", "u3", "u4"]));
    check("find ?e where ?e */name", json!(["f2", "u1", "u2", "u3", "u4"]));
    check("find ?a where @p5 ?a _", json!(["post/rank", "post/title"]));
    check(
        "find ?a, ?v where @u3 ?a ?v",
        json!([["user/city", "Ulm"], ["user/name", "Cyd"]]),
    );
    check(
        "find ?s, ?a where ?s ?a @u1",
        json!([["c2", "comment/by"], ["p1", "post/author"], ["p3", "post/author"]]),
    );
    check("find ?s where ?s _ \"x\"", json!(["p1", "p2"]));
    check(
        "find ?a, count(*) where ?s ?a _; ?a starts \"comment/\"",
        json!([["comment/by", 3], ["comment/post", 3], ["comment/text", 3]]),
    );
}

#[test]
fn joins_go_any_length_and_any_direction() {
    check(
        "find ?n where @c1 comment/post ?p; ?p post/author ?u; ?u user/name ?n",
        json!(["Ada"]),
    );
    check(
        "find ?n, ?t where ?c comment/by ?b; ?b user/name ?n; ?c comment/post ?p; ?p post/title ?t",
        json!([["Ada", "Rust"], ["Bob", "Offline"], ["Bob", "Rust"]]),
    );
    check(
        "find ?c where ?c comment/post ?p; ?c comment/by ?u; ?p post/author ?u",
        json!(["c2"]),
    );
    check(
        "find ?a, ?b where ?a user/city ?c; ?b user/city ?c; ?a < ?b",
        json!([["u1", "u3"]]),
    );
}

#[test]
fn the_answer_is_a_set_of_the_columns() {
    check("find ?c where ?u user/city ?c", json!(["Bonn", "Ulm"]));
    check("find ?u where ?p post/author ?u", json!(["u1", "u2", "u9"]));
}

#[test]
fn comparisons_go_by_the_total_order_of_values() {
    check("find ?u where ?u user/age ?a; ?a = 36", json!(["u1"]));
    check("find ?u where ?u user/age ?a; ?a != 36", json!(["u2", "u4"]));
    check("find ?u where ?u user/age ?a; ?a < 36", json!(["u2", "u4"]));
    check("find ?u where ?u user/age ?a; ?a < 36; ?a is number", json!(["u2"]));
    check("find ?u where ?u user/age ?a; 36 <= ?a", json!(["u1"]));
    check("find ?p where ?p post/rank ?r; ?r >= 3", json!(["p1", "p3", "p5"]));
    check("find ?p where ?p post/rank ?r; ?r > 3", json!(["p5"]));
    check(
        "find ?p where ?p post/created ?d; ?d > 2026-01-01; ?d < 2026-01-03",
        json!(["p2"]),
    );
    check("find ?p where ?p post/rank 1767225600000", json!([]));
    check("find ?p where ?p post/author \"u1\"", json!([]));
}

#[test]
fn text_is_tested_by_its_beginning_and_its_inside() {
    check("find ?t where _ post/title ?t; ?t starts \"O\"", json!(["Offline"]));
    check(
        "find ?t where _ post/title ?t; ?t contains \"st\"",
        json!(["Lost", "Rust"]),
    );
    check("find ?t where _ post/title ?t; ?t contains \"ST\"", json!([]));
    check("find ?a where _ user/age ?a; ?a contains \"o\"", json!(["old"]));
    check("find ?a where _ user/age ?a; ?a starts \"\"", json!(["old"]));
    check(
        "find ?t where _ post/title ?t; ?t in (\"Sync\", \"Draft\", \"None\")",
        json!(["Draft", "Sync"]),
    );
    check("find ?p where ?p post/rank ?r; ?r is date", json!(["p5"]));
}

#[test]
fn or_is_the_union_of_its_branches() {
    check(
        "find ?p where ?p post/hidden true or ?p post/rank 3",
        json!(["p1", "p2", "p3"]),
    );
    check(
        "find ?p where (?p post/tags \"x\"; ?p post/rank 3) or (?p post/title \"Lost\")",
        json!(["p1", "p4"]),
    );
    check(
        "find ?p, ?v where ?p post/tags ?v or ?p post/rank ?v; ?p post/hidden",
        json!([["p2", "x"], ["p2", 2]]),
    );
    check(
        "find ?p where ?p post/rank ?r; (?r = 2) or (?r is date)",
        json!(["p2", "p5"]),
    );
    check(
        "find count(*) where ?p post/title; (?p post/tags ?t) or (?p post/rank 3)",
        json!([3]),
    );
    check(
        "find ?u where ?u user/name; (not ?u user/age) or (?u user/city \"Bonn\")",
        json!(["u2", "u3"]),
    );
    check(
        "find ?x where (?x user/city ?c) or (?x post/tags ?c); (?c = \"db\") or (?x user/age 25; ?c = \"Bonn\")",
        json!(["p1", "u2"]),
    );
}

#[test]
fn not_leaves_out_what_its_body_matches() {
    check("find ?p where ?p post/title; not ?p post/author", json!(["p5"]));
    check(
        "find ?p where ?p post/title; not ?p post/tags \"x\"",
        json!(["p3", "p4", "p5"]),
    );
    check(
        "find ?u where ?u user/name; not (?p post/author ?u; ?p post/hidden true)",
        json!(["u1", "u3", "u4"]),
    );
    check(
        "find ?p where ?p post/rank ?r; not (?q post/rank ?s; ?s > ?r)",
        json!(["p5"]),
    );
    check(
        "find ?u where ?u user/name; not (?c comment/by ?u) ; not (?p post/author ?u)",
        json!(["u3", "u4"]),
    );
    check(
        "find ?u where ?u user/name; not (?u user/age ?a; not ?a is number)",
        json!(["u1", "u2", "u3"]),
    );
    check(
        "find ?u where ?u user/name; not (?u user/age or ?u user/city)",
        json!([]),
    );
}

#[test]
fn optional_gives_null_and_never_drops() {
    check(
        "find ?n, ?a where ?u user/name ?n; optional ?u user/age ?a",
        json!([["Ada", 36], ["Bob", 25], ["Cyd", null], ["Dan", "old"]]),
    );
    check(
        "find ?t, ?n where ?p post/title ?t; optional ?p post/author ?u; optional ?u user/name ?n; not ?p post/tags",
        json!([["Draft", null], ["Lost", null], ["Offline", "Ada"]]),
    );
    check(
        "find ?n, ?t where ?u user/name ?n; optional (?p post/author ?u; ?p post/title ?t; ?t starts \"O\")",
        json!([["Ada", "Offline"], ["Bob", null], ["Cyd", null], ["Dan", null]]),
    );
    check(
        "find ?n where ?u user/name ?n; optional ?u user/age ?a; ?a != 36",
        json!(["Bob", "Dan"]),
    );
    check(
        "find ?n where ?u user/name ?n; optional ?u user/age ?a; not ?a != 36",
        json!(["Ada", "Cyd"]),
    );
    check(
        "find ?p, ?x where ?p post/hidden; optional ?p post/none ?x; optional @p1 post/tags ?x",
        json!([["p2", null]]),
    );
    check(
        "find ?p, ?t where ?p post/rank 3; optional ?p post/tags ?t",
        json!([["p1", "db"], ["p1", "x"], ["p3", null]]),
    );
}

#[test]
fn rules_reach_as_far_as_the_data() {
    let under = "rule under(?a, ?b): ?a folder/parent ?b rule under(?a, ?c): ?a folder/parent ?b; under(?b, ?c) ";
    let check = |query: &str, expected| check(&format!("{under}{query}"), expected);
    check("find ?x where under(?x, @f1)", json!(["f2", "f3", "f4"]));
    check("find ?x where under(@f4, ?x)", json!(["f1", "f2", "f3"]));
    check("find ?x where under(?x, ?x)", json!(["f5"]));
    check(
        "find ?x, count(?y) where under(?x, ?y)",
        json!([["f2", 1], ["f3", 2], ["f4", 3], ["f5", 1]]),
    );
    check("find ?x where under(?x, _); not under(_, ?x)", json!(["f4"]));
    check("find ?x where ?x folder/parent; not under(?x, @f1)", json!(["f5"]));
    check("folder where under(id, @f2) {}", json!([{"id": "f3"}, {"id": "f4"}]));
}

#[test]
fn rules_may_need_each_other_and_totals_of_others() {
    check(
        "rule even(?x): ?x folder/parent @f1 \
         rule odd(?y): even(?x); ?y folder/parent ?x \
         rule even(?y): odd(?x); ?y folder/parent ?x \
         find ?x where even(?x)",
        json!(["f2", "f4"]),
    );
    check(
        "rule talk(?p, count(?c)): ?c comment/post ?p \
         find ?t where talk(?p, ?n); ?n > 1; ?p post/title ?t",
        json!(["Rust"]),
    );
    check(
        "rule loud(?u): ?c comment/by ?u; ?c comment/post @p1 \
         rule quiet(?u): ?u user/name; not loud(?u) \
         find ?u where quiet(?u)",
        json!(["u3", "u4"]),
    );
    check(
        "rule total(count(?x)): ?x post/none find ?n where total(?n)",
        json!([0]),
    );
    check("rule best(max(?x)): _ post/none ?x find ?n where best(?n)", json!([]));
}

#[test]
fn aggregates_take_every_binding_of_the_group() {
    check("find count(?p) where ?p post/title", json!([5]));
    check("find count(?p) where ?p post/none", json!([0]));
    check("find ?x, count(?p) where ?p post/none ?x", json!([]));
    check("find count(?t) where ?p post/tags ?t", json!([3]));
    check("find count(distinct ?t) where ?p post/tags ?t", json!([2]));
    check(
        "find count(*), count(?a) where ?u user/name; optional ?u user/age ?a",
        json!([[4, 3]]),
    );
    check(
        "find ?n, count(?c) where ?c comment/by ?u; ?u user/name ?n order by count(?c) desc",
        json!([["Bob", 2], ["Ada", 1]]),
    );
    check(
        "find ?c, sum(?a), avg(?a), min(?a), max(?a) where ?u user/city ?c; optional ?u user/age ?a",
        json!([["Bonn", 25, 25, 25, 25], ["Ulm", 36, 36, 36, 36]]),
    );
    check(
        "find sum(?a), avg(?a), max(?a) where _ user/age ?a",
        json!([[61, 30.5, 36]]),
    );
    check(
        "find sum(?a), avg(?a), min(?a), count(?a) where ?u user/age ?a",
        json!([[61, 30.5, "old", 3]]),
    );
    check(
        "find sum(?x), avg(?x), min(?x), max(?x), collect(?x) where _ post/none ?x",
        json!([[0, null, null, null, []]]),
    );
    check(
        "find collect(?r) where ?p post/rank ?r; ?r is number",
        json!([[2, 3, 3]]),
    );
    check(
        "find ?a, count(*) where ?u user/city; optional ?u user/age ?a",
        json!([[null, 1], [25, 1], [36, 1]]),
    );
}

#[test]
fn what_is_left_open_does_not_multiply() {
    check("find count(*) where ?c comment/post _", json!([3]));
    check("find count(*) where ?p post/tags _", json!([2]));
    check("find count(*) where ?p post/tags ?t", json!([3]));
    check("find sum(?r) where ?p post/rank ?r; ?p post/tags _", json!([5]));
    check("find sum(?r) where ?p post/rank ?r; ?p post/tags ?t", json!([8]));
}

#[test]
fn the_order_is_total_and_null_comes_first() {
    check(
        "find ?n, ?a where ?u user/name ?n; optional ?u user/age ?a order by ?a",
        json!([["Cyd", null], ["Dan", "old"], ["Bob", 25], ["Ada", 36]]),
    );
    check(
        "find ?n, ?a where ?u user/name ?n; optional ?u user/age ?a order by ?a desc",
        json!([["Ada", 36], ["Bob", 25], ["Dan", "old"], ["Cyd", null]]),
    );
    check(
        "find ?r, ?p where ?p post/rank ?r order by ?r desc, ?p desc",
        json!([["2026-01-01T00:00:00Z", "p5"], [3, "p3"], [3, "p1"], [2, "p2"]]),
    );
    check(
        "find ?p, ?r where ?p post/rank ?r order by ?r limit 2",
        json!([["p2", 2], ["p1", 3]]),
    );
    check(
        "find ?r as rank, ?p where ?p post/rank ?r; ?r is number order by rank desc limit 1",
        json!([[3, "p1"]]),
    );
    check("find ?p where ?p post/title limit 0", json!([]));
}

#[test]
fn a_cursor_goes_on_behind_a_row_that_may_be_gone() {
    check(
        "find ?t where _ post/title ?t after (\"Lost\")",
        json!(["Offline", "Rust", "Sync"]),
    );
    check(
        "find ?t where _ post/title ?t after (\"M\") limit 1",
        json!(["Offline"]),
    );
    check(
        "find ?p, ?r where ?p post/rank ?r order by ?r desc after (@p1, 3)",
        json!([["p3", 3], ["p2", 2]]),
    );
    ids("post order by rank desc after (3, @p1)", &["p3", "p2", "p4"]);
    ids("post order by rank after (null, @p4) limit 2", &["p2", "p1"]);
    let first = answer("post order by created desc limit 2");
    let next = first.next.map(|cursor| cursor.0);
    let expected = [
        Datum::Value(crate::value::Value::Date(1_767_312_000_000)),
        Datum::Value(crate::value::Value::Ref("p2".parse().unwrap())),
    ];
    assert_eq!(next, Some(expected.to_vec()));
    assert_eq!(answer("post order by created desc limit 9").next, None);
}

#[test]
fn a_condition_holds_if_any_value_on_the_path_passes() {
    ids("post", &["p1", "p2", "p3", "p4", "p5"]);
    ids("post where title = \"Rust\"", &["p1"]);
    ids("post where author.age > 30", &["p1", "p3"]);
    ids("post where author:user.age > 30 and not tags has \"x\"", &["p3"]);
    ids("post where author.name exists", &["p1", "p2", "p3"]);
    ids("post where author exists", &["p1", "p2", "p3", "p4"]);
    ids("post where not author exists", &["p5"]);
    ids("post where author = @u9", &["p4"]);
    ids("post where tags != \"x\"", &["p1"]);
    ids("post where not tags = \"x\"", &["p3", "p4", "p5"]);
    ids("post where hidden = false", &[]);
    ids("post where rank in (2, 7) or title starts \"D\"", &["p2", "p5"]);
    ids("post where not (rank = 3 or hidden = true)", &["p4", "p5"]);
    ids("post where rank is number and rank > 2", &["p1", "p3"]);
    ids("post where id in (@p1, @u1, @p5)", &["p1", "p5"]);
    ids("user where id = @p1", &[]);
    ids(
        "post where title contains \"o\" and (rank = 2 or not hidden exists)",
        &["p4"],
    );
}

#[test]
fn a_path_goes_through_references_both_ways() {
    ids("post where <comment.post exists", &["p1", "p3"]);
    ids("post where <comment.post.text = \"ok\"", &["p3"]);
    ids("post where <comment.post.by.name = \"Ada\"", &["p1"]);
    ids("user where <post.author.<comment.post.text = \"ok\"", &["u1"]);
    ids("user where <post.author.title contains \"Sy\"", &["u2"]);
    ids("user where <comment.by = @c2", &["u1"]);
    ids("comment where post.author.city = \"Ulm\"", &["c1", "c2", "c3"]);
}

#[test]
fn an_order_by_a_path_takes_the_least_or_the_greatest() {
    ids("post order by created desc", &["p3", "p2", "p1", "p4", "p5"]);
    ids("post order by author.age desc, title limit 3", &["p3", "p1", "p2"]);
    ids("post where tags exists order by tags", &["p1", "p2"]);
    ids("post where tags exists order by tags desc, id desc", &["p2", "p1"]);
    ids("user order by <post.author.created desc", &["u1", "u2", "u3", "u4"]);
    ids("user order by id desc limit 2", &["u4", "u3"]);
}

#[test]
fn fields_are_a_value_or_null_and_lists_where_asked() {
    check(
        "post where id = @p1 { title, tags, none }",
        json!([{"id": "p1", "title": "Rust", "tags": "db", "none": null}]),
    );
    check(
        "post where id = @p1 { tags[], none[] }",
        json!([{"id": "p1", "tags": ["db", "x"], "none": []}]),
    );
    check(
        "post where id = @p4 { author, title as heading }",
        json!([{"id": "p4", "author": "u9", "heading": "Lost"}]),
    );
    check(
        "user where id = @u3",
        json!([{"id": "u3", "user/city": "Ulm", "user/name": "Cyd"}]),
    );
    check(
        "post where id = @p2 { id, *, rank }",
        json!([{
            "id": "p2", "post/author": "u2", "post/created": "2026-01-02T00:00:00Z", "post/hidden": true,
            "post/rank": 2, "post/tags": "x", "post/title": "Sync", "rank": 2,
        }]),
    );
    check("post where id = @p1 { * }", {
        json!([{
            "id": "p1", "post/author": "u1", "post/created": "2026-01-01T00:00:00Z", "post/rank": 3,
            "post/tags": ["db", "x"], "post/title": "Rust",
        }])
    });
}

#[test]
fn includes_have_their_own_conditions_order_and_limit() {
    check(
        "post where rank = 3 { title, author { name }, <comment.post as comments order by text desc limit 1 { text } }",
        json!([
            {"id": "p1", "title": "Rust", "author": {"id": "u1", "name": "Ada"}, "comments": [{"id": "c2", "text": "yo"}]},
            {"id": "p3", "title": "Offline", "author": {"id": "u1", "name": "Ada"}, "comments": [{"id": "c3", "text": "ok"}]},
        ]),
    );
    check(
        "post where id in (@p4, @p5) { author { name } }",
        json!([{"id": "p4", "author": null}, {"id": "p5", "author": null}]),
    );
    check(
        "post where id = @p2 { author where age > 30 { name } }",
        json!([{"id": "p2", "author": null}]),
    );
    check(
        "post where id = @p2 { author:folder {} }",
        json!([{"id": "p2", "author": null}]),
    );
    check(
        "post where id = @p4 { author[] {} }",
        json!([{"id": "p4", "author": []}]),
    );
    check(
        "user where age = 36 { <post.author as posts where not tags exists { <comment.post { by { name } } } }",
        json!([{"id": "u1", "posts": [{"id": "p3", "comment": [{"id": "c3", "by": {"id": "u2", "name": "Bob"}}]}]}]),
    );
    check(
        "comment where by.age < 30 order by text { post:post { title } }",
        json!([
            {"id": "c1", "post": {"id": "p1", "title": "Rust"}},
            {"id": "c3", "post": {"id": "p3", "title": "Offline"}},
        ]),
    );
}
