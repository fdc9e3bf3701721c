//! A group of commands while it is being merged: reads go through what the group has written so far and the published
//! state below, writes stay in a layer of their own until the log has the group.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use halcyon_core::{
    clock::{ClientId, timestamp},
    codec::{DecodeError, Reader as Bytes},
    id::{EntityId, OriginId, Predicate, Seq, Tag, TenantId},
    numbers::TakenNumbers,
};

use super::{
    facts::{LocalTag, LocalTime},
    keys::{self, NameKind},
    layer::{KeyValue, Layer, Reader},
    limits::NAMES_CACHED_MAX,
    state::TenantState,
    tables::Table,
    types::StorageError,
};

/// A predicate's number and what is known of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct PredicateInfo {
    pub(super) id: u32,
    /// The number of its type.
    pub(super) kind: u32,
    /// Whether an element was ever written under it. Where not, a register write need not look for any.
    pub(super) elements: bool,
}

/// Interned names of one tenant that are in memory.
#[derive(Debug, Default)]
pub(super) struct TenantNames {
    pub(super) subjects: HashMap<EntityId, u32>,
    pub(super) predicates: HashMap<Predicate, PredicateInfo>,
    predicate_names: HashMap<u32, Predicate>,
    origins: HashMap<OriginId, u32>,
    origin_ids: HashMap<u32, OriginId>,
    clients: HashMap<ClientId, u32>,
    client_ids: HashMap<u32, ClientId>,
    /// By client, then by origin.
    numbers: HashMap<u32, BTreeMap<u32, TakenNumbers>>,
}

/// Interned names that are in memory, by tenant number. Only the writer has them.
#[derive(Debug, Default)]
pub(super) struct Names {
    tenants: HashMap<u32, TenantNames>,
    cached: usize,
}

impl Names {
    /// Forgets all: a group failed, and what it interned never was.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn forget(&mut self, tenant: u32) {
        self.tenants.remove(&tenant);
    }

    /// Keeps within the bound. Called between groups.
    pub(super) fn trim(&mut self) {
        if self.cached > NAMES_CACHED_MAX {
            self.clear();
        }
    }
}

/// A group of commands in the making.
#[derive(Debug)]
pub(super) struct Work<'v> {
    pub(super) below: Reader<'v>,
    pub(super) published: &'v BTreeMap<TenantId, Arc<TenantState>>,
    pub(super) pending: Layer,
    pub(super) names: &'v mut Names,
    pub(super) next_tenant: u32,
}

impl<'v> Work<'v> {
    /// The tenant as the group has it so far.
    pub(super) fn tenant(&self, id: TenantId) -> Option<&Arc<TenantState>> {
        match self.pending.tenants.get(&id) {
            Some(state) => state.as_ref(),
            None => self.published.get(&id),
        }
    }

    /// Runs `change` on a tenant that is held.
    pub(super) fn on_tenant<T>(
        &mut self,
        id: TenantId,
        change: impl FnOnce(&mut TenantWork<'_, 'v>) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let taken = match self.pending.tenants.remove(&id) {
            Some(state) => state,
            None => self.published.get(&id).cloned(),
        };
        let mut state = Arc::unwrap_or_clone(taken.ok_or(StorageError::NotHeld(id))?);
        let published = self
            .published
            .get(&id)
            .filter(|published| published.number == state.number);
        let names = self.names.tenants.entry(state.number).or_default();
        let mut work = TenantWork {
            below: &self.below,
            pending: &mut self.pending,
            names,
            cached: &mut self.names.cached,
            fresh_from: published.map_or(0, |published| published.next.subject),
            state: &mut state,
            typed: (0, 0),
        };
        let result = change(&mut work)?;
        self.pending.tenants.insert(id, Some(Arc::new(state)));
        Ok(result)
    }
}

/// One tenant within a group.
#[derive(Debug)]
pub(super) struct TenantWork<'a, 'v> {
    below: &'a Reader<'v>,
    pub(super) pending: &'a mut Layer,
    pub(super) names: &'a mut TenantNames,
    cached: &'a mut usize,
    pub(super) state: &'a mut TenantState,
    /// Subjects from this number on are new in this group: nothing below knows of them.
    fresh_from: u32,
    /// The last subject and type that were noted together.
    typed: (u32, u32),
}

