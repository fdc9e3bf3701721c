//! The example apps that `halcyon dev` serves to a browser: found beside this program's source, built once by its script
//! where they are not built yet, read into memory.
//!
//! Nothing here ends `dev`: what is missing is said in one line, and the nodes go on.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::json;
use thiserror::Error;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};

use super::{Dev, KEY_FILE, region_of};
use crate::{
    cli::{
        Globals,
        connect::DEV_TENANT,
        output::{self, Tone},
    },
    server::Node,
    site::{Pages, Region, Session, Site, UNDER},
};

/// Sets up what the apps need and builds them. From the top of a checkout.
const SCRIPT: &str = "client/web/build.sh";
/// What it leaves.
const BUILT: &str = "client/web/examples/dist";
/// The page that is opened first.
const START: &str = "index.html";
/// What the script and its tools say, in the data directory.
const LOG_FILE: &str = "web-build.log";

/// How long building may take: npm's packages over a slow line, and Rust for WebAssembly on a slow machine.
const BUILD_MAX: Duration = Duration::from_mins(30);
/// Files of the apps: a few dozen. Beyond this it is another directory.
const FILES_MAX: usize = 1_000;
/// Bytes of all of them: they stay in memory.
const BYTES_MAX: usize = 64 << 20;

/// Why there is nothing to open in a browser.
#[derive(Debug, Error)]
enum Missing {
    #[error("this program was not built in a checkout of Halcyon that has {SCRIPT}")]
    NoCheckout,
    #[error("{0}")]
    Build(String),
    #[error("{SCRIPT} took longer than {}", output::duration(BUILD_MAX))]
    Late,
    #[error("{path}: {error}")]
    File { path: PathBuf, error: io::Error },
    #[error("{0} is larger than the example apps are")]
    TooLarge(PathBuf),
}

/// Publishes the apps and says where they are, or why not.
pub(super) async fn open(args: &Dev, globals: &Globals, nodes: &[Node], site: &Site) {
    let pages = match pages(args, nodes).await {
        Ok(pages) => pages,
        Err(missing) => {
            output::note(format!(
                "\nno example apps for a browser: {missing} (client/web/README.md)"
            ));
            return;
        }
    };
    site.publish(pages);
    let links: Vec<String> = nodes.iter().map(origin_of).collect();
    let Some(first) = links.first() else { return };
    if globals.json {
        output::json(&json!({ "link": format!("{first}{UNDER}"), "region_links": links }));
        output::flush();
        return;
    }
    output::line(format!(
        "\n{}  two regions side by side, and a switch that cuts one off; {} and {} in each region\n",
        output::tint(Tone::Strong, "Open in a browser"),
        "#/issues",
        "#/todo",
    ));
    for (node, link) in nodes.iter().zip(&links).skip(1) {
        output::line(format!(
            "  {link}{UNDER}#/issues   the issue tracker in {}",
            region_of(node)
        ));
    }
    output::line(format!("  {}", output::tint(Tone::Good, &format!("{first}{UNDER}"))));
    output::flush();
}

async fn pages(args: &Dev, nodes: &[Node]) -> Result<Pages, Missing> {
    let top = checkout().ok_or(Missing::NoCheckout)?;
    let built = top.join(BUILT);
    if !built.join(START).is_file() {
        timeout(BUILD_MAX, build(&top.join(SCRIPT), &args.data.join(LOG_FILE)))
            .await
            .map_err(|_| Missing::Late)??;
    }
    let key_file = args.data.join(KEY_FILE);
    let key = fs::read_to_string(&key_file).map_err(|error| Missing::File { path: key_file, error })?;
    let regions = nodes.iter().map(|node| Region {
        name: region_of(node),
        origin: origin_of(node),
    });
    let session = Session {
        tenant: DEV_TENANT.to_owned(),
        key: key.trim().to_owned(),
        regions: regions.collect(),
    };
    Ok(Pages::new(read(&built)?, session))
}

