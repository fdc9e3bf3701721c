//! Merge into the index: the rules of `halcyon_core::merge`, on rows.

use std::cmp::Ordering;

use halcyon_core::{
    change::Change,
    clock::Timestamp,
    codec::Reader as Bytes,
    fingerprint::{Fingerprint, Part},
    id::{EntityId, Predicate},
    merge::Outcome,
    mutant::{self, Mutant},
    value::Value,
    version_vector::VersionVector,
};

use super::{
    facts::{LocalTag, LocalTime, Stored, Tomb, element_order},
    keys::{self, Place},
    tables::Table,
    types::StorageError,
    work::{PredicateInfo, TenantWork, damaged},
};

/// The register that stands for a bare creation: an entity without a field would else be unknown to a replica that
/// came by catch-up. It is unset, so it never shows; and it is not collected, for it says that something is.
pub(super) const CREATED: &str = "_entity/created";

/// What is left of collected elements, as removed elements of this field: of each set, when the last removal was written
/// that was collected. So one row for a set stays as long as its entity, and an `add` that comes even later than the
/// collection, and is older, is known to be beaten.
const REMOVED: &str = "_entity/removed";

/// Fields of our own: they never show and are not collected.
fn is_own(predicate: &Predicate) -> bool {
    matches!(predicate.as_str(), CREATED | REMOVED)
}

/// A cell, by names and by numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct CellRef<'a> {
    pub(super) subject: u32,
    pub(super) info: PredicateInfo,
    pub(super) subject_name: &'a EntityId,
    pub(super) predicate_name: &'a Predicate,
}

/// A write that arrives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write {
    pub(super) at: LocalTime,
    pub(super) tag: LocalTag,
    /// Now, for what says that something is gone.
    pub(super) received: u64,
}

impl CellRef<'_> {
    fn key(&self, tenant: u32, element: Option<&[u8]>) -> Vec<u8> {
        match element {
            None => keys::register_key(tenant, self.subject, self.info.id),
            Some(value) => keys::element_key(tenant, self.subject, self.info.id, value),
        }
    }

    const fn place<'b>(&self, element: Option<&'b [u8]>) -> Place<'b> {
        match element {
            None => Place::Register(self.subject, self.info.id),
            Some(value) => Place::Element(self.subject, self.info.id, value),
        }
    }
}

impl TenantWork<'_, '_> {
    /// Whether the entity is deleted.
    pub(super) fn is_deleted(&self, subject: u32) -> Result<bool, StorageError> {
        Ok(self.state.deleted > 0 && self.tomb(subject)?.is_some())
    }

    /// The same, by a set that this replica holds. Half a delta may have told of it, and the rest may never come: then the
    /// deletion that its client pushes again is the only one.
    pub(super) fn is_deleted_for_good(&mut self, subject: u32) -> Result<bool, StorageError> {
        if self.state.deleted == 0 {
            return Ok(false);
        }
        let Some(Tomb { tag, .. }) = self.tomb(subject)? else {
            return Ok(false);
        };
        let origin = self.origin_id(tag.origin)?;
        Ok(self.state.summary.vector.get(origin).0 >= tag.seq)
    }

    /// A register write arrives; `value` is encoded, `None` is `unset`. Whether a later one has given it another value.
    pub(super) fn write_register(
        &mut self,
        cell: CellRef<'_>,
        write: Write,
        value: Option<&[u8]>,
    ) -> Result<bool, StorageError> {
        let tenant = self.number();
        let key = cell.key(tenant, None);
        let held = self.get_of(cell.subject, Table::Cells, &key)?;
        if let Some(row) = &held {
            let held = Stored::decode(row).map_err(damaged("cells"))?;
            let mut order = self.time_order(held.at, write.at)?;
            if !mutant::active(Mutant::TieByArrival) {
                order = order.then_with(|| held.register_value().cmp(&value));
            }
            if self.outcome(order, held.tag, write.tag)? == Outcome::Stays {
                return Ok(held.register_value() != value);
            }
            self.unindex(cell, None, &held, held.value)?;
        } else {
            self.note_type(cell.subject, cell.info.kind);
        }
        if cell.info.elements {
            self.drop_hidden(cell, write.at)?;
        }
        let stored = Stored {
            live: value.is_some(),
            at: write.at,
            tag: write.tag,
            received: 0,
            value: value.unwrap_or_default(),
        };
        self.put(Table::Cells, key, stored.encode());
        self.index(cell, None, &stored, stored.value)?;
        Ok(false)
    }

