//! What must show: for each entity its tombstone or its cells.

use std::{cmp::Reverse, collections::BTreeMap, fmt};

use halcyon_core::{
    change::Change,
    clock::Timestamp,
    fingerprint::{Fingerprint, Part},
    id::{EntityId, Predicate, Tag},
    value::Value,
};

use super::History;

/// A write that won.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written<T> {
    /// What was written.
    pub content: T,
    /// When.
    pub timestamp: Timestamp,
    /// The commit that brought it: of equal writes the smallest.
    pub tag: Tag,
}

/// A register and a set of elements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    /// The last register write; the content `None` is `unset`.
    pub register: Option<Written<Option<Value>>>,
    /// The elements that no register write hides: in (`true`) or taken out.
    pub elements: BTreeMap<Value, Written<bool>>,
}

/// All that there is of an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entity {
    /// Deleted; the smallest tag of all its deletions.
    Deleted(Tag),
    /// Its cells. None of them: it was created and that is all.
    Live(BTreeMap<Predicate, Cell>),
}

/// What a tenant must show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Every entity that is known.
    pub entities: BTreeMap<EntityId, Entity>,
}

/// One write of a cell.
enum Write<'a> {
    Register(Option<&'a Value>),
    Element(&'a Value, bool),
}

impl State {
    pub(super) fn of(history: &History) -> Self {
        let mut subjects: BTreeMap<&EntityId, Vec<(Tag, Timestamp, &Change)>> = BTreeMap::new();
        for (tag, timestamp, change) in history.changes() {
            if let Some(subject) = change.subject()
                && !history.collected.contains(subject)
            {
                subjects.entry(subject).or_default().push((tag, timestamp, change));
            }
        }
        let entities = subjects
            .into_iter()
            .map(|(subject, changes)| (subject.clone(), entity(&changes)))
            .collect();
        Self { entities }
    }

    /// The live triples, by entity, predicate and value; a register's value before elements.
    pub fn triples(&self) -> Vec<(&EntityId, &Predicate, &Value)> {
        let mut triples = Vec::new();
        for (subject, predicate, cell) in self.cells() {
            triples.extend(cell.values().into_iter().map(|value| (subject, predicate, value)));
        }
        triples
    }

    /// The live triples of one entity.
    pub fn triples_of(&self, subject: &EntityId) -> Vec<(&Predicate, &Value)> {
        let of_subject = self.triples().into_iter().filter(|(found, ..)| *found == subject);
        of_subject.map(|(_, predicate, value)| (predicate, value)).collect()
    }

    /// What every exact replica must report. Only the hash of one fact is shared with the code under test.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut sum = Fingerprint::default();
        for (subject, predicate, cell) in self.cells() {
            let mut live = Vec::new();
            if let Some(register) = &cell.register
                && let Some(value) = &register.content
            {
                live.push((Part::Register, value, register.timestamp));
            }
            let present = cell.elements.iter().filter(|(_, element)| element.content);
            live.extend(present.map(|(value, element)| (Part::Element, value, element.timestamp)));
            for (part, value, timestamp) in live {
                sum = sum.plus(Fingerprint::of(subject, predicate, part, &value.encode(), &timestamp));
            }
        }
        sum
    }

    /// What is different in `other`, a line each: what must be, and what is.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for subject in self.entities.keys().chain(other.entities.keys()) {
            let (must, is) = (self.entities.get(subject), other.entities.get(subject));
            let line = format!("{subject}: must be {}, is {}", Told(must), Told(is));
            if must != is && lines.last() != Some(&line) {
                lines.push(line);
            }
        }
        lines.sort();
        lines.dedup();
        lines
    }

    fn cells(&self) -> impl Iterator<Item = (&EntityId, &Predicate, &Cell)> {
        self.entities.iter().flat_map(|(subject, entity)| {
            let cells = match entity {
                Entity::Deleted(_) => None,
                Entity::Live(cells) => Some(cells),
            };
            let cells = cells.into_iter().flatten();
            cells.map(move |(predicate, cell)| (subject, predicate, cell))
        })
    }
}

