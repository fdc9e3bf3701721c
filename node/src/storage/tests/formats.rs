//! What an earlier release wrote is read as it meant it.

use halcyon_core::codec::Reader;

use super::*;
use crate::storage::{
    command::Command,
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
