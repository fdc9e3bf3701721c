//! One room on one node: who is in it, its status, and a log of what changed, of which each receiver has read a part.
//!
//! The log is compacted: a connection and a status field stand in it once, at their latest change. So nothing is kept for
//! a receiver but a place in the log; one that is slow reads only the latest of everything, and one that starts anew
//! reads the same log from its beginning. Departures and messages are kept for a bounded while: who missed departures
//! starts anew, who missed messages is told how many.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use halcyon_core::{clock::WallTime, id::NodeId};

use super::{
    limits::{GONE_KEPT_MAX, MESSAGES_KEPT_BYTES_MAX, MESSAGES_KEPT_MAX},
    types::{ConnectionId, Message, SessionId, Status, Update, User},
};

/// Bytes of ids, times and frames around what an entry carries, roughly.
const FRAME_BYTES: usize = 48;

/// See there.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Sessions of this node that are in it.
    pub(super) sessions: BTreeMap<SessionId, Seat>,
    /// Peers with clients in it, and how far each has been told.
    pub(super) peers: BTreeMap<NodeId, Cursor>,
    /// Nobody of this node is in it any more; what they did last is still to be told.
    pub(super) closing: bool,
    users: BTreeMap<ConnectionId, Present>,
    status: BTreeMap<Arc<str>, Field>,
    log: BTreeMap<u64, Entry>,
    seq: u64,
    /// The last entry that is not a presence.
    urgent: u64,
    /// The last entry that a peer may have to hear of.
    local: u64,
    gone: VecDeque<u64>,
    /// Departures up to here were forgotten.
    gone_forgotten: u64,
    messages: VecDeque<(u64, usize)>,
    message_bytes: usize,
    /// Messages ever, and how many of them are not kept any more.
    message_count: u64,
    messages_past: u64,
}

/// A session's place.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) connection: ConnectionId,
    pub(super) cursor: Cursor,
}

#[derive(Debug)]
struct Present {
    user: User,
    entered: u64,
    seq: u64,
}

#[derive(Debug)]
struct Field {
    status: Status,
    seq: u64,
    /// Set by a client of this node.
    is_local: bool,
}

#[derive(Debug)]
enum Entry {
    User(ConnectionId),
    Gone(ConnectionId),
    Status(Arc<str>),
    Message(Arc<Message>),
}

/// How far a receiver has read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    seen: u64,
    /// Departures and messages before this are not for it.
    from: u64,
    /// It had read all there was up to here, so it knows everybody who came before.
    complete: u64,
    messages: u64,
    whole: bool,
}

/// Who reads.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reader {
    /// A session with this connection: everything but its own.
    Session(ConnectionId),
    /// A peer: what is this node's own.
    Peer {
        /// This node.
        me: NodeId,
        /// The peer.
        peer: NodeId,
    },
}

/// How much waits for a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Waiting {
    Nothing,
    /// Presences alone: they may be coalesced.
    Presence,
    /// Something that should go at once.
    Urgent,
}

impl Room {
    /// A place before everything.
    pub(super) fn cursor(&self) -> Cursor {
        Cursor {
            seen: 0,
            from: self.seq,
            complete: 0,
            messages: self.message_count,
            whole: true,
        }
    }

    pub(super) fn waiting(&self, cursor: &Cursor, reader: Reader) -> Waiting {
        let last = match reader {
            Reader::Session(_) => self.seq,
            Reader::Peer { .. } => self.local,
        };
        if cursor.whole || (self.urgent.min(last) > cursor.seen) {
            Waiting::Urgent
        } else if last > cursor.seen {
            Waiting::Presence
        } else {
            Waiting::Nothing
        }
    }

    /// The next part of what a receiver has not read.
    pub(super) fn read(&self, cursor: &mut Cursor, reader: Reader, bytes_max: usize) -> Option<Update> {
        let mut missed = self.messages_past.saturating_sub(cursor.messages);
        if cursor.seen.max(cursor.from) < self.gone_forgotten {
            missed = self.message_count - cursor.messages;
            *cursor = self.cursor();
        }
        let mut update = Update {
            whole: std::mem::take(&mut cursor.whole),
            missed,
            ..Update::default()
        };
        cursor.messages = cursor.messages.max(self.messages_past);
        let mut bytes = 0;
        for (&seq, entry) in self.log.range(cursor.seen + 1..) {
            if bytes >= bytes_max {
                return Some(update);
            }
            cursor.seen = seq;
            bytes += self.read_entry(&mut update, seq, entry, cursor, reader);
        }
        cursor.seen = self.seq;
        cursor.complete = self.seq;
        cursor.messages = self.message_count;
        (!update.is_empty()).then_some(update)
    }

