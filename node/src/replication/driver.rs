//! The loop that keeps the rules and the world together: looks at the control plane, starts tasks, sends signals.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use halcyon_core::id::{NodeId, TenantId};
use tokio::time::sleep;

use super::{
    alarm::AlarmKind, anti_entropy, collection, engine::Signal, limits::VIEW_GATHER, link, shared::Shared, tasks,
};
use crate::metadata::state::Tenant;

/// How long the loop sleeps when nothing is due.
const IDLE: Duration = Duration::from_mins(1);

/// Starts everything.
pub(super) fn spawn(shared: &Arc<Shared>) {
    tokio::spawn(run(Arc::clone(shared)));
    tokio::spawn(anti_entropy::run(Arc::clone(shared)));
    tokio::spawn(collection::run(Arc::clone(shared)));
}

async fn run(shared: Arc<Shared>) {
    let mut view = Seen::default();
    loop {
        view.look(&shared);
        let now = shared.now();
        let (todo, signals) = shared.engine(|engine| (engine.next_tasks(now), engine.take_signals()));
        for task in todo {
            tasks::spawn(&shared, task);
        }
        for signal in signals {
            send(&shared, signal);
        }
        let due = shared.engine(|engine| engine.due());
        // What is due and was not started waits for a free slot: a finished task wakes the loop.
        let wait = due.filter(|&due| due > now).map_or(IDLE, |due| due.saturating_sub(now));
        tokio::select! {
            biased;
            () = shared.until_stopped() => return,
            () = shared.wake.notified() => {}
            () = shared.control.beyond(view.index) => sleep(VIEW_GATHER.max(10 * view.cost)).await,
            () = sleep(wait) => {}
        }
    }
}

fn send(shared: &Arc<Shared>, signal: Signal) {
    match signal {
        Signal::Poke {
            to,
            tenant,
            tag,
            collection_epoch,
        } => link::outbox(shared, to).poke(tenant, tag, collection_epoch),
        Signal::Alarm { tenant, message } => shared.raise_alarm(AlarmKind::Fingerprint, Some(tenant), message),
    }
}

/// What the loop has seen of the control plane.
#[derive(Default)]
struct Seen {
    index: u64,
    looked: bool,
    /// How long the last look took: looking must not become the main work while many tenants are made.
    cost: Duration,
    tenants: BTreeMap<TenantId, Arc<Tenant>>,
    erasing: BTreeSet<TenantId>,
    peers: BTreeSet<NodeId>,
}

impl Seen {
    /// Tells the rules what changed.
    fn look(&mut self, shared: &Arc<Shared>) {
        let index = shared.control.index();
        if self.looked && index == self.index {
            return;
        }
        self.index = index;
        self.looked = true;
        shared.read_settings();
        let now = shared.now();
        let concerns = shared.control.concerns(shared.me);
        shared.engine(|engine| engine.on_nodes(concerns.regions, concerns.removed, now));
        let mut placed: BTreeMap<TenantId, Arc<Tenant>> =
            concerns.placed.into_iter().map(|tenant| (tenant.id, tenant)).collect();
        // What is held here and placed elsewhere has to be handed over.
        for tenant in shared.engine(|engine| engine.tenants().map(|(&tenant, _)| tenant).collect::<Vec<_>>()) {
            if !placed.contains_key(&tenant)
                && let Some(elsewhere) = shared.control.tenant(tenant)
            {
                placed.insert(tenant, elsewhere);
            }
        }
        let erasing: BTreeSet<TenantId> = concerns.erasing.into_iter().collect();
        let known = self.tenants.keys().chain(placed.keys());
        let all: BTreeSet<TenantId> = known.chain(&erasing).chain(&self.erasing).copied().collect();
        for tenant in all {
            let (before, after) = (self.tenants.get(&tenant), placed.get(&tenant));
            let is_same = match (before, after) {
                (Some(before), Some(after)) => Arc::ptr_eq(before, after),
                (None, None) => true,
                _ => false,
            };
            let is_erasing = erasing.contains(&tenant);
            if !is_same || is_erasing != self.erasing.contains(&tenant) {
                let after = after.cloned();
                shared.engine(|engine| engine.on_placement(tenant, after, is_erasing, now));
            }
        }
        self.tenants = placed;
        self.erasing = erasing;
        self.meet_peers(shared, now);
        self.cost = shared.now().saturating_sub(now);
    }

    /// A new peer gets a queue, and a digest at once.
    fn meet_peers(&mut self, shared: &Arc<Shared>, now: Duration) {
        let peers = shared.engine(|engine| engine.peers());
        for &peer in peers.difference(&self.peers) {
            link::outbox(shared, peer);
            shared.hurry_to(peer, now);
        }
        self.peers = peers;
    }
}
