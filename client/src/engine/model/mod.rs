//! Random runs of several clients and a pretended node, with loss, absences, restarts and refusals.
//!
//! After every step each answer equals a fresh evaluation of what its query sees, and so does what a follower made of its
//! updates; what says that it is synced is the node's answer at the state that it shows. In the end every answer is the
//! node's.

mod answered;
mod drive;
mod earlier;
mod linger;
mod node;
mod stale;
mod texts;

use std::{sync::Arc, time::Duration};

use halcyon_core::collections::BTreeMap;
use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, WallTime, timestamp},
    id::{EntityId, Predicate},
    query::{eval, live::Mirror, testing::cases},
    value::Value,
};
use proptest::prelude::*;

use self::{
    drive::{calls, connect, hear, push},
    node::{FORBIDDEN, Node, QUERIES},
};
use super::*;
use crate::session::{Answer, Moment};

const CLIENTS: usize = 3;

/// One thing that happens; the first number is the client.
#[derive(Debug, Clone)]
enum Step {
    Write(usize, Vec<Edit>),
    /// Somebody else writes.
    Elsewhere(Vec<Edit>),
    Follow(usize, usize),
    Unfollow(usize, usize),
    /// As `Unfollow`, but what the query needs stays for a while.
    Leave(usize, usize),
    /// Some of that while has passed.
    Age(usize),
    /// Its store is made anew.
    MakeAnew(usize),
    Connect(usize),
    /// The stream breaks; perhaps for so long that the session is over.
    Lose(usize, bool),
    /// So many events arrive.
    Hear(usize, usize),
    /// So many calls are made, of which the last may have no answer.
    Calls(usize, usize, bool),
    /// A push, of which the answer may be lost.
    Push(usize, bool),
    Restart(usize),
    /// From now on the node sends the answers of queries that rest on more entities.
    Bound(usize),
}

/// What a write does, to a post or a user of this number.
#[derive(Debug, Clone)]
enum Edit {
    Post(u8, u8, u8),
    Close(u8),
    Untitle(u8),
    Tag(u8, bool),
    User(u8, u8),
    Delete(u8),
    DeleteUser(u8),
    Forbidden(u8),
}

impl Edit {
    fn changes(&self) -> Vec<Change> {
        let post = |number: u8| EntityId::new(&format!("p{number}")).unwrap();
        let user = |number: u8| EntityId::new(&format!("u{number}")).unwrap();
        let set = |subject: EntityId, predicate: &str, value: Value| Change::Set {
            subject,
            predicate: Predicate::new(predicate).unwrap(),
            value,
        };
        match *self {
            Self::Post(at, created, author) => vec![
                Change::Create { subject: post(at) },
                set(
                    post(at),
                    "post/title",
                    Value::string(&format!("a long enough title {created}")),
                ),
                set(post(at), "post/open", Value::Boolean(true)),
                set(post(at), "post/created", Value::Date(created.into())),
                set(post(at), "post/author", Value::Ref(user(author))),
            ],
            Self::Close(at) => vec![set(post(at), "post/open", Value::Boolean(false))],
            Self::Untitle(at) => vec![Change::Unset {
                subject: post(at),
                predicate: Predicate::new("post/title").unwrap(),
            }],
            Self::Tag(at, is_in) => {
                let (subject, value) = (post(at), Value::string("x"));
                let predicate = Predicate::new("post/tags").unwrap();
                vec![if is_in {
                    Change::Add {
                        subject,
                        predicate,
                        value,
                    }
                } else {
                    Change::Remove {
                        subject,
                        predicate,
                        value,
                    }
                }]
            }
            Self::User(at, age) => vec![
                Change::Create { subject: user(at) },
                set(user(at), "user/name", Value::string(&format!("name {}", age % 7))),
                set(user(at), "user/age", Value::number(f64::from(age)).unwrap()),
            ],
            Self::Delete(at) => vec![Change::Delete { subject: post(at) }],
            Self::DeleteUser(at) => vec![Change::Delete { subject: user(at) }],
            Self::Forbidden(at) => vec![
                set(post(at), "post/open", Value::Boolean(true)),
                set(post(at), FORBIDDEN, Value::Boolean(true)),
            ],
        }
    }
}

