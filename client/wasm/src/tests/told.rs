//! What a page is told of answers.

use serde_json::{Value as JsonValue, json};

use super::{QUERY, check_news, client, news, write};

const AUTHORS: &str = r#"{"from": "issue", "select": [{"include": "author", "type": "user", "as": "author",
    "select": ["name", {"include": "team", "type": "team", "as": "team", "select": ["name"]}]}]}"#;

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

/// So many issues, the first of which may have had other authors.
fn by_author(author: &str, name: &str, count: usize) -> JsonValue {
    let name = json!(["set", author, "user/name", name]);
    let issues = (0..count).map(|at| json!(["set", format!("i{at}"), "issue/author", { "$ref": author }]));
    [name].into_iter().chain(issues).collect()
}
