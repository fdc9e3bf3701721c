//! What comes to an end: subscriptions, sessions, queries that nobody follows.

use std::time::Duration;

use halcyon_core::query::live::LiveId;
use halcyon_proto::{error::Refusal, v1};

use super::{
    SubscribeError,
    limits::PLAN_IDLE,
    plan::{Follows, Plan},
    sending::Sending,
    state::{State, uncover},
};
use crate::session::{Event, SessionId, Wake};

impl State {
    /// Follows it no longer. `false` if there is no such subscription.
    pub(super) fn unsubscribe(&mut self, (session, number): Follows, now: Duration) -> bool {
        let Some(member) = self.members.get_mut(&session) else {
            return false;
        };
        let Some(plan) = member.subscriptions.remove(&number) else {
            return false;
        };
        let is_last = member.subscriptions.is_empty();
        self.now = now;
        self.ahead.remove(&(session, number));
        if let Some(plan) = self.plans.get_mut(&plan) {
            plan.subscribers.remove(&(session, number));
            plan.idle_since = now;
        }
        if is_last {
            let member = self.members.remove(&session);
            if let Some(client) = member.and_then(|member| member.session.client())
                && let Some(sessions) = self.by_client.get_mut(&client)
            {
                sessions.remove(&session);
                if sessions.is_empty() {
                    self.by_client.remove(&client);
                }
            }
        }
        true
    }

    /// Lets go of what is over, late or idle; with `word`, says to all how far the node has come.
    pub(super) fn tidy(&mut self, now: Duration, word: bool) {
        self.now = now;
        let over = self.members.values().filter(|member| member.session.is_over());
        let over: Vec<SessionId> = over.map(|member| member.session.id()).collect();
        for session in over {
            self.drop_session(session);
        }
        let subscribers = self.plans.values().flat_map(|plan| &plan.subscribers);
        let late =
            subscribers.filter(|(_, subscriber)| subscriber.resuming.as_ref().is_some_and(|resuming| resuming.1 < now));
        for follows in late.map(|(follows, _)| *follows).collect::<Vec<_>>() {
            let text = "the second call of the subscription did not come; subscribe again";
            self.end_subscription(follows, &Refusal::retry(text, Duration::ZERO));
        }
        let is_idle = |plan: &Plan| plan.subscribers.is_empty() && now.saturating_sub(plan.idle_since) >= PLAN_IDLE;
        let idle: Vec<u64> = self
            .plans
            .iter()
            .filter(|(_, plan)| is_idle(plan))
            .map(|(id, _)| *id)
            .collect();
        for plan in idle {
            self.drop_plan(plan);
        }
        if word {
            let behind = self.members.iter().filter(|(_, member)| member.told != self.version);
            let mut sending = Sending::default();
            for session in behind.map(|(id, _)| *id).collect::<Vec<_>>() {
                self.send(session, &[], &mut sending);
            }
            sending.wakes.into_iter().for_each(Wake::now);
        }
    }

    /// Takes no more memory than it may: queries that nobody follows go first, then those that take most.
    pub(super) fn heed_memory(&mut self, bytes_max: usize) {
        if self.bytes() <= bytes_max {
            return;
        }
        let idle = self.plans.iter().filter(|(_, plan)| plan.subscribers.is_empty());
        for plan in idle.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.drop_plan(plan);
        }
        let why = Refusal::limit(
            "live_bytes_per_tenant_max",
            SubscribeError::Memory(bytes_max).to_string(),
        );
        while self.bytes() > bytes_max
            && let Some(most) = self.plans.iter().max_by_key(|(_, plan)| plan.kept.bytes())
        {
            let most = *most.0;
            self.end_plan(most, &why);
        }
    }

    /// Ends all subscriptions for one reason.
    pub(super) fn end_all(&mut self, why: &Refusal) {
        for plan in self.plans.keys().copied().collect::<Vec<_>>() {
            self.end_plan(plan, why);
        }
    }

    pub(super) fn end_plan(&mut self, plan: u64, why: &Refusal) {
        let Some(of_plan) = self.plans.get(&plan) else { return };
        for follows in of_plan.subscribers.keys().copied().collect::<Vec<_>>() {
            self.end_subscription(follows, why);
        }
        self.drop_plan(plan);
    }

    pub(super) fn end_subscription(&mut self, follows: Follows, why: &Refusal) {
        let Some(subscriber) = self.subscriber(follows) else {
            return;
        };
        let ended = v1::SubscriptionEnded {
            subscription: follows.1,
            error: Some(why.clone().into()),
        };
        // A session that is over needs no word.
        let _ = subscriber.session.send(Event::Ended(ended));
        self.unsubscribe(follows, self.now);
    }

    pub(super) fn drop_session(&mut self, session: SessionId) {
        let Some(member) = self.members.get(&session) else {
            return;
        };
        for number in member.subscriptions.keys().copied().collect::<Vec<_>>() {
            self.unsubscribe((session, number), self.now);
        }
    }

    fn drop_plan(&mut self, id: u64) {
        let Some(plan) = self.plans.remove(&id) else { return };
        self.kept_bytes = self.kept_bytes.saturating_sub(plan.kept.bytes());
        self.by_key.remove(&plan.key);
        self.registry.remove(LiveId(id));
        for entity in plan.kept.entities() {
            uncover(&mut self.covering, entity, id);
        }
    }
}
