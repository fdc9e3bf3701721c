//! The orderly end of nodes.

use super::*;

/// A stop with nothing in flight: the notice to load balancers, one fold, and what a slow disk adds.
const CLEAN_STOP_MAX: Duration = Duration::from_secs(2);

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
    assert!(took < CLEAN_STOP_MAX, "stopping took {took:?}");
}
