//! What a replica shows is what the definition says of the sets that its vector covers, whatever the order in which
//! they came and the way: for every exact replica, at any time.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use halcyon_core::{fingerprint::Fingerprint, id::TenantId};
use halcyon_node::{rpc::Rooms, storage::types::ScanQuery};

use super::{Evidence, Moment, Oracle};
use crate::model::History;

/// A tenant, a vector, and how much is known of the tenant.
type Key = (TenantId, Vec<u8>, (usize, usize));

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// What replicas with these vectors must show, if that can be said: most hold the same, and at the end for long.
    computed: BTreeMap<Key, Option<Fingerprint>>,
}

impl Oracle for Model {
    fn name(&self) -> &'static str {
        "model"
    }

    fn look(&mut self, moment: Moment, evidence: Evidence<'_>) -> Result<(), String> {
        if moment == Moment::Quickly {
            return Ok(());
        }
        let before = mem::take(&mut self.computed);
        for (host, rooms) in evidence.stage.running() {
            for (tenant, book) in evidence.ledger.books() {
                let Ok(Some(summary)) = rooms.storage.summary(tenant) else {
                    continue;
                };
                if !summary.is_exact() {
                    continue;
                }
                let key = (tenant, summary.vector.encode(), book.size());
                let known = before.get(&key).copied();
                let must = self.computed.entry(key).or_insert_with(|| {
                    known.unwrap_or_else(|| {
                        let (history, is_sure) = book.covered_by(&summary.vector);
                        is_sure.then(|| history.state().fingerprint())
                    })
                });
                // See `oracles/deleted.rs`.
                let may_differ = || summary.collection_epoch > 0 && book.may_any_be_back(&summary.vector);
                if must.is_some_and(|must| must != summary.fingerprint) && !may_differ() {
                    let (history, _) = book.covered_by(&summary.vector);
                    let difference = difference(&rooms, tenant, &history);
                    return Err(format!(
                        "{host} shows {tenant} otherwise than its sets make it: {difference}"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Triples in one look at a tenant.
const SHOWN_MAX: usize = 10_000;

/// The first triple that is shown and must not be, or must be and is not.
fn difference(rooms: &Rooms, tenant: TenantId, history: &History) -> String {
    let query = ScanQuery {
        limit: SHOWN_MAX,
        ..ScanQuery::default()
    };
    let page = match rooms.storage.scan(tenant, &query) {
        Ok(page) => page,
        Err(error) => return error.to_string(),
    };
    let shown: BTreeSet<_> = page
        .triples
        .into_iter()
        .map(|one| (one.subject, one.predicate, one.value))
        .collect();
    let state = history.state();
    let must = state.triples().into_iter();
    let must: BTreeSet<_> = must.map(|(s, p, o)| (s.clone(), p.clone(), o.clone())).collect();
    let more = shown
        .difference(&must)
        .next()
        .map(|triple| format!("it shows {triple:?}"));
    let less = || {
        must.difference(&shown)
            .next()
            .map(|triple| format!("it lacks {triple:?}"))
    };
    let counts = format!("{} shown, {} due", shown.len(), must.len());
    more.or_else(less)
        .map_or(format!("only in a timestamp ({counts})"), |what| {
            format!("{what} ({counts})")
        })
}
