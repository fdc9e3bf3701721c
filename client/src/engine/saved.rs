//! What a disk keeps of an engine beside the outbox, as rows: a file of redb takes them, and so does `IndexedDB`.
//!
//! Rows that are taken together belong together: a disk that takes all or nothing comes back to one state of the client.

use halcyon_core::collections::{BTreeMap, BTreeSet};
use halcyon_core::{
    change::ChangeSet,
    codec::{DecodeError, Reader, put_bytes, put_varint},
    graph::EntityNumber,
    id::{EntityId, OriginId, Seq, Tag},
    limits::CHANGE_SET_BYTES_MAX,
    version_vector::VersionVector,
};

use super::{
    Engine, QueryId,
    followed::Followed,
    replica::{Pending, confirmed_sets},
};
use crate::{
    limits::IDLE_RUNS_MAX,
    session::{Place, Stored},
};

/// Where a row belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Key: an entity's id. Value: its confirmed writes, as encoded change sets, each behind its length.
    Facts,
    /// Key: a query (8 bytes, big endian), an entity's id. Value: nothing. The entity is in the query's coverage.
    Coverage,
    /// Key: a query. Value: flags, runs without a follower, vector, text. Key 0: the vector of all synced queries.
    Queries,
    /// Key: a place in the outbox (8 bytes, big endian). Value: 0, a set there that does not show any more; or 1, its
    /// tag and the encoded set as it shows, of which a node has taken it.
    Written,
}

/// A row to write, or (without a value) to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where.
    pub table: Table,
    /// Unique in its table.
    pub key: Vec<u8>,
    /// What to keep.
    pub value: Option<Vec<u8>>,
}

/// The key under which the shared vector stands.
const SHARED: QueryId = QueryId(0);

/// A query's coverage is whole.
const WHOLE: u8 = 1;

/// It shows the shared vector.
const SYNCED: u8 = 2;

/// What became of sets that a node has taken.
#[derive(Debug, Default)]
pub(super) struct Written {
    states: BTreeMap<Place, State>,
    unsaved: BTreeMap<Place, Option<Vec<u8>>>,
}

#[derive(Debug, Default)]
struct State {
    /// It shows no more.
    released: bool,
    /// The outbox has let it go.
    forgotten: bool,
}

impl Written {
    pub(super) fn taken(&mut self, place: Place, tag: Tag, set: &ChangeSet) {
        self.states.entry(place).or_default();
        let mut value = vec![1];
        value.extend_from_slice(&tag.origin.to_bytes());
        put_varint(&mut value, tag.seq.0);
        value.extend_from_slice(&set.encode());
        self.unsaved.insert(place, Some(value));
    }

    /// A node took the set before anything showed here.
    pub(super) fn taken_unseen(&mut self, place: Place) {
        self.states.entry(place).or_default();
        self.released(place);
    }

    pub(super) fn released(&mut self, place: Place) {
        self.settle(place, |state| state.released = true);
    }

    pub(super) fn forgotten(&mut self, place: Place) {
        self.settle(place, |state| state.forgotten = true);
    }

    fn settle(&mut self, place: Place, change: impl FnOnce(&mut State)) {
        let Some(state) = self.states.get_mut(&place) else {
            return;
        };
        change(state);
        if state.released && state.forgotten {
            self.states.remove(&place);
            self.unsaved.insert(place, None);
        } else if state.released {
            self.unsaved.insert(place, Some(vec![0]));
        }
    }
}

