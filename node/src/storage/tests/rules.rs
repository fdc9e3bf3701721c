//! Single rules: client numbers, unknown entities, collection, erasure, formats.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use halcyon_core::{
    change::{Change, ChangeSet},
    clock::{ClientId, DriftError, NTP64, WallTime, timestamp},
    id::{NodeId, OriginId, Predicate, Seq, Tag},
    store::MemoryStore,
    value::Value,
    version_vector::VersionVector,
};

use super::{
    super::{
        OpenError, Storage,
        testing::{Heard, Random, SimDisk, env},
        types::{Admit, AdmitError, CellKey, CollectOutcome},
    },
    Clients, Replica, admit, catch_up, check_gone, open_marked, options, passing, run, subject, tenant,
};

#[test]
fn a_number_taken_twice_is_answered_as_taken_or_refused() {
    run(async {
        let replica = Replica::new(1, 1).await;
        let mut clients = Clients::new(1, false);
        let mut set = clients.set();
        let first = replica.storage.admit(admit(&set)).await.unwrap();
        let again = replica.storage.admit(admit(&set)).await.unwrap();
        assert_eq!((again.tag, again.again), (first.tag, true));
        set.changes.push(Change::Create { subject: subject(5) });
        let refused = replica.storage.admit(admit(&set)).await;
        assert!(matches!(refused, Err(AdmitError::NumberReused(1))), "{refused:?}");
        let other = Replica::new(2, 1).await;
        catch_up(&other, &replica, u64::MAX).await;
        set.changes.pop();
        let again = other.storage.admit(admit(&set)).await.unwrap();
        assert_eq!((again.tag, again.again), (first.tag, true));
    });
}

/// The clock of a node that took a set was put back since.
#[test]
fn what_was_taken_is_answered_however_far_ahead_it_is_by_now() {
    run(async {
        let replica = Replica::new(1, 1).await;
        let mut clients = Clients::new(1, false);
        let set = clients.set();
        let ahead = || DriftError {
            ahead: Duration::from_mins(5),
            max: Duration::from_mins(1),
            wall: WallTime(NTP64(1)),
        };
        let late = |set: &ChangeSet| Admit {
            ahead: Some(ahead()),
            ..admit(set)
        };
        let refused = replica.storage.admit(late(&set)).await;
        assert!(
            matches!(&refused, Err(AdmitError::Ahead(told)) if *told == ahead()),
            "{refused:?}"
        );
        let first = replica.storage.admit(admit(&set)).await.unwrap();
        let again = replica.storage.admit(late(&set)).await.unwrap();
        assert_eq!((again.tag, again.again), (first.tag, true));
    });
}

#[test]
fn what_a_later_write_has_beaten_is_told_by_its_place_and_kept() {
    run(async {
        let replica = Replica::new(1, 1).await;
        let title = |name, value: &str| Change::Set {
            subject: subject(name),
            predicate: Predicate::new("post/title").unwrap(),
            value: Value::string(value),
        };
        let set = |client, at, changes| ChangeSet {
            timestamp: timestamp(NTP64(at), ClientId::from_random(client)),
            number: at,
            changes,
        };
        let admitted = async |set: &ChangeSet| {
            let admitted = replica.storage.admit(admit(set)).await.unwrap();
            (admitted.superseded, admitted.overwritten)
        };
        let later = set(7, 20, vec![Change::Create { subject: subject(1) }, title(1, "later")]);
        assert_eq!(admitted(&later).await, (vec![], vec![]));
        // What nobody created goes out of the set; places are those of the whole.
        let earlier = set(8, 10, vec![title(2, "lost"), title(1, "earlier")]);
        assert_eq!(admitted(&earlier).await, (vec![0], vec![1]));
        // Both fields of one set: the last counts.
        let twice = set(8, 11, vec![title(1, "earlier"), title(1, "again")]);
        assert_eq!(admitted(&twice).await, (vec![], vec![0, 1]));
        assert_eq!(admitted(&set(8, 12, vec![title(1, "later")])).await, (vec![], vec![]));
        assert_eq!(admitted(&set(8, 21, vec![title(1, "newest")])).await, (vec![], vec![]));
    });
}

#[test]
fn who_closes_what_it_was_shows_what_it_is() {
    run(async {
        let replica = Replica::new(1, 1).await;
        let mut clients = Clients::new(1, false);
        // The second is later than what its clock would draw.
        for incarnation in [3, u64::MAX >> 1] {
            let node = replica.node;
            let origin = OriginId { node, incarnation };
            let ended = [Tag { origin, seq: Seq(7) }].into_iter().collect();
            replica.storage.raise_vector(tenant(), ended).await.unwrap();
            let vector = replica.storage.summary(tenant()).unwrap().unwrap().vector;
            let shown: Vec<_> = vector.iter().filter(|tag| tag.origin > origin).collect();
            assert!(matches!(shown[..], [Tag { seq: Seq(1), .. }]), "{shown:?}");
            let admitted = replica.storage.admit(admit(&clients.set())).await.unwrap();
            let next = Tag {
                seq: Seq(2),
                ..shown[0]
            };
            assert_eq!(admitted.tag, next);
        }
    });
}