impl TenantWork<'_, '_> {
    /// The tenant's number.
    pub(super) const fn number(&self) -> u32 {
        self.state.number
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        match self.pending.get(table, key) {
            Some(row) => Ok(row.map(<[u8]>::to_vec)),
            None => self.below.get(table, key),
        }
    }

    /// A row about a subject.
    pub(super) fn get_of(&self, subject: u32, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        match self.pending.get(table, key) {
            Some(row) => Ok(row.map(<[u8]>::to_vec)),
            None if subject >= self.fresh_from => Ok(None),
            None => self.below.get(table, key),
        }
    }

    /// All rows whose key begins with `prefix`.
    pub(super) fn rows(&self, table: Table, prefix: &[u8]) -> Result<Vec<KeyValue>, StorageError> {
        let mut merged = self.below.under(self.pending).prefix(table, prefix)?;
        let mut rows = Vec::new();
        while let Some(row) = merged.next_row()? {
            rows.push(row);
        }
        Ok(rows)
    }

    pub(super) fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.pending.put(table, key, Some(value));
    }

    pub(super) fn remove(&mut self, table: Table, key: Vec<u8>) {
        self.pending.put(table, key, None);
    }

    /// The subject's number, if it has one.
    pub(super) fn find_subject(&mut self, subject: &EntityId) -> Result<Option<u32>, StorageError> {
        if let Some(&id) = self.names.subjects.get(subject) {
            return Ok(Some(id));
        }
        let found = self.find(NameKind::Subject, subject.as_str().as_bytes())?;
        if let Some(id) = found {
            *self.cached += 1;
            self.names.subjects.insert(subject.clone(), id);
        }
        Ok(found)
    }

    /// The subject's number; it gets one if it has none.
    pub(super) fn subject(&mut self, subject: &EntityId) -> Result<u32, StorageError> {
        if let Some(id) = self.find_subject(subject)? {
            return Ok(id);
        }
        let id = take_next(&mut self.state.next.subject)?;
        self.name(NameKind::Subject, subject.as_str().as_bytes(), id, &[]);
        self.names.subjects.insert(subject.clone(), id);
        *self.cached += 1;
        Ok(id)
    }

    pub(super) fn predicate(&mut self, predicate: &Predicate) -> Result<PredicateInfo, StorageError> {
        if let Some(&info) = self.names.predicates.get(predicate) {
            return Ok(info);
        }
        let text = predicate.as_str().as_bytes();
        let kind = self.kind(predicate.entity_type())?;
        let info = if let Some(id) = self.find(NameKind::Predicate, text)? {
            let row = self.get(Table::Ids, &keys::id_key(self.number(), NameKind::Predicate, id))?;
            let elements = row.is_some_and(|row| row.first() == Some(&1));
            PredicateInfo { id, kind, elements }
        } else {
            let id = take_next(&mut self.state.next.predicate)?;
            self.name(NameKind::Predicate, text, id, &[0]);
            let elements = false;
            PredicateInfo { id, kind, elements }
        };
        self.names.predicates.insert(predicate.clone(), info);
        self.names.predicate_names.insert(info.id, predicate.clone());
        *self.cached += 2;
        Ok(info)
    }

    /// The predicate's number, if it has one.
    pub(super) fn find_predicate(&self, predicate: &Predicate) -> Result<Option<u32>, StorageError> {
        match self.names.predicates.get(predicate) {
            Some(info) => Ok(Some(info.id)),
            None => self.find(NameKind::Predicate, predicate.as_str().as_bytes()),
        }
    }

    /// Notes that elements are written under the predicate.
    pub(super) fn note_elements(&mut self, predicate: &Predicate, info: PredicateInfo) {
        let mut row = vec![1];
        row.extend_from_slice(predicate.as_str().as_bytes());
        self.put(
            Table::Ids,
            keys::id_key(self.state.number, NameKind::Predicate, info.id),
            row,
        );
        let info = PredicateInfo { elements: true, ..info };
        self.names.predicates.insert(predicate.clone(), info);
    }

    pub(super) fn predicate_name(&mut self, id: u32) -> Result<Predicate, StorageError> {
        if let Some(name) = self.names.predicate_names.get(&id) {
            return Ok(name.clone());
        }
        let row = self.id_row(NameKind::Predicate, id)?;
        let name = read_predicate(&row)?;
        *self.cached += 1;
        self.names.predicate_names.insert(id, name.clone());
        Ok(name)
    }

    pub(super) fn origin(&mut self, origin: OriginId) -> Result<u32, StorageError> {
        if let Some(&id) = self.names.origins.get(&origin) {
            return Ok(id);
        }
        let text = origin.to_bytes();
        let id = if let Some(id) = self.find(NameKind::Origin, &text)? {
            id
        } else {
            let id = take_next(&mut self.state.next.origin)?;
            self.name(NameKind::Origin, &text, id, &[]);
            id
        };
        *self.cached += 2;
        self.names.origins.insert(origin, id);
        self.names.origin_ids.insert(id, origin);
        Ok(id)
    }

    pub(super) fn origin_id(&mut self, id: u32) -> Result<OriginId, StorageError> {
        if let Some(&origin) = self.names.origin_ids.get(&id) {
            return Ok(origin);
        }
        let origin = read_origin(&self.id_row(NameKind::Origin, id)?)?;
        *self.cached += 1;
        self.names.origin_ids.insert(id, origin);
        Ok(origin)
    }

    /// The client's number, if it has one.
    pub(super) fn find_client(&mut self, client: ClientId) -> Result<Option<u32>, StorageError> {
        if let Some(&id) = self.names.clients.get(&client) {
            return Ok(Some(id));
        }
        self.find(NameKind::Client, &client.to_bytes())
    }

    pub(super) fn client(&mut self, client: ClientId) -> Result<u32, StorageError> {
        let id = if let Some(id) = self.find_client(client)? {
            id
        } else {
            let id = take_next(&mut self.state.next.client)?;
            self.name(NameKind::Client, &client.to_bytes(), id, &[]);
            id
        };
        if self.names.clients.insert(client, id).is_none() {
            *self.cached += 2;
            self.names.client_ids.insert(id, client);
        }
        Ok(id)
    }

    pub(super) fn client_id(&mut self, id: u32) -> Result<ClientId, StorageError> {
        if let Some(&client) = self.names.client_ids.get(&id) {
            return Ok(client);
        }
        let client = read_client(&self.id_row(NameKind::Client, id)?)?;
        *self.cached += 1;
        self.names.client_ids.insert(id, client);
        Ok(client)
    }

    pub(super) fn full_time(&mut self, at: LocalTime) -> Result<halcyon_core::clock::Timestamp, StorageError> {
        Ok(timestamp(
            halcyon_core::clock::NTP64(at.time),
            self.client_id(at.client)?,
        ))
    }

    pub(super) fn full_tag(&mut self, tag: LocalTag) -> Result<Tag, StorageError> {
        Ok(Tag {
            origin: self.origin_id(tag.origin)?,
            seq: Seq(tag.seq),
        })
    }

    /// Notes that an entity has a field of a type.
    pub(super) fn note_type(&mut self, subject: u32, kind: u32) {
        if self.typed != (subject, kind) {
            self.typed = (subject, kind);
            let key = keys::key(self.number(), &[u64::from(kind), u64::from(subject)]);
            self.put(Table::Types, key, Vec::new());
        }
    }

    /// Forgets a subject for good.
    pub(super) fn forget_subject(&mut self, subject: &EntityId, id: u32) {
        let tenant = self.number();
        let text = subject.as_str().as_bytes();
        self.remove(Table::Names, keys::name_key(tenant, NameKind::Subject, text));
        self.remove(Table::Ids, keys::id_key(tenant, NameKind::Subject, id));
        self.names.subjects.remove(subject);
    }

    /// The numbers taken from a client, by origin.
    pub(super) fn numbers(&mut self, client: u32) -> Result<&mut BTreeMap<u32, TakenNumbers>, StorageError> {
        if !self.names.numbers.contains_key(&client) {
            let prefix = keys::key(self.number(), &[u64::from(client)]);
            let mut records = BTreeMap::new();
            for (key, row) in self.rows(Table::Numbers, &prefix)? {
                let origin = keys::id(&mut Bytes::new(&key[prefix.len()..])).map_err(damaged("numbers"))?;
                let record = TakenNumbers::decode(&row).map_err(damaged("numbers"))?;
                records.insert(origin, record);
                // A record is about as large as this many names.
                *self.cached += 12;
            }
            self.names.numbers.insert(client, records);
        }
        Ok(self.names.numbers.entry(client).or_default())
    }

    fn kind(&mut self, kind: &str) -> Result<u32, StorageError> {
        if let Some(id) = self.find(NameKind::Type, kind.as_bytes())? {
            return Ok(id);
        }
        let id = take_next(&mut self.state.next.kind)?;
        self.name(NameKind::Type, kind.as_bytes(), id, &[]);
        Ok(id)
    }

    fn find(&self, kind: NameKind, text: &[u8]) -> Result<Option<u32>, StorageError> {
        let Some(row) = self.get(Table::Names, &keys::name_key(self.number(), kind, text))? else {
            return Ok(None);
        };
        keys::id(&mut Bytes::new(&row)).map(Some).map_err(damaged("names"))
    }

    fn name(&mut self, kind: NameKind, text: &[u8], id: u32, flags: &[u8]) {
        let tenant = self.number();
        let mut value = Vec::with_capacity(5);
        keys::put_number(&mut value, u64::from(id));
        self.put(Table::Names, keys::name_key(tenant, kind, text), value);
        self.put(Table::Ids, keys::id_key(tenant, kind, id), [flags, text].concat());
    }

    fn id_row(&self, kind: NameKind, id: u32) -> Result<Vec<u8>, StorageError> {
        let row = self.get(Table::Ids, &keys::id_key(self.number(), kind, id))?;
        row.ok_or_else(|| damaged("ids")(DecodeError::TooShort("a name")))
    }
}

