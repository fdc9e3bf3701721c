//! The leader's appends to one follower as a stream: sent while earlier ones are not answered yet, answered in order.
//!
//! openraft's own way is one call after the other. Each commit is told to the followers by a call of its own, so the
//! next entries would wait for the answer to that one.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use halcyon_proto::v1::RaftMessage;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use thiserror::Error;
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::{
    log_store::{decode, encode},
    network::{transfer_time, unreachable},
    types::{RpcError, TypeConfig},
};

/// What goes to the follower.
pub(super) type AppendRequest = AppendEntriesRequest<TypeConfig>;

/// What comes back: up to where it is on the follower's disk, or that the follower says no.
type Answer = Result<StreamAppendResult<TypeConfig>, RpcError>;

/// All of it.
pub(super) type Answers<'s> = BoxStream<'s, Answer>;

/// What was sent and not answered.
#[derive(Debug, Default)]
pub(super) struct Unanswered(Mutex<Sent>);

#[derive(Debug, Default)]
struct Sent {
    /// Of the messages without an answer, the oldest first.
    sizes: VecDeque<usize>,
    /// openraft has nothing more to send on this stream.
    is_all: bool,
}

/// Why a stream ended before openraft ended it.
#[derive(Debug, Error)]
enum StreamError {
    #[error("no answer in {0:?}")]
    Silent(Duration),
    #[error("the follower ended the stream")]
    Ended,
    #[error(transparent)]
    Refused(#[from] Status),
    #[error(transparent)]
    Malformed(#[from] std::io::Error),
}

impl Unanswered {
    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much longer than an empty call the answers may take; `None` where there is nothing to answer.
    fn transfer(&self) -> Option<Duration> {
        let sizes = &self.sent().sizes;
        (!sizes.is_empty()).then(|| transfer_time(sizes.iter().sum()))
    }

    /// Whether the stream may end now.
    fn is_done(&self) -> bool {
        let sent = self.sent();
        sent.is_all && sent.sizes.is_empty()
    }
}

/// The requests as messages. One that cannot be encoded ends the stream, and openraft tries again.
pub(super) fn messages(
    requests: impl Stream<Item = AppendRequest> + Send + 'static,
    unanswered: Arc<Unanswered>,
) -> impl Stream<Item = RaftMessage> + Send + 'static {
    let requests = requests.map(Some).chain(stream::iter([None]));
    let messages = requests.map(move |request| {
        let mut sent = unanswered.sent();
        let Some(request) = request else {
            sent.is_all = true;
            return None;
        };
        let body = encode(&request).ok()?;
        sent.sizes.push_back(body.len());
        Some(RaftMessage { body: body.into() })
    });
    let messages = messages.take_while(|message| std::future::ready(message.is_some()));
    messages.filter_map(std::future::ready)
}

/// The answers. The last is an error where there was none in `deadline` although one was due.
pub(super) fn answers<'s>(
    answers: Streaming<RaftMessage>,
    unanswered: Arc<Unanswered>,
    deadline: Duration,
) -> Answers<'s> {
    let read = stream::unfold(Some(answers), move |answers| {
        let unanswered = Arc::clone(&unanswered);
        async move {
            let mut answers = answers?;
            match next(&mut answers, &unanswered, deadline).await {
                Err(StreamError::Ended) if unanswered.is_done() => None,
                Ok(answer) => {
                    let goes_on = answer.is_ok();
                    Some((Ok(answer), goes_on.then_some(answers)))
                }
                Err(error) => Some((Err(unreachable(&error)), None)),
            }
        }
    });
    read.boxed()
}

async fn next(
    answers: &mut Streaming<RaftMessage>,
    unanswered: &Unanswered,
    deadline: Duration,
) -> Result<StreamAppendResult<TypeConfig>, StreamError> {
    loop {
        let transfer = unanswered.transfer();
        let wait = deadline + transfer.unwrap_or_default();
        match timeout(wait, answers.message()).await {
            Ok(Ok(Some(message))) => {
                unanswered.sent().sizes.pop_front();
                return Ok(decode(&message.body)?);
            }
            Ok(Ok(None)) => return Err(StreamError::Ended),
            Ok(Err(status)) => return Err(status.into()),
            Err(_) if transfer.is_some() => return Err(StreamError::Silent(wait)),
            // Nothing was sent, or only in the meantime.
            Err(_) => {}
        }
    }
}
