//! Followers that are slow, or ahead of their node: others go on, and they come back to the same.

use halcyon_core::{
    id::{NodeId, OriginId, Seq, Tag},
    version_vector::VersionVector,
};
use halcyon_proto::v1::connect_response::Event;
use prost::bytes::Bytes;

use super::{
    live::{Follower, QUERY, Writer, ranked},
    *,
};
use crate::session::{SessionId, limits::WAITING_BYTES_MAX};

/// Bytes of one change.
const TEXT_BYTES: usize = 128 << 10;

/// Changes that fill what waits for a session, and whatever lies on the way to it.
const CHANGES_MAX: usize = 8 * WAITING_BYTES_MAX / TEXT_BYTES;

async fn connect(place: &Place, key: &str) -> Follower {
    Follower::connect(place, key, Bytes::new(), 0).await
}

async fn followed(place: &Place, key: &str) -> Follower {
    let mut follower = connect(place, key).await;
    follower.subscribe(follower.request(1, QUERY)).await.unwrap();
    follower.until_whole().await;
    follower
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_does_not_take_its_events_ends_alone_and_comes_back_by_digest() {
    let cluster = Cluster::start(&["eu-west"]).await;
    let key = cluster.create_tenant("app", &["eu-west"]).await;
    let place = cluster.first();
    let mut writer = Writer {
        place,
        key: key.clone(),
        number: 0,
    };
    let names: Vec<String> = (0..4).map(|number| format!("post-{number}")).collect();
    let first = names.iter().flat_map(|name| ranked(name, 20.0)).collect();
    writer.write(first).await;
    let (mut quick, mut slow) = (followed(place, &key).await, followed(place, &key).await);
    let session = SessionId::from_bytes(&slow.session).unwrap();
    let sessions = &place.node().rooms().sessions;
    let is_over = || sessions.get(session).is_none_or(|session| session.is_over());
    let mut written = 0;
    while !is_over() && written < CHANGES_MAX {
        let text = format!("{written:06}").repeat(TEXT_BYTES / 6);
        let change = Change::Set {
            subject: EntityId::new(&names[written % names.len()]).unwrap(),
            predicate: Predicate::new("post/text").unwrap(),
            value: Value::string(&text),
        };
        writer.write(vec![change]).await;
        written += 1;
        // Who takes its events hears of each as it comes, whatever the other does.
        assert_eq!(quick.next().await.deltas.len(), 1);
        let held = sessions.figures().bytes;
        assert!(held <= 4 * WAITING_BYTES_MAX, "{held} bytes wait");
    }
    assert!(is_over(), "it was not ended by {written} changes");

    // It hears no event that does not follow the one before, and then why.
    let refused = loop {
        match slow.stream.message().await {
            Ok(Some(message)) => match message.event {
                Some(Event::Commit(commit)) => {
                    assert_eq!(message.number, slow.last + 1);
                    slow.last = message.number;
                    slow.take_in(&commit);
                }
                Some(Event::Held(_)) => {}
                other => panic!("{other:?} was not expected"),
            },
            Ok(None) => panic!("a stream ends with a reason"),
            Err(status) => break status,
        }
    };
    assert_eq!(code(&refused), ErrorCode::Busy);
    let missed = u64::try_from(written).unwrap() - (slow.last - 1);
    assert!(missed > 0, "it was slow and has all");

    // The session is no more, so that this opens another, which begins with its own first event.
    let mut again = Follower::connect(place, &key, slow.session.clone(), 0).await;
    assert!(!again.resumed);
    (again.graph, again.covered) = (slow.graph, slow.covered);
    let mut request = again.request(1, QUERY);
    request.digest = again.digest();
    let answer = again.subscribe(request.clone()).await.unwrap();
    request.held = again.held(&answer.differing);
    again.subscribe(request).await.unwrap();
    again.until_whole().await;
    assert_eq!(again.covered, quick.covered);
    assert_eq!(again.digest(), quick.digest());
    cluster.stop().await;
}

/// A client that comes to a node that lags behind what it has seen: told what there is, and that it is stale; told the
/// rest once the node has come so far.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_answer_adds_and_is_asked_for_again_once_the_node_has_caught_up() {
    // Another replica, that may have it for all that this one knows.
    let cluster = Cluster::start(&["eu-west", "us-east"]).await;
    let key = cluster.create_tenant("app", &["eu-west", "us-east"]).await;
    let place = cluster.first();
    let mut writer = Writer {
        place,
        key: key.clone(),
        number: 0,
    };
    let both = ["post-1", "post-2"].into_iter().flat_map(|name| ranked(name, 20.0));
    writer.write(both.collect()).await;
    let first = followed(place, &key).await;
    // The next commit of this node, which the client has seen elsewhere.
    let seen = VersionVector::decode(&first.vector).unwrap();
    let last = seen.iter().next().unwrap();
    let next = Tag {
        origin: last.origin,
        seq: last.seq.next(),
    };
    let ahead: VersionVector = seen.iter().chain([next]).collect();
    let mut follower = connect(place, &key).await;
    let mut request = follower.request(1, QUERY);
    request.vector = ahead.encode().into();
    follower.subscribe(request).await.unwrap();
    let Some(Event::Commit(commit)) = event(&mut follower).await else {
        panic!("coverage comes first");
    };
    assert!(commit.deltas.iter().all(|delta| delta.stale && !delta.more));
    let subject = EntityId::new("post-1").unwrap();
    writer.write(vec![Change::Delete { subject }]).await;
    let ended = loop {
        match event(&mut follower).await {
            Some(Event::Commit(commit)) => assert!(commit.deltas.iter().all(|delta| delta.stale)),
            Some(Event::Ended(ended)) => break ended,
            other => panic!("{other:?} was not expected"),
        }
    };
    assert_eq!(ended.subscription, 1);
    let refusal = Refusal::from(ended.error.unwrap());
    assert_eq!(refusal.code, ErrorCode::Retry);
    let mut request = follower.request(2, QUERY);
    request.vector = ahead.encode().into();
    follower.subscribe(request).await.unwrap();
    follower.until_whole().await;
    assert_eq!((follower.rows(QUERY), follower.covered.len()), (1, 1));
    // One that no node will ever have makes an answer stale, not an error.
    let never = Tag {
        origin: OriginId {
            node: NodeId(9),
            incarnation: 1,
        },
        seq: Seq(1),
    };
    let mut request = follower.request(3, QUERY);
    request.vector = [never].into_iter().collect::<VersionVector>().encode().into();
    follower.subscribe(request).await.unwrap();
    let Some(Event::Commit(commit)) = event(&mut follower).await else {
        panic!("coverage comes first");
    };
    assert!(commit.deltas[0].stale);
    cluster.stop().await;
}

/// The next event that is no sign of life. Its number is the next.
async fn event(follower: &mut Follower) -> Option<Event> {
    loop {
        let message = tokio::time::timeout(PATIENCE, follower.stream.message()).await;
        let message = message.expect("an event comes").unwrap().expect("the stream goes on");
        match message.event {
            Some(Event::Held(_)) => {}
            event => {
                follower.last += 1;
                assert_eq!(message.number, follower.last);
                return event;
            }
        }
    }
}
