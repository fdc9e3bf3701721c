//! A browser: gRPC-web over HTTP/1.1, one call after another on one connection. It pushes a set again until it is
//! answered, with the same bytes, and stamps it anew only where a node has definitely refused its clock, or where it was
//! never pushed and the node that it has greeted would refuse it.

use std::{sync::Arc, time::Duration};

use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, Clock, DRIFT_MAX_DEFAULT, NTP64, Timestamp, WallTime},
    env::Env,
    id::{EntityId, Predicate, Tag},
    value::Value,
    version_vector::VersionVector,
};
use halcyon_proto::{
    convert::{self, Triple},
    error::{ErrorCode, Refusal},
    v1::{self, push_result, sync_client::SyncClient},
    version::WIRE,
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};
use tonic::body::Body;
use tonic_web::{GrpcWebCall, GrpcWebClientService};

use crate::run::Access;

/// A call that takes longer is given up, and its connection with it.
const CALL_PATIENCE: Duration = Duration::from_secs(6);

/// The clocks of two nodes are nearer to each other: what every client takes for granted.
pub(crate) const NODES_APART_MAX: Duration = Duration::from_mins(10);

/// Pause before a call is made again.
const AGAIN: Duration = Duration::from_millis(300);

/// After so many times that nodes ask to wait with a set its user loads the page anew, and what it had seen is gone: of
/// what only a lost host had, nodes wait for the removal (seed 60236).
const WAITS_MAX: u32 = 20;

/// See the module.
pub(super) struct Web {
    env: Env,
    access: Access,
    addresses: Vec<String>,
    at: usize,
    sender: Option<Arc<Mutex<http1::SendRequest<GrpcWebCall<Body>>>>>,
    clock: Clock,
    /// What the clock of the node at the other end showed.
    greeted: Option<Greeted>,
    /// How far ahead a node found the machine's clock.
    ahead: u64,
    /// The latest stamp that was taken.
    floor: NTP64,
    number: u64,
    /// What it was told of.
    seen: VersionVector,
    /// It was loaded anew, and nobody has been told.
    is_anew: bool,
}

/// What a node's clock showed when it was greeted.
#[derive(Clone, Copy)]
struct Greeted {
    /// When it was asked.
    asked: Duration,
    /// What it showed, at that time or later.
    wall: u64,
    /// How far ahead of it a timestamp may be.
    drift_max: u64,
}

/// What became of a call.
enum Failed {
    /// There was no connection to ask over.
    Unsent(String),
    /// Nobody knows.
    Lost(String),
    /// A node said no.
    Refused(ErrorCode, String),
    /// A node says that the clock is ahead, and what the time is.
    Drift(u64),
}

impl Web {
    pub(super) fn new(env: Env, access: Access, addresses: Vec<String>) -> Self {
        let client = ClientId::from_random(env.random_u128());
        Self {
            env,
            access,
            addresses,
            at: 0,
            sender: None,
            clock: Clock::new(client, NTP64(0)),
            greeted: None,
            ahead: 0,
            floor: NTP64(0),
            number: 0,
            seen: VersionVector::default(),
            is_anew: false,
        }
    }

