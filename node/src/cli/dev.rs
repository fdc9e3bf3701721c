//! `halcyon dev`: three regions in this process, on loopback, with a tenant full of life-like data.
//!
//! Nothing is special about it: the first node bootstraps, the others join by token, all speak mutual TLS. A second
//! start finds its directories and goes on.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use halcyon_client::{AdminClient, Client, ErrorCode};
use halcyon_proto::v1;
use serde_json::json;

use super::{
    Globals, connect,
    connect::DEV_TENANT,
    failure::{Failure, file_failure},
    generate::{self, Amount},
    output::{self, Progress, Tone},
    process,
};
use crate::{
    config::{Config, LogFormat, Source, Start},
    server::Node,
};

/// The regions, in the order of their ports. The first bootstraps.
pub const REGIONS: [&str; 3] = ["eu-west", "us-east", "ap-south"];

/// Between a node's port for clients and its port for peers.
const PEER_PORT_OFFSET: u16 = 10;

/// Marks a directory as ours, so that `--fresh` removes nothing else.
const MARK: &str = "halcyon-dev";
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
const SETS_IN_FLIGHT: usize = 64;

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
    #[arg(long, default_value_t = 7700)]
    port: u16,
    /// Delete what an earlier start left
    #[arg(long)]
    fresh: bool,
    /// Issues in the generated tracker; each brings about twenty triples with its comments
    #[arg(long, default_value_t = 200)]
    issues: u64,
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
    let nodes = if resumes {
        resume(&args).await
    } else {
        boot(&args).await
    }?;
    let prepared = tokio::select! {
        biased;
        stop = process::until_told_to_stop() => stop.and_then(|()| Err(Failure::failed("stopped before it was ready"))),
        prepared = Box::pin(tenant(&args)) => prepared,
    };
    let triples = match prepared {
        Ok(triples) => triples,
        Err(failure) => {
            process::stop(nodes).await?;
            return Err(failure);
        }
    };
    let took = connect::clock().monotonic().saturating_sub(started);
    summary(&args, globals, &nodes, triples, resumes, took);
    process::until_told_to_stop().await?;
    output::note("\nstopping; start again with the same command to go on");
    process::stop(nodes).await
}

fn prepare(args: &Dev) -> Result<(), Failure> {
    if args.port > u16::MAX - PEER_PORT_OFFSET - 2 {
        return Err(Failure::usage(format_args!("port {} is too high", args.port)).advise("leave room for ten more"));
    }
    let mark = args.data.join(MARK);
    if args.data.exists() && !mark.exists() && args.data.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(
            Failure::usage(format_args!("{} holds something else", args.data.display()))
                .advise("name another directory with --data"),
        );
    }
    if args.fresh && mark.exists() {
        std::fs::remove_dir_all(&args.data).map_err(|error| file_failure("delete", &args.data, &error))?;
    }
    std::fs::create_dir_all(&args.data).map_err(|error| file_failure("make", &args.data, &error))?;
    std::fs::write(&mark, "made by `halcyon dev`\n").map_err(|error| file_failure("write", &mark, &error))
}

/// The first start: one node bootstraps, the others join.
async fn boot(args: &Dev) -> Result<Vec<Node>, Failure> {
    let progress = Progress::new("starting", "regions", REGIONS.len() as u64);
    let mut nodes = vec![process::start(config(args, 0, Start::Bootstrap)?).await?];
    process::until_ready(&nodes[0], READY_MAX).await?;
    progress.add(1);
    let admin = admin(args).await?;
    for at in 1..REGIONS.len() {
        nodes.push(join(args, at, &admin).await?);
        progress.add(1);
    }
    progress.done();
    Ok(nodes)
}

