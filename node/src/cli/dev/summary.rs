//! What `halcyon dev` says once it runs: where everything is, and what to try next.

use std::{env, ffi::OsStr, path::Path, time::Duration};

use serde_json::json;

use super::{CREDENTIAL_FILE, Demo, Dev, KEY_FILE, REGIONS, node_dir, region_of};
use crate::{
    cli::{
        Globals,
        connect::DEV_TENANT,
        output::{self, Tone},
    },
    server::Node,
};

/// Says it.
pub(super) fn show(args: &Dev, globals: &Globals, nodes: &[Node], demo: Demo, resumed: bool, took: Duration) {
    let triples = match demo {
        Demo::Serves(triples) => Some(triples),
        Demo::Deleted => None,
    };
    let credential = node_dir(args, REGIONS[0]).join(CREDENTIAL_FILE);
    let key = args.data.join(KEY_FILE);
    if globals.json {
        let nodes: Vec<_> = nodes
            .iter()
            .map(|node| {
                json!({ "node": node.id().0, "region": region_of(node),
                        "client_address": node.client_address(), "peer_address": node.peer_address() })
            })
            .collect();
        output::json(
            &json!({ "nodes": nodes, "tenant": DEV_TENANT, "key_file": key, "admin_credential": credential,
                              "triples": triples, "resumed": resumed }),
        );
        output::flush();
        return;
    }
    let verb = if resumed { "run again" } else { "run" };
    output::line(format!(
        "\n{} after {}\n",
        output::tint(Tone::Good, &format!("{} {verb}", counted_regions(nodes.len()))),
        output::duration(took)
    ));
    let mut rows = output::Rows::new(&["node", "region", "clients", "peers"]);
    for node in nodes {
        let (clients, peers) = (node.client_address().to_owned(), node.peer_address().to_owned());
        rows.push([node.id().to_string(), region_of(node), clients, peers]);
    }
    rows.print();
    let tenant = match triples {
        None => "was deleted; --fresh begins anew, `halcyon tenant create` makes another".to_owned(),
        Some(0) => format!("\nits key           {}", key.display()),
        Some(triples) => format!(
            ", {} triples of an issue tracker\nits key           {}",
            output::count(triples),
            key.display()
        ),
    };
    let gap = if triples.is_none() { " " } else { "" };
    output::line(format!(
        "\ntenant            {DEV_TENANT}{gap}{tenant}\nadmin credential  {}\n",
        credential.display()
    ));
    output::line(format!(
        "{}  (in another terminal)\n",
        output::tint(Tone::Strong, "Try next")
    ));
    for command in try_next(args, &key, &credential, demo) {
        output::line(format!("  {command}"));
    }
    output::line("\nCtrl-C stops all of them; the next start goes on.");
    output::flush();
}

fn counted_regions(count: usize) -> String {
    if count == REGIONS.len() {
        return "Three regions".to_owned();
    }
    format!("{count} of {} regions", REGIONS.len())
}

/// What makes `halcyon` this program, where a shell would not find it by that name.
fn alias(program: Option<&Path>, here: Option<&Path>, path: Option<&OsStr>) -> Option<String> {
    let program = program?;
    let mut known = env::split_paths(path?).map(|directory| directory.join("halcyon"));
    if known.any(|known| known.canonicalize().is_ok_and(|known| known == program)) {
        return None;
    }
    let inside = here.and_then(|here| program.strip_prefix(here).ok());
    let shown = inside.map_or_else(|| program.to_owned(), |inside| Path::new(".").join(inside));
    Some(format!("alias halcyon='{}'", shown.display()))
}

fn try_next(args: &Dev, key: &Path, credential: &Path, demo: Demo) -> Vec<String> {
    let mut commands = Vec::new();
    commands.extend(alias(
        env::current_exe().ok().as_deref(),
        env::current_dir().ok().as_deref(),
        env::var_os("PATH").as_deref(),
    ));
    // With the defaults the command finds everything by itself.
    let is_default = args.data == Path::new("halcyon-dev") && args.port == 7700;
    if !is_default {
        commands.push(format!("export HALCYON_CLUSTER=127.0.0.1:{}", args.port));
        commands.push(format!(
            "export HALCYON_KEY={} HALCYON_ADMIN={}",
            key.display(),
            credential.display()
        ));
    }
    commands.push("halcyon status".to_owned());
    if demo == Demo::Deleted {
        commands.push(format!("halcyon tenant create another --regions {}", REGIONS.join(",")));
        return commands;
    }
    commands.extend([
        format!("halcyon scan --tenant {DEV_TENANT} --type issue --limit 12"),
        format!(
            "halcyon watch --tenant {DEV_TENANT} --cluster 127.0.0.1:{}   # Asia looks on",
            args.port + 2
        ),
        format!("halcyon set --tenant {DEV_TENANT} new issue/title='Hello from Europe' issue/open=true"),
        format!("halcyon verify --tenant {DEV_TENANT} --wait 5s"),
    ]);
    commands
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_program_that_no_shell_finds_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let program = root.join("halcyon");
        fs::write(&program, "").unwrap();
        let path = |of: &Path| env::join_paths([Path::new("/nowhere"), of]).unwrap();
        let told = |here: &Path, path: &OsStr| alias(Some(&program), Some(here), Some(path));
        assert_eq!(told(&root, &path(&root)), None);
        let elsewhere = path(Path::new("/elsewhere"));
        assert_eq!(told(&root, &elsewhere).as_deref(), Some("alias halcyon='./halcyon'"));
        let whole = format!("alias halcyon='{}'", program.display());
        assert_eq!(told(Path::new("/elsewhere"), &elsewhere), Some(whole));
    }
}
