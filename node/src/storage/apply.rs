//! What each command does to a shard. Run when a command is new, and again when a restart replays the log.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, timestamp_to_bytes},
    fact::{Fact, FactBody},
    id::{EntityId, Predicate, Tag, TenantId},
    mutant::{self, Mutant},
    numbers::{Recent, TakenNumbers},
    value::Value,
};
use xxhash_rust::xxh3::Xxh3;

use super::{
    command::{Command, CommitCommand},
    facts::{LocalTag, LocalTime},
    keys::{self, Place},
    merge::{CREATED, CellRef, Write, own_field},
    state::TenantState,
    tables::Table,
    types::{CellKey, DeltaBatch, ResumeToken, StorageError},
    work::{TenantWork, Work},
};

impl Work<'_> {
    /// Carries out a command. After an error the group must be dropped.
    pub(super) fn apply(&mut self, tenant: TenantId, command: &Command) -> Result<(), StorageError> {
        match command {
            Command::Open { collection_epoch } => {
                let state = TenantState::new(self.next_tenant, *collection_epoch);
                self.next_tenant += 1;
                self.pending.tenants.insert(tenant, Some(Arc::new(state)));
                Ok(())
            }
            Command::Erase => self.erase(tenant),
            Command::SetAdmitting(admitting) => self.on_tenant(tenant, |work| {
                work.state.summary.admitting = *admitting;
                if *admitting {
                    work.state.note_filled();
                }
                Ok(())
            }),
            Command::Commit(commit) => self.on_tenant(tenant, |work| work.commit(commit).map(drop)),
            Command::Delta(batch) => self.on_tenant(tenant, |work| work.delta(batch)),
            Command::Raise(vector) => self.on_tenant(tenant, |work| {
                work.state.summary.vector.join(vector);
                work.state.summary.seen.join(vector);
                Ok(())
            }),
            Command::Prepare(prepared) => self.on_tenant(tenant, |work| {
                work.state.prepared = Some(Arc::clone(prepared));
                Ok(())
            }),
            Command::Collect { epoch } => self.on_tenant(tenant, |work| work.collect(*epoch)),
        }
    }

    fn erase(&mut self, tenant: TenantId) -> Result<(), StorageError> {
        let number = self.tenant(tenant).ok_or(StorageError::NotHeld(tenant))?.number;
        self.pending.tenants.insert(tenant, None);
        self.pending
            .put(Table::Erased, keys::key(number, &[]), Some(Vec::new()));
        self.names.forget(number);
        Ok(())
    }
}

impl TenantWork<'_, '_> {
    /// Merges a set. Answers the places of changes to fields that a later write has given another value.
    pub(super) fn commit(&mut self, commit: &CommitCommand) -> Result<Vec<u32>, StorageError> {
        let tag = LocalTag {
            origin: self.origin(commit.tag.origin)?,
            seq: commit.tag.seq.0,
        };
        let write = Write {
            at: self.local_time(&commit.set.timestamp)?,
            tag,
            received: commit.now.0.0,
        };
        for (place, change) in (0..).zip(&commit.set.changes) {
            if let Change::Opaque { kind, body } = change {
                self.keep_opaque(write, place, *kind, body)?;
            }
        }
        let normal = normalized(&commit.set);
        let set = normal.as_ref().unwrap_or(&commit.set);
        let mut encoded = Vec::with_capacity(64);
        let field = |change: &'_ Change| (change.subject().cloned(), change.predicate().cloned());
        let mut beaten = BTreeSet::new();
        for change in &set.changes {
            if self.change(change, write, &mut encoded)? {
                beaten.insert(field(change));
            }
        }
        for subject in created_bare(set) {
            self.register(subject, &own_field(CREATED), write, None)?;
        }
        let recent = Recent {
            number: set.number,
            seq: commit.tag.seq,
            hash: commit.content_hash,
        };
        self.take_number(write.at.client, tag, recent)?;
        self.state.summary.vector.raise(commit.tag);
        self.state.summary.seen.raise(commit.tag);
        if beaten.is_empty() {
            return Ok(Vec::new());
        }
        let is_beaten = |change: &Change| is_register(change) && beaten.contains(&field(change));
        let places = (0..).zip(&commit.set.changes);
        Ok(places
            .filter(|(_, change)| is_beaten(change))
            .map(|(place, _)| place)
            .collect())
    }

