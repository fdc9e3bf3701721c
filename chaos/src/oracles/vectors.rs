//! Version vectors never fall, and never claim a seq that its origin has not given.

use std::collections::BTreeMap;

use halcyon_core::{id::TenantId, version_vector::VersionVector};

use super::{Event, Evidence, Moment, Oracle, ledger::Told};
use crate::plan::cluster::Host;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Vectors {
    last: BTreeMap<(Host, TenantId), VersionVector>,
}

impl Oracle for Vectors {
    fn name(&self) -> &'static str {
        "vectors"
    }

    fn hear(&mut self, event: &Event, _evidence: Evidence<'_>) -> Result<(), String> {
        match event {
            Event::Erased(host, tenant) => {
                self.last.remove(&(*host, *tenant));
            }
            Event::DiskChanged(host) => self.last.retain(|(of, _), _| of != host),
            _ => {}
        }
        Ok(())
    }

    fn look(&mut self, _moment: Moment, evidence: Evidence<'_>) -> Result<(), String> {
        for (host, rooms) in evidence.stage.running() {
            for (tenant, book) in evidence.ledger.books() {
                let Ok(Some(summary)) = rooms.storage.summary(tenant) else {
                    continue;
                };
                let vector = summary.vector;
                if let Some(tag) = vector.iter().find(|tag| tag.seq > book.last(tag.origin)) {
                    return Err(format!(
                        "{host} claims {} of {tenant}; its origin gave no seq above {}",
                        Told(tag),
                        book.last(tag.origin)
                    ));
                }
                let last = self.last.entry((host, tenant)).or_default();
                if !vector.covers(last) {
                    return Err(format!("{host}'s vector of {tenant} fell from {last:?} to {vector:?}"));
                }
                *last = vector;
            }
        }
        Ok(())
    }
}
