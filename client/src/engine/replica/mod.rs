//! The local store: what nodes have confirmed, who needs it, and the pending sets over it.
//!
//! Changes gather until [`Replica::take_moves`]: queries then move over all of them in one step.
//!
//! What always holds:
//! - an entity is here while a query counts it or a pending set touches it, and not for longer;
//! - an entity that a node sends as entered replaces what was here of it: it comes whole.

mod anew;

use std::sync::Arc;

use halcyon_core::collections::{BTreeMap, BTreeSet};
use halcyon_core::{
    change::{Change, ChangeSet},
    clock::Timestamp,
    codec::DecodeError,
    fingerprint::Fingerprint,
    graph::{Delta, EntityNumber, Graph, SetId, Triple},
    id::{EntityId, NodeId, OriginId, Seq, Tag},
    query::triples::Triples,
};

use super::{QueryId, answered::AnswerPart, numbers::Numbers, view::View};
use crate::session::Place;

/// Under which tag confirmed changes lie here: nodes do not tell clients where a change was committed.
const CONFIRMED: Tag = Tag {
    origin: OriginId {
        node: NodeId(0),
        incarnation: 0,
    },
    seq: Seq(0),
};

/// So many entities that come at once go into the indexes all at once.
const LOAD_FROM: usize = 256;

/// A set that shows and is not part of what is confirmed.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) place: Place,
    pub(super) set: ChangeSet,
    /// A node has taken it.
    pub(super) tag: Option<Tag>,
}

/// What one subscription is sent at a time.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    pub(super) query: QueryId,
    /// Of the answer itself, in place of all else.
    pub(super) answer: Option<AnswerPart>,
    /// Shared by subscriptions that are sent the same.
    pub(super) sets: Arc<[ChangeSet]>,
    pub(super) entered: Vec<EntityId>,
    pub(super) left: Vec<EntityId>,
    /// It adds, and never removes.
    pub(super) is_stale: bool,
}

/// What changed since it was asked last.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Of all that shows. Sorted.
    delta: Delta,
    /// Entities whose place in a query's coverage changed: whether they were in it before.
    covered: BTreeMap<QueryId, BTreeMap<EntityNumber, bool>>,
    /// Entities that pending sets touch now or did before: whether they did.
    pending: BTreeMap<EntityNumber, bool>,
}

/// What a disk has not been told.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    pub(super) entities: BTreeSet<EntityNumber>,
    pub(super) covered: BTreeSet<(QueryId, EntityNumber)>,
}

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Replica {
    graph: Graph,
    /// How many queries need an entity, by its number.
    counts: Vec<u32>,
    covered: BTreeMap<QueryId, Numbers>,
    pending: BTreeMap<SetId, Pending>,
    places: BTreeMap<Place, SetId>,
    moves: Moves,
    unsaved: Unsaved,
    /// Much arrives: the indexes take it in at once, at the end.
    is_load: bool,
}

