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

/// What the allocator is to do, in variables that it reads once, before `main`. Who sets one decides instead.
///
/// - It keeps freed pages for so many milliseconds. The overlay is freed and filled again about once a second under load.
///   Pages that go at once (0) come back as pages that the kernel has to clear: 6 % fewer pushes. Later than this (the
///   allocator's own default is 1,000) gains nothing.
/// - It asks for no huge pages. With them each of its many heaps takes memory two megabytes at a time, and gives it back
///   only so: a node with 2,000 live queries had 140 MB instead of 78.
const SETTINGS: [(&str, &str); 2] = [("MIMALLOC_PURGE_DELAY", "250"), ("MIMALLOC_ALLOW_THP", "0")];

fn main() -> ExitCode {
    let missing = missing(|name| env::var_os(name).is_some());
    if serves(env::args_os().skip(1)) && !missing.is_empty() {
        // Where that fails it serves all the same, with more memory.
        let _ = start_over_with(missing);
    }
    halcyon_node::cli::main()
}

/// Those that nobody has set.
fn missing(is_set: impl Fn(&str) -> bool) -> Vec<(&'static str, &'static str)> {
    SETTINGS.into_iter().filter(|(name, _)| !is_set(name)).collect()
}

/// Whether these arguments run nodes: `dev`, or `node start`.
fn serves(arguments: impl Iterator<Item = impl AsRef<OsStr>>) -> bool {
    let words: Vec<_> = arguments.take(2).collect();
    let word = |at: usize| words.get(at).map(AsRef::as_ref);
    word(0) == Some(OsStr::new("dev")) || (word(0) == Some(OsStr::new("node")) && word(1) == Some(OsStr::new("start")))
}

/// Runs this program anew, in the same process, with an allocator that keeps less. By its own default a node keeps some
/// 90 MB more after a join of a million triples, and an idle one makes few allocations that end that.
fn start_over_with(settings: Vec<(&str, &str)>) -> io::Error {
    let program = match env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    let mut arguments = env::args_os();
    let mut anew = Command::new(program);
    if let Some(name) = arguments.next() {
        anew.arg0(name);
    }
    anew.args(arguments).envs(settings).exec()
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

    #[test]
    fn what_somebody_has_set_stays_and_all_set_is_no_reason_to_start_over() {
        let names = |set: &[&str]| {
            missing(|name| set.contains(&name))
                .into_iter()
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["MIMALLOC_PURGE_DELAY", "MIMALLOC_ALLOW_THP"]);
        assert_eq!(names(&["MIMALLOC_ALLOW_THP"]), ["MIMALLOC_PURGE_DELAY"]);
        assert!(names(&["MIMALLOC_ALLOW_THP", "MIMALLOC_PURGE_DELAY"]).is_empty());
    }

    fn check(arguments: &[&str], expected: bool) {
        assert_eq!(serves(arguments.iter()), expected, "{arguments:?}");
    }
}