#[test]
fn an_entity_that_nobody_created_is_unknown_or_the_node_is_behind() {
    run(async {
        let replica = Replica::new(1, 1).await;
        let predicate = Predicate::new("post/f1").unwrap();
        let value = Value::Boolean(true);
        let change = Change::Set {
            subject: subject(1),
            predicate,
            value,
        };
        let client = ClientId::from_random(7);
        let mut set = ChangeSet {
            timestamp: timestamp(NTP64(5), client),
            number: 1,
            changes: vec![change.clone()],
        };
        let admitted = replica.storage.admit(admit(&set)).await.unwrap();
        assert_eq!(admitted.superseded, [0]);
        set.number = 2;
        let mut ahead = admit(&set);
        ahead.client_vector = Arc::new(
            [Tag {
                seq: admitted.tag.seq.next(),
                ..admitted.tag
            }]
            .into_iter()
            .collect(),
        );
        assert!(matches!(replica.storage.admit(ahead).await, Err(AdmitError::Behind)));
        set.changes.insert(0, Change::Create { subject: subject(1) });
        assert!(replica.storage.admit(admit(&set)).await.unwrap().superseded.is_empty());
        let bare = vec![Change::Create { subject: subject(2) }];
        let bare = ChangeSet {
            number: 3,
            changes: bare,
            ..set
        };
        replica.storage.admit(admit(&bare)).await.unwrap();
        let other = Replica::new(2, 1).await;
        catch_up(&other, &replica, u64::MAX).await;
        let predicate = Predicate::new("post/f2").unwrap();
        let write = Change::Set {
            subject: subject(2),
            predicate,
            value: Value::Boolean(false),
        };
        let write = ChangeSet {
            number: 4,
            changes: vec![write],
            ..bare
        };
        assert!(
            other.storage.admit(admit(&write)).await.unwrap().superseded.is_empty(),
            "a bare creation travels"
        );
    });
}

/// Its node took a deletion and was lost; another replica had heard of it in half a delta, and the client pushes it again.
#[test]
fn a_deletion_heard_of_in_half_a_delta_is_committed_when_it_is_pushed_again() {
    run(async {
        let (from, to) = (Replica::new(1, 1).await, Replica::new(2, 1).await);
        let set = |number, change| ChangeSet {
            timestamp: timestamp(NTP64(number), ClientId::from_random(7)),
            number,
            changes: vec![change],
        };
        let created = set(1, Change::Create { subject: subject(1) });
        from.storage.admit(admit(&created)).await.unwrap();
        catch_up(&to, &from, u64::MAX).await;
        let deleted = set(2, Change::Delete { subject: subject(1) });
        let taken = from.storage.admit(admit(&deleted)).await.unwrap();
        catch_up(&to, &from, 1).await;
        assert!(!to.vector().covers_tag(taken.tag), "half of it");
        to.commits();
        let again = to.storage.admit(admit(&deleted)).await.unwrap();
        assert_eq!((again.again, again.superseded), (false, Vec::new()));
        assert_eq!(*to.commits()[0].set, deleted);
        catch_up(&to, &from, u64::MAX).await;
        let late = set(3, Change::Delete { subject: subject(1) });
        let late = to.storage.admit(admit(&late)).await.unwrap();
        assert_eq!(late.superseded, [0], "it is deleted for good");
    });
}

#[test]
fn what_every_replica_holds_as_gone_is_collected_and_leaves_no_trace() {
    run(async {
        let replica = Replica::new(1, 1).await;
        let mut clients = Clients::new(5, true);
        let mut model = MemoryStore::default();
        for _ in 0..60 {
            replica.storage.admit(admit(&clients.set())).await.unwrap();
        }
        for commit in replica.commits() {
            model.apply_set(commit.tag, &commit.set);
        }
        let cells = replica
            .storage
            .collectable(tenant(), WallTime(NTP64(u64::MAX)), 1_000)
            .unwrap();
        let summary = replica.storage.summary(tenant()).unwrap().unwrap();
        assert_eq!(cells.len() as u64, summary.tombstones);
        assert!(cells.iter().any(|cell| matches!(cell, CellKey::Tombstone(_))));
        let storage = &replica.storage;
        assert_eq!(storage.collect(tenant(), 1).await.unwrap(), CollectOutcome::MustRefill);
        assert!(
            storage
                .prepare_collection(tenant(), 1, cells.clone(), VersionVector::EMPTY)
                .await
                .unwrap()
        );
        assert_eq!(storage.collect(tenant(), 1).await.unwrap(), CollectOutcome::MustRefill);
        assert!(
            storage
                .prepare_collection(tenant(), 1, cells, summary.vector.clone())
                .await
                .unwrap()
        );
        let replica = replica.again().await;
        assert_eq!(
            replica.storage.collect(tenant(), 1).await.unwrap(),
            CollectOutcome::Collected
        );
        let replica = replica.again().await;
        replica.check(&model);
        let summary = replica.storage.summary(tenant()).unwrap().unwrap();
        assert_eq!((summary.tombstones, summary.collection_epoch), (0, 1));
        // Who heard of all of it, or of nothing, can be told the rest; who heard of a part cannot.
        let begun: VersionVector = summary.vector.iter().map(|tag| Tag { seq: Seq(1), ..tag }).collect();
        for (vector, expected) in [(VersionVector::EMPTY, true), (begun, false), (summary.vector, true)] {
            let reader = replica.storage.open_delta(tenant(), &vector, None).unwrap();
            assert_eq!(reader.tells_all_to(&vector), expected, "{vector:?}");
        }
    });
}

