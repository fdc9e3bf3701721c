//! From rows back to names, values and facts, for readers.

use std::collections::BTreeMap;

use halcyon_core::{
    clock::{ClientId, NTP64, Timestamp, read_timestamp, timestamp},
    codec::{DecodeError, Reader as Bytes},
    fact::FactBody,
    id::{EntityId, OriginId, Predicate},
    numbers::TakenNumbers,
    value::Value,
};

use super::{
    facts::{LocalTag, LocalTime, Stored},
    keys::{self, NameKind, Place},
    layer::Reader,
    tables::Table,
    types::{CellKey, LiveTriple, StorageError},
    work::{damaged, read_client, read_predicate, read_subject},
};

/// Names kept by one reader. Beyond it the reader starts anew.
const KEPT_MAX: usize = 4_096;

/// Names of one tenant that a reader has met.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    pub(super) tenant: u32,
    predicates: BTreeMap<u32, Predicate>,
    clients: BTreeMap<u32, ClientId>,
    /// The last subject: rows of one entity stand together.
    subject: Option<(u32, EntityId)>,
}

/// The names in a key of `Cells`.
#[derive(Debug, Clone, Copy)]
pub(super) struct CellKeyParts<'a> {
    pub(super) subject: u32,
    pub(super) predicate: u32,
    /// The value of an element, as keys hold it.
    pub(super) element: Option<&'a [u8]>,
}

impl<'a> CellKeyParts<'a> {
    pub(super) fn read(key: &'a [u8]) -> Result<Self, StorageError> {
        let read = || -> Result<Self, DecodeError> {
            let mut reader = Bytes::new(key);
            keys::id(&mut reader)?;
            let (subject, predicate) = (keys::id(&mut reader)?, keys::id(&mut reader)?);
            let part = reader.byte("a cell's part")?;
            let rest = &key[key.len() - reader.remaining()..];
            Ok(Self {
                subject,
                predicate,
                element: (part == keys::ELEMENT).then_some(rest),
            })
        };
        read().map_err(damaged("cells"))
    }
}

impl Resolver {
    pub(super) fn new(tenant: u32) -> Self {
        Self {
            tenant,
            ..Self::default()
        }
    }

    pub(super) fn subject(&mut self, reader: &Reader<'_>, id: u32) -> Result<EntityId, StorageError> {
        if let Some((held, subject)) = &self.subject
            && *held == id
        {
            return Ok(subject.clone());
        }
        let subject = read_subject(&self.row(reader, NameKind::Subject, id)?)?;
        self.subject = Some((id, subject.clone()));
        Ok(subject)
    }

    pub(super) fn predicate(&mut self, reader: &Reader<'_>, id: u32) -> Result<Predicate, StorageError> {
        if let Some(predicate) = self.predicates.get(&id) {
            return Ok(predicate.clone());
        }
        let predicate = read_predicate(&self.row(reader, NameKind::Predicate, id)?)?;
        if self.predicates.len() >= KEPT_MAX {
            self.predicates.clear();
        }
        self.predicates.insert(id, predicate.clone());
        Ok(predicate)
    }

    fn client(&mut self, reader: &Reader<'_>, id: u32) -> Result<ClientId, StorageError> {
        if let Some(&client) = self.clients.get(&id) {
            return Ok(client);
        }
        let client = read_client(&self.row(reader, NameKind::Client, id)?)?;
        if self.clients.len() >= KEPT_MAX {
            self.clients.clear();
        }
        self.clients.insert(id, client);
        Ok(client)
    }

    fn time(&mut self, reader: &Reader<'_>, at: LocalTime) -> Result<Timestamp, StorageError> {
        Ok(timestamp(NTP64(at.time), self.client(reader, at.client)?))
    }

    /// The triple of a row of `Cells`, if it is live.
    pub(super) fn triple(
        &mut self,
        reader: &Reader<'_>,
        cell: CellKeyParts<'_>,
        row: &[u8],
    ) -> Result<Option<LiveTriple>, StorageError> {
        let stored = Stored::decode(row).map_err(damaged("cells"))?;
        if !stored.live {
            return Ok(None);
        }
        Ok(Some(LiveTriple {
            subject: self.subject(reader, cell.subject)?,
            predicate: self.predicate(reader, cell.predicate)?,
            value: whole_value(&stored, cell.element)?,
            timestamp: self.time(reader, stored.at)?,
        }))
    }

