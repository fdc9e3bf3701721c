//! Queries that are followed: one state for each text, whoever follows it.

use std::sync::Arc;

use halcyon_core::collections::BTreeSet;
use halcyon_core::{
    graph::Delta,
    query::{
        self,
        answer::Answer,
        eval::{Budget, EvalError},
        live::{AnswerDelta, Live, LiveId, Lost, Mirror, Refused, Registry},
        logic::Query,
    },
    version_vector::VersionVector,
};
use halcyon_proto::error::Refusal;
use thiserror::Error;

use super::{
    Engine, FollowerId, QueryId,
    followed::{Followed, Follower},
    replica::{Moves, Replica},
    view::View,
};
use crate::limits::{LINGERS_AMONG_MAX, REOPEN_FROM};

/// How far an answer can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryStatus {
    /// From what is here; no node has been asked yet.
    Local,
    /// A node has been asked; what it sends is on its way.
    Syncing,
    /// The node's own state, and what is pending here, unless a node answers the query.
    Synced,
    /// The node lags behind what this client has seen: there may be more, and some of it may be gone.
    Stale,
    /// No node can be reached; the answer is what was here last.
    Offline,
}

/// What a follower is told.
#[derive(Debug, Clone)]
pub enum Update {
    /// The whole answer: the first that is told, and again where much of it changed at once, a node begins or ends to
    /// answer the query, or a follower did not listen for long.
    Answer(Box<Mirror>),
    /// What one step did to it.
    Delta(AnswerDelta),
    /// How far it can be trusted from here on.
    Status(QueryStatus),
    /// It moves no more: a node does not follow the query, or it outgrew what may be held here.
    Failed(QueryError),
}

/// Why an answer does not move any more.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum QueryError {
    /// A node refused to follow the query.
    #[error(transparent)]
    Refused(Refusal),
    /// It takes too much here.
    #[error(transparent)]
    Here(Refused),
}

/// Why a query cannot be followed, or asked.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum FollowError {
    /// It does not say what it should; the text shows the place.
    #[error("{0}")]
    Query(String),
    /// It cannot be followed.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It cannot be answered.
    #[error(transparent)]
    Eval(#[from] EvalError),
}

/// What a query shows, and how far that can be trusted.
#[derive(Debug, Clone, PartialEq)]
pub struct QuerySnapshot {
    /// The answer.
    pub answer: Answer,
    /// It is a node's: what it rests on is more than is held here, and nothing of this client's lies over it.
    pub is_answered_by_node: bool,
    /// How far it can be trusted.
    pub status: QueryStatus,
    /// Up to where it shows the tenant: where it is [`QueryStatus::Synced`], with nothing pending, it is the answer of the
    /// node there.
    pub vector: VersionVector,
    /// Sets of this client that lie over what nodes have confirmed.
    pub pending: usize,
}

impl Engine {
    /// Follows a query, JSON if it begins with a brace. It is answered at once from what is here.
    pub fn follow(&mut self, text: &str) -> Result<FollowerId, FollowError> {
        let text = text.trim();
        self.start_showing();
        let known = self.by_text.get(text).copied();
        if known.is_none() && self.queries.len() >= LINGERS_AMONG_MAX {
            self.end_lingering();
        }
        let id = known.map_or_else(|| self.add(text), Ok)?;
        let Some(followed) = self.queries.get_mut(&id) else {
            unreachable!("texts lead to queries");
        };
        if followed.live.is_none()
            && followed.answered.is_none()
            && let Err(refused) = open(id, followed, &self.replica, &mut self.registry)
        {
            if followed.followers.is_empty() && !followed.is_whole {
                self.remove(id);
            }
            return Err(refused.into());
        }
        if std::mem::take(&mut followed.idle_runs) > 0 {
            self.link.queries_moved.insert(id);
        }
        if std::mem::take(&mut followed.lingers) {
            followed.status = self.link.status_of(&followed.progress, followed.is_stale);
        }
        let follower = FollowerId(self.next_follower);
        self.next_follower += 1;
        let mirror = followed.mirror();
        let updates = mirror.map(|mirror| Update::Answer(Box::new(mirror))).into_iter();
        let status = Update::Status(followed.status);
        let failed = followed.failed.clone().map(Update::Failed);
        let updates = updates.chain([status]).chain(failed).collect();
        followed.followers.insert(follower, Follower { updates });
        self.by_follower.insert(follower, id);
        self.woken.insert(follower);
        self.is_back(id);
        self.want(id);
        self.tell_status();
        Ok(follower)
    }

