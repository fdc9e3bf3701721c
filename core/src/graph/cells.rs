//! The cells of one entity, and the rules of merge on them.
//!
//! An entity's slots lie in one vector, sorted by (predicate, register before elements, element): 40 bytes a slot, a
//! field found by binary search. The rules are those of [`crate::merge`], on numbers instead of names; a property test
//! holds both to the same results. An element comes and goes by moving what is behind it, so a set of `n` elements
//! costs O(n) bytes moved per change: up to 400 KB at 10,000 elements.

use std::cmp::Ordering;

use super::{
    dictionary::Dictionary,
    origins::Origins,
    term::{PredicateNumber, Term},
};
use crate::merge::Outcome;

/// The commit that brought a write, by numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The timestamp's time.
    pub(super) time: u64,
    /// The timestamp's client.
    pub(super) client: u32,
    /// The tag's origin.
    pub(super) origin: u32,
    /// The tag's seq.
    pub(super) seq: u64,
}

/// A register or an element, with the write that it is left from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// The upper half of the term.
    term_high: u64,
    /// The lower half of the term; where it has zeros, the predicate and two flags.
    term_low: u64,
    time: u64,
    seq: u64,
    client: u32,
    origin: u32,
}

const PRESENT: u64 = 1;
const ELEMENT: u64 = 2;
const HEAD: u64 = u32::MAX as u64;

impl Slot {
    /// A register's write; without a value it is `unset`.
    pub(super) fn register(predicate: PredicateNumber, value: Option<Term>, stamp: Stamp) -> Self {
        let bits = value.map_or(0, Term::bits);
        Self::new(u64::from(predicate.0) << 2 | u64::from(value.is_some()), bits, stamp)
    }

    /// An element that is put in or taken out.
    pub(super) fn element(predicate: PredicateNumber, value: Term, present: bool, stamp: Stamp) -> Self {
        let head = u64::from(predicate.0) << 2 | ELEMENT | u64::from(present);
        Self::new(head, value.bits(), stamp)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    const fn new(head: u64, bits: u128, stamp: Stamp) -> Self {
        Self {
            term_high: (bits >> 64) as u64,
            term_low: bits as u64 | head,
            time: stamp.time,
            seq: stamp.seq,
            client: stamp.client,
            origin: stamp.origin,
        }
    }

    pub(super) const fn predicate(&self) -> PredicateNumber {
        #[expect(clippy::cast_possible_truncation, reason = "the lower half's lower half")]
        PredicateNumber(self.term_low as u32 >> 2)
    }

    pub(super) const fn is_element(&self) -> bool {
        self.term_low & ELEMENT != 0
    }

    /// A register with a value, or an element that is in.
    pub(super) const fn is_present(&self) -> bool {
        self.term_low & PRESENT != 0
    }

    pub(super) const fn term(&self) -> Term {
        Term::from_bits((self.term_high as u128) << 64 | self.term_low as u128)
    }

    pub(super) const fn stamp(&self) -> Stamp {
        Stamp {
            time: self.time,
            client: self.client,
            origin: self.origin,
            seq: self.seq,
        }
    }

    /// Predicate and part: what sorts the slots before their terms do.
    const fn part(&self) -> u64 {
        (self.term_low & HEAD) >> 1
    }

    /// Where it lies among the slots. A register has one place, whatever its value.
    pub(super) const fn place(&self) -> (u64, u128) {
        let term = if self.is_element() { self.term().bits() } else { 0 };
        (self.part(), term)
    }
}

/// What a write shows or hides: a slot that was present and is not, or the other way round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    pub(super) slot: Slot,
    pub(super) shown: bool,
}

/// What the rules look up to compare two writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) dictionary: &'a Dictionary,
    pub(super) origins: &'a Origins,
}

impl Rules<'_> {
    fn meet(self, held: &Slot, other: &Slot) -> Outcome {
        let times = self.compare_times(held, other);
        let order = times.then_with(|| {
            if held.is_element() {
                // Removal wins.
                return other.is_present().cmp(&held.is_present());
            }
            held.is_present().cmp(&other.is_present()).then_with(|| {
                if held.is_present() {
                    self.dictionary.compare(held.term(), other.term())
                } else {
                    Ordering::Equal
                }
            })
        });
        if order != Ordering::Equal {
            return if order.is_lt() {
                Outcome::Replaced
            } else {
                Outcome::Stays
            };
        }
        Outcome::of(order, self.origins.tag(held.stamp()), self.origins.tag(other.stamp()))
    }

    fn compare_times(self, a: &Slot, b: &Slot) -> Ordering {
        a.time
            .cmp(&b.time)
            .then_with(|| self.origins.client(a.client).cmp(&self.origins.client(b.client)))
    }
}

/// Up to so many slots are searched one by one.
const SLOTS_FEW: usize = 16;

/// The slots of one entity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cells {
    slots: Vec<Slot>,
}

