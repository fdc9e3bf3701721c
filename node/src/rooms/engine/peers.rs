//! What goes to peers, and what comes from them.

use halcyon_core::id::{NodeId, TenantId};

use super::{Armed, Engine, Haste, Peer};
use crate::rooms::{
    limits::{
        EVENT_BYTES_MAX, NEWS_MAX, PEER_DRIFT_MAX, PEER_ROOMS_MAX, PEER_SILENT_MAX, STATUS_KEYS_KEPT_MAX,
        USERS_PER_ROOM_MAX,
    },
    room::Waiting,
    types::{Interest, Moment, News, RoomKey, Telling, Update},
};

/// The stream is an old one: the peer has to open a new one, and to tell everything again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what this stream told has been forgotten, because it was silent for too long; open a new one")]
pub struct Stale;

/// Bytes of the ids of one room in a message, roughly.
const NEWS_BYTES: usize = 160;

impl Engine {
    /// Peers that a stream should go to.
    pub fn links(&self) -> std::collections::BTreeSet<NodeId> {
        let tenants = self.placed.iter().filter(|(tenant, _)| self.has_rooms(**tenant));
        let nodes = tenants.flat_map(|(_, nodes)| nodes.iter().copied());
        nodes.filter(|node| *node != self.me).collect()
    }

    /// A stream to a peer is open: it is told everything anew. Its number goes with all that is taken for it.
    pub fn on_link(&mut self, node: NodeId) -> u64 {
        let rooms: Vec<RoomKey> = self.open_rooms(node);
        let peer = self.peers.entry(node).or_default();
        peer.linked = true;
        peer.link += 1;
        let link = peer.link;
        peer.fresh = true;
        peer.armed = Armed::No;
        peer.announce = rooms.iter().cloned().collect();
        peer.ready.clear();
        for key in rooms {
            self.join_peer(node, &key);
        }
        link
    }

    /// The stream to a peer is lost.
    pub fn on_unlink(&mut self, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.linked = false;
        peer.ready.clear();
        let waiting = std::mem::take(&mut peer.announce);
        for key in waiting {
            self.close_if_told(&key);
        }
    }

    /// What a peer has to be told next. When there is nothing, its stream is woken when there is.
    pub fn take_for(&mut self, node: NodeId, link: u64, haste: Haste) -> Option<Telling> {
        let me = self.as_peer(node);
        let peer = self.peers.get_mut(&node);
        let peer = peer.filter(|peer| peer.linked && peer.link == link)?;
        let mut telling = Telling {
            whole: std::mem::take(&mut peer.fresh),
            ..Telling::default()
        };
        let mut bytes = 0;
        while bytes < EVENT_BYTES_MAX && telling.news.len() < NEWS_MAX {
            let peer = self.peers.get_mut(&node)?;
            let Some(key) = peer.announce.pop_first() else { break };
            let news = self.announcement(node, key);
            bytes += NEWS_BYTES + news.update.status.len() * NEWS_BYTES;
            telling.news.push(news);
        }
        let ready = std::mem::take(&mut self.peers.get_mut(&node)?.ready);
        let mut left = std::collections::BTreeSet::new();
        for key in ready {
            let Some(room) = self.rooms.get_mut(&key) else { continue };
            let Some(mut cursor) = room.peers.get(&node).copied() else {
                continue;
            };
            let waiting = room.waiting(&cursor, me);
            let is_now = haste == Haste::All || waiting >= Waiting::Urgent || !telling.news.is_empty();
            if waiting == Waiting::Nothing {
                continue;
            }
            if bytes >= EVENT_BYTES_MAX || telling.news.len() >= NEWS_MAX || !is_now {
                left.insert(key);
                continue;
            }
            let update = room.read(&mut cursor, me, EVENT_BYTES_MAX - bytes);
            room.peers.insert(node, cursor);
            if room.waiting(&cursor, me) > Waiting::Nothing {
                left.insert(key.clone());
            }
            if let Some(update) = update {
                bytes += NEWS_BYTES + update_bytes(&update);
                self.figures.messages_missed += update.missed;
                let interest = None;
                telling.news.push(News { key, interest, update });
            }
        }
        let peer = self.peers.get_mut(&node)?;
        peer.ready.append(&mut left);
        if telling.news.is_empty() && !telling.whole {
            peer.armed = match haste {
                Haste::All => Armed::Any,
                Haste::Urgent => Armed::Urgent,
            };
            return None;
        }
        Some(telling)
    }

