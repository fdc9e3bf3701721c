//! The cluster of one run: its nodes, their ground, and the operator's commands.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tokio::{process::Command, time::timeout};

use super::{
    clock,
    ground::Ground,
    leftovers::RunDirectory,
    limits::{COMMAND_WITHIN, LOOK_EVERY, PLACED_WITHIN},
    links::Links,
    node::Node,
};

/// All nodes that were ever part of it. Fields are dropped in order: processes before what they stand on.
#[derive(Debug)]
pub(super) struct Cluster {
    /// `n1` is the first.
    pub(super) nodes: Vec<Node>,
    /// See there.
    pub(super) ground: Ground,
    /// See there.
    pub(super) links: Links,
    /// Where all files are.
    pub(super) directory: RunDirectory,
    halcyon: PathBuf,
    credential: String,
    keys: BTreeMap<String, String>,
    /// Nodes that an operator cannot ask now.
    pub(super) silent: Vec<usize>,
}

impl Cluster {
    /// Boots `count` nodes; the one at `small_disk` keeps its data on a disk that can be filled.
    pub(super) async fn boot(
        (ground, links): (Ground, Links),
        halcyon: PathBuf,
        count: usize,
        small_disk: Option<usize>,
    ) -> anyhow::Result<Self> {
        let mut cluster = Self {
            nodes: Vec::new(),
            ground,
            links,
            directory: RunDirectory::make()?,
            halcyon,
            credential: String::new(),
            keys: BTreeMap::new(),
            silent: Vec::new(),
        };
        for at in 0..count {
            cluster.add(small_disk == Some(at)).await?;
        }
        Ok(cluster)
    }

    /// Adds a node and waits until it serves: the first makes the cluster, the others join by token.
    pub(super) async fn add(&mut self, on_small_disk: bool) -> anyhow::Result<usize> {
        let at = self.nodes.len();
        self.ground.add_node().await?;
        let mut node = Node::new(at, self.directory.path(), self.ground.addresses(at));
        if on_small_disk {
            node.take_small_disk()?;
        }
        self.nodes.push(node);
        if at == 0 {
            self.start_with(at, &["--bootstrap"])?;
        } else {
            let token = self.operate(&["token", "create"]).await?;
            let token = token["token"].as_str().context("`token create` answers with a token")?;
            self.start_with(at, &["--join", token])?;
        }
        self.nodes[at].ready(&self.ground).await?;
        if at == 0 {
            let file = self.nodes[0].data.join("admin.credential");
            std::fs::read_to_string(&file)?.trim().clone_into(&mut self.credential);
        }
        Ok(at)
    }

    /// Starts a node that has a directory.
    pub(super) fn start(&mut self, at: usize) -> anyhow::Result<()> {
        self.start_with(at, &[])
    }

    /// Waits until a node serves.
    pub(super) async fn ready(&mut self, at: usize) -> anyhow::Result<()> {
        self.nodes[at].ready(&self.ground).await
    }

    /// Whether a node serves before the time is over.
    pub(super) async fn serves_within(&mut self, at: usize, within: Duration) -> bool {
        matches!(timeout(within, self.ready(at)).await, Ok(Ok(())))
    }

    /// Members that hold data, by place.
    pub(super) fn members(&self) -> Vec<usize> {
        self.nodes
            .iter()
            .filter(|node| node.is_member)
            .map(|node| node.at)
            .collect()
    }

    /// Runs an operator's command against the nodes that can be asked, and reads its JSON.
    pub(super) async fn operate(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let (code, value, said) = self.run(arguments).await?;
        ensure!(code == 0, "`halcyon {}` ended with {code}: {said}", arguments.join(" "));
        Ok(value)
    }

    /// What `halcyon verify` says about a tenant.
    pub(super) async fn verify(&self, tenant: &str) -> anyhow::Result<Value> {
        let (code, value, said) = self.run(&["verify", "--tenant", tenant]).await?;
        ensure!(
            value["replicas"].is_array(),
            "`halcyon verify` ended with {code}: {said}"
        );
        Ok(value)
    }

