//! One client: the engine, who follows what, what the disk does not have yet, and the rooms it is in.
//!
//! What always holds:
//! - a write shows at once, and is pushed when whoever drives the client says so: as soon as the disk has it, or has been
//!   asked to take it;
//! - what the engine lets go of the outbox leaves the disk in the same step as what it has become.

use std::{collections::VecDeque, time::Duration};

use halcyon_client::{
    engine::{
        Call, CallFailure, Engine, FollowError, FollowerId, Held, Moment, NodeClock, Notice, Outcome, Place, Push,
        PushAnswer, Start, Stored, backoff,
    },
    v1::{self, connect_response::Event},
};
use halcyon_core::collections::{BTreeMap, BTreeSet};
use halcyon_core::{
    clock::{ClientId, NTP64, WallTime},
    id::NodeId,
};
use halcyon_proto::convert;
use prost::Message;
use serde_json::{Value as JsonValue, json};

use crate::{
    disk::{self, DiskError, Left, Unsaved},
    news::Shown,
    room::Rooms,
    wire::{self, WireError},
    write::{self, WriteError},
};

/// What an event of the session asks of whoever keeps the stream: the stream must be opened anew.
pub(crate) const REOPEN: u8 = 1;

/// The session is open; rooms are to be entered.
pub(crate) const OPENED: u8 = 2;

/// Something happened in a room.
pub(crate) const ROOM: u8 = 4;

/// See the module's page.
#[derive(Debug)]
pub struct Client {
    tenant: String,
    engine: Engine,
    /// By the numbers of those who asked.
    shown: BTreeMap<u32, Shown>,
    numbers: BTreeMap<FollowerId, u32>,
    /// Of whom there is something to tell.
    woken: VecDeque<FollowerId>,
    /// Stamped and shown, on their way to the disk.
    on_the_way: VecDeque<Stored>,
    /// Without an acknowledgement, on the way or not.
    open: BTreeSet<Place>,
    unsaved: Unsaved,
    unreadable: usize,
    /// The node that the client speaks to.
    node: Option<NodeId>,
    /// That node's clock when it was greeted, if it said what it shows.
    clock: Option<NodeClock>,
    /// All that hold the tenant.
    replicas: BTreeSet<NodeId>,
    rooms: Rooms,
}

/// The wall clock in milliseconds, and chance.
pub(crate) fn moment(wall_millis: u64, jitter: u32) -> Moment {
    Moment {
        wall: WallTime::from_unix(Duration::from_millis(wall_millis)),
        jitter: jitter.into(),
    }
}

impl Client {
    /// A client of this tenant, with what a disk kept (`disk` has the form). `client` is drawn at random by whoever opens
    /// it; `saves` says whether there is a disk.
    pub fn open(tenant: &str, client: u128, records: &[u8], saves: bool) -> Result<Self, DiskError> {
        let left = disk::read(records)?;
        let unsaved = Unsaved::behind(&left);
        let Left {
            sets,
            floor,
            place,
            rows,
            unreadable,
        } = left;
        // Of some it is known that a node has taken them; they wait for a second one.
        let taken: BTreeSet<Place> = disk::taken(&rows).collect();
        let places = sets.iter().map(|stored| stored.place);
        let open = places.filter(|place| !taken.contains(place)).collect();
        let engine = Engine::open(Start {
            tenant: tenant.to_owned(),
            client: ClientId::from_random(client),
            floor,
            place,
            sets,
            rows,
            saves,
        });
        Ok(Self {
            tenant: tenant.to_owned(),
            engine,
            shown: BTreeMap::new(),
            numbers: BTreeMap::new(),
            woken: VecDeque::new(),
            on_the_way: VecDeque::new(),
            open,
            unsaved,
            unreadable,
            node: None,
            clock: None,
            replicas: BTreeSet::new(),
            rooms: Rooms::default(),
        })
    }

