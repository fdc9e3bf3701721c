//! What comes after a collection and is older than what was collected; and what came after its barrier.

use super::*;
use crate::storage::types::{CellKey, CollectOutcome};

fn field(name: &str) -> Predicate {
    Predicate::new(name).unwrap()
}

fn set(name: &str, to: &str) -> Change {
    Change::Set {
        subject: subject(1),
        predicate: field(name),
        value: Value::string(to),
    }
}

fn unset(name: &str) -> Change {
    Change::Unset {
        subject: subject(1),
        predicate: field(name),
    }
}

fn add(name: &str, element: &str) -> Change {
    Change::Add {
        subject: subject(1),
        predicate: field(name),
        value: Value::string(element),
    }
}

fn remove(name: &str, element: &str) -> Change {
    Change::Remove {
        subject: subject(1),
        predicate: field(name),
        value: Value::string(element),
    }
}

fn create(entity: u64) -> Change {
    Change::Create {
        subject: subject(entity),
    }
}

/// A client's set of changes, written at a moment; its number is the moment as well.
fn at(time: u64, client: u128, changes: Vec<Change>) -> ChangeSet {
    ChangeSet {
        timestamp: timestamp(NTP64(time), ClientId::from_random(client)),
        number: time,
        changes,
    }
}

async fn write(replica: &Replica, set: &ChangeSet) -> Vec<u32> {
    replica.storage.admit(admit(set)).await.unwrap().superseded
}

/// The cells that say that something is gone, prepared under the replica's vector.
async fn prepare(replica: &Replica, epoch: u64) -> Vec<CellKey> {
    let cells = replica
        .storage
        .collectable(tenant(), WallTime(NTP64(u64::MAX)), 1_000)
        .unwrap();
    let prepared = replica
        .storage
        .prepare_collection(tenant(), epoch, cells.clone(), replica.vector());
    assert!(prepared.await.unwrap());
    cells
}

async fn collect(replica: &Replica, epoch: u64) {
    let outcome = replica.storage.collect(tenant(), epoch).await.unwrap();
    assert_eq!(outcome, CollectOutcome::Collected);
}

/// What entity 1 shows, as `field=value`.
fn shown(replica: &Replica) -> String {
    let triples = replica.storage.get(tenant(), &subject(1)).unwrap();
    let lines = triples.iter().map(|one| match &one.value {
        Value::String(text) => format!("{}={text}", one.predicate),
        other => format!("{other:?}"),
    });
    lines.collect::<Vec<_>>().join(" ")
}

