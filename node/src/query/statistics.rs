//! How many triples, subjects and objects a predicate has, and where its values lie: counted when a query first asks,
//! kept for the tenant, counted again when the tenant has changed by a quarter.
//!
//! What was counted in an earlier state is an estimate. Where the engine concludes from a count that something is not
//! there, the store gives it only what holds of its own state (see [`super::store`]).

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use halcyon_core::id::TenantId;

use super::{
    limits::{BOUNDS_MAX, COUNT_LOOK_EVERY, COUNTED_ROWS_MAX, PREDICATES_KEPT_MAX, TENANTS_KEPT_MAX},
    store::Fault,
};
use crate::storage::{
    types::Summary,
    view::{TenantView, Values},
};

/// Of all tenants on a node. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Statistics {
    tenants: Arc<Mutex<BTreeMap<TenantId, Arc<OfTenant>>>>,
}

/// Of one tenant.
#[derive(Debug, Default)]
pub(super) struct OfTenant {
    predicates: Mutex<BTreeMap<u32, Arc<OfPredicate>>>,
    /// Entities of types, and in which state there were so many.
    types: Mutex<BTreeMap<String, (Summary, u64)>>,
}

/// Of one predicate.
#[derive(Debug, Clone)]
pub(super) struct OfPredicate {
    /// The state that was counted.
    summary: Summary,
    pub(super) triples: u64,
    pub(super) subjects: u64,
    pub(super) objects: u64,
    /// Every so many rows, the place of one.
    bounds: Vec<Box<[u8]>>,
    step: u64,
    /// Whether all rows were counted.
    whole: bool,
}

impl Statistics {
    pub(super) fn of(&self, tenant: TenantId) -> Arc<OfTenant> {
        let mut tenants = lock(&self.tenants);
        if tenants.len() >= TENANTS_KEPT_MAX && !tenants.contains_key(&tenant) {
            tenants.pop_first();
        }
        Arc::clone(tenants.entry(tenant).or_default())
    }
}

impl OfTenant {
    /// A predicate's, counted now if they are not known or too old.
    pub(super) fn predicate(
        &self,
        view: &TenantView,
        predicate: u32,
        go_on: &dyn Fn() -> Result<(), Fault>,
    ) -> Result<Arc<OfPredicate>, Fault> {
        let held = lock(&self.predicates).get(&predicate).cloned();
        if let Some(held) = held.filter(|held| held.is_fresh(view.summary())) {
            return Ok(held);
        }
        let counted = Arc::new(count(view, predicate, go_on)?);
        let mut predicates = lock(&self.predicates);
        if predicates.len() >= PREDICATES_KEPT_MAX && !predicates.contains_key(&predicate) {
            predicates.pop_first();
        }
        predicates.insert(predicate, Arc::clone(&counted));
        Ok(counted)
    }

    /// How many entities may have a triple of a type in this state; counting ends at `max`.
    pub(super) fn entities_at_most(&self, view: &TenantView, entity_type: &str, max: u64) -> Result<u64, Fault> {
        if let Some((summary, count)) = lock(&self.types).get(entity_type)
            && summary == view.summary()
        {
            return Ok(*count);
        }
        let count = view.entities_at_most(entity_type, max)?;
        let mut types = lock(&self.types);
        if types.len() >= PREDICATES_KEPT_MAX {
            types.clear();
        }
        types.insert(entity_type.to_owned(), (view.summary().clone(), count));
        Ok(count)
    }
}

impl OfPredicate {
    /// Whether it says exactly what is in this state.
    pub(super) fn is_exact(&self, now: &Summary) -> bool {
        self.whole && self.summary == *now
    }

    /// Whether it is still a good estimate.
    fn is_fresh(&self, now: &Summary) -> bool {
        let since = writes(now).abs_diff(writes(&self.summary));
        let apart = now.triples.abs_diff(self.summary.triples);
        since <= self.summary.triples / 4 + 64 && apart <= self.summary.triples / 4 + 64
    }

    /// How many rows lie between two places, about.
    pub(super) fn between(&self, from: &[u8], to: Option<&[u8]>) -> u64 {
        let before = |place: &[u8]| self.bounds.partition_point(|bound| **bound < *place) as u64 * self.step;
        let end = to.map_or(self.triples, before).min(self.triples);
        end.saturating_sub(before(from))
    }
}

/// How many change sets a replica has taken in.
fn writes(summary: &Summary) -> u64 {
    summary.seen.iter().fold(0, |sum: u64, tag| sum.wrapping_add(tag.seq.0))
}

fn count(view: &TenantView, predicate: u32, go_on: &dyn Fn() -> Result<(), Fault>) -> Result<OfPredicate, Fault> {
    let all = Values {
        predicate,
        from: &[],
        to: None,
        descending: false,
    };
    let mut bounds: Vec<Box<[u8]>> = Vec::new();
    let (mut step, mut rows, mut objects) = (1_u64, 0_u64, 0_u64);
    let mut last: Vec<u8> = Vec::new();
    let mut subjects = Subjects::default();
    let mut fault = None;
    let ended = view.values(all, &mut |row| {
        if rows.is_multiple_of(COUNT_LOOK_EVERY)
            && let Err(error) = go_on()
        {
            fault = Some(error);
            return ControlFlow::Break(());
        }
        if rows == 0 || last != row.value {
            objects += 1;
            last.clear();
            last.extend_from_slice(row.value);
        }
        subjects.add(row.subject);
        if rows.is_multiple_of(step) {
            bounds.push(row.value.into());
            if bounds.len() > BOUNDS_MAX {
                let mut at = 0;
                bounds.retain(|_| {
                    at += 1;
                    at % 2 == 1
                });
                step *= 2;
            }
        }
        rows += 1;
        if rows < COUNTED_ROWS_MAX {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    if let Some(fault) = fault {
        return Err(fault);
    }
    let mut counted = OfPredicate {
        summary: view.summary().clone(),
        triples: rows,
        subjects: subjects.count,
        objects,
        bounds,
        step,
        whole: ended.is_continue(),
    };
    if !counted.whole {
        // What is behind is as what was counted; no more is known than that there is more.
        let triples = view.summary().triples.max(rows);
        let more = |part: u64| part.saturating_mul(triples) / rows.max(1);
        counted.objects = more(objects);
        counted.subjects = more(subjects.count).min(u64::from(view.subjects_end()));
        counted.triples = triples;
    }
    Ok(counted)
}

/// Different subjects: a bit for each.
#[derive(Default)]
struct Subjects {
    bits: Vec<u64>,
    count: u64,
}

impl Subjects {
    fn add(&mut self, subject: u32) {
        let (word, bit) = (subject as usize / 64, 1_u64 << (subject % 64));
        if self.bits.len() <= word {
            self.bits.resize(word + 1 + word / 4, 0);
        }
        self.count += u64::from(self.bits[word] & bit == 0);
        self.bits[word] |= bit;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
