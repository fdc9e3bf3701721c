//! Bytes that no honest program sends: refused with a reason, and the node lives.

use std::io::{Read as _, Write as _};

use halcyon_core::{change::Change, clock::NTP64, limits, value::Value};
use halcyon_proto::v1::{ErrorCode, push_result};
use halcyon_tests::{
    cluster::Cluster,
    http,
    load::{Door, entity, predicate},
};

/// The HTTP/2 preface, an empty SETTINGS frame, and then a frame that claims 16 MiB.
const HUGE_FRAME: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\xff\xff\xff\0\0\0\0\0\x01";

#[test]
fn any_bytes_on_either_port_do_no_harm() {
    let mut cluster = Cluster::boot(&["eu-west"]);
    cluster.tenant("notes", &["eu-west"]);
    let pid = cluster.nodes[0].pid();
    let noise: Vec<u8> = (0..200_000_u32)
        .map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    let tls_hello = [&[0x16, 3, 1, 0x3f, 0xff, 1, 0, 0xff, 0xff], &noise[..4_000]].concat();
    let long_line = [b"GET /", "a".repeat(1 << 20).as_bytes()].concat();
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "X-A: b\r\n".repeat(10_000)).into_bytes();
    let messages: [&[u8]; 7] = [b"", b"\0", &noise, HUGE_FRAME, &tls_hello, &long_line, &many_headers];
    let mut idle = Vec::new();
    for port in [cluster.nodes[0].client_port, cluster.nodes[0].peer_port] {
        for message in messages {
            let mut stream = http::connect(port).expect("the node accepts");
            let _ = stream.write_all(message);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read(&mut [0; 64]);
        }
        // Connections that say nothing take nobody's place.
        idle.extend((0..200).map(|_| http::connect(port).expect("the node accepts")));
    }
    lives(&mut cluster, pid);
}

#[test]
fn messages_that_are_too_large_or_no_messages_are_refused() {
    let mut cluster = Cluster::boot(&["eu-west"]);
    cluster.tenant("notes", &["eu-west"]);
    let (pid, port) = (cluster.nodes[0].pid(), cluster.nodes[0].client_port);
    let path = "/halcyon.v1.Sync/Push";
    let bodies = [
        http::frame(b"\xff\xff\xff\xff not protobuf"),
        http::frame(&vec![0x0a; limits::MESSAGE_BYTES_MAX + 1]),
        // A length that lies.
        [&[0, 0xff, 0xff, 0xff, 0xff], b"short".as_slice()].concat(),
        Vec::new(),
    ];
    for body in bodies {
        let answer = http::post(port, path, "application/grpc-web+proto", &body).expect("the node accepts");
        let refused = !answer.contains("grpc-status:0") && !answer.contains("grpc-status: 0");
        assert!(refused, "{} bytes were taken: {answer}", body.len());
    }
    let mut door = cluster.door(0, "notes");
    let tenth: Vec<Vec<u8>> = vec![vec![1; limits::CHANGE_SET_BYTES_MAX]; 6];
    assert!(door.push_encoded(tenth).is_err(), "a request over the limit was taken");
    lives(&mut cluster, pid);
}

#[test]
fn change_sets_that_break_a_rule_are_refused_by_its_name_and_leave_no_trace() {
    let mut cluster = Cluster::boot(&["eu-west"]);
    cluster.tenant("notes", &["eu-west"]);
    let pid = cluster.nodes[0].pid();
    let mut door = cluster.door(0, "notes");
    refused(&mut door, b"\x01 no change set".to_vec(), ErrorCode::Malformed);
    refused(&mut door, Vec::new(), ErrorCode::Malformed);
    let whole = door.set(vec![set("e1", "item/title", Value::string("x"))]).encode();
    refused(&mut door, whole[..whole.len() - 1].to_vec(), ErrorCode::Malformed);
    refused(&mut door, vec![1; limits::CHANGE_SET_BYTES_MAX + 1], ErrorCode::Limit);

    let large = Value::string(&"x".repeat(limits::VALUE_BYTES_MAX + 1));
    let large = door.set(vec![create("e1"), set("e1", "item/title", large)]).encode();
    refused(&mut door, large, ErrorCode::Limit);
    let reserved = door
        .set(vec![create("e1"), set("e1", "_deleted/x", Value::string("y"))])
        .encode();
    refused(&mut door, reserved, ErrorCode::Malformed);
    let mut ahead = door.set(vec![create("e1"), set("e1", "item/title", Value::string("y"))]);
    let hour = 3_600_u64 << 32;
    ahead.timestamp = halcyon_core::clock::timestamp(NTP64(ahead.timestamp.get_time().0 + hour), ahead.client());
    refused(&mut door, ahead.encode(), ErrorCode::ClockDrift);

    let mut first = door.set(vec![create("e2"), set("e2", "item/title", Value::string("kept"))]);
    door.write(&[first.clone()]);
    first.changes.push(create("e3"));
    refused(&mut door, first.encode(), ErrorCode::NumberReused);

    assert_eq!(door.get("e1").expect("it serves"), []);
    assert_eq!(door.get("e2").expect("it serves").len(), 1);
    lives(&mut cluster, pid);
}

