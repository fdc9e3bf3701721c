//! `testdata/vectors.json`: writes, the bytes and fingerprints they come to, and the answers over them. JavaScript runs
//! the same file through the module (`client/web/test`). `REWRITE=1` records.

use std::{env, fs, path::Path};

use halcyon_core::id::{NodeId, OriginId};
use halcyon_proto::{convert, v1};
use prost::Message;
use serde_json::{Value as JsonValue, json};

use crate::Engine;

fn hex(bytes: &[u8]) -> JsonValue {
    use std::fmt::Write as _;
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a String takes everything");
    }
    text.into()
}

/// A write as a node would tell others of it: each from an origin of its own, so that any order will do.
fn live(node: u64, push: &[u8]) -> Vec<u8> {
    let mut push = v1::PushRequest::decode(push).expect("our own message");
    let origin = OriginId {
        node: NodeId(node),
        incarnation: 1,
    };
    let live = v1::Live {
        origin: convert::origin_bytes(origin),
        seq: 1,
        change_set: push.change_sets.remove(0),
    };
    let event = Some(v1::watch_response::Event::Live(live));
    v1::WatchResponse { event }.encode_to_vec()
}

/// What an engine shows that hears of the messages in this order.
fn shown(messages: &[Vec<u8>], queries: &[JsonValue]) -> (String, Vec<JsonValue>) {
    let mut engine = Engine::new("app", 99);
    for message in messages {
        engine.on_watched(message, 0).expect("a message of ours");
    }
    let answer = |query: &JsonValue| {
        engine.subscribe(1, &query.to_string()).expect("a query");
        let news = engine.take_news();
        engine.unsubscribe(1);
        let news: JsonValue = serde_json::from_slice(&news[8..]).expect("one frame of JSON");
        news["rows"].clone()
    };
    let answers = queries.iter().map(answer).collect();
    (engine.fingerprint(), answers)
}

/// The case with everything filled in.
fn recorded(case: &JsonValue) -> JsonValue {
    let (mut pushes, mut messages) = (Vec::new(), Vec::new());
    for (node, write) in (1..).zip(case["writes"].as_array().expect("writes")) {
        let client = write["client"].as_str().and_then(|text| text.parse().ok());
        let mut engine = Engine::new("app", client.expect("a client"));
        let wall = write["wall"].as_u64().expect("a time");
        let place = engine.write(&write["changes"].to_string(), wall).expect("a write");
        engine.durable(place);
        let push = engine.next_push();
        messages.push(live(node, &push));
        pushes.push(push);
    }
    let queries = case["answers"].as_array().expect("answers").iter();
    let queries: Vec<JsonValue> = queries.map(|answer| answer["query"].clone()).collect();
    let (fingerprint, rows) = shown(&messages, &queries);
    let answers = queries.iter().zip(&rows);
    let answers: JsonValue = answers
        .map(|(query, rows)| json!({ "query": query, "rows": rows }))
        .collect();
    messages.reverse();
    assert_eq!(shown(&messages, &queries), (fingerprint.clone(), rows));
    messages.reverse();
    json!({
        "name": case["name"],
        "writes": case["writes"],
        "pushes": pushes.iter().map(|push| hex(push)).collect::<JsonValue>(),
        "messages": messages.iter().map(|message| hex(message)).collect::<JsonValue>(),
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
