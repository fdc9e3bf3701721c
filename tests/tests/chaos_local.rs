//! `chaos local`: the same story on namespaces and through the proxy, in the mode that was asked for, and a clean end.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use halcyon_tests::{binary, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A fault of six seconds, and time before and after it.
const STORY: [&str; 4] = ["--scenario", "partition-heals", "--seconds", "15"];

#[test]
fn a_partition_heals_behind_the_proxy() {
    check(&Run::to_its_end("proxy"), "proxy");
}

#[test]
fn a_partition_heals_between_network_namespaces_and_leftovers_are_removed() {
    if let Some(reason) = why_no_namespaces() {
        skip(&reason);
        return;
    }
    // A run that is killed can clean up nothing.
    let mut killed = Run::start("namespaces", None);
    let process = killed.child.id();
    let ours = |name: &String| name.starts_with(&format!("hc{process}-"));
    wait::until("the first namespaces are made", wait::SOON, || {
        (namespaces().iter().filter(|name| ours(name)).count() >= 2).then_some(())
    });
    killed.child.kill().expect("a child may be killed");
    killed.child.wait().expect("a child can be waited for");
    let next = Run::to_its_end("namespaces");
    let said = next.said.join("\n");
    assert!(said.contains(&format!("hc{process}-hub")), "{said}");
    assert_eq!(namespaces().iter().find(|name| ours(name)), None);
    assert!(!directory(process).exists());
    check(&next, "namespaces");
}

#[test]
fn namespaces_that_cannot_be_made_are_an_error_that_says_what_to_do() {
    // Without `ip` nobody can make any, root or not.
    let mut run = Run::start("namespaces", Some(Path::new("/nonexistent")));
    run.read_to_end();
    let said = run.said.join("\n");
    assert_eq!(run.code, Some(3), "{said}");
    for word in ["namespaces cannot be made", "iproute2", "--mode proxy"] {
        assert!(said.contains(word), "does not say `{word}`:\n{said}");
    }
}

#[test]
fn auto_says_that_the_proxy_takes_over_and_ctrl_c_leaves_nothing() {
    let mut run = Run::start("auto", Some(Path::new("/nonexistent")));
    let process = run.child.id();
    let noted = directory(process).join("processes");
    let nodes = wait::until("two nodes are started", wait::SOON, || {
        let text = fs::read_to_string(&noted).unwrap_or_default();
        let nodes: Vec<String> = text.lines().map(str::to_owned).collect();
        (nodes.len() >= 2).then_some(nodes)
    });
    kill_process(Pid::from_child(&run.child), Signal::INT).expect("a child takes signals");
    run.read_to_end();
    let said = run.said.join("\n");
    assert!(said.contains("the proxy takes their place"), "{said}");
    assert_eq!(run.code, Some(130), "{said}");
    assert!(!directory(process).exists());
    for node in nodes {
        let command = fs::read_to_string(format!("/proc/{node}/cmdline")).unwrap_or_default();
        assert!(!command.contains("halcyon"), "node {node} still runs: {command}");
    }
}

/// The run kept every promise in the mode that was asked for, and its figures are those of a real cluster.
#[track_caller]
fn check(run: &Run, mode: &str) {
    let said = run.said.join("\n");
    assert_eq!(run.code, Some(0), "{}\n{said}", run.answer);
    let report: Value = serde_json::from_str(&run.answer).expect("the report is JSON");
    assert_eq!(report["mode"], mode, "{said}");
    assert_eq!(report["violations"], Value::Array(Vec::new()));
    assert!(report["acknowledged"].as_u64() > Some(500), "{report}");
    assert_eq!(report["acknowledged"], report["change_sets"]);
    let fault = &report["faults"][0];
    assert_eq!(fault["fault"], "partition");
    // Between the regions there are at least 46 ms one way, and seconds while one is cut off.
    assert!(report["lag_before"]["p50_ms"].as_f64() > Some(40.0), "{report}");
    assert!(fault["lag_during"]["max_ms"].as_f64() > Some(3_000.0), "{report}");
    assert!(fault["caught_up_ms"].is_number(), "{report}");
}

/// A run of the command.
struct Run {
    child: Child,
    /// Lines on standard error.
    said: Vec<String>,
    /// Standard output.
    answer: String,
    code: Option<i32>,
}

impl Run {
    #[track_caller]
    fn start(mode: &str, path: Option<&Path>) -> Self {
        let mut command = Command::new(binary::chaos());
        command
            .arg("local")
            .args(STORY)
            .args(["--mode", mode, "--json", "--halcyon"])
            .arg(binary::halcyon())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(path) = path {
            command.env("PATH", path);
        }
        Self {
            child: command.spawn().expect("the command under test can be run"),
            said: Vec::new(),
            answer: String::new(),
            code: None,
        }
    }

    #[track_caller]
    fn to_its_end(mode: &str) -> Self {
        let mut run = Self::start(mode, None);
        run.read_to_end();
        run
    }

    #[track_caller]
    fn read_to_end(&mut self) {
        let said = self.child.stderr.take().expect("it is a pipe");
        self.said = BufReader::new(said).lines().map_while(Result::ok).collect();
        let answer = self.child.stdout.take().expect("it is a pipe");
        self.answer = std::io::read_to_string(answer).expect("the answer is text");
        self.code = self.child.wait().expect("a child can be waited for").code();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.code.is_none() {
            // Gently, so that it takes down what it made.
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

/// Why this machine has no namespaces to give, where it has none: not root, or `ip netns add` does not work.
fn why_no_namespaces() -> Option<String> {
    let name = format!("halcyon-probe-{}", std::process::id());
    let ip = |arguments: [&str; 3]| {
        let output = Command::new("ip")
            .args(arguments)
            .output()
            .map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        output.status.success().then_some(()).ok_or(said)
    };
    let made = ip(["netns", "add", &name]);
    let _ = ip(["netns", "del", &name]);
    made.err()
}

fn namespaces() -> Vec<String> {
    let output = Command::new("ip").args(["netns", "list"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    let names = text.lines().filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect()
}

/// Where a run keeps its files.
fn directory(process: u32) -> PathBuf {
    std::env::temp_dir().join(format!("halcyon-chaos-{process}"))
}

#[expect(clippy::print_stderr, reason = "a skipped test says why")]
fn skip(reason: &str) {
    eprintln!("skipped: no network namespaces here: {reason}");
}
