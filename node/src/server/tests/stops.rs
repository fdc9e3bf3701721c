//! The orderly end of nodes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::limits::DRAIN_TIMEOUT;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_have_nothing_in_flight_stop_together_in_no_time() {
    let cluster = Cluster::start(&["eu-west", "us-east", "ap-south"]).await;
    let key = cluster.create_tenant("app", &["eu-west", "us-east", "ap-south"]).await;
    let first = cluster.first();
    let set = change_set(first.env(), 1, "one", "an issue");
    let answer = first.sync().push(with_key(&key, push("app", vec![set]))).await;
    assert!(all_taken(answer.unwrap().get_ref()));
    eventually("all replicas agree", async || cluster.verify("app").await.agree).await;
    // A client that stays connected and watches must not hold anybody up.
    let request = v1::WatchRequest {
        tenant: "app".to_owned(),
        ..v1::WatchRequest::default()
    };
    let watching = first.sync().watch(with_key(&key, request)).await.unwrap();
    let clock = first.env().clock.clone();
    let start = clock.monotonic();
    cluster.stop().await;
    let took = clock.monotonic().saturating_sub(start);
    drop(watching);
    // Whoever is waited for is waited for so long, and longer; on a quiet machine it is a third of a second.
    assert!(took < DRAIN_TIMEOUT, "stopping took {took:?}");
}

/// Clients that push at the same time.
const WRITERS: u64 = 4;

/// Sets that each of them pushes at the most: all fit one page of a scan.
const SETS_MAX: u64 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_loses_nothing_acknowledged_and_tells_the_others_to_try_again() {
    let mut cluster = Cluster::start(&["eu-west"]).await;
    let key = cluster.create_tenant("app", &["eu-west"]).await;
    let directory = tempfile::tempdir().unwrap();
    let env = crate::env::system(directory.path()).unwrap();
    let taken = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (sync, key, env, taken) = (cluster.first().sync(), key.clone(), env.clone(), Arc::clone(&taken));
            tokio::spawn(write_until_refused(sync, key, env, taken, writer))
        })
        .collect();
    eventually("the writers are at work", async || taken.load(Ordering::SeqCst) >= 40).await;
    let mut place = cluster.places.remove(0);
    place.node.take().unwrap().stop().await;
    let mut acknowledged = Vec::new();
    for writer in writers {
        let (subjects, refused) = writer.await.unwrap();
        acknowledged.extend(subjects);
        let Some(status) = refused else { continue };
        // What a client is told is to try again: by the node, or by a connection that is gone.
        match Refusal::from_status(&status) {
            Some(refusal) => assert_eq!(refusal.code, ErrorCode::Retry, "{refusal:?}"),
            None => assert!(is_of_the_connection(&status), "{status:?}"),
        }
    }
    assert!(acknowledged.len() >= 40);
    place.start(Start::Resume).await.unwrap();
    place.ready().await;
    let held = titles(&place, &key, "app").await.unwrap();
    for subject in acknowledged {
        assert!(held.contains_key(&subject), "{subject} is lost");
    }
    place.node.take().unwrap().stop().await;
}

/// A connection that ended in the middle of a call is told as an error of HTTP/2 at times, without a code for it.
fn is_of_the_connection(status: &Status) -> bool {
    let has_source = std::error::Error::source(status).is_some();
    has_source || [tonic::Code::Unavailable, tonic::Code::Cancelled].contains(&status.code())
}

/// What was acknowledged, and what came instead of the last acknowledgement.
async fn write_until_refused(
    mut sync: SyncClient<Channel>,
    key: String,
    env: Env,
    taken: Arc<AtomicUsize>,
    writer: u64,
) -> (Vec<String>, Option<Status>) {
    let mut acknowledged = Vec::new();
    for at in 1..=SETS_MAX {
        let subject = format!("w{writer}x{at}");
        let set = change_set(&env, writer * SETS_MAX + at, &subject, "an issue");
        match sync.push(with_key(&key, push("app", vec![set]))).await {
            Ok(answer) if all_taken(answer.get_ref()) => {
                acknowledged.push(subject);
                taken.fetch_add(1, Ordering::SeqCst);
            }
            Ok(answer) => match answer.into_inner().results.remove(0).result {
                Some(push_result::Result::Refused(error)) => return (acknowledged, Some(Refusal::from(error).into())),
                other => panic!("{other:?}"),
            },
            Err(status) => return (acknowledged, Some(status)),
        }
        // A client's pace: the stop should find pushes in flight, not all of them done.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (acknowledged, None)
}