impl Engine {
    /// What changed since rows were taken last. None if nothing did.
    pub fn take_rows(&mut self) -> Vec<Record> {
        let unsaved = self.replica.take_unsaved();
        let mut rows = Vec::new();
        for (place, value) in std::mem::take(&mut self.written.unsaved) {
            rows.push(row(Table::Written, &place.0.to_be_bytes(), value));
        }
        let shown_moved = std::mem::take(&mut self.link.shown_moved);
        let queries_moved = std::mem::take(&mut self.link.queries_moved);
        if !self.saves {
            return Vec::new();
        }
        for entity in unsaved.entities {
            let id = self.replica.graph().dictionary().entity(entity);
            rows.push(row(Table::Facts, id.as_str().as_bytes(), self.facts(entity)));
        }
        for (query, entity) in unsaved.covered {
            let mut key = query.0.to_be_bytes().to_vec();
            key.extend_from_slice(self.replica.graph().dictionary().entity(entity).as_str().as_bytes());
            let value = self.replica.covers(query, entity).then(Vec::new);
            rows.push(row(Table::Coverage, &key, value));
        }
        if shown_moved {
            rows.push(row(Table::Queries, &SHARED.0.to_be_bytes(), Some(self.shown.encode())));
        }
        for query in queries_moved {
            let value = self.queries.get(&query).map(query_value);
            rows.push(row(Table::Queries, &query.0.to_be_bytes(), value));
        }
        rows
    }

    fn facts(&self, entity: EntityNumber) -> Option<Vec<u8>> {
        if !self.replica.is_needed(entity) {
            return None;
        }
        let mut value = Vec::new();
        for set in confirmed_sets(self.replica.graph(), entity) {
            put_bytes(&mut value, &set.encode());
        }
        Some(value)
    }

    /// Takes in what a disk kept. Of a key that comes twice the later row counts. A row that cannot be read is left out:
    /// what it said comes again from a node.
    pub(super) fn restore(&mut self, rows: Vec<Record>, sets: &[Stored]) {
        let mut written = BTreeMap::new();
        let mut coverage = Vec::new();
        self.replica.begin_restore();
        for Record { table, key, value } in rows {
            let (number, rest) = (read_number(&key), key.get(8..).unwrap_or_default());
            if table == Table::Facts {
                self.restore_facts(&key, value.as_deref());
                continue;
            }
            if table == Table::Coverage {
                let is_in = value.is_some();
                coverage.extend(entity(rest).map(|entity| (QueryId(number), entity, is_in)));
                continue;
            }
            let Some(value) = value else { continue };
            match table {
                Table::Facts | Table::Coverage => {}
                Table::Queries if number == SHARED.0 => self.shown = VersionVector::decode(&value).unwrap_or_default(),
                Table::Queries => self.restore_query(QueryId(number), &value),
                Table::Written => {
                    written.insert(Place(number), value);
                }
            }
        }
        self.replica.end_restore();
        for (query, entity, is_in) in coverage {
            if is_in && self.queries.contains_key(&query) {
                self.replica.restore_cover(query, &entity);
            } else if !is_in {
                self.replica.uncover(query, &entity);
            }
        }
        self.drop_idle();
        self.restore_pending(written, sets);
        let shown = self.shown.clone();
        for query in self.queries.values_mut().filter(|query| query.was_synced) {
            query.vector.join(&shown);
        }
        let seen = self.queries.values().map(|query| &query.vector).chain([&self.shown]);
        for vector in seen {
            self.session.saw(vector);
        }
        // Nothing of this is news to the disk, but what was dropped.
        let _ = self.replica.take_moves();
        let _ = self.replica.take_unsaved();
    }

    fn restore_facts(&mut self, key: &[u8], value: Option<&[u8]>) {
        if let Some(entity) = entity(key) {
            self.replica.forget(&entity);
        }
        let Some(value) = value else { return };
        let mut reader = Reader::new(value);
        while reader.remaining() > 0 {
            let set = reader.bytes("a change set", CHANGE_SET_BYTES_MAX);
            if set.and_then(|set| self.replica.restore(set)).is_err() {
                return;
            }
        }
    }

    fn restore_query(&mut self, id: QueryId, value: &[u8]) {
        let Ok(followed) = read_query(value) else { return };
        self.next_query = self.next_query.max(id.0 + 1);
        self.by_text.insert(followed.text.clone(), id);
        self.queries.insert(id, followed);
        // One run more without a follower, until one comes.
        self.link.queries_moved.insert(id);
    }

