//! Queries that nobody follows any more, kept for a moment: who comes back to a page finds it as it was left, and nothing
//! is loaded again.
//!
//! Their subscriptions go on, so their coverage stays what the node has; their answers are found anew when somebody
//! comes. Only what is synced lingers, few queries with not too many entities. The oldest go first.

use super::{Engine, FollowerId, QueryId};
use crate::limits::{LINGER_AGES, LINGERING_ENTITIES_MAX, LINGERING_MAX, LINGERS_AMONG_MAX};

/// A query that lingers, and how often [`Engine::age_lingering`] has met it.
#[derive(Debug)]
pub(super) struct Lingering {
    query: QueryId,
    age: u32,
}

impl Engine {
    /// Ends following as [`Engine::unfollow`] does, but keeps what the query needs until it has been aged a few times.
    pub fn leave(&mut self, follower: FollowerId) {
        let Some(&id) = self.by_follower.get(&follower) else {
            return;
        };
        let is_among_few = self.queries.len() <= LINGERS_AMONG_MAX;
        let can_linger = self
            .queries
            .get(&id)
            .is_some_and(|followed| followed.is_left_by(follower) && followed.is_whole && followed.is_synced());
        if !can_linger || !is_among_few {
            return self.unfollow(follower);
        }
        self.by_follower.remove(&follower);
        self.woken.remove(&follower);
        self.rest(id, follower);
        self.lingering.push_back(Lingering { query: id, age: 0 });
        self.let_go_of_most();
        self.let_go();
        self.advance();
    }

    /// Whether any query lingers: then [`Self::age_lingering`] is wanted now and then.
    pub fn has_lingering(&self) -> bool {
        !self.lingering.is_empty()
    }

    /// Some time has passed: what has lingered long enough goes.
    pub fn age_lingering(&mut self) {
        for lingering in &mut self.lingering {
            lingering.age += 1;
        }
        while self.lingering.front().is_some_and(|first| first.age >= LINGER_AGES) {
            self.drop_oldest();
        }
        self.let_go();
        self.advance();
    }

    /// Nothing lingers any more.
    pub fn end_lingering(&mut self) {
        while self.has_lingering() {
            self.drop_oldest();
        }
        self.let_go();
        self.advance();
    }

    /// Somebody follows it again, or it is gone.
    pub(super) fn is_back(&mut self, id: QueryId) {
        self.lingering.retain(|lingering| lingering.query != id);
    }

    fn let_go_of_most(&mut self) {
        loop {
            let entities = self
                .lingering
                .iter()
                .map(|lingering| self.replica.covered_count(lingering.query));
            let entities: usize = entities.sum();
            if self.lingering.len() <= LINGERING_MAX && entities <= LINGERING_ENTITIES_MAX {
                return;
            }
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(Lingering { query, .. }) = self.lingering.pop_front() {
            self.remove(query);
        }
    }
}
