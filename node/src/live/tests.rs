//! See `server/tests/live.rs` for the whole way over the wire.

use std::time::Duration;

use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, NTP64, timestamp},
    coverage::ENTITIES_MAX,
    graph::Graph,
    id::{EntityId, NodeId, OriginId, Predicate, Seq, Tag},
    query::{
        answer::Answer,
        eval,
        live::{self as core_live, AnswerDelta, Mirror},
    },
    value::Value,
};
use halcyon_proto::{
    error::{ErrorCode, Refusal},
    v1,
};
use prost::Message;

use super::{state::State, *};
use crate::{
    session::{Connected, Event, Next, Owner, Sessions},
    storage::types::{Commit, Via},
};

#[test]
fn queries_are_equal_whatever_their_variables_are_called() {
    let key = |text: &str| query::key_of(&read(text).unwrap());
    assert_eq!(
        key("find ?a where ?a post/rank 1"),
        key("find ?a where ?a post/rank 1 # the same")
    );
    assert_ne!(key("post where rank = 1"), key("post where rank = 2"));
    assert_eq!(
        key(r#"{"from": "post", "where": ["rank", "=", 1]}"#),
        key("post where rank = 1")
    );
}

#[test]
fn a_query_that_cannot_be_read_is_shown_with_the_place() {
    let shown = read("post where rank ~ 1").unwrap_err();
    assert!(shown.contains('^'), "{shown}");
    assert!(read("{").unwrap_err().contains("JSON"));
}

const AMPLE: Bounds = Bounds {
    bytes: usize::MAX,
    entities: ENTITIES_MAX,
};

/// A query that rests on more than four entities is answered here.
const FEW: Bounds = Bounds { entities: 4, ..AMPLE };

const OURS: u128 = 7;
const THEIRS: u128 = 8;

/// A tenant's state and one session of the client [`OURS`], without a task between them.
struct World {
    _directory: tempfile::TempDir,
    state: State,
    connected: Connected,
    bounds: Bounds,
    seq: u64,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let env = crate::env::system(directory.path()).unwrap();
        let owner = Owner {
            tenant: TenantId::generate(|count| vec![1; count]),
            key: [1; 32],
        };
        let client = Some(ClientId::from_random(OURS));
        Self {
            connected: Sessions::new(&env).connect(owner, client, None).unwrap(),
            state: State::default(),
            bounds: AMPLE,
            _directory: directory,
            seq: 0,
        }
    }

    fn few() -> Self {
        Self {
            bounds: FEW,
            ..Self::new()
        }
    }

    fn subscribe(&mut self, number: u32, query: &str) {
        self.come_back(number, query, VersionVector::EMPTY);
        assert_eq!(self.heard().len(), 1, "its coverage");
    }

    /// A client comes that has seen this.
    fn come_back(&mut self, number: u32, query: &str, seen: VersionVector) {
        let ask = Ask {
            session: self.connected.session.clone(),
            number,
            query: read(query).unwrap(),
            vector: seen,
            digest: None,
            held: None,
            answers: true,
        };
        self.state.subscribe(&ask, Duration::ZERO, self.bounds).unwrap();
    }

    /// Clients give posts ranks, all in one state.
    fn write(&mut self, writes: &[(u128, &str, f64)]) {
        let commits: Vec<Arc<Commit>> = writes.iter().map(|write| Arc::new(self.commit(*write))).collect();
        let vector: VersionVector = commits.iter().map(|commit| commit.tag).collect();
        for wake in self.state.take_commits(&commits, &vector) {
            wake.now();
        }
    }

    fn commit(&mut self, (client, subject, rank): (u128, &str, f64)) -> Commit {
        self.seq += 1;
        let subject = EntityId::new(subject).unwrap();
        let rank = Change::Set {
            subject,
            predicate: Predicate::new("post/rank").unwrap(),
            value: Value::number(rank).unwrap(),
        };
        let set = ChangeSet {
            timestamp: timestamp(NTP64(self.seq), ClientId::from_random(client)),
            number: self.seq,
            changes: vec![rank],
        };
        let origin = OriginId {
            node: NodeId(1),
            incarnation: 1,
        };
        Commit {
            tenant: self.connected.session.owner().tenant,
            tag: Tag {
                origin,
                seq: Seq(self.seq),
            },
            encoded: set.encode().into(),
            set: Arc::new(set),
            content_hash: 0,
            collection_epoch: 0,
            via: Via::Client,
        }
    }

    fn heard_anything(&mut self) {
        while self.connected.events.ready().is_some() {}
    }

    /// What the session has heard since: of each event the subscriptions with how many change sets.
    fn heard(&mut self) -> Vec<Vec<(u32, usize)>> {
        let mut heard = Vec::new();
        while let Some(Next::Event(_, event)) = self.connected.events.ready() {
            let Event::Commit(commit) = &*event else {
                panic!("{event:?} is no commit");
            };
            let deltas = commit.deltas.iter().map(|delta| {
                let coverage = v1::CoverageDelta::decode(delta.delta.clone()).unwrap();
                (delta.subscription, coverage.change_sets.len())
            });
            heard.push(deltas.collect());
        }
        heard
    }
}

