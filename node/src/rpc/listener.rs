//! A listening port: accepts, shakes hands, serves HTTP, and stops without cutting anybody off.
//!
//! Both of the node's ports are served here, HTTP/1.1 and HTTP/2 on each. Each connection's caller goes along with its
//! calls as a [`Caller`].

use std::{future::Future, io, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use halcyon_core::{
    env::{BoxStream, Listener},
    id::NodeId,
};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::Service;

use crate::{
    limits::{
        ACCEPT_RETRY, CALLS_PER_CONNECTION_MAX, CLIENT_CONNECTION_WINDOW_BYTES, CLIENT_CONNECTIONS_MAX,
        CLIENT_STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES, DRAIN_TIMEOUT, FRAME_BYTES_MAX, HANDSHAKE_TIMEOUT,
        HEADER_BYTES_MAX, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT, PEER_CONNECTIONS_MAX, PEER_DRAIN_TIMEOUT,
        STREAM_WINDOW_BYTES,
    },
    metrics::Metrics,
    peers::tls::node_of_certificate,
};

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Their address.
    pub address: Arc<str>,
    /// The node that their certificate names; `None` without one.
    pub node: Option<NodeId>,
}

/// Which of the two ports, and with it how much one connection may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Programs.
    Client,
    /// Nodes.
    Peer,
}

impl Side {
    const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Peer => "peer",
        }
    }

    const fn connections_max(self) -> usize {
        match self {
            Self::Client => CLIENT_CONNECTIONS_MAX,
            Self::Peer => PEER_CONNECTIONS_MAX,
        }
    }

    const fn drain_timeout(self) -> Duration {
        match self {
            Self::Client => DRAIN_TIMEOUT,
            Self::Peer => PEER_DRAIN_TIMEOUT,
        }
    }

    /// Bytes in flight: of a stream, and of a connection.
    const fn windows(self) -> (u32, u32) {
        match self {
            Self::Client => (CLIENT_STREAM_WINDOW_BYTES, CLIENT_CONNECTION_WINDOW_BYTES),
            Self::Peer => (STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES),
        }
    }
}

/// One port and what it serves.
pub struct Port {
    /// Bound already.
    pub listener: Box<dyn Listener>,
    /// None: plain.
    pub tls: Option<TlsAcceptor>,
    /// Which.
    pub side: Side,
    /// What it serves.
    pub router: Router,
    /// Who counts.
    pub metrics: Metrics,
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Port({} {})", self.side.name(), self.listener.address())
    }
}

impl Port {
    /// Serves until `stop`, then lets calls in flight end, for [`DRAIN_TIMEOUT`] or [`PEER_DRAIN_TIMEOUT`] at the most.
    pub async fn serve(mut self, mut stop: watch::Receiver<bool>) {
        let permits = Arc::new(Semaphore::new(self.side.connections_max()));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                Some(_) = connections.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            match (accepted, permits.clone().try_acquire_owned()) {
                (Ok((stream, from)), Ok(permit)) => {
                    let connection = self.connection(from.into(), stream, permit, stop.clone());
                    connections.spawn(connection);
                }
                (Ok((_, from)), Err(_)) => {
                    self.metrics.on_limit("connections");
                    tracing::warn!(side = self.side.name(), %from, "a connection was refused: there are too many");
                }
                (Err(error), _) => {
                    tracing::warn!(side = self.side.name(), %error, "accepting a connection failed");
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
        // Whoever calls from here on is told at once that nobody is there.
        let Self { side, listener, .. } = self;
        drop(listener);
        let drained = async { while connections.join_next().await.is_some() {} };
        if timeout(side.drain_timeout(), drained).await.is_err() {
            tracing::info!(side = side.name(), "calls were cut off: they did not end in time");
        }
    }

    fn connection(
        &self,
        from: Arc<str>,
        stream: BoxStream,
        permit: OwnedSemaphorePermit,
        stop: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (tls, router, metrics, side) = (self.tls.clone(), self.router.clone(), self.metrics.clone(), self.side);
        async move {
            metrics.on_connection(side.name(), 1);
            let served = async {
                let (stream, node) = match tls {
                    Some(tls) => handshake(&tls, stream, stop.clone()).await?,
                    None => (stream, None),
                };
                let address = from.clone();
                serve_connection(side, Caller { address, node }, stream, router, stop).await
            };
            let served = served.await;
            if let Err(error) = served {
                tracing::debug!(side = side.name(), %from, error, "a connection ended badly");
            }
            metrics.on_connection(side.name(), -1);
            drop(permit);
        }
    }
}

type Known = (BoxStream, Option<NodeId>);

/// A handshake in time, unless the node stops: nothing is in flight on a connection that is not open yet.
async fn handshake(tls: &TlsAcceptor, stream: BoxStream, mut stop: watch::Receiver<bool>) -> Result<Known, String> {
    tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => Err("the node is stopping".to_owned()),
        done = timeout(HANDSHAKE_TIMEOUT, shake_hands(tls, stream)) => match done {
            Ok(done) => done.map_err(|error| format!("TLS: {error}")),
            Err(_) => Err("the TLS handshake took too long".to_owned()),
        },
    }
}

async fn shake_hands(tls: &TlsAcceptor, stream: BoxStream) -> io::Result<Known> {
    let stream = tls.accept(stream).await?;
    let chain = stream.get_ref().1.peer_certificates();
    let node = match chain.and_then(<[_]>::first) {
        Some(certificate) => Some(
            node_of_certificate(certificate)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the certificate names no node"))?,
        ),
        None => None,
    };
    Ok((Box::new(stream), node))
}

async fn serve_connection(
    side: Side,
    caller: Caller,
    stream: BoxStream,
    router: Router,
    mut stop: watch::Receiver<bool>,
) -> Result<(), String> {
    let service = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(caller.clone());
        router.clone().call(request.map(Body::new))
    });
    let builder = builder(side);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            ended = connection.as_mut() => return ended.map_err(|error| error.to_string()),
        }
    }
}

fn builder(side: Side) -> auto::Builder<TokioExecutor> {
    let (stream_window, connection_window) = side.windows();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .header_read_timeout(Some(HANDSHAKE_TIMEOUT))
        .max_buf_size(usize::try_from(HEADER_BYTES_MAX).expect("it fits") * 4);
    builder
        .http2()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(Some(CALLS_PER_CONNECTION_MAX))
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_frame_size(Some(FRAME_BYTES_MAX))
        .initial_stream_window_size(Some(stream_window))
        .initial_connection_window_size(Some(connection_window))
        .keep_alive_interval(Some(keep_alive(side)))
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
}

/// A phone's radio sleeps between our questions: clients are asked a sixth as often.
fn keep_alive(side: Side) -> Duration {
    match side {
        Side::Client => KEEP_ALIVE_INTERVAL * 6,
        Side::Peer => KEEP_ALIVE_INTERVAL,
    }
}
