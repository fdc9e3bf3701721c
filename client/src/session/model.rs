//! Random runs of a session against simulated nodes that lose, repeat, refuse and disagree about the time.
//!
//! Whatever happens, in the end every set was taken with one content, first takes were in the order of the writes, and
//! timestamps rise with them.

use std::time::Duration;

use halcyon_core::collections::BTreeMap;
use halcyon_core::{
    clock::{WallTime, check_drift},
    id::{EntityId, OriginId, Seq},
    query::testing::cases,
};
use halcyon_proto::{convert::Taken, error::ErrorCode};
use proptest::prelude::*;

use super::*;

const DRIFT_MAX: Duration = Duration::from_mins(1);

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    /// A push to this node, with this fault.
    Push(usize, Fault),
    /// Time goes on.
    Pass(u64),
    /// The client's process dies and opens its outbox again.
    Restart,
    /// The client asks this node what is held.
    Held(usize),
    /// What this node's clock showed is taken into account; it is wrong by so many seconds.
    Greeted(usize, u64),
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    /// It arrives, and again; the answer does not come.
    AnswerLost,
    RequestLost,
    /// The first so many sets are answered, the next is busy.
    BusyAfter(usize),
    Elsewhere,
    /// The first so many answers are there.
    Torn(usize),
    /// All are taken and answered so that no second region has them yet.
    HeldByOne,
}

fn any_fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => Just(Fault::None),
        2 => Just(Fault::AnswerLost),
        1 => Just(Fault::RequestLost),
        1 => (0..4_usize).prop_map(Fault::BusyAfter),
        1 => Just(Fault::Elsewhere),
        1 => (0..4_usize).prop_map(Fault::Torn),
        1 => Just(Fault::HeldByOne),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..4_usize).prop_map(Step::Write),
        8 => (0..3_usize, any_fault()).prop_map(|(node, fault)| Step::Push(node, fault)),
        2 => (1..100_u64).prop_map(Step::Pass),
        1 => Just(Step::Restart),
        1 => (0..3_usize).prop_map(Step::Held),
        4 => (0..3_usize, 0..200_u64).prop_map(|(node, wrong_by)| Step::Greeted(node, wrong_by)),
    ]
}

/// The client's world: its disk, and nodes that share what they hold.
struct World {
    session: Session,
    disk: BTreeMap<Place, Stored>,
    /// On disk as well: as it was at the last commit.
    floor: Floor,
    last: Place,
    restarts: u128,
    now: u64,
    client_ahead: u64,
    nodes_ahead: [u64; 3],
    /// By incarnation and number: what was taken, and when first.
    taken: BTreeMap<(ClientId, u64), (Bytes, Tag)>,
    /// In the order of first takes.
    order: Vec<(ClientId, u64)>,
    written: Vec<(ClientId, u64)>,
    seqs: [u64; 3],
}

impl World {
    fn moment(&self) -> Moment {
        Moment {
            wall: WallTime::from_unix(Duration::from_secs(self.now + self.client_ahead)),
            jitter: 5,
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "each step is made for this one call")]
    fn step(&mut self, step: Step) {
        match step {
            Step::Write(count) => (0..count).for_each(|_| self.write()),
            Step::Push(node, fault) => self.push(node, fault),
            Step::Pass(seconds) => self.now += seconds,
            Step::Restart => self.restart(),
            Step::Held(node) => {
                let own: VersionVector = self.taken.values().map(|(_, tag)| *tag).collect();
                let held = Held { own, ..Held::default() };
                let places = self.session.on_held(NodeId(node as u64), &held, &BTreeSet::new());
                self.forget(places);
            }
            Step::Greeted(node, wrong_by) => {
                let wall = WallTime::from_unix(Duration::from_secs(self.now + self.nodes_ahead[node] + wrong_by));
                let drift_max = DRIFT_MAX;
                let rewritten = self.session.before_push(NodeClock { wall, drift_max }, self.moment());
                self.keep(rewritten);
            }
        }
    }

    fn write(&mut self) {
        let change = Change::Create {
            subject: EntityId::new("e").unwrap(),
        };
        let (stored, number) = self.session.stamp(vec![change], self.moment()).unwrap();
        self.written.push((ClientId::of(&stored.timestamp), number));
        self.disk.insert(stored.place, stored.clone());
        (self.last, self.floor) = (stored.place, self.session.floor());
        self.session.enqueue(stored);
    }

    fn restart(&mut self) {
        self.restarts += 1;
        let left = self.disk.values().cloned().collect();
        self.session = Session::open(ClientId::from_random(self.restarts), self.floor, self.last, left);
    }