impl Replica {
    pub(super) const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// All that is here, or what is covered for one query.
    pub(super) fn view(&self, of: Option<QueryId>) -> View<'_> {
        const NONE: &Numbers = &Numbers::NONE;
        View {
            graph: &self.graph,
            covered: of.map(|query| self.covered.get(&query).unwrap_or(NONE)),
        }
    }

    pub(super) fn covered(&self, query: QueryId) -> impl Iterator<Item = EntityNumber> + '_ {
        self.covered.get(&query).into_iter().flat_map(Numbers::iter)
    }

    pub(super) fn covers(&self, query: QueryId, entity: EntityNumber) -> bool {
        self.covered.get(&query).is_some_and(|covered| covered.contains(entity))
    }

    pub(super) fn covered_count(&self, query: QueryId) -> usize {
        self.covered.get(&query).map_or(0, Numbers::len)
    }

    /// Whether a query counts the entity, or a pending set touches it.
    pub(super) fn is_needed(&self, entity: EntityNumber) -> bool {
        self.counts.get(entity.0 as usize).is_some_and(|count| *count > 0) || self.graph.is_pending(entity)
    }

    pub(super) fn pending(&self) -> impl Iterator<Item = &Pending> {
        self.pending.values()
    }

    pub(super) fn pending_at(&self, place: Place) -> Option<&Pending> {
        self.pending.get(self.places.get(&place)?)
    }

    /// Shows a set over what is confirmed. One that shows already, by its client and number, is replaced.
    pub(super) fn propose(&mut self, pending: Pending) {
        let id = SetId::of(&pending.set);
        let held = self.pending.remove(&id);
        let touched = held.iter().map(|held| &held.set).chain([&pending.set]);
        self.note_pending(touched.flat_map(subjects));
        if let Some(held) = &held {
            self.places.remove(&held.place);
            let delta = self.graph.withdraw(id);
            self.moves.delta.extend(delta);
        }
        let delta = self.graph.propose(&pending.set);
        self.moves.delta.extend(delta);
        self.places.insert(pending.place, id);
        self.pending.insert(id, pending);
        for subject in held.iter().flat_map(|held| subjects(&held.set)) {
            self.evict(&subject);
        }
    }

    /// Takes a set away, and what it alone showed.
    pub(super) fn withdraw(&mut self, place: Place) -> Option<Pending> {
        let id = self.places.remove(&place)?;
        let pending = self.pending.remove(&id)?;
        self.note_pending(subjects(&pending.set));
        let delta = self.graph.withdraw(id);
        self.moves.delta.extend(delta);
        for subject in subjects(&pending.set) {
            self.evict(&subject);
        }
        Some(pending)
    }

    /// A node has taken the set; it shows until queries know of it.
    pub(super) fn acknowledge(&mut self, place: Place, tag: Tag) {
        if let Some(pending) = self.places.get(&place).and_then(|id| self.pending.get_mut(id)) {
            pending.tag = Some(tag);
        }
    }

    /// Begins to take in what subscriptions were sent: up to [`Self::end_arrivals`] nothing is read here.
    pub(super) fn begin_arrivals(&mut self, arrivals: &[Arrival]) {
        let entered: usize = arrivals.iter().map(|arrival| arrival.entered.len()).sum();
        self.is_load = entered >= LOAD_FROM;
    }

    /// Ends what [`Self::begin_arrivals`] began.
    pub(super) fn end_arrivals(&mut self) {
        self.is_load = false;
        self.graph.end_load();
    }

    /// Takes in what a subscription was sent. What enters takes the place of what was here of it. If another has just
    /// been sent the same sets, they are in already. Between [`Self::begin_arrivals`] and [`Self::end_arrivals`].
    pub(super) fn arrive(&mut self, arrival: &Arrival, is_in: bool) {
        if is_in && arrival.entered.is_empty() && arrival.left.is_empty() {
            return;
        }
        for entity in arrival.entered.iter().filter(|_| !arrival.is_stale) {
            let delta = self.graph.forget(entity, None);
            self.moves.delta.extend(delta);
        }
        // To forget what was here ends a load: it comes first, and the load goes on behind it.
        if self.is_load {
            self.graph.begin_load();
        }
        for set in &*arrival.sets {
            self.confirm(set);
        }
        for entity in &arrival.entered {
            self.cover(arrival.query, entity);
        }
        for entity in arrival.left.iter().filter(|_| !arrival.is_stale) {
            self.uncover(arrival.query, entity);
        }
        // What nobody counts was not to come.
        for subject in arrival.sets.iter().flat_map(runs) {
            self.evict(subject);
        }
    }

    /// Takes in confirmed changes.
    pub(super) fn confirm(&mut self, set: &ChangeSet) {
        let delta = self.graph.apply_set(CONFIRMED, set);
        self.moves.delta.extend(delta);
        let numbers = runs(set).filter_map(|subject| self.graph.dictionary().entity_number(subject));
        self.unsaved.entities.extend(numbers);
    }

    /// Takes in an encoded set that a disk kept, between [`Self::begin_restore`] and [`Self::end_restore`]: it moves
    /// nothing.
    pub(super) fn restore(&mut self, set: &[u8]) -> Result<(), DecodeError> {
        let dictionary = self.graph.dictionary();
        let set = ChangeSet::decode_among(set, &|name| dictionary.predicate_named(name).cloned())?;
        self.graph.apply_set(CONFIRMED, &set);
        Ok(())
    }

    /// What a disk kept of an entity is out of date.
    pub(super) fn forget(&mut self, entity: &EntityId) {
        if self.graph.is_known(entity) {
            self.graph.forget(entity, None);
        }
    }

    pub(super) fn begin_restore(&mut self) {
        self.graph.begin_load();
    }

    pub(super) fn end_restore(&mut self) {
        self.graph.end_load();
    }

    /// A query needs an entity that a disk kept.
    pub(super) fn restore_cover(&mut self, query: QueryId, entity: &EntityId) {
        let number = self.graph.intern_entity(entity);
        self.count(query, number);
    }

    /// A query needs an entity. Nothing may be known of it yet: what is written to it comes as a change, as to any other.
    pub(super) fn cover(&mut self, query: QueryId, entity: &EntityId) {
        let number = self.graph.intern_entity(entity);
        if self.count(query, number) {
            self.note_covered(query, number, false);
        }
    }

    /// False if the query counts it already.
    fn count(&mut self, query: QueryId, number: EntityNumber) -> bool {
        let is_new = self.covered.entry(query).or_default().insert(number);
        if is_new {
            let at = number.0 as usize;
            if self.counts.len() <= at {
                self.counts.resize(at + 1, 0);
            }
            self.counts[at] += 1;
        }
        is_new
    }

    /// A query needs an entity no longer.
    pub(super) fn uncover(&mut self, query: QueryId, entity: &EntityId) {
        let Some(number) = self.graph.dictionary().entity_number(entity) else {
            return;
        };
        let held = self.covered.get_mut(&query);
        if held.is_some_and(|covered| covered.remove(number)) {
            self.counts[number.0 as usize] -= 1;
            self.note_covered(query, number, true);
            self.evict(entity);
        }
    }

    /// A query is gone, with all that it alone needed.
    pub(super) fn uncover_all(&mut self, query: QueryId) {
        let numbers: Vec<EntityNumber> = self.covered(query).collect();
        for number in numbers {
            let entity = self.graph.dictionary().entity(number).clone();
            self.uncover(query, &entity);
        }
        self.covered.remove(&query);
    }

    /// The entities of a query's coverage that `keep` does not keep.
    pub(super) fn covered_without(&self, query: QueryId, keep: &BTreeSet<EntityId>) -> Vec<EntityId> {
        let entities = self.covered(query).map(|number| self.graph.dictionary().entity(number));
        entities.filter(|entity| !keep.contains(*entity)).cloned().collect()
    }

    pub(super) fn fingerprint(&self, entity: EntityNumber) -> Fingerprint {
        self.graph.fingerprint_of_entity(entity)
    }

    /// Ends a step: what changed, for the queries to follow.
    pub(super) fn take_moves(&mut self) -> Moves {
        let mut moves = std::mem::take(&mut self.moves);
        let mut delta = moves.delta.net();
        // Most of it comes in order.
        for triples in [&mut delta.added, &mut delta.removed] {
            if !triples.is_sorted() {
                triples.sort_unstable();
            }
        }
        moves.delta = delta;
        moves
    }

    pub(super) fn take_unsaved(&mut self) -> Unsaved {
        std::mem::take(&mut self.unsaved)
    }

    /// Drops an entity that neither a query nor a pending set needs.
    fn evict(&mut self, entity: &EntityId) {
        let Some(number) = self.graph.dictionary().entity_number(entity) else {
            return;
        };
        if !self.is_needed(number) {
            let delta = self.graph.forget(entity, None);
            self.moves.delta.extend(delta);
            self.unsaved.entities.insert(number);
        }
    }

    fn note_covered(&mut self, query: QueryId, number: EntityNumber, was: bool) {
        let moved = self.moves.covered.entry(query).or_default();
        moved.entry(number).or_insert(was);
        self.unsaved.covered.insert((query, number));
    }

    fn note_pending(&mut self, subjects: impl IntoIterator<Item = EntityId>) {
        for subject in subjects {
            // One that is new here shows nothing before.
            if let Some(number) = self.graph.dictionary().entity_number(&subject) {
                let was = self.graph.is_pending(number);
                self.moves.pending.entry(number).or_insert(was);
            }
        }
    }
}

