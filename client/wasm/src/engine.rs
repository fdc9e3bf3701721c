//! The state of one client: what is confirmed, what waits over it, and the queries that are followed.
//!
//! It follows the whole tenant by `Sync.Watch`, until nodes serve subscriptions.
//!
//! What always holds:
//! - queries see whole change sets: what was missed shows when all of it is in;
//! - a set that waits shows until the confirmed state shows what became of it, and the two change places in one step;
//! - records of one step are taken out together.

use std::time::Duration;

use halcyon_core::{
    change::ChangeSet,
    clock::{ClientId, Clock, DRIFT_MAX_DEFAULT, NTP64, WallTime},
    codec::{DecodeError, Reader, put_bytes},
    graph::{Delta, EntityNumber, Graph, SetId},
    id::{EntityId, NodeId, OriginId, Seq, Tag},
    limits::CHANGE_SET_BYTES_MAX,
    version_vector::VersionVector,
};
use prost::bytes::Bytes;

use crate::{
    answers::{Answers, SubscribeError},
    outbox::{Next, Outbox, Settled},
    record::{CONFIRMED, META, META_CLOCK, META_VECTOR, OUTBOX, Record},
    wire::{self, Watched, WireError},
    write::{self, WriteError},
};

/// Under which tag confirmed sets are held here. Nothing that a client shows depends on it.
const HERE: Tag = Tag {
    origin: OriginId {
        node: NodeId(0),
        incarnation: 0,
    },
    seq: Seq(1),
};

/// See the module's page.
#[derive(Debug)]
pub struct Engine {
    tenant: String,
    graph: Graph,
    answers: Answers,
    clock: Clock,
    client: ClientId,
    next_place: u64,
    next_number: u64,
    next_record: u64,
    outbox: Outbox,
    /// What the confirmed state covers.
    vector: VersionVector,
    /// Of what was missed, what has come; shown when all of it is in.
    missed: Vec<ChangeSet>,
    /// What was confirmed counts no longer once what was missed is in: deletions were collected in the meantime.
    begins_anew: bool,
    records: Vec<Record>,
}

impl Engine {
    /// An empty engine. `client` is drawn at random by whoever opens it.
    pub fn new(tenant: &str, client: u128) -> Self {
        let client = ClientId::from_random(client);
        Self {
            tenant: tenant.to_owned(),
            graph: Graph::default(),
            answers: Answers::default(),
            clock: Clock::new(client, NTP64(0)),
            client,
            next_place: 1,
            next_number: 1,
            next_record: 1,
            outbox: Outbox::default(),
            vector: VersionVector::EMPTY,
            missed: Vec::new(),
            begins_anew: false,
            records: Vec::new(),
        }
    }

