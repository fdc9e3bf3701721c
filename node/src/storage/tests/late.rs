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
fn a_write_that_comes_after_what_beat_it_was_collected_does_not_show() {
    run(async {
        let replica = Replica::new(1, 1).await;
        let first = vec![
            create(1),
            set("a/text", "old"),
            set("a/kept", "k"),
            add("a/tags", "x"),
            add("a/tags", "y"),
        ];
        write(&replica, &at(10, 7, first)).await;
        write(&replica, &at(20, 7, vec![unset("a/text"), remove("a/tags", "x")])).await;
        assert_eq!(prepare(&replica, 1).await.len(), 2);
        collect(&replica, 1).await;
        assert_eq!(replica.storage.summary(tenant()).unwrap().unwrap().tombstones, 0);
        // It survives a restart, and goes to who is filled later.
        let replica = replica.again().await;
        let filled = Replica::new(2, 1).await;
        catch_up(&filled, &replica, u64::MAX).await;
        for replica in [&replica, &filled] {
            //     changes of another client, written at 15                             what loses
            let cases: [(Vec<Change>, &[u32]); 5] = [
                (vec![set("a/text", "late")], &[0]),
                (vec![set("a/new", "late"), add("a/tags", "x")], &[1]),
                (vec![add("a/text", "z"), add("a/tags", "y"), add("a/more", "m")], &[0]),
                (vec![unset("a/text"), set("a/kept", "later")], &[]),
                (vec![create(2), set("a/fresh", "f")], &[]),
            ];
            for (client, (changes, loses)) in (20..).zip(cases) {
                let told = format!("{changes:?}");
                assert_eq!(write(replica, &at(15, client, changes)).await, loses, "{told}");
            }
            let expected = "a/fresh=f a/kept=later a/more=m a/new=late a/tags=y";
            assert_eq!(shown(replica), expected);
            // What was written after it was emptied shows.
            assert!(write(replica, &at(21, 30, vec![set("a/text", "new")])).await.is_empty());
            assert!(shown(replica).ends_with("a/text=new"));
        }
    });
}

#[test]
fn a_trace_goes_with_its_entity() {
    run(async {
        let replica = Replica::new(1, 1).await;
        write(&replica, &at(10, 7, vec![create(1), set("a/text", "old")])).await;
        write(&replica, &at(20, 7, vec![unset("a/text")])).await;
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
        write(&one, &at(10, 7, vec![create(1), set("a/text", "old")])).await;
        write(&one, &at(20, 7, vec![unset("a/text")])).await;
        let two = Replica::new(2, 1).await;
        catch_up(&two, &one, u64::MAX).await;
        prepare(&one, 1).await;
        prepare(&two, 1).await;
        // Neither has heard of the other's when both forget.
        write(&one, &at(30, 8, vec![unset("a/text")])).await;
        write(&two, &at(25, 9, vec![set("a/text", "between")])).await;
        collect(&one, 1).await;
        collect(&two, 1).await;
        catch_up(&one, &two, u64::MAX).await;
        catch_up(&two, &one, u64::MAX).await;
        assert_eq!((shown(&one).as_str(), shown(&two).as_str()), ("", ""));
    });
}
