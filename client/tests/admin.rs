//! The operator's client against pretended nodes: whom it asks, and in which order.

#![expect(clippy::unwrap_used, reason = "a test stops where something is not as it must be")]

#[expect(dead_code, reason = "the other tests use the rest of it")]
mod fake;

use std::sync::atomic::Ordering;

use fake::cluster;
use futures::StreamExt;
use halcyon_client::{AdminClient, AdminError, ErrorCode, env, v1};
use halcyon_core::env::Env;

fn memory() -> Env {
    env::system(None).unwrap()
}

#[tokio::test]
async fn an_operators_read_is_made_once_at_every_node_and_passes_over_one_that_refuses_to_talk() {
    let nodes = cluster(4);
    nodes[0].set(|faults| faults.other_version = true);
    let addresses = nodes.iter().map(|node| node.address.clone()).collect();
    let admin = AdminClient::connect(memory(), addresses, "credential".into(), None)
        .await
        .unwrap();
    // They know no operator: to the client each of them has failed.
    let request = v1::TenantRequest::default();
    assert!(matches!(admin.verify(request).await, Err(AdminError::Lost(_))));
    let greetings: Vec<u32> = nodes
        .iter()
        .map(|node| node.greetings.load(Ordering::Relaxed))
        .collect();
    assert_eq!(greetings, [0, 1, 1, 1]);
}

#[tokio::test]
async fn an_export_and_an_import_follow_the_tenant_to_a_node_that_holds_it() {
    let nodes = cluster(3);
    nodes[0].set(|faults| faults.elsewhere = true);
    nodes[1].set(|faults| faults.down = true);
    let only_first = vec![nodes[0].address.clone()];
    let admin = AdminClient::connect(memory(), only_first, "credential".into(), None)
        .await
        .unwrap();
    let parts: Vec<_> = admin
        .export(v1::ExportRequest::default())
        .await
        .unwrap()
        .collect()
        .await;
    assert_eq!(parts[0].as_ref().unwrap().fingerprint[..], [3]);
    let messages = || futures::stream::iter(vec![v1::ImportRequest::default(); 5]);
    let answer = admin.import(messages).await.unwrap();
    assert_eq!((answer.facts, &answer.fingerprint[..]), (5, &[3][..]));
    nodes[2].set(|faults| faults.elsewhere = true);
    let nobody = admin.import(messages).await;
    assert!(matches!(nobody, Err(AdminError::Refused(refusal)) if refusal.code == ErrorCode::WrongRegion));
}
