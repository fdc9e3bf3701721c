//! The engine with its surroundings: time, the control plane's word on who holds what, and whom to wake.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use futures::task::AtomicWaker;
use halcyon_core::{
    clock::ClientId,
    env::Env,
    id::{EntityId, NodeId, RegionName, TenantId},
};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};

use super::{
    engine::{Engine, Figures, Saying, Setting, Wake},
    events::RoomEvents,
    limits::TICK,
    link,
    types::{ConnectionId, Moment, RoomError, RoomName, SessionId},
};
use crate::{metadata::View, peers::Pool};

/// The rooms that clients of this node are in. Clones share them.
#[derive(Clone)]
pub struct Lobby {
    pub(super) shared: Arc<Shared>,
}

impl fmt::Debug for Lobby {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lobby").field(&self.shared.me).finish()
    }
}

pub(super) struct Shared {
    pub(super) env: Env,
    pub(super) me: NodeId,
    pub(super) pool: Pool,
    pub(super) view: View,
    state: Mutex<State>,
    /// Streams to peers may be wanted.
    entered: Notify,
}

struct State {
    engine: Engine,
    /// The stream of each session, and which of its streams it is.
    sessions: BTreeMap<SessionId, (u64, Arc<AtomicWaker>)>,
    streams: u64,
    links: BTreeMap<NodeId, Arc<AtomicWaker>>,
}

impl State {
    fn is_attached(&self, session: SessionId, stream: u64) -> bool {
        let attached = self.sessions.get(&session);
        attached.is_some_and(|(number, _)| *number == stream)
    }
}

impl Lobby {
    /// Nobody is in any room. [`Self::run`] keeps the streams to peers.
    pub fn new(env: Env, me: NodeId, region: &RegionName, pool: Pool, view: View) -> Self {
        let start = u32::try_from(env.entropy.next() >> 32).unwrap_or_default();
        let clock = ClientId::from_random(env.random_u128());
        let state = State {
            engine: Engine::new(me, region.as_str(), start, clock),
            sessions: BTreeMap::new(),
            streams: 0,
            links: BTreeMap::new(),
        };
        let shared = Shared {
            env,
            me,
            pool,
            view,
            state: Mutex::new(state),
            entered: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Forgets the dead and keeps the streams to peers, until the node stops.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let shared = &self.shared;
        let mut view = shared.view.clone();
        let mut links = tokio::task::JoinSet::new();
        loop {
            let moment = shared.moment();
            shared.with(|engine| engine.tick(moment));
            for tenant in shared.with(|engine| engine.tenants()) {
                shared.place(tenant);
            }
            for (peer, waker) in shared.missing_links() {
                links.spawn(link::run(Arc::clone(shared), peer, waker, stop.clone()));
            }
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                () = shared.entered.notified() => {}
                () = view.changed() => {}
                () = sleep(TICK) => {}
            }
            while links.try_join_next().is_some() {}
        }
        while links.join_next().await.is_some() {}
    }

    /// What a session has to be told, from now on: each of its rooms comes whole first. One stream at a time: an older
    /// one ends. A session that is without a stream for a while is not seen in its rooms until it has one again.
    pub fn events(&self, session: SessionId, tenant: TenantId) -> RoomEvents {
        let waker = Arc::new(AtomicWaker::new());
        let stream = self.shared.attach(session, tenant, &waker);
        RoomEvents::new(Arc::clone(&self.shared), (session, stream), waker)
    }

    /// A session is over: it leaves its rooms.
    pub fn end(&self, session: SessionId) {
        self.shared.with(|engine| engine.end(session));
        if let Some((_, waker)) = self.shared.lock().sessions.remove(&session) {
            waker.wake();
        }
    }

    /// A session enters a room; without a name a new one. Returns the room, and the connection in it.
    pub fn enter(
        &self,
        (session, tenant): (SessionId, TenantId),
        room: &str,
        user: (&str, &str),
    ) -> Result<(RoomName, ConnectionId), RoomError> {
        let shared = &self.shared;
        let room = if room.is_empty() {
            let id = EntityId::generate(|count| shared.env.random_bytes(count));
            RoomName::new(id.as_str())?
        } else {
            RoomName::new(room)?
        };
        shared.place(tenant);
        let moment = shared.moment();
        let connection = shared.with(|engine| engine.enter((session, tenant), &room, user, moment))?;
        shared.entered.notify_one();
        Ok((room, connection))
    }

