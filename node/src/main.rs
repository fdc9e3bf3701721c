//! The `halcyon` command.

use std::{
    env,
    ffi::OsStr,
    io,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

#[cfg(feature = "mutants")]
compile_error!("the feature `mutants` puts known bugs into the code: it is for halcyon-chaos, never for the command");

const _: () = assert!(!halcyon_core::mutant::POSSIBLE, "the command is built without mutants");

/// The overlay is allocated on one thread and freed on another, of which the system's allocator gives little back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The variable for how long, in milliseconds, the allocator keeps freed pages. It reads it once, before `main`.
const PURGE_DELAY: &str = "MIMALLOC_PURGE_DELAY";

/// The overlay is freed and filled again about once a second under load. Pages that go at once (0) come back as pages
/// that the kernel has to clear: 6 % fewer pushes. Later than this (the allocator's own default is 1,000) gains nothing.
const PURGE_DELAY_MILLIS: &str = "250";

fn main() -> ExitCode {
    if serves(env::args_os().skip(1)) && env::var_os(PURGE_DELAY).is_none() {
        // Where that fails it serves all the same, with more memory.
        let _ = start_over_with_purge();
    }
    halcyon_node::cli::main()
}

/// Whether these arguments run nodes: `dev`, or `node start`.
fn serves(arguments: impl Iterator<Item = impl AsRef<OsStr>>) -> bool {
    let words: Vec<_> = arguments.take(2).collect();
    let word = |at: usize| words.get(at).map(AsRef::as_ref);
    word(0) == Some(OsStr::new("dev")) || (word(0) == Some(OsStr::new("node")) && word(1) == Some(OsStr::new("start")))
}

/// Runs this program anew, in the same process, with an allocator that gives freed pages back soon. By its own default
/// a node keeps some 90 MB more after a join of a million triples, and an idle one makes few allocations that end that.
fn start_over_with_purge() -> io::Error {
    match env::current_exe() {
        Ok(program) => Command::new(program)
            .args(env::args_os().skip(1))
            .env(PURGE_DELAY, PURGE_DELAY_MILLIS)
            .exec(),
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_runs_nodes_starts_over() {
        check(&["dev", "--fresh"], true);
        check(&["node", "start", "--bootstrap"], true);
        check(&["node", "list"], false);
        check(&["status"], false);
        check(&[], false);
    }

    fn check(arguments: &[&str], expected: bool) {
        assert_eq!(serves(arguments.iter()), expected, "{arguments:?}");
    }
}