    /// A write of an element arrives; `encoded` is the element.
    pub(super) fn write_element(
        &mut self,
        cell: CellRef<'_>,
        write: Write,
        encoded: &[u8],
        present: bool,
    ) -> Result<(), StorageError> {
        let tenant = self.number();
        if !cell.info.elements {
            self.note_elements(cell.predicate_name, cell.info);
        }
        if let Some(row) = self.get_of(cell.subject, Table::Cells, &cell.key(tenant, None))? {
            let register = Stored::decode(&row).map_err(damaged("cells"))?;
            if self.time_order(write.at, register.at)? == Ordering::Less {
                return Ok(());
            }
        }
        let mut short = Vec::with_capacity(encoded.len().min(96));
        keys::put_value(&mut short, encoded);
        let key = cell.key(tenant, Some(&short));
        if let Some(row) = self.get_of(cell.subject, Table::Cells, &key)? {
            let held = Stored::decode(&row).map_err(damaged("cells"))?;
            let order = self.time_order(held.at, write.at)?;
            let order = order.then_with(|| element_order(held.live, present));
            if self.outcome(order, held.tag, write.tag)? == Outcome::Stays {
                return Ok(());
            }
            self.unindex(cell, Some(&short), &held, encoded)?;
        } else {
            self.note_type(cell.subject, cell.info.kind);
        }
        let stored = Stored {
            live: present,
            at: write.at,
            tag: write.tag,
            received: if present { 0 } else { write.received },
            value: if keys::is_cut(&short) { encoded } else { &[] },
        };
        self.put(Table::Cells, key, stored.encode());
        if is_own(cell.predicate_name) {
            self.state.traced = self.state.traced.max(write.at.time);
        }
        self.index(cell, Some(&short), &stored, encoded)
    }

    /// A deletion arrives: it beats all there is, and all there will be.
    pub(super) fn delete(&mut self, subject: &EntityId, tag: LocalTag, received: u64) -> Result<(), StorageError> {
        let tenant = self.number();
        let id = self.subject(subject)?;
        let place = Place::Tombstone(id);
        let held = self.tomb(id)?;
        let tomb = if let Some(held) = held {
            if self.outcome(Ordering::Equal, held.tag, tag)? == Outcome::Stays {
                return Ok(());
            }
            let before = place.origin_key(tenant, held.tag.origin, held.tag.seq);
            self.remove(Table::ByOrigin, before);
            Tomb { tag, ..held }
        } else {
            self.drop_cells(subject, id)?;
            self.state.deleted += 1;
            self.state.summary.tombstones += 1;
            let collectable = place.collectable_key(tenant, received);
            self.put(Table::Collectable, collectable, Vec::new());
            Tomb { tag, received }
        };
        self.put(
            Table::ByOrigin,
            place.origin_key(tenant, tag.origin, tag.seq),
            Vec::new(),
        );
        self.put(Table::Tombstones, keys::key(tenant, &[u64::from(id)]), tomb.encode());
        Ok(())
    }

    /// Forgets a tombstone that every replica holds.
    pub(super) fn collect_tombstone(
        &mut self,
        subject: &EntityId,
        barrier: Option<&VersionVector>,
    ) -> Result<(), StorageError> {
        let Some(id) = self.find_subject(subject)? else {
            return Ok(());
        };
        let Some(tomb) = self.tomb(id)? else { return Ok(()) };
        let tenant = self.number();
        let place = Place::Tombstone(id);
        if !self.may_be_collected(tomb.tag, barrier)? {
            return Ok(());
        }
        self.remove(Table::ByOrigin, place.origin_key(tenant, tomb.tag.origin, tomb.tag.seq));
        self.remove(Table::Collectable, place.collectable_key(tenant, tomb.received));
        self.remove(Table::Tombstones, keys::key(tenant, &[u64::from(id)]));
        self.forget_subject(subject, id);
        self.state.deleted -= 1;
        self.state.summary.tombstones -= 1;
        Ok(())
    }

    /// Forgets a removed element, but for when it was taken out. An unset register stays: it says when it was emptied.
    pub(super) fn collect_cell(
        &mut self,
        cell: CellRef<'_>,
        element: Option<&[u8]>,
        barrier: Option<&VersionVector>,
    ) -> Result<(), StorageError> {
        let key = cell.key(self.number(), element);
        let Some(row) = self.get_of(cell.subject, Table::Cells, &key)? else {
            return Ok(());
        };
        let held = Stored::decode(&row).map_err(damaged("cells"))?;
        if held.live || is_own(cell.predicate_name) {
            return Ok(());
        }
        let Some(short) = element else {
            // Of an earlier release, that counted it among what is collected.
            self.unindex(cell, None, &held, &[])?;
            let stays = Stored { received: 0, ..held };
            self.put(Table::Cells, key, stays.encode());
            return self.index(cell, None, &stays, &[]);
        };
        if !self.may_be_collected(held.tag, barrier)? {
            return Ok(());
        }
        self.unindex(cell, Some(short), &held, &[])?;
        self.remove(Table::Cells, key);
        let trace = own_field(REMOVED);
        let field = CellRef {
            info: self.predicate(&trace)?,
            predicate_name: &trace,
            ..cell
        };
        let write = Write {
            at: held.at,
            tag: held.tag,
            received: 0,
        };
        self.write_element(field, write, &trace_of(cell.predicate_name), false)
    }

