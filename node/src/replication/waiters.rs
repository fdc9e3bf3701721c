//! Calls that wait until a replica of another region has a commit.
//!
//! A call that gives up, or whose caller went away, leaves nothing behind: its place is freed with it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use halcyon_core::id::{Tag, TenantId};
use tokio::sync::oneshot;

use super::limits::REGION_WAITERS_MAX;

/// All that wait on a node.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    count: usize,
    by_tenant: BTreeMap<TenantId, BTreeMap<u64, (Tag, oneshot::Sender<()>)>>,
}

/// A place among them, until it is dropped.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    waiters: &'a Waiters,
    tenant: TenantId,
    place: u64,
    answered: oneshot::Receiver<()>,
}

impl Waiters {
    /// A place to wait in; `None` when too many wait already.
    pub(super) fn wait(&self, tenant: TenantId, tag: Tag) -> Option<Waiting<'_>> {
        let (sender, answered) = oneshot::channel();
        let mut state = self.lock();
        if state.count >= REGION_WAITERS_MAX {
            return None;
        }
        let place = state.next;
        state.next += 1;
        state.count += 1;
        state.by_tenant.entry(tenant).or_default().insert(place, (tag, sender));
        Some(Waiting {
            waiters: self,
            tenant,
            place,
            answered,
        })
    }

    /// Answers those of a tenant whose commit is there by now.
    pub(super) fn answer(&self, tenant: TenantId, is_there: impl Fn(Tag) -> bool) {
        let mut state = self.lock();
        let Some(waiting) = state.by_tenant.get_mut(&tenant) else {
            return;
        };
        let before = waiting.len();
        for (_, (_, answer)) in waiting.extract_if(.., |_, (tag, _)| is_there(*tag)) {
            // It gave up just now.
            let _ = answer.send(());
        }
        let (left, is_empty) = (before - waiting.len(), waiting.is_empty());
        if is_empty {
            state.by_tenant.remove(&tenant);
        }
        state.count -= left;
    }

    /// How many wait.
    pub(super) fn count(&self) -> usize {
        self.lock().count
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting<'_> {
    /// Returns when the commit is there.
    pub(super) async fn answered(&mut self) {
        // The sender is only dropped unsent with this place.
        let _ = (&mut self.answered).await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.waiters.lock();
        let Some(waiting) = state.by_tenant.get_mut(&self.tenant) else {
            return;
        };
        let was_there = waiting.remove(&self.place).is_some();
        if waiting.is_empty() {
            state.by_tenant.remove(&self.tenant);
        }
        state.count -= usize::from(was_there);
    }
}

#[cfg(test)]
mod tests {
    use halcyon_core::id::{NodeId, OriginId, Seq};

    use super::*;
    use crate::replication::fixtures::tenant_id;

    fn tag(seq: u64) -> Tag {
        let (node, incarnation) = (NodeId(1), 1);
        let origin = OriginId { node, incarnation };
        Tag { origin, seq: Seq(seq) }
    }

    #[test]
    fn who_gives_up_and_who_is_answered_leave_no_place_taken() {
        let waiters = Waiters::default();
        let mut first = waiters.wait(tenant_id(), tag(1)).unwrap();
        let second = waiters.wait(tenant_id(), tag(2)).unwrap();
        assert_eq!(waiters.count(), 2);
        drop(second);
        assert_eq!(waiters.count(), 1);
        waiters.answer(tenant_id(), |tag| tag.seq == Seq(1));
        assert!(first.answered.try_recv().is_ok());
        assert_eq!(waiters.count(), 0);
        drop(first);
        assert_eq!((waiters.count(), waiters.lock().by_tenant.len()), (0, 0));
    }

    #[test]
    fn there_is_a_bound_and_who_leaves_makes_room() {
        let waiters = Waiters::default();
        let mut all: Vec<_> = (1..)
            .map_while(|seq| waiters.wait(tenant_id(), tag(seq)))
            .take(REGION_WAITERS_MAX)
            .collect();
        assert!(waiters.wait(tenant_id(), tag(1)).is_none());
        all.pop();
        assert!(waiters.wait(tenant_id(), tag(1)).is_some());
    }
}
