//! Live queries of a client, and the task that keeps its session with a node.
//!
//! The engine decides; here are the stream, the calls beside it, their deadlines and the waits between attempts. A
//! stream is opened when the first query is followed, to the node that the client speaks to, and moves with it.

use std::{collections::VecDeque, sync::Arc};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use halcyon_core::query::{answer::Answer, live::Mirror};
use halcyon_proto::{error::ErrorCode, v1};
use tokio::sync::Notify;
use tonic::Streaming;

use crate::{
    engine::{Call, CallFailure, FollowerId, QuerySnapshot, QueryStatus, Update},
    limits::{
        BLOCKED_WAIT, LINGER_LOOK, QUICK_DEADLINE, SAVE_PAUSE, SESSION_SILENCE_MAX, SUBSCRIBE_DEADLINE,
        SUBSCRIPTION_CALLS_MAX,
    },
    session::backoff,
    shared::Shared,
    transport::{CallError, within},
};

/// A query that is followed: its answer as it stands, and what becomes of it. Dropping it ends the following.
#[derive(Debug)]
pub struct LiveQuery {
    shared: Arc<Shared>,
    follower: FollowerId,
    notify: Arc<Notify>,
    ready: VecDeque<Update>,
    mirror: Option<Mirror>,
    status: QueryStatus,
}

impl LiveQuery {
    pub(crate) fn new(shared: Arc<Shared>, follower: FollowerId, notify: Arc<Notify>) -> Self {
        Self {
            shared,
            follower,
            notify,
            ready: VecDeque::new(),
            mirror: None,
            status: QueryStatus::Local,
        }
    }

    /// The answer as it stands now, whatever [`Self::next`] has told. `None` once the client is closed.
    pub fn answer(&self) -> Option<Answer> {
        self.shared.state().engine.answer(self.follower)
    }

    /// Whether the answer is a node's: what it rests on is more than a client is sent, and what is pending here does not
    /// lie over it.
    pub fn is_answered_by_node(&self) -> bool {
        self.shared.state().engine.is_answered_by_node(self.follower)
    }

    /// How far it can be trusted now.
    pub fn status(&self) -> QueryStatus {
        self.shared
            .state()
            .engine
            .status(self.follower)
            .unwrap_or(QueryStatus::Offline)
    }

    /// The answer as it stands now, how far it can be trusted, and how much of the tenant is in it. `None` once the client
    /// is closed, and where the query could not be followed further.
    pub fn snapshot(&self) -> Option<QuerySnapshot> {
        self.shared.state().engine.snapshot(self.follower)
    }

    /// The answer and its status as of the last update that [`Self::next`] gave.
    pub fn told(&self) -> (Option<Answer>, QueryStatus) {
        (self.mirror.as_ref().map(Mirror::answer), self.status)
    }

    /// The next update: first the whole answer and its status, then what becomes of them. `None` once the client is
    /// closed. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Update> {
        loop {
            if let Some(update) = self.ready.pop_front() {
                match &update {
                    Update::Answer(mirror) => self.mirror = Some((**mirror).clone()),
                    Update::Delta(delta) => {
                        if let Some(mirror) = &mut self.mirror {
                            mirror.apply(delta.clone());
                        }
                    }
                    Update::Status(status) => self.status = *status,
                    Update::Failed(_) => {}
                }
                return Some(update);
            }
            self.ready
                .extend(self.shared.state().engine.take_updates(self.follower));
            if self.ready.is_empty() {
                tokio::select! {
                    biased;
                    () = self.shared.until_closed() => return None,
                    () = self.notify.notified() => {}
                }
            }
        }
    }
}

impl Drop for LiveQuery {
    fn drop(&mut self) {
        self.shared.state().unfollow(self.follower);
        self.shared.follow.notify_one();
        self.shared.save.notify_one();
        self.shared.left.notify_one();
    }
}

/// Keeps the session until the client is closed.
pub(crate) async fn run(shared: Arc<Shared>) {
    tokio::select! {
        biased;
        () = shared.until_closed() => {}
        () = keep_session(&shared) => {}
        () = look_after_the_left(&shared) => {}
    }
}

/// Lets go of queries that were left long enough ago.
async fn look_after_the_left(shared: &Shared) {
    loop {
        while !shared.state().engine.has_lingering() {
            shared.left.notified().await;
        }
        tokio::time::sleep(LINGER_LOOK).await;
        {
            let mut state = shared.state();
            state.engine.age_lingering();
            state.wake();
        }
        shared.follow.notify_one();
        shared.save.notify_one();
    }
}

/// Saves what changed until the client is closed, and once more then.
pub(crate) async fn save(shared: Arc<Shared>) {
    let Some(outbox) = shared.outbox.clone() else { return };
    loop {
        let is_closed = tokio::select! {
            biased;
            () = shared.until_closed() => true,
            () = shared.save.notified() => false,
        };
        let (rows, floor) = {
            let mut state = shared.state();
            if is_closed {
                // The next run does not come back to what this one left.
                state.engine.end_lingering();
            }
            (state.engine.take_rows(), state.engine.floor())
        };
        outbox.stage(rows);
        if let Err(error) = outbox.tidy(&shared.env, floor).await {
            tracing::error!(%error, "what queries cover is not saved; it comes again from a node after a restart");
        }
        if is_closed {
            return;
        }
        // What changes meanwhile is one commit.
        tokio::time::sleep(SAVE_PAUSE).await;
    }
}

/// Why a stream ended.
enum Ended {
    /// The node closed it, or the client moves to a nearer one.
    Quietly,
    /// Something failed there.
    Failed(CallError),
}

