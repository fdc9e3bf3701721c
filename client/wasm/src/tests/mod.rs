//! Two clients, and what a node would pass between them.

mod told;

use std::time::Duration;

use halcyon_core::collections::BTreeMap;
use halcyon_core::{
    change::ChangeSet,
    clock::{NTP64, WallTime, check_drift},
    id::{NodeId, OriginId, Seq, Tag},
    version_vector::VersionVector,
};
use halcyon_proto::{convert, v1};
use prost::{Message, bytes::Bytes};
use serde_json::{Value as JsonValue, json};
use v1::connect_response::Event;

use crate::{
    Client,
    client::{OPENED, REOPEN, ROOM, moment},
};

const NOW: u64 = 1_780_000_000_000;
const QUERY: &str = r#"{"from": "issue", "order": [{"by": "title"}], "select": ["title", "labels[]"]}"#;

fn origin() -> OriginId {
    let (node, incarnation) = (NodeId(1), 7);
    OriginId { node, incarnation }
}

pub(crate) fn vector(seq: u64) -> Bytes {
    let (origin, seq) = (origin(), Seq(seq));
    convert::vector_bytes(&VersionVector::from_iter([Tag { origin, seq }]))
}

fn client(number: u128) -> Client {
    Client::open("app", number, &[], true).unwrap()
}

fn write(client: &mut Client, changes: &str) -> u64 {
    client.write(changes, moment(NOW, 0)).unwrap()
}

/// The sets of the push that the client makes now.
#[track_caller]
fn pushed(client: &mut Client) -> Vec<Bytes> {
    client.durable(u64::MAX);
    v1::PushRequest::decode(&*client.next_push()).unwrap().change_sets
}

fn taken(seq: u64, superseded: &[u32]) -> v1::push_result::Result {
    lost(seq, superseded, &[])
}

fn lost(seq: u64, superseded: &[u32], overwritten: &[u32]) -> v1::push_result::Result {
    v1::push_result::Result::Taken(v1::Taken {
        origin: convert::origin_bytes(origin()),
        seq,
        superseded: superseded.to_vec(),
        overwritten: overwritten.to_vec(),
        again: false,
    })
}

/// The node answers the push under way, and knows of a second replica that holds all up to `second`.
fn answer(client: &mut Client, results: Vec<v1::push_result::Result>, second: u64) -> JsonValue {
    let results = results
        .into_iter()
        .map(|result| v1::PushResult { result: Some(result) });
    let answer = v1::PushResponse {
        results: results.collect(),
        held: vector(second),
    };
    let told = client.on_pushed(&answer.encode_to_vec(), moment(NOW, 0));
    serde_json::from_str(&told).unwrap()
}

fn event(client: &mut Client, number: u64, event: Event) -> u8 {
    let event = v1::ConnectResponse {
        number,
        event: Some(event),
    };
    client.on_event(&event.encode_to_vec(), moment(NOW, 0))
}

/// A session is open, and every query that is followed is asked for.
pub(crate) fn connect(client: &mut Client) -> Vec<v1::SubscribeRequest> {
    client.connect();
    client.at_node(1, None);
    let opened = v1::SessionOpened {
        session: Bytes::from_static(b"0123456789abcdef"),
        ..v1::SessionOpened::default()
    };
    assert_eq!(event(client, 0, Event::Opened(opened)), OPENED);
    let mut asked = Vec::new();
    loop {
        let call = client.next_call(0);
        if call.is_empty() {
            return asked;
        }
        assert_eq!(call[0], 0);
        let request = v1::SubscribeRequest::decode(&call[9..]).unwrap();
        client.on_subscribed(request.subscription, &v1::SubscribeResponse::default().encode_to_vec());
        asked.push(request);
    }
}

pub(crate) fn delta(subscription: u32, change_sets: Vec<Bytes>, entered: &[&str], more: bool) -> v1::SubscriptionDelta {
    let coverage = v1::CoverageDelta {
        change_sets,
        entered: entered.iter().map(|name| (*name).to_owned()).collect(),
        left: Vec::new(),
        ..v1::CoverageDelta::default()
    };
    v1::SubscriptionDelta {
        subscription,
        delta: coverage.encode_to_vec().into(),
        more,
        stale: false,
    }
}

fn commit(client: &mut Client, number: u64, seq: u64, deltas: Vec<v1::SubscriptionDelta>) -> u8 {
    let vector = vector(seq);
    event(client, number, Event::Commit(v1::Commit { vector, deltas }))
}

