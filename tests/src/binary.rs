//! The binaries under test: the ones that `cargo test --release --workspace` builds beside the tests.
//!
//! Where one is missing or older than the sources (a single test target was run by name), cargo builds it first, so that
//! no test ever speaks about yesterday's binary.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::SystemTime,
};

use crate::tidy;

/// A binary of this repository.
struct Program {
    name: &'static str,
    package: &'static str,
    /// The crates that it is made of.
    sources: &'static [&'static str],
}

const HALCYON: Program = Program {
    name: "halcyon",
    package: "halcyon-node",
    sources: &["core", "proto", "client", "node"],
};

const CHAOS: Program = Program {
    name: "chaos",
    package: "halcyon-chaos",
    sources: &["core", "proto", "client", "node", "chaos"],
};

/// Where `halcyon` is. `HALCYON_BIN` names another one.
pub fn halcyon() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| env::var_os("HALCYON_BIN").map_or_else(|| built(&HALCYON), PathBuf::from))
}

/// Where `chaos` is. `CHAOS_BIN` names another one.
pub fn chaos() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| env::var_os("CHAOS_BIN").map_or_else(|| built(&CHAOS), PathBuf::from))
}

fn built(program: &Program) -> PathBuf {
    let test = env::current_exe().expect("a running test has a file");
    // target/release/deps/cluster-0123 lies two below target/release.
    let profile = test
        .ancestors()
        .nth(2)
        .expect("cargo runs tests from target/PROFILE/deps");
    let binary = profile.join(program.name);
    if is_older_than_sources(&binary, program.sources) {
        build(profile, program);
    }
    assert!(binary.is_file(), "cargo built no {}", binary.display());
    binary
}

fn is_older_than_sources(binary: &Path, crates: &[&str]) -> bool {
    let Some(built) = modified(binary) else {
        return true;
    };
    let files = tidy::files(&tidy::repository()).unwrap_or_default();
    let mut sources = files.iter().filter(|file| {
        let (top, rest) = file.path.split_once('/').unwrap_or_default();
        let is_compiled_in = !["tests/", "benches/", "web/"].iter().any(|dir| rest.starts_with(dir))
            && Path::new(rest).extension().is_none_or(|extension| extension != "md");
        crates.contains(&top) && is_compiled_in
    });
    sources.any(|file| modified(&tidy::repository().join(&file.path)) > Some(built))
}

fn build(profile: &Path, program: &Program) {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(tidy::repository())
        .args(["build", "--package", program.package, "--bin", program.name]);
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let status = command.status().expect("cargo, which runs this test, can be run");
    assert!(status.success(), "cargo cannot build the binary under test");
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}