    fn push(&mut self, node: usize, fault: Fault) {
        let Some(push) = self.session.next_push() else { return };
        if self.session.on_send() {
            self.floor = self.session.floor();
        }
        let answer = match fault {
            Fault::None => Answer::Results(self.arrive(node, &push, usize::MAX)),
            Fault::RequestLost => Answer::Lost,
            Fault::AnswerLost => {
                self.arrive(node, &push, usize::MAX);
                self.arrive(node, &push, usize::MAX);
                Answer::Lost
            }
            Fault::BusyAfter(count) => Answer::Results(self.arrive(node, &push, count)),
            Fault::Elsewhere => Answer::Refused(Refusal::new(ErrorCode::WrongRegion, "not here")),
            Fault::Torn(count) => {
                let mut results = self.arrive(node, &push, usize::MAX);
                results.truncate(count);
                Answer::Results(results)
            }
            Fault::HeldByOne => {
                let held = |_| Err(Refusal::new(ErrorCode::NotYetReplicated, "one region"));
                let results = self.arrive(node, &push, usize::MAX).into_iter();
                Answer::Results(results.map(|result| result.map(|taken| taken.and_then(held))).collect())
            }
        };
        let outcome = self.session.on_answer(answer, self.moment());
        self.keep(outcome.rewritten);
        for (place, end) in outcome.settled {
            assert!(end.is_ok(), "{place:?} was refused: {end:?}");
        }
        self.forget(outcome.forgotten);
    }

    fn keep(&mut self, rewritten: Vec<Stored>) {
        for stored in rewritten {
            self.floor = self.session.floor();
            self.disk.insert(stored.place, stored);
        }
    }

    fn forget(&mut self, places: Vec<Place>) {
        for place in places {
            self.floor = self.session.floor();
            assert!(self.disk.remove(&place).is_some());
        }
    }

    /// A push arrives at a node, which takes sets up to the first that must come again.
    fn arrive(&mut self, node: usize, push: &Push, busy_after: usize) -> Vec<Option<Result<Taken, Refusal>>> {
        let mut results = Vec::new();
        for (at, bytes) in push.sets.iter().enumerate() {
            let stopped = results
                .last()
                .is_some_and(|last: &Option<Result<_, _>>| matches!(last, Some(Err(_))));
            let result = if stopped || at >= busy_after {
                Err(Refusal::new(ErrorCode::Busy, "later"))
            } else {
                self.take(node, bytes)
            };
            results.push(Some(result));
        }
        results
    }

    fn take(&mut self, node: usize, bytes: &Bytes) -> Result<Taken, Refusal> {
        let set = ChangeSet::decode(bytes).unwrap();
        let wall = WallTime::from_unix(Duration::from_secs(self.now + self.nodes_ahead[node]));
        check_drift(&set.timestamp, wall, DRIFT_MAX).map_err(|error| Refusal::clock_drift("ahead", error.wall))?;
        let key = (set.client(), set.number);
        let superseded = Vec::new();
        if let Some((known, tag)) = self.taken.get(&key) {
            assert_eq!(known, bytes, "one number with two contents");
            return Ok(Taken {
                tag: *tag,
                superseded,
                overwritten: Vec::new(),
                again: true,
            });
        }
        self.seqs[node] += 1;
        let origin = OriginId {
            node: NodeId(node as u64),
            incarnation: 1,
        };
        let tag = Tag {
            origin,
            seq: Seq(self.seqs[node]),
        };
        self.taken.insert(key, (bytes.clone(), tag));
        self.order.push(key);
        Ok(Taken {
            tag,
            superseded,
            overwritten: Vec::new(),
            again: false,
        })
    }

    /// With patience and without faults, everything goes out.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.push(0, Fault::None);
            self.now += 30;
            if self.session.waiting() == 0 {
                return;
            }
        }
        panic!("{} sets are stuck", self.session.waiting());
    }

    fn check(&self) {
        assert_eq!(
            self.order, self.written,
            "all of them, once, in the order of the writes"
        );
        let stamps = self
            .order
            .iter()
            .map(|key| ChangeSet::decode(&self.taken[key].0).unwrap().timestamp);
        let stamps: Vec<_> = stamps.map(|timestamp| *timestamp.get_time()).collect();
        assert!(stamps.is_sorted(), "later writes have later timestamps: {stamps:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(2_000)))]

    #[test]
    fn every_set_is_taken_once_and_in_order(
        steps in proptest::collection::vec(any_step(), 1..60),
        client_ahead in prop_oneof![Just(0), 0..200_u64, Just(1_000_000)],
        nodes_ahead in [0..40_u64, 0..40_u64, 0..40_u64],
    ) {
        let mut world = World {
            session: Session::open(ClientId::from_random(1_000), Floor::default(), Place(0), Vec::new()),
            disk: BTreeMap::new(),
            floor: Floor::default(),
            last: Place(0),
            restarts: 0,
            now: 1_000_000,
            client_ahead,
            nodes_ahead,
            taken: BTreeMap::new(),
            order: Vec::new(),
            written: Vec::new(),
            seqs: [0; 3],
        };
        for step in steps {
            world.step(step);
        }
        world.settle();
        world.check();
    }
}