#[test]
fn whoever_wrote_hears_of_it_at_once_also_where_nothing_changed() {
    let mut world = World::new();
    world.subscribe(1, "post where rank > 10");
    world.write(&[(OURS, "a", 1.0)]);
    assert_eq!(world.heard(), [[]]);
    world.write(&[(THEIRS, "b", 1.0)]);
    assert!(world.heard().is_empty());
    world.write(&[(THEIRS, "b", 11.0)]);
    assert_eq!(world.heard().len(), 1);
}

#[test]
fn what_was_overwritten_before_anybody_saw_it_is_not_told() {
    let mut world = World::new();
    world.write(&[(THEIRS, "a", 11.0)]);
    world.subscribe(1, "post where rank > 10");
    world.write(&[(THEIRS, "a", 12.0), (THEIRS, "a", 13.0)]);
    assert_eq!(world.heard(), [[(1, 1)]]);
}

#[test]
fn one_subscription_ends_and_the_others_of_the_session_go_on() {
    let mut world = World::new();
    world.subscribe(1, "post where rank > 10");
    world.subscribe(2, "post where rank > 20");
    world.write(&[(THEIRS, "a", 21.0)]);
    assert_eq!(world.heard(), [[(1, 1), (2, 1)]]);
    let follows = (world.connected.session.id(), 1);
    assert!(world.state.unsubscribe(follows, Duration::ZERO));
    assert!(!world.state.unsubscribe(follows, Duration::ZERO));
    world.write(&[(THEIRS, "a", 22.0)]);
    assert_eq!(world.heard(), [[(2, 1)]]);
}

/// A client that had seen what went with a disk stayed stale for good (seed 90172 of the simulator).
#[test]
fn nobody_waits_for_what_is_lost() {
    let mut world = World::new();
    world.write(&[(THEIRS, "a", 11.0)]);
    let gone = Tag {
        origin: OriginId {
            node: NodeId(2),
            incarnation: 1,
        },
        seq: Seq(1),
    };
    world.come_back(1, "post where rank > 10", [gone].into_iter().collect());
    let Some(Next::Event(_, event)) = world.connected.events.ready() else {
        panic!("no coverage");
    };
    assert!(
        matches!(&*event, Event::Commit(commit) if commit.deltas[0].stale),
        "{event:?}"
    );
    world.state.heed_losses(|seen| seen);
    assert!(world.connected.events.ready().is_none(), "it may come still");
    world.state.heed_losses(|_| VersionVector::EMPTY);
    let ended = world.connected.events.ready();
    assert!(
        matches!(&ended, Some(Next::Event(_, event)) if matches!(**event, Event::Ended(_))),
        "it subscribes again: {ended:?}"
    );
}

#[test]
fn what_grows_beyond_the_memory_of_its_tenant_ends() {
    let mut world = World::new();
    world.subscribe(1, "post where rank > 10");
    world.subscribe(2, "post where rank > 20");
    for rank in 1..=40_u8 {
        world.write(&[(THEIRS, &format!("p{rank}"), f64::from(rank))]);
    }
    world.heard();
    let takes = world.state.figures().bytes;
    world.state.heed_memory(takes);
    assert_eq!(world.state.figures().subscribers, 2, "it has room");
    world.state.heed_memory(takes - 1);
    assert_eq!(
        world.state.figures().subscribers,
        1,
        "the one that covers most has ended"
    );
    let ended = world.connected.events.ready();
    let Some(Next::Event(_, event)) = ended else {
        panic!("nothing was said of it");
    };
    let Event::Ended(ended) = &*event else {
        panic!("{event:?}");
    };
    assert_eq!(ended.subscription, 1);
    let error = ended.error.clone().unwrap_or_default();
    assert!(error.message.contains("live_bytes_per_tenant_max"), "{error:?}");
    world.state.heed_memory(0);
    assert_eq!(world.state.figures().plans, 0);
}

