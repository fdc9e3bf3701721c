//! Words and calls that do not belong: debts, clocks and chance among the rules, and a second word for one idea.

use super::{Finding, SourceFile, has_extension};

/// Left-over work belongs in an issue, old code in the history. Written in two halves, so that this file passes.
const DEBTS: [&str; 6] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("db", "g!("),
];

/// Where the sources were written is nobody's business.
const WORKPLACES: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// The rules: no clock, no chance, no I/O, so that a seed replays them.
const RULES: [&str; 3] = ["core/src/", "node/src/replication/engine", "node/src/tenant/admit"];

/// What the rules never mention.
const WORLD: [&str; 7] = [
    "Instant",
    "SystemTime",
    "tokio::",
    "rand::",
    "std::net",
    "std::fs",
    "thread::",
];

/// The door itself: its traits speak of streams.
const DOOR: &str = "core/src/env.rs";

/// Second words for an idea that has its one word (the first table of the design).
const SECOND_WORDS: [(&str, &str); 14] = [
    ("database", "tenant"),
    ("namespace", "tenant"),
    ("zone", "region"),
    ("dc", "region"),
    ("datacenter", "region"),
    ("row", "triple"),
    ("datom", "triple"),
    ("attribute", "predicate"),
    ("mutation", "change"),
    ("transaction", "change set"),
    ("txn", "change set"),
    ("skew", "drift"),
    ("broadcast", "gossip"),
    ("heads", "version vector"),
];

/// Where a second word names another thing: files to import have rows, and so have tables on a terminal, and answers.
const OTHER_THINGS: [(&str, &str); 3] = [
    ("node/src/cli/", "row"),
    ("node/src/query/", "row"),
    ("core/src/query/", "row"),
];

/// No debts in any file, no path of a workplace.
pub fn left_overs(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let kept = files.iter().filter(|file| {
        let written = ["rs", "proto", "sh", "toml", "md", "yml", "ts", "txt"];
        written.iter().any(|extension| has_extension(&file.path, extension)) || file.path.starts_with(".ci/")
    });
    for file in kept {
        for (at, line) in file.text.lines().enumerate() {
            for word in DEBTS.iter().filter(|word| has_word(line, word)) {
                findings.push(Finding::new(
                    &file.path,
                    at + 1,
                    format!("`{word}` belongs in an issue"),
                ));
            }
            for path in WORKPLACES.iter().filter(|path| line.contains(*path)) {
                findings.push(Finding::new(
                    &file.path,
                    at + 1,
                    format!("`{path}` is a path of one machine"),
                ));
            }
        }
    }
    findings
}

/// The rules read no clock, draw no number and do no I/O.
pub fn determinism(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let rules = files
        .iter()
        .filter(|file| file.is_rust() && file.path != DOOR && RULES.iter().any(|rule| file.path.starts_with(rule)));
    for file in rules {
        for (at, line) in file.code_lines() {
            for word in WORLD.iter().filter(|word| has_word(line, word)) {
                let message = format!("`{word}` in a rule: take `now` and draws as arguments, return what to do");
                findings.push(Finding::new(&file.path, at, message));
            }
        }
    }
    findings
}

/// A `select!` polls in the order it is written in, so that a seed picks the same branch.
pub fn biased(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let shipped = files
        .iter()
        .filter(|file| file.is_rust() && (file.path.starts_with("node/src/") || file.path.starts_with("client/src/")));
    for file in shipped {
        let lines = file.code_lines();
        for (place, (at, line)) in lines.iter().enumerate() {
            let mut after = lines[place + 1..]
                .iter()
                .map(|(_, text)| text.trim())
                .filter(|text| !text.is_empty());
            if line.contains("select! {") && after.next() != Some("biased;") {
                findings.push(Finding::new(&file.path, *at, "`select!` without `biased;`"));
            }
        }
    }
    findings
}

