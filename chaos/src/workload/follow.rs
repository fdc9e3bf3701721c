//! Live queries of a client: it follows one, leaves it, follows another or the same again, and keeps the last to the end.

use std::{rc::Rc, time::Duration};

use futures::FutureExt;
use halcyon_client::{Client as Halcyon, LiveQuery, engine::QueryStatus, engine::Update};
use halcyon_core::id::TenantId;
use rand::{RngExt, rngs::SmallRng};
use tokio::time::{Sleep, sleep};

use crate::{
    oracles::{Event, Followed, Follower},
    plan::cluster::Client,
    run::{Phase, Stage},
    world::{
        chance::{self, Purpose},
        machine::Machine,
        trace,
    },
};

/// What is followed: a join, the first of an order, what is not there, groups, objects.
const QUERIES: [&str; 6] = [
    "find ?e, ?v where ?e thing/f0 ?v",
    "find ?e, ?v, ?w where ?e thing/f0 ?v; ?e thing/f1 ?w",
    "find ?v, ?e where ?e thing/f0 ?v order by ?v desc limit 3",
    "find ?e where ?e thing/f0; not ?e thing/s0 _",
    "find ?s, count(?e) where ?e thing/s0 ?s",
    "thing where f0 >= \"\" order by f0 limit 4 { f0, f1, s0[] }",
];

/// Where nodes send few entities: what they answer themselves if it rests on more. All else is refused there.
const ANSWERED: [&str; 4] = [
    "find ?v, ?e where ?e thing/f0 ?v order by ?v desc limit 3",
    "find ?s, count(?e) where ?e thing/s0 ?s",
    "find count(?e), max(?v) where ?e thing/f0 ?v",
    "find ?e where ?e thing/f0; not ?e thing/s0 _ order by ?e limit 5",
];

/// How long one is followed, in milliseconds.
const FOLLOWED_FOR: std::ops::RangeInclusive<u64> = 300..=15_000;

/// How long nothing is followed then, in milliseconds: now and then longer than what was left is kept.
const LEFT_FOR: std::ops::RangeInclusive<u64> = 1..=8_000;

/// How far an answer reaches changes without an update.
const TELL_EVERY: Duration = Duration::from_millis(700);

/// How long more updates are waited for before one is told of, for each row: all of the answer is looked at then.
const REST_PER_ROW: Duration = Duration::from_millis(1);

/// The most of it.
const REST_MAX: Duration = Duration::from_secs(1);

/// Follows one query after another, without end.
pub(super) async fn run(stage: Rc<Stage>, follower: Follower, life: u32, tenant: TenantId, client: Halcyon) {
    let me = Machine::Client(follower.client.0);
    let seed = stage.plan.seed ^ u64::from(follower.slot) << 32 ^ u64::from(life) << 40;
    let mut chance = chance::stream(seed, Purpose::Follow, me);
    let sends_few = stage.plan.cluster.settings.contains_key("live_entities_max");
    let queries = if sends_few { &ANSWERED[..] } else { &QUERIES[..] };
    loop {
        let query = queries[chance.random_range(0..queries.len())];
        let until = sleep(drawn(&mut chance, FOLLOWED_FOR));
        match client.live(query) {
            Ok(live) => {
                trace::tell(me, "follow.began", query.to_owned());
                let following = Following {
                    stage: &stage,
                    follower,
                    tenant,
                    query,
                };
                following.listen(live, until).await;
                trace::tell(me, "follow.ended", query.to_owned());
                stage.hear(&Event::FollowEnded(follower));
            }
            Err(error) => stage.hear(&Event::NotFollowed(follower, query, error.to_string())),
        }
        sleep(drawn(&mut chance, LEFT_FOR)).await;
    }
}

fn drawn(chance: &mut SmallRng, millis: std::ops::RangeInclusive<u64>) -> Duration {
    Duration::from_millis(chance.random_range(millis))
}

/// One query that is followed.
struct Following<'a> {
    stage: &'a Stage,
    follower: Follower,
    tenant: TenantId,
    query: &'static str,
}

impl Following<'_> {
    /// Tells of every update, and now and then without one, until it is time to leave. That does not come while all settles.
    async fn listen(&self, mut live: LiveQuery, until: Sleep) {
        tokio::pin!(until);
        let (mut was_stale, mut was_answered) = (false, false);
        let mut rest = Duration::ZERO;
        loop {
            sleep(rest).await;
            let update = tokio::select! {
                biased;
                update = live.next() => update,
                () = sleep(TELL_EVERY) => None,
                () = &mut until, if self.stage.phase() == Phase::Working => return,
            };
            let mut next = update;
            while let Some(update) = next {
                if let Update::Failed(error) = update {
                    let event = Event::NotFollowed(self.follower, self.query, error.to_string());
                    self.stage.hear(&event);
                }
                // What is told already: with all of it, the answer as told is the answer as it stands.
                next = live.next().now_or_never().flatten();
            }
            let Some(now) = live.snapshot() else { return };
            let is_stale = now.status == QueryStatus::Stale;
            let me = Machine::Client(self.follower.client.0);
            if is_stale && !was_stale {
                trace::tell(me, "follow.stale", self.query.to_owned());
            }
            if now.is_answered_by_node && !was_answered {
                trace::tell(me, "follow.answered", self.query.to_owned());
            }
            (was_stale, was_answered) = (is_stale, now.is_answered_by_node);
            rest = (REST_PER_ROW * u32::try_from(now.answer.rows.len()).unwrap_or(u32::MAX)).min(REST_MAX);
            self.stage.hear(&Event::Followed(Rc::new(Followed {
                follower: self.follower,
                tenant: self.tenant,
                query: self.query,
                told: live.told(),
                now,
            })));
        }
    }
}

/// All followers of a client.
pub(super) fn followers(client: Client, count: u32) -> impl Iterator<Item = Follower> {
    (0..count).map(move |slot| Follower { client, slot })
}
