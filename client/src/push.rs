//! The task that pushes: takes what the session wants sent, sends it, and tells the session what came of it.

use std::{sync::Arc, time::Duration};

use halcyon_core::{collections::BTreeSet, id::NodeId};
use halcyon_proto::{
    convert::{self, Taken},
    error::Refusal,
    v1,
};
use prost::bytes::Bytes;

use crate::{
    limits::{
        BACKOFF_MAX, BACKOFF_MIN, HELD_INTERVAL, HELD_INTERVAL_BUSY, MEASURE_INTERVAL, PUSH_DEADLINE, QUICK_DEADLINE,
    },
    routing::Route,
    session::{Answer, Held, Next, Outcome, Push, backoff},
    shared::Shared,
    transport::{CallError, within},
};

/// When a client asks whether a second replica holds what it keeps.
struct Asking {
    /// How long it waits for that.
    quiet: Duration,
    /// When it last asked, or had nothing to ask about.
    asked: Duration,
    /// The last push was put off: what is kept may have to be pushed again before a node takes what waits.
    is_put_off: bool,
}

impl Asking {
    async fn ask(&mut self, shared: &Shared) {
        self.asked = shared.env.clock.monotonic();
        self.quiet = ask_held(shared, self.quiet).await;
    }
}

/// Pushes until the client is closed.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut asking = Asking {
        quiet: HELD_INTERVAL,
        asked: Duration::ZERO,
        is_put_off: false,
    };
    loop {
        tokio::select! {
            biased;
            () = shared.until_closed() => return,
            () = turn(&shared, &mut asking) => {}
        }
    }
}

/// Looks around whenever something failed, and from time to time.
pub(crate) async fn keep_near(shared: Arc<Shared>) {
    let mut failures = 0;
    loop {
        tokio::select! {
            biased;
            () = shared.until_closed() => return,
            () = shared.navigator.look.notified() => {}
            () = tokio::time::sleep(MEASURE_INTERVAL) => {}
        }
        tokio::select! {
            biased;
            () = shared.until_closed() => return,
            () = look_around(&shared, &mut failures) => {}
        }
    }
}

async fn look_around(shared: &Shared, failures: &mut u32) {
    match shared.navigator.find().await {
        Ok(_) => *failures = 0,
        Err(error) => {
            tracing::debug!(%error, "the tenant was not located");
            *failures = failures.saturating_add(1);
        }
    }
    shared.navigator.measure().await;
    shared.work.notify_one();
    // Failures come in flocks; one look answers them all. While nobody answers (the device is offline, say) every read
    // and every push asks for another look, and each dials all nodes: so the looks become rarer.
    tokio::time::sleep(BACKOFF_MIN.max(backoff(*failures, shared.env.entropy.next()))).await;
}

/// One push, or a wait for one.
async fn turn(shared: &Shared, asking: &mut Asking) {
    stamp_first(shared).await;
    let push = shared.state().engine.next_push();
    let Some(push) = push else {
        if tokio::time::timeout(asking.quiet, shared.work.notified())
            .await
            .is_err()
        {
            asking.ask(shared).await;
        }
        return;
    };
    if shared.state().engine.kept() == 0 {
        // What is pushed from now on has to get to a second replica first.
        asking.asked = shared.env.clock.monotonic();
    }
    if !asking.is_put_off {
        asking.quiet = HELD_INTERVAL;
    }
    let (answer, route, held) = send(shared, push).await;
    let stamping = if answer.is_drift() {
        Some(shared.stamping.lock().await)
    } else {
        None
    };
    let moment = shared.moment();
    let mut outcome = {
        let mut state = shared.state();
        let mut outcome = state.engine.on_push_answer(answer, moment);
        if let (Some(node), Some(held)) = (route.as_ref().and_then(|route| route.node), held) {
            // Whether a node is lost is asked in quiet moments, against a fresh list.
            outcome.forgotten.extend(state.engine.on_held(node, &held, &[].into()));
        }
        state.wake();
        outcome
    };
    drop(stamping);
    carry_out(shared, &mut outcome).await;
    asking.is_put_off = matches!(outcome.next, Next::Wait(_));
    follow(shared, route, outcome.next).await;
    // Whoever never stops writing has no quiet moment, and may keep what only a lost node had.
    let wait = if asking.is_put_off {
        asking.quiet
    } else {
        HELD_INTERVAL_BUSY
    };
    if shared.env.clock.monotonic() >= asking.asked + wait {
        asking.ask(shared).await;
    }
}

/// Stamps again what was never pushed and the node would refuse.
async fn stamp_first(shared: &Shared) {
    if shared.state().engine.waiting() == 0 {
        return;
    }
    let Some(clock) = shared.navigator.clock().await else {
        return;
    };
    if !shared.state().engine.note_clock(clock) {
        return;
    }
    let stamping = shared.stamping.lock().await;
    let moment = shared.moment();
    let rewritten = {
        let mut state = shared.state();
        let rewritten = state.engine.before_push(clock, moment);
        state.wake();
        rewritten
    };
    drop(stamping);
    if !rewritten.is_empty() {
        let mut outcome = Outcome {
            rewritten,
            ..Outcome::default()
        };
        carry_out(shared, &mut outcome).await;
    }
}

/// A set whose new timestamp is not on disk must not be pushed: the disk is tried again until it takes it.
async fn carry_out(shared: &Shared, outcome: &mut Outcome) {
    while let Err(error) = shared.carry_out(outcome).await {
        tracing::error!(%error, "the outbox does not take what was stamped again, or what an answer changed");
        tokio::time::sleep(BACKOFF_MAX).await;
    }
}

