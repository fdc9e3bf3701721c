//! Queries at the clients' port: who is answered, from which state, and what happens where many ask at once.

use futures::{StreamExt, future::join_all};
use halcyon_core::{
    id::{NodeId, OriginId, Seq, Tag},
    version_vector::VersionVector,
};
use halcyon_proto::v1::{queries_client::QueriesClient, query_response::Part};

use super::*;
use crate::query::limits::{RUNNING_MAX, WAITING_MAX};

fn ask(query: &str) -> v1::QueryRequest {
    v1::QueryRequest {
        tenant: "app".to_owned(),
        query: query.to_owned(),
        ..v1::QueryRequest::default()
    }
}

async fn answer(place: &Place, key: &str, request: v1::QueryRequest) -> Result<(v1::QueryStart, Vec<String>), Status> {
    let mut client = QueriesClient::new(place.channel());
    let mut parts = client.query(with_key(key, request)).await?.into_inner();
    let (mut start, mut rows, mut end) = (None, Vec::new(), None);
    while let Some(part) = parts.next().await.transpose()? {
        match part.part.unwrap() {
            Part::Start(said) => start = Some(said),
            Part::Rows(more) => rows.extend(more.rows),
            Part::End(said) => end = Some(said.rows),
        }
    }
    assert_eq!(end, Some(rows.len() as u64), "the answer says how long it is");
    Ok((start.unwrap(), rows))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_is_answered_by_who_serves_the_tenant_to_who_has_its_key() {
    let cluster = Cluster::start(&["eu-west", "us-east"]).await;
    let key = cluster.create_tenant("app", &["eu-west"]).await;
    let (inside, outside) = (cluster.first(), &cluster.places[1]);
    let sets = (1..=3)
        .map(|number| change_set(inside.env(), number, &format!("n{number}"), "a title"))
        .collect();
    let pushed = inside.sync().push(with_key(&key, push("app", sets))).await.unwrap();
    assert!(all_taken(pushed.get_ref()));

    let (start, rows) = answer(inside, &key, ask("issue order by id limit 2 { title }"))
        .await
        .unwrap();
    assert!(!start.stale);
    assert_eq!(
        rows,
        [r#"{"id":"n1","title":"a title"}"#, r#"{"id":"n2","title":"a title"}"#]
    );

    let none = answer(inside, "hk_no_key_of_this_tenant", ask("issue"))
        .await
        .unwrap_err();
    assert_eq!(code(&none), ErrorCode::Unauthenticated);
    let wrong = answer(inside, &key, ask("issue wher")).await.unwrap_err();
    assert_eq!(code(&wrong), ErrorCode::Malformed);
    assert!(
        wrong
            .message()
            .contains("line 1, column 7\n  | issue wher\n  |       ^^^^"),
        "{wrong:?}"
    );
    eventually("the tenant is known outside", async || {
        let elsewhere = answer(outside, &key, ask("issue")).await.unwrap_err();
        code(&elsewhere) == ErrorCode::WrongRegion
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_from_before_what_the_client_has_seen_says_that_it_is_stale() {
    let cluster = Cluster::start(&["eu-west", "us-east"]).await;
    let key = cluster.create_tenant("app", &["eu-west", "us-east"]).await;
    let mut seen = VersionVector::EMPTY;
    let origin = OriginId {
        node: NodeId(77),
        incarnation: 1,
    };
    seen.raise(Tag { origin, seq: Seq(5) });
    let request = v1::QueryRequest {
        vector: seen.encode().into(),
        ..ask("issue")
    };
    let (start, rows) = answer(cluster.first(), &key, request).await.unwrap();
    assert!(start.stale);
    assert_eq!(rows, Vec::<String>::new());
    // What the only replica lacks is lost.
    let key = cluster.create_tenant("alone", &["eu-west"]).await;
    let request = v1::QueryRequest {
        tenant: "alone".to_owned(),
        vector: seen.encode().into(),
        ..ask("issue")
    };
    let (start, _) = answer(cluster.first(), &key, request).await.unwrap();
    assert!(!start.stale);
    cluster.stop().await;
}

/// More at once than may run and wait: each is answered whole, or told that the node is busy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_queries_is_answered_or_told_to_come_again() {
    let cluster = Cluster::start(&["eu-west"]).await;
    let key = cluster.create_tenant("app", &["eu-west"]).await;
    let place = cluster.first();
    let sets = (1..=20)
        .map(|number| change_set(place.env(), number, &format!("n{number}"), &format!("title {number}")))
        .collect();
    let pushed = place.sync().push(with_key(&key, push("app", sets))).await.unwrap();
    assert!(all_taken(pushed.get_ref()));
    // 8,000 bindings each: long enough that the crowd stands in a line, short enough for the time of a query on a busy
    // machine.
    let query = "find max(?x), max(?y), max(?z) where ?a issue/title ?x; ?b issue/title ?y; ?c issue/title ?z";
    let crowd = RUNNING_MAX + WAITING_MAX + 40;
    let answers = join_all((0..crowd).map(|_| answer(place, &key, ask(query)))).await;
    let (answered, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert!(answered.len() >= RUNNING_MAX, "{} were answered", answered.len());
    for (_, rows) in answered.into_iter().flatten() {
        assert_eq!(rows, [r#"["title 9","title 9","title 9"]"#]);
    }
    for refusal in refused.into_iter().filter_map(Result::err) {
        assert_eq!(code(&refusal), ErrorCode::Busy, "{refusal:?}");
        assert!(refusal.message().contains("queries run on this node"), "{refusal:?}");
    }
    cluster.stop().await;
}
