//! Ranges of the index by value: the entries of a scan, each once, in the order of their objects.
//!
//! The index is in the order of encoded values, which is theirs, with two exceptions:
//!
//! - Of a long value it has the first bytes and a hash. Those that share the first bytes are read together and sorted by
//!   what they are ([`Group`]).
//! - A register and an element of one cell may hold the same value. In the direction of the walk the one that comes
//!   first counts.
//!
//! References stand in the order of their ids, and those that are cut besides; for the engine all of them are one run.

use std::{cmp::Ordering, ops::ControlFlow};

use halcyon_core::{
    graph::{EntityNumber, Entry, PredicateNumber, Term},
    query::triples::{Edge, Objects},
    value::Value,
};

use super::store::{Fault, Store};
use crate::storage::view::{ELEMENT, KEY_VALUE_BYTES, REGISTER, ValueRow, Values, after, is_cut, place_of, short_of};

/// Who takes an entry, and says whether to go on.
pub(super) type Take<'t> = &'t mut dyn FnMut(Entry) -> ControlFlow<()>;

/// Which entries of a predicate.
#[derive(Debug)]
pub(super) struct Range<'a> {
    number: PredicateNumber,
    objects: Objects<'a>,
    elements: bool,
    /// Bytes behind the predicate in a key.
    pub(super) from: Vec<u8>,
    /// The same; it does not belong to the range.
    pub(super) to: Option<Vec<u8>>,
}

/// Entries whose values begin with the same bytes, ascending; the last that were read.
#[derive(Debug, Clone)]
pub(super) struct Group {
    predicate: u32,
    first_bytes: Vec<u8>,
    entries: Vec<Entry>,
}

/// Entries of one value that have been passed, where elements may repeat them.
#[derive(Debug, Default)]
struct Run {
    value: Vec<u8>,
    /// Subjects of the part that comes first.
    subjects: Vec<u32>,
    /// Whether the walk began before the run.
    whole: bool,
    term: Option<Term>,
}

impl<'a> Range<'a> {
    pub(super) fn new(store: &Store<'_>, number: PredicateNumber, objects: Objects<'a>) -> Result<Self, Fault> {
        let (from, to) = match objects {
            Objects::All => (Vec::new(), None),
            Objects::Equal(term) => {
                let short = short_of(&store.value_of(term)?.encode());
                let end = after(&short);
                (short, end)
            }
            Objects::Between(from, to) => (begin(from), end(to)),
        };
        Ok(Self {
            number,
            objects,
            elements: store.has_elements(number)?,
            from,
            to,
        })
    }

