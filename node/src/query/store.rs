//! One tenant's triples as the engine asks for them.
//!
//! The engine takes some of what a store counts as proof: a predicate with as many subjects as triples has one value for
//! each, and a type has no entity beyond those that were counted. So here
//!
//! - a predicate under which no element was ever written has one value a subject, whatever was counted, and one under
//!   which elements were written never says so;
//! - entities of a type are counted in the store's own state, and not told where an older count could be taken for it.

use std::{
    cell::{Cell, RefCell},
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
};

use halcyon_core::{
    codec::DecodeError,
    graph::{EntityNumber, Entry, PredicateNumber, Term},
    id::Predicate,
    query::triples::{Objects, Scan, Statistics, StoreFailure, Triples},
    value::Value,
};

use super::{
    limits::{ENTITIES_COUNTED_MAX, ESTIMATE_ROWS, LOOK_EVERY},
    memo::Memo,
    range::Range,
    statistics::{OfPredicate, OfTenant},
};
use crate::storage::{
    types::StorageError,
    view::{KnownPredicate, TenantView},
};

/// Why a store answers with nothing from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// It could not be read.
    Read(Arc<str>),
    /// Its names and texts take too much memory.
    Memory,
    /// Whoever asked wants no more.
    Stopped,
}

impl Fault {
    pub(super) fn read(text: &str) -> Self {
        Self::Read(text.into())
    }

    pub(super) fn damaged(error: &DecodeError) -> Self {
        Self::Read(format!("a value in the index is damaged: {error}").into())
    }
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        Self::Read(error.to_string().into())
    }
}

/// What a query may take of a store.
#[derive(Clone, Copy)]
pub(super) struct Bounds<'a> {
    /// Whether to go on.
    pub(super) go_on: &'a dyn Fn() -> bool,
    /// Bytes of names and texts.
    pub(super) bytes_max: usize,
}

/// See the module's page.
pub(super) struct Store<'a> {
    pub(super) view: TenantView,
    statistics: Arc<OfTenant>,
    bounds: Bounds<'a>,
    pub(super) memo: RefCell<Memo>,
    predicates: RefCell<BTreeMap<u32, KnownPredicate>>,
    /// Subjects of predicates that were told from an older count.
    guessed: RefCell<BTreeSet<u64>>,
    pub(super) group: RefCell<Option<super::range::Group>>,
    fault: RefCell<Option<Fault>>,
    looks: Cell<u32>,
}

impl<'a> Store<'a> {
    pub(super) fn new(view: TenantView, statistics: Arc<OfTenant>, bounds: Bounds<'a>) -> Self {
        Self {
            view,
            statistics,
            bounds,
            memo: RefCell::default(),
            predicates: RefCell::default(),
            guessed: RefCell::default(),
            group: RefCell::default(),
            fault: RefCell::default(),
            looks: Cell::new(0),
        }
    }

