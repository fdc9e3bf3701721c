//! Clients' sessions: one stream of numbered events to each, that outlives its connection by a grace.
//!
//! Whoever has something to tell a session ([`Session::send`]) never waits: a session that does not take its events as
//! fast as they come ends, its client opens another and resumes by digest. What a session has in other rooms ends with
//! it ([`Sessions::on_end`]). A session belongs to a tenant and to the key that opened it.

mod buffer;
mod events;
pub mod limits;
mod seldom;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::task::AtomicWaker;
use halcyon_core::{clock::ClientId, env::Env, id::TenantId};
use thiserror::Error;
use tokio::{sync::watch, time::sleep};

use self::{
    buffer::{Buffer, Weight},
    limits::{END_LISTENERS_MAX, GRACE, SESSIONS_MAX, SESSIONS_PER_TENANT_MAX, SWEEP},
};
use crate::metadata::state::SecretHash;

pub use events::{Events, Next};
/// What a session hears of.
pub use halcyon_proto::v1::connect_response::Event;
pub use seldom::Seldom;

/// Names a session. Drawn at random: who knows it and has the key may go on with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 16]);

/// The stream of a session that has something to take.
#[derive(Debug)]
#[must_use = "a stream that is not woken takes nothing before its heartbeat"]
pub struct Wake(Option<Arc<AtomicWaker>>);

impl Wake {
    /// Wakes it.
    pub fn now(self) {
        if let Some(stream) = self.0 {
            stream.wake();
        }
    }
}

/// Whose a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The tenant.
    pub tenant: TenantId,
    /// The key that opened it.
    pub key: SecretHash,
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum End {
    /// It did not take its events in time.
    #[error("the session's events came faster than they were taken; open another and resume by digest")]
    Slow,
    /// Its grace passed without a stream, or it lacks events that are no longer kept.
    #[error("the session is over: it had no stream for too long; open another and resume by digest")]
    Lost,
    /// Its key or its tenant is no longer served here.
    #[error("the session is over: its tenant or its key is no longer served here")]
    NotServed,
}

/// The session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the session is over")]
pub struct Gone;

/// Why nobody is told of a session's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OnEndError {
    /// It is over already.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// Too many wait to be told: the session goes on, and this one hears nothing.
    #[error("{0} wait for the end of the session already")]
    TooMany(usize),
}

/// Why a session is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SessionError {
    /// There is none of that id.
    #[error("there is no such session on this node; connect first")]
    Unknown,
    /// It belongs to another tenant or key.
    #[error("the session belongs to another tenant or key")]
    NotYours,
    /// There are too many.
    #[error("{0} sessions are open here; go to another node")]
    TooMany(usize),
}

/// What a session is told at its end, in the order asked for.
type OnEnd = Box<dyn FnOnce() + Send>;

/// The sessions of a node. Clones share them.
#[derive(Clone)]
pub struct Sessions {
    inner: Arc<Inner>,
}

struct Inner {
    env: Env,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    sessions: BTreeMap<SessionId, Session>,
    by_tenant: BTreeMap<TenantId, usize>,
}

/// One session. Clones are handles to it.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
}

struct Shared {
    id: SessionId,
    owner: Owner,
    /// The clock of the client that writes beside it.
    client: Option<ClientId>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    buffer: Buffer,
    /// Wakes the stream, if there is one.
    stream: Option<Arc<AtomicWaker>>,
    /// When the last stream went.
    left_at: Duration,
    end: Option<End>,
    on_end: Vec<OnEnd>,
}

/// A session with its new stream.
#[derive(Debug)]
pub struct Connected {
    /// Which.
    pub session: Session,
    /// Whether it is the one that was asked for.
    pub resumed: bool,
    /// The stream. One that was there before ends.
    pub events: Events,
}

/// How many there are, and what they hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionFigures {
    /// Sessions.
    pub open: usize,
    /// Of these, those with a stream.
    pub connected: usize,
    /// Bytes of events. Those that several share count for each.
    pub bytes: usize,
}

