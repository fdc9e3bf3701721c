//! Booting, joining, stopping, and who is not let in.

use halcyon_tests::{
    cluster::{Cluster, REGIONS},
    http, wait,
};

#[test]
fn three_nodes_boot_by_command_line_and_read_what_one_of_them_wrote() {
    let mut cluster = Cluster::boot(&REGIONS);
    let nodes = cluster.ask(&["node", "list"]);
    assert_eq!(nodes.as_array().map(Vec::len), Some(3), "{nodes}");

    cluster.tenant("notes", &REGIONS);
    let fields = ["set", "first", "note/text=hello there", "note/stars=3"];
    cluster.run_keyed(0, "notes", &fields).ok();
    for at in 0..3 {
        let mut door = cluster.door(at, "notes");
        let fields = wait::until("the note is read in every region", wait::SOON, || {
            door.get("first").ok().filter(|fields| !fields.is_empty())
        });
        let expected = [("note/stars", "3"), ("note/text", "\"hello there\"")];
        assert_eq!(
            fields,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }
    let shown = cluster.run_keyed(2, "notes", &["get", "first"]).ok();
    assert!(shown.stdout.contains("hello there"), "{}", shown.stdout);
    cluster.settle("notes");

    for node in &cluster.nodes {
        assert_eq!(
            http::get(node.client_port, "/healthz").map(|(status, _)| status).ok(),
            Some(200)
        );
        let (status, metrics) = http::get(node.client_port, "/metrics").expect("metrics are served");
        assert!(status == 200 && metrics.contains("halcyon_"), "{metrics}");
    }
}

#[test]
fn all_nodes_stop_cleanly_and_start_again_with_what_they_had() {
    let mut cluster = Cluster::boot(&REGIONS);
    cluster.tenant("notes", &REGIONS);
    cluster.door(1, "notes").write_entities(0, 500);
    let before = cluster.settle("notes");
    for node in &mut cluster.nodes {
        let status = node.stop();
        assert!(status.success(), "{} stopped with {status}", node.name);
    }
    for at in 0..3 {
        cluster.spawn(at, &[]);
    }
    for node in &mut cluster.nodes {
        node.wait_ready();
    }
    let after = cluster.settle("notes");
    assert_eq!(
        before["replicas"][0]["fingerprint"],
        after["replicas"][0]["fingerprint"]
    );
    cluster.door(2, "notes").write_entities(500, 10);
    let grown = cluster.settle("notes");
    assert_eq!(grown["replicas"][0]["triples"], 510);
    // The control plane took up its work again as well.
    cluster.tenant("more", &["us-east"]);
}

#[test]
fn wrong_expired_and_foreign_tokens_are_refused_with_a_reason() {
    let mut cluster = Cluster::boot(&["eu-west"]);
    let token = cluster.token();
    let foreign = Cluster::boot(&["eu-west"]).token();

    // One digit of the secret.
    let mut parts: Vec<String> = token.splitn(5, '.').map(str::to_owned).collect();
    parts[3] = parts[3].chars().rev().collect();
    refused(&mut cluster, &parts.join("."), &["token"]);
    // Another cluster's secret and fingerprint, at our address.
    let mut theirs: Vec<String> = foreign.splitn(5, '.').map(str::to_owned).collect();
    theirs[4].clone_from(&parts[4]);
    refused(&mut cluster, &theirs.join("."), &["cluster"]);
    refused(&mut cluster, "not-a-token", &["token"]);

    let short = cluster.ask(&["token", "create", "--lifetime", "1s"]);
    let short = short["token"].as_str().expect("a token").to_owned();
    wait::pause(std::time::Duration::from_millis(1_500));
    refused(&mut cluster, &short, &["expired"]);

    // The right one still lets in.
    cluster.join("us-east");
    assert_eq!(cluster.ask(&["node", "list"]).as_array().map(Vec::len), Some(2));
}

#[test]
fn the_admin_credential_is_secret_and_needed() {
    use std::os::unix::fs::PermissionsExt as _;

    let cluster = Cluster::boot(&["eu-west"]);
    let metadata = std::fs::metadata(cluster.admin_credential()).expect("bootstrap left the credential");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let zeros = format!("hadm_{}", "0".repeat(64));
    let wrong = ["--admin-credential", zeros.as_str(), "tenant", "list"];
    cluster.run(&wrong).fails(4, &["credential"]);
    let nobody = ["--cluster", "127.0.0.1:9", "node", "list"];
    cluster.run(&nobody).fails(3, &["127.0.0.1:9"]);
    cluster.run(&["tenant", "show", "nowhere"]).fails(4, &["nowhere"]);
    cluster.run(&["tenant", "create"]).fails(2, &["--help"]);
}

/// A node that is started with this token ends by itself and says why.
#[track_caller]
fn refused(cluster: &mut Cluster, token: &str, words: &[&str]) {
    let at = cluster.prepare("us-east");
    cluster.spawn(at, &["--join", token]);
    let status = cluster.nodes[at].wait_end(wait::SOON);
    let said = cluster.nodes[at].log_text();
    assert!(!status.success(), "{token} was let in:\n{said}");
    for word in words {
        assert!(
            said.to_lowercase().contains(word),
            "{token}: does not say `{word}`:\n{said}"
        );
    }
}