    /// Whether a later write has given the field another value.
    fn change(&mut self, change: &Change, write: Write, encoded: &mut Vec<u8>) -> Result<bool, StorageError> {
        encoded.clear();
        if let Some(value) = change.value() {
            value.encode_to(encoded);
        }
        match change {
            Change::Set { subject, predicate, .. } => return self.register(subject, predicate, write, Some(encoded)),
            Change::Unset { subject, predicate } => return self.register(subject, predicate, write, None),
            Change::Add { subject, predicate, .. } => self.element(subject, predicate, write, (encoded, true)),
            Change::Remove { subject, predicate, .. } => self.element(subject, predicate, write, (encoded, false)),
            Change::Delete { subject } => self.delete(subject, write.tag, write.received),
            Change::Create { .. } | Change::Opaque { .. } => Ok(()),
        }?;
        Ok(false)
    }

    fn register(
        &mut self,
        subject: &EntityId,
        predicate: &Predicate,
        write: Write,
        value: Option<&[u8]>,
    ) -> Result<bool, StorageError> {
        match self.cell(subject, predicate)? {
            Some(cell) => self.write_register(cell, write, value),
            None => Ok(false),
        }
    }

    fn element(
        &mut self,
        subject: &EntityId,
        predicate: &Predicate,
        write: Write,
        (encoded, present): (&[u8], bool),
    ) -> Result<(), StorageError> {
        if let Some(cell) = self.cell(subject, predicate)? {
            self.write_element(cell, write, encoded, present)?;
        }
        Ok(())
    }

