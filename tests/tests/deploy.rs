//! What `deploy/` hands to an operator works as it is: the real program reads the config, systemd accepts the unit.

use std::{fs, process::Command};

use halcyon_tests::{binary, cluster::Cluster, http, ports::free_port, tidy, wait};

#[test]
fn a_node_starts_by_the_annotated_config_with_only_its_place_changed() {
    let mut cluster = Cluster::boot(&["eu-west"]);
    let config = tidy::repository().join("deploy/halcyon.toml");
    let (client_port, peer_port, data) = (free_port(), free_port(), cluster.file("by-config"));
    let token = cluster.token();
    let flags = [
        ["--config", &config.display().to_string()],
        ["--data", &data.display().to_string()],
        ["--listen", &format!("127.0.0.1:{client_port}")],
        ["--peer-listen", &format!("127.0.0.1:{peer_port}")],
        ["--join", &token],
    ];
    let mut command = Command::new(binary::halcyon());
    command.args(["node", "start"]).args(flags.concat());
    let mut node = halcyon_tests::command::Running::start(command, "the node".to_owned(), &cluster.file("node.out"));
    wait::until("it is ready", wait::SOON, || {
        assert!(!node.has_ended(), "it ended: {}", node.notes());
        http::get(client_port, "/readyz")
            .ok()
            .filter(|(status, _)| *status == 200)
    });
    let nodes = cluster.ask(&["node", "list"]);
    assert_eq!(nodes[1]["region"], "eu-west", "{nodes}");
    cluster.nodes[0].kill();
}

#[test]
fn systemd_accepts_the_unit() {
    let unit = fs::read_to_string(tidy::repository().join("deploy/halcyon.service")).expect("the unit is there");
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let path = dir.path().join("halcyon.service");
    // The binary is where an operator puts it; here it is where cargo has put it.
    let binary = binary::halcyon().display().to_string();
    let here = unit.replace("/usr/local/bin/halcyon", &binary);
    assert!(here.contains(&format!("ExecStart={binary} node start")), "{here}");
    fs::write(&path, here).expect("a temporary directory can be written to");
    let Ok(verified) = Command::new("systemd-analyze").arg("verify").arg(&path).output() else {
        return; // No systemd on this machine, so nobody to ask.
    };
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && said.trim().is_empty(), "{said}");
}
