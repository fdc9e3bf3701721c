//! Two engines, and what a node would pass between them.

use halcyon_core::{
    id::{NodeId, OriginId, Seq, Tag},
    version_vector::VersionVector,
};
use halcyon_proto::{convert, v1};
use prost::{Message, bytes::Bytes};
use v1::watch_response::Event;

use crate::{Engine, Record};

const NOW: u64 = 1_780_000_000_000;
const QUERY: &str = r#"{"from": "issue", "order": [{"by": "title"}], "select": ["title", "labels[]"]}"#;

fn origin() -> OriginId {
    let (node, incarnation) = (NodeId(1), 7);
    OriginId { node, incarnation }
}

fn tag(seq: u64) -> Tag {
    let (origin, seq) = (origin(), Seq(seq));
    Tag { origin, seq }
}

fn engine(client: u128) -> Engine {
    Engine::new("app", client)
}

/// The sets of the push that the engine makes now.
#[track_caller]
fn pushed(engine: &mut Engine) -> Vec<Bytes> {
    engine.durable(u64::MAX);
    let body = engine.next_push();
    v1::PushRequest::decode(&*body).unwrap().change_sets
}

fn taken(seqs: &[u64]) -> Vec<u8> {
    let result = |seq: &u64| {
        let (origin, seq, superseded, again) = (convert::origin_bytes(origin()), *seq, Vec::new(), false);
        let taken = v1::Taken {
            origin,
            seq,
            superseded,
            again,
        };
        let result = Some(v1::push_result::Result::Taken(taken));
        v1::PushResult { result }
    };
    let results = seqs.iter().map(result).collect();
    let held = Bytes::new();
    v1::PushResponse { results, held }.encode_to_vec()
}

fn event(event: Event) -> Vec<u8> {
    let event = Some(event);
    v1::WatchResponse { event }.encode_to_vec()
}

fn live(seq: u64, change_set: Bytes) -> Vec<u8> {
    let origin = convert::origin_bytes(origin());
    event(Event::Live(v1::Live {
        origin,
        seq,
        change_set,
    }))
}

fn caught_up(vector: &VersionVector) -> Vec<u8> {
    let vector = convert::vector_bytes(vector);
    event(Event::CaughtUp(v1::CaughtUp { vector }))
}

/// News as text, frame after frame.
fn news(engine: &mut Engine) -> Vec<String> {
    let bytes = engine.take_news();
    let (mut rest, mut texts) = (bytes.as_slice(), Vec::new());
    while let Some((head, tail)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        texts.push(String::from_utf8(tail[..length].to_vec()).unwrap());
        rest = &tail[length..];
    }
    texts
}

#[track_caller]
fn check_news(engine: &mut Engine, expected: &[&str]) {
    assert_eq!(news(engine), expected);
}

fn write(engine: &mut Engine, changes: &str) -> u64 {
    engine.write(changes, NOW).unwrap()
}

