//! The streams between nodes: one to each peer that rooms may be shared with, while there are any.
//!
//! They share a connection with gossip, so little of theirs is ever under way: what a peer has not answered yet is
//! bounded, and what happens meanwhile is coalesced in the rooms themselves.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt, task::AtomicWaker};
use halcyon_core::id::NodeId;
use halcyon_proto::v1;
use prost::Message;
use thiserror::Error;
use tokio::{
    sync::watch,
    time::{Sleep, sleep},
};
use tonic::Streaming;

use super::{
    Lobby,
    engine::Stale,
    events::Rest,
    limits::{
        ANSWER_DEADLINE, BACKOFF_MAX, BACKOFF_MIN, HEARTBEAT, IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MAX, LINK_IDLE_MAX,
        OPEN_DEADLINE,
    },
    lobby::Shared,
    types::Telling,
    wire::{self, WireError},
};
use crate::peers::answers::{self, StreamEnd};

/// Why a stream ended.
#[derive(Debug, Error)]
enum LinkError {
    #[error(transparent)]
    Broken(#[from] StreamEnd),
    #[error("no room is shared with the peer any more")]
    Idle,
}

/// Why a peer's stream is ended from this side.
#[derive(Debug, Error)]
pub enum AnswerError<E> {
    /// See there.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// The peer speaks in a way that cannot be understood.
    #[error(transparent)]
    Malformed(#[from] WireError),
    /// The stream broke.
    #[error("the stream broke")]
    Broken(E),
}

/// Keeps a stream to a peer, as long as it is wanted.
pub(super) async fn run(shared: Arc<Shared>, peer: NodeId, waker: Arc<AtomicWaker>, mut stop: watch::Receiver<bool>) {
    let mut wait = BACKOFF_MIN;
    loop {
        let ended = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            ended = stream(&shared, peer, &waker, &mut wait) => ended,
        };
        shared.with(|engine| engine.on_unlink(peer));
        tracing::debug!(%peer, error = %ended, "the rooms' stream ended");
        if matches!(ended, LinkError::Idle) || !is_wanted(&shared, peer) {
            break;
        }
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            () = sleep(wait) => {}
        }
        wait = (2 * wait).min(BACKOFF_MAX);
    }
    shared.with(|engine| engine.on_unlink(peer));
    shared.unlink(peer);
}

fn is_wanted(shared: &Shared, peer: NodeId) -> bool {
    shared.with(|engine| engine.links().contains(&peer))
}

/// Runs one stream until it breaks.
async fn stream(shared: &Arc<Shared>, peer: NodeId, waker: &Arc<AtomicWaker>, wait: &mut Duration) -> LinkError {
    let flight = Arc::new(Mutex::new(Flight::default()));
    let _over = Over(Arc::clone(&flight));
    let mut answers = match open(shared, peer, waker, &flight).await {
        Ok(answers) => answers,
        Err(end) => return end.into(),
    };
    let mut idle = 0;
    loop {
        // Heartbeats are answered, so there is always one on its way.
        match answers::next(&mut answers, ANSWER_DEADLINE).await {
            Ok(answer) => lock(&flight).answered(answer.number),
            Err(end) => return end.into(),
        }
        *wait = BACKOFF_MIN;
        waker.wake();
        idle = if is_wanted(shared, peer) { 0 } else { idle + 1 };
        if idle >= LINK_IDLE_MAX {
            return LinkError::Idle;
        }
    }
}

async fn open(
    shared: &Arc<Shared>,
    peer: NodeId,
    waker: &Arc<AtomicWaker>,
    flight: &Arc<Mutex<Flight>>,
) -> Result<Streaming<v1::RoomsResponse>, StreamEnd> {
    let mut client = shared.pool.client(peer)?;
    let link = shared.with(|engine| engine.on_link(peer));
    let outgoing = Outgoing {
        shared: Arc::clone(shared),
        peer,
        link,
        waker: Arc::clone(waker),
        flight: Arc::clone(flight),
        rest: Rest::over(),
        heartbeat: Box::pin(sleep(HEARTBEAT)),
    };
    answers::opened(client.rooms(outgoing), OPEN_DEADLINE).await
}