#[test]
fn a_query_that_nobody_follows_is_there_for_a_while_and_for_who_comes_back_in_it() {
    let mut world = World::new();
    let just_before = limits::PLAN_IDLE.saturating_sub(Duration::from_millis(1));
    world.subscribe(1, "post where rank > 10");
    let follows = |world: &World, number| (world.connected.session.id(), number);
    let first = follows(&world, 1);
    assert!(world.state.unsubscribe(first, Duration::ZERO));
    world.state.tidy(just_before, false);
    assert_eq!(world.state.figures().plans, 1);
    world.subscribe(2, "post where rank > 10");
    world.state.tidy(limits::PLAN_IDLE, false);
    assert_eq!(world.state.figures().plans, 1, "it is followed again");
    let second = follows(&world, 2);
    assert!(world.state.unsubscribe(second, limits::PLAN_IDLE));
    world.state.tidy(limits::PLAN_IDLE + just_before, false);
    assert_eq!(world.state.figures().plans, 1, "the while begins anew");
    world.state.tidy(limits::PLAN_IDLE * 2, false);
    let figures = world.state.figures();
    assert_eq!((figures.plans, figures.subscribers), (0, 0));
}

#[test]
fn a_tenant_has_so_many_different_queries_and_one_more_is_refused_until_some_go() {
    let mut world = World::new();
    let ask = |world: &World, number: u32, rank: u32| Ask {
        session: world.connected.session.clone(),
        number,
        query: read(&format!("post where rank = {rank}")).unwrap(),
        vector: VersionVector::EMPTY,
        digest: None,
        held: None,
        answers: true,
    };
    let most = u32::try_from(limits::PLANS_PER_TENANT_MAX).unwrap();
    for number in 0..most {
        let ask = ask(&world, number, number);
        world.state.subscribe(&ask, Duration::ZERO, AMPLE).unwrap();
        let follows = (world.connected.session.id(), number);
        assert!(world.state.unsubscribe(follows, Duration::ZERO), "others wait for it");
        world.heard();
    }
    let known = ask(&world, most, 7);
    world.state.subscribe(&known, Duration::ZERO, AMPLE).unwrap();
    let more = ask(&world, most + 1, most);
    let refused = world.state.subscribe(&more, Duration::ZERO, AMPLE).unwrap_err();
    assert!(matches!(refused, SubscribeError::TooManyPlans(_)), "{refused}");
    world.state.tidy(limits::PLAN_IDLE, false);
    world.state.subscribe(&more, limits::PLAN_IDLE, AMPLE).unwrap();
    assert_eq!(world.state.figures().plans, 2);
}

/// What was said of an answer: whether it is all of it, and its rows as JSON.
fn answers(world: &mut World, mirror: &mut Mirror) -> Vec<(bool, Answer)> {
    let mut told = Vec::new();
    while let Some(Next::Event(_, event)) = world.connected.events.ready() {
        let Event::Commit(commit) = &*event else {
            panic!("{event:?} is no commit");
        };
        for delta in &commit.deltas {
            let coverage = v1::CoverageDelta::decode(delta.delta.clone()).unwrap();
            assert!(
                coverage.entered.is_empty() && coverage.change_sets.is_empty(),
                "{coverage:?}"
            );
            let answer = coverage.answer.expect("an answer");
            mirror.apply(AnswerDelta::decode(&answer.changes).unwrap());
            told.push((answer.whole, mirror.answer()));
        }
    }
    told
}

fn fresh(world: &World, query: &str) -> Answer {
    eval::answer(&Arc::new(read(query).unwrap()), &world.state.graph).unwrap()
}

#[test]
fn of_a_query_that_rests_on_too_much_the_answer_is_sent_and_what_becomes_of_it() {
    const COUNT: &str = "find count(?p) where ?p post/rank ?r";
    const GROUPS: &str = "find ?r, count(?p) where ?p post/rank ?r";
    for query in [COUNT, GROUPS] {
        let mut world = World::few();
        let mut mirror = Mirror::empty(&read(query).unwrap());
        let posts: Vec<String> = (1..=6).map(|post| format!("p{post}")).collect();
        let writes: Vec<_> = posts.iter().map(|post| (THEIRS, &**post, 1.0)).collect();
        world.write(&writes);
        world.come_back(1, query, VersionVector::EMPTY);
        assert_eq!(answers(&mut world, &mut mirror), [(true, fresh(&world, query))]);
        world.write(&[(THEIRS, "p7", 2.0)]);
        assert_eq!(answers(&mut world, &mut mirror), [(false, fresh(&world, query))]);
        world.write(&[(THEIRS, "p7", 2.0)]);
        assert!(answers(&mut world, &mut mirror).is_empty(), "nothing moved");
    }
}

