//! `testdata/vectors.json`: writes, the bytes and fingerprints they come to, and the answers over them. JavaScript runs
//! the same file through the module (`client/web/test`). `REWRITE=1` records.

use std::{env, fs, path::Path};

use halcyon_core::collections::BTreeSet;

use halcyon_proto::v1::{self, connect_response::Event};
use prost::{Message, bytes::Bytes};
use serde_json::{Value as JsonValue, json};

use crate::{
    Client,
    client::moment,
    tests::{delta, subjects, vector},
};

fn hex(bytes: &[u8]) -> JsonValue {
    use std::fmt::Write as _;
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a String takes everything");
    }
    text.into()
}

fn client(number: u128) -> Client {
    Client::open("app", number, &[], false).expect("there is nothing to read")
}

/// What a node tells a session that follows so many queries, each of which covers all that the sets touch: one event for
/// each set.
fn events(sets: &[Bytes], queries: usize) -> Vec<Vec<u8>> {
    let opened = v1::SessionOpened {
        session: Bytes::from_static(b"0123456789abcdef"),
        ..v1::SessionOpened::default()
    };
    let mut events = vec![(0, Event::Opened(opened))];
    let mut known = BTreeSet::new();
    for (seq, set) in (1..).zip(sets) {
        let subjects = subjects(set);
        let entered: Vec<&str> = subjects.iter().map(String::as_str).collect();
        let entered: Vec<&str> = entered
            .into_iter()
            .filter(|name| known.insert((*name).to_owned()))
            .collect();
        let numbers = 1..=u32::try_from(queries).expect("a few");
        let deltas = numbers.map(|number| delta(number, vec![set.clone()], &entered, false));
        let commit = v1::Commit {
            vector: vector(seq),
            deltas: deltas.collect(),
        };
        events.push((seq, Event::Commit(commit)));
    }
    let events = events.into_iter().map(|(number, event)| v1::ConnectResponse {
        number,
        event: Some(event),
    });
    events.map(|event| event.encode_to_vec()).collect()
}

/// What a client shows that hears of these events: of each answer its rows, and what they share.
fn shown(events: &[Vec<u8>], queries: &[JsonValue]) -> (String, Vec<(JsonValue, JsonValue)>) {
    let mut client = client(99);
    for (number, query) in (1..).zip(queries) {
        client.follow(number, &query.to_string()).expect("a query");
    }
    for event in events {
        client.on_event(event, moment(0, 0));
        // Numbers are given to subscriptions when they are asked for.
        while !client.next_call(0).is_empty() {}
    }
    client.take_news();
    let answer = |query: &JsonValue| {
        client.follow(0, &query.to_string()).expect("a query");
        let news = client.take_news();
        client.unfollow(0);
        let news: JsonValue = serde_json::from_slice(&news[9..]).expect("one frame of JSON");
        (news["rows"].clone(), news["shared"].clone())
    };
    let answers = queries.iter().map(answer).collect();
    (client.fingerprint(), answers)
}

/// The case with everything filled in.
fn recorded(case: &JsonValue) -> JsonValue {
    let (mut pushes, mut sets) = (Vec::new(), Vec::new());
    for write in case["writes"].as_array().expect("writes") {
        let number = write["client"].as_str().and_then(|text| text.parse().ok());
        let mut client = client(number.expect("a client"));
        let wall = write["wall"].as_u64().expect("a time");
        let place = client
            .write(&write["changes"].to_string(), moment(wall, 0))
            .expect("a write");
        client.durable(place);
        let push = client.next_push();
        let message = v1::PushRequest::decode(&*push).expect("our own message");
        sets.extend(message.change_sets);
        pushes.push(hex(&push));
    }
    let queries = case["answers"].as_array().expect("answers").iter();
    let queries: Vec<JsonValue> = queries.map(|answer| answer["query"].clone()).collect();
    let told = events(&sets, queries.len());
    let (fingerprint, rows) = shown(&told, &queries);
    // Any order comes to the same.
    sets.reverse();
    let reversed = events(&sets, queries.len());
    assert_eq!(shown(&reversed, &queries), (fingerprint.clone(), rows.clone()));
    let answers = queries.iter().zip(rows);
    let answers: JsonValue = answers
        .map(|(query, (rows, shared))| match shared {
            JsonValue::Null => json!({ "query": query, "rows": rows }),
            shared => json!({ "query": query, "rows": rows, "shared": shared }),
        })
        .collect();
    json!({
        "name": case["name"],
        "writes": case["writes"],
        "pushes": pushes,
        "events": told.iter().map(|event| hex(event)).collect::<JsonValue>(),
        "reversed": reversed.iter().map(|event| hex(event)).collect::<JsonValue>(),
        "fingerprint": fingerprint,
        "answers": answers,
    })
}

#[test]
fn writes_have_the_bytes_fingerprints_and_answers_that_are_recorded() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/vectors.json");
    let text = fs::read_to_string(&path).unwrap();
    let cases: Vec<JsonValue> = serde_json::from_str(&text).unwrap();
    let fresh: Vec<JsonValue> = cases.iter().map(recorded).collect();
    if env::var_os("REWRITE").is_some() {
        fs::write(&path, serde_json::to_string_pretty(&fresh).unwrap() + "\n").unwrap();
        return;
    }
    for (case, fresh) in cases.iter().zip(&fresh) {
        assert_eq!(case, fresh, "{}", case["name"]);
    }
}
