//! Acknowledged is durable: a set that a client was told of is there when all is whole again.
//!
//! One disk alone may have held it, and be destroyed. Then the client has it: it keeps a set until it hears of a second
//! replica, and pushes it again elsewhere once its node is removed. So it may be lacking only if the client's program has
//! ended as well, or kept more than it has room for, or as long as nobody has removed the node, or if the second replica's
//! disk went too (seed 41176096).
//! The bare page of `workload/web.rs` keeps nothing.

use std::collections::{BTreeMap, BTreeSet};

use halcyon_client::{KEPT_BYTES_MAX, KEPT_SETS_MAX};
use halcyon_core::id::{NodeId, Tag, TenantId};

use super::{
    Event, Evidence, Moment, Oracle,
    ledger::{Book, Told},
};
use crate::{
    plan::cluster::{Client, Transport},
    run::Stage,
};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Durable {
    acknowledged: BTreeMap<(TenantId, Tag), Answered>,
    /// Clients whose program died since: what they kept for a second replica is gone.
    died: BTreeSet<(TenantId, Tag)>,
}

/// Who was told of a set.
#[derive(Debug, Clone, Copy)]
struct Answered {
    client: Client,
    number: u64,
    bytes: usize,
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
                let Some(set) = evidence.ledger.book(*tenant).and_then(|book| book.set(*tag)) else {
                    return Err(format!(
                        "{client} was told that its set is at {}, where nothing was committed",
                        Told(*tag)
                    ));
                };
                let answered = Answered {
                    client: *client,
                    number: set.number,
                    bytes: set.encode().len(),
                };
                self.acknowledged.insert((*tenant, *tag), answered);
            }
            Event::ClientDown(client) => {
                let of_client = self.acknowledged.iter().filter(|(_, of)| of.client == *client);
                self.died.extend(of_client.map(|(at, _)| *at));
            }
            _ => {}
        }
        Ok(())
    }

    /// Where a node was removed that alone had a set, and one replica is left, its client needs a while to learn that it
    /// has to push it again (seed 700905).
    fn unsettled(&self, evidence: Evidence<'_>) -> Option<String> {
        self.lacking(evidence)
    }

    /// Who has seen an entity there, and writes to it, is told by the others that they lag: for all that they know it may
    /// come back (seed 700985). A client pushes what it created elsewhere, too, but for pages, and programs that ended.
    fn may_rest_on_lost(&self, tenant: TenantId, evidence: Evidence<'_>) -> bool {
        let Evidence { stage, ledger } = evidence;
        let (Some(vector), Some(book)) = (stage.vector_of(tenant), ledger.book(tenant)) else {
            return false;
        };
        self.acknowledged.iter().any(|(at, answered)| {
            let (of, tag) = *at;
            let is_forgotten = !keeps(answered.client, stage) || self.died.contains(at);
            if of != tenant || !is_forgotten || !book.is_doubtful(tag) || !is_awaited(tag.origin.node, stage) {
                return false;
            }
            let set = book.set(tag);
            let mut tags = set.into_iter().flat_map(|set| book.tags_of(set.client(), set.number));
            !tags.any(|tag| vector.covers_tag(tag))
        })
    }

    fn look(&mut self, moment: Moment, evidence: Evidence<'_>) -> Result<(), String> {
        if moment != Moment::End {
            return Ok(());
        }
        self.lacking(evidence).map_or(Ok(()), Err)
    }
}

impl Durable {
    /// The first set that is not there, and may not be lost.
    fn lacking(&self, evidence: Evidence<'_>) -> Option<String> {
        let (mut vectors, mut crowded_out) = (BTreeMap::new(), BTreeMap::new());
        for (&(tenant, tag), &Answered { client, number, .. }) in &self.acknowledged {
            let vector = vectors
                .entry(tenant)
                .or_insert_with(|| evidence.stage.vector_of(tenant));
            let (Some(vector), Some(book)) = (vector, evidence.ledger.book(tenant)) else {
                continue;
            };
            let Some(set) = book.set(tag) else { continue };
            let mut tags = book.tags_of(set.client(), number);
            if tags.any(|tag| vector.covers_tag(tag)) || self.may_be_lost((tenant, tag), client, book, evidence.stage) {
                continue;
            }
            let crowded_out = crowded_out
                .entry((tenant, client))
                .or_insert_with(|| self.crowded_out(tenant, client));
            if crowded_out.is_some_and(|last| number <= last) {
                continue;
            }
            return Some(format!(
                "{client} was told that its set {number} of {tenant} is durable at {}; no replica holds it",
                Told(tag)
            ));
        }
        None
    }

    /// Up to which number a client may have let go of sets to make room for those that it was told of later (seed 700905).
    fn crowded_out(&self, tenant: TenantId, client: Client) -> Option<u64> {
        let of_client = self.acknowledged.iter();
        let of_client = of_client.filter(|((of, _), answered)| *of == tenant && answered.client == client);
        let by_number: BTreeMap<u64, usize> = of_client
            .map(|(_, answered)| (answered.number, answered.bytes))
            .collect();
        let (mut sets, mut bytes) = (0, 0);
        let mut latest_first = by_number.into_iter().rev();
        let first_too_many = latest_first.find(|(_, of_set)| {
            (sets, bytes) = (sets + 1, bytes + of_set);
            // What was committed of a set may be half of what its client keeps: the rest had no effect.
            sets > KEPT_SETS_MAX || bytes > KEPT_BYTES_MAX / 2
        });
        first_too_many.map(|(number, _)| number)
    }

    fn may_be_lost(&self, at: (TenantId, Tag), client: Client, book: &Book, stage: &Stage) -> bool {
        let (_, tag) = at;
        let is_kept = is_awaited(tag.origin.node, stage);
        let is_page = !keeps(client, stage);
        let is_forgotten = is_page || self.died.contains(&at);
        // A node that is removed while it runs takes what nobody else hears of.
        let went_with_disk = book.is_lost_twice(tag) || book.is_doubtful(tag) && (is_kept || is_forgotten);
        let went_with_node = is_page && !is_member(tag.origin.node, stage);
        went_with_disk || went_with_node
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