/// What was pushed is known to a later run, or it would stamp it again.
async fn keep_pushed(shared: &Shared) {
    let Some(outbox) = &shared.outbox else { return };
    let pushed = shared.state().engine.floor().pushed;
    while let Err(error) = outbox.keep_pushed(&shared.env, pushed).await {
        tracing::error!(%error, "the outbox does not take how far was pushed");
        tokio::time::sleep(BACKOFF_MAX).await;
    }
}

async fn send(shared: &Shared, push: Push) -> (Answer, Option<Route>, Option<Held>) {
    let Some((route, mut client)) = shared.navigator.route() else {
        shared.navigator.look.notify_one();
        return (Answer::Unsent, None, None);
    };
    let raises_floor = shared.state().engine.on_send();
    if raises_floor {
        keep_pushed(shared).await;
    }
    let message = v1::PushRequest {
        tenant: shared.navigator.tenant.clone(),
        change_sets: push.sets,
        vector: convert::vector_bytes(&push.vector),
        forward: shared.forward,
    };
    let transport = &shared.navigator.transport;
    let bytes = message.change_sets.iter().map(Bytes::len).sum();
    let request = transport.request(message, Some(PUSH_DEADLINE));
    let answer = transport.answer((&route.address, bytes), PUSH_DEADLINE, client.push(request));
    match answer.await {
        Ok(response) => {
            shared.navigator.on_worked(&route.address);
            log_refusal(&route, &response);
            let second = convert::vector(&response.held).unwrap_or_default();
            let held = Held {
                second,
                ..Held::default()
            };
            let results = response.results.into_iter().map(result).collect();
            (Answer::Results(results), Some(route), Some(held))
        }
        Err(CallError::Refused(refusal)) => (Answer::Refused(refusal), Some(route), None),
        Err(CallError::Lost(reason)) => {
            tracing::debug!(address = route.address, reason, "a push has no answer");
            (Answer::Lost, Some(route), None)
        }
    }
}

/// The first refusal: the others are mostly of the same kind.
fn log_refusal(route: &Route, response: &v1::PushResponse) {
    let refused = response.results.iter().find_map(|result| match &result.result {
        Some(v1::push_result::Result::Refused(error)) => Some(error),
        _ => None,
    });
    if let Some(error) = refused {
        let (address, message) = (&route.address, &error.message);
        tracing::debug!(address, message, "a set was refused");
    }
}

fn result(message: v1::PushResult) -> Option<Result<Taken, Refusal>> {
    match message.result? {
        v1::push_result::Result::Taken(taken) => Taken::try_from(taken).ok().map(Ok),
        v1::push_result::Result::Refused(error) => Some(Err(error.into())),
    }
}

async fn follow(shared: &Shared, route: Option<Route>, next: Next) {
    let address = route.map(|route| route.address);
    let pause = match next {
        Next::Go => return,
        Next::Wait(pause) => pause,
        Next::Leave(pause) => {
            if let Some(address) = address {
                shared.navigator.on_failed(&address);
            }
            pause
        }
        Next::Move(replicas, pause) => {
            if let Some(address) = address {
                shared.navigator.on_elsewhere(&address, replicas);
            }
            pause
        }
        Next::Blocked(refusal, pause) => {
            tracing::warn!(%refusal, "nodes refuse this client");
            shared.tell_blocked(&refusal);
            pause
        }
    };
    tokio::time::sleep(pause).await;
}

/// Asks whether a second replica holds what is kept. Returns how long to be quiet before asking again.
async fn ask_held(shared: &Shared, quiet: Duration) -> Duration {
    if shared.state().engine.kept() == 0 {
        return quiet;
    }
    let longer = (quiet * 2).min(MEASURE_INTERVAL);
    let Some((route, mut client)) = shared.navigator.route() else {
        return longer;
    };
    let message = v1::HeldRequest {
        tenant: shared.navigator.tenant.clone(),
        forward: shared.forward,
    };
    let request = shared.navigator.transport.request(message, Some(QUICK_DEADLINE));
    let answer = within(QUICK_DEADLINE, client.held(request)).await;
    let Ok(answer) = answer else { return longer };
    // A release that does not say who answered does not pass the question on.
    let node = match answer.node {
        0 => route.node,
        node => Some(NodeId(node)),
    };
    let Some(node) = node else { return longer };
    let (Ok(own), Ok(second)) = (convert::vector(&answer.own), convert::vector(&answer.second)) else {
        return longer;
    };
    // A release that does not say who holds the tenant leaves what was located last.
    let replicas: BTreeSet<NodeId> = match &answer.replicas[..] {
        [] => shared.navigator.replicas(),
        replicas => replicas.iter().copied().map(NodeId).collect(),
    };
    let (places, floor) = {
        let mut state = shared.state();
        let places = state.engine.on_held(node, &Held { own, second }, &replicas);
        (places, state.engine.floor())
    };
    let (let_go, kept) = (places.len(), shared.state().engine.kept());
    tracing::debug!(%node, let_go, kept, "asked what a second replica holds");
    let progress = !places.is_empty();
    if let Some(outbox) = &shared.outbox {
        let tidied = match outbox.forget(&shared.env, places, floor).await {
            Ok(()) => outbox.tidy(&shared.env, floor).await,
            Err(error) => Err(error),
        };
        if let Err(error) = tidied {
            tracing::error!(%error, "the outbox does not let go of acknowledged sets");
        }
    }
    if progress { HELD_INTERVAL } else { longer }
}
