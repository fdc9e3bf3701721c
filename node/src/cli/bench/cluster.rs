//! Nodes as child processes on loopback, for measurements that need real processes. They end with this one, and their
//! directory goes with them.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use halcyon_client::{AdminClient, Client, ClientOptions, ConnectError, ErrorCode, Outbox};
use halcyon_proto::v1;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::cli::{
    Globals, TIMEOUT, connect,
    failure::{Failure, file_failure},
};

/// How long a node may take to start, a tenant to be active, replicas to agree.
const DEADLINE: Duration = Duration::from_mins(5);

/// Time between two looks at a state that a measurement waits for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long it may take until every node has heard of a new tenant.
const KNOWN_MAX: Duration = Duration::from_secs(5);

/// Of the tenant that the measurements write to.
pub const TENANT: &str = "bench";

/// One child.
#[derive(Debug)]
pub struct Node {
    /// Its region, and its directory's name.
    pub region: String,
    /// Where clients reach it.
    pub client_address: String,
    peer_address: String,
    /// Its directory.
    pub dir: PathBuf,
    child: Child,
}

/// Nodes of one cluster.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    /// In the order they were started.
    pub nodes: Vec<Node>,
}

/// How a child comes to its cluster.
enum Entry<'a> {
    Bootstrap,
    Join(&'a str),
    Again,
}

impl Cluster {
    /// Starts one node in each region. The first bootstraps, the others join by token.
    pub async fn start(parent: &Path, regions: &[&str]) -> Result<Self, Failure> {
        let suffix = hex::encode(connect::random_bytes(6));
        let dir = parent.join(format!("halcyon-bench-{suffix}"));
        std::fs::create_dir_all(&dir).map_err(|error| file_failure("make", &dir, &error))?;
        let mut cluster = Self { dir, nodes: Vec::new() };
        for region in regions {
            cluster.add(region).await?;
        }
        Ok(cluster)
    }

    /// Starts one more node.
    pub async fn add(&mut self, region: &str) -> Result<(), Failure> {
        let dir = self.dir.join(region);
        let any = "127.0.0.1:0".to_owned();
        let node = if self.nodes.is_empty() {
            spawn(region, &dir, [&any, &any], Entry::Bootstrap).await?
        } else {
            let admin = self.admin().await?;
            let token = admin
                .create_token(v1::CreateTokenRequest { lifetime_ms: 0 })
                .await
                .map_err(connect::admin_failure)?
                .token;
            spawn(region, &dir, [&any, &any], Entry::Join(&token)).await?
        };
        self.nodes.push(node);
        if self.nodes.len() == 1 {
            until_leader(&self.admin().await?).await?;
        }
        Ok(())
    }

    /// Kills a node as a power cut would.
    pub async fn kill(&mut self, at: usize) -> Result<(), Failure> {
        self.nodes[at]
            .child
            .kill()
            .await
            .map_err(|error| Failure::failed(format_args!("cannot kill a node: {error}")))
    }

    /// Starts a killed node again, on the same directory and addresses.
    pub async fn restart(&mut self, at: usize) -> Result<(), Failure> {
        let node = &self.nodes[at];
        let (region, dir) = (node.region.clone(), node.dir.clone());
        let addresses = [node.client_address.clone(), node.peer_address.clone()];
        self.nodes[at] = spawn(&region, &dir, [&addresses[0], &addresses[1]], Entry::Again).await?;
        Ok(())
    }

    /// An operator's client, by way of the first node.
    pub async fn admin(&self) -> Result<AdminClient, Failure> {
        self.admin_at(0).await
    }

    /// An operator's client, by way of this node.
    pub async fn admin_at(&self, at: usize) -> Result<AdminClient, Failure> {
        let credential = self.nodes[0].dir.join("admin.credential");
        let globals = Globals {
            cluster: vec![self.nodes[at].client_address.clone()],
            admin_credential: Some(credential.display().to_string()),
            key: None,
            ca: None,
            timeout: TIMEOUT,
            linearizable: false,
            pin: false,
            json: false,
        };
        connect::admin(&globals).await
    }

    /// Makes the tenant and waits until it serves everywhere. Returns its key.
    pub async fn tenant(&self, regions: &[&str]) -> Result<String, Failure> {
        let admin = self.admin().await?;
        let request = v1::CreateTenantRequest {
            name: TENANT.to_owned(),
            regions: regions.iter().map(|region| (*region).to_owned()).collect(),
            home: String::new(),
            nodes_per_region: 1,
        };
        let key = admin.create_tenant(request).await.map_err(connect::admin_failure)?.key;
        until_active(&admin, regions.len()).await?;
        Ok(key)
    }

