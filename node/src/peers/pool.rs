//! One lasting connection to each peer, made when it is first needed and again when it was lost.
//!
//! A connection goes to an address but to a node: the certificate at the other end must name the node that was asked
//! for. Every call carries the wire versions we speak in its `user-agent`, so that an unlike release refuses it; a
//! `Hello` on each new connection tells us the same.

use std::{
    borrow::Borrow,
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use halcyon_core::{
    env::{BoxStream, Env},
    id::NodeId,
};
use halcyon_proto::{
    v1::{self, peer_client},
    version::{self, AGENT, WIRE},
};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use super::{identity::Identity, tls};
use crate::limits::{
    CONNECT_TIMEOUT, CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, HEADER_BYTES_MAX, HELLO_TIMEOUT, KEEP_ALIVE_INTERVAL,
    KEEP_ALIVE_TIMEOUT, MESSAGE_BYTES_MAX, PEER_CALLS_BUFFERED_MAX, STREAM_WINDOW_BYTES,
};

/// Calls to a peer.
pub type PeerClient = peer_client::PeerClient<Channel>;

/// Why there is no way to call a peer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnknownPeer {
    /// Nobody said where it is.
    #[error("no address is known for node {0}")]
    NoAddress(NodeId),
    /// It speaks another release's language.
    #[error("node {node}: {error}")]
    Version {
        /// The peer.
        node: NodeId,
        /// How far apart the releases are.
        error: version::NoCommonVersion,
    },
}

/// Connections to all peers. Clones share them.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    env: Env,
    /// What we speak.
    wire: v1::WireVersions,
    /// None: without TLS, for tests that have their own way to tell nodes apart.
    tls: Option<TlsConnector>,
    peers: Mutex<BTreeMap<NodeId, Peer>>,
}

struct Peer {
    address: String,
    /// Made at the first call.
    channel: Option<Channel>,
    /// What the last `Hello` said, if it was no.
    refused: Option<version::NoCommonVersion>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: BTreeMap<_, _> = self
            .inner
            .peers()
            .iter()
            .map(|(node, peer)| (*node, peer.address.clone()))
            .collect();
        f.debug_tuple("Pool").field(&addresses).finish()
    }
}

impl Pool {
    /// A pool that connects as `identity` and speaks `wire`.
    pub fn new(env: &Env, identity: &Identity, wire: v1::WireVersions) -> Result<Self, rustls::Error> {
        let config = tls::client_config(env, identity)?;
        Ok(Self::with_tls(env, Some(TlsConnector::from(Arc::new(config))), wire))
    }

    /// A pool without TLS, for tests inside one process.
    #[doc(hidden)]
    pub fn plain(env: impl Borrow<Env>) -> Self {
        Self::with_tls(env.borrow(), None, WIRE)
    }

    fn with_tls(env: &Env, tls: Option<TlsConnector>, wire: v1::WireVersions) -> Self {
        let (env, peers) = (env.clone(), Mutex::default());
        let inner = Arc::new(Inner { env, wire, tls, peers });
        Self { inner }
    }

    /// Where a peer is. A new address closes the connection to the old one.
    pub fn set_address(&self, node: NodeId, address: String) {
        let mut peers = self.inner.peers();
        if peers.get(&node).is_none_or(|peer| peer.address != address) {
            let peer = Peer {
                address,
                channel: None,
                refused: None,
            };
            peers.insert(node, peer);
        }
    }

    /// The peer is gone for good.
    pub fn forget(&self, node: NodeId) {
        self.inner.peers().remove(&node);
    }

    /// Calls to a peer. Nothing is connected until the first of them; each needs its own deadline.
    pub fn client(&self, node: NodeId) -> Result<PeerClient, UnknownPeer> {
        let mut peers = self.inner.peers();
        let peer = peers.get_mut(&node).ok_or(UnknownPeer::NoAddress(node))?;
        if let Some(error) = peer.refused {
            return Err(UnknownPeer::Version { node, error });
        }
        let channel = peer
            .channel
            .get_or_insert_with(|| channel(&self.inner, node, &peer.address));
        Ok(limited(channel.clone()))
    }
}