    /// Whether every replica has heard of this commit: of what came since the barrier was drawn some have not. Whoever
    /// has not heard of it will not hear any more of all that it took away.
    fn may_be_collected(&mut self, tag: LocalTag, barrier: Option<&VersionVector>) -> Result<bool, StorageError> {
        let tag = self.full_tag(tag)?;
        if barrier.is_some_and(|barrier| !barrier.covers_tag(tag)) {
            return Ok(false);
        }
        if let Some(collected) = &mut self.state.collected {
            collected.raise(tag);
        }
        Ok(true)
    }

    /// Whether an `add` comes so late that what beat it may have been collected: the element is not in the set, and the
    /// last removal from the set that was collected is as late. Which element that was is not known any more.
    pub(super) fn is_too_late(&mut self, subject: u32, change: &Change, at: &Timestamp) -> Result<bool, StorageError> {
        let Change::Add { predicate, value, .. } = change else {
            return Ok(false);
        };
        let tenant = self.number();
        let Some(traces) = self.find_predicate(&own_field(REMOVED))? else {
            return Ok(false);
        };
        let mut short = Vec::new();
        keys::put_value(&mut short, &trace_of(predicate));
        let trace = self.read_cell(subject, &keys::element_key(tenant, subject, traces, &short))?;
        if trace.is_none_or(|(emptied, _)| emptied < *at) {
            return Ok(false);
        }
        let Some(field) = self.find_predicate(predicate)? else {
            return Ok(true);
        };
        short.clear();
        keys::put_value(&mut short, &value.encode());
        let held = self.read_cell(subject, &keys::element_key(tenant, subject, field, &short))?;
        Ok(held.is_none_or(|(_, live)| !live))
    }

    /// When what a cell holds was written, and whether it shows.
    fn read_cell(&mut self, subject: u32, key: &[u8]) -> Result<Option<(Timestamp, bool)>, StorageError> {
        let Some(row) = self.get_of(subject, Table::Cells, key)? else {
            return Ok(None);
        };
        let held = Stored::decode(&row).map_err(damaged("cells"))?;
        Ok(Some((self.full_time(held.at)?, held.live)))
    }

    /// Whether a cell shows nothing.
    pub(super) fn is_gone(&self, cell: CellRef<'_>, element: Option<&[u8]>) -> Result<bool, StorageError> {
        let key = cell.key(self.number(), element);
        let Some(row) = self.get_of(cell.subject, Table::Cells, &key)? else {
            return Ok(true);
        };
        Ok(!Stored::decode(&row).map_err(damaged("cells"))?.live)
    }

    pub(super) fn tomb(&self, subject: u32) -> Result<Option<Tomb>, StorageError> {
        let key = keys::key(self.number(), &[u64::from(subject)]);
        let row = self.get_of(subject, Table::Tombstones, &key)?;
        row.map(|row| Tomb::decode(&row).map_err(damaged("tombstones")))
            .transpose()
    }

    fn time_order(&mut self, held: LocalTime, other: LocalTime) -> Result<Ordering, StorageError> {
        if held.time != other.time || held.client == other.client {
            return Ok(held.time.cmp(&other.time));
        }
        Ok(self.client_id(held.client)?.cmp(&self.client_id(other.client)?))
    }

    fn outcome(&mut self, order: Ordering, held: LocalTag, other: LocalTag) -> Result<Outcome, StorageError> {
        if mutant::active(Mutant::LastArrivalWins) && order == Ordering::Greater {
            return Ok(Outcome::Replaced);
        }
        Ok(match order {
            Ordering::Less => Outcome::Replaced,
            Ordering::Greater => Outcome::Stays,
            Ordering::Equal => {
                let held = (self.origin_id(held.origin)?, held.seq);
                let other = (self.origin_id(other.origin)?, other.seq);
                if other < held {
                    Outcome::Retagged
                } else {
                    Outcome::Stays
                }
            }
        })
    }

    /// Elements that a register write hides are gone for good.
    fn drop_hidden(&mut self, cell: CellRef<'_>, at: LocalTime) -> Result<(), StorageError> {
        let prefix = cell.key(self.number(), Some(&[]));
        for (key, row) in self.rows(Table::Cells, &prefix)? {
            let held = Stored::decode(&row).map_err(damaged("cells"))?;
            if self.time_order(held.at, at)? == Ordering::Less {
                let short = &key[prefix.len()..];
                let encoded = if held.value.is_empty() { short } else { held.value };
                self.unindex(cell, Some(short), &held, encoded)?;
                self.remove(Table::Cells, key);
            }
        }
        Ok(())
    }

