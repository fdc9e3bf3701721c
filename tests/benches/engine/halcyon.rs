//! The node's storage, as the node uses it: real files, the real writer, every set acknowledged after its fsync.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, Clock, NTP64},
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
    wait::{self, runtime},
};

use super::work::{Fact, Found, Meter, Row, SET_CHANGES};

/// Hears of commits and does nothing.
struct Nobody;

impl CommitSink for Nobody {
    fn on_events(&self, _events: Vec<StorageEvent>) {}
}

/// Measures a row.
pub(crate) fn measure(row: Row) -> Found {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    runtime().block_on(async {
        let tenant = TenantId::generate(|count| vec![7; count]);
        let env = env::system(directory.path()).expect("an empty directory is free");
        let options = Options {
            node: NodeId(1),
            ..Options::default()
        };
        let storage = Storage::open(&env, options, Arc::new(Nobody))
            .await
            .expect("an empty directory opens");
        storage.open_tenant(tenant, 0).await.expect("the disk takes it");
        storage.set_admitting(tenant, true).await.expect("the disk takes it");
        let found = match row {
            Row::Batches { triples } => batches(&storage, tenant, triples, directory.path()).await,
            Row::Singles { .. } => singles(&storage, tenant, row, directory.path()).await,
        };
        storage.close().await;
        found
    })
}

async fn batches(storage: &Storage, tenant: TenantId, triples: usize, directory: &std::path::Path) -> Found {
    let mut writer = Writer::new(storage, tenant, 1);
    let meter = Meter::start();
    for first in (0..triples).step_by(SET_CHANGES) {
        let facts: Vec<Fact> = (first..(first + SET_CHANGES).min(triples)).map(Fact::nth).collect();
        writer.write(&facts).await;
    }
    meter.stop(triples, directory)
}

async fn singles(storage: &Storage, tenant: TenantId, row: Row, directory: &std::path::Path) -> Found {
    let Row::Singles { writers, window } = row else {
        unreachable!("the caller looked");
    };
    let (next, meter) = (Arc::new(AtomicUsize::new(0)), Arc::new(Meter::start()));
    let tasks: Vec<_> = (0..writers)
        .map(|number| {
            let (next, meter) = (Arc::clone(&next), Arc::clone(&meter));
            let mut writer = Writer::new(storage, tenant, number as u128 + 1);
            tokio::spawn(async move {
                while meter.elapsed() < window {
                    let fact = Fact::nth(next.fetch_add(1, Ordering::Relaxed) * 10);
                    writer.write(&[fact]).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a writer ends with its window");
    }
    meter.stop(next.load(Ordering::Relaxed), directory)
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

    async fn write(&mut self, facts: &[Fact]) {
        self.number += 1;
        let mut changes = Vec::with_capacity(2 * facts.len());
        for fact in facts {
            let subject = entity(&fact.subject);
            // An entity's first field comes with its creation.
            if fact.predicate == "issue/title" {
                changes.push(Change::Create {
                    subject: subject.clone(),
                });
            }
            changes.push(Change::Set {
                subject,
                predicate: predicate(fact.predicate),
                value: Value::string(&fact.value),
            });
        }
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
        };
        let admitted = self.storage.admit(admit).await.expect("the disk takes it");
        assert!(admitted.superseded.is_empty(), "a change was superseded");
    }
}
