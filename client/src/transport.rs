//! Connections to nodes: HTTP/2 over `Env`'s network, with TLS where a CA is given, and the credentials of each call.
//!
//! A channel connects when it is first used and again when it was lost. Every call has a deadline.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use halcyon_core::{
    clock::{DRIFT_MAX_DEFAULT, NTP64, WallTime},
    env::{BoxFuture, BoxStream, Env},
    limits::MESSAGE_BYTES_MAX,
};
use halcyon_proto::{
    error::Refusal,
    v1::{
        self, admin_client::AdminClient, queries_client::QueriesClient, rooms_client::RoomsClient,
        sessions_client::SessionsClient, sync_client::SyncClient,
    },
    version::WIRE,
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio_rustls::TlsConnector;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::{
    error::ConnectError,
    limits::{
        ANSWER_PATIENCE, CHANNELS_MAX, CLOCKS_APART_MAX, CONNECT_DEADLINE, GREETINGS_MAX, KEEP_ALIVE_INTERVAL,
        KEEP_ALIVE_TIMEOUT, PATH_BYTES_PER_SECOND_MIN, PRESENCE_DEADLINE, QUICK_DEADLINE,
    },
    session::NodeClock,
};

/// HTTP/2 flow-control windows: a full message may be on its way without waiting for the other side.
const WINDOW_BYTES: u32 = 8 << 20;

/// Why a call has no answer.
#[derive(Debug, Clone)]
pub(crate) enum CallError {
    /// The node refused it.
    Refused(Refusal),
    /// The connection or the deadline was lost.
    Lost(String),
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        match Refusal::from_status(&status) {
            Some(refusal) => Self::Refused(refusal),
            None => Self::Lost(format!("{:?}: {}", status.code(), status.message())),
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Lost(reason) => f.write_str(reason),
        }
    }
}

/// Channels by address, and what each call carries.
pub(crate) struct Transport {
    env: Env,
    tls: Option<TlsConnector>,
    bearer: MetadataValue<Ascii>,
    user: Option<MetadataValue<Ascii>>,
    channels: Mutex<BTreeMap<String, Channel>>,
    /// What nodes last said when they were greeted, by address.
    greetings: Mutex<BTreeMap<String, Greeting>>,
}

/// What a node said when it was greeted.
#[derive(Debug, Clone, Copy)]
struct Greeting {
    /// When it was asked.
    asked: Moment,
    /// What its clock showed at that time or later, if it said so.
    clock: Option<NodeClock>,
}

/// A moment, by both of the device's clocks.
#[derive(Debug, Clone, Copy)]
struct Moment {
    monotonic: Duration,
    wall: WallTime,
}

impl Moment {
    fn now(env: &Env) -> Self {
        Self {
            monotonic: env.clock.monotonic(),
            wall: env.clock.wall(),
        }
    }

