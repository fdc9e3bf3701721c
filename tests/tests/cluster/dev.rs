//! `halcyon dev`: three regions and a demo tenant by one command, and a clean end.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
};

use halcyon_tests::{binary, command, http, ports::free_ports, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What `--port` is the first of.
const PORTS: u16 = 20;

#[test]
fn dev_starts_three_regions_stops_on_ctrl_c_and_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_ports(PORTS);
    let mut first = Dev::start(dir.path(), port);
    let before = first.settle();
    first.stop();
    let mut second = Dev::start(dir.path(), port);
    let after = second.settle();
    assert_eq!(
        before["replicas"][0]["fingerprint"],
        after["replicas"][0]["fingerprint"]
    );
    assert!(after["replicas"][0]["triples"].as_u64() > Some(100), "{after}");
    second.stop();
}

/// A running `halcyon dev`.
struct Dev {
    child: Child,
    port: u16,
    data: std::path::PathBuf,
    log: std::path::PathBuf,
}

impl Dev {
    #[track_caller]
    fn start(dir: &Path, port: u16) -> Self {
        let (data, log) = (dir.join("data"), dir.join("log"));
        let out = File::create(&log).expect("a temporary directory can be written to");
        let err = out.try_clone().expect("a descriptor is free");
        let mut command = Command::new(binary::halcyon());
        command
            .arg("dev")
            .arg("--data")
            .arg(&data)
            .args(["--port", &port.to_string()])
            .args(["--issues", "200", "--no-web"]);
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.expect("the binary under test can be run");
        let mut dev = Self { child, port, data, log };
        for at in 0..3 {
            wait::until("a region of dev is ready", wait::SOON, || {
                assert!(
                    dev.child.try_wait().is_ok_and(|ended| ended.is_none()),
                    "dev ended:\n{}",
                    dev.said()
                );
                let (status, _) = http::get(port + at, "/readyz").ok()?;
                (status == 200).then_some(())
            });
        }
        dev
    }

    /// Waits until the demo tenant agrees in all regions.
    #[track_caller]
    fn settle(&mut self) -> Value {
        let credential = self.data.join("eu-west").join("admin.credential");
        let (address, credential) = (format!("127.0.0.1:{}", self.port), credential.display().to_string());
        let variables = [
            ("HALCYON_CLUSTER", address.as_str()),
            ("HALCYON_ADMIN", credential.as_str()),
        ];
        wait::until("the demo tenant is there and agrees", wait::LONG, || {
            let seeded = self.said().contains("demo") && self.data.join("demo.key").is_file();
            let answer = command::halcyon(&["--json", "verify", "--tenant", "demo"], &variables);
            (seeded && answer.code == 0).then(|| answer.json()).filter(|json| {
                json["replicas"].as_array().is_some_and(|all| all.len() == 3)
                    && json["replicas"][0]["triples"].as_u64() > Some(100)
            })
        })
    }

    /// Ctrl-C, and a clean end.
    #[track_caller]
    fn stop(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("a child takes signals");
        let status = wait::until("dev ends", wait::SOON, || self.child.try_wait().ok().flatten());
        assert!(status.success(), "dev ended with {status}:\n{}", self.said());
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
