//! Carries out faults on a running cluster, and mends what can be mended.

use std::time::Duration;

use anyhow::ensure;
use rustix::process::Signal;

use super::{
    clock,
    cluster::Cluster,
    ledger::Book,
    limits::{GOES_ON_WITHIN, LOOK_EVERY, PLACED_WITHIN},
    links::{Link, region_of},
    scenario::{Fault, Kind},
    tenants,
    watcher::Watcher,
};

/// What is left of a slow link: less than what the clients of a run write.
const SLOW_BYTES_PER_SECOND: u64 = 3_000;

/// What is lost on a lossy link.
const LOSS_PERMILLE: u16 = 50;

/// A fault as it happened.
#[derive(Debug, Clone)]
pub(super) struct Happened {
    /// See there.
    pub(super) kind: Kind,
    /// The node's place.
    pub(super) node: usize,
    /// What was done, in a sentence.
    pub(super) what: String,
    /// When it struck, by the run's clock.
    pub(super) began: Duration,
    /// When it was mended.
    pub(super) healed: Duration,
    /// What the cluster did not do by itself, so that the command had to help.
    pub(super) helped: Option<String>,
}

/// What faults act on.
#[derive(Debug)]
pub(super) struct Stage {
    /// See there.
    pub(super) cluster: Cluster,
    /// See there.
    pub(super) book: Book,
    /// One for each node and tenant.
    pub(super) watchers: Vec<Watcher>,
}

impl Stage {
    /// Strikes, waits, mends, and says what happened.
    pub(super) async fn carry_out(&mut self, fault: Fault, load_began: Duration) -> anyhow::Result<Happened> {
        clock::sleep_until(load_began + fault.begin).await;
        let node = match fault.kind {
            Kind::IsolateLeader => self.cluster.leader().await?,
            _ => fault.node,
        };
        let began = clock::now();
        let what = self.strike(fault.kind, node).await?;
        clock::sleep_until(load_began + fault.end).await;
        let helped = self.mend(fault.kind, node).await?;
        Ok(Happened {
            kind: fault.kind,
            node,
            what,
            began,
            healed: clock::now(),
            helped,
        })
    }

    async fn strike(&mut self, kind: Kind, node: usize) -> anyhow::Result<String> {
        let name = format!("{} in {}", self.cluster.nodes[node].name(), region_of(node));
        match kind {
            Kind::IsolateLeader => {
                self.around(&[node], |link| link.cut = true, true)?;
                self.cluster.silent.push(node);
                Ok(format!("{name}, the leader, is cut off from all others"))
            }
            Kind::Partition => {
                let region = self.region_around(node);
                self.around(&region, |link| link.cut = true, true)?;
                self.cluster.silent = region;
                Ok(format!("{name} is cut off from all other regions"))
            }
            Kind::OneWay => {
                let region = self.region_around(node);
                self.around(&region, |link| link.cut = true, false)?;
                self.cluster.silent = region;
                Ok(format!("what {name} sends is lost"))
            }
            Kind::SlowDown => {
                let region = self.region_around(node);
                let slow = |link: &mut Link| link.bytes_per_second = Some(SLOW_BYTES_PER_SECOND);
                self.around(&region, slow, true)?;
                let rate = SLOW_BYTES_PER_SECOND / 1_000;
                Ok(format!("{name} hangs on {rate} kB/s to each other region"))
            }
            Kind::LosePackets => {
                for node in self.cluster.members() {
                    self.around(&[node], |link| link.loss_permille = LOSS_PERMILLE, false)?;
                }
                Ok(format!("{}% of all packets between nodes are lost", LOSS_PERMILLE / 10))
            }
            Kind::KillHard => {
                self.cluster.silent.push(node);
                self.cluster.nodes[node].kill();
                Ok(format!("{name} is killed (-9)"))
            }
            Kind::Pause => {
                self.cluster.silent.push(node);
                self.cluster.nodes[node].signal(Signal::STOP)?;
                Ok(format!("{name} is frozen (SIGSTOP)"))
            }
            Kind::FillDisk => {
                let filled = self.cluster.nodes[node].fill_disk()?;
                Ok(format!("the disk of {name} is full ({filled} bytes of ballast)"))
            }
            Kind::Lose => self.lose(node, &name).await,
            Kind::Replace => self.replace(node, &name).await,
            Kind::RestartAll => self.restart_all().await,
        }
    }

