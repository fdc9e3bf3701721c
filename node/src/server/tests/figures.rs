//! The figures of a node, as a scrape reads them.

use std::collections::BTreeSet;

use super::*;

/// Families that dashboards and alerts build on.
const FAMILIES: [&str; 18] = [
    "halcyon_alarms",
    "halcyon_call_seconds",
    "halcyon_calls_forwarded",
    "halcyon_catch_ups",
    "halcyon_catch_ups_running",
    "halcyon_clock_lead_seconds",
    "halcyon_commits",
    "halcyon_connections",
    "halcyon_gossip_dropped",
    "halcyon_gossip_queue_bytes",
    "halcyon_gossip_queue_sets",
    "halcyon_gossip_received_bytes",
    "halcyon_gossip_sent_bytes",
    "halcyon_lag_change_sets",
    "halcyon_peer_reachable",
    "halcyon_peer_round_trip_seconds",
    "halcyon_raft_quorum_age_seconds",
    "halcyon_replicas_not_whole",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_figure_has_a_name_a_unit_and_a_kind_as_prometheus_wants_them() {
    let mut cluster = Cluster::start(&["eu-west", "us-east"]).await;
    let key = cluster.create_tenant("app", &["eu-west", "us-east"]).await;
    write(&cluster, &key, 1).await;
    eventually("all replicas agree", async || cluster.verify("app").await.agree).await;
    let address = cluster.first().node().client_address().to_owned();
    eventually("the peer was probed", async || {
        scrape(&address)
            .await
            .contains(r#"halcyon_peer_round_trip_seconds{peer="n2"}"#)
    })
    .await;
    check_text(&scrape(&address).await);

    // A replica that is away shows as a tenant's lag, and as a node that is not heard.
    let mut gone = cluster.places.remove(1);
    gone.node.take().unwrap().stop().await;
    write(&cluster, &key, 2).await;
    let first = cluster.first();
    for line in [
        r#"halcyon_tenant_lag_change_sets{tenant="app"} 1.0"#,
        r#"halcyon_peer_reachable{peer="n2"} 0.0"#,
    ] {
        eventually(line, async || scrape(&address).await.contains(line)).await;
    }
    let request = with_key(&cluster.admin, v1::StatusRequest::default());
    let status = first.admin().status(request).await.unwrap().into_inner();
    let shown = status.nodes.iter().find(|node| node.id == 2).unwrap();
    assert!(
        !shown.reachable && shown.silent_ms.is_some_and(|silent| silent > 0),
        "{shown:?}"
    );
    assert!(
        status
            .lag
            .iter()
            .any(|lag| lag.node == 2 && lag.unreachable && lag.change_sets == 1),
        "{status:?}"
    );
    // Alone, the node says within moments that nobody confirms the quorum any more.
    eventually("the quorum is told as lost", async || {
        let request = with_key(&cluster.admin, v1::StatusRequest::default());
        let status = first.admin().status(request).await.unwrap().into_inner();
        !status.quorum || status.quorum_age_ms.is_some()
    })
    .await;
    cluster.stop().await;
}

async fn write(cluster: &Cluster, key: &str, number: u64) {
    let first = cluster.first();
    let set = change_set(first.env(), number, &format!("e{number}"), "an issue");
    let answer = first.sync().push(with_key(key, push("app", vec![set]))).await;
    assert!(all_taken(answer.unwrap().get_ref()));
}

async fn scrape(address: &str) -> String {
    let answer = ask(
        address,
        "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(),
    )
    .await;
    assert!(answer.contains("200 OK"), "{answer}");
    answer
}

fn check_text(text: &str) {
    let kinds: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    for family in FAMILIES {
        assert!(kinds.contains_key(family), "{family} is not in:\n{text}");
    }
    let mut seen = BTreeSet::new();
    for line in text.lines().map(str::trim).filter(|line| line.starts_with("halcyon_")) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        value.parse::<f64>().unwrap();
        assert!(seen.insert(series), "{series} is there twice");
        let name = series.split('{').next().unwrap();
        let is_plain = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_';
        assert!(name.chars().all(is_plain), "{name}");
        let endings = ["_total", "_bucket", "_count", "_sum"];
        let base = endings.iter().find_map(|ending| name.strip_suffix(ending));
        let family = base.filter(|base| kinds.contains_key(base)).unwrap_or(name);
        let kind = kinds.get(family).unwrap_or_else(|| panic!("{name} has no kind"));
        assert_eq!(name.ends_with("_total"), *kind == "counter", "{name} is a {kind}");
        for unit in ["_ms", "_us", "_millis", "_micros", "_kb", "_mb", "_minutes"] {
            assert!(!family.ends_with(unit), "{family} is not in a base unit");
        }
    }
}
