//! A pretended node, for the model and for the tests over connections: a graph, sessions, and coverage computed from scratch after every commit.

#[path = "answering.rs"]
mod answering;

use std::sync::Arc;

use halcyon_core::collections::{BTreeMap, BTreeSet};
use halcyon_core::{
    change::{Change, ChangeSet},
    clock::Timestamp,
    coverage::{Digest, ENTITIES_MAX, bucket_of},
    graph::Graph,
    id::{EntityId, NodeId, OriginId, Tag},
    query::{
        answer::Answer,
        eval::{self, Budget},
        live::{Coverage, Mirror},
    },
    version_vector::VersionVector,
};
use halcyon_proto::{
    convert::{Taken, vector_bytes},
    error::{ErrorCode, Refusal},
    v1::{self, connect_response::Event},
};
use prost::{Message, bytes::Bytes};

use answering::answer_delta;

/// What clients follow here.
pub(crate) const QUERIES: [&str; 9] = [
    "post where open = true order by created desc limit 3 { title, author { name } }",
    "post where author.age > 30 { title }",
    "find ?u, count(?p) where ?p post/author ?u",
    "post where open = true and not tags has \"x\" { title, tags[] }",
    "user order by name limit 2 { name, age }",
    "post order by author.name limit 2 { title }",
    "user { name, <post.author as posts order by created limit 2 { title } }",
    "find ?p, ?n where ?p post/created _; optional (?p post/author ?u; ?u user/name ?n)",
    "find ?n where @u1 user/name ?n",
];

/// The predicate that no set may write.
pub(crate) const FORBIDDEN: &str = "post/forbidden";

#[derive(Debug)]
struct Subscription {
    query: usize,
    covered: BTreeSet<EntityId>,
    /// Buckets of which the client is still to say what it holds.
    asked: Option<Vec<u32>>,
    /// The answer itself is sent.
    answer: Option<Mirror>,
}

#[derive(Debug, Default)]
struct Session {
    client: Vec<u8>,
    events: Vec<Event>,
    subscriptions: BTreeMap<u32, Subscription>,
}

impl Session {
    fn end(&mut self, subscription: u32, why: &str) {
        let refusal = Refusal::retry(why, std::time::Duration::ZERO);
        let ended = v1::SubscriptionEnded {
            subscription,
            error: Some(refusal.into()),
        };
        self.subscriptions.remove(&subscription);
        self.events.push(Event::Ended(ended));
    }
}

#[derive(Debug, Default)]
pub(crate) struct Node {
    graph: Graph,
    vector: VersionVector,
    known: BTreeMap<(u128, u64), Taken>,
    sessions: BTreeMap<u8, Session>,
    opened: u8,
    /// What each query was answered, at each state that anybody was told of.
    answers: BTreeMap<VersionVector, Vec<Answer>>,
    /// Bytes of coverage that were sent.
    pub(crate) sent: usize,
    /// Of a query that rests on more entities the answer is sent.
    pub(crate) entities_max: Option<usize>,
}

impl Node {
    pub(crate) fn answer(&self, query: usize) -> Answer {
        ask(&self.graph, QUERIES[query])
    }

    /// What it was at a state.
    pub(crate) fn answer_at(&self, vector: &VersionVector, query: usize) -> Option<&Answer> {
        Some(&self.answers.get(vector)?[query])
    }

    /// Opens a session, or goes on with one; the events that it has missed.
    pub(crate) fn connect(&mut self, request: &v1::ConnectRequest) -> (u8, Vec<v1::ConnectResponse>) {
        let asked = request
            .session
            .first()
            .copied()
            .filter(|id| self.sessions.contains_key(id));
        let (id, after) = asked.map_or_else(|| (self.open(request), 0), |id| (id, request.after));
        let opened = v1::SessionOpened {
            session: vec![id].into(),
            resumed: asked.is_some(),
            ..v1::SessionOpened::default()
        };
        let mut events = vec![v1::ConnectResponse {
            number: after,
            event: Some(Event::Opened(opened)),
        }];
        events.extend(self.events(id, after));
        (id, events)
    }

    fn open(&mut self, request: &v1::ConnectRequest) -> u8 {
        self.opened += 1;
        let client = request.client.to_vec();
        let session = Session {
            client,
            ..Session::default()
        };
        self.sessions.insert(self.opened, session);
        self.opened
    }

