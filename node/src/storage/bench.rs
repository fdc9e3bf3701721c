//! What the engine does by itself: writes acknowledged after their sync, bulk, reads, and a delta applied elsewhere.
//!
//! The disk is the environment's, with a counter in between, so that device bytes are what the engine asked for.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, NTP64, timestamp},
    env::{Access, BoxFuture, Disk, Env, File},
    id::{EntityId, NodeId, Predicate, TenantId},
    limits::BATCH_BYTES_MAX,
    value::Value,
    version_vector::VersionVector,
};
use serde::Serialize;

use super::{
    OpenError, Options, Storage,
    types::{Admit, AdmitError, CommitSink, DeltaBatch, ScanQuery, StorageError, StorageEvent},
};

/// Triples of one entity in the bench.
const FIELDS: u64 = 10;

/// Why a bench ended early.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Storage does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Storage does not read or write.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A set was not taken.
    #[error(transparent)]
    Admit(#[from] AdmitError),
    /// A writer stopped.
    #[error("a writer stopped")]
    Stopped,
}

/// Single-change sets from several writers at once.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Singles {
    /// Writers, each with one set under way.
    pub writers: u64,
    /// Sets acknowledged.
    pub sets: u64,
    /// The rate.
    pub sets_per_second: u64,
    /// Syncs they took.
    pub syncs: u64,
}

/// Sets of many changes, one after the other.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Bulk {
    /// Triples written.
    pub triples: u64,
    /// The rate until all are acknowledged.
    pub triples_per_second: u64,
    /// Bytes of the encoded sets.
    pub payload_bytes: u64,
    /// Bytes written to files.
    pub written_bytes: u64,
    /// The same per byte of payload.
    pub written_per_payload: f64,
    /// Bytes of all files after it.
    pub disk_bytes: u64,
}

/// Reads of what [`Bulk`] wrote.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Reads {
    /// Entities of ten fields.
    pub entities_per_second: u64,
    /// Triples in pages of a thousand, by value.
    pub scanned_per_second: u64,
}

/// A delta opened on one storage and applied to another.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Filled {
    /// Facts moved.
    pub facts: u64,
    /// The rate.
    pub facts_per_second: u64,
}

/// The parts of the world that the bench needs, and its tenant.
#[derive(Debug)]
pub struct Bench {
    env: Env,
    counted: Arc<Counted>,
    storage: Storage,
    tenant: TenantId,
    client: u64,
}

impl Bench {
    /// Opens storage in the environment's directory, which should be empty, with one tenant.
    pub async fn open(env: &Env, options: Options) -> Result<Self, BenchError> {
        let counted = Arc::new(Counted {
            disk: Arc::clone(&env.disk),
            written: Arc::default(),
        });
        let env = Env {
            disk: Arc::clone(&counted) as Arc<dyn Disk>,
            ..env.clone()
        };
        let storage = Storage::open(&env, options, Arc::new(Deaf)).await?;
        let tenant = TenantId::generate(|count| env.random_bytes(count));
        storage.open_tenant(tenant, 0).await?;
        storage.set_admitting(tenant, true).await?;
        let client = env.entropy.next();
        Ok(Self {
            env,
            counted,
            storage,
            tenant,
            client,
        })
    }

    /// The storage, for more.
    pub const fn storage(&self) -> &Storage {
        &self.storage
    }

    /// `writers` tasks, each waiting for one set before the next, for a time.
    pub async fn singles(&mut self, writers: u64, time: Duration) -> Result<Singles, BenchError> {
        let syncs = self.storage.metrics().syncs;
        let start = self.env.clock.monotonic();
        let mut tasks = Vec::new();
        for _ in 0..writers {
            self.client += 1;
            let (env, storage) = (self.env.clone(), self.storage.clone());
            let mut maker = Maker::new(self.tenant, self.client);
            tasks.push(tokio::spawn(async move {
                let mut sets = 0;
                while since(&env, start) < time {
                    storage.admit(maker.set(&env, 1)).await?;
                    sets += 1;
                }
                Ok::<u64, AdmitError>(sets)
            }));
        }
        let mut sets = 0;
        for task in tasks {
            sets += task.await.map_err(|_| BenchError::Stopped)??;
        }
        let took = since(&self.env, start);
        Ok(Singles {
            writers,
            sets,
            sets_per_second: rate(sets, took),
            syncs: self.storage.metrics().syncs - syncs,
        })
    }