/// A client with the sizes that everybody agreed on.
pub(crate) fn limited(channel: Channel) -> PeerClient {
    PeerClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// What every call says about who speaks: `halcyon/0.1.0 wire/1-1`.
fn user_agent(wire: v1::WireVersions) -> String {
    format!("{AGENT} wire/{}-{}", wire.oldest, wire.newest)
}

/// The wire versions in a caller's `user-agent`; `None` where it names none, as a person's tools do.
pub(crate) fn versions_in(user_agent: &str) -> Option<v1::WireVersions> {
    let word = user_agent.split(' ').find_map(|word| word.strip_prefix("wire/"))?;
    let (oldest, newest) = word.split_once('-')?;
    Some(v1::WireVersions {
        oldest: oldest.parse().ok()?,
        newest: newest.parse().ok()?,
    })
}

/// The options of every connection to a node.
pub(crate) fn endpoint(wire: v1::WireVersions) -> Endpoint {
    // Connections are made by the connector, which knows the address; this name only fills `:authority`.
    Endpoint::from_static("http://peer.halcyon")
        .user_agent(user_agent(wire))
        .expect("letters, digits and slashes fit a header")
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .buffer_size(PEER_CALLS_BUFFERED_MAX)
}

fn channel(inner: &Arc<Inner>, node: NodeId, address: &str) -> Channel {
    let (pool, address) = (Arc::downgrade(inner), address.to_owned());
    endpoint(inner.wire).connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| {
        let (pool, address) = (pool.clone(), address.clone());
        async move {
            let inner = pool.upgrade().ok_or_else(|| io::Error::other("the node is stopping"))?;
            let stream = connect(&inner, node, &address).await.inspect_err(|error| {
                tracing::debug!(%node, %address, %error, "no connection to a peer");
            })?;
            tokio::spawn(say_hello(pool, node));
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    }))
}

async fn connect(inner: &Inner, node: NodeId, address: &str) -> io::Result<BoxStream> {
    let stream = inner.env.network.connect(address.to_owned()).await?;
    let Some(tls) = &inner.tls else { return Ok(stream) };
    let stream = tls.connect(tls::server_name(node), stream).await?;
    Ok(Box::new(stream))
}

/// The first call on a new connection. Releases that cannot understand each other part here, with a clear word.
async fn say_hello(pool: Weak<Inner>, node: NodeId) {
    let Some((wire, channel)) = pool
        .upgrade()
        .and_then(|inner| Some((inner.wire, inner.peers().get(&node)?.channel.clone()?)))
    else {
        return;
    };
    let hello = v1::HelloRequest {
        versions: Some(wire),
        agent: AGENT.to_owned(),
    };
    let mut client = limited(channel);
    let Ok(Ok(answer)) = timeout(HELLO_TIMEOUT, client.hello(hello)).await else {
        return;
    };
    let Some(inner) = pool.upgrade() else { return };
    let answer = answer.into_inner();
    let spoken = answer.version;
    tracing::debug!(%node, agent = %answer.agent, version = spoken, "connected to a peer");
    inner.env.probe.event("peer.speaks", &|| format!("{node} {spoken}"));
    if (wire.oldest..=wire.newest).contains(&spoken) {
        return;
    }
    let theirs = v1::WireVersions {
        oldest: spoken,
        newest: spoken,
    };
    let error = version::NoCommonVersion { ours: wire, theirs };
    tracing::error!(%node, %error, "a peer cannot be understood");
    if let Some(peer) = inner.peers().get_mut(&node) {
        peer.channel = None;
        peer.refused = Some(error);
    }
}

impl Inner {
    fn peers(&self) -> MutexGuard<'_, BTreeMap<NodeId, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
