//! Deleted stays deleted: once a replica's vector covers a deletion, it never shows the entity again.
//!
//! Unless only a disk that is gone, or went back, had the set that creates it: its client pushes it again, and where
//! the deletion was collected meanwhile nobody knows of it any more (seed 62121).

use halcyon_core::{
    change::Change,
    id::{EntityId, TenantId},
};

use super::{
    Evidence, Moment, Oracle,
    ledger::{Book, Told},
};
use crate::run::Stage;

/// Of each tenant, so many deletions are looked at closely, the latest first; at the end all are.
const LOOKED_AT: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Deleted;

impl Oracle for Deleted {
    fn name(&self) -> &'static str {
        "deleted"
    }

    fn look(&mut self, moment: Moment, evidence: Evidence<'_>) -> Result<(), String> {
        if moment == Moment::Quickly {
            return Ok(());
        }
        let limit = if moment == Moment::End { usize::MAX } else { LOOKED_AT };
        for (tenant, book) in evidence.ledger.books() {
            let deletions = book.sets().flat_map(|(tag, set)| {
                let deleted = set.changes.iter().filter_map(|change| match change {
                    Change::Delete { subject } => Some(subject.clone()),
                    _ => None,
                });
                deleted.map(move |subject| (tag, set.timestamp, subject))
            });
            let mut deletions: Vec<_> = deletions.filter(|(tag, ..)| !book.is_doubtful(*tag)).collect();
            deletions.sort_by_key(|(_, timestamp, _)| std::cmp::Reverse(*timestamp));
            deletions.truncate(limit);
            for (host, rooms) in evidence.stage.running() {
                let Ok(Some(summary)) = rooms.storage.summary(tenant) else {
                    continue;
                };
                for (tag, _, subject) in &deletions {
                    if !summary.vector.covers_tag(*tag) {
                        continue;
                    }
                    let Ok(shown) = rooms.storage.get(tenant, subject) else {
                        continue;
                    };
                    if let Some(triple) = shown.first()
                        && !(summary.collection_epoch > 0 && book.may_be_back(subject, &summary.vector))
                    {
                        return Err(format!(
                            "{host} holds the deletion of {subject} at {} and shows its {}",
                            Told(*tag),
                            triple.predicate
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether some replica may show an entity that was deleted, as is said above.
pub(super) fn may_be_back(tenant: TenantId, subject: &EntityId, book: &Book, stage: &Stage) -> bool {
    let running = stage.running().into_values();
    let mut summaries = running.filter_map(|rooms| rooms.storage.summary(tenant).ok().flatten());
    summaries.any(|summary| summary.collection_epoch > 0 && book.may_be_back(subject, &summary.vector))
}
