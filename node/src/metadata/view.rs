//! What every room reads of the control plane: the local state, cheap to read, with notice of changes.
//!
//! A view may lag behind the leader. Who must not read stale asks [`super::Metadata::read_barrier`] first.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use halcyon_core::id::{NodeId, TenantId, TenantName};
use tokio::sync::watch;

use super::{
    settings::Settings,
    state::{Node, State, Tenant},
};

/// The state that the state machine changes and the views read. The lock is held for map look-ups only.
#[derive(Debug)]
pub(super) struct Shared {
    state: RwLock<State>,
    /// The settings of `state`, parsed once for each change and not once for each read.
    settings: RwLock<Settings>,
    index: watch::Sender<u64>,
}

impl Shared {
    pub(super) fn new(state: State) -> Self {
        let settings = Settings::of(&state.settings);
        Self {
            state: RwLock::new(state),
            settings: RwLock::new(settings),
            index: watch::Sender::new(0),
        }
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn guard(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.guard())
    }

    /// Tells the views that the state has changed up to `index`.
    pub(super) fn publish(&self, index: u64) {
        self.index.send_replace(index);
    }

    /// Reads the settings anew. Comes before the `publish` of a change of them.
    pub(super) fn read_settings(&self) {
        let settings = Settings::of(&self.guard().settings);
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    pub(super) fn replace(&self, state: State, index: u64) {
        *self.write() = state;
        self.read_settings();
        self.publish(index);
    }
}

/// The local state of the control plane.
#[derive(Debug, Clone)]
pub struct View {
    shared: Arc<Shared>,
    index: watch::Receiver<u64>,
}

impl View {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let index = shared.index.subscribe();
        Self { shared, index }
    }

    /// A view of a fixed state, for tests of other rooms. Its `changed` never completes.
    pub fn for_test(state: State) -> Self {
        Self::new(Arc::new(Shared::new(state)))
    }

    /// The index of the last command that the view shows.
    pub fn index(&self) -> u64 {
        *self.index.borrow()
    }

    /// Completes when the view has changed since the last call on this clone.
    pub async fn changed(&mut self) {
        // The sender lives in `shared`, which this view holds.
        let _ = self.index.changed().await;
    }

    /// Waits until the view shows `index`.
    pub async fn wait_for(&self, index: u64) {
        // As above: the sender cannot be gone.
        let _ = self.index.clone().wait_for(|shown| *shown >= index).await;
    }

    /// A tenant by id.
    pub fn tenant(&self, id: TenantId) -> Option<Arc<Tenant>> {
        self.shared.guard().tenants.get(&id).cloned()
    }

    /// A tenant by name or by id, as an operator or a client writes it.
    pub fn tenant_named(&self, text: &str) -> Option<Arc<Tenant>> {
        let state = self.shared.guard();
        let by_name = TenantName::new(text)
            .ok()
            .and_then(|name| state.names.get(&name).copied());
        let id = by_name.or_else(|| text.parse().ok())?;
        state.tenants.get(&id).cloned()
    }

    /// All tenants with a replica on `node`, whatever its state.
    pub fn tenants_on(&self, node: NodeId) -> Vec<Arc<Tenant>> {
        let state = self.shared.guard();
        let here = state
            .tenants
            .values()
            .filter(|tenant| tenant.replicas.contains_key(&node));
        here.cloned().collect()
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> Option<Arc<Node>> {
        self.shared.guard().nodes.get(&id).cloned()
    }

    /// All nodes, by number.
    pub fn nodes(&self) -> Vec<Arc<Node>> {
        self.shared.guard().nodes.values().cloned().collect()
    }

    /// The cluster's settings, with defaults where nothing is set.
    pub fn settings(&self) -> Settings {
        self.shared
            .settings
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reads anything. `read` runs under a lock: look up, clone, leave.
    pub fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        self.shared.read(read)
    }

    /// Deleted tenants that `node` still has to erase.
    pub fn erasing_on(&self, node: NodeId) -> Vec<TenantId> {
        let state = self.shared.guard();
        let here = state.erasing.iter().filter(|(_, nodes)| nodes.contains(&node));
        here.map(|(tenant, _)| *tenant).collect()
    }
}
