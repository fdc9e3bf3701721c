//! A change that a release does not understand is kept as it is: every replica whose vector covers its set has it.

use std::collections::BTreeMap;

use halcyon_core::{
    change::Change,
    fact::FactBody,
    id::{Tag, TenantId},
    version_vector::VersionVector,
};
use halcyon_node::{rpc::Rooms, storage::types::StorageError};

use super::{Event, Evidence, Moment, Oracle, ledger::Told, model::is_rotten};

/// Bytes of facts that are looked at in one step.
const BATCH_BYTES: usize = 1 << 20;

/// A kind and its bytes.
type Body = (u8, Vec<u8>);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Opaque {
    committed: BTreeMap<(TenantId, Tag), Vec<Body>>,
}

impl Oracle for Opaque {
    fn name(&self) -> &'static str {
        "opaque"
    }

    fn hear(&mut self, event: &Event, _evidence: Evidence<'_>) -> Result<(), String> {
        if let Event::Committed { tenant, tag, set, .. } = event {
            let bodies = set.changes.iter().filter_map(|change| match change {
                Change::Opaque { kind, body } => Some((*kind, body.clone())),
                _ => None,
            });
            let bodies: Vec<Body> = bodies.collect();
            if !bodies.is_empty() {
                self.committed.insert((*tenant, *tag), bodies);
            }
        }
        Ok(())
    }

    fn look(&mut self, moment: Moment, evidence: Evidence<'_>) -> Result<(), String> {
        if moment != Moment::End {
            return Ok(());
        }
        for ((tenant, tag), bodies) in &self.committed {
            for (host, rooms) in evidence.stage.running() {
                let Ok(Some(summary)) = rooms.storage.summary(*tenant) else {
                    continue;
                };
                let held = match held(&rooms, *tenant, *tag) {
                    Ok(held) => held,
                    // This may be the first that reads a damaged page (seed 700894).
                    Err(_) if is_rotten(host, evidence.stage) => continue,
                    Err(error) => return Err(format!("{host}: {error}")),
                };
                if summary.vector.covers_tag(*tag) && held != *bodies {
                    return Err(format!(
                        "{host} holds {} without what nobody understands in it: {held:?}, and {bodies:?} were committed",
                        Told(*tag)
                    ));
                }
            }
        }
        Ok(())
    }
}

/// What a node holds of a set that nobody understands, in its order.
fn held(rooms: &Rooms, tenant: TenantId, of: Tag) -> Result<Vec<Body>, StorageError> {
    let mut reader = rooms.storage.open_delta(tenant, &VersionVector::EMPTY, None)?;
    let mut found = BTreeMap::new();
    while let Some(facts) = reader.next_batch(BATCH_BYTES)? {
        for fact in facts.into_iter().filter(|fact| fact.tag == of) {
            if let FactBody::Opaque { place, kind, body, .. } = fact.body {
                found.insert(place, (kind, body));
            }
        }
    }
    Ok(found.into_values().collect())
}
