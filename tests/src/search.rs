//! Looks for bytes in files: what a node must not hold must not be in any of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The files under `path` (or `path` itself) that hold `needle`.
pub fn files_with(path: &Path, needle: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if path.is_file() {
        let bytes = fs::read(path).unwrap_or_default();
        if contains(&bytes, needle) {
            found.push(path.to_owned());
        }
        return found;
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        found.extend(files_with(&entry.path(), needle));
    }
    found
}

/// Copies a directory with all that is in it.
pub fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a temporary directory can be written to");
    for entry in fs::read_dir(from).expect("the directory is there").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a temporary directory can be written to");
        }
    }
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    let Some((first, rest)) = needle.split_first() else {
        return false;
    };
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| byte == first) {
        let after = from + at + 1;
        if bytes[after..].starts_with(rest) {
            return true;
        }
        from = after;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_wherever_they_are() {
        assert!(contains(b"abcaabd", b"aabd"));
        assert!(!contains(b"abcaab", b"aabd"));
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("in")).unwrap();
        fs::write(dir.path().join("in/file"), b"\0\0marker\0").unwrap();
        assert_eq!(files_with(dir.path(), b"marker"), [dir.path().join("in/file")]);
        assert_eq!(files_with(dir.path(), b"other"), [] as [PathBuf; 0]);
    }
}
