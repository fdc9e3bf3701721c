//! What callers meet at a node's edge: news of other nodes, limits with names, pages of other origins.

use super::*;

/// The first answer of `place` to a push of one set of the tenant.
async fn first_push(place: &Place, tenant: &str, key: &str, number: u64) -> Result<v1::PushResponse, Status> {
    let set = change_set(place.env(), number, &format!("e{number}"), "news");
    let answer = place.sync().push(with_key(key, push(tenant, vec![set]))).await;
    answer.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_and_a_key_made_by_way_of_one_node_are_good_at_all_others_at_once() {
    let cluster = Cluster::start(&["eu-west", "us-east"]).await;
    for round in 1..=3 {
        let name = format!("app{round}");
        let key = cluster.create_tenant(&name, &["eu-west", "us-east"]).await;
        for (number, place) in (1..).zip(cluster.places.iter().rev()) {
            let answer = first_push(place, &name, &key, number).await.unwrap();
            assert!(all_taken(&answer), "{answer:?}");
        }
        let request = v1::CreateKeyRequest {
            tenant: name.clone(),
            label: "second".to_owned(),
        };
        let made = cluster
            .first()
            .admin()
            .create_key(with_key(&cluster.admin, request))
            .await;
        let second = made.unwrap().into_inner().key;
        titles(&cluster.places[1], &second, &name).await.unwrap();
    }
    let status = titles(&cluster.places[1], "hk_00", "nobodys").await.unwrap_err();
    assert_ne!(code(&status), ErrorCode::Retry);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_answers_with_its_name() {
    let cluster = Cluster::start(&["eu-west"]).await;
    let key = cluster.create_tenant("app", &["eu-west"]).await;
    let place = cluster.first();
    let set = change_set(place.env(), 1, "one", "text");
    let many = push("app", vec![set.clone(); crate::limits::PUSH_SETS_MAX + 1]);
    refused(place.sync().push(with_key(&key, many)).await, "push_sets");

    let request = v1::SetSettingRequest {
        name: "push_bytes_max".to_owned(),
        value: "1024".to_owned(),
    };
    place
        .admin()
        .set_setting(with_key(&cluster.admin, request))
        .await
        .unwrap();
    let large = push("app", vec![set; 100]);
    refused(place.sync().push(with_key(&key, large)).await, "push_bytes_max");

    let huge = push("app", vec![vec![0; crate::limits::MESSAGE_BYTES_MAX + 1]]);
    refused(place.sync().push(with_key(&key, huge)).await, "message_bytes");

    let lifetime_ms = 31 * 24 * 3_600_000;
    let request = with_key(&cluster.admin, v1::CreateTokenRequest { lifetime_ms });
    refused(place.admin().create_token(request).await, "token_lifetime");
    let metrics = place.node().rooms().metrics.text();
    assert!(
        metrics.contains(r#"halcyon_limit_hits_total{limit="push_bytes_max"} 1"#),
        "{metrics}"
    );
    cluster.stop().await;
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<tonic::Response<T>, Status>, limit: &str) {
    let status = answer.unwrap_err();
    let refusal = Refusal::from_status(&status).unwrap_or_else(|| panic!("{status:?}"));
    assert_eq!((refusal.code, refusal.limit.as_str()), (ErrorCode::Limit, limit));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_is_refused_and_says_so_itself() {
    let cluster = Cluster::start(&["eu-west", "us-east"]).await;
    let removed = cluster.places[1].node();
    let request = v1::RemoveNodeRequest {
        node: removed.id().0,
        force: true,
    };
    cluster
        .first()
        .admin()
        .remove_node(with_key(&cluster.admin, request))
        .await
        .unwrap();
    let node = cluster.first().node().id();
    let mut client = removed.rooms().pool.client(node).unwrap();
    eventually("a member refuses it", async || {
        let probe = v1::ProbeRequest { node: removed.id().0 };
        let refused = client.probe(probe).await.err();
        refused.is_some_and(|status| code(&status) == ErrorCode::Forbidden)
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_lives_as_long_as_the_setting_says_where_nobody_asks_for_a_time() {
    let cluster = Cluster::start(&["eu-west"]).await;
    let request = v1::SetSettingRequest {
        name: "token_lifetime".to_owned(),
        value: "2h".to_owned(),
    };
    let mut admin = cluster.first().admin();
    admin.set_setting(with_key(&cluster.admin, request)).await.unwrap();
    let request = with_key(&cluster.admin, v1::CreateTokenRequest { lifetime_ms: 0 });
    let token = admin.create_token(request).await.unwrap().into_inner();
    let left_ms = token.expires_ms - cluster.first().env().clock.wall().unix_millis();
    assert!((7_100_000..=7_200_000).contains(&left_ms), "{left_ms}");
    cluster.stop().await;
}
