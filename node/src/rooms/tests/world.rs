//! Some nodes with their streams to each other, and clients that keep what they are told.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use halcyon_core::{
    clock::{ClientId, DRIFT_MAX_DEFAULT, WallTime},
    id::{NodeId, TenantId},
};

use super::super::{
    engine::{Engine, Haste, Saying, Setting},
    limits::{AWAY_AFTER, BACKOFF_MAX, HEARTBEAT, PEER_SILENT_MAX, TICK},
    types::{ConnectionId, Moment, RoomName, SessionId, Telling, Update},
};

pub(super) fn tenant() -> TenantId {
    "abcdefghijklmnopqrstu".parse().unwrap()
}

/// What a client was told of one room.
#[derive(Debug, Default)]
struct Shown {
    users: BTreeMap<ConnectionId, String>,
    status: BTreeMap<String, String>,
    heard: Vec<String>,
}

#[derive(Debug, Default)]
struct Client {
    node: usize,
    attached: bool,
    /// Room to own connection and presence.
    rooms: BTreeMap<RoomName, (ConnectionId, String)>,
    shown: BTreeMap<RoomName, Shown>,
}

/// A stream from one node to another.
#[derive(Debug)]
struct Link {
    number: u64,
    stream: u64,
    under_way: VecDeque<Telling>,
}

pub(super) struct World {
    engines: Vec<Engine>,
    starts: u32,
    links: BTreeMap<(usize, usize), Link>,
    /// Pairs that cannot be connected now.
    cut: BTreeSet<(usize, usize)>,
    clients: BTreeMap<u8, Client>,
    placed: BTreeSet<NodeId>,
    now: Duration,
}

