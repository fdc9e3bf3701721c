//! Storage against the in-memory store: one replica, three that gossip and catch up, and disks that lose power.

mod damage;
mod figures;
mod formats;
mod late;
mod queries;
mod rules;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, NTP64, WallTime, timestamp},
    id::{EntityId, NodeId, Predicate, Tag, TenantId},
    query::testing::cases,
    store::MemoryStore,
    value::Value,
    version_vector::VersionVector,
};
use proptest::prelude::*;

use super::{
    DeltaReader, Options, Storage,
    testing::{Heard, Random, SimDisk, env},
    types::{Admit, AdmitError, Admitted, Commit, DeltaBatch, GossipOutcome, GossipSet, ScanQuery, StorageEvent, Via},
};

const CLIENTS: u64 = 3;

fn tenant() -> TenantId {
    "demo_tenant_000000001".parse().unwrap()
}

/// A tenant that comes and goes, with bytes that stand nowhere else.
async fn open_marked(storage: &Storage, marker: &str) {
    storage.open_tenant(passing(), 0).await.unwrap();
    storage.set_admitting(passing(), true).await.unwrap();
    let subject = EntityId::new(marker).unwrap();
    let set = ChangeSet {
        timestamp: timestamp(NTP64(1), ClientId::from_random(77)),
        number: 1,
        changes: vec![
            Change::Create {
                subject: subject.clone(),
            },
            Change::Set {
                subject,
                predicate: Predicate::new(&format!("{marker}/{marker}")).unwrap(),
                value: Value::string(marker),
            },
        ],
    };
    let admit = Admit {
        tenant: passing(),
        ..admit(&set)
    };
    storage.admit(admit).await.unwrap();
}

fn passing() -> TenantId {
    "demo_tenant_000000002".parse().unwrap()
}

fn subject(name: u64) -> EntityId {
    EntityId::new(&format!("e{name}")).unwrap()
}

fn predicate(random: &mut Random) -> Predicate {
    let kind = ["post", "user"][usize::try_from(random.below(2)).unwrap()];
    Predicate::new(&format!("{kind}/f{}", random.below(3))).unwrap()
}

fn value(random: &mut Random) -> Value {
    match random.below(5) {
        0 => Value::string(&"x".repeat(usize::try_from(60 + random.below(3)).unwrap())),
        1 => Value::Boolean(random.chance(50)),
        2 => Value::Ref(subject(random.below(6))),
        _ => Value::number(f64::from(u32::try_from(random.below(4)).unwrap())).unwrap(),
    }
}

fn change(random: &mut Random, deletes: bool) -> Change {
    let subject = subject(random.below(6));
    if deletes && random.chance(6) {
        return Change::Delete { subject };
    }
    if random.chance(2) {
        let body = vec![1, 2, u8::try_from(random.below(9)).unwrap()];
        return Change::Opaque { kind: 200, body };
    }
    let predicate = predicate(random);
    match random.below(6) {
        0 => Change::Unset { subject, predicate },
        1 | 2 => Change::Add {
            subject,
            predicate,
            value: value(random),
        },
        3 => Change::Remove {
            subject,
            predicate,
            value: value(random),
        },
        _ => Change::Set {
            subject,
            predicate,
            value: value(random),
        },
    }
}

/// Client programs that write to any replica.
struct Clients {
    random: Random,
    numbers: BTreeMap<u64, u64>,
    deletes: bool,
}

impl Clients {
    fn new(seed: u64, deletes: bool) -> Self {
        let numbers = BTreeMap::new();
        Self {
            random: Random(seed),
            numbers,
            deletes,
        }
    }

    fn set(&mut self) -> ChangeSet {
        let random = &mut self.random;
        let client = 1 + random.below(CLIENTS);
        let number = self.numbers.entry(client).or_default();
        *number += 1;
        let mut changes: Vec<Change> = (0..6).map(|name| Change::Create { subject: subject(name) }).collect();
        if random.chance(50) {
            changes.clear();
        }
        changes.extend((0..random.below(6)).map(|_| change(random, self.deletes)));
        ChangeSet {
            timestamp: timestamp(NTP64(1 + random.below(40)), ClientId::from_random(client.into())),
            number: *number,
            changes,
        }
    }
}

fn admit(set: &ChangeSet) -> Admit {
    Admit {
        tenant: tenant(),
        set: set.clone(),
        encoded: set.encode().into(),
        client_vector: Arc::default(),
        now: WallTime(NTP64(1_000)),
        ahead: None,
    }
}