    /// A peer has opened a stream. Its number goes with all that comes through it.
    pub fn on_stream(&mut self, node: NodeId, moment: Moment) -> u64 {
        let peer = self.peers.entry(node).or_default();
        peer.stream += 1;
        peer.streaming = true;
        peer.heard = moment.now;
        peer.stream
    }

    /// A stream from a peer has ended.
    pub fn on_stream_ended(&mut self, node: NodeId, stream: u64, moment: Moment) {
        if let Some(peer) = self.peers.get_mut(&node).filter(|peer| peer.stream == stream) {
            peer.streaming = false;
            peer.heard = moment.now;
        }
    }

    /// A peer tells something.
    pub fn on_telling(&mut self, node: NodeId, stream: u64, telling: Telling, moment: Moment) -> Result<(), Stale> {
        let peer = self
            .peers
            .get_mut(&node)
            .filter(|peer| peer.stream == stream && peer.streaming);
        let peer = peer.ok_or(Stale)?;
        peer.heard = moment.now;
        if telling.whole {
            peer.interests.clear();
            let deadline = moment.now + PEER_SILENT_MAX;
            let keys: Vec<RoomKey> = self.rooms_with_users_of(node);
            for room in self.rooms.values_mut() {
                room.peers.remove(&node);
            }
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.unconfirmed = keys.into_iter().map(|key| (key, deadline)).collect();
            }
        }
        for news in telling.news {
            self.on_news(node, news, moment);
        }
        Ok(())
    }

    fn on_news(&mut self, node: NodeId, news: News, moment: Moment) {
        let News { key, interest, update } = news;
        if !update.is_empty() && self.is_placed(key.tenant, node) {
            self.apply(node, &key, update, moment);
        }
        match interest {
            Some(Interest::Entered) => {
                let peer = self.peers.entry(node).or_default();
                if peer.interests.len() < PEER_ROOMS_MAX {
                    peer.interests.insert(key.clone());
                } else {
                    self.figures.over_limit += 1;
                }
                self.join_peer(node, &key);
            }
            Some(Interest::Left) => {
                let peer = self.peers.entry(node).or_default();
                peer.interests.remove(&key);
                peer.ready.remove(&key);
                if let Some(room) = self.rooms.get_mut(&key) {
                    room.peers.remove(&node);
                }
                self.drop_users(node, &key);
                self.close_if_told(&key);
            }
            None => {}
        }
    }

    fn apply(&mut self, node: NodeId, key: &RoomKey, update: Update, moment: Moment) {
        let me = self.me;
        let Some(room) = self.rooms.get_mut(key) else { return };
        if update.whole {
            let comes = |id: &_| update.users.iter().any(|(user, _)| user == id);
            for id in room.users_of(node).into_iter().filter(|id| !comes(id)) {
                room.leave(id, me);
            }
        }
        for id in update.gone.into_iter().filter(|id| id.node == node) {
            room.leave(id, me);
        }
        let mut count = room.users_of(node).len();
        let is_presence = update.users.is_empty();
        for (id, user) in update.users.into_iter().filter(|(id, _)| id.node == node) {
            let is_new = room.user(id).is_none();
            if is_new && count >= USERS_PER_ROOM_MAX {
                self.figures.over_limit += 1;
            } else if room.user(id) != Some(&user) {
                count += usize::from(is_new);
                room.enter(id, user, me);
            }
        }
        for (id, presence, seen) in update.presences.into_iter().filter(|(id, ..)| id.node == node) {
            room.set_presence(id, presence, seen, me);
        }
        let mut is_urgent = update.whole || !is_presence;
        for (field, status) in update.status {
            if !room.has_field(&field) && room.fields() >= STATUS_KEYS_KEPT_MAX {
                self.figures.over_limit += 1;
                continue;
            }
            // Our own next timestamp comes after all that its clients can have seen.
            let _ = self.clock.observe(&status.timestamp, moment.wall, PEER_DRIFT_MAX);
            room.set_status(&field, status, false);
            is_urgent = true;
        }
        for message in update.messages.into_iter().filter(|message| message.from.node == node) {
            room.say(message, me);
            is_urgent = true;
        }
        if update.whole
            && let Some(peer) = self.peers.get_mut(&node)
        {
            peer.unconfirmed.remove(key);
        }
        self.figures.messages_missed += update.missed;
        let waiting = if is_urgent { Waiting::Urgent } else { Waiting::Presence };
        self.stir(key, waiting, None);
    }

    /// A peer is told of what happens in a room, if both have clients in it; from its beginning.
    pub(super) fn join_peer(&mut self, node: NodeId, key: &RoomKey) {
        if !self.is_placed(key.tenant, node) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let Some(room) = self.rooms.get_mut(key) else { return };
        if peer.interests.contains(key) {
            let cursor = room.cursor();
            room.peers.insert(node, cursor);
            peer.ready.insert(key.clone());
            self.wake_peer(node);
        }
    }

    pub(super) fn announce_to(&mut self, node: NodeId, key: &RoomKey) {
        let peer = self.peers.entry(node).or_default();
        if peer.linked {
            peer.announce.insert(key.clone());
        }
        if self
            .rooms
            .get(key)
            .is_some_and(|room| !room.closing && !room.peers.contains_key(&node))
        {
            self.join_peer(node, key);
        }
        self.wake_peer(node);
    }

    /// Whether a peer's clients have a room in common with ours, as it stands now; with the last words of ours if not.
    fn announcement(&mut self, node: NodeId, key: RoomKey) -> News {
        let reader = self.as_peer(node);
        let mut update = Update::default();
        let interest = match self.rooms.get_mut(&key) {
            Some(room) if !room.closing => Interest::Entered,
            Some(room) => {
                if let Some(mut cursor) = room.peers.remove(&node)
                    && let Some(last) = room.read(&mut cursor, reader, usize::MAX)
                {
                    // Users are over with the interest.
                    update.status = last.status;
                    update.messages = last.messages;
                }
                Interest::Left
            }
            None => Interest::Left,
        };
        self.close_if_told(&key);
        let interest = Some(interest);
        News { key, interest, update }
    }

    /// A room without clients goes when all peers in it have heard that.
    pub(super) fn close_if_told(&mut self, key: &RoomKey) {
        let Some(room) = self.rooms.get(key).filter(|room| room.closing) else {
            return;
        };
        let is_waiting = |node: &NodeId| self.peers.get(node).is_some_and(|peer| peer.announce.contains(key));
        if !room.peers.keys().any(is_waiting) {
            self.rooms.remove(key);
        }
    }

    pub(super) fn drop_users(&mut self, node: NodeId, key: &RoomKey) {
        let me = self.me;
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.unconfirmed.remove(key);
        }
        let Some(room) = self.rooms.get_mut(key) else { return };
        let users = room.users_of(node);
        if users.is_empty() {
            return;
        }
        for id in users {
            room.leave(id, me);
        }
        self.stir(key, Waiting::Urgent, None);
    }

    pub(super) fn rooms_with_users_of(&self, node: NodeId) -> Vec<RoomKey> {
        let has = |room: &super::Room| !room.users_of(node).is_empty();
        let with = self.rooms.iter().filter(|(_, room)| has(room));
        with.map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn is_placed(&self, tenant: TenantId, node: NodeId) -> bool {
        self.placed.get(&tenant).is_some_and(|nodes| nodes.contains(&node))
    }

    pub(super) fn others(&self, tenant: TenantId) -> impl Iterator<Item = NodeId> + '_ {
        let nodes = self.placed.get(&tenant).into_iter().flatten().copied();
        nodes.filter(|node| *node != self.me)
    }

    pub(super) fn has_rooms(&self, tenant: TenantId) -> bool {
        let room = super::RoomName::first();
        let first = RoomKey { tenant, room };
        self.rooms
            .range(first..)
            .next()
            .is_some_and(|(key, _)| key.tenant == tenant)
    }

    /// Rooms with our clients, of tenants that a peer holds.
    fn open_rooms(&self, node: NodeId) -> Vec<RoomKey> {
        let open = self.rooms.iter().filter(|(_, room)| !room.closing);
        let keys = open.map(|(key, _)| key);
        keys.filter(|key| self.is_placed(key.tenant, node)).cloned().collect()
    }
}

impl Peer {
    /// Whether anything here rests on the peer's being alive.
    pub(super) fn is_relied_on(&self) -> bool {
        !self.interests.is_empty() || !self.unconfirmed.is_empty()
    }
}

fn update_bytes(update: &Update) -> usize {
    let presences = update.presences.iter().map(|(_, presence, _)| presence.len() + 48);
    let users = update
        .users
        .iter()
        .map(|(_, user)| user.presence.len() + user.user.len() + 64);
    let status = update
        .status
        .iter()
        .map(|(key, status)| key.len() + status.value.len() + 32);
    let messages = update
        .messages
        .iter()
        .map(|message| message.payload.len() + message.topic.len() + 64);
    presences.chain(users).chain(status).chain(messages).sum()
}
