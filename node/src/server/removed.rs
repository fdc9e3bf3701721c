//! What becomes of a node that was removed from its cluster: it notices, says so, serves nobody, and stays away.
//!
//! It hears of its removal from its view, or, if it was away then, from the first peer that refuses its probe. Its number
//! is never used again, so there is nothing to wait for: a mark in its directory keeps later starts from trying.

use halcyon_core::env::{Access, Env};
use tokio::{sync::watch, time::sleep};

use super::{NodeError, readiness::LOOK_INTERVAL};
use crate::{peers::IdentityError, rpc::Rooms};

/// The mark. It holds why.
pub const REMOVED_FILE: &str = "removed";

/// Refuses to start in a directory whose node was removed.
pub(super) fn check(env: &Env) -> Result<(), NodeError> {
    let mark = env.disk.read_small(REMOVED_FILE).map_err(IdentityError::from)?;
    match mark {
        Some(why) => Err(NodeError::Removed(String::from_utf8_lossy(&why).trim().to_owned())),
        None => Ok(()),
    }
}

/// Waits for the removal, and takes the node out of service.
pub(super) async fn run(rooms: Rooms, mut stop: watch::Receiver<bool>) {
    let said = tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => return,
        () = until_shown(&rooms) => "the control plane's state shows it".to_owned(),
        peer = rooms.routing.refused_by() => format!("{peer} refuses it for that"),
    };
    let why = format!(
        "node {} was removed from the cluster for good ({said}); it serves nobody any more. To use this machine again, \
         start a node in an empty directory with a new token from `halcyon token create`. What only this node held is \
         still in its directory: before you delete that, take it out while this node runs, with `halcyon export --full \
         --cluster` and its address alone",
        rooms.me
    );
    tracing::error!("{why}");
    let mark = rooms
        .env
        .disk
        .write_small(REMOVED_FILE, format!("{why}\n").as_bytes(), Access::Normal);
    if let Err(error) = mark {
        tracing::error!(%error, "the removal could not be written down; do not start this node again");
    }
    rooms.removal.tell(why);
    rooms.replication.stop();
    // A vote is handed over first: it may be the only one, and then nobody else could take it out of the group.
    tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => return,
        _ = rooms.routing.refused_by() => {}
        () = until_no_voter(&rooms) => {}
    }
    rooms.metadata.shutdown().await;
}

async fn until_no_voter(rooms: &Rooms) {
    while rooms.metadata.roles().needed.contains(&rooms.me) {
        sleep(LOOK_INTERVAL).await;
    }
}

async fn until_shown(rooms: &Rooms) {
    let mut view = rooms.view.clone();
    while !rooms.view.read(|state| state.removed_nodes.contains(&rooms.me)) {
        view.changed().await;
    }
}
