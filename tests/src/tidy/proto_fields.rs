//! Field numbers of the wire are for ever: a field that goes leaves `reserved` behind.
//!
//! `testdata/proto-fields.txt` records every `message.field = number` (and every value of an enum) that was ever
//! released. A recorded one that is gone or renumbered must be reserved in its message. `REWRITE=1` adds new ones; it
//! never forgets an old one.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, SourceFile, has_extension};

/// Where the record lies.
pub const RECORD: &str = "tests/testdata/proto-fields.txt";

/// The fields and reserved numbers of all messages and enums, by their full names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// `Message.field` to its number.
    pub numbers: BTreeMap<String, u32>,
    /// `(Message, number)`.
    pub reserved: BTreeSet<(String, u32)>,
}

impl Fields {
    /// Reads every proto file.
    pub fn read(files: &[SourceFile]) -> Self {
        let mut fields = Self::default();
        for file in files.iter().filter(|file| has_extension(&file.path, "proto")) {
            fields.read_file(&file.text);
        }
        fields
    }

    /// Checks against the record, as `Message.field = number` lines.
    pub fn against(&self, record: &str) -> Vec<Finding> {
        let recorded = read_record(record);
        let mut findings = Vec::new();
        for (name, number) in &recorded {
            let (message, _) = name.rsplit_once('.').unwrap_or((name, ""));
            let same = self.numbers.get(name) == Some(number);
            if !same && !self.reserved.contains(&(message.to_owned(), *number)) {
                let text = format!("{name} = {number} is gone: write `reserved {number};` in {message}");
                findings.push(Finding::new(RECORD, 0, text));
            }
        }
        for (name, number) in &self.numbers {
            let (message, _) = name.rsplit_once('.').unwrap_or((name, ""));
            if self.reserved.contains(&(message.to_owned(), *number)) {
                findings.push(Finding::new(
                    RECORD,
                    0,
                    format!("{name} = {number} takes a retired number again"),
                ));
            }
            if !recorded.contains(&(name.clone(), *number)) {
                let text = format!("{name} = {number} is not recorded: run the tidy test with REWRITE=1");
                findings.push(Finding::new(RECORD, 0, text));
            }
        }
        findings
    }

    /// The record with what is new added to it.
    pub fn added_to(&self, record: &str) -> String {
        let mut recorded = read_record(record);
        recorded.extend(self.numbers.iter().map(|(name, number)| (name.clone(), *number)));
        recorded.iter().fold(String::new(), |text, (name, number)| {
            text + &format!("{name} = {number}\n")
        })
    }

    fn read_file(&mut self, text: &str) {
        // The names of the blocks that are open; a `oneof` adds no name of its own.
        let mut open: Vec<String> = Vec::new();
        for line in text.lines() {
            let line = line.split("//").next().unwrap_or_default().trim();
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["message" | "enum", name, ..] => open.push((*name).to_owned()),
                ["oneof" | "service", ..] => open.push(String::new()),
                ["reserved", ..] => self.read_reserved(&message_name(&open), line),
                _ if line.starts_with("rpc ") => continue,
                _ => self.read_field(&message_name(&open), line),
            }
            for _ in 0..line.matches('}').count() {
                open.pop();
            }
        }
    }

    fn read_field(&mut self, message: &str, line: &str) {
        let Some((declared, number)) = line.split_once('=') else {
            return;
        };
        let number = number
            .trim()
            .trim_end_matches(';')
            .split_whitespace()
            .next()
            .unwrap_or_default();
        let name = declared.split_whitespace().last();
        if let (Some(name), Ok(number), false) = (name, number.parse(), message.is_empty()) {
            self.numbers.insert(format!("{message}.{name}"), number);
        }
    }

    fn read_reserved(&mut self, message: &str, line: &str) {
        let list = line.trim_start_matches("reserved").trim_end_matches(';');
        for part in list.split(',') {
            let ends: Vec<u32> = part.split(" to ").filter_map(|end| end.trim().parse().ok()).collect();
            let (Some(first), Some(last)) = (ends.first(), ends.last()) else {
                continue;
            };
            self.reserved
                .extend((*first..=*last).map(|number| (message.to_owned(), number)));
        }
    }
}

fn message_name(open: &[String]) -> String {
    let named: Vec<&str> = open
        .iter()
        .map(String::as_str)
        .filter(|name| !name.is_empty())
        .collect();
    named.join(".")
}

fn read_record(record: &str) -> BTreeSet<(String, u32)> {
    let lines = record.lines().filter_map(|line| line.split_once(" = "));
    lines
        .filter_map(|(name, number)| Some((name.to_owned(), number.parse().ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::file, *};

    const RECORDED: &str = "A.B.inner = 1\nA.left = 3\nA.name = 1\nA.right = 2\nKind.ONE = 1\n";

    fn fields(body: &str) -> Fields {
        let text = format!("syntax = \"proto3\";\nmessage A {{\n{body}\n}}\nenum Kind {{\n  ONE = 1;\n}}\n");
        Fields::read(&[file("a.proto", &text)])
    }

    const ALL: &str = "  string name = 1; // a name = 9;\n  oneof x {\n    Taken right = 2;\n    Error left = 3;\n  }\n  \
        message B {\n    bytes inner = 1;\n  }";

    #[track_caller]
    fn check(body: &str, expected: &[&str]) {
        let found = fields(body).against(RECORDED);
        let found: Vec<&str> = found.iter().map(|finding| finding.message.as_str()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_field_that_goes_must_leave_its_number_reserved() {
        check(ALL, &[]);
        check(
            &ALL.replace("  string name = 1;", ""),
            &["A.name = 1 is gone: write `reserved 1;` in A"],
        );
        check(&ALL.replace("  string name = 1;", "  reserved 1, 7 to 9;"), &[]);
        check(
            &ALL.replace("name = 1", "name = 4"),
            &[
                "A.name = 1 is gone: write `reserved 1;` in A",
                "A.name = 4 is not recorded: run the tidy test with REWRITE=1",
            ],
        );
        check(
            &format!("{ALL}\n  reserved 3;"),
            &["A.left = 3 takes a retired number again"],
        );
    }

    #[test]
    fn rewriting_adds_and_never_forgets() {
        let rewritten = fields("  string other = 5;").added_to(RECORDED);
        assert_eq!(
            rewritten,
            "A.B.inner = 1\nA.left = 3\nA.name = 1\nA.other = 5\nA.right = 2\nKind.ONE = 1\n"
        );
    }
}