fn any_edit() -> impl Strategy<Value = Edit> {
    let posts = || 0..12_u8;
    let users = || 0..4_u8;
    prop_oneof![
        6 => (posts(), 0..20_u8, users()).prop_map(|(at, created, author)| Edit::Post(at, created, author)),
        2 => posts().prop_map(Edit::Close),
        1 => posts().prop_map(Edit::Untitle),
        2 => (posts(), any::<bool>()).prop_map(|(at, is_in)| Edit::Tag(at, is_in)),
        3 => (users(), 20..40_u8).prop_map(|(at, age)| Edit::User(at, age)),
        1 => posts().prop_map(Edit::Delete),
        1 => users().prop_map(Edit::DeleteUser),
        1 => posts().prop_map(Edit::Forbidden),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let client = || 0..CLIENTS;
    let edits = || proptest::collection::vec(any_edit(), 1..4);
    prop_oneof![
        5 => (client(), edits()).prop_map(|(at, edits)| Step::Write(at, edits)),
        3 => edits().prop_map(Step::Elsewhere),
        4 => (client(), 0..QUERIES.len()).prop_map(|(at, query)| Step::Follow(at, query)),
        1 => (client(), 0..QUERIES.len()).prop_map(|(at, query)| Step::Unfollow(at, query)),
        3 => (client(), 0..QUERIES.len()).prop_map(|(at, query)| Step::Leave(at, query)),
        1 => client().prop_map(Step::Age),
        1 => client().prop_map(Step::MakeAnew),
        4 => client().prop_map(Step::Connect),
        2 => (client(), any::<bool>()).prop_map(|(at, long)| Step::Lose(at, long)),
        6 => (client(), 1..4_usize).prop_map(|(at, count)| Step::Hear(at, count)),
        6 => (client(), 1..4_usize, any::<bool>()).prop_map(|(at, count, lost)| Step::Calls(at, count, lost)),
        4 => (client(), any::<bool>()).prop_map(|(at, lost)| Step::Push(at, lost)),
        1 => client().prop_map(Step::Restart),
        1 => (0..12_usize).prop_map(Step::Bound),
    ]
}

/// One client with its disk, and what its followers made of their updates.
struct Client {
    engine: Engine,
    rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    sets: BTreeMap<Place, Stored>,
    place: Place,
    floor: Floor,
    /// By query.
    followers: BTreeMap<usize, FollowerId>,
    mirrors: BTreeMap<FollowerId, Mirror>,
    session: Option<u8>,
    runs: u128,
}

impl Client {
    fn new(at: usize) -> Self {
        let runs = 1_000 * (1 + at as u128);
        let mut client = Self {
            engine: open(runs, Floor::default(), Place(0), Vec::new(), Vec::new()),
            rows: BTreeMap::new(),
            sets: BTreeMap::new(),
            place: Place(0),
            floor: Floor::default(),
            followers: BTreeMap::new(),
            mirrors: BTreeMap::new(),
            session: None,
            runs,
        };
        client.check();
        client
    }

    fn save(&mut self) {
        for row in self.engine.take_rows() {
            match row.value {
                Some(value) => self.rows.insert((row.table, row.key), value),
                None => self.rows.remove(&(row.table, row.key)),
            };
        }
        self.floor = self.engine.session().floor();
    }

    fn restart(&mut self) {
        self.save();
        self.runs += 1;
        let rows = self.rows.iter().map(|((table, key), value)| Record {
            table: *table,
            key: key.clone(),
            value: Some(value.clone()),
        });
        let sets = self.sets.values().cloned().collect();
        let before: BTreeMap<usize, _> = self
            .followers
            .iter()
            .map(|(query, follower)| (*query, self.engine.answer(*follower)))
            .collect();
        let was_whole = |query: usize| self.engine.covered(self.followers[&query]) > 0;
        let whole: Vec<usize> = self
            .followers
            .keys()
            .copied()
            .filter(|query| was_whole(*query))
            .collect();
        self.engine = open(self.runs, self.floor, self.place, sets, rows.collect());
        self.session = None;
        self.mirrors.clear();
        for (query, follower) in &mut self.followers {
            *follower = self.engine.follow(QUERIES[*query]).unwrap();
        }
        for query in whole {
            let after = self.engine.answer(self.followers[&query]);
            assert_eq!(after, before[&query], "a restart shows the same: {}", QUERIES[query]);
        }
    }

    /// What every step must leave behind.
    fn check(&mut self) {
        for (query, follower) in &self.followers {
            for update in self.engine.take_updates(*follower) {
                match update {
                    Update::Answer(mirror) => {
                        self.mirrors.insert(*follower, *mirror);
                    }
                    Update::Delta(delta) => self.mirrors.get_mut(follower).unwrap().apply(delta),
                    Update::Status(_) => {}
                    Update::Failed(error) => panic!("{error}"),
                }
            }
            let id = self.engine.by_follower[follower];
            let is_whole = self.engine.queries[&id].is_whole;
            let logical = Arc::new(halcyon_core::query::from_text(QUERIES[*query]).unwrap());
            let shown = self.engine.answer(*follower).unwrap();
            assert_eq!(self.mirrors[follower].answer(), shown, "{}", QUERIES[*query]);
            if self.engine.is_answered_by_node(*follower) {
                assert_eq!(self.engine.covered(*follower), 0, "nothing is held of it");
                continue;
            }
            let fresh = eval::answer(&logical, &self.engine.replica.view(is_whole.then_some(id))).unwrap();
            assert_eq!(shown, fresh, "{}", QUERIES[*query]);
        }
    }
}

fn start(client: u128, floor: Floor, place: Place, sets: Vec<Stored>, rows: Vec<Record>) -> Start {
    Start {
        tenant: "app".to_owned(),
        client: ClientId::from_random(client),
        floor,
        place,
        sets,
        rows,
        saves: true,
    }
}

/// Every other run of a client says of a few entities only that it holds them.
fn open(run: u128, floor: Floor, place: Place, sets: Vec<Stored>, rows: Vec<Record>) -> Engine {
    const FEW_BYTES: usize = 60;
    let mut engine = Engine::open(start(run, floor, place, sets, rows));
    if (run / 1_000 + run).is_multiple_of(2) {
        engine.held_bytes_max = FEW_BYTES;
    }
    engine
}

struct World {
    node: Node,
    clients: Vec<Client>,
    now: u64,
    elsewhere: u64,
}

impl World {
    fn new() -> Self {
        Self {
            node: Node::default(),
            clients: (0..CLIENTS).map(Client::new).collect(),
            now: 1_000,
            elsewhere: 0,
        }
    }

    fn moment(&mut self) -> Moment {
        self.now += 1;
        Moment {
            wall: WallTime::from_unix(Duration::from_secs(self.now)),
            jitter: 0,
        }
    }

    fn step(&mut self, step: Step) {
        let moment = self.moment();
        let (node, clients) = (&mut self.node, &mut self.clients);
        match step {
            Step::Write(at, edits) => {
                let client = &mut clients[at];
                let changes = edits.iter().flat_map(Edit::changes).collect();
                let (stored, _) = client.engine.stamp(changes, moment).unwrap();
                client.sets.insert(stored.place, stored.clone());
                (client.place, client.floor) = (stored.place, client.engine.session().floor());
                client.engine.accept(stored);
            }
            Step::Elsewhere(edits) => {
                self.elsewhere += 1;
                node.commit(ChangeSet {
                    timestamp: timestamp(moment.wall.0, ClientId::from_random(7)),
                    number: self.elsewhere,
                    changes: edits.iter().flat_map(Edit::changes).collect(),
                });
            }
            Step::Follow(at, query) => {
                let client = &mut clients[at];
                let follower = client.engine.follow(QUERIES[query]).unwrap();
                if let Some(before) = client.followers.insert(query, follower) {
                    client.engine.unfollow(before);
                }
            }
            Step::Unfollow(at, query) => {
                if let Some(follower) = clients[at].followers.remove(&query) {
                    clients[at].engine.unfollow(follower);
                }
            }
            Step::Leave(at, query) => {
                if let Some(follower) = clients[at].followers.remove(&query) {
                    clients[at].engine.leave(follower);
                }
            }
            Step::Age(at) => clients[at].engine.age_lingering(),
            Step::MakeAnew(at) => clients[at].engine.make_anew(),
            Step::Connect(at) => connect(node, &mut clients[at], moment),
            Step::Lose(at, long) => {
                if let Some(session) = clients[at].session.take().filter(|_| long) {
                    node.forget(session);
                }
                clients[at].engine.on_disconnected();
            }
            Step::Hear(at, count) => hear(node, &mut clients[at], count, moment),
            Step::Calls(at, count, lost) => calls(node, &mut clients[at], count, lost),
            Step::Push(at, lost) => push(node, &mut clients[at], lost, moment),
            Step::Restart(at) => clients[at].restart(),
            Step::Bound(most) => node.entities_max = Some(most),
        }
        clients.iter_mut().for_each(Client::check);
        self.check_synced();
    }

    /// What says that it is synced, with nothing pending, is the node's answer at the state that it shows.
    fn check_synced(&self) {
        for client in &self.clients {
            if client.engine.replica.pending().next().is_some() {
                continue;
            }
            for (query, follower) in &client.followers {
                let Some(snapshot) = client.engine.snapshot(*follower) else {
                    continue;
                };
                let of_node = self.node.answer_at(&snapshot.vector, *query);
                if let Some(answer) = of_node.filter(|_| snapshot.status == QueryStatus::Synced) {
                    assert_eq!(snapshot.answer, *answer, "{}", QUERIES[*query]);
                }
            }
        }
    }

    /// Without faults, everything arrives.
    fn settle(&mut self) {
        for _ in 0..40 {
            for at in 0..CLIENTS {
                let steps = [
                    Step::Age(at),
                    Step::Push(at, false),
                    Step::Connect(at),
                    Step::Calls(at, 20, false),
                    Step::Hear(at, 1_000),
                ];
                for step in steps {
                    self.step(step);
                }
            }
        }
        for client in &self.clients {
            assert_eq!(
                client.engine.replica.pending().count(),
                0,
                "nothing is pending any more"
            );
            for (query, follower) in &client.followers {
                assert_eq!(client.engine.status(*follower), Some(QueryStatus::Synced));
                let shown = client.engine.answer(*follower).unwrap();
                assert_eq!(shown, self.node.answer(*query), "{}", QUERIES[*query]);
            }
            if client.engine.queries.is_empty() {
                assert!(client.engine.replica.graph().is_empty(), "what nothing needs is gone");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_shrink_iters: 4_000, ..ProptestConfig::with_cases(cases(300)) })]

    #[test]
    fn answers_are_fresh_after_every_step_and_the_nodes_in_the_end(
        steps in proptest::collection::vec(any_step(), 1..80),
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.settle();
    }
}

/// 2,000 posts, of which 10 changed while the client was away.
#[test]
fn coming_back_costs_what_changed() {
    let mut world = World::new();
    let edits = |titles: &str, numbers: std::ops::Range<u32>| -> Vec<Change> {
        let changes = numbers.flat_map(|number| {
            let subject = EntityId::new(&format!("post-{number}")).unwrap();
            let set = |field: &str, value| Change::Set {
                subject: subject.clone(),
                predicate: Predicate::new(field).unwrap(),
                value,
            };
            [
                Change::Create {
                    subject: subject.clone(),
                },
                set("post/open", Value::Boolean(true)),
                set("post/title", Value::string(&format!("{titles} {number}"))),
            ]
        });
        changes.collect()
    };
    let write = |world: &mut World, changes| {
        let moment = world.moment();
        world.node.commit(ChangeSet {
            timestamp: timestamp(moment.wall.0, ClientId::from_random(7)),
            number: 1,
            changes,
        });
    };
    write(&mut world, edits("as it was first", 0..2_000));
    world.step(Step::Follow(0, 3));
    world.settle();
    let full = std::mem::take(&mut world.node.sent);
    world.step(Step::Lose(0, true));
    write(&mut world, edits("and as it is now", 0..10));
    world.settle();
    let resumed = world.node.sent;
    assert_eq!(world.clients[0].engine.covered(world.clients[0].followers[&3]), 2_000);
    assert!(
        resumed * 100 < full,
        "{resumed} bytes to come back, {full} for all: what lies beside a changed one is not sent"
    );
}