    /// Pushes until it is taken, or refused for good. Returns the set's number and where it is.
    pub(super) async fn write(&mut self, changes: Vec<Change>, note: impl Fn(String)) -> Result<(u64, Tag), Refusal> {
        self.number += 1;
        let mut set = ChangeSet {
            timestamp: self.stamp(),
            number: self.number,
            changes,
        };
        let (first, mut waits) = (*set.timestamp.get_time(), 0);
        let mut may_be_taken = false;
        loop {
            if !may_be_taken
                && self.client().await.is_ok()
                && let Some(wall) = self.would_refuse(&set.timestamp)
            {
                self.stamp_again(&mut set, wall);
            }
            let encoded = set.encode();
            match self.push(encoded).await {
                Ok(tag) => {
                    self.seen.raise(tag);
                    self.floor = *set.timestamp.get_time();
                    return Ok((self.number, tag));
                }
                Err(Failed::Drift(wall)) => {
                    note("its clock is refused".to_owned());
                    // Where an answer was lost the set may be in, and must stay as it is; unless no node can have taken it.
                    let ahead = set.timestamp.get_time().0.saturating_sub(wall);
                    let drift_max = self.greeted.map_or(0, |greeted| greeted.drift_max);
                    if !may_be_taken || NTP64::from(NODES_APART_MAX).0 + drift_max < ahead {
                        self.stamp_again(&mut set, wall);
                    } else {
                        self.ahead = self.env.clock.wall().0.0.saturating_sub(wall);
                    }
                }
                Err(Failed::Refused(code @ (ErrorCode::Limit | ErrorCode::Malformed), text)) => {
                    return Err(Refusal::new(code, text));
                }
                // A number that is taken is a copy's of this page: what the copy wrote stands, stamped as this was first.
                Err(Failed::Refused(code @ ErrorCode::NumberReused, text)) => {
                    self.floor = self.floor.max(first);
                    return Err(Refusal::new(code, text));
                }
                Err(Failed::Refused(code, text)) => {
                    note(format!("{code:?}: {text}"));
                    may_be_taken |= matches!(code, ErrorCode::NotYetReplicated | ErrorCode::Internal);
                    waits += u32::from(code == ErrorCode::Retry);
                    if waits == WAITS_MAX {
                        note("the page is loaded anew".to_owned());
                        self.seen = VersionVector::default();
                        self.is_anew = true;
                    }
                    self.move_on();
                }
                Err(Failed::Unsent(text)) => {
                    note(text);
                    self.move_on();
                }
                Err(Failed::Lost(text)) => {
                    may_be_taken = true;
                    note(text);
                    self.move_on();
                }
            }
            sleep(AGAIN).await;
        }
    }

    /// Whether it was loaded anew since this was asked last.
    pub(super) fn was_loaded_anew(&mut self) -> bool {
        std::mem::take(&mut self.is_anew)
    }

    /// The page once more, as it is, that speaks to another node: its storage was copied, or it was opened twice.
    pub(super) fn copied(&self) -> Self {
        Self {
            env: self.env.clone(),
            access: self.access.clone(),
            addresses: self.addresses.clone(),
            at: (self.at + 1) % self.addresses.len(),
            sender: None,
            clock: self.clock.clone(),
            greeted: None,
            seen: self.seen.clone(),
            ..*self
        }
    }

    /// Another program on the same machine, which takes the machine's clock for right.
    pub(super) fn heedless(&self) -> Self {
        let client = ClientId::from_random(self.env.random_u128());
        Self {
            clock: Clock::new(client, NTP64(0)),
            ahead: 0,
            number: 0,
            ..self.copied()
        }
    }

    /// Pushes once, whatever comes of it: as a page that is closed right afterwards.
    pub(super) async fn write_once(&mut self, changes: Vec<Change>) -> Result<Tag, String> {
        self.number += 1;
        let set = ChangeSet {
            timestamp: self.stamp(),
            number: self.number,
            changes,
        };
        self.push(set.encode()).await.map_err(|failed| match failed {
            Failed::Unsent(text) | Failed::Lost(text) | Failed::Refused(_, text) => text,
            Failed::Drift(_) => "its clock is refused".to_owned(),
        })
    }

    /// What a node shows of an entity.
    pub(super) async fn get(&mut self, subject: &EntityId) -> Option<Vec<(Predicate, Value)>> {
        let request = self.request(v1::GetRequest {
            tenant: self.access.name.clone(),
            subject: subject.as_str().to_owned(),
            forward: true,
        });
        let mut client = self.client().await.ok()?;
        let Ok(Ok(answer)) = timeout(CALL_PATIENCE, client.get(request)).await else {
            self.move_on();
            return None;
        };
        let triples = answer.into_inner().triples.into_iter().map(Triple::try_from);
        let shown = triples.map(|triple| triple.map(|triple| (triple.predicate, triple.value)));
        shown.collect::<Result<_, _>>().ok()
    }

    fn stamp(&mut self) -> Timestamp {
        let own = self.env.clock.wall().0.0;
        self.clock.stamp(WallTime(NTP64(own.saturating_sub(self.ahead))))
    }

    /// The node's clock, if it says that the node would refuse this.
    fn would_refuse(&self, timestamp: &Timestamp) -> Option<u64> {
        let greeted = self.greeted?;
        let since = self.env.clock.monotonic().saturating_sub(greeted.asked);
        let wall = greeted.wall.saturating_add(NTP64::from(since).0);
        let time = timestamp.get_time().0;
        (time > self.floor.0 && wall.saturating_add(greeted.drift_max) < time).then_some(wall)
    }

