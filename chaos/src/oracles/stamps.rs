//! Timestamps never repeat, and follow cause and effect: a later set of a client is later, and so is one that it wrote
//! after it had seen another's.
//!
//! Clients take for granted that the clocks of two nodes are less than [`NODES_APART_MAX`] apart. Where one was further
//! behind, a set whose answer was lost may be stamped again though another node had taken it, and of the order of a
//! client's sets nothing is promised (seeds 60042, 60065, 60076). Nor is it where a page was copied: what the copy wrote
//! under the page's next number it may have stamped by another clock (seed 100195), or later (seed 300205).

use std::collections::BTreeMap;

use halcyon_client::WatchEvent;
use halcyon_core::{
    change::ChangeSet,
    clock::{ClientId, Timestamp},
    id::TenantId,
};

use super::{Event, Evidence, Moment, Oracle};
use crate::{
    plan::cluster::Client,
    workload::NODES_APART_MAX,
    world::{clock, machine::Machine},
};

/// Nanoseconds that a client's clock may be behind and still follow cause and effect.
const BEHIND_MAX: i64 = 1_000_000_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    /// Who made it.
    made: BTreeMap<(TenantId, Timestamp), (ClientId, u64)>,
    by_number: BTreeMap<(TenantId, ClientId), BTreeMap<u64, Timestamp>>,
    /// The latest that each client was shown.
    shown: BTreeMap<Client, Timestamp>,
    /// What that was when it began to write.
    writing: BTreeMap<Client, Timestamp>,
    before: BTreeMap<(Client, u64), Timestamp>,
    /// Two clocks of nodes were too far apart.
    were_apart: bool,
}

impl Oracle for Stamps {
    fn name(&self) -> &'static str {
        "timestamps"
    }

    fn look(&mut self, _: Moment, _: Evidence<'_>) -> Result<(), String> {
        self.were_apart |= clock::hosts_apart() >= NODES_APART_MAX;
        Ok(())
    }

    fn hear(&mut self, event: &Event, evidence: Evidence<'_>) -> Result<(), String> {
        match event {
            Event::Committed { tenant, set, .. } => {
                self.committed(*tenant, set, evidence.stage.plan.work.copied_pages)?;
            }
            // A clock refuses stamps far ahead of it, or one that runs ahead would drag all others along; so a client
            // whose clock is far behind cannot come after what it sees.
            Event::Watched(client, ..) if clock::ahead(Machine::Client(client.0)) < -BEHIND_MAX => {
                self.shown.remove(client);
            }
            Event::Watched(client, _, WatchEvent::Live { set, .. } | WatchEvent::Missed(set)) => {
                let shown = self.shown.entry(*client).or_insert(set.timestamp);
                *shown = set.timestamp.max(*shown);
            }
            Event::Writing(client) => match self.shown.get(client) {
                Some(shown) => drop(self.writing.insert(*client, *shown)),
                None => drop(self.writing.remove(client)),
            },
            Event::Wrote { client, number, .. } => {
                if let Some(shown) = self.writing.get(client) {
                    self.before.insert((*client, *number), *shown);
                }
            }
            Event::ClientDown(client) => {
                self.shown.remove(client);
                self.before.retain(|(of, _), _| of != client);
            }
            Event::Acknowledged {
                client,
                tenant,
                number,
                tag,
            } => {
                let book = evidence.ledger.book(*tenant);
                let set = book.and_then(|book| book.told_of(*number, *tag).next());
                let before = self.before.remove(&(*client, *number));
                if let (Some((_, set)), Some(before)) = (set, before)
                    && set.timestamp <= before
                {
                    return Err(format!(
                        "{client} had seen {before} and stamped its set {number} with {}",
                        set.timestamp
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Stamps {
    fn committed(&mut self, tenant: TenantId, set: &ChangeSet, may_be_copied: bool) -> Result<(), String> {
        let (who, when) = ((set.client(), set.number), set.timestamp);
        let made = self.made.entry((tenant, when)).or_insert(who);
        if *made != who {
            return Err(format!(
                "{when} stands on set {} and on set {} of {}",
                made.1, who.1, who.0
            ));
        }
        if self.were_apart {
            return Ok(());
        }
        let others = self.by_number.entry((tenant, who.0)).or_default();
        let is_early = others
            .range(..who.1)
            .next_back()
            .is_some_and(|(_, before)| *before >= when);
        let is_late = others
            .range(who.1 + 1..)
            .next()
            .is_some_and(|(_, after)| *after <= when);
        if (is_early || is_late) && !may_be_copied {
            return Err(format!(
                "set {} of client {} is stamped {when}, out of the order of its numbers",
                who.1, who.0
            ));
        }
        if let Some(before) = others.insert(who.1, when)
            && before != when
            && !may_be_copied
        {
            return Err(format!(
                "set {} of client {} was committed as of {before} and as of {when}",
                who.1, who.0
            ));
        }
        Ok(())
    }
}
