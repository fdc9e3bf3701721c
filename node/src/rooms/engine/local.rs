//! What sessions of this node do.

use std::sync::Arc;

use halcyon_core::{
    clock::{Timestamp, check_drift},
    id::{NodeId, TenantId},
};

use super::{Armed, Engine, Membership, Session};
use crate::rooms::{
    limits::{
        EVENT_BYTES_MAX, MESSAGE_PAYLOAD_BYTES_MAX, PRESENCE_BYTES_MAX, PRESENCES_PER_SECOND, RECIPIENTS_MAX,
        ROOMS_PER_SESSION_MAX, SENDS_PER_SECOND, STATUS_BYTES_MAX, STATUS_KEY_BYTES_MAX, STATUS_KEYS_MAX,
        TOPIC_BYTES_MAX, USER_BYTES_MAX, USERS_PER_ROOM_MAX,
    },
    room::{Reader, Room, Seat, Waiting},
    types::{ConnectionId, Message, Moment, RoomError, RoomKey, RoomName, SessionId, Status, Update, User, check_size},
};

/// A status field that a client wants to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Which.
    pub key: Arc<str>,
    /// JSON; empty unsets it.
    pub value: Arc<str>,
    /// None: the node stamps it.
    pub timestamp: Option<Timestamp>,
}

/// What a client wants to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saying {
    /// About what.
    pub topic: Arc<str>,
    /// JSON.
    pub payload: Arc<str>,
    /// None: the node stamps it.
    pub timestamp: Option<Timestamp>,
    /// For whom; empty for everybody.
    pub to: Vec<ConnectionId>,
}

/// How a session takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Haste {
    /// Whatever there is.
    All,
    /// It has just been told of presences: only what should go at once, and what waits with it.
    Urgent,
}

impl Engine {
    /// A session has a stream, and knows nothing.
    pub fn attach(&mut self, session: SessionId, tenant: TenantId, moment: Moment) {
        let state = self.sessions.entry(session).or_insert_with(|| Session::new(tenant));
        state.detached = None;
        state.armed = Armed::No;
        let names: Vec<RoomName> = state.rooms.keys().cloned().collect();
        self.bring_back(session, moment);
        for room in names {
            let Some(room) = self.rooms.get_mut(&RoomKey { tenant, room }) else {
                continue;
            };
            let cursor = room.cursor();
            if let Some(seat) = room.sessions.get_mut(&session) {
                seat.cursor = cursor;
            }
        }
    }

    /// Whether the session is here, and the tenant's.
    pub fn check_session(&self, session: SessionId, tenant: TenantId) -> Result<(), RoomError> {
        match self.sessions.get(&session) {
            None => Err(RoomError::NoSession),
            Some(state) if state.tenant != tenant => Err(RoomError::OtherTenant),
            Some(_) => Ok(()),
        }
    }

    /// A session has lost its stream.
    pub fn detach(&mut self, session: SessionId, moment: Moment) {
        if let Some(state) = self.sessions.get_mut(&session) {
            state.detached = Some(moment.now);
            state.armed = Armed::No;
        }
    }

    /// A session is over.
    pub fn end(&mut self, session: SessionId) {
        let Some(state) = self.sessions.remove(&session) else {
            return;
        };
        let tenant = state.tenant;
        for room in state.rooms.into_keys() {
            self.leave_seat(session, &RoomKey { tenant, room });
        }
    }

    /// A session enters a room, or says anew who it is there.
    pub fn enter(
        &mut self,
        (session, tenant): (SessionId, TenantId),
        name: &RoomName,
        user: (&str, &str),
        moment: Moment,
    ) -> Result<ConnectionId, RoomError> {
        let (user, presence) = user;
        check_size("the bytes of the user are", user.len(), USER_BYTES_MAX)?;
        check_size("the bytes of the presence are", presence.len(), PRESENCE_BYTES_MAX)?;
        let (region, number) = (Arc::clone(&self.region), self.connections + 1);
        let key = RoomKey {
            tenant,
            room: name.clone(),
        };
        let is_full = self
            .rooms
            .get(&key)
            .is_some_and(|room| room.len() >= USERS_PER_ROOM_MAX);
        let fresh = ConnectionId {
            node: self.me,
            start: self.start,
            number,
        };
        self.check_session(session, tenant)?;
        self.bring_back(session, moment);
        let state = self.sessions.get_mut(&session).ok_or(RoomError::NoSession)?;
        let known = state.rooms.get(name).map(|membership| membership.connection);
        if known.is_none() && state.rooms.len() >= ROOMS_PER_SESSION_MAX {
            return Err(RoomError::Rooms);
        }
        if known.is_none() && is_full {
            return Err(RoomError::Full);
        }
        spend_send(state, 1, moment)?;
        let connection = known.unwrap_or(fresh);
        let user = User {
            user: user.into(),
            presence: presence.into(),
            region,
            last_seen: moment.wall,
        };
        state.rooms.insert(name.clone(), Membership { connection, user });
        self.connections = self.connections.max(connection.number);
        self.take_seat(session, &key, moment);
        Ok(connection)
    }

