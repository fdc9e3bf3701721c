//! Which crate may know which: `core <- proto <- {client, node} <- {chaos, tests}`, `core <- core/system <- {client,
//! node}`, and `client <- client/wasm`.
//!
//! The server does not know the client. The `halcyon` command does: it is a client like any other program, so `node`
//! depends on the client crate, and only `node/src/cli` may name it.

use super::{Finding, SourceFile};

/// A crate, and the crates of this repository that it may depend on.
const MAY_DEPEND: [(&str, &[&str]); 8] = [
    ("core", &[]),
    ("core/system", &["core"]),
    ("proto", &["core"]),
    ("client", &["core", "system", "proto"]),
    ("client/wasm", &["core", "proto", "client"]),
    ("node", &["core", "system", "proto", "client"]),
    ("chaos", &["core", "proto", "client", "node"]),
    ("tests", &["core", "proto", "client", "node", "chaos"]),
];

/// Where the client crate may be named inside `node`.
const COMMAND: &str = "node/src/cli/";

/// No manifest depends against the arrows.
pub fn dependencies(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, may) in MAY_DEPEND {
        let path = format!("{name}/Cargo.toml");
        let Some(manifest) = files.iter().find(|file| file.path == path) else {
            continue;
        };
        for (at, line) in manifest.text.lines().enumerate() {
            let Some(dependency) = halcyon_dependency(line) else {
                continue;
            };
            if !may.contains(&dependency) {
                let message = format!("{name} must not depend on {dependency}");
                findings.push(Finding::new(&path, at + 1, message));
            }
        }
    }
    findings
}

/// The server's rooms do not name the client crate.
pub fn server_without_client(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let rooms = files.iter().filter(|file| {
        let shipped = file.path.starts_with("node/src/") && !file.path.starts_with(COMMAND);
        shipped && file.is_rust()
    });
    for file in rooms {
        for (at, line) in file.code_lines() {
            if line.contains("halcyon_client") {
                let message = "the server does not know the client; only node/src/cli may";
                findings.push(Finding::new(&file.path, at, message));
            }
        }
    }
    findings
}

fn halcyon_dependency(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("halcyon-")?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric())?;
    rest[end..].contains('=').then_some(&rest[..end])
}

#[cfg(test)]
mod tests {
    use super::{super::tests::file, *};

    #[test]
    fn a_dependency_against_the_arrows_is_found() {
        let good = "[dependencies]\nhalcyon-core.workspace = true\nserde = \"1\"\n";
        let bad = "[dependencies]\nhalcyon-node = { path = \"../node\" }\n";
        assert_eq!(dependencies(&[file("proto/Cargo.toml", good)]), []);
        assert_eq!(dependencies(&[file("proto/Cargo.toml", bad)]).len(), 1);
        assert_eq!(dependencies(&[file("core/Cargo.toml", good)]).len(), 1);
        assert_eq!(dependencies(&[file("tests/Cargo.toml", bad)]), []);
    }

    #[test]
    fn the_client_named_in_a_room_is_found() {
        let names = "//! x\nuse halcyon_client::Client;\n";
        let says = "//! x\n// halcyon_client does the same.\n";
        assert_eq!(server_without_client(&[file("node/src/cli/get.rs", names)]), []);
        assert_eq!(server_without_client(&[file("node/src/rpc/mod.rs", says)]), []);
        assert_eq!(server_without_client(&[file("node/src/rpc/mod.rs", names)]).len(), 1);
    }
}
