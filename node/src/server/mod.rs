//! A whole node: its rooms, opened in order, its two ports, and its orderly end.
//!
//! A directory belongs to one node of one cluster for good. The first start makes the cluster or joins it; later starts
//! find the identity in the directory.

mod begin;
mod control;
mod readiness;
mod removed;
mod report;

use std::{
    io::{self, IsTerminal},
    sync::Arc,
    time::Duration,
};

use halcyon_core::{
    env::{Env, Listener},
    id::{NodeId, RegionName},
};
use rustls_pki_types::pem;
use thiserror::Error;
use tokio::{sync::watch, task::JoinSet, time::sleep};
use tokio_rustls::TlsAcceptor;

use crate::{
    config::{Config, LogFormat},
    env::read_given_file,
    limits::UNREADY_NOTICE,
    live::Live,
    metadata::{BootstrapError, Metadata, StartError, command::Command},
    metrics::Metrics,
    peers::{Identity, IdentityError, Pool, authority::AuthorityError, tls},
    replication::{ControlPlane, Replication},
    rooms::Lobby,
    routing::Routing,
    rpc::{
        Alarms, JoinError, Readiness, Removal, Rooms, client_router,
        listener::{Port, Side},
        peer_router,
    },
    session::Sessions,
    storage::{self, OpenError, Storage},
    tenant::{Tenants, feed::Feed},
};

pub use begin::ADMIN_FILE;
use control::Control;
pub use removed::REMOVED_FILE;