    /// Makes a tenant and waits until all its replicas serve.
    pub(super) async fn tenant(&mut self, name: &str, regions: &[&str]) -> anyhow::Result<()> {
        let nodes = self.nodes.len().div_ceil(super::links::REGIONS.len()).to_string();
        let list = regions.join(",");
        let made = self
            .operate(&[
                "tenant",
                "create",
                name,
                "--regions",
                &list,
                "--nodes-per-region",
                &nodes,
            ])
            .await?;
        let key = made["key"].as_str().context("`tenant create` answers with a key")?;
        self.keys.insert(name.to_owned(), key.to_owned());
        let begun = clock::now();
        while !self.is_placed(name, None).await? {
            ensure!(clock::now() < begun + PLACED_WITHIN, "{name} is not placed in time");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Whether all replicas of a tenant serve, and none is on `not_on`.
    pub(super) async fn is_placed(&self, tenant: &str, not_on: Option<u64>) -> anyhow::Result<bool> {
        let shown = self.operate(&["tenant", "show", tenant]).await?;
        let replicas = shown["replicas"].as_array().cloned().unwrap_or_default();
        Ok(!replicas.is_empty()
            && replicas
                .iter()
                .all(|replica| replica["state"] == "active" && replica["node"].as_u64() != not_on))
    }

    /// A tenant's key.
    pub(super) fn key(&self, tenant: &str) -> String {
        self.keys.get(tenant).cloned().unwrap_or_default()
    }

    /// The node that leads the control plane.
    pub(super) async fn leader(&self) -> anyhow::Result<usize> {
        let status = self.operate(&["status"]).await?;
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        let leader = nodes.iter().find(|node| node["role"] == "leader");
        let Some(address) = leader.and_then(|node| node["client_address"].as_str()) else {
            bail!("`halcyon status` names no leader: {status}");
        };
        let found = self.nodes.iter().position(|node| node.client_address == address);
        found.with_context(|| format!("the leader at {address} is none of ours"))
    }

    /// The number under which the cluster knows a node.
    pub(super) async fn number_of(&self, at: usize) -> anyhow::Result<u64> {
        let nodes = self.operate(&["node", "list"]).await?;
        let address = self.nodes[at].client_address.as_str();
        let mut all = nodes.as_array().into_iter().flatten();
        let node = all.find(|node| node["client_address"] == address);
        node.and_then(|node| node["node"].as_u64())
            .with_context(|| format!("`halcyon node list` does not know {address}"))
    }

    fn start_with(&mut self, at: usize, arguments: &[&str]) -> anyhow::Result<()> {
        let halcyon = self.halcyon.clone();
        self.nodes[at].start(&self.ground, &halcyon, arguments)
    }

    async fn run(&self, arguments: &[&str]) -> anyhow::Result<(i32, Value, String)> {
        let asked = self
            .nodes
            .iter()
            .filter(|node| node.is_member && !self.silent.contains(&node.at));
        let addresses: Vec<&Node> = asked.collect();
        let seat = addresses.first().context("no node is left to ask")?.at;
        let list: Vec<&str> = addresses.iter().map(|node| node.client_address.as_str()).collect();
        let program = program_of(&self.halcyon)?;
        let mut command = Command::from(self.ground.command(seat, program));
        command
            .arg("--json")
            .args(arguments)
            .env("NO_COLOR", "1")
            .env("HALCYON_CLUSTER", list.join(","))
            .env("HALCYON_ADMIN", &self.credential)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = timeout(COMMAND_WITHIN, command.output())
            .await
            .with_context(|| format!("`halcyon {}` takes longer than {COMMAND_WITHIN:?}", arguments.join(" ")))??;
        let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Ok((output.status.code().unwrap_or(-1), value, said))
    }
}

fn program_of(halcyon: &Path) -> anyhow::Result<&str> {
    halcyon.to_str().context("the path of halcyon is not UTF-8")
}