    /// Drops queries that no run has followed for long.
    fn drop_idle(&mut self) {
        let is_idle = |query: &Followed| query.idle_runs > IDLE_RUNS_MAX;
        let idle = self.queries.iter().filter(|(_, query)| is_idle(query));
        let idle: Vec<QueryId> = idle.map(|(id, _)| *id).collect();
        for id in idle {
            self.remove(id);
        }
    }

    fn restore_pending(&mut self, mut written: BTreeMap<Place, Vec<u8>>, sets: &[Stored]) {
        self.shows = !self.queries.is_empty();
        if !self.shows {
            self.written
                .unsaved
                .extend(written.into_keys().map(|place| (place, None)));
            return;
        }
        let there: BTreeSet<Place> = sets.iter().map(|stored| stored.place).collect();
        for stored in sets {
            match written
                .get(&stored.place)
                .map(|value| read_written(stored.place, value))
            {
                None | Some(Err(_)) => self.propose(stored),
                Some(Ok(_)) => {}
            }
        }
        for (place, value) in std::mem::take(&mut written) {
            let Ok(pending) = read_written(place, &value) else {
                continue;
            };
            let state = State {
                released: pending.is_none(),
                forgotten: !there.contains(&place),
            };
            if state.released && state.forgotten {
                self.written.unsaved.insert(place, None);
                continue;
            }
            self.written.states.insert(place, state);
            if let Some(pending) = pending {
                self.replica.propose(pending);
            }
        }
    }
}

fn row(table: Table, key: &[u8], value: Option<Vec<u8>>) -> Record {
    Record {
        table,
        key: key.to_vec(),
        value,
    }
}

fn query_value(followed: &Followed) -> Vec<u8> {
    // Of what a node answers nothing is kept.
    let is_answered = followed.answered.is_some();
    let is_synced = followed.is_synced() && !is_answered;
    let mut value = vec![if followed.is_whole { WHOLE } else { 0 } | if is_synced { SYNCED } else { 0 }];
    put_varint(&mut value, followed.idle_runs);
    let vector = if is_synced || is_answered {
        &VersionVector::EMPTY
    } else {
        &followed.vector
    };
    put_bytes(&mut value, &vector.encode());
    value.extend_from_slice(followed.text.as_bytes());
    value
}

fn read_query(value: &[u8]) -> Result<Followed, DecodeError> {
    let mut reader = Reader::new(value);
    let flags = reader.byte("a query")?;
    let idle_runs = reader.varint("runs of a query")?;
    let vector = VersionVector::decode(reader.bytes("a query's vector", value.len())?)?;
    let text = &value[value.len() - reader.remaining()..];
    let text = std::str::from_utf8(text).map_err(|_| DecodeError::invalid("a query", "not UTF-8"))?;
    let mut followed =
        Followed::new(text).map_err(|_| DecodeError::invalid("a query", "this release does not understand it"))?;
    followed.is_whole = flags & WHOLE != 0;
    followed.was_synced = flags & SYNCED != 0;
    followed.vector = vector;
    followed.idle_runs = idle_runs.saturating_add(1);
    Ok(followed)
}

fn read_written(place: Place, value: &[u8]) -> Result<Option<Pending>, DecodeError> {
    let mut reader = Reader::new(value);
    if reader.byte("a written set")? == 0 {
        return Ok(None);
    }
    let origin = OriginId::from_bytes(reader.array("an origin")?);
    let seq = Seq(reader.varint("a seq")?);
    let set = ChangeSet::decode(&value[value.len() - reader.remaining()..])?;
    let tag = Some(Tag { origin, seq });
    Ok(Some(Pending { place, set, tag }))
}

fn read_number(key: &[u8]) -> u64 {
    let bytes = key.get(..8).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(u64::MAX, u64::from_be_bytes)
}

fn entity(bytes: &[u8]) -> Option<EntityId> {
    EntityId::new(std::str::from_utf8(bytes).ok()?).ok()
}