/// A replica and the disk under it.
struct Replica {
    node: NodeId,
    disk: Arc<SimDisk>,
    storage: Storage,
    heard: Arc<Heard>,
    seed: u64,
}

impl Replica {
    async fn open(node: u64, disk: Arc<SimDisk>, seed: u64) -> Self {
        let heard = Arc::new(Heard::default());
        let node = NodeId(node);
        let world = env(Arc::clone(&disk) as _, seed);
        let storage = Storage::open(&world, options(node), Arc::clone(&heard) as _)
            .await
            .unwrap();
        Self {
            node,
            disk,
            storage,
            heard,
            seed,
        }
    }

    async fn new(node: u64, seed: u64) -> Self {
        let replica = Self::open(node, SimDisk::new(), seed * 10 + node).await;
        replica.storage.open_tenant(tenant(), 0).await.unwrap();
        replica.storage.set_admitting(tenant(), true).await.unwrap();
        replica
    }

    /// As after a restart of the process.
    async fn again(self) -> Self {
        self.storage.close().await;
        Self::open(self.node.0, self.disk, self.seed + 1_000).await
    }

    fn commits(&self) -> Vec<Arc<Commit>> {
        let commits = self.heard.take().into_iter().filter_map(|event| match event {
            StorageEvent::Committed(commit) => Some(commit),
            _ => None,
        });
        commits.collect()
    }

    fn vector(&self) -> VersionVector {
        self.storage.summary(tenant()).unwrap().unwrap().vector
    }

    /// Storage shows what the model shows, by every way of reading.
    #[track_caller]
    fn check(&self, model: &MemoryStore) {
        let summary = self.storage.summary(tenant()).unwrap().unwrap();
        assert_eq!(summary.fingerprint, model.fingerprint());
        let mut triples = Vec::new();
        for (subject, _) in model.entities() {
            let live: Vec<_> = model
                .triples(subject)
                .map(|(predicate, value)| (predicate.clone(), value.clone()))
                .collect();
            let mut sorted = live.clone();
            sorted.sort();
            let got = self.storage.get(tenant(), subject).unwrap();
            let got: Vec<_> = got.into_iter().map(|triple| (triple.predicate, triple.value)).collect();
            assert_eq!(got, sorted, "{subject}");
            triples.extend(
                live.into_iter()
                    .map(|(predicate, value)| (subject.clone(), predicate, value)),
            );
        }
        triples.sort();
        assert_eq!(summary.triples, triples.len() as u64);
        assert_eq!(self.scan(&ScanQuery::default()), triples);
        for kind in ["post", "user"] {
            let wanted: Vec<_> = triples
                .iter()
                .filter(|triple| triple.1.entity_type() == kind)
                .cloned()
                .collect();
            let query = ScanQuery {
                entity_type: Some(kind.to_owned()),
                ..ScanQuery::default()
            };
            assert_eq!(self.scan(&query), wanted, "of type {kind}");
        }
        let (from, to) = (Value::number(1.0).unwrap(), Value::number(3.0).unwrap());
        let predicate = Predicate::new("post/f1").unwrap();
        let wanted = triples
            .iter()
            .filter(|triple| triple.1 == predicate && from <= triple.2 && triple.2 < to);
        let wanted: Vec<_> = wanted.cloned().collect();
        let query = ScanQuery {
            predicate: Some(predicate),
            from: Some(from),
            to: Some(to),
            ..ScanQuery::default()
        };
        assert_eq!(self.scan(&query), wanted, "by value");
    }

    /// All triples of a query, by pages of 3, sorted.
    fn scan(&self, query: &ScanQuery) -> Vec<(EntityId, Predicate, Value)> {
        let mut query = ScanQuery {
            limit: 3,
            ..query.clone()
        };
        let mut triples = Vec::new();
        loop {
            let page = self.storage.scan(tenant(), &query).unwrap();
            triples.extend(
                page.triples
                    .into_iter()
                    .map(|triple| (triple.subject, triple.predicate, triple.value)),
            );
            if page.cursor.is_empty() {
                triples.sort();
                return triples;
            }
            query.cursor = page.cursor;
        }
    }
}