    /// The events of a session behind one of them.
    pub(crate) fn events(&self, session: u8, after: u64) -> Vec<v1::ConnectResponse> {
        let Some(session) = self.sessions.get(&session) else {
            return Vec::new();
        };
        let events = (1..).zip(&session.events).filter(|(number, _)| *number > after);
        let events = events.map(|(number, event)| v1::ConnectResponse {
            number,
            event: Some(event.clone()),
        });
        events.collect()
    }

    /// A session's grace is over.
    pub(crate) fn forget(&mut self, session: u8) {
        self.sessions.remove(&session);
    }

    pub(crate) fn subscribe(&mut self, request: &v1::SubscribeRequest) -> Result<v1::SubscribeResponse, Refusal> {
        let id = request.session.first().copied().unwrap_or_default();
        let unknown = || Refusal::new(ErrorCode::NotFound, "no such session");
        if !self.sessions.contains_key(&id) {
            return Err(unknown());
        }
        let query = QUERIES.iter().position(|text| *text == request.query);
        let query = query.ok_or_else(|| Refusal::new(ErrorCode::Malformed, "another query"))?;
        let covered = self.coverage(query);
        let number = request.subscription;
        if self.is_too_much(query, &covered) && request.held.is_empty() {
            assert!(request.answers, "this client takes them");
            self.subscribe_to_answer(id, number, query);
            return Ok(v1::SubscribeResponse::default());
        }
        let mut differing = Vec::new();
        let mut delta = v1::CoverageDelta::default();
        if !request.held.is_empty() {
            differing = request.held.iter().map(|held| held.bucket).collect();
            let held: Vec<&String> = request.held.iter().flat_map(|held| &held.entities).collect();
            let equal: BTreeSet<&str> = request.held.iter().flat_map(|held| self.equal(held)).collect();
            let in_differing = |entity: &&EntityId| differing.contains(&u32::from(bucket_of(entity)));
            let lacks = |entity: &&EntityId| in_differing(entity) && !equal.contains(entity.as_str());
            delta = self.whole(covered.iter().filter(lacks));
            let is_needed = |name: &str| covered.contains(&EntityId::new(name).unwrap());
            delta.left = held.into_iter().filter(|name| !is_needed(name)).cloned().collect();
            differing.clear();
        } else if request.digest.is_empty() {
            delta = self.whole(covered.iter());
        } else {
            let mut ours = Digest::default();
            for entity in &covered {
                ours.add(entity, self.fingerprint(entity));
            }
            let theirs = Digest::decode(&request.digest).unwrap();
            differing = ours.differing(&theirs).into_iter().map(u32::from).collect();
        }
        let is_whole = differing.is_empty();
        let subscription = Subscription {
            query,
            covered,
            asked: (!is_whole).then(|| differing.clone()),
            answer: None,
        };
        let session = self.sessions.get_mut(&id).ok_or_else(unknown)?;
        session.subscriptions.insert(number, subscription);
        if is_whole {
            self.send_coverage(id, number, &delta);
        }
        Ok(v1::SubscribeResponse {
            differing,
            buckets: 256,
        })
    }