/// News as text, frame after frame.
fn news(client: &mut Client) -> Vec<String> {
    texts(&client.take_news())
}

fn texts(mut rest: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some((head, tail)) = rest.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        texts.push(String::from_utf8(tail[..length].to_vec()).unwrap());
        rest = &tail[length..];
    }
    texts
}

#[track_caller]
fn check_news(client: &mut Client, expected: &[&str]) {
    assert_eq!(news(client), expected);
}

/// What a disk holds that takes all that it is given.
#[derive(Default)]
struct Disk(BTreeMap<(u8, Vec<u8>), Vec<u8>>);

impl Disk {
    fn keep(&mut self, client: &mut Client) {
        let records = client.take_records();
        let mut rest = records.as_slice();
        while let Some((head, tail)) = rest.split_first_chunk::<8>() {
            let key = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let value = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let name = (head[0], tail[..key].to_vec());
            if head[1] == 1 {
                self.0.insert(name, tail[key..key + value].to_vec());
            } else {
                self.0.remove(&name);
            }
            rest = &tail[key + value..];
        }
    }

    fn records(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for ((store, key), value) in &self.0 {
            out.extend_from_slice(&[*store, 1]);
            out.extend_from_slice(&u16::try_from(key.len()).unwrap().to_be_bytes());
            out.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
            out.extend_from_slice(key);
            out.extend_from_slice(value);
        }
        out
    }

    fn sets(&self) -> usize {
        self.0.keys().filter(|(store, _)| *store == b's').count()
    }
}

const SHOWN: &str = r#"{"id":"i1","title":"x","labels":[]}"#;

