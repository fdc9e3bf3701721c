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
    log_file::{COUNT_FILE, LOG_FILE},
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

/// A few entries, cut and purged ones among them, and two votes.
async fn fill(directory: &Path) {
    let mut log = open(directory).await;
    log.blocking_append(entries(1, 0..=40)).await.unwrap();
    log.save_vote(&openraft::vote::Vote::new(1, 2)).await.unwrap();
    log.truncate_after(Some(log_id::<TypeConfig>(1, 1, 30))).await.unwrap();
    log.purge(log_id::<TypeConfig>(1, 1, 4)).await.unwrap();
    log.blocking_append(entries(2, 31..=33)).await.unwrap();
    log.save_vote(&openraft::vote::Vote::new(2, 1)).await.unwrap();
    log.close().await.unwrap();
}

/// All that a node goes on from.
async fn held(directory: &Path) -> std::io::Result<String> {
    let mut log = LogStore::open(&testing::env(directory).0).await?;
    let vote = log.read_vote().await?;
    let held = format!("{vote:?} {:?}", log.try_get_log_entries(..).await?);
    log.close().await?;
    Ok(held)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_node_goes_on_from_a_log_that_the_disk_has_changed() {
    const PAGE: usize = 4096;
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path()).await;
    let path = directory.path().join(LOG_FILE);
    let count_path = directory.path().join(COUNT_FILE);
    let (whole, count) = (std::fs::read(&path).unwrap(), std::fs::read(&count_path).unwrap());
    let all = held(directory.path()).await.unwrap();
    let full = |start: &usize| whole[*start..].iter().take(PAGE).any(|byte| *byte != 0);
    let pages: Vec<usize> = (0..whole.len()).step_by(PAGE).filter(full).collect();
    let mut refused = 0;
    for start in &pages {
        // Of what is in it: the first, and at a quarter, half and three quarters.
        let bytes = (*start..(start + PAGE).min(whole.len())).filter(|at| whole[*at] != 0);
        let bytes: Vec<usize> = bytes.collect();
        for at in [
            bytes[0],
            bytes[bytes.len() / 4],
            bytes[bytes.len() / 2],
            bytes[bytes.len() * 3 / 4],
        ] {
            let mut rotten = whole.clone();
            rotten[at] ^= 0x10;
            std::fs::write(&path, &rotten).unwrap();
            std::fs::write(&count_path, &count).unwrap();
            match held(directory.path()).await {
                Ok(held) => assert_eq!(held, all, "byte {at}"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(
                        error.contains("join again from an empty directory"),
                        "byte {at}: {error}"
                    );
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 0, "{} pages", pages.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_the_log_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path()).await;
    let path = directory.path().join(LOG_FILE);
    let older = std::fs::read(&path).unwrap();
    let mut log = open(directory.path()).await;
    log.save_vote(&openraft::vote::Vote::new(3, 1)).await.unwrap();
    log.close().await.unwrap();
    std::fs::write(&path, &older).unwrap();
    for _ in 0..2 {
        let error = held(directory.path()).await.unwrap_err().to_string();
        assert!(error.contains("gone although they were durable"), "{error}");
        assert!(error.contains("join again from an empty directory"), "{error}");
    }
    // A number that cannot be read says nothing: a power cut may tear it.
    std::fs::write(directory.path().join(COUNT_FILE), [7; 12]).unwrap();
    held(directory.path()).await.unwrap();
}
