//! The session with a node: what to ask of it, and what its events mean.
//!
//! What always holds:
//! - events are taken in by their numbers, each once; a gap ends the stream, and the session goes on behind what was heard;
//! - coverage that comes in parts moves nothing before its last part;
//! - a query that comes back sends a digest of its coverage, whatever node it comes back to.

mod coverage;

use std::collections::VecDeque;

use halcyon_core::collections::{BTreeMap, BTreeSet};
use halcyon_core::id::{EntityId, Tag};
use halcyon_proto::{
    convert::{self, ConvertError},
    error::{ErrorCode, Refusal},
    v1::{self, connect_response::Event},
};
use prost::bytes::Bytes;
use thiserror::Error;

use super::{Engine, QueryId, QueryStatus, digest, followed::Followed, replica::Arrival};
use crate::session::Moment;

/// A call to make beside the stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// It must end in [`Engine::on_subscribed`].
    Subscribe {
        /// What to send.
        request: v1::SubscribeRequest,
        /// How many calls for this query came to nothing before. A driver waits longer each time.
        attempt: u32,
    },
    /// Nothing follows from its answer.
    Unsubscribe(v1::UnsubscribeRequest),
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq)]
pub enum CallFailure {
    /// The node refused it.
    Refused(Refusal),
    /// No answer came: it may have been carried out.
    Lost,
}

/// Why a stream must be opened anew.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EventError {
    /// Events were lost.
    #[error("event {got} came after {after}")]
    Gap {
        /// The last that was taken in.
        after: u64,
        /// What came.
        got: u64,
    },
    /// It cannot be understood. The next stream opens a new session.
    #[error(transparent)]
    Answer(#[from] ConvertError),
}

/// How far a query's subscription has come.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Progress {
    /// A node is to be asked.
    Wanted,
    /// A call is under way.
    Asked {
        number: u32,
        digest: Vec<Bytes>,
        is_second: bool,
    },
    /// Its coverage is on its way.
    Coming { number: u32 },
    /// It is followed.
    Live(u32),
    /// A node refused it for good.
    Refused,
}

