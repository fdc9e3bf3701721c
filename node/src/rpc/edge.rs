//! What every call passes before its handler: a bound on calls in flight, a deadline, a wire version that we speak, and
//! the figures of it afterwards.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use halcyon_core::env::Env;
use halcyon_proto::{
    error::{ErrorCode, Refusal},
    v1::WireVersions,
    version::negotiate,
};
use http::{HeaderMap, header::USER_AGENT};
use tokio::{sync::Semaphore, time::timeout};
use tonic::{Code, Status};

use super::status::named;
use crate::{
    limits::{CALLS_MAX, CLIENT_CALL_TIMEOUT, MESSAGE_BYTES_MAX},
    metrics::Metrics,
    peers::versions_in,
};

/// Calls that stream from the caller for as long as it takes: each message has a deadline in its handler instead.
const LONG_CALLS: [&str; 5] = [
    "/halcyon.v1.Admin/Import",
    "/halcyon.v1.Peer/Gossip",
    "/halcyon.v1.Peer/RaftStream",
    "/halcyon.v1.Peer/RaftSnapshot",
    "/halcyon.v1.Peer/Rooms",
];

/// Whether the node wants to be sent work, and why not.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    told: Arc<Mutex<Told>>,
}

#[derive(Debug, Default)]
struct Told {
    reasons: Vec<String>,
    notices: Vec<String>,
    is_final: bool,
}

impl Readiness {
    /// Not ready, for one reason.
    pub fn not_yet(reason: &str) -> Self {
        let readiness = Self::default();
        readiness.set(vec![reason.to_owned()]);
        readiness
    }

    /// Replaces the reasons; none is ready.
    pub fn set(&self, reasons: Vec<String>) {
        let mut told = self.told();
        if !told.is_final {
            told.reasons = reasons;
        }
    }

    /// Not ready any more, for this reason, whatever is found from here on.
    pub fn close(&self, reason: &str) {
        let mut told = self.told();
        told.reasons = vec![reason.to_owned()];
        told.is_final = true;
    }

    /// Replaces what people should know although the node is ready.
    pub fn notice(&self, notices: Vec<String>) {
        self.told().notices = notices;
    }

    /// What people should know although the node is ready.
    pub fn notices(&self) -> Vec<String> {
        self.told().notices.clone()
    }

    /// Why the node is not ready; empty when it is.
    pub fn reasons(&self) -> Vec<String> {
        self.told().reasons.clone()
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The edge of one port. Every call gets several copies of what its layers hold, so it is one pointer.
#[derive(Debug, Clone)]
pub(super) struct Edge {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    env: Env,
    metrics: Metrics,
    wire: WireVersions,
    calls: Semaphore,
}

impl Edge {
    pub(super) fn new(env: Env, metrics: Metrics, wire: WireVersions) -> Self {
        let calls = Semaphore::new(CALLS_MAX);
        let inner = Inner {
            env,
            metrics,
            wire,
            calls,
        };
        Self { inner: Arc::new(inner) }
    }
}

/// Wraps every gRPC call.
pub(super) async fn guard(State(edge): State<Edge>, request: Request, next: Next) -> Response {
    let edge = &*edge.inner;
    let start = edge.env.clock.monotonic();
    let path = request.uri().path().to_owned();
    let response = match admit(edge.wire, request.headers()) {
        Ok(()) => bounded(edge, &path, next.run(request)).await,
        Err(refusal) => Status::from(refusal).into_http::<Body>(),
    };
    let took = edge.env.clock.monotonic().saturating_sub(start);
    edge.metrics.on_call(&path, outcome(&response), took);
    refused_by_limit(edge, response)
}

/// Counts what a limit refused, and gives tonic's own limit on a message the form of ours.
fn refused_by_limit(edge: &Inner, response: Response) -> Response {
    let status = Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok);
    let Some(status) = status else { return response };
    if let Some(refusal) = Refusal::from_status(&status) {
        edge.metrics.on_refusal(&refusal);
        return response;
    }
    if !status.message().contains("message length too large") {
        return response;
    }
    let text = format!("a message may have {MESSAGE_BYTES_MAX} bytes; send several smaller ones");
    let refusal = Refusal::limit("message_bytes", text);
    edge.metrics.on_refusal(&refusal);
    Status::from(refusal).into_http::<Body>()
}

/// Another release says which versions it speaks; a person's tool says nothing and is believed.
fn admit(wire: WireVersions, headers: &HeaderMap) -> Result<(), Refusal> {
    let user_agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
    let Some(theirs) = user_agent.and_then(versions_in) else {
        return Ok(());
    };
    negotiate(wire, theirs)
        .map(|_| ())
        .map_err(|error| Refusal::new(ErrorCode::WireVersion, error.to_string()))
}

async fn bounded(edge: &Inner, path: &str, call: impl Future<Output = Response>) -> Response {
    if LONG_CALLS.contains(&path) {
        return call.await;
    }
    let Ok(_permit) = edge.calls.try_acquire() else {
        let text = format!("{CALLS_MAX} calls are in flight on this node; try again, or go to another");
        let busy = Refusal::busy(text, std::time::Duration::from_millis(200));
        return Status::from(named("calls_per_node", busy)).into_http::<Body>();
    };
    timeout(CLIENT_CALL_TIMEOUT, call).await.unwrap_or_else(|_| {
        let text = format!("the call took longer than {CLIENT_CALL_TIMEOUT:?}");
        let late = Refusal::retry(text, std::time::Duration::from_millis(500));
        Status::from(named("call_deadline", late)).into_http::<Body>()
    })
}

/// A call that fails says so in its first headers; one that streams and fails later counts as begun.
fn outcome(response: &Response) -> &'static str {
    let Some(status) = response.headers().get("grpc-status") else {
        return if response.status().is_success() { "OK" } else { "HTTP" };
    };
    match Code::from_bytes(status.as_bytes()) {
        Code::Ok => "OK",
        Code::Unauthenticated | Code::PermissionDenied => "REFUSED",
        Code::ResourceExhausted => "LIMITED",
        Code::FailedPrecondition | Code::InvalidArgument | Code::NotFound | Code::AlreadyExists => "WRONG",
        Code::Unimplemented => "UNKNOWN_METHOD",
        Code::Unavailable => "UNAVAILABLE",
        _ => "FAILED",
    }
}

/// For paths that nobody serves.
pub(super) fn not_found() -> Response {
    (
        http::StatusCode::NOT_FOUND,
        "not found: this is a Halcyon node; see /healthz, /readyz, /metrics, or speak gRPC\n",
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_stops_stays_unready_whatever_is_found_meanwhile() {
        let readiness = Readiness::not_yet("starting");
        readiness.set(Vec::new());
        assert_eq!(readiness.reasons(), Vec::<String>::new());
        readiness.close("the node is stopping");
        readiness.set(Vec::new());
        assert_eq!(readiness.reasons(), ["the node is stopping"]);
    }
}
