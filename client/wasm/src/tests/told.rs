//! What a page is told of answers.

use serde_json::{Value as JsonValue, json};

use super::{QUERY, check_news, client, news, texts, write};

const AUTHORS: &str = r#"{"from": "issue", "select": [{"include": "author", "type": "user", "as": "author",
    "select": ["name", {"include": "team", "type": "team", "as": "team", "select": ["name"]}]}]}"#;

const LONG: &str = r#"{"from": "issue", "select": ["title",
    {"include": "author", "type": "user", "as": "author", "select": ["name"]}]}"#;

/// Carries edits out as a page does.
fn carry_out(rows: &mut Vec<JsonValue>, told: &str) {
    let news: JsonValue = serde_json::from_str(told).unwrap();
    if let Some(all) = news["rows"].as_array() {
        rows.clone_from(all);
    }
    for edit in news["edits"].as_array().into_iter().flatten() {
        let at = usize::try_from(edit[1].as_u64().unwrap()).unwrap();
        match edit[0].as_u64().unwrap() {
            0 => drop(rows.remove(at)),
            1 => rows.insert(at, edit[2].clone()),
            _ => rows[at] = edit[2].clone(),
        }
    }
}

#[test]
fn edits_lead_to_the_answer_that_a_new_follower_is_told_however_many_come_at_once() {
    let mut a = client(1);
    a.follow(1, QUERY).unwrap();
    let mut rows = Vec::new();
    for (round, count) in [3, 100, 2, 200].into_iter().enumerate() {
        // Titles that fall between those that are there.
        let changes: Vec<JsonValue> = (0..count)
            .map(|at| {
                json!([
                    "set",
                    format!("i{round}-{at}"),
                    "issue/title",
                    format!("{:03}", at * 7 % 100)
                ])
            })
            .chain([json!(["delete", format!("i{}-1", round.max(1) - 1)])])
            .collect();
        write(&mut a, &JsonValue::from(changes).to_string());
        for told in news(&mut a) {
            carry_out(&mut rows, &told);
        }
        a.follow(2, QUERY).unwrap();
        let mut fresh = Vec::new();
        for told in news(&mut a) {
            carry_out(&mut fresh, &told);
        }
        a.unfollow(2);
        assert_eq!(rows, fresh);
    }
    assert!(rows.len() > 290);
}

