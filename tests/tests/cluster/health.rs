//! What a node says of itself over HTTP: whether to send it work, and if not, why.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use halcyon_tests::{
    cluster::{Cluster, REGIONS},
    http,
    ports::free_port,
    process::Process,
    wait,
};
use serde_json::Value;

/// Between two looks at a node that stops. It says so for 200 ms.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Stops of which one at least must have been seen.
const STOPS_MAX: usize = 5;

#[test]
fn a_node_whose_control_plane_has_not_reached_it_is_not_ready_and_says_so() {
    let mut cluster = Cluster::boot(&["eu-west"]);
    // Peers are told an address at which nobody listens yet.
    let unreachable = free_port();
    let node = Process::new(cluster.path(), "n2", "us-east", unreachable);
    let (client_port, peer_port) = (node.client_port, node.peer_port);
    cluster.nodes.push(node);
    let token = cluster.token();
    cluster.spawn(1, &["--join", &token]);
    wait::until("n2 says why it is not ready", wait::SOON, || {
        let (status, reasons) = asked(client_port, "/readyz")?;
        assert_eq!(status, 503, "ready without a control plane: {reasons}");
        reasons.contains("control plane").then_some(())
    });
    // The process itself is well.
    assert_eq!(asked(client_port, "/healthz").map(|(status, _)| status), Some(200));
    cluster.links.open_door(1, unreachable, peer_port);
    cluster.nodes[1].wait_ready();
}

#[test]
fn a_lost_quorum_is_told_but_is_no_reason_to_send_work_elsewhere() {
    let mut cluster = Cluster::boot(&REGIONS);
    cluster.tenant("notes", &REGIONS);
    let port = cluster.nodes[0].client_port;
    assert!(metric(port, "halcyon_raft_quorum 1"));
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    wait::until("n1 says that it has no quorum", wait::SOON, || {
        metric(port, "halcyon_raft_quorum 0").then_some(())
    });
    let (status, reasons) = asked(port, "/readyz").expect("n1 answers");
    assert_eq!(status, 200, "{reasons}");
    cluster.door(0, "notes").write_entities(0, 1);
    let asked = cluster.run_on(0, &["tenant", "create", "more", "--regions", "eu-west"]);
    asked.fails(4, &["quorum"]);
}

#[test]
fn a_node_that_stops_says_so_before_it_closes_its_ports() {
    let mut cluster = Cluster::boot(&["eu-west"]);
    // On a busy machine nobody may get to look in that time.
    let seen = (0..STOPS_MAX).any(|at| {
        if at > 0 {
            cluster.start(0);
        }
        is_told_of_a_stop(&mut cluster)
    });
    assert!(seen, "nobody was told that the node stops");
    let port = cluster.nodes[0].client_port;
    assert_eq!(asked(port, "/readyz"), None, "the port is still open");
}

/// Stops the node while somebody looks at it all the time: whether that one was told.
#[track_caller]
fn is_told_of_a_stop(cluster: &mut Cluster) -> bool {
    let port = cluster.nodes[0].client_port;
    let (seen, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Acquire) {
                if let Some((503, reasons)) = asked(port, "/readyz") {
                    assert!(reasons.contains("stopping"), "{reasons}");
                    seen.store(true, Ordering::Release);
                }
                wait::pause(LOOK_EVERY);
            }
        });
        let status = cluster.nodes[0].stop();
        ended.store(true, Ordering::Release);
        assert!(status.success(), "it ended with {status}");
    });
    seen.into_inner()
}

#[test]
fn a_node_that_was_removed_acknowledges_nothing() {
    let mut cluster = Cluster::boot(&["eu-west", "us-east"]);
    cluster.tenant("notes", &["eu-west", "us-east"]);
    cluster.door(1, "notes").write_entities(0, 1);
    cluster.run_on(0, &["node", "remove", "n2", "--force"]).ok();
    let (mut door, mut written) = (cluster.door(1, "notes"), 1);
    wait::until("n2 refuses", wait::SOON, || {
        written += 1;
        (!door.try_write_entities(written, 1)).then_some(())
    });
    // What only it has can be taken out of it, by who asks for just that.
    let export = ["export", "--full", "--tenant", "notes"];
    let facts = cluster.run_on(1, &export).ok().stdout.lines().count();
    assert!(facts > 2, "{facts} lines");
    cluster.run_along(&[1, 1], &export).fails(4, &["n2 was removed"]);
}

#[test]
fn a_node_that_was_removed_says_what_to_do() {
    let mut cluster = Cluster::boot(&["eu-west", "us-east"]);
    cluster.run_on(0, &["node", "remove", "n2", "--force"]).ok();
    let port = cluster.nodes[1].client_port;
    let reasons = wait::until("n2 hears of it", wait::SOON, || {
        asked(port, "/readyz")
            .filter(|(status, text)| *status == 503 && text.contains("removed"))
            .map(|(_, text)| text)
    });
    assert!(
        reasons.contains("for good") && reasons.contains("empty directory"),
        "{reasons}"
    );
    // Whoever asks it is sent on, by the command itself where that knows another node.
    cluster.run_on(1, &["node", "list"]).fails(4, &["n2 was removed"]);
    cluster.run_on(1, &["token", "create"]).fails(4, &["n2 was removed"]);
    let listed = cluster.run_along(&[1, 0], &["node", "list"]).ok().stdout;
    assert!(!listed.contains("us-east"), "{listed}");
    cluster.run_along(&[1, 0], &["token", "create"]).ok();
    // Who is left decides alone, and says so.
    let status = cluster.run_on(0, &["status"]).ok().stdout;
    assert!(status.contains("has a leader and a quorum"), "{status}");
    // It does not come back either.
    assert!(cluster.nodes[1].stop().success());
    cluster.spawn(1, &[]);
    let status = cluster.nodes[1].wait_end(wait::SOON);
    let said = cluster.nodes[1].log_tail();
    assert!(!status.success() && said.contains("removed"), "{status}: {said}");
}

/// The status and the reasons, if it answers.
fn asked(port: u16, path: &str) -> Option<(u16, String)> {
    let (status, body) = http::get(port, path).ok()?;
    let json: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body:?}"));
    assert_eq!(json["ok"], status == 200, "{body}");
    let reasons = json["reasons"].as_array().cloned().unwrap_or_default();
    assert_eq!(reasons.is_empty(), status == 200, "{body}");
    Some((status, Value::Array(reasons).to_string()))
}

fn metric(port: u16, line: &str) -> bool {
    http::get(port, "/metrics").is_ok_and(|(_, text)| text.lines().any(|found| found.starts_with(line)))
}