impl Progress {
    const fn number(&self) -> Option<u32> {
        match self {
            Self::Asked { number, .. } | Self::Coming { number } | Self::Live(number) => Some(*number),
            Self::Wanted | Self::Refused => None,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stream {
    /// None was opened yet.
    #[default]
    New,
    Open,
    Lost,
}

/// Of these buckets all comes again: what does not is not needed any more.
#[derive(Debug)]
struct Unsaid {
    buckets: BTreeSet<u32>,
    came: BTreeSet<EntityId>,
}

/// The state of the session.
#[derive(Debug, Default)]
pub(super) struct Link {
    stream: Stream,
    session: Bytes,
    /// The last event that was taken in.
    after: u64,
    last_number: u32,
    /// By the numbers of the session.
    numbers: BTreeMap<u32, QueryId>,
    wanted: BTreeSet<QueryId>,
    calls: VecDeque<Call>,
    /// What came of coverage that is not whole yet.
    parts: BTreeMap<u32, Vec<Arrival>>,
    /// Queries of which the node was not told all that is held.
    unsaid: BTreeMap<QueryId, Unsaid>,
    /// The node does not know the session.
    is_unknown: bool,
    /// Rows of the disk that are not true any more.
    pub(super) queries_moved: BTreeSet<QueryId>,
    pub(super) shown_moved: bool,
}

impl Link {
    pub(super) const fn status_of(&self, progress: &Progress, is_stale: bool) -> QueryStatus {
        match (self.stream, progress) {
            (Stream::New, _) | (_, Progress::Refused) => QueryStatus::Local,
            (Stream::Lost, _) => QueryStatus::Offline,
            (Stream::Open, Progress::Live(_)) if is_stale => QueryStatus::Stale,
            (Stream::Open, Progress::Live(_)) => QueryStatus::Synced,
            (Stream::Open, _) => QueryStatus::Syncing,
        }
    }
}

impl Engine {
    /// What to open a stream with.
    pub fn connect_request(&self) -> v1::ConnectRequest {
        let Link { session, after, .. } = &self.link;
        let (session, after) = if self.link.is_unknown {
            (Bytes::new(), 0)
        } else {
            (session.clone(), *after)
        };
        v1::ConnectRequest {
            tenant: self.tenant.clone(),
            session,
            after,
            client: Bytes::copy_from_slice(&self.client.to_bytes()),
        }
    }

    /// The stream ended, or could not be opened.
    pub fn on_disconnected(&mut self) {
        self.link.stream = Stream::Lost;
        self.link.calls.retain(|call| matches!(call, Call::Unsubscribe(_)));
        self.tell_status();
    }

    /// Somebody else has signed in, to whom a node would not give the session: the next stream opens one of its own. To be
    /// called while no stream is open.
    pub fn forget_session(&mut self) {
        self.link.is_unknown = true;
    }

    /// Whether the stream must be opened anew, for a new session.
    pub fn wants_reconnect(&self) -> bool {
        self.link.is_unknown
    }

    /// The id of the session; empty if there is none. Rooms are entered by it.
    pub fn session_id(&self) -> &[u8] {
        &self.link.session
    }

    /// Takes in an event. Rooms' events and what concerns durability are the caller's.
    pub fn on_event(&mut self, event: v1::ConnectResponse, moment: Moment) -> Result<(), EventError> {
        let number = event.number;
        match event.event {
            Some(Event::Opened(opened)) => {
                self.on_opened(opened, number);
                return Ok(());
            }
            Some(Event::Held(_)) => return Ok(()),
            _ if number <= self.link.after => return Ok(()),
            _ if number != self.link.after + 1 => {
                let (after, got) = (self.link.after, number);
                return Err(EventError::Gap { after, got });
            }
            Some(Event::Commit(commit)) => {
                self.link.after = number;
                self.on_commit(commit, moment)
                    .inspect_err(|_| self.link.is_unknown = true)?;
            }
            Some(Event::Ended(ended)) => self.on_ended(ended),
            Some(Event::Room(_)) | None => {}
        }
        self.link.after = number;
        Ok(())
    }

    /// The next call to make. Several may be under way.
    pub fn next_call(&mut self) -> Option<Call> {
        if self.link.stream != Stream::Open {
            return None;
        }
        if let Some(call) = self.link.calls.pop_front() {
            return Some(call);
        }
        loop {
            let id = self.link.wanted.pop_first()?;
            if let Some(call) = self.subscribe(id) {
                return Some(call);
            }
        }
    }

    /// A `Subscribe` was answered.
    pub fn on_subscribed(&mut self, number: u32, answer: Result<v1::SubscribeResponse, CallFailure>) {
        // An old session's, or of a query that is gone.
        let Some(&id) = self.link.numbers.get(&number) else {
            return;
        };
        match answer {
            Ok(response) => self.on_answered(id, &response),
            Err(CallFailure::Refused(refusal)) => self.on_refused_call(id, refusal),
            Err(CallFailure::Lost) => self.want_again(id),
        }
        self.tell_status();
    }

    /// Ends what a query that is taken away has at the node.
    pub(super) fn end_subscription(&mut self, progress: &Progress) {
        let Some(number) = progress.number() else { return };
        self.link.numbers.remove(&number);
        self.link.parts.remove(&number);
        if self.link.stream == Stream::Open {
            self.link.calls.push_back(Call::Unsubscribe(v1::UnsubscribeRequest {
                tenant: self.tenant.clone(),
                session: self.link.session.clone(),
                subscription: number,
            }));
        }
    }

    /// A query needs a node: it has a first follower.
    pub(super) fn want(&mut self, id: QueryId) {
        self.link.wanted.insert(id);
    }

    fn on_opened(&mut self, opened: v1::SessionOpened, number: u64) {
        self.link.stream = Stream::Open;
        self.link.is_unknown = false;
        if opened.resumed {
            // Calls that were under way had no answer.
            let is_asked = |followed: &Followed| matches!(followed.progress, Progress::Asked { .. });
            let asked = self.queries.iter().filter(|(_, followed)| is_asked(followed));
            let asked: Vec<QueryId> = asked.map(|(id, _)| *id).collect();
            for id in asked {
                self.want_again(id);
            }
        } else {
            self.link.after = number;
            self.link.calls.clear();
            self.link.session = opened.session;
            self.link.numbers.clear();
            self.link.parts.clear();
            self.link.unsaid.clear();
            for (id, followed) in &mut self.queries {
                // What one node refuses, for its limits, another may take.
                followed.ask_anew();
                self.link.wanted.insert(*id);
                self.link.queries_moved.insert(*id);
            }
        }
        self.tell_status();
    }

    fn subscribe(&mut self, id: QueryId) -> Option<Call> {
        let followed = self.queries.get_mut(&id)?;
        if !followed.is_followed() || followed.progress != Progress::Wanted {
            return None;
        }
        self.link.last_number += 1;
        let number = self.link.last_number;
        self.link.numbers.insert(number, id);
        self.link.unsaid.remove(&id);
        let digest = digest::digest(&self.replica, id);
        followed.progress = Progress::Asked {
            number,
            digest: digest.clone(),
            is_second: false,
        };
        let attempt = followed.attempts;
        let request = self.subscribe_request(id, number, digest);
        Some(Call::Subscribe { request, attempt })
    }

    fn subscribe_request(&self, id: QueryId, number: u32, digest: Vec<Bytes>) -> v1::SubscribeRequest {
        v1::SubscribeRequest {
            tenant: self.tenant.clone(),
            session: self.link.session.clone(),
            subscription: number,
            query: self
                .queries
                .get(&id)
                .map_or_else(String::new, |followed| followed.text.to_string()),
            vector: convert::vector_bytes(self.seen()),
            digest,
            held: Vec::new(),
            answers: true,
        }
    }

    fn on_answered(&mut self, id: QueryId, response: &v1::SubscribeResponse) {
        let Some(followed) = self.queries.get_mut(&id) else {
            return;
        };
        // Its coverage may have come before the answer.
        let Progress::Asked {
            number,
            digest,
            is_second,
        } = followed.progress.clone()
        else {
            return;
        };
        if digest.is_empty() || is_second || response.differing.is_empty() {
            followed.progress = Progress::Coming { number };
            return;
        }
        followed.progress = Progress::Asked {
            number,
            digest: digest.clone(),
            is_second: true,
        };
        let mut request = self.subscribe_request(id, number, digest);
        let (held, buckets) = digest::held(&self.replica, id, &response.differing, self.held_bytes_max);
        request.held = held;
        if !buckets.is_empty() {
            let came = BTreeSet::new();
            self.link.unsaid.insert(id, Unsaid { buckets, came });
        }
        self.link.calls.push_back(Call::Subscribe { request, attempt: 0 });
    }

    fn on_refused_call(&mut self, id: QueryId, refusal: Refusal) {
        match refusal.code {
            ErrorCode::NotFound => {
                self.link.is_unknown = true;
                self.want_again(id);
            }
            ErrorCode::Limit | ErrorCode::Forbidden | ErrorCode::Malformed => self.give_up(id, refusal),
            _ => self.want_again(id),
        }
    }

    /// A node tells a session what became of the sets that its own clock stamped. Those that an earlier run left in the
    /// outbox bear another's: if they change nothing of a query, word of them never comes, so the query is asked anew.
    pub(super) fn ask_after_earlier_runs(&mut self) {
        let earlier = self
            .replica
            .pending()
            .filter(|pending| pending.set.client() != self.client);
        let tags: Vec<Tag> = earlier.filter_map(|pending| pending.tag).collect();
        let waits = |followed: &Followed| {
            let is_asked = followed.is_followed() && followed.is_synced();
            is_asked && tags.iter().any(|tag| followed.waits_for(*tag))
        };
        let waiting = self.queries.iter().filter(|(_, followed)| waits(followed));
        let waiting: Vec<QueryId> = waiting.map(|(id, _)| *id).collect();
        for id in waiting {
            self.want_again(id);
        }
    }

    /// Asks once more, under another number.
    fn want_again(&mut self, id: QueryId) {
        let Some(followed) = self.queries.get_mut(&id) else {
            return;
        };
        followed.attempts = followed.attempts.saturating_add(1);
        followed.is_stale = false;
        let progress = std::mem::replace(&mut followed.progress, Progress::Wanted);
        self.link.queries_moved.insert(id);
        self.link.wanted.insert(id);
        self.end_subscription(&progress);
    }

    fn give_up(&mut self, id: QueryId, refusal: Refusal) {
        let Some(followed) = self.queries.get_mut(&id) else {
            return;
        };
        let progress = std::mem::replace(&mut followed.progress, Progress::Refused);
        if let Some(number) = progress.number() {
            self.link.numbers.remove(&number);
            self.link.parts.remove(&number);
        }
        self.link.queries_moved.insert(id);
        if refusal.code == ErrorCode::Forbidden {
            self.replica.uncover_all(id);
            self.forget_answer(id);
        }
        self.fail(id, refusal);
        self.let_go();
        self.advance();
    }

    fn on_ended(&mut self, ended: v1::SubscriptionEnded) {
        self.link.parts.remove(&ended.subscription);
        let Some(&id) = self.link.numbers.get(&ended.subscription) else {
            return;
        };
        self.link.numbers.remove(&ended.subscription);
        if let Some(followed) = self.queries.get_mut(&id) {
            // The node has forgotten it already.
            followed.progress = Progress::Wanted;
        }
        match ended.error.map(Refusal::from) {
            Some(refusal) => self.on_refused_call(id, refusal),
            None => self.want_again(id),
        }
        self.tell_status();
    }
}
