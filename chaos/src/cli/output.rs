//! What the command prints: results on stdout, problems on stderr.

use std::{
    fmt,
    io::{self, Write},
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
