//! What the command prints: results on stdout, problems on stderr.

use std::{
    fmt,
    io::{self, Write},
    process::{Command, Stdio},
};

/// A line of a result. A reader that has gone needs no more lines.
pub(super) fn line(text: impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Why the command did not do what it was asked.
pub(super) fn problem(text: &str) {
    let _ = writeln!(io::stderr(), "chaos: {text}");
}

/// Has everything printed before the process leaves without destructors.
pub(super) fn flush() {
    let _ = io::stdout().flush();
    let _ = io::stderr().flush();
}

/// The sources that are checked out here, for whoever replays a failure: a seed means nothing on others.
pub(super) fn commit() -> String {
    let asked = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .stdin(Stdio::null())
        .output();
    let told = asked.ok().filter(|output| output.status.success());
    let text = told.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_else(|| "not known: no git work tree here".to_owned())
}