#[test]
fn who_takes_no_answers_is_refused_what_rests_on_too_much() {
    let mut world = World::few();
    let count = "find count(?p) where ?p post/rank ?r";
    world.write(&["a", "b", "c", "d", "e"].map(|post| (THEIRS, post, 1.0)));
    let mut ask = Ask {
        session: world.connected.session.clone(),
        number: 1,
        query: read(count).unwrap(),
        vector: VersionVector::EMPTY,
        digest: None,
        held: None,
        answers: false,
    };
    let refused = world.state.subscribe(&ask, Duration::ZERO, FEW).unwrap_err();
    assert!(
        matches!(refused, SubscribeError::Refused(Refused::TooManyEntities(4))),
        "{refused}"
    );
    world.come_back(2, count, VersionVector::EMPTY);
    let refused = world.state.subscribe(&ask, Duration::ZERO, FEW).unwrap_err();
    assert!(
        matches!(refused, SubscribeError::Refused(Refused::TooManyEntities(4))),
        "also where it is kept: {refused}"
    );
    // All values in one row would come again with each change.
    ask.answers = true;
    ask.query = read("find collect(?r) where ?p post/rank ?r").unwrap();
    let refused = world.state.subscribe(&ask, Duration::ZERO, FEW).unwrap_err();
    assert!(
        matches!(refused, SubscribeError::Refused(Refused::TooManyEntities(4))),
        "{refused}"
    );
}

#[test]
fn a_query_that_comes_to_rest_on_too_much_is_subscribed_again_and_answered() {
    let mut world = World::few();
    let count = "find count(?p) where ?p post/rank ?r";
    world.write(&["a", "b", "c", "d"].map(|post| (THEIRS, post, 1.0)));
    world.subscribe(1, count);
    world.write(&[(THEIRS, "e", 1.0)]);
    let Some(Next::Event(_, event)) = world.connected.events.ready() else {
        panic!("nothing was said of it");
    };
    let Event::Ended(ended) = &*event else {
        panic!("{event:?}");
    };
    let refusal = Refusal::from(ended.error.clone().unwrap());
    assert_eq!(refusal.code, ErrorCode::Retry, "{refusal:?}");
    world.come_back(2, count, VersionVector::EMPTY);
    let mut mirror = Mirror::empty(&read(count).unwrap());
    assert_eq!(answers(&mut world, &mut mirror), [(true, fresh(&world, count))]);
}

#[test]
fn an_answer_is_sent_in_parts_and_a_row_that_is_too_large_is_refused() {
    const ROWS: &str = "find ?t where ?p post/title ?t";
    let rows = |count: usize, bytes: usize| {
        let data = (0..count).map(|at| Value::string(&format!("{at:08}{}", "x".repeat(bytes))));
        let mut graph = Graph::default();
        for (seq, value) in (1..).zip(data) {
            let set = ChangeSet {
                timestamp: timestamp(NTP64(seq), ClientId::from_random(OURS)),
                number: seq,
                changes: vec![Change::Set {
                    subject: EntityId::new(&format!("p{seq}")).unwrap(),
                    predicate: Predicate::new("post/title").unwrap(),
                    value,
                }],
            };
            let origin = OriginId {
                node: NodeId(1),
                incarnation: 1,
            };
            graph.apply_set(Tag { origin, seq: Seq(seq) }, &set);
        }
        let live = core_live::Live::open(&read(ROWS).unwrap(), &graph, limits::BUDGET).unwrap();
        kept::whole_parts(&live.mirror().whole())
    };
    let parts = rows(10, 100_000).unwrap();
    let whole: Vec<bool> = parts
        .iter()
        .map(|part| v1::CoverageDelta::decode(part.clone()).unwrap().answer.unwrap().whole)
        .collect();
    assert_eq!(whole, [true, false, false, false], "three rows each, the last has one");
    assert_eq!(rows(0, 0).unwrap().len(), 1, "no rows are an answer too");
    let refused = rows(1, limits::ANSWER_CHANGE_BYTES_MAX).unwrap_err();
    assert_eq!(refused, AnswerError::RowBytes(limits::ANSWER_CHANGE_BYTES_MAX));
    let refused = rows(300, limits::ANSWER_CHANGE_BYTES_MAX - 1_000).unwrap_err();
    assert!(matches!(refused, AnswerError::Bytes(_)), "{refused}");
}

#[test]
fn an_answer_is_found_once_for_all_who_begin_to_follow_it_and_counted_as_long_as_it_is_kept() {
    let mut world = World::few();
    let count = "find ?r, count(?p) where ?p post/rank ?r";
    world.write(&["a", "b", "c", "d", "e"].map(|post| (THEIRS, post, 1.0)));
    let before = world.state.figures().bytes;
    for number in 1..=3 {
        world.come_back(number, count, VersionVector::EMPTY);
    }
    let kept = world.state.figures().bytes;
    world.write(&[(THEIRS, "f", 1.0)]);
    world.heard_anything();
    for number in 1..=3 {
        let follows = (world.connected.session.id(), number);
        assert!(world.state.unsubscribe(follows, Duration::ZERO));
    }
    assert!(kept > before);
    world.state.tidy(limits::PLAN_IDLE, false);
    let (left, triple) = (world.state.figures().bytes, limits::BYTES_PER_TRIPLE);
    assert_eq!(left, before + triple, "one more triple, and nothing of the answer");
}
