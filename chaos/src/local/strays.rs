//! Looks for bytes in files: what a node must not hold must not be in any of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The files under `path` (or `path` itself) that hold one of `needles`, which all begin with `beginning`.
pub(super) fn files_with(path: &Path, beginning: &[u8], is_needle: &dyn Fn(&[u8]) -> bool) -> Vec<PathBuf> {
    if path.is_file() {
        let bytes = fs::read(path).unwrap_or_default();
        let found = occurrences(&bytes, beginning).any(|at| is_needle(&bytes[at..]));
        return if found { vec![path.to_owned()] } else { Vec::new() };
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| files_with(&entry.path(), beginning, is_needle))
        .collect()
}

fn occurrences<'a>(bytes: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = needle.first().copied().unwrap_or_default();
    let starts = bytes.iter().enumerate().filter(move |(_, byte)| **byte == first);
    starts
        .map(|(at, _)| at)
        .filter(move |at| bytes[*at..].starts_with(needle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_found_wherever_it_is_and_another_one_is_not() {
        let dir = std::env::temp_dir().join(format!("halcyon-strays-{}", std::process::id()));
        fs::create_dir_all(dir.join("in")).unwrap();
        fs::write(dir.join("in/file"), b"\0mmk7-1\0mk7-2").unwrap();
        let is = |needle: &'static [u8]| move |bytes: &[u8]| bytes.starts_with(needle);
        assert_eq!(files_with(&dir, b"mk7-", &is(b"mk7-2")), [dir.join("in/file")]);
        assert_eq!(files_with(&dir, b"mk7-", &is(b"mk7-3")), [] as [PathBuf; 0]);
        fs::remove_dir_all(&dir).unwrap();
    }
}
