//! A long-lived stream to a peer: how it is opened, how its answers are awaited, and why it ended.

use std::{future::Future, time::Duration};

use thiserror::Error;
use tokio::time::timeout;
use tonic::{Response, Status, Streaming};

use super::UnknownPeer;

/// Why a stream to a peer ended.
#[derive(Debug, Error)]
pub(crate) enum StreamEnd {
    #[error(transparent)]
    UnknownPeer(#[from] UnknownPeer),
    #[error(transparent)]
    Refused(#[from] Status),
    #[error("no answer in time")]
    Silent,
    #[error("the peer ended it")]
    Ended,
}

/// The answers to a call, once the peer has taken it.
pub(crate) async fn opened<T>(
    call: impl Future<Output = Result<Response<Streaming<T>>, Status>>,
    deadline: Duration,
) -> Result<Streaming<T>, StreamEnd> {
    let taken = timeout(deadline, call).await.map_err(|_| StreamEnd::Silent)?;
    Ok(taken?.into_inner())
}

/// The next answer. After [`StreamEnd::Silent`] it may still come.
pub(crate) async fn next<T>(answers: &mut Streaming<T>, deadline: Duration) -> Result<T, StreamEnd> {
    let answer = timeout(deadline, answers.message())
        .await
        .map_err(|_| StreamEnd::Silent)?;
    answer?.ok_or(StreamEnd::Ended)
}