    /// Why it answers with nothing.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.borrow().clone()
    }

    /// What came of reading, or the default once reading has failed.
    fn held<T: Default>(&self, read: impl FnOnce() -> Result<T, Fault>) -> T {
        if self.fault.borrow().is_some() {
            return T::default();
        }
        let done = read().and_then(|found| {
            if self.memo.borrow().bytes() > self.bounds.bytes_max {
                return Err(Fault::Memory);
            }
            Ok(found)
        });
        done.unwrap_or_else(|fault| {
            self.fault.borrow_mut().get_or_insert(fault);
            T::default()
        })
    }

    /// Asks now and then whether to go on.
    pub(super) fn look(&self) -> Result<(), Fault> {
        let looks = self.looks.get().wrapping_add(1);
        self.looks.set(looks);
        if !looks.is_multiple_of(LOOK_EVERY) {
            return Ok(());
        }
        if self.memo.borrow().bytes() > self.bounds.bytes_max {
            return Err(Fault::Memory);
        }
        self.go_on()
    }

    fn go_on(&self) -> Result<(), Fault> {
        if (self.bounds.go_on)() {
            Ok(())
        } else {
            Err(Fault::Stopped)
        }
    }

    pub(super) fn term_of(&self, encoded: &[u8]) -> Result<Term, Fault> {
        self.memo.borrow_mut().term_of(&self.view, encoded)
    }

    pub(super) fn value_of(&self, term: Term) -> Result<Value, Fault> {
        self.memo.borrow_mut().value(&self.view, term)
    }

    fn known(&self, number: PredicateNumber) -> Result<KnownPredicate, Fault> {
        if let Some(known) = self.predicates.borrow().get(&number.0) {
            return Ok(known.clone());
        }
        self.load()?;
        let known = self.predicates.borrow().get(&number.0).cloned();
        known.ok_or_else(|| Fault::read("the index has no name for a predicate"))
    }

    fn load(&self) -> Result<(), Fault> {
        let all = self.view.predicates()?;
        let mut predicates = self.predicates.borrow_mut();
        predicates.extend(all.into_iter().map(|known| (known.number, known)));
        Ok(())
    }

    /// Whether an entity may have several values of a predicate.
    pub(super) fn has_elements(&self, number: PredicateNumber) -> Result<bool, Fault> {
        if let Some(known) = self.predicates.borrow().get(&number.0) {
            return Ok(known.elements);
        }
        Ok(self.known(number)?.elements)
    }

    fn counted(&self, number: PredicateNumber) -> Result<Arc<OfPredicate>, Fault> {
        self.statistics.predicate(&self.view, number.0, &|| self.go_on())
    }

    fn told(&self, counted: &OfPredicate, triples: u64, subjects: u64) -> Statistics {
        if !counted.is_exact(self.view.summary()) {
            self.guessed.borrow_mut().insert(subjects);
        }
        Statistics {
            triples,
            subjects,
            objects: counted.objects,
        }
    }

    fn read_values(&self, subject: EntityNumber, predicate: u32, out: &mut Vec<Term>) -> Result<(), Fault> {
        let mut encoded = Vec::new();
        if self.has_elements(PredicateNumber(predicate))? {
            let first = out.len();
            let mut ends = Vec::new();
            self.view.cells(subject.0, Some(predicate), &mut |_, value| {
                encoded.extend_from_slice(value);
                ends.push(encoded.len());
            })?;
            let mut start = 0;
            for end in ends {
                let term = self.term_of(&encoded[start..end])?;
                // The register comes first; an element may hold the same.
                if out.get(first) != Some(&term) {
                    out.push(term);
                }
                start = end;
            }
            return Ok(());
        }
        self.view
            .register(subject.0, predicate, &mut |value| encoded.extend_from_slice(value))?;
        if !encoded.is_empty() {
            out.push(self.term_of(&encoded)?);
        }
        Ok(())
    }

    fn read_fields(&self, subject: EntityNumber, out: &mut Vec<(PredicateNumber, Term)>) -> Result<(), Fault> {
        let (mut encoded, mut cells) = (Vec::new(), Vec::new());
        self.view.cells(subject.0, None, &mut |predicate, value| {
            encoded.extend_from_slice(value);
            cells.push((predicate, encoded.len()));
        })?;
        let mut start = 0;
        // The first of the predicate's run: a register may hold what an element holds too.
        let mut register: Option<(PredicateNumber, Term)> = None;
        for (predicate, end) in cells {
            let field = (PredicateNumber(predicate), self.term_of(&encoded[start..end])?);
            start = end;
            if register == Some(field) {
                continue;
            }
            if register.is_none_or(|(held, _)| held != field.0) {
                register = Some(field);
            }
            out.push(field);
        }
        Ok(())
    }

    fn count_of(&self, number: PredicateNumber, objects: Objects<'_>, max: u64) -> Result<(u64, bool), Fault> {
        let range = Range::new(self, number, objects)?;
        let mut count = 0;
        let ended = range.count(self, &mut || {
            count += 1;
            if count < max {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        Ok((count, ended.is_continue()))
    }
}

impl Triples for Store<'_> {
    fn predicate_number(&self, predicate: &Predicate) -> Option<PredicateNumber> {
        self.held(|| {
            let known = self.view.predicate(predicate)?;
            Ok(known.map(|known| {
                let number = PredicateNumber(known.number);
                self.predicates.borrow_mut().insert(number.0, known);
                number
            }))
        })
    }

    fn predicate(&self, number: PredicateNumber) -> Predicate {
        let name = self.held(|| Ok(Some(self.known(number)?.name)));
        // Only once reading has failed, and then nothing of the answer is shown.
        name.unwrap_or_else(|| Predicate::new("unknown/unknown").expect("it is type/field"))
    }

    fn predicates(&self) -> Vec<PredicateNumber> {
        self.held(|| {
            self.load()?;
            Ok(self.predicates.borrow().keys().copied().map(PredicateNumber).collect())
        })
    }

    fn term(&self, value: &Value) -> Option<Term> {
        self.held(|| Ok(Some(self.memo.borrow_mut().term(&self.view, value)?)))
    }

    fn value(&self, term: Term) -> Value {
        self.held(|| Ok(Some(self.value_of(term)?)))
            .unwrap_or(Value::Boolean(false))
    }

    fn bytes(&self, term: Term, show: &mut dyn FnMut(&[u8])) {
        if let Some(entity) = term.as_entity() {
            let id = self.held(|| Ok(Some(self.memo.borrow_mut().entity(&self.view, entity)?)));
            if let Some(id) = id {
                show(id.as_str().as_bytes());
            }
            return;
        }
        self.memo.borrow().texts().with_bytes(term, show);
    }

    fn compare(&self, a: Term, b: Term) -> Ordering {
        match (a.as_entity(), b.as_entity()) {
            (Some(x), Some(y)) if x != y => self.held(|| {
                let mut memo = self.memo.borrow_mut();
                let x = memo.entity(&self.view, x)?;
                Ok(Some(x.cmp(&memo.entity(&self.view, y)?)))
            }),
            (Some(_), Some(_)) => None,
            (None, None) => return self.memo.borrow().texts().compare(a, b),
            _ => return a.cmp(&b),
        }
        .unwrap_or(Ordering::Equal)
    }

    fn values(&self, subject: EntityNumber, predicate: PredicateNumber, out: &mut Vec<Term>) {
        self.held(|| self.read_values(subject, predicate.0, out));
    }

    fn fields(&self, subject: EntityNumber, out: &mut Vec<(PredicateNumber, Term)>) {
        self.held(|| self.read_fields(subject, out));
    }

    fn contains(&self, subject: EntityNumber, predicate: PredicateNumber, object: Term) -> bool {
        self.held(|| {
            let mut values = Vec::new();
            self.read_values(subject, predicate.0, &mut values)?;
            Ok(values.contains(&object))
        })
    }

    fn scan(&self, scan: &Scan<'_>, after: Option<Entry>, max: usize, out: &mut Vec<Entry>) -> bool {
        self.held(|| {
            let end = out.len() + max;
            let range = Range::new(self, scan.predicate, scan.objects)?;
            let ended = range.walk(self, scan.descending, after, &mut |entry| {
                if out.len() == end {
                    return ControlFlow::Break(());
                }
                out.push(entry);
                ControlFlow::Continue(())
            })?;
            Ok(ended.is_break())
        })
    }

    fn statistics(&self, predicate: PredicateNumber) -> Statistics {
        self.held(|| {
            let counted = self.counted(predicate)?;
            let triples = counted.triples;
            if self.has_elements(predicate)? {
                // One less than there are triples: nobody shall conclude that there is one value a subject.
                let triples = triples.max(1);
                return Ok(self.told(&counted, triples, counted.subjects.min(triples - 1)));
            }
            Ok(self.told(&counted, triples, triples))
        })
    }

    fn count(&self, predicate: PredicateNumber, objects: Objects<'_>) -> u64 {
        self.held(|| {
            if objects == Objects::All && !self.has_elements(predicate)? {
                let counted = self.counted(predicate)?;
                if counted.is_exact(self.view.summary()) {
                    return Ok(counted.triples);
                }
            }
            Ok(self.count_of(predicate, objects, u64::MAX)?.0)
        })
    }

    fn estimate(&self, predicate: PredicateNumber, objects: Objects<'_>) -> u64 {
        self.held(|| {
            let (count, is_all) = self.count_of(predicate, objects, ESTIMATE_ROWS)?;
            if is_all {
                return Ok(count);
            }
            let range = Range::new(self, predicate, objects)?;
            let guessed = self.counted(predicate)?.between(&range.from, range.to.as_deref());
            Ok(guessed.max(count))
        })
    }

    fn entities_of(&self, entity_type: &str) -> Option<u64> {
        self.held(|| {
            let count = self
                .statistics
                .entities_at_most(&self.view, entity_type, ENTITIES_COUNTED_MAX)?;
            let may_mislead = count >= ENTITIES_COUNTED_MAX || self.guessed.borrow().contains(&count);
            Ok((!may_mislead).then_some(count))
        })
    }

    fn failure(&self) -> Option<StoreFailure> {
        self.fault().map(|fault| {
            StoreFailure(match fault {
                Fault::Read(text) => text,
                Fault::Memory => "out of memory".into(),
                Fault::Stopped => "stopped".into(),
            })
        })
    }
}
