//! A cluster of real processes on loopback, driven by the command line.
//!
//! When a test fails, the ends of all logs are printed. When it ends, every process is killed.

use std::{collections::BTreeMap, path::Path, path::PathBuf};

use halcyon_client::ClientOptions;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    command::{self, Answer, Running},
    links::{Link, Links, PROGRAM},
    load::Door,
    ports::free_port,
    process::Process,
    program::Program,
    wait,
};

/// Three regions far apart, as the examples have them.
pub const REGIONS: [&str; 3] = ["eu-west", "us-east", "ap-south"];

/// Nodes, the links between them, and the tenants that were made.
#[derive(Debug)]
pub struct Cluster {
    /// `n1` is `nodes[0]`, and has the admin credential in its directory.
    pub nodes: Vec<Process>,
    /// What can be cut.
    pub links: Links,
    /// Programs are told doors as well.
    doors_for_programs: bool,
    keys: BTreeMap<String, String>,
    dir: TempDir,
}

impl Cluster {
    /// Boots one node for each region: the first with `--bootstrap`, the others by a token of the first.
    #[track_caller]
    pub fn boot(regions: &[&str]) -> Self {
        Self::boot_with(regions, false)
    }

    /// The same, and the links between a test's own [`Program`]s and the nodes can be slowed too: the side is
    /// [`PROGRAM`].
    #[track_caller]
    pub fn boot_with_doors_for_programs(regions: &[&str]) -> Self {
        Self::boot_with(regions, true)
    }

    #[track_caller]
    fn boot_with(regions: &[&str], doors_for_programs: bool) -> Self {
        let links = Links::default();
        links.owned_by(std::process::id(), PROGRAM);
        let mut cluster = Self {
            nodes: Vec::new(),
            links,
            doors_for_programs,
            keys: BTreeMap::new(),
            dir: tempfile::tempdir().expect("a temporary directory can be made"),
        };
        for (at, region) in regions.iter().enumerate() {
            if at == 0 {
                cluster.add(region, &["--bootstrap"]);
            } else {
                cluster.join(region);
            }
        }
        cluster
    }

    /// Adds a node by a new token, and returns its place once it is ready.
    #[track_caller]
    pub fn join(&mut self, region: &str) -> usize {
        let token = self.token();
        self.add(region, &["--join", &token])
    }

    /// Adds a node that is started with `arguments`, and returns its place once it is ready.
    #[track_caller]
    pub fn add(&mut self, region: &str, arguments: &[&str]) -> usize {
        let at = self.prepare(region);
        self.start_with(at, arguments);
        at
    }

    /// Adds a node that is not started.
    pub fn prepare(&mut self, region: &str) -> usize {
        let at = self.nodes.len();
        let mut node = Process::new(self.dir.path(), &format!("n{}", at + 1), region, free_port());
        self.links.open_door(at, node.advertised_peer_port, node.peer_port);
        if self.doors_for_programs {
            let port = free_port();
            node.advertised_client_port = Some(port);
            self.links.open_door(at, port, node.client_port);
        }
        self.nodes.push(node);
        at
    }

    /// Starts a node that has a directory already.
    #[track_caller]
    pub fn start(&mut self, at: usize) {
        self.start_with(at, &[]);
    }

    /// Starts a node without waiting until it serves.
    #[track_caller]
    pub fn spawn(&mut self, at: usize, arguments: &[&str]) {
        self.nodes[at].start(arguments);
        if let Some(pid) = self.nodes[at].pid() {
            self.links.owned_by(pid, at);
        }
    }

    /// Holds all bytes between one node and the others.
    pub fn partition(&self, at: usize) {
        self.links.set_around(at, 0..self.nodes.len(), Link::Held);
    }

