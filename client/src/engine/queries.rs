//! Queries that are followed: one state for each text, whoever follows it.

use std::{collections::VecDeque, sync::Arc};

use halcyon_core::collections::{BTreeMap, BTreeSet};
use halcyon_core::{
    graph::Delta,
    id::Tag,
    query::{
        self,
        answer::Answer,
        eval::{Budget, EvalError},
        live::{AnswerDelta, Live, LiveId, Lost, Mirror, Refused},
        logic::Query,
    },
    version_vector::VersionVector,
};
use halcyon_proto::error::Refusal;
use thiserror::Error;

use super::{
    Engine, FollowerId, QueryId,
    link::Progress,
    replica::{Moves, Replica},
    view::View,
};
use crate::limits::{LINGERS_AMONG_MAX, REOPEN_FROM, UPDATES_MAX};

/// How far an answer can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryStatus {
    /// From what is here; no node has been asked yet.
    Local,
    /// A node has been asked; what it sends is on its way.
    Syncing,
    /// The node's own state, and what is pending.
    Synced,
    /// The node lags behind what this client has seen: there may be more, and some of it may be gone.
    Stale,
    /// No node can be reached; the answer is what was here last.
    Offline,
}

/// What a follower is told.
#[derive(Debug, Clone)]
pub enum Update {
    /// The whole answer: the first that is told, and again to a follower that did not listen for long.
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
    /// How far it can be trusted.
    pub status: QueryStatus,
    /// Up to where it shows the tenant: where it is [`QueryStatus::Synced`], with nothing pending, it is the answer of the
    /// node there.
    pub vector: VersionVector,
    /// Sets of this client that lie over what nodes have confirmed.
    pub pending: usize,
}

#[derive(Debug, Default)]
struct Follower {
    updates: VecDeque<Update>,
}

/// One text that is followed, or was and is kept.
#[expect(clippy::struct_excessive_bools, reason = "each says another thing of the query")]
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) text: Arc<str>,
    query: Arc<Query>,
    /// None while nobody follows it.
    pub(super) live: Option<Live>,
    followers: BTreeMap<FollowerId, Follower>,
    pub(super) progress: Progress,
    /// Its coverage has come whole at least once: it sees that alone.
    pub(super) is_whole: bool,
    /// What its coverage shows.
    pub(super) vector: VersionVector,
    /// The node lags behind what this client has seen.
    pub(super) is_stale: bool,
    /// Attempts in a row that came to nothing.
    pub(super) attempts: u32,
    /// Runs since somebody followed it.
    pub(super) idle_runs: u64,
    /// As the disk kept it.
    pub(super) was_synced: bool,
    status: QueryStatus,
    failed: Option<QueryError>,
    /// Nobody follows it, and its coverage is kept for who may come back.
    lingers: bool,
}

impl Followed {
    pub(super) fn new(text: &str) -> Result<Self, FollowError> {
        Ok(Self {
            text: text.into(),
            query: Arc::new(read(text)?),
            live: None,
            followers: BTreeMap::new(),
            progress: Progress::Wanted,
            is_whole: false,
            vector: VersionVector::EMPTY,
            is_stale: false,
            attempts: 0,
            idle_runs: 0,
            was_synced: false,
            status: QueryStatus::Local,
            failed: None,
            lingers: false,
        })
    }

    /// Whether its answer follows what changes.
    pub(super) const fn is_kept_up(&self) -> bool {
        self.live.is_some() && !matches!(self.failed, Some(QueryError::Here(_)))
    }

    pub(super) fn is_followed(&self) -> bool {
        !self.followers.is_empty()
    }

    pub(super) const fn is_synced(&self) -> bool {
        matches!(self.progress, Progress::Live(_)) && !self.is_stale
    }

    /// A new session knows nothing of it.
    pub(super) fn ask_anew(&mut self) {
        self.progress = Progress::Wanted;
        self.is_stale = false;
        if matches!(self.failed, Some(QueryError::Refused(_))) {
            self.failed = None;
        }
    }

    /// Whether its answer would lose a taken set that left the overlay now.
    pub(super) fn waits_for(&self, tag: Tag) -> bool {
        let is_needed = self.is_followed() || self.lingers;
        is_needed && !matches!(self.progress, Progress::Refused) && !self.vector.covers_tag(tag)
    }

    /// Whether this is its last follower.
    pub(super) fn is_left_by(&self, follower: FollowerId) -> bool {
        self.followers.len() == 1 && self.followers.contains_key(&follower)
    }

    fn tell(&mut self, update: &Update, woken: &mut BTreeSet<FollowerId>) {
        let whole = || self.live.as_ref().map(|live| Update::Answer(Box::new(live.mirror())));
        for (id, follower) in &mut self.followers {
            follower.updates.push_back(update.clone());
            if follower.updates.len() > UPDATES_MAX {
                let last = |update: &Update| matches!(update, Update::Status(_) | Update::Failed(_));
                let status = follower.updates.iter().rev().find(|update| last(update)).cloned();
                follower.updates = whole().into_iter().chain(status).collect();
            }
            woken.insert(*id);
        }
    }
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
        if followed.live.is_none() {
            let view = self.replica.view(followed.is_whole.then_some(id));
            match Live::open(&followed.query, &view, Budget::default()) {
                Ok(live) => {
                    self.registry.insert(LiveId(id.0), &live, &view);
                    followed.live = Some(live);
                }
                Err(refused) => {
                    if followed.followers.is_empty() && !followed.is_whole {
                        self.remove(id);
                    }
                    return Err(refused.into());
                }
            }
        }
        if std::mem::take(&mut followed.idle_runs) > 0 {
            self.link.queries_moved.insert(id);
        }
        if std::mem::take(&mut followed.lingers) {
            followed.status = self.link.status_of(&followed.progress, followed.is_stale);
        }
        let follower = FollowerId(self.next_follower);
        self.next_follower += 1;
        let mirror = followed.live.as_ref().map(Live::mirror);
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
            followed.live = None;
            followed.lingers = true;
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
        let followed = self.queries.get(self.by_follower.get(&follower)?)?;
        followed.live.as_ref().map(Live::answer)
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
            answer: followed.live.as_ref()?.answer(),
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
        let is_new = !std::mem::replace(&mut followed.is_whole, true);
        if is_new {
            reopen(id, followed, &self.replica, &mut self.woken);
        }
        is_new
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
            Ok(change) if change.is_empty() => {}
            Ok(change) => followed.tell(&Update::Delta(change), &mut self.woken),
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

/// Answers a query anew, and tells its followers the difference.
pub(super) fn reopen(id: QueryId, followed: &mut Followed, replica: &Replica, woken: &mut BTreeSet<FollowerId>) {
    let Some(live) = &followed.live else { return };
    let before = live.mirror();
    let view = replica.view(followed.is_whole.then_some(id));
    match Live::open(&followed.query, &view, Budget::default()) {
        Ok(live) => {
            let now = live.mirror();
            let change = before.difference(&now);
            followed.live = Some(live);
            // Most of a long answer is told sooner as a whole than edit by edit.
            if change.0.len() > REOPEN_FROM && change.0.len() > now.len() / 2 {
                followed.tell(&Update::Answer(Box::new(now)), woken);
            } else if !change.is_empty() {
                followed.tell(&Update::Delta(change), woken);
            }
        }
        Err(refused) => {
            let error = QueryError::Here(refused);
            followed.failed = Some(error.clone());
            followed.tell(&Update::Failed(error), woken);
        }
    }
}

fn read(text: &str) -> Result<Query, FollowError> {
    query::read(text).map_err(|error| FollowError::Query(error.render(text)))
}