    /// It has caught up with what a client had seen: the subscription is to be made again.
    pub(crate) fn end(&mut self, session: u8, subscription: u32) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.end(subscription, "the node has caught up");
        }
    }

    pub(crate) fn unsubscribe(&mut self, request: &v1::UnsubscribeRequest) {
        let id = request.session.first().copied().unwrap_or_default();
        if let Some(session) = self.sessions.get_mut(&id) {
            session.subscriptions.remove(&request.subscription);
        }
    }

    /// Takes one pushed set, or refuses it.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Taken, Refusal> {
        let set = ChangeSet::decode(bytes).unwrap();
        let key = (u128::from_be_bytes(set.client().to_bytes()), set.number);
        if let Some(taken) = self.known.get(&key) {
            return Ok(Taken {
                overwritten: Vec::new(),
                again: true,
                ..taken.clone()
            });
        }
        let is_forbidden = |change: &Change| change.predicate().is_some_and(|name| name.as_str() == FORBIDDEN);
        if set.changes.iter().any(is_forbidden) {
            return Err(Refusal::new(ErrorCode::Limit, "not this field"));
        }
        let taken = self.commit(set);
        self.known.insert(key, taken.clone());
        Ok(taken)
    }

    /// Commits a set and tells all sessions.
    pub(crate) fn commit(&mut self, set: ChangeSet) -> Taken {
        let origin = OriginId {
            node: NodeId(1),
            incarnation: 1,
        };
        let tag = Tag {
            origin,
            seq: self.vector.get(origin).next(),
        };
        Taken {
            tag,
            superseded: self.commit_as(tag, set),
            overwritten: Vec::new(),
            again: false,
        }
    }

    /// The same, for a set that has its tag; what of it had lost already.
    pub(crate) fn commit_as(&mut self, tag: Tag, mut set: ChangeSet) -> Vec<u32> {
        let created: BTreeSet<EntityId> = set.changes.iter().filter_map(created).collect();
        let (mut superseded, mut kept) = (Vec::new(), Vec::new());
        for (at, change) in (0_u32..).zip(std::mem::take(&mut set.changes)) {
            if self.is_superseded(&change, &created) {
                superseded.push(at);
            } else {
                kept.push(change);
            }
        }
        set.changes = kept;
        self.graph.apply_set(tag, &set);
        self.vector.raise(tag);
        let answers = (0..QUERIES.len()).map(|query| self.answer(query)).collect();
        self.answers.insert(self.vector.clone(), answers);
        self.tell(&set);
        superseded
    }

    fn is_superseded(&self, change: &Change, created: &BTreeSet<EntityId>) -> bool {
        let Some(subject) = change.subject() else { return false };
        let number = self.graph.dictionary().entity_number(subject);
        let is_deleted = number.is_some_and(|number| self.graph.is_deleted(number));
        is_deleted || (!self.graph.is_known(subject) && !created.contains(subject))
    }

    fn tell(&mut self, set: &ChangeSet) {
        let followed = self
            .sessions
            .values()
            .flat_map(|session| session.subscriptions.values());
        let followed: BTreeSet<usize> = followed.map(|subscription| subscription.query).collect();
        let coverages: BTreeMap<usize, BTreeSet<EntityId>> = followed
            .into_iter()
            .map(|query| (query, self.coverage(query)))
            .collect();
        let mut sessions = std::mem::take(&mut self.sessions);
        for session in sessions.values_mut() {
            let mut deltas = Vec::new();
            let grown = session.subscriptions.iter();
            let grown =
                grown.filter(|(_, one)| one.answer.is_none() && self.is_too_much(one.query, &coverages[&one.query]));
            for number in grown.map(|(number, _)| *number).collect::<Vec<_>>() {
                session.end(number, "the query rests on too many entities now");
            }
            for (&number, subscription) in &mut session.subscriptions {
                if let Some(answer) = &mut subscription.answer {
                    let now = self.mirror(subscription.query);
                    let change = std::mem::replace(answer, now.clone()).difference(&now);
                    if !change.is_empty() {
                        deltas.push(subscription_delta(number, &answer_delta(&change, false), false));
                    }
                    continue;
                }
                let covered = &coverages[&subscription.query];
                let mut delta = self.whole(covered.difference(&subscription.covered));
                let stays = |change: &&Change| {
                    let subject = change.subject().unwrap();
                    covered.contains(subject) && subscription.covered.contains(subject)
                };
                let held = set
                    .changes
                    .iter()
                    .filter(stays)
                    .filter(|change| self.graph.holds(&set.timestamp, change));
                let changes: Vec<Change> = held.cloned().collect();
                if !changes.is_empty() {
                    delta.change_sets.push(encoded(set.timestamp, changes));
                }
                delta.left = subscription.covered.difference(covered).map(name).collect();
                subscription.covered.clone_from(covered);
                if delta != v1::CoverageDelta::default() {
                    let more = subscription.asked.is_some();
                    deltas.push(subscription_delta(number, &delta, more));
                }
            }
            if !deltas.is_empty() || session.client == set.client().to_bytes() {
                let vector = vector_bytes(&self.vector);
                if let Some((first, second)) = deltas.first().and_then(in_two) {
                    deltas[0] = second;
                    let (vector, deltas) = (vector.clone(), vec![first]);
                    session.events.push(Event::Commit(v1::Commit { vector, deltas }));
                }
                session.events.push(Event::Commit(v1::Commit { vector, deltas }));
            }
        }
        self.sessions = sessions;
    }

    /// In two parts, so that the first is not shown alone.
    fn send_coverage(&mut self, id: u8, number: u32, delta: &v1::CoverageDelta) {
        self.sent += delta.encoded_len();
        let vector = vector_bytes(&self.vector);
        let half = delta.entered.len() / 2;
        let mut first = delta.clone();
        first.entered.truncate(half);
        let is_of_first = |bytes: &Bytes, yes: bool| {
            let set = ChangeSet::decode(bytes).unwrap();
            let of_first = |change: &Change| first.entered.contains(&name(change.subject().unwrap()));
            let changes: Vec<Change> = set
                .changes
                .iter()
                .filter(|change| of_first(change) == yes)
                .cloned()
                .collect();
            (!changes.is_empty()).then(|| encoded(set.timestamp, changes))
        };
        let part = |yes| {
            delta
                .change_sets
                .iter()
                .filter_map(|bytes| is_of_first(bytes, yes))
                .collect()
        };
        let second = v1::CoverageDelta {
            change_sets: part(false),
            entered: delta.entered[half..].to_vec(),
            left: delta.left.clone(),
            answer: None,
        };
        let first = v1::CoverageDelta {
            change_sets: part(true),
            entered: first.entered.clone(),
            left: Vec::new(),
            answer: None,
        };
        let session = self.sessions.get_mut(&id).unwrap();
        for (delta, more) in [(first, true), (second, false)] {
            let deltas = vec![subscription_delta(number, &delta, more)];
            let vector = vector.clone();
            session.events.push(Event::Commit(v1::Commit { vector, deltas }));
        }
    }

    fn whole<'a>(&self, entities: impl Iterator<Item = &'a EntityId>) -> v1::CoverageDelta {
        let mut delta = v1::CoverageDelta::default();
        let mut sets: BTreeMap<Timestamp, Vec<Change>> = BTreeMap::new();
        for entity in entities {
            delta.entered.push(name(entity));
            if let Some(number) = self.graph.dictionary().entity_number(entity) {
                self.graph.confirmed(number, |timestamp, change| {
                    sets.entry(timestamp).or_default().push(change);
                });
            }
        }
        delta.change_sets = sets
            .into_iter()
            .map(|(timestamp, changes)| encoded(timestamp, changes))
            .collect();
        delta
    }

    fn coverage(&self, query: usize) -> BTreeSet<EntityId> {
        let query = halcyon_core::query::from_text(QUERIES[query]).unwrap();
        let coverage = Coverage::open(&query, &self.graph, Budget::default(), ENTITIES_MAX).unwrap();
        let names = coverage
            .entities()
            .into_iter()
            .map(|number| self.graph.dictionary().entity(number).clone());
        names.collect()
    }

    /// The entities that a client holds as they are here.
    fn equal<'a>(&self, held: &'a v1::BucketEntities) -> impl Iterator<Item = &'a str> {
        let fingerprints = held.fingerprints.as_chunks::<16>().0;
        assert_eq!(fingerprints.len(), held.entities.len(), "each has its fingerprint");
        let pairs = held.entities.iter().zip(fingerprints);
        pairs.filter_map(|(name, theirs)| {
            let ours = self.graph.dictionary().entity_number(&EntityId::new(name).unwrap())?;
            let ours = self.graph.fingerprint_of_entity(ours).0.to_le_bytes();
            (ours == *theirs).then_some(name.as_str())
        })
    }

    fn fingerprint(&self, entity: &EntityId) -> halcyon_core::fingerprint::Fingerprint {
        let number = self.graph.dictionary().entity_number(entity).unwrap();
        self.graph.fingerprint_of_entity(number)
    }
}