    /// Sets of `changes`, two under way, until there are `triples`; then waits for the index to have them all.
    pub async fn bulk(&mut self, triples: u64, changes: u64) -> Result<Bulk, BenchError> {
        self.client += 1;
        let mut maker = Maker::new(self.tenant, self.client);
        let before = self.counted.written.load(Ordering::Relaxed);
        let start = self.env.clock.monotonic();
        let (mut made, mut payload_bytes) = (0, 0);
        let mut under_way: Option<tokio::task::JoinHandle<Result<_, AdmitError>>> = None;
        while made < triples {
            let admit = maker.set(&self.env, changes);
            made += changes;
            payload_bytes += admit.encoded.len() as u64;
            let storage = self.storage.clone();
            let next = tokio::spawn(async move { storage.admit(admit).await });
            if let Some(last) = under_way.replace(next) {
                last.await.map_err(|_| BenchError::Stopped)??;
            }
        }
        if let Some(last) = under_way {
            last.await.map_err(|_| BenchError::Stopped)??;
        }
        let took = since(&self.env, start);
        while self.storage.metrics().overlay_bytes > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let written_bytes = self.counted.written.load(Ordering::Relaxed) - before;
        Ok(Bulk {
            triples: made,
            triples_per_second: rate(made, took),
            payload_bytes,
            written_bytes,
            written_per_payload: ratio(written_bytes, payload_bytes),
            disk_bytes: self.counted.disk_bytes()?,
        })
    }

    /// Random entities of the last bulk, and one field by value.
    pub fn reads(&self, count: u64, entities: u64) -> Result<Reads, BenchError> {
        let maker = Maker::new(self.tenant, self.client);
        let start = self.env.clock.monotonic();
        for _ in 0..count {
            let subject = maker.subject(self.env.entropy.next() % entities);
            self.storage.get(self.tenant, &subject)?;
        }
        let read = self.env.clock.monotonic();
        let mut query = ScanQuery {
            predicate: Some(maker.predicates[0].clone()),
            limit: 1_000,
            ..ScanQuery::default()
        };
        let mut scanned = 0;
        loop {
            let page = self.storage.scan(self.tenant, &query)?;
            scanned += page.triples.len() as u64;
            if page.cursor.is_empty() {
                break;
            }
            query.cursor = page.cursor;
        }
        Ok(Reads {
            entities_per_second: rate(count, read.saturating_sub(start)),
            scanned_per_second: rate(scanned, since(&self.env, read)),
        })
    }

    /// Fills an empty storage from this one.
    pub async fn fill(&self, other: &Self) -> Result<Filled, BenchError> {
        other.storage.open_tenant(self.tenant, 0).await?;
        let start = self.env.clock.monotonic();
        let mut reader = self.storage.open_delta(self.tenant, &VersionVector::EMPTY, None)?;
        let (vector, seen) = (reader.vector().clone(), reader.seen().clone());
        let now = self.env.clock.wall();
        let batch = |facts, complete| DeltaBatch {
            tenant: self.tenant,
            facts,
            vector: vector.clone(),
            seen: seen.clone(),
            complete,
            now,
        };
        let mut moved = 0;
        let mut under_way: Option<tokio::task::JoinHandle<Result<(), StorageError>>> = None;
        while let Some(facts) = reader.next_batch(BATCH_BYTES_MAX)? {
            moved += facts.len() as u64;
            let (batch, storage) = (batch(facts, false), other.storage.clone());
            let next = tokio::spawn(async move { storage.take_delta(batch).await });
            if let Some(last) = under_way.replace(next) {
                last.await.map_err(|_| BenchError::Stopped)??;
            }
        }
        if let Some(last) = under_way {
            last.await.map_err(|_| BenchError::Stopped)??;
        }
        other.storage.take_delta(batch(Vec::new(), true)).await?;
        Ok(Filled {
            facts: moved,
            facts_per_second: rate(moved, since(&self.env, start)),
        })
    }
}

/// Makes life-like sets: entities of ten fields, texts, numbers, references.
struct Maker {
    tenant: TenantId,
    client: u64,
    number: u64,
    made: u64,
    predicates: Vec<Predicate>,
    vector: Arc<VersionVector>,
}