/// An error in a table's row.
pub(super) fn damaged(table: &'static str) -> impl Fn(DecodeError) -> StorageError {
    move |error| StorageError::Damaged { table, error }
}

/// The subject in a row of `Ids`.
pub(super) fn read_subject(row: &[u8]) -> Result<EntityId, StorageError> {
    let text = std::str::from_utf8(row).unwrap_or("");
    EntityId::new(text).map_err(|error| damaged("ids")(error.into()))
}

/// The predicate in a row of `Ids`.
pub(super) fn read_predicate(row: &[u8]) -> Result<Predicate, StorageError> {
    let text = std::str::from_utf8(row.get(1..).unwrap_or(&[])).unwrap_or("");
    Predicate::new(text).map_err(|error| damaged("ids")(error.into()))
}

/// The origin in a row of `Ids`.
pub(super) fn read_origin(row: &[u8]) -> Result<OriginId, StorageError> {
    let bytes = row.try_into();
    let bytes = bytes.map_err(|_| damaged("ids")(DecodeError::TooShort("an origin")))?;
    Ok(OriginId::from_bytes(bytes))
}

/// The client in a row of `Ids`.
pub(super) fn read_client(row: &[u8]) -> Result<ClientId, StorageError> {
    let bytes = row.try_into();
    let bytes = bytes.map_err(|_| damaged("ids")(DecodeError::TooShort("a client id")))?;
    ClientId::from_bytes(bytes).map_err(damaged("ids"))
}

fn take_next(next: &mut u32) -> Result<u32, StorageError> {
    let id = *next;
    *next = id
        .checked_add(1)
        .ok_or_else(|| StorageError::Disk("a tenant has more than 4 billion names".into()))?;
    Ok(id)
}