    /// A client that speaks to this node alone.
    pub async fn client(&self, at: usize, key: &str) -> Result<Client, Failure> {
        pinned_client(&self.nodes[at].client_address, TENANT, key).await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.child.start_kill();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Node {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// Resident memory now, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        proc_status_kib(self.pid(), "VmRSS:") * 1024
    }

    /// The most resident memory it ever had, in bytes.
    pub fn resident_bytes_max(&self) -> u64 {
        proc_status_kib(self.pid(), "VmHWM:") * 1024
    }

    /// Bytes that its files take on the disk.
    pub fn disk_bytes(&self) -> u64 {
        disk_bytes(&self.dir)
    }

    /// Processor time it has used.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        // A tick is 10 ms on every Linux that runs this.
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }
}

/// A client that speaks to one address alone.
pub async fn pinned_client(address: &str, tenant: &str, key: &str) -> Result<Client, Failure> {
    let globals = Globals {
        cluster: vec![address.to_owned()],
        admin_credential: None,
        key: Some(key.to_owned()),
        ca: None,
        timeout: TIMEOUT,
        linearizable: false,
        pin: false,
        json: false,
    };
    let options = ClientOptions {
        addresses: vec![address.to_owned()],
        tenant: tenant.to_owned(),
        key: key.to_owned(),
        outbox: Outbox::Memory,
        forward: true,
        ..ClientOptions::default()
    };
    let started = connect::clock().monotonic();
    loop {
        match Client::connect(connect::env()?, options.clone()).await {
            Ok(client) => return Ok(client),
            // A tenant that was made by way of another node is known here a moment later.
            Err(ConnectError::Refused(refusal))
                if refusal.code == ErrorCode::NotFound
                    && connect::clock().monotonic().saturating_sub(started) < KNOWN_MAX =>
            {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Err(error) => return Err(connect::connect_failure(error, &globals)),
        }
    }
}

/// Waits until the control plane has a leader.
async fn until_leader(admin: &AdminClient) -> Result<(), Failure> {
    until("the control plane has no leader", async || {
        let status = admin
            .status(v1::StatusRequest::default())
            .await
            .map_err(connect::admin_failure)?;
        Ok(status.quorum)
    })
    .await
}

/// Waits until this many replicas of the tenant serve and none moves.
pub async fn until_active(admin: &AdminClient, replicas: usize) -> Result<(), Failure> {
    until("the tenant does not serve everywhere", async || {
        let request = v1::TenantRequest {
            tenant: TENANT.to_owned(),
        };
        let tenant = admin.show_tenant(request).await.map_err(connect::admin_failure)?;
        let active = tenant
            .replicas
            .iter()
            .filter(|replica| replica.state == "active")
            .count();
        Ok(active == replicas && tenant.replicas.len() == replicas)
    })
    .await
}

/// Waits until all replicas agree. Returns the triples that each has.
pub async fn until_agreed(admin: &AdminClient) -> Result<u64, Failure> {
    let mut triples = 0;
    until("the replicas do not agree", async || {
        let request = v1::TenantRequest {
            tenant: TENANT.to_owned(),
        };
        let answer = admin.verify(request).await.map_err(connect::admin_failure)?;
        triples = answer.replicas.first().map_or(0, |replica| replica.triples);
        Ok(answer.agree)
    })
    .await?;
    Ok(triples)
}

async fn until(complaint: &str, mut is_so: impl AsyncFnMut() -> Result<bool, Failure>) -> Result<(), Failure> {
    let started = connect::clock().monotonic();
    while !is_so().await? {
        if connect::clock().monotonic().saturating_sub(started) > DEADLINE {
            return Err(Failure::failed(format_args!(
                "{complaint} after {} s",
                DEADLINE.as_secs()
            )));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

async fn spawn(region: &str, dir: &Path, addresses: [&str; 2], entry: Entry<'_>) -> Result<Node, Failure> {
    let failure = |error: std::io::Error| Failure::failed(format_args!("cannot start a node: {error}"));
    let program = std::env::current_exe().map_err(failure)?;
    let mut command = Command::new(program);
    command
        .args(["node", "start", "--json", "--region", region, "--data"])
        .arg(dir);
    command.args(["--listen", addresses[0], "--peer-listen", addresses[1]]);
    match entry {
        Entry::Bootstrap => drop(command.arg("--bootstrap")),
        Entry::Join(token) => drop(command.args(["--join", token])),
        Entry::Again => {}
    }
    command
        .env("HALCYON_LOG_FILTER", "error")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(failure)?;
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| Failure::failed("a node has no stdout"))?;
    let mut lines = BufReader::new(stdout).lines();
    let line = tokio::time::timeout(DEADLINE, lines.next_line()).await;
    let Ok(Ok(Some(line))) = line else {
        return Err(Failure::failed(format_args!(
            "the node in {region} did not start; its message is above"
        )));
    };
    let said: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
    let address = |key: &str| {
        said.get(key)
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    Ok(Node {
        region: region.to_owned(),
        client_address: address("client_address"),
        peer_address: address("peer_address"),
        dir: dir.to_owned(),
        child,
    })
}

fn proc_status_kib(pid: u32, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Bytes that the files under `dir` take, holes not counted.
pub fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
