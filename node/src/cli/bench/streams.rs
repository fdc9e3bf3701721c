//! Bare session streams: what a subscriber is without a store and an answer, to a node and to a bare server.

use std::{process::Stdio, time::Duration};

use halcyon_proto::v1::{self, connect_response::Event, sessions_client::SessionsClient};
use prost::bytes::Bytes;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
    task::JoinSet,
};
use tonic::{
    Request, Streaming,
    transport::{Channel, Endpoint},
};

use super::followed::Place;
use crate::cli::{connect, failure::Failure};

/// How long a message may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Many streams. They end with this.
#[derive(Debug)]
pub struct Streams {
    count: usize,
    heard: mpsc::Receiver<(Duration, usize)>,
    _readers: JoinSet<()>,
}

/// Whose streams.
#[derive(Debug, Clone, Copy)]
pub enum To<'a> {
    /// A bare server's.
    Bare,
    /// A node's sessions, which follow a query, or nothing.
    Node(&'a Place, Option<&'a str>),
}

/// A server that does nothing but broadcast, as a child process.
#[derive(Debug)]
pub struct Bare {
    /// Where.
    pub address: String,
    client: SessionsClient<Channel>,
    _child: Child,
}

impl Streams {
    /// Opens so many streams on so many connections.
    pub async fn open(address: &str, (connections, count): (usize, usize), to: To<'_>) -> Result<Self, Failure> {
        let mut channels = Vec::new();
        for _ in 0..connections {
            channels.push(channel(address).await?);
        }
        let (tell, heard) = mpsc::channel(2 * count);
        let mut readers = JoinSet::new();
        for channel in channels.into_iter().cycle().take(count) {
            let client = SessionsClient::new(channel);
            let stream = open(client, to).await?;
            readers.spawn(read(stream, tell.clone()));
        }
        Ok(Self {
            count,
            heard,
            _readers: readers,
        })
    }

    /// Waits until all have heard one message: when the last did, and how many bytes of a delta it had.
    pub async fn last_of_all(&mut self) -> Result<(Duration, usize), Failure> {
        let (mut last, mut bytes) = (Duration::ZERO, 0);
        for _ in 0..self.count {
            let next = tokio::time::timeout(PATIENCE, self.heard.recv()).await;
            let Ok(Some((moment, size))) = next else {
                return Err(Failure::failed("a message did not reach all streams"));
            };
            last = last.max(moment);
            bytes = size;
        }
        Ok((last, bytes))
    }
}

impl Bare {
    /// Starts one.
    pub async fn start() -> Result<Self, Failure> {
        let failure = |error: std::io::Error| Failure::failed(format_args!("cannot start a bare server: {error}"));
        let program = std::env::current_exe().map_err(failure)?;
        let mut child = Command::new(program)
            .args(["bench", "bare"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failure)?;
        let stdout = child.stdout.take();
        let stdout = stdout.ok_or_else(|| Failure::failed("a bare server has no stdout"))?;
        let line = tokio::time::timeout(PATIENCE, BufReader::new(stdout).lines().next_line()).await;
        let line = line.ok().and_then(Result::ok).flatten().unwrap_or_default();
        let said: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        let address = said["address"].as_str();
        let address = address
            .ok_or_else(|| Failure::failed("a bare server did not start"))?
            .to_owned();
        Ok(Self {
            client: SessionsClient::new(channel(&address).await?),
            address,
            _child: child,
        })
    }

    /// Tells all its streams a delta of so many bytes.
    pub async fn tell(&self, bytes: usize) -> Result<(), Failure> {
        let request = v1::SubscribeRequest {
            vector: vec![7; bytes].into(),
            ..v1::SubscribeRequest::default()
        };
        self.client.clone().subscribe(request).await.map_err(Failure::failed)?;
        Ok(())
    }
}

async fn channel(address: &str) -> Result<Channel, Failure> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(Failure::failed)?;
    endpoint.connect().await.map_err(Failure::failed)
}

async fn open(mut client: SessionsClient<Channel>, to: To<'_>) -> Result<Streaming<v1::ConnectResponse>, Failure> {
    let keyed = |tenant: String| v1::ConnectRequest {
        tenant,
        ..v1::ConnectRequest::default()
    };
    let To::Node(place, query) = to else {
        let stream = client.connect(keyed(String::new())).await;
        return stream.map(tonic::Response::into_inner).map_err(Failure::failed);
    };
    let request = with_key(place, keyed(place.tenant.clone()))?;
    let mut stream = client.connect(request).await.map_err(Failure::failed)?.into_inner();
    let first = message(&mut stream).await?;
    let Some(Event::Opened(opened)) = first.event else {
        return Err(Failure::failed("a session did not begin with its name"));
    };
    let Some(query) = query else {
        return Ok(stream);
    };
    let request = v1::SubscribeRequest {
        tenant: place.tenant.clone(),
        session: opened.session,
        subscription: 1,
        query: query.to_owned(),
        vector: Bytes::new(),
        ..v1::SubscribeRequest::default()
    };
    client
        .subscribe(with_key(place, request)?)
        .await
        .map_err(Failure::failed)?;
    loop {
        if let Some(Event::Commit(commit)) = message(&mut stream).await?.event
            && commit.deltas.iter().any(|delta| !delta.more)
        {
            return Ok(stream);
        }
    }
}

fn with_key<T>(place: &Place, message: T) -> Result<Request<T>, Failure> {
    let mut request = Request::new(message);
    let key = format!("Bearer {}", place.key).parse().map_err(Failure::failed)?;
    request.metadata_mut().insert("authorization", key);
    Ok(request)
}

async fn message(stream: &mut Streaming<v1::ConnectResponse>) -> Result<v1::ConnectResponse, Failure> {
    let next = tokio::time::timeout(PATIENCE, stream.message()).await;
    match next {
        Ok(Ok(Some(message))) => Ok(message),
        Ok(Err(status)) => Err(Failure::failed(status)),
        Ok(Ok(None)) | Err(_) => Err(Failure::failed("a stream ended or fell silent")),
    }
}

async fn read(mut stream: Streaming<v1::ConnectResponse>, tell: mpsc::Sender<(Duration, usize)>) {
    while let Ok(Some(message)) = stream.message().await {
        if let Some(Event::Commit(commit)) = message.event
            && let Some(delta) = commit.deltas.first()
            && tell
                .send((connect::clock().monotonic(), delta.delta.len()))
                .await
                .is_err()
        {
            return;
        }
    }
}
