//! The command explains itself: every subcommand has `--help`, and every one that does something has an example in it.
//!
//! That cargo builds the `halcyon` binary for these tests is also why the process tests of the workspace find it.

use std::process::Command;

#[test]
fn every_command_has_help_with_an_example() {
    let mut found = 0;
    check(&mut Vec::new(), &mut found);
    assert!(found > 20, "found only {found} commands");
}

#[test]
fn a_wrong_word_says_what_would_be_right() {
    let (code, said) = run(&["tenant", "crate"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("create"), "{said}");
}

/// Checks the command that `words` name, and those below it.
fn check(words: &mut Vec<String>, found: &mut usize) {
    let mut arguments: Vec<&str> = words.iter().map(String::as_str).collect();
    arguments.push("--help");
    let (code, help) = run(&arguments);
    let name = words.join(" ");
    assert_eq!(code, Some(0), "halcyon {name} --help:\n{help}");
    let below = subcommands(&help);
    if below.is_empty() {
        *found += 1;
        assert!(
            help.contains("Example"),
            "`halcyon {name} --help` shows no example:\n{help}"
        );
    }
    for word in below {
        words.push(word);
        check(words, found);
        words.pop();
    }
}

/// The words under `Commands:`.
fn subcommands(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let words = lines
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "));
    let words = words.filter_map(|line| line.split_whitespace().next());
    words.filter(|word| *word != "help").map(str::to_owned).collect()
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_halcyon")).args(arguments).output();
    let output = output.expect("cargo built the binary for this test");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}