    /// How long ago that was. Where the clocks do not agree nobody knows: the one stands still while a machine sleeps, the
    /// other one may be set.
    fn until(self, now: Self) -> Option<Duration> {
        let by_wall = now.wall.0.to_duration().checked_sub(self.wall.0.to_duration())?;
        let since = now.monotonic.saturating_sub(self.monotonic);
        (by_wall.abs_diff(since) <= CLOCKS_APART_MAX).then_some(since.max(by_wall))
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

impl Transport {
    pub(crate) fn new(
        env: Env,
        secret: &str,
        user: Option<&str>,
        ca_certificate: Option<&[u8]>,
    ) -> Result<Self, ConnectError> {
        let text = |text: &str| {
            MetadataValue::try_from(text).map_err(|_| {
                let message = "a key and a user consist of printable ASCII characters";
                ConnectError::Refused(Refusal::new(v1::ErrorCode::Unauthenticated, message))
            })
        };
        Ok(Self {
            env,
            tls: ca_certificate.map(tls_connector).transpose()?,
            bearer: text(&format!("Bearer {}", secret.trim()))?,
            user: user.map(text).transpose()?,
            channels: Mutex::default(),
            greetings: Mutex::default(),
        })
    }

    /// A client of the `Sync` service at `address`.
    pub(crate) fn sync(&self, address: &str) -> SyncClient<Channel> {
        SyncClient::new(self.channel(address))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// A client of the `Queries` service at `address`.
    pub(crate) fn queries(&self, address: &str) -> QueriesClient<Channel> {
        QueriesClient::new(self.channel(address))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// A client of the `Sessions` service at `address`.
    pub(crate) fn sessions(&self, address: &str) -> SessionsClient<Channel> {
        SessionsClient::new(self.channel(address))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// A client of the `Rooms` service at `address`.
    pub(crate) fn rooms(&self, address: &str) -> RoomsClient<Channel> {
        RoomsClient::new(self.channel(address))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// A client of the `Admin` service at `address`.
    pub(crate) fn admin(&self, address: &str) -> AdminClient<Channel> {
        AdminClient::new(self.channel(address))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// A request with credentials, and with the deadline for the node to know of.
    pub(crate) fn request<T>(&self, message: T, deadline: Option<Duration>) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.bearer.clone());
        if let Some(user) = &self.user {
            request.metadata_mut().insert("halcyon-user", user.clone());
        }
        if let Some(deadline) = deadline {
            request.set_timeout(deadline);
        }
        request
    }

    /// The first call on a connection.
    pub(crate) async fn hello(&self, address: &str) -> Result<v1::HelloResponse, CallError> {
        let request = self.request(hello_message(), Some(QUICK_DEADLINE));
        let mut client = self.sync(address);
        let asked = Moment::now(&self.env);
        let answer = within(QUICK_DEADLINE, client.hello(request)).await?;
        if answer.version < WIRE.oldest || answer.version > WIRE.newest {
            let message = format!(
                "{address} speaks wire version {}, which this release does not",
                answer.version
            );
            return Err(CallError::Refused(Refusal::new(v1::ErrorCode::WireVersion, message)));
        }
        self.on_greeted(address, asked, &answer);
        Ok(answer)
    }

    /// What the clock of the node at `address` shows now, at the most. A node that was never greeted, or nobody knows how long
    /// ago, is greeted.
    pub(crate) async fn clock_at(&self, address: &str) -> Result<Option<NodeClock>, CallError> {
        // More than once where the machine slept while it was greeted.
        for greeted in 0..=GREETINGS_MAX {
            let greeting = self.greeting(address);
            let since = greeting.and_then(|greeting| greeting.asked.until(Moment::now(&self.env)));
            if let (Some(greeting), Some(since)) = (greeting, since) {
                return Ok(greeting.clock.map(|clock| {
                    let wall = WallTime(NTP64(clock.wall.0.0.saturating_add(NTP64::from(since).0)));
                    NodeClock { wall, ..clock }
                }));
            }
            if greeted < GREETINGS_MAX {
                self.hello(address).await?;
            }
        }
        Ok(None)
    }

    fn greeting(&self, address: &str) -> Option<Greeting> {
        let greetings = self.greetings.lock().unwrap_or_else(PoisonError::into_inner);
        greetings.get(address).copied()
    }

    fn on_greeted(&self, address: &str, asked: Moment, answer: &v1::HelloResponse) {
        let clock = (answer.wall != 0).then(|| NodeClock {
            wall: WallTime(NTP64(answer.wall)),
            drift_max: answer.drift_max_ms.map_or(DRIFT_MAX_DEFAULT, Duration::from_millis),
        });
        let mut greetings = self.greetings.lock().unwrap_or_else(PoisonError::into_inner);
        if greetings.len() >= CHANNELS_MAX && !greetings.contains_key(address) {
            greetings.pop_first();
        }
        greetings.insert(address.to_owned(), Greeting { asked, clock });
    }

    /// Waits for the answer to a call of `bytes`, but not forever, and not for a node that is frozen or cut off: one that
    /// keeps a caller waiting has to say that it is there.
    pub(crate) async fn answer<T>(
        &self,
        (address, bytes): (&str, usize),
        deadline: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, CallError> {
        tokio::select! {
            biased;
            answer = within(deadline, call) => answer,
            reason = self.absent(address, transfer_time(bytes)) => Err(CallError::Lost(reason)),
        }
    }

    /// Returns when the node does not say any more that it is there.
    async fn absent(&self, address: &str, mut transfer: Duration) -> String {
        loop {
            tokio::time::sleep(ANSWER_PATIENCE + transfer).await;
            transfer = Duration::ZERO;
            let request = self.request(hello_message(), Some(PRESENCE_DEADLINE));
            let mut client = self.sync(address);
            // Whatever it says, it is there.
            if let Err(CallError::Lost(reason)) = within(PRESENCE_DEADLINE, client.hello(request)).await {
                return format!("it does not say that it is there: {reason}");
            }
        }
    }

    /// Closes the connection to `address`; the next call opens a new one.
    pub(crate) fn forget(&self, address: &str) {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.remove(address);
    }

    fn channel(&self, address: &str) -> Channel {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return channel.clone();
        }
        if channels.len() >= CHANNELS_MAX {
            channels.pop_first();
        }
        let channel = self.connect_lazily(address);
        channels.insert(address.to_owned(), channel.clone());
        channel
    }

    fn connect_lazily(&self, address: &str) -> Channel {
        let (env, tls, to) = (self.env.clone(), self.tls.clone(), address.to_owned());
        let connector = tower::service_fn(move |_: http::Uri| {
            let (env, tls, to) = (env.clone(), tls.clone(), to.clone());
            async move { dial(&env, tls, to).await.map(TokioIo::new) }
        });
        // `check_address` has seen to it that this is a URI.
        let uri: http::Uri = format!("http://{address}").parse().unwrap_or_default();
        Endpoint::from(uri)
            .connect_timeout(CONNECT_DEADLINE)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .connect_with_connector_lazy(connector)
    }
}

fn hello_message() -> v1::HelloRequest {
    v1::HelloRequest {
        versions: Some(WIRE),
        agent: concat!("halcyon-client ", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

/// What the slowest path takes.
fn transfer_time(bytes: usize) -> Duration {
    Duration::from_millis(bytes as u64 * 1_000 / PATH_BYTES_PER_SECOND_MIN)
}

/// Waits for an answer, but not forever.
pub(crate) async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(status.into()),
        Err(_) => Err(CallError::Lost(format!("no answer within {deadline:?}"))),
    }
}

/// `host:port`, with or without a scheme before it.
pub(crate) fn check_address(address: &str) -> Result<String, ConnectError> {
    let bare = address.trim();
    let bare = bare
        .strip_prefix("http://")
        .or_else(|| bare.strip_prefix("https://"))
        .unwrap_or(bare);
    let bare = bare.trim_end_matches('/');
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    let good = bare
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && is_port(port))
        && format!("http://{bare}").parse::<http::Uri>().is_ok();
    if good {
        Ok(bare.to_owned())
    } else {
        Err(ConnectError::Address(address.to_owned()))
    }
}

fn tls_connector(ca_certificate: &[u8]) -> Result<TlsConnector, ConnectError> {
    let bad = |error: &dyn fmt::Display| ConnectError::Certificate(error.to_string());
    let mut roots = RootCertStore::empty();
    if ca_certificate.starts_with(b"-----") {
        for certificate in CertificateDer::pem_slice_iter(ca_certificate) {
            let certificate = certificate.map_err(|error| bad(&error))?;
            roots.add(certificate).map_err(|error| bad(&error))?;
        }
    } else {
        roots
            .add(CertificateDer::from(ca_certificate.to_vec()))
            .map_err(|error| bad(&error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn dial(env: &Env, tls: Option<TlsConnector>, address: String) -> BoxFuture<'static, io::Result<BoxStream>> {
    let connecting = env.network.connect(address.clone());
    Box::pin(async move {
        let stream = connecting.await?;
        let Some(tls) = tls else { return Ok(stream) };
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        let stream = tls.connect(name, stream).await?;
        Ok(Box::new(stream) as BoxStream)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_host_and_port() {
        check("127.0.0.1:7700", Some("127.0.0.1:7700"));
        check("http://node.example:7700/", Some("node.example:7700"));
        check("[::1]:7700", Some("[::1]:7700"));
        check("localhost", None);
        check(":7700", None);
        check("a b:1", None);
        check("host:99999", None);
    }

    #[test]
    fn nobody_knows_how_long_ago_it_was_where_the_clocks_do_not_agree() {
        let moment = |monotonic_ms, wall_ms| Moment {
            monotonic: Duration::from_millis(monotonic_ms),
            wall: WallTime(NTP64::from(Duration::from_millis(wall_ms))),
        };
        let asked = moment(1_000, 50_000);
        let since = |now| asked.until(now).map(|since| since.as_millis());
        assert_eq!(since(moment(61_000, 110_000)), Some(60_000));
        assert_eq!(since(moment(61_000, 110_500)), Some(60_500), "the later of the two");
        assert_eq!(since(moment(61_000, 3_710_000)), None, "it slept for an hour");
        assert_eq!(since(moment(61_000, 50_500)), None, "its clock was set back");
        assert_eq!(since(moment(61_000, 49_000)), None, "to before it asked");
    }

    #[track_caller]
    fn check(address: &str, expected: Option<&str>) {
        assert_eq!(check_address(address).ok().as_deref(), expected);
    }
}
