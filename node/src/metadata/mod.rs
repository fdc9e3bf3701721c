//! The control plane: one Raft group over all nodes that holds nodes, tenants, settings and credentials.
//!
//! Reads are local and never wait ([`View`]). Writes go through the leader from any node ([`Metadata::write`]). The
//! data plane works from the view, so a region cut off from the quorum goes on with what it knows.
//!
//! `state`, `apply`, `placement` and `voters` are pure. `log_store` and `state_store` keep them; `network` carries
//! Raft's calls; `reconciler` keeps membership and placements in line; `propose` is the way of a write.

mod answered;
mod append_stream;
mod apply;
#[cfg(test)]
mod apply_tests;

mod checks;
pub mod command;
pub mod limits;
mod log_file;
mod log_store;
mod log_tail;
mod log_writer;
mod network;
pub mod placement;
mod propose;
mod reconciler;
pub mod runtime;
mod server;
pub mod settings;
pub mod state;
mod state_store;
#[cfg(test)]
mod storage_tests;
mod tables;
mod tasks;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod types;
mod view;
mod voters;

use std::{collections::BTreeSet, fmt, io, sync::Arc, time::Duration};

use halcyon_core::{
    env::Env,
    id::NodeId,
    mutant::{self, Mutant},
};
use openraft::{EmptyNode, Instant, SnapshotPolicy, async_runtime::WatchReceiver};
use thiserror::Error;
use tokio::{
    sync::{Mutex, watch},
    time::{sleep, timeout},
};

use self::{
    command::Command,
    limits::{ENTRIES_KEPT, LET_GO_DEADLINE, LET_GO_LOOK, SNAPSHOT_EVERY_ENTRIES},
    log_store::LogStore,
    network::Network,
    server::Heard,
    state::{Node, SecretHash, State},
    state_store::StateStore,
    types::Raft,
    view::Shared,
};
pub use self::{propose::WriteError, server::RaftRpcError, types::TypeConfig, view::View};
use crate::peers::Pool;

/// How the control plane runs on this node.
#[derive(Debug, Clone)]
pub struct Options {
    /// How often a leader says that it is there. Also the deadline of an empty call, so it must be longer than the
    /// longest round trip between two nodes.
    pub heartbeat: Duration,
    /// A follower that has heard nothing for a time between these two stands for election.
    pub election: (Duration, Duration),
    /// How long a write or a barrier may take, elections included.
    pub deadline: Duration,
    /// Log entries between two snapshots.
    pub snapshot_entries: u64,
    /// Log entries kept behind a snapshot.
    pub kept_entries: u64,
}

impl Options {
    /// With a log that a minute outgrows, so that simulations send snapshots.
    #[must_use]
    const fn with_small_log(self) -> Self {
        Self {
            snapshot_entries: 64,
            kept_entries: 16,
            ..self
        }
    }
}

impl Default for Options {
    /// Fit for round trips of 320 ms (Sydney to São Paulo), also where they take twice as long for a while: an empty call
    /// has one heartbeat's time to be answered. Three in a row must be lost before an election; the spread of the
    /// election timeouts is five such round trips, so that one candidate is usually done before the next stands. A
    /// failed leader is replaced in two to six seconds; the data plane does not wait for it.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(700),
            election: (Duration::from_millis(2_200), Duration::from_millis(3_800)),
            deadline: Duration::from_secs(10),
            snapshot_entries: SNAPSHOT_EVERY_ENTRIES,
            kept_entries: ENTRIES_KEPT,
        }
    }
}

/// What the first node of a cluster brings.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// A nanoid.
    pub cluster: String,
    /// DER.
    pub ca_certificate: Vec<u8>,
    /// PKCS#8.
    pub ca_key: Vec<u8>,
    /// Hash of the first admin credential.
    pub admin: SecretHash,
    /// The node that bootstraps.
    pub node: Node,
}

