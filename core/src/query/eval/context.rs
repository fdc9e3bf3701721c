//! What all steps of one evaluation share: the store, names that only the query knows, what may still be spent.

use std::{cell::RefCell, cmp::Ordering, ops::ControlFlow};

use thiserror::Error;

use crate::{
    graph::Dictionary,
    query::{
        answer::Datum,
        triples::{PredicateNumber, StoreFailure, Term, Triples},
    },
    value::Value,
};

/// What one evaluation may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Entries read and bindings made. Some forty million take a second where the benches ran.
    pub fuel: u64,
    /// Tuples, or entities with their includes, in the answer.
    pub tuples: usize,
    /// Bytes of what must be held: groups, distinct tuples, derived relations, what is sorted.
    pub bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            fuel: 200_000_000,
            tuples: 1_000_000,
            bytes: 256 << 20,
        }
    }
}

/// Why an evaluation ended without an answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EvalError {
    /// It read and made too much.
    #[error(
        "the query took more than {0} steps; make it more selective, or ask for a limit in an order that an index has"
    )]
    OutOfFuel(u64),
    /// The answer is too long.
    #[error("the answer has more than {0} entries; ask for a limit and page through it")]
    TooManyTuples(usize),
    /// It must hold too much at once.
    #[error("the query needs more than {0} bytes of memory; group, sort or derive less")]
    OutOfMemory(usize),
    /// A count that no number shows exactly.
    #[error("a count is larger than 2^53; join the patterns that nothing joins, or count them one by one")]
    CountTooLarge,
    /// The caller's deadline passed, or it has gone away.
    #[error("the query was stopped: its deadline has passed")]
    Interrupted,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

/// Asked between batches: break, and the evaluation ends with [`EvalError::Interrupted`].
pub type Interrupt<'a> = &'a dyn Fn() -> ControlFlow<()>;

/// Fuel between two questions to the caller: about a tenth of a millisecond.
const ASK_EVERY: u64 = 4_096;

/// See the module's page.
pub(super) struct Context<'a, T: ?Sized> {
    pub(super) store: &'a T,
    local: RefCell<Dictionary>,
    /// Lists that were gathered, ascending.
    lists: Vec<Vec<Term>>,
    budget: Budget,
    fuel: u64,
    bytes: usize,
    next_question: u64,
    interrupt: Option<Interrupt<'a>>,
    /// Bindings that each step gave.
    pub(super) counts: Vec<u64>,
}

impl<'a, T: Triples + ?Sized> Context<'a, T> {
    pub(super) fn new(store: &'a T, budget: Budget, interrupt: Option<Interrupt<'a>>, steps: usize) -> Self {
        Self {
            store,
            local: RefCell::new(Dictionary::local()),
            lists: Vec::new(),
            budget,
            fuel: 0,
            bytes: 0,
            next_question: ASK_EVERY,
            interrupt,
            counts: vec![0; steps],
        }
    }

    pub(super) const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Steps taken so far.
    pub(super) const fn spent(&self) -> u64 {
        self.fuel
    }

    pub(super) const fn held_bytes(&self) -> usize {
        self.bytes
    }

    /// Takes so many steps.
    pub(super) fn spend(&mut self, steps: usize) -> Result<(), EvalError> {
        self.fuel += steps as u64;
        if self.fuel > self.budget.fuel {
            return Err(EvalError::OutOfFuel(self.budget.fuel));
        }
        if self.fuel >= self.next_question {
            self.next_question = self.fuel + ASK_EVERY;
            if let Some(failure) = self.store.failure() {
                return Err(failure.into());
            }
            if self.interrupt.is_some_and(|ask| ask().is_break()) {
                return Err(EvalError::Interrupted);
            }
        }
        Ok(())
    }

    /// Holds so many bytes more.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), EvalError> {
        self.bytes += bytes;
        if self.bytes > self.budget.bytes {
            return Err(EvalError::OutOfMemory(self.budget.bytes));
        }
        Ok(())
    }

    /// Lets go of bytes that it held.
    pub(super) const fn release(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// The term of any value. One that the store does not know is a local one.
    pub(super) fn term(&self, value: &Value) -> Term {
        let known = self.store.term(value);
        known.unwrap_or_else(|| self.local.borrow_mut().intern(value))
    }

    /// The term of a predicate's text.
    pub(super) fn predicate_text(&self, number: PredicateNumber) -> Term {
        let known = self.store.predicate_text(number);
        known.unwrap_or_else(|| self.term(&Value::string(self.store.predicate(number).as_str())))
    }

    pub(super) fn value(&self, term: Term) -> Value {
        if term.is_local() {
            self.local.borrow().value(term)
        } else {
            self.store.value(term)
        }
    }

    /// The order of values.
    pub(super) fn compare(&self, a: Term, b: Term) -> Ordering {
        match (a.is_local(), b.is_local()) {
            (false, false) => self.store.compare(a, b),
            (true, true) => self.local.borrow().compare(a, b),
            _ => self.value(a).cmp(&self.value(b)),
        }
    }

    /// The order of answers: null before every value, lists behind.
    pub(super) fn compare_data(&self, a: Term, b: Term) -> Ordering {
        if a.orders_like(b) {
            return a.cmp(&b);
        }
        match (a.is_null(), b.is_null()) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        match (a.as_list(), b.as_list()) {
            (None, None) => self.compare(a, b),
            (Some(_), None) => Ordering::Greater,
            (None, Some(_)) => Ordering::Less,
            (Some(a), Some(b)) => {
                let (a, b) = (&self.lists[a as usize], &self.lists[b as usize]);
                let different = a
                    .iter()
                    .zip(b)
                    .map(|(x, y)| self.compare(*x, *y))
                    .find(|order| order.is_ne());
                different.unwrap_or_else(|| a.len().cmp(&b.len()))
            }
        }
    }

    /// Keeps a list: its term.
    pub(super) fn list(&mut self, terms: Vec<Term>) -> Term {
        self.lists.push(terms);
        Term::list(u32::try_from(self.lists.len() - 1).expect("the memory limit bounds them"))
    }

    /// What a cell shows.
    pub(super) fn datum(&self, term: Term) -> Datum {
        match term.as_list() {
            Some(list) => Datum::List(self.lists[list as usize].iter().map(|term| self.value(*term)).collect()),
            None if term.is_null() => Datum::Null,
            None => Datum::Value(self.value(term)),
        }
    }

    /// The term of a cell.
    pub(super) fn term_of(&mut self, datum: &Datum) -> Term {
        match datum {
            Datum::Null => Term::NULL,
            Datum::Value(value) => self.term(value),
            Datum::List(values) => {
                let terms = values.iter().map(|value| self.term(value)).collect();
                self.list(terms)
            }
        }
    }

    /// Whether the bytes of a text pass. Other terms have none, and do not.
    pub(super) fn bytes_pass(&self, term: Term, pass: impl Fn(&[u8]) -> bool) -> bool {
        let mut passes = false;
        if term.is_local() {
            passes = self.local.borrow().with_bytes(term, &pass).unwrap_or(false);
        } else {
            self.store.bytes(term, &mut |bytes| passes = pass(bytes));
        }
        passes
    }
}
