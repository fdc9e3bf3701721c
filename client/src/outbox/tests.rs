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
async fn a_file_that_is_no_outbox_is_refused() {
    let env = crate::env::system(None).unwrap();
    env.disk.open("outbox").unwrap().write(0, &[7; 9_000]).unwrap();
    assert!(matches!(
        OutboxFile::open(&env, "outbox").await,
        Err(OutboxError::Disk(_))
    ));
}