    /// Takes in what a disk kept, in any order, before anything else.
    pub fn restore(&mut self, record: &Record) -> Result<(), DecodeError> {
        let bytes = record.bytes.as_deref().unwrap_or_default();
        match (record.store, record.key) {
            (CONFIRMED, key) => {
                self.next_record = self.next_record.max(key + 1);
                for set in read_sets(bytes)? {
                    self.graph.apply_set(HERE, &set);
                }
            }
            (OUTBOX, place) => {
                let set = ChangeSet::decode(bytes)?;
                self.next_place = self.next_place.max(place + 1);
                self.graph.propose(&set);
                self.outbox.push_back(place, set, Bytes::copy_from_slice(bytes), true);
            }
            (META, META_VECTOR) => self.vector = VersionVector::decode(bytes)?,
            (META, META_CLOCK) => {
                let mut reader = Reader::new(bytes);
                let floor = NTP64(u64::from_be_bytes(reader.array("a clock")?));
                self.clock = Clock::new(self.client, floor);
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes in a write of a page (`write` has its form), and shows it. Returns its place.
    pub fn write(&mut self, text: &str, wall_millis: u64) -> Result<u64, WriteError> {
        let mut set = ChangeSet {
            timestamp: self.clock.stamp(wall(wall_millis)),
            number: self.next_number,
            changes: write::read(text)?,
        };
        let bytes = Bytes::from(set.encode());
        // A node decodes it before it takes it: what would be refused there is refused here.
        ChangeSet::decode(&bytes)?;
        set.normalize();
        let place = self.next_place;
        self.next_place += 1;
        self.next_number += 1;
        let delta = self.graph.propose(&set);
        self.show(&delta);
        self.records.push(Record::put(OUTBOX, place, bytes.to_vec()));
        self.keep_clock();
        self.outbox.push_back(place, set, bytes, false);
        Ok(place)
    }

    /// The disk has every set up to this place; they may be pushed.
    pub fn durable(&mut self, up_to: u64) {
        self.outbox.durable(up_to);
    }

    /// Follows a query.
    pub fn subscribe(&mut self, id: u32, query: &str) -> Result<(), SubscribeError> {
        self.answers.subscribe(id, query, &self.graph)
    }

    /// Follows it no longer.
    pub fn unsubscribe(&mut self, id: u32) {
        self.answers.unsubscribe(id);
    }

    /// The live triples of an entity, as JSON: `[["issues/title", "x"], …]`.
    pub fn entity(&self, id: &str) -> String {
        let Ok(id) = EntityId::new(id) else {
            return "[]".to_owned();
        };
        let triples = self.graph.triples(&id);
        let triples: serde_json::Value = triples
            .into_iter()
            .map(|(predicate, value)| serde_json::json!([predicate.as_str(), value.to_typed_json()]))
            .collect();
        triples.to_string()
    }

    /// The body of the next `Push`; empty where there is nothing to push, or one is under way.
    pub fn next_push(&mut self) -> Vec<u8> {
        let sets = self.outbox.next_push();
        if sets.is_empty() {
            return Vec::new();
        }
        wire::push(&self.tenant, sets, &self.vector)
    }

    /// The answer to the push under way. Says what became of sets, as JSON.
    pub fn on_pushed(&mut self, body: &[u8]) -> Result<String, WireError> {
        let (settled, next) = match wire::pushed(body) {
            Ok(results) => self.outbox.answered(results),
            Err(error) => {
                self.outbox.lost();
                return Err(error);
            }
        };
        Ok(self.settle(&settled, &next))
    }

    /// The push under way was refused as a whole: the `Error` in its status. Without one the answer was lost.
    pub fn on_push_refused(&mut self, details: &[u8]) -> String {
        let Some(refusal) = wire::refusal(details) else {
            self.outbox.lost();
            return self.settle(&[], &Next::Go);
        };
        let (settled, next) = self.outbox.refused(refusal);
        self.settle(&settled, &next)
    }

    /// The body of a `Watch` that goes on where the confirmed state ends.
    pub fn watch(&mut self) -> Vec<u8> {
        self.missed.clear();
        self.begins_anew = false;
        wire::watch(&self.tenant, &self.vector)
    }

    /// A message of the watch. `true` says that the confirmed state is up to date; an error, that the watch must be
    /// made again.
    pub fn on_watched(&mut self, body: &[u8], wall_millis: u64) -> Result<bool, WireError> {
        match wire::watched(body)? {
            Watched::Missed(sets) => {
                self.missed.extend(sets);
                Ok(false)
            }
            Watched::CaughtUp(vector) => {
                let sets = std::mem::take(&mut self.missed);
                let mut delta = Delta::default();
                if std::mem::take(&mut self.begins_anew) {
                    self.vector = VersionVector::EMPTY;
                    delta = self.forget_all();
                }
                self.vector.join(&vector);
                self.take_in(&sets, delta, wall_millis);
                Ok(true)
            }
            Watched::Live(tag, _) if self.vector.covers_tag(tag) => Ok(true),
            Watched::Live(tag, set) => {
                if tag.seq != self.vector.get(tag.origin).next() {
                    return Err(WireError::Gap);
                }
                self.vector.raise(tag);
                self.take_in(&[set], Delta::default(), wall_millis);
                Ok(true)
            }
            Watched::Anew => {
                self.missed.clear();
                self.begins_anew = true;
                Ok(false)
            }
            Watched::Nothing => Ok(true),
        }
    }

    /// What answers have changed to, in frames (`answers` has them); empty where nothing did.
    pub fn take_news(&mut self) -> Vec<u8> {
        self.answers.take_news()
    }

    /// What is to be kept on disk, all of it or none.
    pub fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    /// Sets that no node has answered for.
    pub fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// The sum over all confirmed live facts, in hex: equal states have equal ones.
    pub fn fingerprint(&self) -> String {
        self.graph.fingerprint().to_string()
    }

    /// Confirmed sets come in, and those of ours that they cover leave the overlay: one step for every query.
    /// Drops all that is confirmed, here and on the disk. Pending sets stay.
    fn forget_all(&mut self) -> Delta {
        let mut delta = Delta::default();
        let entities = u32::try_from(self.graph.dictionary().entities()).unwrap_or(u32::MAX);
        for number in 0..entities {
            let subject = self.graph.dictionary().entity(EntityNumber(number)).clone();
            delta.extend(self.graph.forget(&subject, None));
        }
        let records = 1..self.next_record;
        self.records
            .extend(records.map(|record| Record::remove(CONFIRMED, record)));
        delta
    }

    /// Takes in sets; `delta` is what happened in the same step before.
    fn take_in(&mut self, sets: &[ChangeSet], mut delta: Delta, wall_millis: u64) {
        for set in sets {
            // A timestamp from far ahead was admitted by a node; it only must not pull our clock along.
            let _ = self.clock.observe(&set.timestamp, wall(wall_millis), DRIFT_MAX_DEFAULT);
            delta.extend(self.graph.apply_set(HERE, set));
        }
        if !sets.is_empty() {
            let mut bytes = Vec::new();
            for set in sets {
                put_bytes(&mut bytes, &set.encode());
            }
            self.records.push(Record::put(CONFIRMED, self.next_record, bytes));
            self.next_record += 1;
        }
        let vector = self.vector.encode();
        self.records.push(Record::put(META, META_VECTOR, vector));
        self.release(&[], &mut delta);
        self.keep_clock();
        self.show(&delta.net());
    }

    fn settle(&mut self, settled: &[Settled], next: &Next) -> String {
        let refused = settled.iter().filter_map(|one| match one {
            Settled::Refused { place, .. } => Some(*place),
            Settled::Confirmed { .. } => None,
        });
        let refused: Vec<u64> = refused.collect();
        let mut delta = Delta::default();
        self.release(&refused, &mut delta);
        self.show(&delta.net());
        wire::settled_json(settled, next)
    }

    fn release(&mut self, refused: &[u64], delta: &mut Delta) {
        for done in self.outbox.release(&self.vector, refused) {
            delta.extend(self.graph.withdraw(SetId::of(&done.set)));
            self.records.push(Record::remove(OUTBOX, done.place));
        }
    }

    fn show(&mut self, delta: &Delta) {
        if !delta.is_empty() {
            self.answers.apply(delta, &self.graph);
        }
    }

    fn keep_clock(&mut self) {
        let latest = self.clock.latest().0.to_be_bytes();
        self.records.push(Record::put(META, META_CLOCK, latest.to_vec()));
    }
}

fn wall(millis: u64) -> WallTime {
    WallTime::from_unix(Duration::from_millis(millis))
}

fn read_sets(bytes: &[u8]) -> Result<Vec<ChangeSet>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let mut sets = Vec::new();
    while reader.remaining() > 0 {
        sets.push(ChangeSet::decode(
            reader.bytes("a kept change set", CHANGE_SET_BYTES_MAX)?,
        )?);
    }
    Ok(sets)
}
