//! `halcyon dev`: three regions in this process, on loopback, with a tenant full of life-like data, and example apps on
//! it for a browser.
//!
//! Nothing is special about it: the first node bootstraps, the others join by token, all speak mutual TLS. A second
//! start finds its directories and goes on.

use std::{
    collections::{BTreeSet, VecDeque},
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use clap::Args;
use halcyon_client::{AdminClient, Client, ErrorCode};
use halcyon_proto::v1;

mod summary;
#[cfg(test)]
mod tests;
mod web;

use super::{
    Globals, TIMEOUT, connect,
    connect::DEV_TENANT,
    failure::{Failure, file_failure},
    generate::{self, Amount},
    output::{self, Progress},
    process,
};
use crate::{
    config::{Config, LogFormat, Source, Start},
    env,
    server::{Node, REMOVED_FILE},
    site::Site,
};

/// The regions, in the order of their ports. The first bootstraps.
pub const REGIONS: [&str; 3] = ["eu-west", "us-east", "ap-south"];

/// Between a node's port for clients and its port for peers.
const PEER_PORT_OFFSET: u16 = 10;

/// Marks a directory as ours, so that `--fresh` removes nothing else.
const MARK: &str = ".halcyon-dev";
/// The mark's earlier name. In a directory of the same name it looked like a directory inside itself.
const MARK_BEFORE: &str = "halcyon-dev";
/// What a node keeps of who it is.
const IDENTITY_FILE: &str = "identity";
/// The tenant's key.
const KEY_FILE: &str = "demo.key";
/// Says that all generated data is in.
const SEEDED_FILE: &str = "demo.seeded";
/// What bootstrap leaves for operators.
const CREDENTIAL_FILE: &str = "admin.credential";

/// The generated data's seed.
const SEED: u64 = 20_260_105;

/// How long all replicas of the tenant may take until they serve.
const READY_MAX: Duration = Duration::from_mins(1);
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Change sets on their way at a time while the data is made.
const SETS_IN_FLIGHT: usize = 16;

/// Entities in one of them: some 500 changes and 40 kB, far below what a set may have.
const ENTITIES_PER_SET: usize = 100;

/// See there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  halcyon dev
  halcyon dev --data /tmp/try --port 9000 --issues 2000

Ctrl-C stops it; the next start goes on with the same data. --fresh begins anew.")]
pub struct Dev {
    /// Where the data is
    #[arg(long, value_name = "DIR", default_value = "halcyon-dev")]
    data: PathBuf,
    /// The first node's port for clients; the others have the next two. Peers: ten higher
    #[arg(long, default_value_t = 7700, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Delete what an earlier start left
    #[arg(long)]
    fresh: bool,
    /// Issues in the generated tracker; each brings about twenty triples with its comments
    #[arg(long, default_value_t = 8_000)]
    issues: u64,
    /// Do not build or serve the example apps for a browser
    #[arg(long)]
    no_web: bool,
    /// Which log lines to show, e.g. info
    #[arg(long, default_value = "error")]
    log: String,
}

/// Runs until Ctrl-C or SIGTERM.
pub async fn run(args: Dev, globals: &Globals) -> Result<(), Failure> {
    process::start_logs(LogFormat::Text, &args.log)?;
    prepare(&args)?;
    let started = connect::clock().monotonic();
    let resumes = node_dir(&args, REGIONS[0]).join(CREDENTIAL_FILE).exists();
    let site = Site::default();
    let nodes = if resumes {
        resume(&args, &site).await
    } else {
        boot(&args, &site).await
    }?;
    let mut told_to_stop = pin!(process::until_told_to_stop());
    let prepared = tokio::select! {
        biased;
        stop = &mut told_to_stop => stop.and_then(|()| Err(Failure::failed("stopped before it was ready"))),
        prepared = Box::pin(tenant(&args, &nodes)) => prepared,
    };
    let demo = match prepared {
        Ok(demo) => demo,
        Err(failure) => {
            process::stop(nodes).await?;
            return Err(failure);
        }
    };
    let took = connect::clock().monotonic().saturating_sub(started);
    summary::show(&args, globals, &nodes, demo, resumes, took);
    let opened = async {
        if !args.no_web && matches!(demo, Demo::Serves(_)) {
            web::open(&args, globals, &nodes, &site).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        stop = told_to_stop => stop,
        () = opened => Ok(()),
    }?;
    output::note("\nstopping; start again with the same command to go on");
    process::stop(nodes).await
}

fn prepare(args: &Dev) -> Result<(), Failure> {
    if args.port > u16::MAX - PEER_PORT_OFFSET - 2 {
        return Err(Failure::usage(format_args!("port {} is too high", args.port)).advise("leave room for ten more"));
    }
    if is_ours(Path::new(".")) {
        return Err(Failure::usage("this directory is what `halcyon dev` keeps its data in")
            .advise("cd .. and start it there, or name a directory with --data"));
    }
    let is_ours = is_ours(&args.data);
    if args.data.exists() && !is_ours && args.data.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(
            Failure::usage(format_args!("{} holds something else", args.data.display()))
                .advise("name another directory with --data"),
        );
    }
    if args.fresh && is_ours {
        for region in REGIONS {
            unused(&node_dir(args, region))?;
        }
        std::fs::remove_dir_all(&args.data).map_err(|error| file_failure("delete", &args.data, &error))?;
    }
    std::fs::create_dir_all(&args.data).map_err(|error| file_failure("make", &args.data, &error))?;
    let mark = args.data.join(MARK);
    std::fs::write(&mark, "made by `halcyon dev`\n").map_err(|error| file_failure("write", &mark, &error))
}

fn is_ours(dir: &Path) -> bool {
    dir.join(MARK).exists() || dir.join(MARK_BEFORE).is_file()
}

/// Nobody's data is deleted while a node runs on it.
fn unused(dir: &Path) -> Result<(), Failure> {
    if !dir.exists() {
        return Ok(());
    }
    env::system(dir).map(|_| ()).map_err(|error| {
        Failure::failed(format_args!("cannot begin anew in {}: {error}", dir.display()))
            .advise("stop the `halcyon dev` that runs there first")
    })
}

/// The first start: one node bootstraps, the others join.
async fn boot(args: &Dev, site: &Site) -> Result<Vec<Node>, Failure> {
    let progress = Progress::new("starting", "regions", REGIONS.len() as u64);
    let mut nodes = vec![start(args, 0, Start::Bootstrap, site).await?];
    process::until_ready(&nodes[0], READY_MAX).await?;
    progress.add(1);
    let admin = admin(args).await?;
    for at in 1..REGIONS.len() {
        nodes.push(join(args, at, &admin, site).await?);
        progress.add(1);
    }
    progress.done();
    Ok(nodes)
}

/// A later start: all at once, because the control plane needs two of them to agree.
async fn resume(args: &Dev, site: &Site) -> Result<Vec<Node>, Failure> {
    let progress = Progress::new("starting again", "regions", REGIONS.len() as u64);
    let (known, new): (Vec<usize>, Vec<usize>) =
        (0..REGIONS.len()).partition(|&at| has_identity(&node_dir(args, REGIONS[at])));
    let mut starts = Vec::new();
    for at in known {
        let dir = node_dir(args, REGIONS[at]);
        if dir.join(REMOVED_FILE).exists() {
            say_left_out(&format!("the node in {}", REGIONS[at]), &dir);
            continue;
        }
        let progress = &progress;
        starts.push(async move {
            let node = start(args, at, Start::Resume, site).await;
            progress.add(1);
            node
        });
    }
    let mut nodes = without_removed(args, futures::future::try_join_all(starts).await?).await?;
    for node in &nodes {
        process::until_ready(node, READY_MAX).await?;
    }
    if !new.is_empty() {
        let admin = admin(args).await?;
        for at in new {
            nodes.push(join(args, at, &admin, site).await?);
            progress.add(1);
        }
    }
    progress.done();
    Ok(nodes)
}

async fn join(args: &Dev, at: usize, admin: &AdminClient, site: &Site) -> Result<Node, Failure> {
    let answer = admin
        .create_token(v1::CreateTokenRequest { lifetime_ms: 0 })
        .await
        .map_err(connect::admin_failure)?;
    let by_token = Start::from_flags(false, Some(&answer.token)).map_err(Failure::failed)?;
    start(args, at, by_token, site).await
}

async fn start(args: &Dev, at: usize, start: Start, site: &Site) -> Result<Node, Failure> {
    let last = args.port + PEER_PORT_OFFSET + 2;
    let other_ports = format!("--port names others; {} to {last} have to be free of them", args.port);
    let config = Config {
        site: (!args.no_web).then(|| site.clone()),
        ..config(args, at, start)?
    };
    process::start(config, &other_ports).await
}

/// A node that somebody removed from the cluster is stopped: it would never be ready.
async fn without_removed(args: &Dev, nodes: Vec<Node>) -> Result<Vec<Node>, Failure> {
    let first_ready = async {
        loop {
            if let Some(at) = nodes.iter().position(|node| node.reasons().is_empty()) {
                return at;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let Ok(ready) = tokio::time::timeout(READY_MAX, first_ready).await else {
        // What is missing is said where the nodes are waited for.
        return Ok(nodes);
    };
    let members: Vec<_> = nodes[ready].rooms().view.nodes().iter().map(|node| node.id).collect();
    let (members, removed): (Vec<Node>, Vec<Node>) = nodes.into_iter().partition(|node| members.contains(&node.id()));
    for node in &removed {
        say_left_out(&node.id().to_string(), &node_dir(args, &region_of(node)));
    }
    process::stop(removed).await?;
    Ok(members)
}

fn say_left_out(node: &str, dir: &Path) {
    output::note(format!(
        "{node} was removed from this cluster and is left out; to let a new node join in its place, delete {}",
        dir.display()
    ));
}

fn config(args: &Dev, at: usize, start: Start) -> Result<Config, Failure> {
    let port = args.port + u16::try_from(at).unwrap_or(0);
    let source = Source {
        region: Some(REGIONS[at].to_owned()),
        data: Some(node_dir(args, REGIONS[at])),
        listen: Some(format!("127.0.0.1:{port}")),
        peer_listen: Some(format!("127.0.0.1:{}", port + PEER_PORT_OFFSET)),
        ..Source::default()
    };
    Config::check(source, start).map_err(Failure::usage)
}

fn node_dir(args: &Dev, region: &str) -> PathBuf {
    args.data.join(region)
}

/// Whether a node was here before: it has more than the lock that a failed start leaves.
fn has_identity(dir: &Path) -> bool {
    dir.join(IDENTITY_FILE).exists()
}

fn dev_globals(args: &Dev, key: Option<String>) -> Globals {
    let credential = node_dir(args, REGIONS[0]).join(CREDENTIAL_FILE);
    Globals {
        cluster: (0..3).map(|at| format!("127.0.0.1:{}", args.port + at)).collect(),
        admin_credential: Some(credential.display().to_string()),
        key,
        ca: None,
        timeout: TIMEOUT,
        linearizable: false,
        pin: false,
        json: false,
    }
}

async fn admin(args: &Dev) -> Result<AdminClient, Failure> {
    connect::admin(&dev_globals(args, None)).await
}

/// The tenant as a start finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demo {
    /// It serves, and has so many live triples.
    Serves(u64),
    /// Somebody deleted it after an earlier start had made it.
    Deleted,
}

/// Makes sure that the tenant is there, serves wherever a node runs, and has its data. What somebody deleted stays so.
async fn tenant(args: &Dev, nodes: &[Node]) -> Result<Demo, Failure> {
    let admin = admin(args).await?;
    if args.data.join(KEY_FILE).exists() && is_deleted(&admin).await? {
        return Ok(Demo::Deleted);
    }
    let key = tenant_key(args, &admin).await?;
    let regions: BTreeSet<String> = nodes.iter().map(region_of).collect();
    until_active(&admin, &regions).await?;
    let seeded = args.data.join(SEEDED_FILE);
    if !seeded.exists() {
        let client = connect::client(&dev_globals(args, Some(key)), DEV_TENANT).await?;
        let amount = Amount {
            issues: args.issues,
            seed: SEED,
        };
        seed(&client, amount).await?;
        client.close().await;
        std::fs::write(&seeded, "").map_err(|error| file_failure("write", &seeded, &error))?;
    }
    triples_held(&admin).await.map(Demo::Serves)
}

async fn is_deleted(admin: &AdminClient) -> Result<bool, Failure> {
    let request = v1::TenantRequest {
        tenant: DEV_TENANT.to_owned(),
    };
    match admin.show_tenant(request).await {
        Ok(_) => Ok(false),
        Err(halcyon_client::AdminError::Refused(refusal)) if refusal.code == ErrorCode::NotFound => Ok(true),
        Err(error) => Err(connect::admin_failure(error)),
    }
}

/// Live triples of the replica that has the most: others may still be receiving.
async fn triples_held(admin: &AdminClient) -> Result<u64, Failure> {
    let request = v1::TenantRequest {
        tenant: DEV_TENANT.to_owned(),
    };
    let answer = admin.verify(request).await.map_err(connect::admin_failure)?;
    Ok(answer.replicas.iter().map(|replica| replica.triples).max().unwrap_or(0))
}

async fn tenant_key(args: &Dev, admin: &AdminClient) -> Result<String, Failure> {
    let path = args.data.join(KEY_FILE);
    if let Ok(key) = std::fs::read_to_string(&path) {
        return Ok(key.trim().to_owned());
    }
    let request = v1::CreateTenantRequest {
        name: DEV_TENANT.to_owned(),
        regions: REGIONS.map(str::to_owned).to_vec(),
        home: REGIONS[0].to_owned(),
        nodes_per_region: 1,
    };
    let key = match admin.create_tenant(request).await {
        Ok(tenant) => tenant.key,
        // An earlier start made the tenant and was stopped before it wrote the key down.
        Err(halcyon_client::AdminError::Refused(refusal)) if refusal.code == ErrorCode::Exists => {
            let request = v1::CreateKeyRequest {
                tenant: DEV_TENANT.to_owned(),
                label: "dev".to_owned(),
            };
            admin.create_key(request).await.map_err(connect::admin_failure)?.key
        }
        Err(error) => return Err(connect::admin_failure(error)),
    };
    write_secret(&path, &key).map_err(|error| file_failure("write", &path, &error))?;
    Ok(key)
}

fn write_secret(path: &Path, secret: &str) -> std::io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create(true).write(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(secret.as_bytes())?;
    file.sync_all()
}

async fn until_active(admin: &AdminClient, regions: &BTreeSet<String>) -> Result<(), Failure> {
    let active = async {
        loop {
            let request = v1::TenantRequest {
                tenant: DEV_TENANT.to_owned(),
            };
            let tenant = admin.show_tenant(request).await.map_err(connect::admin_failure)?;
            // The regions where it is placed now: somebody may have moved it.
            let serves = |region: &String| {
                let mut replicas = tenant.replicas.iter();
                replicas.any(|replica| replica.region == *region && replica.state == "active")
            };
            if tenant
                .regions
                .iter()
                .filter(|&region| regions.contains(region))
                .all(serves)
            {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(READY_MAX, active).await.unwrap_or_else(|_| {
        Err(Failure::failed(format_args!("tenant {DEV_TENANT} does not serve in all regions")).advise("halcyon status"))
    })
}

/// Writes the generated data, in change sets as an import makes them.
async fn seed(client: &Client, amount: Amount) -> Result<(), Failure> {
    let entities = generate::tracker(amount);
    let progress = Progress::new("filling the demo tenant", "entities", entities.len() as u64);
    let mut flying = VecDeque::new();
    for some in entities.chunks(ENTITIES_PER_SET) {
        if flying.len() == SETS_IN_FLIGHT {
            acknowledged(&mut flying).await?;
            progress.add(ENTITIES_PER_SET as u64);
        }
        let changes = some.iter().flat_map(|entity| entity.changes.clone()).collect();
        flying.push_back(client.write(changes).await.map_err(connect::write_failure)?);
    }
    while !flying.is_empty() {
        acknowledged(&mut flying).await?;
    }
    progress.done();
    Ok(())
}

async fn acknowledged(flying: &mut VecDeque<halcyon_client::Pending>) -> Result<(), Failure> {
    let Some(oldest) = flying.pop_front() else {
        return Ok(());
    };
    oldest
        .acknowledged()
        .await
        .map_err(connect::refused_failure)
        .map(|_| ())
}

fn region_of(node: &Node) -> String {
    node.rooms().region.to_string()
}
