//! Coverage of a live query: the entities that its answer rests on, and how they change with the triples.
//!
//! # What is covered
//!
//! Whole entities. A store that holds only the covered entities answers the query as the whole store does, and so does
//! one that holds further whole entities of the same state. Covered are
//!
//! - the subjects of all triples that make a binding, in whatever branch of an `or`, and in an `optional`;
//! - for a `not` that looks at entities of its own: the subjects of what keeps a binding out, and those of the bindings
//!   that are kept out ([`witness`] says when neither is needed);
//! - of an object: the entity, the entities in it, what their conditions rest on, and the steps of their orders;
//! - entities that the query names in a subject's place.
//!
//! An entity that is only referred to is not covered: the reference stands in the triple. What an aggregate counts is
//! covered, all of it.
//!
//! **Windows.** With a limit, only the rows of the window count, if each row's place is decided by what it rests on
//! itself: an order by fields of the entity, `not`s about entities that the row is made of, in a table no aggregates and
//! the key among the columns. Otherwise everything without the limit is covered. An include's limit goes by the same
//! rule. Rows behind a window that a store happens to hold stand where they stand on the node.
//!
//! **Rules.** Covered is every entity with a triple that any pattern of a rule takes. So whoever holds the covered
//! entities derives what the node derives, tuple by tuple, and a call is as good as a triple that is there. It is more
//! than the tuples that the query uses rest on: a rule is derived whole, there as here.
//!
//! # How
//!
//! Each key (see [`super`]) has a set of entities, found by witness queries for that key alone. A change leads to keys
//! by the query's triggers; their sets are found anew in the new state, and counts per entity say what comes and goes.
//! So the cost follows the change. What cannot be followed ([`Refused`]) cannot be covered.

mod of_rules;
mod supports;
#[cfg(test)]
mod tests;
mod witness;

use std::collections::HashMap;

use self::{
    of_rules::OfRules,
    supports::{Supports, keep_includes},
    witness::Witnesses,
};
use super::{
    AnswerDelta, Budget, Change, Delta, Derivation, Derived, Followed, Ground, Lost, Past, Query, Refused, Shape,
    Slots, Solver, Triggers, Triples, Value,
};
use crate::collections::{BTreeMap, BTreeSet};
use crate::{
    id::EntityId,
    query::{
        answer::Row,
        logic::{Expression, Term as Place},
        triples::{EntityNumber, Term},
    },
};

/// The entities that a query's answer rests on.
#[derive(Debug)]
pub struct Coverage {
    triggers: Triggers,
    budget: Budget,
    entities_max: usize,
    derived: Derived,
    of_rules: OfRules,
    supports: Supports,
    window: Option<Box<Window>>,
    /// What each key rests on, ascending.
    keys: BTreeMap<Term, Box<[EntityNumber]>>,
    /// How many entities stand in all of these.
    listed: usize,
    /// How many keys need an entity.
    counts: HashMap<EntityNumber, u32>,
    /// Entities that the query names, once they are known.
    named: BTreeMap<EntityId, Option<EntityNumber>>,
}

/// What a change did to coverage. Both ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CoverageChange {
    /// Entities that are needed now and were not.
    pub entered: Vec<EntityNumber>,
    /// Entities that were needed and are no longer.
    pub left: Vec<EntityNumber>,
}

/// The keys of the rows that show.
#[derive(Debug)]
struct Window {
    followed: Followed,
    /// In a table: the column of the key, and how many there are.
    column: Option<(usize, usize)>,
    shown: BTreeMap<Term, usize>,
}

impl Coverage {
    /// Finds what a query's answer rests on, at most so many entities.
    pub fn open<T: Triples + ?Sized>(
        query: &Query,
        store: &T,
        budget: Budget,
        entities_max: usize,
    ) -> Result<Self, Refused> {
        // An entity is covered whole: which of its fields are asked for decides nothing.
        let mut narrowed = query.clone();
        if let Shape::Entities { fields, .. } = &mut narrowed.select.shape {
            keep_includes(fields);
        }
        let mut triggers = Triggers::of(&narrowed)?;
        triggers.meet(store);
        let witnesses = Witnesses::of(query, triggers.key());
        let derived = Derived::open(query, store, budget)?;
        let window = Window::open((query, &triggers, &witnesses), store, derived.ground(budget))?;
        let named = triggers
            .all
            .iter()
            .filter_map(|trigger| match &trigger.pattern.subject {
                Place::Constant(Value::Ref(entity)) => Some((entity.clone(), None)),
                _ => None,
            });
        let mut coverage = Self {
            named: named.collect(),
            of_rules: OfRules::default(),
            supports: Supports::new(query, triggers.key(), witnesses),
            derived,
            triggers,
            budget,
            entities_max,
            window: window.map(Box::new),
            keys: BTreeMap::new(),
            listed: 0,
            counts: HashMap::new(),
        };
        let only = coverage
            .window
            .as_ref()
            .map(|window| window.shown.keys().copied().collect::<Vec<_>>());
        let ground = coverage.derived.ground(budget);
        let found = coverage.supports.find(only.as_deref(), store, ground)?;
        coverage.supports.narrow();
        let mut touched = BTreeMap::new();
        let of_rules = coverage.of_rules.open(&coverage.derived, store, entities_max);
        for entity in of_rules.ok_or(Refused::TooManyEntities(entities_max))? {
            coverage.count(entity, true, &mut touched);
        }
        for (key, entities) in found {
            coverage.put(key, entities, &mut touched);
        }
        coverage.name(store, &mut touched);
        if coverage.counts.len() > entities_max {
            return Err(Refused::TooManyEntities(entities_max));
        }
        Ok(coverage)
    }

