//! Every table on disk is defined in a file named `tables.rs`, documented, and carries its format in its name.

use super::{Finding, SourceFile};

/// Tables stand in `tables.rs`, under a doc comment, with a name such as `by-origin-1`.
pub fn documented(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files
        .iter()
        .filter(|file| file.is_rust() && !file.path.starts_with("tests/"))
    {
        let lines = file.shipped_lines();
        for (place, (at, line)) in lines.iter().enumerate() {
            if !is_definition(line) {
                continue;
            }
            if !file.path.ends_with("/tables.rs") {
                findings.push(Finding::new(&file.path, *at, "a table is defined outside a tables.rs"));
            }
            if !is_documented(&lines[..place]) {
                findings.push(Finding::new(
                    &file.path,
                    *at,
                    "a table without its key and value in a doc comment",
                ));
            }
            let statement: String = lines[place..].iter().take(3).map(|(_, text)| *text).collect();
            if !name_carries_format(&statement) {
                let message = "a table's name ends in its format version, as in \"by-origin-1\"";
                findings.push(Finding::new(&file.path, *at, message));
            }
        }
    }
    findings
}

fn is_definition(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_constant = words.iter().take(2).any(|word| *word == "const" || *word == "static");
    is_constant && (line.contains("TableDefinition<") || line.contains("TableDefinition::new"))
}

fn is_documented(before: &[(usize, &str)]) -> bool {
    let mut above = before.iter().rev().map(|(_, line)| line.trim());
    above
        .find(|line| !line.starts_with("#["))
        .is_some_and(|line| line.starts_with("///"))
}

fn name_carries_format(statement: &str) -> bool {
    let name = statement.split("::new(").nth(1).and_then(|rest| rest.split('"').nth(1));
    name.and_then(|name| name.rsplit_once('-'))
        .is_some_and(|(_, version)| !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::{super::tests::file, *};

    fn check(path: &str, definition: &str, findings: usize) {
        assert_eq!(documented(&[file(path, definition)]).len(), findings, "{definition}");
    }

    #[test]
    fn a_table_elsewhere_undocumented_or_without_a_format_is_found() {
        let table = "const T: TableDefinition<'_, u64, &[u8]> =\n    TableDefinition::new(\"by-origin-1\");\n";
        let plain = "const T: TableDefinition<'_, u64, u64> = TableDefinition::new(\"data\");\n";
        check("node/src/storage/tables.rs", &format!("/// Key, value.\n{table}"), 0);
        check("node/src/storage/write.rs", &format!("/// Key, value.\n{table}"), 1);
        check("node/src/storage/tables.rs", table, 1);
        check(
            "node/src/storage/tables.rs",
            "type Bytes = TableDefinition<'static, &'static [u8], u64>;\n",
            0,
        );
        check("node/src/storage/tables.rs", &format!("/// Key, value.\n{plain}"), 1);
    }
}