/// Who does what in the group, as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    /// The leader, if one is known.
    pub leader: Option<NodeId>,
    /// Who votes by the committed configuration. While that is changing, whoever votes before and after: a group that
    /// grows cannot do without its old voters before its new ones are among these.
    pub voters: BTreeSet<NodeId>,
    /// Who votes in any configuration that is still in force, one on its way out included.
    pub needed: BTreeSet<NodeId>,
    /// Who follows without a vote.
    pub learners: BTreeSet<NodeId>,
    /// Whether a quorum answered the leader (or the leader called this node) not long ago: see `quorum_age`.
    pub has_quorum: bool,
    /// How long ago that was; `None` for never, or where no leader is known.
    pub quorum_age: Option<Duration>,
    /// The index of the last command applied here.
    pub index: u64,
    /// The term of the last election heard of.
    pub term: u64,
}

/// Why the control plane did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The disk, or what is on it.
    #[error("control plane: {0}")]
    Disk(#[from] io::Error),
    /// The options contradict each other.
    #[error("control plane: {0}")]
    Options(#[from] openraft::ConfigError),
    /// Raft found its files damaged or inconsistent.
    #[error("control plane: {0}")]
    Raft(String),
}

/// Why a cluster was not bootstrapped.
#[derive(Debug, Error)]
pub enum BootstrapError {
    /// The data directory belongs to a cluster.
    #[error("this node belongs to a cluster already")]
    AlreadyBootstrapped,
    /// Raft could not start the group.
    #[error("control plane: {0}")]
    Raft(String),
    /// The first command failed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The control plane on this node. Clones are handles to the same.
#[derive(Clone)]
pub struct Metadata {
    inner: Arc<Inner>,
}

struct Inner {
    env: Env,
    me: NodeId,
    raft: Raft,
    pool: Pool,
    log: LogStore,
    view: View,
    options: Options,
    heard: Heard,
    /// When the last shared barrier that was answered began, by the monotonic clock.
    fresh: Mutex<Option<Duration>>,
    stop: watch::Sender<bool>,
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("me", &self.inner.me)
            .finish_non_exhaustive()
    }
}

impl Metadata {
    /// Opens what the disk holds and takes part from there. A new node waits for [`Self::bootstrap`] or for a leader
    /// that has learned of it by its join.
    pub async fn start(env: &Env, me: NodeId, pool: Pool, options: Options) -> Result<Self, StartError> {
        runtime::set_process_entropy(env.entropy.clone());
        let options = if env.probe.rare("metadata.small-log") {
            options.with_small_log()
        } else {
            options
        };
        let config = Arc::new(raft_config(&options).validate()?);
        let log = LogStore::open(env).await?;
        let shared = Arc::new(Shared::new(State::default()));
        let state = StateStore::open(env, shared.clone()).await?;
        let view = View::new(shared);
        let network = Network { pool: pool.clone() };
        let raft = Raft::new(me.0, config, network, log.clone(), state)
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;
        let inner = Arc::new(Inner {
            env: env.clone(),
            me,
            raft,
            pool,
            log,
            view,
            options,
            heard: Heard::default(),
            fresh: Mutex::default(),
            stop: watch::Sender::new(false),
        });
        tasks::spawn(&inner);
        Ok(Self { inner })
    }

    /// Makes this node the first of a new cluster.
    pub async fn bootstrap(&self, init: Bootstrap) -> Result<(), BootstrapError> {
        let failed = |error: &dyn fmt::Display| BootstrapError::Raft(error.to_string());
        let raft = &self.inner.raft;
        let cluster = self.inner.view.read(|state| state.cluster.clone());
        if !cluster.is_empty() && cluster != init.cluster {
            return Err(BootstrapError::AlreadyBootstrapped);
        }
        // A bootstrap that was cut off between its two steps goes on with the second.
        if !raft.is_initialized().await.map_err(|error| failed(&error))? {
            #[expect(
                clippy::zero_sized_map_values,
                reason = "openraft's members map node ids to our empty node"
            )]
            let first = std::collections::BTreeMap::from([(self.inner.me.0, EmptyNode {})]);
            raft.initialize(first).await.map_err(|error| failed(&error))?;
        }
        let command = Command::Bootstrap {
            cluster: init.cluster,
            ca_certificate: init.ca_certificate,
            ca_key: init.ca_key,
            admin: init.admin,
            node: init.node,
        };
        match self.write(command).await {
            Ok(_) => Ok(()),
            Err(WriteError::Rejected(command::Refusal::AlreadyBootstrapped)) => {
                Err(BootstrapError::AlreadyBootstrapped)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The local state.
    pub fn view(&self) -> View {
        self.inner.view.clone()
    }

    /// Who does what in the group.
    pub fn roles(&self) -> Roles {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let effective = metrics.membership_config.membership();
        let committed = metrics.committed_membership_config.membership();
        let halves = committed.get_joint_config();
        let votes = |id: &u64| halves.iter().all(|half| half.contains(id));
        // Two rounds of elections: shorter silences are ordinary.
        let recent = self.inner.options.election.1 * 2;
        let needed: BTreeSet<_> = committed.voter_ids().chain(effective.voter_ids()).map(NodeId).collect();
        let quorum_age = match metrics.current_leader {
            None => None,
            // Raft asks nobody then, and so notes no answer.
            Some(leader) if leader == metrics.id && needed == [NodeId(leader)].into() => Some(Duration::ZERO),
            Some(leader) if leader == metrics.id => metrics.last_quorum_acked.as_ref().map(|acked| acked.elapsed()),
            Some(_) => self.inner.heard.since(&self.inner.env),
        };
        Roles {
            leader: metrics.current_leader.map(NodeId),
            voters: committed.voter_ids().filter(votes).map(NodeId).collect(),
            needed,
            learners: effective.learner_ids().map(NodeId).collect(),
            has_quorum: quorum_age.is_some_and(|age| age <= recent),
            quorum_age,
            index: self.inner.view.index(),
            term: metrics.current_term,
        }
    }

    /// Waits until a quorum is possible without a node that was removed; for [`LET_GO_DEADLINE`] at the most.
    pub async fn until_not_needed(&self, node: NodeId) -> bool {
        let let_go = async {
            while self.roles().needed.contains(&node) {
                sleep(LET_GO_LOOK).await;
            }
        };
        timeout(LET_GO_DEADLINE, let_go).await.is_ok()
    }

    /// Stops taking part, once. What is committed is on disk.
    pub async fn shutdown(&self) {
        if self.inner.stop.send_replace(true) {
            return;
        }
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "Raft did not stop cleanly");
        }
        if let Err(error) = self.inner.log.close().await {
            tracing::warn!(%error, "the committed place is not on disk; the next start applies again from an older one");
        }
    }
}

