//! What happens because time passes, or because the control plane has moved a tenant.

use std::{collections::BTreeSet, time::Duration};

use halcyon_core::{
    id::{NodeId, TenantId},
    mutant::{self, Mutant},
};

use super::{Engine, SessionId};
use crate::rooms::{
    limits::{AWAY_AFTER, PEER_BACK_WITHIN, PEER_SILENT_MAX, SESSION_KEPT_MAX},
    types::{Moment, RoomKey},
};

impl Engine {
    /// Time has passed: the dead are forgotten.
    pub fn tick(&mut self, moment: Moment) {
        self.forget_silent(moment);
        self.forget_unconfirmed(moment);
        self.send_away(moment);
        self.close_told();
        for room in self.rooms.values_mut() {
            room.prune();
        }
        let concerned = self.tenants();
        self.placed.retain(|tenant, _| concerned.contains(tenant));
    }

    /// Tenants that have rooms here, or sessions that will be in some when they are back.
    pub fn tenants(&self) -> BTreeSet<TenantId> {
        let entered = self.sessions.values().filter(|session| !session.rooms.is_empty());
        let tenants = entered.map(|session| session.tenant);
        tenants.chain(self.rooms.keys().map(|key| key.tenant)).collect()
    }

    /// The control plane says who holds a tenant. A node that holds it no more has no rooms of it either.
    pub fn place(&mut self, tenant: TenantId, nodes: &BTreeSet<NodeId>) {
        let before = self.placed.get(&tenant).cloned().unwrap_or_default();
        if before == *nodes {
            return;
        }
        self.placed.insert(tenant, nodes.clone());
        let keys: Vec<RoomKey> = self.rooms.keys().filter(|key| key.tenant == tenant).cloned().collect();
        if !nodes.contains(&self.me) {
            self.evict(tenant, &keys);
        }
        let me = self.me;
        for &node in nodes.difference(&before).filter(|node| **node != me) {
            for key in &keys {
                self.announce_to(node, key);
            }
        }
        for &node in before.difference(nodes) {
            for key in &keys {
                if let Some(room) = self.rooms.get_mut(key) {
                    room.peers.remove(&node);
                }
                if let Some(peer) = self.peers.get_mut(&node) {
                    peer.announce.remove(key);
                    peer.ready.remove(key);
                }
                self.drop_users(node, key);
            }
        }
    }

    fn evict(&mut self, tenant: TenantId, keys: &[RoomKey]) {
        let sessions = self.sessions.iter().filter(|(_, session)| session.tenant == tenant);
        let sessions: Vec<SessionId> = sessions.map(|(id, _)| *id).collect();
        for session in sessions {
            self.end(session);
        }
        for key in keys {
            self.rooms.remove(key);
        }
    }

    fn forget_silent(&mut self, moment: Moment) {
        let dead = self.peers.iter().filter(|(_, peer)| {
            let patience = if peer.streaming {
                PEER_SILENT_MAX
            } else {
                PEER_BACK_WITHIN
            };
            peer.is_relied_on() && moment.now.saturating_sub(peer.heard) > patience
        });
        let dead: Vec<NodeId> = dead.map(|(node, _)| *node).collect();
        for node in dead {
            self.forget(node);
        }
    }

    /// A peer is dead: its clients are gone, and what it may still say on its stream comes too late.
    fn forget(&mut self, node: NodeId) {
        self.figures.peers_lost += 1;
        if !mutant::active(Mutant::GoneNotTold) {
            for key in self.rooms_with_users_of(node) {
                self.drop_users(node, &key);
            }
        }
        for room in self.rooms.values_mut() {
            room.peers.remove(&node);
        }
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.streaming = false;
            peer.stream += 1;
            peer.interests.clear();
            peer.unconfirmed.clear();
            peer.ready.clear();
        }
    }

    fn close_told(&mut self) {
        let closing = self.rooms.iter().filter(|(_, room)| room.closing);
        let closing: Vec<RoomKey> = closing.map(|(key, _)| key.clone()).collect();
        for key in closing {
            self.close_if_told(&key);
        }
    }

    fn forget_unconfirmed(&mut self, moment: Moment) {
        let mut late = Vec::new();
        for (&node, peer) in &self.peers {
            let keys = peer.unconfirmed.iter().filter(|(_, deadline)| **deadline < moment.now);
            late.extend(keys.map(|(key, _)| (node, key.clone())));
        }
        for (node, key) in late {
            self.drop_users(node, &key);
        }
    }

    /// Sessions that lost their stream are not seen any more; they keep their rooms until they end or come back.
    fn send_away(&mut self, moment: Moment) {
        let is_over = |since: Duration| moment.now.saturating_sub(since) > SESSION_KEPT_MAX;
        let over = self.sessions.iter().filter(|(_, s)| s.detached.is_some_and(is_over));
        let over: Vec<SessionId> = over.map(|(id, _)| *id).collect();
        for session in over {
            self.end(session);
        }
        let is_late = |since: Duration| moment.now.saturating_sub(since) > AWAY_AFTER;
        let late = self
            .sessions
            .iter()
            .filter(|(_, s)| !s.away && s.detached.is_some_and(is_late));
        let late: Vec<SessionId> = late.map(|(id, _)| *id).collect();
        for session in late {
            let Some(state) = self.sessions.get_mut(&session) else {
                continue;
            };
            state.away = true;
            let (tenant, rooms): (_, Vec<_>) = (state.tenant, state.rooms.keys().cloned().collect());
            for room in rooms {
                self.leave_seat(session, &RoomKey { tenant, room });
            }
        }
    }
}