async fn keep_session(shared: &Shared) {
    let mut failures = 0;
    loop {
        while !shared.state().engine.is_followed() {
            shared.follow.notified().await;
        }
        let Some((route, _)) = shared.navigator.route() else {
            shared.navigator.look.notify_one();
            disconnected(shared);
            pause(shared, &mut failures).await;
            continue;
        };
        let ended = stream(shared, &route.address, &mut failures).await;
        shared.refused.send_replace(match &ended {
            Ended::Failed(CallError::Refused(refusal)) => Some(refusal.clone()),
            Ended::Failed(CallError::Lost(_)) | Ended::Quietly => None,
        });
        disconnected(shared);
        let Ended::Failed(error) = ended else {
            pause(shared, &mut failures).await;
            continue;
        };
        tracing::debug!(address = route.address, %error, "a session's stream is interrupted");
        match error {
            CallError::Refused(refusal) => match refusal.code {
                ErrorCode::WrongRegion => shared.navigator.on_elsewhere(&route.address, refusal.replicas),
                ErrorCode::Unauthenticated | ErrorCode::WireVersion | ErrorCode::Forbidden => {
                    tokio::time::sleep(BLOCKED_WAIT).await;
                }
                _ => tokio::time::sleep(refusal.retry_after.unwrap_or_default()).await,
            },
            CallError::Lost(_) => shared.navigator.on_failed(&route.address),
        }
        pause(shared, &mut failures).await;
    }
}

fn disconnected(shared: &Shared) {
    let mut state = shared.state();
    state.engine.on_disconnected();
    state.wake();
}

async fn pause(shared: &Shared, failures: &mut u32) {
    *failures = failures.saturating_add(1);
    tokio::time::sleep(backoff(*failures, shared.env.entropy.next())).await;
}

/// One stream, with the calls beside it.
async fn stream(shared: &Shared, address: &str, failures: &mut u32) -> Ended {
    let transport = &shared.navigator.transport;
    let request = shared.state().engine.connect_request();
    // Without a deadline on the wire: the stream has no end.
    let connecting = transport.sessions(address);
    let opened = within(QUICK_DEADLINE, { connecting }.connect(transport.request(request, None))).await;
    let mut events = match opened {
        Ok(events) => events,
        Err(error) => return Ended::Failed(error),
    };
    shared.refused.send_replace(None);
    let mut calls = FuturesUnordered::new();
    loop {
        begin_calls(shared, address, &mut calls);
        tokio::select! {
            biased;
            Some(()) = calls.next(), if !calls.is_empty() => {
                if shared.state().engine.wants_reconnect() {
                    return Ended::Quietly;
                }
            }
            event = hear(&mut events) => match event {
                Ok(Some(event)) => {
                    *failures = 0;
                    shared.navigator.on_worked(address);
                    if let Some(ended) = take_in(shared, address, event) {
                        return ended;
                    }
                }
                Ok(None) => return Ended::Quietly,
                Err(error) => return Ended::Failed(error),
            },
            () = shared.follow.notified() => {}
        }
    }
}

async fn hear(events: &mut Streaming<v1::ConnectResponse>) -> Result<Option<v1::ConnectResponse>, CallError> {
    match tokio::time::timeout(SESSION_SILENCE_MAX, events.message()).await {
        Ok(event) => Ok(event?),
        Err(_) => Err(CallError::Lost("silence".to_owned())),
    }
}

fn take_in(shared: &Shared, address: &str, event: v1::ConnectResponse) -> Option<Ended> {
    let moment = shared.moment();
    let taken = {
        let mut state = shared.state();
        let taken = state.engine.on_event(event, moment);
        state.wake();
        taken
    };
    shared.save.notify_one();
    if let Err(error) = taken {
        tracing::debug!(address, %error, "a session's events have a gap");
        return Some(Ended::Quietly);
    }
    let nearest = shared.navigator.current();
    let is_elsewhere = nearest.is_some_and(|route| route.address != address);
    is_elsewhere.then_some(Ended::Quietly)
}

/// Starts the calls that the engine wants, as many as may be under way.
fn begin_calls<'a>(shared: &'a Shared, address: &'a str, calls: &mut FuturesUnordered<BoxFuture<'a, ()>>) {
    while calls.len() < SUBSCRIPTION_CALLS_MAX {
        let Some(call) = shared.state().engine.next_call() else {
            return;
        };
        calls.push(make_call(shared, address, call).boxed());
    }
}

async fn make_call(shared: &Shared, address: &str, call: Call) {
    let transport = &shared.navigator.transport;
    let mut client = transport.sessions(address);
    match call {
        Call::Subscribe { request, attempt } => {
            if attempt > 0 {
                tokio::time::sleep(backoff(attempt, shared.env.entropy.next())).await;
            }
            let number = request.subscription;
            let request = transport.request(request, Some(SUBSCRIBE_DEADLINE));
            let answer = within(SUBSCRIBE_DEADLINE, client.subscribe(request)).await;
            let answer = answer.map_err(|error| match error {
                CallError::Refused(refusal) => CallFailure::Refused(refusal),
                CallError::Lost(_) => CallFailure::Lost,
            });
            let mut state = shared.state();
            state.engine.on_subscribed(number, answer);
            state.wake();
        }
        Call::Unsubscribe(request) => {
            let request = transport.request(request, Some(QUICK_DEADLINE));
            // A node that does not hear of it sends what is passed over here, until the session ends.
            let _ = within(QUICK_DEADLINE, client.unsubscribe(request)).await;
        }
    }
}