/// What was sent and is not answered.
#[derive(Debug, Default)]
struct Flight {
    /// The stream has ended, whoever still polls it.
    is_over: bool,
    number: u64,
    under_way: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl Flight {
    fn is_full(&self) -> bool {
        self.under_way.len() as u64 >= IN_FLIGHT_MAX || self.bytes >= IN_FLIGHT_BYTES_MAX
    }

    fn answered(&mut self, number: u64) {
        while let Some((_, bytes)) = self.under_way.pop_front_if(|(sent, _)| *sent <= number) {
            self.bytes -= bytes;
        }
    }
}

/// Ends a stream, however the task that read its answers ends.
struct Over(Arc<Mutex<Flight>>);

impl Drop for Over {
    fn drop(&mut self) {
        lock(&self.0).is_over = true;
    }
}

fn lock(flight: &Mutex<Flight>) -> MutexGuard<'_, Flight> {
    flight.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The outgoing half.
struct Outgoing {
    shared: Arc<Shared>,
    peer: NodeId,
    link: u64,
    waker: Arc<AtomicWaker>,
    flight: Arc<Mutex<Flight>>,
    rest: Rest,
    heartbeat: Pin<Box<Sleep>>,
}

impl Outgoing {
    fn send(&mut self, telling: Telling) -> v1::RoomsRequest {
        if telling.news.iter().any(|news| news.update.has_presence()) {
            self.rest.begin();
        }
        self.heartbeat = Box::pin(sleep(HEARTBEAT));
        let mut flight = lock(&self.flight);
        flight.number += 1;
        let request = wire::request(flight.number, telling);
        let sent = (flight.number, request.encoded_len());
        flight.bytes += sent.1;
        flight.under_way.push_back(sent);
        request
    }
}

impl Stream for Outgoing {
    type Item = v1::RoomsRequest;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<v1::RoomsRequest>> {
        let this = self.get_mut();
        this.waker.register(context.waker());
        loop {
            {
                let flight = lock(&this.flight);
                if flight.is_over {
                    return Poll::Ready(None);
                }
                if flight.is_full() {
                    return Poll::Pending;
                }
            }
            let (peer, link, haste) = (this.peer, this.link, this.rest.haste());
            if let Some(telling) = this.shared.with(|engine| engine.take_for(peer, link, haste)) {
                return Poll::Ready(Some(this.send(telling)));
            }
            if this.rest.poll(context).is_ready() {
                continue;
            }
            if this.heartbeat.as_mut().poll(context).is_ready() {
                return Poll::Ready(Some(this.send(Telling::default())));
            }
            return Poll::Pending;
        }
    }
}

impl Lobby {
    /// A peer's stream: what it tells is taken in, and answered by number.
    pub fn answer<S, E>(
        &self,
        from: NodeId,
        inbound: S,
    ) -> impl Stream<Item = Result<v1::RoomsResponse, AnswerError<E>>> + Send + use<S, E>
    where
        S: Stream<Item = Result<v1::RoomsRequest, E>> + Send + 'static,
        E: Send + 'static,
    {
        let incoming = Incoming::new(Arc::clone(&self.shared), from);
        let answers = inbound.map(move |request| {
            let request = request.map_err(AnswerError::Broken)?;
            let number = request.number;
            incoming.take(request)?;
            Ok(v1::RoomsResponse { number })
        });
        // An error ends it.
        answers.scan(false, |failed, answer: Result<_, AnswerError<E>>| {
            let was_failed = std::mem::replace(failed, answer.is_err());
            std::future::ready((!was_failed).then_some(answer))
        })
    }
}

/// A stream from a peer. Its end is told when it is dropped.
struct Incoming {
    shared: Arc<Shared>,
    from: NodeId,
    stream: u64,
}

impl Incoming {
    fn new(shared: Arc<Shared>, from: NodeId) -> Self {
        let moment = shared.moment();
        let stream = shared.with(|engine| engine.on_stream(from, moment));
        Self { shared, from, stream }
    }

    fn take<E>(&self, request: v1::RoomsRequest) -> Result<(), AnswerError<E>> {
        let telling = wire::telling(request)?;
        let moment = self.shared.moment();
        let taken = self
            .shared
            .with(|engine| engine.on_telling(self.from, self.stream, telling, moment));
        Ok(taken?)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let moment = self.shared.moment();
        self.shared
            .with(|engine| engine.on_stream_ended(self.from, self.stream, moment));
    }
}