    /// The cell, unless its entity is deleted.
    fn cell<'n>(
        &mut self,
        subject: &'n EntityId,
        predicate: &'n Predicate,
    ) -> Result<Option<CellRef<'n>>, StorageError> {
        let id = self.subject(subject)?;
        if self.is_deleted(id)? && !mutant::active(Mutant::TombstoneLoses) {
            return Ok(None);
        }
        Ok(Some(CellRef {
            subject: id,
            info: self.predicate(predicate)?,
            subject_name: subject,
            predicate_name: predicate,
        }))
    }

    /// The cell, if both its names are known.
    fn find_cell<'n>(
        &mut self,
        subject: &'n EntityId,
        predicate: &'n Predicate,
    ) -> Result<Option<CellRef<'n>>, StorageError> {
        // A name must not get a number where nothing is logged that gives it the same after a restart.
        match (self.find_subject(subject)?, self.find_predicate(predicate)?) {
            (Some(_), Some(_)) => self.cell(subject, predicate),
            _ => Ok(None),
        }
    }

    fn keep_opaque(&mut self, write: Write, place: u32, kind: u8, body: &[u8]) -> Result<(), StorageError> {
        let tenant = self.number();
        let LocalTag { origin, seq } = write.tag;
        let key = keys::key(tenant, &[u64::from(origin), seq, u64::from(place)]);
        if self.get(Table::Opaque, &key)?.is_some() {
            return Ok(());
        }
        let mut row = timestamp_to_bytes(&self.full_time(write.at)?).to_vec();
        row.push(kind);
        row.extend_from_slice(body);
        self.put(Table::Opaque, key, row);
        self.put(
            Table::ByOrigin,
            Place::Opaque(place).origin_key(tenant, origin, seq),
            Vec::new(),
        );
        self.state.summary.opaque += 1;
        Ok(())
    }

    fn take_number(&mut self, client: u32, tag: LocalTag, recent: Recent) -> Result<(), StorageError> {
        let mut record = self.numbers(client)?.get(&tag.origin).cloned().unwrap_or_default();
        let before = record.last_seq();
        if before < recent.seq && record.take(recent) {
            self.put_numbers(client, tag, before.0, record)?;
        }
        Ok(())
    }

    fn put_numbers(
        &mut self,
        client: u32,
        tag: LocalTag,
        before: u64,
        record: TakenNumbers,
    ) -> Result<(), StorageError> {
        let tenant = self.number();
        let place = Place::Numbers(client);
        if before > 0 {
            self.remove(Table::ByOrigin, place.origin_key(tenant, tag.origin, before));
        }
        self.put(
            Table::ByOrigin,
            place.origin_key(tenant, tag.origin, tag.seq),
            Vec::new(),
        );
        let key = keys::key(tenant, &[u64::from(client), u64::from(tag.origin)]);
        self.put(Table::Numbers, key, record.encode());
        self.numbers(client)?.insert(tag.origin, record);
        Ok(())
    }

    fn delta(&mut self, batch: &DeltaBatch) -> Result<(), StorageError> {
        let received = batch.now.0.0;
        for fact in &batch.facts {
            if !self.state.summary.vector.covers_tag(fact.tag) {
                self.fact(fact, received)?;
                self.state.summary.seen.raise(fact.tag);
            }
        }
        if batch.complete || mutant::active(Mutant::VectorMovedEarly) {
            self.state.summary.vector.join(&batch.vector);
            let vector = self.state.summary.vector.clone();
            self.state.summary.seen.join(&vector);
            self.state.token = None;
        } else if let Some(last) = batch.facts.last() {
            self.keep_token(batch, last.tag);
        }
        Ok(())
    }

    /// A token that is further on stays: a resumed stream begins with what the token's first peer did not have.
    fn keep_token(&mut self, batch: &DeltaBatch, progress: Tag) {
        if self.state.token.as_ref().is_none_or(|held| held.progress <= progress) {
            let (vector, seen) = (batch.vector.clone(), batch.seen.clone());
            self.state.token = Some(Arc::new(ResumeToken { vector, seen, progress }));
        }
    }

    fn fact(&mut self, fact: &Fact, received: u64) -> Result<(), StorageError> {
        let tag = LocalTag {
            origin: self.origin(fact.tag.origin)?,
            seq: fact.tag.seq.0,
        };
        match &fact.body {
            FactBody::Register {
                subject,
                predicate,
                timestamp,
                value,
            } => {
                let at = self.local_time(timestamp)?;
                let encoded = value.as_ref().map(Value::encode);
                let write = Write { at, tag, received };
                self.register(subject, predicate, write, encoded.as_deref()).map(drop)
            }
            FactBody::Element {
                subject,
                predicate,
                timestamp,
                value,
                present,
            } => {
                let at = self.local_time(timestamp)?;
                self.element(
                    subject,
                    predicate,
                    Write { at, tag, received },
                    (&value.encode(), *present),
                )
            }
            FactBody::Tombstone { subject } => self.delete(subject, tag, received),
            FactBody::Numbers { client, taken } => {
                let client = self.client(*client)?;
                let before = self
                    .numbers(client)?
                    .get(&tag.origin)
                    .map_or(0, |record| record.last_seq().0);
                if before < tag.seq {
                    self.put_numbers(client, tag, before, taken.clone())?;
                }
                Ok(())
            }
            FactBody::Opaque {
                timestamp,
                place,
                kind,
                body,
            } => {
                let at = self.local_time(timestamp)?;
                self.keep_opaque(Write { at, tag, received }, *place, *kind, body)
            }
        }
    }

    /// Forgets what was prepared for this epoch.
    fn collect(&mut self, epoch: u64) -> Result<(), StorageError> {
        let prepared = self.state.prepared.take();
        let prepared = prepared.expect("a collection is only logged when it was prepared");
        let barrier = prepared.barrier.as_ref();
        for cell in &prepared.cells {
            match cell {
                CellKey::Tombstone(subject) => self.collect_tombstone(subject, barrier)?,
                CellKey::Register(subject, predicate) => {
                    if let Some(cell) = self.find_cell(subject, predicate)? {
                        self.collect_cell(cell, None, barrier)?;
                    }
                }
                CellKey::Element(subject, predicate, value) => {
                    if let Some(cell) = self.find_cell(subject, predicate)? {
                        self.collect_cell(cell, Some(&key_value(value)), barrier)?;
                    }
                }
            }
        }
        self.state.summary.collection_epoch = epoch;
        self.state.token = None;
        Ok(())
    }

    /// Whether none of them shows. What is not held either was forgotten, or will be heard of before a barrier is covered
    /// that whoever asks for it covered as well.
    pub(super) fn are_gone(&mut self, cells: &[CellKey]) -> Result<bool, StorageError> {
        for cell in cells {
            let gone = match cell {
                CellKey::Tombstone(subject) => match self.find_subject(subject)? {
                    Some(id) => self.tomb(id)?.is_some(),
                    None => true,
                },
                CellKey::Register(subject, predicate) => match self.find_cell(subject, predicate)? {
                    Some(cell) => self.is_gone(cell, None)?,
                    None => true,
                },
                CellKey::Element(subject, predicate, value) => match self.find_cell(subject, predicate)? {
                    Some(cell) => self.is_gone(cell, Some(&key_value(value)))?,
                    None => true,
                },
            };
            if !gone {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn local_time(&mut self, timestamp: &halcyon_core::clock::Timestamp) -> Result<LocalTime, StorageError> {
        Ok(LocalTime {
            time: timestamp.get_time().0,
            client: self.client(ClientId::of(timestamp))?,
        })
    }
}

fn key_value(value: &Value) -> Vec<u8> {
    let mut short = Vec::new();
    keys::put_value(&mut short, &value.encode());
    short
}

const fn is_register(change: &Change) -> bool {
    matches!(change, Change::Set { .. } | Change::Unset { .. })
}

/// The set as it merges, if that is not what it is already. Two targets with one hash only cost the work.
fn normalized(set: &ChangeSet) -> Option<ChangeSet> {
    if set.changes.len() < 2 {
        return None;
    }
    let mut targets = HashSet::with_capacity(set.changes.len());
    let mut encoded = Vec::new();
    let is_normal = set.changes.iter().all(|change| match change {
        Change::Delete { .. } => false,
        Change::Create { .. } | Change::Opaque { .. } => true,
        _ => targets.insert(target_hash(change, &mut encoded)),
    });
    if is_normal {
        return None;
    }
    let mut set = set.clone();
    set.normalize();
    Some(set)
}

fn target_hash(change: &Change, encoded: &mut Vec<u8>) -> u64 {
    let mut hash = Xxh3::new();
    if let Some(subject) = change.subject() {
        hash.update(subject.as_str().as_bytes());
    }
    hash.update(&[0]);
    if let Some(predicate) = change.predicate() {
        hash.update(predicate.as_str().as_bytes());
    }
    if let Change::Add { value, .. } | Change::Remove { value, .. } = change {
        encoded.clear();
        value.encode_to(encoded);
        hash.update(&[0]);
        hash.update(encoded);
    }
    hash.digest()
}

/// Entities that a normalized set brings into being without giving them a field.
fn created_bare(set: &ChangeSet) -> Vec<&EntityId> {
    let is_create = |change: &Change| matches!(change, Change::Create { .. });
    if !set.changes.iter().any(is_create) {
        return Vec::new();
    }
    let mut written = BTreeSet::new();
    for change in set.changes.iter().filter(|change| !is_create(change)) {
        written.extend(change.subject());
    }
    let created = set
        .changes
        .iter()
        .filter(|change| is_create(change))
        .filter_map(Change::subject);
    created.filter(|subject| !written.contains(subject)).collect()
}