/// Why a node did not start.
#[derive(Debug, Error)]
pub enum NodeError {
    /// A port is taken, mostly.
    #[error("cannot listen: {0}")]
    Listen(io::Error),
    /// A file that the config names.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: String,
        /// What is wrong.
        error: io::Error,
    },
    /// The directory is new and nobody said which cluster.
    #[error("this directory belongs to no cluster yet: give --bootstrap to make one, or --join TOKEN to enter one")]
    NoCluster,
    /// The directory's cluster is not the token's.
    #[error(
        "this directory belongs to a node of cluster {ours}, and the token is for {theirs}; use an empty directory"
    )]
    OtherCluster {
        /// The directory's.
        ours: String,
        /// The token's.
        theirs: String,
    },
    /// The directory's node stands in another region than the one given.
    #[error(
        "this directory belongs to {node}, which joined in region {ours}, and not in {given}: give --region {ours}, or an \
         empty directory and a new token to join in {given}"
    )]
    OtherRegion {
        /// The node.
        node: NodeId,
        /// Where it joined.
        ours: RegionName,
        /// What was given.
        given: RegionName,
    },
    /// The directory's node was removed from its cluster; why, and what to do.
    #[error("{0}")]
    Removed(String),
    /// See there.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// See there.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// See there.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// Certificates that TLS cannot use.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// A file that is not PEM.
    #[error("TLS: {0}")]
    Pem(#[from] pem::Error),
    /// The control plane's files.
    #[error(transparent)]
    Metadata(#[from] StartError),
    /// The new cluster could not be made.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The data's files.
    #[error(transparent)]
    Storage(#[from] OpenError),
    /// What the data's files hold.
    #[error(transparent)]
    Replication(#[from] storage::types::StorageError),
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    rooms: Rooms,
    readiness: Readiness,
    client_address: String,
    peer_address: String,
    /// Clients are served until this is true.
    stop: watch::Sender<bool>,
    /// Peers are, until this is.
    close: watch::Sender<bool>,
    client_port: JoinSet<()>,
    tasks: JoinSet<()>,
}

/// Both ports, bound.
struct Bound {
    client: Box<dyn Listener>,
    peer: Box<dyn Listener>,
    /// Where the others are told to call.
    client_address: String,
    peer_address: String,
}

impl Node {
    /// Opens everything and serves. Returns when both ports answer; see [`Self::reasons`] for what may still be missing.
    pub async fn start(env: Env, config: Config) -> Result<Self, NodeError> {
        removed::check(&env)?;
        let bound = bind(&env, &config).await?;
        let client_tls = client_tls(&env, &config)?;
        let begun = begin::begin(&env, &config, &bound.client_address, &bound.peer_address).await?;
        let identity = &begun.identity;
        let pool = Pool::new(&env, identity, config.wire)?;
        for (node, address) in &begun.peers {
            pool.set_address(*node, address.clone());
        }
        let peer_tls = TlsAcceptor::from(Arc::new(tls::server_config(&env, identity)?));
        let metadata = Metadata::start(&env, identity.node, pool.clone(), crate::metadata::Options::default()).await?;
        if let Some(bootstrap) = begun.bootstrap {
            metadata.bootstrap(bootstrap).await?;
            begin::bootstrapped(&env)?;
        }
        begin::check_region(&metadata, identity.node, &config.region)?;
        let ((stop, stopped), (close, closed)) = (watch::channel(false), watch::channel(false));
        let signals = (stopped.clone(), closed.clone());
        let rooms = open_rooms(&env, &config, identity, (metadata, pool), signals).await?;
        let readiness = Readiness::not_yet("starting");
        let (mut client_port, mut tasks) = (JoinSet::new(), JoinSet::new());
        let port = |listener, tls, side, router| Port {
            listener,
            tls,
            side,
            router,
            metrics: rooms.metrics.clone(),
        };
        let client = port(
            bound.client,
            client_tls,
            Side::Client,
            client_router(&rooms, readiness.clone(), config.site.as_ref()),
        );
        let peer = port(bound.peer, Some(peer_tls), Side::Peer, peer_router(&rooms));
        client_port.spawn(client.serve(stopped.clone()));
        tasks.spawn(peer.serve(closed));
        tasks.spawn(rooms.routing.clone().run(stopped.clone()));
        tasks.spawn(readiness::run(rooms.clone(), readiness.clone(), stopped.clone()));
        tasks.spawn(rooms.lobby.clone().run(stopped.clone()));
        tasks.spawn(removed::run(rooms.clone(), stopped.clone()));
        tasks.spawn(rooms.sessions.clone().run(stopped.clone()));
        let announced = announce(
            rooms.clone(),
            bound.client_address.clone(),
            bound.peer_address.clone(),
            stopped,
        );
        tasks.spawn(announced);
        tracing::info!(
            node = %rooms.me, region = %rooms.region, cluster = %rooms.cluster,
            client = %bound.client_address, peer = %bound.peer_address, "the node serves"
        );
        Ok(Self {
            rooms,
            readiness,
            client_address: bound.client_address,
            peer_address: bound.peer_address,
            stop,
            close,
            client_port,
            tasks,
        })
    }

    /// Its number.
    pub fn id(&self) -> NodeId {
        self.rooms.me
    }

    /// Where clients reach it.
    pub fn client_address(&self) -> &str {
        &self.client_address
    }

    /// Where peers reach it.
    pub fn peer_address(&self) -> &str {
        &self.peer_address
    }

    /// Why it is not ready; empty when it is. The same as `/readyz`.
    pub fn reasons(&self) -> Vec<String> {
        self.readiness.reasons()
    }

    /// Its rooms, for tests and for a program that runs nodes inside itself.
    pub fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// Says that it is not ready, lets calls in flight end, and closes what is open. What was acknowledged is on disk
    /// either way.
    pub async fn stop(mut self) {
        self.readiness.close("the node is stopping");
        sleep(UNREADY_NOTICE).await;
        self.stop.send_replace(true);
        while self.client_port.join_next().await.is_some() {}
        // Only now: a push in flight may wait for another region's word.
        self.close.send_replace(true);
        self.rooms.replication.stop();
        while self.tasks.join_next().await.is_some() {}
        self.rooms.metadata.shutdown().await;
        self.rooms.storage.close().await;
        self.rooms.metrics.detach();
        tracing::info!(node = %self.rooms.me, "the node has stopped");
    }
}

/// Starts logging to stderr. A second call does nothing: tests start many nodes in one process.
pub fn init_log(format: LogFormat, filter: &str) {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).unwrap_or_default();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    // It fails where a subscriber is set already.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

async fn bind(env: &Env, config: &Config) -> Result<Bound, NodeError> {
    let client = env
        .network
        .listen(config.listen.clone())
        .await
        .map_err(NodeError::Listen)?;
    let peer = env
        .network
        .listen(config.peer_listen.clone())
        .await
        .map_err(NodeError::Listen)?;
    if config.tls.is_none() && !config.is_loopback() {
        tracing::warn!(
            listen = %config.listen,
            "CLIENTS ARE SERVED WITHOUT TLS on an address that others can reach: access keys and data cross the network \
             in the clear. Set tls_certificate and tls_key, or listen on loopback behind a proxy that speaks TLS"
        );
    }
    let client_address = config.advertise.clone().unwrap_or_else(|| client.address());
    let peer_address = config.peer_advertise.clone().unwrap_or_else(|| peer.address());
    Ok(Bound {
        client,
        peer,
        client_address,
        peer_address,
    })
}

/// The operator's certificate.
fn client_tls(env: &Env, config: &Config) -> Result<Option<TlsAcceptor>, NodeError> {
    let Some(files) = &config.tls else { return Ok(None) };
    let read = |path: &std::path::Path| {
        read_given_file(path).map_err(|error| NodeError::File {
            path: path.display().to_string(),
            error,
        })
    };
    let tls = tls::client_listener_config(env, &read(&files.certificate)?, &read(&files.key)?)?;
    Ok(Some(TlsAcceptor::from(Arc::new(tls))))
}

async fn open_rooms(
    env: &Env,
    config: &Config,
    identity: &Identity,
    (metadata, pool): (Metadata, Pool),
    (stopping, closing): (watch::Receiver<bool>, watch::Receiver<bool>),
) -> Result<Rooms, NodeError> {
    let (me, view, metrics) = (identity.node, metadata.view(), Metrics::default());
    let mut options = storage::Options {
        node: me,
        cache_bytes: config.storage_cache_bytes,
        ..storage::Options::default()
    };
    if config.storage_shards != 0 {
        options.shards = config.storage_shards;
    }
    let feed = Feed::default();
    let storage = Storage::open(env, options, Arc::new(feed.clone())).await?;
    let control: Arc<dyn ControlPlane> = Arc::new(Control::new(metadata.clone()));
    let replication = Replication::start(env, me, storage.clone(), control.clone(), pool.clone(), &feed)?;
    let tenants = Tenants::new(env, me, storage.clone(), replication.clone(), control, feed);
    let routing = Routing::new(env.clone(), me, pool.clone(), view.clone());
    let live = Live::new(env, tenants.clone(), view.clone(), stopping.clone());
    let lobby = Lobby::new(env.clone(), me, &config.region, pool.clone(), view.clone());
    let rooms = Rooms {
        env: env.clone(),
        me,
        region: config.region.clone(),
        cluster: identity.cluster.clone(),
        wire: config.wire,
        loopback: config.is_loopback(),
        view,
        metadata,
        storage,
        tenants,
        replication,
        sessions: Sessions::new(env),
        live,
        routing,
        pool,
        lobby,
        metrics,
        alarms: Alarms::default(),
        removal: Removal::default(),
        stopping,
        closing,
    };
    let sampled = rooms.clone();
    rooms.metrics.attach(Box::new(move || report::samples(&sampled)));
    Ok(rooms)
}

/// How often a node that cannot announce its addresses tries again.
const ANNOUNCE_RETRY: Duration = Duration::from_secs(1);

/// A node that was started on other addresses tells the cluster, as soon as there is one to tell.
async fn announce(rooms: Rooms, client_address: String, peer_address: String, mut stop: watch::Receiver<bool>) {
    let mut view = rooms.view.clone();
    loop {
        let known = view.node(rooms.me);
        let differs =
            known.is_some_and(|known| known.client_address != client_address || known.peer_address != peer_address);
        if differs {
            let command = Command::UpdateAddresses {
                node: rooms.me,
                client_address: client_address.clone(),
                peer_address: peer_address.clone(),
            };
            let told = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                told = rooms.metadata.write(command) => told,
            };
            if let Err(error) = told {
                tracing::warn!(%error, "the cluster does not know this node's new addresses yet");
            }
        }
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            () = sleep(ANNOUNCE_RETRY), if differs => {}
            () = view.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests;
