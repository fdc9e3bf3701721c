//! Bits that a disk has turned.

use halcyon_core::env::Disk;

use super::*;
use crate::storage::OpenError;

/// Turns a bit of every copy of some bytes in the index.
fn rot(disk: &SimDisk, needle: &str) {
    let file = disk.open("shard-0.redb").unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read(0, &mut bytes).unwrap();
    let places = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(needle.as_bytes()));
    let places: Vec<usize> = places.collect();
    assert!(!places.is_empty());
    for at in places {
        disk.damage("shard-0.redb", at);
    }
}

/// More rows than a page of the index holds, which are read one by one.
async fn fill(storage: &Storage) {
    let mut changes = Vec::new();
    for name in 0..400 {
        changes.push(Change::Create { subject: subject(name) });
        changes.push(Change::Set {
            subject: subject(name),
            predicate: Predicate::new("post/text").unwrap(),
            value: Value::string(&format!("turned_by_the_disk_{name:03}")),
        });
    }
    let set = ChangeSet {
        timestamp: timestamp(NTP64(1), ClientId::from_random(77)),
        number: 1,
        changes,
    };
    storage.admit(admit(&set)).await.unwrap();
}

#[test]
fn a_turned_bit_of_a_value_is_never_shown_and_ends_the_storage_for_good() {
    run(async {
        let replica = Replica::new(1, 8).await;
        fill(&replica.storage).await;
        let replica = replica.again().await;
        rot(&replica.disk, "turned_by_the_disk_200");
        let shown = replica.storage.get(tenant(), &subject(200));
        assert!(shown.is_err(), "{shown:?}");
        while !replica.storage.has_stopped() {
            tokio::task::yield_now().await;
        }
        let events = replica.heard.take();
        let is_told = events.iter().any(
            |event| matches!(event, StorageEvent::Alarm { message, .. } if message.contains("is not what was written")),
        );
        assert!(is_told, "{events:?}");
        // Other reads would not meet the page: it is written down that there is one.
        let world = env(Arc::clone(&replica.disk) as _, 1);
        let opened = Storage::open(&world, options(NodeId(1)), Arc::new(Heard::default())).await;
        let Err(error @ OpenError::DamagedIndex { .. }) = opened else {
            panic!("{opened:?}");
        };
        let said = error.to_string();
        assert!(said.starts_with("index of shard 0 is damaged: page "), "{said}");
        assert!(said.ends_with("restore this node from its peers"), "{said}");
    });
}

#[test]
fn an_index_that_is_damaged_where_it_is_opened_is_not_opened() {
    run(async {
        let replica = Replica::new(1, 9).await;
        open_marked(&replica.storage, "turned_by_the_disk").await;
        replica.storage.close().await;
        let disk = replica.disk.after_crash(&mut Random(1));
        rot(&disk, "turned_by_the_disk");
        let world = env(disk, 1);
        let opened = Storage::open(&world, options(NodeId(1)), Arc::new(Heard::default())).await;
        let said = opened.unwrap_err().to_string();
        assert!(said.contains("is not what was written to it; restore"), "{said}");
    });
}