    /// Takes in a write of a page (`write` has its form), and shows it. Returns its place.
    pub fn write(&mut self, text: &str, moment: Moment) -> Result<u64, WriteError> {
        if !self.engine.has_room() {
            return Err(WriteError::Full);
        }
        let (stored, _) = self.engine.stamp(write::read(text)?, moment)?;
        self.engine.show_early(&stored);
        self.unsaved.put(stored.clone());
        self.open.insert(stored.place);
        let place = stored.place.number();
        self.on_the_way.push_back(stored);
        Ok(place)
    }

    /// The disk has every set up to this place, or was asked to take them; they may be pushed.
    pub fn durable(&mut self, up_to: u64) {
        let is_durable = |stored: &Stored| stored.place.number() <= up_to;
        while let Some(stored) = self.on_the_way.pop_front_if(|stored| is_durable(stored)) {
            self.engine.accept(stored);
        }
    }

    /// Before sets are stamped again: what is on its way to the disk is stamped again with them, and goes there with them.
    fn take_in_all(&mut self) {
        self.durable(u64::MAX);
    }

    /// Whether no node has answered for this set yet.
    pub fn is_open(&self, place: u64) -> bool {
        self.open.contains(&Place::from_number(place))
    }

    /// Follows a query under a number of the caller's; its answer is the first news of it.
    pub fn follow(&mut self, number: u32, query: &str) -> Result<(), FollowError> {
        let follower = self.engine.follow(query)?;
        self.shown.insert(number, Shown::new(follower));
        self.numbers.insert(follower, number);
        Ok(())
    }

    /// Follows it no longer.
    pub fn unfollow(&mut self, number: u32) {
        if let Some(Shown { follower, .. }) = self.shown.remove(&number) {
            self.numbers.remove(&follower);
            self.engine.unfollow(follower);
        }
    }

    /// What answers have changed to, in frames (`news` has them); empty where nothing did. Behind a part of a long answer
    /// it ends: to be called again, until the last.
    pub fn take_news(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.woken.extend(self.engine.take_woken());
        while let Some(&follower) = self.woken.front() {
            let number = self.numbers.get(&follower).copied();
            if let Some((number, shown)) = number.and_then(|number| Some((number, self.shown.get_mut(&number)?))) {
                if shown.has_more() {
                    shown.go_on(number, &mut out);
                } else {
                    let updates = self.engine.take_updates(follower);
                    shown.tell(number, updates, &mut out);
                }
                if shown.has_more() {
                    break;
                }
            }
            self.woken.pop_front();
        }
        out
    }

    /// What is to be kept on the disk, all of it or none (`disk` has the form); empty where nothing is.
    pub fn take_records(&mut self) -> Vec<u8> {
        let rows = self.engine.take_rows();
        self.unsaved.take(self.engine.floor(), rows)
    }

    /// Stamps again what was never pushed and the node would refuse, by its clock as it was when it was greeted, so long
    /// ago at the most; and takes all that waits for pushed from here on. To be called while no push is under way. Says
    /// whether anything changed: then the disk must have it before the next, or a later run takes for certain that nobody
    /// has a set that somebody may have.
    pub fn before_push(&mut self, since: Duration, moment: Moment) -> bool {
        let is_stamped_again = self.stamp_again(since, moment);
        let is_floor_raised = self.engine.before_send();
        is_stamped_again || is_floor_raised
    }

    fn stamp_again(&mut self, since: Duration, moment: Moment) -> bool {
        let Some(clock) = self.clock else { return false };
        let wall = WallTime(NTP64(clock.wall.0.0.saturating_add(NTP64::from(since).0)));
        let clock = NodeClock { wall, ..clock };
        if !self.engine.note_clock(clock) {
            return false;
        }
        self.take_in_all();
        let rewritten = self.engine.before_push(clock, moment);
        let is_rewritten = !rewritten.is_empty();
        for stored in rewritten {
            self.unsaved.put(stored);
        }
        is_rewritten
    }

