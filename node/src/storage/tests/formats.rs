//! What an earlier release wrote is read as it meant it.

use halcyon_core::{
    codec::Reader,
    env::{Access, Disk, File},
};

use super::*;
use crate::storage::{
    command::Command,
    open::SHAPE,
    sealed::{SealedFile, is_plain},
    state::{Prepared, TenantState},
    types::CellKey,
};

/// Without a barrier: all of it is forgotten.
fn prepared() -> Arc<Prepared> {
    Arc::new(Prepared {
        epoch: 7,
        cells: vec![CellKey::Tombstone(subject(1))],
        barrier: None,
    })
}

#[test]
fn a_tenants_record_of_format_1_is_read() {
    for prepared in [None, Some(prepared())] {
        let mut state = TenantState::new(3, 6);
        state.prepared = prepared;
        let mut record = state.encode();
        assert_eq!(TenantState::decode(&record).as_ref(), Ok(&state));
        // Without what is new: the barrier, and the last removal that was collected.
        record.pop();
        if state.prepared.is_some() {
            record.remove(record.len() - 2);
        }
        record[0] = 2;
        assert_eq!(TenantState::decode(&record), Ok(state));
    }
    let mut state = TenantState::new(3, 6);
    let barrier = Some(VersionVector::EMPTY);
    state.prepared = Some(Arc::new(Prepared {
        epoch: 7,
        cells: Vec::new(),
        barrier,
    }));
    state.traced = 1 << 40;
    assert_eq!(TenantState::decode(&state.encode()), Ok(state));
}

#[test]
fn a_collection_that_an_earlier_release_logged_is_read() {
    let mut logged = Vec::new();
    Command::Prepare(prepared()).put(tenant(), &mut logged);
    assert_eq!(logged[0], 7, "as format 1 has it");
    let mut reader = Reader::new(&logged);
    let (_, command) = Command::read(&mut reader).unwrap();
    reader.finish("a frame").unwrap();
    let Command::Prepare(read) = command else {
        panic!("{command:?}")
    };
    assert_eq!(read, prepared());
}

/// As format 2 had it: what redb wrote, and no seals.
fn without_seals(disk: &SimDisk) -> Arc<SimDisk> {
    let mut random = Random(1);
    // All is folded and synced, so nothing is lost.
    let plain = disk.after_crash(&mut random);
    let sealed = SealedFile::new(plain.open("shard-0.redb").unwrap(), Arc::default());
    let mut bytes = vec![0; usize::try_from(sealed.len().unwrap()).unwrap()];
    sealed.read(0, &mut bytes).unwrap();
    plain.remove("shard-0.redb").unwrap();
    plain.open("shard-0.redb").unwrap().write(0, &bytes).unwrap();
    plain.open("shard-0.redb").unwrap().sync().unwrap();
    plain
        .write_small(SHAPE, b"halcyon storage 2 1\n", Access::Normal)
        .unwrap();
    plain
}

#[test]
fn an_index_of_format_2_is_copied_into_one_with_seals_and_holds_the_same() {
    run(async {
        let replica = Replica::new(1, 5).await;
        let mut clients = Clients::new(5, false);
        let mut model = MemoryStore::default();
        for _ in 0..60 {
            let set = clients.set();
            let tag = replica.storage.admit(admit(&set)).await.unwrap().tag;
            model.apply_set(tag, &replica.commits()[0].set);
        }
        replica.storage.close().await;
        let disk = without_seals(&replica.disk);
        assert!(is_plain(&*disk.open("shard-0.redb").unwrap()).unwrap());
        for _ in 0..2 {
            let replica = Replica::open(1, Arc::clone(&disk), 2).await;
            replica.check(&model);
            replica.storage.close().await;
        }
        assert_eq!(disk.files_with(b"redb\x1A\x0A\xA9\x0D\x0A"), ["shard-0.redb-1"]);
        assert!(!is_plain(&*disk.open("shard-0.redb-1").unwrap()).unwrap());
        let shape = disk.read_small(SHAPE).unwrap().unwrap();
        assert_eq!(shape, b"halcyon storage 3 1\n", "an older release must not open it");
    });
}