    /// The fact at a place. `None` where it has gone on: the row of `ByOrigin` is stale, which is our own bug.
    pub(super) fn fact(
        &mut self,
        reader: &Reader<'_>,
        tag: LocalTag,
        place: &Place<'_>,
    ) -> Result<FactBody, StorageError> {
        let tenant = self.tenant;
        match *place {
            Place::Register(subject, predicate) => {
                let row = found(reader.get(Table::Cells, &keys::register_key(tenant, subject, predicate))?)?;
                let stored = Stored::decode(&row).map_err(damaged("cells"))?;
                let value = stored.register_value().map(Value::decode).transpose();
                Ok(FactBody::Register {
                    subject: self.subject(reader, subject)?,
                    predicate: self.predicate(reader, predicate)?,
                    timestamp: self.time(reader, stored.at)?,
                    value: value.map_err(damaged("cells"))?,
                })
            }
            Place::Element(subject, predicate, short) => {
                let row = found(reader.get(Table::Cells, &keys::element_key(tenant, subject, predicate, short))?)?;
                let stored = Stored::decode(&row).map_err(damaged("cells"))?;
                Ok(FactBody::Element {
                    subject: self.subject(reader, subject)?,
                    predicate: self.predicate(reader, predicate)?,
                    timestamp: self.time(reader, stored.at)?,
                    value: whole_value(&stored, Some(short))?,
                    present: stored.live,
                })
            }
            Place::Tombstone(subject) => Ok(FactBody::Tombstone {
                subject: self.subject(reader, subject)?,
            }),
            Place::Numbers(client) => {
                let key = keys::key(tenant, &[u64::from(client), u64::from(tag.origin)]);
                let row = found(reader.get(Table::Numbers, &key)?)?;
                Ok(FactBody::Numbers {
                    client: self.client(reader, client)?,
                    taken: TakenNumbers::decode(&row).map_err(damaged("numbers"))?,
                })
            }
            Place::Opaque(place) => {
                let key = keys::key(tenant, &[u64::from(tag.origin), tag.seq, u64::from(place)]);
                let row = found(reader.get(Table::Opaque, &key)?)?;
                let mut reader = Bytes::new(&row);
                let timestamp = read_timestamp(&mut reader).map_err(damaged("opaque"))?;
                let kind = reader.byte("an opaque change").map_err(damaged("opaque"))?;
                let body = row[row.len() - reader.remaining()..].to_vec();
                Ok(FactBody::Opaque {
                    timestamp,
                    place,
                    kind,
                    body,
                })
            }
        }
    }

    /// The cell at a place that says that a fact is gone.
    pub(super) fn cell_key(&mut self, reader: &Reader<'_>, place: &Place<'_>) -> Result<Option<CellKey>, StorageError> {
        Ok(match *place {
            Place::Tombstone(subject) => Some(CellKey::Tombstone(self.subject(reader, subject)?)),
            Place::Register(subject, predicate) => Some(CellKey::Register(
                self.subject(reader, subject)?,
                self.predicate(reader, predicate)?,
            )),
            Place::Element(subject, predicate, short) => {
                let row = found(reader.get(Table::Cells, &keys::element_key(self.tenant, subject, predicate, short))?)?;
                let stored = Stored::decode(&row).map_err(damaged("cells"))?;
                let value = whole_value(&stored, Some(short))?;
                let (subject, predicate) = (self.subject(reader, subject)?, self.predicate(reader, predicate)?);
                Some(CellKey::Element(subject, predicate, value))
            }
            Place::Numbers(_) | Place::Opaque(_) => None,
        })
    }

    fn row(&self, reader: &Reader<'_>, kind: NameKind, id: u32) -> Result<Vec<u8>, StorageError> {
        found(reader.get(Table::Ids, &keys::id_key(self.tenant, kind, id))?)
    }
}

/// The number of a name, if it has one.
pub(super) fn find(reader: &Reader<'_>, tenant: u32, kind: NameKind, text: &[u8]) -> Result<Option<u32>, StorageError> {
    let row = reader.get(Table::Names, &keys::name_key(tenant, kind, text))?;
    row.map(|row| keys::id(&mut Bytes::new(&row)).map_err(damaged("names")))
        .transpose()
}

/// The number of an origin, if it has one.
pub(super) fn find_origin(reader: &Reader<'_>, tenant: u32, origin: OriginId) -> Result<Option<u32>, StorageError> {
    find(reader, tenant, NameKind::Origin, &origin.to_bytes())
}

fn whole_value(stored: &Stored<'_>, element: Option<&[u8]>) -> Result<Value, StorageError> {
    let encoded = match element {
        Some(short) if !keys::is_cut(short) => short,
        _ => stored.value,
    };
    Value::decode(encoded).map_err(damaged("cells"))
}

fn found(row: Option<Vec<u8>>) -> Result<Vec<u8>, StorageError> {
    row.ok_or_else(|| damaged("by-origin")(DecodeError::TooShort("a fact's row")))
}