    /// Takes in what a change set, or several, did to the triples that show; `store` shows them already.
    pub fn apply<T: Triples + ?Sized>(&mut self, delta: &Delta, store: &T) -> Result<CoverageChange, Lost> {
        let derived = self.derived.apply(delta, store, self.budget)?;
        let ground = self.derived.ground(self.budget);
        let past = Past {
            triples: &delta.removed,
            tuples: &derived.removed,
        };
        self.triggers.meet(store);
        let solver = Solver::new(store, ground, past);
        let mut keys = solver.candidates_by_presence(&self.triggers, delta, &derived)?;
        let mut gone = Vec::new();
        if let Some(window) = &mut self.window {
            keys.extend(window.apply((delta, &derived), store, ground)?);
            keys.sort_unstable();
            keys.dedup();
            let shows = |key: &Term| window.shown.contains_key(key);
            gone = keys.iter().copied().filter(|key| !shows(key)).collect();
            keys.retain(shows);
        }
        let mut found = if keys.is_empty() {
            BTreeMap::new()
        } else {
            self.supports.find(Some(&keys), store, ground)?
        };
        let mut touched = BTreeMap::new();
        for (entity, comes) in self.of_rules.follow(&self.derived, delta, store) {
            self.count(entity, comes, &mut touched);
        }
        for key in keys.into_iter().chain(gone) {
            let entities = found.remove(&key).unwrap_or_default();
            self.put(key, entities, &mut touched);
        }
        self.name(store, &mut touched);
        if self.counts.len() > self.entities_max {
            return Err(Lost::TooManyEntities(self.entities_max));
        }
        let mut change = CoverageChange::default();
        for (entity, was) in touched {
            match (was, self.contains(entity)) {
                (false, true) => change.entered.push(entity),
                (true, false) => change.left.push(entity),
                _ => {}
            }
        }
        Ok(change)
    }

    /// Reads a little of what [`Self::apply`] will read: see [`super::Live::warm`].
    pub fn warm(&self) -> usize {
        let first = self.keys.first_key_value();
        let held = first.map_or(0, |(_, entities)| {
            entities.first().map_or(0, |entity| entity.0 as usize)
        });
        let window = self.window.as_ref().map_or(0, |window| window.followed.warm());
        self.triggers.warm() + self.supports.warm() + held + window
    }

    /// Whether an entity is covered.
    pub fn contains(&self, entity: EntityNumber) -> bool {
        self.counts.contains_key(&entity)
    }

    /// All that is covered, ascending.
    pub fn entities(&self) -> Vec<EntityNumber> {
        let mut entities: Vec<EntityNumber> = self.counts.keys().copied().collect();
        entities.sort_unstable();
        entities
    }

    /// How many entities are covered.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// About how many bytes it takes in memory.
    pub fn bytes(&self) -> usize {
        let held = self.listed * size_of::<EntityNumber>();
        let window = self.window.as_ref().map_or(0, |window| {
            WINDOW_FIXED_BYTES + window.followed.held() * WINDOW_KEY_BYTES
        });
        let derived = self.derived.held() * TUPLE_BYTES + self.of_rules.len() * COUNT_BYTES;
        FIXED_BYTES
            + self.supports.bytes()
            + derived
            + held
            + self.keys.len() * KEY_BYTES
            + self.counts.len() * COUNT_BYTES
            + window
    }

    /// Where an index of triggers must look it up.
    pub(super) fn slots<T: Triples + ?Sized>(&self, store: &T) -> Slots {
        Slots::of([&self.triggers].into_iter().chain(self.derived.triggers()), store)
    }

