//! Programs of the system that make namespaces and mounts, and threads inside a namespace.

use std::{
    fs::File,
    io,
    os::fd::AsFd as _,
    process::{Command, Stdio},
    thread::JoinHandle,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where iproute2 keeps the names of namespaces.
const NAMES: &str = "/run/netns";

/// Runs a program to its end; an error holds what it said.
pub(in crate::local) fn run(program: &str, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot run `{program}`: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("`{program} {}`: {said}", arguments.join(" "))))
}

/// `ip`, with its arguments in one text.
pub(super) fn ip(arguments: &str) -> io::Result<String> {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    run("ip", &words)
}

/// Runs `work` on a thread of its own inside a network namespace. What it opens stays there for good.
#[expect(clippy::disallowed_methods, reason = "a namespace belongs to a thread")]
pub(super) fn inside<T: Send + 'static>(
    namespace: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> JoinHandle<io::Result<T>> {
    let path = format!("{NAMES}/{namespace}");
    std::thread::spawn(move || {
        let namespace = File::open(&path)?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        work()
    })
}