    /// A session leaves a room. It is fine if it was not in it.
    pub fn leave(&mut self, session: SessionId, name: &RoomName) {
        let Some(state) = self.sessions.get_mut(&session) else {
            return;
        };
        if state.rooms.remove(name).is_none() {
            return;
        }
        let (tenant, room) = (state.tenant, name.clone());
        self.leave_seat(session, &RoomKey { tenant, room });
    }

    /// A connection does something else.
    pub fn set_presence(
        &mut self,
        session: SessionId,
        name: &RoomName,
        presence: &str,
        moment: Moment,
    ) -> Result<(), RoomError> {
        check_size("the bytes of the presence are", presence.len(), PRESENCE_BYTES_MAX)?;
        let presence: Arc<str> = presence.into();
        self.bring_back(session, moment);
        let state = self.sessions.get_mut(&session).ok_or(RoomError::NotEntered)?;
        let membership = state.rooms.get_mut(name).ok_or(RoomError::NotEntered)?;
        let taken = state.presences.take(1, PRESENCES_PER_SECOND, moment.now);
        taken.map_err(|retry_after| RoomError::Presences { retry_after })?;
        membership.user.presence = Arc::clone(&presence);
        membership.user.last_seen = moment.wall;
        let (connection, key) = (membership.connection, room_key(state.tenant, name));
        self.figures.presences += 1;
        if let Some(room) = self.rooms.get_mut(&key)
            && room.set_presence(connection, presence, moment.wall, self.me)
        {
            self.stir(&key, Waiting::Presence, Some(session));
            self.stir_peers(&key, Waiting::Presence);
        }
        Ok(())
    }

    /// A client sets fields of the room's status. All of them, or none.
    pub fn set_status(
        &mut self,
        session: SessionId,
        name: &RoomName,
        settings: Vec<Setting>,
        moment: Moment,
        drift_max: std::time::Duration,
    ) -> Result<(), RoomError> {
        for setting in &settings {
            check_size(
                "the bytes of a status field's name are",
                setting.key.len(),
                STATUS_KEY_BYTES_MAX,
            )?;
            check_size("the bytes of a status field are", setting.value.len(), STATUS_BYTES_MAX)?;
            if let Some(timestamp) = &setting.timestamp {
                check_drift(timestamp, moment.wall, drift_max)?;
            }
        }
        let count = u32::try_from(settings.len()).unwrap_or(u32::MAX);
        let key = self.spend(session, name, count, moment)?;
        let Some(room) = self.rooms.get_mut(&key) else {
            return Ok(());
        };
        let more = settings.iter().filter(|setting| !room.has_field(&setting.key)).count();
        if more > 0 && room.fields() + more > STATUS_KEYS_MAX {
            return Err(RoomError::StatusKeys);
        }
        for setting in settings {
            let timestamp = setting.timestamp.unwrap_or_else(|| self.clock.stamp(moment.wall));
            let value = setting.value;
            room.set_status(&setting.key, Status { value, timestamp }, true);
        }
        self.stir(&key, Waiting::Urgent, None);
        self.stir_peers(&key, Waiting::Urgent);
        Ok(())
    }

    /// A client says something.
    pub fn send(
        &mut self,
        session: SessionId,
        name: &RoomName,
        saying: Saying,
        moment: Moment,
        drift_max: std::time::Duration,
    ) -> Result<(), RoomError> {
        check_size("the bytes of the topic are", saying.topic.len(), TOPIC_BYTES_MAX)?;
        check_size(
            "the bytes of the message are",
            saying.payload.len(),
            MESSAGE_PAYLOAD_BYTES_MAX,
        )?;
        check_size("the recipients of the message are", saying.to.len(), RECIPIENTS_MAX)?;
        if let Some(timestamp) = &saying.timestamp {
            check_drift(timestamp, moment.wall, drift_max)?;
        }
        let key = self.spend(session, name, 1, moment)?;
        let timestamp = saying.timestamp.unwrap_or_else(|| self.clock.stamp(moment.wall));
        let Some(room) = self.rooms.get_mut(&key) else {
            return Ok(());
        };
        let Some(seat) = room.sessions.get(&session) else {
            return Err(RoomError::NotEntered);
        };
        let message = Message {
            topic: saying.topic,
            payload: saying.payload,
            from: seat.connection,
            timestamp,
            to: saying.to,
        };
        room.say(Arc::new(message), self.me);
        self.figures.messages += 1;
        self.stir(&key, Waiting::Urgent, Some(session));
        self.stir_peers(&key, Waiting::Urgent);
        Ok(())
    }

