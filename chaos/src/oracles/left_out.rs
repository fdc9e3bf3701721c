//! Nothing is left out of an acknowledged set but what a deletion overtook, or, of elements, a later removal from the same
//! set: a node that has forgotten which element that took out supersedes each. A node that has not heard of an entity yet
//! must not take it for one that was deleted and forgotten.
//!
//! Checked for entities that the client itself made and was told of: their creation is in the vector with which it
//! pushes, so a node that does not know them must know that it lags. A page that is loaded anew has lost that vector.

use std::collections::{BTreeMap, BTreeSet};

use halcyon_core::{
    change::{Change, ChangeSet},
    clock::Timestamp,
    id::{EntityId, Predicate, Tag, TenantId},
};

use super::{Event, Evidence, Oracle, ledger::Told};
use crate::plan::cluster::Client;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    deleted: BTreeSet<(TenantId, EntityId)>,
    /// When an element was last taken out of a set.
    emptied: BTreeMap<(TenantId, EntityId, Predicate), Timestamp>,
    /// What a client made in this life, or since its page was loaded, and was told of, and where it was told that it is.
    made: BTreeMap<Client, BTreeMap<EntityId, Tag>>,
    /// What it put into sets that are not acknowledged, of entities that it had made before.
    written: BTreeMap<(Client, u64), Vec<Change>>,
}

impl Oracle for LeftOut {
    fn name(&self) -> &'static str {
        "left-out"
    }

    fn hear(&mut self, event: &Event, evidence: Evidence<'_>) -> Result<(), String> {
        match event {
            Event::Committed { tenant, set, .. } => {
                let deleted = set.changes.iter().filter_map(|change| match change {
                    Change::Delete { subject } => Some((*tenant, subject.clone())),
                    _ => None,
                });
                self.deleted.extend(deleted);
                for change in &set.changes {
                    if let Change::Remove { subject, predicate, .. } = change {
                        let field = (*tenant, subject.clone(), predicate.clone());
                        let last = self.emptied.entry(field).or_insert(set.timestamp);
                        *last = set.timestamp.max(*last);
                    }
                }
            }
            Event::Wrote {
                client,
                number,
                changes,
            } => {
                let made = self.made.entry(*client).or_default();
                let own = changes
                    .iter()
                    .filter(|change| change.subject().is_some_and(|s| made.contains_key(s)));
                let own: Vec<Change> = own.cloned().collect();
                self.written.insert((*client, *number), own);
            }
            Event::Acknowledged {
                client,
                tenant,
                number,
                tag,
            } => {
                let book = evidence.ledger.book(*tenant);
                let Some((tag, set)) =
                    book.and_then(|book| book.told_of(*number, *tag).max_by_key(|(_, set)| set.changes.len()))
                else {
                    return Ok(());
                };
                let written = self.written.remove(&(*client, *number)).unwrap_or_default();
                self.check(*client, *tenant, (tag, set), &written, evidence)?;
                let made = set.changes.iter().filter_map(|change| match change {
                    Change::Create { subject } => Some((subject.clone(), tag)),
                    _ => None,
                });
                self.made.entry(*client).or_default().extend(made);
            }
            Event::ClientDown(client) | Event::LoadedAnew(client) => {
                self.made.remove(client);
                self.written.retain(|(of, _), _| of != client);
            }
            _ => {}
        }
        Ok(())
    }
}

impl LeftOut {
    /// Whether it puts an element into a set from which one was taken out later. Which one may have been forgotten.
    fn is_emptied(&self, tenant: TenantId, change: &Change, set: &ChangeSet) -> bool {
        let Change::Add { subject, predicate, .. } = change else {
            return false;
        };
        let field = (tenant, subject.clone(), predicate.clone());
        self.emptied.get(&field).is_some_and(|last| set.timestamp <= *last)
    }

    fn check(
        &self,
        client: Client,
        tenant: TenantId,
        (tag, set): (Tag, &ChangeSet),
        written: &[Change],
        evidence: Evidence<'_>,
    ) -> Result<(), String> {
        let Some(made) = self.made.get(&client) else {
            return Ok(());
        };
        for change in written.iter().filter(|change| !set.changes.contains(change)) {
            let Some(subject) = change.subject() else { continue };
            let is_deleted = self.deleted.contains(&(tenant, subject.clone()));
            // The only disk that held the creation is gone: nobody knows the entity any more, and rightly so.
            let is_doubtful = made.get(subject).is_none_or(|at| {
                let book = evidence.ledger.book(tenant);
                book.is_none_or(|book| book.is_doubtful(*at))
            });
            if !is_deleted && !is_doubtful && !self.is_emptied(tenant, change, set) {
                return Err(format!(
                    "{client} wrote to {subject}, which it had made and nobody deleted; {} holds its set {} without that",
                    Told(tag),
                    set.number
                ));
            }
        }
        Ok(())
    }
}
