//! Behaviour across nodes as text: commands, `----`, and the recorded answer, so that a reviewer reads what nodes do
//! and no plumbing.
//!
//! A script is `testdata/NAME.txt`: stanzas with a blank line between them. Lines that open with `#` are comments. Each
//! stanza's answer is compared with what the commands say now; `REWRITE=1` records it instead. Answers hold no ids,
//! ports or times, so they are the same on every run.
//!
//! ```text
//! cluster nodes=3                    boots n1 n2 n3 in eu-west, us-east, ap-south (or `regions=a,b,c`)
//! tenant t1 regions=eu-west,us-east  makes a tenant and waits for it; the next lines speak of it
//! on t1                              the next lines speak of this tenant
//! create n1 e1 item/title="x"        a change set at n1 that creates the entity and sets fields
//! set n1 e1 item/n=2 item/to=@e2     the same without creating it; `@` is a reference
//! unset n1 e1 item/n                 takes a field back
//! add n1 e1 item/tags="a"            and `remove`: elements of a set
//! delete n1 e1                       a tombstone
//! push n1 first=0 count=100          one entity in each of 100 change sets: e0, e1, …
//! get n2 e1                          what n2 shows now
//! await n2 e1 item/title="x"         waits until n2 shows it
//! settle                             waits until all replicas agree, and says on what
//! verify                             whether they agree now
//! partition n3 / cut n1 n3 / heal    holds all bytes around a node / ends one link / opens all
//! kill n2 / stop n2 / start n2       kill -9 / SIGTERM / start again and wait until ready
//! place t1 regions=…                 moves the tenant and waits until it lies there
//! join eu-west                       adds a node, n4, and waits until it is ready
//! drain n3 / remove-node n3          takes a node out
//! lose n3                            takes a node out that is gone with all that only it had
//! lies t1 n1 n4                      waits until the tenant is on these nodes and no others
//! voters n1 n2 n3                    waits until these vote in the control plane, and one of them leads
//! locate n1                          where n1 says the tenant is, by region
//! drop t1                            deletes the tenant
//! ```

mod line;
mod stage;

use std::{env, fs, path::Path};

pub use line::Line;
pub use stage::Stage;

/// One part of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stanza {
    /// Comments and commands, as written.
    input: String,
    /// What was recorded.
    answer: String,
}

/// Plays a script and compares each answer, or records it with `REWRITE=1`.
#[track_caller]
pub fn check(path: &Path) {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let rewrite = env::var_os("REWRITE").is_some();
    let mut stage = Stage::default();
    let mut played = Vec::new();
    for stanza in parse(&text) {
        let answer = play(&mut stage, &stanza.input);
        assert!(
            rewrite || answer == stanza.answer,
            "{}:\n{}----\nrecorded:\n{}\nnow:\n{answer}",
            path.display(),
            stanza.input,
            stanza.answer,
        );
        played.push(Stanza { answer, ..stanza });
    }
    if rewrite {
        fs::write(path, print(&played)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

fn play(stage: &mut Stage, input: &str) -> String {
    let commands = input
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    commands.fold(String::new(), |answer, command| {
        answer + &stage.run(&Line::parse(command))
    })
}

fn parse(text: &str) -> Vec<Stanza> {
    let mut stanzas = Vec::new();
    let mut lines = text.lines().peekable();
    while lines.peek().is_some() {
        let taken = |lines: &mut dyn Iterator<Item = &str>, end: &str| {
            lines
                .take_while(|line| *line != end)
                .fold(String::new(), |text, line| text + line + "\n")
        };
        let input = taken(&mut lines, "----");
        let answer = taken(&mut lines, "");
        if !input.trim().is_empty() {
            stanzas.push(Stanza { input, answer });
        }
    }
    stanzas
}

fn print(stanzas: &[Stanza]) -> String {
    let texts: Vec<String> = stanzas
        .iter()
        .map(|stanza| format!("{}----\n{}", stanza.input, stanza.answer))
        .collect();
    texts.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_prints_as_it_was_read() {
        let text = "# Why.\ncluster nodes=3\n\nsettle\n----\nn1 agrees\n\nget n1 e1\n----\ne1 gone\nfor good\n";
        let stanzas = parse(text);
        assert_eq!(stanzas.len(), 2);
        assert_eq!(stanzas[1].answer, "e1 gone\nfor good\n");
        assert_eq!(print(&stanzas), text);
    }
}