fn origin_of(node: &Node) -> String {
    format!("http://{}", node.client_address())
}

/// The source that this program was built in: it lies in its `target`. A script of any other place is never run.
fn checkout() -> Option<PathBuf> {
    let program = std::env::current_exe().and_then(fs::canonicalize).ok()?;
    program
        .ancestors()
        .find(|above| above.join(SCRIPT).is_file())
        .map(Path::to_owned)
}

/// Runs the script. Its steps come line by line on stdout; all else goes to the log, and its last line is the reason.
async fn build(script: &Path, log: &Path) -> Result<(), Missing> {
    let at = |path: &Path, error| Missing::File {
        path: path.to_owned(),
        error,
    };
    output::note("\nbuilding the example apps for a browser, this once (the nodes serve already)");
    let file = File::create(log).map_err(|error| at(log, error))?;
    let mut child = Command::new(script)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(file)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| at(script, error))?;
    let steps = child.stdout.take().expect("it was asked to be piped");
    let mut steps = BufReader::new(steps).lines();
    while let Ok(Some(step)) = steps.next_line().await {
        output::note(format!("  {step}"));
    }
    let status = child.wait().await.map_err(|error| at(script, error))?;
    if status.success() {
        return Ok(());
    }
    let said = fs::read_to_string(log).unwrap_or_default();
    let reason = said
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("it does not say why");
    let text = format!("{SCRIPT} failed: {} (all of it: {})", reason.trim(), log.display());
    Err(Missing::Build(text))
}

/// Every file under a directory by its name from there, with slashes. Links are not followed.
fn read(built: &Path) -> Result<Vec<(String, Vec<u8>)>, Missing> {
    let (mut files, mut bytes, mut directories) = (Vec::new(), 0, vec![built.to_owned()]);
    while let Some(directory) = directories.pop() {
        let at = |error| Missing::File {
            path: directory.clone(),
            error,
        };
        for entry in fs::read_dir(&directory).map_err(at)? {
            let entry = entry.map_err(at)?;
            let (kind, path) = (entry.file_type().map_err(at)?, entry.path());
            if kind.is_dir() {
                directories.push(path);
                continue;
            }
            let Some(name) = path.strip_prefix(built).ok().and_then(Path::to_str) else {
                continue;
            };
            if kind.is_file() {
                let held = fs::read(&path).map_err(at)?;
                bytes += held.len();
                files.push((name.to_owned(), held));
            }
            if FILES_MAX < files.len() || BYTES_MAX < bytes {
                return Err(Missing::TooLarge(built.to_owned()));
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn files_are_read_by_their_names_and_links_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("secret");
        fs::write(&outside, "s").unwrap();
        let built = dir.path().join("dist");
        fs::create_dir_all(built.join("assets")).unwrap();
        fs::write(built.join(START), "start").unwrap();
        fs::write(built.join("assets/a.js"), "a").unwrap();
        symlink(&outside, built.join("link")).unwrap();
        let mut files = read(&built).unwrap();
        files.sort();
        let expected = [("assets/a.js", "a"), (START, "start")];
        assert_eq!(files, expected.map(|(name, text)| (name.to_owned(), text.into())));
        assert!(matches!(read(&dir.path().join("nowhere")), Err(Missing::File { .. })));
    }

    #[tokio::test]
    async fn a_build_that_fails_says_its_last_line() {
        let dir = tempfile::tempdir().unwrap();
        let (script, log) = (dir.path().join("build.sh"), dir.path().join("log"));
        let run = async |text: &str| {
            fs::write(&script, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
            build(&script, &log).await.map_err(|missing| missing.to_string())
        };
        assert_eq!(run("echo step; exit 0").await, Ok(()));
        let reason = run("echo first >&2; echo 'needs npm' >&2; exit 1").await.unwrap_err();
        assert!(
            reason.starts_with("client/web/build.sh failed: needs npm ("),
            "{reason}"
        );
    }
}