    /// The body of the next `Push`; empty where there is nothing to push, or one is under way.
    pub fn next_push(&mut self) -> Vec<u8> {
        let Some(Push { sets, vector }) = self.engine.next_push() else {
            return Vec::new();
        };
        wire::push(&self.tenant, sets, &vector)
    }

    /// The answer to the push under way. Says what became of sets, as JSON.
    pub fn on_pushed(&mut self, body: &[u8], moment: Moment) -> String {
        let Ok((results, second)) = wire::pushed(body) else {
            return self.on_push_answer(PushAnswer::Lost, moment);
        };
        let told = self.on_push_answer(PushAnswer::Results(results), moment);
        let second = Held {
            second,
            ..Held::default()
        };
        // Whether a node is lost is asked in quiet moments, against a fresh list.
        self.let_go(self.node, &second, &BTreeSet::new());
        told
    }

    /// The push under way was refused as a whole: the `Error` in its status. Without one the answer was lost.
    pub fn on_push_failed(&mut self, details: &[u8], moment: Moment) -> String {
        let answer = wire::refusal(details).map_or(PushAnswer::Lost, PushAnswer::Refused);
        self.on_push_answer(answer, moment)
    }

    /// The body of a `Connect` that goes on with the session, or opens one.
    pub fn connect(&self) -> Vec<u8> {
        self.engine.connect_request().encode_to_vec()
    }

    /// An event of the session's stream. Says what it asks for, one bit for each thing.
    pub fn on_event(&mut self, body: &[u8], moment: Moment) -> u8 {
        let Ok(response) = v1::ConnectResponse::decode(body) else {
            return REOPEN;
        };
        let mut asks = 0;
        match &response.event {
            Some(Event::Opened(_)) => asks |= OPENED,
            Some(Event::Held(held)) => {
                if let (Ok(own), Ok(second)) = (convert::vector(&held.own), convert::vector(&held.second)) {
                    self.let_go(self.node, &Held { own, second }, &BTreeSet::new());
                }
            }
            Some(Event::Room(event)) => {
                self.rooms.on_event(event.clone());
                asks |= ROOM;
            }
            Some(Event::Commit(_) | Event::Ended(_)) | None => {}
        }
        if self.engine.on_event(response, moment).is_err() || self.engine.wants_reconnect() {
            asks |= REOPEN;
        }
        asks
    }

    /// The stream ended, or could not be opened.
    pub fn on_disconnected(&mut self) {
        self.engine.on_disconnected();
    }

    /// Somebody else has signed in: the next stream opens a session of its own. To be called while none is open.
    pub fn forget_session(&mut self) {
        self.engine.forget_session();
    }

    /// Whether the stream must be opened anew.
    pub fn wants_reconnect(&self) -> bool {
        self.engine.wants_reconnect()
    }

    /// The next call to make beside the stream; empty if there is none.
    ///
    /// ```text
    /// kind: 1 byte (0 Subscribe, 1 Unsubscribe) | subscription: 4 bytes | wait in milliseconds before: 4 bytes | body
    /// ```
    pub fn next_call(&mut self, jitter: u32) -> Vec<u8> {
        let (kind, number, wait, body) = match self.engine.next_call() {
            None => return Vec::new(),
            Some(Call::Subscribe { request, attempt }) => {
                let wait = if attempt == 0 {
                    Duration::ZERO
                } else {
                    backoff(attempt, jitter.into())
                };
                (0_u8, request.subscription, wait, request.encode_to_vec())
            }
            Some(Call::Unsubscribe(request)) => (1, request.subscription, Duration::ZERO, request.encode_to_vec()),
        };
        let wait = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let mut out = vec![kind];
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(&wait.to_be_bytes());
        out.extend_from_slice(&body);
        out
    }

    /// A `Subscribe` was answered.
    pub fn on_subscribed(&mut self, number: u32, body: &[u8]) {
        let answer = v1::SubscribeResponse::decode(body).map_err(|_| CallFailure::Lost);
        self.engine.on_subscribed(number, answer);
    }