fn raft_config(options: &Options) -> openraft::Config {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    openraft::Config {
        cluster_name: "halcyon".to_owned(),
        heartbeat_interval: millis(options.heartbeat),
        election_timeout_min: millis(options.election.0),
        election_timeout_max: millis(options.election.1),
        // The transfer's own time comes on top, by size.
        install_snapshot_timeout: millis(options.election.1 * 2),
        // The log store bounds a call by bytes; this only keeps the count sane.
        max_payload_entries: 4_096,
        replication_lag_threshold: options.snapshot_entries * 2,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_entries),
        max_in_snapshot_log_to_keep: options.kept_entries,
        purge_batch_size: (options.kept_entries / 2).max(1),
        // A node that was away must not unseat a leader that works.
        enable_pre_vote: Some(true),
        // A leader may send entries before they are on its own disk. One that restarts as the leader of the same term
        // would write others in their place, under the same term and index, and the group would part for good.
        enable_leader_restore: Some(mutant::active(Mutant::LeadsAgain)),
        // A voter may come back on older files: somebody put a backup in place. Its leader must send it again what it had,
        // or it never hears another entry. Until then its vote counts for more than it knows, and nothing can mend that.
        allow_log_reversion: Some(true),
        // A leader that lost its quorum falls silent for a while, so that its followers elect another.
        quorum_loss_probe_interval: Some(millis(options.election.1 * 3)),
        ..openraft::Config::default()
    }
}
