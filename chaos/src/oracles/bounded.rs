//! Nothing grows without a bound: queues, outboxes, disks, and what is remembered of what is gone.
//!
//! Once all is whole, what is older than the retention is collected: a run does not end before. Not asked where a lost
//! host is still a replica, which collections wait for, where the home region has none, which would lead them (seed
//! 70007), or where they come seldom.

use std::time::Duration;

use halcyon_core::{clock::WallTime, id::TenantId};
use halcyon_node::{metadata::state::ReplicaState, rpc::Rooms};

use super::{Evidence, Moment, Oracle};
use crate::{run::Stage, world::machine::Machine};

/// Requests that wait for a node's storage, all shards together: its own bound is lower.
const QUEUED_MAX: u64 = 1 << 16;

/// What one message may exceed an outbox's bound by.
const OUTBOX_SLACK_BYTES: usize = 4 << 20;

/// Bytes of a host's disk. What the largest workload commits, in the log and in indexes, takes half.
const DISK_BYTES_MAX: u64 = 512 << 20;

/// Where collections come no less often, a run waits for them: of a large workload many are needed.
const COLLECTION_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Bounded;

impl Oracle for Bounded {
    fn name(&self) -> &'static str {
        "bounded"
    }

    fn unsettled(&self, evidence: Evidence<'_>) -> Option<String> {
        let stage = evidence.stage;
        let mut tenants = stage.all_access().into_iter();
        let (tenant, _) = tenants.find(|(_, access)| is_overdue(access.id, stage))?;
        Some(format!("no replica of {tenant} has collected what it may forget"))
    }

    fn look(&mut self, moment: Moment, evidence: Evidence<'_>) -> Result<(), String> {
        if moment == Moment::Quickly {
            return Ok(());
        }
        for (host, rooms) in evidence.stage.running() {
            let queued = rooms.storage.metrics().queued;
            if queued > QUEUED_MAX {
                return Err(format!("{queued} requests wait for {host}'s storage"));
            }
            let max = usize::try_from(rooms.view.settings().gossip_queue_bytes_max).unwrap_or(usize::MAX);
            for (peer, outbox) in rooms.replication.metrics().outboxes {
                if outbox.bytes > max.saturating_add(OUTBOX_SLACK_BYTES) {
                    return Err(format!(
                        "{} bytes wait on {host} for node {peer}; the bound is {max}",
                        outbox.bytes
                    ));
                }
            }
            let size = evidence.stage.place(Machine::Host(host.0)).disk.size();
            if size > DISK_BYTES_MAX {
                return Err(format!("{host}'s disk holds {size} bytes"));
            }
        }
        Ok(())
    }
}

/// Whether all replicas of a tenant could collect something, each by its own clock, and none has.
fn is_overdue(tenant: TenantId, stage: &Stage) -> bool {
    let replicas = replicas(tenant, stage).unwrap_or_default();
    !replicas.is_empty() && replicas.iter().all(|rooms| is_ripe(rooms, tenant))
}

/// All replicas of a tenant, if all of them serve and hold the whole of it, and one is there to lead collections.
fn replicas(tenant: TenantId, stage: &Stage) -> Option<Vec<Rooms>> {
    let placed = stage.running().into_values().next()?.view.tenant(tenant)?;
    let lost = stage.lost();
    let replicas = placed.replicas.iter().map(|(node, state)| {
        let host = stage.host_of(*node).filter(|host| !lost.contains(host))?;
        let rooms = stage.rooms(host).filter(|rooms| rooms.me == *node)?;
        let summary = rooms.storage.summary(tenant).ok()??;
        (*state == ReplicaState::Active && summary.is_exact()).then_some(rooms)
    });
    let replicas: Vec<Rooms> = replicas.collect::<Option<_>>()?;
    let is_led = replicas.iter().any(|rooms| rooms.region == placed.home);
    is_led.then_some(replicas)
}

/// Whether it holds something that was received longer ago than it must be remembered.
fn is_ripe(rooms: &Rooms, tenant: TenantId) -> bool {
    let settings = rooms.view.settings();
    if settings.collection_interval > COLLECTION_INTERVAL_MAX {
        return false;
    }
    let now = rooms.env.clock.wall().0.to_duration();
    let before = WallTime::from_unix(now.saturating_sub(settings.tombstone_retention));
    let ripe = rooms.storage.collectable(tenant, before, 1);
    ripe.is_ok_and(|cells| !cells.is_empty())
}
