//! The outbox through restarts and crashes.

use halcyon_core::{change::Change, clock::ClientId, id::EntityId};

use super::*;
use crate::session::{Moment, Session};

fn sets(count: usize) -> (Vec<Stored>, Floor) {
    let mut session = Session::open(ClientId::from_random(7), Floor::default(), Place(0), Vec::new());
    let moment = Moment {
        wall: halcyon_core::clock::WallTime::default(),
        jitter: 0,
    };
    let change = || Change::Create {
        subject: EntityId::new("e").unwrap(),
    };
    let sets = (0..count)
        .map(|_| session.stamp(vec![change()], moment).unwrap().0)
        .collect();
    (sets, session.floor())
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart_in_its_order_and_what_was_let_go_is_not() {
    let env = crate::env::system(None).unwrap();
    let (sets, floor) = sets(5);
    let (outbox, left) = OutboxFile::open(&env, "outbox").await.unwrap();
    assert!(left.sets.is_empty() && left.place == Place(0));
    outbox.commit(&env, &sets[..3], floor).await.unwrap();
    outbox.commit(&env, &sets[3..], floor).await.unwrap();
    outbox.forget(&env, vec![Place(1), Place(5)], floor).await.unwrap();
    outbox.tidy(&env, floor).await.unwrap();
    drop(outbox);
    let (_outbox, left) = OutboxFile::open(&env, "outbox").await.unwrap();
    assert_eq!(left.sets, sets[1..4]);
    assert_eq!(
        (left.floor, left.place),
        (floor, Place(5)),
        "places are not given out twice"
    );
}

#[tokio::test]
async fn how_far_was_pushed_never_falls_while_anything_is_left_and_is_forgotten_with_the_last_set() {
    let env = crate::env::system(None).unwrap();
    let (sets, floor) = sets(2);
    let pushed = |time| Floor {
        pushed: NTP64(time),
        ..floor
    };
    let (outbox, left) = OutboxFile::open(&env, "outbox").await.unwrap();
    assert_eq!(left.floor.pushed, NTP64(0));
    outbox.commit(&env, &sets[..1], pushed(5)).await.unwrap();
    outbox.stage(vec![Record {
        table: Table::Facts,
        key: vec![1],
        value: Some(vec![2]),
    }]);
    outbox.keep_pushed(&env, NTP64(20)).await.unwrap();
    assert!(
        !outbox.is_tidy(),
        "the row waits for a commit that is told to its caller"
    );
    outbox.commit(&env, &sets[1..], pushed(10)).await.unwrap();
    drop(outbox);
    let (outbox, left) = OutboxFile::open(&env, "outbox").await.unwrap();
    assert_eq!(left.floor.pushed, NTP64(20));
    outbox
        .forget(&env, vec![sets[0].place, sets[1].place], floor)
        .await
        .unwrap();
    outbox.tidy(&env, floor).await.unwrap();
    drop(outbox);
    let (_outbox, left) = OutboxFile::open(&env, "outbox").await.unwrap();
    assert_eq!(left.floor.pushed, NTP64(0));
}

#[tokio::test]
async fn of_what_an_earlier_release_left_all_may_have_been_pushed() {
    let env = crate::env::system(None).unwrap();
    let (sets, floor) = sets(1);
    let (outbox, _) = OutboxFile::open(&env, "outbox").await.unwrap();
    outbox.commit(&env, &sets, floor).await.unwrap();
    let write = outbox.database.begin_write().unwrap();
    write.open_table(NUMBERS).unwrap().remove("pushed").unwrap();
    write.commit().unwrap();
    drop(outbox);
    let (_outbox, left) = OutboxFile::open(&env, "outbox").await.unwrap();
    assert_eq!(left.floor.pushed, NTP64(u64::MAX));
}

#[tokio::test]
async fn a_file_that_is_no_outbox_is_refused() {
    let env = crate::env::system(None).unwrap();
    env.disk.open("outbox").unwrap().write(0, &[7; 9_000]).unwrap();
    assert!(matches!(
        OutboxFile::open(&env, "outbox").await,
        Err(OutboxError::Disk(_))
    ));
}