    /// What a key rests on now. `touched` keeps whether an entity was covered before.
    fn put(&mut self, key: Term, entities: BTreeSet<EntityNumber>, touched: &mut BTreeMap<EntityNumber, bool>) {
        for entity in &entities {
            self.count(*entity, true, touched);
        }
        let now: Box<[EntityNumber]> = entities.into_iter().collect();
        self.listed += now.len();
        let before = if now.is_empty() {
            self.keys.remove(&key)
        } else {
            self.keys.insert(key, now)
        };
        self.listed -= before.as_ref().map_or(0, |before| before.len());
        for entity in before.into_iter().flatten() {
            self.count(entity, false, touched);
        }
    }

    fn count(&mut self, entity: EntityNumber, comes: bool, touched: &mut BTreeMap<EntityNumber, bool>) {
        touched
            .entry(entity)
            .or_insert_with(|| self.counts.contains_key(&entity));
        let count = self.counts.entry(entity).or_default();
        *count = if comes { *count + 1 } else { *count - 1 };
        if *count == 0 {
            self.counts.remove(&entity);
        }
    }

    /// Covers the entities that the query names, as soon as they have a number.
    fn name<T: Triples + ?Sized>(&mut self, store: &T, touched: &mut BTreeMap<EntityNumber, bool>) {
        let mut come = Vec::new();
        for (name, number) in self.named.iter_mut().filter(|(_, number)| number.is_none()) {
            *number = store.term(&Value::Ref(name.clone())).and_then(Term::as_entity);
            come.extend(*number);
        }
        for entity in come {
            self.count(entity, true, touched);
        }
    }
}

impl Window {
    /// Only for a query whose rows' places are decided by what they rest on.
    fn open<T: Triples + ?Sized>(
        (query, triggers, witnesses): (&Query, &Triggers, &Witnesses),
        store: &T,
        ground: Ground<'_>,
    ) -> Result<Option<Self>, Refused> {
        let has_limit = query.select.limit.is_some() || query.select.after.is_some();
        if !has_limit || !witnesses.can_window {
            return Ok(None);
        }
        let mut query = query.clone();
        let column = match &mut query.select.shape {
            Shape::Entities { fields, .. } => {
                fields.clear();
                None
            }
            Shape::Table(columns) => {
                let is_key = |column: &crate::query::logic::Column| column.value == Expression::Var(triggers.key());
                columns.iter().position(is_key).map(|place| (place, columns.len()))
            }
        };
        let mut window = Self {
            column,
            shown: BTreeMap::new(),
            followed: Followed::open(&query, store, ground)?,
        };
        for key in window.followed.mirror().keys() {
            *window.shown.entry(window.key_of(key, store)).or_default() += 1;
        }
        Ok(Some(window))
    }

    /// The keys whose rows came to show or ceased to.
    fn apply<T: Triples + ?Sized>(
        &mut self,
        change: (&Delta, &Derivation),
        store: &T,
        ground: Ground<'_>,
    ) -> Result<BTreeSet<Term>, Lost> {
        let AnswerDelta(changes) = self.followed.apply(change, store, ground)?;
        let mut keys = BTreeSet::new();
        for change in &changes {
            let (gone, come) = match change {
                Change::Removed(key) => (Some(key), None),
                Change::Added(key, _) => (None, Some(key)),
                Change::Changed { from, to, .. } => (Some(from), Some(to)),
            };
            if let Some(come) = come {
                let key = self.key_of(come, store);
                *self.shown.entry(key).or_default() += 1;
                keys.insert(key);
            }
            if let Some(gone) = gone {
                let key = self.key_of(gone, store);
                if let Some(count) = self.shown.get_mut(&key) {
                    *count -= 1;
                    if *count == 0 {
                        self.shown.remove(&key);
                    }
                }
                keys.insert(key);
            }
        }
        Ok(keys)
    }

    fn key_of<T: Triples + ?Sized>(&self, key: &super::Key, store: &T) -> Term {
        let value = self.column.map_or_else(
            || Some(key.id()),
            |(column, columns)| {
                let row: Row = key.row(columns);
                row.into_iter().nth(column).and_then(|datum| datum.value().cloned())
            },
        );
        let value = value.expect("the body binds its key");
        store.term(&value).expect("a store knows what it has shown")
    }
}

/// About what a coverage takes by itself, counted by an allocator (`core/tests/live_memory.rs`): its triggers and its
/// place among them; and what its window takes besides.
const FIXED_BYTES: usize = 3 << 10;
const WINDOW_FIXED_BYTES: usize = 5 << 10;

/// About what a key takes in a tree, a count in a table, and a key of a window in its index.
const KEY_BYTES: usize = 48;
const COUNT_BYTES: usize = 12;
const WINDOW_KEY_BYTES: usize = 160;

/// About what a tuple of a rule takes.
pub(super) const TUPLE_BYTES: usize = 80;
