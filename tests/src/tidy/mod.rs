//! What the repository promises about itself, as checks over its files.
//!
//! Every check is a pure function from files to findings, so that each can be shown to fail on a small bad sample (at
//! the end of its module). `tests/tidy.rs` runs them all on the real tree.

pub mod graph;
pub mod layout;
pub mod proto_fields;
pub mod source;
pub mod tables;

use std::{fmt, fs, path::Path, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

/// A text file of the repository.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// From the top of the repository, with slashes.
    pub path: String,
    /// All of it.
    pub text: String,
}

/// Something that breaks a promise.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file.
    pub path: String,
    /// From 1; 0 where it is about the file as a whole.
    pub line: usize,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

impl Finding {
    pub(crate) fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            message: message.into(),
        }
    }
}

impl SourceFile {
    /// Whether it is Rust.
    pub fn is_rust(&self) -> bool {
        has_extension(&self.path, "rs")
    }

    /// Its lines as shipped: numbered from 1, without `#[cfg(test)]` modules and the files of such modules.
    pub fn shipped_lines(&self) -> Vec<(usize, &str)> {
        let mut shipped = Vec::new();
        let (_, inside) = self.path.split_once("src/").unwrap_or_default();
        if format!("/{inside}").ends_with("/tests.rs") || inside.contains("tests/") {
            return shipped;
        }
        let mut lines = self.text.lines().enumerate().peekable();
        while let Some((at, line)) = lines.next() {
            let opens_module = lines
                .peek()
                .is_some_and(|(_, next)| next.contains("mod ") && next.trim_end().ends_with('{'));
            if line.trim() != "#[cfg(test)]" || !opens_module {
                shipped.push((at + 1, line));
                continue;
            }
            // rustfmt puts the brace that closes an item under its first letter.
            let indent = line.len() - line.trim_start().len();
            for (_, inner) in lines.by_ref() {
                if inner.trim() == "}" && inner.len() == indent + 1 {
                    break;
                }
            }
        }
        shipped
    }

    /// Shipped lines without comments, as far as a line tells.
    pub fn code_lines(&self) -> Vec<(usize, &str)> {
        let mut lines = self.shipped_lines();
        for (_, line) in &mut lines {
            *line = line.split("//").next().unwrap_or_default();
        }
        lines
    }
}

/// The top of the repository.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Every text file that git would keep, or, outside a git clone, every one that is not hidden or built.
pub fn files(top: &Path) -> Result<Vec<SourceFile>> {
    let mut paths = listed_by_git(top).map_or_else(|| walk(top, ""), Ok)?;
    paths.sort();
    paths.dedup();
    let mut files = Vec::new();
    for path in paths {
        let full = top.join(&path);
        if !full.is_file() {
            continue;
        }
        let bytes = fs::read(&full).with_context(|| format!("reading {path}"))?;
        let text = String::from_utf8(bytes).unwrap_or_default();
        files.push(SourceFile { path, text });
    }
    Ok(files)
}

pub(crate) fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

fn listed_by_git(top: &Path) -> Option<Vec<String>> {
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").arg("-C").arg(top).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let paths: Vec<String> = text
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(str::to_owned)
        .collect();
    (output.status.success() && !paths.is_empty()).then_some(paths)
}

fn walk(top: &Path, under: &str) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(top.join(under))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if under.is_empty() {
            name.clone()
        } else {
            format!("{under}/{name}")
        };
        if name == "target" || name == ".git" || name.starts_with("halcyon-") {
            continue;
        }
        if entry.file_type()?.is_dir() {
            paths.extend(walk(top, &path)?);
        } else {
            paths.push(path);
        }
    }
    Ok(paths)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn file(path: &str, text: &str) -> SourceFile {
        SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_test_module_is_not_shipped() {
        let text = "//! x\nfn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {\n    }\n}\nfn c() {}\n";
        let kept: Vec<usize> = file("a.rs", text).shipped_lines().iter().map(|(at, _)| *at).collect();
        assert_eq!(kept, [1, 2, 8]);
    }
}