#[test]
fn what_several_objects_include_is_told_once() {
    let mut a = client(1);
    let changes: Vec<JsonValue> = [("i1", "u1"), ("i2", "u1"), ("i3", "u2")]
        .into_iter()
        .flat_map(|(issue, user)| {
            [
                json!(["set", user, "user/name", user]),
                json!(["set", user, "user/team", { "$ref": "t" }]),
                json!(["set", "t", "team/name", "T"]),
                json!(["set", issue, "issue/author", { "$ref": user }]),
            ]
        })
        .collect();
    let place = write(&mut a, &JsonValue::from(changes).to_string());
    a.durable(place);
    a.follow(1, AUTHORS).unwrap();
    // One that is included once stands where it belongs; numbers lead to the left.
    let all = r#"{"rows":[{"id":"i1","author":1},{"id":"i2","author":1},{"id":"i3","author":{"id":"u2","name":"u2","team":0}}],"status":"local","shared":[{"id":"t","name":"T"},{"id":"u1","name":"u1","team":0}]}"#;
    check_news(&mut a, &[all]);
    write(&mut a, r#"[["set", "i3", "issue/author", {"$ref": "u1"}]]"#);
    let edit = r#"{"edits":[[2,2,{"id":"i3","author":{"id":"u1","name":"u1","team":{"id":"t","name":"T"}}}]]}"#;
    check_news(&mut a, &[edit]);
}

#[test]
fn an_answer_that_comes_after_edits_brings_only_what_its_own_rows_include() {
    let mut a = client(1);
    a.follow(1, AUTHORS).unwrap();
    write(&mut a, &by_author("u1", "Ann", 2).to_string());
    news(&mut a);
    // Both rows of the edit include a user whom no row of the answer includes: so much changes that it is asked anew.
    write(&mut a, r#"[["set", "u1", "user/name", "Bea"]]"#);
    write(&mut a, &by_author("u2", "Cid", 3_000).to_string());
    let [told] = &news(&mut a)[..] else { panic!("one frame") };
    let told: JsonValue = serde_json::from_str(told).unwrap();
    a.follow(2, AUTHORS).unwrap();
    let fresh: JsonValue = serde_json::from_str(&news(&mut a)[0]).unwrap();
    assert_eq!((&told["edits"], &told["rows"]), (&JsonValue::Null, &fresh["rows"]));
    assert_eq!(told["shared"], json!([{ "id": "u2", "name": "Cid", "team": null }]));
}

#[test]
fn a_long_answer_comes_in_parts_and_what_happens_meanwhile_behind_them() {
    let mut a = client(1);
    for (author, issues) in [("u1", 0..2_000), ("u2", 2_000..4_000)] {
        let name = json!(["set", author, "user/name", author]);
        let issues = issues.flat_map(|at| {
            let (id, title) = (format!("i{at:04}"), format!("{at:0100}"));
            let title = json!(["set", id, "issue/title", title]);
            [title, json!(["set", id, "issue/author", { "$ref": author }])]
        });
        let changes: JsonValue = issues.chain([name]).collect();
        let place = write(&mut a, &changes.to_string());
        a.durable(place);
    }
    a.follow(1, LONG).unwrap();
    let first = a.take_news();
    assert_eq!(first[8], 254, "there is more");
    let mut told = texts(&first);
    // Nobody has asked for the second part yet.
    write(&mut a, r#"[["set", "i0000", "issue/title", "new"]]"#);
    while let Some(more) = Some(news(&mut a)).filter(|more| !more.is_empty()) {
        told.extend(more);
    }
    let (edit, parts) = told.split_last().unwrap();
    assert!(parts.len() > 3, "{} parts", parts.len());
    let (mut rows, mut shared) = (Vec::new(), Vec::new());
    for (number, text) in (1..).zip(parts) {
        assert!(text.len() < 140 << 10, "{} bytes", text.len());
        let part: JsonValue = serde_json::from_str(text).unwrap();
        assert_eq!(part["at"], json!(rows.len()));
        let is_last = number == parts.len();
        assert_eq!((part["status"].is_string(), part["more"].is_null()), (is_last, is_last));
        rows.extend(part["rows"].as_array().unwrap().clone());
        shared.extend(part["shared"].as_array().into_iter().flatten().cloned());
        let is_there = |row: &JsonValue| usize::try_from(row["author"].as_u64().unwrap()).unwrap() < shared.len();
        assert!(rows.iter().all(is_there));
    }
    let expected = (0..4_000).map(|at| {
        let author = usize::from(at >= 2_000);
        json!({ "id": format!("i{at:04}"), "title": format!("{at:0100}"), "author": author })
    });
    assert!(rows.iter().cloned().eq(expected));
    let users = json!([{ "id": "u1", "name": "u1" }, { "id": "u2", "name": "u2" }]);
    assert_eq!(JsonValue::from(shared), users);
    carry_out(&mut rows, edit);
    assert_eq!(rows[0]["title"], "new");
}

#[test]
fn what_rows_include_counts_for_a_part_and_one_that_nobody_follows_any_more_keeps_nobody_waiting() {
    let mut a = client(1);
    let changes: JsonValue = (0..400)
        .flat_map(|at| {
            let (user, name) = (format!("u{}", at / 2), "x".repeat(2_000));
            let author = json!(["set", format!("i{at:03}"), "issue/author", { "$ref": user }]);
            [json!(["set", user, "user/name", name]), author]
        })
        .collect();
    let place = write(&mut a, &changes.to_string());
    a.durable(place);
    a.follow(1, LONG).unwrap();
    a.follow(2, LONG).unwrap();
    let first = texts(&a.take_news());
    assert!(first[0].len() < 140 << 10, "{} bytes", first[0].len());
    a.unfollow(1);
    let second = texts(&a.take_news());
    assert_eq!(first, second);
    while a.take_news().get(8) == Some(&254) {}
    assert!(a.take_news().is_empty());
}

/// So many issues, the first of which may have had other authors.
fn by_author(author: &str, name: &str, count: usize) -> JsonValue {
    let name = json!(["set", author, "user/name", name]);
    let issues = (0..count).map(|at| json!(["set", format!("i{at}"), "issue/author", { "$ref": author }]));
    [name].into_iter().chain(issues).collect()
}