#[test]
fn a_write_shows_at_once_and_another_sees_it_when_its_node_tells() {
    let (mut a, mut b) = (client(1), client(2));
    for client in [&mut a, &mut b] {
        client.follow(3, QUERY).unwrap();
        check_news(client, &[r#"{"rows":[],"status":"local"}"#]);
        connect(client);
        check_news(client, &[r#"{"status":"syncing"}"#]);
        commit(client, 1, 0, vec![delta(1, Vec::new(), &[], false)]);
        check_news(client, &[r#"{"status":"synced"}"#]);
    }
    let added = format!(r#"{{"edits":[[1,0,{SHOWN}]]}}"#);
    let place = write(&mut a, r#"[["create", "i1"], ["set", "i1", "issue/title", "x"]]"#);
    check_news(&mut a, &[&added]);
    assert!(a.is_open(place) && a.waiting() == 1);
    let sets = pushed(&mut a);
    let told = answer(&mut a, vec![taken(1, &[])], 0);
    assert_eq!(told["settled"], json!([{ "place": place, "superseded": [] }]));
    assert!(!a.is_open(place) && a.waiting() == 0);
    for client in [&mut a, &mut b] {
        assert_eq!(commit(client, 2, 1, vec![delta(1, sets.clone(), &["i1"], false)]), 0);
    }
    check_news(&mut b, &[&added]);
    // What we show already shows no second time, and the two hold the same.
    check_news(&mut a, &[]);
    assert_eq!(a.fingerprint(), b.fingerprint());
}

#[test]
fn nothing_is_pushed_before_the_disk_has_it() {
    let mut a = client(1);
    let place = write(&mut a, r#"[["set", "i1", "issue/title", "x"]]"#);
    assert!(a.next_push().is_empty());
    a.durable(place);
    let first = a.next_push();
    assert!(!first.is_empty());
    // One push at a time; a lost answer makes the same bytes go again.
    assert!(a.next_push().is_empty());
    let told = a.on_push_failed(&[], moment(NOW, 0));
    assert!(told.contains(r#""do":"leave""#), "{told}");
    assert_eq!(a.next_push(), first);
}

#[test]
fn what_the_greeted_node_would_refuse_is_stamped_again_before_the_first_push() {
    //           device ahead, drift_max, greeted so long ago, stamped again; all in seconds
    check_stamped_again(300, 60, 0, true);
    check_stamped_again(50, 60, 0, false);
    check_stamped_again(300, 600, 0, false);
    // The node's clock has gone on since.
    check_stamped_again(300, 60, 270, false);
}

#[track_caller]
fn check_stamped_again(ahead: u64, drift_max: u64, since: u64, is_stamped_again: bool) {
    let (mut a, mut disk) = (client(1), Disk::default());
    let theirs = moment(NOW - 1_000 * ahead, 0).wall;
    let greeting = v1::HelloResponse {
        node: 1,
        wall: theirs.0.0,
        drift_max_ms: Some(1_000 * drift_max),
        ..v1::HelloResponse::default()
    };
    let told = crate::wire::hello_json(&greeting.encode_to_vec()).unwrap();
    let number = |name: &str| told[name].as_str().unwrap().parse().unwrap();
    a.at_node(1, crate::wire::node_clock(number("wall"), Some(number("driftMaxMs"))));
    let place = write(&mut a, r#"[["set", "i1", "issue/title", "x"]]"#);
    disk.keep(&mut a);
    a.durable(place);
    let since = Duration::from_secs(since);
    let first = pushed(&mut Client::open("app", 3, &disk.records(), true).unwrap());
    assert!(a.before_push(since, moment(NOW, 0)), "the disk hears that it is pushed");
    assert!(!a.before_push(since, moment(NOW, 0)));
    // The disk hears of it before a node does, and what was pushed once keeps its bytes.
    disk.keep(&mut a);
    let mut again = Client::open("app", 2, &disk.records(), true).unwrap();
    let sets = pushed(&mut a);
    assert_eq!(sets, pushed(&mut again));
    assert_eq!(sets != first, is_stamped_again);
    let time = ChangeSet::decode(&sets[0]).unwrap().timestamp;
    let clock = WallTime(theirs.0 + NTP64::from(since));
    assert!(check_drift(&time, clock, Duration::from_secs(drift_max)).is_ok());
    a.on_push_failed(&[], moment(NOW, 0));
    assert!(!a.before_push(since, moment(NOW, 0)));
    assert_eq!(pushed(&mut a), sets);
}

#[test]
fn a_later_run_stamps_again_what_was_never_pushed_and_keeps_what_may_have_been() {
    let right = moment(NOW - 300_000, 0).wall;
    for is_pushed in [false, true] {
        let (mut a, mut disk) = (client(1), Disk::default());
        let place = write(&mut a, r#"[["set", "i1", "issue/title", "x"]]"#);
        disk.keep(&mut a);
        a.durable(place);
        let first = if is_pushed {
            // To a node whose clock is as far ahead, and nobody hears the answer.
            a.at_node(1, crate::wire::node_clock(moment(NOW, 0).wall.0.0, Some(60_000)));
            assert!(a.before_push(Duration::ZERO, moment(NOW, 0)));
            disk.keep(&mut a);
            pushed(&mut a)
        } else {
            Vec::new()
        };
        let mut b = Client::open("app", 2, &disk.records(), true).unwrap();
        b.at_node(1, crate::wire::node_clock(right.0.0, Some(60_000)));
        assert_eq!(b.before_push(Duration::ZERO, moment(NOW, 0)), !is_pushed);
        let sets = pushed(&mut b);
        let time = ChangeSet::decode(&sets[0]).unwrap().timestamp;
        let is_near = check_drift(&time, right, Duration::from_mins(1)).is_ok();
        assert_eq!((is_near, sets == first), (!is_pushed, is_pushed));
    }
}

#[test]
fn what_is_on_its_way_to_the_disk_is_stamped_again_with_the_rest() {
    let mut a = client(1);
    let theirs = moment(NOW - 300_000, 0).wall;
    a.at_node(1, crate::wire::node_clock(theirs.0.0, Some(60_000)));
    let place = write(&mut a, r#"[["set", "i1", "issue/title", "x"]]"#);
    a.durable(place);
    let last = write(&mut a, r#"[["set", "i1", "issue/title", "y"]]"#);
    assert!(a.before_push(Duration::ZERO, moment(NOW, 0)));
    a.durable(last);
    let last = write(&mut a, r#"[["set", "i1", "issue/title", "z"]]"#);
    a.durable(last);
    let times: Vec<_> = pushed(&mut a)
        .iter()
        .map(|set| ChangeSet::decode(set).unwrap().timestamp)
        .collect();
    assert_eq!(times.len(), 3);
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
}

#[test]
fn coverage_in_parts_shows_when_all_of_it_is_in_and_a_gap_opens_the_stream_anew() {
    let (mut a, mut b) = (client(1), client(2));
    write(&mut a, r#"[["set", "i1", "issue/title", "x"]]"#);
    write(&mut a, r#"[["set", "i2", "issue/title", "y"]]"#);
    let sets = pushed(&mut a);
    b.follow(1, QUERY).unwrap();
    connect(&mut b);
    news(&mut b);
    commit(&mut b, 1, 0, vec![delta(1, vec![sets[0].clone()], &["i1"], true)]);
    check_news(&mut b, &[]);
    commit(&mut b, 2, 2, vec![delta(1, vec![sets[1].clone()], &["i2"], false)]);
    let both = r#"{"status":"synced","edits":[[1,0,{"id":"i1","title":"x","labels":[]}],[1,1,{"id":"i2","title":"y","labels":[]}]]}"#;
    check_news(&mut b, &[both]);
    assert_eq!(commit(&mut b, 4, 3, Vec::new()), REOPEN);
    b.on_disconnected();
    check_news(&mut b, &[r#"{"status":"offline"}"#]);
    let request = v1::ConnectRequest::decode(&*b.connect()).unwrap();
    assert_eq!(
        (request.after, request.session.len()),
        (2, 16),
        "it goes on behind what was heard"
    );
    // A node would not give the session to somebody else.
    b.forget_session();
    let request = v1::ConnectRequest::decode(&*b.connect()).unwrap();
    assert_eq!((request.after, request.session.len()), (0, 0));
    connect(&mut b);
    b.on_disconnected();
    assert!(!b.connect().is_empty() && !b.wants_reconnect());
}

#[test]
fn a_refused_write_goes_from_what_shows_and_from_the_disk() {
    let (mut a, mut disk) = (client(1), Disk::default());
    a.follow(1, QUERY).unwrap();
    write(&mut a, r#"[["set", "i1", "issue/title", "x"]]"#);
    news(&mut a);
    disk.keep(&mut a);
    assert_eq!(disk.sets(), 1);
    pushed(&mut a);
    let error = v1::Error {
        code: v1::ErrorCode::Forbidden.into(),
        message: "no".to_owned(),
        ..v1::Error::default()
    };
    let told = answer(&mut a, vec![v1::push_result::Result::Refused(error)], 0);
    assert_eq!(told["settled"][0]["error"]["code"], "FORBIDDEN");
    check_news(&mut a, &[r#"{"edits":[[0,0]]}"#]);
    disk.keep(&mut a);
    assert_eq!((a.waiting(), disk.sets()), (0, 0));
}

#[test]
fn of_a_superseded_write_what_lost_goes_and_is_named() {
    let mut a = client(1);
    a.follow(1, QUERY).unwrap();
    write(
        &mut a,
        r#"[["create", "i1"], ["set", "i1", "issue/title", "x"], ["set", "i2", "issue/title", "lost"]]"#,
    );
    news(&mut a);
    pushed(&mut a);
    let told = answer(&mut a, vec![taken(1, &[2])], 0);
    let lost = json!([{ "id": "i2", "field": "issue/title" }]);
    assert_eq!(told["settled"][0]["superseded"], lost);
    check_news(&mut a, &[r#"{"edits":[[0,0]]}"#]);
}

#[test]
fn of_an_overwritten_write_all_is_kept_and_what_lost_is_named() {
    let mut a = client(1);
    a.follow(1, QUERY).unwrap();
    write(&mut a, r#"[["create", "i1"], ["set", "i1", "issue/title", "x"]]"#);
    news(&mut a);
    pushed(&mut a);
    let told = answer(&mut a, vec![lost(1, &[], &[1])], 0);
    let fields = json!([{ "id": "i1", "field": "issue/title" }]);
    assert_eq!(told["settled"][0]["superseded"], fields);
    check_news(&mut a, &[]);
}

#[test]
fn a_disk_brings_back_what_was_confirmed_and_what_waits() {
    let (mut a, mut other, mut disk) = (client(1), client(2), Disk::default());
    write(&mut other, r#"[["set", "i2", "issue/title", "y"]]"#);
    let theirs = pushed(&mut other);
    a.follow(1, QUERY).unwrap();
    connect(&mut a);
    commit(&mut a, 1, 1, vec![delta(1, theirs, &["i2"], false)]);
    write(
        &mut a,
        r#"[["set", "i1", "issue/title", "x"], ["add", "i1", "issue/labels", {"$ref": "l"}]]"#,
    );
    disk.keep(&mut a);
    let mut again = Client::open("app", 3, &disk.records(), true).unwrap();
    again.follow(1, QUERY).unwrap();
    let all = r#"{"rows":[{"id":"i1","title":"x","labels":[{"$ref":"l"}]},{"id":"i2","title":"y","labels":[]}],"status":"local"}"#;
    check_news(&mut again, &[all]);
    assert_eq!(again.waiting(), 1);
    let sets = pushed(&mut a);
    assert_eq!(pushed(&mut again), sets, "the same bytes go again");
    // The query comes back with a digest of what it holds; nothing comes that is here.
    let asked = connect(&mut again);
    assert_eq!(asked[0].digest.len(), 256);
    // It leaves the disk when a second replica has it, and not before.
    answer(&mut again, vec![taken(2, &[])], 1);
    disk.keep(&mut again);
    assert_eq!(disk.sets(), 1);
    let between = Client::open("app", 5, &disk.records(), true).unwrap();
    assert_eq!(between.waiting(), 0, "a node has taken it");
    let held = v1::HeldResponse {
        own: vector(2),
        second: vector(2),
        ..v1::HeldResponse::default()
    };
    assert_eq!(event(&mut again, 0, Event::Held(held)), 0);
    disk.keep(&mut again);
    assert_eq!(disk.sets(), 0);
    assert!(again.held().is_empty());
    let last = Client::open("app", 4, &disk.records(), true).unwrap();
    assert_eq!(last.waiting(), 0);
}

#[test]
fn places_go_on_behind_the_disks_and_a_set_that_cannot_be_read_stays_there() {
    let (mut a, mut disk) = (client(1), Disk::default());
    assert_eq!(write(&mut a, r#"[["set", "i1", "issue/title", "x"]]"#), 1);
    disk.keep(&mut a);
    disk.0.insert((b's', 9_u64.to_be_bytes().to_vec()), vec![255]);
    let mut again = Client::open("app", 2, &disk.records(), true).unwrap();
    assert_eq!((again.waiting(), again.unreadable()), (1, 1));
    assert_eq!(write(&mut again, r#"[["set", "i2", "issue/title", "y"]]"#), 10);
    disk.keep(&mut again);
    assert_eq!(disk.sets(), 3);
    assert!(Client::open("app", 2, b"x", true).is_err());
}

#[test]
fn a_write_that_cannot_be_read_is_refused_and_leaves_no_trace() {
    let mut a = client(1);
    for bad in [
        "",
        "{}",
        "[]",
        r#"[["paint", "i1"]]"#,
        r#"[["set", "i1", "title", "x"]]"#,
        r#"[["set", "i1", "issue/title", null]]"#,
        r#"[["set", "i1", "issue/title"]]"#,
    ] {
        assert!(a.write(bad, moment(NOW, 0)).is_err(), "{bad}");
    }
    assert_eq!(a.waiting(), 0);
    assert!(a.take_records().is_empty());
}

#[test]
fn what_happens_in_a_room_is_told_once() {
    let mut a = client(1);
    connect(&mut a);
    let user = v1::RoomUser {
        connection: "c1".to_owned(),
        user: "bob".to_owned(),
        presence: "{}".to_owned(),
        ..v1::RoomUser::default()
    };
    let room = v1::RoomEvent {
        room: "doc/1".to_owned(),
        whole: true,
        users: vec![user],
        ..v1::RoomEvent::default()
    };
    assert_eq!(event(&mut a, 0, Event::Room(room)), ROOM);
    let told: JsonValue = serde_json::from_str(&a.rooms().take_news()).unwrap();
    assert_eq!(
        (&told[0]["room"], &told[0]["users"][0]["user"]),
        (&json!("doc/1"), &json!("bob"))
    );
    assert_eq!(a.rooms().take_news(), "[]");
    let enter = crate::room::call(
        0,
        "app",
        a.session(),
        r#"{"room": "doc/1", "user": "ann", "presence": "{}"}"#,
    );
    let enter = v1::EnterRoomRequest::decode(&*enter.unwrap()).unwrap();
    assert_eq!((enter.session.len(), enter.user), (16, "ann".to_owned()));
    assert!(crate::room::call(2, "app", b"", r#"{"room": "doc/1"}"#).is_err());
}

/// The subjects of a set.
pub(crate) fn subjects(bytes: &[u8]) -> Vec<String> {
    let set = ChangeSet::decode(bytes).expect("our own set");
    let subjects = set.changes.iter().filter_map(halcyon_core::change::Change::subject);
    subjects.map(|subject| subject.as_str().to_owned()).collect()
}
