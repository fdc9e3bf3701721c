//! The task of one tenant: takes in what storage tells, and answers what sessions ask.

use std::{sync::Arc, time::Duration};

use halcyon_core::id::TenantId;
use halcyon_proto::error::Refusal;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval},
};

use super::{
    Ask, Inner, SubscribeError,
    limits::{BATCH_COMMITS_MAX, BEHIND_WAIT, TENANT_IDLE, TICK, TICKS_PER_WORD, WAITING_MAX},
    pace::Pace,
    plan::Follows,
    state::{State, Subscribed},
};
use crate::{
    session::Wake,
    storage::types::Commit,
    tenant::{Followed, Follower, ReadError},
};

/// How a call is answered.
pub(super) type Reply = oneshot::Sender<Result<Subscribed, SubscribeError>>;

/// What a session asks.
#[derive(Debug)]
pub(super) enum Command {
    Subscribe(Box<Ask>, Reply),
    Unsubscribe(Follows, oneshot::Sender<bool>),
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Task {
    inner: Arc<Inner>,
    tenant: TenantId,
    commands: mpsc::Receiver<Command>,
    follower: Follower,
    state: State,
    /// Those who have seen more than the node has, and until when they wait for it.
    waiting: Vec<(Box<Ask>, Reply, Duration)>,
    idle_since: Duration,
    ticks: u32,
    commit_pace: Pace,
    call_pace: Pace,
}

impl Task {
    pub(super) fn new(inner: Arc<Inner>, tenant: TenantId, commands: mpsc::Receiver<Command>) -> Self {
        Self {
            follower: inner.tenants.follow(tenant),
            idle_since: inner.env.clock.monotonic(),
            inner,
            tenant,
            commands,
            state: State::default(),
            waiting: Vec::new(),
            ticks: 0,
            commit_pace: Pace::short(),
            call_pace: Pace::long(),
        }
    }

    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let end = self.serve(&mut stop).await;
        self.inner.forget(self.tenant);
        self.commands.close();
        let error = end.err().unwrap_or(SubscribeError::Closed);
        self.state
            .end_all(&Refusal::retry(error.to_string(), Duration::from_millis(500)));
        for (_, reply, _) in self.waiting {
            let _ = reply.send(Err(error.clone()));
        }
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Subscribe(_, reply) => drop(reply.send(Err(error.clone()))),
                Command::Unsubscribe(_, reply) => drop(reply.send(false)),
            }
        }
    }

    async fn serve(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), SubscribeError> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.read_missed().await?;
            tokio::select! {
                biased;
                () = until_stopped(stop) => return Ok(()),
                _ = ticks.tick() => {
                    if self.on_tick().await? {
                        return Ok(());
                    }
                }
                command = self.commands.recv() => match command {
                    Some(command) => {
                        self.on_command(command).await;
                        // Neither calls nor commits keep the other waiting.
                        if let Some(commit) = self.follower.ready()? {
                            self.on_commit(commit).await?;
                        }
                    }
                    None => return Ok(()),
                },
                step = self.follower.step() => {
                    if let Some(Followed::Commit(commit)) = step? {
                        self.on_commit(commit).await?;
                    }
                }
            }
        }
    }

    /// Reads what was missed, until commits come one by one.
    async fn read_missed(&mut self) -> Result<(), SubscribeError> {
        while !self.follower.is_live() {
            let env = self.inner.env.clone();
            match self.follower.step().await? {
                Some(Followed::Facts(facts)) => {
                    let state = &mut self.state;
                    env.run_blocking(|| state.take_facts(facts)).await;
                    let bytes_max = self.inner.bounds().bytes;
                    if self.state.bytes() > bytes_max {
                        return Err(SubscribeError::Memory(bytes_max));
                    }
                }
                Some(Followed::Whole) => {
                    let (state, vector) = (&mut self.state, self.follower.vector());
                    let wakes = env.run_blocking(|| state.take_whole(vector)).await;
                    wakes.into_iter().for_each(Wake::now);
                    self.answer_waiting().await;
                }
                Some(Followed::Anew) => return Err(SubscribeError::Anew),
                Some(Followed::Commit(_)) | None => {}
            }
        }
        Ok(())
    }

    /// Takes in a commit with all that wait behind it: batches form only under load.
    async fn on_commit(&mut self, first: Arc<Commit>) -> Result<(), ReadError> {
        let mut commits = vec![first];
        let mut error = None;
        while commits.len() < BATCH_COMMITS_MAX {
            match self.follower.ready() {
                Ok(Some(commit)) => commits.push(commit),
                Ok(None) => break,
                Err(ended) => {
                    error = Some(ended);
                    break;
                }
            }
        }
        let env = self.inner.env.clone();
        let (state, vector) = (&mut self.state, self.follower.vector());
        let take = || state.take_commits(&commits, vector);
        let wakes = self.commit_pace.run(&env, take).await;
        wakes.into_iter().for_each(Wake::now);
        self.answer_waiting().await;
        error.map_or(Ok(()), Err)
    }

    async fn on_command(&mut self, command: Command) {
        match command {
            Command::Subscribe(mut ask, reply) => {
                if self.is_behind(&mut ask) && self.waiting.len() < WAITING_MAX {
                    let until = self.inner.env.clock.monotonic() + BEHIND_WAIT;
                    self.waiting.push((ask, reply, until));
                } else {
                    self.subscribe(&ask, reply).await;
                }
            }
            Command::Unsubscribe(follows, reply) => {
                let was_there = self.state.unsubscribe(follows, self.inner.env.clock.monotonic());
                let _ = reply.send(was_there);
                self.report();
            }
        }
    }

    /// Whether the client has seen what this node lacks and can still get.
    fn is_behind(&self, ask: &mut Ask) -> bool {
        if self.state.vector().covers(&ask.vector) {
            return false;
        }
        let seen = std::mem::take(&mut ask.vector);
        ask.vector = self.inner.tenants.attainable(self.tenant, seen);
        !self.state.vector().covers(&ask.vector)
    }

    async fn subscribe(&mut self, ask: &Ask, reply: Reply) {
        let env = self.inner.env.clone();
        let (now, bounds) = (env.clock.monotonic(), self.inner.bounds());
        let state = &mut self.state;
        let subscribe = || state.subscribe(ask, now, bounds);
        let answer = self.call_pace.run(&env, subscribe).await;
        self.report();
        // A caller that is gone unsubscribes with its session.
        let _ = reply.send(answer);
    }

    /// Answers those who waited for the node to come as far as they, or too long.
    async fn answer_waiting(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let now = self.inner.env.clock.monotonic();
        let waiting = std::mem::take(&mut self.waiting);
        for (mut ask, reply, until) in waiting {
            if !self.is_behind(&mut ask) || until <= now {
                self.subscribe(&ask, reply).await;
            } else {
                self.waiting.push((ask, reply, until));
            }
        }
    }

    /// Whether nobody has needed this tenant for long.
    async fn on_tick(&mut self) -> Result<bool, SubscribeError> {
        let now = self.inner.env.clock.monotonic();
        self.ticks = self.ticks.wrapping_add(1);
        self.answer_waiting().await;
        let (tenants, tenant) = (&self.inner.tenants, self.tenant);
        self.state.heed_losses(|seen| tenants.attainable(tenant, seen));
        self.state.tidy(now, self.ticks.is_multiple_of(TICKS_PER_WORD));
        let (env, bytes_max) = (self.inner.env.clone(), self.inner.bounds().bytes);
        let state = &mut self.state;
        if self.call_pace.run(&env, || state.is_mostly_gone(bytes_max)).await {
            return Err(SubscribeError::MakingRoom);
        }
        self.state.heed_memory(bytes_max);
        self.report();
        if !self.state.is_idle() || !self.waiting.is_empty() {
            self.idle_since = now;
        }
        Ok(now.saturating_sub(self.idle_since) >= TENANT_IDLE)
    }

    fn report(&self) {
        self.inner.report(self.tenant, self.state.figures());
    }
}

async fn until_stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone has stopped as well.
    let _ = stop.wait_for(|stop| *stop).await;
}
