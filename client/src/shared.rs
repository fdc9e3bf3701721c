//! What the tasks of one client share.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use halcyon_core::{change::Change, env::Env};
use halcyon_proto::error::Refusal;
use tokio::sync::{Notify, oneshot, watch};

use crate::{
    engine::{Engine, FollowError, FollowerId},
    error::{OutboxError, Refused, WriteError},
    navigate::Navigator,
    outbox::OutboxFile,
    session::{Moment, Outcome, Place, Stored},
    types::{Acknowledged, ClientOptions},
};

/// How a set ends.
pub(crate) type End = Result<Acknowledged, Refused>;

/// How whoever wrote a set hears what becomes of it.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// How it ends.
    pub(crate) end: oneshot::Receiver<End>,
    /// A node keeps it, and no second region had it when that was heard last.
    pub(crate) held: Arc<AtomicBool>,
}

/// The other end of a [`Ticket`].
#[derive(Debug)]
struct Waiter {
    end: oneshot::Sender<End>,
    held: Arc<AtomicBool>,
}

/// The session, and who waits for its sets.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) engine: Engine,
    waiters: BTreeMap<Place, Waiter>,
    /// Who follows queries.
    followers: BTreeMap<FollowerId, Arc<Notify>>,
}

/// What the tasks of one client share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) env: Env,
    pub(crate) navigator: Navigator,
    pub(crate) outbox: Option<Arc<OutboxFile>>,
    pub(crate) forward: bool,
    /// For a read with all its attempts.
    pub(crate) read_deadline: Duration,
    state: Mutex<State>,
    /// Held from a set's stamp until it is in the queue, and while sets are stamped again.
    pub(crate) stamping: tokio::sync::Mutex<()>,
    /// There may be something to push.
    pub(crate) work: Notify,
    /// Sets were settled: there is room, and perhaps nothing left to wait for.
    pub(crate) settled: Notify,
    pub(crate) closed: watch::Sender<bool>,
    /// What a node said when it refused the session last.
    pub(crate) refused: watch::Sender<Option<Refusal>>,
    /// A query is followed, or there are calls to make for one.
    pub(crate) follow: Notify,
    /// There may be rows to save.
    pub(crate) save: Notify,
    /// A query was left, and may linger.
    pub(crate) left: Notify,
}

impl Shared {
    pub(crate) fn new(
        env: Env,
        navigator: Navigator,
        outbox: Option<Arc<OutboxFile>>,
        engine: Engine,
        options: &ClientOptions,
    ) -> Self {
        let waiters = BTreeMap::new();
        Self {
            env,
            navigator,
            outbox,
            forward: options.forward,
            read_deadline: options.read_deadline,
            state: Mutex::new(State {
                engine,
                waiters,
                followers: BTreeMap::new(),
            }),
            stamping: tokio::sync::Mutex::default(),
            work: Notify::new(),
            settled: Notify::new(),
            closed: watch::Sender::new(false),
            refused: watch::Sender::new(None),
            follow: Notify::new(),
            save: Notify::new(),
            left: Notify::new(),
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
    pub(crate) fn write_in_memory(&self, changes: Vec<Change>) -> Result<(u64, Ticket), WriteError> {
        let moment = self.moment();
        let mut state = self.state();
        let (stored, number) = state.engine.stamp(changes, moment)?;
        let ticket = state.accept(stored);
        drop(state);
        self.work.notify_one();
        Ok((number, ticket))
    }

    /// Carries out what an answer asks for, in an order that a crash cannot hurt: what has a new timestamp is durable
    /// before it is pushed.
    pub(crate) async fn carry_out(&self, outcome: &mut Outcome) -> Result<(), OutboxError> {
        let settled = std::mem::take(&mut outcome.settled);
        let (floor, ends) = {
            let mut state = self.state();
            for place in std::mem::take(&mut outcome.held) {
                if let Some(waiter) = state.waiters.get(&place) {
                    waiter.held.store(true, Ordering::Relaxed);
                }
            }
            let ends: Vec<_> = settled
                .into_iter()
                .filter_map(|(place, end)| Some((state.waiters.remove(&place)?, end)))
                .collect();
            (state.engine.floor(), ends)
        };
        for (waiter, end) in ends {
            // Whoever wrote it may not care.
            let _ = waiter.end.send(end.map_err(Refused::Refused));
        }
        self.settled.notify_waiters();
        let Some(outbox) = &self.outbox else { return Ok(()) };
        // What a set that goes has become is kept in the same commit.
        outbox.stage(self.state().engine.take_rows());
        self.save.notify_one();
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
            let _ = waiter.end.send(Err(Refused::Kept(refusal.clone())));
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
    /// Wakes those whose queries changed. To be called whenever the engine was told something.
    pub(crate) fn wake(&mut self) {
        for follower in self.engine.take_woken() {
            if let Some(notify) = self.followers.get(&follower) {
                notify.notify_one();
            }
        }
    }

    /// Follows a query; the notice says that there are updates.
    pub(crate) fn follow(&mut self, query: &str) -> Result<(FollowerId, Arc<Notify>), FollowError> {
        let follower = self.engine.follow(query)?;
        let notify = Arc::new(Notify::new());
        self.followers.insert(follower, notify.clone());
        self.wake();
        Ok((follower, notify))
    }

    /// Ends it; what the query needs may stay for a moment.
    pub(crate) fn unfollow(&mut self, follower: FollowerId) {
        self.followers.remove(&follower);
        self.engine.leave(follower);
        self.wake();
    }

    /// Takes a durable set in. The ticket's holder hears how it ends.
    pub(crate) fn accept(&mut self, stored: Stored) -> Ticket {
        let (sender, end) = oneshot::channel();
        let held = Arc::new(AtomicBool::new(false));
        let waiter = Waiter {
            end: sender,
            held: held.clone(),
        };
        self.waiters.insert(stored.place, waiter);
        self.engine.accept(stored);
        self.wake();
        Ticket { end, held }
    }
}
