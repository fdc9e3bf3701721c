//! The state machine: the state in memory, a snapshot of it on disk, and the log in between.
//!
//! Applying writes nothing to disk. A restart loads the snapshot and applies again what the log holds up to the
//! committed place; openraft does the second part because [`StateStore::applied_state`] tells it how far the snapshot
//! goes. A log entry is only purged once a durable snapshot covers it, so nothing can be lost in between. A snapshot
//! is one small file that is replaced as a whole: there is nothing in it that a table would make cheaper.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{Stream, TryStreamExt};
use halcyon_core::env::{Access, Env};
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
    storage::{EntryResponder, RaftStateMachine},
};

use super::{
    command::{Command, Outcome},
    log_store::{decode, encode},
    state::State,
    types::{Entry, LogId, Snapshot, SnapshotBytes, SnapshotMeta, StoredMembership, TypeConfig, told},
    view::Shared,
};

/// The snapshot's name in the data directory. It holds the CA's key.
pub(super) const SNAPSHOT_FILE: &str = "control.snapshot";

/// First bytes of the file: its format.
const MAGIC: &[u8; 8] = b"hctl-s1\n";

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct StateStore {
    env: Env,
    shared: Arc<Shared>,
    applied: Arc<Mutex<Applied>>,
}

/// How far the state in memory has come.
#[derive(Debug, Clone, Default)]
struct Applied {
    place: Option<LogId>,
    membership: StoredMembership,
}

impl StateStore {
    /// Loads the last snapshot into `shared`.
    pub(super) async fn open(env: &Env, shared: Arc<Shared>) -> io::Result<Self> {
        let store = Self {
            env: env.clone(),
            shared,
            applied: Arc::default(),
        };
        if let Some(snapshot) = store.load().await? {
            store.take(&snapshot.meta, &snapshot.snapshot)?;
        }
        Ok(store)
    }

    /// Replaces the state in memory.
    fn take(&self, meta: &SnapshotMeta, bytes: &SnapshotBytes) -> io::Result<()> {
        let state = State::decode(&bytes.0)?;
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        *applied = Applied {
            place: meta.last_log_id,
            membership: meta.last_membership.clone(),
        };
        let index = meta.last_log_id.map_or(0, |place| place.index());
        self.shared.replace(state, index);
        Ok(())
    }

    async fn load(&self) -> io::Result<Option<Snapshot>> {
        let disk = &self.env.disk;
        let file = self.env.run_blocking(|| disk.read_small(SNAPSHOT_FILE)).await?;
        file.map(|file| unseal(&file)).transpose()
    }

    async fn save(&self, snapshot: &Snapshot) -> io::Result<()> {
        let disk = &self.env.disk;
        self.env
            .run_blocking(|| disk.write_small(SNAPSHOT_FILE, &seal(snapshot)?, Access::Secret))
            .await
    }
}

impl RaftSnapshotBuilder<TypeConfig> for StateStore {
    type SnapshotData = SnapshotBytes;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let (meta, state) = {
            // `apply` holds the same lock while it changes both, so that they belong together.
            let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
            let meta = SnapshotMeta {
                last_log_id: applied.place,
                last_membership: applied.membership.clone(),
            };
            (meta, self.shared.read(State::clone))
        };
        let bytes = self.env.run_blocking(|| state.encode()).await?;
        let snapshot = Snapshot {
            meta,
            snapshot: SnapshotBytes(bytes),
        };
        self.save(&snapshot).await?;
        Ok(snapshot)
    }
}

impl StateStore {
    /// The simulator's oracles compare what the nodes apply at each place of the log.
    fn tell(&self, entry: &Entry) {
        self.env.probe.event("metadata.entry", &|| told(entry));
    }
}

impl RaftStateMachine<TypeConfig> for StateStore {
    type SnapshotData = SnapshotBytes;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((applied.place, applied.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let batch: Vec<EntryResponder<TypeConfig>> = entries.try_collect().await?;
        let Some(last) = batch.last().map(|(entry, _)| entry.log_id.index()) else {
            return Ok(());
        };
        let mut answers = Vec::with_capacity(batch.len());
        let is_setting = |(entry, _): &EntryResponder<TypeConfig>| matches!(&entry.payload, EntryPayload::Normal(command) if matches!(command.deed(), Command::SetSetting { .. }));
        let settings_change = batch.iter().any(is_setting);
        {
            let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
            let mut state = self.shared.write();
            for (entry, responder) in batch {
                self.tell(&entry);
                let outcome = match entry.payload {
                    EntryPayload::Blank => Outcome::default(),
                    EntryPayload::Normal(command) => {
                        if state.has_answered(&command) {
                            self.env.probe.reached("metadata.repeated");
                        }
                        Outcome(state.apply(command))
                    }
                    EntryPayload::Membership(membership) => {
                        applied.membership = StoredMembership::new(Some(entry.log_id), membership);
                        Outcome::default()
                    }
                };
                applied.place = Some(entry.log_id);
                answers.extend(responder.map(|responder| (responder, outcome)));
            }
        }
        self.env.probe.event("metadata.apply", &|| format!("up to {last}"));
        if settings_change {
            self.shared.read_settings();
        }
        self.shared.publish(last);
        for (responder, outcome) in answers {
            responder.send(outcome);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, bytes: SnapshotBytes) -> io::Result<()> {
        let snapshot = Snapshot {
            meta: meta.clone(),
            snapshot: bytes,
        };
        self.save(&snapshot).await?;
        self.env.probe.reached("metadata.snapshot-installed");
        self.take(meta, &snapshot.snapshot)
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        self.load().await
    }
}

/// The file's bytes: magic, CRC-32 of the rest, then meta and state.
fn seal(snapshot: &Snapshot) -> io::Result<Vec<u8>> {
    let body = encode(&(&snapshot.meta, &snapshot.snapshot))?;
    let mut file = Vec::with_capacity(MAGIC.len() + 4 + body.len());
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    file.extend_from_slice(&body);
    Ok(file)
}

fn unseal(file: &[u8]) -> io::Result<Snapshot> {
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{SNAPSHOT_FILE}: {what}"));
    let rest = file.strip_prefix(MAGIC).ok_or_else(|| damaged("unknown format"))?;
    let (crc, body) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("cut short"))?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return Err(damaged("checksum differs"));
    }
    let (meta, snapshot) = decode(body)?;
    Ok(Snapshot { meta, snapshot })
}
