//! The log and the state machine against openraft's own suite, and what a restart finds.

use std::path::Path;

use openraft::{
    RaftLogReader, StorageError,
    storage::{RaftLogStorage, RaftLogStorageExt},
    testing::{
        blank_ent,
        log::{StoreBuilder, Suite},
        log_id,
    },
};
use tempfile::TempDir;

use super::{
    command::Command,
    limits::{APPEND_BYTES_MAX, LOG_TAIL_BYTES},
    log_store::{LogStore, encode},
    runtime,
    state::State,
    state_store::StateStore,
    testing,
    types::{Entry, TypeConfig},
    view::Shared,
};

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateStore, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateStore), StorageError<TypeConfig>> {
        let directory = tempfile::tempdir().unwrap();
        let (env, _) = testing::env(directory.path());
        runtime::set_process_entropy(env.entropy.clone());
        let shared = std::sync::Arc::new(Shared::new(State::default()));
        let state = StateStore::open(&env, shared).await.unwrap();
        let log = LogStore::open(&env).await.unwrap();
        Ok((directory, log, state))
    }
}

async fn open(directory: &Path) -> LogStore {
    LogStore::open(&testing::env(directory).0).await.unwrap()
}

fn entries(term: u64, indices: std::ops::RangeInclusive<u64>) -> Vec<Entry> {
    indices.map(|index| blank_ent::<TypeConfig>(term, 1, index)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stores_pass_the_suite_of_openraft() {
    Suite::test_all(Builder).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_finds_what_was_appended_cut_and_purged() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open(directory.path()).await;
    log.blocking_append(entries(1, 0..=20)).await.unwrap();
    log.truncate_after(Some(log_id::<TypeConfig>(1, 1, 15))).await.unwrap();
    log.blocking_append(entries(2, 16..=18)).await.unwrap();
    log.purge(log_id::<TypeConfig>(1, 1, 4)).await.unwrap();
    log.save_committed(Some(log_id::<TypeConfig>(2, 1, 17))).await.unwrap();
    let before = log.try_get_log_entries(..).await.unwrap();
    log.close().await.unwrap();
    assert!(
        log.append(entries(2, 19..=19), openraft::storage::IOFlushed::noop())
            .await
            .is_err(),
        "closed"
    );
    let mut log = open(directory.path()).await;
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_log_id, Some(log_id::<TypeConfig>(2, 1, 18)));
    assert_eq!(state.last_purged_log_id, Some(log_id::<TypeConfig>(1, 1, 4)));
    assert_eq!(
        log.read_committed().await.unwrap(),
        Some(log_id::<TypeConfig>(2, 1, 17))
    );
    assert_eq!(
        encode(&log.try_get_log_entries(..).await.unwrap()).unwrap(),
        encode(&before).unwrap()
    );
    assert_eq!(before.len(), 14);
}

/// The followers may hold an entry before the leader's own disk does: a process that ends then leaves its place only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_committed_place_beyond_the_log_is_taken_back_to_its_end_by_a_restart() {
    for (entries, last) in [
        (entries(1, 0..=43), Some(log_id::<TypeConfig>(1, 1, 43))),
        (vec![], None),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut log = open(directory.path()).await;
        if !entries.is_empty() {
            log.blocking_append(entries).await.unwrap();
        }
        log.save_committed(Some(log_id::<TypeConfig>(1, 1, 44))).await.unwrap();
        log.close().await.unwrap();
        let mut log = open(directory.path()).await;
        assert_eq!(log.read_committed().await.unwrap(), last);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_left_memory_are_read_from_disk() {
    const COUNT: u64 = 60;
    let directory = tempfile::tempdir().unwrap();
    let mut log = open(directory.path()).await;
    let value = "x".repeat(2 * LOG_TAIL_BYTES / 60);
    for index in 0..COUNT {
        let mut entry = blank_ent::<TypeConfig>(1, 1, index);
        entry.payload = openraft::EntryPayload::Normal(Command::SetSetting {
            name: String::new(),
            value: value.clone(),
        });
        log.blocking_append([entry]).await.unwrap();
    }
    let indices = |entries: Vec<Entry>| entries.iter().map(|entry| entry.log_id.index()).collect::<Vec<_>>();
    assert_eq!(
        indices(log.try_get_log_entries(..).await.unwrap()),
        (0..COUNT).collect::<Vec<_>>()
    );
    for start in 0..COUNT {
        let some = log.limited_get_log_entries(start, COUNT).await.unwrap();
        let bytes: usize = some.iter().map(|entry| encode(entry).unwrap().len()).sum();
        assert!(bytes <= APPEND_BYTES_MAX, "{bytes} from {start}");
        assert_eq!(
            indices(some.clone()),
            (start..start + some.len() as u64).collect::<Vec<_>>()
        );
        assert!(!some.is_empty());
    }
}
