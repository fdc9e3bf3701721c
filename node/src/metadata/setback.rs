//! Notices that the group has gone back behind what was committed.
//!
//! Raft's promise rests on disks that keep what they have said to keep. If a majority of the voters is put back on older
//! files at once, it elects a leader that lacks what was decided since, and goes on from there in other words. Nothing can
//! bring that back by itself. But a node that was not put back is then told to cut its log off before a place that was
//! committed, which never happens otherwise, and people must hear of it: what was lost is still in this node's state.
//! (One case stays unseen: a node that is put back and then leads a term again that it had led before.)

use std::{
    fmt, io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use halcyon_core::{
    clock::WallTime,
    env::{Access, Env},
};
use serde::{Deserialize, Serialize};

use super::{
    Metadata,
    log_store::{decode, encode},
};

/// Where it is written down. It goes with the directory: what this node has carried out differs from then on.
const FILE: &str = "control.setback";

/// What a leader overwrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setback {
    /// The first place of the log where another command stands now.
    pub from: u64,
    /// All up to here was committed, as this node knew.
    pub committed: u64,
    /// When it was seen, in milliseconds since 1970.
    pub since_ms: u64,
}

/// The first setback, if there was one.
pub(super) struct Setbacks {
    env: Env,
    first: Mutex<Option<Setback>>,
}

impl fmt::Debug for Setbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first().fmt(f)
    }
}

impl Setbacks {
    /// With what an earlier run wrote down.
    pub(super) fn load(env: &Env) -> io::Result<Self> {
        let file = env.disk.read_small(FILE)?;
        let first = file.map(|bytes| decode(&bytes)).transpose()?;
        Ok(Self {
            env: env.clone(),
            first: Mutex::new(first),
        })
    }

    /// The log is cut off: `from` is the first place that goes.
    pub(super) fn on_cut(&self, from: u64, committed: Option<u64>) {
        let Some(committed) = committed.filter(|committed| from <= *committed) else {
            return;
        };
        let wall: WallTime = self.env.clock.wall();
        let setback = Setback {
            from,
            committed,
            since_ms: wall.unix_millis(),
        };
        tracing::error!(?setback, "the leader of the control plane lacks what was committed");
        if self.first().is_some() {
            return;
        }
        *self.first() = Some(setback);
        let written = encode(&setback).and_then(|bytes| self.env.disk.write_small(FILE, &bytes, Access::Normal));
        if let Err(error) = written {
            tracing::error!(%error, "that could not be written down: a restart forgets it");
        }
    }

    /// See there.
    pub(super) fn first(&self) -> MutexGuard<'_, Option<Setback>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Metadata {
    /// What the group lost that was committed as far as this node knew.
    pub fn setback(&self) -> Option<Setback> {
        *self.inner.log.setbacks.first()
    }
}

#[cfg(test)]
mod tests {
    use halcyon_core::id::NodeId;

    use crate::metadata::{
        testing::{Cluster, eventually, options},
        tests::{create, leader_among, voters_are, written},
    };

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_majority_on_older_files_is_seen_by_who_has_to_give_up_what_was_committed() {
        let mut cluster = Cluster::new(&["a", "b", "c"], options()).await;
        voters_are(&cluster, 1, &[1, 2, 3]).await;
        let put_back = [NodeId(1), NodeId(2)];
        let mut older = Vec::new();
        for id in put_back {
            cluster.stop(id).await;
            older.push(cluster.files(id));
        }
        for id in put_back {
            cluster.start(id).await;
        }
        // One that is put back might lead the same term twice, and then nobody can tell its entries apart.
        loop {
            let leader = leader_among(&cluster, &[1, 2, 3]).await;
            if leader == NodeId(3) {
                break;
            }
            cluster.stop(leader).await;
            cluster.start(leader).await;
        }
        for number in 1..=5 {
            written(&cluster.at(3), create(number, &["a"])).await;
        }
        for id in 1..=3 {
            cluster.stop(NodeId(id)).await;
        }
        for (id, files) in put_back.into_iter().zip(&older) {
            cluster.put_back(id, files);
            cluster.start(id).await;
        }
        written(&cluster.at(1), create(9, &["a"])).await;
        cluster.start(NodeId(3)).await;
        // Whoever leads in the end, the others have to give up what was committed.
        let who = |cluster: &Cluster| (1..=3).find(|id| cluster.at(*id).setback().is_some());
        eventually("somebody sees it", || who(&cluster).is_some()).await;
        let saw = who(&cluster).unwrap();
        cluster.stop(NodeId(saw)).await;
        cluster.start(NodeId(saw)).await;
        assert!(cluster.at(saw).setback().is_some(), "a restart forgot it");
    }
}