/// A later start: all at once, because the control plane needs two of them to agree.
async fn resume(args: &Dev) -> Result<Vec<Node>, Failure> {
    let progress = Progress::new("starting again", "regions", REGIONS.len() as u64);
    let (known, new): (Vec<usize>, Vec<usize>) =
        (0..REGIONS.len()).partition(|&at| has_identity(&node_dir(args, REGIONS[at])));
    let mut starts = Vec::new();
    for at in known {
        let config = config(args, at, Start::Resume)?;
        let progress = &progress;
        starts.push(async move {
            let node = process::start(config).await;
            progress.add(1);
            node
        });
    }
    let mut nodes = futures::future::try_join_all(starts).await?;
    for node in &nodes {
        process::until_ready(node, READY_MAX).await?;
    }
    if !new.is_empty() {
        let admin = admin(args).await?;
        for at in new {
            nodes.push(join(args, at, &admin).await?);
            progress.add(1);
        }
    }
    progress.done();
    Ok(nodes)
}

async fn join(args: &Dev, at: usize, admin: &AdminClient) -> Result<Node, Failure> {
    let answer = admin
        .create_token(v1::CreateTokenRequest { lifetime_ms: 0 })
        .await
        .map_err(connect::admin_failure)?;
    let start = Start::from_flags(false, Some(&answer.token)).map_err(Failure::failed)?;
    process::start(config(args, at, start)?).await
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
        json: false,
    }
}

async fn admin(args: &Dev) -> Result<AdminClient, Failure> {
    connect::admin(&dev_globals(args, None)).await
}

/// Makes sure that the tenant is there, serves everywhere, and has its data. Returns the live triples it holds.
async fn tenant(args: &Dev) -> Result<u64, Failure> {
    let admin = admin(args).await?;
    let key = tenant_key(args, &admin).await?;
    until_active(&admin).await?;
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
    triples_held(&admin).await
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

async fn until_active(admin: &AdminClient) -> Result<(), Failure> {
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
            if tenant.regions.iter().all(serves) {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(READY_MAX, active).await.unwrap_or_else(|_| {
        Err(Failure::failed(format_args!("tenant {DEV_TENANT} does not serve in all regions")).advise("halcyon status"))
    })
}

/// Writes the generated data, one change set for each entity, as an app would.
async fn seed(client: &Client, amount: Amount) -> Result<(), Failure> {
    let entities = generate::tracker(amount);
    let progress = Progress::new("filling the demo tenant", "entities", entities.len() as u64);
    let mut flying = VecDeque::new();
    for entity in entities {
        if flying.len() == SETS_IN_FLIGHT {
            acknowledged(&mut flying).await?;
            progress.add(1);
        }
        flying.push_back(client.write(entity.changes).await.map_err(connect::write_failure)?);
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

fn summary(args: &Dev, globals: &Globals, nodes: &[Node], triples: u64, resumed: bool, took: Duration) {
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
        output::tint(Tone::Good, &format!("Three regions {verb}")),
        output::duration(took)
    ));
    let mut rows = output::Rows::new(&["node", "region", "clients", "peers"]);
    for node in nodes {
        let (clients, peers) = (node.client_address().to_owned(), node.peer_address().to_owned());
        rows.push([node.id().to_string(), region_of(node), clients, peers]);
    }
    rows.print();
    let data = if triples > 0 {
        format!(", {} triples of an issue tracker", output::count(triples))
    } else {
        String::new()
    };
    output::line(format!(
        "\ntenant            {DEV_TENANT}{data}\nits key           {}\nadmin credential  {}\n",
        key.display(),
        credential.display()
    ));
    output::line(format!(
        "{}  (in another terminal)\n",
        output::tint(Tone::Strong, "Try next")
    ));
    for command in try_next(args, &key, &credential) {
        output::line(format!("  {command}"));
    }
    output::line("\nCtrl-C stops all three; the next start goes on.");
    output::flush();
}

fn region_of(node: &Node) -> String {
    node.rooms().region.to_string()
}

fn try_next(args: &Dev, key: &Path, credential: &Path) -> Vec<String> {
    let mut commands = Vec::new();
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
    commands.extend([
        "halcyon status".to_owned(),
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
