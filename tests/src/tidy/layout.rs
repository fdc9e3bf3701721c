//! What lies at the top level, how a file opens, and how long it is.

use std::collections::BTreeSet;

use super::{Finding, SourceFile};

/// Lines of shipped code in one file: what a reader keeps in mind at once, and then some.
pub const FILE_LINES_MAX: usize = 500;

/// What must lie at the top level.
const TOP_LEVEL: [&str; 10] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "client",
    "core",
    "deploy",
    "node",
    "proto",
    "tests",
];

/// What may lie there besides: what a tool demands, and what comes later.
const TOP_LEVEL_MAY: [&str; 2] = ["chaos", "rust-toolchain.toml"];

/// The top level holds what the README's map shows, and what tools demand there under a hidden name.
pub fn top_level(files: &[SourceFile]) -> Vec<Finding> {
    let found: BTreeSet<&str> = files.iter().filter_map(|file| file.path.split('/').next()).collect();
    let odd = found
        .iter()
        .filter(|name| !TOP_LEVEL.contains(name) && !TOP_LEVEL_MAY.contains(name) && !name.starts_with('.'))
        .map(|name| Finding::new(name, 0, "does not belong at the top level"));
    let missing = TOP_LEVEL
        .iter()
        .filter(|name| !found.contains(*name))
        .map(|name| Finding::new(name, 0, "is missing at the top level"));
    odd.chain(missing).collect()
}

/// Every Rust file says first what it is.
pub fn headers(files: &[SourceFile]) -> Vec<Finding> {
    files
        .iter()
        .filter(|file| file.is_rust() && !file.text.starts_with("//! "))
        .map(|file| {
            Finding::new(
                &file.path,
                1,
                "opens without `//!`: say what it is and what always holds",
            )
        })
        .collect()
}

/// No file ships more than [`FILE_LINES_MAX`] lines.
pub fn lengths(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let lines = file.shipped_lines().len();
        if lines > FILE_LINES_MAX {
            let message = format!("has {lines} lines of shipped code; split it by what it does at {FILE_LINES_MAX}");
            findings.push(Finding::new(&file.path, lines, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{super::tests::file, *};

    fn whole() -> Vec<SourceFile> {
        TOP_LEVEL.iter().map(|name| file(name, "")).collect()
    }

    #[test]
    fn a_stray_file_and_a_missing_one_are_found() {
        assert_eq!(top_level(&whole()), []);
        let mut files = whole();
        files.retain(|file| file.path != "LICENSE");
        files.push(file("notes.md", ""));
        files.push(file(".cargo/config.toml", ""));
        let found: Vec<String> = top_level(&files).into_iter().map(|finding| finding.path).collect();
        assert_eq!(found, ["notes.md", "LICENSE"]);
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        assert_eq!(headers(&[file("a.rs", "//! What it is.\n"), file("a.md", "text")]), []);
        assert_eq!(headers(&[file("a.rs", "use std::fmt;\n//! late\n")]).len(), 1);
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let code = "x\n".repeat(FILE_LINES_MAX);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "    y\n".repeat(100));
        assert_eq!(lengths(&[file("a.rs", &format!("{code}{tests}"))]), []);
        assert_eq!(lengths(&[file("a.rs", &format!("{code}z\n"))]).len(), 1);
    }
}