fn options(node: NodeId) -> Options {
    Options {
        node,
        shards: 1,
        cache_bytes: 4 << 20,
        fold_bytes: 3_000,
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(test);
}

fn gossip(commit: &Commit) -> GossipSet {
    GossipSet {
        tenant: commit.tenant,
        tag: commit.tag,
        collection_epoch: commit.collection_epoch,
        encoded: commit.encoded.clone(),
        content_hash: commit.content_hash,
    }
}

fn batch(reader: &DeltaReader, facts: Vec<halcyon_core::fact::Fact>, complete: bool) -> DeltaBatch {
    DeltaBatch {
        tenant: tenant(),
        facts,
        vector: reader.vector().clone(),
        seen: reader.seen().clone(),
        complete,
        now: WallTime(NTP64(2_000)),
    }
}

/// Pulls some batches of what `from` has, or all.
async fn catch_up(to: &Replica, from: &Replica, batches: u64) {
    let token = to.storage.resume_token(tenant()).unwrap();
    let mut reader = from.storage.open_delta(tenant(), &to.vector(), token.as_ref()).unwrap();
    for _ in 0..batches {
        let Some(facts) = reader.next_batch(300).unwrap() else {
            to.storage.take_delta(batch(&reader, Vec::new(), true)).await.unwrap();
            return;
        };
        to.storage.take_delta(batch(&reader, facts, false)).await.unwrap();
    }
}

#[test]
fn a_replica_shows_what_the_model_shows_before_and_after_a_restart() {
    for seed in 0..60 {
        run(async {
            let mut replica = Replica::new(1, seed).await;
            let mut clients = Clients::new(seed, seed % 2 == 0);
            let mut model = MemoryStore::default();
            let mut folds = 0;
            for round in 0..4 {
                for _ in 0..30 {
                    let set = clients.set();
                    let admitted = replica.storage.admit(admit(&set)).await.unwrap();
                    let commits = replica.commits();
                    assert_eq!(commits.len(), 1);
                    let mut left = set.clone();
                    let mut place = 0;
                    left.changes.retain(|_| {
                        place += 1;
                        !admitted.superseded.contains(&(place - 1))
                    });
                    assert_eq!(*commits[0].set, left);
                    assert_eq!(ChangeSet::decode(&commits[0].encoded), Ok(left));
                    model.apply_set(admitted.tag, &commits[0].set);
                }
                replica.check(&model);
                folds += replica.storage.metrics().folds;
                if round % 2 == 0 {
                    replica = replica.again().await;
                    replica.check(&model);
                }
            }
            assert!(folds > 0, "the test folds");
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(150), failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn replicas_that_gossip_and_catch_up_in_any_order_become_equal(seed: u64) {
        run(converge(seed));
    }

    #[test]
    fn what_was_acknowledged_survives_a_power_cut_and_no_set_is_half_there(seed: u64) {
        run(crash(seed));
    }
}

async fn converge(seed: u64) {
    let seed = seed >> 8;
    let mut random = Random(seed);
    let mut replicas = Vec::new();
    for node in 1..=3 {
        replicas.push(Replica::new(node, seed).await);
    }
    let mut clients = Clients::new(seed, random.chance(70));
    let mut commits: Vec<Arc<Commit>> = Vec::new();
    let mut model = MemoryStore::default();
    for _ in 0..random.below(120) {
        let at = usize::try_from(random.below(3)).unwrap();
        let other = usize::try_from(random.below(3)).unwrap();
        match random.below(100) {
            0..50 => {
                replicas[at].storage.admit(admit(&clients.set())).await.unwrap();
            }
            50..75 if !commits.is_empty() => {
                let picked = &commits[usize::try_from(random.below(commits.len() as u64)).unwrap()];
                let near = commits
                    .iter()
                    .find(|commit| !replicas[at].vector().covers_tag(commit.tag));
                let picked = if random.chance(70) {
                    near.unwrap_or(picked)
                } else {
                    picked
                };
                let outcome = replicas[at]
                    .storage
                    .take_gossip(NodeId(9), vec![gossip(picked)])
                    .await
                    .unwrap();
                assert_ne!(outcome, [GossipOutcome::Failed]);
            }
            75..78 => {
                let replica = replicas.remove(at).again().await;
                replicas.insert(at, replica);
            }
            _ if at != other => catch_up(&replicas[at], &replicas[other], random.below(5)).await,
            _ => {}
        }
        for commit in replicas[at].commits() {
            if commit.via == Via::Client {
                model.apply_set(commit.tag, &commit.set);
                commits.push(commit);
            }
        }
        check_exact_pairs(&replicas);
    }
    for _ in 0..2 {
        for (at, other) in [(0, 1), (1, 2), (2, 0), (0, 1), (1, 0), (2, 1)] {
            catch_up(&replicas[at], &replicas[other], u64::MAX).await;
        }
    }
    for replica in &replicas {
        assert_eq!(replica.vector(), replicas[0].vector());
        replica.check(&model);
        assert_eq!(replica.storage.resume_token(tenant()).unwrap(), None);
    }
}

/// Exact replicas with equal vectors show the same.
#[track_caller]
fn check_exact_pairs(replicas: &[Replica]) {
    let summaries: Vec<_> = replicas
        .iter()
        .map(|replica| replica.storage.summary(tenant()).unwrap().unwrap())
        .collect();
    for a in &summaries {
        for b in &summaries {
            if a.is_exact() && b.is_exact() && a.vector == b.vector {
                assert_eq!(a.fingerprint, b.fingerprint);
                assert_eq!(a.triples, b.triples);
            }
        }
    }
}

async fn crash(seed: u64) {
    let seed = seed >> 8;
    let mut random = Random(seed);
    let mut disk = SimDisk::new();
    let mut clients = Clients::new(seed, true);
    let mut model = MemoryStore::default();
    let mut acknowledged: Vec<(Tag, ChangeSet)> = Vec::new();
    let mut known = BTreeSet::new();
    for round in 0..4 {
        let replica = Replica::open(1, Arc::clone(&disk), seed + round).await;
        if round == 0 {
            replica.storage.open_tenant(tenant(), 0).await.unwrap();
            replica.storage.set_admitting(tenant(), true).await.unwrap();
        }
        let marker = format!("passing_by_{round}");
        open_marked(&replica.storage, &marker).await;
        replica.commits();
        disk.faults
            .left
            .store(random.below(400), std::sync::atomic::Ordering::SeqCst);
        let mut doubtful = None;
        let erase_at = random.below(40);
        let mut erased = false;
        for at in 0..200 {
            if at == erase_at {
                erased = replica.storage.erase_tenant(passing(), None).await.unwrap_or(false);
            }
            let set = clients.set();
            match replica.storage.admit(admit(&set)).await {
                Ok(Admitted { tag, again: false, .. }) => {
                    let commit = replica.commits().pop().unwrap();
                    model.apply_set(tag, &commit.set);
                    known.extend(commit.set.changes.iter().filter_map(|change| change.subject().cloned()));
                    acknowledged.push((tag, set));
                }
                Ok(again) => panic!("{again:?}"),
                Err(error) => {
                    assert!(matches!(error, AdmitError::Storage(_)), "{error}");
                    doubtful.get_or_insert(set);
                    break;
                }
            }
        }
        drop(replica);
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        disk = disk.after_crash(&mut random);
        let replica = Replica::open(1, Arc::clone(&disk), seed + round + 100).await;
        check_acknowledged(&replica, &acknowledged).await;
        // The set that was under way is there whole or not at all.
        let shown = replica.storage.summary(tenant()).unwrap().unwrap().fingerprint;
        if let Some(mut set) = doubtful {
            let admitted = replica.storage.admit(admit(&set)).await.unwrap();
            drop_unknown(&mut set, &known);
            let before = model.fingerprint();
            known.extend(set.changes.iter().filter_map(|change| change.subject().cloned()));
            model.apply_set(admitted.tag, &set);
            assert_eq!(shown, if admitted.again { model.fingerprint() } else { before });
        } else {
            assert_eq!(shown, model.fingerprint());
        }
        replica.check(&model);
        if erased {
            check_gone(&disk, &marker).await;
            replica.check(&model);
        }
        replica.storage.erase_tenant(passing(), None).await.unwrap();
        replica.storage.close().await;
    }
}

async fn check_acknowledged(replica: &Replica, acknowledged: &[(Tag, ChangeSet)]) {
    for (tag, set) in acknowledged {
        assert!(replica.vector().covers_tag(*tag));
        let again = replica.storage.admit(admit(set)).await.unwrap();
        assert!(again.again, "a set is known by its number");
    }
}

/// No file holds the marker a second after the erasure.
async fn check_gone(disk: &SimDisk, marker: &str) {
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(disk.files_with(marker.as_bytes()), Vec::<String>::new());
}

/// Leaves out what is superseded because nobody created its entity.
fn drop_unknown(set: &mut ChangeSet, known: &BTreeSet<EntityId>) {
    let creates = |change: &Change| matches!(change, Change::Create { .. });
    let created: BTreeSet<_> = set
        .changes
        .iter()
        .filter(|change| creates(change))
        .filter_map(|change| change.subject().cloned())
        .collect();
    set.changes.retain(|change| {
        let subject = change.subject();
        matches!(change, Change::Delete { .. })
            || subject.is_none_or(|subject| known.contains(subject) || created.contains(subject))
    });
}
