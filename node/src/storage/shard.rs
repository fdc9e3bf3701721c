//! What a shard's writer and its readers share: the published state.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use halcyon_core::id::TenantId;

use super::{
    base::{Base, Fold},
    layer::{Layer, Reader},
    limits::COPY_ENTRIES_MAX,
    state::TenantState,
    tables::Table,
    types::StorageError,
};

/// Durable and visible: each group of commands appears whole.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) tenants: BTreeMap<TenantId, Arc<TenantState>>,
    active: Layer,
    /// The newest first.
    frozen: Vec<Arc<Layer>>,
    base: Arc<Base>,
    /// The active layer as the last snapshot copied it, as long as nothing came after.
    copied: Option<Arc<Layer>>,
    pub(super) next_tenant: u32,
}

/// A state that stays as it is while the shard goes on.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    layers: Vec<Arc<Layer>>,
    base: Arc<Base>,
}

/// Counters since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) commits: AtomicU64,
    pub(super) groups: AtomicU64,
    pub(super) log_bytes: AtomicU64,
    pub(super) folds: AtomicU64,
}

/// One shard.
#[derive(Debug)]
pub(super) struct Shard {
    published: RwLock<Published>,
    pub(super) counters: Counters,
}

impl Shard {
    pub(super) fn new(published: Published) -> Self {
        Self {
            published: RwLock::new(published),
            counters: Counters::default(),
        }
    }

    /// The published state. A panic elsewhere cannot have left it half changed for good: the process stops on it.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Published> {
        self.published.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Published> {
        self.published.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tenant(&self, id: TenantId) -> Option<Arc<TenantState>> {
        self.read().tenants.get(&id).cloned()
    }

    /// The tenant, and a state to read it from.
    pub(super) fn snapshot(&self, id: TenantId) -> Option<(Arc<TenantState>, Snapshot)> {
        // Where nothing was written since the last one, it is there already.
        if let Some(found) = self.read().snapshot_there(id) {
            return Some(found);
        }
        let mut published = self.write();
        if published.active.entries() <= COPY_ENTRIES_MAX {
            published.copied = Some(Arc::new(published.active.clone()));
        } else {
            published.freeze();
        }
        published.snapshot_there(id)
    }

    /// Takes what was folded out of the overlay.
    pub(super) fn on_folded(&self, fold: &Fold, base: Base) -> Arc<Base> {
        let mut published = self.write();
        let left = published.frozen.len() - fold.layers.len();
        published.frozen.truncate(left);
        self.counters.folds.fetch_add(1, Ordering::Relaxed);
        std::mem::replace(&mut published.base, Arc::new(base))
    }

    /// Reads the same rows from another file from now on.
    pub(super) fn on_rewritten(&self, base: Base) -> Arc<Base> {
        std::mem::replace(&mut self.write().base, Arc::new(base))
    }
}

impl Published {
    /// Whether a tenant was erased whose rows are still in the index.
    pub(super) fn has_erased(&self) -> Result<bool, StorageError> {
        let mut rows = self.reader().range(Table::Erased, &[], None)?;
        Ok(rows.next_row()?.is_some())
    }

    pub(super) fn new(base: Base, tenants: BTreeMap<TenantId, Arc<TenantState>>, next_tenant: u32) -> Self {
        Self {
            tenants,
            active: Layer::default(),
            frozen: Vec::new(),
            base: Arc::new(base),
            copied: None,
            next_tenant,
        }
    }

    /// The tenant and a snapshot, if no layer has to be copied or closed for it.
    fn snapshot_there(&self, id: TenantId) -> Option<(Arc<TenantState>, Snapshot)> {
        if self.copied.is_none() && !self.active.is_empty() {
            return None;
        }
        let tenant = self.tenants.get(&id).cloned()?;
        let layers = self.copied.iter().chain(&self.frozen).cloned().collect();
        let base = Arc::clone(&self.base);
        Some((tenant, Snapshot { layers, base }))
    }

    pub(super) fn reader(&self) -> Reader<'_> {
        let layers = std::iter::once(&self.active).chain(self.frozen.iter().map(Arc::as_ref));
        Reader::new(layers, &self.base)
    }

    /// Makes a group visible.
    pub(super) fn publish(&mut self, group: Layer, next_tenant: u32) {
        for (id, state) in &group.tenants {
            match state {
                Some(state) => self.tenants.insert(*id, Arc::clone(state)),
                None => self.tenants.remove(id),
            };
        }
        self.copied = None;
        self.active.absorb(group);
        self.next_tenant = next_tenant;
    }

    /// Closes the active layer and answers with all that there are, the newest first.
    pub(super) fn freeze(&mut self) -> Vec<Arc<Layer>> {
        if !self.active.is_empty() {
            self.copied = None;
            self.frozen.insert(0, Arc::new(std::mem::take(&mut self.active)));
        }
        self.frozen.clone()
    }

    /// Bytes in all layers.
    pub(super) fn overlay_bytes(&self) -> usize {
        self.active.bytes() + self.frozen.iter().map(|layer| layer.bytes()).sum::<usize>()
    }

    /// Bytes in the active layer, and layers behind it.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.active.bytes(), self.frozen.len())
    }

    /// Whether nothing waits to be folded.
    pub(super) fn is_folded(&self) -> bool {
        self.active.is_empty() && self.frozen.is_empty()
    }
}

impl Snapshot {
    pub(super) fn reader(&self) -> Reader<'_> {
        Reader::new(self.layers.iter().map(Arc::as_ref), &self.base)
    }
}