impl Sessions {
    /// None yet.
    pub fn new(env: &Env) -> Self {
        let inner = Inner {
            env: env.clone(),
            open: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Goes on with the session that is asked for, behind the event of that number, or opens one.
    pub fn connect(
        &self,
        owner: Owner,
        client: Option<ClientId>,
        asked: Option<(SessionId, u64)>,
    ) -> Result<Connected, SessionError> {
        if let Some((id, after)) = asked {
            match self.require(id, owner) {
                Ok(session) if session.shared.client == client && session.rewind(after) => {
                    return Ok(self.connected(session, true));
                }
                Ok(_) => self.end(id, End::Lost),
                Err(SessionError::Unknown) => {}
                Err(error) => return Err(error),
            }
        }
        let session = self.open(owner, client)?;
        Ok(self.connected(session, false))
    }

    /// The session of that id, if it belongs to `owner`.
    pub fn require(&self, id: SessionId, owner: Owner) -> Result<Session, SessionError> {
        let session = self.get(id).ok_or(SessionError::Unknown)?;
        if session.shared.owner == owner {
            Ok(session)
        } else {
            Err(SessionError::NotYours)
        }
    }

    /// The session of that id.
    pub fn get(&self, id: SessionId) -> Option<Session> {
        self.lock().sessions.get(&id).cloned()
    }

    /// Tells a session something. Never waits.
    pub fn send(&self, id: SessionId, event: Event) -> Result<(), Gone> {
        self.get(id).ok_or(Gone)?.send(event)
    }

    /// Calls `told` when the session is over, from whoever finds that. It must not block.
    pub fn on_end(&self, id: SessionId, told: OnEnd) -> Result<(), OnEndError> {
        let session = self.get(id).ok_or(Gone)?;
        let mut state = session.state();
        if state.end.is_some() {
            return Err(Gone.into());
        }
        if state.on_end.len() >= END_LISTENERS_MAX {
            return Err(OnEndError::TooMany(END_LISTENERS_MAX));
        }
        state.on_end.push(told);
        Ok(())
    }

    /// Ends a session.
    pub fn end(&self, id: SessionId, why: End) {
        let mut open = self.lock();
        let Some(session) = open.sessions.remove(&id) else {
            return;
        };
        let tenant = session.shared.owner.tenant;
        if let Some(count) = open.by_tenant.get_mut(&tenant) {
            *count -= 1;
            if *count == 0 {
                open.by_tenant.remove(&tenant);
            }
        }
        drop(open);
        session.finish(why);
    }

    /// Ends sessions whose grace has passed or that were too slow, until `stop`.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = sleep(SWEEP) => self.sweep(),
            }
        }
    }

    /// See [`SessionFigures`].
    pub fn figures(&self) -> SessionFigures {
        let open = self.lock();
        let mut figures = SessionFigures {
            open: open.sessions.len(),
            ..SessionFigures::default()
        };
        for session in open.sessions.values() {
            let state = session.state();
            figures.connected += usize::from(state.stream.is_some());
            figures.bytes += state.buffer.bytes();
        }
        figures
    }

    fn sweep(&self) {
        let now = self.inner.env.clock.monotonic();
        let over = |session: &Session| {
            let state = session.state();
            let is_left = state.stream.is_none() && now.saturating_sub(state.left_at) >= GRACE;
            state.end.or(is_left.then_some(End::Lost))
        };
        let open = self.lock();
        let ends = open
            .sessions
            .values()
            .filter_map(|session| Some((session.id(), over(session)?)));
        let ends: Vec<(SessionId, End)> = ends.collect();
        drop(open);
        for (id, why) in ends {
            self.end(id, why);
        }
    }

    fn open(&self, owner: Owner, client: Option<ClientId>) -> Result<Session, SessionError> {
        let id = SessionId(self.inner.env.random_u128().to_le_bytes());
        let shared = Shared {
            id,
            owner,
            client,
            state: Mutex::default(),
        };
        let session = Session {
            shared: Arc::new(shared),
        };
        let mut open = self.lock();
        if open.sessions.len() >= SESSIONS_MAX {
            return Err(SessionError::TooMany(SESSIONS_MAX));
        }
        let count = open.by_tenant.entry(owner.tenant).or_default();
        if *count >= SESSIONS_PER_TENANT_MAX {
            return Err(SessionError::TooMany(SESSIONS_PER_TENANT_MAX));
        }
        *count += 1;
        open.sessions.insert(id, session.clone());
        Ok(session)
    }

    fn connected(&self, session: Session, resumed: bool) -> Connected {
        let events = Events::attach(&self.inner.env, session.clone());
        Connected {
            session,
            resumed,
            events,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.inner.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Its id.
    pub fn id(&self) -> SessionId {
        self.shared.id
    }

    /// Whose it is.
    pub fn owner(&self) -> Owner {
        self.shared.owner
    }

    /// The clock of the client that writes beside it.
    pub fn client(&self) -> Option<ClientId> {
        self.shared.client
    }

    /// Tells it something. Never waits; a session that is too slow for it is over.
    pub fn send(&self, event: Event) -> Result<(), Gone> {
        self.put(Arc::new(event)).map(Wake::now)
    }

    /// The same, but its stream is not woken yet. Who tells many sessions the same wakes them when all have it: their
    /// connections then write much at once instead of little often.
    pub fn put(&self, event: Arc<Event>) -> Result<Wake, Gone> {
        self.push(event, Weight::News)
    }

    /// Tells it a part of a new subscription's coverage. Ask [`Self::has_room_for_load`] first.
    pub fn send_load(&self, event: Event) -> Result<(), Gone> {
        self.push(Arc::new(event), Weight::Load).map(Wake::now)
    }

    /// Whether so many bytes of coverage fit beside what waits.
    pub fn has_room_for_load(&self, bytes: usize) -> bool {
        self.state().buffer.has_room_for_load(bytes)
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.state().end.is_some()
    }

    fn push(&self, event: Arc<Event>, weight: Weight) -> Result<Wake, Gone> {
        let mut state = self.state();
        if state.end.is_some() {
            return Err(Gone);
        }
        let pushed = state.buffer.push(event, weight);
        let wake = Wake(state.stream.clone());
        drop(state);
        if pushed.is_err() {
            self.finish(End::Slow);
            return Err(Gone);
        }
        Ok(wake)
    }

    fn rewind(&self, after: u64) -> bool {
        let mut state = self.state();
        state.end.is_none() && state.buffer.rewind(after)
    }

    /// Lets go of all that it holds, and tells those who asked.
    fn finish(&self, why: End) {
        let mut state = self.state();
        state.end.get_or_insert(why);
        state.buffer = Buffer::default();
        if let Some(stream) = &state.stream {
            stream.wake();
        }
        let told = std::mem::take(&mut state.on_end);
        drop(state);
        for told in told {
            told();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionId {
    /// Reads one; it has 16 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions")
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({})", self.shared.id)
    }
}