    /// By the clock of a node.
    fn stamp_again(&mut self, set: &mut ChangeSet, wall: u64) {
        self.ahead = self.env.clock.wall().0.0.saturating_sub(wall);
        self.clock = Clock::new(set.client(), self.floor);
        set.timestamp = self.stamp();
    }

    async fn push(&mut self, encoded: Vec<u8>) -> Result<Tag, Failed> {
        let request = self.request(v1::PushRequest {
            tenant: self.access.name.clone(),
            change_sets: vec![encoded.into()],
            vector: convert::vector_bytes(&self.seen),
            forward: true,
        });
        let mut client = self.client().await?;
        let answer = timeout(CALL_PATIENCE, client.push(request)).await;
        let answer = answer.map_err(|_| Failed::Lost("no answer in time".to_owned()))?;
        let answer = answer.map_err(|status| Failed::Lost(status.to_string()))?;
        let result = answer
            .into_inner()
            .results
            .into_iter()
            .next()
            .and_then(|result| result.result);
        match result {
            Some(push_result::Result::Taken(taken)) => {
                convert::tag(&taken.origin, taken.seq).map_err(|error| Failed::Lost(error.to_string()))
            }
            Some(push_result::Result::Refused(refused)) if refused.code() == ErrorCode::ClockDrift => {
                Err(Failed::Drift(refused.wall))
            }
            Some(push_result::Result::Refused(refused)) => Err(Failed::Refused(refused.code(), refused.message)),
            None => Err(Failed::Lost("an empty answer".to_owned())),
        }
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Ok(header) = format!("Bearer {}", self.access.key).parse() {
            request.metadata_mut().insert("authorization", header);
        }
        request
    }

    async fn client(&mut self) -> Result<SyncClient<GrpcWebClientService<Http1>>, Failed> {
        let address = self.addresses[self.at].clone();
        let origin: http::Uri = format!("http://{address}")
            .parse()
            .map_err(|_| Failed::Unsent(address.clone()))?;
        let client = |sender| SyncClient::with_origin(GrpcWebClientService::new(Http1(sender)), origin);
        if let Some(sender) = &self.sender {
            return Ok(client(sender.clone()));
        }
        let opened = timeout(CALL_PATIENCE, open(&self.env, address)).await;
        let opened = opened.map_err(|_| Failed::Unsent("no connection in time".to_owned()));
        let sender = Arc::new(Mutex::new(opened?.map_err(Failed::Unsent)?));
        let client = client(sender.clone());
        self.greet(client.clone()).await?;
        self.sender = Some(sender);
        Ok(client)
    }

    async fn greet(&mut self, mut client: SyncClient<GrpcWebClientService<Http1>>) -> Result<(), Failed> {
        let asked = self.env.clock.monotonic();
        let request = self.request(v1::HelloRequest {
            versions: Some(WIRE),
            agent: "a page".to_owned(),
        });
        let answer = timeout(CALL_PATIENCE, client.hello(request)).await;
        let answer = answer.map_err(|_| Failed::Unsent("no greeting in time".to_owned()))?;
        let answer = answer
            .map_err(|status| Failed::Unsent(status.to_string()))?
            .into_inner();
        let drift_max = answer.drift_max_ms.map_or(DRIFT_MAX_DEFAULT, Duration::from_millis);
        self.greeted = Some(Greeted {
            asked,
            wall: answer.wall,
            drift_max: NTP64::from(drift_max).0,
        });
        Ok(())
    }

    /// To another node, with a new connection.
    fn move_on(&mut self) {
        self.sender = None;
        self.at = (self.at + 1) % self.addresses.len();
    }
}

async fn open(env: &Env, address: String) -> Result<http1::SendRequest<GrpcWebCall<Body>>, String> {
    let stream = env.network.connect(address).await.map_err(|error| error.to_string())?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    Ok(sender)
}

/// One HTTP/1.1 connection as a service.
#[derive(Clone)]
pub(super) struct Http1(Arc<Mutex<http1::SendRequest<GrpcWebCall<Body>>>>);

impl tower::Service<http::Request<GrpcWebCall<Body>>> for Http1 {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<GrpcWebCall<Body>>) -> Self::Future {
        let sender = self.0.clone();
        Box::pin(async move {
            let mut sender = sender.lock().await;
            // The last answer may not have been read to its end.
            sender.ready().await?;
            sender.send_request(request).await
        })
    }
}