pub(crate) fn ask(graph: &Graph, text: &str) -> Answer {
    let query = halcyon_core::query::from_text(text).unwrap();
    eval::answer(&Arc::new(query), graph).unwrap()
}

fn created(change: &Change) -> Option<EntityId> {
    match change {
        Change::Create { subject } => Some(subject.clone()),
        _ => None,
    }
}

fn encoded(timestamp: Timestamp, changes: Vec<Change>) -> Bytes {
    let number = 0;
    let set = ChangeSet {
        timestamp,
        number,
        changes,
    };
    set.encode().into()
}

fn subscription_delta(subscription: u32, delta: &v1::CoverageDelta, more: bool) -> v1::SubscriptionDelta {
    v1::SubscriptionDelta {
        subscription,
        delta: delta.encode_to_vec().into(),
        more,
        stale: false,
    }
}

/// A delta in two parts, if it brings anything.
fn in_two(delta: &v1::SubscriptionDelta) -> Option<(v1::SubscriptionDelta, v1::SubscriptionDelta)> {
    let mut first = v1::CoverageDelta::decode(delta.delta.clone()).unwrap();
    let second = v1::CoverageDelta {
        change_sets: std::mem::take(&mut first.change_sets),
        entered: Vec::new(),
        left: std::mem::take(&mut first.left),
        answer: None,
    };
    let is_much = !first.entered.is_empty() || second.change_sets.len() > 1;
    is_much.then(|| {
        let part = |part, more| subscription_delta(delta.subscription, part, more);
        (part(&first, true), part(&second, delta.more))
    })
}

fn name(entity: &EntityId) -> String {
    entity.as_str().to_owned()
}