impl Moves {
    pub(super) fn is_empty(&self) -> bool {
        self.delta.is_empty() && self.covered.is_empty() && self.pending.is_empty()
    }

    /// Queries whose coverage changed.
    pub(super) fn queries(&self) -> impl Iterator<Item = QueryId> + '_ {
        self.covered.keys().copied()
    }

    /// Shows every triple that may have come or gone in some query's view, coverage aside.
    pub(super) fn each_triple(&self, graph: &Graph, mut show: impl FnMut(&Triple)) {
        self.delta.added.iter().chain(&self.delta.removed).for_each(&mut show);
        for &entity in self.pending.keys() {
            shown(graph, entity).iter().for_each(&mut show);
        }
    }

    /// What changed in what a query sees.
    pub(super) fn delta_of(&self, query: QueryId, view: View<'_>) -> Delta {
        let Some(covered) = view.covered else {
            return self.delta.clone();
        };
        let was_covered = self.covered.get(&query);
        let is_seen = |entity: EntityNumber| covered.contains(entity) || view.graph.is_pending(entity);
        let was_seen = |entity: EntityNumber| {
            let was_covered = was_covered.and_then(|moved| moved.get(&entity).copied());
            let was_pending = self.pending.get(&entity).copied();
            was_covered.unwrap_or_else(|| covered.contains(entity))
                || was_pending.unwrap_or_else(|| view.graph.is_pending(entity))
        };
        let stays = |triple: &&Triple| was_seen(triple.subject) && is_seen(triple.subject);
        let mut delta = Delta {
            added: self.delta.added.iter().filter(stays).copied().collect(),
            removed: self.delta.removed.iter().filter(stays).copied().collect(),
        };
        let moved = was_covered
            .into_iter()
            .flat_map(BTreeMap::keys)
            .chain(self.pending.keys());
        let moved: BTreeSet<EntityNumber> = moved.copied().collect();
        for entity in moved {
            match (was_seen(entity), is_seen(entity)) {
                (false, true) => delta.added.extend(shown(view.graph, entity)),
                (true, false) => {
                    let came = of(&self.delta.added, entity);
                    let stayed = shown(view.graph, entity).into_iter();
                    delta
                        .removed
                        .extend(stayed.filter(|triple| came.binary_search(triple).is_err()));
                    delta.removed.extend_from_slice(of(&self.delta.removed, entity));
                }
                _ => {}
            }
        }
        delta
    }
}