    /// A `Subscribe` was refused: the `Error` in its status. Without one the answer was lost.
    pub fn on_subscribe_failed(&mut self, number: u32, details: &[u8]) {
        let failure = wire::refusal(details).map_or(CallFailure::Lost, CallFailure::Refused);
        self.engine.on_subscribed(number, Err(failure));
    }

    /// What `Locate` answered, as JSON.
    pub fn on_located(&mut self, body: &[u8]) -> Result<JsonValue, WireError> {
        let answer = v1::LocateResponse::decode(body)?;
        self.replicas = answer.replicas.iter().map(|replica| NodeId(replica.node)).collect();
        Ok(wire::replicas_json(&answer.replicas))
    }

    /// From here on the client speaks to this node, which said this of its clock when it was greeted.
    pub const fn at_node(&mut self, node: u64, clock: Option<NodeClock>) {
        self.node = Some(NodeId(node));
        self.clock = clock;
    }

    /// The body of a `Held`; empty while nothing waits for a second replica.
    pub fn held(&self) -> Vec<u8> {
        if self.engine.kept() == 0 {
            return Vec::new();
        }
        let tenant = self.tenant.clone();
        v1::HeldRequest { tenant, forward: true }.encode_to_vec()
    }

    /// What a `Held` answered.
    pub fn on_held(&mut self, body: &[u8]) -> Result<(), WireError> {
        let answer = v1::HeldResponse::decode(body)?;
        let held = Held {
            own: convert::vector(&answer.own)?,
            second: convert::vector(&answer.second)?,
        };
        // A release that does not say who holds the tenant leaves what was located last.
        let replicas = match &answer.replicas[..] {
            [] => self.replicas.clone(),
            replicas => replicas.iter().copied().map(NodeId).collect(),
        };
        // A release that does not say who answered does not pass the question on.
        let node = match answer.node {
            0 => self.node,
            node => Some(NodeId(node)),
        };
        self.let_go(node, &held, &replicas);
        Ok(())
    }

    /// Sets that no node has answered for.
    pub fn waiting(&self) -> usize {
        self.open.len()
    }

    /// Sets of the disk's outbox that this release cannot read.
    pub const fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// The sum over all confirmed facts that are held here, in hex: equal states have equal ones.
    pub fn fingerprint(&self) -> String {
        self.engine.fingerprint().to_string()
    }

    pub(crate) fn tenant(&self) -> &str {
        &self.tenant
    }

    pub(crate) fn session(&self) -> &[u8] {
        self.engine.session_id()
    }

    pub(crate) const fn rooms(&mut self) -> &mut Rooms {
        &mut self.rooms
    }

    fn let_go(&mut self, node: Option<NodeId>, held: &Held, replicas: &BTreeSet<NodeId>) {
        if let Some(node) = node {
            let places = self.engine.on_held(node, held, replicas);
            self.unsaved.let_go(places);
        }
    }

    fn on_push_answer(&mut self, answer: PushAnswer, moment: Moment) -> String {
        if answer.is_drift() {
            self.take_in_all();
        }
        let Outcome {
            settled,
            rewritten,
            forgotten,
            next,
            ..
        } = self.engine.on_push_answer(answer, moment);
        let is_rewritten = !rewritten.is_empty();
        for stored in rewritten {
            self.unsaved.put(stored);
        }
        self.unsaved.let_go(forgotten);
        let mut superseded = BTreeMap::new();
        for notice in self.engine.take_notices() {
            if let Notice::Superseded { place, fields } = notice {
                superseded.insert(place, fields);
            }
        }
        let mut ends = Vec::new();
        for (place, end) in settled {
            self.open.remove(&place);
            ends.push(match end {
                Ok(_) => wire::taken_json(place, superseded.get(&place).map_or(&[], Vec::as_slice)),
                Err(refusal) => json!({ "place": place.number(), "error": wire::refusal_json(&refusal) }),
            });
        }
        json!({ "settled": ends, "rewritten": is_rewritten, "next": wire::next_json(&next) }).to_string()
    }
}