    /// What a session has to be told next, of one of its rooms. When there is nothing, it is woken when there is.
    pub fn take(&mut self, session: SessionId, haste: Haste) -> Option<(RoomName, Update)> {
        let state = self.sessions.get_mut(&session)?;
        let after = state.turn.take();
        let split = |name: &&RoomName| after.as_ref().is_none_or(|after| *name > after);
        let (later, sooner): (Vec<_>, Vec<_>) = state.rooms.keys().partition(split);
        let tenant = state.tenant;
        for name in later.into_iter().chain(sooner) {
            let Some(room) = self.rooms.get_mut(&room_key(tenant, name)) else {
                continue;
            };
            let Some(update) = take_room(room, session, haste) else {
                continue;
            };
            let name = name.clone();
            state.turn = Some(name.clone());
            self.figures.presences_told += update.presences.len() as u64;
            self.figures.messages_told += update.messages.len() as u64;
            self.figures.messages_missed += update.missed;
            return Some((name, update));
        }
        state.armed = match haste {
            Haste::All => Armed::Any,
            Haste::Urgent => Armed::Urgent,
        };
        None
    }

    /// Others see a session again that was away.
    fn bring_back(&mut self, session: SessionId, moment: Moment) {
        let Some(state) = self.sessions.get_mut(&session).filter(|state| state.away) else {
            return;
        };
        state.away = false;
        state.detached = state.detached.map(|_| moment.now);
        let (tenant, rooms): (_, Vec<_>) = (state.tenant, state.rooms.keys().cloned().collect());
        for room in rooms {
            self.take_seat(session, &RoomKey { tenant, room }, moment);
        }
    }

    /// A session that is in the room sends something: its key, if it may.
    fn spend(&mut self, session: SessionId, name: &RoomName, count: u32, moment: Moment) -> Result<RoomKey, RoomError> {
        self.bring_back(session, moment);
        let state = self.sessions.get_mut(&session).ok_or(RoomError::NotEntered)?;
        if !state.rooms.contains_key(name) {
            return Err(RoomError::NotEntered);
        }
        spend_send(state, count, moment)?;
        Ok(room_key(state.tenant, name))
    }

    /// The session is seen in the room, with a place before everything.
    fn take_seat(&mut self, session: SessionId, key: &RoomKey, moment: Moment) {
        let state = self.sessions.get_mut(&session);
        let Some(membership) = state.and_then(|state| state.rooms.get_mut(&key.room)) else {
            return;
        };
        membership.user.last_seen = moment.wall;
        let (connection, user) = (membership.connection, membership.user.clone());
        let is_new = self.rooms.get(key).is_none_or(|room| room.closing);
        let room = self.rooms.entry(key.clone()).or_default();
        room.closing = false;
        room.enter(connection, user, self.me);
        let cursor = room.cursor();
        room.sessions.insert(session, Seat { connection, cursor });
        if let Some(state) = self.sessions.get_mut(&session)
            && state.armed.fire(Waiting::Urgent)
        {
            self.wakes.push(super::Wake::Session(session));
        }
        if is_new {
            self.announce(key);
        }
        self.stir(key, Waiting::Urgent, Some(session));
        self.stir_peers(key, Waiting::Urgent);
    }

    /// The session is seen in the room no more. The last one closes it.
    pub(super) fn leave_seat(&mut self, session: SessionId, key: &RoomKey) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        let Some(seat) = room.sessions.remove(&session) else {
            return;
        };
        room.leave(seat.connection, self.me);
        if room.sessions.is_empty() {
            room.closing = true;
            self.announce(key);
            self.close_if_told(key);
        } else {
            self.stir(key, Waiting::Urgent, None);
            self.stir_peers(key, Waiting::Urgent);
        }
    }

    /// Every replica hears whether this node has clients in the room.
    fn announce(&mut self, key: &RoomKey) {
        let others: Vec<NodeId> = self.others(key.tenant).collect();
        for node in others {
            self.announce_to(node, key);
        }
    }
}

fn room_key(tenant: TenantId, name: &RoomName) -> RoomKey {
    let room = name.clone();
    RoomKey { tenant, room }
}

fn spend_send(state: &mut Session, count: u32, moment: Moment) -> Result<(), RoomError> {
    // What is more than a second's worth takes a whole second.
    let taken = state
        .sends
        .take(count.min(SENDS_PER_SECOND), SENDS_PER_SECOND, moment.now);
    taken.map_err(|retry_after| RoomError::Sends { retry_after })
}

fn take_room(room: &mut Room, session: SessionId, haste: Haste) -> Option<Update> {
    let seat = room.sessions.get(&session)?;
    let (reader, mut cursor) = (Reader::Session(seat.connection), seat.cursor);
    let least = match haste {
        Haste::All => Waiting::Presence,
        Haste::Urgent => Waiting::Urgent,
    };
    if room.waiting(&cursor, reader) < least {
        return None;
    }
    let update = room.read(&mut cursor, reader, EVENT_BYTES_MAX);
    if let Some(seat) = room.sessions.get_mut(&session) {
        seat.cursor = cursor;
    }
    update
}
