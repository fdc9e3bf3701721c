//! Reads: asked at the node in use, and at others when that one fails.

use std::time::Duration;

use halcyon_proto::{
    convert::Location,
    error::{ErrorCode, Refusal},
    v1::sync_client::SyncClient,
};
use tonic::{Response, Status, transport::Channel};

use crate::{
    error::{ConnectError, ReadError},
    limits::{BACKOFF_MAX, BACKOFF_MIN, READ_DEADLINE},
    session::backoff,
    shared::Shared,
    transport::CallError,
};

/// Makes a call that changes nothing, again elsewhere where it fails, until the client's read deadline has passed.
pub(crate) async fn call<T, F>(shared: &Shared, attempt: impl Fn(SyncClient<Channel>) -> F) -> Result<T, ReadError>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let transport = &shared.navigator.transport;
    call_at(shared, READ_DEADLINE, |address| attempt(transport.sync(address))).await
}

/// The same for any service: an attempt is told the address, and has until `deadline`.
pub(crate) async fn call_at<T, F>(
    shared: &Shared,
    deadline: Duration,
    attempt: impl Fn(&str) -> F,
) -> Result<T, ReadError>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let start = shared.env.clock.monotonic();
    let mut last = "no replica is known".to_owned();
    let mut failures = 0_u32;
    loop {
        if shared.is_closed() {
            return Err(ReadError::Closed);
        }
        let mut pause = BACKOFF_MIN;
        if let Some((route, _)) = shared.navigator.route() {
            let deadline = deadline.min(shared.read_deadline);
            let transport = &shared.navigator.transport;
            match transport
                .answer((&route.address, 0), deadline, attempt(&route.address))
                .await
            {
                Ok(answer) => {
                    shared.navigator.on_worked(&route.address);
                    return Ok(answer);
                }
                Err(CallError::Refused(refusal)) => {
                    last = refusal.to_string();
                    pause = on_refused(shared, &route.address, refusal)?;
                }
                Err(CallError::Lost(reason)) => {
                    last = format!("{}: {reason}", route.address);
                    shared.navigator.on_failed(&route.address);
                }
            }
        } else {
            shared.navigator.look.notify_one();
        }
        let waited = shared.env.clock.monotonic().saturating_sub(start);
        if waited >= shared.read_deadline {
            return Err(ReadError::Unreachable { waited, last });
        }
        failures = failures.saturating_add(1);
        tokio::time::sleep(pause.max(backoff(failures, shared.env.entropy.next()))).await;
    }
}

/// What a refusal of a read or a watch means: how long to wait before the next attempt, or that there is none.
pub(crate) fn on_refused(shared: &Shared, address: &str, refusal: Refusal) -> Result<Duration, ReadError> {
    let pause = refusal.retry_after.unwrap_or(BACKOFF_MIN).min(BACKOFF_MAX);
    match refusal.code {
        ErrorCode::WrongRegion => shared.navigator.on_elsewhere(address, refusal.replicas),
        ErrorCode::Busy | ErrorCode::Retry | ErrorCode::NoQuorum => {}
        ErrorCode::Internal | ErrorCode::Unspecified => shared.navigator.on_failed(address),
        _ => return Err(ReadError::Refused(refusal)),
    }
    Ok(pause)
}

/// Where the tenant is, by whichever node answers first.
pub(crate) async fn locate(shared: &Shared) -> Result<Location, ReadError> {
    let start = shared.env.clock.monotonic();
    shared.navigator.find().await.map_err(|error| match error {
        ConnectError::Refused(refusal) => ReadError::Refused(refusal),
        ConnectError::Answer(error) => ReadError::Answer(error),
        other => ReadError::Unreachable {
            waited: shared.env.clock.monotonic().saturating_sub(start),
            last: other.to_string(),
        },
    })
}