/// What is confirmed of an entity, as the sets that make it.
pub(super) fn confirmed_sets(graph: &Graph, entity: EntityNumber) -> impl Iterator<Item = ChangeSet> {
    let mut sets: BTreeMap<Timestamp, Vec<Change>> = BTreeMap::new();
    graph.confirmed(entity, |timestamp, change| {
        sets.entry(timestamp).or_default().push(change);
    });
    sets.into_iter().map(|(timestamp, changes)| ChangeSet {
        timestamp,
        number: 0,
        changes,
    })
}

/// The triples of one entity in a sorted list.
fn of(sorted: &[Triple], entity: EntityNumber) -> &[Triple] {
    let from = sorted.partition_point(|triple| triple.subject < entity);
    let len = sorted[from..].partition_point(|triple| triple.subject == entity);
    &sorted[from..from + len]
}

fn shown(graph: &Graph, subject: EntityNumber) -> Vec<Triple> {
    let mut fields = Vec::new();
    graph.fields(subject, &mut fields);
    let triples = fields.into_iter().map(|(predicate, object)| Triple {
        subject,
        predicate,
        object,
    });
    triples.collect()
}

/// The entities that a set changes, one after the other; one that other changes part may come again.
fn runs(set: &ChangeSet) -> impl Iterator<Item = &EntityId> {
    let mut last = None;
    let subjects = set.changes.iter().filter_map(|change| change.subject());
    subjects.filter(move |subject| last.replace(*subject) != Some(*subject))
}

/// The entities that a set changes.
fn subjects(set: &ChangeSet) -> BTreeSet<EntityId> {
    set.changes
        .iter()
        .filter_map(|change| change.subject().cloned())
        .collect()
}
