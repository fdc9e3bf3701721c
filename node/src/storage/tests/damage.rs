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

#[test]
fn a_turned_bit_of_a_value_is_never_shown_and_ends_the_storage_for_good() {
    run(async {
        let replica = Replica::new(1, 8).await;
        open_marked(&replica.storage, "turned_by_the_disk").await;
        let replica = replica.again().await;
        let subject = EntityId::new("turned_by_the_disk").unwrap();
        assert!(!replica.storage.has_stopped());
        rot(&replica.disk, "turned_by_the_disk");
        let shown = replica.storage.get(passing(), &subject);
        assert!(shown.is_err(), "{shown:?}");
        while !replica.storage.has_stopped() {
            tokio::task::yield_now().await;
        }
        let events = replica.heard.take();
        let is_told = events.iter().any(
            |event| matches!(event, StorageEvent::Alarm { message, .. } if message.contains("is not what was written")),
        );
        assert!(is_told, "{events:?}");
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