impl Cells {
    pub(super) const EMPTY: Self = Self { slots: Vec::new() };

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Makes room for that many slots more, and not for many beyond.
    pub(super) fn reserve(&mut self, more: usize) {
        if self.slots.capacity() - self.slots.len() < more {
            self.slots.reserve_exact(more.max(self.slots.len() / 4));
        }
    }

    /// The slots of a predicate: its register first, if there is one.
    pub(super) fn of(&self, predicate: PredicateNumber) -> &[Slot] {
        let first = u64::from(predicate.0) << 1;
        let is_before = |slot: &Slot| slot.part() < first;
        // Loads that do not wait for each other: for a few slots faster than halving.
        let from = if self.slots.len() <= SLOTS_FEW {
            self.slots.iter().take_while(|slot| is_before(slot)).count()
        } else {
            self.slots.partition_point(is_before)
        };
        let rest = &self.slots[from..];
        // Most cells have one slot.
        let len = match rest.get(1) {
            Some(second) if second.part() <= first | 1 => rest.partition_point(|slot| slot.part() <= first | 1),
            _ => usize::from(rest.first().is_some_and(|slot| slot.part() <= first | 1)),
        };
        &rest[..len]
    }

    /// How many slots show this triple: the register, an element, or both.
    pub(super) fn shows(&self, predicate: PredicateNumber, term: Term) -> usize {
        let cell = self.of(predicate);
        let (registers, elements) = cell.split_at(usize::from(cell.first().is_some_and(|slot| !slot.is_element())));
        let is_shown = |slot: &Slot| slot.is_present() && slot.term() == term;
        let element = elements.binary_search_by_key(&term.bits(), |slot| slot.term().bits());
        usize::from(registers.first().is_some_and(is_shown))
            + usize::from(element.is_ok_and(|at| elements[at].is_present()))
    }

    /// Takes in a write by the rules of merge, and tells what it shows and hides.
    pub(super) fn write(&mut self, rules: Rules<'_>, write: Slot, mut turn: impl FnMut(Turn)) {
        if write.is_element() && self.is_hidden(rules, &write) {
            return;
        }
        let at = match self.slots.binary_search_by_key(&write.place(), Slot::place) {
            Ok(at) => {
                let held = self.slots[at];
                if rules.meet(&held, &write) == Outcome::Stays {
                    return;
                }
                if held.is_present() {
                    turn(Turn {
                        slot: held,
                        shown: false,
                    });
                }
                self.slots[at] = write;
                at
            }
            Err(at) => {
                self.reserve(1);
                self.slots.insert(at, write);
                at
            }
        };
        if write.is_present() {
            turn(Turn {
                slot: write,
                shown: true,
            });
        }
        if !write.is_element() {
            self.drop_hidden(rules, at, turn);
        }
    }

    /// Forgets all cells, or one, and tells what that hides.
    pub(super) fn clear(&mut self, predicate: Option<PredicateNumber>, mut turn: impl FnMut(Turn)) {
        let is_meant = |slot: &Slot| predicate.is_none_or(|predicate| slot.predicate() == predicate);
        for slot in self.slots.iter().filter(|slot| is_meant(slot) && slot.is_present()) {
            turn(Turn {
                slot: *slot,
                shown: false,
            });
        }
        match predicate {
            Some(_) => self.slots.retain(|slot| !is_meant(slot)),
            None => self.slots = Vec::new(),
        }
    }

    /// Appends what shows, each triple once, in the order of the slots.
    pub(super) fn shown(&self, out: &mut Vec<(PredicateNumber, Term)>) {
        let mut register = None;
        for slot in self.slots.iter().filter(|slot| slot.is_present()) {
            let field = (slot.predicate(), slot.term());
            if register == Some(field) {
                continue;
            }
            if !slot.is_element() {
                register = Some(field);
            }
            out.push(field);
        }
    }

    /// Whether the register hides an element's write.
    fn is_hidden(&self, rules: Rules<'_>, write: &Slot) -> bool {
        let register = self.of(write.predicate()).first().filter(|slot| !slot.is_element());
        register.is_some_and(|register| rules.compare_times(write, register).is_lt())
    }

    /// Drops the elements that the register at `at` hides.
    fn drop_hidden(&mut self, rules: Rules<'_>, at: usize, mut turn: impl FnMut(Turn)) {
        let register = self.slots[at];
        let part = register.part() | 1;
        let end = at + 1 + self.slots[at + 1..].partition_point(|slot| slot.part() <= part);
        if end == at + 1 {
            return;
        }
        let mut kept = at + 1;
        for from in at + 1..end {
            let slot = self.slots[from];
            if rules.compare_times(&slot, &register).is_lt() {
                if slot.is_present() {
                    turn(Turn { slot, shown: false });
                }
            } else {
                self.slots[kept] = slot;
                kept += 1;
            }
        }
        self.slots.drain(kept..end);
    }
}