    /// A session leaves a room.
    pub fn leave(&self, (session, tenant): (SessionId, TenantId), room: &str) -> Result<(), RoomError> {
        let room = RoomName::new(room)?;
        self.shared.with(|engine| {
            engine.check_session(session, tenant)?;
            engine.leave(session, &room);
            Ok(())
        })
    }

    /// A connection does something else.
    pub fn set_presence(
        &self,
        (session, tenant): (SessionId, TenantId),
        room: &str,
        presence: &str,
    ) -> Result<(), RoomError> {
        let (room, moment) = (RoomName::new(room)?, self.shared.moment());
        self.shared.with(|engine| {
            engine.check_session(session, tenant)?;
            engine.set_presence(session, &room, presence, moment)
        })
    }

    /// A client sets fields of the room's status.
    pub fn set_status(
        &self,
        (session, tenant): (SessionId, TenantId),
        room: &str,
        settings: Vec<Setting>,
    ) -> Result<(), RoomError> {
        let (room, moment) = (RoomName::new(room)?, self.shared.moment());
        let drift_max = self.shared.view.settings().drift_max;
        self.shared.with(|engine| {
            engine.check_session(session, tenant)?;
            engine.set_status(session, &room, settings, moment, drift_max)
        })
    }

    /// A client says something.
    pub fn send(&self, (session, tenant): (SessionId, TenantId), room: &str, saying: Saying) -> Result<(), RoomError> {
        let (room, moment) = (RoomName::new(room)?, self.shared.moment());
        let drift_max = self.shared.view.settings().drift_max;
        self.shared.with(|engine| {
            engine.check_session(session, tenant)?;
            engine.send(session, &room, saying, moment, drift_max)
        })
    }

    /// Figures.
    pub fn figures(&self) -> Figures {
        self.shared.lock().engine.figures()
    }
}

impl Shared {
    pub(super) fn moment(&self) -> Moment {
        Moment {
            wall: self.env.clock.wall(),
            now: self.env.clock.monotonic(),
        }
    }

    /// Asks the engine, and wakes whom that concerns.
    pub(super) fn with<T>(&self, ask: impl FnOnce(&mut Engine) -> T) -> T {
        let mut state = self.lock();
        let answer = ask(&mut state.engine);
        let wakes = state.engine.wakes();
        if wakes.is_empty() {
            return answer;
        }
        let waker = |wake| match wake {
            Wake::Session(session) => state.sessions.get(&session).map(|(_, waker)| Arc::clone(waker)),
            Wake::Peer(peer) => state.links.get(&peer).map(Arc::clone),
        };
        let wakers: Vec<_> = wakes.into_iter().filter_map(waker).collect();
        drop(state);
        for waker in wakers {
            waker.wake();
        }
        answer
    }

    /// Whether this is still the session's stream.
    pub(super) fn is_attached(&self, session: SessionId, stream: u64) -> bool {
        self.lock().is_attached(session, stream)
    }

    pub(super) fn detach(&self, session: SessionId, stream: u64) {
        let moment = self.moment();
        // Under one lock: a newer stream may be taking the session over.
        let mut state = self.lock();
        if state.is_attached(session, stream) {
            state.sessions.remove(&session);
            state.engine.detach(session, moment);
        }
    }

    /// The link to a peer has ended.
    pub(super) fn unlink(&self, peer: NodeId) {
        self.lock().links.remove(&peer);
    }

    fn attach(&self, session: SessionId, tenant: TenantId, waker: &Arc<AtomicWaker>) -> u64 {
        let moment = self.moment();
        let mut state = self.lock();
        state.streams += 1;
        let stream = state.streams;
        let before = state.sessions.insert(session, (stream, Arc::clone(waker)));
        drop(state);
        if let Some((_, before)) = before {
            before.wake();
        }
        self.with(|engine| engine.attach(session, tenant, moment));
        stream
    }

    /// Tells the engine who holds a tenant.
    fn place(&self, tenant: TenantId) {
        let replicas = self
            .view
            .tenant(tenant)
            .map(|tenant| tenant.replicas.keys().copied().collect());
        let replicas: BTreeSet<NodeId> = replicas.unwrap_or_default();
        self.with(|engine| engine.place(tenant, &replicas));
    }

    /// Peers that a stream should go to and none does.
    fn missing_links(&self) -> Vec<(NodeId, Arc<AtomicWaker>)> {
        let mut state = self.lock();
        let wanted = state.engine.links();
        let missing: Vec<_> = wanted
            .into_iter()
            .filter(|peer| !state.links.contains_key(peer))
            .map(|peer| (peer, Arc::new(AtomicWaker::new())))
            .collect();
        state.links.extend(missing.iter().cloned());
        missing
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