    /// How many entries there are, one call for each, until one breaks.
    pub(super) fn count(
        &self,
        store: &Store<'_>,
        each: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Fault> {
        let cuts = |edge: &Edge| match edge {
            Edge::Value { value, .. } => is_cut(&short_of(&value.encode())),
            Edge::Prefix(text) => text.len() + 1 > KEY_VALUE_BYTES,
            Edge::Open | Edge::Kind(_) => false,
        };
        let is_exact = match self.objects {
            Objects::All | Objects::Equal(_) => true,
            Objects::Between(from, to) => !cuts(from) && !cuts(to),
        };
        if self.elements || !is_exact {
            return self.walk(store, false, None, &mut |_| each());
        }
        // One row is one entry.
        let mut fault = None;
        let ended = store
            .view
            .values(self.rows(&self.from, self.to.as_deref(), false), &mut |_| {
                if let Err(error) = store.look() {
                    fault = Some(error);
                    return ControlFlow::Break(());
                }
                each()
            })?;
        fault.map_or(Ok(ended), Err)
    }

    /// Gives the entries behind `after`. Breaks if the taker does.
    pub(super) fn walk(
        &self,
        store: &Store<'_>,
        descending: bool,
        after: Option<Entry>,
        take: Take<'_>,
    ) -> Result<ControlFlow<()>, Fault> {
        let mut walker = Walker {
            range: self,
            store,
            descending,
            after: None,
            take,
            run: Run {
                whole: true,
                ..Run::default()
            },
            gathered: Vec::new(),
            first_bytes: Vec::new(),
        };
        let (mut from, mut to) = (self.from.clone(), self.to.clone());
        if let Some(after) = after
            && walker.resume(after, &mut from, &mut to)?.is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
        let mut fault = None;
        let ended = store
            .view
            .values(self.rows(&from, to.as_deref(), descending), &mut |row| {
                walker.row(row).unwrap_or_else(|error| {
                    fault = Some(error);
                    ControlFlow::Break(())
                })
            })?;
        if let Some(fault) = fault {
            return Err(fault);
        }
        if ended.is_break() {
            return Ok(ended);
        }
        walker.end_group()
    }

    fn rows<'b>(&self, from: &'b [u8], to: Option<&'b [u8]>, descending: bool) -> Values<'b> {
        Values {
            predicate: self.number.0,
            from,
            to,
            descending,
        }
    }

    /// Whether rows of cut values must be sorted and looked at.
    fn groups(&self) -> bool {
        !matches!(self.objects, Objects::Equal(_))
    }

    fn takes_all(&self) -> bool {
        !matches!(self.objects, Objects::Between(..))
    }

    fn holds(&self, value: &Value) -> bool {
        match self.objects {
            Objects::Between(from, to) => is_behind(from, value) && is_before(to, value),
            Objects::All | Objects::Equal(_) => true,
        }
    }
}

/// A walk under way.
struct Walker<'w, 's> {
    range: &'w Range<'w>,
    store: &'w Store<'s>,
    descending: bool,
    /// Within a group: the entry behind which it goes on.
    after: Option<Entry>,
    take: Take<'w>,
    run: Run,
    /// Rows of the group that is being read, with the terms of their values.
    gathered: Vec<Entry>,
    first_bytes: Vec<u8>,
}

impl Walker<'_, '_> {
    /// Narrows the range to what is behind an entry.
    fn resume(&mut self, last: Entry, from: &mut Vec<u8>, to: &mut Option<Vec<u8>>) -> Result<ControlFlow<()>, Fault> {
        let encoded = self.store.value_of(last.object())?.encode();
        let short = short_of(&encoded);
        let number = self.range.number.0;
        if is_cut(&short) && self.range.groups() {
            let first_bytes = &short[..KEY_VALUE_BYTES];
            let held = self.store.group.borrow().clone();
            let held = held.filter(|held| held.predicate == number && *held.first_bytes == *first_bytes);
            self.after = Some(last);
            if let Some(group) = &held {
                if self.give(&group.entries)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                self.after = None;
            }
            // Without the group it is read again, from its beginning.
            match (self.descending, held.is_some()) {
                (false, false) => *from = first_bytes.to_vec(),
                (false, true) => *from = after(first_bytes).unwrap_or_else(|| from.clone()),
                (true, false) => *to = after(first_bytes),
                (true, true) => *to = Some(first_bytes.to_vec()),
            }
            return Ok(ControlFlow::Continue(()));
        }
        let (first, second) = if self.descending {
            (ELEMENT, REGISTER)
        } else {
            (REGISTER, ELEMENT)
        };
        let mut place = place_of(&encoded, first, last.subject().0);
        if self.range.elements && !self.store.view.has_value(number, &place)? {
            place = place_of(&encoded, second, last.subject().0);
        } else if !self.range.elements {
            place = place_of(&encoded, REGISTER, last.subject().0);
        }
        self.run.whole = false;
        self.run.value.clone_from(&short);
        if self.descending {
            *to = Some(place);
        } else {
            place.push(0);
            *from = place;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn row(&mut self, row: ValueRow<'_>) -> Result<ControlFlow<()>, Fault> {
        self.store.look()?;
        if is_cut(row.value) && self.range.groups() {
            return self.gather(row);
        }
        if self.end_group()?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        if self.run.value != row.value {
            self.run.value.clear();
            self.run.value.extend_from_slice(row.value);
            self.run.subjects.clear();
            self.run.whole = true;
            self.run.term = None;
        }
        if self.range.elements && self.is_repeated(row)? {
            return Ok(ControlFlow::Continue(()));
        }
        let term = match (self.run.term, self.range.objects) {
            (Some(term), _) | (None, Objects::Equal(term)) => term,
            (None, _) => self.store.term_of(row.value)?,
        };
        self.run.term = Some(term);
        Ok((self.take)(Entry::new(term, EntityNumber(row.subject))))
    }

    /// Whether the other part of the cell gave the same entry already.
    fn is_repeated(&mut self, row: ValueRow<'_>) -> Result<bool, Fault> {
        let (first, order) = if self.descending {
            (ELEMENT, Ordering::Greater)
        } else {
            (REGISTER, Ordering::Less)
        };
        if row.part == first {
            self.run.subjects.push(row.subject);
            return Ok(false);
        }
        if self.run.whole {
            let found = self.run.subjects.binary_search_by(|held| {
                let natural = held.cmp(&row.subject);
                if order == Ordering::Less {
                    natural
                } else {
                    natural.reverse()
                }
            });
            return Ok(found.is_ok());
        }
        // A cut value is in its place as it stands in the row.
        let mut place = row.value.to_vec();
        place.push(first);
        place.extend_from_slice(&row.subject.to_be_bytes());
        Ok(self.store.view.has_value(self.range.number.0, &place)?)
    }

    /// Takes a row of a cut value to the others of its group.
    fn gather(&mut self, row: ValueRow<'_>) -> Result<ControlFlow<()>, Fault> {
        let first_bytes = &row.value[..KEY_VALUE_BYTES];
        if self.first_bytes != first_bytes {
            if self.end_group()?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            self.first_bytes = first_bytes.to_vec();
        }
        if self.run.value != row.value {
            let mut whole = Vec::new();
            let predicate = self.range.number.0;
            self.store
                .view
                .whole_value(predicate, row, &mut |value| whole.extend_from_slice(value))?;
            self.run = Run {
                value: row.value.to_vec(),
                term: Some(self.store.term_of(&whole)?),
                ..Run::default()
            };
        }
        let term = self.run.term.expect("it is set with the value");
        self.gathered.push(Entry::new(term, EntityNumber(row.subject)));
        Ok(ControlFlow::Continue(()))
    }

    /// Gives what was gathered, in order.
    fn end_group(&mut self) -> Result<ControlFlow<()>, Fault> {
        if self.gathered.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let mut values = Vec::with_capacity(self.gathered.len());
        let mut last: Option<(Term, Value)> = None;
        for entry in std::mem::take(&mut self.gathered) {
            let term = entry.object();
            let value = match &last {
                Some((held, value)) if *held == term => value.clone(),
                _ => self.store.value_of(term)?,
            };
            last = Some((term, value.clone()));
            values.push((value, entry));
        }
        values.sort_by(|(a, x), (b, y)| a.cmp(b).then(x.subject().cmp(&y.subject())));
        values.dedup_by(|(_, x), (_, y)| x == y);
        let group = Group {
            predicate: self.range.number.0,
            first_bytes: std::mem::take(&mut self.first_bytes),
            entries: values.into_iter().map(|(_, entry)| entry).collect(),
        };
        let given = self.give(&group.entries)?;
        self.after = None;
        self.run = Run {
            whole: true,
            ..Run::default()
        };
        *self.store.group.borrow_mut() = Some(group);
        Ok(given)
    }

    fn give(&mut self, entries: &[Entry]) -> Result<ControlFlow<()>, Fault> {
        let at = self
            .after
            .and_then(|after| entries.iter().position(|entry| *entry == after));
        let left = match (at, self.descending) {
            (Some(at), false) => &entries[at + 1..],
            (Some(at), true) => &entries[..at],
            (None, _) => entries,
        };
        let count = left.len();
        for step in 0..count {
            let entry = left[if self.descending { count - 1 - step } else { step }];
            if !self.range.takes_all() && !self.range.holds(&self.store.value_of(entry.object())?) {
                continue;
            }
            if (self.take)(entry).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Where keys of a range begin. Of an edge that is cut, all that shares its first bytes is in.
fn begin(from: &Edge) -> Vec<u8> {
    match from {
        Edge::Open => Vec::new(),
        Edge::Kind(kind) => vec![*kind as u8],
        Edge::Prefix(text) => first_bytes(text),
        Edge::Value { value, inclusive } => {
            let encoded = value.encode();
            if encoded.len() > KEY_VALUE_BYTES {
                encoded[..KEY_VALUE_BYTES].to_vec()
            } else if *inclusive {
                encoded
            } else {
                after(&encoded).unwrap_or(encoded)
            }
        }
    }
}

/// Where keys of a range end.
fn end(to: &Edge) -> Option<Vec<u8>> {
    match to {
        Edge::Open => None,
        Edge::Kind(kind) => after(&[*kind as u8]),
        Edge::Prefix(text) => after(&first_bytes(text)),
        Edge::Value { value, inclusive } => {
            let encoded = value.encode();
            if encoded.len() > KEY_VALUE_BYTES {
                after(&encoded[..KEY_VALUE_BYTES])
            } else if *inclusive {
                after(&encoded)
            } else {
                Some(encoded)
            }
        }
    }
}

/// The first bytes of every string that begins so.
fn first_bytes(text: &str) -> Vec<u8> {
    let mut encoded = Value::string(text).encode();
    // Without what ends a string.
    encoded.truncate((encoded.len() - 2).min(KEY_VALUE_BYTES));
    encoded
}

fn is_behind(from: &Edge, value: &Value) -> bool {
    match from {
        Edge::Open => true,
        Edge::Kind(kind) => value.encode()[0] >= *kind as u8,
        Edge::Value { value: edge, inclusive } => value > edge || (*inclusive && value == edge),
        Edge::Prefix(text) => matches!(value, Value::String(held) if held.as_bytes() >= text.as_bytes()),
    }
}

fn is_before(to: &Edge, value: &Value) -> bool {
    match to {
        Edge::Open => true,
        Edge::Kind(kind) => value.encode()[0] <= *kind as u8,
        Edge::Value { value: edge, inclusive } => value < edge || (*inclusive && value == edge),
        Edge::Prefix(text) => {
            matches!(value, Value::String(held) if held.starts_with(&**text) || held.as_bytes() < text.as_bytes())
        }
    }
}
