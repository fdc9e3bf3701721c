//! Nodes that were removed, while they ran and while they were away.

use halcyon_proto::v1::RemoveNodeRequest;

use super::*;

async fn remove(cluster: &Cluster, node: u64) {
    let request = RemoveNodeRequest { node, force: true };
    let mut admin = cluster.first().admin();
    admin.remove_node(with_key(&cluster.admin, request)).await.unwrap();
}

/// It says so, sends clients elsewhere, and does not start again.
async fn check_out_of_service(mut place: Place, admin: &str, key: &str) {
    eventually("it knows of its removal", async || {
        let reasons = place.node().reasons();
        reasons
            .first()
            .is_some_and(|reason| reason.contains("was removed from the cluster for good"))
    })
    .await;
    let status = titles(&place, key, "app").await.unwrap_err();
    let refusal = Refusal::from_status(&status).unwrap();
    let me = place.node().id().0;
    assert_eq!(refusal.code, ErrorCode::WrongRegion, "{refusal:?}");
    assert!(refusal.replicas.iter().all(|replica| replica.node != me), "{refusal:?}");
    // What it knows of the control plane is of before; an operator is sent on, too.
    let tenants = with_key(admin, v1::ListTenantsRequest::default());
    let status = place.admin().list_tenants(tenants).await.unwrap_err();
    assert_eq!(code(&status), ErrorCode::NodeRemoved, "{status:?}");
    let export = v1::ExportRequest {
        tenant: "app".to_owned(),
        ..v1::ExportRequest::default()
    };
    let status = place.admin().export(with_key(admin, export)).await.unwrap_err();
    assert_eq!(code(&status), ErrorCode::NodeRemoved, "{status:?}");
    let address = place.node().client_address().to_owned();
    let ready = "GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    check(
        &address,
        ready.to_owned(),
        &["503", "was removed from the cluster for good"],
    )
    .await;
    place.node.take().unwrap().stop().await;
    let error = place.start(Start::Resume).await.unwrap_err();
    assert!(matches!(error, NodeError::Removed(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_serves_nobody_and_does_not_come_back() {
    let regions = ["eu-west", "us-east", "ap-south"];
    let mut cluster = Cluster::start(&regions).await;
    let key = cluster.create_tenant("app", &regions).await;
    let set = change_set(cluster.first().env(), 1, "one", "an issue");
    let answer = cluster
        .first()
        .sync()
        .push(with_key(&key, push("app", vec![set])))
        .await;
    assert!(all_taken(answer.unwrap().get_ref()));
    eventually("all replicas agree", async || cluster.verify("app").await.agree).await;

    // It is away when it is removed, and hears of it from those that refuse it.
    let mut away = cluster.places.remove(2);
    away.node.take().unwrap().stop().await;
    remove(&cluster, 3).await;
    away.start(Start::Resume).await.unwrap();
    check_out_of_service(away, &cluster.admin, &key).await;

    // It runs, and a client watches. Where it has the vote, it hands that over.
    let running = cluster.places.remove(1);
    let request = v1::WatchRequest {
        tenant: "app".to_owned(),
        ..v1::WatchRequest::default()
    };
    let mut watching = running
        .sync()
        .watch(with_key(&key, request))
        .await
        .unwrap()
        .into_inner();
    remove(&cluster, 2).await;
    let ended = tokio::time::timeout(PATIENCE, async { while let Ok(Some(_)) = watching.message().await {} });
    ended.await.expect("the watch ends with the membership");
    check_out_of_service(running, &cluster.admin, &key).await;

    // Who is left goes on alone, control plane and all.
    eventually("the one that is left decides", async || {
        let request = v1::CreateTenantRequest {
            name: "more".to_owned(),
            regions: vec!["eu-west".to_owned()],
            ..v1::CreateTenantRequest::default()
        };
        let made = cluster
            .first()
            .admin()
            .create_tenant(with_key(&cluster.admin, request))
            .await;
        made.is_ok()
    })
    .await;
    assert_eq!(titles(cluster.first(), &key, "app").await.unwrap().len(), 1);
    cluster.stop().await;
}