    /// Runs a command against the nodes that run, as an operator.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Answer {
        let addresses: Vec<String> = self.running().map(|at| self.address(at)).collect();
        self.run_at(&addresses.join(","), arguments)
    }

    /// Runs a command against one node.
    #[track_caller]
    pub fn run_on(&self, at: usize, arguments: &[&str]) -> Answer {
        self.run_at(&self.address(at), arguments)
    }

    /// Runs a command that is told several nodes, in this order.
    #[track_caller]
    pub fn run_along(&self, places: &[usize], arguments: &[&str]) -> Answer {
        let addresses: Vec<String> = places.iter().map(|at| self.address(*at)).collect();
        self.run_at(&addresses.join(","), arguments)
    }

    /// Runs a command and reads its JSON.
    #[track_caller]
    pub fn ask(&self, arguments: &[&str]) -> Value {
        self.run(&[&["--json"], arguments].concat()).ok().json()
    }

    /// A join token.
    #[track_caller]
    pub fn token(&self) -> String {
        let answer = self.ask(&["token", "create"]);
        answer["token"]
            .as_str()
            .expect("`token create` answers with a token")
            .to_owned()
    }

    /// Makes a tenant and waits until all its replicas serve.
    #[track_caller]
    pub fn tenant(&mut self, name: &str, regions: &[&str]) {
        let answer = self.ask(&["tenant", "create", name, "--regions", &regions.join(",")]);
        let key = answer["key"].as_str().expect("`tenant create` answers with a key");
        self.keys.insert(name.to_owned(), key.to_owned());
        wait::until(&format!("{name} is placed"), wait::SOON, || {
            let states = self.replica_states(name);
            (states.len() >= regions.len() && states.iter().all(|(_, state)| state == "active")).then_some(())
        });
    }

    /// A tenant's access key.
    #[track_caller]
    pub fn key(&self, tenant: &str) -> &str {
        self.keys
            .get(tenant)
            .unwrap_or_else(|| panic!("no test made the tenant {tenant}"))
    }

    /// Where a tenant lies: the names of the nodes and the states of its replicas there.
    #[track_caller]
    pub fn replica_states(&self, tenant: &str) -> Vec<(u64, String)> {
        let shown = self.ask(&["tenant", "show", tenant]);
        let replicas = shown["replicas"].as_array().cloned().unwrap_or_default();
        let state = |replica: &Value| {
            let node = replica["node"].as_u64().unwrap_or_default();
            (node, replica["state"].as_str().unwrap_or_default().to_owned())
        };
        replicas.iter().map(state).collect()
    }

    /// Waits until all replicas of a tenant hold the same, and says what.
    #[track_caller]
    pub fn settle(&self, tenant: &str) -> Value {
        wait::until(&format!("{tenant} agrees"), wait::LONG, || self.verify(tenant))
    }

    /// What `verify` says, if all replicas agree now.
    #[track_caller]
    pub fn verify(&self, tenant: &str) -> Option<Value> {
        let answer = self.run(&["--json", "verify", "--tenant", tenant]);
        (answer.code == 0).then(|| answer.json())
    }

    /// Opens a tenant at one node, for loads and for bytes that no honest client sends.
    #[track_caller]
    pub fn door(&self, at: usize, tenant: &str) -> Door {
        Door::open(self.nodes[at].client_port, tenant, self.key(tenant))
    }

    /// Where clients reach a node.
    pub fn address(&self, at: usize) -> String {
        format!("127.0.0.1:{}", self.nodes[at].client_port)
    }

    /// Where a node says that programs reach it.
    pub fn advertised_address(&self, at: usize) -> String {
        let node = &self.nodes[at];
        format!("127.0.0.1:{}", node.advertised_client_port.unwrap_or(node.client_port))
    }

    /// Where the cluster's files are.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A file in the cluster's directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The admin credential, as bootstrap left it.
    pub fn admin_credential(&self) -> PathBuf {
        self.nodes[0].data.join("admin.credential")
    }

    /// Runs a command with a tenant's key and one node.
    #[track_caller]
    pub fn run_keyed(&self, at: usize, tenant: &str, arguments: &[&str]) -> Answer {
        let variables = self.keyed(at, tenant);
        let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
        command::halcyon(&[arguments, &["--tenant", tenant]].concat(), &variables)
    }

    /// Starts such a command and goes on; what it says goes to the file `out` in the cluster's directory.
    #[track_caller]
    pub fn start_keyed(&self, at: usize, tenant: &str, arguments: &[&str], out: &str) -> Running {
        let variables = self.keyed(at, tenant);
        let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
        Running::halcyon(
            &[arguments, &["--tenant", tenant]].concat(),
            &variables,
            &self.file(out),
        )
    }

    fn keyed(&self, at: usize, tenant: &str) -> [(&'static str, String); 3] {
        [
            ("HALCYON_CLUSTER", self.address(at)),
            ("HALCYON_ADMIN", self.admin_credential().display().to_string()),
            ("HALCYON_KEY", self.key(tenant).to_owned()),
        ]
    }

    /// What a program is told that knows all nodes that run.
    #[track_caller]
    pub fn options(&self, tenant: &str) -> ClientOptions {
        ClientOptions {
            addresses: self.running().map(|at| self.address(at)).collect(),
            tenant: tenant.to_owned(),
            key: self.key(tenant).to_owned(),
            ..ClientOptions::default()
        }
    }

    /// Such a program, connected.
    #[track_caller]
    pub fn program(&self, tenant: &str) -> Program {
        Program::open(self.options(tenant))
    }

    /// The number of triples that all replicas agree on.
    #[track_caller]
    pub fn settled_triples(&self, tenant: &str) -> u64 {
        let agreed = self.settle(tenant);
        agreed["replicas"][0]["triples"].as_u64().unwrap_or_default()
    }

    #[track_caller]
    fn run_at(&self, addresses: &str, arguments: &[&str]) -> Answer {
        let credential = self.admin_credential();
        let variables = [
            ("HALCYON_CLUSTER", addresses),
            ("HALCYON_ADMIN", credential.to_str().unwrap_or_default()),
        ];
        command::halcyon(arguments, &variables)
    }

    #[track_caller]
    fn start_with(&mut self, at: usize, arguments: &[&str]) {
        self.spawn(at, arguments);
        self.nodes[at].wait_ready();
    }

    fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|at| self.nodes[*at].pid().is_some())
    }
}

impl Drop for Cluster {
    #[expect(clippy::print_stderr, reason = "a failed test shows what the nodes said")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                eprintln!("---- {} ({})\n{}", node.name, node.region, node.log_tail());
            }
        }
    }
}