    async fn mend(&mut self, kind: Kind, node: usize) -> anyhow::Result<Option<String>> {
        let mut helped = None;
        match kind {
            Kind::Partition | Kind::IsolateLeader | Kind::OneWay | Kind::SlowDown | Kind::LosePackets => {
                self.cluster.links.heal();
                self.cluster.ground.apply()?;
            }
            Kind::KillHard => {
                self.cluster.start(node)?;
                self.cluster.ready(node).await?;
            }
            Kind::Pause => self.cluster.nodes[node].signal(Signal::CONT)?,
            Kind::FillDisk => helped = self.mend_disk(node).await?,
            Kind::Lose | Kind::Replace | Kind::RestartAll => {}
        }
        self.cluster.silent.clear();
        Ok(helped)
    }

    /// A node may end itself on a full disk, as stores do, and its supervisor (here: the command) starts it again. One
    /// that neither ends nor goes on has to be helped.
    async fn mend_disk(&mut self, node: usize) -> anyhow::Result<Option<String>> {
        self.cluster.nodes[node].free_disk()?;
        let ended = !self.cluster.nodes[node].is_running();
        if !ended && self.cluster.serves_within(node, GOES_ON_WITHIN).await {
            return Ok(None);
        }
        self.cluster.nodes[node].kill();
        self.cluster.start(node)?;
        self.cluster.ready(node).await?;
        let name = self.cluster.nodes[node].name();
        let helped = format!("{name} neither ended nor went on within {GOES_ON_WITHIN:?} and was started again");
        Ok((!ended).then_some(helped))
    }

    /// The members in the region of a node.
    fn region_around(&self, node: usize) -> Vec<usize> {
        let mut members = self.cluster.members();
        members.retain(|member| region_of(*member) == region_of(node));
        members
    }

    /// Changes the links from some nodes to all others, and the ways back.
    fn around(&self, some: &[usize], change: fn(&mut Link), both_ways: bool) -> anyhow::Result<()> {
        let mut others = self.cluster.members();
        others.retain(|other| !some.contains(other));
        for node in some {
            for other in &others {
                self.cluster.links.change(*node, *other, change);
                if both_ways {
                    self.cluster.links.change(*other, *node, change);
                }
            }
        }
        Ok(self.cluster.ground.apply()?)
    }

    async fn lose(&mut self, node: usize, name: &str) -> anyhow::Result<String> {
        let number = self.cluster.number_of(node).await?;
        self.retire(node);
        self.cluster.nodes[node].kill();
        std::fs::remove_dir_all(&self.cluster.nodes[node].data)?;
        self.cluster
            .operate(&["node", "remove", &number.to_string(), "--force"])
            .await?;
        Ok(format!("{name} is gone with its disk, and removed by force"))
    }

    async fn replace(&mut self, node: usize, name: &str) -> anyhow::Result<String> {
        let number = self.cluster.number_of(node).await?;
        let new = self.cluster.add(false).await?;
        self.cluster.operate(&["node", "drain", &number.to_string()]).await?;
        let begun = clock::now();
        for (tenant, _) in tenants() {
            while !self.cluster.is_placed(tenant, Some(number)).await? {
                ensure!(
                    clock::now() < begun + PLACED_WITHIN,
                    "{name} is drained, but {tenant} is still there after {PLACED_WITHIN:?}"
                );
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        self.retire(node);
        self.cluster.operate(&["node", "remove", &number.to_string()]).await?;
        if self.cluster.nodes[node].is_running() {
            self.cluster.nodes[node].stop().await?;
        }
        for (tenant, regions) in tenants() {
            if regions.contains(&region_of(new)) {
                let watcher = Watcher::start(&self.cluster, &self.book, new, tenant).await?;
                self.watchers.push(watcher);
            }
        }
        Ok(format!("{name} is drained and removed, n{} takes its place", new + 1))
    }

    async fn restart_all(&mut self) -> anyhow::Result<String> {
        let members = self.cluster.members();
        for node in members.iter().copied() {
            self.cluster.silent = vec![node];
            self.cluster.nodes[node].stop().await?;
            self.cluster.start(node)?;
            self.cluster.ready(node).await?;
        }
        Ok(format!("{} nodes are stopped and started again in turn", members.len()))
    }

    /// From here on nobody expects anything of this node.
    fn retire(&mut self, node: usize) {
        self.cluster.nodes[node].is_member = false;
        self.watchers.retain(|watcher| watcher.place != node);
    }
}
