//! One node as a process: its directory, its ports, its log, and every way to stop it.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{binary, ports::free_port, wait};

/// A node that may be running.
#[derive(Debug)]
pub struct Process {
    /// How tests call it: `n1`.
    pub name: String,
    /// Where it says it is.
    pub region: String,
    /// What it keeps.
    pub data: PathBuf,
    /// Where clients reach it.
    pub client_port: u16,
    /// Where peers reach it, in truth.
    pub peer_port: u16,
    /// Where peers are told to reach it: a link that can be cut.
    pub advertised_peer_port: u16,
    /// Where programs are told to reach it, if that is such a link as well.
    pub advertised_client_port: Option<u16>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// A node that was never started, under `dir`.
    pub fn new(dir: &Path, name: &str, region: &str, advertised_peer_port: u16) -> Self {
        Self {
            name: name.to_owned(),
            region: region.to_owned(),
            data: dir.join(name),
            client_port: free_port(),
            peer_port: free_port(),
            advertised_peer_port,
            advertised_client_port: None,
            log: dir.join(format!("{name}.log")),
            child: None,
        }
    }

    /// Starts it with `more` arguments: `--bootstrap`, or `--join TOKEN`, or nothing where it has a directory already.
    #[track_caller]
    pub fn start(&mut self, more: &[&str]) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = self.open_log();
        let log_too = log.try_clone().expect("a descriptor is free");
        let mut command = Command::new(binary::halcyon());
        command
            .args(["node", "start", "--region", &self.region])
            .args(["--listen", &format!("127.0.0.1:{}", self.client_port)])
            .args(["--peer-listen", &format!("127.0.0.1:{}", self.peer_port)])
            .args(["--peer-advertise", &format!("127.0.0.1:{}", self.advertised_peer_port)])
            .arg("--data")
            .arg(&self.data)
            .args(more)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too);
        if let Some(port) = self.advertised_client_port {
            command.args(["--advertise", &format!("127.0.0.1:{port}")]);
        }
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HALCYON_")) {
            command.env_remove(name);
        }
        self.child = Some(command.spawn().expect("the binary under test can be run"));
    }

    /// Waits until it says that it serves.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        let name = self.name.clone();
        wait::until(&format!("{name} is ready"), wait::SOON, || {
            assert!(self.is_running(), "{name} ended:\n{}", self.log_tail());
            let (status, _) = crate::http::get(self.client_port, "/readyz").ok()?;
            (status == 200).then_some(())
        });
    }

    /// Whether the process lives.
    pub fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The process's number, where it was started.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// kill -9: nothing is written after it.
    #[track_caller]
    pub fn kill(&mut self) {
        let mut child = self
            .child
            .take()
            .unwrap_or_else(|| panic!("{} does not run", self.name));
        child.kill().expect("a child may be killed");
        child.wait().expect("a child can be waited for");
    }

    /// Asks it to stop and waits until it has.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_end(wait::SOON)
    }

    /// Waits for its own end.
    #[track_caller]
    pub fn wait_end(&mut self, within: Duration) -> ExitStatus {
        let child = self
            .child
            .as_mut()
            .unwrap_or_else(|| panic!("{} does not run", self.name));
        let status = wait::until(&format!("{} ends", self.name), within, || {
            child.try_wait().ok().flatten()
        });
        self.child = None;
        status
    }

    /// Sends a signal: `STOP` freezes it with all its connections open, `CONT` thaws it.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let child = self
            .child
            .as_ref()
            .unwrap_or_else(|| panic!("{} does not run", self.name));
        kill_process(Pid::from_child(child), signal).expect("a child takes signals");
    }

    /// All that it wrote to stdout and stderr, over all its starts.
    pub fn log_text(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The file behind [`Self::log_text`].
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        const LINES: usize = 40;
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    fn open_log(&self) -> File {
        let opened = OpenOptions::new().create(true).append(true).open(&self.log);
        opened.expect("a temporary directory can be written to")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
