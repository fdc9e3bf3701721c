//! What the tasks of one client share.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use halcyon_core::{change::Change, env::Env};
use halcyon_proto::error::Refusal;
use tokio::sync::{Notify, oneshot, watch};

use crate::{
    error::{OutboxError, Refused, WriteError},
    navigate::Navigator,
    outbox::OutboxFile,
    session::{Moment, Outcome, Place, Session, Stored},
    types::Acknowledged,
};

/// How a set ends.
pub(crate) type End = Result<Acknowledged, Refused>;

/// The session, and who waits for its sets.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) session: Session,
    waiters: BTreeMap<Place, oneshot::Sender<End>>,
}

/// What the tasks of one client share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) env: Env,
    pub(crate) navigator: Navigator,
    pub(crate) outbox: Option<Arc<OutboxFile>>,
    pub(crate) forward: bool,
    state: Mutex<State>,
    /// There may be something to push.
    pub(crate) work: Notify,
    /// Sets were settled: there is room, and perhaps nothing left to wait for.
    pub(crate) settled: Notify,
    pub(crate) closed: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn new(
        env: Env,
        navigator: Navigator,
        outbox: Option<Arc<OutboxFile>>,
        forward: bool,
        session: Session,
    ) -> Self {
        let waiters = BTreeMap::new();
        Self {
            env,
            navigator,
            outbox,
            forward,
            state: Mutex::new(State { session, waiters }),
            work: Notify::new(),
            settled: Notify::new(),
            closed: watch::Sender::new(false),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn moment(&self) -> Moment {
        Moment {
            wall: self.env.clock.wall(),
            jitter: self.env.entropy.next(),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Resolves once the client is closed.
    pub(crate) async fn until_closed(&self) {
        let mut closed = self.closed.subscribe();
        // It only ends with `self`, which is borrowed.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    /// Stamps changes and hands them to the session without a disk between.
    pub(crate) fn write_in_memory(&self, changes: Vec<Change>) -> Result<(u64, oneshot::Receiver<End>), WriteError> {
        let moment = self.moment();
        let mut state = self.state();
        let (stored, number) = state.session.stamp(changes, moment)?;
        let end = state.accept(stored);
        drop(state);
        self.work.notify_one();
        Ok((number, end))
    }

    /// Carries out what an answer asks for, in an order that a crash cannot hurt: what has a new timestamp is durable
    /// before it is pushed.
    pub(crate) async fn carry_out(&self, outcome: &mut Outcome) -> Result<(), OutboxError> {
        let settled = std::mem::take(&mut outcome.settled);
        let (floor, ends) = {
            let mut state = self.state();
            let ends: Vec<_> = settled
                .into_iter()
                .filter_map(|(place, end)| Some((state.waiters.remove(&place)?, end)))
                .collect();
            (state.session.floor(), ends)
        };
        for (waiter, end) in ends {
            // Whoever wrote it may not care.
            let _ = waiter.send(end.map_err(Refused::Refused));
        }
        self.settled.notify_waiters();
        let Some(outbox) = &self.outbox else { return Ok(()) };
        if !outcome.rewritten.is_empty() {
            outbox.commit(&self.env, &outcome.rewritten, floor).await?;
        }
        outbox
            .forget(&self.env, std::mem::take(&mut outcome.forgotten), floor)
            .await
    }

    /// Tells everybody who waits that their sets stay in the outbox.
    pub(crate) fn tell_blocked(&self, refusal: &Refusal) {
        let waiters = std::mem::take(&mut self.state().waiters);
        for waiter in waiters.into_values() {
            let _ = waiter.send(Err(Refused::Kept(refusal.clone())));
        }
        self.settled.notify_waiters();
    }

    /// Nobody waits any longer: what holds a `Pending` hears that the client is closed.
    pub(crate) fn drop_waiters(&self) {
        self.state().waiters.clear();
        self.settled.notify_waiters();
    }
}

impl State {
    /// Takes a durable set in. The receiver hears how it ends.
    pub(crate) fn accept(&mut self, stored: Stored) -> oneshot::Receiver<End> {
        let (waiter, end) = oneshot::channel();
        self.waiters.insert(stored.place, waiter);
        self.session.enqueue(stored);
        end
    }
}