fn node_id(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

fn id(client: u8) -> SessionId {
    SessionId([client; 16])
}

fn name(room: &str) -> RoomName {
    RoomName::new(room).unwrap()
}

impl World {
    pub(super) fn new(nodes: usize) -> Self {
        let mut world = Self {
            engines: Vec::new(),
            starts: 0,
            links: BTreeMap::new(),
            cut: BTreeSet::new(),
            clients: BTreeMap::new(),
            placed: (0..nodes).map(node_id).collect(),
            now: Duration::from_secs(100),
        };
        for node in 0..nodes {
            let engine = world.start(node);
            world.engines.push(engine);
        }
        world
    }

    fn start(&mut self, node: usize) -> Engine {
        self.starts += 1;
        let clock = ClientId::from_random(u128::from(self.starts));
        let mut engine = Engine::new(node_id(node), &format!("region-{node}"), self.starts, clock);
        engine.place(tenant(), &self.placed);
        engine
    }

    pub(super) fn engine(&self, node: usize) -> &Engine {
        &self.engines[node]
    }

    pub(super) fn nodes(&self) -> usize {
        self.engines.len()
    }

    fn moment(&self) -> Moment {
        Moment {
            wall: WallTime::from_unix(Duration::from_hours(500_000) + self.now),
            now: self.now,
        }
    }

    pub(super) fn attach(&mut self, node: usize, client: u8) {
        let moment = self.moment();
        let state = self.clients.entry(client).or_default();
        state.node = node;
        state.attached = true;
        if self.engines[node].check_session(id(client), tenant()).is_err() {
            state.rooms.clear();
        }
        self.engines[node].attach(id(client), tenant(), moment);
    }

    pub(super) fn detach(&mut self, node: usize, client: u8) {
        let moment = self.moment();
        self.clients.entry(client).or_default().attached = false;
        self.engines[node].detach(id(client), moment);
    }

    /// The session ends.
    pub(super) fn end(&mut self, client: u8) {
        if let Some(state) = self.clients.remove(&client) {
            self.engines[state.node].end(id(client));
        }
    }

    pub(super) fn join(&mut self, node: usize, client: u8, room: &str) -> ConnectionId {
        if !self.clients.get(&client).is_some_and(|state| state.attached) {
            self.attach(node, client);
        }
        self.engines[node].place(tenant(), &self.placed);
        self.now += Duration::from_millis(20);
        let (moment, me) = (self.moment(), (id(client), tenant()));
        let presence = format!("{client}@0");
        let entered = self.engines[node].enter(me, &name(room), ("user", &presence), moment);
        let connection = entered.unwrap();
        let state = self.clients.get_mut(&client).unwrap();
        state.rooms.insert(name(room), (connection, presence));
        state.shown.remove(&name(room));
        connection
    }

    pub(super) fn leave(&mut self, node: usize, client: u8, room: &str) {
        self.engines[node].leave(id(client), &name(room));
        let state = self.clients.get_mut(&client).unwrap();
        state.rooms.remove(&name(room));
        state.shown.remove(&name(room));
    }

    pub(super) fn set_presence(&mut self, client: u8, room: &str, presence: &str) {
        self.now += Duration::from_millis(10);
        let moment = self.moment();
        let Some(state) = self.clients.get_mut(&client) else {
            return;
        };
        let Some(own) = state.rooms.get_mut(&name(room)) else {
            return;
        };
        presence.clone_into(&mut own.1);
        let set = self.engines[state.node].set_presence(id(client), &name(room), presence, moment);
        set.unwrap();
    }

    pub(super) fn set_status(&mut self, node: usize, client: u8, room: &str, key: &str, value: &str) {
        self.now += Duration::from_millis(20);
        let setting = Setting {
            key: key.into(),
            value: value.into(),
            timestamp: None,
        };
        let moment = self.moment();
        let set = self.engines[node].set_status(id(client), &name(room), vec![setting], moment, DRIFT_MAX_DEFAULT);
        set.unwrap();
    }

    pub(super) fn send(&mut self, node: usize, client: u8, room: &str, payload: &str, to: Vec<ConnectionId>) {
        self.now += Duration::from_millis(20);
        let saying = Saying {
            topic: "topic".into(),
            payload: payload.into(),
            timestamp: None,
            to,
        };
        let moment = self.moment();
        let sent = self.engines[node].send(id(client), &name(room), saying, moment, DRIFT_MAX_DEFAULT);
        sent.unwrap();
    }

    /// Where a client is, if it is in the room and has a stream.
    pub(super) fn place_of(&self, client: u8, room: &str) -> Option<usize> {
        let state = self.clients.get(&client).filter(|client| client.attached)?;
        state.rooms.contains_key(&name(room)).then_some(state.node)
    }

    pub(super) fn node_of(&self, client: u8) -> Option<(usize, bool)> {
        let state = self.clients.get(&client)?;
        Some((state.node, state.attached))
    }

    pub(super) fn heard(&self, client: u8, room: &str) -> Vec<String> {
        self.clients[&client].shown[&name(room)].heard.clone()
    }

    pub(super) fn status(&self, client: u8, room: &str) -> Vec<(String, String)> {
        let shown = &self.clients[&client].shown[&name(room)];
        shown.status.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    pub(super) fn place(&mut self, nodes: &[usize]) {
        self.placed = nodes.iter().copied().map(node_id).collect();
        for engine in &mut self.engines {
            engine.place(tenant(), &self.placed);
        }
        let placed = &self.placed;
        self.clients.retain(|_, client| placed.contains(&node_id(client.node)));
    }

    /// A process dies and starts anew; its clients are gone. Whether the others' connections say so.
    pub(super) fn crash(&mut self, node: usize, is_told: bool) {
        self.engines[node] = self.start(node);
        self.clients.retain(|_, client| client.node != node);
        for other in 0..self.nodes() {
            self.break_link(node, other, is_told);
            self.break_link(other, node, true);
        }
    }

    pub(super) fn cut(&mut self, from: usize, to: usize, is_told: bool) {
        self.cut.insert((from, to));
        self.break_link(from, to, is_told);
    }

    fn break_link(&mut self, from: usize, to: usize, is_told: bool) {
        let Some(link) = self.links.remove(&(from, to)) else {
            return;
        };
        let moment = self.moment();
        self.engines[from].on_unlink(node_id(to));
        if is_told {
            self.engines[to].on_stream_ended(node_id(from), link.stream, moment);
        }
    }

    /// Opens the streams that are wanted.
    pub(super) fn connect(&mut self) {
        let moment = self.moment();
        for from in 0..self.nodes() {
            for to in self.engines[from].links() {
                let to = usize::try_from(to.0).unwrap() - 1;
                if self.links.contains_key(&(from, to)) || self.cut.contains(&(from, to)) {
                    continue;
                }
                let number = self.engines[from].on_link(node_id(to));
                let stream = self.engines[to].on_stream(node_id(from), moment);
                let under_way = VecDeque::new();
                let opened = Link {
                    number,
                    stream,
                    under_way,
                };
                self.links.insert((from, to), opened);
            }
        }
    }

    /// One stream takes what there is for it.
    pub(super) fn take(&mut self, from: usize, to: usize) -> bool {
        let Some(link) = self.links.get_mut(&(from, to)) else {
            return false;
        };
        let taken = self.engines[from].take_for(node_id(to), link.number, Haste::All);
        let some = taken.is_some();
        link.under_way.extend(taken);
        some
    }

    /// One message arrives.
    pub(super) fn deliver(&mut self, from: usize, to: usize) -> bool {
        let moment = self.moment();
        let Some(link) = self.links.get_mut(&(from, to)) else {
            return false;
        };
        let Some(telling) = link.under_way.pop_front() else {
            return false;
        };
        let taken = self.engines[to].on_telling(node_id(from), link.stream, telling, moment);
        if taken.is_err() {
            self.break_link(from, to, true);
        }
        true
    }

    /// A client reads one event.
    pub(super) fn read(&mut self, client: u8) -> bool {
        let Some(state) = self.clients.get_mut(&client).filter(|state| state.attached) else {
            return false;
        };
        let Some((room, update)) = self.engines[state.node].take(id(client), Haste::All) else {
            return false;
        };
        show(state.shown.entry(room).or_default(), update);
        true
    }

    /// Time passes: streams that are there carry heartbeats.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += TICK;
            if self.now.as_millis() % HEARTBEAT.as_millis() < TICK.as_millis() {
                for link in self.links.values_mut() {
                    link.under_way.push_back(Telling::default());
                }
            }
            let moment = self.moment();
            for pair in self.pairs() {
                while self.deliver(pair.0, pair.1) {}
            }
            for engine in &mut self.engines {
                engine.tick(moment);
            }
        }
    }

    pub(super) fn pairs(&self) -> Vec<(usize, usize)> {
        let nodes = 0..self.nodes();
        let pairs = nodes.clone().flat_map(|from| nodes.clone().map(move |to| (from, to)));
        pairs.filter(|(from, to)| from != to).collect()
    }

    /// Everything heals and goes quiet.
    pub(super) fn settle(&mut self) {
        self.cut.clear();
        for round in 0..8 {
            self.connect();
            loop {
                let mut moved = false;
                for (from, to) in self.pairs() {
                    moved |= self.take(from, to);
                    moved |= self.deliver(from, to);
                }
                for client in self.clients.keys().copied().collect::<Vec<_>>() {
                    moved |= self.read(client);
                }
                if !moved {
                    break;
                }
            }
            if round % 2 == 1 {
                self.pass(BACKOFF_MAX);
            }
        }
    }

    /// As [`Self::settle`], and long enough for the dead to be forgotten.
    pub(super) fn quiet(&mut self) {
        self.settle();
        self.pass(2 * PEER_SILENT_MAX + AWAY_AFTER);
        self.settle();
    }

    /// Everybody in a room who has a stream is shown exactly the others, as they are, and the same status.
    #[track_caller]
    pub(super) fn check(&self) {
        let mut truth: BTreeMap<&RoomName, BTreeMap<ConnectionId, String>> = BTreeMap::new();
        for client in self.clients.values().filter(|client| client.attached) {
            for (room, (connection, presence)) in &client.rooms {
                truth.entry(room).or_default().insert(*connection, presence.clone());
            }
        }
        let mut status: BTreeMap<&RoomName, (u8, &BTreeMap<String, String>)> = BTreeMap::new();
        for (&number, client) in self.clients.iter().filter(|(_, client)| client.attached) {
            for (room, (own, _)) in &client.rooms {
                let shown = &client.shown[room];
                let mut expected = truth[room].clone();
                expected.remove(own);
                assert_eq!(shown.users, expected, "client {number} in {room:?}");
                let (other, first) = *status.entry(room).or_insert((number, &shown.status));
                assert_eq!(&shown.status, first, "clients {number} and {other} in {room:?}");
            }
        }
    }
}

fn show(shown: &mut Shown, update: Update) {
    if update.whole {
        shown.users.clear();
        shown.status.clear();
    }
    for id in update.gone {
        shown.users.remove(&id);
    }
    for (id, user) in update.users {
        shown.users.insert(id, user.presence.to_string());
    }
    for (id, presence, _) in update.presences {
        let known = shown.users.get_mut(&id).expect("a presence of somebody who is known");
        *known = presence.to_string();
    }
    for (key, status) in update.status {
        shown.status.insert(key.to_string(), status.value.to_string());
    }
    shown
        .heard
        .extend(update.messages.iter().map(|message| message.payload.to_string()));
}