#[test]
fn strangers_are_told_why_they_are_not_served() {
    let mut cluster = Cluster::boot(&["eu-west"]);
    cluster.tenant("notes", &["eu-west"]);
    cluster.tenant("other", &["eu-west"]);
    let port = cluster.nodes[0].client_port;
    let (key, other_key) = (cluster.key("notes").to_owned(), cluster.key("other").to_owned());
    denied(Door::open(port, "notes", ""), ErrorCode::Unauthenticated);
    denied(Door::open(port, "notes", "hk1.wrong"), ErrorCode::Unauthenticated);
    let mut foreign = Door::open(port, "notes", &other_key);
    assert!(foreign.get("e1").is_err(), "another tenant's key opened this one");
    let mut nowhere = Door::open(port, "nowhere", &key);
    assert!(nowhere.get("e1").is_err(), "a tenant that is not there was served");

    let mut door = cluster.door(0, "notes");
    assert_eq!(door.hello(1, 1).ok(), Some(1));
    let status = door.hello(900, 901).expect_err("a version from the future");
    let error = halcyon_proto::error::from_status(&status).map(|error| error.code());
    assert_eq!(error, Some(ErrorCode::WireVersion), "{status}");

    let keys = cluster.ask(&["tenant", "key", "list", "notes"]);
    let id = keys[0]["id"].as_str().expect("a key has an id").to_owned();
    cluster.run(&["tenant", "key", "revoke", "notes", &id]).ok();
    halcyon_tests::wait::until("the revoked key stops working", halcyon_tests::wait::SOON, || {
        door.get("e1").is_err().then_some(())
    });
}

#[track_caller]
fn refused(door: &mut Door, encoded: Vec<u8>, code: ErrorCode) {
    let (bytes, expected) = (encoded.len(), Some(code));
    let found = match door.push_encoded(vec![encoded]) {
        Ok(results) => match results.into_iter().next().and_then(|result| result.result) {
            Some(push_result::Result::Refused(error)) => Some(error.code()),
            Some(push_result::Result::Taken(_)) => panic!("{bytes} bytes were taken, not refused as {code:?}"),
            None => None,
        },
        Err(status) => halcyon_proto::error::from_status(&status).map(|error| error.code()),
    };
    assert_eq!(found, expected, "{bytes} bytes");
}

#[track_caller]
fn denied(mut door: Door, code: ErrorCode) {
    let status = door.get("e1").expect_err("nobody may read without a key");
    let found = halcyon_proto::error::from_status(&status).map(|error| error.code());
    assert_eq!(found, Some(code), "{status}");
}

/// The same process, ready, and taking writes.
#[track_caller]
fn lives(cluster: &mut Cluster, pid: Option<u32>) {
    assert!(
        cluster.nodes[0].is_running() && cluster.nodes[0].pid() == pid,
        "the node ended"
    );
    cluster.nodes[0].wait_ready();
    let taken = cluster.door(0, "notes").write_entities(9_000, 1);
    assert_eq!(taken.len(), 1);
}

fn create(id: &str) -> Change {
    Change::Create { subject: entity(id) }
}

fn set(id: &str, field: &str, value: Value) -> Change {
    Change::Set {
        subject: entity(id),
        predicate: predicate(field),
        value,
    }
}
