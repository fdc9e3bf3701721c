//! The paths that a sweep must reach are those that the code marks, and no other.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use halcyon_chaos::run::MARKS;

/// Where the code is that simulated machines run.
const SOURCES: [&str; 4] = ["client/src", "core/src", "node/src", "proto/src"];

/// How code tells a probe something.
const CALLS: [&str; 3] = [".event(", ".rare(", ".reached("];

/// What is told of every run, for the oracles and the timeline, and needs no sweep to be reached; alarms come from rot,
/// which is a mark of its own.
const TOLD: [&str; 13] = [
    "metadata.apply",
    "metadata.appended",
    "metadata.entry",
    "metadata.log-cut",
    "metadata.log-durable",
    "metadata.log-found",
    "metadata.vote",
    "metadata.vote-found",
    "peer.speaks",
    "storage.alarm",
    "storage.began",
    "storage.caught-up",
    "storage.committed",
];

#[test]
fn every_marked_path_is_a_mark_or_told_of_every_run() {
    let told: BTreeSet<String> = TOLD.map(str::to_owned).into();
    let marks: BTreeSet<String> = MARKS.map(str::to_owned).into();
    assert!(marks.is_disjoint(&told), "a mark is told of every run");
    let named: BTreeSet<String> = marks.union(&told).cloned().collect();
    assert_eq!(in_code(), named);
}

/// The names of all paths and events in the code.
fn in_code() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut names = BTreeSet::new();
    for file in SOURCES.iter().flat_map(|folder| files(&root.join(folder))) {
        let text = fs::read_to_string(&file).expect("a source file");
        names.extend(CALLS.iter().flat_map(|call| names_after(&text, call)));
    }
    names
}

/// The texts that come right after a call's bracket.
fn names_after(text: &str, call: &str) -> Vec<String> {
    let behind = text
        .match_indices(call)
        .map(|(at, _)| text[at + call.len()..].trim_start());
    let quoted = behind.filter_map(|rest| rest.strip_prefix('"')?.split_once('"'));
    quoted.map(|(name, _)| name.to_owned()).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("a folder that can be read").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