/// Public names use the one word that an idea has.
pub fn one_word(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.is_rust() && !file.path.starts_with("tests/"))
    {
        for (at, line) in file.code_lines() {
            let Some(name) = public_name(line) else {
                continue;
            };
            let words = words_of(name);
            for (word, instead) in SECOND_WORDS
                .iter()
                .filter(|(word, _)| words.iter().any(|found| found == word))
            {
                if OTHER_THINGS
                    .iter()
                    .any(|(path, thing)| file.path.starts_with(path) && thing == word)
                {
                    continue;
                }
                let message = format!("`{name}`: the word is `{instead}`, not `{word}`");
                findings.push(Finding::new(&file.path, at, message));
            }
        }
    }
    findings
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let joins = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let ends_open = word.ends_with(|c: char| !c.is_alphanumeric());
        !joins(before) && (ends_open || !joins(after))
    })
}

fn public_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start().strip_prefix("pub ")?;
    for keyword in [
        "async ", "const ", "unsafe ", "fn ", "struct ", "enum ", "trait ", "type ", "static ", "mod ",
    ] {
        rest = rest.strip_prefix(keyword).unwrap_or(rest);
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    (end > 0 && !rest.starts_with("use")).then_some(&rest[..end])
}

fn words_of(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut was_lower = false;
    for c in name.chars() {
        if c == '_' || (c.is_uppercase() && was_lower) || words.is_empty() {
            words.push(String::new());
        }
        was_lower = c.is_lowercase();
        if let Some(word) = words.last_mut().filter(|_| c != '_') {
            word.extend(c.to_lowercase());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::{super::tests::file, *};

    fn check(of: fn(&[SourceFile]) -> Vec<Finding>, path: &str, text: &str, findings: usize) {
        let found = of(&[file(path, text)]);
        assert_eq!(found.len(), findings, "{path}: {text}: {found:?}");
    }

    #[test]
    fn every_debt_and_every_workplace_is_found() {
        for word in DEBTS {
            check(left_overs, "node/src/a.rs", &format!("    // {word} later"), 1);
        }
        for path in WORKPLACES {
            check(left_overs, "deploy/a.sh", &format!("cp a {path}b"), 1);
        }
        check(left_overs, "README.md", "Methods to do, and a network/edge.", 0);
    }

    #[test]
    fn a_clock_or_a_draw_in_a_rule_is_found() {
        check(
            determinism,
            "core/src/clock.rs",
            "use std::time::{Duration, Instant};",
            1,
        );
        check(
            determinism,
            "node/src/replication/engine.rs",
            "tokio::time::sleep(PAUSE).await;",
            1,
        );
        check(determinism, "node/src/tenant/admit.rs", "let x = rand::random();", 1);
        check(determinism, "core/src/clock.rs", "// not a SystemTime", 0);
        check(determinism, "core/src/id.rs", "operand::x(InstantNoodles)", 0);
        check(determinism, "node/src/replication/driver.rs", "tokio::spawn(f);", 0);
        check(determinism, DOOR, "use tokio::io::AsyncRead;", 0);
    }

    #[test]
    fn a_select_in_random_order_is_found() {
        check(biased, "node/src/a.rs", "tokio::select! {\n    _ = a => {}\n}\n", 1);
        check(
            biased,
            "node/src/a.rs",
            "tokio::select! {\n    // Why.\n    biased;\n    _ = a => {}\n}\n",
            0,
        );
    }

    #[test]
    fn a_second_word_in_a_public_name_is_found() {
        check(one_word, "node/src/a.rs", "pub async fn open_database(x: u8) {", 1);
        check(one_word, "node/src/a.rs", "    pub struct RowReader {", 1);
        check(one_word, "node/src/a.rs", "    pub clock_skew: Millis,", 1);
        check(one_word, "node/src/a.rs", "fn begin_transaction() {", 0);
        check(one_word, "node/src/a.rs", "pub fn borrow(row: u8) {", 0);
        check(one_word, "node/src/cli/import.rs", "pub struct BadRow {", 0);
    }
}