#[test]
fn a_write_shows_at_once_and_a_second_client_sees_it_when_a_node_has_it() {
    let (mut a, mut b) = (engine(1), engine(2));
    for engine in [&mut a, &mut b] {
        engine.subscribe(3, QUERY).unwrap();
        check_news(engine, &[r#"{"rows":[]}"#]);
    }
    write(&mut a, r#"[["create", "i1"], ["set", "i1", "issue/title", "x"]]"#);
    let shown = r#"{"edits":[[1,0,{"id":"i1","title":"x","labels":[]}]]}"#;
    check_news(&mut a, &[shown]);
    let sets = pushed(&mut a);
    a.on_pushed(&taken(&[1])).unwrap();
    assert_eq!(a.waiting(), 0);
    let message = live(1, sets[0].clone());
    assert!(b.on_watched(&message, NOW).unwrap());
    check_news(&mut b, &[shown]);
    // What we show already shows no second time, and the two hold the same.
    a.on_watched(&message, NOW).unwrap();
    check_news(&mut a, &[]);
    assert_eq!(a.fingerprint(), b.fingerprint());
}

#[test]
fn nothing_is_pushed_before_the_disk_has_it() {
    let mut a = engine(1);
    let place = write(&mut a, r#"[["set", "i1", "issue/title", "x"]]"#);
    assert!(a.next_push().is_empty());
    a.durable(place);
    assert!(!a.next_push().is_empty());
    // One push at a time; a lost answer makes the same bytes go again.
    assert!(a.next_push().is_empty());
    a.on_push_refused(&[]);
    assert!(!a.next_push().is_empty());
}

#[test]
fn what_was_missed_shows_when_all_of_it_is_in() {
    let (mut a, mut b) = (engine(1), engine(2));
    write(&mut a, r#"[["set", "i1", "issue/title", "x"]]"#);
    write(&mut a, r#"[["set", "i2", "issue/title", "y"]]"#);
    let sets = pushed(&mut a);
    b.subscribe(1, QUERY).unwrap();
    check_news(&mut b, &[r#"{"rows":[]}"#]);
    for set in sets {
        let change_sets = vec![set];
        let missed = event(Event::Missed(v1::Missed { change_sets }));
        assert!(!b.on_watched(&missed, NOW).unwrap());
        check_news(&mut b, &[]);
    }
    let vector = [tag(2)].into_iter().collect();
    assert!(b.on_watched(&caught_up(&vector), NOW).unwrap());
    let both = r#"{"edits":[[1,0,{"id":"i1","title":"x","labels":[]}],[1,1,{"id":"i2","title":"y","labels":[]}]]}"#;
    check_news(&mut b, &[both]);
    // A hole in what comes next sends the watch back to its vector.
    let set = pushed_set(&mut a);
    assert!(b.on_watched(&live(4, set), NOW).is_err());
}

#[test]
fn what_was_collected_while_a_client_was_away_goes_when_all_that_holds_is_in() {
    let (mut a, mut b) = (engine(1), engine(2));
    write(&mut a, r#"[["set", "i1", "issue/title", "x"]]"#);
    write(&mut a, r#"[["set", "i2", "issue/title", "y"]]"#);
    let sets = pushed(&mut a);
    b.subscribe(1, QUERY).unwrap();
    check_news(&mut b, &[r#"{"rows":[]}"#]);
    for (seq, set) in (1..).zip(&sets) {
        b.on_watched(&live(seq, set.clone()), NOW).unwrap();
        news(&mut b);
    }
    let anew = event(Event::Anew(v1::Anew {}));
    assert!(!b.on_watched(&anew, NOW).unwrap());
    let change_sets = vec![sets[1].clone()];
    let missed = event(Event::Missed(v1::Missed { change_sets }));
    assert!(!b.on_watched(&missed, NOW).unwrap());
    check_news(&mut b, &[]);
    let vector = [tag(3)].into_iter().collect();
    assert!(b.on_watched(&caught_up(&vector), NOW).unwrap());
    assert_eq!(news(&mut b).len(), 1, "the first goes, the second stays as it was");
    let mut fresh = engine(3);
    fresh.on_watched(&missed, NOW).unwrap();
    fresh.on_watched(&caught_up(&vector), NOW).unwrap();
    assert_eq!(b.fingerprint(), fresh.fingerprint());
}

fn pushed_set(engine: &mut Engine) -> Bytes {
    engine.on_push_refused(&[]);
    pushed(engine).remove(0)
}

#[test]
fn a_refused_write_goes_from_what_shows() {
    let mut a = engine(1);
    a.subscribe(1, QUERY).unwrap();
    write(&mut a, r#"[["set", "i1", "issue/title", "x"]]"#);
    news(&mut a);
    pushed(&mut a);
    let error = v1::Error {
        code: v1::ErrorCode::Forbidden.into(),
        message: "no".to_owned(),
        ..v1::Error::default()
    };
    let results = vec![v1::PushResult {
        result: Some(v1::push_result::Result::Refused(error)),
    }];
    let held = Bytes::new();
    let answer = a
        .on_pushed(&v1::PushResponse { results, held }.encode_to_vec())
        .unwrap();
    assert!(answer.contains(r#""code":"FORBIDDEN""#), "{answer}");
    check_news(&mut a, &[r#"{"edits":[[0,0]]}"#]);
    assert_eq!(a.waiting(), 0);
}

#[test]
fn a_disk_brings_back_what_was_confirmed_and_what_waits() {
    let (mut a, mut other) = (engine(1), engine(2));
    write(&mut other, r#"[["set", "i2", "issue/title", "y"]]"#);
    let theirs = pushed(&mut other).remove(0);
    a.on_watched(&live(1, theirs), NOW).unwrap();
    write(
        &mut a,
        r#"[["set", "i1", "issue/title", "x"], ["add", "i1", "issue/labels", {"$ref": "l"}]]"#,
    );
    let mut disk = std::collections::BTreeMap::new();
    for Record { store, key, bytes } in a.take_records() {
        disk.insert((store, key), bytes);
    }
    let mut again = engine(3);
    for ((store, key), bytes) in disk {
        again.restore(&Record { store, key, bytes }).unwrap();
    }
    again.subscribe(1, QUERY).unwrap();
    let all = r#"{"rows":[{"id":"i1","title":"x","labels":[{"$ref":"l"}]},{"id":"i2","title":"y","labels":[]}]}"#;
    check_news(&mut again, &[all]);
    assert_eq!(again.waiting(), 1);
    let theirs = pushed(&mut a);
    assert_eq!(pushed(&mut again), theirs, "the same bytes go again");
    assert!(again.next_push().is_empty());
}

#[test]
fn a_write_that_cannot_be_read_is_refused_and_leaves_no_trace() {
    let mut a = engine(1);
    for bad in [
        "",
        "{}",
        "[]",
        r#"[["paint", "i1"]]"#,
        r#"[["set", "i1", "title", "x"]]"#,
        r#"[["set", "i1", "issue/title", null]]"#,
        r#"[["set", "i1", "issue/title"]]"#,
    ] {
        assert!(a.write(bad, NOW).is_err(), "{bad}");
    }
    assert_eq!(a.waiting(), 0);
    assert!(a.take_records().is_empty());
}
