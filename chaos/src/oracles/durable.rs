//! Acknowledged is durable: a set that a client was told of is there when all is whole again.
//!
//! One disk alone may have held it, and be destroyed. Then the client has it: it keeps a set until it hears of a second
//! replica, and pushes it again elsewhere once its node is removed. So it may be lacking only if the client's program has
//! ended as well, or as long as nobody has removed the node, or if the second replica's disk went too (seed 41176096).
//! The bare page of `workload/web.rs` keeps nothing.

use std::collections::{BTreeMap, BTreeSet};

use halcyon_core::id::{NodeId, Tag, TenantId};

use super::{Event, Evidence, Moment, Oracle, ledger::Told};
use crate::{
    plan::cluster::{Client, Transport},
    run::Stage,
};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Durable {
    acknowledged: BTreeMap<(TenantId, Tag), Client>,
    /// Clients whose program died since: what they kept for a second replica is gone.
    died: BTreeSet<(TenantId, Tag)>,
}

impl Oracle for Durable {
    fn name(&self) -> &'static str {
        "durable"
    }

    fn hear(&mut self, event: &Event, evidence: Evidence<'_>) -> Result<(), String> {
        match event {
            Event::Acknowledged {
                client, tenant, tag, ..
            } => {
                self.acknowledged.insert((*tenant, *tag), *client);
                let known = evidence.ledger.book(*tenant).and_then(|book| book.set(*tag));
                if known.is_none() {
                    return Err(format!(
                        "{client} was told that its set is at {}, where nothing was committed",
                        Told(*tag)
                    ));
                }
            }
            Event::ClientDown(client) => {
                let of_client = self.acknowledged.iter().filter(|(_, of)| *of == client);
                self.died.extend(of_client.map(|(at, _)| *at));
            }
            _ => {}
        }
        Ok(())
    }

    fn look(&mut self, moment: Moment, evidence: Evidence<'_>) -> Result<(), String> {
        if moment != Moment::End {
            return Ok(());
        }
        for ((tenant, tag), client) in &self.acknowledged {
            let Some(vector) = evidence.stage.vector_of(*tenant) else {
                continue;
            };
            let Some(book) = evidence.ledger.book(*tenant) else {
                continue;
            };
            let Some(set) = book.set(*tag) else { continue };
            let is_there = book.tags_of(set.client(), set.number).any(|tag| vector.covers_tag(tag));
            let is_kept = is_awaited(tag.origin.node, evidence.stage);
            let node = tag.origin.node;
            let is_page = !keeps(*client, evidence.stage);
            let is_forgotten = is_page || self.died.contains(&(*tenant, *tag));
            // A node that is removed while it runs takes what nobody else hears of.
            let went_with_disk = book.is_lost_twice(*tag) || book.is_doubtful(*tag) && (is_kept || is_forgotten);
            let went_with_node = is_page && !is_member(node, evidence.stage);
            let may_be_lost = went_with_disk || went_with_node;
            if !is_there && !may_be_lost {
                return Err(format!(
                    "{client} was told that its set {} of {tenant} is durable at {}; no replica holds it",
                    set.number,
                    Told(*tag)
                ));
            }
        }
        Ok(())
    }
}

/// Whether a client keeps what it was told of until a second replica holds it.
fn keeps(client: Client, stage: &Stage) -> bool {
    stage.plan.clients[client.0 as usize - 1].transport == Transport::Native
}

/// Whether a node is gone for good and still a member: for all that its clients know it may come back.
fn is_awaited(node: NodeId, stage: &Stage) -> bool {
    let is_lost = stage.host_of(node).is_some_and(|host| stage.lost().contains(&host));
    is_lost && is_member(node, stage)
}

/// Whether any running node has it as one of the cluster's.
fn is_member(node: NodeId, stage: &Stage) -> bool {
    stage
        .running()
        .into_values()
        .any(|rooms| rooms.view.node(node).is_some())
}