impl Maker {
    fn new(tenant: TenantId, client: u64) -> Self {
        let predicates = (0..FIELDS).map(|field| Predicate::new(&format!("issue/field_{field}")));
        Self {
            tenant,
            client,
            number: 0,
            made: 0,
            predicates: predicates.map(|name| name.expect("a name of letters")).collect(),
            vector: Arc::default(),
        }
    }

    fn subject(&self, entity: u64) -> EntityId {
        let hash = xxhash_rust::xxh3::xxh3_128_with_seed(&entity.to_be_bytes(), self.client);
        EntityId::new(&format!("{hash:032x}")[..21]).expect("21 hexadecimal digits")
    }

    fn value(&self, entity: u64, field: u64) -> Value {
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&entity.to_be_bytes(), field);
        match field {
            0 => Value::string(&format!("issue {hash:016x}")),
            1 => Value::Date(i64::from(u32::try_from(hash >> 32).unwrap_or(0))),
            2 => Value::Boolean(hash.is_multiple_of(2)),
            3 => Value::Ref(self.subject(hash % 1_000)),
            4 => Value::number(f64::from(u32::try_from(hash % 100).unwrap_or(0))).expect("not NaN"),
            _ => Value::string(&format!("text {hash:020}")),
        }
    }

    fn set(&mut self, env: &Env, changes: u64) -> Admit {
        let mut set = Vec::new();
        for _ in 0..changes {
            let (entity, field) = (self.made / FIELDS, self.made % FIELDS);
            let subject = self.subject(entity);
            if field == 0 {
                set.push(Change::Create {
                    subject: subject.clone(),
                });
            }
            let field_at = usize::try_from(field).expect("below ten");
            set.push(Change::Set {
                predicate: self.predicates[field_at].clone(),
                value: self.value(entity, field),
                subject,
            });
            self.made += 1;
        }
        self.number += 1;
        let now = env.clock.wall();
        let set = ChangeSet {
            timestamp: timestamp(NTP64(now.0.0 + self.number), ClientId::from_random(self.client.into())),
            number: self.number,
            changes: set,
        };
        let encoded = set.encode().into();
        Admit {
            tenant: self.tenant,
            set,
            encoded,
            client_vector: Arc::clone(&self.vector),
            now,
            ahead: None,
        }
    }
}

/// A disk that counts what is written.
#[derive(Clone)]
struct Counted {
    disk: Arc<dyn Disk>,
    written: Arc<AtomicU64>,
}

impl std::fmt::Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counted")
    }
}

#[derive(Debug)]
struct CountedFile {
    file: Arc<dyn File>,
    written: Arc<AtomicU64>,
}

impl Counted {
    fn disk_bytes(&self) -> Result<u64, StorageError> {
        let total = || -> io::Result<u64> {
            let mut total = 0;
            for name in self.disk.list()?.iter().filter(|name| name.starts_with("shard-")) {
                total += self.disk.open(name).and_then(|file| file.len()).unwrap_or(0);
            }
            Ok(total)
        };
        total().map_err(|error| StorageError::Disk(error.to_string().into()))
    }
}

impl Disk for Counted {
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(name)?;
        let written = Arc::clone(&self.written);
        Ok(Arc::new(CountedFile { file, written }))
    }

    fn write_small(&self, name: &str, bytes: &[u8], access: Access) -> io::Result<()> {
        self.disk.write_small(name, bytes, access)
    }

    fn read_small(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.disk.read_small(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn run<'a>(&'a self, work: Box<dyn FnOnce() + Send + 'a>) -> BoxFuture<'a, ()> {
        self.disk.run(work)
    }

    fn run_brief<'a>(&'a self, work: Box<dyn FnOnce() + Send + 'a>) -> BoxFuture<'a, ()> {
        self.disk.run_brief(work)
    }
}

impl File for CountedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, buffer)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.file.write(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

#[derive(Debug)]
struct Deaf;

impl CommitSink for Deaf {
    fn on_events(&self, _events: Vec<StorageEvent>) {}
}

fn since(env: &Env, start: Duration) -> Duration {
    env.clock.monotonic().saturating_sub(start)
}

fn rate(count: u64, took: Duration) -> u64 {
    let micros = took.as_micros().max(1);
    u64::try_from(u128::from(count) * 1_000_000 / micros).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "for people, to two digits")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b.max(1) as f64
}

/// The node that a bench writes as.
pub const NODE: NodeId = NodeId(1);
