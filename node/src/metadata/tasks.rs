//! What runs beside Raft on every node, from start to shutdown.

use std::{collections::BTreeSet, sync::Arc};

use halcyon_core::id::NodeId;
use tokio::sync::watch;

use super::{Inner, limits::COMMITTED_FLUSH_INTERVAL, log_store::LogStore, reconciler, view::View};
use crate::peers::Pool;

/// Starts the tasks. They end at shutdown, and hold nothing that would keep the handle alive.
pub(super) fn spawn(inner: &Arc<Inner>) {
    let stop = || inner.stop.subscribe();
    tokio::spawn(reconciler::run(inner.raft.clone(), inner.view.clone(), stop()));
    tokio::spawn(keep_addresses(inner.pool.clone(), inner.view.clone(), stop()));
    tokio::spawn(flush_committed(inner.log.clone(), stop()));
}

/// Tells the pool where the nodes are.
async fn keep_addresses(pool: Pool, mut view: View, mut stop: watch::Receiver<bool>) {
    let mut known = BTreeSet::new();
    loop {
        let nodes = view.nodes();
        let present: BTreeSet<NodeId> = nodes.iter().map(|node| node.id).collect();
        for node in nodes {
            pool.set_address(node.id, node.peer_address.clone());
        }
        for gone in known.difference(&present) {
            pool.forget(*gone);
        }
        known = present;
        tokio::select! {
            biased;
            _ = stop.changed() => return,
            () = view.changed() => {}
        }
    }
}

async fn flush_committed(log: LogStore, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            biased;
            _ = stop.changed() => return,
            () = tokio::time::sleep(COMMITTED_FLUSH_INTERVAL) => {}
        }
        if let Err(error) = log.flush_committed().await {
            tracing::warn!(%error, "the committed place could not be written");
        }
    }
}