#[test]
fn an_add_that_comes_after_what_beat_it_was_collected_is_superseded_and_does_not_show() {
    run(async {
        let replica = Replica::new(1, 1).await;
        let mut first = vec![create(1), set("a/text", "old"), set("a/kept", "k")];
        first.extend(["x", "y", "w"].map(|element| add("a/tags", element)));
        write(&replica, &at(10, 7, first)).await;
        let second = vec![unset("a/text"), remove("a/tags", "x"), remove("a/tags", "w")];
        write(&replica, &at(20, 7, second)).await;
        assert_eq!(prepare(&replica, 1).await.len(), 2, "an unset register stays");
        collect(&replica, 1).await;
        assert_eq!(replica.storage.summary(tenant()).unwrap().unwrap().tombstones, 0);
        // It survives a restart, and goes to who is filled later.
        let replica = replica.again().await;
        let filled = Replica::new(2, 1).await;
        catch_up(&filled, &replica, u64::MAX).await;
        for replica in [&replica, &filled] {
            //     changes of another client, and when                                          what is superseded
            let cases: [(u64, Vec<Change>, &[u32]); 8] = [
                (15, vec![set("a/text", "late"), add("a/text", "z")], &[]),
                (15, vec![set("a/new", "late"), add("a/tags", "x")], &[1]),
                // It is in the set and stays; one of which nobody heard is taken for one that was taken out.
                (
                    15,
                    vec![add("a/tags", "y"), add("a/tags", "v"), add("a/more", "m")],
                    &[1],
                ),
                (
                    16,
                    vec![unset("a/text"), remove("a/tags", "w"), set("a/kept", "later")],
                    &[],
                ),
                // A late removal does not make room for what is late as well.
                (17, vec![set("a/text", "late"), add("a/tags", "w")], &[1]),
                (19, vec![add("a/tags", "x")], &[0]),
                (15, vec![create(2), set("a/fresh", "f")], &[]),
                (15, vec![create(1), add("a/tags", "x")], &[1]),
            ];
            for (client, (time, changes, loses)) in (20..).zip(cases) {
                let told = format!("{changes:?}");
                assert_eq!(write(replica, &at(time, client, changes)).await, loses, "{told}");
            }
            assert_eq!(shown(replica), "a/fresh=f a/kept=later a/more=m a/new=late a/tags=y");
            let commits = replica.commits();
            assert!(
                !format!("{commits:?}").contains(r#"a/tags"), value: String("x")"#),
                "{commits:?}"
            );
            // What was written after it was emptied shows.
            let later = vec![set("a/text", "new"), add("a/tags", "x")];
            assert!(write(replica, &at(21, 30, later)).await.is_empty());
            let expected = "a/fresh=f a/kept=later a/more=m a/new=late a/tags=x a/tags=y a/text=new";
            assert_eq!(shown(replica), expected);
        }
    });
}

/// It gave the field a number that nothing remembered, and the next field got the same.
#[test]
fn whoever_is_asked_about_a_field_that_it_does_not_know_gives_it_no_number() {
    run(async {
        let replica = Replica::new(1, 1).await;
        write(&replica, &at(10, 7, vec![create(1)])).await;
        let unknown = CellKey::Element(subject(1), field("a/tags"), Value::string("x"));
        let asked = replica
            .storage
            .prepare_collection(tenant(), 1, vec![unknown], VersionVector::EMPTY);
        assert!(asked.await.unwrap());
        write(&replica, &at(20, 7, vec![set("a/text", "t")])).await;
        write(&replica, &at(30, 7, vec![set("a/tags", "u")])).await;
        let replica = replica.again().await;
        assert_eq!(shown(&replica), "a/tags=u a/text=t");
    });
}

#[test]
fn a_collection_waits_for_who_has_not_forgotten_what_the_one_before_asked_for() {
    run(async {
        let replica = Replica::new(1, 1).await;
        write(&replica, &at(10, 7, vec![create(1), add("a/tags", "x")])).await;
        write(&replica, &at(20, 7, vec![remove("a/tags", "x")])).await;
        prepare(&replica, 1).await;
        let vector = replica.vector();
        let next = replica.storage.prepare_collection(tenant(), 2, Vec::new(), vector);
        assert!(!next.await.unwrap());
        collect(&replica, 1).await;
        assert_eq!(prepare(&replica, 2).await, []);
    });
}

#[test]
fn what_another_has_forgotten_already_is_collected_here_too() {
    run(async {
        let one = Replica::new(1, 1).await;
        write(&one, &at(10, 7, vec![create(1), create(2), add("a/tags", "x")])).await;
        let gone = vec![remove("a/tags", "x"), Change::Delete { subject: subject(2) }];
        write(&one, &at(20, 7, gone)).await;
        let filled = Replica::new(2, 1).await;
        catch_up(&filled, &one, u64::MAX).await;
        prepare(&one, 1).await;
        collect(&one, 1).await;
        let cells = prepare(&filled, 1).await;
        assert_eq!(cells.len(), 2);
        let asked = one.storage.prepare_collection(tenant(), 2, cells, one.vector());
        assert!(asked.await.unwrap());
        // What shows is not gone.
        write(&one, &at(30, 7, vec![add("a/tags", "x")])).await;
        let shows = CellKey::Element(subject(1), field("a/tags"), Value::string("x"));
        let asked = one
            .storage
            .prepare_collection(tenant(), 2, vec![shows], VersionVector::EMPTY);
        assert!(!asked.await.unwrap());
    });
}

/// A collection waited for an element that was put in again between its two rounds, as long as it showed, and all other
/// collections of the tenant with it (seed 71044 of 4285df4).
#[test]
fn what_shows_again_by_the_second_round_stays_and_the_rest_is_collected() {
    run(async {
        let one = Replica::new(1, 1).await;
        let added = vec![create(1), add("a/tags", "x"), add("a/tags", "y")];
        write(&one, &at(10, 7, added)).await;
        write(&one, &at(20, 7, vec![remove("a/tags", "x"), remove("a/tags", "y")])).await;
        let two = Replica::new(2, 1).await;
        catch_up(&two, &one, u64::MAX).await;
        let last = WallTime(NTP64(u64::MAX));
        let cells = one.storage.collectable(tenant(), last, 10).unwrap();
        let barrier = one.vector();
        // The other has not heard of it.
        write(&one, &at(30, 8, vec![add("a/tags", "x")])).await;
        let offer = async |replica: &Replica, barrier: &VersionVector| {
            let storage = &replica.storage;
            let asked = storage.prepare_collection(tenant(), 1, cells.clone(), barrier.clone());
            asked.await.unwrap()
        };
        let asks = VersionVector::EMPTY;
        assert!(!offer(&one, &asks).await, "a first round asks of it");
        for replica in [&one, &two] {
            assert!(offer(replica, &barrier).await);
            collect(replica, 1).await;
        }
        catch_up(&two, &one, u64::MAX).await;
        for replica in [&one, &two] {
            assert_eq!(shown(replica), "a/tags=x");
            let left = replica.storage.collectable(tenant(), last, 10).unwrap();
            assert_eq!(left, [], "the other element is collected");
        }
    });
}

#[test]
fn a_trace_goes_with_its_entity() {
    run(async {
        let replica = Replica::new(1, 1).await;
        write(&replica, &at(10, 7, vec![create(1), add("a/tags", "x")])).await;
        write(&replica, &at(20, 7, vec![remove("a/tags", "x")])).await;
        prepare(&replica, 1).await;
        collect(&replica, 1).await;
        write(&replica, &at(30, 7, vec![Change::Delete { subject: subject(1) }])).await;
        prepare(&replica, 2).await;
        collect(&replica, 2).await;
        let reader = replica.storage.open_delta(tenant(), &VersionVector::EMPTY, None);
        let facts = reader.unwrap().next_batch(1 << 20).unwrap().unwrap_or_default();
        let of_entity = facts.iter().filter(|fact| format!("{:?}", fact.body).contains("e1"));
        assert_eq!(of_entity.count(), 0, "{facts:?}");
    });
}

#[test]
fn what_comes_after_the_barrier_is_not_collected_with_what_came_before() {
    run(async {
        let one = Replica::new(1, 1).await;
        write(&one, &at(10, 7, vec![create(1), add("a/tags", "x")])).await;
        write(&one, &at(20, 7, vec![remove("a/tags", "x")])).await;
        let two = Replica::new(2, 1).await;
        catch_up(&two, &one, u64::MAX).await;
        prepare(&one, 1).await;
        prepare(&two, 1).await;
        // Neither has heard of the other's when both forget.
        write(&one, &at(30, 8, vec![remove("a/tags", "x")])).await;
        write(&two, &at(25, 9, vec![add("a/tags", "x")])).await;
        collect(&one, 1).await;
        collect(&two, 1).await;
        catch_up(&one, &two, u64::MAX).await;
        catch_up(&two, &one, u64::MAX).await;
        assert_eq!((shown(&one).as_str(), shown(&two).as_str()), ("", ""));
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(60), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn collections_change_nothing_that_anybody_sees_however_late_writes_come(seed: u64) {
        run(collecting(seed >> 8));
    }
}

/// What a coordinator has offered to all with a barrier.
struct Offer {
    cells: Vec<CellKey>,
    barrier: VersionVector,
}

/// Three replicas that write, gossip, catch up and collect, each step whenever it likes, show what a model shows that
/// hears all that was taken and never forgets anything.
async fn collecting(seed: u64) {
    let mut random = Random(seed);
    let mut replicas = Vec::new();
    for node in 1..=3 {
        replicas.push(Replica::new(node, seed).await);
    }
    let mut clients = Clients::new(seed, false);
    let mut commits: Vec<Arc<Commit>> = Vec::new();
    let mut model = MemoryStore::default();
    let (mut epoch, mut offer) = (0, None);
    for _ in 0..200 {
        let at = usize::try_from(random.below(3)).unwrap();
        let other = usize::try_from(random.below(3)).unwrap();
        match random.below(100) {
            0..45 => {
                replicas[at].storage.admit(admit(&clients.set())).await.unwrap();
            }
            45..60 => {
                let lacking = |commit: &&Arc<Commit>| !replicas[at].vector().covers_tag(commit.tag);
                if let Some(lacking) = commits.iter().find(lacking) {
                    let sets = vec![gossip(lacking)];
                    replicas[at].storage.take_gossip(NodeId(9), sets).await.unwrap();
                }
            }
            60..63 => {
                let replica = replicas.remove(at).again().await;
                replicas.insert(at, replica);
            }
            63..80 if at != other => pull(&replicas[at], &replicas[other], random.below(5)).await,
            80..90 => match offer.take() {
                None => offer = first_round(&replicas, at, epoch + 1).await,
                Some(made) if all_prepare(&replicas, epoch + 1, &made).await => epoch += 1,
                made => offer = made,
            },
            _ => catch_up_with(&replicas[at], epoch).await,
        }
        for commit in replicas[at].commits() {
            if commit.via == Via::Client {
                model.apply_set(commit.tag, &commit.set);
                commits.push(commit);
            }
        }
        check_exact_pairs(&replicas);
    }
    for replica in &replicas {
        catch_up_with(replica, epoch).await;
    }
    for (at, other) in [(0, 1), (1, 2), (2, 0), (0, 1), (1, 0), (2, 1), (0, 2)] {
        pull(&replicas[at], &replicas[other], u64::MAX).await;
    }
    for replica in &replicas {
        assert_eq!(replica.vector(), replicas[0].vector());
        replica.check(&model);
    }
}

fn epoch_of(replica: &Replica) -> u64 {
    replica.storage.summary(tenant()).unwrap().unwrap().collection_epoch
}

/// Nobody takes facts from who has collected what it has not.
async fn pull(to: &Replica, from: &Replica, batches: u64) {
    if epoch_of(from) <= epoch_of(to) {
        catch_up(to, from, batches).await;
    }
}

/// A replica hears of the epoch that the control plane has come to.
async fn catch_up_with(replica: &Replica, epoch: u64) {
    if epoch_of(replica) < epoch {
        collect(replica, epoch).await;
    }
}

async fn first_round(replicas: &[Replica], led_by: usize, epoch: u64) -> Option<Offer> {
    let all = WallTime(NTP64(u64::MAX));
    let cells = replicas[led_by].storage.collectable(tenant(), all, 10).unwrap();
    let mut offer = Offer {
        cells,
        barrier: VersionVector::EMPTY,
    };
    if !all_prepare(replicas, epoch, &offer).await {
        return None;
    }
    for replica in replicas {
        offer.barrier.join(&replica.vector());
    }
    Some(offer)
}

async fn all_prepare(replicas: &[Replica], epoch: u64, offer: &Offer) -> bool {
    let mut ready = true;
    for replica in replicas {
        let (cells, barrier) = (offer.cells.clone(), offer.barrier.clone());
        let answer = replica.storage.prepare_collection(tenant(), epoch, cells, barrier);
        ready &= answer.await.unwrap();
    }
    ready && !offer.cells.is_empty()
}
