//! Nothing grows without a bound: queues, outboxes, disks.

use super::{Evidence, Moment, Oracle};
use crate::world::machine::Machine;

/// Requests that wait for a node's storage, all shards together: its own bound is lower.
const QUEUED_MAX: u64 = 1 << 16;

/// What one message may exceed an outbox's bound by.
const OUTBOX_SLACK_BYTES: usize = 4 << 20;

/// Bytes of a host's disk. What the largest workload commits, in the log and in indexes, takes half.
const DISK_BYTES_MAX: u64 = 512 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Bounded;

impl Oracle for Bounded {
    fn name(&self) -> &'static str {
        "bounded"
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