impl Cell {
    /// "What shows is the register's value, if it has one, and the elements that are left."
    pub fn values(&self) -> Vec<&Value> {
        let register = self.register.as_ref().and_then(|register| register.content.as_ref());
        let present = self.elements.iter().filter(|(_, element)| element.content);
        register.into_iter().chain(present.map(|(value, _)| value)).collect()
    }
}

/// "A tombstone beats every other change to its subject, whatever the timestamps."
fn entity(changes: &[(Tag, Timestamp, &Change)]) -> Entity {
    let deletions = changes
        .iter()
        .filter(|(_, _, change)| matches!(change, Change::Delete { .. }));
    if let Some(tag) = deletions.map(|(tag, ..)| *tag).min() {
        return Entity::Deleted(tag);
    }
    let mut writes: BTreeMap<&Predicate, Vec<(Tag, Timestamp, Write<'_>)>> = BTreeMap::new();
    for (tag, timestamp, change) in changes {
        let write = match change {
            Change::Set { value, .. } => Write::Register(Some(value)),
            Change::Unset { .. } => Write::Register(None),
            Change::Add { value, .. } => Write::Element(value, true),
            Change::Remove { value, .. } => Write::Element(value, false),
            Change::Create { .. } | Change::Delete { .. } | Change::Opaque { .. } => continue,
        };
        if let Some(predicate) = change.predicate() {
            writes.entry(predicate).or_default().push((*tag, *timestamp, write));
        }
    }
    let cells = writes
        .into_iter()
        .map(|(predicate, writes)| (predicate.clone(), cell(&writes)))
        .collect();
    Entity::Live(cells)
}

/// A write of an element, in the order in which they win: when, whether it removes, by which set.
type InOrder = (Timestamp, bool, Reverse<Tag>);

/// "Largest timestamp wins; equal timestamps with different values: the larger encoded value"; unset is the smallest.
/// Per element the largest timestamp wins, and at equal ones removal. "A register write hides every element with a
/// smaller timestamp, for good."
fn cell(writes: &[(Tag, Timestamp, Write<'_>)]) -> Cell {
    let registers = writes.iter().filter_map(|(tag, timestamp, write)| match write {
        Write::Register(value) => Some((*timestamp, *value, *tag)),
        Write::Element(..) => None,
    });
    // Encoded only where that decides: oracles ask this of everything, every other second.
    let register = registers.max_by(|a, b| {
        let by_value = || a.1.map(Value::encode).cmp(&b.1.map(Value::encode));
        a.0.cmp(&b.0).then_with(by_value).then_with(|| b.2.cmp(&a.2))
    });
    let last_register = register.as_ref().map(|(timestamp, ..)| *timestamp);
    let mut elements: BTreeMap<&Value, Vec<InOrder>> = BTreeMap::new();
    for (tag, timestamp, write) in writes {
        if let Write::Element(value, present) = write {
            let of_value = elements.entry(*value).or_default();
            of_value.push((*timestamp, !present, Reverse(*tag)));
        }
    }
    let mut cell = Cell {
        register: register.map(|(timestamp, value, tag)| Written {
            content: value.cloned(),
            timestamp,
            tag,
        }),
        elements: BTreeMap::new(),
    };
    for (value, writes) in elements {
        let last = writes.into_iter().max();
        if let Some((timestamp, removed, Reverse(tag))) = last
            && last_register.is_none_or(|register| register <= timestamp)
        {
            let content = !removed;
            let written = Written {
                content,
                timestamp,
                tag,
            };
            cell.elements.insert(value.clone(), written);
        }
    }
    cell
}

/// An entity in a line.
struct Told<'a>(Option<&'a Entity>);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("unknown"),
            Some(Entity::Deleted(tag)) => write!(f, "deleted by {} at {}", tag.origin, tag.seq),
            Some(Entity::Live(cells)) => {
                for (at, (predicate, cell)) in cells.iter().enumerate() {
                    let space = if at == 0 { "" } else { ", " };
                    write!(f, "{space}{predicate} {:?}", cell.values())?;
                }
                Ok(())
            }
        }
    }
}