#[test]
fn an_erased_tenant_is_gone_and_comes_back_empty() {
    run(async {
        let replica = Replica::new(1, 1).await;
        let mut clients = Clients::new(5, true);
        for _ in 0..40 {
            replica.storage.admit(admit(&clients.set())).await.unwrap();
        }
        let nobody = Some(VersionVector::EMPTY);
        assert!(!replica.storage.erase_tenant(tenant(), nobody).await.unwrap());
        let covered = Some(replica.vector());
        assert!(replica.storage.erase_tenant(tenant(), covered).await.unwrap());
        assert_eq!(replica.storage.summary(tenant()).unwrap(), None);
        let replica = replica.again().await;
        assert_eq!(replica.storage.tenants().unwrap(), []);
        replica.storage.open_tenant(tenant(), 3).await.unwrap();
        replica.check(&MemoryStore::default());
        let admitted = replica.storage.admit(admit(&clients.set())).await;
        assert!(
            matches!(admitted, Err(AdmitError::NotServing)),
            "it starts not admitting"
        );
    });
}

#[test]
fn a_hole_in_the_log_is_an_error_and_a_newer_format_is_refused() {
    run(async {
        let replica = Replica::new(1, 1).await;
        let disk = replica.disk.after_crash(&mut Random(1));
        disk.damage("shard-0.log-a", 40);
        let opened = Storage::open(
            &env(Arc::clone(&disk) as _, 1),
            options(NodeId(1)),
            Arc::new(Heard::default()),
        )
        .await;
        assert!(
            matches!(opened, Err(OpenError::DamagedLog { shard: 0, .. })),
            "{opened:?}"
        );
        let disk = SimDisk::new();
        let world = env(Arc::clone(&disk) as _, 1);
        let access = halcyon_core::env::Access::Normal;
        world
            .disk
            .write_small("storage.format", b"halcyon storage 4 1\n", access)
            .unwrap();
        let opened = Storage::open(&world, options(NodeId(1)), Arc::new(Heard::default())).await;
        assert!(matches!(opened, Err(OpenError::NewerFormat { found: 4 })), "{opened:?}");
    });
}

#[test]
fn storage_whose_disk_failed_says_that_it_has_stopped() {
    run(async {
        let replica = Replica::new(1, 9).await;
        let mut clients = Clients::new(9, false);
        replica.storage.admit(admit(&clients.set())).await.unwrap();
        assert!(!replica.storage.has_stopped());
        replica.disk.faults.left.store(0, Ordering::SeqCst);
        replica.storage.admit(admit(&clients.set())).await.unwrap_err();
        // The answer goes out just before the queue is closed.
        while !replica.storage.has_stopped() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn an_erased_tenant_leaves_every_file_while_others_write() {
    run(async {
        let replica = Replica::new(1, 8).await;
        let mut clients = Clients::new(8, false);
        let mut model = MemoryStore::default();
        for round in 0..5 {
            let marker = format!("passing_by_{round}");
            open_marked(&replica.storage, &marker).await;
            replica.commits();
            // Some of it is in the index by then, some only in the log.
            for count in [round * 20, 40] {
                for _ in 0..count {
                    let set = clients.set();
                    let tag = replica.storage.admit(admit(&set)).await.unwrap().tag;
                    model.apply_set(tag, &replica.commits()[0].set);
                }
                assert!(replica.storage.erase_tenant(passing(), None).await.unwrap());
            }
            check_gone(&replica.disk, &marker).await;
            replica.check(&model);
        }
        let names = replica.disk.files_with(b"");
        assert!(names.contains(&"shard-0.redb-5".to_owned()), "{names:?}");
        let replica = replica.again().await;
        replica.check(&model);
    });
}