    /// Ends following. With its last follower goes a query's coverage, as far as nothing else needs it.
    pub fn unfollow(&mut self, follower: FollowerId) {
        let Some(id) = self.by_follower.remove(&follower) else {
            return;
        };
        self.woken.remove(&follower);
        let Some(followed) = self.queries.get_mut(&id) else {
            return;
        };
        followed.followers.remove(&follower);
        if !followed.is_followed() {
            self.remove(id);
            self.let_go();
            self.advance();
        }
    }

    /// Its last follower is gone, and its answer with it; its coverage stays.
    pub(super) fn rest(&mut self, id: QueryId, follower: FollowerId) {
        if let Some(followed) = self.queries.get_mut(&id) {
            followed.followers.remove(&follower);
            followed.lingers = true;
        }
        self.stop_answering(id);
    }

    /// It is not answered here from now on.
    pub(super) fn stop_answering(&mut self, id: QueryId) {
        if let Some(followed) = self.queries.get_mut(&id) {
            followed.live = None;
            self.registry.remove(LiveId(id.0));
        }
    }

    /// The updates of a follower since they were taken last.
    pub fn take_updates(&mut self, follower: FollowerId) -> Vec<Update> {
        let id = self.by_follower.get(&follower);
        let followed = id.and_then(|id| self.queries.get_mut(id));
        let of = followed.and_then(|followed| followed.followers.get_mut(&follower));
        of.map_or_else(Vec::new, |follower| follower.updates.drain(..).collect())
    }

    /// The answer as it stands.
    pub fn answer(&self, follower: FollowerId) -> Option<Answer> {
        self.queries.get(self.by_follower.get(&follower)?)?.answer()
    }

    /// How far it can be trusted.
    pub fn status(&self, follower: FollowerId) -> Option<QueryStatus> {
        let followed = self.queries.get(self.by_follower.get(&follower)?)?;
        Some(followed.status)
    }

    /// Answers a query once, from what is here: of all queries, and what is pending.
    pub fn query_local(&mut self, text: &str) -> Result<Answer, FollowError> {
        let query = read(text.trim())?;
        self.start_showing();
        Ok(query::eval::answer(&Arc::new(query), &self.replica.view(None))?)
    }

    /// All of it at one moment.
    pub fn snapshot(&self, follower: FollowerId) -> Option<QuerySnapshot> {
        let followed = self.queries.get(self.by_follower.get(&follower)?)?;
        Some(QuerySnapshot {
            answer: followed.answer()?,
            is_answered_by_node: followed.answered.is_some(),
            status: followed.status,
            vector: followed.vector.clone(),
            pending: self.replica.pending().count(),
        })
    }

    /// How many entities are held for a follower's query.
    pub fn covered(&self, follower: FollowerId) -> usize {
        let id = self.by_follower.get(&follower);
        id.map_or(0, |id| self.replica.covered_count(*id))
    }

    /// Moves all queries over what changed, and tells their followers.
    pub(super) fn advance(&mut self) {
        self.advance_others(&BTreeSet::new());
    }

    /// The same, but for those that were asked anew since, and have it in their answers already.
    pub(super) fn advance_others(&mut self, asked_anew: &BTreeSet<QueryId>) {
        let moves = self.replica.take_moves();
        if !moves.is_empty() {
            for id in self.touched(&moves, asked_anew) {
                self.advance_one(id, &moves);
            }
            self.let_go_of_texts();
        }
        self.tell_status();
    }

    /// A query sees its own coverage from now on. Answers whether it was asked anew for that.
    pub(super) fn narrow(&mut self, id: QueryId) -> bool {
        let Some(followed) = self.queries.get_mut(&id) else {
            return false;
        };
        if followed.answered.is_some() {
            followed.is_whole = false;
            return false;
        }
        if std::mem::replace(&mut followed.is_whole, true) {
            return false;
        }
        if followed.live.is_some() {
            reopen(id, followed, &self.replica, &mut self.woken);
        } else if followed.is_followed() {
            // A node answered it before.
            match open(id, followed, &self.replica, &mut self.registry) {
                Ok(()) => followed.tell_whole(&mut self.woken),
                Err(refused) => followed.fail_here(refused, &mut self.woken),
            }
        }
        true
    }

