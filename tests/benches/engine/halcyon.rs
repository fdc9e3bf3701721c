//! The node's storage, as the node uses it: real files, the real writer, every set acknowledged after its fsync.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, Clock, NTP64},
    env::Env,
    id::{NodeId, TenantId},
    value::Value,
    version_vector::VersionVector,
};
use halcyon_node::{
    env,
    storage::{
        Options, Storage,
        types::{Admit, CommitSink, StorageEvent},
    },
};
use halcyon_tests::{
    load::{entity, predicate},
    wait::{self, Stopwatch, runtime},
};
use tokio::task::JoinSet;

use super::work::{FIELDS, Fact, Found, Meter, Row, SET_CHANGES};

/// How long the last one to have a directory may take to leave it.
const CLOSES_IN: Duration = Duration::from_secs(5);

/// Hears of commits and does nothing.
struct Nobody;

impl CommitSink for Nobody {
    fn on_events(&self, _events: Vec<StorageEvent>) {}
}

/// Measures the rows, one after the other, in one store.
pub(crate) fn measure(rows: &[Row], triples: usize) -> Vec<(Row, Found)> {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    runtime().block_on(async {
        let env = env::system(directory.path()).expect("an empty directory is free");
        let storage = open(&env).await;
        let tenant = TenantId::generate(|count| vec![7; count]);
        storage.open_tenant(tenant, 0).await.expect("the disk takes it");
        storage.set_admitting(tenant, true).await.expect("the disk takes it");
        let mut load = Load {
            env,
            storage: Some(storage),
            tenant,
            triples,
            next: Arc::new(AtomicUsize::new(0)),
            clients: 0,
        };
        let mut found = Vec::new();
        for &row in rows {
            let meter = Meter::start();
            let written = match row {
                Row::Batches => load.batches().await,
                Row::Singles { writers, window } => load.singles(writers, window).await,
            };
            found.push((row, meter.stop(written, directory.path())));
        }
        load.close().await;
        found
    })
}

async fn open(env: &Env) -> Storage {
    let options = Options {
        node: NodeId(1),
        ..Options::default()
    };
    let watch = Stopwatch::start();
    loop {
        match Storage::open(env, options.clone(), Arc::new(Nobody)).await {
            Ok(storage) => return storage,
            // The tasks of who had it before let go of the files a moment after they said that they end.
            Err(_) if watch.elapsed() < CLOSES_IN => tokio::task::yield_now().await,
            Err(error) => panic!("the directory is empty or ours: {error}"),
        }
    }
}

/// What writes to one store.
struct Load {
    env: Env,
    /// None while it is closed and opened again.
    storage: Option<Storage>,
    tenant: TenantId,
    triples: usize,
    /// The next set of one.
    next: Arc<AtomicUsize>,
    clients: u128,
}

impl Load {
    async fn batches(&mut self) -> usize {
        let mut writer = self.client();
        for first in (0..self.triples).step_by(SET_CHANGES) {
            let facts = Fact::set(first, self.triples);
            writer.write(facts.flat_map(|fact| changes(&fact)).collect()).await;
        }
        drop(writer);
        // What is still to be folded into the index counts here, and not in the row that comes next.
        self.close().await;
        let storage = open(&self.env).await;
        let admitting = storage.set_admitting(self.tenant, true);
        admitting.await.expect("the disk takes it");
        self.storage = Some(storage);
        self.triples
    }

    async fn singles(&mut self, writers: usize, window: Duration) -> usize {
        let before = self.next.load(Ordering::Relaxed);
        let (watch, triples) = (Stopwatch::start(), self.triples);
        let mut tasks = JoinSet::new();
        for _ in 0..writers {
            let (mut writer, next) = (self.client(), Arc::clone(&self.next));
            tasks.spawn(async move {
                while watch.elapsed() < window {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    writer.write(changes(&Fact::single(number, triples)).collect()).await;
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.expect("a writer ends with its window");
        }
        self.next.load(Ordering::Relaxed) - before
    }

    fn client(&mut self) -> Writer {
        self.clients += 1;
        let storage = self.storage.as_ref().expect("it is open");
        Writer::new(storage, self.tenant, self.clients)
    }

    async fn close(&mut self) {
        if let Some(storage) = self.storage.take() {
            storage.close().await;
        }
    }
}

/// A fact as changes. The first of an entity comes with its creation: a field of an entity that nobody created would be
/// superseded. `SQLite` knows no entities.
fn changes(fact: &Fact) -> impl Iterator<Item = Change> + use<> {
    let subject = entity(&fact.subject);
    let created = (fact.predicate == FIELDS[0]).then(|| Change::Create {
        subject: subject.clone(),
    });
    let set = Change::Set {
        subject,
        predicate: predicate(fact.predicate),
        value: Value::string(&fact.value),
    };
    created.into_iter().chain([set])
}

/// One client of the engine.
struct Writer {
    storage: Storage,
    tenant: TenantId,
    clock: Clock,
    number: u64,
    vector: Arc<VersionVector>,
}

impl Writer {
    fn new(storage: &Storage, tenant: TenantId, id: u128) -> Self {
        Self {
            storage: storage.clone(),
            tenant,
            clock: Clock::new(ClientId::from_random(id), NTP64(0)),
            number: 0,
            vector: Arc::new(VersionVector::EMPTY),
        }
    }

    async fn write(&mut self, changes: Vec<Change>) {
        self.number += 1;
        let now = wait::wall();
        let set = ChangeSet {
            timestamp: self.clock.stamp(now),
            number: self.number,
            changes,
        };
        let admit = Admit {
            tenant: self.tenant,
            encoded: set.encode().into(),
            set,
            client_vector: Arc::clone(&self.vector),
            now,
            ahead: None,
        };
        let admitted = self.storage.admit(admit).await.expect("the disk takes it");
        assert!(admitted.superseded.is_empty(), "a change was superseded");
    }
}