    fn drop_cells(&mut self, subject_name: &EntityId, subject: u32) -> Result<(), StorageError> {
        let tenant = self.number();
        let prefix = keys::key(tenant, &[u64::from(subject)]);
        for (key, row) in self.rows(Table::Cells, &prefix)? {
            let held = Stored::decode(&row).map_err(damaged("cells"))?;
            let mut reader = Bytes::new(&key[prefix.len()..]);
            let predicate = keys::id(&mut reader).map_err(damaged("cells"))?;
            let part = reader.byte("a cell's part").map_err(damaged("cells"))?;
            let short = &key[key.len() - reader.remaining()..];
            let predicate_name = self.predicate_name(predicate)?;
            let cell = CellRef {
                subject,
                info: self.predicate(&predicate_name)?,
                subject_name,
                predicate_name: &predicate_name,
            };
            let element = (part == keys::ELEMENT).then_some(short);
            let whole = element.is_none() || keys::is_cut(short);
            self.unindex(cell, element, &held, if whole { held.value } else { short })?;
            self.remove(
                Table::Types,
                keys::key(tenant, &[u64::from(cell.info.kind), u64::from(subject)]),
            );
            self.remove(Table::Cells, key);
        }
        Ok(())
    }

    /// Takes a fact out of every index. `encoded` is its whole value, where it is live.
    fn unindex(
        &mut self,
        cell: CellRef<'_>,
        element: Option<&[u8]>,
        held: &Stored<'_>,
        encoded: &[u8],
    ) -> Result<(), StorageError> {
        let tenant = self.number();
        let place = cell.place(element);
        self.remove(Table::ByOrigin, place.origin_key(tenant, held.tag.origin, held.tag.seq));
        if held.live {
            let part = part_of(element);
            self.remove(
                Table::Values,
                keys::value_key(tenant, cell.info.id, encoded, part, cell.subject),
            );
            let at = self.full_time(held.at)?;
            let summary = &mut self.state.summary;
            summary.fingerprint = summary.fingerprint.minus(fingerprint(cell, element, encoded, &at));
            summary.triples -= 1;
        } else if is_collectable(cell, element, held) {
            self.remove(Table::Collectable, place.collectable_key(tenant, held.received));
            self.state.summary.tombstones -= 1;
        }
        Ok(())
    }

    /// Puts a fact into every index.
    fn index(
        &mut self,
        cell: CellRef<'_>,
        element: Option<&[u8]>,
        fact: &Stored<'_>,
        encoded: &[u8],
    ) -> Result<(), StorageError> {
        let tenant = self.number();
        let place = cell.place(element);
        self.put(
            Table::ByOrigin,
            place.origin_key(tenant, fact.tag.origin, fact.tag.seq),
            Vec::new(),
        );
        if fact.live {
            let key = keys::value_key(tenant, cell.info.id, encoded, part_of(element), cell.subject);
            self.put(Table::Values, key, Vec::new());
            let at = self.full_time(fact.at)?;
            let summary = &mut self.state.summary;
            summary.fingerprint = summary.fingerprint.plus(fingerprint(cell, element, encoded, &at));
            summary.triples += 1;
        } else if is_collectable(cell, element, fact) {
            self.put(
                Table::Collectable,
                place.collectable_key(tenant, fact.received),
                Vec::new(),
            );
            self.state.summary.tombstones += 1;
        }
        Ok(())
    }
}

/// A field of our own.
pub(super) fn own_field(name: &str) -> Predicate {
    Predicate::new(name).expect("the name is a predicate")
}

/// Whether what says that something is gone is forgotten once every replica holds it. Of a register only what an earlier
/// release wrote has the moment when it was received.
fn is_collectable(cell: CellRef<'_>, element: Option<&[u8]>, fact: &Stored<'_>) -> bool {
    !is_own(cell.predicate_name) && (element.is_some() || fact.received > 0)
}

/// The element that stands for a set of which a removal was collected.
fn trace_of(predicate: &Predicate) -> Vec<u8> {
    Value::string(predicate.as_str()).encode()
}

const fn part_of(element: Option<&[u8]>) -> u8 {
    if element.is_some() {
        keys::ELEMENT
    } else {
        keys::REGISTER
    }
}

fn fingerprint(cell: CellRef<'_>, element: Option<&[u8]>, encoded: &[u8], at: &Timestamp) -> Fingerprint {
    let part = if element.is_some() {
        Part::Element
    } else {
        Part::Register
    };
    Fingerprint::of(cell.subject_name, cell.predicate_name, part, encoded, at)
}