    /// Adds one entry, if it is for the reader. Returns its bytes.
    fn read_entry(&self, update: &mut Update, seq: u64, entry: &Entry, cursor: &mut Cursor, reader: Reader) -> usize {
        match entry {
            Entry::User(id) if reader.hears(*id) => {
                let Some(entered) = self.users.get(id) else { return 0 };
                let user = &entered.user;
                if entered.entered > cursor.complete {
                    update.users.push((*id, user.clone()));
                } else {
                    update.presences.push((*id, Arc::clone(&user.presence), user.last_seen));
                }
                FRAME_BYTES + user.presence.len() + user.user.len()
            }
            Entry::Gone(id) if reader.hears(*id) && seq > cursor.from => {
                update.gone.push(*id);
                FRAME_BYTES
            }
            Entry::Status(key) => {
                let Some(field) = self.status.get(key) else { return 0 };
                let is_theirs = matches!(reader, Reader::Session(_)) || field.is_local || seq <= cursor.from;
                if !is_theirs {
                    return 0;
                }
                update.status.push((Arc::clone(key), field.status.clone()));
                FRAME_BYTES + key.len() + field.status.value.len()
            }
            Entry::Message(message) => {
                cursor.messages += u64::from(seq > cursor.from);
                if seq <= cursor.from || !reader.is_told(message) {
                    return 0;
                }
                update.messages.push(Arc::clone(message));
                FRAME_BYTES + message_bytes(message)
            }
            Entry::User(_) | Entry::Gone(_) => 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    pub(super) fn user(&self, id: ConnectionId) -> Option<&User> {
        self.users.get(&id).map(|entered| &entered.user)
    }

    /// Those of one node.
    pub(super) fn users_of(&self, node: NodeId) -> Vec<ConnectionId> {
        let first = ConnectionId {
            node,
            start: 0,
            number: 0,
        };
        let of_node = self.users.range(first..).take_while(|(id, _)| id.node == node);
        of_node.map(|(id, _)| *id).collect()
    }

    pub(super) fn has_field(&self, key: &str) -> bool {
        self.status.contains_key(key)
    }

    pub(super) fn fields(&self) -> usize {
        self.status.len()
    }

    /// A connection comes, or comes back as another.
    pub(super) fn enter(&mut self, id: ConnectionId, user: User, me: NodeId) {
        let seq = self.append(Entry::User(id), id.node == me, true);
        let (entered, before) = (seq, self.users.get(&id).map(|before| before.seq));
        if let Some(before) = before {
            self.log.remove(&before);
        }
        self.users.insert(id, Present { user, entered, seq });
    }

    /// Somebody does something. False for one who is not known.
    pub(super) fn set_presence(&mut self, id: ConnectionId, presence: Arc<str>, seen: WallTime, me: NodeId) -> bool {
        if !self.users.contains_key(&id) {
            return false;
        }
        let seq = self.append(Entry::User(id), id.node == me, false);
        if let Some(entered) = self.users.get_mut(&id) {
            self.log.remove(&entered.seq);
            entered.seq = seq;
            entered.user.presence = presence;
            entered.user.last_seen = seen;
        }
        true
    }

    /// Somebody leaves. False for one who is not known.
    pub(super) fn leave(&mut self, id: ConnectionId, me: NodeId) -> bool {
        let Some(entered) = self.users.remove(&id) else {
            return false;
        };
        self.log.remove(&entered.seq);
        let seq = self.append(Entry::Gone(id), id.node == me, true);
        self.gone.push_back(seq);
        if self.gone.len() > GONE_KEPT_MAX
            && let Some(oldest) = self.gone.pop_front()
        {
            self.log.remove(&oldest);
            self.gone_forgotten = oldest;
        }
        true
    }

    /// Whether the field is now this.
    pub(super) fn set_status(&mut self, key: &Arc<str>, status: Status, is_local: bool) -> bool {
        let before = self.status.get(key);
        if before.is_some_and(|before| !status.beats(&before.status)) {
            return false;
        }
        let before = before.map(|before| before.seq);
        let seq = self.append(Entry::Status(Arc::clone(key)), is_local, true);
        if let Some(before) = before {
            self.log.remove(&before);
        }
        let field = Field { status, seq, is_local };
        self.status.insert(Arc::clone(key), field);
        true
    }

    pub(super) fn say(&mut self, message: Arc<Message>, me: NodeId) {
        let bytes = message_bytes(&message);
        let is_local = message.from.node == me;
        let seq = self.append(Entry::Message(message), is_local, true);
        self.message_count += 1;
        self.messages.push_back((seq, bytes));
        self.message_bytes += bytes;
        while self.messages.len() > MESSAGES_KEPT_MAX || self.message_bytes > MESSAGES_KEPT_BYTES_MAX {
            self.forget_message();
        }
    }

    /// Forgets what every receiver has read.
    pub(super) fn prune(&mut self) {
        let seats = self.sessions.values().map(|seat| &seat.cursor);
        // One that starts anew reads neither.
        let behind = seats.chain(self.peers.values()).filter(|cursor| !cursor.whole);
        let read = behind.map(|cursor| cursor.seen).min().unwrap_or(self.seq);
        while self.messages.front().is_some_and(|(seq, _)| *seq <= read) {
            self.forget_message();
        }
        while let Some(seq) = self.gone.front().copied().filter(|seq| *seq <= read) {
            self.gone.pop_front();
            self.log.remove(&seq);
        }
    }

    fn forget_message(&mut self) {
        if let Some((seq, bytes)) = self.messages.pop_front() {
            self.log.remove(&seq);
            self.message_bytes -= bytes;
            self.messages_past += 1;
        }
    }

    fn append(&mut self, entry: Entry, is_local: bool, is_urgent: bool) -> u64 {
        self.seq += 1;
        self.log.insert(self.seq, entry);
        if is_urgent {
            self.urgent = self.seq;
        }
        if is_local {
            self.local = self.seq;
        }
        self.seq
    }
}

impl Reader {
    /// Whether it hears of this connection.
    fn hears(self, id: ConnectionId) -> bool {
        match self {
            Self::Session(own) => id != own,
            Self::Peer { me, .. } => id.node == me,
        }
    }

    fn is_told(self, message: &Message) -> bool {
        let is_for = |is: &dyn Fn(&ConnectionId) -> bool| message.to.is_empty() || message.to.iter().any(is);
        match self {
            Self::Session(own) => message.from != own && is_for(&|to| *to == own),
            Self::Peer { me, peer } => message.from.node == me && is_for(&|to| to.node == peer),
        }
    }
}

fn message_bytes(message: &Message) -> usize {
    message.topic.len() + message.payload.len() + FRAME_BYTES * (1 + message.to.len())
}