    /// Takes a query away, and all that it alone needed.
    pub(super) fn remove(&mut self, id: QueryId) {
        let Some(followed) = self.queries.remove(&id) else {
            return;
        };
        self.by_text.remove(&followed.text);
        self.registry.remove(LiveId(id.0));
        self.is_back(id);
        self.end_subscription(&followed.progress);
        self.replica.uncover_all(id);
        self.link.queries_moved.insert(id);
    }

    /// A node refused a query for good.
    pub(super) fn fail(&mut self, id: QueryId, refusal: Refusal) {
        let Some(followed) = self.queries.get_mut(&id) else {
            return;
        };
        let error = QueryError::Refused(refusal);
        followed.failed = Some(error.clone());
        followed.tell(&Update::Failed(error), &mut self.woken);
    }

    /// Tells followers whose status changed.
    pub(super) fn tell_status(&mut self) {
        for followed in self.queries.values_mut().filter(|followed| followed.is_followed()) {
            let status = self.link.status_of(&followed.progress, followed.is_stale);
            if std::mem::replace(&mut followed.status, status) != status {
                followed.tell(&Update::Status(status), &mut self.woken);
            }
        }
    }

    fn add(&mut self, text: &str) -> Result<QueryId, FollowError> {
        let followed = Followed::new(text)?;
        let id = QueryId(self.next_query);
        self.next_query += 1;
        self.by_text.insert(followed.text.clone(), id);
        self.queries.insert(id, followed);
        self.link.queries_moved.insert(id);
        Ok(id)
    }

    fn touched(&self, moves: &Moves, asked_anew: &BTreeSet<QueryId>) -> BTreeSet<QueryId> {
        let lives = self.queries.iter().filter(|(_, followed)| followed.live.is_some());
        let mut others: BTreeSet<QueryId> = lives.map(|(id, _)| *id).collect();
        others.retain(|id| !asked_anew.contains(id));
        let mut touched: BTreeSet<QueryId> = moves.queries().filter(|id| others.contains(id)).collect();
        moves.each_triple(self.replica.graph(), |triple| {
            // There may be many triples, and few queries that are not touched yet.
            if touched.len() == others.len() {
                return;
            }
            self.registry.touched(triple, self.replica.graph(), |live| {
                let id = QueryId(live.0);
                if others.contains(&id) {
                    touched.insert(id);
                }
            });
        });
        touched
    }

    fn advance_one(&mut self, id: QueryId, moves: &Moves) {
        let Some(followed) = self.queries.get_mut(&id) else {
            return;
        };
        if !followed.is_kept_up() {
            return;
        }
        let Some(live) = &mut followed.live else { return };
        let view = self.replica.view(followed.is_whole.then_some(id));
        let delta = moves.delta_of(id, view);
        match follow_delta(live, &delta, view) {
            Ok(change) => followed.tell_change(change, &mut self.woken),
            Err(_) => reopen(id, followed, &self.replica, &mut self.woken),
        }
    }
}

/// Where most of what a query sees changed, asking anew is cheaper than following.
fn follow_delta(live: &mut Live, delta: &Delta, view: View<'_>) -> Result<AnswerDelta, Lost> {
    if delta.is_empty() {
        return Ok(AnswerDelta::default());
    }
    let changed = delta.added.len() + delta.removed.len();
    if changed > REOPEN_FROM && changed > view.graph.len() / 4 {
        return Err(Lost::TooFar(changed as u64));
    }
    live.apply(delta, &view)
}

/// Answers a query from what is here, and keeps the answer up.
fn open(id: QueryId, followed: &mut Followed, replica: &Replica, registry: &mut Registry) -> Result<(), Refused> {
    let view = replica.view(followed.is_whole.then_some(id));
    let live = Live::open(&followed.query, &view, Budget::default())?;
    registry.insert(LiveId(id.0), &live, &view);
    followed.live = Some(live);
    followed.was_not_refused_here();
    Ok(())
}

/// Answers a query anew, and tells its followers the difference.
pub(super) fn reopen(id: QueryId, followed: &mut Followed, replica: &Replica, woken: &mut BTreeSet<FollowerId>) {
    let Some(live) = &followed.live else { return };
    let before = live.mirror();
    let view = replica.view(followed.is_whole.then_some(id));
    match Live::open(&followed.query, &view, Budget::default()) {
        Ok(live) => {
            followed.live = Some(live);
            followed.tell_moved(&before, woken);
        }
        Err(refused) => followed.fail_here(refused, woken),
    }
}

pub(super) fn read(text: &str) -> Result<Query, FollowError> {
    query::read(text).map_err(|error| FollowError::Query(error.render(text)))
}
