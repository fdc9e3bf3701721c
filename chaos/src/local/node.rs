//! One node as a process: its directory, its log, and every way to stop it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    clock,
    ground::{Addresses, Ground, system},
    limits::{LOOK_EVERY, READY_WITHIN, SMALL_DISK_BYTES, STOP_WITHIN},
    links::region_of,
};
use halcyon_core::env::Network as _;

/// Bytes that fill a disk at once.
const FILLING_BYTES: usize = 1 << 20;

/// What takes up the space of a full disk.
const BALLAST: &str = "ballast";

/// Lines of a log that a message shows.
const TAIL_LINES: usize = 15;

/// A node that may be running.
#[derive(Debug)]
pub(super) struct Node {
    /// Its place, from 0.
    pub(super) at: usize,
    /// Where clients reach it.
    pub(super) client_address: String,
    /// What it keeps.
    pub(super) data: PathBuf,
    /// All that it said.
    pub(super) log: PathBuf,
    /// Whether it is a member of the cluster: not lost, not replaced.
    pub(super) is_member: bool,
    addresses: Addresses,
    child: Option<Child>,
    disk: Option<SmallDisk>,
}

impl Node {
    /// A node that was never started.
    pub(super) fn new(at: usize, dir: &Path, addresses: Addresses) -> Self {
        let name = format!("n{}", at + 1);
        Self {
            at,
            client_address: addresses.client.clone(),
            data: dir.join(&name),
            log: dir.join(format!("{name}.log")),
            is_member: true,
            addresses,
            child: None,
            disk: None,
        }
    }

    /// `n1`, …
    pub(super) fn name(&self) -> String {
        format!("n{}", self.at + 1)
    }

    /// Puts its directory on a small disk of its own. Needs root.
    pub(super) fn take_small_disk(&mut self) -> anyhow::Result<()> {
        let disk = SmallDisk::mount(&self.data).context("a disk of its own for one node needs root")?;
        self.data = disk.0.join("data");
        self.disk = Some(disk);
        Ok(())
    }

    /// Starts the process with `more` arguments.
    pub(super) fn start(&mut self, ground: &Ground, halcyon: &Path, more: &[&str]) -> anyhow::Result<()> {
        assert!(self.child.is_none(), "a node is started once at a time");
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let program = halcyon.to_str().context("the path of halcyon is not UTF-8")?;
        let mut command = ground.command(self.at, program);
        command
            .args(["node", "start", "--region", region_of(self.at)])
            .args(["--listen", &self.addresses.client])
            .args(["--peer-listen", &self.addresses.peer_listen])
            .args(["--peer-advertise", &self.addresses.peer_advertise])
            .arg("--data")
            .arg(&self.data)
            .args(more)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HALCYON_")) {
            command.env_remove(name);
        }
        let child = command.spawn().with_context(|| format!("cannot run {program}"))?;
        ground.started(self.at, child.id());
        note_process(self.log.parent(), child.id())?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it says that it serves.
    pub(super) async fn ready(&mut self, ground: &Ground) -> anyhow::Result<()> {
        let begun = clock::now();
        loop {
            ensure!(self.is_running(), "{} ended:\n{}", self.name(), self.log_tail());
            if answers(ground, self.at, &self.client_address).await.unwrap_or(false) {
                return Ok(());
            }
            ensure!(
                clock::now() < begun + READY_WITHIN,
                "{} does not serve within {READY_WITHIN:?}:\n{}",
                self.name(),
                self.log_tail()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether the process lives.
    pub(super) fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// kill -9, and the end of the process.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to stop, and waits until it has.
    pub(super) async fn stop(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let begun = clock::now();
        while self.is_running() {
            ensure!(
                clock::now() < begun + STOP_WITHIN,
                "{} does not stop within {STOP_WITHIN:?}",
                self.name()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.child = None;
        Ok(())
    }

    /// Freezes it with all its connections open (`STOP`), or thaws it (`CONT`).
    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let child = self.child.as_ref().context("it does not run")?;
        kill_process(Pid::from_child(child), signal)?;
        Ok(())
    }

    /// Takes up all space that its disk has left, and returns how much that was.
    pub(super) fn fill_disk(&self) -> anyhow::Result<u64> {
        let disk = self.disk.as_ref().context("it has no small disk")?;
        Ok(disk.fill()?)
    }

    /// Gives the space back.
    pub(super) fn free_disk(&self) -> anyhow::Result<()> {
        let disk = self.disk.as_ref().context("it has no small disk")?;
        Ok(fs::remove_file(disk.0.join(BALLAST))?)
    }

    /// Where the files of its small disk are kept as evidence: a disk in memory ends with the run.
    pub(super) fn rescue_data(&self) {
        if let Some(disk) = &self.disk {
            let kept = disk.0.with_extension("data");
            let _ = system::run("cp", &["-r", &self.data.to_string_lossy(), &kept.to_string_lossy()]);
        }
    }

    /// The last lines that it wrote.
    pub(super) fn log_tail(&self) -> String {
        let text = String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A tmpfs. Dropped, it is unmounted.
#[derive(Debug)]
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> io::Result<Self> {
        fs::create_dir_all(at)?;
        let options = format!("size={SMALL_DISK_BYTES},mode=700");
        let place = at.to_string_lossy();
        system::run("mount", &["-t", "tmpfs", "-o", &options, "halcyon-chaos", &place])?;
        Ok(Self(at.to_owned()))
    }

    fn fill(&self) -> io::Result<u64> {
        let mut ballast = File::create(self.0.join(BALLAST))?;
        let mut filled = 0;
        // The last pieces are small, so that not even one page is left.
        for piece in [FILLING_BYTES, 4_096, 1] {
            let zeros = vec![0; piece];
            loop {
                match ballast.write(&zeros) {
                    Ok(bytes) => filled += bytes as u64,
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(filled)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The process has just been killed: its files may be open a moment longer.
        for _ in 0..100 {
            if system::run("umount", &[&self.0.to_string_lossy()]).is_ok() {
                return;
            }
            clock::pause(Duration::from_millis(20));
        }
    }
}

/// Leaves the process's number where the next run finds it, should this one be killed.
fn note_process(dir: Option<&Path>, process: u32) -> io::Result<()> {
    let Some(dir) = dir else {
        return Ok(());
    };
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join(super::leftovers::PROCESSES))?;
    writeln!(file, "{process}")
}

async fn answers(ground: &Ground, at: usize, address: &str) -> io::Result<bool> {
    let mut stream = ground.beside(at).connect(address.to_owned()).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(2), read).await??;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}
