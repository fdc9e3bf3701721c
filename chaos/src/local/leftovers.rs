//! What a run leaves in the system, and how the next one removes what a killed run could not.
//!
//! Everything carries the number of the process that made it. What belongs to a process that lives is not touched;
//! evidence of a violation has another name and is never touched.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process};

use super::ground::{PREFIX, system};

/// How directories of runs begin.
const DIRECTORY: &str = "halcyon-chaos-";

/// How directories with evidence begin.
const EVIDENCE: &str = "halcyon-evidence-";

/// In a run's directory: the numbers of its nodes' processes.
pub(super) const PROCESSES: &str = "processes";

/// The directory of one run. Dropped, it is gone, unless it was kept.
#[derive(Debug)]
pub(super) struct RunDirectory(PathBuf);

impl RunDirectory {
    /// Makes it.
    pub(super) fn make() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("{DIRECTORY}{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Keeps it as evidence, and says where.
    pub(super) fn keep(self) -> std::io::Result<PathBuf> {
        let mut kept = std::env::temp_dir().join(format!("{EVIDENCE}{}", std::process::id()));
        for again in 2.. {
            if !kept.exists() {
                break;
            }
            kept = std::env::temp_dir().join(format!("{EVIDENCE}{}-{again}", std::process::id()));
        }
        fs::rename(&self.0, &kept)?;
        Ok(kept)
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes what runs left behind whose process is gone, and says what that was.
pub(super) fn remove() -> Vec<String> {
    let mut removed = remove_namespaces();
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(process) = name.strip_prefix(DIRECTORY).and_then(|rest| rest.parse().ok()) else {
            continue;
        };
        if !is_alive(process) {
            remove_directory(&entry.path());
            removed.push(entry.path().display().to_string());
        }
    }
    removed
}

fn remove_namespaces() -> Vec<String> {
    let listed = system::run("ip", &["netns", "list"]).unwrap_or_default();
    let mut removed = Vec::new();
    for name in listed.lines().filter_map(|line| line.split_whitespace().next()) {
        let Some(process) = owner_of(name).filter(|process| !is_alive(*process)) else {
            continue;
        };
        let inside = system::run("ip", &["netns", "pids", name]).unwrap_or_default();
        for left in inside.lines().filter_map(|line| line.trim().parse().ok()) {
            kill(left);
        }
        if system::run("ip", &["netns", "del", name]).is_ok() {
            removed.push(format!("namespace {name} of process {process}"));
        }
    }
    removed
}

/// The process that made a namespace, by the namespace's name.
fn owner_of(name: &str) -> Option<i32> {
    let (process, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    process.parse().ok()
}

fn remove_directory(path: &Path) {
    let text = fs::read_to_string(path.join(PROCESSES)).unwrap_or_default();
    let place = path.to_string_lossy();
    for process in text.lines().filter_map(|line| line.parse().ok()) {
        // The number may belong to another program by now: only one that works in this directory is ours.
        let command = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&command).contains(&*place) {
            kill(process);
        }
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounted = mounts.lines().filter_map(|line| line.split_whitespace().nth(1));
    for mount in mounted.filter(|mount| Path::new(mount).starts_with(path)) {
        let _ = system::run("umount", &[mount]);
    }
    let _ = fs::remove_dir_all(path);
}

/// Whether the process that had this number when it made something still runs.
fn is_alive(process: i32) -> bool {
    let command = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&command).into_owned();
    words.split('\0').any(|word| word == "local") || process.unsigned_abs() == std::process::id()
}

fn kill(process: i32) {
    if let Some(process) = Pid::from_raw(process) {
        let _ = kill_process(process, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_have_an_owner() {
        assert_eq!(owner_of("hc123-n1"), Some(123));
        assert_eq!(owner_of("hc123-hub"), Some(123));
        assert_eq!(owner_of("hcx-n1"), None);
        assert_eq!(owner_of("home"), None);
    }

    #[test]
    fn a_directory_of_a_dead_run_goes_and_ours_stays() {
        // No process has a number this high: the kernel's limit is 4,194,304.
        let dead = std::env::temp_dir().join(format!("{DIRECTORY}2147483000"));
        fs::create_dir_all(&dead).unwrap();
        let ours = RunDirectory::make().unwrap();
        assert!(remove().iter().any(|name| name.contains("2147483000")));
        assert!(!dead.exists() && ours.path().exists());
    }
}
