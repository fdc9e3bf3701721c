//! One text that is followed, with its answer and those who hear of it.

use std::{collections::VecDeque, sync::Arc};

use halcyon_core::collections::{BTreeMap, BTreeSet};
use halcyon_core::{
    id::Tag,
    query::{
        answer::Answer,
        live::{AnswerDelta, Live, Mirror, Refused},
        logic::Query,
    },
    version_vector::VersionVector,
};

use super::{
    FollowerId,
    answered::Answered,
    link::Progress,
    queries::{FollowError, QueryError, QueryStatus, Update, read},
};
use crate::limits::{REOPEN_FROM, UPDATES_MAX};

#[derive(Debug, Default)]
pub(super) struct Follower {
    pub(super) updates: VecDeque<Update>,
}

/// One text that is followed, or was and is kept.
#[expect(clippy::struct_excessive_bools, reason = "each says another thing of the query")]
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) text: Arc<str>,
    pub(super) query: Arc<Query>,
    /// None while nobody follows it, and where a node answers it.
    pub(super) live: Option<Live>,
    pub(super) answered: Option<Answered>,
    pub(super) followers: BTreeMap<FollowerId, Follower>,
    pub(super) progress: Progress,
    /// Its coverage, or the node's answer, has come whole at least once: it sees that alone.
    pub(super) is_whole: bool,
    /// What its coverage shows, or the node's answer.
    pub(super) vector: VersionVector,
    /// The node lags behind what this client has seen.
    pub(super) is_stale: bool,
    /// Attempts in a row that came to nothing.
    pub(super) attempts: u32,
    /// Runs since somebody followed it.
    pub(super) idle_runs: u64,
    /// As the disk kept it.
    pub(super) was_synced: bool,
    pub(super) status: QueryStatus,
    pub(super) failed: Option<QueryError>,
    /// Nobody follows it, and its coverage is kept for who may come back.
    pub(super) lingers: bool,
}

impl Followed {
    pub(super) fn new(text: &str) -> Result<Self, FollowError> {
        Ok(Self {
            text: text.into(),
            query: Arc::new(read(text)?),
            live: None,
            answered: None,
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

    /// The answer as it stands.
    pub(super) fn mirror(&self) -> Option<Mirror> {
        mirror(self.answered.as_ref(), self.live.as_ref())
    }

    pub(super) fn answer(&self) -> Option<Answer> {
        match &self.answered {
            Some(answered) => Some(answered.mirror.answer()),
            None => self.live.as_ref().map(Live::answer),
        }
    }

    pub(super) fn tell_change(&mut self, change: AnswerDelta, woken: &mut BTreeSet<FollowerId>) {
        if !change.is_empty() {
            self.tell(&Update::Delta(change), woken);
        }
    }

    /// Its answer is another than it was.
    pub(super) fn tell_moved(&mut self, before: &Mirror, woken: &mut BTreeSet<FollowerId>) {
        let Some(now) = self.mirror() else { return };
        let change = before.difference(&now);
        // Most of a long answer is told sooner as a whole than edit by edit.
        if change.0.len() > REOPEN_FROM && change.0.len() > now.len() / 2 {
            self.tell(&Update::Answer(Box::new(now)), woken);
        } else {
            self.tell_change(change, woken);
        }
    }

    /// Tells all of it.
    pub(super) fn tell_whole(&mut self, woken: &mut BTreeSet<FollowerId>) {
        if let Some(mirror) = self.mirror() {
            self.tell(&Update::Answer(Box::new(mirror)), woken);
        }
    }

    /// It is answered again.
    pub(super) fn was_not_refused_here(&mut self) {
        if matches!(self.failed, Some(QueryError::Here(_))) {
            self.failed = None;
        }
    }

    pub(super) fn fail_here(&mut self, refused: Refused, woken: &mut BTreeSet<FollowerId>) {
        let error = QueryError::Here(refused);
        self.failed = Some(error.clone());
        self.tell(&Update::Failed(error), woken);
    }

    pub(super) fn tell(&mut self, update: &Update, woken: &mut BTreeSet<FollowerId>) {
        let (answered, live) = (&self.answered, &self.live);
        let whole = || mirror(answered.as_ref(), live.as_ref()).map(|mirror| Update::Answer(Box::new(mirror)));
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

fn mirror(answered: Option<&Answered>, live: Option<&Live>) -> Option<Mirror> {
    match answered {
        Some(answered) => Some(answered.mirror.clone()),
        None => live.map(Live::mirror),
    }
}
