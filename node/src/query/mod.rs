//! Queries asked once: the engine of `halcyon_core::query` over a tenant as storage has it.
//!
//! ```text
//! answer      text or JSON -> plan -> rows in chunks, within bounds
//! store       what the engine asks of triples ([`halcyon_core::query::triples::Triples`]), of one state
//! range       scans of the index by value, in the order of values
//! outgoing    parts of an answer that wait for their reader
//! memo        names and long texts that one query has met
//! statistics  counts of predicates, kept for a tenant
//! ```
//!
//! A query reads a snapshot (`storage::view`), so whatever is written meanwhile neither shows nor waits. It blocks, and
//! belongs on a thread that may.

mod answer;
pub mod limits;
mod memo;
mod outgoing;
mod range;
mod statistics;
mod store;

pub use answer::{Asked, Bounds, Explained, Failed, Part};
pub use outgoing::{Giver, Stalled, Taker, Unwanted, outgoing};
pub use statistics::Statistics;

use halcyon_core::id::TenantId;

use crate::storage::{Storage, types::StorageError, view::TenantView};

/// A tenant at a moment, to be asked.
#[derive(Debug, Clone)]
pub struct Snapshot {
    view: TenantView,
    statistics: std::sync::Arc<statistics::OfTenant>,
}

impl Snapshot {
    /// The tenant as it is now.
    pub fn of(storage: &Storage, statistics: &Statistics, tenant: TenantId) -> Result<Self, StorageError> {
        Ok(Self {
            view: storage.view(tenant)?,
            statistics: statistics.of(tenant),
        })
    }

    /// What the replica was.
    pub fn summary(&self) -> &crate::storage::types::Summary {
        self.view.summary()
    }
}
