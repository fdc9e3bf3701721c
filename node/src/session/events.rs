//! The stream of a session: takes events as they come, and leaves the session behind when it goes.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::task::AtomicWaker;
use halcyon_core::env::Env;
use tokio::time::{Sleep, sleep};

use super::{End, Event, Session, limits::HEARTBEAT};

/// What comes next on a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// An event with its number.
    Event(u64, Arc<Event>),
    /// No event at the end of a heartbeat; the number of the last event.
    Beat(u64),
    /// The session is over.
    Over(End),
    /// Another stream took the session over.
    Replaced,
}

/// The one stream of a session.
pub struct Events {
    env: Env,
    session: Session,
    filled: Arc<AtomicWaker>,
    /// Until the next heartbeat. It goes on while events come: one timer for each event would cost more than the event.
    beat: Option<Pin<Box<Sleep>>>,
}

impl Events {
    pub(super) fn attach(env: &Env, session: Session) -> Self {
        let filled = Arc::new(AtomicWaker::new());
        let before = session.state().stream.replace(Arc::clone(&filled));
        if let Some(before) = before {
            before.wake();
        }
        Self {
            env: env.clone(),
            session,
            filled,
            beat: None,
        }
    }

    /// The next event, in time for the heartbeat.
    pub async fn next(&mut self) -> Next {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The same, for whoever waits for more than that.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        // First, so that no event is missed.
        self.filled.register(context.waker());
        if let Some(next) = self.ready() {
            return Poll::Ready(next);
        }
        let beat = self.beat.get_or_insert_with(|| Box::pin(sleep(HEARTBEAT)));
        if beat.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.beat = None;
        let mut state = self.session.state();
        state.buffer.prune(self.env.clock.monotonic());
        Poll::Ready(Next::Beat(state.buffer.last_taken()))
    }

    /// The number of the last event that was taken.
    pub fn last_taken(&self) -> u64 {
        self.session.state().buffer.last_taken()
    }

    /// What is there already.
    pub fn ready(&mut self) -> Option<Next> {
        let mut state = self.session.state();
        if let Some(end) = state.end {
            return Some(Next::Over(end));
        }
        if !is_same(state.stream.as_ref(), &self.filled) {
            return Some(Next::Replaced);
        }
        let (number, event) = state.buffer.take(self.env.clock.monotonic())?;
        Some(Next::Event(number, event))
    }
}

fn is_same(stream: Option<&Arc<AtomicWaker>>, ours: &Arc<AtomicWaker>) -> bool {
    stream.is_some_and(|stream| Arc::ptr_eq(stream, ours))
}

impl Drop for Events {
    fn drop(&mut self) {
        let mut state = self.session.state();
        if is_same(state.stream.as_ref(), &self.filled) {
            state.stream = None;
            state.left_at = self.env.clock.monotonic();
        }
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Events({:?})", self.session)
    }
}
